//! Waiting until a container has changed.

use super::super::finalizing::without_gil;
use super::PyStore;
use crate::python::convert::deadline_of_timeout;
use crate::store::bells::{Bells, GLOBAL};
use crate::sys::deadline::LIVENESS_CHECK_INTERVAL;
use pyo3::prelude::*;

#[pymethods]
impl PyStore {
    /// A number that changes whenever the container has changed.
    fn change_count(&self, c: u64) -> u32 {
        self.engine.get().bells.read(Bells::of(c))
    }

    /// Sleep until the bell has rung; False if it has not in that time.
    #[pyo3(signature = (c, seen, timeout = None))]
    fn wait_for_change(
        &self,
        py: Python<'_>,
        c: u64,
        seen: u32,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.wait_for(py, Bells::of(c), seen, timeout)
    }

    /// A number that changes with every commit.
    fn global_change_count(&self) -> u32 {
        self.engine.get().bells.read(GLOBAL)
    }

    #[pyo3(signature = (seen, timeout = None))]
    fn wait_for_any_change(
        &self,
        py: Python<'_>,
        seen: u32,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.wait_for(py, GLOBAL, seen, timeout)
    }
}

impl PyStore {
    fn wait_for(
        &self,
        py: Python<'_>,
        which: usize,
        seen: u32,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let patience = deadline_of_timeout(timeout)?;
        let engine = self.engine.get();
        loop {
            if engine.bells.read(which) != seen {
                return Ok(true);
            }
            py.check_signals()?;
            if patience.is_over() {
                return Ok(false);
            }
            let limit = patience.left().min(LIVENESS_CHECK_INTERVAL);
            without_gil(py, || engine.bells.sleep(which, seen, limit));
            engine.answer_for_the_dead(py)?;
        }
    }
}
