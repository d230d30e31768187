//! The face of a queue: what `Queue`, `JoinableQueue` and `SimpleQueue` are made of.
//!
//! ```text
//! put   encode ─▶ take the put lock ─▶ write behind the tail ─▶ commit ─▶ leave ─▶ wake a getter
//! get             take the get lock ─▶ copy out, sign ─▶ commit ─▶ leave ─▶ wake a putter ─▶ decode
//! ```
//! Under a lock no code of the user runs, the GIL is kept, and nothing waits.

use super::finalizing::without_gil;
use super::item::{self, Head, Outgoing, PARCEL, PICKLE};
use super::lock::{LockRef, Outcome};
use super::memory_error;
use super::parcel::{Address, Opened, Post, Received, BIG};
use super::spot::PySpot;
use super::waiting::{Patience, Truth, SLICE};
use crate::chunk::Chunk;
use crate::crash;
use crate::futex;
use crate::protocol::{BellShared, Ordering};
use crate::ring::{End, Item};
use crate::spin::Spin;
use crate::vault::{QueueShared, Vault, GROWTH};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};
use std::cell::OnceCell;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Who holds a lock here holds it for instructions: so long it is waited for even by those who do
/// not wait for items or room. A dead holder is found within, at the second look if a newcomer is
/// just taking its place in the registry; what remains is a holder that is stopped.
const GRACE: Duration = Duration::from_millis(250);

/// An object of more parts than this is not looked at for whether it is plain.
const LOOKS: u32 = 200;

/// A lock that is held: dropped, it is released.
struct Held<'a>(&'a LockRef);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// `block` and `timeout` as they were given, and the deadline from when it is first asked for.
struct Wait {
    block: bool,
    patience: OnceCell<Patience>,
}

impl Wait {
    #[inline]
    fn of(block: Option<&Bound<'_, PyAny>>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let block = block.map_or(Ok(true), PyAnyMethods::is_truthy)?;
        let patience = OnceCell::new();
        if timeout.is_some() {
            let _ = patience.set(Patience::of(Truth(block), timeout)?);
        }
        Ok(Self { block, patience })
    }

    fn patience(&self) -> &Patience {
        self.patience
            .get_or_init(|| if self.block { Patience::endless() } else { Patience::none() })
    }
}

/// One side's waiting: where it sleeps, and whether spinning has paid off here.
struct Side {
    lock: LockRef,
    spin: Spin,
}

struct Inner {
    vault: Arc<Vault>,
    post: Post,
    put: Side,
    get: Side,
    maxsize: u32,
    closed: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Its memory may be much: it is not kept for a handle that has arrived long ago.
        Chunk::prune_exports();
    }
}

