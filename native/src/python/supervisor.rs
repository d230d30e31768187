//! The supervisor as Python has it.

use super::table::Table;
use crate::sys::atomic::Ordering;
use crate::tasks::protocol::load_state;
use crate::tasks::{supervisor, table};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A cell and its owner.
type Claim = (u32, u32);

/// Supervisor(table): the side that outlives workers.
#[pyclass(frozen, module = "garrison._core")]
pub struct Supervisor {
    inner: supervisor::Supervisor,
}

impl From<supervisor::Supervisor> for Supervisor {
    fn from(inner: supervisor::Supervisor) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl Supervisor {
    /// Enlists itself in the last slot: its heap lives and dies like a worker's.
    #[new]
    fn new(table: &Table) -> PyResult<Self> {
        Ok(Self { inner: supervisor::Supervisor::new(table.shared.clone())? })
    }

    #[getter]
    fn owner_id(&self) -> u32 {
        self.inner.owner_id()
    }

    /// Enter a new process in a slot, before it exists: its owner id. `number` is in its name.
    #[pyo3(signature = (slot, number=0))]
    fn enlist(&self, slot: usize, number: u32) -> PyResult<u32> {
        Ok(self.inner.enlist(slot, number)?)
    }

    fn set_pid(&self, slot: usize, pid: u32) {
        self.inner.set_pid(slot, pid);
    }

    /// The process in this slot is dead, and its tasks are dealt with.
    #[pyo3(signature = (slot, *, lost=true, exitcode=-libc::SIGKILL))]
    fn free_slot(&self, slot: usize, lost: bool, exitcode: i32) {
        self.inner.free_slot(slot, lost, exitcode);
    }

    /// How the worker in this slot has ended, at the end of the pool.
    fn note_exit(&self, slot: usize, exitcode: i32) {
        self.inner.note_exit(slot, exitcode);
    }

    /// The cells that this process owns.
    fn held_by(&self, owner_id: u32) -> PyResult<Vec<u32>> {
        Ok(self.inner.held_by(owner_id)?)
    }

    /// What a dead supervisor left behind: cells of dead workers, and requeued ones in no ring.
    fn stranded(&self) -> PyResult<(Vec<Claim>, Vec<u32>)> {
        Ok(self.inner.stranded()?)
    }

    /// A task as far as a decision needs it: function, kind, index, items, retries and deaths.
    fn task<'py>(&self, py: Python<'py>, number: u32) -> PyResult<Bound<'py, PyDict>> {
        let cell = self.inner.table().cell(number);
        let info = PyDict::new(py);
        info.set_item("function", cell.function.load(Ordering::Relaxed))?;
        info.set_item("kind", cell.kind.load(Ordering::Relaxed))?;
        info.set_item("index", table::item(cell))?;
        info.set_item("items", cell.items.load(Ordering::Relaxed))?;
        info.set_item("retries", cell.retries.load(Ordering::Relaxed))?;
        info.set_item("attempts", cell.attempts.load(Ordering::Relaxed))?;
        info.set_item("charged", cell.charged.load(Ordering::Relaxed))?;
        info.set_item("fatalities", cell.fatalities.load(Ordering::Relaxed))?;
        info.set_item("timeout", cell.timeout.load(Ordering::Relaxed))?;
        info.set_item("cancelled", load_state(&cell.state).cancelled)?;
        Ok(info)
    }

    /// CLAIMED by a dead worker → READY again; so many deaths are now charged to its present item.
    /// False if that task was cancelled: it is CLAIMED still.
    fn requeue(&self, number: u32, attempts: u32) -> PyResult<bool> {
        Ok(self.inner.requeue(number, attempts)?)
    }

    /// Put a cell into the ring of second attempts.
    fn enqueue_retry(&self, number: u32) -> PyResult<bool> {
        Ok(self.inner.enqueue_retry(number)?)
    }

    /// CLAIMED by a dead worker → LOST, with the reason.
    fn mark_lost(&self, py: Python<'_>, number: u32, reason: &[u8]) -> PyResult<()> {
        Ok(self.inner.mark_lost(py, number, reason)?)
    }

    /// Is this worker past its deadline in the very task it had then?
    fn is_late(&self, slot: usize, owner_id: u32) -> bool {
        self.inner.is_late(slot, owner_id)
    }

    /// How many running tasks were ever cancelled.
    #[getter]
    fn cancels(&self) -> u32 {
        self.inner.cancels()
    }

    /// Whether this worker is at a task that was cancelled: a number that is only this task's, and the
    /// nanoseconds that it may go on.
    fn cancelled(&self, slot: usize, owner_id: u32) -> Option<(u64, u64)> {
        self.inner.cancelled(slot, owner_id)
    }

    /// The worker in this slot was stopped: give its task so many nanoseconds more.
    fn extend_deadline(&self, slot: usize, nanoseconds: u64) {
        self.inner.extend_deadline(slot, nanoseconds);
    }

    /// (the earliest deadline of all workers or 0, the shortest timeout ever asked for or 0), in ns.
    fn deadlines(&self) -> (u64, u64) {
        self.inner.deadlines()
    }

    /// How many tasks were ever claimed: unchanged means that none has begun in between.
    fn claims(&self) -> u64 {
        self.inner.claims()
    }

    /// Say whether a task with a deadline must wake this process.
    fn set_dozing(&self, dozing: bool) {
        self.inner.set_dozing(dozing);
    }

    /// Workers that a signal has stopped.
    fn set_stopped(&self, count: u32) {
        self.inner.set_stopped(count);
    }

    /// No worker can live: the pool is broken.
    fn give_up(&self) {
        self.inner.give_up();
    }

    /// All work is done: this process leaves, and needs no successor.
    fn finish(&self) {
        self.inner.finish();
    }
}
