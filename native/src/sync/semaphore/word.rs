//! Permits: as a number that any process may raise, or as places that are signed for.
//!
//! ```text
//! Semaphore          word: SLEEPERS | number of permits
//! BoundedSemaphore   word: SLEEPERS | HANDED | changes, and a place for each permit: 0 or its holder
//! ```
//! A plain semaphore is a signal as often as a lock: the releaser need not have acquired, so a
//! permit has no owner. Those of a bounded one are on loan; taking a place and signing for it is one
//! store, and what a dead holder has signed for is free. Unless they are a signal, too: once a
//! process has given back what another had taken (HANDED), a permit's taker need not be its owner.

use crate::sys::atomic::{fence, AtomicU32, Ordering};
use crate::testing::crash_points::crash_point;

/// A waiter may sleep on the word: the process that raises it must wake one.
pub const SLEEPERS: u32 = 1 << 31;
/// Of signed permits: one was given back by another than its holder.
pub const HANDED: u32 = 1 << 30;
const CHANGES: u32 = HANDED - 1;
/// The most permits, as in the standard library.
pub const MOST: u32 = SLEEPERS - 1;
pub const NOBODY: u32 = 0;

/// Take one permit if there is one; else the word to sleep on.
pub fn take(word: &AtomicU32) -> Result<(), u32> {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let next = if seen & MOST > 0 { seen - 1 } else { seen | SLEEPERS };
        if next == seen {
            return Err(seen);
        }
        // [give->take] pairs with the release in give()
        match word.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) if seen & MOST > 0 => return Ok(()),
            Ok(_) => return Err(next),
            Err(now) => seen = now,
        }
    }
}

/// Take one permit if there is one, and do not announce a sleeper.
pub fn try_take(word: &AtomicU32) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    while seen & MOST > 0 {
        // [give->take]
        match word.compare_exchange(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
    false
}

/// Add one permit, up to `most`; false if there are as many.
pub fn give(word: &AtomicU32, most: u32, wake: impl Fn() -> i32) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        if seen & MOST >= most {
            return false;
        }
        // [give->take]
        match word.compare_exchange(seen, seen + 1, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => seen = now,
        }
    }
    wake_one(word, seen + 1, wake);
    true
}

/// Wake a sleeper, if the word says that there may be one. If there is none the flag goes down:
/// the waiter that puts it up again looks at the word once more before sleeping.
fn wake_one(word: &AtomicU32, left: u32, wake: impl Fn() -> i32) {
    crash_point("semaphore.given");
    if left & SLEEPERS != 0 && wake() == 0 {
        let quiet = left & !SLEEPERS;
        let _ = word.compare_exchange(left, quiet, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Take a place that is free, or whose holder is dead; `first` is where to begin.
pub fn sign(
    places: &[AtomicU32],
    first: usize,
    me: u32,
    is_dead: impl Fn(u32) -> bool,
) -> Option<usize> {
    let (head, tail) = places.split_at(first % places.len().max(1));
    let from = tail.iter().zip(head.len()..).chain(head.iter().zip(0..));
    for (place, number) in from {
        let holder = place.load(Ordering::Relaxed);
        if (holder == NOBODY || is_dead(holder))
            // [give->take]
            && place.compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return Some(number);
        }
    }
    None
}

/// Give a place back: one of `me`'s if there is any, else another's. False if all are free.
pub fn unsign(word: &AtomicU32, places: &[AtomicU32], hint: usize, me: u32) -> bool {
    let free = |place: &AtomicU32, holder| {
        holder != NOBODY
            // [give->take]
            && place.compare_exchange(holder, NOBODY, Ordering::Release, Ordering::Relaxed).is_ok()
    };
    if places.get(hint).is_some_and(|place| free(place, me)) {
        return true;
    }
    if places.iter().any(|place| free(place, me)) {
        return true;
    }
    // Before the place is free: a process that takes it for want of a living holder must know.
    word.fetch_or(HANDED, Ordering::SeqCst);
    loop {
        let held = |place: &&AtomicU32| place.load(Ordering::Relaxed) != NOBODY;
        // Another process may be faster with the one that was found.
        let Some(place) = places.iter().find(held) else { return false };
        if free(place, place.load(Ordering::Relaxed)) {
            return true;
        }
    }
}

/// Before sleeping for want of a place: the word to sleep on. The caller then looks once more.
pub fn announce(word: &AtomicU32) -> u32 {
    let seen = word.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
    // [unsign->sleep] pairs with the fence in changed(): we see the place, or it sees the flag
    fence(Ordering::SeqCst);
    seen
}

/// After a place was given back.
pub fn changed(word: &AtomicU32, wake: impl Fn() -> i32) {
    // [unsign->sleep]
    fence(Ordering::SeqCst);
    // One more change, and the flag as it was: the sum may run over into nothing else.
    let mut seen = word.load(Ordering::SeqCst);
    loop {
        if seen & SLEEPERS == 0 {
            return;
        }
        let next = (seen.wrapping_add(1) & CHANGES) | (seen & HANDED) | SLEEPERS;
        match word.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return wake_one(word, next, wake),
            Err(now) => seen = now,
        }
    }
}
