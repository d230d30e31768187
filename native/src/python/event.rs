//! `Event`: one word, which a signal handler may set while it interrupts a wait for it.

use super::convert::deadline_of_timeout;
use super::shared_block::PySharedBlock;
use crate::sync::event::Event;
use crate::sys::deadline::Deadline;
use pyo3::prelude::*;

/// What `garrison.Event` is made of.
#[pyclass(frozen, weakref, name = "Event", module = "garrison._core")]
pub struct PyEvent {
    event: Event,
    home: Py<PySharedBlock>,
}

#[pymethods]
impl PyEvent {
    #[new]
    fn new(block: Py<PySharedBlock>) -> Self {
        Self { event: Event::new(&block.get().block), home: block }
    }

    /// What the same event is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>,) {
        (self.home.clone_ref(py),)
    }

    fn is_set(&self) -> bool {
        self.event.is_set()
    }

    fn set(&self) {
        self.event.set();
    }

    fn clear(&self) {
        self.event.clear();
    }

    #[pyo3(signature = (timeout = None), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if self.event.is_set() {
            return Ok(true);
        }
        self.event.wait(py, &deadline_of_timeout(timeout)?)
    }

    /// How often it was set, for `_wait_since`.
    fn _times(&self) -> u32 {
        self.event.times()
    }

    /// Wait at most `limit` seconds until it is set, or was more often than `since`.
    fn _wait_since(&self, py: Python<'_>, since: u32, limit: f64) -> PyResult<bool> {
        self.event.wait_since(py, since, &Deadline::after(limit))
    }
}
