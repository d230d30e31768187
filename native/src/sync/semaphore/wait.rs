//! Acquiring and releasing permits, and waiting for one.

use super::word::{self, HANDED, NOBODY};
use crate::host::{Failure, Host};
use crate::owners::wait_session::{RateLimit, WaitSession, WaitTarget};
use crate::owners::Owners;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::damage::damaged;
use crate::sys::deadline::Deadline;
use crate::sys::futex;
use crate::testing::crash_points::crash_point;
use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

/// A semaphore's words, and the owners that share it.
pub struct SemaphoreWords<'a, O: Owners> {
    pub word: &'a AtomicU32,
    /// A place for each permit, if permits are signed for.
    pub places: &'a [AtomicU32],
    /// The most permits of one whose permits are counted; 0 if they are signed for.
    pub most: u32,
    pub owners: &'a O,
    /// Where this process found a place last.
    pub hint: &'a AtomicUsize,
    /// Of attempts that do not wait: how often they check whether holders are alive.
    pub checks: &'a RateLimit,
    pub target: WaitTarget,
}

impl<O: Owners> SemaphoreWords<'_, O> {
    #[inline]
    pub fn is_counted(&self) -> bool {
        self.most > 0
    }

    /// Take a permit if there is one.
    #[inline]
    pub fn try_acquire(&self, me: u32, check_holders: bool) -> bool {
        if self.is_counted() {
            return word::try_take(self.word);
        }
        let on_loan = || self.word.load(Ordering::SeqCst) & HANDED == 0;
        // Few processes hold many permits: each is asked about once.
        let alive = Cell::new(NOBODY);
        let is_dead = |owner| {
            if !check_holders || owner == alive.get() || !on_loan() {
                return false;
            }
            let dead = self.owners.is_dead(owner);
            if !dead {
                alive.set(owner);
            }
            dead
        };
        let hint = self.hint.load(Ordering::Relaxed);
        let found = word::sign(self.places, hint, me, is_dead);
        if let Some(place) = found {
            crash_point("semaphore.signed");
            self.hint.store(place, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Announce a sleeper; nothing if there is a permit after all, and it is taken.
    fn announce(&self, me: u32, check_holders: bool) -> Option<u32> {
        if self.is_counted() {
            return word::take(self.word).err();
        }
        let seen = word::announce(self.word);
        (!self.try_acquire(me, check_holders)).then_some(seen)
    }

    /// Take a permit, waiting until the deadline; false if none could be had.
    #[inline]
    pub fn acquire<H: Host>(
        &self,
        host: H,
        me: u32,
        deadline: &Deadline,
    ) -> Result<bool, H::Error> {
        if self.try_acquire(me, false) {
            return Ok(true);
        }
        self.acquire_slow(host, me, deadline)
    }

    #[cold]
    fn acquire_slow<H: Host>(
        &self,
        host: H,
        me: u32,
        deadline: &Deadline,
    ) -> Result<bool, H::Error> {
        let mut session = WaitSession::new(self.owners, self.target);
        let mut check_holders = false;
        loop {
            if deadline.is_over() {
                return Ok(self.try_acquire(me, self.checks.allows()));
            }
            let Some(seen) = self.announce(me, check_holders) else { return Ok(true) };
            check_holders = session.sleep(host, self.word, seen, (0, 0), deadline)?;
            if check_holders {
                self.check_places()?;
            }
        }
    }

    /// Fail if a permit is held by no process that can be: it never comes back.
    fn check_places(&self) -> Result<(), Failure> {
        let is_damaged = |&owner: &u32| owner != NOBODY && !self.owners.is_possible(owner);
        let mut holders = self.places.iter().map(|place| place.load(Ordering::Relaxed));
        let Some(owner) = holders.find(is_damaged) else { return Ok(()) };
        let text = format!("a permit is held by {owner:#x}, which no process signs with");
        Err(Failure::Io(damaged(text)))
    }

    /// Give a permit back; false if all are there.
    #[inline]
    pub fn release(&self, me: u32) -> bool {
        let wake = || futex::wake(self.word, 1);
        if self.is_counted() {
            return word::give(self.word, self.most, wake);
        }
        let given = word::unsign(self.word, self.places, self.hint.load(Ordering::Relaxed), me);
        if given {
            crash_point("semaphore.unsigned");
            word::changed(self.word, wake);
        }
        given
    }
}
