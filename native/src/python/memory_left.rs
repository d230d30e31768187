//! How much memory is left, for Python code that takes some itself.

use super::memory_error;
use crate::sys::memory_left::{ask, Files};
use pyo3::prelude::*;

/// Bytes that the machine and the control groups leave to this process; nothing if none tells. The
/// arguments stand for `/proc` and `/sys/fs/cgroup`.
#[pyfunction]
pub fn memory_left(proc: String, cgroups: String) -> Option<u64> {
    Files { proc, cgroups }.tightest().map(|room| room.left)
}

/// To be called before shared memory grows by so many bytes: raises if too few are left.
#[pyfunction]
pub fn ask_for_memory(size: u64, what: &str) -> PyResult<()> {
    ask(size).map_err(|error| memory_error(&error, what))
}
