//! The interpreter as the core sees it, and the core's failures as exceptions.

use super::errors::NotHeld;
use super::finalizing::without_gil;
use super::memory_error;
use crate::host::{ExclusiveHost, Failure, Host};
use crate::owners::registry::OwnerRegistry;
use crate::owners::wait_graph::WaiterInfo;
use crate::owners::Owners;
use crate::sys::damage::is_damage;
use pyo3::exceptions::{
    PyAssertionError, PyBlockingIOError, PyKeyError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;

impl Host for Python<'_> {
    type Error = PyErr;

    #[inline]
    fn blocking<T>(self, run: impl FnOnce() -> T) -> T {
        without_gil(self, run)
    }

    #[inline]
    fn check_signals(self) -> PyResult<()> {
        Python::check_signals(self)
    }

    /// "file.py:12 in function"; a thread without a Python frame has none.
    fn location(self) -> String {
        location(self).unwrap_or_default()
    }
}

// SAFETY: it has the GIL.
unsafe impl ExclusiveHost for Python<'_> {}

fn location(py: Python<'_>) -> PyResult<String> {
    let frame = py.import("sys")?.getattr("_getframe")?.call0()?;
    let code = frame.getattr("f_code")?;
    let file: String = code.getattr("co_filename")?.extract()?;
    let line: usize = frame.getattr("f_lineno")?.extract()?;
    let name: String = code.getattr("co_name")?.extract()?;
    Ok(format!("{file}:{line} in {name}"))
}

impl From<Failure> for PyErr {
    #[cold]
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::System { error, what } => memory_error(&error, &what),
            Failure::Io(error) if is_damage(&error) => memory_error(&error, ""),
            Failure::Io(error) => error.into(),
            Failure::ForkedWhileWaiting => {
                PyRuntimeError::new_err("forked by a signal handler in the middle of a wait")
            }
            Failure::Deadlock(members) => Python::attach(|py| deadlock(py, members)),
            Failure::NotHeld => NotHeld::new_err("semaphore or lock released too many times"),
            Failure::NotOwner => {
                PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
            }
            Failure::ItemTooLarge(text) | Failure::Torn(text) => PyValueError::new_err(text),
            Failure::TableFull(most) => {
                PyBlockingIOError::new_err(format!("{most} tasks are waiting or at work"))
            }
            Failure::UnknownFunction(number) => PyKeyError::new_err(number),
            Failure::OtherProcess => PyValueError::new_err(
                "this pool belongs to another process (this one was forked from it); make a pool of \
                 your own here",
            ),
            Failure::WrongState(text) => PyRuntimeError::new_err(text),
            Failure::ConditionNotOwned(text) => PyAssertionError::new_err(text),
            Failure::ConditionFull(most) => PyRuntimeError::new_err(format!(
                "{most} waiters already: more cannot wait for one Condition"
            )),
        }
    }
}

fn deadlock(py: Python<'_>, members: Vec<WaiterInfo>) -> PyErr {
    let members: Vec<_> = members.into_iter().map(as_tuple).collect();
    let raised = py
        .import("garrison.sync._introspection")
        .and_then(|graph| graph.getattr("raise_deadlock")?.call1((members,)));
    raised.err().unwrap_or_else(|| PyRuntimeError::new_err("a cycle of waits"))
}

/// (pid, thread, kind, object, seconds, pid of the holder, its thread, where)
type Waiter = (u32, u32, u32, u64, f64, u32, u32, String);

fn as_tuple(info: WaiterInfo) -> Waiter {
    let waited = info.waited.as_secs_f64();
    let holder = (info.holder_pid, info.holder_thread);
    (info.pid, info.thread, info.kind, info.object, waited, holder.0, holder.1, info.location)
}

/// All waits of this process's family that have lasted for 100 ms.
#[pyfunction]
pub fn waits() -> PyResult<Vec<Waiter>> {
    let registry = OwnerRegistry::home().map_err(Failure::of("a registry of processes"))?;
    Ok(registry.waits().iter().map(|wait| as_tuple(registry.waiter_info(wait))).collect())
}
