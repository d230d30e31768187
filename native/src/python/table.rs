//! The words that every role may read, and those that only one may write (see `table`).

use crate::sys::atomic::Ordering;
use crate::tasks::table;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// Table(slots, region_len, fd=None): create the shared task table, or attach to one.
#[pyclass(frozen, module = "garrison._core")]
pub struct Table {
    pub shared: Arc<table::Table>,
}

#[pymethods]
impl Table {
    #[new]
    #[pyo3(signature = (slots, region_len, fd=None))]
    fn new(slots: usize, region_len: usize, fd: Option<i32>) -> PyResult<Self> {
        let table = match fd {
            None => table::Table::create(slots, region_len),
            Some(fd) => table::Table::attach(fd, slots, region_len),
        };
        let table = table.map_err(|error| {
            PyOSError::new_err((
                error.raw_os_error().unwrap_or(0),
                format!("cannot set up shared memory: {error}; see `ulimit -a` (-v, -f, -n)"),
            ))
        })?;
        Ok(Self { shared: Arc::new(table) })
    }

    #[getter]
    fn fd(&self) -> PyResult<i32> {
        self.shared.segment.descriptor().get().map_err(|_| super::descriptor::lost())
    }

    #[getter]
    fn slots(&self) -> usize {
        self.shared.slots
    }

    #[getter]
    fn region_len(&self) -> usize {
        self.shared.segment.region_len()
    }

    #[getter]
    fn phase(&self) -> u32 {
        self.shared.header().phase.load(Ordering::Acquire)
    }

    #[getter]
    fn broken(&self) -> bool {
        self.shared.header().broken.load(Ordering::Acquire) == table::BROKEN
    }

    #[getter]
    fn finished(&self) -> bool {
        self.shared.header().broken.load(Ordering::Acquire) == table::FINISHED
    }

    #[getter]
    fn deaths(&self) -> u32 {
        self.shared.header().deaths.load(Ordering::Acquire)
    }

    #[getter]
    fn losses(&self) -> u32 {
        self.shared.header().losses.load(Ordering::Relaxed)
    }

    #[getter]
    fn retried(&self) -> u32 {
        self.shared.header().retried.load(Ordering::Relaxed)
    }

    #[getter]
    fn dozing(&self) -> bool {
        self.shared.is_supervisor_idle()
    }

    /// Tasks that no worker has claimed yet.
    #[getter]
    fn waiting(&self) -> u64 {
        self.shared.waiting()
    }

    /// Move on to a later phase and have every worker look.
    fn enter(&self, phase: u32) {
        self.shared.enter(phase);
    }

    /// A worker's slot: owner_id, pid, over, retiring, cell (or None), initialized, tasks, deadline.
    fn slot<'py>(&self, py: Python<'py>, number: usize) -> PyResult<Bound<'py, PyDict>> {
        let slot = self.shared.slot(number);
        let info = PyDict::new(py);
        info.set_item("owner_id", slot.incarnation.load(Ordering::Acquire))?;
        info.set_item("pid", slot.pid.load(Ordering::Acquire))?;
        info.set_item("over", slot.over.load(Ordering::Acquire) != 0)?;
        info.set_item("retiring", slot.retiring.load(Ordering::Acquire) != 0)?;
        let cell = slot.cell.load(Ordering::Acquire);
        info.set_item("cell", cell.checked_sub(1))?;
        info.set_item("initialized", slot.initialized.load(Ordering::Acquire) != 0)?;
        info.set_item("tasks", slot.tasks.load(Ordering::Relaxed))?;
        info.set_item("deadline", slot.deadline.load(Ordering::Acquire))?;
        info.set_item("started", slot.started.load(Ordering::Acquire))?;
        info.set_item("number", slot.number.load(Ordering::Acquire))?;
        Ok(info)
    }

    /// The exit code of a process, if it has ended and not too many have since.
    fn exit_of(&self, owner_id: u32) -> Option<i32> {
        table::exit_of(self.shared.header(), owner_id)
    }

    /// Daemonic children that the worker in this slot has started.
    fn children(&self, number: usize) -> Vec<u32> {
        let children = &self.shared.slot(number).children;
        children.iter().map(|pid| pid.load(Ordering::Acquire)).filter(|&pid| pid != 0).collect()
    }
}
