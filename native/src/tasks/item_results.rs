//! Results of items that share a cell, one by one: an item that is done stays done, even if a later
//! one kills the worker.
//!
//! ```text
//! | length: u32, FAILED in its top bit | pickle | length | pickle ...
//! ```
//! The cell counts the complete ones. The parent may read them while the worker is still at later items,
//! so a block that has become too small stays until the task is over.

use super::table::CellShared;
use crate::host::Failure;
use crate::shm::heap::{self, Head, Heap};
use crate::shm::region::{Region, Span};
use crate::sys::atomic::Ordering;
use crate::testing::crash_points::crash_point;
use std::sync::Mutex;

const FAILED: u32 = 1 << 31;
const FIRST: usize = 4 << 10;
pub const HEAD: usize = size_of::<u32>();

/// The worker's side: a block that grows.
#[derive(Debug, Default)]
pub struct ItemResults {
    pub place: usize,
    pub used: usize,
    room: usize,
    bytes: Option<Span>,
    items: u32,
    outgrown: Vec<usize>,
}

impl ItemResults {
    /// The first item is about to begin: from now on `has_begun` says so.
    pub fn begin(&mut self, heap: &Mutex<Heap>, cell: &CellShared) -> Result<(), Failure> {
        self.grow(heap, cell, 0)
    }

    /// Add one item's result; it counts from the last store on.
    pub fn add(
        &mut self,
        heap: &Mutex<Heap>,
        cell: &CellShared,
        failed: bool,
        data: &[u8],
    ) -> Result<(), Failure> {
        let need = HEAD + data.len();
        if data.len() >= FAILED as usize {
            return Err(Failure::ItemTooLarge("a result of 2 GB in a chunk; use chunksize=1"));
        }
        if self.used + need > self.room {
            self.grow(heap, cell, need)?;
        }
        let flag = if failed { FAILED } else { 0 };
        let bytes = self.bytes.as_ref().expect("it has grown");
        let start = bytes.at(self.used, need);
        // SAFETY: inside of this worker's own block (checked), which nothing reads yet.
        unsafe {
            start.cast::<u32>().write_unaligned(data.len() as u32 | flag);
            start.add(HEAD).copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
        self.used += need;
        self.items += 1;
        crash_point("result.half_written");
        // [item->recover] pairs with the acquire in recover()
        cell.journal_items.store(self.items, Ordering::Release);
        Ok(())
    }

    #[cold]
    fn grow(&mut self, heap: &Mutex<Heap>, cell: &CellShared, need: usize) -> Result<(), Failure> {
        let room = (2 * self.room).max(self.used + need).max(FIRST);
        let mut heap = heap.lock().expect("never poisoned");
        heap.sweep_sometimes(|_| false);
        let new = heap.allocate(room).map_err(Failure::of(format!("{room} bytes of results")))?;
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

    /// The task is over: give back what nothing will read. The last block is the result, or is not.
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

/// Take the bytes apart: (succeeded, pickle) for each item, up to so many.
pub fn split(data: &[u8], items: usize) -> Result<Vec<(bool, &[u8])>, Failure> {
    let torn = || Failure::Torn("a torn journal");
    let mut rest = data;
    let mut found = Vec::new();
    while found.len() < items && !rest.is_empty() {
        let (head, tail) = rest.split_at_checked(HEAD).ok_or_else(torn)?;
        let word = u32::from_ne_bytes(head.try_into().expect("four bytes"));
        let (entry, tail) = tail.split_at_checked((word & !FAILED) as usize).ok_or_else(torn)?;
        found.push((word & FAILED == 0, entry));
        rest = tail;
    }
    Ok(found)
}

/// Fail if a pickle is too long for its head.
pub fn check_len(len: usize) -> Result<(), Failure> {
    if len >= FAILED as usize {
        return Err(Failure::ItemTooLarge("an item of 2 GB in a chunk; use chunksize=1"));
    }
    Ok(())
}

/// Write the head of the last entry, as [`split`] takes it apart: room for it, then a pickle.
pub fn write_head(entry: &mut [u8]) {
    let (head, pickle) = entry.split_at_mut(HEAD);
    head.copy_from_slice(&(pickle.len() as u32).to_ne_bytes());
}

/// Whether a worker has begun with the first item of this task, in its last attempt.
pub fn has_begun(cell: &CellShared) -> bool {
    cell.journal_at.load(Ordering::Acquire) != 0
}

/// Results that a worker has completed, where they lie.
pub struct Recovered {
    bytes: Span,
    items: usize,
}

impl Recovered {
    /// (succeeded, pickle) for each.
    pub fn entries(&self) -> Result<Vec<(bool, &[u8])>, Failure> {
        split(self.bytes.bytes(), self.items)
    }
}

/// Results that a worker has completed. Of a living one they count only if it is still at the task
/// afterwards; until then what is read here may be anything.
pub fn recover(region: &Region, cell: &CellShared) -> Result<Option<Recovered>, Failure> {
    // [item->recover] in this order: a later block holds all that an earlier one did
    let items = cell.journal_items.load(Ordering::Acquire) as usize;
    let Some(place) = (cell.journal_at.load(Ordering::Acquire) as usize).checked_sub(1) else {
        return Ok(None);
    };
    match Head::of(region, place).and_then(|head| heap::bytes(region, place, &head)) {
        Ok(bytes) => Ok(Some(Recovered { bytes, items })),
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            Err(Failure::of("a look at results")(error))
        }
        // No block any more: the worker has gone on.
        Err(_) => Ok(None),
    }
}
