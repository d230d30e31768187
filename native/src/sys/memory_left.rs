//! How much memory may still be taken, on the machine and in the control groups of this process.
//!
//! What exceeds the limit of a control group is no error: the kernel kills a process of the group. So
//! all growth of shared memory asks here first. A look at the system takes some ten microseconds;
//! what it has permitted is used up before the next one, or expires.

use super::clock;
use crate::testing::system_root;
use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A process takes so many bytes before it asks, and between two looks.
const UNASKED: u64 = 1 << 20;
/// A look permits a share of what is left, and at most so many bytes, for so many nanoseconds: other
/// processes take memory meanwhile.
const SHARE: u64 = 16;
const MOST_PERMITTED: u64 = 64 << 20;
const FRESH: u64 = 20_000_000;
/// Kept free for what processes take without asking: a part of the limit, within bounds.
const KEPT_SHARE: u64 = 8;
const LEAST_KEPT: u64 = 4 << 20;
const MOST_KEPT: u64 = 64 << 20;
/// With less than so many times of that, unused memory is given back at once.
const SCARCE: u64 = 4;
/// Less than this is control data, and more than the other is a large item: the less is wanted, the
/// more of what is kept free may be used for it, so that what exists goes on.
const CONTROL: u64 = 64 << 10;
const LARGE: u64 = 256 << 10;
/// Version 1 has no word for "no limit", but a number of this size.
const UNLIMITED: u64 = 1 << 60;

static TAKEN: AtomicU64 = AtomicU64::new(0);
static PERMITTED: AtomicU64 = AtomicU64::new(0);
static ASKED_AT: AtomicU64 = AtomicU64::new(0);
static LOOKED_AT: AtomicU64 = AtomicU64::new(0);
static IS_SCARCE: AtomicBool = AtomicBool::new(false);

/// What is left of the memory of the machine, or of a control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub left: u64,
    pub limit: u64,
    /// Where the limit stands.
    pub of: String,
}

impl Room {
    /// What is kept free, if so many bytes are wanted.
    fn kept(&self, bytes: u64) -> u64 {
        let kept = (self.limit / KEPT_SHARE).clamp(LEAST_KEPT, MOST_KEPT);
        match bytes {
            0..CONTROL => kept / 4,
            CONTROL..=LARGE => kept / 2,
            _ => kept,
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, limit, of } = self;
        write!(to, "{left} of {limit} bytes are left ({of})")
    }
}

#[derive(Debug)]
struct Scarce {
    bytes: u64,
    room: Room,
}

impl fmt::Display for Scarce {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, Room { left, limit, of }) = (self.bytes, &self.room);
        let kept = self.room.kept(bytes);
        write!(
            to,
            "no memory for {bytes} bytes more: {left} of {limit} are left, of which {kept} "
        )?;
        write!(to, "stay free ({of})")
    }
}

impl std::error::Error for Scarce {}

/// Whether an error says that too little memory is left.
pub fn is_scarcity(error: &Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Scarce>)
}

/// To be called before shared memory grows by so many bytes: an error if too few are left.
pub fn ask(bytes: u64) -> Result<()> {
    ask_for_part(bytes, bytes)
}

/// The same before it grows by a part, of all that is still wanted.
#[inline]
pub fn ask_for_part(part: u64, wanted: u64) -> Result<()> {
    let taken = TAKEN.fetch_add(part, Ordering::Relaxed).saturating_add(part);
    let is_fresh = || clock::coarse_now() < ASKED_AT.load(Ordering::Relaxed) + FRESH;
    if taken <= UNASKED || (taken <= PERMITTED.load(Ordering::Relaxed) && is_fresh()) {
        return Ok(());
    }
    look(wanted).inspect_err(|_| {
        TAKEN.fetch_sub(part, Ordering::Relaxed);
    })
}

#[cold]
fn look(bytes: u64) -> Result<()> {
    let Some(room) = room() else {
        permit(MOST_PERMITTED);
        return Ok(());
    };
    let usable = room.left.saturating_sub(room.kept(bytes));
    if bytes > usable {
        return Err(Error::new(ErrorKind::OutOfMemory, Scarce { bytes, room }));
    }
    permit(((usable - bytes) / SHARE).min(MOST_PERMITTED));
    Ok(())
}

/// What is left now; nothing if the system does not tell.
pub fn room() -> Option<Room> {
    let room = Files::of_this_system().tightest();
    let is_scarce = room.as_ref().is_some_and(|room| room.left / SCARCE < room.kept(u64::MAX));
    IS_SCARCE.store(is_scarce, Ordering::Relaxed);
    LOOKED_AT.store(clock::coarse_now(), Ordering::Relaxed);
    room
}

/// Whether so little is left that unused memory should be given back at once.
pub fn is_scarce() -> bool {
    if clock::coarse_now() >= LOOKED_AT.load(Ordering::Relaxed) + FRESH {
        room();
    }
    IS_SCARCE.load(Ordering::Relaxed)
}

