//! A notification reaches exactly one of those who waited when it was given.

use super::word::*;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::testing::loom::{explore_shared, process, Futex};

const DEAD: u32 = 99;

struct World {
    tickets: AtomicU32,
    seats: Vec<AtomicU64>,
    futexes: Vec<Futex>,
}

impl World {
    fn new() -> Self {
        Self {
            tickets: AtomicU32::new(0),
            seats: (0..3).map(|_| AtomicU64::new(EMPTY)).collect(),
            futexes: (0..3).map(|_| Futex::new()).collect(),
        }
    }

    fn row(&self, me: u32) -> Row<'_> {
        Row { tickets: &self.tickets, seats: &self.seats, me }
    }

    fn sit(&self, me: u32) -> Taken {
        self.row(me).sit(|_| false).expect("a seat")
    }

    fn notify(&self, count: usize) -> usize {
        self.row(7).grant(count, |seat| {
            self.futexes[seat].wake(1);
        })
    }

    fn wait(&self, me: u32, taken: Taken) {
        while !self.row(me).is_granted(taken) {
            let seat = &self.seats[taken.number];
            self.futexes[taken.number]
                .wait(|| seat.load(Ordering::SeqCst) as u32 == taken.expected());
        }
        self.row(me).leave(taken);
    }

    fn inherit(&self, me: u32, taken: Taken) -> bool {
        let wake = |seat: usize| {
            self.futexes[seat].wake(1);
        };
        let granted = self.row(me).inherit(taken, |agent| agent == DEAD, wake);
        granted.is_some_and(|seat| {
            self.row(me).leave(seat);
            true
        })
    }
}

#[test]
fn all_who_wait_are_woken() {
    explore_shared(Some(3), World::new, |world| {
        let seats = [world.sit(1), world.sit(2)];
        let waiters =
            [1, 2].map(|me| process(&world, move |world| world.wait(me, seats[me as usize - 1])));
        assert_eq!(world.notify(1) + world.notify(usize::MAX), 2);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(world.row(7).waiting(), 0);
    });
}

#[test]
fn a_notification_that_comes_as_one_gives_up_is_not_lost() {
    explore_shared(None, World::new, |world| {
        let (first, second) = (world.sit(1), world.sit(2));
        let impatient = process(&world, move |world| !world.row(1).give_up(first));
        assert_eq!(world.notify(1), 1);
        let taken = impatient.join().unwrap();
        assert!(taken != world.row(2).is_granted(second), "by the one or by the other");
    });
}

#[test]
fn what_a_dead_one_was_granted_goes_to_one_other() {
    explore_shared(None, World::new, |world| {
        world.sit(DEAD);
        let seats = [world.sit(1), world.sit(2)];
        assert_eq!(world.notify(1), 1);
        let other = process(&world, move |world| world.inherit(2, seats[1]));
        let mine = world.inherit(1, seats[0]);
        assert!(mine != other.join().unwrap());
        assert_eq!(world.row(7).waiting(), 1);
    });
}

#[test]
fn who_inherits_and_is_notified_as_well_hands_one_on() {
    explore_shared(Some(3), World::new, |world| {
        world.sit(DEAD);
        let seats = [world.sit(1), world.sit(2)];
        assert_eq!(world.notify(1), 1);
        let other = process(&world, move |world| world.inherit(1, seats[0]));
        assert_eq!(world.notify(1), 1);
        let inherited = other.join().unwrap();
        let through = [1, 2].map(|me| world.row(me).is_granted(seats[me as usize - 1]));
        let passed = usize::from(inherited || through[0]) + usize::from(through[1]);
        // Two notifications for three, one of whom is dead: both survivors are through, unless the
        // first has taken its own before it saw the dead one's.
        let left = world.inherit(2, seats[1]);
        assert_eq!(passed + usize::from(left), 2);
    });
}

#[test]
fn who_came_later_does_not_inherit() {
    explore_shared(None, World::new, |world| {
        world.sit(DEAD);
        assert_eq!(world.notify(1), 1);
        let late = world.sit(1);
        assert!(!world.inherit(1, late));
        assert_eq!(world.row(7).waiting(), 1);
    });
}
