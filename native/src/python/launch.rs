//! Forking a supervisor: the interpreter's part of it.

use super::supervisor::Supervisor;
use super::table::Table;
use crate::host::Failure;
use crate::tasks::launch::{self, Handover, Place, Plan, Role};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::os::fd::IntoRawFd;

/// Fork a supervisor, which forks a worker for each of these numbers: what this process is then, and
/// what belongs to it.
///
/// ("parent", pid); ("worker", (slot, owner id, file for its stack, desk)); ("supervisor", None or what it
/// takes over); ("failed", exception).
#[pyfunction]
pub fn fork_supervisor<'py>(
    py: Python<'py>,
    table: &Table,
    numbers: Vec<u32>,
    channel: i32,
    parents_end: i32,
    report: Vec<u8>,
) -> PyResult<(&'static str, Bound<'py, PyAny>)> {
    let plan = Plan { table: table.shared.clone(), numbers, channel, parents_end, report };
    // SAFETY: as `os.fork` does it. In the child only the core runs until the interpreter has been told.
    unsafe {
        let parent = libc::getpid();
        ffi::PyOS_BeforeFork();
        let pid = libc::fork();
        if pid != 0 {
            let error = std::io::Error::last_os_error();
            ffi::PyOS_AfterFork_Parent();
            if pid == -1 {
                return Err(error.into());
            }
            return Ok(("parent", pid.into_pyobject(py)?.into_any()));
        }
        let role = (!plan.numbers.is_empty()).then(|| launch::run(&plan, parent));
        ffi::PyOS_AfterFork_Child();
        role.map_or_else(|| Ok(("supervisor", py.None().into_bound(py))), |role| told(py, role))
    }
}

/// In a supervisor that is there already: fork a worker for each of these numbers, as above.
#[pyfunction]
pub fn launch_workers<'py>(
    py: Python<'py>,
    table: &Table,
    numbers: Vec<u32>,
    channel: i32,
    parent: i32,
    report: Vec<u8>,
) -> PyResult<(&'static str, Bound<'py, PyAny>)> {
    let plan = Plan { table: table.shared.clone(), numbers, channel, parents_end: -1, report };
    // SAFETY: as above.
    unsafe {
        ffi::PyOS_BeforeFork();
        let role = launch::run(&plan, parent);
        if matches!(role, Ok(Role::Worker(_))) {
            ffi::PyOS_AfterFork_Child();
        } else {
            ffi::PyOS_AfterFork_Parent();
        }
        told(py, role)
    }
}

fn told(py: Python<'_>, role: Result<Role, Failure>) -> PyResult<(&'static str, Bound<'_, PyAny>)> {
    match role {
        Ok(Role::Worker(place)) => Ok(("worker", placed(py, &place)?)),
        Ok(Role::Supervisor(handover)) => Ok(("supervisor", handed(py, *handover)?)),
        Err(failure) => {
            Ok(("failed", PyErr::from(failure).into_value(py).into_bound(py).into_any()))
        }
    }
}

fn placed<'py>(py: Python<'py>, place: &Place) -> PyResult<Bound<'py, PyAny>> {
    Ok((place.slot, place.owner_id, place.stack, place.desk).into_pyobject(py)?.into_any())
}

/// (Supervisor, [(pid or 0, owner id, file for its stack)], desk, the workers' end of it, the parent's
/// pidfd or -1, OOM kills)
fn handed(py: Python<'_>, handover: Handover) -> PyResult<Bound<'_, PyAny>> {
    let Handover { supervisor, seats, desk, parent, oom_kills } = handover;
    let seats = seats.into_iter().map(|seat| (seat.pid, seat.owner_id, seat.stack.into_raw_fd()));
    let seats = PyList::new(py, seats.collect::<Vec<_>>())?;
    let [ours, theirs] = desk.map(IntoRawFd::into_raw_fd);
    let supervisor = Bound::new(py, Supervisor::from(supervisor))?;
    let parent = parent.map_or(-1, IntoRawFd::into_raw_fd);
    let all: Bound<'_, PyTuple> =
        (supervisor, seats, ours, theirs, parent, oom_kills).into_pyobject(py)?;
    Ok(all.into_any())
}
