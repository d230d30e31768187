//! Calls of functions that the workers have, with small plain arguments: submitted without any of
//! Python's frames, which take longer than all the rest.

use super::parent::{Parent, PyTaskHandle};
use super::plain_pickle;
use crate::host::Failure;
use crate::shm::payload;
use crate::tasks::parent::{NewTask, ParentHandle};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;

/// PlainCalls(parent, functions, retries): the most common calls of a pool.
///
/// `functions` has the functions that the workers know, with their numbers, by identity.
#[pyclass(frozen, module = "garrison._core")]
pub struct PlainCalls {
    parent: Arc<ParentHandle>,
    functions: Py<PyDict>,
    retries: u32,
}

impl PlainCalls {
    fn number(&self, function: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
        let functions = self.functions.bind(function.py());
        let Some(found) = functions.get_item(function.as_ptr() as usize)? else { return Ok(None) };
        let found = found.cast_into::<PyTuple>()?;
        if found.get_borrowed_item(0)?.as_ptr() == function.as_ptr() {
            Ok(Some(found.get_borrowed_item(1)?.extract()?))
        } else {
            Ok(None)
        }
    }
}

#[pymethods]
impl PlainCalls {
    #[new]
    fn new(parent: &Parent, functions: Py<PyDict>, retries: u32) -> Self {
        Self { parent: parent.inner.clone(), functions, retries }
    }

    /// Submit a task of a function: a call, or so many items. None if the function is none of these,
    /// its arguments are not small and plain, or there is no room just now.
    #[pyo3(signature = (function, kind, args, items=1))]
    fn submit(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        kind: u32,
        args: &Bound<'_, PyAny>,
        items: u32,
    ) -> PyResult<Option<PyTaskHandle>> {
        let Some(number) = self.number(function)? else { return Ok(None) };
        let mut payload = Vec::with_capacity(128);
        if !plain_pickle::write(args, &mut payload) {
            return Ok(None);
        }
        let (function, retries) = (number, self.retries);
        let task = NewTask { function, kind, items, retries, timeout: 0 };
        let submitted = self
            .parent
            .submit(task, &payload, true, |heap| payload::write_plain(py, heap, &payload));
        match submitted {
            Ok(inner) => Ok(Some(PyTaskHandle { inner })),
            Err(Failure::UnknownFunction(_) | Failure::TableFull(_)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }
}
