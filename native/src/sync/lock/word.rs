//! The lock word: taking it and signing for it is one store.
//!
//! ```text
//! WAITERS  OWNER        meaning
//!    0       0          free
//!    1       0          free, and offered to a waiter that sleeps: others let it pass, for a while
//!    0     owner        held, no waiter sleeps: release needs no system call
//!    1     owner        held, a waiter may sleep: release must wake one
//!    *     dead owner   the next one inherits it and is told so
//! ```
//! WAITERS is a hint that may be lost: a woken waiter may die before it looks, a releasing owner
//! before it wakes. So no waiter sleeps longer than an interval without looking at the word, and
//! the word alone is the truth.
//!
//! An offer belongs to no process, so that one which dies with it loses nothing: whoever has waited
//! takes it, and a newcomer waits no longer for another to do so than a moment.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};

pub const FREE: u32 = 0;
pub const WAITERS: u32 = 1 << 31;
pub const OFFERED: u32 = FREE | WAITERS;

/// A lock in shared memory. All but the word is written by the owner, to be shown.
#[repr(C, align(64))]
pub struct LockShared {
    pub word: AtomicU32,
    /// The owner's thread, the only one that may take a recursive lock again.
    pub thread: AtomicU32,
    /// How often its thread has taken a recursive lock.
    pub depth: AtomicU32,
    /// When it was last offered to a waiter, on the clock of `wait`.
    pub offered: AtomicU32,
    /// When it was taken, in ns of the coarse monotonic clock.
    pub since: AtomicU64,
    /// Where in the code, for a lock that looks for deadlocks: text, as much of its end as fits.
    pub site: [AtomicU64; 5],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<LockShared>() == 64);

#[cfg(all(test, loom))]
impl LockShared {
    /// In shared memory zeros are a free lock.
    pub fn new() -> Self {
        let zero = || AtomicU32::new(0);
        let site = std::array::from_fn(|_| AtomicU64::new(0));
        let (word, thread, depth, offered) = (zero(), zero(), zero(), zero());
        Self { word, thread, depth, offered, since: AtomicU64::new(0), site }
    }
}

#[inline]
pub fn owner(word: u32) -> u32 {
    word & !WAITERS
}

/// What a waiter finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    Acquired,
    /// Taken from this owner, which is dead.
    Inherited(u32),
    /// The owner is dead, and the caller did not want to inherit.
    OwnerDead(u32),
    /// Held, or offered to another: the word to sleep on, which says that a waiter sleeps.
    Held(u32),
}

/// Take a free lock.
#[inline]
pub fn try_take(word: &AtomicU32, me: u32) -> bool {
    // [release->take] pairs with the release in release()
    word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Take the lock, from a dead owner as well if the caller may, or announce a sleeper.
///
/// What is offered is taken only if the caller `may_accept`. `is_dead` is asked only if `check_owner`:
/// it is expensive.
pub fn acquire_or_mark(
    word: &AtomicU32,
    me: u32,
    may_accept: bool,
    check_owner: bool,
    may_inherit: bool,
    is_dead: impl Fn(u32) -> bool,
) -> Attempt {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        if seen == OFFERED && !may_accept {
            return Attempt::Held(seen);
        }
        let holder = owner(seen);
        let dead = holder != FREE && check_owner && is_dead(holder);
        if dead && !may_inherit {
            return Attempt::OwnerDead(holder);
        }
        let (next, found) = if holder == FREE {
            // Others may sleep, and only the next release can wake them.
            (me | WAITERS, Attempt::Acquired)
        } else if dead {
            (me | WAITERS, Attempt::Inherited(holder))
        } else if seen & WAITERS != 0 {
            return Attempt::Held(seen);
        } else {
            (seen | WAITERS, Attempt::Held(seen | WAITERS))
        };
        // [release->take]; what a dead owner wrote is visible since it is dead
        match word.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return found,
            Err(now) => seen = now,
        }
    }
}

/// Release it, whatever its owner; the word as it was. With WAITERS in it the caller wakes one.
#[inline]
pub fn release(word: &AtomicU32) -> u32 {
    // [release->take]
    word.swap(FREE, Ordering::Release)
}

/// Release it to a waiter, whatever its owner; the word as it was. The caller wakes one.
pub fn offer(word: &AtomicU32) -> u32 {
    // [release->take]
    word.swap(OFFERED, Ordering::Release)
}

/// Nobody is there to accept: whoever comes may take it. False if it is not on offer any more.
pub fn withdraw_offer(word: &AtomicU32) -> bool {
    // [release->take] goes on with what was released
    word.compare_exchange(OFFERED, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Give an inherited lock back to its dead owner: the alarm stays on for the next one.
pub fn return_to_dead_owner(word: &AtomicU32, me: u32, dead: u32) {
    let mut seen = word.load(Ordering::Relaxed);
    while owner(seen) == me {
        let next = dead | seen & WAITERS;
        match word.compare_exchange(seen, next, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}
