//! Waiting until a container has changed.

use super::PyStore;
use crate::python::convert::deadline_of_timeout;
use crate::store::change_words::{ChangeWords, GLOBAL};
use pyo3::prelude::*;

#[pymethods]
impl PyStore {
    /// A number that changes whenever the container has changed.
    fn change_count(&self, c: u64) -> u32 {
        self.engine.get().store.change_words.read(ChangeWords::of(c))
    }

    /// Wait until the number is not `seen`; False if it still is at the end of that time.
    #[pyo3(signature = (c, seen, timeout = None))]
    fn wait_for_change(
        &self,
        py: Python<'_>,
        c: u64,
        seen: u32,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.wait_for(py, ChangeWords::of(c), seen, timeout)
    }

    /// A number that changes with every commit.
    fn global_change_count(&self) -> u32 {
        self.engine.get().store.change_words.read(GLOBAL)
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
        let (host, store) = self.engine.get().parts(py);
        store.wait_for_change(host, which, seen, &deadline_of_timeout(timeout)?)
    }
}
