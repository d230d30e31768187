//! `Condition`: a lock, and seats for waiters, which let go of it until they are notified.

use super::convert::deadline_of_timeout;
use super::lock::PyLock;
use super::shared_block::PySharedBlock;
use crate::sync::condition::{Condition, TakenSlot};
use crate::sys::deadline::Deadline;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard};

/// How many to notify: any number, as in the standard library, where a loop counts up to it.
pub struct Count(usize);

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        // Beyond what a float can tell there are no waiters either.
        object.extract::<f64>().map(|number| Self(number.ceil().max(0.0) as usize))
    }
}

/// A place among those who wait, of which any thread of this process may look after.
#[pyclass(frozen, name = "Seat", module = "garrison._core")]
pub struct Seat {
    taken: Mutex<TakenSlot>,
}

impl Seat {
    fn taken(&self) -> MutexGuard<'_, TakenSlot> {
        self.taken.lock().expect("never poisoned")
    }
}

/// What `garrison.Condition` is made of, beside its lock.
#[pyclass(frozen, weakref, name = "Condition", module = "garrison._core")]
pub struct PyCondition {
    condition: Condition,
    home: Py<PySharedBlock>,
    lock: Py<PyLock>,
}

#[pymethods]
impl PyCondition {
    #[new]
    fn new(block: Py<PySharedBlock>, lock: Py<PyLock>) -> Self {
        Self { condition: Condition::new(&block.get().block), home: block, lock }
    }

    /// What the same condition is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>, Py<PyLock>) {
        (self.home.clone_ref(py), self.lock.clone_ref(py))
    }

    /// Bytes that one needs in shared memory.
    #[classattr]
    const SIZE: usize = Condition::SIZE;

    #[pyo3(signature = (timeout = None), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let deadline = deadline_of_timeout(timeout)?;
        let lock = self.lock.bind(py);
        let waiting = self.condition.begin_wait(&lock.get().lock.raw)?;
        let notified = waiting.wait(py, &deadline);
        let interrupted = PyLock::take(lock, &Deadline::never()).err();
        let interrupted = interrupted.map(|error| waiting.reacquire(py, error));
        waiting.finish(interrupted, notified)
    }

    #[pyo3(signature = (n = Count(1)), text_signature = "($self, n=1)")]
    fn notify(&self, n: Count) -> PyResult<()> {
        Ok(self.condition.notify(&self.lock.get().lock.raw, n.0)?)
    }

    fn notify_all(&self) -> PyResult<()> {
        self.notify(Count(usize::MAX))
    }

    /// Begin a wait whose lock any thread of this process acquires again: release the lock.
    fn _take_seat(&self) -> PyResult<Seat> {
        let taken = self.condition.take_seat(&self.lock.get().lock.raw)?;
        Ok(Seat { taken: Mutex::new(taken) })
    }

    /// Wait at most `limit` seconds in a seat: whether it was notified. It stays taken.
    fn _wait_in(&self, py: Python<'_>, seat: &Seat, limit: f64) -> PyResult<bool> {
        let taken = *seat.taken();
        let granted = self.condition.wait_in(py, taken, &Deadline::after(limit))?;
        if let Some(granted) = granted {
            *seat.taken() = granted;
        }
        Ok(granted.is_some())
    }

    /// Leave a seat: whether it was notified. A notification that is not used goes to the next.
    fn _leave(&self, seat: &Seat, uses: bool) -> PyResult<bool> {
        let taken = *seat.taken();
        Ok(self.condition.leave(taken, uses)?)
    }

    /// How many wait at the moment.
    #[getter]
    fn waiting(&self) -> PyResult<usize> {
        Ok(self.condition.waiting()?)
    }
}
