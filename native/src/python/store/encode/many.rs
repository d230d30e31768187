//! Many keys and values at once: what is small lies in one buffer, not in an allocation for each.

use super::{is_exactly, small, text, Encoder, Value};
use crate::python::store::failure::Raise;
use crate::store::encoding::keys::form;
use crate::store::encoding::{int, integers, tag, DEPTH};
use crate::store::Error;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// Longer text is no small value.
const SMALL: usize = 4096;

/// Values in their encoding.
#[derive(Default)]
pub struct Values<'py> {
    small: Vec<u8>,
    places: Vec<Place>,
    large: Vec<Value<'py>>,
}

enum Place {
    Small(usize, usize),
    Large(usize),
}

impl<'py> Values<'py> {
    pub fn push_large(&mut self, value: Value<'py>) {
        self.places.push(Place::Large(self.large.len()));
        self.large.push(value);
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| match *place {
            Place::Small(from, to) => &self.small[from..to],
            Place::Large(index) => &self.large[index],
        })
    }
}

/// Canonical forms of keys, and originals where those do not tell.
#[derive(Default)]
pub struct Keys {
    bytes: Vec<u8>,
    /// Where each canonical form ends, and where its original does.
    ends: Vec<(usize, usize)>,
}

impl Keys {
    pub fn push(&mut self, canonical: &[u8], original: &[u8]) {
        self.bytes.extend_from_slice(canonical);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(original);
        self.ends.push((end, self.bytes.len()));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |&(middle, end)| {
            let parts = (&self.bytes[begin..middle], &self.bytes[middle..end]);
            begin = end;
            parts
        })
    }
}

impl<'py> Encoder<'_, 'py> {
    pub fn push_value(&self, object: &Bound<'py, PyAny>, values: &mut Values<'py>) -> PyResult<()> {
        if !self.push_small(object, values)? {
            values.push_large(self.value(object)?);
        }
        Ok(())
    }

    /// The same of a value that is small and plain; false for another.
    #[inline]
    pub fn push_small(
        &self,
        object: &Bound<'py, PyAny>,
        values: &mut Values<'py>,
    ) -> PyResult<bool> {
        let from = values.small.len();
        let is_small = self.append_small(object, &mut values.small)?;
        if is_small {
            values.places.push(Place::Small(from, values.small.len()));
        }
        Ok(is_small)
    }

    pub fn push_key(&self, object: &Bound<'py, PyAny>, keys: &mut Keys) -> PyResult<()> {
        if !self.push_plain_key(object, keys)? {
            let key = self.key(object)?;
            keys.push(key.canonical.bytes(), &key.original);
        }
        Ok(())
    }

    /// The same of a short text or a small number; false for another.
    #[inline]
    pub fn push_plain_key(&self, object: &Bound<'py, PyAny>, keys: &mut Keys) -> PyResult<bool> {
        if is_exactly(object, &raw mut ffi::PyUnicode_Type) {
            if let Some(text) = text(object).filter(|text| text.len() < 256) {
                keys.bytes.push(form::STR);
                keys.push(text, &[]);
                return Ok(true);
            }
        } else if is_exactly(object, &raw mut ffi::PyLong_Type) {
            if let Some(number) = small(object) {
                keys.bytes.push(form::INT);
                keys.push(integers::shortest_reversed(&number.to_be_bytes()), &[]);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Write a value behind others if it is small and plain; else nothing.
    #[inline]
    pub(super) fn append_small(
        &self,
        object: &Bound<'py, PyAny>,
        out: &mut Vec<u8>,
    ) -> PyResult<bool> {
        let from = out.len();
        let is_small = self.append_plain(object, out, SMALL, DEPTH)?;
        if !is_small {
            out.truncate(from);
        }
        Ok(is_small)
    }

    /// Write a value behind others.
    pub(super) fn append(&self, object: &Bound<'py, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        let value = self.value(object)?;
        out.try_reserve(value.len()).map_err(|_| Error::Memory).or_raise()?;
        out.extend_from_slice(&value);
        Ok(())
    }

    /// Write a value of one of the types that need nothing of the user's, or a tuple of such; false
    /// if it is none, or is longer than `most`. Then a part of it may have been written.
    pub(super) fn append_plain(
        &self,
        object: &Bound<'py, PyAny>,
        out: &mut Vec<u8>,
        most: usize,
        depth: usize,
    ) -> PyResult<bool> {
        if is_exactly(object, &raw mut ffi::PyUnicode_Type) {
            let Some(text) = text(object).filter(|text| text.len() <= most) else {
                return Ok(false);
            };
            out.try_reserve(text.len() + 1).map_err(|_| Error::Memory).or_raise()?;
            out.push(tag::STR);
            out.extend_from_slice(text);
            return Ok(true);
        }
        if is_exactly(object, &raw mut ffi::PyLong_Type) {
            if let Some(number) = small(object) {
                out.extend_from_slice(&int(number));
                return Ok(true);
            }
        } else if is_exactly(object, &raw mut ffi::PyTuple_Type) {
            return self.append_tuple(object.cast::<PyTuple>()?, out, most, depth);
        }
        if object.cast_exact::<PyBytes>().is_ok_and(|bytes| bytes.as_bytes().len() >= most) {
            return Ok(false);
        }
        let Some(value) = self.quick(object)?.filter(|value| value.len() <= most) else {
            return Ok(false);
        };
        out.try_reserve(value.len()).map_err(|_| Error::Memory).or_raise()?;
        out.extend_from_slice(&value);
        Ok(true)
    }

    fn append_tuple(
        &self,
        tuple: &Bound<'py, PyTuple>,
        out: &mut Vec<u8>,
        most: usize,
        depth: usize,
    ) -> PyResult<bool> {
        if depth == 0 {
            return Ok(false);
        }
        let begin = out.len();
        out.push(tag::TUPLE);
        for item in tuple.iter_borrowed() {
            let from = out.len() + 4;
            out.extend_from_slice(&[0; 4]);
            if !self.append_plain(&item, out, most, depth - 1)? || out.len() - begin > most {
                return Ok(false);
            }
            let Ok(len) = u32::try_from(out.len() - from) else { return Ok(false) };
            out[from - 4..from].copy_from_slice(&len.to_le_bytes());
        }
        Ok(true)
    }
}
