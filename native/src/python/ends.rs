//! Both ends of a queue in one process: what happens under its locks, and waiting beside them.
//!
//! Under a lock no code of the user runs, the GIL is kept, and nothing waits.

use super::finalizing::without_gil;
use super::item::{self, Head, Outgoing, PARCEL, PICKLE};
use super::lock::{Lock, Outcome};
use super::memory_error;
use super::parcel::{Address, Post, Received};
use super::waiting::{AnyBool, Deadline, SLICE};
use super::watch::Watch;
use crate::queue::file::{QueueFile, QueueShared, GROWTH};
use crate::queue::log::{Item, Position, GRANULE};
use crate::shm::arena::Arena;
use crate::sys::atomic::Ordering;
use crate::sys::futex;
use crate::sys::spin::Spin;
use crate::sys::wake_word::WakeWord;
use crate::testing::crash_points::crash_point;
use pyo3::prelude::*;
use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU8};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who holds a lock here holds it for instructions: so long it is waited for even by those who do
/// not wait for items or room. A dead holder is found within, at the second look if a newcomer is
/// just taking its place in the registry; what remains is a holder that is stopped.
const GRACE: Duration = Duration::from_millis(250);

/// A lock that is held: dropped, it is released.
struct Held<'a>(&'a Lock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// `block` and `timeout` as they were given, and the deadline from when it is first asked for.
pub struct Wait {
    block: bool,
    patience: OnceCell<Deadline>,
}

impl Wait {
    #[inline]
    pub fn of(
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let block = block.map_or(Ok(true), PyAnyMethods::is_truthy)?;
        let patience = OnceCell::new();
        if timeout.is_some() {
            let _ = patience.set(Deadline::of(AnyBool(block), timeout)?);
        }
        Ok(Self { block, patience })
    }

    pub fn endless() -> Self {
        Self { block: true, patience: OnceCell::new() }
    }

    pub fn none() -> Self {
        Self { block: false, patience: OnceCell::new() }
    }

    fn patience(&self) -> &Deadline {
        self.patience
            .get_or_init(|| if self.block { Deadline::endless() } else { Deadline::none() })
    }
}

/// One side's waiting: where it sleeps, and whether spinning has paid off here.
struct Side {
    lock: Lock,
    spin: Spin,
}

pub struct Ends {
    pub vault: Arc<QueueFile>,
    pub post: Post,
    put: Side,
    get: Side,
    pub maxsize: u32,
    /// What this process does no longer: `NO_PUT`, `NO_GET`, or nothing at all.
    closed: AtomicU8,
    /// The process that has put something with this object.
    putter: AtomicU32,
    /// Whether there is a watch, of this process or of one that it was forked from.
    watched: AtomicBool,
    watch: Mutex<Option<Watch>>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        // Its memory may be much: it is not kept for a handle that has arrived long ago.
        Arena::prune_exports();
    }
}

