//! The processes of a family, each with a number to sign with.
//!
//! ```text
//! | HeaderShared | OwnerSlot × OWNERS | WaitRecordShared × RECORDS |
//! ```
//! An owner is a process that uses locks. Its number names a slot and the slot's generation, so a
//! word that it has signed can be told from one of its successor in the slot for ever.
//!
//! A process owns slot `n` while it holds the lock on byte `n` of the file, through a file
//! description of its own. The kernel decides which process gets it and takes it back at the end,
//! however that came about. That lock is the first witness of a life, the process table (number,
//! start time) the second; only if both say so is an owner dead. A stopped process is not, nor is
//! one that has closed all its descriptors.
//!
//! A process that has lost its descriptors, or that sees no `/proc`, takes a slot without the byte:
//! the slot's `claim` decides between two that want it, and the process table is the only witness.

pub use crate::owners::identity::Identity;
use crate::owners::identity::{own_namespace, Seen};
use crate::owners::wait_graph::{WaitRecord, WaitRecordShared, RECORDS};
use crate::owners::Owners;
use crate::shm::segment::{Mapping, Segment, PAGE};
use crate::sys::descriptor::{file_behind, LOST};
use crate::sys::process::generation;
use crate::testing::crash_points::crash_point;
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{fence, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Processes of one family that can use locks at the same time.
pub const OWNERS: usize = 4096;
const SLOT_BITS: u32 = OWNERS.trailing_zeros();
/// Numbers leave the top bit of a word to the lock.
const GENERATIONS: u32 = 1 << (31 - SLOT_BITS);
const WAITS_AT: usize = PAGE + OWNERS * size_of::<OwnerSlot>();
const LEN: usize = WAITS_AT + RECORDS * size_of::<WaitRecordShared>();
const MAGIC: u64 = u64::from_le_bytes(*b"garrison");

pub type Id = [u64; 2];

/// Two words that no other object on this machine has.
pub fn random_id() -> Result<Id> {
    let mut id = [0_u64; 2];
    // SAFETY: fills a local of that size.
    let got = unsafe { libc::getrandom(id.as_mut_ptr().cast(), size_of::<Id>(), 0) };
    if got == size_of::<Id>() as isize {
        return Ok(id);
    }
    // Before Linux 3.17, and in some sandboxes.
    use std::io::Read;
    let mut source = std::fs::File::open("/dev/urandom")?;
    for half in &mut id {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes)?;
        *half = u64::from_ne_bytes(bytes);
    }
    Ok(id)
}

#[repr(C, align(64))]
struct HeaderShared {
    magic: AtomicU64,
    id: [AtomicU64; 2],
    /// Slots whose memory is reserved; it only grows.
    reserved: AtomicU32,
    /// How often a slot was taken. A process that takes one begins behind the last. So it is long
    /// until a slot has a successor, and a dead owner can be named.
    taken: AtomicU32,
    /// The same for records of waits.
    rows: AtomicU32,
    /// The bell that is rung when a process is known to have died: every waiter looks again.
    deaths: AtomicU32,
    /// Counters of children that were given out, see `numbers`.
    counters: AtomicU32,
    /// How many children a process has had, for their names. Each process that has pools takes one;
    /// two may share one after many, and then only skip numbers.
    numbers: [AtomicU32; COUNTERS],
}

/// Counters of children in one family.
const COUNTERS: usize = 512;
const _: () = assert!(size_of::<HeaderShared>() <= PAGE);

/// Written by the process that holds the slot's byte.
#[repr(C, align(64))]
struct OwnerSlot {
    generation: AtomicU32,
    pid: AtomicU32,
    /// When the process started, in the clock ticks of /proc/PID/stat.
    started: AtomicU64,
    /// The namespace that `pid` is a number of.
    namespace: AtomicU64,
    /// The process's inode in the kernel's file system of processes; 0 before Linux 6.9.
    inode: AtomicU64,
    /// The process that has taken the slot, see [`Identity::claim`]; written before all else.
    claim: AtomicU64,
    /// 1: it holds the lock on the slot's byte.
    witnessed: AtomicU32,
    /// Made of all but the claim; 0 while it is written. What does not fit is damaged.
    seal: AtomicU64,
}

