//! The first part of a supervisor's life: it forks the workers, and watches them, in the core.
//!
//! ```text
//! supervisor   fork every worker ──▶ report ──▶ wait ──▶ a worker has left a closed pool: reap ─┐
//!                                                ▲─────────────────────────────────────────────┘
//!                                                └─ anything else: the loop in Python goes on
//! ```
//! A new fork copies each page that it writes, and the interpreter writes hundreds: counts of
//! references. Most pools end without a death, a timeout or a request, and so without those pages.
//! Nothing is decided here: what needs a decision is left as it was found.

use super::supervisor::Supervisor;
use super::table::{Table, RUNNING, TERMINATING};
use crate::host::Failure;
use crate::shm::segment::check;
use crate::sys::anonymous::anonymous_file;
use crate::sys::atomic::Ordering;
use crate::testing::crash_points::crash_point;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::result::Result;
use std::sync::Arc;

/// What a supervisor is started with.
pub struct Plan {
    pub table: Arc<Table>,
    /// The numbers in the workers' names, one for each slot.
    pub numbers: Vec<u32>,
    /// Its end of the channel to the parent, and the parent's if it has a copy of that.
    pub channel: i32,
    pub parents_end: i32,
    /// What it sends when the workers are there.
    pub report: Vec<u8>,
}

/// A worker's place, in the worker.
pub struct Place {
    pub slot: usize,
    pub owner_id: u32,
    /// The file for its stack.
    pub stack: i32,
    /// Where it asks the supervisor for descriptors.
    pub desk: i32,
}

/// A worker as its supervisor sees it.
pub struct Seat {
    /// 0: it has left.
    pub pid: i32,
    pub owner_id: u32,
    pub stack: OwnedFd,
}

/// All that the loop in Python takes over.
pub struct Handover {
    pub supervisor: Supervisor,
    pub seats: Vec<Seat>,
    /// The supervisor's end, then the workers'.
    pub desk: [OwnedFd; 2],
    /// The parent's pidfd, which tells of its end even if another process has got its number since.
    pub parent: Option<OwnedFd>,
    /// How many processes the kernel had killed for want of memory when the workers were started.
    pub oom_kills: Option<u64>,
}

pub enum Role {
    Worker(Place),
    Supervisor(Box<Handover>),
}

/// Start the workers and watch them, in a process of one thread that has all signals blocked.
/// Returns in each worker, and in the supervisor when something is to be decided.
pub fn run(plan: &Plan, parent: i32) -> Result<Role, Failure> {
    keep_standard_descriptors();
    // SAFETY: numbers only; the parent's end is of no use here.
    let me = unsafe {
        libc::close(plan.parents_end);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::getpid()
    };
    let before = set_child_action(&default_action());
    let supervisor = Supervisor::new(plan.table.clone())?;
    let watch = Watch::begin(parent).map_err(Failure::of("a supervisor's descriptors"))?;
    let mut seats = Vec::with_capacity(plan.numbers.len());
    for (slot, &number) in plan.numbers.iter().enumerate() {
        match add_worker(&supervisor, slot, number) {
            Ok(seat) if seat.pid == 0 => {
                set_child_action(&before);
                // Its heap is the supervisor's.
                std::mem::forget(supervisor);
                return Ok(Role::Worker(enter_worker(plan.channel, me, watch, slot, seat)));
            }
            Ok(seat) => seats.push(seat),
            Err(error) => {
                end(&seats);
                return Err(error);
            }
        }
    }
    for (slot, seat) in seats.iter().enumerate() {
        supervisor.set_pid(slot, seat.pid as u32);
    }
    // SAFETY: a vector. If the parent is gone, its pidfd says so.
    unsafe { libc::write(plan.channel, plan.report.as_ptr().cast(), plan.report.len()) };
    let oom_kills = count_oom_kills();
    watch.until_something_is_to_be_decided(plan.channel, &supervisor, &mut seats);
    let Watch { desk, parent, .. } = watch;
    Ok(Role::Supervisor(Box::new(Handover { supervisor, seats, desk, parent, oom_kills })))
}

