//! Helpers for models: scenes, processes that are threads, and a futex.

use crate::host::{Failure, Host};
use crate::owners::wait_graph::{WaitRecord, WaitRecordShared};
use crate::owners::Owners;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::futex;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::cell::Cell;
use std::collections::VecDeque;

/// Run a scene of threads that share one thing in every way it can go.
pub(crate) fn explore_shared<T: 'static>(
    preemptions: Option<usize>,
    make: impl Fn() -> T + Sync + Send + 'static,
    scene: impl Fn(Arc<T>) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        futex::model::boot();
        scene(Arc::new(make()));
    });
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

/// A program in which a signal arrives while it sleeps for the first time. Counts the checks.
#[derive(Clone, Copy)]
pub(crate) struct Interrupted<'a>(pub(crate) &'a Cell<u32>);

impl Host for Interrupted<'_> {
    type Error = Failure;

    fn blocking<T>(self, run: impl FnOnce() -> T) -> T {
        run()
    }

    fn check_signals(self) -> Result<(), Failure> {
        self.0.set(self.0.get() + 1);
        // Before the sleep there was none, after it there is.
        if self.0.get() == 2 {
            return Err(Failure::ForkedWhileWaiting);
        }
        Ok(())
    }
}

/// The registry of owners: which are dead, a bit for each.
pub(crate) struct ModelOwners {
    dead: AtomicU32,
    deaths: AtomicU32,
}

impl ModelOwners {
    pub(crate) fn new() -> Self {
        Self { dead: AtomicU32::new(0), deaths: AtomicU32::new(0) }
    }

    /// This owner is dead. No bell rings: waiters find out when their intervals end.
    pub(crate) fn die(&self, owner: u32) {
        self.dead.fetch_or(1 << owner, Ordering::AcqRel);
        futex::model::end_intervals();
    }
}

impl Owners for ModelOwners {
    fn is_dead(&self, owner: u32) -> bool {
        self.dead.load(Ordering::Acquire) & 1 << owner != 0
    }

    fn deaths(&self) -> &AtomicU32 {
        &self.deaths
    }

    fn take_wait_record(&self) -> Option<&WaitRecordShared> {
        None
    }

    fn waits(&self) -> Vec<WaitRecord> {
        Vec::new()
    }

    fn pid(&self, owner: u32) -> u32 {
        owner
    }
}
