//! Numbers: those in heads, and those of the store as a whole.

use super::super::finalizing::without_gil;
use super::failure::Raise;
use super::PyStore;
use crate::store::{audit, references, Error};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[pymethods]
impl PyStore {
    /// Add to the number in a container's head; the sum, which must not fall below the floor.
    #[pyo3(signature = (c, delta, floor = None))]
    fn counter_add(&self, py: Python<'_>, c: u64, delta: i64, floor: Option<i64>) -> PyResult<i64> {
        self.write(py, |writing| {
            let mut head = writing.head(c)?;
            let sum = head.count.checked_add(delta);
            let sum = sum.filter(|sum| floor.is_none_or(|floor| *sum >= floor));
            head.count = sum.ok_or_else(|| {
                let count = head.count;
                Error::Value(format!("the count is {count}, and {delta} would be out of range"))
            })?;
            writing.put_head(c, head)?;
            writing.touch(c);
            Ok(head.count)
        })
        .or_raise()
    }

    /// Write the store's last state to a file that is empty.
    fn copy_to(&self, py: Python<'_>, fd: i32) -> PyResult<()> {
        let (host, store) = self.engine.get().parts(py);
        if store.is_in_transaction(host, self.view) {
            return Err(PyRuntimeError::new_err(
                "a store cannot be copied inside of a transaction",
            ));
        }
        let env = store.env(host).or_raise()?;
        without_gil(py, || env.copy_to(fd)).or_raise()
    }

    /// What is wrong in the store, a line each; there is never anything.
    fn audit(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.read(py, audit::audit).or_raise()
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let containers =
            self.read(py, |reading| references::heads(reading).map(|heads| heads.len()));
        let (host, store) = self.engine.get().parts(py);
        let env = store.env(host).or_raise()?;
        let info = env.info();
        let pages = info.last_page + 1;
        let found = PyDict::new(py);
        found.set_item("pages_used", pages)?;
        found.set_item("bytes_used", pages * env.reservation.page)?;
        found.set_item("bytes_reserved", env.reservation.reserved())?;
        found.set_item("size", store.size())?;
        found.set_item("containers", containers.or_raise()?)?;
        found.set_item("readers", info.readers)?;
        Ok(found)
    }
}