/// An item that was taken, and is to be decoded now that nothing is locked.
enum Arrived<'py> {
    Value(Bound<'py, PyAny>),
    Pickle(Bound<'py, PyAny>),
    Parcel(Received),
}

impl Inner {
    fn new(vault: Vault) -> Self {
        let side = |offset| Side {
            lock: LockRef::new(&vault.spot, offset, false, false),
            spin: Spin::new(),
        };
        let (put, get) = (side(QueueShared::PUT_LOCK), side(QueueShared::GET_LOCK));
        let maxsize = vault.shared().maxsize.load(Ordering::Relaxed);
        let vault = Arc::new(vault);
        Self { post: Post::default(), put, get, maxsize, closed: AtomicBool::new(false), vault }
    }

    fn shared(&self) -> &QueueShared {
        self.vault.shared()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    #[inline]
    fn take<'a>(
        &self,
        py: Python<'_>,
        side: &'a Side,
        me: u32,
        wait: &Wait,
    ) -> PyResult<Option<Held<'a>>> {
        if side.lock.try_take(me) {
            return Ok(Some(Held(&side.lock)));
        }
        // Who inherits it has nothing to repair.
        match side.lock.wait(py, me, &wait.patience().at_least(GRACE), true)? {
            Outcome::Taken | Outcome::Inherited(_) => Ok(Some(Held(&side.lock))),
            Outcome::TooLate | Outcome::Orphaned(_) => Ok(None),
        }
    }

    /// Wait at a bell until it is so. False if it took too long.
    #[cold]
    fn wait_until(
        &self,
        py: Python<'_>,
        bell: &BellShared,
        spin: &Spin,
        wait: &Wait,
        done: impl Fn() -> bool + Sync,
    ) -> PyResult<bool> {
        let patience = wait.patience();
        if patience.is_over() {
            return Ok(done());
        }
        let started = Instant::now();
        if spin.pays() {
            let left = patience.left();
            if without_gil(py, || spin.until(left, &done)) {
                return Ok(true);
            }
        }
        loop {
            let count = bell.prepare();
            if done() {
                break;
            }
            let limit = patience.left().min(SLICE);
            without_gil(py, || futex::wait(&bell.count, count, limit));
            crash::reach("queue.woken");
            py.check_signals()?;
            if done() {
                break;
            }
            if patience.is_over() {
                return Ok(false);
            }
        }
        spin.learn(started.elapsed());
        Ok(true)
    }

    // Putting.

    fn has_room(&self, count: u32) -> bool {
        self.maxsize == 0 || self.vault.ring().len() <= self.maxsize - count
    }

    /// Put all of them, or none: true, or false if there was no room in time.
    fn put(
        &self,
        py: Python<'_>,
        items: &mut [Outgoing<'_>],
        wait: &Wait,
        closed: &dyn Fn() -> PyErr,
    ) -> PyResult<bool> {
        let me = self.put.lock.me()?;
        let count = items.len() as u32;
        let shared = self.shared();
        loop {
            let Some(held) = self.take(py, &self.put, me, wait)? else { return Ok(false) };
            crash::reach("queue.put_locked");
            let ring = self.vault.ring();
            let tail = ring.tail();
            let full = self.maxsize != 0
                && tail.number.wrapping_sub(ring.head().number) > self.maxsize - count;
            if full {
                drop(held);
                if !self.wait_for_room(py, count, wait)? {
                    return Ok(false);
                }
                if self.is_closed() {
                    return Err(closed());
                }
                continue;
            }
            let end = match self.write(tail, items) {
                Ok(end) => end,
                Err(error) => {
                    drop(held);
                    self.grow_or_raise(py, &error)?;
                    continue;
                }
            };
            crash::reach("queue.written");
            items.iter().filter_map(|item| item.parcel.as_ref()).for_each(|parcel| {
                parcel.is_being_put(&self.vault);
            });
            ring.commit_put(end);
            crash::reach("queue.put_committed");
            drop(held);
            crash::reach("queue.put_left");
            let numbers = (0..).map(|nth| tail.number.wrapping_add(nth));
            for (item, number) in items.iter_mut().zip(numbers) {
                if let Some(parcel) = &mut item.parcel {
                    parcel.was_put(number);
                }
            }
            shared
                .getters
                .ring(false, wakes(count), |count| futex::wake(&shared.getters.count, count));
            crash::reach("queue.put_woken");
            return Ok(true);
        }
    }

    #[cold]
    fn wait_for_room(&self, py: Python<'_>, count: u32, wait: &Wait) -> PyResult<bool> {
        let shared = self.shared();
        if count > 1 {
            // Who takes one item must not wake one of these only, who may need more room.
            shared.many.store(1, Ordering::Relaxed);
        }
        let room = || self.has_room(count) || self.is_closed();
        self.wait_until(py, &shared.putters, &self.put.spin, wait, room)
    }

    #[inline]
    fn write(&self, tail: End, items: &[Outgoing<'_>]) -> std::io::Result<End> {
        let (ring, mut at) = (self.vault.ring(), tail.at);
        for item in items {
            let granules = item.granules();
            at = ring.room(at, granules)?;
            let to = self.vault.at(at, granules as usize * crate::ring::GRANULE)?;
            // SAFETY: `room` has found memory that only the owner of the put lock may write to.
            unsafe { item.write(to) };
            at += granules;
        }
        Ok(End { number: tail.number.wrapping_add(items.len() as u32), at })
    }

    /// More memory than was asked for last: ask again, or say that there is none.
    #[cold]
    fn grow_or_raise(&self, py: Python<'_>, error: &std::io::Error) -> PyResult<()> {
        if error.kind() != std::io::ErrorKind::WouldBlock {
            return Err(memory_error(error, "an item of a queue; have items taken faster"));
        }
        py.import("garrison.sync._items")?.call_method1("check_room", (64 << 20,))?;
        let count = self.shared().ring.count.load(Ordering::Relaxed);
        self.vault.permitted.store(count.saturating_add(GROWTH), Ordering::Relaxed);
        Ok(())
    }

    // Getting.

    /// Take up to so many items. Nothing is waited for but the lock.
    #[inline]
    fn take_out<'py>(
        &self,
        py: Python<'py>,
        me: u32,
        most: u32,
        mut each: impl FnMut(Arrived<'py>),
    ) -> PyResult<u32> {
        let ring = self.vault.ring();
        let (mut head, tail) = (ring.head(), ring.tail());
        let mut committed = head;
        let mut taken = 0;
        while taken < most && head.number != tail.number {
            match ring.next_item(head, tail) {
                Item::Here(at) => {
                    let (arrived, granules) = match self.copy_out(py, at, me) {
                        Ok(copied) => copied,
                        Err(_) if taken > 0 => break,
                        Err(error) => return Err(error),
                    };
                    each(arrived);
                    head = End { number: head.number.wrapping_add(1), at: at + granules };
                    taken += 1;
                }
                Item::Beyond => {
                    if head != committed {
                        ring.commit_get(head);
                        committed = head;
                    }
                    head.at = ring.settle(head, tail);
                }
            }
        }
        if taken > 0 {
            crash::reach("queue.copied");
            ring.commit_get(head);
            crash::reach("queue.got_committed");
        }
        Ok(taken)
    }

    #[inline]
    fn copy_out<'py>(&self, py: Python<'py>, at: u32, me: u32) -> PyResult<(Arrived<'py>, u32)> {
        let raised = |error| memory_error(&error, "a look into a queue");
        let from = self.vault.at(at, crate::ring::GRANULE).map_err(raised)?;
        // SAFETY: an item begins here, and the owner of the get lock alone may move past it.
        let head = unsafe { Head::read(from) };
        let granules = item::granules(head.len);
        self.vault.at(at, granules as usize * crate::ring::GRANULE).map_err(raised)?;
        // SAFETY: as above, and in range (checked).
        let bytes = unsafe { item::body(from, head.len) };
        let arrived = match head.kind {
            PARCEL => {
                // SAFETY: that is what a parcel's bytes are.
                let address = unsafe { Address::from_bytes(bytes) };
                Arrived::Parcel(self.post.sign(&self.vault, address, me).map_err(raised)?)
            }
            PICKLE => Arrived::Pickle(item::rebuild(py, PICKLE, bytes)?),
            kind => Arrived::Value(item::rebuild(py, kind, bytes)?),
        };
        Ok((arrived, granules))
    }

    /// Take up to so many items, at least one; 0 if there was none in time.
    fn get<'py>(
        &self,
        py: Python<'py>,
        most: u32,
        wait: &Wait,
        closed: &dyn Fn() -> PyErr,
        mut each: impl FnMut(Arrived<'py>),
    ) -> PyResult<u32> {
        let me = self.get.lock.me()?;
        loop {
            if self.vault.ring().is_empty() && !self.wait_for_item(py, wait)? {
                return Ok(0);
            }
            if self.is_closed() {
                return Err(closed());
            }
            let Some(held) = self.take(py, &self.get, me, wait)? else { return Ok(0) };
            crash::reach("queue.get_locked");
            let taken = self.take_out(py, me, most, &mut each)?;
            drop(held);
            if taken == 0 {
                continue;
            }
            crash::reach("queue.got_left");
            if self.maxsize != 0 {
                let shared = self.shared();
                let many = shared.many.load(Ordering::Relaxed) != 0;
                let count = if many { i32::MAX } else { wakes(taken) };
                shared
                    .putters
                    .ring(false, count, |count| futex::wake(&shared.putters.count, count));
                crash::reach("queue.got_woken");
            }
            return Ok(taken);
        }
    }

    #[cold]
    fn wait_for_item(&self, py: Python<'_>, wait: &Wait) -> PyResult<bool> {
        let some = || !self.vault.ring().is_empty() || self.is_closed();
        self.wait_until(py, &self.shared().getters, &self.get.spin, wait, some)
    }
}

fn wakes(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

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
    inner: OnceLock<Inner>,
}

impl PyQueue {
    #[inline]
    fn inner(&self) -> PyResult<&Inner> {
        self.inner.get().ok_or_else(|| PyRuntimeError::new_err("Queue.__init__ was not called"))
    }

    #[inline]
    fn open<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Inner> {
        let inner = slf.get().inner()?;
        if inner.is_closed() {
            return Err(closed(slf));
        }
        Ok(inner)
    }

    /// Write an item down; nothing if a hook of the user's class has dealt with an error.
    #[inline]
    fn encode<'py>(
        slf: &Bound<'py, Self>,
        inner: &Inner,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<Outgoing<'py>> {
        match Outgoing::plain(object)? {
            Some(item) if item.bytes().len() < BIG => Ok(item),
            Some(item) => {
                let parcel =
                    inner.post.pack(slf.py(), &inner.vault, item.kind, item.bytes(), None)?;
                Ok(Outgoing::parcel(parcel))
            }
            None => Self::pickle(slf, inner, object),
        }
    }

    fn pickle<'py>(
        slf: &Bound<'py, Self>,
        inner: &Inner,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<Outgoing<'py>> {
        static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let written = if item::is_plain(object, &mut LOOKS.clone()) {
            DUMPS.import(py, "pickle", "dumps")?.call1((object, 5))?
        } else {
            ENCODE.import(py, "garrison.sync._items", "encode")?.call1((object,))?
        };
        // A pickle alone, or with its buffers.
        if let Ok(pickle) = written.cast::<PyBytes>() {
            if pickle.as_bytes().len() < BIG {
                return Ok(Outgoing::pickle(pickle));
            }
            let parcel = inner.post.pack(py, &inner.vault, PICKLE, pickle.as_bytes(), None)?;
            return Ok(Outgoing::parcel(parcel));
        }
        let (pickle, buffers): (Bound<'_, PyBytes>, Bound<'_, PyList>) = written.extract()?;
        let parcel =
            inner.post.pack(py, &inner.vault, PICKLE, pickle.as_bytes(), Some(&buffers))?;
        Ok(Outgoing::parcel(parcel))
    }

    fn decode<'py>(py: Python<'py>, arrived: Arrived<'py>) -> PyResult<Bound<'py, PyAny>> {
        static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let loads = || DECODE.import(py, "pickle", "loads");
        match arrived {
            Arrived::Value(value) => Ok(value),
            Arrived::Pickle(pickle) => loads()?.call1((pickle,)),
            Arrived::Parcel(parcel) => match parcel.open(py)? {
                Opened::Value(value) => Ok(value),
                Opened::Pickle(pickle, None) => loads()?.call1((pickle,)),
                Opened::Pickle(pickle, Some(buffers)) => {
                    let options = pyo3::types::PyDict::new(py);
                    options.set_item("buffers", buffers)?;
                    loads()?.call((pickle,), Some(&options))
                }
            },
        }
    }

    #[inline]
    fn put_one(slf: &Bound<'_, Self>, object: &Bound<'_, PyAny>, wait: &Wait) -> PyResult<()> {
        let inner = Self::open(slf)?;
        let item = match Self::encode(slf, inner, object) {
            Ok(item) => item,
            Err(error) => return Self::refused(slf, object, error),
        };
        if inner.put(slf.py(), &mut [item], wait, &|| closed(slf))? {
            Ok(())
        } else {
            Err(standard(slf.py(), "Full"))
        }
    }

    /// The item cannot be sent: raise it, unless the class has the standard library's hook for it.
    #[cold]
    fn refused(slf: &Bound<'_, Self>, object: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let Ok(hook) = slf.getattr("_on_queue_feeder_error") else { return Err(error) };
        let value = error.value(py);
        let cause = value.getattr("__cause__")?;
        let told = if cause.is_none() { value.as_any() } else { &cause };
        hook.call1((told, object)).map(|_| ())
    }

    #[inline]
    fn get_one<'py>(slf: &Bound<'py, Self>, wait: &Wait) -> PyResult<Bound<'py, PyAny>> {
        let (py, inner) = (slf.py(), Self::open(slf)?);
        let mut found = None;
        inner.get(py, 1, wait, &|| closed(slf), |arrived| found = Some(arrived))?;
        match found {
            Some(arrived) => {
                crash::reach("queue.taken");
                Self::decode(py, arrived)
            }
            None => Err(standard(py, "Empty")),
        }
    }
}

