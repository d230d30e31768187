//! A queue's ends as Python uses them: what is put was written down before, what is taken is rebuilt.

use super::convert::{deadline, AnyBool};
use super::item::{self, Head, Outgoing, PARCEL, PICKLE};
use super::memory_error;
use super::parcel::{Address, Post, Received};
use crate::host::Host;
use crate::queue::ends::{Batch, QueueHost, WaitSpec};
use crate::queue::file::QueueFile;
use crate::queue::log::GRANULE;
use crate::queue::Queue;
use pyo3::prelude::*;

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
    Parcel(Received),
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
}

/// Items that were written down.
struct Written<'a, 'py> {
    file: &'a QueueFile,
    items: &'a mut [Outgoing<'py>],
}

impl Batch for Written<'_, '_> {
    #[inline]
    fn count(&self) -> u32 {
        self.items.len() as u32
    }

    #[inline]
    fn granules(&self, nth: usize) -> u32 {
        self.items[nth].granules()
    }

    #[inline]
    fn write(&self, nth: usize, at: u32) -> std::io::Result<()> {
        let item = &self.items[nth];
        let to = self.file.at(at, item.granules() as usize * GRANULE)?;
        // SAFETY: in range (checked), and the caller has found memory that nobody else writes to.
        unsafe { item.write(to) };
        Ok(())
    }

    #[inline]
    fn will_be_put(&self) {
        let parcels = self.items.iter().filter_map(|item| item.parcel.as_ref());
        parcels.for_each(|parcel| parcel.is_being_put(self.file));
    }

    #[inline]
    fn were_put(&mut self, first: u32) {
        let numbers = (0..).map(|nth| first.wrapping_add(nth));
        for (item, number) in self.items.iter_mut().zip(numbers) {
            if let Some(parcel) = &mut item.parcel {
                parcel.was_put(number);
            }
        }
    }
}

/// A queue, and its big items.
pub struct Ends {
    pub queue: Queue,
    pub post: Post,
}

impl Ends {
    pub fn new(file: QueueFile) -> Self {
        Self { queue: Queue::new(file), post: Post::default() }
    }

    /// Put all of them, or none: true, or false if there was no room in time.
    #[inline]
    pub fn put(
        &self,
        caller: QueueCaller<'_, '_>,
        items: &mut [Outgoing<'_>],
        wait: &WaitSpec,
    ) -> PyResult<bool> {
        let mut items = Written { file: &self.queue.file, items };
        self.queue.put(caller, &mut items, wait)
    }

    /// Take up to so many items, at least one; 0 if there was none in time.
    #[inline]
    pub fn get<'py>(
        &self,
        caller: QueueCaller<'_, 'py>,
        most: u32,
        wait: &WaitSpec,
        mut each: impl FnMut(Arrived<'py>),
    ) -> PyResult<u32> {
        let me = self.queue.me()?;
        self.queue.get(caller, (me, most), wait, |at| {
            let (arrived, granules) = self.copy_out(caller.py, at, me)?;
            each(arrived);
            Ok(granules)
        })
    }

    #[inline]
    fn copy_out<'py>(&self, py: Python<'py>, at: u32, me: u32) -> PyResult<(Arrived<'py>, u32)> {
        let raised = |error| memory_error(&error, "a look into a queue");
        let file = &self.queue.file;
        let from = file.at(at, GRANULE).map_err(raised)?;
        // SAFETY: an item begins here, and the owner of the get lock alone may move past it.
        let head = unsafe { Head::read(from) };
        let granules = item::granules(head.len);
        file.at(at, granules as usize * GRANULE).map_err(raised)?;
        // SAFETY: as above, and in range (checked).
        let bytes = unsafe { item::body(from, head.len) };
        let arrived = match head.kind {
            PARCEL => {
                // SAFETY: that is what a parcel's bytes are.
                let address = unsafe { Address::from_bytes(bytes) };
                Arrived::Parcel(self.post.sign(file, address, me).map_err(raised)?)
            }
            PICKLE => Arrived::Pickle(item::rebuild(py, PICKLE, bytes)?),
            kind => Arrived::Value(item::rebuild(py, kind, bytes)?),
        };
        Ok((arrived, granules))
    }
}
