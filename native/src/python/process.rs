//! What a process asks of Linux about its family, past whatever has patched Python's modules.

use super::finalizing::without_gil;
use super::memory_error;
use crate::owners::registry::{Id, OwnerRegistry};
use pyo3::exceptions::{PyLookupError, PyOSError};
use pyo3::prelude::*;
use std::io::{Error, ErrorKind};

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

/// Become the parent of every orphan among one's descendants, so that none can escape; false where the
/// system refuses it, and init gets them.
#[pyfunction]
pub fn adopt_orphans() -> bool {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1).is_ok()
}

/// Wait until one of the descriptors can be read, or for so many milliseconds: which can be. None are
/// if a signal came, after its handler.
#[pyfunction]
#[pyo3(signature = (descriptors, milliseconds=None))]
pub fn poll(
    py: Python<'_>,
    descriptors: Vec<i32>,
    milliseconds: Option<f64>,
) -> PyResult<Vec<i32>> {
    let mut asked: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect();
    let limit = milliseconds.map_or(-1, |time| time.clamp(0.0, f64::from(i32::MAX)).ceil() as i32);
    let (count, error) = without_gil(py, || {
        // SAFETY: the pointer and the length are of a vector.
        let count = unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, limit) };
        (count, Error::last_os_error())
    });
    if count == -1 {
        if error.kind() != ErrorKind::Interrupted {
            return Err(error.into());
        }
        py.check_signals()?;
        return Ok(Vec::new());
    }
    Ok(asked.iter().filter(|each| each.revents != 0).map(|each| each.fd).collect())
}

/// Send what goes at once over a socket; false if nothing did. Never raises SIGPIPE.
#[pyfunction]
pub fn send_quietly(fd: i32, data: &[u8]) -> bool {
    crate::net::socket::send(fd, data).is_ok()
}

/// A counter for the children of this process, shared by all that start some: (family, counter).
#[pyfunction]
pub fn allot_counter(start: u32) -> PyResult<((u64, u64), usize)> {
    let home = OwnerRegistry::home();
    let home = home.map_err(|error| memory_error(&error, "a registry of processes"))?;
    Ok((home.id.into(), home.allot_counter(start)))
}

/// The next number of a counter.
#[pyfunction]
pub fn next_number(family: Id, counter: usize) -> PyResult<u32> {
    let known = OwnerRegistry::known(family);
    let known = known.ok_or_else(|| PyLookupError::new_err("a family that is not known here"))?;
    Ok(known.next_number(counter))
}
