//! Arguments as Python passes them, and functions of Python's.

use crate::sys::deadline::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A flag that may be any object, as in `if flag:`.
pub struct AnyBool(pub bool);

impl<'py> FromPyObject<'_, 'py> for AnyBool {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// As the standard library reads `block` and `timeout`.
pub fn deadline(AnyBool(block): AnyBool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Deadline> {
    let Some(timeout) = timeout else {
        return Ok(if block { Deadline::never() } else { Deadline::immediate() });
    };
    let seconds: f64 = timeout.extract()?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("timeout is not a number (nan)"));
    }
    Ok(if block { Deadline::after(seconds) } else { Deadline::immediate() })
}

/// The same where there is no `block`.
pub fn deadline_of_timeout(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Deadline> {
    deadline(AnyBool(true), timeout)
}

/// A function of Python's, looked up once. Not while the cell is being filled: an import runs code,
/// in a signal handler or a finalizer that of a queue as well.
pub fn cached<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(function) = cell.get(py) {
        return Ok(function.bind(py).clone());
    }
    let function = py.import(module)?.getattr(name)?;
    let _ = cell.set(py, function.clone().unbind());
    Ok(function)
}
