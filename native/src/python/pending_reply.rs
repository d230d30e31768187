//! `PendingReply`: the reply to a request that was sent with others.

use super::client_socket::PyClientSocket;
use super::errors::LinkBroken;
use crate::net::client_protocol::DONE;
use crate::python::convert::deadline_of_timeout;
use pyo3::exceptions::PyBaseException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::OnceLock;

/// The reply to a request of a pipeline.
///
/// Examples
/// --------
/// ``reply.get()``
#[pyclass(frozen, module = "garrison._core")]
pub struct PendingReply {
    /// None if there was no connection when it was asked.
    link: Option<Py<PyClientSocket>>,
    number: u32,
    #[pyo3(get)]
    verb: u8,
    #[pyo3(get)]
    fields: Py<PyTuple>,
    #[pyo3(get)]
    idempotent: bool,
    /// Makes an exception of a failure, and asks again where that is allowed.
    pipeline: Py<PyAny>,
    /// The fields of the reply, or the exception to raise the like of.
    outcome: OnceLock<Py<PyAny>>,
}

#[pymethods]
impl PendingReply {
    /// What is raised here has a traceback, with frames that hold this reply.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.link)?;
        visit.call(&self.fields)?;
        visit.call(&self.pipeline)?;
        visit.call(self.outcome.get())
    }

    #[new]
    fn new(
        link: Option<Bound<'_, PyClientSocket>>,
        verb: u8,
        fields: Bound<'_, PyTuple>,
        idempotent: bool,
        pipeline: Py<PyAny>,
    ) -> PyResult<Self> {
        let number = match &link {
            Some(link) => link.get().put(verb, fields.as_any(), false)?,
            None => 0,
        };
        let (link, outcome) = (link.map(Bound::unbind), OnceLock::new());
        Ok(Self { link, number, verb, fields: fields.unbind(), idempotent, pipeline, outcome })
    }

    /// Wait for the reply and return its fields, or raise as `Connection.ask` does.
    ///
    /// After a `TimeoutError` it may be called again.
    #[pyo3(signature = (timeout=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let outcome = match this.outcome.get() {
            Some(outcome) => outcome,
            None => {
                let found = Self::find(slf, timeout)?.unbind();
                this.outcome.get_or_init(|| found)
            }
        };
        let outcome = outcome.bind(py).clone();
        match outcome.cast_into::<PyBaseException>() {
            // Another one each time: what is raised holds its frames, which hold this reply.
            Ok(error) => {
                let args = error.getattr("args")?.cast_into::<PyTuple>()?;
                Err(PyErr::from_value(error.get_type().call1(args)?))
            }
            Err(error) => Ok(error.into_inner()),
        }
    }
}

impl PendingReply {
    fn find<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let pipeline = this.pipeline.bind(py);
        let Some(link) = &this.link else {
            return pipeline.call_method1("_repair", (slf, py.None(), timeout));
        };
        let deadline = deadline_of_timeout(timeout)?;
        loop {
            match link.get().wait(py, this.number, &deadline) {
                Ok(Some((DONE, fields))) => return Ok(fields.into_any()),
                Ok(Some((_, fields))) => return pipeline.call_method1("_refused", (fields,)),
                // Another thread has just taken it, and is about to say so.
                Ok(None) => match this.outcome.get() {
                    Some(outcome) => return Ok(outcome.bind(py).clone()),
                    None => py.check_signals()?,
                },
                Err(error) if error.is_instance_of::<LinkBroken>(py) => {
                    return pipeline.call_method1("_repair", (slf, error.value(py), timeout));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            if self.outcome.get().is_none() {
                link.get().socket.ignore(self.number);
            }
        }
    }
}
