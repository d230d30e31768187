//! Every interleaving of a few processes on one lock, tried by loom.
//!
//! What is explored is the code itself: the word, the wait for it (`wait`), the session of a wait
//! and its sleep on two words. Only the kernel and the registry of owners are models. A sleeper may
//! wake without a waker only after a process has died ([`World::die`]), so that a wake-up which is
//! lost among the living shows as a deadlock. Where threads are many, an exploration is bounded to
//! so many preemptions.

use super::wait::{Acquired, LockWords, Wait};
use super::word::*;
use crate::host::{Host, NoHost};
use crate::owners::wait_session::{RateLimit, WaitTarget};
use crate::owners::Owners;
use crate::sys::atomic::Ordering;
use crate::sys::deadline::Deadline;
use crate::sys::futex;
use crate::testing::loom::{explore_shared, process, Interrupted, ModelOwners};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::cell::Cell;
use std::time::Duration;

/// Run a scene in every way it can go; its world is new each time.
fn explore(preemptions: Option<usize>, scene: impl Fn(Arc<World>) + Sync + Send + 'static) {
    explore_shared(preemptions, World::new, scene);
}

struct World {
    lock: LockShared,
    owners: ModelOwners,
    /// What the lock protects: loom reports every access beside the owner's.
    protected: UnsafeCell<u32>,
}

/// How far an owner comes before it dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It holds the lock.
    Held,
    /// It has released it, and woken no waiter.
    Released,
    /// It has offered it, and woken no waiter.
    Offered,
}

impl World {
    fn new() -> Self {
        Self { lock: LockShared::new(), owners: ModelOwners::new(), protected: UnsafeCell::new(0) }
    }

    fn words(&self) -> LockWords<'_, ModelOwners> {
        LockWords { shared: &self.lock, owners: &self.owners }
    }

    /// `me` is dead, and from now on known to be: every interval ends, some time later.
    fn die(&self, me: u32) {
        self.owners.die(me);
    }

    fn acquire_in<H: Host>(
        &self,
        host: H,
        me: u32,
        may_inherit: bool,
    ) -> Result<Acquired, H::Error> {
        if self.words().try_acquire(me) {
            return Ok(Acquired::Clean);
        }
        let (deadline, checks) = (Deadline::never(), RateLimit::new());
        let target = WaitTarget::new(WaitTarget::LOCK, 1);
        let wait = Wait { deadline: &deadline, may_inherit, target, checks: &checks };
        self.words().acquire_slow(host, me, &wait)
    }

    /// Take it; from which owner, if that was dead. Nothing if it is not to be taken from the dead.
    fn acquire(&self, me: u32, may_inherit: bool) -> Option<u32> {
        match self.acquire_in(NoHost, me, may_inherit).expect("no signals") {
            Acquired::Clean => Some(FREE),
            Acquired::FromDeadOwner(dead) => Some(dead),
            Acquired::OwnerDead(_) => None,
            Acquired::TimedOut => unreachable!("no deadline"),
        }
    }

    fn release(&self) {
        assert!(self.words().release(), "released what nobody held");
    }

    fn owner(&self) -> u32 {
        owner(self.lock.word.load(Ordering::Relaxed))
    }

    fn touch(&self) -> u32 {
        // SAFETY: loom checks that no other thread does.
        self.protected.with_mut(|value| unsafe {
            *value += 1;
            *value
        })
    }

    fn turn(&self, me: u32) -> u32 {
        let from = self.acquire(me, true).expect("may inherit");
        self.touch();
        self.release();
        from
    }

    fn turn_until(&self, me: u32, until: Until) -> u32 {
        let from = self.acquire(me, true).expect("may inherit");
        self.touch();
        match until {
            Until::Held => (),
            Until::Released => drop(release(&self.lock.word)),
            Until::Offered => drop(offer(&self.lock.word)),
        }
        self.die(me);
        from
    }
}

