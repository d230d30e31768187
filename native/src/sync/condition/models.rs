//! A notification reaches exactly one of the waiters of that moment: the waits that ship, tried by
//! loom.

use super::word::*;
use crate::host::{Host, NoHost};
use crate::owners::wait_session::WaitTarget;
use crate::sys::atomic::{AtomicU32, AtomicU64};
use crate::sys::deadline::Deadline;
use crate::testing::loom::{explore_shared, process, Interrupted, ModelOwners};
use std::cell::Cell;

/// An owner that does not live.
const DEAD: u32 = 9;

struct World {
    tickets: AtomicU32,
    slots: Vec<AtomicU64>,
    owners: ModelOwners,
}

impl World {
    fn new() -> Self {
        Self {
            tickets: AtomicU32::new(0),
            slots: (0..3).map(|_| AtomicU64::new(EMPTY)).collect(),
            owners: ModelOwners::new(),
        }
    }

    fn queue(&self, me: u32) -> WaitQueue<'_> {
        WaitQueue { tickets: &self.tickets, slots: &self.slots, me }
    }

    fn enqueue(&self, me: u32) -> TakenSlot {
        self.queue(me).enqueue(|_| false).expect("a slot")
    }

    fn notify(&self, count: usize) {
        self.queue(7).notify(count);
    }

    fn wait_in<H: Host>(
        &self,
        host: H,
        me: u32,
        taken: TakenSlot,
        deadline: &Deadline,
    ) -> Result<Option<TakenSlot>, H::Error> {
        let target = WaitTarget::new(WaitTarget::CONDITION, 1);
        self.queue(me).wait(host, &self.owners, target, taken, deadline)
    }

    /// Wait until notified.
    fn wait(&self, me: u32, taken: TakenSlot) {
        let granted = self.wait_in(NoHost, me, taken, &Deadline::never()).unwrap();
        self.queue(me).leave(granted.expect("no deadline"));
    }

    fn inherit(&self, me: u32, taken: TakenSlot) -> bool {
        let granted = self.queue(me).inherit(taken, |owner| owner == DEAD, |_| {});
        granted.is_some_and(|slot| {
            self.queue(me).leave(slot);
            true
        })
    }
}

#[test]
fn all_who_wait_are_woken() {
    explore_shared(Some(3), World::new, |world| {
        let slots = [world.enqueue(1), world.enqueue(2)];
        let waiters =
            [1, 2].map(|me| process(&world, move |world| world.wait(me, slots[me as usize - 1])));
        world.notify(1);
        world.notify(usize::MAX);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(world.queue(7).waiting(), 0);
    });
}

#[test]
fn a_notification_that_comes_at_the_deadline_is_not_lost() {
    explore_shared(None, World::new, |world| {
        let (first, second) = (world.enqueue(1), world.enqueue(2));
        let impatient = process(&world, move |world| {
            world.wait_in(NoHost, 1, first, &Deadline::immediate()).unwrap().is_some()
        });
        world.notify(1);
        let notified = impatient.join().unwrap();
        assert!(notified != world.queue(2).is_granted(second), "by the one or by the other");
    });
}

/// The notification may come to a waiter that a signal handler ends: another gets it.
#[test]
fn an_interrupted_waiter_passes_its_notification_on() {
    explore_shared(Some(3), World::new, |world| {
        let slots = [world.enqueue(1), world.enqueue(2)];
        let interrupted = process(&world, move |world| {
            let (signals, never) = (Cell::new(0), Deadline::never());
            let waited = world.wait_in(Interrupted(&signals), 1, slots[0], &never);
            if let Ok(Some(granted)) = waited {
                world.queue(1).pass_notification(granted);
            }
        });
        let waiter = process(&world, move |world| world.wait(2, slots[1]));
        world.notify(1);
        waiter.join().unwrap();
        interrupted.join().unwrap();
        assert_eq!(world.queue(7).waiting(), 0);
    });
}

/// Two notifications for three waiters, the first of them dead: both others get through.
#[test]
fn a_dead_waiters_notification_goes_to_one_other() {
    explore_shared(Some(2), World::new, |world| {
        world.enqueue(DEAD);
        let slots = [world.enqueue(1), world.enqueue(2)];
        world.notify(1);
        let waiters =
            [1, 2].map(|me| process(&world, move |world| world.wait(me, slots[me as usize - 1])));
        world.owners.die(DEAD);
        world.notify(1);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(world.queue(7).waiting(), 0);
    });
}

#[test]
fn what_a_dead_one_was_granted_is_inherited_once() {
    explore_shared(None, World::new, |world| {
        world.enqueue(DEAD);
        let slots = [world.enqueue(1), world.enqueue(2)];
        world.notify(1);
        let other = process(&world, move |world| world.inherit(2, slots[1]));
        let mine = world.inherit(1, slots[0]);
        assert!(mine != other.join().unwrap());
        assert_eq!(world.queue(7).waiting(), 1);
    });
}

#[test]
fn a_waiter_that_came_later_does_not_inherit() {
    explore_shared(None, World::new, |world| {
        world.enqueue(DEAD);
        world.notify(1);
        let late = world.enqueue(1);
        assert!(!world.inherit(1, late));
        assert_eq!(world.queue(7).waiting(), 1);
    });
}
