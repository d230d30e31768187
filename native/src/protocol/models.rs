//! Every interleaving of a few processes on one small table, tried by loom.
//!
//! Processes are threads here, and memory is as weak as Rust allows. What is modelled is the code
//! itself; only the futex and the loops of `Table`, `Worker` and `Parent`, which need a real
//! segment, are restated in [`World`], in a few lines each. A lost wake-up shows as a deadlock.
//! Where threads are many, an exploration is bounded to so many preemptions: a thread may be
//! interrupted at any place, but not more often than that in one run.

mod bell;
mod claims;
mod endings;

use super::*;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::collections::VecDeque;

/// Run a scene of threads that share one thing in every way it can go.
pub(crate) fn explore_shared<T: 'static>(
    preemptions: Option<usize>,
    make: impl Fn() -> T + Sync + Send + 'static,
    scene: impl Fn(Arc<T>) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || scene(Arc::new(make())));
}

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

/// Another process in the same world.
pub(crate) fn process<W: 'static, T: 'static>(
    world: &Arc<W>,
    run: impl FnOnce(&W) -> T + 'static,
) -> thread::JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || run(&world))
}

/// FUTEX_WAIT and FUTEX_WAKE: the kernel compares the word under the lock of its queue, and wakes
/// in the order of arrival.
pub(crate) struct Futex {
    queue: Mutex<Queue>,
    moved: Condvar,
}

#[derive(Default)]
struct Queue {
    arrived: u32,
    asleep: VecDeque<u32>,
}

impl Futex {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(Queue::default()), moved: Condvar::new() }
    }

    pub(crate) fn wait(&self, unchanged: impl Fn() -> bool) {
        let mut queue = self.queue.lock().unwrap();
        if !unchanged() {
            return;
        }
        let me = queue.arrived;
        queue.arrived += 1;
        queue.asleep.push_back(me);
        while queue.asleep.contains(&me) {
            queue = self.moved.wait(queue).unwrap();
        }
    }

    pub(crate) fn wake(&self, count: i32) -> i32 {
        let mut queue = self.queue.lock().unwrap();
        let woken = queue.asleep.len().min(count as usize);
        queue.asleep.drain(..woken);
        self.moved.notify_all();
        woken as i32
    }
}

const CELLS: usize = 3;
const ENTRIES: usize = 4;

/// The part of a table that the protocol is about.
struct World {
    rings: Vec<RingShared>,
    entries: Vec<Vec<AtomicU32>>,
    cells: Vec<AtomicU64>,
    bell: BellShared,
    /// 1: workers leave when there is no more work.
    closing: AtomicU32,
    /// Where those sleep who wait for the bell, and those who wait for cell 0.
    bell_futex: Futex,
    cell_futex: Futex,
}

impl World {
    fn new(rings: usize) -> Self {
        let entries = |_| (0..ENTRIES).map(|_| AtomicU32::new(0)).collect();
        Self {
            rings: (0..rings).map(|_| RingShared::new()).collect(),
            entries: (0..rings).map(entries).collect(),
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            bell: BellShared::new(),
            closing: AtomicU32::new(0),
            bell_futex: Futex::new(),
            cell_futex: Futex::new(),
        }
    }

    fn ring(&self, number: u32) -> Ring<'_> {
        let shared = &self.rings[number as usize];
        Ring { number, shared, entries: &self.entries[number as usize] }
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

    fn claim(&self, who: u32) -> Option<(u32, State)> {
        let state_of = |cell| self.cell(cell);
        let oldest_first = (0..self.rings.len() as u32).rev();
        oldest_first.filter_map(|ring| self.ring(ring).claim(who, state_of)).next()
    }

    fn publish(&self, ring: u32, cell: u32) {
        if self.push(ring, cell) {
            self.ring_bell();
        }
    }

    fn ring_bell(&self) {
        let waiting: u64 = self.rings.iter().map(RingShared::len).sum();
        self.bell.ring(waiting <= 1, 1, |count| self.bell_futex.wake(count));
    }

    fn ring_all(&self) {
        self.bell.ring_all(|count| self.bell_futex.wake(count));
    }

    // As in `Worker`.

    /// Claim one task, see to the rest, and be busy with it for ever. Nothing if it may leave.
    fn work(&self, who: u32, spins: bool) -> Option<u32> {
        loop {
            if let Some((cell, _)) = self.claim(who).or_else(|| self.claim_or_nap(who, spins)) {
                if self.has_work() {
                    self.ring_bell();
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

    fn claim_or_nap(&self, who: u32, spins: bool) -> Option<(u32, State)> {
        if spins && self.bell.start_spinning(who) {
            let seen = self.has_work();
            self.bell.stop_spinning(who);
            if seen {
                return self.claim(who);
            }
        }
        let count = self.bell.prepare();
        if !self.has_work() && !self.leaving() {
            self.bell_futex.wait(|| self.bell.count.load(Ordering::Acquire) == count);
        }
        self.claim(who)
    }

    // As in `Ticket`, for cell 0.

    fn await_end(&self) {
        let state = self.cell(0);
        while !peek(state).ended() {
            if let Some(word) = announce_waiter(state) {
                let low = word as u32;
                self.cell_futex.wait(|| state.load(Ordering::Acquire) as u32 == low);
            }
        }
    }

    fn end(&self, claimed: State, tag: u32) {
        if end(self.cell(0), claimed, tag) {
            self.cell_futex.wake(i32::MAX);
        }
    }
}
