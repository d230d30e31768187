//! The parent as Python has it: submits tasks, waits for them, takes their results.

use super::block::{self, PinnedBuffers};
use super::encoded_items::{EncodedItems, ItemBuffer};
use super::item_results;
use super::plain_calls::PlainCalls;
use super::plain_pickle;
use super::running_tasks::RunningTasks;
use super::table::Table;
use crate::shm::payload::Found;
use crate::tasks::handle::{Cancel, TaskHandle};
use crate::tasks::parent::{NewTask, ParentHandle};
use crate::tasks::table::{OUTCOME_EACH, OUTCOME_OK};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::sync::Arc;

/// Parent(table): the side that submits.
#[pyclass(frozen, module = "garrison._core")]
pub struct Parent {
    pub(super) inner: Arc<ParentHandle>,
}

impl Parent {
    fn put(
        &self,
        py: Python<'_>,
        task: NewTask,
        payload: &[u8],
        buffers: Option<&Bound<'_, PyList>>,
    ) -> PyResult<PyTaskHandle> {
        let buffers = buffers.filter(|list| !list.is_empty());
        let inner = self.inner.submit(task, payload, buffers.is_none(), |heap| {
            Ok::<_, PyErr>(PinnedBuffers::of(buffers)?.write_with(py, heap, payload)?)
        })?;
        Ok(PyTaskHandle { inner })
    }
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
        let task = NewTask { function, kind, items, retries, timeout };
        self.put(py, task, payload, buffers)
    }

    /// Put one task for encoded items into the table.
    #[pyo3(signature = (function, kind, items, retries=0, timeout=0))]
    fn submit_items(
        &self,
        py: Python<'_>,
        function: u32,
        kind: u32,
        items: &EncodedItems,
        retries: u32,
        timeout: u64,
    ) -> PyResult<PyTaskHandle> {
        let count = items.len() as u32;
        let task = NewTask { function, kind, items: count, retries, timeout };
        self.put(py, task, items.payload(py)?, items.buffers(py))
    }

    #[getter]
    fn interrupts(&self) -> u32 {
        self.inner.interrupts()
    }

    /// Have the threads in `RunningTasks.wait` come back: there is something new to wait for.
    fn interrupt_waits(&self) {
        self.inner.interrupt_waits();
    }

    /// The task that this thread has submitted last, as a number; 0 if it was to another pool.
    #[getter]
    fn latest(&self) -> u64 {
        let latest = self.inner.latest();
        latest.map_or(0, |(cell, ticket)| (u64::from(ticket) << 32 | u64::from(cell)) + 1)
    }

    /// Cancel that task, as `TaskHandle.cancel` does: an interrupt may have lost its handle.
    fn cancel_latest(&self, grace: u64) -> u8 {
        code_of(self.inner.cancel_latest(grace))
    }

    /// Tasks that have failed or were lost so far.
    #[getter]
    fn failures(&self) -> u32 {
        self.inner.failures()
    }

    /// Tasks whose result is not taken yet; those of dropped handles until they have ended.
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
    module.add_class::<PlainCalls>()?;
    module.add_class::<EncodedItems>()?;
    module.add_class::<ItemBuffer>()?;
    module.add_class::<RunningTasks>()
}

/// (outcome, payload, buffers, nanoseconds, owner id)
type Taken<'py> = (u32, Bound<'py, PyAny>, Option<Bound<'py, PyList>>, u64, u32);

/// A result as Python decodes it: the call if the task was lost, and what `take` gives.
type Raw<'py> = (Option<Call<'py>>, u32, Bound<'py, PyAny>, Option<Bound<'py, PyList>>, u64, u32);

/// (function, kind, index, payload)
type Call<'py> = (u32, u32, u32, Option<Bound<'py, PyBytes>>);