/// An item that was taken, and is to be decoded now that nothing is locked.
pub enum Arrived<'py> {
    Value(Bound<'py, PyAny>),
    Pickle(Bound<'py, PyAny>),
    Parcel(Received),
}

impl Ends {
    pub fn new(vault: QueueFile) -> Self {
        let side =
            |offset| Side { lock: Lock::new(&vault.spot, offset, false, false), spin: Spin::new() };
        let (put, get) = (side(QueueShared::PUT_LOCK), side(QueueShared::GET_LOCK));
        let maxsize = vault.shared().maxsize.load(Ordering::Relaxed);
        let vault = Arc::new(vault);
        let (closed, putter) = (AtomicU8::new(0), AtomicU32::new(0));
        let (watched, watch) = (AtomicBool::new(false), Mutex::default());
        Self { post: Post::default(), put, get, maxsize, closed, putter, watched, watch, vault }
    }

    pub fn shared(&self) -> &QueueShared {
        self.vault.shared()
    }

    pub const NO_PUT: u8 = 1;
    pub const NO_GET: u8 = 2;
    pub const CLOSED: u8 = 4;

    /// Whether one of these ends is closed in this process, or the whole queue.
    pub fn is_closed(&self, ends: u8) -> bool {
        self.closed.load(Ordering::Relaxed) & (ends | Self::CLOSED) != 0
    }

    /// Whether this process has put something before it closed the queue.
    pub fn is_used_up(&self) -> bool {
        let putter = Some(self.putter.load(Ordering::Relaxed));
        self.is_closed(0) && self.put.lock.registry().known_as() == putter
    }

    pub fn close(&self, ends: u8) {
        self.closed.fetch_or(ends, Ordering::Relaxed);
        if ends != Self::NO_PUT {
            drop(self.watch().take());
        }
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Option<Watch>> {
        // Held for moments, and with the GIL: by no other thread at a fork.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A descriptor that is readable while there is an item; or one that is always writable.
    pub fn descriptor(&self, putting: bool) -> std::io::Result<i32> {
        let mut watch = self.watch();
        let here = match watch.take() {
            Some(here) if here.is_here() => here,
            before => Watch::new(&self.vault, before)?,
        };
        let number = here.descriptor(putting);
        *watch = Some(here);
        self.watched.store(true, Ordering::Relaxed);
        Ok(number)
    }

    /// After an item was put or taken here.
    #[inline]
    fn changed(&self) {
        if self.watched.load(Ordering::Relaxed) {
            self.tell_watch();
        }
    }

    #[cold]
    fn tell_watch(&self) {
        if let Some(watch) = &*self.watch() {
            watch.refresh();
        }
    }

    #[inline]
    fn take<'a>(
        &self,
        py: Python<'_>,
        side: &'a Side,
        me: u32,
        wait: &Wait,
    ) -> PyResult<Option<Held<'a>>> {
        if side.lock.try_take(me) {
            return Ok(Some(Held(&side.lock)));
        }
        // Who inherits it has nothing to repair.
        match side.lock.wait(py, me, &wait.patience().at_least(GRACE), true)? {
            Outcome::Taken | Outcome::Inherited(_) => Ok(Some(Held(&side.lock))),
            Outcome::TooLate | Outcome::Orphaned(_) => Ok(None),
        }
    }

    /// Wait at a bell until it is so. False if it took too long.
    #[cold]
    pub fn wait_until(
        &self,
        py: Python<'_>,
        bell: &WakeWord,
        spin: &Spin,
        wait: &Wait,
        done: impl Fn() -> bool + Sync,
    ) -> PyResult<bool> {
        let patience = wait.patience();
        if patience.is_over() {
            return Ok(done());
        }
        let started = Instant::now();
        if spin.pays() {
            let left = patience.left();
            if without_gil(py, || spin.until(left, &done)) {
                return Ok(true);
            }
        }
        loop {
            let count = bell.prepare();
            if done() {
                break;
            }
            let limit = patience.left().min(SLICE);
            without_gil(py, || futex::wait(&bell.count, count, limit));
            crash_point("queue.woken");
            py.check_signals()?;
            if done() {
                break;
            }
            if patience.is_over() {
                return Ok(false);
            }
            self.look_for_orphans(py)?;
        }
        spin.learn(started.elapsed());
        Ok(true)
    }

    /// Who has given up putting here waits for others to do it: for ever, if they are gone.
    fn look_for_orphans(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed(Self::NO_PUT) {
            py.import("garrison.sync._pipe_ends")?.call_method0("check_parent")?;
        }
        Ok(())
    }

    // Putting.

    pub fn has_room(&self, count: u32) -> bool {
        self.maxsize == 0 || self.vault.ring().len() <= self.maxsize - count
    }

    /// Put all of them, or none: true, or false if there was no room in time.
    pub fn put(
        &self,
        py: Python<'_>,
        items: &mut [Outgoing<'_>],
        wait: &Wait,
        closed: &dyn Fn() -> PyErr,
    ) -> PyResult<bool> {
        let me = self.put.lock.me()?;
        let count = items.len() as u32;
        let shared = self.shared();
        loop {
            let Some(held) = self.take(py, &self.put, me, wait)? else { return Ok(false) };
            crash_point("queue.put_locked");
            let ring = self.vault.ring();
            let tail = ring.tail();
            let full = self.maxsize != 0
                && tail.number.wrapping_sub(ring.head().number) > self.maxsize - count;
            if full {
                drop(held);
                if !self.wait_for_room(py, count, wait)? {
                    return Ok(false);
                }
                if self.is_closed(Self::NO_PUT) {
                    return Err(closed());
                }
                continue;
            }
            let end = match self.write(tail, items) {
                Ok(end) => end,
                Err(error) => {
                    drop(held);
                    self.grow_or_raise(py, &error)?;
                    continue;
                }
            };
            crash_point("queue.written");
            items.iter().filter_map(|item| item.parcel.as_ref()).for_each(|parcel| {
                parcel.is_being_put(&self.vault);
            });
            ring.commit_put(end);
            self.putter.store(me, Ordering::Relaxed);
            crash_point("queue.put_committed");
            drop(held);
            crash_point("queue.put_left");
            let numbers = (0..).map(|nth| tail.number.wrapping_add(nth));
            for (item, number) in items.iter_mut().zip(numbers) {
                if let Some(parcel) = &mut item.parcel {
                    parcel.was_put(number);
                }
            }
            let watched = shared.many.load(Ordering::Relaxed) & QueueShared::WATCHED != 0;
            let count = if watched { i32::MAX } else { wakes(count) };
            shared.getters.wake(false, count, |count| futex::wake(&shared.getters.count, count));
            crash_point("queue.put_woken");
            self.changed();
            return Ok(true);
        }
    }

    #[cold]
    fn wait_for_room(&self, py: Python<'_>, count: u32, wait: &Wait) -> PyResult<bool> {
        let shared = self.shared();
        if count > 1 {
            // Who takes one item must not wake one of these only, who may need more room.
            shared.many.fetch_or(QueueShared::SEVERAL, Ordering::Relaxed);
        }
        let room = || self.has_room(count) || self.is_closed(Self::NO_PUT);
        self.wait_until(py, &shared.putters, &self.put.spin, wait, room)
    }

    #[inline]
    fn write(&self, tail: Position, items: &[Outgoing<'_>]) -> std::io::Result<Position> {
        let (ring, mut at) = (self.vault.ring(), tail.at);
        self.vault.ensure_entries()?;
        for item in items {
            let granules = item.granules();
            at = ring.room(at, granules)?;
            let to = self.vault.at(at, granules as usize * GRANULE)?;
            // SAFETY: `room` has found memory that only the owner of the put lock may write to.
            unsafe { item.write(to) };
            at += granules;
        }
        Ok(Position { number: tail.number.wrapping_add(items.len() as u32), at })
    }

    /// More memory than was asked for last: ask again, or say that there is none.
    #[cold]
    fn grow_or_raise(&self, py: Python<'_>, error: &std::io::Error) -> PyResult<()> {
        if error.kind() != std::io::ErrorKind::WouldBlock {
            return Err(memory_error(error, "an item of a queue; have items taken faster"));
        }
        py.import("garrison.sync._queue_pickling")?.call_method1("check_available", (64 << 20,))?;
        let count = self.shared().ring.count.load(Ordering::Relaxed);
        self.vault.permitted.store(count.saturating_add(GROWTH), Ordering::Relaxed);
        Ok(())
    }

    // Getting.

    /// Take up to so many items. Nothing is waited for but the lock.
    #[inline]
    fn take_out<'py>(
        &self,
        py: Python<'py>,
        me: u32,
        most: u32,
        mut each: impl FnMut(Arrived<'py>),
    ) -> PyResult<u32> {
        let ring = self.vault.ring();
        self.vault.ensure_entries().map_err(|error| memory_error(&error, "a look into a queue"))?;
        let (mut head, tail) = (ring.head(), ring.tail());
        let mut committed = head;
        let mut taken = 0;
        while taken < most && head.number != tail.number {
            match ring.next_item(head, tail) {
                Item::Here(at) => {
                    let (arrived, granules) = match self.copy_out(py, at, me) {
                        Ok(copied) => copied,
                        Err(_) if taken > 0 => break,
                        Err(error) => return Err(error),
                    };
                    each(arrived);
                    head = Position { number: head.number.wrapping_add(1), at: at + granules };
                    taken += 1;
                }
                Item::Beyond => {
                    if head != committed {
                        ring.commit_get(head);
                        committed = head;
                    }
                    head.at = ring.settle(head, tail);
                }
            }
        }
        if taken > 0 {
            crash_point("queue.copied");
            ring.commit_get(head);
            crash_point("queue.got_committed");
        }
        Ok(taken)
    }

    #[inline]
    fn copy_out<'py>(&self, py: Python<'py>, at: u32, me: u32) -> PyResult<(Arrived<'py>, u32)> {
        let raised = |error| memory_error(&error, "a look into a queue");
        let from = self.vault.at(at, GRANULE).map_err(raised)?;
        // SAFETY: an item begins here, and the owner of the get lock alone may move past it.
        let head = unsafe { Head::read(from) };
        let granules = item::granules(head.len);
        self.vault.at(at, granules as usize * GRANULE).map_err(raised)?;
        // SAFETY: as above, and in range (checked).
        let bytes = unsafe { item::body(from, head.len) };
        let arrived = match head.kind {
            PARCEL => {
                // SAFETY: that is what a parcel's bytes are.
                let address = unsafe { Address::from_bytes(bytes) };
                Arrived::Parcel(self.post.sign(&self.vault, address, me).map_err(raised)?)
            }
            PICKLE => Arrived::Pickle(item::rebuild(py, PICKLE, bytes)?),
            kind => Arrived::Value(item::rebuild(py, kind, bytes)?),
        };
        Ok((arrived, granules))
    }

    /// Take up to so many items, at least one; 0 if there was none in time.
    pub fn get<'py>(
        &self,
        py: Python<'py>,
        most: u32,
        wait: &Wait,
        closed: &dyn Fn() -> PyErr,
        mut each: impl FnMut(Arrived<'py>),
    ) -> PyResult<u32> {
        let me = self.get.lock.me()?;
        loop {
            if self.vault.ring().is_empty() && !self.wait_for_item(py, wait)? {
                return Ok(0);
            }
            if self.is_closed(Self::NO_GET) {
                return Err(closed());
            }
            let Some(held) = self.take(py, &self.get, me, wait)? else { return Ok(0) };
            crash_point("queue.get_locked");
            let taken = self.take_out(py, me, most, &mut each)?;
            drop(held);
            if taken == 0 {
                continue;
            }
            crash_point("queue.got_left");
            let shared = self.shared();
            let many = shared.many.load(Ordering::Relaxed);
            let watched = many & QueueShared::WATCHED != 0 && self.vault.ring().is_empty();
            if self.maxsize != 0 || watched {
                let count = if many != 0 { i32::MAX } else { wakes(taken) };
                shared
                    .putters
                    .wake(false, count, |count| futex::wake(&shared.putters.count, count));
                crash_point("queue.got_woken");
            }
            self.changed();
            return Ok(taken);
        }
    }

    #[cold]
    pub fn wait_for_item(&self, py: Python<'_>, wait: &Wait) -> PyResult<bool> {
        let some = || !self.vault.ring().is_empty() || self.is_closed(Self::NO_GET);
        self.wait_until(py, &self.shared().getters, &self.get.spin, wait, some)
    }

    // Work that is done.

    /// How many items were put and not yet reported as done.
    pub fn unfinished(&self) -> u32 {
        let done = self.shared().done.load(Ordering::Acquire);
        self.vault.ring().tail().number.wrapping_sub(done)
    }

    /// Report one; false if there is none to report.
    pub fn task_done(&self) -> bool {
        let shared = self.shared();
        let mut done = shared.done.load(Ordering::Acquire);
        loop {
            if self.vault.ring().tail().number == done {
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
    pub fn join(&self, py: Python<'_>) -> PyResult<()> {
        let done = || self.unfinished() == 0;
        while !done() {
            let bell = &self.shared().joiners;
            self.wait_until(py, bell, &self.get.spin, &Wait::endless(), done)?;
        }
        Ok(())
    }
}

fn wakes(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
