//! Both ends of a queue: what happens under its locks, and waiting beside them.
//!
//! Under a lock no code of the user runs and nothing waits. Getters and putters sleep on words of
//! their own: they are woken after the lock is released.

use super::log::{Item, Position, QueueLog, SegmentMemory};
use super::shared::QueueShared;
use crate::host::{Failure, Host};
use crate::owners::wait_session::{RateLimit, WaitTarget};
use crate::owners::Owners;
use crate::sync::lock::wait::{LockWords, Wait};
use crate::sync::lock::word::LockShared;
use crate::sync::lock::Acquired;
use crate::sys::atomic::Ordering;
use crate::sys::damage::damaged;
use crate::sys::deadline::{Deadline, LIVENESS_CHECK_INTERVAL};
use crate::sys::futex;
use crate::sys::spin::Spin;
use crate::sys::wake_word::WakeWord;
use crate::testing::crash_points::crash_point;
use std::cell::OnceCell;
use std::sync::atomic::{AtomicU32, AtomicU8};
use std::time::{Duration, Instant};

/// A lock here is held for instructions: so long even a caller that does not wait for items or room
/// waits for it. A dead holder is found within, at the second look if a newcomer is just taking
/// its place in the registry; what remains is a holder that is stopped.
const GRACE: Duration = Duration::from_millis(250);
/// A queue that grows asks for the memory of so many bytes at once.
const GROWTH: u64 = 64 << 20;

/// What a queue asks of the program beyond waiting.
pub trait QueueHost: Host {
    /// The error of a wait during which its end was closed here.
    fn closed(self) -> Self::Error;

    /// Fail if there is no memory for so many bytes more.
    fn check_memory(self, bytes: u64) -> Result<(), Self::Error>;

    /// Fail if no other process is left that could put something.
    fn check_putters(self) -> Result<(), Self::Error>;

    /// This process puts large items: their region is to be retired at its end.
    fn register_sender(self) -> Result<(), Self::Error>;
}

/// Items that are written down already, to be put at once.
pub trait Batch {
    fn count(&self) -> u32;

    fn granules(&self, nth: usize) -> u32;

    /// Write one at this position: there is memory, which only the owner of the put lock writes to.
    fn write(&self, nth: usize, to: Position) -> std::io::Result<()>;

    /// They will be in the log at once.
    fn will_be_put(&self);

    /// They are in the log; the first one has this number.
    fn were_put(&mut self, first: u32);
}

/// `block` and `timeout` of a call, and the deadline from when it is first asked for.
#[derive(Debug)]
pub struct WaitSpec {
    block: bool,
    deadline: OnceCell<Deadline>,
}

impl WaitSpec {
    #[inline]
    pub fn new(block: bool, deadline: Option<Deadline>) -> Self {
        let cell = OnceCell::new();
        if let Some(deadline) = deadline {
            let _ = cell.set(deadline);
        }
        Self { block, deadline: cell }
    }

    pub fn never() -> Self {
        Self::new(true, None)
    }

    pub fn immediate() -> Self {
        Self::new(false, None)
    }

    pub fn seconds(limit: f64) -> Self {
        Self::new(true, Some(Deadline::after(limit)))
    }

    fn deadline(&self) -> &Deadline {
        let first = || if self.block { Deadline::never() } else { Deadline::immediate() };
        self.deadline.get_or_init(first)
    }
}

/// One end in this process: whether spinning has paid off here, and how its lock is waited for.
#[derive(Debug)]
pub struct EndState {
    spin: Spin,
    checks: RateLimit,
    target: WaitTarget,
}

impl EndState {
    /// `object` tells the lock of this end from others.
    pub fn new(object: u64) -> Self {
        let target = WaitTarget::new(WaitTarget::LOCK, object);
        Self { spin: Spin::new(), checks: RateLimit::new(), target }
    }
}

/// A queue in this process.
#[derive(Debug)]
pub struct LocalState {
    pub put: EndState,
    pub get: EndState,
    pub maxsize: u32,
    /// What this process does no longer: `NO_PUT`, `NO_GET`, or nothing at all.
    closed: AtomicU8,
    /// The process that has put something with this object.
    putter: AtomicU32,
}

impl LocalState {
    pub const NO_PUT: u8 = 1;
    pub const NO_GET: u8 = 2;
    pub const CLOSED: u8 = 4;

    pub fn new(maxsize: u32, put: EndState, get: EndState) -> Self {
        Self { put, get, maxsize, closed: AtomicU8::new(0), putter: AtomicU32::new(0) }
    }

