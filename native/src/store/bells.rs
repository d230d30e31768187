//! Words to sleep on: one for several containers, and one for all.
//!
//! A writer moves the words of what it has changed before it lets go of the lock, and wakes
//! sleepers after that. If it dies in between, a sleeper sees the moved word at the end of its slice;
//! if it dies before, who inherits the lock moves all words.

use crate::shm::arena::SharedBlock;
use crate::sys::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const BELLS: usize = 64;
pub const LINE: usize = 64;
/// The one that rings with every commit.
pub const GLOBAL: usize = BELLS - 1;
/// Where the mark of the reserved memory lies: behind the global bell's words.
pub const MARK_AT: usize = GLOBAL * LINE + 16;
pub const ALL: u64 = u64::MAX;

#[repr(C)]
struct ChangeWord {
    seq: AtomicU32,
    /// Not 0: somebody may sleep here, and of the last one it says which word it has seen. Who wakes
    /// them clears it if that word is past, so a dead sleeper costs one call and a new one is kept.
    sleepers: AtomicU32,
}

/// What a sleeper leaves that has seen this word; never 0.
fn trace(seen: u32) -> u32 {
    seen << 1 | 1
}

impl ChangeWord {
    #[cold]
    fn wake(&self, asleep: u32) {
        if asleep != trace(self.seq.load(Ordering::SeqCst)) {
            let order = Ordering::SeqCst;
            // Where another one has come meanwhile, it is for the next ring to clear.
            let _ = self.sleepers.compare_exchange(asleep, 0, order, order);
        }
        futex::wake(&self.seq, i32::MAX);
    }
}

pub struct Bells {
    spot: SharedBlock,
}

impl Bells {
    pub fn new(spot: SharedBlock) -> Self {
        Self { spot }
    }

    pub fn spot(&self) -> &SharedBlock {
        &self.spot
    }

    /// Which bell is a container's.
    #[inline]
    pub fn of(number: u64) -> usize {
        (number % GLOBAL as u64) as usize
    }

    fn bell(&self, which: usize) -> &ChangeWord {
        // SAFETY: two atomics at a multiple of a cache line, inside of the spot.
        unsafe { self.spot.shared(which * LINE) }
    }

    pub fn read(&self, which: usize) -> u32 {
        self.bell(which).seq.load(Ordering::SeqCst)
    }

    /// Move the words of all bells in a set.
    #[inline]
    pub fn mark(&self, mut set: u64) {
        while set != 0 {
            self.bell(set.trailing_zeros() as usize).seq.fetch_add(1, Ordering::SeqCst);
            set &= set - 1;
        }
    }

    /// Wake who sleeps on one of a set.
    #[inline]
    pub fn wake(&self, mut set: u64) {
        while set != 0 {
            let bell = self.bell(set.trailing_zeros() as usize);
            let asleep = bell.sleepers.load(Ordering::SeqCst);
            if asleep != 0 {
                bell.wake(asleep);
            }
            set &= set - 1;
        }
    }

    /// Sleep until it has rung since, at most so long.
    pub fn sleep(&self, which: usize, seen: u32, limit: Duration) {
        let bell = self.bell(which);
        bell.sleepers.store(trace(seen), Ordering::SeqCst);
        futex::wait(&bell.seq, seen, limit);
    }
}
