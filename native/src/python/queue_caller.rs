//! A queue's ends as Python uses them: what is put was written down before, what is taken is rebuilt.

use super::convert::{deadline, AnyBool};
use super::{block, queue_item};
use crate::host::Host;
use crate::queue::ends::{QueueHost, WaitSpec};
use crate::queue::item::PICKLE;
use crate::queue::large_items::ReceivedBlock;
use crate::queue::{Queue, TakenItem};
use pyo3::prelude::*;
use pyo3::types::PyList;

/// `block` and `timeout` as they were given.
#[inline]
pub fn wait_spec(
    block: Option<&Bound<'_, PyAny>>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<WaitSpec> {
    let block = block.map_or(Ok(true), PyAnyMethods::is_truthy)?;
    let deadline = match timeout {
        Some(_) => Some(deadline(AnyBool(block), timeout)?),
        None => None,
    };
    Ok(WaitSpec::new(block, deadline))
}

/// An item that was taken, and is to be decoded now that nothing is locked.
pub enum Arrived<'py> {
    Value(Bound<'py, PyAny>),
    Pickle(Bound<'py, PyAny>),
    Large(ReceivedBlock),
}

/// The interpreter, and how the queue in question says that it is closed.
#[derive(Clone, Copy)]
pub struct QueueCaller<'a, 'py> {
    pub py: Python<'py>,
    pub closed: &'a dyn Fn() -> PyErr,
}

impl Host for QueueCaller<'_, '_> {
    type Error = PyErr;

    #[inline]
    fn blocking<T>(self, run: impl FnOnce() -> T) -> T {
        self.py.blocking(run)
    }

    #[inline]
    fn check_signals(self) -> PyResult<()> {
        self.py.check_signals()
    }

    fn location(self) -> String {
        self.py.location()
    }
}

impl QueueHost for QueueCaller<'_, '_> {
    fn closed(self) -> PyErr {
        (self.closed)()
    }

    fn check_memory(self, bytes: u64) -> PyResult<()> {
        self.py
            .import("garrison.sync._queue_pickling")?
            .call_method1("check_available", (bytes,))
            .map(|_| ())
    }

    fn check_putters(self) -> PyResult<()> {
        self.py.import("garrison.sync._pipe_ends")?.call_method0("check_parent").map(|_| ())
    }

    fn register_sender(self) -> PyResult<()> {
        let module = self.py.import("garrison.sync._queue_pickling")?;
        module.call_method0("register_sender_cleanup").map(|_| ())
    }
}

/// Take up to so many items, at least one; 0 if there was none in time.
#[inline]
pub fn get<'py>(
    queue: &Queue,
    caller: QueueCaller<'_, 'py>,
    most: u32,
    wait: &WaitSpec,
    mut each: impl FnMut(Arrived<'py>),
) -> PyResult<u32> {
    queue.get(caller, most, wait, |taken| {
        each(match taken {
            TakenItem::Small(PICKLE, bytes) => {
                Arrived::Pickle(queue_item::rebuild(caller.py, PICKLE, bytes)?)
            }
            TakenItem::Small(kind, bytes) => {
                Arrived::Value(queue_item::rebuild(caller.py, kind, bytes)?)
            }
            TakenItem::Large(received) => Arrived::Large(received),
        });
        Ok(())
    })
}

/// What a large item holds.
pub enum Opened<'py> {
    Value(Bound<'py, PyAny>),
    Pickle(Bound<'py, PyAny>, Option<Bound<'py, PyList>>),
}

/// Look at a large item, after it was taken.
pub fn open<'py>(py: Python<'py>, received: ReceivedBlock) -> PyResult<Opened<'py>> {
    let (kind, (len, buffers)) = (received.kind(), received.extent());
    let (payload, buffers) = block::read(py, &received.into_ref(), len, buffers)?;
    Ok(match kind {
        PICKLE => Opened::Pickle(payload.into_any(), buffers),
        kind => Opened::Value(queue_item::rebuild(py, kind, payload.get().bytes())?),
    })
}

/// This process ends: it will not collect what comes back.
#[pyfunction]
pub fn retire_senders() {
    crate::queue::large_items::retire_senders();
}
