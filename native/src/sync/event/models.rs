//! Who waits for an event gets through, however short it was set.

use super::word::*;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::testing::loom::{explore_shared, Futex};
use loom::sync::Arc;
use loom::thread;

struct World {
    word: AtomicU32,
    futex: Futex,
}

impl World {
    fn new() -> Self {
        Self { word: AtomicU32::new(0), futex: Futex::new() }
    }

    // As in the Python face.

    fn set(&self) {
        if set(&self.word) {
            self.futex.wake(i32::MAX);
        }
    }

    fn wait_since(&self, since: u32) {
        while let Err(seen) = look(&self.word, since) {
            self.futex.wait(|| self.word.load(Ordering::SeqCst) == seen);
        }
    }
}

fn waiter(world: &Arc<World>) -> thread::JoinHandle<()> {
    let world = world.clone();
    // It has begun to wait: what is set from now on is for it.
    thread::spawn(move || world.wait_since(0))
}

#[test]
fn two_waiters() {
    explore_shared(Some(3), World::new, |world| {
        let waiters = [waiter(&world), waiter(&world)];
        world.set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn set_and_cleared_at_once() {
    explore_shared(Some(3), World::new, |world| {
        let waiters = [waiter(&world), waiter(&world)];
        world.set();
        clear(&world.word);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(!is_set(world.word.load(Ordering::Relaxed)));
    });
}

#[test]
fn two_set_it() {
    explore_shared(Some(3), World::new, |world| {
        let waiter = waiter(&world);
        let other = world.clone();
        let setter = thread::spawn(move || other.set());
        world.set();
        waiter.join().unwrap();
        setter.join().unwrap();
        assert!(is_set(world.word.load(Ordering::Relaxed)));
    });
}
