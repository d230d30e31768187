//! The Python face: one class for each role a process can have.

mod barrier;
mod block;
mod c_number;
mod client_socket;
mod condition;
mod convert;
mod descriptor;
mod encoded_items;
mod errors;
mod event;
mod finalizing;
mod host;
mod item_results;
mod launch;
mod lock;
mod lock_fast_calls;
mod memory_left;
mod msgpack;
mod parent;
mod pending_reply;
mod plain_calls;
mod plain_pickle;
mod process;
mod queue;
mod queue_caller;
mod queue_item;
mod reducer;
mod running_tasks;
mod secure_channel;
mod semaphore;
mod shared_block;
mod store;
mod supervisor;
mod synchronized;
mod synchronized_array;
mod synchronized_value;
mod table;
mod worker;

use crate::sys::damage::is_damage;
use crate::sys::memory_left::is_scarcity;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pub use errors::{SharedMemoryCorrupt, SharedMemoryFull};

/// The limit on address space or data that this process has, in a few words.
fn limits() -> Option<String> {
    let of = |kind, name: &str| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes to a local.
        unsafe { libc::getrlimit(kind, &raw mut limit) };
        let is_limited = limit.rlim_cur != libc::RLIM_INFINITY;
        is_limited.then(|| format!("{name} is {} MB", limit.rlim_cur >> 20))
    };
    of(libc::RLIMIT_AS, "RLIMIT_AS (ulimit -v)")
        .or_else(|| of(libc::RLIMIT_DATA, "RLIMIT_DATA (ulimit -d)"))
}

/// An error of the system while reserving or mapping: full is full, whatever the number.
pub fn memory_error(error: &std::io::Error, what: &str) -> PyErr {
    if is_damage(error) {
        return SharedMemoryCorrupt::new_err(format!("{error}; make a new pool or queue"));
    }
    if is_scarcity(error) {
        return SharedMemoryFull::new_err(format!(
            "{error} (wanted for {what}); free memory, raise the limit, or send smaller pieces"
        ));
    }
    match error.raw_os_error() {
        Some(libc::ENOMEM) if limits().is_some() => SharedMemoryFull::new_err(format!(
            "no address space for {what}: {}; raise it, or send smaller pieces",
            limits().unwrap_or_default()
        )),
        Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT) => SharedMemoryFull::new_err(format!(
            "no room in shared memory for {what}: {error}; free memory, send smaller pieces, or pass a file name"
        )),
        Some(libc::EBADF) => descriptor::lost(),
        Some(number) => pyo3::exceptions::PyOSError::new_err((number, format!("{what}: {error}"))),
        None => pyo3::exceptions::PyOSError::new_err(error.to_string()),
    }
}

/// A bytes object, or MemoryError.
pub fn bytes<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, data.len(), |place| {
        place.copy_from_slice(data);
        Ok(())
    })
}

/// Kill this process if the test armed this point. Does nothing in a release.
#[pyfunction]
fn crash_point(name: &str) {
    crate::testing::crash_points::crash_point(name);
}

/// Write down where this process is in native code when it gets a fatal signal. Does nothing in a release.
#[pyfunction]
fn trace_faults(fd: i32) {
    #[cfg(feature = "crash-points")]
    crate::testing::faults::trace_faults(fd);
    let _ = fd;
}

