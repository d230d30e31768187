//! The right to one task's result.

use super::item_results::{self, Recovered};
use super::moved::Holder;
use super::parent::ParentHandle;
use super::protocol::{
    announce_waiter, load_state, mark_cancelled, withdraw, State, CLAIMED, DONE, LOST, READY,
};
use super::supervisor;
use super::table::{self, is_failure, take_back, CellShared, OUTCOME_LOST, PARENT_REGION};
use crate::host::{Failure, Host};
use crate::shm::payload::{BlockRef, Found};
use crate::sys::atomic::{fence, Ordering};
use crate::sys::damage::damaged;
use crate::sys::futex::{self, LowHalf, Woken};
use crate::testing::crash_points::crash_point;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What lasts so long, and is found so often, is no moment in the life of a task but damage.
const LONGEST_MOMENT: Duration = Duration::from_secs(2);
/// The same while the supervisor has something to do, or there is none: it may be killed between two
/// steps, and its successor may have to wait for room for another process.
const LONGEST_REPAIR: Duration = Duration::from_secs(20);
const LOOKS: u32 = 10;

const NOTHING: Failure = Failure::WrongState("there is no result to take");

/// The right to one task's result.
pub struct TaskHandle {
    pub(super) parent: Arc<ParentHandle>,
    /// Its cell, unless the holder has the result.
    pub(super) cell: u32,
    pub(super) holder: Arc<Holder>,
    pub(super) size: u64,
    pub(super) items: u32,
    pub(super) taken: AtomicBool,
    /// Nobody wants the result: see [`TaskHandle::cancel`].
    pub(super) cancelled: AtomicBool,
    /// Since when, and in how many looks, it has seemed that the task will never end.
    pub(super) suspicion: Mutex<Option<(Instant, u32)>>,
}

/// A result that was taken.
pub struct Taken<T> {
    pub outcome: u32,
    pub result: T,
    pub duration: u64,
    pub owner_id: u32,
}

/// What was asked for: for messages.
pub struct Call {
    pub function: u32,
    pub kind: u32,
    pub index: u32,
    /// The pickled arguments, if they are small enough for a message.
    pub payload: Option<Vec<u8>>,
}

impl TaskHandle {
    fn cell(&self) -> &CellShared {
        self.parent.table().cell(self.cell)
    }

    /// Is the cell still this handle's?
    fn has_cell(&self) -> bool {
        !self.taken.load(Ordering::Relaxed) && !self.holder.has()
    }

    /// Is the result there (or the loss known)?
    pub fn ended(&self) -> bool {
        // A cell that was given away meanwhile was DONE: whatever it holds now, that is true.
        !self.has_cell() || load_state(&self.cell().state).ended() || self.holder.has()
    }

