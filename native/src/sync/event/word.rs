//! An event is one word: whether it is set, and how often it was. A signal handler may set it.
//!
//! ```text
//! times it was set: 30 | SLEEPERS | SET
//! ```
//! A waiter is through when the event is set, or was in between: a `clear` right after a `set`
//! takes the event from no waiter.

use crate::sys::atomic::{AtomicU32, Ordering};

const SET: u32 = 1;
const SLEEPERS: u32 = 2;
const ONCE: u32 = 4;

pub fn is_set(word: u32) -> bool {
    word & SET != 0
}

/// How often it was set: what a waiter compares.
pub fn times(word: u32) -> u32 {
    word / ONCE
}

/// Set it; true if a waiter may sleep.
pub fn set(word: &AtomicU32) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let next = (seen & !(SET | SLEEPERS)).wrapping_add(ONCE) | SET;
        // [set->seen] pairs with the acquire of each waiter that sees it
        match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return seen & SLEEPERS != 0,
            Err(now) => seen = now,
        }
    }
}

pub fn clear(word: &AtomicU32) {
    word.fetch_and(!SET, Ordering::AcqRel);
}

/// Whether a waiter that began at `since` is through; else the word to sleep on.
pub fn look(word: &AtomicU32, since: u32) -> Result<(), u32> {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        if is_set(seen) || times(seen) != since {
            return Ok(());
        }
        if seen & SLEEPERS != 0 {
            return Err(seen);
        }
        let next = seen | SLEEPERS;
        match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Err(next),
            Err(now) => seen = now,
        }
    }
}
