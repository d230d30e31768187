//! How an item lies in a ring: a word that says what and how long, then its bytes.
//!
//! ```text
//! | len:32 | kind:8 | bytes ...      from the next granule on: the next item
//! ```
//! Of the exact types that most items have the bytes are the value. Everything else is a pickle,
//! and what is big is a parcel: the place in its sender's region.

use super::parcel::{Address, Parcel};
use crate::queue::log::GRANULE;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

pub const NONE: u8 = 0;
pub const TRUE: u8 = 1;
pub const FALSE: u8 = 2;
pub const INT: u8 = 3;
pub const FLOAT: u8 = 4;
pub const BYTES: u8 = 5;
pub const STR: u8 = 6;
pub const PICKLE: u8 = 7;
pub const PARCEL: u8 = 8;

const HEAD: usize = size_of::<u64>();

/// What is to be put, written down already.
pub struct Outgoing<'py> {
    pub kind: u8,
    bytes: Bytes<'py>,
    /// Where the bytes are, if they are big.
    pub parcel: Option<Parcel>,
    /// Handles may be in it, which are under way once it is written.
    pub travels: bool,
}

enum Bytes<'py> {
    Word(u64),
    /// Of an object that is kept for them.
    Object(Bound<'py, PyAny>, *const u8, usize),
    Address(Address),
}

impl<'py> Outgoing<'py> {
    fn word(kind: u8, word: u64) -> Self {
        Self { kind, bytes: Bytes::Word(word), parcel: None, travels: false }
    }

    fn object(kind: u8, object: &Bound<'py, PyAny>, bytes: &[u8]) -> Self {
        let bytes = Bytes::Object(object.clone(), bytes.as_ptr(), bytes.len());
        Self { kind, bytes, parcel: None, travels: false }
    }

    pub fn pickle(pickle: &Bound<'py, PyBytes>) -> Self {
        Self::object(PICKLE, pickle.as_any(), pickle.as_bytes())
    }

    pub fn parcel(parcel: Parcel) -> Self {
        let bytes = Bytes::Address(parcel.address);
        Self { kind: PARCEL, bytes, parcel: Some(parcel), travels: false }
    }

    /// A value of a type that needs no pickle; nothing for all others.
    #[inline]
    pub fn plain(object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let pointer = object.as_ptr();
        // SAFETY: the object is alive, and each call is for objects of the type that was asked.
        unsafe {
            let kind = ffi::Py_TYPE(pointer);
            if kind == &raw mut ffi::PyLong_Type {
                let mut overflow = 0;
                let value = ffi::PyLong_AsLongLongAndOverflow(pointer, &raw mut overflow);
                return Ok((overflow == 0).then(|| Self::word(INT, value as u64)));
            }
            if kind == &raw mut ffi::PyUnicode_Type {
                return Ok(Self::text(object));
            }
            if kind == &raw mut ffi::PyBytes_Type {
                let bytes = object.cast_unchecked::<PyBytes>().as_bytes();
                return Ok(Some(Self::object(BYTES, object, bytes)));
            }
            if kind == &raw mut ffi::PyFloat_Type {
                return Ok(Some(Self::word(FLOAT, ffi::PyFloat_AS_DOUBLE(pointer).to_bits())));
            }
            if pointer == ffi::Py_None() {
                return Ok(Some(Self::word(NONE, 0)));
            }
            if kind == &raw mut ffi::PyBool_Type {
                let kind = if pointer == ffi::Py_True() { TRUE } else { FALSE };
                return Ok(Some(Self::word(kind, 0)));
            }
        }
        Ok(None)
    }

    /// Text that UTF-8 can say; half a surrogate pair it cannot.
    fn text(object: &Bound<'py, PyAny>) -> Option<Self> {
        let mut len = 0;
        // SAFETY: it is a str, which keeps these bytes as long as it lives.
        unsafe {
            let start = ffi::PyUnicode_AsUTF8AndSize(object.as_ptr(), &raw mut len);
            if start.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            let bytes = std::slice::from_raw_parts(start.cast::<u8>(), len as usize);
            Some(Self::object(STR, object, bytes))
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            // SAFETY: a word is eight bytes.
            Bytes::Word(word) => unsafe {
                std::slice::from_raw_parts(std::ptr::from_ref(word).cast(), 8)
            },
            // SAFETY: the object that owns them is kept, and cannot be changed.
            Bytes::Object(_kept, start, len) => unsafe { std::slice::from_raw_parts(*start, *len) },
            Bytes::Address(address) => address.as_bytes(),
        }
    }

    #[inline]
    pub fn granules(&self) -> u32 {
        granules(self.bytes().len())
    }

    /// Write it where there is room for as many granules.
    ///
    /// # Safety
    /// The memory is the caller's, and the address a granule's.
    #[inline]
    pub unsafe fn write(&self, to: *mut u8) {
        let bytes = self.bytes();
        let head = bytes.len() as u64 | u64::from(self.kind) << 32;
        // SAFETY: the caller's word.
        unsafe {
            to.cast::<u64>().write(head);
            match self.bytes {
                Bytes::Word(word) => to.add(HEAD).cast::<u64>().write(word),
                _ => std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(HEAD), bytes.len()),
            }
        }
    }
}

#[inline]
pub fn granules(len: usize) -> u32 {
    (HEAD + len).div_ceil(GRANULE) as u32
}

/// Whether all of an object is of types that every pickler writes in the same way, without asking
/// anybody. Of a large object nothing is said.
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

/// The word before an item's bytes.
#[derive(Clone, Copy)]
pub struct Head {
    pub kind: u8,
    pub len: usize,
}

impl Head {
    /// # Safety
    /// An item begins there.
    #[inline]
    pub unsafe fn read(from: *const u8) -> Self {
        // SAFETY: the caller's word.
        let word = unsafe { from.cast::<u64>().read() };
        Self { kind: (word >> 32) as u8, len: word as u32 as usize }
    }
}

/// # Safety
/// An item of `len` bytes begins there.
#[inline]
pub unsafe fn body<'a>(from: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: the caller's word.
    unsafe { std::slice::from_raw_parts(from.add(HEAD), len) }
}

/// Rebuild a value that is no pickle. No code of the user runs here: neither the types that are made
/// nor the making of them can call any.
#[inline]
pub fn rebuild<'py>(py: Python<'py>, kind: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let len = bytes.len() as ffi::Py_ssize_t;
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
            _ => return Err(PyValueError::new_err(format!("an item of unknown kind {kind}"))),
        };
        Bound::from_owned_ptr_or_err(py, made)
    }
}
