//! `Synchronized`: one number in shared memory, under its lock or lock-free.

use super::c_number::PyNumber;
use super::synchronized::{forward_buffer, Layout, SynchronizedBase};
use crate::sync::c_number::NumberKind;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::os::raw::c_int;

/// A value in shared memory, as `Value` returns it.
///
/// Attributes
/// ----------
/// value
///     Read and written under the lock.
///
/// Notes
/// -----
/// ``add``, ``exchange``, ``compare_exchange``, ``load`` and ``store`` are single steps, for integers
/// and floats. They neither take the lock nor wait for it: its holder sees the value change
/// meanwhile. Use them alone, or the lock alone. A sum that is out of the type's range wraps around.
#[pyclass(
    frozen,
    extends = SynchronizedBase,
    subclass,
    name = "Synchronized",
    module = "garrison.sharedctypes"
)]
pub struct SynchronizedValue {
    /// If it is no number of ours, ctypes reads and writes it.
    layout: Layout,
}

/// The kind of what atomic operations are to be done on.
pub fn atomic(kind: Option<NumberKind>, adding: bool) -> PyResult<NumberKind> {
    kind.filter(|kind| !adding || kind.is_number()).ok_or_else(|| {
        PyTypeError::new_err(
            "atomic operations are for integers, floats and (all but add) bools; \
             use .value or [] with get_lock() held",
        )
    })
}

#[pymethods]
impl SynchronizedValue {
    #[new]
    #[pyo3(signature = (obj, lock = None, ctx = None))]
    fn new(
        obj: &Bound<'_, PyAny>,
        lock: Option<&Bound<'_, PyAny>>,
        ctx: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let _ = ctx;
        let (base, plain) = SynchronizedBase::wrap(obj, lock)?;
        let layout = Layout::of(obj, 0, plain)?;
        Ok(PyClassInitializer::from(base).add_subclass(Self { layout }))
    }

    /// The value, read and written under the lock.
    #[getter]
    fn value<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let layout = &slf.get().layout;
        let Some(kind) = layout.kind else {
            return SynchronizedBase::under_lock(slf.as_super(), |object| object.getattr("value"));
        };
        let bits = SynchronizedBase::with_lock_fast(slf.as_super(), || kind.read(layout.place))?;
        kind.to_python(slf.py(), bits)
    }

    #[setter]
    fn set_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let layout = &slf.get().layout;
        let Some(kind) = layout.kind else {
            return SynchronizedBase::under_lock(slf.as_super(), |object| {
                object.setattr("value", value)
            });
        };
        let bits = kind.to_bits(value)?;
        SynchronizedBase::with_lock_fast(slf.as_super(), || kind.write(layout.place, bits))
    }

    /// Add atomically, without the lock; return the value before.
    fn add<'py>(&self, amount: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let kind = atomic(self.layout.kind, true)?;
        let bits = kind.to_bits(amount)?;
        kind.to_python(amount.py(), kind.atomic_add(self.layout.place, bits))
    }

    /// Replace atomically, without the lock; return the value before.
    fn exchange<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let kind = atomic(self.layout.kind, false)?;
        let bits = kind.to_bits(value)?;
        kind.to_python(value.py(), kind.atomic_exchange(self.layout.place, bits))
    }

    /// Replace atomically if it is what is expected; return whether it was.
    fn compare_exchange(
        &self,
        expected: &Bound<'_, PyAny>,
        desired: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let kind = atomic(self.layout.kind, false)?;
        let (expected, desired) = (kind.to_bits(expected)?, kind.to_bits(desired)?);
        Ok(kind.atomic_compare_exchange(self.layout.place, expected, desired))
    }

    /// Read atomically, without the lock.
    fn load<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let kind = atomic(self.layout.kind, false)?;
        kind.to_python(py, kind.atomic_load(self.layout.place))
    }

    /// Write atomically, without the lock.
    fn store(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let kind = atomic(self.layout.kind, false)?;
        kind.atomic_store(self.layout.place, kind.to_bits(value)?);
        Ok(())
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let layout = &slf.get().layout;
        // SAFETY: the caller's view and flags.
        unsafe {
            if layout.kind.is_none() {
                return forward_buffer(slf.as_super().get().object(slf.py()), view, flags);
            }
            layout.fill(slf.as_any(), None, view, flags)
        }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}
