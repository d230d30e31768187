//! A waiter for an event gets through, however short it was set: the waits that ship, tried by loom.

use super::wait;
use super::word::{clear, is_set};
use crate::host::NoHost;
use crate::owners::wait_session::WaitTarget;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::deadline::Deadline;
use crate::testing::loom::{explore_shared, process, ModelOwners};
use loom::sync::Arc;
use loom::thread;

struct World {
    word: AtomicU32,
    owners: ModelOwners,
}

impl World {
    fn new() -> Self {
        Self { word: AtomicU32::new(0), owners: ModelOwners::new() }
    }

    fn set(&self) {
        wait::set(&self.word);
    }

    fn wait_since(&self, since: u32) {
        let target = WaitTarget::new(WaitTarget::EVENT, 1);
        let never = Deadline::never();
        let waited = wait::wait_since(NoHost, &self.owners, target, &self.word, since, &never);
        assert!(waited.unwrap());
    }
}

fn waiter(world: &Arc<World>) -> thread::JoinHandle<()> {
    // It has begun to wait: what is set from now on is for it.
    process(world, |world| world.wait_since(0))
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
        let setter = process(&world, World::set);
        world.set();
        waiter.join().unwrap();
        setter.join().unwrap();
        assert!(is_set(world.word.load(Ordering::Relaxed)));
    });
}
