//! Dicts, namespaces, counters and sets.

use super::encode::Value;
use super::failure::{missing, Raise};
use super::{encoded, PyStore};
use crate::store::encoding::integers;
use crate::store::{mapping, Error};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

#[pymethods]
impl PyStore {
    fn dict_get<'py>(&self, c: u64, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        match self.find(c, key)? {
            Some(value) => self.finish(py, value),
            None => Err(missing(key)),
        }
    }

    fn dict_get_or<'py>(
        &self,
        c: u64,
        key: &Bound<'py, PyAny>,
        default: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        match self.find(c, key)? {
            Some(value) => self.finish(py, value),
            None => Ok(default),
        }
    }

    fn dict_contains(&self, c: u64, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let mut name = self.key(key)?;
        self.read(key.py(), |reading| {
            mapping::find(reading, c, &mut name.canonical).map(|item| item.is_some())
        })
        .or_raise()
    }

    fn dict_encoded<'py>(
        &self,
        c: u64,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (py, mut name) = (key.py(), self.key(key)?);
        self.read(py, |reading| {
            let value = mapping::get(reading, c, &mut name.canonical)?;
            Ok(value.map(|value| PyBytes::new(py, value)))
        })
        .or_raise()
    }

    fn dict_set(&self, c: u64, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (mut name, value) = (self.key(key)?, self.value(value)?);
        self.write(key.py(), |writing| mapping::set(writing, c, &mut name, &value)).or_raise()
    }

    fn dict_delete(&self, c: u64, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut name = self.key(key)?;
        self.write(key.py(), |writing| mapping::delete(writing, c, &mut name)).or_missing(key)
    }

    fn dict_setdefault<'py>(
        &self,
        c: u64,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, mut name, value) = (key.py(), self.key(key)?, self.value(value)?);
        let found = self.write(py, |writing| mapping::set_default(writing, c, &mut name, &value));
        self.decode(py, &found.or_raise()?)
    }

    fn dict_pop<'py>(&self, c: u64, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, mut name) = (key.py(), self.key(key)?);
        let value = self.write(py, |writing| mapping::pop(writing, c, &mut name));
        self.decode(py, &value.or_missing(key)?)
    }

    /// The last item, or the first one; of a set the key and None.
    #[pyo3(signature = (c, last = true))]
    fn dict_popitem<'py>(
        &self,
        py: Python<'py>,
        c: u64,
        last: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (key, value) =
            self.write(py, |writing| mapping::pop_item(writing, c, last)).or_raise()?;
        let key = self.decode(py, &key)?;
        let value =
            if value.is_empty() { py.None().into_bound(py) } else { self.decode(py, &value)? };
        PyTuple::new(py, [key, value])
    }

    #[pyo3(signature = (c, key, delta, initial = None))]
    fn dict_add<'py>(
        &self,
        c: u64,
        key: &Bound<'py, PyAny>,
        delta: &Bound<'py, PyAny>,
        initial: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, mut name, delta) = (key.py(), self.key(key)?, self.number(delta)?);
        let initial = initial.map(|initial| self.number(initial)).transpose()?;
        let sum = self
            .write(py, |writing| mapping::add(writing, c, &mut name, &delta, initial.as_deref()));
        self.decode(py, &sum.or_missing(key)?)
    }

    /// Set, or delete, if what is stored has that encoding; None stands for a key that is missing.
    fn dict_compare_and_set(
        &self,
        c: u64,
        key: &Bound<'_, PyAny>,
        expected: Option<&Bound<'_, PyAny>>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let mut name = self.key(key)?;
        let expected = optional_bytes(expected)?;
        let value = value.map(encoded).transpose()?;
        self.write(key.py(), |writing| {
            mapping::compare_and_set(writing, c, &mut name, expected, value.as_deref())
        })
        .or_raise()
    }

    fn set_add(&self, c: u64, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let mut name = self.key(key)?;
        self.write(key.py(), |writing| mapping::put_member(writing, c, &mut name)).or_raise()
    }

    fn set_discard(&self, c: u64, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let mut name = self.key(key)?;
        self.write(key.py(), |writing| match mapping::delete(writing, c, &mut name) {
            Ok(()) => Ok(true),
            Err(Error::Missing) => Ok(false),
            Err(error) => Err(error),
        })
        .or_raise()
    }
}

impl PyStore {
    #[inline]
    fn find<'py>(&self, c: u64, key: &Bound<'py, PyAny>) -> PyResult<Option<super::Decoded<'py>>> {
        let (py, mut name) = (key.py(), self.key(key)?);
        self.read(py, |reading| {
            let value = mapping::get(reading, c, &mut name.canonical)?;
            Ok(value.map(|value| self.decode_plain(py, value)))
        })
        .or_raise()
    }

    /// A number that can be added.
    pub(super) fn number<'py>(&self, number: &Bound<'py, PyAny>) -> PyResult<Value<'py>> {
        let value = self.value(number)?;
        if integers::is_number(&value) {
            return Ok(value);
        }
        Err(Error::Type("only int and float can be added; use a transaction for other types"))
            .or_raise()
    }
}

/// An encoded value, or None.
fn optional_bytes<'a>(value: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<&'a [u8]>> {
    let Some(value) = value else { return Ok(None) };
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(Some(bytes.as_bytes())),
        Err(_) => Err(PyTypeError::new_err("an encoded value is bytes, or None")),
    }
}
