//! What is fuzzed: each function takes any bytes, and ends. What it reads is a value or an error; a
//! panic, a signal or an endless loop is a bug.
//!
//! `native/fuzz` calls them with inputs of its own making; a test here with those of its corpora.

mod queue;
mod store;
mod tasks;
mod wire;

#[cfg(test)]
mod corpora;

pub use queue::queue_items;
pub use store::{keys, store_pages, store_records};
pub use tasks::task_cells;
pub use wire::{frames, handshake, records, replies};

use crate::host::{Failure, Host};
use crate::queue::ends::QueueHost;

/// Bytes that are used up from the front; behind their end there are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    /// Bytes with their length, less than 256, in front.
    fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }
}

/// Memory that processes share, into which an input writes what it likes.
struct Area {
    start: *mut u8,
    len: usize,
}

impl Area {
    /// # Safety
    /// Nothing has a reference to these bytes, unless they are atomics.
    unsafe fn new(start: *mut u8, len: usize) -> Self {
        Self { start, len }
    }

    fn of<T>(shared: &T) -> Self {
        Self { start: std::ptr::from_ref(shared).cast_mut().cast(), len: size_of::<T>() }
    }
}

/// Overwrite some of these bytes: which area, where in it, and what, until a count of none.
fn overwrite(input: &mut Input<'_>, areas: &[Area]) {
    for _ in 0..input.byte() % 8 {
        let area = &areas[usize::from(input.byte()) % areas.len()];
        let at = input.number() % area.len;
        let bytes = input.piece();
        let len = bytes.len().min(area.len - at);
        // SAFETY: inside of the area, which is this process's alone.
        unsafe { area.start.add(at).copy_from_nonoverlapping(bytes.as_ptr(), len) };
    }
}

/// A program without signals, which never waits for another.
#[derive(Debug, Clone, Copy)]
struct Alone;

impl Host for Alone {
    type Error = Failure;

    fn blocking<T>(self, run: impl FnOnce() -> T) -> T {
        run()
    }

    fn check_signals(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl QueueHost for Alone {
    fn closed(self) -> Failure {
        Failure::WrongState("a closed queue")
    }

    fn check_memory(self, _bytes: u64) -> Result<(), Failure> {
        Ok(())
    }

    fn check_putters(self) -> Result<(), Failure> {
        Ok(())
    }

    fn register_sender(self) -> Result<(), Failure> {
        Ok(())
    }
}
