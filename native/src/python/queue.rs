//! The face of a queue: what `Queue`, `JoinableQueue` and `SimpleQueue` are made of.
//!
//! ```text
//! put   encode ─▶ take the put lock ─▶ write behind the tail ─▶ commit ─▶ leave ─▶ wake a getter
//! get             take the get lock ─▶ copy out, sign ─▶ commit ─▶ leave ─▶ wake a putter ─▶ decode
//! ```

use super::block::PinnedBuffers;
use super::convert::cached;
use super::errors::QueueClosed;
use super::memory_error;
use super::plain_pickle;
use super::queue_caller::{self, wait_spec, Arrived, Opened, QueueCaller};
use super::queue_item::{self, Outgoing};

use super::shared_block::PySharedBlock;
use crate::queue::ends::{LocalState, QueueHost, WaitSpec};
use crate::queue::file::QueueFile;
use crate::queue::item::PICKLE;
use crate::queue::large_items::BIG;
use crate::queue::shared::QueueShared;
use crate::queue::Queue;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};
use std::sync::OnceLock;
use std::time::Duration;

/// An object of more parts than this is not looked at for whether it is plain.
const LOOKS: u32 = 200;

/// Raise `queue.Full` or `queue.Empty`.
#[cold]
fn standard(py: Python<'_>, name: &str) -> PyErr {
    let kind = py.import("queue").and_then(|module| module.getattr(name));
    match kind.and_then(|kind| Ok(kind.cast_into::<PyType>()?)) {
        Ok(kind) => PyErr::from_type(kind, ()),
        Err(error) => error,
    }
}

/// A queue between processes.
#[pyclass(frozen, subclass, weakref, name = "Queue", module = "garrison._core")]
pub struct PyQueue {
    queue: OnceLock<Queue>,
}

impl PyQueue {
    #[inline]
    fn queue(&self) -> PyResult<&Queue> {
        self.queue.get().ok_or_else(|| PyRuntimeError::new_err("Queue.__init__ was not called"))
    }

    #[inline]
    fn open<'a>(slf: &'a Bound<'_, Self>, end: u8) -> PyResult<&'a Queue> {
        let queue = slf.get().queue()?;
        if queue.is_closed(end) {
            return Err(closed(slf));
        }
        Ok(queue)
    }

