//! Pickles of small objects of builtin types, written and read here: `pickle` takes several times as
//! long for them, most of it to make a pickler.
//!
//! ```text
//! PROTO 5 | value | STOP
//!
//! int     BININT1, BININT or LONG1      float   BINFLOAT
//! str     SHORT_BINUNICODE or BINUNICODE, bytes alike       None, True, False
//! tuple   MARK values TUPLE             list    EMPTY_LIST MARK values APPENDS
//! dict    EMPTY_DICT MARK keys and values SETITEMS
//! ```
//! Every unpickler reads these. An object that others refer to as well is followed by MEMOIZE, or
//! preceded by its contents if it is a list or dict; where it comes again stands BINGET, so it is one
//! object in the copy too. What is none of this is left to `pickle`, on both sides.

use super::convert::cached;
use super::queue_item::is_plain;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyList, PyTuple};

/// Objects of which one is made: a larger one gains nothing.
pub const LARGEST: usize = 64;
/// Bytes of one, likewise.
const MAX_BYTES: usize = 4 << 10;

/// Keys of dicts that a reader remembers.
const KEYS: usize = 16;

const PROTO: [u8; 2] = [0x80, 5];
const STOP: u8 = b'.';
const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const LIST: u8 = b']';
const APPENDS: u8 = b'e';
const DICT: u8 = b'}';
const SETITEMS: u8 = b'u';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
const INT_1: u8 = b'K';
const INT_4: u8 = b'J';
const LONG: u8 = 0x8a;
const FLOAT: u8 = b'G';
const SHORT_STR: u8 = 0x8c;
const STR: u8 = b'X';
const SHORT_BYTES: u8 = b'C';
const BYTES: u8 = b'B';
const MEMOIZE: u8 = 0x94;
const GET: u8 = b'h';

/// Append the pickle of an object; false if it is for `pickle`, and then some bytes may be there.
pub fn write(object: &Bound<'_, PyAny>, to: &mut Vec<u8>) -> bool {
    to.extend(PROTO);
    let mut writer = Writer { to, left: LARGEST, seen: [std::ptr::null_mut(); LARGEST], count: 0 };
    // SAFETY: the object is alive and the interpreter is held: nothing changes meanwhile.
    let done = unsafe { writer.value(object.as_ptr()) };
    to.push(STOP);
    done
}

struct Writer<'a> {
    to: &'a mut Vec<u8>,
    left: usize,
    /// Objects that were memoized, at their numbers.
    seen: [*mut PyObject; LARGEST],
    count: usize,
}