/// What an ended task has brought.
enum Brought<'py> {
    /// The value of a result that is plain.
    Value(Bound<'py, PyAny>),
    /// The results of items.
    Items(Bound<'py, PyList>),
    /// A payload and its buffers, for Python.
    Payload(Bound<'py, PyAny>, Option<Bound<'py, PyList>>),
}

impl<'py> Brought<'py> {
    fn of(py: Python<'py>, outcome: u32, found: Found<'_>) -> PyResult<Self> {
        if let Some(bytes) = payload_alone(&found) {
            if outcome == OUTCOME_EACH {
                return Ok(Self::Items(item_results::of_task(py, bytes)?));
            }
            let is_value = outcome == OUTCOME_OK;
            if let Some(value) = if is_value { plain_pickle::read(py, bytes) } else { None } {
                return Ok(Self::Value(value));
            }
        }
        let (payload, buffers) = block::found(py, found)?;
        Ok(Self::Payload(payload, buffers))
    }
}

/// Results of items or a raw result, bytes, nanoseconds.
type TakenItems<'py> = (Option<Bound<'py, PyList>>, Option<Raw<'py>>, usize, u64);

/// The bytes of a payload without buffers.
fn payload_alone<'a>(found: &'a Found<'_>) -> Option<&'a [u8]> {
    match found {
        Found::Inline(bytes) => Some(bytes),
        Found::InBlock { block, len, buffers: 0 } if block.check_payload(*len, 0).is_ok() => {
            Some(block.bytes(0, *len))
        }
        Found::InBlock { .. } => None,
    }
}

fn code_of(cancel: Cancel) -> u8 {
    match cancel {
        Cancel::TooLate => 0,
        Cancel::Withdrawn => 1,
        Cancel::Running => 2,
    }
}

/// The right to one task's result.
#[pyclass(frozen, name = "TaskHandle", module = "garrison._core")]
pub struct PyTaskHandle {
    pub(super) inner: TaskHandle,
}

impl PyTaskHandle {
    fn call_if_lost<'py>(&self, py: Python<'py>) -> Option<Call<'py>> {
        self.lost().then(|| self.call(py))
    }
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

    /// Wait at most `limit` seconds; True if the task has ended. Signal handlers run meanwhile. With
    /// `failures`, as many of `Parent.failures` as the caller knows of, another one ends the wait too.
    #[pyo3(signature = (limit, failures = None))]
    fn wait(&self, py: Python<'_>, limit: f64, failures: Option<u32>) -> PyResult<bool> {
        self.inner.wait(py, limit, failures)
    }

    /// Whether it has ended, and not well.
    #[getter]
    fn failed(&self) -> bool {
        self.inner.has_failed()
    }

    /// The result, once: (outcome, payload, buffers, nanoseconds, owner id); the cell is free after it.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Taken<'py>> {
        let taken = self.inner.take(|_, found| block::found(py, found))?;
        let (payload, buffers) = taken.result;
        Ok((taken.outcome, payload, buffers, taken.duration, taken.owner_id))
    }

    /// Take the result, once, into an `AsyncResult`, before any interrupt: a plain value becomes
    /// `_outcome`, (True, value); all else becomes `_raw`, the call if the task was lost and what `take`
    /// gives.
    fn take_into(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let call = self.call_if_lost(py);
        let taken = self.inner.take(|outcome, found| Brought::of(py, outcome, found))?;
        match taken.result {
            Brought::Value(value) => result.setattr(intern!(py, "_outcome"), (true, value)),
            Brought::Items(_) => Err(PyRuntimeError::new_err("these are results of items")),
            Brought::Payload(payload, buffers) => {
                let (outcome, duration, owner_id) = (taken.outcome, taken.duration, taken.owner_id);
                let raw: Raw<'_> = (call, outcome, payload, buffers, duration, owner_id);
                result.setattr(intern!(py, "_raw"), raw)
            }
        }
    }

    /// Take the results of items, once, into a batch, before any interrupt: its `brought` becomes
    /// (results, raw, bytes, nanoseconds). One of the first two is None: results are as `recover` gives
    /// them, and `raw` is as for `take_into`, of a task that has one result which is not plain.
    fn take_items_into(&self, py: Python<'_>, batch: &Bound<'_, PyAny>) -> PyResult<()> {
        let (call, mut size) = (self.call_if_lost(py), 0);
        let taken = self.inner.take(|outcome, found| {
            size = found.len();
            Brought::of(py, outcome, found)
        })?;
        let (results, raw) = match taken.result {
            Brought::Value(value) => (Some(PyList::new(py, [value])?), None),
            Brought::Items(results) => (Some(results), None),
            Brought::Payload(payload, buffers) => {
                for buffer in buffers.iter().flatten() {
                    size += buffer.len()?;
                }
                let (outcome, duration, owner_id) = (taken.outcome, taken.duration, taken.owner_id);
                (None, Some((call, outcome, payload, buffers, duration, owner_id)))
            }
        };
        let brought: TakenItems<'_> = (results, raw, size, taken.duration);
        batch.setattr(intern!(py, "brought"), brought)
    }

    /// Bytes of the task's arguments.
    #[getter]
    fn size(&self) -> u64 {
        self.inner.size()
    }

    /// Bytes of an ended task's result without its buffers; 0 if they are few.
    #[getter]
    fn result_size(&self) -> u64 {
        self.inner.result_size()
    }

    /// Has the worker died with it?
    fn lost(&self) -> bool {
        self.inner.is_lost()
    }

    /// Has a worker begun it, and not ended it?
    fn running(&self) -> bool {
        self.inner.is_running()
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

    /// Whether it was cancelled.
    #[getter]
    fn cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }

    /// Give the result up: 0 if the task had ended, 1 if no worker had claimed it, 2 if one is at it.
    /// That one may go on for `grace` nanoseconds, and the supervisor is to be woken.
    fn cancel(&self, grace: u64) -> u8 {
        code_of(self.inner.cancel(grace))
    }
}
