//! From the bytes of values and keys to Python's objects.

use super::failure::Raise;
use crate::store::encoding::keys::{form, items, turned, Key};
use crate::store::encoding::trees::Tree;
use crate::store::encoding::{check, integers, tag, u32_at, Link};
use crate::store::{kind, Error};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyList, PySet, PyTuple};

/// How deep containers may lie in each other that are read.
const DEPTH: usize = 1100;

/// A value of one of the types that need nothing of the user's.
#[inline]
pub fn plain<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some((&first, rest)) = value.split_first() else { return Ok(None) };
    let object = match (first, rest.len()) {
        (tag::INT, 8) => {
            let number = i64::from_le_bytes(rest.try_into().expect("eight"));
            // SAFETY: a new reference, or nothing and an error.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(number))? }
        }
        (tag::STR, _) => text(py, rest)?,
        (tag::FLOAT, 8) => {
            let number = f64::from_le_bytes(rest.try_into().expect("eight"));
            PyFloat::new(py, number).into_any()
        }
        (tag::BYTES, _) => crate::python::bytes(py, rest)?.into_any(),
        (tag::NONE, 0) => py.None().into_bound(py),
        (tag::TRUE, 0) => PyBool::new(py, true).to_owned().into_any(),
        (tag::FALSE, 0) => PyBool::new(py, false).to_owned().into_any(),
        (tag::TUPLE, _) => return tuple(py, rest, crate::store::encoding::DEPTH).map(Some),
        _ => return Ok(None),
    };
    Ok(Some(object))
}

#[inline]
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let (start, len) = (bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t);
    // SAFETY: a new reference, or nothing and an error. It checks that this is UTF-8.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromStringAndSize(start, len)) }
}

fn tuple<'py>(py: Python<'py>, mut rest: &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let bad = || malformed("a tuple");
    let mut objects = Vec::new();
    while !rest.is_empty() {
        let len = u32_at(rest, 0).ok_or_else(bad)? as usize;
        let (item, behind) = rest[4..].split_at_checked(len).ok_or_else(bad)?;
        objects.push(match item.split_first() {
            Some((&tag::TUPLE, inner)) if depth > 1 => tuple(py, inner, depth - 1)?,
            Some((&tag::TUPLE, _)) => return Err(bad()),
            _ => plain(py, item)?.map_or_else(|| scalar(py, item), Ok)?,
        });
        rest = behind;
    }
    Ok(PyTuple::new(py, objects)?.into_any())
}

/// What of the plain values is in no other place: a large integer.
fn scalar<'py>(py: Python<'py>, item: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match item.split_first() {
        Some((&tag::BIG, rest)) => big(py, rest),
        _ => Err(malformed("a tuple")),
    }
}

fn malformed(what: &str) -> PyErr {
    super::failure::Failure::from(Error::malformed(what)).into()
}

/// Any value. A container becomes a plain object if all of it is there, else what the hook makes.
pub fn value<'py>(hooks: &Bound<'py, PyAny>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    deep(hooks, bytes, DEPTH)
}

fn deep<'py>(hooks: &Bound<'py, PyAny>, bytes: &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = hooks.py();
    if let Some(plain) = plain(py, bytes)? {
        return Ok(plain);
    }
    match bytes.first() {
        Some(&tag::BIG) => big(py, &bytes[1..]),
        Some(&tag::PICKLE) => {
            hooks.call_method1("loads", (crate::python::bytes(py, &bytes[1..])?,))
        }
        Some(&tag::KEY) => pair(hooks, &bytes[1..]),
        Some(&tag::TREE) if depth > 0 => tree(hooks, Tree::of(bytes).or_raise()?, depth - 1),
        Some(&tag::CHILD | &tag::REF) => {
            let link = Link::of(bytes).ok_or_else(|| malformed("a container"))?;
            hooks.call_method1("container", (link.kind, link.number, !link.owned))
        }
        _ => {
            check::scalar(bytes).or_raise()?;
            Err(malformed("a value"))
        }
    }
}

fn big<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let signed = PyDict::new(py);
    signed.set_item("signed", true)?;
    let int = py.get_type::<pyo3::types::PyInt>();
    int.call_method("from_bytes", (PyBytes::new(py, bytes), "little"), Some(&signed))
}

fn pair<'py>(hooks: &Bound<'py, PyAny>, rest: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let short = || malformed("a key that ends too soon");
    let len = u32_at(rest, 0).ok_or_else(short)? as usize;
    let (canonical, original) = rest[4..].split_at_checked(len).ok_or_else(short)?;
    Key::of_pair(canonical, original).or_raise()?;
    key(hooks, canonical, original)
}

/// The key that is stored in both forms.
pub fn key<'py>(
    hooks: &Bound<'py, PyAny>,
    canonical: &[u8],
    original: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    if !original.is_empty() {
        return value(hooks, original);
    }
    of_form(hooks.py(), canonical, crate::store::encoding::DEPTH)
}

fn of_form<'py>(py: Python<'py>, canonical: &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let bad = || malformed("a canonical key");
    let (&first, rest) = canonical.split_first().ok_or_else(bad)?;
    match first {
        form::INT => match integers::small_reversed(rest) {
            Some(number) => Ok(number.into_pyobject(py)?.into_any()),
            None => big(py, &turned(rest)),
        },
        form::STR => text(py, rest),
        form::TUPLE | form::FROZENSET if depth > 0 => {
            let parts = items(rest)
                .map(|item| of_form(py, item.ok_or_else(bad)?, depth - 1))
                .collect::<PyResult<Vec<_>>>()?;
            if first == form::TUPLE {
                return Ok(PyTuple::new(py, parts)?.into_any());
            }
            Ok(PyFrozenSet::new(py, parts)?.into_any())
        }
        _ => {
            let tag = match first {
                form::NONE => tag::NONE,
                form::FLOAT => tag::FLOAT,
                form::BYTES => tag::BYTES,
                _ => return Err(bad()),
            };
            plain(py, &[&[tag], rest].concat())?.ok_or_else(bad)
        }
    }
}

fn tree<'py>(
    hooks: &Bound<'py, PyAny>,
    mut tree: Tree<'_>,
    depth: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = hooks.py();
    let (kind, count, maxlen) = (tree.kind, tree.count, tree.maxlen);
    let mut next = || deep(hooks, tree.take().or_raise()?, depth);
    let object = if kind == kind::SET {
        let set = PySet::empty(py)?;
        for _ in 0..count {
            set.add(next()?)?;
        }
        set.into_any()
    } else if kind::is_mapping(kind) {
        let dict = PyDict::new(py);
        for _ in 0..count {
            let key = next()?;
            dict.set_item(key, next()?)?;
        }
        dict.into_any()
    } else {
        let list = PyList::empty(py);
        for _ in 0..count {
            list.append(next()?)?;
        }
        list.into_any()
    };
    tree.finish().or_raise()?;
    if kind == kind::DEQUE {
        let maxlen = (maxlen >= 0).then_some(maxlen);
        return py.import("collections")?.getattr("deque")?.call1((object, maxlen));
    }
    Ok(object)
}
