//! What synchronized objects have in common: a ctypes object, and the lock it is used under.

use super::lock::PyLock;
use crate::sync::c_number::{NumberAt, NumberKind};
use crate::sys::deadline::Deadline;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;
use std::os::raw::c_int;

/// A ctypes object in shared memory, and the lock under which it is used.
///
/// ``with`` takes the lock, as do ``acquire`` and ``release``; ``get_obj()`` gives the ctypes object,
/// which is used without it. The lock may be any object with these two methods.
#[pyclass(frozen, subclass, weakref, name = "SynchronizedBase", module = "garrison.sharedctypes")]
pub struct SynchronizedBase {
    object: Py<PyAny>,
    lock: Py<PyAny>,
    acquire: Py<PyAny>,
    release: Py<PyAny>,
    /// The lock, if it is one of ours: then it can be taken without a call.
    own: Option<Py<PyLock>>,
}

impl SynchronizedBase {
    /// Do under the lock what takes a moment and calls no Python.
    #[inline]
    pub fn with_lock_fast<T>(slf: &Bound<'_, Self>, work: impl FnOnce() -> T) -> PyResult<T> {
        let Some(own) = &slf.get().own else {
            return Self::under_lock(slf, |_| Ok(work()));
        };
        let own = own.bind(slf.py());
        let inner = &own.get().lock.raw;
        let me = inner.me()?;
        // The thread is not written down: only the GIL's holder asks for it, and we keep the GIL.
        if inner.try_acquire_briefly(me) {
            crash_point("lock.taken");
            let done = work();
            crash_point("value.written");
            inner.release();
            return Ok(done);
        }
        Self::after_waiting(own, me, work)
    }

    #[cold]
    fn after_waiting<T>(own: &Bound<'_, PyLock>, me: u32, work: impl FnOnce() -> T) -> PyResult<T> {
        let inner = &own.get().lock.raw;
        if own.get().lock.recursive && inner.is_mine(me) {
            return Ok(work());
        }
        PyLock::take(own, &Deadline::never())?;
        let done = work();
        crash_point("value.written");
        inner.release();
        Ok(done)
    }

    /// Have Python do something to the object, under the lock.
    pub fn under_lock<'py, T>(
        slf: &Bound<'py, Self>,
        work: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> PyResult<T> {
        let (py, this) = (slf.py(), slf.get());
        this.acquire.call0(py)?;
        let done = work(this.object.bind(py));
        this.release.call0(py)?;
        done
    }

    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }
}

/// What Python has to say about synchronized objects.
fn policy<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("garrison.sync._values")?.getattr(name)
}

impl SynchronizedBase {
    /// The base of a wrapper, and whether the object's elements are numbers and nothing more.
    pub fn wrap(
        object: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Self, bool)> {
        let chosen = match lock {
            Some(lock) => lock.clone(),
            None => policy(object.py(), "RLock")?.call0()?,
        };
        let plain = policy(object.py(), "_is_plain")?.call1((object,))?.is_truthy()?;
        Ok((Self::of(object, &chosen)?, plain))
    }

    fn of(object: &Bound<'_, PyAny>, lock: &Bound<'_, PyAny>) -> PyResult<Self> {
        let own = lock.getattr("_semlock").ok();
        let own = own.and_then(|inner| inner.cast_into::<PyLock>().ok());
        Ok(Self {
            acquire: lock.getattr("acquire")?.unbind(),
            release: lock.getattr("release")?.unbind(),
            object: object.clone().unbind(),
            lock: lock.clone().unbind(),
            own: own.map(Bound::unbind),
        })
    }
}