impl Writer<'_> {
    /// Write any object. No code but the interpreter's own runs.
    ///
    /// # Safety
    /// The object is alive, and the interpreter is held.
    unsafe fn value(&mut self, object: *mut PyObject) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        // SAFETY: each call is for objects of the exact type that was asked.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            let is = |of: *mut ffi::PyTypeObject| kind == of;
            if is(&raw mut ffi::PyLong_Type) {
                return self.int(object);
            }
            if is(&raw mut ffi::PyFloat_Type) {
                self.to.push(FLOAT);
                self.to.extend(ffi::PyFloat_AS_DOUBLE(object).to_be_bytes());
                return true;
            }
            if is(&raw mut ffi::PyBool_Type) {
                self.to.push(if object == ffi::Py_True() { TRUE } else { FALSE });
                return true;
            }
            if object == ffi::Py_None() {
                self.to.push(NONE);
                return true;
            }
            if self.has(object) {
                return true;
            }
            if is(&raw mut ffi::PyUnicode_Type) {
                self.text(object)
            } else if is(&raw mut ffi::PyDict_Type) {
                self.dict(object)
            } else if is(&raw mut ffi::PyTuple_Type) {
                self.tuple(object)
            } else if is(&raw mut ffi::PyList_Type) {
                self.list(object)
            } else if is(&raw mut ffi::PyBytes_Type) {
                let (start, len) = (ffi::PyBytes_AS_STRING(object), ffi::PyBytes_Size(object));
                let bytes = std::slice::from_raw_parts(start.cast(), len as usize);
                self.sized(SHORT_BYTES, BYTES, bytes) && self.memoize(object)
            } else {
                false
            }
        }
    }

    /// Refer to an object that is in the pickle already.
    unsafe fn has(&mut self, object: *mut PyObject) -> bool {
        let Some(number) = self.seen[..self.count].iter().position(|&each| each == object) else {
            return false;
        };
        self.to.extend([GET, number as u8]);
        true
    }

    /// The object just written may come again: number it. Always true.
    unsafe fn memoize(&mut self, object: *mut PyObject) -> bool {
        // SAFETY: alive. With one reference it is in one place.
        if unsafe { ffi::Py_REFCNT(object) } > 1 {
            self.seen[self.count] = object;
            self.count += 1;
            self.to.push(MEMOIZE);
        }
        true
    }

    unsafe fn int(&mut self, object: *mut PyObject) -> bool {
        let mut overflow = 0;
        // SAFETY: it is an int.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow) };
        if let Ok(small) = u8::try_from(value) {
            self.to.extend([INT_1, small]);
        } else if let Ok(small) = i32::try_from(value) {
            self.to.push(INT_4);
            self.to.extend(small.to_le_bytes());
        } else {
            self.to.extend([LONG, 8]);
            self.to.extend(value.to_le_bytes());
        }
        overflow == 0
    }

    unsafe fn text(&mut self, object: *mut PyObject) -> bool {
        let mut len = 0;
        // SAFETY: it is a str, which keeps these bytes as long as it lives.
        unsafe {
            let start = ffi::PyUnicode_AsUTF8AndSize(object, &raw mut len);
            if start.is_null() {
                ffi::PyErr_Clear();
                return false;
            }
            let bytes = std::slice::from_raw_parts(start.cast(), len as usize);
            self.sized(SHORT_STR, STR, bytes) && self.memoize(object)
        }
    }

    fn sized(&mut self, short: u8, long: u8, bytes: &[u8]) -> bool {
        if self.to.len() + bytes.len() > MAX_BYTES {
            return false;
        }
        if let Ok(len) = u8::try_from(bytes.len()) {
            self.to.extend([short, len]);
        } else {
            self.to.push(long);
            self.to.extend((bytes.len() as u32).to_le_bytes());
        }
        self.to.extend_from_slice(bytes);
        true
    }

    unsafe fn tuple(&mut self, object: *mut PyObject) -> bool {
        self.to.push(MARK);
        // SAFETY: it is a tuple, which has these items.
        unsafe {
            for index in 0..ffi::PyTuple_GET_SIZE(object) {
                if !self.value(ffi::PyTuple_GET_ITEM(object, index)) {
                    return false;
                }
            }
            // A tuple that contains itself, by way of a list, was written in there as another one.
            let is_recursive = self.seen[..self.count].contains(&object);
            self.to.push(TUPLE);
            !is_recursive && self.memoize(object)
        }
    }

    unsafe fn list(&mut self, object: *mut PyObject) -> bool {
        self.to.push(LIST);
        // SAFETY: it is a list, which has these items.
        unsafe {
            self.memoize(object);
            self.to.push(MARK);
            for index in 0..ffi::PyList_GET_SIZE(object) {
                if !self.value(ffi::PyList_GET_ITEM(object, index)) {
                    return false;
                }
            }
        }
        self.to.push(APPENDS);
        true
    }

    unsafe fn dict(&mut self, object: *mut PyObject) -> bool {
        let (mut place, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        self.to.push(DICT);
        // SAFETY: it is a dict, which nothing changes meanwhile.
        unsafe {
            self.memoize(object);
            self.to.push(MARK);
            while ffi::PyDict_Next(object, &raw mut place, &raw mut key, &raw mut value) != 0 {
                if !self.value(key) || !self.value(value) {
                    return false;
                }
            }
        }
        self.to.push(SETITEMS);
        true
    }
}

/// Read a pickle that `write` has written; nothing of another one.
pub fn read<'py>(py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyAny>> {
    Reader::new(py).read(data)
}

/// Reads pickles one after the other. Equal keys of their dicts are one object, as in one pickle.
pub struct Reader<'a, 'py> {
    py: Python<'py>,
    data: &'a [u8],
    left: usize,
    memo: Vec<Bound<'py, PyAny>>,
    /// Items of tuples that are not complete.
    values: Vec<Bound<'py, PyAny>>,
    keys: [Option<(&'a [u8], Bound<'py, PyAny>)>; KEYS],
}