    /// When the task ended, in nanoseconds; 0 while it has not.
    pub fn ended_at(&self) -> u64 {
        if let Some(ended_at) = self.holder.ended_at() {
            return ended_at;
        }
        let cell = self.cell();
        if self.has_cell() && load_state(&cell.state).ended() {
            cell.ended_at.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// Whether it has ended, and not well.
    pub fn has_failed(&self) -> bool {
        if let Some(outcome) = self.holder.outcome() {
            return is_failure(outcome);
        }
        let cell = self.cell();
        let tag = load_state(&cell.state).tag;
        let has_failed = || is_failure(cell.outcome.load(Ordering::Relaxed));
        self.has_cell() && (tag == LOST || (tag == DONE && has_failed()))
    }

    /// Wait at most `limit` seconds; true if the task has ended. Signal handlers run meanwhile. With
    /// `failures`, the number of failed tasks that the caller knows of, another one ends the wait too.
    pub fn wait<H: Host>(
        &self,
        host: H,
        limit: f64,
        failures: Option<u32>,
    ) -> Result<bool, H::Error> {
        if self.ended() {
            return Ok(true);
        }
        self.parent.check_process()?;
        let state = &self.cell().state;
        let start = Instant::now();
        let header = self.parent.table().header();
        let is_new = |known| header.failures.load(Ordering::SeqCst) != known;
        let done = || self.ended() || failures.is_some_and(is_new);
        if failures.is_some() {
            header.awaited.store(self.cell + 1, Ordering::SeqCst);
        }
        let over = self.parent.sleep(host, limit, &done, &|left| match announce_waiter(state) {
            Some(word) if !done() => futex::wait(&LowHalf(state), word as u32, left),
            _ => Woken::Changed,
        });
        if failures.is_some() {
            header.awaited.store(0, Ordering::SeqCst);
        }
        self.parent.learn(start.elapsed());
        if !over? {
            self.check()?;
        }
        Ok(self.ended())
    }

    /// After a wait in vain: fail if the task will never end, since a word in shared memory is damaged.
    pub fn check(&self) -> Result<(), Failure> {
        self.parent.table().check()?;
        let table = self.parent.table();
        let was_idle = table.is_supervisor_idle();
        let found = if self.has_cell() { table.obstacle(self.cell) } else { None };
        let idle = was_idle && table.is_supervisor_idle();
        let longest = if idle { LONGEST_MOMENT } else { LONGEST_REPAIR };
        let mut suspicion = self.suspicion.lock().expect("never poisoned");
        let (first, looks) = match (found, suspicion.take()) {
            (None, _) => return Ok(()),
            (Some(_), Some((first, looks))) => (first, looks + 1),
            (Some(_), None) => (Instant::now(), 1),
        };
        if looks >= LOOKS && first.elapsed() >= longest {
            return Err(damaged(found.unwrap_or_default()).into());
        }
        *suspicion = Some((first, looks));
        Ok(())
    }

    /// The result, once, as `read` makes it of the outcome and the payload; the cell is free after it.
    pub fn take<T, E: From<Failure>>(
        &self,
        read: impl FnOnce(u32, Found<'_>) -> Result<T, E>,
    ) -> Result<Taken<T>, E> {
        // A forked child may look, but must not free its parent's cell.
        self.parent.check_process()?;
        if self.holder.has() {
            let moved = self.holder.take().ok_or(NOTHING)?;
            self.taken.store(true, Ordering::Relaxed);
            let result = read(moved.outcome, moved.payload())?;
            let (outcome, duration, owner_id) = (moved.outcome, moved.duration, moved.owner_id);
            return Ok(Taken { outcome, result, duration, owner_id });
        }
        let cell = self.cell();
        let state = load_state(&cell.state);
        if !state.ended() || self.taken.load(Ordering::Relaxed) {
            return Err(NOTHING.into());
        }
        let told = cell.outcome.load(Ordering::Relaxed);
        let outcome = if state.tag == LOST { OUTCOME_LOST } else { told };
        let duration = cell.duration.load(Ordering::Relaxed);
        let result = read(outcome, self.found(cell)?)?;
        self.taken.store(true, Ordering::Relaxed);
        self.parent.free(self.cell, state);
        Ok(Taken { outcome, result, duration, owner_id: state.owner_id })
    }

    /// Where the result of a task that has ended lies.
    fn found<'a>(&self, cell: &'a CellShared) -> Result<Found<'a>, Failure> {
        cell.check_result()?;
        let len = cell.result_len.load(Ordering::Relaxed) as usize;
        let at = cell.result_at.load(Ordering::Relaxed);
        if at == 0 {
            // The acquire in load_state() has made the worker's bytes visible; it writes no more.
            return Ok(Found::Inline(cell.inline_result()?));
        }
        // Without address space for it nothing is done, and it can be taken later.
        let region = self.parent.region_of(cell.result_region.load(Ordering::Relaxed))?;
        let block = BlockRef::new(&region, at as usize - 1, 0)
            .map_err(|error| Failure::of(format!("a result of {len} bytes"))(error))?;
        Ok(Found::InBlock { block, len, buffers: cell.result_buffers.load(Ordering::Relaxed) })
    }

    /// Bytes of the task's arguments.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of an ended task's result without its buffers; 0 if they lie in the cell, or left it.
    pub fn result_size(&self) -> u64 {
        let cell = self.cell();
        let in_block = self.has_cell() && cell.result_at.load(Ordering::Relaxed) != 0;
        if in_block {
            cell.result_len.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// Has the worker died with it?
    pub fn is_lost(&self) -> bool {
        self.has_cell() && load_state(&self.cell().state).tag == LOST
    }

    /// Has a worker begun it, and not ended it?
    pub fn is_running(&self) -> bool {
        self.has_cell() && load_state(&self.cell().state).tag == CLAIMED
    }

    /// What was asked for. Before the result is taken.
    pub fn call(&self) -> Call {
        let cell = self.cell();
        Call {
            function: cell.function.load(Ordering::Relaxed),
            kind: cell.kind.load(Ordering::Relaxed),
            index: table::item(cell),
            payload: supervisor::args(self.parent.table(), self.cell, PARENT_REGION),
        }
    }

    /// Whether a worker has begun with the first item of a shared cell, whose task is over. It is
    /// taken for true once the result has left the cell, which is when cells run short.
    pub fn has_begun(&self) -> bool {
        !self.has_cell() || item_results::has_begun(self.cell())
    }

    /// Results of a shared cell's first items that are complete, whether the worker is still at
    /// work or has died, as `read` reads them. Nothing any more once the task is done.
    pub fn recover<T: Default, E: From<Failure>>(
        &self,
        read: impl FnOnce(Option<&Recovered>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.parent.check_process()?;
        let cell = self.cell();
        let before = load_state(&cell.state);
        if !self.has_cell() || !item_results::has_begun(cell) {
            return Ok(T::default());
        }
        let region = self.parent.region_of(cell.journal_region.load(Ordering::Acquire))?;
        let found = match item_results::recover(&region, cell) {
            Ok(found) => read(found.as_ref()),
            Err(error) => Err(error.into()),
        };
        fence(Ordering::Acquire);
        let after = load_state(&cell.state);
        let same = State { waiter: false, ..before } == State { waiter: false, ..after };
        if !same || after.tag == DONE {
            return Ok(T::default());
        }
        found
    }

    /// Take the items back that the worker has not begun: the number of those that stay its own.
    pub fn take_back(&self) -> Result<u32, Failure> {
        self.parent.check_process()?;
        Ok(if self.has_cell() { take_back(self.cell()) } else { self.items })
    }

    /// Take a task back that no worker has claimed. False if it is too late for that.
    pub fn withdraw(&self) -> bool {
        let cell = self.cell();
        let is_ours = self.parent.check_process().is_ok() && self.has_cell();
        if !is_ours || !withdraw(&cell.state) {
            return false;
        }
        self.taken.store(true, Ordering::Relaxed);
        futex::wake(&LowHalf(&cell.state), i32::MAX);
        self.parent.free(self.cell, load_state(&cell.state));
        true
    }
}

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// It has ended: there is a result, or was.
    TooLate,
    /// No worker had claimed it, and none will.
    Withdrawn,
    /// A worker is at it: the supervisor is to interrupt that.
    Running,
}

impl TaskHandle {
    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Give the result up, whether a worker has begun the task or not. For this handle the task has
    /// ended then. If it is at work, it may go on for `grace` nanoseconds.
    pub fn cancel(&self, grace: u64) -> Cancel {
        loop {
            if self.withdraw() {
                self.cancelled.store(true, Ordering::Relaxed);
                return Cancel::Withdrawn;
            }
            if self.parent.check_process().is_err() || !self.has_cell() {
                return Cancel::TooLate;
            }
            let seen = load_state(&self.cell().state);
            if seen.ended() {
                return Cancel::TooLate;
            }
            if seen.tag == CLAIMED && self.mark(seen, grace) {
                return Cancel::Running;
            }
        }
    }

    fn mark(&self, seen: State, grace: u64) -> bool {
        // Locked: the worker's slot names one task, and another thread may cancel the one after this.
        let mut parent = self.parent.state();
        if !self.parent.mark(self.cell, seen, grace) {
            return false;
        }
        // The rest is as if the handle were dropped: the cell is free when the worker is done.
        self.taken.store(true, Ordering::Relaxed);
        self.cancelled.store(true, Ordering::Relaxed);
        parent.drop_handle(self.cell);
        true
    }
}

impl ParentHandle {
    /// Cancel the task that this thread has submitted last, whose handle an interrupt may have lost:
    /// Python runs handlers before it stores what a function of the core has returned.
    pub fn cancel_latest(&self, grace: u64) -> Cancel {
        let Some((number, ticket)) = self.latest() else { return Cancel::TooLate };
        let mut parent = self.state();
        let state = &self.table().cell(number).state;
        loop {
            let seen = load_state(state);
            let is_running = seen.tag == CLAIMED && !seen.cancelled;
            if seen.ticket != ticket || !(seen.tag == READY || is_running) {
                return Cancel::TooLate;
            }
            if seen.tag == READY && withdraw(state) {
                parent.let_go(number);
                self.free_cell(&mut parent, number, load_state(state));
                return Cancel::Withdrawn;
            }
            if is_running && self.mark(number, seen, grace) {
                parent.let_go(number);
                parent.dropped.push_back(number);
                return Cancel::Running;
            }
        }
    }

    /// Mark a task that is claimed; false if it is not in this state any more. The caller has the lock.
    fn mark(&self, number: u32, seen: State, grace: u64) -> bool {
        let (table, cell) = (self.table(), self.table().cell(number));
        // Without a slot the worker is dead, and the supervisor about to answer for the task.
        if let Some(slot) = table.slot_of(seen.owner_id).map(|slot| table.slot(slot)) {
            slot.grace.store(grace, Ordering::Relaxed);
            slot.cancelled.store(number + 1, Ordering::Relaxed);
        }
        if !mark_cancelled(&cell.state, seen) {
            return false;
        }
        crash_point("cell.cancelled");
        let _ = take_back(cell);
        table.header().cancels.fetch_add(1, Ordering::SeqCst);
        futex::wake(&LowHalf(&cell.state), i32::MAX);
        true
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if self.parent.check_process().is_ok() && self.has_cell() {
            self.parent.drop_handle(self.cell);
        }
    }
}
