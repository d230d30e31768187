//! Arriving at a barrier, and waiting until its round has ended.

use super::word::{Arrival, Barrier, Place, Round};
use crate::host::{Failure, Host};
use crate::owners::wait_session::{WaitSession, WaitTarget};
use crate::owners::Owners;
use crate::sys::damage::damaged;
use crate::sys::deadline::Deadline;
use crate::sys::futex::{self, LowHalf};
use crate::testing::crash_points::crash_point;

const UNSOUND: &str = "a barrier's round cannot be what its parties have signed for";

/// A barrier's words, and the owners that share it.
pub struct BarrierWords<'a, O: Owners> {
    pub barrier: Barrier<'a>,
    pub owners: &'a O,
    pub target: WaitTarget,
}

impl<O: Owners> BarrierWords<'_, O> {
    fn low(&self) -> LowHalf<'_> {
        LowHalf(self.barrier.word)
    }

    pub fn wake_all(&self) {
        futex::wake(&self.low(), i32::MAX);
    }

    /// Wait for all parties: the number of this one, or nothing if the barrier is broken. `action` is
    /// called by the last to come; its error breaks the round.
    pub fn wait<H: Host>(
        &self,
        host: H,
        deadline: &Deadline,
        action: impl FnOnce() -> Result<(), H::Error>,
    ) -> Result<Option<usize>, H::Error> {
        let Some(place) = self.arrive(host)? else { return Ok(None) };
        if self.complete(place) {
            action().inspect_err(|_| self.break_round(place))?;
            if self.pass(place) {
                return Ok(Some(place.number));
            }
        }
        Ok(self.wait_for_end(host, place, deadline)?.then_some(place.number))
    }

    /// Sign for a round, when there is one to sign for; nothing if the barrier is broken. A timeout
    /// does not count yet, as with `threading.Barrier`: the round that is full is about to end.
    pub fn arrive<H: Host>(&self, host: H) -> Result<Option<Place>, H::Error> {
        let barrier = self.barrier;
        let mut session = WaitSession::new(self.owners, self.target);
        loop {
            match barrier.arrive() {
                Arrival::Signed(place) => {
                    crash_point("barrier.signed");
                    return Ok(Some(place));
                }
                Arrival::Broken => return Ok(None),
                Arrival::Full(seen) => {
                    // The parties inside watch each other; if all of them are dead, the first is.
                    let number = barrier.places.len() - 1;
                    let first = Place { number, round: barrier.look().round };
                    let never = Deadline::never();
                    if session.sleep(host, &self.low(), seen, (0, 0), &never)? {
                        self.check_neighbour(first);
                        if barrier.look().low() == seen {
                            self.check_words(true)?;
                        }
                    }
                }
            }
        }
    }

    /// Break the round if the party next to this place is dead.
    fn check_neighbour(&self, place: Place) {
        if self.barrier.has_lost_neighbour(place, |owner| self.owners.is_dead(owner)) {
            self.break_round(place);
        }
    }

    /// Fail if the words are damaged: then the round may have no end.
    fn check_words(&self, is_full: bool) -> Result<(), Failure> {
        if self.barrier.is_sound(is_full, |owner| self.owners.is_possible(owner)) {
            return Ok(());
        }
        Err(Failure::Io(damaged(UNSOUND)))
    }

    fn break_round(&self, place: Place) {
        self.barrier.break_round(place.round);
        self.wake_all();
    }

    /// Become the party that ends the round, if this one is the last; break it if one that has signed is
    /// dead.
    fn complete(&self, place: Place) -> bool {
        let full = self.barrier.is_full(place.round);
        if full && self.barrier.has_lost(place.round, |owner| self.owners.is_dead(owner)) {
            self.break_round(place);
        }
        let complete = full && self.barrier.complete(place);
        if complete {
            crash_point("barrier.acting");
        }
        complete
    }

    /// End the round; false if it was broken meanwhile.
    fn pass(&self, place: Place) -> bool {
        let passed = self.barrier.pass(place);
        if passed {
            crash_point("barrier.passed");
            self.wake_all();
        }
        passed
    }

    /// Wait until the round has ended; false if it is broken.
    pub fn wait_for_end<H: Host>(
        &self,
        host: H,
        place: Place,
        deadline: &Deadline,
    ) -> Result<bool, H::Error> {
        let mut session = WaitSession::new(self.owners, self.target);
        loop {
            let seen = match self.barrier.standing(place) {
                Round::Passed => return Ok(true),
                Round::Broken => return Ok(false),
                Round::Open(seen) => seen,
                Round::Damaged => return Err(Failure::Io(damaged(UNSOUND)).into()),
            };
            if deadline.is_over() {
                if self.barrier.break_round(place.round) {
                    self.wake_all();
                }
                continue;
            }
            match session.sleep(host, &self.low(), seen, (0, 0), deadline) {
                Ok(true) => {
                    self.check_neighbour(place);
                    self.check_words(false)?;
                }
                Ok(false) => {}
                Err(error) => {
                    // An interrupted party goes as if it had not come, if it still can.
                    self.barrier.withdraw(place);
                    return Err(error);
                }
            }
            crash_point("barrier.woken");
        }
    }
}
