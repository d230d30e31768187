//! Shared memory as a Python object: a buffer, and a handle that other processes can attach.

use super::block::fill_view;
use super::finalizing::without_gil;
use super::memory_error;
use crate::owners::registry::{Id, OwnerRegistry};
use crate::shm::arena::{Arena, SharedBlock};
use pyo3::exceptions::{PyFileNotFoundError, PyIndexError, PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::io::Result;
use std::os::raw::c_int;

/// A place in shared memory, alive as long as a reference to it or a view of it is.
#[pyclass(frozen, weakref, name = "SharedBlock", module = "garrison._core")]
pub struct PySharedBlock {
    pub block: SharedBlock,
    readonly: bool,
}

impl PySharedBlock {
    pub fn of(block: SharedBlock) -> Self {
        Self { block, readonly: false }
    }
}

fn attach_error(error: &std::io::Error) -> PyErr {
    let text = error.to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
        std::io::ErrorKind::InvalidInput => PyValueError::new_err(text),
        _ => match error.raw_os_error() {
            Some(number) => PyOSError::new_err((number, text)),
            None => PyOSError::new_err(text),
        },
    }
}

impl Drop for PySharedBlock {
    fn drop(&mut self) {
        // It may have been the last one that was looked at here, and its handles have arrived.
        Arena::sweep();
    }
}

#[pymethods]
impl PySharedBlock {
    /// Fresh shared memory of so many bytes, all zero.
    #[new]
    fn new(py: Python<'_>, len: usize) -> PyResult<Self> {
        // A large one takes a while: the system clears its pages.
        let reserve = |all: &dyn Fn() -> Result<()>| without_gil(py, all);
        let block = SharedBlock::allocate_with(len, reserve)
            .map_err(|error| memory_error(&error, &format!("{len} bytes")))?;
        Ok(Self { block, readonly: false })
    }

    /// What another process has described; nothing if this one would need the descriptors for it.
    #[staticmethod]
    fn find(chunk: Id, offset: usize, size: usize) -> PyResult<Option<Self>> {
        let Some(chunk) = Arena::known(chunk) else { return Ok(None) };
        let block =
            SharedBlock::within(chunk, offset, size).map_err(|error| attach_error(&error))?;
        Ok(Some(Self { block, readonly: false }))
    }

    /// Attach what another process has described. The descriptors stay the caller's.
    #[staticmethod]
    fn attach(
        chunk: (Id, i32, usize),
        family: (Id, i32),
        offset: usize,
        size: usize,
    ) -> PyResult<Self> {
        let attached = || {
            let registry = OwnerRegistry::attach(family.1, family.0)?;
            let chunk = Arena::attach(chunk.1, chunk.2, chunk.0, registry)?;
            SharedBlock::within(chunk, offset, size)
        };
        Ok(Self { block: attached().map_err(|error| attach_error(&error))?, readonly: false })
    }

    /// A part of it, perhaps not to be written to.
    #[pyo3(signature = (offset, size, readonly = false))]
    fn part(&self, offset: usize, size: usize, readonly: bool) -> PyResult<Self> {
        if offset > self.block.len || size > self.block.len - offset {
            return Err(PyIndexError::new_err("outside of the shared memory"));
        }
        let block =
            SharedBlock { offset: self.block.offset + offset, len: size, ..self.block.clone() };
        Ok(Self { block, readonly: readonly || self.readonly })
    }

    /// Identity of the chunk, its length, its descriptor here.
    #[getter]
    fn chunk(&self) -> PyResult<((u64, u64), usize, i32)> {
        let chunk = &self.block.arena;
        let fd = chunk.open_fd().map_err(|_| super::descriptor::lost())?;
        Ok((chunk.id.into(), chunk.len(), fd))
    }

    /// Identity of the family, its descriptor here.
    #[getter]
    fn family(&self) -> PyResult<((u64, u64), i32)> {
        let registry = self.block.arena.registry;
        let fd = registry.open_fd().map_err(|_| super::descriptor::lost())?;
        Ok((registry.id.into(), fd))
    }

    #[getter]
    fn offset(&self) -> usize {
        self.block.offset
    }

    #[getter]
    fn readonly(&self) -> bool {
        self.readonly
    }

    /// Keep the memory until as many handles have arrived as were sent.
    fn export(&self) {
        self.block.arena.export();
    }

    /// A handle has arrived.
    fn arrived(&self) {
        self.block.arena.import();
        Arena::sweep();
    }

    /// Do not wait for handles that were sent and did not arrive.
    fn forget_exports(&self) {
        self.block.arena.forget_exports();
    }

    fn __len__(&self) -> usize {
        self.block.len
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let start = this.block.at(0, this.block.len);
        // SAFETY: the memory lives as long as the object, which the view holds.
        unsafe { fill_view(view, slf.as_any(), (start, this.block.len), this.readonly, flags) }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// This process's registry, made if need be: its identity, and its descriptor here. Children that are
/// forked from now on have it too.
#[pyfunction]
pub fn registry() -> PyResult<((u64, u64), i32)> {
    let home = OwnerRegistry::home();
    let home = home.map_err(|error| memory_error(&error, "a registry of processes"))?;
    Ok((home.id.into(), home.fd()))
}

/// Use another process's registry, unless this one has one. The descriptor stays the caller's.
#[pyfunction]
pub fn join_registry(id: Id, fd: i32) -> PyResult<()> {
    OwnerRegistry::attach(fd, id).map(|_| ()).map_err(|error| attach_error(&error))
}

/// Descriptors that stay open whatever becomes of the objects here: as long as the process lives, or
/// until every handle that was sent has arrived.
#[pyfunction]
pub fn open_descriptors() -> Vec<i32> {
    crate::owners::registry::descriptors()
        .into_iter()
        .chain(crate::shm::arena::open_descriptors())
        .collect()
}

/// A process is known to have died: all waiters check whether it was the owner.
#[pyfunction]
pub fn announce_death() {
    crate::owners::registry::announce_death();
}
