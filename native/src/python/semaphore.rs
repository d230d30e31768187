//! `Semaphore` and `BoundedSemaphore`.

use super::convert::{deadline, AnyBool};
use super::shared_block::PySharedBlock;
use crate::sync::semaphore::word::MOST;
use crate::sync::semaphore::Semaphore;
use crate::sys::deadline::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What `garrison.Semaphore` and `garrison.BoundedSemaphore` are made of.
#[pyclass(frozen, weakref, name = "Semaphore", module = "garrison._core")]
pub struct PySemaphore {
    semaphore: Semaphore,
    home: Py<PySharedBlock>,
}

#[pymethods]
impl PySemaphore {
    /// One whose permits are counted has none of the `places`.
    #[new]
    #[pyo3(signature = (block, value = None, most = MOST, places = 0))]
    fn new(
        block: Py<PySharedBlock>,
        value: Option<u32>,
        most: u32,
        places: usize,
    ) -> PyResult<Self> {
        let home = block;
        let block = &home.get().block;
        if block.len < Semaphore::size(places) {
            return Err(PyValueError::new_err("too little shared memory for this semaphore"));
        }
        Ok(Self { semaphore: Semaphore::new(block, value, most, places), home })
    }

    /// What the same semaphore is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>, Option<u32>, u32, usize) {
        let (most, places) = self.semaphore.limits();
        (self.home.clone_ref(py), None, most, places)
    }

    /// Take a permit; False if none could be had in time.
    #[pyo3(signature = (block = AnyBool(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        block: AnyBool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.semaphore.acquire(py, &deadline(block, timeout)?)
    }

    /// Give a permit back.
    fn release(&self) -> PyResult<()> {
        Ok(self.semaphore.release()?)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.semaphore.acquire(py, &Deadline::never())
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None, /))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    /// How many permits there are at the moment.
    fn get_value(&self) -> u32 {
        self.semaphore.value()
    }

    /// As the standard library's own objects ask theirs.
    fn _get_value(&self) -> u32 {
        self.semaphore.value()
    }

    fn _is_zero(&self) -> bool {
        self.locked()
    }

    /// How many permits this process has taken, as far as that is known.
    fn _count(&self) -> PyResult<usize> {
        Ok(self.semaphore.taken_here()?)
    }

    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self._count()? > 0)
    }

    #[classattr]
    fn kind() -> u32 {
        1
    }

    #[getter]
    fn maxvalue(&self) -> usize {
        let (most, places) = self.semaphore.limits();
        places.max(most as usize)
    }

    #[getter]
    fn handle(&self) -> u64 {
        self.number()
    }

    #[classattr]
    fn name() -> Option<&'static str> {
        None
    }

    fn _after_fork(&self) {}

    /// Whether there is no permit at the moment.
    fn locked(&self) -> bool {
        self.semaphore.value() == 0
    }

    /// The number by which waits name it.
    #[getter]
    fn number(&self) -> u64 {
        self.semaphore.object()
    }

    /// The processes that hold permits which are signed for: (pid, permits).
    #[getter]
    fn holders(&self) -> Vec<(u32, usize)> {
        self.semaphore.holders()
    }
}
