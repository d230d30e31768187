//! Items of a queue as Python objects: which are values, and how those are rebuilt.

use super::errors::SharedMemoryCorrupt;
use crate::queue::item::{EncodedItem, BYTES, FALSE, FLOAT, INT, NONE, PICKLE, STR, TRUE};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

/// What is to be put; it keeps the object whose bytes it refers to.
pub type Outgoing<'py> = EncodedItem<Bound<'py, PyAny>>;

pub fn pickle<'py>(pickle: &Bound<'py, PyBytes>) -> Outgoing<'py> {
    // SAFETY: a bytes object never changes.
    unsafe { Outgoing::kept(PICKLE, pickle.clone().into_any(), pickle.as_bytes()) }
}

/// A value of a type that needs no pickle; nothing for all others.
#[inline]
pub fn plain<'py>(object: &Bound<'py, PyAny>) -> Option<Outgoing<'py>> {
    let pointer = object.as_ptr();
    // SAFETY: the object is alive, and each call is for objects of the type that was asked.
    unsafe {
        let kind = ffi::Py_TYPE(pointer);
        if kind == &raw mut ffi::PyLong_Type {
            let mut overflow = 0;
            let value = ffi::PyLong_AsLongLongAndOverflow(pointer, &raw mut overflow);
            return (overflow == 0).then(|| Outgoing::word(INT, value as u64));
        }
        if kind == &raw mut ffi::PyUnicode_Type {
            return text(object);
        }
        if kind == &raw mut ffi::PyBytes_Type {
            let bytes = object.cast_unchecked::<PyBytes>().as_bytes();
            return Some(Outgoing::kept(BYTES, object.clone(), bytes));
        }
        if kind == &raw mut ffi::PyFloat_Type {
            return Some(Outgoing::word(FLOAT, ffi::PyFloat_AS_DOUBLE(pointer).to_bits()));
        }
        if pointer == ffi::Py_None() {
            return Some(Outgoing::word(NONE, 0));
        }
        if kind == &raw mut ffi::PyBool_Type {
            let kind = if pointer == ffi::Py_True() { TRUE } else { FALSE };
            return Some(Outgoing::word(kind, 0));
        }
    }
    None
}

/// Text that UTF-8 can say; half a surrogate pair it cannot.
fn text<'py>(object: &Bound<'py, PyAny>) -> Option<Outgoing<'py>> {
    let mut len = 0;
    // SAFETY: it is a str, which keeps these bytes as long as it lives.
    unsafe {
        let start = ffi::PyUnicode_AsUTF8AndSize(object.as_ptr(), &raw mut len);
        if start.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), len as usize);
        Some(Outgoing::kept(STR, object.clone(), bytes))
    }
}

/// Whether all of an object is of types that every pickler writes in the same way, and no code of
/// the user runs. Of a large object nothing is said.
pub fn is_plain(object: &Bound<'_, PyAny>, looks: &mut u32) -> bool {
    let pointer = object.as_ptr();
    *looks = looks.saturating_sub(1);
    if *looks == 0 {
        return false;
    }
    // SAFETY: the object is alive; its type is one of those that the casts are for.
    unsafe {
        let kind = ffi::Py_TYPE(pointer);
        let is = |of: *mut ffi::PyTypeObject| kind == of;
        if is(&raw mut ffi::PyLong_Type)
            || is(&raw mut ffi::PyUnicode_Type)
            || is(&raw mut ffi::PyFloat_Type)
            || is(&raw mut ffi::PyBytes_Type)
            || is(&raw mut ffi::PyBool_Type)
            || pointer == ffi::Py_None()
        {
            return true;
        }
        if is(&raw mut ffi::PyTuple_Type) {
            let items = object.cast_unchecked::<PyTuple>();
            return items.iter_borrowed().all(|item| is_plain(&item, looks));
        }
        if is(&raw mut ffi::PyList_Type) {
            return object.cast_unchecked::<PyList>().iter().all(|item| is_plain(&item, looks));
        }
        if is(&raw mut ffi::PyDict_Type) {
            let mut items = object.cast_unchecked::<PyDict>().iter();
            return items.all(|(key, value)| is_plain(&key, looks) && is_plain(&value, looks));
        }
    }
    false
}

/// Rebuild a value that is no pickle. No code of the user runs here: neither the types that are made
/// nor the making of them can call any.
#[inline]
pub fn rebuild<'py>(py: Python<'py>, kind: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let len = bytes.len() as ffi::Py_ssize_t;
    if matches!(kind, INT | FLOAT) && bytes.len() != size_of::<u64>() {
        return Err(SharedMemoryCorrupt::new_err(format!("a number of {len} bytes in a queue")));
    }
    // SAFETY: each call makes a new object, or sets an error and returns null.
    unsafe {
        let word = || bytes.as_ptr().cast::<u64>().read();
        let made = match kind {
            INT => ffi::PyLong_FromLongLong(word() as i64),
            BYTES | PICKLE => ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), len),
            STR => ffi::PyUnicode_DecodeUTF8(bytes.as_ptr().cast(), len, std::ptr::null()),
            FLOAT => ffi::PyFloat_FromDouble(f64::from_bits(word())),
            NONE => ffi::Py_NewRef(ffi::Py_None()),
            TRUE => ffi::Py_NewRef(ffi::Py_True()),
            FALSE => ffi::Py_NewRef(ffi::Py_False()),
            _ => {
                return Err(SharedMemoryCorrupt::new_err(format!(
                    "an item of kind {kind} in a queue"
                )))
            }
        };
        Bound::from_owned_ptr_or_err(py, made)
    }
}
