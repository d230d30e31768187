//! `SynchronizedArray`: many numbers in shared memory, under one lock.

use super::c_number::PyNumber;
use super::synchronized::{forward_buffer, Layout, SynchronizedBase};
use super::synchronized_value::atomic;
use crate::sync::c_number::{NumberAt, NumberKind};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice, PySliceIndices};
use std::ffi::CStr;
use std::os::raw::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An array in shared memory, as `Array` returns it.
///
/// Notes
/// -----
/// ``add(index, amount)``, ``exchange(index, value)``, ``compare_exchange(index, expected, desired)``,
/// ``load(index)`` and ``store(index, value)`` are those of `Synchronized`, for one element.
#[pyclass(
    frozen,
    extends = SynchronizedBase,
    subclass,
    name = "SynchronizedArray",
    module = "garrison.sharedctypes"
)]
pub struct SynchronizedArray {
    /// If the elements are no numbers of ours, ctypes reads and writes them.
    layout: Layout,
    len: isize,
}

impl SynchronizedArray {
    /// The index of an element, counted from the end if it is negative.
    #[inline]
    fn index(&self, index: &Bound<'_, PyAny>) -> PyResult<usize> {
        // SAFETY: live objects; -1 may be an error, which is asked for.
        let number = unsafe { ffi::PyNumber_AsSsize_t(index.as_ptr(), ffi::PyExc_IndexError) };
        if number == -1 {
            if let Some(error) = PyErr::take(index.py()) {
                return Err(error);
            }
        }
        let from_start = if number < 0 { number + self.len } else { number };
        if (0..self.len).contains(&from_start) {
            Ok(from_start as usize)
        } else {
            Err(self.no_such(number))
        }
    }

    #[cold]
    fn no_such(&self, index: isize) -> PyErr {
        PyIndexError::new_err(format!(
            "invalid index {index}: this array has {} elements",
            self.len
        ))
    }

    /// What atomic operations on one element need.
    fn element(&self, index: &Bound<'_, PyAny>, adding: bool) -> PyResult<(NumberKind, NumberAt)> {
        let kind = atomic(self.layout.kind, adding)?;
        Ok((kind, self.layout.at(kind, self.index(index)?)))
    }

    fn read_slice<'py>(
        slf: &Bound<'py, Self>,
        kind: NumberKind,
        slice: &Bound<'py, PySlice>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let found = slice.indices(this.len)?;
        let mut bits = vec![0_u64; found.slicelength];
        SynchronizedBase::with_lock_fast(slf.as_super(), || {
            for (bits, index) in bits.iter_mut().zip(indices(&found)) {
                *bits = kind.read(this.layout.at(kind, index));
            }
        })?;
        let all: Vec<_> =
            bits.into_iter().map(|bits| kind.to_python(slf.py(), bits)).collect::<PyResult<_>>()?;
        Ok(PyList::new(slf.py(), all)?.into_any())
    }

    fn write_slice(
        slf: &Bound<'_, Self>,
        kind: NumberKind,
        slice: &Bound<'_, PySlice>,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.get();
        let found = slice.indices(this.len)?;
        let fits = |len: usize| {
            let places = found.slicelength;
            (len == places).then_some(()).ok_or_else(|| {
                PyValueError::new_err(format!(
                    "can only assign a sequence of the same size: {len} elements for {places} places"
                ))
            })
        };
        fits(values.len()?)?;
        if found.step == 1 {
            if let Some(source) = Source::of(values, kind, found.slicelength) {
                return SynchronizedBase::with_lock_fast(slf.as_super(), || {
                    // SAFETY: as many elements of the same size at both ends, which may overlap.
                    unsafe {
                        let to = this.layout.place.0.add(found.start as usize * kind.size());
                        std::ptr::copy(source.start(), to, found.slicelength * kind.size());
                    }
                });
            }
        }
        let bits: Vec<u64> = values
            .try_iter()?
            .take(found.slicelength)
            .map(|value| kind.to_bits(&value?))
            .collect::<PyResult<_>>()?;
        fits(bits.len())?;
        SynchronizedBase::with_lock_fast(slf.as_super(), || {
            for (bits, index) in bits.iter().zip(indices(&found)) {
                kind.write(this.layout.at(kind, index), *bits);
            }
        })
    }
}

/// The memory of an array of the same numbers, pinned while this lives.
struct Source(Box<ffi::Py_buffer>);

impl Source {
    fn of(values: &Bound<'_, PyAny>, kind: NumberKind, len: usize) -> Option<Self> {
        // SAFETY: a live object; the view is a fresh one, filled by this call or not used.
        unsafe {
            if ffi::PyObject_CheckBuffer(values.as_ptr()) == 0 {
                return None;
            }
            let mut view = Box::new(ffi::Py_buffer::new());
            let flags = ffi::PyBUF_FORMAT | ffi::PyBUF_ND;
            if ffi::PyObject_GetBuffer(values.as_ptr(), &raw mut *view, flags) == -1 {
                // It has gaps: then it is read one by one.
                ffi::PyErr_Clear();
                return None;
            }
            let source = Self(view);
            let format =
                if source.0.format.is_null() { c"B" } else { CStr::from_ptr(source.0.format) };
            let same = NumberKind::of(format.to_bytes(), source.0.itemsize as usize) == Some(kind);
            let all = source.0.len as usize == len * kind.size();
            (same && all && source.0.ndim == 1).then_some(source)
        }
    }

