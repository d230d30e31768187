//! From Python's objects to the bytes of values and keys.

mod keys;
mod many;

pub use many::{Keys, Values};

use super::failure::Raise;
use crate::store::encoding::trees::Builder;
use crate::store::encoding::{float, int, integers, reference, tag, DEPTH};
use crate::store::{kind, Error};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PySet, PyType};
use std::ops::Deref;

/// The bytes of a value, wherever they lie.
pub enum Value<'py> {
    /// One byte, or a number of eight.
    Short([u8; 9], usize),
    Long(Vec<u8>),
    Object(Bound<'py, PyBytes>),
}

impl Deref for Value<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(bytes, len) => &bytes[..*len],
            Self::Long(bytes) => bytes,
            Self::Object(bytes) => bytes.as_bytes(),
        }
    }
}

impl AsRef<[u8]> for Value<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Value<'_> {
    fn byte(tag: u8) -> Self {
        Self::Short([tag; 9], 1)
    }

    fn tagged(tag: u8, rest: &[u8]) -> PyResult<Self> {
        let mut bytes = Vec::new();
        let room = bytes.try_reserve_exact(rest.len() + 1);
        room.map_err(|_| Error::Memory).or_raise()?;
        bytes.push(tag);
        bytes.extend_from_slice(rest);
        Ok(Self::Long(bytes))
    }
}

/// Containers that are being written, to find one that is in itself.
struct Path {
    objects: Vec<*mut ffi::PyObject>,
}

pub struct Encoder<'a, 'py> {
    hooks: &'a Bound<'py, PyAny>,
    uuid: &'a [u8; 16],
}

#[inline]
fn is_exactly(object: &Bound<'_, PyAny>, kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == kind }
}

fn deque_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static DEQUE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    DEQUE.import(py, "collections", "deque")
}

/// The text of a str; nothing if it has lone surrogates.
#[inline]
fn text<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    let mut len = 0;
    // SAFETY: it is a str, which keeps these bytes as long as it lives.
    unsafe {
        let start = ffi::PyUnicode_AsUTF8AndSize(object.as_ptr(), &raw mut len);
        if start.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(std::slice::from_raw_parts(start.cast::<u8>(), len as usize))
    }
}

/// An int of 64 bits, or nothing.
#[inline]
fn small(object: &Bound<'_, PyAny>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: it is an int, for which this cannot fail.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(number)
}

fn big(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let bits: usize = object.call_method0("bit_length")?.extract()?;
    let signed = PyDict::new(object.py());
    signed.set_item("signed", true)?;
    let bytes = object.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&signed))?;
    bytes.extract()
}

impl<'a, 'py> Encoder<'a, 'py> {
    pub fn new(hooks: &'a Bound<'py, PyAny>, uuid: &'a [u8; 16]) -> Self {
        Self { hooks, uuid }
    }

