//! Whether the words of a table can be what was written there: damage is an error where it is read.
//!
//! What to run, and where the result is, have a seal each. It is written before the state that hands
//! them over, and looked at by the process that takes them over.

use super::protocol::{load_state, CLAIMED, FREE, MAIN, READY, RETRY};
use super::table::{CellShared, Table, CAPACITY, FINISHED, TERMINATING};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::damage::damaged;
use std::io::Result;

impl CellShared {
    /// The arguments that lie in the cell itself, which nothing writes any more.
    pub fn inline_args(&self) -> Result<&[u8]> {
        part_of(&self.args, self.args_len.load(Ordering::Relaxed))
    }

    /// The same of the result.
    pub fn inline_result(&self) -> Result<&[u8]> {
        part_of(&self.result, self.result_len.load(Ordering::Relaxed))
    }
}

/// One word of several, different if any of them is.
#[inline]
fn seal(words: [u64; 4]) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = words.into_iter().fold(1_u64, |sum, word| {
        let sum = (sum ^ word).wrapping_mul(ODD);
        sum ^ sum >> 32
    });
    mixed as u32
}

fn both(high: &AtomicU32, low: &AtomicU32) -> u64 {
    u64::from(high.load(Ordering::Relaxed)) << 32 | u64::from(low.load(Ordering::Relaxed))
}

impl CellShared {
    fn seal_of_task(&self) -> u32 {
        seal([
            both(&self.function, &self.kind),
            self.function_at.load(Ordering::Relaxed),
            self.args_len.load(Ordering::Relaxed) << 16 ^ both(&self.args_buffers, &self.retries),
            self.args_at.load(Ordering::Relaxed)
                ^ self.timeout.load(Ordering::Relaxed).rotate_left(32),
        ])
    }

    fn seal_of_result(&self) -> u32 {
        seal([
            self.result_len.load(Ordering::Relaxed),
            self.result_at.load(Ordering::Relaxed),
            both(&self.result_region, &self.outcome),
            both(&self.result_buffers, &self.result_buffers),
        ])
    }

    /// What to run is written.
    #[inline]
    pub fn seal_task(&self) {
        self.task_seal.store(self.seal_of_task(), Ordering::Relaxed);
    }

    /// Where the result is, is written.
    #[inline]
    pub fn seal_result(&self) {
        self.result_seal.store(self.seal_of_result(), Ordering::Relaxed);
    }

    /// Fail if what to run is not what was written.
    #[inline]
    pub fn check_task(&self) -> Result<()> {
        if self.task_seal.load(Ordering::Relaxed) == self.seal_of_task() {
            return Ok(());
        }
        Err(damaged("the words of a task are not what was written"))
    }

    /// The same of the result.
    #[inline]
    pub fn check_result(&self) -> Result<()> {
        if self.result_seal.load(Ordering::Relaxed) == self.seal_of_result() {
            return Ok(());
        }
        Err(damaged("the words of a task's result are not what was written"))
    }
}

fn part_of(bytes: &[u8], len: u64) -> Result<&[u8]> {
    let part = usize::try_from(len).ok().and_then(|len| bytes.get(..len));
    part.ok_or_else(|| damaged(format!("{len} bytes in a cell that has room for {}", bytes.len())))
}

impl Table {
    /// Fail if a word that all processes of the pool go by cannot be.
    pub fn check(&self) -> Result<()> {
        let header = self.header();
        let phase = header.phase.load(Ordering::Acquire);
        if phase > TERMINATING || header.broken.load(Ordering::Acquire) > FINISHED {
            return Err(damaged(format!("a pool in phase {phase}")));
        }
        let cells = header.cells.load(Ordering::Acquire);
        if cells as usize > CAPACITY {
            return Err(damaged(format!("a table of {cells} cells")));
        }
        [MAIN, RETRY].into_iter().try_for_each(|ring| self.ring(ring).extent().map(|_| ()))
    }

    /// Whether the supervisor waits for the next event, and so has done all that it has to.
    pub fn is_supervisor_idle(&self) -> bool {
        self.header().dozing.load(Ordering::SeqCst) != 0
    }

    /// Why a task that has not ended never will, if nothing changes. Moments of every task look so.
    pub fn obstacle(&self, number: u32) -> Option<&'static str> {
        let cell = self.cell(number);
        let state = load_state(&cell.state);
        match state.tag {
            FREE => Some("the cell of a task is free"),
            READY => {
                let is_lost = self.ring(state.ring).is_unlisted(number, &cell.state);
                is_lost.then_some("a ready task is in no ring")
            }
            CLAIMED => match self.slot_of(state.owner_id).map(|slot| self.slot(slot)) {
                None => Some("a task is claimed by no worker"),
                Some(slot) => {
                    let is_elsewhere = slot.cell.load(Ordering::Acquire) != number + 1
                        && self.header().stopped.load(Ordering::Relaxed) == 0;
                    is_elsewhere.then_some("a task is claimed by a worker that has another")
                }
            },
            _ if state.ended() => None,
            _ => Some("a task is in no state"),
        }
    }
}
