//! `Event`: one word, which a signal handler may set while it interrupts a wait for it.

use super::spot::PySpot;
use super::waiting::{Patience, Sleeper, Subject};
use crate::chunk::Spot;
use crate::crash;
use crate::event;
use crate::futex;
use crate::protocol::{AtomicU32, Ordering};
use pyo3::prelude::*;

/// What `garrison.Event` is made of.
#[pyclass(frozen, weakref, name = "Event", module = "garrison._core")]
pub struct PyEvent {
    spot: Spot,
    home: Py<PySpot>,
}

impl PyEvent {
    fn word(&self) -> &AtomicU32 {
        // SAFETY: an atomic, where every process has it.
        unsafe { self.spot.shared(0) }
    }
}

#[pymethods]
impl PyEvent {
    #[new]
    fn new(spot: Py<PySpot>) -> Self {
        Self { spot: spot.get().spot.clone(), home: spot }
    }

    /// What the same event is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySpot>,) {
        (self.home.clone_ref(py),)
    }

    fn is_set(&self) -> bool {
        event::is_set(self.word().load(Ordering::Acquire))
    }

    fn set(&self) {
        let someone_sleeps = event::set(self.word());
        crash::reach("event.set");
        if someone_sleeps {
            futex::wake(self.word(), i32::MAX);
        }
    }

    fn clear(&self) {
        event::clear(self.word());
    }

    #[pyo3(signature = (timeout = None), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let since = event::times(self.word().load(Ordering::Acquire));
        if self.is_set() {
            return Ok(true);
        }
        let patience = Patience::of_timeout(timeout)?;
        let subject = Subject::at(Subject::EVENT, &self.spot, 0);
        let mut sleeper = Sleeper::new(self.spot.chunk.registry, subject);
        loop {
            let Err(seen) = event::look(self.word(), since) else { return Ok(true) };
            if patience.is_over() {
                return Ok(false);
            }
            sleeper.sleep(py, self.word(), seen, (0, 0), &patience)?;
        }
    }
}