    /// Write an item down; nothing if a hook of the user's class has dealt with an error.
    #[inline]
    fn encode<'py>(
        slf: &Bound<'py, Self>,
        queue: &Queue,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<Outgoing<'py>> {
        match queue_item::plain(object) {
            Some(item) if item.bytes().len() < BIG => Ok(item),
            Some(item) => Self::pack(slf, queue, item.kind, item.bytes(), None),
            None => Self::pickle(slf, queue, object),
        }
    }

    fn pickle<'py>(
        slf: &Bound<'py, Self>,
        queue: &Queue,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<Outgoing<'py>> {
        static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        if let Some(pickle) = plain_pickle::pickled(object) {
            return Self::packed(slf, queue, &pickle);
        }
        let travels = !queue_item::is_plain(object, &mut LOOKS.clone());
        let written = if travels {
            cached(py, &ENCODE, "garrison.sync._queue_pickling", "encode")?.call1((object,))?
        } else {
            cached(py, &DUMPS, "pickle", "dumps")?.call1((object, 5))?
        };
        // A pickle alone, or with its buffers.
        let mut item = match written.cast::<PyBytes>() {
            Ok(pickle) => Self::packed(slf, queue, pickle)?,
            Err(_) => {
                let (pickle, buffers): (Bound<'_, PyBytes>, Bound<'_, PyList>) =
                    written.extract()?;
                Self::pack(slf, queue, PICKLE, pickle.as_bytes(), Some(&buffers))?
            }
        };
        item.travels = travels;
        Ok(item)
    }

    /// A pickle without buffers.
    fn packed<'py>(
        slf: &Bound<'py, Self>,
        queue: &Queue,
        pickle: &Bound<'py, PyBytes>,
    ) -> PyResult<Outgoing<'py>> {
        match pickle.as_bytes() {
            bytes if bytes.len() < BIG => Ok(queue_item::pickle(pickle)),
            bytes => {
                let caller = QueueCaller { py: slf.py(), closed: &|| closed(slf) };
                caller.check_memory(bytes.len() as u64)?;
                Self::pack(slf, queue, PICKLE, bytes, None)
            }
        }
    }

    /// Write a large item down in this process's region of the queue.
    fn pack<'py>(
        slf: &Bound<'py, Self>,
        queue: &Queue,
        kind: u8,
        payload: &[u8],
        buffers: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Outgoing<'py>> {
        let caller = QueueCaller { py: slf.py(), closed: &|| closed(slf) };
        let large = queue.large.pack(caller, &queue.file, (kind, payload.len()), |heap| {
            Ok(PinnedBuffers::of(buffers)?.write_with(slf.py(), heap, payload)?)
        })?;
        Ok(Outgoing::large(large))
    }

    fn decode<'py>(py: Python<'py>, arrived: Arrived<'py>) -> PyResult<Bound<'py, PyAny>> {
        match arrived {
            Arrived::Value(value) => Ok(value),
            Arrived::Pickle(pickle) => plain_pickle::loads(&pickle, None),
            Arrived::Large(received) => match queue_caller::open(py, received)? {
                Opened::Value(value) => Ok(value),
                Opened::Pickle(pickle, buffers) => plain_pickle::loads(&pickle, buffers.as_deref()),
            },
        }
    }

    #[inline]
    fn put_one(slf: &Bound<'_, Self>, object: &Bound<'_, PyAny>, wait: &WaitSpec) -> PyResult<()> {
        let queue = Self::open(slf, LocalState::NO_PUT)?;
        let item = match Self::encode(slf, queue, object) {
            Ok(item) => item,
            Err(error) => return Self::refused(slf, object, error),
        };
        let travels = item.travels;
        let caller = QueueCaller { py: slf.py(), closed: &|| closed(slf) };
        let put = queue.put(caller, &mut [item], wait);
        if !matches!(put, Ok(true)) && travels {
            // Handles in it are under way no longer.
            slf.py()
                .import("garrison.sync._queue_pickling")?
                .call_method0("cancel_last_exports")?;
        }
        if !put? {
            return Err(standard(slf.py(), "Full"));
        }
        Self::after_change(slf, queue)
    }

    /// After a put or get: have the descriptor right before this process is seen to have ended.
    #[inline]
    fn after_change(slf: &Bound<'_, Self>, queue: &Queue) -> PyResult<()> {
        if queue.is_to_await_watch() {
            slf.py()
                .import("garrison.sync._queues")?
                .call_method1("await_watch_at_exit", (slf,))?;
        }
        Ok(())
    }

    fn put_all(slf: &Bound<'_, Self>, items: &Bound<'_, PyAny>, wait: &WaitSpec) -> PyResult<()> {
        let queue = Self::open(slf, LocalState::NO_PUT)?;
        let mut written = Vec::new();
        for item in items.try_iter()? {
            written.push(Self::encode(slf, queue, &item?)?);
        }
        let most = if queue.maxsize() == 0 { i32::MAX as usize } else { queue.maxsize() as usize };
        if written.len() > most {
            return Err(PyValueError::new_err(format!(
                "{} items at once never fit into a queue of {most}; put them in smaller groups",
                written.len()
            )));
        }
        let caller = QueueCaller { py: slf.py(), closed: &|| closed(slf) };
        if !written.is_empty() && !queue.put(caller, &mut written, wait)? {
            return Err(standard(slf.py(), "Full"));
        }
        Self::after_change(slf, queue)
    }

    /// The item cannot be sent: raise it, unless the class has the standard library's hook for it.
    #[cold]
    fn refused(slf: &Bound<'_, Self>, object: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let Ok(hook) = slf.getattr("_on_queue_feeder_error") else { return Err(error) };
        if hook.is(&py.import("garrison.sync._queues")?.getattr("raise_at_put")?) {
            return Err(error);
        }
        let value = error.value(py);
        let cause = value.getattr("__cause__")?;
        let told = if cause.is_none() { value.as_any() } else { &cause };
        hook.call1((told, object))?;
        if py.version_info() < (3, 11) {
            // Its frames know their callers there, and would keep alive whatever those refer to:
            // of an executor, the thread that puts.
            told.setattr("__traceback__", py.None())?;
        }
        Ok(())
    }

    #[inline]
    fn get_one<'py>(slf: &Bound<'py, Self>, wait: &WaitSpec) -> PyResult<Bound<'py, PyAny>> {
        let (py, queue) = (slf.py(), Self::open(slf, LocalState::NO_GET)?);
        let mut found = None;
        let caller = QueueCaller { py, closed: &|| closed(slf) };
        queue_caller::get(queue, caller, 1, wait, |arrived| found = Some(arrived))?;
        Self::after_change(slf, queue)?;
        match found {
            Some(arrived) => {
                crash_point("queue.taken");
                Self::decode(py, arrived)
            }
            None => Err(standard(py, "Empty")),
        }
    }
}

