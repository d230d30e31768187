//! Results that were moved out of their cells, so that any number of them can wait to be read.

use super::protocol::State;
use super::table::CellShared;
use crate::shm::payload::{BlockRef, Found};
use crate::shm::region::Region;
use crate::sys::atomic::Ordering;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Payloads up to this size are copied; larger ones, and buffers, stay where the worker put them.
const COPIED: usize = 1 << 16;

#[derive(Debug)]
enum Payload {
    Copied(Vec<u8>),
    InBlock { block: Arc<BlockRef>, len: usize, buffers: u32 },
}

/// A task's result in private memory of the parent.
#[derive(Debug)]
pub struct MovedResult {
    pub outcome: u32,
    pub owner_id: u32,
    pub duration: u64,
    pub ended_at: u64,
    payload: Payload,
}

impl MovedResult {
    /// The result of a cell that is DONE; `region` finds the heap it lies in.
    pub fn of(
        cell: &CellShared,
        state: State,
        region: impl FnOnce(u32) -> std::io::Result<Arc<Region>>,
    ) -> std::io::Result<Self> {
        cell.check_result()?;
        let len = cell.result_len.load(Ordering::Relaxed) as usize;
        let at = cell.result_at.load(Ordering::Relaxed);
        let payload = if at == 0 {
            // The caller's look at the state has made the worker's bytes visible; it writes no more.
            Payload::Copied(cell.inline_result()?.to_vec())
        } else {
            let region = region(cell.result_region.load(Ordering::Relaxed))?;
            let block = BlockRef::new(&region, at as usize - 1, 0)?;
            let buffers = cell.result_buffers.load(Ordering::Relaxed);
            block.check_payload(len, buffers)?;
            if buffers == 0 && len <= COPIED {
                Payload::Copied(block.bytes(0, len).to_vec())
            } else {
                Payload::InBlock { block, len, buffers }
            }
        };
        Ok(Self {
            outcome: cell.outcome.load(Ordering::Relaxed),
            owner_id: state.owner_id,
            duration: cell.duration.load(Ordering::Relaxed),
            ended_at: cell.ended_at.load(Ordering::Relaxed),
            payload,
        })
    }

    pub fn payload(&self) -> Found<'_> {
        match &self.payload {
            Payload::Copied(bytes) => Found::Inline(bytes),
            Payload::InBlock { block, len, buffers } => {
                Found::InBlock { block: block.clone(), len: *len, buffers: *buffers }
            }
        }
    }
}

/// What a ticket and the parent's state share: where the result is.
#[derive(Debug, Default)]
pub struct Holder {
    has: AtomicBool,
    result: Mutex<Option<MovedResult>>,
}

impl Holder {
    pub fn keep(&self, result: MovedResult) {
        *self.result.lock().expect("never poisoned") = Some(result);
        // [move->look] the cell is another task's from now on
        self.has.store(true, Ordering::Release);
    }

    /// There is no result, nor will there be: the cell is no longer the ticket's.
    pub fn give_up(&self) {
        self.has.store(true, Ordering::Release);
    }

    /// Was the result moved here? Then the cell is no longer the ticket's.
    pub fn has(&self) -> bool {
        // [move->look]
        self.has.load(Ordering::Acquire)
    }

    /// When the task ended, if its result is here.
    pub fn ended_at(&self) -> Option<u64> {
        self.result.lock().expect("never poisoned").as_ref().map(|result| result.ended_at)
    }

    /// The outcome of the task, if its result is here.
    pub fn outcome(&self) -> Option<u32> {
        self.result.lock().expect("never poisoned").as_ref().map(|result| result.outcome)
    }

    pub fn take(&self) -> Option<MovedResult> {
        self.result.lock().expect("never poisoned").take()
    }
}
