//! Every interleaving of a few processes on one lock, tried by loom.
//!
//! The word and its futex are modelled as the code has them; the loop of `Lock::wait` is
//! restated in [`World::acquire`], in a few lines. A slice that ends is modelled as what it is for:
//! a sleeper may be woken by nobody only after somebody has died ([`World::die`]), so that a wake-up
//! which is lost among the living shows as a deadlock. Where threads are many, an exploration is
//! bounded to so many preemptions.

use super::word::*;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::testing::loom::process;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use std::collections::VecDeque;

/// Run a scene in every way it can go; its world is new each time.
fn explore(preemptions: Option<usize>, scene: impl Fn(Arc<World>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || scene(Arc::new(World::new())));
}

/// FUTEX_WAIT and FUTEX_WAKE: the kernel compares the word under the lock of its queue, and wakes
/// in the order of arrival.
#[derive(Default)]
struct Queue {
    arrived: u32,
    asleep: VecDeque<u32>,
}

struct World {
    word: AtomicU32,
    queue: Mutex<Queue>,
    moved: Condvar,
    /// Agents that are dead, a bit for each.
    dead: AtomicU32,
    /// How many deaths there were, and so how many ends of slices a sleeper may see.
    deaths: AtomicU32,
    /// What the lock protects: loom reports whoever touches it beside the owner.
    protected: UnsafeCell<u32>,
}

/// How far somebody comes before it dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It holds the lock.
    Held,
    /// It has released it, and not woken anybody.
    Released,
}

impl World {
    fn new() -> Self {
        Self {
            word: AtomicU32::new(FREE),
            queue: Mutex::new(Queue::default()),
            moved: Condvar::new(),
            dead: AtomicU32::new(0),
            deaths: AtomicU32::new(0),
            protected: UnsafeCell::new(0),
        }
    }

    fn is_dead(&self, agent: u32) -> bool {
        self.dead.load(Ordering::Acquire) & 1 << agent != 0
    }

    /// Sleep while the word is `seen`, or until somebody dies beyond the `known` deaths.
    fn sleep(&self, seen: u32, known: u32) {
        let mut queue = self.queue.lock().unwrap();
        let unchanged = self.word.load(Ordering::Acquire) == seen;
        if !unchanged || self.deaths.load(Ordering::Acquire) != known {
            return;
        }
        let me = queue.arrived;
        queue.arrived += 1;
        queue.asleep.push_back(me);
        while queue.asleep.contains(&me) {
            queue = self.moved.wait(queue).unwrap();
        }
    }

    fn wake(&self, count: usize) {
        let mut queue = self.queue.lock().unwrap();
        let woken = queue.asleep.len().min(count);
        queue.asleep.drain(..woken);
        self.moved.notify_all();
    }

    /// `me` is dead, and from now on known to be: every slice ends, some time later.
    fn die(&self, me: u32) {
        self.dead.fetch_or(1 << me, Ordering::AcqRel);
        self.deaths.fetch_add(1, Ordering::AcqRel);
        self.wake(usize::MAX);
    }

    // As in `Lock`.

    /// Take it; from whom, if its owner was dead. Nothing if it is not to be taken from the dead.
    fn acquire(&self, me: u32, may_inherit: bool) -> Option<u32> {
        if try_take(&self.word, me) {
            return Some(FREE);
        }
        loop {
            let known = self.deaths.load(Ordering::Acquire);
            match look(&self.word, me, true, may_inherit, |agent| self.is_dead(agent)) {
                Look::Taken => return Some(FREE),
                Look::Inherited(dead) => return Some(dead),
                Look::Orphaned(_) => return None,
                Look::Held(seen) => self.sleep(seen, known),
            }
        }
    }

    fn release(&self) {
        let was = leave(&self.word);
        assert_ne!(was, FREE, "released what nobody held");
        if was & WAITERS != 0 {
            self.wake(1);
        }
    }

    fn touch(&self) -> u32 {
        // SAFETY: loom checks that nobody else does.
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
        if until == Until::Released {
            leave(&self.word);
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
        assert_eq!(owner(world.word.load(Ordering::Relaxed)), FREE);
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

/// Who only tries is in nobody's way: a sleeper that it has overtaken is still woken.
#[test]
fn an_attempt_that_overtakes_strands_no_sleeper() {
    explore(Some(3), |world| {
        let sleeper = process(&world, |world| world.turn(2));
        let attempt = process(&world, |world| {
            if try_take(&world.word, 3) {
                world.touch();
                world.release();
            }
        });
        world.turn(1);
        assert_eq!(sleeper.join().unwrap(), FREE);
        attempt.join().unwrap();
    });
}

/// Dead with the lock: of two who want it one inherits, and only one.
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

/// Dead between the release and the wake: nobody inherits, and nobody sleeps on.
#[test]
fn who_dies_before_it_wakes_strands_nobody() {
    explore(Some(3), |world| {
        let others = [2, 3].map(|me| process(&world, move |world| world.turn(me)));
        world.turn_until(1, Until::Released);
        assert_eq!(others.map(|other| other.join().unwrap()), [FREE, FREE]);
    });
}

/// The one that was woken, or was about to sleep, dies: its call reaches another.
#[test]
fn a_dead_waiter_strands_nobody() {
    explore(Some(3), |world| {
        let victim = process(&world, |world| {
            let known = world.deaths.load(Ordering::Acquire);
            match look(&world.word, 2, true, true, |agent| world.is_dead(agent)) {
                Look::Held(seen) => world.sleep(seen, known),
                Look::Taken => world.release(),
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

/// An heir that dies as well leaves the lock to the next, who learns of the heir.
#[test]
fn an_heir_that_dies_is_inherited_in_turn() {
    explore(Some(3), |world| {
        world.turn_until(1, Until::Held);
        let heir = process(&world, |world| world.turn_until(2, Until::Held));
        let last = world.turn(3);
        let from = heir.join().unwrap();
        let again = world.acquire(3, true);
        // Whoever came first has it from 1, the other from nobody or from the dead heir.
        match (from, last) {
            (1, 2) => assert_eq!(again, Some(FREE)),
            (FREE, 1) => assert_eq!(again, Some(2)),
            other => panic!("{other:?}"),
        }
    });
}

/// Given back to the dead, by one that had to refuse: the next one is told, whoever it is.
#[test]
fn what_is_disowned_keeps_the_alarm_on() {
    explore(Some(3), |world| {
        world.turn_until(1, Until::Held);
        let other = process(&world, |world| world.turn(3));
        let mine = world.acquire(2, true);
        if mine == Some(1) {
            disown(&world.word, 2, 1);
            world.wake(1);
            assert_eq!(other.join().unwrap(), 1, "it is told as well");
        } else {
            assert_eq!((mine, other.join().unwrap()), (Some(FREE), 1));
            world.release();
        }
        assert_eq!(owner(world.word.load(Ordering::Relaxed)), FREE);
    });
}

/// Who may not inherit is refused as often as it asks, and changes nothing for who may.
#[test]
fn a_refusal_leaves_the_lock_to_who_recovers_it() {
    explore(None, |world| {
        world.turn_until(1, Until::Held);
        let refused = process(&world, |world| world.acquire(2, false));
        assert_eq!(world.acquire(3, true), Some(1));
        world.release();
        match refused.join().unwrap() {
            None => assert_eq!(world.word.load(Ordering::Relaxed), FREE),
            from => assert_eq!((from, owner(world.word.load(Ordering::Relaxed))), (Some(FREE), 2)),
        }
    });
}
