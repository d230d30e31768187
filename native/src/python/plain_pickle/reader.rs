//! Reads pickles that this core has written.

use super::super::bytes as bytes_of;
use super::records::{is_descriptor, is_record, make};
use super::*;
use pyo3::ffi;
use pyo3::types::{PyList, PyString, PyTuple, PyType};
use std::ptr::null_mut;

/// Keys of dicts that a reader remembers.
const KEYS: usize = 16;
/// Attributes of classes that a reader remembers.
const ATTRIBUTES: usize = 32;
/// Bytes from which on garbage is not collected while they are read.
const LONG_READ: usize = 4 << 10;

/// Read a pickle that `write` has written, or another one without records: no code of the user runs.
pub fn read<'py>(py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyAny>> {
    Reader::new(py).read(data)
}

/// Read whatever this core has written; nothing of another pickle.
pub fn read_any<'py>(py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyAny>> {
    let mut reader = Reader::new(py);
    reader.may_import = true;
    reader.read(data)
}

/// Reads pickles one after the other. Equal keys of their dicts are one object, as in one pickle.
pub struct Reader<'a, 'py> {
    py: Python<'py>,
    data: &'a [u8],
    /// Nesting that it may still follow.
    deeper: u32,
    memo: Vec<Bound<'py, PyAny>>,
    /// Items of tuples that are not complete.
    values: Vec<Bound<'py, PyAny>>,
    keys: [Option<(&'a [u8], Bound<'py, PyAny>)>; KEYS],
    /// Classes may be imported, which runs code.
    may_import: bool,
    /// The class of the last record.
    class: Option<Bound<'py, PyType>>,
    /// Classes and names of attributes that are no descriptors.
    attributes: [(*mut ffi::PyTypeObject, *mut ffi::PyObject); ATTRIBUTES],
    pause: Option<CollectorPause>,
}

impl<'a, 'py> Reader<'a, 'py> {
    pub fn new(py: Python<'py>) -> Self {
        Self {
            py,
            data: &[],
            deeper: 0,
            memo: Vec::new(),
            values: Vec::new(),
            keys: [const { None }; KEYS],
            may_import: false,
            class: None,
            attributes: [(null_mut(), null_mut()); ATTRIBUTES],
            pause: None,
        }
    }

