//! `Condition`: a lock, and seats for those who have let go of it until they are notified.

use super::lock::PyLock;
use super::memory_error;
use super::spot::PySharedBlock;
use super::waiting::{Deadline, WaitSession, WaitTarget};
use crate::shm::arena::SharedBlock;
use crate::sync::condition::word::{ConditionShared, Row, Taken};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::futex;
use crate::tasks::table::low_half;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::prelude::*;

/// How many to notify: any number, as in the standard library, where a loop counts up to it.
pub struct Count(usize);

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        // Beyond what a float can tell there are no waiters either.
        object.extract::<f64>().map(|number| Self(number.ceil().max(0.0) as usize))
    }
}

/// What `garrison.Condition` is made of, beside its lock.
#[pyclass(frozen, weakref, name = "Condition", module = "garrison._core")]
pub struct PyCondition {
    spot: SharedBlock,
    home: Py<PySharedBlock>,
    lock: Py<PyLock>,
}

impl PyCondition {
    fn shared(&self) -> &ConditionShared {
        // SAFETY: made of atomics, where every process has them.
        unsafe { self.spot.shared(0) }
    }

    fn row(&self) -> PyResult<Row<'_>> {
        let shared = self.shared();
        let me = self.spot.chunk.registry.me();
        let me = me.map_err(|error| memory_error(&error, "a process's registration"))?;
        Ok(Row { tickets: &shared.tickets, seats: &shared.seats, me })
    }

    fn word(&self, seat: usize) -> &AtomicU32 {
        low_half(&self.shared().seats[seat])
    }

    fn wake(&self, seat: usize) {
        futex::wake(self.word(seat), 1);
    }

    fn is_dead(&self, agent: u32) -> bool {
        self.spot.chunk.registry.is_dead(agent)
    }

    /// Wait in a taken seat: the seat that was granted, or nothing after a timeout.
    fn wait_in(
        &self,
        py: Python<'_>,
        row: Row<'_>,
        taken: Taken,
        patience: &Deadline,
    ) -> PyResult<Option<Taken>> {
        let subject = WaitTarget::at(WaitTarget::CONDITION, &self.spot, 0);
        let mut sleeper = WaitSession::new(self.spot.chunk.registry, subject);
        let wake = |seat| self.wake(seat);
        loop {
            if row.is_granted(taken) {
                crash_point("condition.woken");
                return Ok(Some(taken));
            }
            if patience.is_over() {
                return Ok((!row.give_up(taken)).then_some(taken));
            }
            let word = self.word(taken.number);
            match sleeper.sleep(py, word, taken.expected(), (0, 0), patience) {
                Ok(true) => {
                    let granted = row.inherit(taken, |agent| self.is_dead(agent), wake);
                    if granted.is_some() {
                        return Ok(granted);
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    if !row.give_up(taken) {
                        self.hand_on(row, taken);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Nobody here will use this notification.
    fn hand_on(&self, row: Row<'_>, granted: Taken) {
        row.hand_on(|seat| self.wake(seat));
        row.leave(granted);
    }
}

#[pymethods]
impl PyCondition {
    #[new]
    fn new(spot: Py<PySharedBlock>, lock: Py<PyLock>) -> Self {
        Self { spot: spot.get().spot.clone(), home: spot, lock }
    }

    /// What the same condition is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>, Py<PyLock>) {
        (self.home.clone_ref(py), self.lock.clone_ref(py))
    }

    /// Bytes that one needs in shared memory.
    #[classattr]
    const SIZE: usize = size_of::<ConditionShared>();

    #[pyo3(signature = (timeout = None), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let patience = Deadline::of_timeout(timeout)?;
        let lock = self.lock.bind(py);
        let (held, row) = (&lock.get().lock, self.row()?);
        if !held.is_mine(row.me) {
            return Err(PyAssertionError::new_err("must acquire() condition before using wait()"));
        }
        let taken = row.sit(|agent| self.is_dead(agent)).ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "{} waiters already: more cannot wait for one Condition",
                self.shared().seats.len()
            ))
        })?;
        crash_point("condition.seated");
        let depth = held.shared().depth.load(Ordering::Relaxed);
        held.leave();
        crash_point("condition.unlocked");
        let notified = self.wait_in(py, row, taken, &patience);
        crash_point("condition.left");
        // Whatever has ended the wait: who leaves it has the lock again.
        let mut interrupted = PyLock::take(lock, &Deadline::endless()).err();
        if interrupted.is_some() {
            while let Err(error) = held.wait(py, row.me, &Deadline::endless(), true) {
                interrupted = Some(error);
            }
        }
        held.shared().depth.store(depth, Ordering::Relaxed);
        match (interrupted, notified) {
            (None, Ok(granted)) => {
                if let Some(granted) = granted {
                    row.leave(granted);
                }
                Ok(granted.is_some())
            }
            (Some(error), Ok(granted)) => {
                if let Some(granted) = granted {
                    self.hand_on(row, granted);
                }
                Err(error)
            }
            (error, Err(first)) => Err(error.unwrap_or(first)),
        }
    }

    #[pyo3(signature = (n = Count(1)), text_signature = "($self, n=1)")]
    fn notify(&self, py: Python<'_>, n: Count) -> PyResult<()> {
        let row = self.row()?;
        if !self.lock.bind(py).get().lock.is_mine(row.me) {
            return Err(PyAssertionError::new_err("lock is not owned"));
        }
        row.grant(n.0, |seat| self.wake(seat));
        Ok(())
    }

    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.notify(py, Count(usize::MAX))
    }

    /// How many wait at the moment.
    #[getter]
    fn waiting(&self) -> PyResult<usize> {
        Ok(self.row()?.waiting())
    }
}