/// Three take turns: one at a time, each sees what the one before did, and none sleeps for ever.
#[test]
fn three_exclude_each_other_and_all_have_their_turn() {
    explore(Some(3), |world| {
        let others = [2, 3].map(|me| process(&world, move |world| world.turn(me)));
        assert_eq!(world.turn(1), FREE);
        assert_eq!(others.map(|other| other.join().unwrap()), [FREE, FREE]);
        assert_eq!(world.touch(), 4);
        assert_eq!(world.owner(), FREE);
    });
}

#[test]
fn two_take_two_turns_each() {
    explore(Some(4), |world| {
        let other = process(&world, |world| [world.turn(2), world.turn(2)]);
        world.turn(1);
        world.turn(1);
        other.join().unwrap();
        assert_eq!(world.touch(), 5);
    });
}

/// A mere attempt is in no waiter's way: a sleeper that it has overtaken is still woken.
#[test]
fn an_attempt_that_overtakes_strands_no_sleeper() {
    explore(Some(3), |world| {
        let sleeper = process(&world, |world| world.turn(2));
        let attempt = process(&world, |world| {
            if world.words().try_acquire(3) {
                world.touch();
                world.release();
            }
        });
        world.turn(1);
        assert_eq!(sleeper.join().unwrap(), FREE);
        attempt.join().unwrap();
    });
}

/// Dead with the lock: of two waiters one inherits, and only one.
#[test]
fn a_dead_owner_is_inherited_exactly_once() {
    explore(Some(3), |world| {
        let heirs = [2, 3].map(|me| process(&world, move |world| world.turn(me)));
        let first = world.turn_until(1, Until::Held);
        let found = heirs.map(|heir| heir.join().unwrap());
        assert_eq!(first, FREE);
        // Both may have had their turn before.
        let last = world.acquire(4, true).expect("may inherit");
        let inherited = found.iter().chain([&last]).filter(|&&from| from == 1).count();
        assert_eq!(inherited, 1);
        assert_eq!(world.touch(), 4);
    });
}

/// Dead between the release and the wake: no waiter inherits, and none sleeps on.
#[test]
fn who_dies_before_it_wakes_strands_nobody() {
    explore(Some(3), |world| {
        let others = [2, 3].map(|me| process(&world, move |world| world.turn(me)));
        world.turn_until(1, Until::Released);
        assert_eq!(others.map(|other| other.join().unwrap()), [FREE, FREE]);
    });
}

/// Dead between an offer and the wake: whoever waits takes it, and a newcomer waits a moment at most.
#[test]
fn who_dies_after_an_offer_strands_nobody() {
    explore(Some(3), |world| {
        let others = [2, 3].map(|me| process(&world, move |world| world.turn(me)));
        world.turn_until(1, Until::Offered);
        assert_eq!(others.map(|other| other.join().unwrap()), [FREE, FREE]);
    });
}

/// Nobody waits any more: the offer is withdrawn, and no newcomer sleeps on it.
#[test]
fn an_offer_to_nobody_keeps_nobody() {
    explore(Some(4), |world| {
        world.lock.word.store(1 | WAITERS, Ordering::Relaxed);
        let newcomers = [2, 3].map(|me| process(&world, move |world| world.turn(me)));
        world.release();
        assert_eq!(newcomers.map(|other| other.join().unwrap()), [FREE, FREE]);
        assert_eq!(world.touch(), 3);
        assert_eq!(world.owner(), FREE);
    });
}

/// An attempt that does not wait takes what is on offer: nobody may be there to accept it.
#[test]
fn an_attempt_without_waiting_accepts_an_offer() {
    explore(None, |world| {
        world.lock.word.store(OFFERED, Ordering::Relaxed);
        assert!(!world.words().try_acquire(1));
        let (deadline, checks) = (Deadline::immediate(), RateLimit::new());
        let target = WaitTarget::new(WaitTarget::LOCK, 1);
        let wait = Wait { deadline: &deadline, may_inherit: true, target, checks: &checks };
        let how = world.words().acquire_slow(NoHost, 1, &wait).expect("no signals");
        assert_eq!((how, world.owner()), (Acquired::Clean, 1));
    });
}

