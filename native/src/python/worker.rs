//! The worker as Python has it: it runs what was claimed, and hands the results in.

use super::block::{self, PinnedBuffers};
use super::errors::SharedMemoryCorrupt;
use super::item_results::pieces;
use super::plain_pickle::{self, Reader};
use super::table::Table;
use crate::shm::payload::Found;
use crate::tasks::item_results::ItemResults;
use crate::tasks::table::{
    OUTCOME_CORRUPT, OUTCOME_EACH, OUTCOME_NO_ROOM, OUTCOME_OK, RESULT_INLINE,
};
use crate::tasks::worker::{self, TaskResult};
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

/// As much of a message as fits into a cell.
fn short(text: &str) -> &str {
    let end = (0..=text.len().min(RESULT_INLINE)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// (function, kind, payload, buffers)
type Task<'py> = (u32, u32, Bound<'py, PyAny>, Option<Bound<'py, PyList>>);

/// (kind, payload, buffers, item, deaths, nanoseconds)
type AtWork<'py> = (u32, Bound<'py, PyAny>, Option<Bound<'py, PyList>>, u32, u32, u64);

/// The kinds of payloads that are a call's positional arguments, its only argument, the arguments of
/// one call each, and the tuples of arguments of one call each.
type CallKinds = (u32, u32, u32, u32);

/// Worker(table, slot, owner_id): the side that works.
#[pyclass(frozen, module = "garrison._core")]
pub struct Worker {
    inner: worker::Worker,
}

#[pymethods]
impl Worker {
    #[new]
    fn new(table: &Table, slot: usize, owner_id: u32) -> PyResult<Self> {
        Ok(Self { inner: worker::Worker::new(table.shared.clone(), slot, owner_id)? })
    }

    /// Whether a task was taken whose result has not been handed in.
    #[getter]
    fn busy(&self) -> bool {
        self.inner.is_busy()
    }

    /// Whether the present task was cancelled.
    #[getter]
    fn cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }

    /// Tasks that this worker has taken.
    #[getter]
    fn taken(&self) -> u64 {
        self.inner.taken()
    }

    /// Record when this process started, in the clock ticks of /proc/PID/stat.
    fn note_start(&self) {
        self.inner.note_start();
    }

    /// Write down the daemonic children that end with this process; as many as there is room for.
    fn set_children(&self, pids: Vec<u32>) {
        self.inner.set_children(&pids);
    }

    /// The initializer is done.
    fn initialized(&self) {
        self.inner.set_initialized();
    }

    /// This worker leaves on purpose and wants a successor.
    fn retire(&self) {
        self.inner.retire();
    }

    /// The next task, or None when the pool is closed and has no more work.
    ///
    /// Calls of `functions`, by number, whose arguments and results are small and plain are made and
    /// answered here: Python's frames take longer than such a call. If one fails, or its result is for
    /// `pickle`, it is returned as a `MadeCall`.
    #[pyo3(signature = (functions=None, kinds=(0, 0, 0, 0)))]
    fn take<'py>(
        &self,
        py: Python<'py>,
        functions: Option<&Bound<'py, PyDict>>,
        kinds: CallKinds,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.inner.leave_if_forked();
        while let Some(number) = self.inner.claim(py)? {
            let task = self.inner.arguments(number);
            if let (Ok(task), Some(functions)) = (&task, functions) {
                match self.answer(functions, kinds, task)? {
                    Answer::Given => continue,
                    Answer::Made(call) => return Ok(Some(Bound::new(py, call)?.into_any())),
                    Answer::Elsewhere => {}
                }
            }
            match task.map_err(PyErr::from).and_then(|task| arguments(py, task)) {
                Ok(task) => return Ok(Some(task.into_pyobject(py)?.into_any())),
                // They cannot be looked at, for want of address space or since they are damaged: that is
                // this task's result.
                Err(error) => {
                    let text = error.value(py).to_string();
                    let is_damage = error.is_instance_of::<SharedMemoryCorrupt>(py);
                    let outcome = if is_damage { OUTCOME_CORRUPT } else { OUTCOME_NO_ROOM };
                    self.publish(py, outcome, short(&text).as_bytes(), None)?;
                }
            }
        }
        Ok(None)
    }

    /// The pickled function of the present task.
    fn function<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.definition(py, self.inner.function_at()?)
    }

    /// What `Parent.keep` has written at this place.
    fn definition<'py>(&self, py: Python<'py>, at: usize) -> PyResult<Bound<'py, PyBytes>> {
        // Pickle ignores its padding.
        super::bytes(py, self.inner.definition(at)?.bytes())
    }

    /// What is at work, for the note on its failure: kind, payload, buffers, item, deaths charged
    /// to the item, nanoseconds since it began.
    fn at_work<'py>(&self, py: Python<'py>) -> PyResult<AtWork<'py>> {
        let found = self.inner.at_work()?;
        let (payload, buffers) = block::found(py, found.task.payload)?;
        Ok((found.task.kind, payload, buffers, found.index, found.deaths, found.elapsed))
    }

    /// Another attempt begins: its timeout counts from now.
    fn restart_clock(&self) -> PyResult<()> {
        Ok(self.inner.restart_clock()?)
    }

    /// Apply a function to each item of the present task; a death or a timeout is charged to the
    /// item at work.
    fn map<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        items: &Bound<'py, PyList>,
        star: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let results = PyList::empty(function.py());
        let call = |item: Bound<'py, PyAny>| {
            if star {
                function.call1(unpacked(item)?)
            } else {
                function.call1((item,))
            }
        };
        self.each(items.iter(), call, |called| results.append(called?))?;
        Ok(results)
    }

    /// The same, but each item counts for itself: its result is kept as soon as it is there. The items
    /// are a list, or encoded one after the other; `loads` unpickles one that is not small and plain,
    /// just before its turn. `failed` writes an exception down, `other` a result that is not a small
    /// plain one.
    fn map_each<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
        loads: &Bound<'py, PyAny>,
        failed: &Bound<'py, PyAny>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = function.py();
        let heap = self.inner.heap();
        let mut results = ItemResults::default();
        let mut plain = Vec::with_capacity(128);
        let cell = self.inner.cell()?;
        self.inner.begin_items(cell);
        results.begin(heap, cell)?;
        let mut keep = |called: PyResult<Bound<'py, PyAny>>| {
            plain.clear();
            let (ok, pickle) = match called {
                Ok(result) if plain_pickle::write(&result, &mut plain) => (true, None),
                Ok(result) => {
                    let (ok, pickle) = other.call1((result,))?.extract()?;
                    (ok, Some(pickle))
                }
                Err(error) if error.is_instance_of::<PySystemExit>(py) => return Err(error),
                // Nobody wants the other items either.
                Err(error) if self.inner.is_cancelled() => return Err(error),
                Err(error) => {
                    let pickle = failed.call1((error.into_value(py),))?;
                    (false, Some(pickle.cast_into::<PyBytes>()?))
                }
            };
            let data = pickle.as_ref().map_or(&plain[..], |pickle| pickle.as_bytes());
            results.add(heap, cell, !ok, data).or_else(|error| {
                // No room for this one: that is its own misfortune, not its neighbours'.
                let error = PyErr::from(error).into_value(py);
                let data = failed.call1((error,))?.cast_into::<PyBytes>()?;
                Ok(results.add(heap, cell, true, data.as_bytes())?)
            })
        };
        let done = if let Ok(list) = items.cast_exact::<PyList>() {
            self.each(list.iter(), |item| function.call1((item,)), &mut keep)
        } else {
            let mut reader = Reader::new(py);
            let items = pieces(items)?.into_iter().map(|(_, pickle)| match reader.read(pickle) {
                Some(item) => Ok(item),
                None => loads.call1((super::bytes(py, pickle)?,)),
            });
            self.each(items, |item| function.call1((item?,)), &mut keep)
        };
        self.inner.keep_items(results);
        done
    }

    /// Hand the result in. Until the last store it is as if the task never ended.
    #[pyo3(signature = (outcome, payload, buffers=None))]
    fn publish(
        &self,
        py: Python<'_>,
        outcome: u32,
        payload: &[u8],
        buffers: Option<&Bound<'_, PyList>>,
    ) -> PyResult<()> {
        self.inner.leave_if_forked();
        self.inner.cell()?;
        let items = self.inner.take_items();
        let pinned = PinnedBuffers::of(buffers)?;
        let result = match &items {
            Some(items) if outcome == OUTCOME_EACH => TaskResult::Items(items),
            _ if pinned.is_empty() && worker::Worker::is_inline(payload.len()) => {
                TaskResult::Inline(payload)
            }
            _ => {
                let heap = self.inner.heap();
                heap.lock().expect("never poisoned").sweep_sometimes(|_| false);
                let block = pinned.write_with(py, heap, payload)?;
                TaskResult::Written { block, len: payload.len() }
            }
        };
        self.inner.publish(outcome, &result)?;
        if let Some(items) = items {
            items.close(self.inner.heap(), outcome == OUTCOME_EACH);
        }
        Ok(())
    }
}

