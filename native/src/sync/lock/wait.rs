//! Acquiring a lock: one exchange if it is free, else the wait for its owner to release it or to die.

use super::word::{self, Attempt, LockShared, FREE, OFFERED, WAITERS};
use crate::host::{Failure, Host};
use crate::owners::wait_session::{RateLimit, WaitSession, WaitTarget};
use crate::owners::Owners;
use crate::sys::atomic::Ordering;
use crate::sys::clock::coarse_now;
#[cfg(not(loom))]
use crate::sys::clock::now;
use crate::sys::damage::damaged;
use crate::sys::deadline::Deadline;
use crate::sys::futex;
use crate::sys::process::thread_id;
use crate::testing::crash_points::crash_point;
use std::time::Duration;

/// How long to look at a held lock before sleeping: most are held shorter than a wake takes.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 200 };

/// After how many microseconds a wanted lock is offered to a waiter that sleeps. In between whoever
/// comes first has it, which is mostly the process that has it in its cache: an offer to a sleeper
/// costs the time in which that wakes up.
const TURN: u32 = 500;
/// How long a newcomer lets an offer pass: the waiter may have been killed.
const COURTESY: Duration = Duration::from_millis(1);

/// How an attempt to acquire a lock has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    Clean,
    /// It is the caller's, and was this dead owner's: what it protects may be half-written.
    FromDeadOwner(u32),
    /// It is not the caller's: the owner is dead, and the caller did not want to inherit.
    OwnerDead(u32),
    TimedOut,
}

/// A lock's words, and the owners that share it.
pub struct LockWords<'a, O: Owners> {
    pub shared: &'a LockShared,
    pub owners: &'a O,
}

impl<O: Owners> Clone for LockWords<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O: Owners> Copy for LockWords<'_, O> {}

impl<O: Owners> LockWords<'_, O> {
    /// Take it if it is free.
    #[inline]
    pub fn try_acquire(self, me: u32) -> bool {
        let taken = word::try_take(&self.shared.word, me);
        if taken {
            crash_point("lock.taken");
            self.sign();
        }
        taken
    }

    #[inline]
    fn sign(self) {
        self.shared.thread.store(thread_id(), Ordering::Relaxed);
        self.shared.depth.store(1, Ordering::Relaxed);
        self.shared.since.store(coarse_now(), Ordering::Relaxed);
    }

    /// Wait for it until the deadline.
    #[cold]
    pub fn acquire_slow<H: Host>(
        self,
        host: H,
        me: u32,
        wait: &Wait<'_>,
    ) -> Result<Acquired, H::Error> {
        let (deadline, owners) = (wait.deadline, self.owners);
        if self.spin(me, deadline) {
            return Ok(Acquired::Clean);
        }
        let (shared, word) = (self.shared, &self.shared.word);
        let mut session = WaitSession::new(owners, wait.target);
        let mut may_accept = deadline.is_over();
        let mut check_owner = may_accept && wait.checks.allows();
        loop {
            let is_dead = |owner| owners.is_dead(owner);
            let (accept, check, inherit) = (may_accept, check_owner, wait.may_inherit);
            let seen = match word::acquire_or_mark(word, me, accept, check, inherit, is_dead) {
                Attempt::Acquired => return Ok(self.acquired(Acquired::Clean)),
                Attempt::Inherited(dead) => {
                    crash_point("lock.inherited");
                    return Ok(self.acquired(Acquired::FromDeadOwner(dead)));
                }
                Attempt::OwnerDead(dead) => return Ok(Acquired::OwnerDead(dead)),
                Attempt::Held(seen) => seen,
            };
            crash_point("lock.marked");
            if check_owner && !owners.is_possible(word::owner(seen)) {
                return Err(no_owner(seen).into());
            }
            if deadline.is_over() {
                if check_owner || !wait.checks.allows() {
                    return Ok(Acquired::TimedOut);
                }
                check_owner = true;
                continue;
            }
            let holder = (word::owner(seen), shared.thread.load(Ordering::Relaxed));
            let limit = if seen == OFFERED { deadline.at_most(COURTESY) } else { *deadline };
            let slept = session.sleep(host, word, seen, holder, &limit);
            check_owner = slept.inspect_err(|_| self.decline())?;
            may_accept = true;
            crash_point("lock.woken");
        }
    }

    fn acquired(self, how: Acquired) -> Acquired {
        crash_point("lock.taken");
        self.sign();
        how
    }

    fn spin(self, me: u32, deadline: &Deadline) -> bool {
        let word = &self.shared.word;
        // Its owner may be a thread of this process, which needs the interpreter to release it.
        if deadline.is_over() || word::owner(word.load(Ordering::Relaxed)) == me {
            return false;
        }
        for _ in 0..LOOKS {
            if word.load(Ordering::Relaxed) == FREE && self.try_acquire(me) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Release it; false if it was not held.
    #[inline]
    pub fn release(self) -> bool {
        let word = &self.shared.word;
        if word.load(Ordering::Relaxed) & WAITERS != 0 && self.turn_is_over() {
            return self.offer();
        }
        let was = word::release(word);
        crash_point("lock.released");
        if was & WAITERS != 0 {
            futex::wake(word, 1);
        }
        word::owner(was) != FREE
    }

    /// Whether the last offer was so long ago that there is another one now.
    #[cold]
    fn turn_is_over(self) -> bool {
        let (now, before) = (microseconds(), self.shared.offered.load(Ordering::Relaxed));
        let is_over = now.wrapping_sub(before) >= TURN;
        if is_over {
            self.shared.offered.store(now, Ordering::Relaxed);
        }
        is_over
    }

    /// Release it to a waiter; false if it was not held.
    #[cold]
    fn offer(self) -> bool {
        let was = word::offer(&self.shared.word);
        crash_point("lock.released");
        if futex::wake(&self.shared.word, 1) == 0 {
            self.decline();
        }
        word::owner(was) != FREE
    }

    /// End an offer that the waiter for whom it was does not accept, or for which there is none.
    fn decline(self) {
        if word::withdraw_offer(&self.shared.word) {
            futex::wake(&self.shared.word, 1);
        }
    }

    /// Give an inherited lock back to its dead owner, so that the next one is told as well.
    pub fn return_to_dead_owner(self, me: u32, dead: u32) {
        word::return_to_dead_owner(&self.shared.word, me, dead);
        futex::wake(&self.shared.word, 1);
    }
}

/// A clock that is shared by all processes, and goes round in an hour.
#[cfg(not(loom))]
fn microseconds() -> u32 {
    (now() / 1000) as u32
}

/// To loom a turn is over once: it explores an offer, and after that none.
#[cfg(loom)]
fn microseconds() -> u32 {
    TURN
}

#[cold]
fn no_owner(word: u32) -> Failure {
    let owner = word::owner(word);
    Failure::Io(damaged(format!("a lock is held by {owner:#x}, which no process signs with")))
}

/// What a wait for a lock is about.
pub struct Wait<'a> {
    pub deadline: &'a Deadline,
    pub may_inherit: bool,
    pub target: WaitTarget,
    /// Of attempts that do not wait: how often they check whether the owner is alive.
    pub checks: &'a RateLimit,
}
