//! Payloads that are pickles one after the other.

use super::plain_pickle::Reader;
use crate::tasks::item_results::{self, Recovered};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// An item's result that is a failure, or that only `pickle` can load.
#[pyclass(frozen, get_all, module = "garrison._core")]
pub struct PickledResult {
    succeeded: bool,
    pickle: Py<PyBytes>,
}

/// Results: small plain ones as they are, since no code of the user runs for them.
fn results<'py>(py: Python<'py>, entries: Vec<(bool, &[u8])>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let mut reader = Reader::new(py);
    for (succeeded, data) in entries {
        let plain = if succeeded { reader.read(data) } else { None };
        if let Some(value) = plain {
            list.append(value)?;
        } else {
            let pickle = super::bytes(py, data)?.unbind();
            list.append(Bound::new(py, PickledResult { succeeded, pickle })?)?;
        }
    }
    Ok(list)
}

/// Results that a worker has completed.
pub fn entries<'py>(py: Python<'py>, found: Option<&Recovered>) -> PyResult<Py<PyList>> {
    let found = found.map_or(Ok(Vec::new()), Recovered::entries)?;
    Ok(results(py, found)?.unbind())
}

/// All results of a task whose items have one each.
pub fn of_task<'py>(py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyList>> {
    results(py, item_results::split(payload, usize::MAX)?)
}

/// (succeeded, pickle) for each entry of a payload.
pub fn pieces<'a>(payload: &'a Bound<'_, PyAny>) -> PyResult<Vec<(bool, &'a [u8])>> {
    let bytes = match payload.cast::<super::block::Block>() {
        Ok(block) => block.get().bytes(),
        Err(_) => payload.cast::<PyBytes>()?.as_bytes(),
    };
    Ok(item_results::split(bytes, usize::MAX)?)
}

/// Take a payload of items apart: the pickle of each.
#[pyfunction]
pub fn split<'py>(payload: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let pieces = pieces(payload)?.into_iter();
    pieces.map(|(_, pickle)| super::bytes(payload.py(), pickle)).collect()
}
