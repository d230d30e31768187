//! `Barrier`: the part that touches shared memory; the rest is in Python.

use super::convert::deadline_of_timeout;
use super::shared_block::PySharedBlock;
use crate::sync::barrier::Barrier;
use pyo3::prelude::*;

/// What `garrison.Barrier` is made of.
#[pyclass(frozen, weakref, name = "Barrier", module = "garrison._core")]
pub struct PyBarrier {
    barrier: Barrier,
}

#[pymethods]
impl PyBarrier {
    #[new]
    fn new(block: PyRef<'_, PySharedBlock>, parties: usize) -> Self {
        Self { barrier: Barrier::new(&block.block, parties) }
    }

    /// Wait for all parties: the number of this one, or nothing if the barrier is broken. `action`
    /// is called by the last to come.
    #[pyo3(signature = (timeout = None, action = None))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        action: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<usize>> {
        let action = || action.map_or(Ok(()), |action| action.call0().map(|_| ()));
        self.barrier.wait(py, &deadline_of_timeout(timeout)?, action)
    }

    fn reset(&self) -> PyResult<()> {
        Ok(self.barrier.reset()?)
    }

    fn abort(&self) -> PyResult<()> {
        Ok(self.barrier.abort()?)
    }

    #[getter]
    fn n_waiting(&self) -> PyResult<usize> {
        Ok(self.barrier.waiting()?)
    }

    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.barrier.is_broken()?)
    }
}