const _: () = assert!(PAGE % size_of::<OwnerSlot>() == 0);
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is written in a slot.
enum Slot {
    Of(u32, Identity),
    /// It is being taken, or never was: whoever had it before is dead.
    InFlux,
    Damaged,
}

/// Descriptors that must not survive into a forked child: it would keep its parent's byte locked.
const WITNESSES: usize = 64;
static WITNESS: [Witness; WITNESSES] = [const { Witness::none() }; WITNESSES];

struct Witness {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl Witness {
    const fn none() -> Self {
        let (device, inode) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { fd: AtomicI32::new(-1), device, inode }
    }

    /// Keep it until the process ends, or forks; false if this one is in use.
    fn keep(&self, fd: i32) -> bool {
        let (device, inode) = file_behind(fd).unwrap_or_default();
        let free = self.fd.compare_exchange(-1, fd, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if free {
            self.device.store(device, Ordering::Relaxed);
            self.inode.store(inode, Ordering::Relaxed);
        }
        free
    }

    /// Close it, unless the program has, and the number is another file's.
    fn close(&self) {
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        let ours = (self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed));
        if fd >= 0 && file_behind(fd) == Some(ours) {
            // SAFETY: ours, and nothing in this process refers to it any more.
            unsafe { libc::close(fd) };
        }
    }
}

fn watch_witnesses() {
    extern "C" fn in_child() {
        WITNESS.iter().for_each(Witness::close);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: the handler uses atomics, fstat and close, which are allowed after a fork.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    });
}

fn byte_lock(kind: i32, slot: usize) -> libc::flock {
    // SAFETY: a plain struct of numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = slot as libc::off_t;
    lock.l_len = 1;
    lock
}

/// Whether the system has locks of file descriptions: since Linux 3.15, and not in every sandbox.
fn has_locks(witness: &OwnedFd) -> bool {
    let mut lock = byte_lock(libc::F_WRLCK, 0);
    // SAFETY: a system call with a struct of ours, which changes nothing.
    unsafe { libc::fcntl(witness.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) != -1 }
}

/// Lock a slot's byte; false if it is locked already, or a signal came.
fn lock_byte(witness: &OwnedFd, slot: usize) -> Result<bool> {
    let lock = byte_lock(libc::F_WRLCK, slot);
    // SAFETY: a system call on our descriptor with a struct of ours.
    if unsafe { libc::fcntl(witness.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } != -1 {
        return Ok(true);
    }
    match Error::last_os_error() {
        error
            if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR)) =>
        {
            Ok(false)
        }
        error => Err(error),
    }
}

/// One family's registry, as this process sees it. Kept for the life of the process.
#[derive(Debug)]
pub struct OwnerRegistry {
    segment: Arc<Segment>,
    map: Arc<Mapping>,
    pub id: Id,
    /// `generation:32 | owner:32`: after a fork the parent's number is not ours.
    me: AtomicU64,
    register: Mutex<()>,
}

/// Registries are never given up: a signature may be looked up for as long as the process lives.
type Family = &'static OwnerRegistry;
type Known = HashMap<Id, Family>;
static KNOWN: Mutex<Option<(Family, Known)>> = Mutex::new(None);

fn remember(registry: OwnerRegistry) -> Family {
    let registry: Family = Box::leak(Box::new(registry));
    let mut known = KNOWN.lock().expect("never poisoned");
    let (home, all) = known.get_or_insert_with(|| (registry, HashMap::new()));
    if !home.segment.is_open() {
        *home = registry;
    }
    all.insert(registry.id, registry);
    registry
}