    /// Whether one of these ends is closed in this process, or the whole queue.
    #[inline]
    pub fn is_closed(&self, ends: u8) -> bool {
        self.closed.load(Ordering::Relaxed) & (ends | Self::CLOSED) != 0
    }

    pub fn close(&self, ends: u8) {
        self.closed.fetch_or(ends, Ordering::Relaxed);
    }

    /// The process that has put something with this object; 0 if none has.
    pub fn putter(&self) -> u32 {
        self.putter.load(Ordering::Relaxed)
    }
}

/// A lock that is held: dropped, it is released.
struct LockGuard<'a, O: Owners>(LockWords<'a, O>);

impl<O: Owners> Drop for LockGuard<'_, O> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Both ends of a queue: its words, its segments, its owners, and what is of this process.
pub struct Ends<'a, M: SegmentMemory, O: Owners> {
    pub shared: &'a QueueShared,
    pub memory: &'a M,
    pub owners: &'a O,
    pub here: &'a LocalState,
}

impl<'a, M: SegmentMemory, O: Owners> Ends<'a, M, O> {
    #[inline]
    pub fn log(&self) -> QueueLog<'a, M> {
        QueueLog { shared: &self.shared.log, store: self.memory }
    }

    #[inline]
    fn acquire<H: Host>(
        &self,
        host: H,
        me: u32,
        (lock, here): (&'a LockShared, &EndState),
        wait: &WaitSpec,
    ) -> Result<Option<LockGuard<'a, O>>, H::Error> {
        let words = LockWords { shared: lock, owners: self.owners };
        if words.try_acquire(me) {
            return Ok(Some(LockGuard(words)));
        }
        // The one that inherits it has nothing to repair.
        let deadline = &wait.deadline().at_least(GRACE);
        let wait = Wait { deadline, may_inherit: true, target: here.target, checks: &here.checks };
        match words.acquire_slow(host, me, &wait)? {
            Acquired::Clean | Acquired::FromDeadOwner(_) => Ok(Some(LockGuard(words))),
            Acquired::TimedOut | Acquired::OwnerDead(_) => Ok(None),
        }
    }

    /// Wait at a word until it is so. False if it was not before the deadline.
    #[cold]
    fn wait_until<H: QueueHost>(
        &self,
        host: H,
        word: &WakeWord,
        spin: &Spin,
        wait: &WaitSpec,
        done: impl Fn() -> bool,
    ) -> Result<bool, H::Error> {
        let deadline = wait.deadline();
        if deadline.is_over() {
            return Ok(done());
        }
        let started = Instant::now();
        if spin.pays() {
            let left = deadline.left();
            if host.blocking(|| spin.until(left, &done)) {
                return Ok(true);
            }
        }
        loop {
            let count = word.prepare();
            if done() {
                break;
            }
            let limit = deadline.left().min(LIVENESS_CHECK_INTERVAL);
            host.blocking(|| futex::wait(&word.count, count, limit));
            crash_point("queue.woken");
            host.check_signals()?;
            if done() {
                break;
            }
            if deadline.is_over() {
                return Ok(false);
            }
            if self.here.is_closed(LocalState::NO_PUT) {
                // A process that puts nothing itself waits for others to do it: for ever, if they are gone.
                host.check_putters()?;
            }
        }
        spin.learn(started.elapsed());
        Ok(true)
    }

    // Putting.

    pub fn has_room(&self, count: u32) -> bool {
        let maxsize = self.here.maxsize;
        maxsize == 0 || self.log().len() <= maxsize - count
    }

    /// Put all of them, or none: true, or false if there was no room in time.
    #[inline]
    pub fn put<H: QueueHost>(
        &self,
        host: H,
        me: u32,
        items: &mut impl Batch,
        wait: &WaitSpec,
    ) -> Result<bool, H::Error> {
        let put = self.put_items(host, me, items, wait);
        if !matches!(put, Ok(true)) {
            self.pass_room_on();
        }
        put
    }

    #[inline]
    fn put_items<H: QueueHost>(
        &self,
        host: H,
        me: u32,
        items: &mut impl Batch,
        wait: &WaitSpec,
    ) -> Result<bool, H::Error> {
        let count = items.count();
        let lock = (&self.shared.put_lock, &self.here.put);
        loop {
            let Some(held) = self.acquire(host, me, lock, wait)? else { return Ok(false) };
            crash_point("queue.put_locked");
            let log = self.log();
            let (tail, maxsize) = (log.tail(), self.here.maxsize);
            let inside = if maxsize == 0 { 0 } else { tail.number.wrapping_sub(log.head().number) };
            if maxsize != 0 && inside > maxsize - count {
                drop(held);
                if inside > maxsize {
                    return Err(damage("a queue with more items than it holds").into());
                }
                if !self.wait_for_room(host, count, wait)? {
                    return Ok(false);
                }
                if self.here.is_closed(LocalState::NO_PUT) {
                    return Err(host.closed());
                }
                continue;
            }
            let end = match self.write(tail, items) {
                Ok(end) => end,
                Err(error) => {
                    drop(held);
                    self.grow_or_fail(host, error)?;
                    continue;
                }
            };
            crash_point("queue.written");
            items.will_be_put();
            log.commit_put(end);
            self.here.putter.store(me, Ordering::Relaxed);
            crash_point("queue.put_committed");
            drop(held);
            crash_point("queue.put_left");
            items.were_put(tail.number);
            self.wake_getters(count);
            return Ok(true);
        }
    }

    #[inline]
    fn wake_getters(&self, count: u32) {
        let shared = self.shared;
        let watched = shared.wake_all.load(Ordering::Relaxed) & QueueShared::WATCHED != 0;
        let count = if watched { i32::MAX } else { wakes(count) };
        shared.getters.wake(false, count, |count| futex::wake(&shared.getters.count, count));
        crash_point("queue.put_woken");
    }

    /// A putter leaves without having put anything. The wake-up may have come to it: another needs it.
    #[cold]
    fn pass_room_on(&self) {
        if self.here.maxsize != 0 && self.has_room(1) {
            self.wake_putters(1);
        }
    }

    /// Wait until there is room for as many, or until this process may put no more.
    #[cold]
    pub fn wait_for_room<H: QueueHost>(
        &self,
        host: H,
        count: u32,
        wait: &WaitSpec,
    ) -> Result<bool, H::Error> {
        if count > 1 {
            // The taker of one item must not wake only one of these: that may need more room.
            self.shared.wake_all.fetch_or(QueueShared::SEVERAL, Ordering::Relaxed);
        }
        let room = || self.has_room(count) || self.here.is_closed(LocalState::NO_PUT);
        self.wait_until(host, &self.shared.putters, &self.here.put.spin, wait, room)
    }

    #[inline]
    fn write(&self, tail: Position, items: &impl Batch) -> std::io::Result<Position> {
        let (log, mut at) = (self.log(), tail.at);
        self.memory.ensure_entries()?;
        for nth in 0..items.count() as usize {
            let granules = items.granules(nth);
            at = log.reserve(at, granules)?;
            items.write(nth, Position { number: tail.number.wrapping_add(nth as u32), at })?;
            at += granules;
        }
        Ok(Position { number: tail.number.wrapping_add(items.count()), at })
    }

    /// More memory than was asked for last: ask again, or say that there is none.
    #[cold]
    fn grow_or_fail<H: QueueHost>(&self, host: H, error: std::io::Error) -> Result<(), H::Error> {
        if error.kind() != std::io::ErrorKind::WouldBlock {
            let what = "an item of a queue; have items taken faster";
            return Err(Failure::of(what)(error).into());
        }
        host.check_memory(GROWTH)?;
        self.memory.permit_growth(self.shared.log.count.load(Ordering::Relaxed));
        Ok(())
    }

    // Getting.

    /// Take up to so many items. Nothing is waited for but the lock, which the caller holds.
    #[inline]
    fn take_out<E: From<Failure>>(
        &self,
        most: u32,
        mut copy: impl FnMut(Position, u32) -> Result<u32, E>,
    ) -> Result<u32, E> {
        let log = self.log();
        self.memory.ensure_entries().map_err(Failure::of("a look into a queue"))?;
        let (mut head, tail) = (log.head(), log.tail());
        let mut committed = head;
        let (mut taken, mut is_first) = (0, false);
        while taken < most && head.number != tail.number {
            match log.next_item(head, tail) {
                Item::Here { at, limit } => {
                    let granules = match copy(Position { at, ..head }, limit) {
                        Ok(granules) => granules,
                        Err(_) if taken > 0 => break,
                        Err(error) => return Err(error),
                    };
                    head = Position { number: head.number.wrapping_add(1), at: at + granules };
                    (taken, is_first) = (taken + 1, false);
                }
                // A segment on the way to the tail has an item.
                Item::Beyond if is_first => {
                    return Err(damage("a queue with an empty segment").into())
                }
                Item::Beyond => {
                    if head != committed {
                        log.commit_get(head);
                        committed = head;
                    }
                    head.at = log.skip_to_next_segment(head, tail).map_err(Failure::Io)?;
                    is_first = true;
                }
            }
        }
        if taken == 0 && head != tail {
            return Err(damage("the ends of an empty queue are apart").into());
        }
        if taken > 0 {
            crash_point("queue.copied");
            log.commit_get(head);
            crash_point("queue.got_committed");
        }
        Ok(taken)
    }

    /// Take up to so many items, at least one; 0 if there was none in time. `copy` reads the item at a
    /// position, which ends before a granule, and tells how many granules it takes.
    #[inline]
    pub fn get<H: QueueHost>(
        &self,
        host: H,
        me: u32,
        most: u32,
        wait: &WaitSpec,
        copy: impl FnMut(Position, u32) -> Result<u32, H::Error>,
    ) -> Result<u32, H::Error> {
        let taken = self.take_items(host, me, most, wait, copy);
        if !matches!(taken, Ok(1..)) {
            self.pass_item_on();
        }
        taken
    }

    #[inline]
    fn take_items<H: QueueHost>(
        &self,
        host: H,
        me: u32,
        most: u32,
        wait: &WaitSpec,
        mut copy: impl FnMut(Position, u32) -> Result<u32, H::Error>,
    ) -> Result<u32, H::Error> {
        let lock = (&self.shared.get_lock, &self.here.get);
        loop {
            if self.log().is_at_rest() && !self.wait_for_item(host, wait)? {
                return Ok(0);
            }
            if self.here.is_closed(LocalState::NO_GET) {
                return Err(host.closed());
            }
            let Some(held) = self.acquire(host, me, lock, wait)? else { return Ok(0) };
            crash_point("queue.get_locked");
            let taken = self.take_out(most, &mut copy)?;
            drop(held);
            if taken == 0 {
                continue;
            }
            crash_point("queue.got_left");
            self.wake_putters(taken);
            return Ok(taken);
        }
    }

    #[inline]
    fn wake_putters(&self, taken: u32) {
        let shared = self.shared;
        let wake_all = shared.wake_all.load(Ordering::Relaxed);
        let watched = wake_all & QueueShared::WATCHED != 0 && self.log().is_empty();
        if self.here.maxsize != 0 || watched {
            let count = if wake_all != 0 { i32::MAX } else { wakes(taken) };
            shared.putters.wake(false, count, |count| futex::wake(&shared.putters.count, count));
            crash_point("queue.got_woken");
        }
    }

    /// A getter leaves without having taken anything. The wake-up may have come to it: another needs it.
    #[cold]
    fn pass_item_on(&self) {
        if !self.log().is_empty() {
            self.wake_getters(1);
        }
    }

    /// Wait until there is an item, and leave it there; false if there was none in time.
    #[cold]
    pub fn poll<H: QueueHost>(&self, host: H, wait: &WaitSpec) -> Result<bool, H::Error> {
        let waited = self.wait_for_item(host, wait);
        self.pass_item_on();
        Ok(waited? && !self.log().is_empty())
    }

    /// Wait until there is an item, or this end is closed here; false if there was none in time.
    #[cold]
    fn wait_for_item<H: QueueHost>(&self, host: H, wait: &WaitSpec) -> Result<bool, H::Error> {
        let some = || !self.log().is_at_rest() || self.here.is_closed(LocalState::NO_GET);
        self.wait_until(host, &self.shared.getters, &self.here.get.spin, wait, some)
    }

    // Work that is done.

    /// How many items were put and not yet reported as done.
    pub fn unfinished(&self) -> u32 {
        let done = self.shared.done.load(Ordering::Acquire);
        self.log().tail().number.wrapping_sub(done)
    }

    /// Report one; false if there is none to report.
    pub fn task_done(&self) -> bool {
        let shared = self.shared;
        let mut done = shared.done.load(Ordering::Acquire);
        loop {
            if self.log().tail().number == done {
                return false;
            }
            let next = done.wrapping_add(1);
            match shared.done.compare_exchange(done, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => done = now,
            }
        }
        crash_point("queue.done");
        if self.unfinished() == 0 {
            shared.joiners.wake(false, i32::MAX, |count| futex::wake(&shared.joiners.count, count));
        }
        crash_point("queue.done_woken");
        true
    }

    /// Wait until all are reported.
    pub fn join<H: QueueHost>(&self, host: H) -> Result<(), H::Error> {
        let done = || self.unfinished() == 0;
        while !done() {
            let word = &self.shared.joiners;
            self.wait_until(host, word, &self.here.get.spin, &WaitSpec::never(), done)?;
        }
        Ok(())
    }
}

#[cold]
fn damage(what: &'static str) -> Failure {
    Failure::Io(damaged(what))
}

fn wakes(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
