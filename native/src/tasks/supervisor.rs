//! The supervisor: writes down which worker lives where, and what a dead one's tasks have come to.

use super::protocol::{finish, load_state, CLAIMED, LOST, MAX_OWNER_ID, RETRY};
use super::table::{self, Table, INLINE, RESULT_INLINE};
use crate::host::{Failure, Host};
use crate::shm::heap::{self, Head, Heap};
use crate::shm::payload;
use crate::sys::atomic::Ordering;
use crate::sys::clock::now;
use crate::sys::damage::damaged;
use crate::testing::crash_points::crash_point;
use std::sync::{Arc, Mutex};

/// A cell and the owner that has signed for it.
type Claim = (u32, u32);

/// The pickled arguments of a task, copied, if they are small enough for a message.
pub fn args(table: &Table, number: u32, region: u32) -> Option<Vec<u8>> {
    const LARGEST: usize = 1 << 20;
    let cell = table.cell(number);
    let len = cell.args_len.load(Ordering::Relaxed) as usize;
    let at = cell.args_at.load(Ordering::Relaxed) as usize;
    let buffers = cell.args_buffers.load(Ordering::Relaxed) as usize;
    if at == 0 {
        return Some(cell.args[..len.min(INLINE)].to_vec());
    }
    if len > LARGEST || buffers > 0 {
        return None;
    }
    let region = table.segment.others_region(region).ok()?;
    let head = Head::of(&region, at - 1).ok()?;
    let bytes = heap::bytes(&region, at - 1, &head).ok()?;
    // The task is over, so nothing writes there.
    bytes.bytes().get(..len).map(<[u8]>::to_vec)
}

/// The side that outlives workers.
pub struct Supervisor {
    table: Arc<Table>,
    heap: Mutex<Heap>,
    owner_id: u32,
}

impl Supervisor {
    /// Enlists itself in the last slot: its heap lives and dies like a worker's.
    pub fn new(table: Arc<Table>) -> Result<Self, Failure> {
        let own_slot = table.slots - 1;
        let owner_id = enlist(&table, own_slot)?;
        // SAFETY: cannot fail.
        let pid = unsafe { libc::getpid() };
        table.slot(own_slot).pid.store(pid as u32, Ordering::Release);
        let region = table.segment.own_region(owner_id)?;
        table.warm()?;
        crash_point("supervisor.started");
        Ok(Self { table, heap: Mutex::new(Heap::new(region)), owner_id })
    }

    pub fn owner_id(&self) -> u32 {
        self.owner_id
    }

    /// A new incarnation for a slot, before its process exists: `number` is in its name.
    pub fn enlist(&self, slot: usize, number: u32) -> Result<u32, Failure> {
        let owner_id = enlist(&self.table, slot)?;
        self.table.slot(slot).number.store(number, Ordering::Release);
        Ok(owner_id)
    }

    pub fn set_pid(&self, slot: usize, pid: u32) {
        self.table.slot(slot).pid.store(pid, Ordering::Release);
    }

    /// The incarnation in this slot is dead. After its tasks were answered for.
    pub fn free_slot(&self, slot: usize, lost: bool, exitcode: i32) {
        let place = self.table.slot(slot);
        let header = self.table.header();
        let owner_id = place.incarnation.load(Ordering::Relaxed);
        table::note_exit(header, owner_id, exitcode);
        place.over.store(1, Ordering::Release);
        let _ =
            header.idle.spinner.compare_exchange(owner_id, 0, Ordering::SeqCst, Ordering::SeqCst);
        header.losses.fetch_add(u32::from(lost), Ordering::Relaxed);
        header.deaths.fetch_add(1, Ordering::AcqRel);
        if self.table.has_work() {
            // Its wake-up call may have died with it.
            self.table.wake_all_workers();
        }
    }

    /// How the worker in this slot has ended, at the end of the pool.
    pub fn note_exit(&self, slot: usize, exitcode: i32) {
        let owner_id = self.table.slot(slot).incarnation.load(Ordering::Relaxed);
        table::note_exit(self.table.header(), owner_id, exitcode);
    }

    /// The cells that an incarnation has signed for.
    pub fn held_by(&self, owner_id: u32) -> Result<Vec<u32>, Failure> {
        Ok(self.table.held_by(owner_id)?.into_iter().map(|(cell, _)| cell).collect())
    }

