//! What a pickle is written into.

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Takes the parts of a pickle; false if there is no room for one.
pub trait Output {
    fn put(&mut self, bytes: &[u8]) -> bool;
}

/// The end of some bytes, for a small pickle.
pub struct Small<'a> {
    to: &'a mut Vec<u8>,
    /// Bytes that may be there in the end.
    most: usize,
}

impl<'a> Small<'a> {
    pub fn new(to: &'a mut Vec<u8>) -> Self {
        let most = to.len() + super::MAX_BYTES;
        Self { to, most }
    }
}

impl Output for Small<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> bool {
        let fits = self.to.len() + bytes.len() <= self.most;
        if fits {
            self.to.extend_from_slice(bytes);
        }
        fits
    }
}

/// A bytes object that grows.
pub struct Growing<'py> {
    py: Python<'py>,
    /// Null if there was no memory for it.
    object: *mut PyObject,
    len: usize,
    room: usize,
}

impl<'py> Growing<'py> {
    pub fn new(py: Python<'py>, room: usize) -> Self {
        // SAFETY: makes a new object, or sets an error and returns null.
        let object =
            unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), room as ffi::Py_ssize_t) };
        let mut made = Self { py, object, len: 0, room };
        made.forget_failure();
        made
    }

    /// No memory is no error here: `pickle` will say so.
    fn forget_failure(&mut self) {
        if self.object.is_null() {
            (self.len, self.room) = (0, 0);
            let _ = PyErr::take(self.py);
        }
    }

    fn resize(&mut self, room: usize) {
        if self.object.is_null() {
            return;
        }
        self.room = room;
        // SAFETY: nobody else has this object; without memory it is gone, and null.
        unsafe { ffi::_PyBytes_Resize(&raw mut self.object, room as ffi::Py_ssize_t) };
        self.forget_failure();
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        self.resize(self.room * 2 + more);
    }

    pub fn finish(mut self) -> Option<Bound<'py, PyBytes>> {
        self.resize(self.len);
        let object = std::mem::replace(&mut self.object, std::ptr::null_mut());
        // SAFETY: a bytes object that is this one's alone, or null.
        let object = unsafe { Bound::from_owned_ptr_or_opt(self.py, object) }?;
        object.cast_into().ok()
    }
}

impl Output for Growing<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() >= self.room - self.len {
            self.grow(bytes.len());
            if self.object.is_null() {
                return false;
            }
        }
        // SAFETY: there is room behind `len`, and nobody else has this object.
        unsafe {
            let end = ffi::PyBytes_AS_STRING(self.object).cast_mut().cast::<u8>().add(self.len);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
        }
        self.len += bytes.len();
        true
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        // SAFETY: this one's own object, or null.
        unsafe { ffi::Py_XDECREF(self.object) };
    }
}
