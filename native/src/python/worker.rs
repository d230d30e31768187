//! A worker: claims cells, looks at their arguments, publishes results from its own heap.

use super::block::{self, Lease};
use super::finalizing::without_gil;
use super::journal::Journal;
use super::parent::PARENT_REGION;
use super::reducer::is_plain;
use super::{memory_error, table::Table};
use crate::shm::heap::{self, Head, Heap};
use crate::shm::region::Region;
use crate::sys::atomic::Ordering;
use crate::sys::clock::now;
use crate::sys::futex::{self, Woken};
use crate::sys::process::generation;
use crate::sys::spin::Spin;
use crate::tasks::protocol::{end, State, DONE};
use crate::tasks::table::{self, begin, CellShared, RESULT_INLINE, RUNNING, TERMINATING};
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// An idle worker looks up this often, so that a Python signal handler is never late for long.
const NAP: Duration = Duration::from_secs(1);
/// A worker of a terminated pool leaves by itself if no signal has come for so long.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Current {
    claim: Option<(u32, State)>,
    since: u64,
    tasks: u64,
    journal: Option<Journal>,
}

/// The outcome of a task whose items have an outcome each.
pub const OUTCOME_EACH: u32 = 4;
/// The outcome of a task for which there was no room, with a message.
const OUTCOME_NO_ROOM: u32 = 3;

