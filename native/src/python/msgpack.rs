//! Fields between Python's objects and msgpack.

use crate::net::msgpack::{self, Budget, Reader, Token, DEPTH};
use crate::net::ProtocolError;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple,
};

/// Append one list of fields, of no more values than its reader accepts.
pub fn write(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, mut budget: Budget) -> PyResult<()> {
    write_at(object, out, DEPTH, &mut budget)
}

fn write_at(
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    depth: u32,
    budget: &mut Budget,
) -> PyResult<()> {
    let fits = if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        msgpack::put_bytes(out, bytes.as_bytes())
    } else if let Ok(text) = object.cast_exact::<PyString>() {
        msgpack::put_text(out, text.to_str()?)
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        write_int(number, out)?
    } else if object.is_none() {
        msgpack::put_nil(out);
        true
    } else if let Ok(value) = object.cast_exact::<PyBool>() {
        msgpack::put_bool(out, value.is_true());
        true
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        msgpack::put_float(out, number.value());
        true
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        write_list(tuple.len(), tuple.iter(), out, depth, budget)?
    } else if let Ok(list) = object.cast_exact::<PyList>() {
        write_list(list.len(), list.iter(), out, depth, budget)?
    } else {
        return write_other(object, out);
    };
    if fits {
        Ok(())
    } else {
        Err(PyOverflowError::new_err("a field of 4 GiB or more cannot be sent; send it in pieces"))
    }
}

#[cold]
fn write_other(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(number) = object.cast::<PyFloat>() {
        msgpack::put_float(out, number.value());
        return Ok(());
    }
    if let Ok(number) = object.cast::<PyInt>() {
        write_int(number, out)?;
        return Ok(());
    }
    if let Ok(text) = object.extract::<PyBackedStr>() {
        let _ = msgpack::put_text(out, &text);
        return Ok(());
    }
    if object.is_instance_of::<PyByteArray>() || object.is_instance_of::<PyMemoryView>() {
        let bytes = object.py().get_type::<PyBytes>().call1((object,))?;
        return write_at(&bytes, out, DEPTH, &mut { Budget::UNLIMITED });
    }
    Err(PyTypeError::new_err(format!(
        "a field is bytes, str, int, float, bool, None or a list of these, not {}",
        object.get_type().name()?
    )))
}

fn write_int(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> PyResult<bool> {
    if let Ok(value) = number.extract::<i64>() {
        msgpack::put_int(out, value);
    } else {
        let value: u64 = number.extract().map_err(|_| {
            PyOverflowError::new_err("an integer field has at most 64 bits; send it as bytes")
        })?;
        msgpack::put_big(out, value);
    }
    Ok(true)
}

fn write_list<'py>(
    length: usize,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    depth: u32,
    budget: &mut Budget,
) -> PyResult<bool> {
    if depth == 0 {
        return Err(PyValueError::new_err(format!("fields nest more than {DEPTH} lists deep")));
    }
    budget.spend(length).map_err(|text| {
        PyOverflowError::new_err(format!("{text}, the limit (max_values); send it in pieces"))
    })?;
    let fits = msgpack::put_list(out, length);
    for item in items {
        write_at(&item, out, depth - 1, budget)?;
    }
    Ok(fits)
}

/// Rebuild the fields of one message.
pub fn read<'py>(py: Python<'py>, payload: &[u8], budget: Budget) -> PyResult<Bound<'py, PyList>> {
    let mut reader = Reader::with_budget(payload, budget);
    let Token::List(length) = reader.token()? else {
        return Err(ProtocolError::new("fields that are no list").into());
    };
    let fields = read_list(py, &mut reader, length, DEPTH)?;
    reader.end()?;
    Ok(fields)
}

fn read_list<'py>(
    py: Python<'py>,
    reader: &mut Reader<'_>,
    length: usize,
    depth: u32,
) -> PyResult<Bound<'py, PyList>> {
    if depth == 0 {
        return Err(
            ProtocolError::of(format!("fields that nest more than {DEPTH} lists deep")).into()
        );
    }
    let mut items = Vec::with_capacity(length.min(1024));
    for _ in 0..length {
        items.push(match reader.token()? {
            Token::Nil => py.None().into_bound(py),
            Token::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
            Token::Int(value) => value.into_pyobject(py)?.into_any(),
            Token::Big(value) => value.into_pyobject(py)?.into_any(),
            Token::Float(value) => PyFloat::new(py, value).into_any(),
            Token::Text(text) => PyString::new(py, text).into_any(),
            Token::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
            Token::List(length) => read_list(py, reader, length, depth - 1)?.into_any(),
        });
    }
    PyList::new(py, items)
}
