//! Several operations as one step: committed at the end of a `with` block, or not at all.
//!
//! No Python runs between the last line of the block and the end of its transaction: a signal
//! handler that raises just then cannot leave it open.

use super::super::errors::{StoreBusy, TransactionFailed};
use super::PyStore;
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;

/// A block of operations on one store. Inside of another one it is a part of that.
#[pyclass(module = "garrison._core")]
pub struct StoreBlock {
    store: Py<PyStore>,
    timeout: Option<Py<PyAny>>,
    /// Whether it may fail as a part of another without the other failing: it has then done nothing.
    nested_failure_ok: bool,
    /// For each time that it was entered, whether as a part of another.
    entered: Vec<bool>,
}

#[pymethods]
impl PyStore {
    /// Return a block whose operations are one step.
    #[pyo3(signature = (timeout = None, nested_failure_ok = false))]
    fn transaction(
        slf: Py<Self>,
        timeout: Option<Py<PyAny>>,
        nested_failure_ok: bool,
    ) -> StoreBlock {
        StoreBlock { store: slf, timeout, nested_failure_ok, entered: Vec::new() }
    }
}

#[pymethods]
impl StoreBlock {
    fn __enter__(mut slf: PyRefMut<'_, Self>) -> PyResult<PyRefMut<'_, Self>> {
        let py = slf.py();
        let store = slf.store.get();
        let joined = store.in_transaction(py);
        if !joined {
            slf.begin(py)?;
        }
        slf.entered.push(joined);
        Ok(slf)
    }

    fn __exit__(
        &mut self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let joined = self
            .entered
            .pop()
            .ok_or_else(|| PyRuntimeError::new_err("this block was not entered"))?;
        let error = (!error.is_none()).then(|| PyErr::from_value(error.clone()));
        if !joined {
            return self.end(py, error);
        }
        if let Some(error) = error.filter(|_| !self.nested_failure_ok) {
            let view = self.store.get();
            let (host, store) = view.engine.get().parts(py);
            store.note_failure(host, view.view, error);
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        let state = if self.entered.is_empty() { "closed" } else { "open" };
        format!("<Transaction {state}>")
    }
}

impl StoreBlock {
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        let (store, timeout) = (self.store.get(), self.timeout.as_ref().map(|each| each.bind(py)));
        let begun = store.begin_transaction(py, timeout);
        match (begun, timeout) {
            (Err(error), Some(seconds)) if error.is_instance_of::<StoreBusy>(py) => {
                let text = format!("others were writing to the store for {seconds} s");
                let late = PyTimeoutError::new_err(text);
                late.set_cause(py, Some(error));
                Err(late)
            }
            (begun, _) => begun,
        }
    }

    fn end(&self, py: Python<'_>, error: Option<PyErr>) -> PyResult<()> {
        let view = self.store.get();
        let (host, store) = view.engine.get().parts(py);
        if !store.is_in_transaction(host, view.view) {
            let text = "it was ended from inside, or this process was forked inside of it";
            return self.report(py, error.is_some(), text, None);
        }
        let (failure, must_abort) = store.failure(host, view.view);
        if error.is_none() && failure.is_none() && !must_abort {
            return view.commit(py);
        }
        view.abort(py)?;
        let text = failure.as_ref().map_or_else(
            || "an operation in it had failed in the middle, and the exception was caught".into(),
            |failure| {
                format!(
                    "a part of it had failed ({failure}) and the exception went no further than \
                     the outer block; let it out, or keep that part outside of a transaction"
                )
            },
        );
        self.report(py, error.is_some(), &text, failure)
    }

    /// Raise that nothing was done, unless an exception of the block itself says so.
    fn report(
        &self,
        py: Python<'_>,
        known: bool,
        text: &str,
        cause: Option<PyErr>,
    ) -> PyResult<()> {
        if known {
            return Ok(());
        }
        let failed =
            TransactionFailed::new_err(format!("nothing of this transaction was done: {text}"));
        failed.set_cause(py, cause);
        Err(failed)
    }
}