/// As much of a message as fits into a cell.
fn short(text: &str) -> &str {
    let end = (0..=text.len().min(RESULT_INLINE)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// (function, kind, payload, buffers)
type Task<'py> = (u32, u32, Bound<'py, PyAny>, Option<Bound<'py, PyList>>);

/// Worker(table, slot, who): the side that works.
#[pyclass(frozen, module = "garrison._core")]
pub struct Worker {
    table: Arc<table::Table>,
    slot: usize,
    who: u32,
    heap: OnceLock<Mutex<Heap>>,
    /// This worker's own region and the parent's.
    own: Arc<Region>,
    parent: Arc<Region>,
    current: Mutex<Current>,
    spin: Spin,
    generation: u64,
}

#[pymethods]
impl Worker {
    #[new]
    fn new(table: &Table, slot: usize, who: u32) -> PyResult<Self> {
        let table = table.shared.clone();
        let (own, parent) =
            (table.segment.own_region(who)?, table.segment.others_region(PARENT_REGION)?);
        // What small tasks need is mapped now: an initializer may limit the address space.
        table.warm()?;
        own.small(0, heap::LINE)?;
        parent.small(0, heap::LINE)?;
        Ok(Self {
            table,
            slot,
            who,
            heap: OnceLock::new(),
            own,
            parent,
            current: Mutex::default(),
            spin: Spin::new(),
            generation: generation(),
        })
    }

    /// Whether a task was taken whose result has not been handed in.
    #[getter]
    fn busy(&self) -> bool {
        self.lock().claim.is_some()
    }

    /// Tasks that this worker has taken.
    #[getter]
    fn taken(&self) -> u64 {
        self.lock().tasks
    }

    /// When this process started, in the clock ticks of /proc/PID/stat.
    fn set_started(&self, ticks: u64) {
        self.table.slot(self.slot).started.store(ticks, Ordering::Release);
    }

    /// Write down the daemonic children that end with this process; as many as there is room for.
    fn set_children(&self, pids: Vec<u32>) {
        let places = &self.table.slot(self.slot).children;
        for (at, place) in places.iter().enumerate() {
            place.store(pids.get(at).copied().unwrap_or(0), Ordering::Release);
        }
    }

    /// The initializer is done.
    fn initialized(&self) {
        self.table.slot(self.slot).initialized.store(1, Ordering::Release);
    }

    /// This worker leaves on purpose and wants a successor.
    fn retire(&self) {
        self.table.slot(self.slot).retiring.store(1, Ordering::Release);
        crash_point("worker.retiring");
    }

    /// The next task, or None when the pool is closed and has no more work.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Task<'py>>> {
        self.leave_if_forked();
        while let Some((number, state)) = self.claim(py)? {
            match self.arguments(py, number, state) {
                Ok(task) => return Ok(Some(task)),
                // There is no address space to look at them: that is this task's result.
                Err(error) => {
                    let text = error.value(py).to_string();
                    self.publish(py, OUTCOME_NO_ROOM, short(&text).as_bytes(), None)?;
                }
            }
        }
        Ok(None)
    }

    /// The pickled function of the present task.
    fn function<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let (number, _) = self.claimed()?;
        let at = self.table.cell(number).function_at.load(Ordering::Relaxed) as usize - 1;
        self.definition(py, at)
    }

    /// What `Parent.keep` has written at this place.
    fn definition<'py>(&self, py: Python<'py>, at: usize) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = Head::of(&self.parent, at)
            .and_then(|head| heap::bytes(&self.parent, at, &head))
            .map_err(|error| memory_error(&error, "a look at a function"))?;
        let (start, len) = (bytes.at(0, bytes.len()), bytes.len());
        // SAFETY: the parent keeps the block while a cell refers to it, or as long as it lives; pickle
        // ignores its padding.
        super::bytes(py, unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// Another attempt begins: its timeout counts from now.
    fn restart_clock(&self) -> PyResult<()> {
        let (number, _) = self.claimed()?;
        let timeout = self.table.cell(number).timeout.load(Ordering::Relaxed);
        self.set_deadline(timeout, now());
        Ok(())
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
        let mut call = |item: Bound<'py, PyAny>| {
            if star {
                function.call1(unpacked(item)?)
            } else {
                function.call1((item,))
            }
        };
        self.each(items, &mut call, |_, called| results.append(called?))?;
        Ok(results)
    }

    /// The same, but each item counts for itself: `loads` unpickles it just before its turn, and its
    /// result is kept as soon as it is there. `dumps` pickles a plain one, `failed` writes an exception
    /// down, `other` every other result.
    fn map_each<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        items: &Bound<'py, PyList>,
        loads: Option<&Bound<'py, PyAny>>,
        dumps: &Bound<'py, PyAny>,
        failed: &Bound<'py, PyAny>,
        other: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = function.py();
        let heap = self.heap()?;
        let mut journal = Journal::default();
        let mut call = |item: Bound<'py, PyAny>| match loads {
            Some(loads) => function.call1((loads.call1((item,))?,)),
            None => function.call1((item,)),
        };
        let done = self.each(items, &mut call, |cell, called| {
            cell.journal_region.store(self.who, Ordering::Relaxed);
            let (ok, data) = match called {
                Ok(result) if is_plain(&result) => {
                    (true, dumps.call1((result, 5))?.cast_into::<PyBytes>()?)
                }
                Ok(result) => other.call1((result,))?.extract()?,
                Err(error) if error.is_instance_of::<PySystemExit>(py) => return Err(error),
                Err(error) => {
                    (false, failed.call1((error.into_value(py),))?.cast_into::<PyBytes>()?)
                }
            };
            journal.add(heap, cell, !ok, data.as_bytes()).or_else(|error| {
                // No room for this one: that is its own misfortune, not its neighbours'.
                let data = failed.call1((error.into_value(py),))?.cast_into::<PyBytes>()?;
                journal.add(heap, cell, true, data.as_bytes())
            })
        });
        self.lock().journal = Some(journal);
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
        self.leave_if_forked();
        let (number, state) = self.claimed()?;
        let cell = self.table.cell(number);
        let buffers = buffers.filter(|list| !list.is_empty());
        let journal = self.lock().journal.take();
        let mut len = payload.len();
        if let (OUTCOME_EACH, Some(journal)) = (outcome, &journal) {
            self.heap()?.lock().expect("never poisoned").lend(journal.place);
            cell.result_at.store(journal.place as u64 + 1, Ordering::Relaxed);
            cell.result_region.store(self.who, Ordering::Relaxed);
            cell.result_buffers.store(0, Ordering::Relaxed);
            len = journal.used;
        } else if buffers.is_none() && payload.len() <= RESULT_INLINE {
            // SAFETY: this worker has signed for the cell and is its only writer.
            unsafe {
                let to = (&raw mut (*self.table.cell_ptr(number)).result).cast::<u8>();
                let half = payload.len() / 2;
                to.copy_from_nonoverlapping(payload.as_ptr(), half);
                crash_point("result.half_written");
                to.add(half)
                    .copy_from_nonoverlapping(payload.as_ptr().add(half), payload.len() - half);
            }
            cell.result_at.store(0, Ordering::Relaxed);
        } else {
            let heap = self.heap()?;
            {
                let mut heap = heap.lock().expect("never poisoned");
                heap.sweep_sometimes(|_| false);
            }
            let written = block::write(py, heap, payload, buffers)?;
            heap.lock().expect("never poisoned").lend(written.place);
            cell.result_at.store(written.place as u64 + 1, Ordering::Relaxed);
            cell.result_region.store(self.who, Ordering::Relaxed);
            cell.result_buffers.store(written.buffers, Ordering::Relaxed);
        }
        cell.result_len.store(len as u64, Ordering::Relaxed);
        cell.outcome.store(outcome, Ordering::Relaxed);
        let mut current = self.lock();
        let ended_at = now();
        cell.duration.store(ended_at - current.since, Ordering::Relaxed);
        cell.ended_at.store(ended_at, Ordering::Relaxed);
        crash_point("result.written");
        let slot = self.table.slot(self.slot);
        slot.tasks.store(current.tasks, Ordering::Relaxed);
        slot.cell.store(0, Ordering::Relaxed);
        slot.deadline.store(0, Ordering::Relaxed);
        current.claim = None;
        let waiter = end(&cell.state, state, DONE);
        crash_point("result.published");
        self.table.wake_parent(number, waiter);
        if let Some(journal) = journal {
            journal.close(self.heap()?, outcome == OUTCOME_EACH);
        }
        Ok(())
    }
}

