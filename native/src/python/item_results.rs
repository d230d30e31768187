//! Payloads that are pickles one after the other.

use crate::tasks::item_results::{self, Recovered};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// (succeeded, pickle)
pub type Entry<'py> = (bool, Bound<'py, PyBytes>);

fn copied<'py>(py: Python<'py>, entries: Vec<(bool, &[u8])>) -> PyResult<Vec<Entry<'py>>> {
    entries.into_iter().map(|(ok, entry)| Ok((ok, super::bytes(py, entry)?))).collect()
}

/// Results that a worker has completed.
pub fn entries<'py>(py: Python<'py>, found: Option<&Recovered>) -> PyResult<Vec<Entry<'py>>> {
    found.map_or(Ok(Vec::new()), |found| copied(py, found.entries()?))
}

/// Take a payload apart, of items or of results with an outcome each: (succeeded, pickle) for each.
#[pyfunction]
pub fn split<'py>(py: Python<'py>, payload: &Bound<'py, PyAny>) -> PyResult<Vec<Entry<'py>>> {
    if let Ok(block) = payload.cast::<super::block::Block>() {
        return copied(py, item_results::split(block.get().bytes(), usize::MAX)?);
    }
    copied(py, item_results::split(payload.cast::<PyBytes>()?.as_bytes(), usize::MAX)?)
}

/// Put pickles one after the other, as `split` takes them apart.
#[pyfunction]
pub fn pack<'py>(
    py: Python<'py>,
    pickles: Vec<Bound<'py, PyBytes>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let pickles: Vec<&[u8]> = pickles.iter().map(|pickle| pickle.as_bytes()).collect();
    let len = item_results::packed_len(&pickles)?;
    PyBytes::new_with(py, len, |to| {
        item_results::pack(&pickles, to);
        Ok(())
    })
}