/// To be called before so many bytes are copied to private memory: an error if fewer are left.
pub fn ask_for_copy(bytes: u64) -> Result<()> {
    if bytes < UNASKED || !(is_scarce() || bytes >= MOST_KEPT) {
        return Ok(());
    }
    match room() {
        Some(room) if room.left < bytes => {
            Err(Error::new(ErrorKind::OutOfMemory, Scarce { bytes, room }))
        }
        _ => Ok(()),
    }
}

fn permit(bytes: u64) {
    PERMITTED.store(bytes, Ordering::Relaxed);
    ASKED_AT.store(clock::coarse_now(), Ordering::Relaxed);
    TAKEN.store(0, Ordering::Relaxed);
}

/// Where the system tells: `/proc` and `/sys/fs/cgroup`, but in tests.
pub struct Files {
    pub proc: String,
    pub cgroups: String,
}

impl Files {
    fn of_this_system() -> Self {
        let root = system_root();
        Self { proc: format!("{root}/proc"), cgroups: format!("{root}/sys/fs/cgroup") }
    }

    /// The limit of which the least is left, of those that are known.
    pub fn tightest(&self) -> Option<Room> {
        let memory = read(&format!("{}/meminfo", self.proc));
        let swap = field(&memory, "SwapFree:").map_or(0, |kilobytes| kilobytes << 10);
        let groups = read(&format!("{}/self/cgroup", self.proc));
        let machine = self.machine(&memory, swap);
        let second = self.folders(&groups, "").into_iter().flat_map(|at| version_2(&at, swap));
        let first =
            self.folders(&groups, "memory").into_iter().filter_map(|at| version_1(&at, swap));
        machine.into_iter().chain(second).chain(first).min_by_key(|room| room.left)
    }

    fn machine(&self, memory: &str, swap: u64) -> Option<Room> {
        let left = (field(memory, "MemAvailable:")? << 10) + swap;
        let limit = field(memory, "MemTotal:").map_or(left, |kilobytes| kilobytes << 10);
        Some(Room { left, limit, of: "the machine's memory".into() })
    }

    /// The folders of this process's control group and its ancestors: of a controller of version 1, or
    /// of version 2.
    fn folders(&self, groups: &str, controller: &str) -> Vec<String> {
        let path = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|each| each == controller).then_some(path)
        });
        let Some(path) = path else { return Vec::new() };
        let is_pure = std::path::Path::new(&self.cgroups).join("cgroup.controllers").exists();
        let mount = match controller {
            "" if is_pure => self.cgroups.clone(),
            "" => format!("{}/unified", self.cgroups),
            _ => format!("{}/{controller}", self.cgroups),
        };
        let mut folders = vec![mount];
        for step in path.split('/').filter(|step| !step.is_empty()) {
            folders.push(format!("{}/{step}", folders[folders.len() - 1]));
        }
        folders
    }
}

fn version_2(folder: &str, swap: u64) -> Vec<Room> {
    let of = |name: &str| {
        let (at, limit) = (format!("{folder}/{name}"), number(&format!("{folder}/{name}"))?);
        let used = number(&format!("{folder}/memory.current"))?;
        let swapped = number(&format!("{folder}/memory.swap.current")).unwrap_or(0);
        let most = number(&format!("{folder}/memory.swap.max")).unwrap_or(u64::MAX);
        let cache = cache(&read(&format!("{folder}/memory.stat")), "");
        let swap = swap.min(most.saturating_sub(swapped));
        let left = limit.saturating_sub(used.saturating_sub(cache)).saturating_add(swap);
        Some(Room { left, limit, of: at })
    };
    ["memory.max", "memory.high"].iter().filter_map(|name| of(name)).collect()
}

fn version_1(folder: &str, swap: u64) -> Option<Room> {
    let of = |kind: &str| {
        let limit = number(&format!("{folder}/{kind}.limit_in_bytes"))?;
        (limit < UNLIMITED).then_some(())?;
        let used = number(&format!("{folder}/{kind}.usage_in_bytes"))?;
        let cache = cache(&read(&format!("{folder}/memory.stat")), "total_");
        Some((limit.saturating_sub(used.saturating_sub(cache)), limit))
    };
    let (left, limit) = of("memory")?;
    let with_swap = of("memory.memsw").map_or(u64::MAX, |(left, _)| left);
    let left = left.saturating_add(swap).min(with_swap);
    Some(Room { left, limit, of: format!("{folder}/memory.limit_in_bytes") })
}

/// What the kernel can take back of the pages of files: those that were not used lately, and half of
/// the others.
fn cache(statistics: &str, prefix: &str) -> u64 {
    let of = |name: &str| field(statistics, &format!("{prefix}{name}")).unwrap_or(0);
    of("inactive_file") + of("active_file") / 2
}

/// The number after a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

fn number(path: &str) -> Option<u64> {
    read(path).trim().parse().ok()
}

/// The text of a file; empty if there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
