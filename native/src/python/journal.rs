//! Results of items that share a cell, one by one: an item that is done stays done, even if a later
//! one kills the worker.
//!
//! ```text
//! | length: u32, FAILED in its top bit | pickle | length | pickle ...
//! ```
//! The cell counts the complete ones. The parent may read them while the worker is still at later items,
//! so a block that has become too small stays until the task is over.

use super::memory_error;
use crate::shm::heap::{self, Head, Heap};
use crate::shm::region::{Region, Span};
use crate::sys::atomic::Ordering;
use crate::tasks::table::CellShared;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Mutex;

const FAILED: u32 = 1 << 31;
const FIRST: usize = 4 << 10;
const HEAD: usize = size_of::<u32>();

/// The worker's side: a block that grows.
#[derive(Debug, Default)]
pub struct Journal {
    pub place: usize,
    pub used: usize,
    room: usize,
    bytes: Option<Span>,
    items: u32,
    outgrown: Vec<usize>,
}

impl Journal {
    /// Add one item's result; it counts from the last store on.
    pub fn add(
        &mut self,
        heap: &Mutex<Heap>,
        cell: &CellShared,
        failed: bool,
        data: &[u8],
    ) -> PyResult<()> {
        let need = HEAD + data.len();
        if data.len() >= FAILED as usize {
            return Err(PyValueError::new_err("a result of 2 GB in a chunk; use chunksize=1"));
        }
        if self.used + need > self.room {
            self.grow(heap, cell, need)?;
        }
        let flag = if failed { FAILED } else { 0 };
        let bytes = self.bytes.as_ref().expect("it has grown");
        let start = bytes.at(self.used, need);
        // SAFETY: inside of this worker's own block (checked), which nobody reads yet.
        unsafe {
            start.cast::<u32>().write_unaligned(data.len() as u32 | flag);
            start.add(HEAD).copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
        self.used += need;
        self.items += 1;
        crash_point("result.half_written");
        // [item->salvage] pairs with the acquire in entries()
        cell.journal_items.store(self.items, Ordering::Release);
        Ok(())
    }

    #[cold]
    fn grow(&mut self, heap: &Mutex<Heap>, cell: &CellShared, need: usize) -> PyResult<()> {
        let room = (2 * self.room).max(self.used + need).max(FIRST);
        let mut heap = heap.lock().expect("never poisoned");
        heap.sweep_sometimes(|_| false);
        let new = heap
            .allocate(room)
            .map_err(|error| memory_error(&error, &format!("{room} bytes of results")))?;
        if let Some(old) = &self.bytes {
            // SAFETY: two blocks of this worker's, the second one new.
            unsafe {
                let from = old.at(0, self.used);
                new.bytes.at(0, self.used).copy_from_nonoverlapping(from, self.used);
            }
        }
        cell.journal_at.store(new.place as u64 + 1, Ordering::Release);
        if self.room > 0 {
            self.outgrown.push(self.place);
        }
        (self.place, self.room, self.bytes) = (new.place, room, Some(new.bytes));
        Ok(())
    }

    /// The task is over: give back what nobody will look at. The last block is the result, or is not.
    pub fn close(self, heap: &Mutex<Heap>, is_result: bool) {
        let last = (self.room > 0 && !is_result).then_some(self.place);
        if self.outgrown.is_empty() && last.is_none() {
            return;
        }
        let mut heap = heap.lock().expect("never poisoned");
        for place in self.outgrown.into_iter().chain(last) {
            heap.free(place);
        }
    }
}

/// Take a journal's bytes apart: (succeeded, pickle) for each item.
fn entries<'py>(
    py: Python<'py>,
    data: &[u8],
    items: usize,
) -> PyResult<Vec<(bool, Bound<'py, PyBytes>)>> {
    let torn = || PyValueError::new_err("a torn journal");
    let mut rest = data;
    let mut found = Vec::new();
    while found.len() < items && !rest.is_empty() {
        let (head, tail) = rest.split_at_checked(HEAD).ok_or_else(torn)?;
        let word = u32::from_ne_bytes(head.try_into().expect("four bytes"));
        let len = (word & !FAILED) as usize;
        let (entry, tail) = tail.split_at_checked(len).ok_or_else(torn)?;
        found.push((word & FAILED == 0, super::bytes(py, entry)?));
        rest = tail;
    }
    Ok(found)
}

/// Results that a worker has completed. Of a living one they count only if it is still at the task
/// afterwards; until then what is read here may be anything.
pub fn salvage<'py>(
    py: Python<'py>,
    region: &Region,
    cell: &CellShared,
) -> PyResult<Vec<(bool, Bound<'py, PyBytes>)>> {
    // [item->salvage] in this order: a later block holds all that an earlier one did
    let items = cell.journal_items.load(Ordering::Acquire) as usize;
    let Some(place) = (cell.journal_at.load(Ordering::Acquire) as usize).checked_sub(1) else {
        return Ok(Vec::new());
    };
    let bytes = match Head::of(region, place).and_then(|head| heap::bytes(region, place, &head)) {
        Ok(bytes) => bytes,
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            return Err(memory_error(&error, "a look at results"))
        }
        // No block any more: the worker has gone on.
        Err(_) => return Ok(Vec::new()),
    };
    // SAFETY: in range (checked).
    let data = unsafe { std::slice::from_raw_parts(bytes.at(0, bytes.len()), bytes.len()) };
    entries(py, data, items)
}

/// Take a payload apart, of items or of results with an outcome each: (succeeded, pickle) for each.
#[pyfunction]
pub fn split<'py>(
    py: Python<'py>,
    payload: &Bound<'py, PyAny>,
) -> PyResult<Vec<(bool, Bound<'py, PyBytes>)>> {
    if let Ok(block) = payload.cast::<super::block::Block>() {
        return entries(py, block.get().bytes(), usize::MAX);
    }
    entries(py, payload.cast::<PyBytes>()?.as_bytes(), usize::MAX)
}

/// Put pickles one after the other, as `split` takes them apart.
#[pyfunction]
pub fn pack<'py>(
    py: Python<'py>,
    pickles: Vec<Bound<'py, PyBytes>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let size = pickles.iter().map(|data| HEAD + data.as_bytes().len()).sum();
    if pickles.iter().any(|data| data.as_bytes().len() >= FAILED as usize) {
        return Err(PyValueError::new_err("an item of 2 GB in a chunk; use chunksize=1"));
    }
    PyBytes::new_with(py, size, |mut to| {
        for data in &pickles {
            let data = data.as_bytes();
            let (head, rest) = to.split_at_mut(HEAD);
            head.copy_from_slice(&(data.len() as u32).to_ne_bytes());
            let (body, rest) = rest.split_at_mut(data.len());
            body.copy_from_slice(data);
            to = rest;
        }
        Ok(())
    })
}
