//! Permits are never more than there are, and no waiter sleeps while there is one: the waits that
//! ship, tried by loom. A lost wake-up among the living shows as a deadlock.

use super::wait::SemaphoreWords;
use super::word::{MOST, NOBODY};
use crate::host::{Host, NoHost};
use crate::owners::wait_session::{RateLimit, WaitTarget};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::deadline::Deadline;
use crate::testing::loom::{explore_shared, process, Interrupted, ModelOwners};
use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

/// An owner that does not live.
const DEAD: u32 = 9;

struct World {
    word: AtomicU32,
    places: Vec<AtomicU32>,
    inside: AtomicU32,
    owners: ModelOwners,
}

impl World {
    /// With permits that are counted, or with places in which they are signed for.
    fn new(permits: u32, places: usize) -> Self {
        Self {
            word: AtomicU32::new(permits),
            places: (0..places).map(|_| AtomicU32::new(NOBODY)).collect(),
            inside: AtomicU32::new(0),
            owners: ModelOwners::new(),
        }
    }

    /// The semaphore as one process sees it.
    fn with_words<T>(&self, run: impl FnOnce(&SemaphoreWords<'_, ModelOwners>) -> T) -> T {
        let most = if self.places.is_empty() { MOST } else { 0 };
        let (hint, checks) = (&AtomicUsize::new(0), &RateLimit::new());
        let target = WaitTarget::new(WaitTarget::SEMAPHORE, 1);
        let (word, places, owners) = (&self.word, &self.places[..], &self.owners);
        run(&SemaphoreWords { word, places, most, owners, hint, checks, target })
    }

    fn acquire_in<H: Host>(&self, host: H, me: u32) -> Result<bool, H::Error> {
        self.with_words(|words| words.acquire(host, me, &Deadline::never()))
    }

    fn acquire(&self) {
        assert!(self.acquire_in(NoHost, 0).unwrap());
    }

    fn release(&self) {
        assert!(self.with_words(|words| words.release(0)));
    }

    /// Acquire and release, with no more than so many inside.
    fn visit(&self, me: u32, most: u32) {
        self.with_words(|words| {
            assert!(words.acquire(NoHost, me, &Deadline::never()).unwrap());
            assert!(self.inside.fetch_add(1, Ordering::SeqCst) < most);
            self.inside.fetch_sub(1, Ordering::SeqCst);
            assert!(words.release(me));
        });
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
            let others = [2, 3].map(|me| process(&world, move |world| world.visit(me, 1)));
            world.visit(1, 1);
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

/// The only permit was a dead owner's: one waiter takes it over, and both get through.
#[test]
fn the_place_of_a_dead_owner_is_taken_once() {
    explore_shared(
        Some(2),
        || World::new(0, 1),
        |world| {
            world.places[0].store(DEAD, Ordering::Relaxed);
            let other = process(&world, |world| world.visit(2, 1));
            world.owners.die(DEAD);
            world.visit(1, 1);
            other.join().unwrap();
            assert_eq!(world.places[0].load(Ordering::Relaxed), NOBODY);
        },
    );
}

/// The wake-up of a permit may come to a waiter that a signal handler ends: another gets the permit.
#[test]
fn an_interrupted_waiter_passes_its_wake_up_on() {
    explore_shared(
        Some(3),
        || World::new(0, 0),
        |world| {
            let interrupted = process(&world, |world| {
                if world.acquire_in(Interrupted(&Cell::new(0)), 0).is_ok() {
                    world.release();
                }
            });
            let waiter = process(&world, World::acquire);
            world.release();
            waiter.join().unwrap();
            // It may sleep still.
            world.release();
            interrupted.join().unwrap();
        },
    );
}
