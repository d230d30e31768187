//! Every interleaving of a few processes on one small table, tried by loom.
//!
//! Processes are threads here, and memory is as weak as Rust allows. What is modelled is the code
//! itself; only the futex and the loops of `Table`, `Worker` and `Parent`, which need a real
//! segment, are restated in [`World`], in a few lines each. A lost wake-up shows as a deadlock.
//! Where threads are many, an exploration is bounded to so many preemptions: a thread may be
//! interrupted at any place, but not more often than that in one run.

mod claims;
mod endings;
mod wake_word;

use super::protocol::*;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::wake_word::WakeWord;
use crate::testing::loom::{process, Futex};
use loom::sync::Arc;

/// Run a scene in every way it can go; its world is new each time.
fn explore(preemptions: Option<usize>, scene: impl Fn(Arc<World>) + Sync + Send + 'static) {
    explore_with(2, preemptions, scene);
}

/// The same with as many rings: the second one costs time even if it is empty.
fn explore_with(
    rings: usize,
    preemptions: Option<usize>,
    scene: impl Fn(Arc<World>) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || scene(Arc::new(World::new(rings))));
}

const CELLS: usize = 3;
const ENTRIES: usize = 4;

/// The part of a table that the protocol is about.
struct World {
    rings: Vec<TaskRingShared>,
    entries: Vec<Vec<AtomicU32>>,
    cells: Vec<AtomicU64>,
    wake_word: WakeWord,
    /// 1: workers leave when there is no more work.
    closing: AtomicU32,
    /// Where waiters for work sleep, and waiters for cell 0.
    worker_futex: Futex,
    cell_futex: Futex,
}

impl World {
    fn new(rings: usize) -> Self {
        let entries = |_| (0..ENTRIES).map(|_| AtomicU32::new(0)).collect();
        Self {
            rings: (0..rings).map(|_| TaskRingShared::new()).collect(),
            entries: (0..rings).map(entries).collect(),
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            wake_word: WakeWord::new(),
            closing: AtomicU32::new(0),
            worker_futex: Futex::new(),
            cell_futex: Futex::new(),
        }
    }

    fn ring(&self, number: u32) -> TaskRing<'_> {
        let shared = &self.rings[number as usize];
        TaskRing { number, shared, entries: &self.entries[number as usize] }
    }

    fn cell(&self, number: u32) -> &AtomicU64 {
        &self.cells[number as usize]
    }

    fn push(&self, ring: u32, cell: u32) -> bool {
        self.ring(ring).push(cell, self.cell(cell))
    }

    // As in `Table`.

    fn has_work(&self) -> bool {
        self.rings.iter().any(|ring| !ring.is_empty())
    }

    fn claim(&self, owner_id: u32) -> Option<(u32, State)> {
        let state_of = |cell| Some(self.cell(cell));
        let oldest_first = (0..self.rings.len() as u32).rev();
        let mut claims = oldest_first.map(|ring| self.ring(ring).claim(owner_id, state_of));
        claims.find_map(|claim| claim.expect("a sound ring"))
    }

    fn publish(&self, ring: u32, cell: u32) {
        if self.push(ring, cell) {
            self.wake_worker();
        }
    }

    fn wake_worker(&self) {
        let waiting: u64 = self.rings.iter().map(TaskRingShared::len).sum();
        self.wake_word.wake(waiting <= 1, 1, |count| self.worker_futex.wake(count));
    }

    fn wake_all(&self) {
        self.wake_word.wake_all(|count| self.worker_futex.wake(count));
    }

    // As in `Worker`.

    /// Claim one task, see to the rest, and be busy with it for ever. Nothing if it may leave.
    fn work(&self, owner_id: u32, spins: bool) -> Option<u32> {
        loop {
            if let Some((cell, _)) =
                self.claim(owner_id).or_else(|| self.claim_or_nap(owner_id, spins))
            {
                if self.has_work() {
                    self.wake_worker();
                }
                return Some(cell);
            }
            if self.leaving() && !self.has_work() {
                return None;
            }
        }
    }

    fn leaving(&self) -> bool {
        self.closing.load(Ordering::Acquire) != 0
    }

    fn claim_or_nap(&self, owner_id: u32, spins: bool) -> Option<(u32, State)> {
        if spins && self.wake_word.start_spinning(owner_id) {
            let seen = self.has_work();
            self.wake_word.stop_spinning(owner_id);
            if seen {
                return self.claim(owner_id);
            }
        }
        let count = self.wake_word.prepare();
        if !self.has_work() && !self.leaving() {
            self.worker_futex.wait(|| self.wake_word.count.load(Ordering::Acquire) == count);
        }
        self.claim(owner_id)
    }

    // As in `Ticket`, for cell 0.

    fn await_end(&self) {
        let state = self.cell(0);
        while !load_state(state).ended() {
            if let Some(word) = announce_waiter(state) {
                let low = word as u32;
                self.cell_futex.wait(|| state.load(Ordering::Acquire) as u32 == low);
            }
        }
    }

    fn end(&self, claimed: State, tag: u32) {
        if finish(self.cell(0), claimed, tag) {
            self.cell_futex.wake(i32::MAX);
        }
    }
}