    /// What a dead supervisor left behind: cells of dead workers, and requeued ones in no ring.
    pub fn stranded(&self) -> Result<(Vec<Claim>, Vec<u32>), Failure> {
        let (held, forgotten) = self.table.stranded()?;
        Ok((held.into_iter().map(|(cell, state)| (cell, state.owner_id)).collect(), forgotten))
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// CLAIMED by a dead worker → READY again; so many deaths are now charged to its present item.
    /// False if that task was cancelled: it is CLAIMED still.
    pub fn requeue(&self, number: u32, attempts: u32) -> Result<bool, Failure> {
        let cell = self.table.cell(number);
        if load_state(&cell.state).cancelled {
            return Ok(false);
        }
        cell.charged.store(table::item(cell), Ordering::Relaxed);
        cell.attempts.store(attempts, Ordering::Relaxed);
        cell.fatalities.fetch_add(1, Ordering::Relaxed);
        table::restart_items(cell);
        cell.journal_at.store(0, Ordering::Relaxed);
        cell.journal_items.store(0, Ordering::Relaxed);
        cell.duration.store(0, Ordering::Relaxed);
        // Before a worker can take it: its result must not come before the count.
        self.table.header().retried.fetch_add(1, Ordering::Relaxed);
        let entered = self.enqueue_retry(number);
        if !matches!(entered, Ok(true)) {
            self.table.header().retried.fetch_sub(1, Ordering::Relaxed);
        }
        entered
    }

    /// Put a cell into the ring of second attempts.
    pub fn enqueue_retry(&self, number: u32) -> Result<bool, Failure> {
        let published = self.table.publish(RETRY, number);
        crash_point("requeue.entered");
        published.map_err(Failure::of("a retry"))
    }

    /// CLAIMED by a dead worker → LOST, with the reason.
    pub fn mark_lost<H: Host>(&self, host: H, number: u32, reason: &[u8]) -> Result<(), Failure> {
        let cell = self.table.cell(number);
        let state = load_state(&cell.state);
        if state.tag != CLAIMED {
            return Err(Failure::WrongState("only a claimed task can be lost"));
        }
        if reason.len() <= RESULT_INLINE {
            // SAFETY: the worker that had signed for the cell is dead; this process is its heir.
            unsafe {
                let to = (&raw mut (*self.table.cell_ptr(number)).result).cast::<u8>();
                to.copy_from_nonoverlapping(reason.as_ptr(), reason.len());
            }
            cell.result_at.store(0, Ordering::Relaxed);
        } else {
            self.heap.lock().expect("never poisoned").sweep(|_| false);
            let written = payload::write_plain(host, &self.heap, reason)?;
            self.heap.lock().expect("never poisoned").lend(written.place);
            cell.result_at.store(written.place as u64 + 1, Ordering::Relaxed);
            cell.result_region.store(self.owner_id, Ordering::Relaxed);
            cell.result_buffers.store(0, Ordering::Relaxed);
        }
        cell.result_len.store(reason.len() as u64, Ordering::Relaxed);
        cell.seal_result();
        crash_point("lost.written");
        let ended_at = now();
        let since = cell.duration.load(Ordering::Relaxed);
        // 0: its worker died between the claim and its clock.
        let lasted = if since == 0 { 0 } else { ended_at.saturating_sub(since) };
        cell.duration.store(lasted, Ordering::Relaxed);
        cell.ended_at.store(ended_at, Ordering::Relaxed);
        let waiter = finish(&cell.state, state, LOST);
        crash_point("lost.published");
        self.table.wake_parent(number, waiter);
        self.table.note_failure();
        Ok(())
    }

    /// Is this worker past its deadline in the very task it had then?
    pub fn is_late(&self, slot: usize, owner_id: u32) -> bool {
        let place = self.table.slot(slot);
        let deadline = place.deadline.load(Ordering::Acquire);
        let Some(cell) = place.cell.load(Ordering::Acquire).checked_sub(1) else { return false };
        if self.table.ensure_cell(cell).is_err() {
            return false;
        }
        let cell = self.table.cell(cell);
        let state = load_state(&cell.state);
        let holds = state.tag == CLAIMED && state.owner_id == owner_id;
        let is_timed = cell.timeout.load(Ordering::Relaxed) != 0;
        holds && is_timed && deadline != 0 && deadline <= now()
    }

    /// How many running tasks were ever cancelled.
    pub fn cancels(&self) -> u32 {
        self.table.header().cancels.load(Ordering::SeqCst)
    }

    /// Whether this worker is at a task that was cancelled: a number that is only this task's, and the
    /// nanoseconds that it may go on.
    pub fn cancelled(&self, slot: usize, owner_id: u32) -> Option<(u64, u64)> {
        let place = self.table.slot(slot);
        let cell = place.cancelled.load(Ordering::Relaxed).checked_sub(1)?;
        self.table.ensure_cell(cell).ok()?;
        let state = load_state(&self.table.cell(cell).state);
        let task = u64::from(state.ticket) << 32 | u64::from(cell) << 1 | u64::from(state.ring);
        let grace = place.grace.load(Ordering::Relaxed);
        state.is_cancelled_at(owner_id).then_some((task, grace))
    }

    /// The worker in this slot was stopped: give its task so many nanoseconds more.
    pub fn extend_deadline(&self, slot: usize, nanoseconds: u64) {
        let deadline = &self.table.slot(slot).deadline;
        let seen = deadline.load(Ordering::Acquire);
        if seen != 0 {
            let later = seen.saturating_add(nanoseconds);
            // If the worker has gone on meanwhile, it has written a new one.
            let _ = deadline.compare_exchange(seen, later, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// (the earliest deadline of all workers or 0, the shortest timeout ever asked for or 0), in ns.
    pub fn deadlines(&self) -> (u64, u64) {
        let all = (0..self.table.slots)
            .map(|slot| self.table.slot(slot).deadline.load(Ordering::Acquire));
        let earliest = all.filter(|&deadline| deadline != 0).min().unwrap_or(0);
        (earliest, self.table.header().shortest_timeout.load(Ordering::SeqCst))
    }

    /// How many tasks were ever claimed: unchanged means that none has begun in between.
    pub fn claims(&self) -> u64 {
        let rings = &self.table.header().rings;
        rings.iter().map(|ring| ring.head.load(Ordering::SeqCst)).sum()
    }

    /// Say whether a task with a deadline must wake this process.
    pub fn set_dozing(&self, dozing: bool) {
        self.table.header().dozing.store(u32::from(dozing), Ordering::SeqCst);
    }

    /// Workers that a signal has stopped.
    pub fn set_stopped(&self, count: u32) {
        self.table.header().stopped.store(count, Ordering::SeqCst);
        self.table.wake_all_workers();
    }

    /// No worker can live: the pool is broken.
    pub fn give_up(&self) {
        self.table.header().broken.store(table::BROKEN, Ordering::SeqCst);
    }

    /// All work is done: this process leaves, and needs no successor.
    pub fn finish(&self) {
        self.table.header().broken.store(table::FINISHED, Ordering::SeqCst);
    }
}

fn enlist(table: &Table, number: usize) -> Result<u32, Failure> {
    let header = table.header();
    let owner_id = header.incarnations.load(Ordering::Acquire).max(1);
    if owner_id >= MAX_OWNER_ID {
        return Err(Failure::WrongState(
            "this pool has replaced 16 million workers; make a new one",
        ));
    }
    let known = (0..table.slots).map(|slot| table.slot(slot).incarnation.load(Ordering::Relaxed));
    if known.max().is_some_and(|last| last >= owner_id) {
        return Err(damaged(format!("worker {owner_id} is not the last")).into());
    }
    let slot = table.slot(number);
    slot.pid.store(0, Ordering::Relaxed);
    slot.retiring.store(0, Ordering::Relaxed);
    slot.cell.store(0, Ordering::Relaxed);
    slot.initialized.store(0, Ordering::Relaxed);
    slot.tasks.store(0, Ordering::Relaxed);
    slot.deadline.store(0, Ordering::Relaxed);
    slot.started.store(0, Ordering::Relaxed);
    slot.children.iter().for_each(|child| child.store(0, Ordering::Relaxed));
    slot.over.store(0, Ordering::Relaxed);
    slot.incarnation.store(owner_id, Ordering::Release);
    // After the slot: a process that counts incarnations must find each of them alive or over.
    header.incarnations.store(owner_id + 1, Ordering::Release);
    Ok(owner_id)
}