#[pymethods]
impl SynchronizedBase {
    #[new]
    #[pyo3(signature = (obj, lock = None, ctx = None))]
    fn new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let _ = ctx;
        Self::wrap(obj, lock).map(|(base, _)| base)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        policy(slf.py(), "_reduce")?.call1((slf,))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let object = slf.get().object.bind(slf.py()).str()?;
        Ok(format!("<{} wrapper for {object}>", slf.get_type().name()?))
    }

    /// Return the ctypes object, which is used without the lock.
    fn get_obj(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }

    /// Return the lock.
    fn get_lock(&self, py: Python<'_>) -> Py<PyAny> {
        self.lock.clone_ref(py)
    }

    #[getter]
    fn _obj(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> Py<PyAny> {
        self.lock.clone_ref(py)
    }

    /// Take the lock.
    #[getter]
    fn acquire(&self, py: Python<'_>) -> Py<PyAny> {
        self.acquire.clone_ref(py)
    }

    /// Release the lock.
    #[getter]
    fn release(&self, py: Python<'_>) -> Py<PyAny> {
        self.release.clone_ref(py)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.acquire.call0(py)
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release.call0(py).map(|_| ())
    }
}

/// Where the numbers of a ctypes object lie, how many, and what they are; its memory does not move.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub place: NumberAt,
    pub kind: Option<NumberKind>,
    pub len: usize,
}

impl Layout {
    /// Look at an object's buffer. Without `plain` its elements are more than numbers.
    pub fn of(object: &Bound<'_, PyAny>, dimensions: c_int, plain: bool) -> PyResult<Self> {
        let mut view = ffi::Py_buffer::new();
        let flags = ffi::PyBUF_FORMAT | ffi::PyBUF_STRIDES | ffi::PyBUF_WRITABLE;
        // SAFETY: the view is a fresh one, filled by this call or not used.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut view, flags) } == -1 {
            return Err(PyErr::fetch(object.py()));
        }
        let size = view.itemsize as usize;
        let aligned = (view.buf as usize).checked_rem(size) == Some(0);
        let kind = if plain && aligned && view.ndim == dimensions && !view.format.is_null() {
            // SAFETY: a C string, until the view is released.
            NumberKind::of(unsafe { CStr::from_ptr(view.format) }.to_bytes(), size)
        } else {
            None
        };
        let len = (view.len as usize).checked_div(size).unwrap_or(0);
        let place = NumberAt(view.buf.cast());
        // SAFETY: filled above.
        unsafe { ffi::PyBuffer_Release(&raw mut view) };
        Ok(Self { place, kind, len })
    }

    /// The place of one element (in range, as the caller has checked).
    #[inline]
    pub fn at(&self, kind: NumberKind, index: usize) -> NumberAt {
        debug_assert!(index < self.len);
        // SAFETY: inside of the object.
        NumberAt(unsafe { self.place.0.add(index * kind.size()) })
    }

    /// Give out a view of the whole object, which the view keeps.
    ///
    /// # Safety
    /// As for the buffer protocol; `shape` must live as long as `owner`.
    pub unsafe fn fill(
        &self,
        owner: &Bound<'_, PyAny>,
        shape: Option<&isize>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let Some(kind) = self.kind.filter(|_| !view.is_null()) else {
            return Err(PyBufferError::new_err("no view to fill"));
        };
        let len = (self.len * kind.size()) as ffi::Py_ssize_t;
        // SAFETY: the memory lives as long as the owner, which the view holds.
        unsafe {
            let filled =
                ffi::PyBuffer_FillInfo(view, owner.as_ptr(), self.place.0.cast(), len, 0, flags);
            if filled == -1 {
                return Err(PyErr::fetch(owner.py()));
            }
            (*view).itemsize = kind.size() as ffi::Py_ssize_t;
            if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
                (*view).format = kind.format().as_ptr().cast_mut();
            }
            let Some(shape) = shape else {
                (*view).ndim = 0;
                (*view).shape = std::ptr::null_mut();
                (*view).strides = std::ptr::null_mut();
                return Ok(());
            };
            if !(*view).shape.is_null() {
                (*view).shape = std::ptr::from_ref(shape).cast_mut();
            }
            if !(*view).strides.is_null() {
                (*view).strides = &raw mut (*view).itemsize;
            }
        }
        Ok(())
    }
}

/// Have ctypes fill the view: an object of which only ctypes knows what it is.
///
/// # Safety
/// As for the buffer protocol.
pub unsafe fn forward_buffer(
    object: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    // SAFETY: the caller's view and flags.
    if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view, flags) } == -1 {
        return Err(PyErr::fetch(object.py()));
    }
    Ok(())
}