// --- Starting workers ----------------------------------------------------------------------------

/// A daemon may have closed them; no other file must get these numbers.
fn keep_standard_descriptors() {
    for fd in 0..3 {
        if crate::sys::descriptor::file_behind(fd).is_none() {
            // SAFETY: a static C string; the descriptor stays open.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
}

fn default_action() -> libc::sigaction {
    // SAFETY: numbers, of which zeros are the default.
    unsafe { std::mem::zeroed() }
}

/// Set what happens at the end of a child, and return what did: a program may have it ignored, and
/// then the kernel tells nobody.
fn set_child_action(wanted: &libc::sigaction) -> libc::sigaction {
    let mut before = default_action();
    // SAFETY: two structs of numbers; a handler among them is the program's own, set by it.
    unsafe { libc::sigaction(libc::SIGCHLD, wanted, &raw mut before) };
    before
}

/// Enter a worker into the table, and fork it. In the worker the pid is 0.
fn add_worker(supervisor: &Supervisor, slot: usize, number: u32) -> Result<Seat, Failure> {
    let stack = anonymous_file().map_err(Failure::of("a file for a worker's stack"))?;
    let owner_id = supervisor.enlist(slot, number)?;
    // SAFETY: this process has one thread.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    if pid != 0 {
        crash_point("supervisor.forked");
    }
    Ok(Seat { pid, owner_id, stack })
}

/// In a new worker: die with the supervisor, and close what is the supervisor's.
fn enter_worker(channel: i32, supervisor: i32, watch: Watch, slot: usize, seat: Seat) -> Place {
    let [_, desk] = watch.desk;
    // SAFETY: numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
        if libc::getppid() != supervisor {
            libc::_exit(1);
        }
        libc::close(channel);
        // Whoever asks waits for the answer.
        libc::fcntl(desk.as_raw_fd(), libc::F_SETFL, 0);
    }
    let (stack, desk) = (seat.stack.into_raw_fd(), desk.into_raw_fd());
    Place { slot, owner_id: seat.owner_id, stack, desk }
}

