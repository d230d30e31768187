//! The lock word: taking it and signing for it is one store.
//!
//! ```text
//! WAITERS  OWNER        meaning
//!    0       0          free
//!    0     agent        held, nobody sleeps: release needs no system call
//!    1     agent        held, someone may sleep: release must wake one
//!    *     dead agent   the next one inherits it and is told so
//! ```
//! WAITERS is a hint that may be lost: who was woken may die before it looks, who releases may die
//! before it wakes. So nobody sleeps longer than a slice without looking at the word, and the
//! word alone is the truth.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};

pub const FREE: u32 = 0;
pub const WAITERS: u32 = 1 << 31;

/// A lock in shared memory. All but the word is written by the owner, to be shown.
#[repr(C, align(64))]
pub struct LockShared {
    pub word: AtomicU32,
    /// The owner's thread; for a recursive lock that is who may take it again.
    pub thread: AtomicU32,
    /// How often its thread has taken a recursive lock.
    pub depth: AtomicU32,
    _pad: u32,
    /// When it was taken, in ns of the coarse monotonic clock.
    pub since: AtomicU64,
    /// Where in the code, for a lock that looks for deadlocks: text, as much of its end as fits.
    pub site: [AtomicU64; 5],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<LockShared>() == 64);

#[inline]
pub fn owner(word: u32) -> u32 {
    word & !WAITERS
}

/// What a waiter finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Taken,
    /// Taken from this agent, which is dead.
    Inherited(u32),
    /// The owner is dead, and the caller did not want to inherit.
    Orphaned(u32),
    /// Held: the word to sleep on, which says that someone sleeps.
    Held(u32),
}

/// Take a free lock.
#[inline]
pub fn try_take(word: &AtomicU32, me: u32) -> bool {
    // [release->take] pairs with the release in leave()
    word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Take the lock, from a dead owner as well if the caller may, or announce a sleeper.
///
/// `is_dead` is asked only if `judge`: it is expensive.
pub fn look(
    word: &AtomicU32,
    me: u32,
    judge: bool,
    may_inherit: bool,
    is_dead: impl Fn(u32) -> bool,
) -> Look {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let holder = owner(seen);
        let dead = holder != FREE && judge && is_dead(holder);
        if dead && !may_inherit {
            return Look::Orphaned(holder);
        }
        let (next, found) = if holder == FREE {
            // Others may sleep, whom only the next release can wake.
            (me | WAITERS, Look::Taken)
        } else if dead {
            (me | WAITERS, Look::Inherited(holder))
        } else if seen & WAITERS != 0 {
            return Look::Held(seen);
        } else {
            (seen | WAITERS, Look::Held(seen | WAITERS))
        };
        // [release->take]; what a dead owner wrote is visible since it is dead
        match word.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return found,
            Err(now) => seen = now,
        }
    }
}

/// Release it, whoever holds it; the word as it was. With WAITERS in it the caller wakes one.
#[inline]
pub fn leave(word: &AtomicU32) -> u32 {
    // [release->take]
    word.swap(FREE, Ordering::Release)
}

/// Give an inherited lock back to its dead owner: the alarm stays on for the next one.
pub fn disown(word: &AtomicU32, me: u32, dead: u32) {
    let mut seen = word.load(Ordering::Relaxed);
    while owner(seen) == me {
        let next = dead | seen & WAITERS;
        match word.compare_exchange(seen, next, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}