    fn start(&self) -> *const u8 {
        self.0.buf.cast_const().cast()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer; dropped while the thread is attached.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

fn indices(found: &PySliceIndices) -> impl Iterator<Item = usize> {
    let (start, step) = (found.start, found.step);
    (0..found.slicelength as isize).map(move |n| (start + n * step) as usize)
}

#[pymethods]
impl SynchronizedArray {
    #[new]
    #[pyo3(signature = (obj, lock = None, ctx = None))]
    fn new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let _ = ctx;
        let (base, plain) = SynchronizedBase::wrap(obj, lock)?;
        let layout = Layout::of(obj, 1, plain)?;
        let len = obj.len()? as isize;
        Ok(PyClassInitializer::from(base).add_subclass(Self { layout, len }))
    }

    fn __len__(&self) -> usize {
        self.len as usize
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let Some(kind) = this.layout.kind else {
            return SynchronizedBase::under_lock(slf.as_super(), |object| object.get_item(index));
        };
        if let Ok(slice) = index.cast::<PySlice>() {
            return Self::read_slice(slf, kind, slice);
        }
        let place = this.layout.at(kind, this.index(index)?);
        let bits = SynchronizedBase::with_lock_fast(slf.as_super(), || kind.read(place))?;
        kind.to_python(slf.py(), bits)
    }

    fn __setitem__(
        slf: &Bound<'_, Self>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.get();
        let Some(kind) = this.layout.kind else {
            return SynchronizedBase::under_lock(slf.as_super(), |object| {
                object.set_item(index, value)
            });
        };
        if let Ok(slice) = index.cast::<PySlice>() {
            return Self::write_slice(slf, kind, slice, value);
        }
        let place = this.layout.at(kind, this.index(index)?);
        let bits = kind.to_bits(value)?;
        SynchronizedBase::with_lock_fast(slf.as_super(), || kind.write(place, bits))
    }

    fn __iter__(slf: &Bound<'_, Self>) -> CellsIterator {
        CellsIterator { array: slf.clone().unbind(), next: AtomicUsize::new(0) }
    }

    /// Add to an element atomically, without the lock; return the value before.
    fn add<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        amount: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (kind, place) = self.element(index, true)?;
        kind.to_python(index.py(), kind.atomic_add(place, kind.to_bits(amount)?))
    }

    /// Replace an element atomically, without the lock; return the value before.
    fn exchange<'py>(
        &self,
        index: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (kind, place) = self.element(index, false)?;
        kind.to_python(index.py(), kind.atomic_exchange(place, kind.to_bits(value)?))
    }

    /// Replace an element atomically if it is what is expected; return whether it was.
    fn compare_exchange(
        &self,
        index: &Bound<'_, PyAny>,
        expected: &Bound<'_, PyAny>,
        desired: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (kind, place) = self.element(index, false)?;
        Ok(kind.atomic_compare_exchange(place, kind.to_bits(expected)?, kind.to_bits(desired)?))
    }

    /// Read an element atomically, without the lock.
    fn load<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (kind, place) = self.element(index, false)?;
        kind.to_python(index.py(), kind.atomic_load(place))
    }

    /// Write an element atomically, without the lock.
    fn store(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (kind, place) = self.element(index, false)?;
        kind.atomic_store(place, kind.to_bits(value)?);
        Ok(())
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        // SAFETY: the caller's view and flags; the length lives in the object.
        unsafe {
            if this.layout.kind.is_none() {
                return forward_buffer(slf.as_super().get().object(slf.py()), view, flags);
            }
            this.layout.fill(slf.as_any(), Some(&this.len), view, flags)
        }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// One element after the other, each read under the lock.
#[pyclass(frozen, module = "garrison._core")]
pub struct CellsIterator {
    array: Py<SynchronizedArray>,
    next: AtomicUsize,
}

#[pymethods]
impl CellsIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let array = slf.get().array.bind(slf.py());
        let index = slf.get().next.fetch_add(1, Ordering::Relaxed);
        if index >= array.get().len as usize {
            return Ok(None);
        }
        let Some(kind) = array.get().layout.kind else {
            let element =
                SynchronizedBase::under_lock(array.as_super(), |object| object.get_item(index));
            return element.map(Some);
        };
        let place = array.get().layout.at(kind, index);
        let bits = SynchronizedBase::with_lock_fast(array.as_super(), || kind.read(place))?;
        kind.to_python(slf.py(), bits).map(Some)
    }
}
