//! Permits are never more than there are, and nobody sleeps while there is one.
//!
//! Nobody dies here, so there are no slices: a lost wake-up shows as a deadlock.

use super::word::*;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::testing::loom::{explore_shared, process, Futex};

struct World {
    word: AtomicU32,
    places: Vec<AtomicU32>,
    inside: AtomicU32,
    futex: Futex,
}

impl World {
    fn new(permits: u32, places: usize) -> Self {
        Self {
            word: AtomicU32::new(permits),
            places: (0..places).map(|_| AtomicU32::new(NOBODY)).collect(),
            inside: AtomicU32::new(0),
            futex: Futex::new(),
        }
    }

    fn sleep(&self, seen: u32) {
        self.futex.wait(|| self.word.load(Ordering::SeqCst) == seen);
    }

    // As in the Python face, with the permits counted.

    fn acquire(&self) {
        while let Err(seen) = take(&self.word) {
            self.sleep(seen);
        }
    }

    fn release(&self) {
        assert!(give(&self.word, MOST, || self.futex.wake(1)));
    }

    // The same, with the permits signed for.

    fn sign(&self, me: u32) -> usize {
        let alive = |_| false;
        loop {
            if let Some(place) = sign(&self.places, 0, me, alive) {
                return place;
            }
            let seen = announce(&self.word);
            if let Some(place) = sign(&self.places, 0, me, alive) {
                return place;
            }
            self.sleep(seen);
        }
    }

    fn unsign(&self, me: u32, place: usize) {
        assert!(unsign(&self.word, &self.places, place, me));
        changed(&self.word, || self.futex.wake(1));
    }

    fn visit(&self, me: u32, most: u32) {
        let place = self.sign(me);
        assert!(self.inside.fetch_add(1, Ordering::SeqCst) < most);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        self.unsign(me, place);
    }
}

#[test]
fn as_many_as_are_given_get_through() {
    explore_shared(
        Some(3),
        || World::new(0, 0),
        |world| {
            let others = [process(&world, World::acquire), process(&world, World::acquire)];
            world.release();
            world.release();
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(world.word.load(Ordering::Relaxed) & MOST, 0);
        },
    );
}

#[test]
fn one_permit_goes_round() {
    explore_shared(
        Some(3),
        || World::new(1, 0),
        |world| {
            let round = |world: &World| {
                world.acquire();
                world.release();
            };
            let others = [process(&world, round), process(&world, round)];
            round(&world);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(world.word.load(Ordering::Relaxed) & MOST, 1);
        },
    );
}

#[test]
fn one_place_goes_round() {
    explore_shared(
        Some(2),
        || World::new(0, 1),
        |world| {
            let others = [2, 3].map(|me| process(&world, move |world| world.visit(me, 1)));
            world.visit(1, 1);
            others.into_iter().for_each(|other| other.join().unwrap());
        },
    );
}

#[test]
fn two_places_for_three() {
    explore_shared(
        Some(2),
        || World::new(0, 2),
        |world| {
            let others = [2, 3].map(|me| process(&world, move |world| world.visit(me, 2)));
            world.visit(1, 2);
            others.into_iter().for_each(|other| other.join().unwrap());
        },
    );
}

#[test]
fn the_place_of_a_dead_one_is_taken_once() {
    explore_shared(
        None,
        || World::new(0, 1),
        |world| {
            world.places[0].store(9, Ordering::Relaxed);
            let heir =
                |me| move |world: &World| sign(&world.places, 0, me, |agent| agent == 9).is_some();
            let other = process(&world, heir(2));
            let mine = heir(1)(&world);
            assert!(mine != other.join().unwrap());
        },
    );
}
