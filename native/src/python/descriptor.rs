//! A remembered descriptor as a Python object, and memory that has no name.

use super::memory_error;
use crate::sys::anonymous::{anonymous_file, is_in_memory};
use crate::sys::descriptor::{duplicate, Descriptor, LOST};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Mutex;

/// A descriptor that is checked to be ours before it is used, or closed.
#[pyclass(frozen, weakref, name = "Descriptor", module = "garrison._core")]
pub struct PyDescriptor {
    inner: Mutex<Option<Descriptor>>,
    number: i32,
    mark: (u64, u64),
}

pub fn lost() -> PyErr {
    PyOSError::new_err((libc::EBADF, LOST))
}

fn of_system(error: &std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(libc::EBADF) | None => lost(),
        Some(number) => PyOSError::new_err((number, error.to_string())),
    }
}

impl PyDescriptor {
    fn with<T>(&self, run: impl FnOnce(&Descriptor) -> std::io::Result<T>) -> PyResult<T> {
        let inner = self.inner.lock().expect("never poisoned");
        run(inner.as_ref().ok_or_else(lost)?).map_err(|error| of_system(&error))
    }
}

#[pymethods]
impl PyDescriptor {
    /// Own a descriptor, which is closed with this object.
    #[new]
    fn new(fd: i32) -> PyResult<Self> {
        if crate::sys::descriptor::file_behind(fd).is_none() {
            return Err(PyOSError::new_err((libc::EBADF, "no descriptor")));
        }
        // SAFETY: open; the caller gives it away.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        let inner = Descriptor::own(owned).map_err(|error| of_system(&error))?;
        let (number, mark) = (inner.number(), inner.file());
        Ok(Self { inner: Mutex::new(Some(inner)), number, mark })
    }

    /// The number, to be used now.
    fn fileno(&self) -> PyResult<i32> {
        self.with(Descriptor::get)
    }

    /// A descriptor of a description of one's own.
    fn reopen(&self) -> PyResult<i32> {
        self.with(|inner| inner.reopen().map(IntoRawFd::into_raw_fd))
    }

    /// Close it, unless the number is another file's by now.
    fn close(&self) {
        let inner = self.inner.lock().expect("never poisoned").take();
        drop(inner);
    }

    #[getter]
    fn is_ours(&self) -> bool {
        self.with(|inner| inner.get().map(|_| ())).is_ok()
    }

    /// The number, whatever it stands for by now.
    #[getter]
    fn number(&self) -> i32 {
        self.number
    }

    /// What the file is known by on this machine: device and inode.
    #[getter]
    fn mark(&self) -> (u64, u64) {
        self.mark
    }
}

/// Memory as a file without a name: its descriptor.
#[pyfunction]
pub fn memory_file() -> PyResult<i32> {
    let made = anonymous_file().map_err(|error| memory_error(&error, "a file in memory"))?;
    Ok(made.into_raw_fd())
}

/// Move a descriptor that cannot be checked to a high number, if the limits allow it.
#[pyfunction]
pub fn move_up(fd: i32) -> i32 {
    crate::sys::descriptor::move_up(fd)
}

/// A copy of another process's descriptor, of the same description: where there is no `/proc`.
#[pyfunction]
pub fn copy_descriptor(pid: i32, fd: i32) -> PyResult<i32> {
    // SAFETY: system calls on numbers; each result is ours alone.
    let copy = unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if process == -1 {
            return Err(of_system(&std::io::Error::last_os_error()));
        }
        let process = OwnedFd::from_raw_fd(process as i32);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0);
        if copy == -1 {
            return Err(of_system(&std::io::Error::last_os_error()));
        }
        OwnedFd::from_raw_fd(copy as i32)
    };
    let copy = duplicate(copy.as_raw_fd()).map_err(|error| of_system(&error))?;
    Ok(copy.into_raw_fd())
}

/// Whether a descriptor stands for a file of a file system that is memory.
#[pyfunction]
pub fn is_memory(fd: i32) -> bool {
    is_in_memory(fd)
}

/// Whether processes of the same user can open what this one has open.
#[pyfunction]
pub fn is_visible() -> bool {
    // SAFETY: neither touches memory.
    let allowed = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) == 1 || libc::geteuid() == 0 };
    allowed && std::fs::metadata("/proc/self/fd").is_ok()
}