/// What a claimed task brings.
fn arguments<'py>(py: Python<'py>, task: worker::Task<'_>) -> PyResult<Task<'py>> {
    let (payload, buffers) = block::found(py, task.payload)?;
    crash_point("args.read");
    Ok((task.function, task.kind, payload, buffers))
}

/// What `function(*item)` makes of an item: any iterable is as good as a tuple.
fn unpacked(item: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    item.cast_into_exact::<PyTuple>().or_else(|error| {
        let item = error.into_inner();
        Ok(item.py().get_type::<PyTuple>().call1((item,))?.cast_into()?)
    })
}

/// A call whose result is for Python to encode: the value, or the exception.
#[pyclass(frozen, get_all, module = "garrison._core")]
pub struct MadeCall {
    succeeded: bool,
    value: Py<PyAny>,
}

/// What became of a task that was claimed.
enum Answer {
    /// Its result is published.
    Given,
    /// It was called, and the rest is for Python.
    Made(MadeCall),
    /// It is for Python.
    Elsewhere,
}

impl Worker {
    /// Make a call of a known function, if its arguments are small and plain.
    fn answer(
        &self,
        functions: &Bound<'_, PyDict>,
        kinds: CallKinds,
        task: &worker::Task<'_>,
    ) -> PyResult<Answer> {
        let py = functions.py();
        let (args, one, items, star) = kinds;
        let Found::Inline(bytes) = task.payload else { return Ok(Answer::Elsewhere) };
        if ![args, one, items, star].contains(&task.kind) {
            return Ok(Answer::Elsewhere);
        }
        let Some(function) = functions.get_item(task.function)? else {
            return Ok(Answer::Elsewhere);
        };
        let Some(payload) = plain_pickle::read(py, bytes) else { return Ok(Answer::Elsewhere) };
        crash_point("args.read");
        let called = if task.kind == one {
            function.call1((payload,))
        } else if task.kind != args {
            let list = payload.cast_into::<PyList>()?;
            self.map(&function, &list, task.kind == star).map(Bound::into_any)
        } else if let Ok(args) = payload.cast_into_exact::<PyTuple>() {
            function.call1(args)
        } else {
            return Ok(Answer::Elsewhere);
        };
        self.inner.leave_if_forked();
        crash_point("task.done");
        let value = match called {
            Ok(value) => value,
            Err(error) if error.is_instance_of::<PySystemExit>(py) => return Err(error),
            Err(error) => {
                let value = error.into_value(py).into_any();
                return Ok(Answer::Made(MadeCall { succeeded: false, value }));
            }
        };
        let mut payload = Vec::with_capacity(128);
        let is_written = plain_pickle::write(&value, &mut payload);
        // Without room for it Python makes an error of it.
        if is_written && self.publish(py, OUTCOME_OK, &payload, None).is_ok() {
            return Ok(Answer::Given);
        }
        Ok(Answer::Made(MadeCall { succeeded: true, value: value.unbind() }))
    }

    /// Call `call` with each item that is still this worker's, which is made when its turn comes.
    fn each<T, C>(
        &self,
        items: impl Iterator<Item = T>,
        mut call: impl FnMut(T) -> C,
        mut keep: impl FnMut(C) -> PyResult<()>,
    ) -> PyResult<()> {
        let cell = self.inner.cell()?;
        let mut items = items;
        for index in 0..worker::items_of(cell) {
            if !self.inner.begin_item(cell, index as u32) {
                break;
            }
            let Some(item) = items.next() else { break };
            self.inner.time_item(cell, index as u32);
            keep(call(item))?;
        }
        Ok(())
    }
}
