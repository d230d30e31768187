//! Results that were moved out of their cells, so that any number of them can wait to be read.

use super::block::{self, Lease};
use crate::shm::region::Region;
use crate::sys::atomic::Ordering;
use crate::tasks::protocol::State;
use crate::tasks::table::CellShared;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Payloads up to this size are copied; larger ones, and buffers, stay where the worker put them.
const COPIED: usize = 1 << 16;

#[derive(Debug)]
enum Payload {
    Copied(Vec<u8>),
    Leased { lease: Arc<Lease>, len: usize, buffers: u32 },
}

/// A task's result in private memory of the parent.
#[derive(Debug)]
pub struct Moved {
    pub outcome: u32,
    pub who: u32,
    pub duration: u64,
    pub ended_at: u64,
    payload: Payload,
}

impl Moved {
    /// The result of a cell that is DONE; `region` finds the heap it lies in.
    pub fn of(
        cell: &CellShared,
        state: State,
        region: impl FnOnce(u32) -> std::io::Result<Arc<Region>>,
    ) -> std::io::Result<Self> {
        let len = cell.result_len.load(Ordering::Relaxed) as usize;
        let at = cell.result_at.load(Ordering::Relaxed);
        let payload = if at == 0 {
            // SAFETY: the caller's peek() has made the worker's bytes visible; it writes no more.
            let bytes = unsafe { std::slice::from_raw_parts(cell.result.as_ptr(), len) };
            Payload::Copied(bytes.to_vec())
        } else {
            let region = region(cell.result_region.load(Ordering::Relaxed))?;
            let lease = Lease::new(&region, at as usize - 1, 0)?;
            let buffers = cell.result_buffers.load(Ordering::Relaxed);
            if buffers == 0 && len <= COPIED {
                Payload::Copied(lease.payload(len).to_vec())
            } else {
                Payload::Leased { lease, len, buffers }
            }
        };
        Ok(Self {
            outcome: cell.outcome.load(Ordering::Relaxed),
            who: state.who,
            duration: cell.duration.load(Ordering::Relaxed),
            ended_at: cell.ended_at.load(Ordering::Relaxed),
            payload,
        })
    }

    /// The payload and its buffers, as `Ticket.take` gives them.
    pub fn payload<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyList>>)> {
        match &self.payload {
            Payload::Copied(bytes) => Ok((PyBytes::new(py, bytes).into_any(), None)),
            Payload::Leased { lease, len, buffers } => {
                let (payload, buffers) = block::read(py, lease, *len, *buffers)?;
                Ok((payload.into_any(), buffers))
            }
        }
    }
}

/// What a ticket and the parent's books share: where the result is.
#[derive(Debug, Default)]
pub struct Holder {
    has: AtomicBool,
    result: Mutex<Option<Moved>>,
}

impl Holder {
    pub fn keep(&self, result: Moved) {
        *self.result.lock().expect("never poisoned") = Some(result);
        // [move->look] the cell is another task's from now on
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

    pub fn take(&self) -> Option<Moved> {
        self.result.lock().expect("never poisoned").take()
    }
}