impl OwnerRegistry {
    /// This process's own family; the first that it met, or a new one.
    pub fn home() -> Result<Family> {
        if let Some((home, _)) = &*KNOWN.lock().expect("never poisoned") {
            // The program may have closed all descriptors: children could not join this one.
            if home.segment.is_open() {
                return Ok(home);
            }
        }
        let segment = Segment::create(LEN, 0)?;
        segment.reserve_control(0, 2 * PAGE)?;
        let map = segment.map_control()?;
        let id = random_id()?;
        let registry = Self::new(segment, map, id);
        let head = registry.head();
        head.id.iter().zip(id).for_each(|(word, half)| word.store(half, Ordering::Relaxed));
        head.reserved.store((PAGE / size_of::<OwnerSlot>()) as u32, Ordering::Relaxed);
        head.magic.store(MAGIC, Ordering::Release);
        Ok(remember(registry))
    }

    fn new(segment: Arc<Segment>, map: Arc<Mapping>, id: Id) -> Self {
        watch_witnesses();
        Self { segment, map, id, me: AtomicU64::new(0), register: Mutex::new(()) }
    }

    pub fn known(id: Id) -> Option<Family> {
        let known = KNOWN.lock().expect("never poisoned");
        known.as_ref().and_then(|(_, all)| all.get(&id).copied())
    }

    /// The family behind a descriptor that was handed over; the descriptor stays the caller's.
    pub fn attach(fd: i32, id: Id) -> Result<Family> {
        if let Some(registry) = Self::known(id) {
            return Ok(registry);
        }
        let segment = Segment::attach_sealed(fd, LEN)?;
        let map = segment.map_control()?;
        let registry = Self::new(segment, map, id);
        let head = registry.head();
        let found = [0, 1].map(|half| head.id[half].load(Ordering::Relaxed));
        if head.magic.load(Ordering::Acquire) != MAGIC || found != id {
            return Err(Error::new(ErrorKind::NotFound, "not the registry that was meant"));
        }
        Ok(remember(registry))
    }

    pub fn fd(&self) -> i32 {
        self.segment.fd()
    }

    /// The same, to be used now.
    pub fn open_fd(&self) -> Result<i32> {
        self.segment.descriptor().get()
    }

    fn head(&self) -> &HeaderShared {
        // SAFETY: `at` checks the range; the page is reserved.
        unsafe { &*self.map.at(0, size_of::<HeaderShared>()).cast() }
    }

    fn owner_slot(&self, slot: usize) -> Option<&OwnerSlot> {
        let size = size_of::<OwnerSlot>();
        if slot >= self.head().reserved.load(Ordering::Acquire) as usize {
            return None;
        }
        // SAFETY: `at` checks the range; the page is reserved.
        Some(unsafe { &*self.map.at(PAGE + slot * size, size).cast() })
    }

    /// The number that this process signs with.
    #[inline]
    pub fn me(&self) -> Result<u32> {
        self.known_as().map_or_else(|| self.become_agent(), Ok)
    }

    /// The same, if it has one already.
    #[inline]
    pub fn known_as(&self) -> Option<u32> {
        let word = self.me.load(Ordering::Relaxed);
        (word as u32 != 0 && word >> 32 == generation()).then_some(word as u32)
    }

    #[cold]
    fn become_agent(&self) -> Result<u32> {
        // Two threads may come here. A third one cannot have been forked away inside: the GIL is held.
        let _one = self.register.lock().expect("never poisoned");
        if let Some(me) = self.known_as() {
            return Ok(me);
        }
        let this = Identity::of_this_process();
        let witness = self.own_description()?;
        let (slot, owner) = self.take_slot(this, witness.as_ref())?;
        crash_point("agent.slot_taken");
        let number = owner.generation.load(Ordering::Relaxed) % (GENERATIONS - 1) + 1;
        owner.write(number, this, witness.is_some());
        crash_point("agent.registered");
        if let Some(witness) = witness {
            if !WITNESS.iter().any(|kept| kept.keep(witness.as_raw_fd())) {
                return Err(Error::other("objects of more than 64 families in one process"));
            }
            let _ = witness.into_raw_fd();
        }
        let me = number << SLOT_BITS | slot as u32;
        self.me.store(generation() << 32 | u64::from(me), Ordering::Relaxed);
        Ok(me)
    }

