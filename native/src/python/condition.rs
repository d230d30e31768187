//! `Condition`: a lock, and seats for those who have let go of it until they are notified.

use super::lock::PyLock;
use super::memory_error;
use super::spot::PySpot;
use super::waiting::{Patience, Sleeper, Subject};
use crate::chunk::Spot;
use crate::condition::{ConditionShared, Row, Taken};
use crate::crash;
use crate::futex;
use crate::protocol::{AtomicU32, Ordering};
use crate::table::low_half;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError};
use pyo3::prelude::*;

/// What `garrison.Condition` is made of, beside its lock.
#[pyclass(frozen, weakref, name = "Condition", module = "garrison._core")]
pub struct PyCondition {
    spot: Spot,
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

    /// Wait in a taken seat; whether a notification came. The seat is empty afterwards.
    fn wait_in(
        &self,
        py: Python<'_>,
        row: Row<'_>,
        taken: Taken,
        patience: &Patience,
    ) -> PyResult<bool> {
        let subject = Subject::at(Subject::CONDITION, &self.spot, 0);
        let mut sleeper = Sleeper::new(self.spot.chunk.registry, subject);
        let wake = |seat| self.wake(seat);
        loop {
            if row.take_grant(taken) {
                crash::reach("condition.woken");
                return Ok(true);
            }
            if patience.is_over() {
                return Ok(!row.give_up(taken));
            }
            let word = self.word(taken.number);
            match sleeper.sleep(py, word, taken.expected(), (0, 0), patience) {
                Ok(true) if row.inherit(taken, |agent| self.is_dead(agent), wake) => {
                    return Ok(true);
                }
                Ok(_) => {}
                Err(error) => {
                    // Nobody will look at a notification that has come meanwhile.
                    if !row.give_up(taken) {
                        row.hand_on(wake);
                    }
                    return Err(error);
                }
            }
        }
    }
}

#[pymethods]
impl PyCondition {
    #[new]
    fn new(spot: PyRef<'_, PySpot>, lock: Py<PyLock>) -> Self {
        Self { spot: spot.spot.clone(), lock }
    }

    /// Bytes that one needs in shared memory.
    #[classattr]
    const SIZE: usize = size_of::<ConditionShared>();

    #[pyo3(signature = (timeout = None), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let patience = Patience::of_timeout(timeout)?;
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
        crash::reach("condition.seated");
        let depth = held.shared().depth.load(Ordering::Relaxed);
        held.leave();
        crash::reach("condition.unlocked");
        let notified = self.wait_in(py, row, taken, &patience);
        crash::reach("condition.left");
        // Whatever has ended the wait: who leaves it has the lock again.
        let mut interrupted = PyLock::take(lock, || Ok(Patience::endless())).err();
        if interrupted.is_some() {
            while let Err(error) = held.wait(py, row.me, &Patience::endless(), true) {
                interrupted = Some(error);
            }
        }
        held.shared().depth.store(depth, Ordering::Relaxed);
        match interrupted {
            Some(error) => {
                if matches!(notified, Ok(true)) {
                    row.hand_on(|seat| self.wake(seat));
                }
                Err(error)
            }
            None => notified,
        }
    }

    #[pyo3(signature = (n = 1), text_signature = "($self, n=1)")]
    fn notify(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        let row = self.row()?;
        if !self.lock.bind(py).get().lock.is_mine(row.me) {
            return Err(PyAssertionError::new_err("lock is not owned"));
        }
        row.grant(n, |seat| self.wake(seat));
        Ok(())
    }

    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.notify(py, usize::MAX)
    }

    /// How many wait at the moment.
    #[getter]
    fn waiting(&self) -> PyResult<usize> {
        Ok(self.row()?.waiting())
    }
}