#[cold]
fn closed(slf: &Bound<'_, PyQueue>) -> PyErr {
    match slf.repr() {
        Ok(repr) => PyValueError::new_err(format!("Queue {repr} is closed")),
        Err(error) => error,
    }
}

#[pymethods]
impl PyQueue {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, pyo3::types::PyDict>>) -> Self {
        Self { inner: OnceLock::new() }
    }

    /// Make a new queue of it.
    fn _found(&self, maxsize: u32, region_len: usize) -> PyResult<PySpot> {
        let vault = Vault::found(maxsize, region_len)
            .map_err(|error| memory_error(&error, "a new queue"))?;
        let spot = PySpot::of(vault.spot.clone());
        self.settle(vault)?;
        Ok(spot)
    }

    /// Make the queue of it that lies there.
    fn _attach(&self, spot: PyRef<'_, PySpot>) -> PyResult<()> {
        let vault = Vault::attach(spot.spot.clone())
            .map_err(|error| memory_error(&error, "a look into a queue"))?;
        self.settle(vault)
    }

    /// Put an item into the queue, or raise `queue.Full`.
    #[pyo3(signature = (obj, block = None, timeout = None), text_signature = "($self, obj, block=True, timeout=None)")]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::put_one(slf, obj, &Wait::of(block, timeout)?)
    }

    /// Put an item into the queue if there is room now, or raise `queue.Full`.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put_one(slf, obj, &Wait { block: false, patience: OnceCell::new() })
    }

    /// Take the next item out of the queue, or raise `queue.Empty`.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::get_one(slf, &Wait::of(block, timeout)?)
    }

    /// Take the next item out of the queue if there is one now, or raise `queue.Empty`.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get_one(slf, &Wait { block: false, patience: OnceCell::new() })
    }

    /// Put several items, all of them at once or none.
    #[pyo3(signature = (items, block = None, timeout = None), text_signature = "($self, items, block=True, timeout=None)")]
    fn put_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let inner = Self::open(slf)?;
        let wait = Wait::of(block, timeout)?;
        let mut written = Vec::new();
        for item in items.try_iter()? {
            written.push(Self::encode(slf, inner, &item?)?);
        }
        let most = if inner.maxsize == 0 { i32::MAX as usize } else { inner.maxsize as usize };
        if written.len() > most {
            return Err(PyValueError::new_err(format!(
                "{} items at once never fit into a queue of {most}; put them in smaller groups",
                written.len()
            )));
        }
        if written.is_empty() || inner.put(slf.py(), &mut written, &wait, &|| closed(slf))? {
            Ok(())
        } else {
            Err(standard(slf.py(), "Full"))
        }
    }

    /// Take up to `max_items` items, waiting for the first one only, or raise `queue.Empty`.
    #[pyo3(signature = (max_items, block = None, timeout = None), text_signature = "($self, max_items, block=True, timeout=None)")]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        max_items: i64,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (py, inner) = (slf.py(), Self::open(slf)?);
        if max_items < 1 {
            return Err(PyValueError::new_err(format!(
                "max_items must be at least 1, not {max_items}"
            )));
        }
        let most = u32::try_from(max_items).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        let wait = Wait::of(block, timeout)?;
        if inner.get(py, most, &wait, &|| closed(slf), |arrived| found.push(arrived))? == 0 {
            return Err(standard(py, "Empty"));
        }
        crash::reach("queue.taken");
        let (items, errors) = (PyList::empty(py), PyList::empty(py));
        for arrived in found {
            match Self::decode(py, arrived) {
                Ok(item) => items.append(item)?,
                Err(error) => errors.append(error.into_value(py))?,
            }
        }
        if !errors.is_empty() {
            py.import("garrison.sync._items")?.call_method1("undecodable", (&items, errors))?;
        }
        Ok(items)
    }

    /// How many items are in the queue.
    fn qsize(&self) -> PyResult<u32> {
        Ok(self.inner()?.vault.ring().len())
    }

    /// Whether there is no item in the queue.
    fn empty(&self) -> PyResult<bool> {
        Ok(self.inner()?.vault.ring().is_empty())
    }

    /// Whether the queue holds `maxsize` items.
    fn full(&self) -> PyResult<bool> {
        Ok(!self.inner()?.has_room(1))
    }

    /// Use the queue no longer in this process.
    fn close(&self) -> PyResult<()> {
        let inner = self.inner()?;
        inner.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    #[getter]
    fn _closed(&self) -> PyResult<bool> {
        Ok(self.inner()?.is_closed())
    }

    #[getter]
    fn _limit(&self) -> PyResult<u32> {
        Ok(self.inner()?.maxsize)
    }

    /// How many items were put and not yet reported as done.
    fn _unfinished(&self) -> PyResult<u32> {
        let inner = self.inner()?;
        let done = inner.shared().done.load(Ordering::Acquire);
        Ok(inner.vault.ring().tail().number.wrapping_sub(done))
    }

    /// Report that one of the items that were put is dealt with.
    fn _task_done(&self) -> PyResult<()> {
        let inner = self.inner()?;
        let shared = inner.shared();
        let mut done = shared.done.load(Ordering::Acquire);
        loop {
            if inner.vault.ring().tail().number == done {
                return Err(PyValueError::new_err("task_done() called too many times"));
            }
            let next = done.wrapping_add(1);
            match shared.done.compare_exchange(done, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break done = next,
                Err(now) => done = now,
            }
        }
        crash::reach("queue.done");
        if inner.vault.ring().tail().number == done {
            shared.joiners.ring(false, i32::MAX, |count| futex::wake(&shared.joiners.count, count));
        }
        crash::reach("queue.done_woken");
        Ok(())
    }

    /// Wait until every item that was put was reported as done.
    fn _join(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner()?;
        let shared = inner.shared();
        let done = || {
            let done = shared.done.load(Ordering::Acquire);
            inner.vault.ring().tail().number == done
        };
        let wait = Wait { block: true, patience: OnceCell::new() };
        while !done() {
            inner.wait_until(py, &shared.joiners, &inner.get.spin, &wait, done)?;
        }
        Ok(())
    }
}

impl PyQueue {
    fn settle(&self, vault: Vault) -> PyResult<()> {
        let again = |_| PyRuntimeError::new_err("this queue was made already");
        self.inner.set(Inner::new(vault)).map_err(again)
    }
}
