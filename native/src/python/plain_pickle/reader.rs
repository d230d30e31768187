//! Reads pickles that this core has written.

use super::super::bytes as bytes_of;
use super::*;
use pyo3::ffi;
use pyo3::types::{PyList, PyTuple};

/// Keys of dicts that a reader remembers.
const KEYS: usize = 16;
/// Bytes from which on garbage is not collected while they are read.
const LONG_READ: usize = 4 << 10;

/// Read a pickle that `write` has written; nothing of another one.
pub fn read<'py>(py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyAny>> {
    Reader::new(py).read(data)
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
}

impl<'a, 'py> Reader<'a, 'py> {
    pub fn new(py: Python<'py>) -> Self {
        let (memo, values) = (Vec::new(), Vec::new());
        Self { py, data: &[], deeper: 0, memo, values, keys: [const { None }; KEYS] }
    }

    pub fn read(&mut self, data: &'a [u8]) -> Option<Bound<'py, PyAny>> {
        self.data = data.strip_prefix(&PROTO)?;
        self.deeper = DEEPEST;
        self.memo.clear();
        self.values.clear();
        let _pause = (data.len() >= LONG_READ).then(CollectorPause::new);
        let value = self.value()?;
        (self.data == [STOP]).then_some(value)
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
                return self.memo.get(usize::from(number)).cloned();
            }
            LONG_GET => {
                let number = u32::from_le_bytes(self.word()?);
                return self.memo.get(number as usize).cloned();
            }
            container => return self.container(container),
        };
        self.memoize(&made)?;
        Some(made)
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
}

/// Whether an object refers to no others.
fn is_atom(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: alive.
    unsafe { ffi::PyType_HasFeature(ffi::Py_TYPE(object.as_ptr()), ffi::Py_TPFLAGS_HAVE_GC) == 0 }
}

/// No collection of garbage while this lives: there is none among what is being made, and to look
/// through all of it again and again takes as long as to make it.
struct CollectorPause(bool);

impl CollectorPause {
    fn new() -> Self {
        // SAFETY: the interpreter is held, until this has gone too.
        Self(unsafe { ffi::PyGC_Disable() } != 0)
    }
}

impl Drop for CollectorPause {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}
