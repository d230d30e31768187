//! A round ends in one way for all who were in it.

use super::word::*;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::testing::loom::{explore_shared, process, Futex};

struct World {
    word: AtomicU64,
    places: Vec<AtomicU64>,
    acted: AtomicU32,
    /// The agent that has died; 0 if nobody has.
    dead: AtomicU32,
    futex: Futex,
}

impl World {
    fn new(parties: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            places: (0..parties).map(|_| AtomicU64::new(0)).collect(),
            acted: AtomicU32::new(0),
            dead: AtomicU32::new(0),
            futex: Futex::new(),
        }
    }

    fn barrier(&self, me: u32) -> Barrier<'_> {
        Barrier { word: &self.word, places: &self.places, me }
    }

    fn sleep(&self, seen: u32) {
        let dead = self.dead.load(Ordering::SeqCst);
        self.sleep_unless_rung(seen, dead);
    }

    /// On the word and on the bell of the dead, as the real sleeper does.
    fn sleep_unless_rung(&self, seen: u32, dead: u32) {
        let same = |word: &AtomicU32, seen| word.load(Ordering::SeqCst) == seen;
        let unchanged = || self.word.load(Ordering::SeqCst) as u32 == seen;
        self.futex.wait(|| unchanged() && same(&self.dead, dead));
    }

    /// As in the Python face; whether the round was passed.
    fn pass(&self, me: u32) -> bool {
        let barrier = self.barrier(me);
        let place = loop {
            match barrier.arrive() {
                Arrival::Signed(place) => break place,
                Arrival::Broken => return false,
                Arrival::Full(seen) => self.sleep(seen),
            }
        };
        self.judge(barrier.is_full(place.round) && barrier.has_lost(place.round, self.is_dead()));
        if barrier.complete(place) {
            self.acted.fetch_add(1, Ordering::SeqCst);
            if barrier.pass(place) {
                self.futex.wake(i32::MAX);
                return true;
            }
        }
        loop {
            let dead = self.dead.load(Ordering::SeqCst);
            self.judge(barrier.has_lost_neighbour(place, self.is_dead()));
            match barrier.standing(place) {
                Round::Passed => return true,
                Round::Broken => return false,
                Round::Open(seen) => self.sleep_unless_rung(seen, dead),
            }
        }
    }

    fn is_dead(&self) -> impl Fn(u32) -> bool + '_ {
        |agent| self.dead.load(Ordering::SeqCst) == agent
    }

    fn judge(&self, lost: bool) {
        if lost {
            self.barrier(0).break_round(0);
            self.futex.wake(i32::MAX);
        }
    }

    fn sign_and_die(&self, me: u32) {
        assert!(matches!(self.barrier(me).arrive(), Arrival::Signed(_)));
        self.dead.store(me, Ordering::SeqCst);
        self.futex.wake(i32::MAX);
    }
}

#[test]
fn three_pass_and_one_acts() {
    explore_shared(
        Some(2),
        || World::new(3),
        |world| {
            let others = [2, 3].map(|me| process(&world, move |world| world.pass(me)));
            assert!(world.pass(1));
            others.into_iter().for_each(|other| assert!(other.join().unwrap()));
            assert_eq!(world.acted.load(Ordering::SeqCst), 1);
        },
    );
}

#[test]
fn two_pass_twice() {
    explore_shared(
        Some(2),
        || World::new(2),
        |world| {
            let other = process(&world, |world| world.pass(2) && world.pass(2));
            assert!(world.pass(1) && world.pass(1));
            assert!(other.join().unwrap());
            assert_eq!(world.acted.load(Ordering::SeqCst), 2);
        },
    );
}

#[test]
fn broken_for_both_or_for_none() {
    explore_shared(
        Some(3),
        || World::new(2),
        |world| {
            let other = process(&world, |world| world.pass(2));
            let breaker = process(&world, |world| {
                let broken = world.barrier(3).break_round(0);
                world.futex.wake(i32::MAX);
                broken
            });
            let mine = world.pass(1);
            assert_eq!(mine, other.join().unwrap());
            assert_eq!(mine, !breaker.join().unwrap());
        },
    );
}

#[test]
fn a_reset_ends_the_round_for_those_who_wait() {
    explore_shared(
        Some(3),
        || World::new(2),
        |world| {
            let place = match world.barrier(1).arrive() {
                Arrival::Signed(place) => place,
                other => panic!("{other:?}"),
            };
            let resetter = process(&world, |world| {
                world.barrier(3).reset();
                world.futex.wake(i32::MAX);
            });
            while let Round::Open(seen) = world.barrier(1).standing(place) {
                world.sleep(seen);
            }
            assert_eq!(world.barrier(1).standing(place), Round::Broken);
            resetter.join().unwrap();
            assert_eq!(world.barrier(1).look().state, FILLING);
        },
    );
}

#[test]
fn a_party_that_died_before_the_last_came_breaks_the_round_for_all() {
    explore_shared(
        Some(2),
        || World::new(3),
        |world| {
            world.sign_and_die(3);
            let other = process(&world, |world| world.pass(2));
            assert!(!world.pass(1));
            assert!(!other.join().unwrap());
            assert_eq!(world.acted.load(Ordering::SeqCst), 0);
        },
    );
}

#[test]
fn a_party_that_dies_meanwhile_breaks_the_round_for_all_or_none() {
    explore_shared(
        Some(2),
        || World::new(2),
        |world| {
            let victim = process(&world, |world| world.sign_and_die(2));
            let passed = world.pass(1);
            victim.join().unwrap();
            assert_eq!(passed, world.barrier(1).look().state == FILLING);
        },
    );
}
