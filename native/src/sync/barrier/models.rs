//! A round ends in one way for all its parties: the waits that ship, tried by loom.

use super::wait::BarrierWords;
use super::word::*;
use crate::host::NoHost;
use crate::owners::wait_session::WaitTarget;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::deadline::Deadline;
use crate::testing::loom::{explore_shared, process, ModelOwners};

struct World {
    word: AtomicU64,
    places: Vec<AtomicU64>,
    acted: AtomicU32,
    owners: ModelOwners,
}

impl World {
    fn new(parties: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            places: (0..parties).map(|_| AtomicU64::new(0)).collect(),
            acted: AtomicU32::new(0),
            owners: ModelOwners::new(),
        }
    }

    fn words(&self, me: u32) -> BarrierWords<'_, ModelOwners> {
        let barrier = Barrier { word: &self.word, places: &self.places, me };
        let target = WaitTarget::new(WaitTarget::BARRIER, 1);
        BarrierWords { barrier, owners: &self.owners, target }
    }

    /// Whether the round was passed.
    fn pass(&self, me: u32) -> bool {
        let act = || {
            self.acted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        self.words(me).wait(NoHost, &Deadline::never(), act).unwrap().is_some()
    }

    fn break_round(&self, me: u32) -> bool {
        let words = self.words(me);
        let broken = words.barrier.break_round(0);
        words.wake_all();
        broken
    }

    fn sign_and_die(&self, me: u32) {
        assert!(matches!(self.words(me).barrier.arrive(), Arrival::Signed(_)));
        self.owners.die(me);
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
            let breaker = process(&world, |world| world.break_round(3));
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
            let words = world.words(1);
            let place = words.arrive(NoHost).unwrap().expect("not broken");
            let resetter = process(&world, |world| {
                let words = world.words(3);
                words.barrier.reset();
                words.wake_all();
            });
            assert!(!words.wait_for_end(NoHost, place, &Deadline::never()).unwrap());
            resetter.join().unwrap();
            assert_eq!(words.barrier.look().state, FILLING);
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
            assert_eq!(passed, world.words(1).barrier.look().state == FILLING);
        },
    );
}