    /// A file description that no relative shares, if one can be had; locks belong to descriptions.
    fn own_description(&self) -> Result<Option<OwnedFd>> {
        match self.segment.descriptor().reopen() {
            Ok(fd) => Ok(Some(fd).filter(has_locks)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                Err(error)
            }
            // It was closed here, or there is no /proc.
            Err(_) => Ok(None),
        }
    }

    fn take_slot(&self, this: Identity, witness: Option<&OwnedFd>) -> Result<(usize, &OwnerSlot)> {
        let is_open = self.segment.is_open();
        let first = self.head().taken.fetch_add(1, Ordering::Relaxed) as usize;
        for slot in (first..first + OWNERS).map(|slot| slot % OWNERS) {
            let owner = match self.owner_slot(slot) {
                Some(owner) => owner,
                None if is_open => self.more_slots(slot)?,
                None => continue,
            };
            if !witness.map_or(Ok(true), |witness| lock_byte(witness, slot))? {
                continue;
            }
            if owner.take(this, witness.is_some()) {
                return Ok((slot, owner));
            }
            if let Some(witness) = witness {
                let lock = byte_lock(libc::F_UNLCK, slot);
                // SAFETY: as in `lock_byte`.
                unsafe { libc::fcntl(witness.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
            }
        }
        if is_open {
            return Err(Error::other(format!(
                "more than {OWNERS} processes use locks of one family"
            )));
        }
        Err(Error::other(LOST))
    }

    fn more_slots(&self, slot: usize) -> Result<&OwnerSlot> {
        let size = size_of::<OwnerSlot>();
        // From where the memory ends now: the taker of a slot before us may have died in between.
        let first = self.head().reserved.load(Ordering::Acquire) as usize * size;
        let end = ((slot + 1) * size).next_multiple_of(PAGE);
        if end > first {
            self.segment.reserve_control(PAGE + first, end - first)?;
        }
        self.head().reserved.fetch_max((end / size) as u32, Ordering::Release);
        Ok(self.owner_slot(slot).expect("reserved just now"))
    }

    /// The process behind a number; nothing if the slot has a successor already.
    pub fn identity(&self, owner: u32) -> Option<Identity> {
        let slot = self.owner_slot(owner as usize & (OWNERS - 1))?;
        match slot.look() {
            Slot::Of(generation, found) if generation == owner >> SLOT_BITS => Some(found),
            _ => None,
        }
    }

    /// The same, for frequent calls: the system is asked first whether there is such a process.
    pub fn seems_dead(&self, owner: u32) -> bool {
        let here = |identity: &Identity| identity.namespace == own_namespace();
        // SAFETY: signal 0 only asks.
        let exists = |identity: Identity| unsafe { libc::kill(identity.pid as i32, 0) } == 0;
        let lives = owner == 0 || self.identity(owner).filter(here).is_some_and(exists);
        !lives && self.is_dead(owner)
    }

    fn is_witnessed(&self, slot: usize) -> bool {
        self.owner_slot(slot).is_some_and(|owner| owner.witnessed.load(Ordering::Relaxed) != 0)
    }

    /// Nothing if it cannot be asked: the descriptor was closed here, or the system has no such locks.
    fn byte_is_free(&self, slot: usize) -> Option<bool> {
        let mut lock = byte_lock(libc::F_WRLCK, slot);
        // SAFETY: a system call with a struct of ours, which changes nothing.
        let asked = unsafe { libc::fcntl(self.fd(), libc::F_OFD_GETLK, &raw mut lock) };
        let is_free = i32::from(lock.l_type) == libc::F_UNLCK;
        (asked != -1 && (!is_free || self.segment.is_open())).then_some(is_free)
    }

    fn row(&self, number: usize) -> Option<&WaitRecordShared> {
        let size = size_of::<WaitRecordShared>();
        if number >= self.head().rows.load(Ordering::Acquire) as usize {
            return None;
        }
        // SAFETY: `at` checks the range; the page is reserved.
        Some(unsafe { &*self.map.at(WAITS_AT + number * size, size).cast() })
    }

    /// The first of a further page of rows.
    fn more_rows(&self) -> Option<&WaitRecordShared> {
        let first = self.head().rows.load(Ordering::Acquire) as usize;
        if first >= RECORDS {
            return None;
        }
        let size = size_of::<WaitRecordShared>();
        self.segment.reserve_control(WAITS_AT + first * size, PAGE).ok()?;
        self.head().rows.fetch_max((first + PAGE / size) as u32, Ordering::Release);
        self.row(first)
    }

    /// A counter for the children of one process, whose next number is `next`.
    pub fn allot_counter(&self, next: u32) -> usize {
        let head = self.head();
        let counter = head.counters.fetch_add(1, Ordering::Relaxed) as usize % COUNTERS;
        head.numbers[counter].fetch_max(next, Ordering::Relaxed);
        counter
    }

    /// The next number of a counter.
    pub fn next_number(&self, counter: usize) -> u32 {
        self.head().numbers[counter % COUNTERS].fetch_add(1, Ordering::Relaxed)
    }

    /// Tell all waiters that some process has died: they look whether it concerns them.
    pub fn announce_death(&self) {
        self.deaths().fetch_add(1, Ordering::SeqCst);
        crate::sys::futex::wake(self.deaths(), i32::MAX);
    }
}

impl Owners for OwnerRegistry {
    /// Without doubt means: both witnesses say so.
    fn is_dead(&self, owner: u32) -> bool {
        if owner == self.me.load(Ordering::Relaxed) as u32 && self.me().is_ok_and(|me| me == owner)
        {
            return false;
        }
        let slot = owner as usize & (OWNERS - 1);
        let Some(identity) = self.identity(owner) else {
            return self.is_possible(owner);
        };
        // The byte first: of a living owner, it is one system call.
        match self.byte_is_free(slot) {
            Some(false) => false,
            Some(true) => match identity.look() {
                Seen::Alive => false,
                Seen::Gone => true,
                Seen::Unknown => self.is_witnessed(slot),
            },
            None => identity.look() == Seen::Gone,
        }
    }

    fn is_possible(&self, owner: u32) -> bool {
        let slot = self.owner_slot(owner as usize & (OWNERS - 1));
        owner >> SLOT_BITS != 0 && slot.is_some_and(|slot| !matches!(slot.look(), Slot::Damaged))
    }

    fn take_wait_record(&self) -> Option<&WaitRecordShared> {
        let me = self.me().ok()?;
        let sign = |row: &WaitRecordShared, of| {
            row.owner.compare_exchange(of, me, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let rows = || (0..RECORDS).map_while(|number| self.row(number));
        // Dead owners are looked for only if all are in use: it is expensive.
        rows()
            .find(|row| sign(row, 0))
            .or_else(|| self.more_rows().filter(|row| sign(row, 0)))
            .or_else(|| {
                rows().find(|row| {
                    let of = row.owner.load(Ordering::Relaxed);
                    of != me && self.is_dead(of) && sign(row, of)
                })
            })
    }

    fn waits(&self) -> Vec<WaitRecord> {
        let rows = (0..RECORDS).map_while(|number| self.row(number));
        rows.filter_map(WaitRecordShared::read).filter(|wait| !self.is_dead(wait.owner)).collect()
    }

    fn deaths(&self) -> &AtomicU32 {
        &self.head().deaths
    }

    fn pid(&self, owner: u32) -> u32 {
        self.identity(owner).map_or(0, |identity| identity.pid)
    }
}

impl OwnerSlot {
    fn identity(&self) -> Identity {
        Identity {
            pid: self.pid.load(Ordering::Relaxed),
            started: self.started.load(Ordering::Relaxed),
            namespace: self.namespace.load(Ordering::Relaxed),
            inode: self.inode.load(Ordering::Relaxed),
        }
    }

    /// What was written there last.
    fn look(&self) -> Slot {
        // [register->judge] pairs with the release in write(): with the seal the rest is seen
        let seal = self.seal.load(Ordering::Acquire);
        let generation = self.generation.load(Ordering::Relaxed);
        let found = self.identity();
        let expected = self.sealed(generation, found);
        fence(Ordering::Acquire);
        if seal == 0 || seal != self.seal.load(Ordering::Relaxed) {
            return Slot::InFlux;
        }
        if seal == expected {
            Slot::Of(generation, found)
        } else {
            Slot::Damaged
        }
    }

    fn sealed(&self, generation: u32, of: Identity) -> u64 {
        let witnessed = self.witnessed.load(Ordering::Relaxed);
        let words = [generation.into(), of.pid.into(), of.started, of.namespace, of.inode];
        let all = words.into_iter().chain([witnessed.into()]);
        all.fold(ODD, |sum, word| (sum.rotate_left(23) ^ word).wrapping_mul(ODD)) | 1
    }

    fn write(&self, generation: u32, this: Identity, witnessed: bool) {
        // The predecessor is dead: none that looks now is to take the rest for its.
        self.seal.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.pid.store(this.pid, Ordering::Relaxed);
        self.started.store(this.started, Ordering::Relaxed);
        self.namespace.store(this.namespace, Ordering::Relaxed);
        self.inode.store(this.inode, Ordering::Relaxed);
        self.witnessed.store(witnessed.into(), Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        // [register->judge]
        self.seal.store(self.sealed(generation, this), Ordering::Release);
    }

    /// Take the slot from its predecessor, if that is dead; false if it may live. A process that
    /// has closed all descriptors may live on: its number stays its own.
    fn take(&self, this: Identity, witnessed: bool) -> bool {
        let claim = self.claim.load(Ordering::Acquire);
        let predecessor = self.identity();
        let is_free = if claim == predecessor.claim() {
            predecessor.pid == 0
                || match predecessor.look() {
                    Seen::Alive => false,
                    Seen::Gone => true,
                    Seen::Unknown => witnessed && self.witnessed.load(Ordering::Relaxed) != 0,
                }
        } else {
            // Taken by a process that has written nothing else yet.
            Identity::of_claim(claim).has_no_process()
        };
        let (taken, not) = (Ordering::AcqRel, Ordering::Relaxed);
        is_free && self.claim.compare_exchange(claim, this.claim(), taken, not).is_ok()
    }
}

/// Descriptors that this process keeps to its end, once it has used a lock.
pub fn descriptors() -> Vec<i32> {
    let known = KNOWN.lock().expect("never poisoned");
    let own = known.iter().flat_map(|(_, all)| all.values().map(|registry| registry.fd()));
    let witnesses = WITNESS.iter().map(|witness| witness.fd.load(Ordering::Relaxed));
    own.chain(witnesses.filter(|&fd| fd >= 0)).collect()
}

/// Ring in every family that this process knows.
pub fn announce_death() {
    if let Some((_, all)) = &*KNOWN.lock().expect("never poisoned") {
        all.values().for_each(|registry| registry.announce_death());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn die_after(run: impl FnOnce()) -> i32 {
        // SAFETY: the child only runs `run` and leaves by _exit.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                run();
                libc::_exit(0);
            }
            pid
        }
    }

    fn reap(pid: i32) {
        // SAFETY: our own child.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }

    #[test]
    fn a_process_has_one_number_and_its_child_another_which_dies_with_it() {
        crate::sys::process::watch_forks();
        let registry = OwnerRegistry::home().expect("a registry");
        let me = registry.me().expect("a number");
        assert_eq!(registry.me().expect("a number"), me);
        assert!(!registry.is_dead(me));
        let shared = Segment::create(PAGE, 0).expect("a memfd");
        let map = shared.map_control().expect("a map");
        // SAFETY: inside of the mapping.
        let told: &AtomicU32 = unsafe { &*map.at(0, 4).cast() };
        let child = die_after(|| told.store(registry.me().expect("a number"), Ordering::Release));
        reap(child);
        let number = told.load(Ordering::Acquire);
        assert!(number != 0 && number != me);
        assert!(registry.is_dead(number) && !registry.is_dead(me));
        let heir = die_after(|| told.store(registry.me().expect("a number"), Ordering::Release));
        reap(heir);
        assert_ne!(told.load(Ordering::Acquire), number, "a number is not used again");
        assert!(registry.is_dead(number));
    }
}
