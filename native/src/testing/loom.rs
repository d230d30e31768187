//! Helpers for models: scenes, processes that are threads, and a futex.

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