#[cold]
fn closed(slf: &Bound<'_, PyQueue>) -> PyErr {
    slf.repr().map_or_else(
        |error| error,
        |shown| QueueClosed::new_err(format!("Queue {shown} is closed")),
    )
}

#[pymethods]
impl PyQueue {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self { queue: OnceLock::new() }
    }

    /// Make a new queue of it.
    fn _allocate(&self, maxsize: u32, region_len: usize) -> PyResult<PySharedBlock> {
        let file = QueueFile::create(maxsize, region_len)
            .map_err(|error| memory_error(&error, "a new queue"))?;
        let block = PySharedBlock::of(file.block.clone());
        self.settle(file)?;
        Ok(block)
    }

    /// Make the queue of it that lies there.
    fn _attach(&self, block: PyRef<'_, PySharedBlock>) -> PyResult<()> {
        let file = QueueFile::attach(block.block.clone())
            .map_err(|error| memory_error(&error, "a look into a queue"))?;
        self.settle(file)
    }

    /// Put an item into the queue, or raise `queue.Full`.
    #[pyo3(signature = (obj, block = None, timeout = None), text_signature = "($self, obj, block=True, timeout=None)")]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::put_one(slf, obj, &wait_spec(block, timeout)?)
    }

    /// Put an item into the queue if there is room now, or raise `queue.Full`.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put_one(slf, obj, &WaitSpec::immediate())
    }

    /// Take the next item out of the queue, or raise `queue.Empty`.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::get_one(slf, &wait_spec(block, timeout)?)
    }

    /// Take the next item out of the queue if there is one now, or raise `queue.Empty`.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get_one(slf, &WaitSpec::immediate())
    }

    /// Put several items, all of them at once or none.
    #[pyo3(signature = (items, block = None, timeout = None), text_signature = "($self, items, block=True, timeout=None)")]
    fn put_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let handles = slf.py().import("garrison.memory.handles")?;
        let since = handles.getattr("export_count")?;
        Self::put_all(slf, items, &wait_spec(block, timeout)?).or_else(|error| {
            handles.call_method1("cancel_exports", (since,))?;
            Err(error)
        })
    }

    /// Take up to `max_items` items, waiting for the first one only, or raise `queue.Empty`.
    #[pyo3(signature = (max_items, block = None, timeout = None), text_signature = "($self, max_items, block=True, timeout=None)")]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        max_items: i64,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (py, queue) = (slf.py(), Self::open(slf, LocalState::NO_GET)?);
        if max_items < 1 {
            return Err(PyValueError::new_err(format!(
                "max_items must be at least 1, not {max_items}"
            )));
        }
        let most = u32::try_from(max_items).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        let wait = wait_spec(block, timeout)?;
        let caller = QueueCaller { py, closed: &|| closed(slf) };
        if queue_caller::get(queue, caller, most, &wait, |arrived| found.push(arrived))? == 0 {
            return Err(standard(py, "Empty"));
        }
        crash_point("queue.taken");
        Self::after_change(slf, queue)?;
        let (items, errors) = (PyList::empty(py), PyList::empty(py));
        for arrived in found {
            match Self::decode(py, arrived) {
                Ok(item) => items.append(item)?,
                Err(error) => errors.append(error.into_value(py))?,
            }
        }
        if !errors.is_empty() {
            py.import("garrison.sync._queue_pickling")?
                .call_method1("raise_items_unreadable", (&items, errors))?;
        }
        Ok(items)
    }

    /// How many items are in the queue.
    fn qsize(&self) -> PyResult<u32> {
        Ok(self.queue()?.ends().log().len())
    }

    /// Whether there is no item in the queue.
    fn empty(&self) -> PyResult<bool> {
        let queue = self.queue()?;
        if queue.is_used_up() {
            // As the standard library's, which closes its reader together with its feeder.
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(queue.ends().log().is_empty())
    }

    /// Whether the queue holds `maxsize` items.
    fn full(&self) -> PyResult<bool> {
        Ok(!self.queue()?.ends().has_room(1))
    }

    /// Use the queue no longer in this process.
    fn close(&self) -> PyResult<()> {
        self.queue()?.close(LocalState::CLOSED);
        Ok(())
    }

    #[getter]
    fn _closed(&self) -> PyResult<bool> {
        Ok(self.queue()?.is_closed(0))
    }

    /// Put no more in this process, or take no more.
    fn _close_end(&self, putting: bool) -> PyResult<()> {
        self.queue()?.close(if putting { LocalState::NO_PUT } else { LocalState::NO_GET });
        Ok(())
    }

    /// Whether this process can put no more, or take no more.
    fn _is_end_closed(&self, putting: bool) -> PyResult<bool> {
        Ok(self.queue()?.is_closed(if putting { LocalState::NO_PUT } else { LocalState::NO_GET }))
    }

    /// A descriptor that is readable while there is an item; or one that is always writable.
    fn _descriptor(&self, putting: bool) -> PyResult<i32> {
        Ok(self.queue()?.descriptor(putting)?)
    }

    /// Wait until the process that has the descriptor has seen what was put and taken.
    fn _await_watch(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let (queue, limit) = (self.queue()?, Duration::from_secs_f64(seconds));
        py.detach(|| queue.await_watch(limit));
        Ok(())
    }

    /// Wait until there is an item; False if there was none in time.
    fn _has_item(
        slf: &Bound<'_, Self>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let queue = Self::open(slf, LocalState::NO_GET)?;
        let caller = QueueCaller { py: slf.py(), closed: &|| closed(slf) };
        let wait = wait_spec(block, timeout)?;
        let ends = queue.ends();
        Ok(!ends.log().is_empty() || ends.poll(caller, &wait)?)
    }

    /// Wait at most `limit` seconds until there is room for an item; whether there is.
    fn _has_room(slf: &Bound<'_, Self>, limit: f64) -> PyResult<bool> {
        let queue = Self::open(slf, LocalState::NO_PUT)?;
        let caller = QueueCaller { py: slf.py(), closed: &|| closed(slf) };
        queue.ends().wait_for_room(caller, 1, &WaitSpec::seconds(limit))
    }

    /// Where the locks of its two ends lie.
    #[classattr]
    const _LOCKS: (usize, usize) = (QueueShared::GET_LOCK, QueueShared::PUT_LOCK);

    #[getter]
    fn _limit(&self) -> PyResult<u32> {
        Ok(self.queue()?.maxsize())
    }

    /// How many items were put and not yet reported as done.
    fn _unfinished(&self) -> PyResult<u32> {
        Ok(self.queue()?.ends().unfinished())
    }

    /// Report that one of the items that were put is dealt with.
    fn _task_done(&self) -> PyResult<()> {
        if self.queue()?.ends().task_done() {
            Ok(())
        } else {
            Err(PyValueError::new_err("task_done() called too many times"))
        }
    }

    /// Wait until every item that was put was reported as done.
    fn _join(&self, py: Python<'_>) -> PyResult<()> {
        let closed = || PyRuntimeError::new_err("closed");
        self.queue()?.ends().join(QueueCaller { py, closed: &closed })
    }
}

impl PyQueue {
    fn settle(&self, file: QueueFile) -> PyResult<()> {
        let again = |_| PyRuntimeError::new_err("this queue was made already");
        self.queue.set(Queue::new(file)).map_err(again)
    }
}