    pub fn read(&mut self, data: &'a [u8]) -> Option<Bound<'py, PyAny>> {
        self.data = data.strip_prefix(&PROTO)?;
        self.deeper = DEEPEST;
        self.memo.clear();
        self.values.clear();
        self.pause = (data.len() >= LONG_READ).then(CollectorPause::new);
        let value = self.value();
        self.pause = None;
        value.filter(|_| self.data == [STOP])
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.data.split_first()?;
        self.data = rest;
        Some(first)
    }

    fn word<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&first, rest) = self.data.split_first_chunk()?;
        self.data = rest;
        Some(first)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.data.split_at_checked(len)?;
        self.data = rest;
        Some(first)
    }

    fn skip(&mut self, opcode: u8) -> bool {
        let found = self.data.first() == Some(&opcode);
        if found {
            self.data = &self.data[1..];
        }
        found
    }

    /// None if there is no memory.
    fn memoize(&mut self, value: &Bound<'py, PyAny>) -> Option<()> {
        if self.skip(MEMOIZE) {
            self.memo.try_reserve(1).ok()?;
            self.memo.push(value.clone());
        }
        Some(())
    }

    fn value(&mut self) -> Option<Bound<'py, PyAny>> {
        let py = self.py;
        let made = match self.byte()? {
            INT_1 => {
                let value = self.byte()?;
                return self.int(value.into());
            }
            INT_4 => {
                let value = i32::from_le_bytes(self.word()?);
                return self.int(value.into());
            }
            LONG if self.byte()? == 8 => {
                let value = i64::from_le_bytes(self.word()?);
                return self.int(value);
            }
            FLOAT => {
                let value = f64::from_be_bytes(self.word()?);
                // SAFETY: makes a new object, or sets an error and returns null.
                return unsafe { self.made(ffi::PyFloat_FromDouble(value)) };
            }
            NONE => py.None().into_bound(py),
            TRUE => pyo3::types::PyBool::new(py, true).to_owned().into_any(),
            FALSE => pyo3::types::PyBool::new(py, false).to_owned().into_any(),
            SHORT_STR => {
                let len = self.byte()?;
                self.text(len.into())?
            }
            STR => {
                let len = u32::from_le_bytes(self.word()?);
                self.text(len as usize)?
            }
            SHORT_BYTES => {
                let len = self.byte()?;
                bytes_of(py, self.bytes(len.into())?).ok()?.into_any()
            }
            BYTES => {
                let len = u32::from_le_bytes(self.word()?);
                bytes_of(py, self.bytes(len as usize)?).ok()?.into_any()
            }
            LONG_STR => {
                let len = u64::from_le_bytes(self.word()?);
                self.text(usize::try_from(len).ok()?)?
            }
            LONG_BYTES => {
                let len = u64::from_le_bytes(self.word()?);
                bytes_of(py, self.bytes(usize::try_from(len).ok()?)?).ok()?.into_any()
            }
            GET => {
                let number = self.byte()?;
                return self.known(number.into());
            }
            LONG_GET => {
                let number = u32::from_le_bytes(self.word()?);
                return self.known(number as usize);
            }
            container => return self.container(container),
        };
        self.memoize(&made)?;
        Some(made)
    }

    /// What was read before, or a record of that class.
    fn known(&mut self, number: usize) -> Option<Bound<'py, PyAny>> {
        let found = self.memo.get(number)?.clone();
        if self.data.first() == Some(&NEW_RECORD[0]) {
            return self.record(found);
        }
        Some(found)
    }

    fn int(&self, value: i64) -> Option<Bound<'py, PyAny>> {
        // SAFETY: makes a new object, or sets an error and returns null.
        unsafe { self.made(ffi::PyLong_FromLongLong(value)) }
    }

    /// A new object; no memory for one is no error here: `pickle` will say so.
    ///
    /// # Safety
    /// The reference is the caller's to give away; null if an error was set.
    unsafe fn made(&self, object: *mut ffi::PyObject) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the caller's word.
        unsafe { Bound::from_owned_ptr_or_err(self.py, object).ok() }
    }

    fn container(&mut self, opcode: u8) -> Option<Bound<'py, PyAny>> {
        self.deeper = self.deeper.checked_sub(1)?;
        let made = match opcode {
            MARK => self.tuple()?,
            LIST => self.list()?,
            DICT => self.dict()?,
            CLASS => {
                let class = self.class()?;
                self.record(class)?
            }
            _ => return None,
        };
        self.deeper += 1;
        Some(made)
    }

    fn text(&mut self, len: usize) -> Option<Bound<'py, PyAny>> {
        let bytes = self.bytes(len)?;
        let (start, len) = (bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t);
        // SAFETY: makes a new object of these bytes, or sets an error and returns null.
        unsafe { self.made(ffi::PyUnicode_DecodeUTF8(start, len, std::ptr::null())) }
    }

    /// A key of a dict: of text, most often one that was a key before.
    fn key(&mut self) -> Option<Bound<'py, PyAny>> {
        let &[SHORT_STR, len, ref rest @ ..] = self.data else { return self.value() };
        let (bytes, _) = rest.split_at_checked(len.into())?;
        let (first, last) = (bytes.first().unwrap_or(&0), bytes.last().unwrap_or(&0));
        let place = usize::from(first ^ last.rotate_left(3) ^ len) % KEYS;
        if let Some((known, key)) = &self.keys[place] {
            if *known == bytes {
                let key = key.clone();
                self.data = &rest[bytes.len()..];
                self.memoize(&key)?;
                return Some(key);
            }
        }
        let key = self.value()?;
        self.keys[place] = Some((bytes, key.clone()));
        Some(key)
    }

    fn tuple(&mut self) -> Option<Bound<'py, PyAny>> {
        let start = self.values.len();
        while !self.skip(TUPLE) {
            let value = self.value()?;
            self.values.try_reserve(1).ok()?;
            self.values.push(value);
        }
        let is_atomic = self.values[start..].iter().all(is_atom);
        let made = PyTuple::new(self.py, self.values.drain(start..)).ok()?.into_any();
        if is_atomic {
            // As the collector does with it at its first look.
            // SAFETY: a new tuple, which can be in no circle.
            unsafe { ffi::PyObject_GC_UnTrack(made.as_ptr().cast()) };
        }
        self.memoize(&made)?;
        Some(made)
    }

    fn list(&mut self) -> Option<Bound<'py, PyAny>> {
        let list = PyList::empty(self.py);
        self.memoize(&list)?;
        if !self.skip(MARK) {
            return None;
        }
        while !self.skip(APPENDS) {
            list.append(self.value()?).ok()?;
        }
        Some(list.into_any())
    }

    fn dict(&mut self) -> Option<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        self.memoize(&dict)?;
        if !self.skip(MARK) {
            return None;
        }
        while !self.skip(SETITEMS) {
            let key = self.key()?;
            dict.set_item(key, self.value()?).ok()?;
        }
        Some(dict.into_any())
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.data.iter().position(|&byte| byte == b'\n')?;
        let line = &self.data[..end];
        self.data = &self.data[end + 1..];
        Some(line)
    }

    /// A class by its name: `pickle` finds it.
    #[cold]
    fn class(&mut self) -> Option<Bound<'py, PyAny>> {
        if !self.may_import {
            return None;
        }
        let whole =
            [&PROTO[..], &[CLASS], self.line()?, b"\n", self.line()?, b"\n", &[STOP]].concat();
        let is_paused = self.pause.take().is_some();
        let found = pickle_loads(self.py).and_then(|loads| loads.call1((whole,))).ok()?;
        self.pause = is_paused.then(CollectorPause::new);
        self.memoize(&found)?;
        Some(found)
    }

    /// A record, from behind its class on.
    fn record(&mut self, class: Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let class = class.cast_into::<PyType>().ok()?;
        self.data = self.data.strip_prefix(&NEW_RECORD)?;
        if !self.class.as_ref().is_some_and(|last| last.is(&class)) {
            if !is_record(self.py, class.as_type_ptr()) {
                return None;
            }
            self.class = Some(class.clone());
        }
        let made = make(&class)?;
        self.memoize(&made)?;
        self.data = self.data.strip_prefix(&[DICT, MARK])?;
        while !self.skip(SETITEMS) {
            let name = self.attribute()?;
            if !self.is_plain(class.as_type_ptr(), &name) {
                return None;
            }
            let value = self.value()?;
            // SAFETY: all alive. As if it was set in its dict, which is not made for that.
            let set = unsafe {
                ffi::PyObject_GenericSetAttr(made.as_ptr(), name.as_ptr(), value.as_ptr())
            };
            if set != 0 {
                let _ = PyErr::take(self.py);
                return None;
            }
        }
        self.skip(BUILD).then_some(made)
    }

    /// The name of an attribute: interned, as all are.
    fn attribute(&mut self) -> Option<Bound<'py, PyString>> {
        let is_new = self.skip(SHORT_STR);
        let name = if is_new {
            let len = self.byte()?;
            self.text(len.into())?
        } else {
            self.value()?
        };
        let mut name = name.cast_into_exact::<PyString>().ok()?.into_ptr();
        // SAFETY: takes a reference to a str, and leaves one to an equal str.
        let name = unsafe {
            ffi::PyUnicode_InternInPlace(&raw mut name);
            Bound::from_owned_ptr(self.py, name)
        };
        if is_new {
            self.memoize(&name)?;
        }
        name.cast_into_exact().ok()
    }

    /// Whether an attribute is but a value in the object.
    fn is_plain(&mut self, class: *mut ffi::PyTypeObject, name: &Bound<'_, PyString>) -> bool {
        let place = (class as usize ^ name.as_ptr() as usize) >> 4;
        let known = &mut self.attributes[(place ^ place >> 4) % ATTRIBUTES];
        if *known == (class, name.as_ptr()) {
            return true;
        }
        *known = (class, name.as_ptr());
        !is_descriptor(class, name)
    }
}

/// Whether an object refers to no others.
fn is_atom(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: alive.
    unsafe { ffi::PyType_HasFeature(ffi::Py_TYPE(object.as_ptr()), ffi::Py_TPFLAGS_HAVE_GC) == 0 }
}