/// The one that was woken, or was about to sleep, dies: its call reaches another.
#[test]
fn a_dead_waiter_strands_nobody() {
    explore(Some(3), |world| {
        let victim = process(&world, |world| {
            // It comes no further than to the end of its first sleep.
            let (word, deaths) = (&world.lock.word, world.owners.deaths());
            match acquire_or_mark(word, 2, true, true, true, |owner| world.owners.is_dead(owner)) {
                Attempt::Held(seen) => {
                    futex::wait_either((word, seen), (deaths, 0), Duration::MAX);
                }
                Attempt::Acquired => world.release(),
                other => unreachable!("{other:?}"),
            }
            world.die(2);
        });
        let waiter = process(&world, |world| world.turn(3));
        assert_eq!(world.turn(1), FREE);
        assert_eq!(waiter.join().unwrap(), FREE);
        victim.join().unwrap();
    });
}

/// An exception ends the wait of the woken one: its call reaches another, with no process dead.
#[test]
fn an_interrupted_waiter_strands_nobody() {
    explore(Some(3), |world| {
        let interrupted = process(&world, |world| {
            let signals = Cell::new(0);
            match world.acquire_in(Interrupted(&signals), 2, true) {
                Ok(_) => world.release(),
                Err(_) => assert_eq!(signals.get(), 2),
            }
        });
        let waiter = process(&world, |world| world.turn(3));
        assert_eq!(world.turn(1), FREE);
        assert_eq!(waiter.join().unwrap(), FREE);
        interrupted.join().unwrap();
    });
}

/// An heir that dies as well leaves the lock to the next, which learns of the heir.
#[test]
fn an_heir_that_dies_is_inherited_in_turn() {
    explore(Some(3), |world| {
        world.turn_until(1, Until::Held);
        let heir = process(&world, |world| world.turn_until(2, Until::Held));
        let last = world.turn(3);
        let from = heir.join().unwrap();
        let again = world.acquire(3, true);
        // The first to come has it from 1, the other from no owner or from the dead heir.
        match (from, last) {
            (1, 2) => assert_eq!(again, Some(FREE)),
            (FREE, 1) => assert_eq!(again, Some(2)),
            other => panic!("{other:?}"),
        }
    });
}

/// Given back to the dead, by one that had to refuse: the next one is told, whichever it is.
#[test]
fn what_is_disowned_keeps_the_alarm_on() {
    explore(Some(3), |world| {
        world.turn_until(1, Until::Held);
        let other = process(&world, |world| world.turn(3));
        let mine = world.acquire(2, true);
        if mine == Some(1) {
            world.words().return_to_dead_owner(2, 1);
            // Its wake-up says nothing of deaths: the next one looks when its interval is over.
            futex::model::end_intervals();
            assert_eq!(other.join().unwrap(), 1, "it is told as well");
        } else {
            assert_eq!((mine, other.join().unwrap()), (Some(FREE), 1));
            world.release();
        }
        assert_eq!(world.owner(), FREE);
    });
}

/// A process that may not inherit is refused each time, and changes nothing for one that may.
#[test]
fn a_refusal_leaves_the_lock_to_who_recovers_it() {
    explore(Some(4), |world| {
        world.turn_until(1, Until::Held);
        let refused = process(&world, |world| world.acquire(2, false));
        assert_eq!(world.acquire(3, true), Some(1));
        world.release();
        match refused.join().unwrap() {
            None => assert_eq!(world.lock.word.load(Ordering::Relaxed), FREE),
            from => assert_eq!((from, world.owner()), (Some(FREE), 2)),
        }
    });
}
