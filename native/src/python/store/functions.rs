//! The encoding without a store, for values that are sent elsewhere.

use super::decode;
use super::encode::Encoder;
use super::failure::Raise;
use crate::store::encoding::check;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fn uuid_of(hooks: &Bound<'_, PyAny>) -> PyResult<[u8; 16]> {
    hooks.getattr("uuid")?.extract()
}

/// An object in its encoding.
#[pyfunction]
fn encode_value<'py>(
    obj: &Bound<'py, PyAny>,
    hooks: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let uuid = uuid_of(hooks)?;
    let value = Encoder::new(hooks, &uuid).value(obj)?;
    Ok(PyBytes::new(obj.py(), &value))
}

/// The canonical form of a key, and the original where that does not tell.
#[pyfunction]
fn encode_key<'py>(
    obj: &Bound<'py, PyAny>,
    hooks: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let uuid = uuid_of(hooks)?;
    let key = Encoder::new(hooks, &uuid).key(obj)?;
    let py = obj.py();
    Ok((PyBytes::new(py, key.canonical.bytes()), PyBytes::new(py, &key.original)))
}

/// What an encoding stands for; a container becomes a plain object.
#[pyfunction]
fn decode_value<'py>(
    encoded: &Bound<'py, PyBytes>,
    hooks: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    decode::value(hooks, encoded.as_bytes())
}

/// The key of a canonical form and an original.
#[pyfunction]
fn decode_key<'py>(
    canonical: &Bound<'py, PyBytes>,
    original: &Bound<'py, PyBytes>,
    hooks: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    decode::key(hooks, canonical.as_bytes(), original.as_bytes())
}

/// Whether an encoded value is, or holds, something that its reader would unpickle.
#[pyfunction]
fn holds_pickle(encoded: &[u8]) -> PyResult<bool> {
    check::holds_pickle(encoded).or_raise()
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(encode_value, module)?)?;
    module.add_function(wrap_pyfunction!(encode_key, module)?)?;
    module.add_function(wrap_pyfunction!(decode_value, module)?)?;
    module.add_function(wrap_pyfunction!(decode_key, module)?)?;
    module.add_function(wrap_pyfunction!(holds_pickle, module)?)?;
    Ok(())
}