/// What `function(*item)` makes of an item: any iterable is as good as a tuple.
fn unpacked(item: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    item.cast_into_exact::<PyTuple>().or_else(|error| {
        let item = error.into_inner();
        Ok(item.py().get_type::<PyTuple>().call1((item,))?.cast_into()?)
    })
}

impl Worker {
    /// Sign for a task that was claimed, and look at what it brings.
    fn arguments<'py>(&self, py: Python<'py>, number: u32, state: State) -> PyResult<Task<'py>> {
        crash_point("cell.claimed");
        let cell = self.table.cell(number);
        let slot = self.table.slot(self.slot);
        let since = now();
        {
            let mut current = self.lock();
            current.claim = Some((number, state));
            current.since = since;
            current.tasks += 1;
        }
        slot.cell.store(number + 1, Ordering::Relaxed);
        self.set_deadline(cell.timeout.load(Ordering::Relaxed), since);
        crash_point("cell.announced");
        self.pass_on();
        let len = cell.args_len.load(Ordering::Relaxed) as usize;
        let at = cell.args_at.load(Ordering::Relaxed);
        let (payload, buffers) = if at == 0 {
            // SAFETY: the claim's acquire has made the parent's bytes visible; it writes no more.
            let bytes = unsafe { std::slice::from_raw_parts(cell.args.as_ptr(), len) };
            (PyBytes::new(py, bytes).into_any(), None)
        } else {
            let lease = Lease::new(&self.parent, at as usize - 1, self.who)
                .map_err(|error| memory_error(&error, "a look at a task's arguments"))?;
            let count = cell.args_buffers.load(Ordering::Relaxed);
            let (payload, buffers) = block::read(py, &lease, len, count)?;
            (payload.into_any(), buffers)
        };
        crash_point("args.read");
        let (function, kind) = (&cell.function, &cell.kind);
        Ok((function.load(Ordering::Relaxed), kind.load(Ordering::Relaxed), payload, buffers))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().expect("never poisoned")
    }

    /// A child that a task has forked must not come back here and answer in the worker's name.
    fn leave_if_forked(&self) {
        if self.generation != generation() {
            // SAFETY: ends this process at once, without running what belongs to its parent.
            unsafe { libc::_exit(1) };
        }
    }

    fn claimed(&self) -> PyResult<(u32, State)> {
        self.lock().claim.ok_or_else(|| PyRuntimeError::new_err("this worker has no task"))
    }

    fn heap(&self) -> PyResult<&Mutex<Heap>> {
        if self.heap.get().is_none() {
            let _ = self.heap.set(Mutex::new(Heap::new(self.own.clone())));
        }
        Ok(self.heap.get().expect("set just now"))
    }

    /// Call `call` with each item that is still this worker's.
    fn each<'py>(
        &self,
        items: &Bound<'py, PyList>,
        call: &mut dyn FnMut(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
        mut take: impl FnMut(&CellShared, PyResult<Bound<'py, PyAny>>) -> PyResult<()>,
    ) -> PyResult<()> {
        let (number, _) = self.claimed()?;
        let cell = self.table.cell(number);
        let timeout = cell.timeout.load(Ordering::Relaxed);
        let own = cell.items.load(Ordering::Acquire) as usize;
        for (index, item) in items.iter().enumerate().take(own) {
            if !begin(cell, index as u32) {
                break;
            }
            if timeout > 0 {
                self.set_deadline(timeout, now());
            }
            take(cell, call(item))?;
        }
        Ok(())
    }

    fn set_deadline(&self, timeout: u64, since: u64) {
        let deadline = if timeout == 0 { 0 } else { since.saturating_add(timeout) };
        self.table.slot(self.slot).deadline.store(deadline, Ordering::Release);
    }

    /// There is more work than this worker takes: have an idle one look.
    fn pass_on(&self) {
        if self.table.has_work() {
            self.table.wake_worker(true);
        }
    }

    /// Idle for a whole nap: give the memory of results back that nobody looks at any more.
    fn tidy(&self) {
        if let Some(heap) = self.heap.get() {
            let mut heap = heap.lock().expect("never poisoned");
            heap.sweep(|_| false);
            heap.trim();
        }
    }

    fn claim(&self, py: Python<'_>) -> PyResult<Option<(u32, State)>> {
        if self.is_terminated() {
            return self.await_the_end(py);
        }
        if let Some(claim) = self.look()? {
            return Ok(Some(claim));
        }
        let start = Instant::now();
        loop {
            without_gil(py, || self.nap());
            // Before a task is claimed: Ctrl-C that came while idle must not end it.
            py.check_signals()?;
            if self.is_terminated() {
                return self.await_the_end(py);
            }
            if let Some(claim) = self.look()? {
                self.spin.learn(start.elapsed());
                return Ok(Some(claim));
            }
            if self.table.header().phase.load(Ordering::Acquire) != RUNNING
                && !self.table.has_work()
            {
                return Ok(None);
            }
        }
    }

    fn is_terminated(&self) -> bool {
        self.table.header().phase.load(Ordering::Acquire) == TERMINATING
    }

    /// SIGTERM is about to come, and ends this process without its exit functions, as everywhere;
    /// one that has a handler leaves after it.
    fn await_the_end(&self, py: Python<'_>) -> PyResult<Option<(u32, State)>> {
        let limit = FAREWELL.as_millis() as i32;
        // SAFETY: no descriptors, so there is nothing to read or write.
        without_gil(py, || unsafe { libc::poll(std::ptr::null_mut(), 0, limit) });
        py.check_signals()?;
        Ok(None)
    }

    fn look(&self) -> PyResult<Option<(u32, State)>> {
        self.table.claim(self.who).map_err(|error| memory_error(&error, "a look at a task"))
    }

    /// Spin if nobody else does, then sleep until somebody wakes it.
    fn nap(&self) {
        let header = self.table.header();
        let leaving = || header.phase.load(Ordering::Relaxed) != RUNNING;
        let idle = &header.idle;
        let spinner = &idle.spinner;
        if self.spin.pays()
            && spinner.compare_exchange(0, self.who, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            let seen = self.spin.until(NAP, || self.table.has_work() || leaving());
            // Only its own mark: the supervisor may have given the place to another.
            let _ = spinner.compare_exchange(self.who, 0, Ordering::SeqCst, Ordering::SeqCst);
            if seen {
                return;
            }
        }
        let count = idle.prepare();
        if self.table.has_work() || leaving() {
            return;
        }
        let start = Instant::now();
        let woken = futex::wait(&idle.count, count, NAP);
        if woken == Woken::TimedOut {
            self.spin.learn(start.elapsed());
            self.tidy();
        }
    }
}
