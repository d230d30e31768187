//! The parent as Python has it: submits tasks, waits for them, takes their results.

use super::block::{self, PinnedBuffers};
use super::item_results;
use super::running_tasks::RunningTasks;
use super::table::Table;
use crate::tasks::handle::TaskHandle;
use crate::tasks::parent::{NewTask, ParentHandle};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::sync::Arc;

/// Parent(table): the side that submits.
#[pyclass(frozen, module = "garrison._core")]
pub struct Parent {
    pub(super) inner: Arc<ParentHandle>,
}

#[pymethods]
impl Parent {
    #[new]
    fn new(table: &Table) -> PyResult<Self> {
        Ok(Self { inner: ParentHandle::new(table.shared.clone())? })
    }

    /// Make a function known to the workers: `number` is the caller's name for it.
    fn add_function(&self, py: Python<'_>, number: u32, pickled: &[u8]) -> PyResult<()> {
        Ok(self.inner.add_function(py, number, pickled)?)
    }

    /// Write bytes down for as long as the pool lives, for `Worker.definition`. Where they lie.
    fn keep(&self, py: Python<'_>, data: &[u8]) -> PyResult<usize> {
        Ok(self.inner.keep(py, data)?)
    }

    /// Let a function go once its last task is over.
    fn forget_function(&self, number: u32) {
        self.inner.forget_function(number);
    }

    /// Put one task into the table; the handle is the only way to its result.
    #[pyo3(signature = (function, kind, payload, buffers=None, items=1, retries=0, timeout=0))]
    #[allow(clippy::too_many_arguments)] // one call for one cell: its fields are what there is
    fn submit(
        &self,
        py: Python<'_>,
        function: u32,
        kind: u32,
        payload: &[u8],
        buffers: Option<&Bound<'_, PyList>>,
        items: u32,
        retries: u32,
        timeout: u64,
    ) -> PyResult<PyTaskHandle> {
        let buffers = buffers.filter(|list| !list.is_empty());
        let task = NewTask { function, kind, items, retries, timeout };
        let inner = self.inner.submit(task, payload, buffers.is_none(), |heap| {
            Ok::<_, PyErr>(PinnedBuffers::of(buffers)?.write_with(py, heap, payload)?)
        })?;
        Ok(PyTaskHandle { inner })
    }

    #[getter]
    fn interrupts(&self) -> u32 {
        self.inner.interrupts()
    }

    /// Have the threads in `RunningTasks.wait` come back: there is something new to wait for.
    fn interrupt_waits(&self) {
        self.inner.interrupt_waits();
    }

    /// Tasks whose result is not taken yet, those of dropped handles included.
    #[getter]
    fn in_use(&self) -> usize {
        self.inner.in_use()
    }

    /// Tasks that have ended and were taken note of.
    #[getter]
    fn completed(&self) -> u64 {
        self.inner.completed()
    }

    /// Bytes of this process's heap that are in use.
    #[getter]
    fn allocated(&self) -> usize {
        self.inner.allocated()
    }
}

/// The parent, its tasks, and those that are watched together.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Parent>()?;
    module.add_class::<PyTaskHandle>()?;
    module.add_class::<RunningTasks>()
}

/// (outcome, payload, buffers, nanoseconds, owner id)
type Taken<'py> = (u32, Bound<'py, PyAny>, Option<Bound<'py, PyList>>, u64, u32);

/// The right to one task's result.
#[pyclass(frozen, name = "TaskHandle", module = "garrison._core")]
pub struct PyTaskHandle {
    pub(super) inner: TaskHandle,
}

#[pymethods]
impl PyTaskHandle {
    /// Is the result there (or the loss known)?
    fn ended(&self) -> bool {
        self.inner.ended()
    }

    /// When the task ended, in nanoseconds; 0 while it has not.
    #[getter]
    fn ended_at(&self) -> u64 {
        self.inner.ended_at()
    }

    /// Wait at most `limit` seconds; True if the task has ended. Signal handlers run meanwhile.
    fn wait(&self, py: Python<'_>, limit: f64) -> PyResult<bool> {
        self.inner.wait(py, limit)
    }

    /// The result, once: (outcome, payload, buffers, nanoseconds, owner id); the cell is free after it.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Taken<'py>> {
        let taken = self.inner.take(|found| block::found(py, found))?;
        let (payload, buffers) = taken.result;
        Ok((taken.outcome, payload, buffers, taken.duration, taken.owner_id))
    }

    /// Bytes of the task's arguments.
    #[getter]
    fn size(&self) -> u64 {
        self.inner.size()
    }

    /// Has the worker died with it?
    fn lost(&self) -> bool {
        self.inner.is_lost()
    }

    /// What was asked for: (function, kind, index, payload). For messages, before `take`.
    fn call<'py>(&self, py: Python<'py>) -> (u32, u32, u32, Option<Bound<'py, PyBytes>>) {
        let call = self.inner.call();
        let payload = call.payload.map(|bytes| PyBytes::new(py, &bytes));
        (call.function, call.kind, call.index, payload)
    }

    /// Whether a worker has begun with the first item of a shared cell, whose task is over.
    fn has_begun(&self) -> bool {
        self.inner.has_begun()
    }

    /// Results of a shared cell's first items that are complete, whether the worker is still at
    /// work or has died, as `split_results` returns them. None any more once the task is done.
    fn recover(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let found = self.inner.recover(|found| item_results::entries(py, found).map(Some))?;
        Ok(found.unwrap_or_else(|| PyList::empty(py).unbind()))
    }

    /// Take the items back that the worker has not begun: the number of those that stay its own.
    fn take_back(&self) -> PyResult<u32> {
        Ok(self.inner.take_back()?)
    }

    /// Take a task back that no worker has claimed. False if it is too late for that.
    fn withdraw(&self) -> bool {
        self.inner.withdraw()
    }
}
