//! `Event`: one word, which a signal handler may set while it interrupts a wait for it.

use super::spot::PySharedBlock;
use super::waiting::{Deadline, WaitSession, WaitTarget};
use crate::shm::arena::SharedBlock;
use crate::sync::event::word;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::futex;
use crate::testing::crash_points::crash_point;
use pyo3::prelude::*;

/// What `garrison.Event` is made of.
#[pyclass(frozen, weakref, name = "Event", module = "garrison._core")]
pub struct PyEvent {
    spot: SharedBlock,
    home: Py<PySharedBlock>,
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
    fn new(spot: Py<PySharedBlock>) -> Self {
        Self { spot: spot.get().spot.clone(), home: spot }
    }

    /// What the same event is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>,) {
        (self.home.clone_ref(py),)
    }

    fn is_set(&self) -> bool {
        word::is_set(self.word().load(Ordering::Acquire))
    }

    fn set(&self) {
        let someone_sleeps = word::set(self.word());
        crash_point("event.set");
        if someone_sleeps {
            futex::wake(self.word(), i32::MAX);
        }
    }

    fn clear(&self) {
        word::clear(self.word());
    }

    #[pyo3(signature = (timeout = None), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let since = word::times(self.word().load(Ordering::Acquire));
        if self.is_set() {
            return Ok(true);
        }
        let patience = Deadline::of_timeout(timeout)?;
        let subject = WaitTarget::at(WaitTarget::EVENT, &self.spot, 0);
        let mut sleeper = WaitSession::new(self.spot.chunk.registry, subject);
        loop {
            let Err(seen) = word::look(self.word(), since) else { return Ok(true) };
            if patience.is_over() {
                return Ok(false);
            }
            sleeper.sleep(py, self.word(), seen, (0, 0), &patience)?;
        }
    }
}