    #[inline]
    pub fn value(&self, object: &Bound<'py, PyAny>) -> PyResult<Value<'py>> {
        match self.quick(object)? {
            Some(value) => Ok(value),
            None => self.other(object),
        }
    }

    /// A value of one of the types that most values have.
    #[inline]
    fn quick(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Value<'py>>> {
        if is_exactly(object, &raw mut ffi::PyLong_Type) {
            return Ok(Some(match small(object) {
                Some(number) => Value::Short(int(number), 9),
                None => Value::tagged(tag::BIG, integers::shortest(&big(object)?))?,
            }));
        }
        if is_exactly(object, &raw mut ffi::PyUnicode_Type) {
            return text(object).map(|text| Value::tagged(tag::STR, text)).transpose();
        }
        if is_exactly(object, &raw mut ffi::PyFloat_Type) {
            let number = object.cast::<PyFloat>()?.value();
            return Ok(Some(Value::Short(float(number), 9)));
        }
        if is_exactly(object, &raw mut ffi::PyBytes_Type) {
            let bytes = object.cast::<PyBytes>()?.as_bytes();
            return Ok(Some(Value::tagged(tag::BYTES, bytes)?));
        }
        if object.is_none() {
            return Ok(Some(Value::byte(tag::NONE)));
        }
        if let Ok(truth) = object.cast_exact::<PyBool>() {
            let tag = if truth.is_true() { tag::TRUE } else { tag::FALSE };
            return Ok(Some(Value::byte(tag)));
        }
        Ok(None)
    }

    #[cold]
    fn other(&self, object: &Bound<'py, PyAny>) -> PyResult<Value<'py>> {
        let mut plain = Vec::new();
        if is_exactly(object, &raw mut ffi::PyTuple_Type)
            && self.append_plain(object, &mut plain, usize::MAX, DEPTH)?
        {
            return Ok(Value::Long(plain));
        }
        if self.plain_kind(object)?.is_some() {
            let mut builder = Builder::new();
            self.tree(object, &mut builder, &mut Path { objects: Vec::new() })?;
            return Ok(Value::Long(builder.bytes));
        }
        if let Some(to) = self.face(object)? {
            return Ok(Value::Long(to));
        }
        Value::tagged(tag::PICKLE, self.dumps(object)?.as_bytes())
    }

    fn dumps(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let pickled = self.hooks.call_method1("dumps", (object,))?;
        let pickled = pickled.cast_into::<PyBytes>()?;
        if pickled.as_bytes().is_empty() {
            return Err(PyValueError::new_err("the hook dumps has returned no bytes"));
        }
        Ok(pickled)
    }

    /// Which container an object of exactly this type becomes.
    fn plain_kind(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<u8>> {
        Ok(if is_exactly(object, &raw mut ffi::PyDict_Type) {
            Some(kind::DICT)
        } else if is_exactly(object, &raw mut ffi::PyList_Type) {
            Some(kind::LIST)
        } else if is_exactly(object, &raw mut ffi::PySet_Type) {
            Some(kind::SET)
        } else if object.get_type().is(deque_type(object.py())?) {
            Some(kind::DEQUE)
        } else {
            None
        })
    }

    /// A reference, if the object is a face of a container of this store.
    fn face(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Vec<u8>>> {
        let Some(method) = object.get_type().getattr_opt("__garrison_container__")? else {
            return Ok(None);
        };
        let (uuid, kind, number): (Bound<'py, PyBytes>, u8, u64) =
            method.call1((object,))?.extract()?;
        Ok((uuid.as_bytes() == self.uuid).then(|| reference(kind, number).to_vec()))
    }

    fn tree(
        &self,
        object: &Bound<'py, PyAny>,
        builder: &mut Builder,
        path: &mut Path,
    ) -> PyResult<()> {
        if path.objects.contains(&object.as_ptr()) {
            return Err(PyValueError::new_err("a container that is in itself cannot be stored"));
        }
        if path.objects.len() >= DEPTH {
            return Err(PyValueError::new_err(
                "containers more than 100 deep cannot be stored; store them one by one",
            ));
        }
        path.objects.push(object.as_ptr());
        if let Ok(dict) = object.cast_exact::<PyDict>() {
            self.pairs(dict, builder, path)?;
        } else if let Ok(set) = object.cast_exact::<PySet>() {
            self.members(set, builder)?;
        } else {
            self.items(object, builder, path)?;
        }
        path.objects.pop();
        Ok(())
    }

    fn pairs(
        &self,
        dict: &Bound<'py, PyDict>,
        builder: &mut Builder,
        path: &mut Path,
    ) -> PyResult<()> {
        // A copy: what is written may run code that changes the dict.
        let pairs = dict.copy()?;
        let begun = builder.begin(kind::DICT, -1);
        for (key, value) in &pairs {
            self.key_item(&key, builder)?;
            self.item(&value, builder, path)?;
        }
        builder.end(begun, pairs.len()).or_raise()
    }

    fn members(&self, set: &Bound<'py, PySet>, builder: &mut Builder) -> PyResult<()> {
        let members = set.as_any().try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let begun = builder.begin(kind::SET, -1);
        for member in &members {
            self.key_item(member, builder)?;
        }
        builder.end(begun, members.len()).or_raise()
    }

    /// A key as an item of a tree. As a value, a text or a number is the same as any other.
    fn key_item(&self, key: &Bound<'py, PyAny>, builder: &mut Builder) -> PyResult<()> {
        let is_value = is_exactly(key, &raw mut ffi::PyUnicode_Type)
            || is_exactly(key, &raw mut ffi::PyLong_Type);
        let begun = builder.begin_item();
        if !is_value || !self.append_small(key, &mut builder.bytes)? {
            builder.bytes.extend_from_slice(&self.key_value(key)?);
        }
        builder.end_item(begun).or_raise()
    }

    fn items(
        &self,
        object: &Bound<'py, PyAny>,
        builder: &mut Builder,
        path: &mut Path,
    ) -> PyResult<()> {
        let items = object.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let begun = if object.is_exact_instance_of::<PyList>() {
            builder.begin(kind::LIST, -1)
        } else {
            let maxlen: Option<i64> = object.getattr("maxlen")?.extract()?;
            builder.begin(kind::DEQUE, maxlen.unwrap_or(-1))
        };
        for item in &items {
            self.item(item, builder, path)?;
        }
        builder.end(begun, items.len()).or_raise()
    }

    fn item(
        &self,
        object: &Bound<'py, PyAny>,
        builder: &mut Builder,
        path: &mut Path,
    ) -> PyResult<()> {
        let begun = builder.begin_item();
        if !self.append_small(object, &mut builder.bytes)? {
            if self.plain_kind(object)?.is_some() {
                self.tree(object, builder, path)?;
            } else {
                self.append(object, &mut builder.bytes)?;
            }
        }
        builder.end_item(begun).or_raise()
    }
}
