//! `Lock` and `RLock`.

use super::convert::{deadline, AnyBool};
use super::lock_fast_calls;
use super::shared_block::PySharedBlock;
use crate::sync::lock::word::LockShared;
use crate::sync::lock::{Acquired, Lock, RawLock};
use crate::sys::deadline::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What to do when a lock is inherited from a process that died with it.
const RAISE: u8 = 1;

/// What `garrison.Lock` and `garrison.RLock` are made of.
#[pyclass(frozen, weakref, name = "Lock", module = "garrison._core")]
pub struct PyLock {
    pub lock: Lock,
    home: Py<PySharedBlock>,
    offset: usize,
    on_abandon: u8,
}

impl PyLock {
    /// Acquire it, as `acquire` does.
    #[inline]
    pub fn take(slf: &Bound<'_, Self>, deadline: &Deadline) -> PyResult<bool> {
        let this = slf.get();
        match this.lock.acquire(slf.py(), deadline, this.on_abandon != RAISE)? {
            Acquired::Clean => Ok(true),
            Acquired::TimedOut => Ok(false),
            Acquired::FromDeadOwner(dead) | Acquired::OwnerDead(dead) => {
                report_owner_died(slf, dead).map(|()| true)
            }
        }
    }
}

/// Tell the user in Python, by a warning or an error. If it is an error the next one is told as well.
#[cold]
fn report_owner_died(slf: &Bound<'_, PyLock>, dead: u32) -> PyResult<()> {
    let this = slf.get();
    let pid = this.lock.raw.registry().identity(dead).map(|identity| identity.pid);
    let report = || slf.py().import("garrison.sync._locks")?.getattr("warn_or_raise_owner_died");
    match report().and_then(|report| report.call1((slf, pid, this.on_abandon))) {
        Ok(_) => Ok(()),
        Err(error) => {
            this.lock.return_to_dead_owner(dead)?;
            Err(error)
        }
    }
}

#[pymethods]
impl PyLock {
    #[new]
    #[pyo3(signature = (block, offset, recursive, on_abandon, detects = false))]
    fn new(
        block: Py<PySharedBlock>,
        offset: usize,
        recursive: bool,
        on_abandon: u8,
        detects: bool,
    ) -> PyResult<Self> {
        let home = block;
        let block = &home.get().block;
        let inside = offset <= block.len && size_of::<LockShared>() <= block.len - offset;
        if !inside || (block.offset + offset) % align_of::<LockShared>() != 0 {
            return Err(PyValueError::new_err("a handle with no room for a lock"));
        }
        let lock = Lock::new(RawLock::new(block, offset, recursive, detects), recursive);
        Ok(Self { lock, home, offset, on_abandon })
    }

    /// What the same lock is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>, usize, bool, u8, bool) {
        let (recursive, detects) = (self.lock.recursive, self.lock.raw.target().detects);
        (self.home.clone_ref(py), self.offset, recursive, self.on_abandon, detects)
    }

    /// Take the lock; False if it could not be had in time.
    #[pyo3(signature = (block = AnyBool(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(
        slf: &Bound<'_, Self>,
        block: AnyBool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        Self::take(slf, &deadline(block, timeout)?)
    }

    /// Release the lock.
    fn release(&self) -> PyResult<()> {
        Ok(self.lock.release()?)
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::take(slf, &Deadline::never())
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None, /))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Take the lock although its owner died holding it, without a warning or an error.
    #[pyo3(signature = (block = AnyBool(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn recover(
        slf: &Bound<'_, Self>,
        block: AnyBool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        slf.get().lock.recover(slf.py(), &deadline(block, timeout)?)
    }

    /// `acquire`, `release`, `__enter__` and `__exit__`, made to be called often.
    fn quick<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        lock_fast_calls::methods(slf)
    }

    /// Whether any process holds it.
    fn locked(&self) -> bool {
        self.lock.raw.is_held()
    }

    #[getter]
    fn recursive(&self) -> bool {
        self.lock.recursive
    }

    /// Whether the last acquisition by this process took it from an owner that had died.
    #[getter]
    fn abandoned(&self) -> bool {
        self.lock.is_abandoned()
    }

    /// (pid, thread, seconds, where) of the holder, or nothing.
    #[getter]
    fn holder(&self) -> Option<(u32, u32, f64, String)> {
        let holder = self.lock.raw.holder()?;
        Some((holder.pid, holder.thread, holder.held.as_secs_f64(), holder.location))
    }

    /// The number by which waits name it.
    #[getter]
    fn number(&self) -> u64 {
        self.lock.raw.target().object
    }

    /// Whether the calling thread holds it.
    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.lock.raw.is_mine(self.lock.raw.me()?))
    }

    /// How often this process has taken it.
    fn _count(&self) -> PyResult<u32> {
        let raw = &self.lock.raw;
        Ok(if raw.is_of_this_process()? { raw.depth() } else { 0 })
    }

    // What the standard library's has besides.

    fn _get_value(&self) -> u32 {
        u32::from(!self.lock.raw.is_held())
    }

    fn _is_zero(&self) -> bool {
        self.lock.raw.is_held()
    }

    /// 0: recursive.
    #[getter]
    fn kind(&self) -> u32 {
        u32::from(!self.lock.recursive)
    }

    #[classattr]
    fn maxvalue() -> u32 {
        1
    }

    #[getter]
    fn handle(&self) -> u64 {
        self.number()
    }

    #[classattr]
    fn name() -> Option<&'static str> {
        None
    }

    fn _after_fork(&self) {}
}