impl<'a, 'py> Reader<'a, 'py> {
    pub fn new(py: Python<'py>) -> Self {
        let (memo, values) = (Vec::new(), Vec::new());
        Self { py, data: &[], left: 0, memo, values, keys: [const { None }; KEYS] }
    }

    pub fn read(&mut self, data: &'a [u8]) -> Option<Bound<'py, PyAny>> {
        self.data = data.strip_prefix(&PROTO)?;
        self.left = LARGEST;
        self.memo.clear();
        self.values.clear();
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

    fn memoize(&mut self, value: &Bound<'py, PyAny>) {
        if self.skip(MEMOIZE) {
            self.memo.push(value.clone());
        }
    }

    fn value(&mut self) -> Option<Bound<'py, PyAny>> {
        self.left = self.left.checked_sub(1)?;
        let py = self.py;
        let made = match self.byte()? {
            INT_1 => int(py, self.byte()?.into()),
            INT_4 => int(py, i32::from_le_bytes(self.word()?).into()),
            LONG if self.byte()? == 8 => int(py, i64::from_le_bytes(self.word()?)),
            FLOAT => PyFloat::new(py, f64::from_be_bytes(self.word()?)).into_any(),
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
                super::bytes(py, self.bytes(len.into())?).ok()?.into_any()
            }
            BYTES => {
                let len = u32::from_le_bytes(self.word()?);
                super::bytes(py, self.bytes(len as usize)?).ok()?.into_any()
            }
            MARK => self.tuple()?,
            LIST => return self.list(),
            DICT => return self.dict(),
            GET => {
                let number = self.byte()?;
                return self.memo.get(usize::from(number)).cloned();
            }
            _ => return None,
        };
        self.memoize(&made);
        Some(made)
    }

    fn text(&mut self, len: usize) -> Option<Bound<'py, PyAny>> {
        let bytes = self.bytes(len)?;
        let (start, len) = (bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t);
        // SAFETY: makes a new object of these bytes, or sets an error and returns null.
        unsafe {
            let made = ffi::PyUnicode_DecodeUTF8(start, len, std::ptr::null());
            Bound::from_owned_ptr_or_err(self.py, made).ok()
        }
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
                self.left = self.left.checked_sub(1)?;
                self.data = &rest[bytes.len()..];
                self.memoize(&key);
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
            self.values.push(value);
        }
        let items = self.values.drain(start..);
        Some(PyTuple::new(self.py, items).ok()?.into_any())
    }

    fn list(&mut self) -> Option<Bound<'py, PyAny>> {
        let list = PyList::empty(self.py);
        self.memoize(&list);
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
        self.memoize(&dict);
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

fn int(py: Python<'_>, value: i64) -> Bound<'_, PyAny> {
    // SAFETY: makes a new object, or there is no memory for an int.
    unsafe { Bound::from_owned_ptr(py, ffi::PyLong_FromLongLong(value)) }
}

/// The pickle of an object of which `is_plain` holds: few scalars, tuples, lists and dicts. Every
/// pickler writes it in the same way, and no code of the user runs. None for every other object.
#[pyfunction]
pub fn dumps_plain<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let mut written = Vec::with_capacity(128);
    if write(object, &mut written) {
        return Ok(Some(PyBytes::new(py, &written)));
    }
    if !is_plain(object, &mut (LARGEST as u32)) {
        return Ok(None);
    }
    let dumps = cached(py, &DUMPS, "pickle", "dumps")?;
    Ok(Some(dumps.call1((object, 5))?.cast_into()?))
}

/// As `pickle.loads`.
#[pyfunction]
#[pyo3(signature = (data, /, *, buffers=None))]
pub fn loads<'py>(
    data: &Bound<'py, PyAny>,
    buffers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = data.py();
    if let (Ok(bytes), None) = (data.cast_exact::<PyBytes>(), buffers) {
        if let Some(value) = read(py, bytes.as_bytes()) {
            return Ok(value);
        }
    }
    let loads = cached(py, &LOADS, "pickle", "loads")?;
    let Some(buffers) = buffers else { return loads.call1((data,)) };
    let named = PyDict::new(py);
    named.set_item("buffers", buffers)?;
    loads.call((data,), Some(&named))
}
