//! Two wishes that a process can have of Linux about its family.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

fn prctl(option: i32, value: libc::c_ulong) -> PyResult<()> {
    // SAFETY: both options take one number and touch no memory of ours.
    if unsafe { libc::prctl(option, value, 0, 0, 0) } == -1 {
        let error = std::io::Error::last_os_error();
        return Err(PyOSError::new_err((error.raw_os_error().unwrap_or(0), error.to_string())));
    }
    Ok(())
}

/// Be killed when the process that forked this one dies. False if it is dead already.
///
/// Linux means the forking *thread*: to be used only by children of single-threaded processes.
#[pyfunction]
pub fn die_with_parent(parent: i32) -> PyResult<bool> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)?;
    // SAFETY: cannot fail.
    Ok(unsafe { libc::getppid() } == parent)
}

/// Become the parent of every orphan among one's descendants, so that none can escape.
#[pyfunction]
pub fn adopt_orphans() -> PyResult<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}
