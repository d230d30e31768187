//! Keys: their canonical form, and themselves where that does not tell.

use super::{is_exactly, small, text, Encoder, Value};
use crate::python::store::failure::Raise;
use crate::store::encoding::keys::{form, to_value, Canonical, Key};
use crate::store::encoding::{integers, tag, DEPTH};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFrozenSet, PyTuple};

impl<'py> Encoder<'_, 'py> {
    /// A key as a value: a key of a tree, and what raw views are given.
    pub fn key_value(&self, object: &Bound<'py, PyAny>) -> PyResult<Vec<u8>> {
        let key = self.key(object)?;
        to_value(key.canonical.bytes(), &key.original).or_raise()
    }

    #[inline]
    pub fn key(&self, object: &Bound<'py, PyAny>) -> PyResult<Key> {
        if is_exactly(object, &raw mut ffi::PyUnicode_Type) {
            if let Some(text) = text(object).filter(|text| text.len() < 256) {
                return Ok(Key::plain(form::STR, text));
            }
        } else if is_exactly(object, &raw mut ffi::PyLong_Type) {
            if let Some(number) = small(object) {
                return Ok(Key::int(number));
            }
        }
        self.other_key(object)
    }

    #[cold]
    fn other_key(&self, object: &Bound<'py, PyAny>) -> PyResult<Key> {
        if let Some(value) = self.quick(object)? {
            return Key::of_value(&value).or_raise();
        }
        let (canonical, tells) = self.canonical(object, DEPTH)?;
        let canonical = Canonical::from_bytes(&canonical).or_raise()?;
        let mut original = Vec::new();
        if !tells || canonical.is_digest() {
            original = Value::tagged(tag::PICKLE, self.dumps(object)?.as_bytes())?.to_vec();
        }
        Ok(Key { canonical, original })
    }

    /// The canonical form of any key, in full, and whether the key can be made from it.
    fn canonical(&self, object: &Bound<'py, PyAny>, depth: usize) -> PyResult<(Vec<u8>, bool)> {
        if let Some(value) = self.quick(object)? {
            return scalar(&value);
        }
        if let Ok(items) = object.cast_exact::<PyTuple>() {
            return self.group(form::TUPLE, items.iter(), depth);
        }
        if let Ok(items) = object.cast_exact::<PyFrozenSet>() {
            return self.group(form::FROZENSET, items.iter(), depth);
        }
        if is_exactly(object, &raw mut ffi::PyUnicode_Type) {
            let bytes = object.call_method1("encode", ("utf-8", "surrogatepass"))?;
            let bytes: Vec<u8> = bytes.extract()?;
            return Ok(([&[form::SURROGATES], &bytes[..]].concat(), false));
        }
        let canonical = self.hooks.call_method1("key", (object,))?;
        let canonical = canonical.cast::<PyBytes>()?.as_bytes();
        if canonical.is_empty() {
            return Err(PyTypeError::new_err("the hook key has returned no bytes"));
        }
        Ok((canonical.to_vec(), false))
    }

    fn group(
        &self,
        form: u8,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> PyResult<(Vec<u8>, bool)> {
        if depth == 0 {
            return Err(PyValueError::new_err("a key of tuples more than 100 deep"));
        }
        let mut parts = Vec::new();
        let mut all_tell = true;
        for item in items {
            let (part, tells) = self.canonical(&item, depth - 1)?;
            all_tell &= tells;
            parts.push(part);
        }
        if form == form::FROZENSET {
            parts.sort_unstable();
        }
        let mut canonical = vec![form];
        for part in &parts {
            canonical.extend_from_slice(&(part.len() as u32).to_le_bytes());
            canonical.extend_from_slice(part);
        }
        Ok((canonical, all_tell))
    }
}

/// The canonical form of a plain value, in full.
fn scalar(value: &[u8]) -> PyResult<(Vec<u8>, bool)> {
    let plain = |form: u8| [&[form], &value[1..]].concat();
    match value[0] {
        tag::STR => Ok((plain(form::STR), true)),
        tag::BYTES => Ok((plain(form::BYTES), true)),
        tag::BIG => Ok(([&[form::INT], &integers::reversed(&value[1..])[..]].concat(), true)),
        _ => {
            let key = Key::of_value(value).or_raise()?;
            Ok((key.canonical.bytes().to_vec(), key.original.is_empty()))
        }
    }
}