/// What the pickling of messages is made of.
fn add_pickling(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(item_results::split, module)?)?;
    module.add_class::<item_results::PickledResult>()?;
    module.add_class::<reducer::Rules>()?;
    module.add_class::<reducer::Reducer>()?;
    module.add_function(wrap_pyfunction!(plain_pickle::dumps_plain, module)?)?;
    module.add_function(wrap_pyfunction!(plain_pickle::dumps_scalars, module)?)?;
    module.add_function(wrap_pyfunction!(plain_pickle::loads, module)?)?;
    Ok(())
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::sys::process::watch_forks();
    finalizing::find();
    errors::load(module.py())?;
    let points: &[&str] =
        if cfg!(feature = "crash-points") { crate::testing::crash_points::POINTS } else { &[] };
    module.add("CRASH_POINTS", points.to_vec())?;
    module.add("CAPACITY", crate::tasks::table::CAPACITY)?;
    module.add_function(wrap_pyfunction!(crash_point, module)?)?;
    module.add_function(wrap_pyfunction!(trace_faults, module)?)?;
    module.add("OUTCOME_LOST", crate::tasks::table::OUTCOME_LOST)?;
    module.add_function(wrap_pyfunction!(process::die_with_parent, module)?)?;
    module.add_function(wrap_pyfunction!(process::adopt_orphans, module)?)?;
    module.add_function(wrap_pyfunction!(process::poll, module)?)?;
    module.add_function(wrap_pyfunction!(memory_left::memory_left, module)?)?;
    module.add_function(wrap_pyfunction!(memory_left::ask_for_memory, module)?)?;
    module.add_function(wrap_pyfunction!(process::send_quietly, module)?)?;
    module.add_function(wrap_pyfunction!(process::allot_counter, module)?)?;
    module.add_function(wrap_pyfunction!(process::next_number, module)?)?;
    module.add("OUTCOME_CORRUPT", crate::tasks::table::OUTCOME_CORRUPT)?;
    module.add("OUTCOME_EACH", crate::tasks::table::OUTCOME_EACH)?;
    module.add_function(wrap_pyfunction!(shared_block::registry, module)?)?;
    module.add_function(wrap_pyfunction!(shared_block::join_registry, module)?)?;
    module.add_function(wrap_pyfunction!(shared_block::announce_death, module)?)?;
    module.add_function(wrap_pyfunction!(shared_block::open_descriptors, module)?)?;
    add_pickling(module)?;
    module.add_class::<descriptor::PyDescriptor>()?;
    module.add_function(wrap_pyfunction!(descriptor::memory_file, module)?)?;
    module.add_function(wrap_pyfunction!(descriptor::copy_descriptor, module)?)?;
    module.add_function(wrap_pyfunction!(descriptor::is_memory, module)?)?;
    module.add_function(wrap_pyfunction!(descriptor::is_visible, module)?)?;
    module.add_function(wrap_pyfunction!(descriptor::move_up, module)?)?;
    module.add_class::<shared_block::PySharedBlock>()?;
    module.add_function(wrap_pyfunction!(host::waits, module)?)?;
    module.add_class::<lock::PyLock>()?;
    module.add_class::<synchronized::SynchronizedBase>()?;
    module.add_class::<synchronized_value::SynchronizedValue>()?;
    module.add_class::<synchronized_array::SynchronizedArray>()?;
    module.add_class::<semaphore::PySemaphore>()?;
    module.add_class::<event::PyEvent>()?;
    module.add_class::<condition::PyCondition>()?;
    module.add_class::<condition::Seat>()?;
    module.add_class::<barrier::PyBarrier>()?;
    module.add_function(wrap_pyfunction!(queue_caller::retire_senders, module)?)?;
    module.add_class::<queue::PyQueue>()?;
    module.add_class::<secure_channel::PySecureChannel>()?;
    module.add_function(wrap_pyfunction!(secure_channel::generate_identity, module)?)?;
    module.add_class::<client_socket::PyClientSocket>()?;
    module.add_class::<pending_reply::PendingReply>()?;
    module.add_class::<block::Block>()?;
    store::add_to(module)?;
    module.add_class::<table::Table>()?;
    parent::add_to(module)?;
    module.add_class::<supervisor::Supervisor>()?;
    module.add_function(wrap_pyfunction!(launch::fork_supervisor, module)?)?;
    module.add_function(wrap_pyfunction!(launch::launch_workers, module)?)?;
    module.add_class::<worker::Worker>()?;
    module.add_class::<worker::MadeCall>()?;
    Ok(())
}