/// End these workers: another could not be started.
fn end(seats: &[Seat]) {
    for seat in seats {
        // SAFETY: a child of this process that was not reaped.
        unsafe {
            libc::kill(seat.pid, libc::SIGKILL);
            libc::waitpid(seat.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// How many processes the kernel has killed for want of memory, where it counts that.
fn count_oom_kills() -> Option<u64> {
    let text = std::fs::read("/proc/vmstat").ok()?;
    let line =
        text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"oom_kill "))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

// --- Watching them -------------------------------------------------------------------------------

/// What a supervisor waits for, beside the channel.
struct Watch {
    signals: OwnedFd,
    /// None where the system has no pidfd.
    parent: Option<OwnedFd>,
    desk: [OwnedFd; 2],
}

impl Watch {
    fn begin(parent: i32) -> std::io::Result<Self> {
        let mut pair = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: each call fills what it is given, and each result is ours alone.
        unsafe {
            let mut chld: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut chld);
            libc::sigaddset(&raw mut chld, libc::SIGCHLD);
            let signals =
                libc::signalfd(-1, &raw const chld, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
            check(signals)?;
            let signals = OwnedFd::from_raw_fd(signals);
            let parent = libc::syscall(libc::SYS_pidfd_open, parent, 0) as i32;
            let parent = (parent != -1).then(|| OwnedFd::from_raw_fd(parent));
            check(libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()))?;
            let desk = pair.map(|fd| OwnedFd::from_raw_fd(fd));
            Ok(Self { signals, parent, desk })
        }
    }

    /// Wait, and reap workers that leave a closed pool in order. With the last one the process ends.
    fn until_something_is_to_be_decided(
        &self,
        channel: i32,
        supervisor: &Supervisor,
        seats: &mut [Seat],
    ) {
        let Some(parent) = &self.parent else { return };
        let header = supervisor.table().header();
        loop {
            // Before the look at the timeouts: whoever sets one looks at this afterwards.
            supervisor.set_dozing(true);
            let phase = header.phase.load(Ordering::SeqCst);
            let is_timed = header.shortest_timeout.load(Ordering::SeqCst) != 0;
            if phase >= TERMINATING || is_timed || header.cancels.load(Ordering::SeqCst) != 0 {
                break;
            }
            if phase != RUNNING && seats.iter().all(|seat| seat.pid == 0) {
                if supervisor.table().waiting() == 0 {
                    supervisor.finish();
                    // SAFETY: nothing of this process is to be written any more.
                    unsafe { libc::_exit(0) };
                }
                break;
            }
            if !self.wait(channel, parent.as_raw_fd()) || !reap(supervisor, seats) {
                break;
            }
        }
        supervisor.set_dozing(false);
    }

    /// Wait for a signal, or a byte of the parent; false if it is something else.
    fn wait(&self, channel: i32, parent: i32) -> bool {
        let [desk, _] = &self.desk;
        let mut asked = [channel, self.signals.as_raw_fd(), parent, desk.as_raw_fd()]
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        let mut read = [0_u8; 4096];
        // SAFETY: pointers and lengths of arrays.
        unsafe {
            if libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, -1) < 1 {
                return false;
            }
            if asked[2].revents != 0 || asked[3].revents != 0 {
                return false;
            }
            if asked[1].revents != 0 {
                libc::read(self.signals.as_raw_fd(), read.as_mut_ptr().cast(), read.len());
            }
            // No byte: all copies of the parent's end are closed.
            asked[0].revents == 0 || libc::read(channel, read.as_mut_ptr().cast(), read.len()) > 0
        }
    }
}

/// Reap the workers that have left in order; false if there is another child to be dealt with.
fn reap(supervisor: &Supervisor, seats: &mut [Seat]) -> bool {
    loop {
        let Some(ended) = next_event() else { return true };
        let Some(slot) = seats.iter().position(|seat| seat.pid == ended.pid) else { return false };
        if !ended.in_order || !has_left(supervisor, slot, seats[slot].owner_id) {
            return false;
        }
        let is_last = seats.iter().all(|seat| seat.pid == 0 || seat.pid == ended.pid);
        if !is_last && !has_no_other_children(seats) {
            return false;
        }
        // SAFETY: it has ended.
        unsafe { libc::waitpid(ended.pid, std::ptr::null_mut(), 0) };
        crash_point("supervisor.reaped");
        seats[slot].pid = 0;
        supervisor.free_slot(slot, false, 0);
        crate::owners::registry::announce_death();
    }
}

struct Event {
    pid: i32,
    /// It has exited, with code 0.
    in_order: bool,
}

/// What has happened to some child, which is left as it is.
fn next_event() -> Option<Event> {
    let which = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a struct of numbers, which the call fills; zeros if there is nothing.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::waitid(libc::P_ALL, 0, &raw mut info, which)).ok()?;
        let in_order = info.si_code == libc::CLD_EXITED && info.si_status() == 0;
        (info.si_pid() != 0).then(|| Event { pid: info.si_pid(), in_order })
    }
}

/// Whether a worker that has ended was through with all that it had to do, and nothing follows.
fn has_left(supervisor: &Supervisor, slot: usize, owner_id: u32) -> bool {
    let place = supervisor.table().slot(slot);
    supervisor.table().header().phase.load(Ordering::SeqCst) != RUNNING
        && place.initialized.load(Ordering::Acquire) != 0
        && place.children.iter().all(|child| child.load(Ordering::Acquire) == 0)
        && supervisor.held_by(owner_id).is_ok_and(|held| held.is_empty())
}

/// Whether no worker has left a child of its own, which would have to be told from those of a later one.
fn has_no_other_children(seats: &[Seat]) -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/thread-self/children") else { return false };
    let mut children = text.split_ascii_whitespace();
    children.all(|child| seats.iter().any(|seat| child.parse() == Ok(seat.pid)))
}
