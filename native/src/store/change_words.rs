//! Words to sleep on: one for several containers, and one for all.
//!
//! A writer changes the words of what it has changed before it releases the lock, and wakes sleepers
//! after that. If it dies in between, a sleeper sees the changed word at the end of its interval; if it
//! dies before, the process that inherits the lock changes all words.

use crate::shm::arena::SharedBlock;
use crate::sys::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const WORDS: usize = 64;
pub const LINE: usize = 64;
/// The one that changes with every commit.
pub const GLOBAL: usize = WORDS - 1;
/// Where the mark of the reserved memory lies: behind the global word.
pub const MARK_AT: usize = GLOBAL * LINE + 16;
pub const ALL: u64 = u64::MAX;

#[repr(C)]
struct ChangeWord {
    seq: AtomicU32,
    /// Not 0: there may be sleepers, and this is the mark of the last one. The waker clears it if the
    /// word that it has seen is past, so a dead sleeper costs one call and a new one is kept.
    sleepers: AtomicU32,
}

/// What a sleeper writes that has seen this word; never 0.
fn sleeper_mark(seen: u32) -> u32 {
    seen << 1 | 1
}

impl ChangeWord {
    #[cold]
    fn wake(&self, asleep: u32) {
        if asleep != sleeper_mark(self.seq.load(Ordering::SeqCst)) {
            let order = Ordering::SeqCst;
            // Where another one has come meanwhile, the next change clears it.
            let _ = self.sleepers.compare_exchange(asleep, 0, order, order);
        }
        futex::wake(&self.seq, i32::MAX);
    }
}

pub struct ChangeWords {
    block: SharedBlock,
}

impl ChangeWords {
    pub fn new(block: SharedBlock) -> Self {
        Self { block }
    }

    pub fn block(&self) -> &SharedBlock {
        &self.block
    }

    /// Which word is a container's.
    #[inline]
    pub fn of(number: u64) -> usize {
        (number % GLOBAL as u64) as usize
    }

    fn word(&self, which: usize) -> &ChangeWord {
        // SAFETY: two atomics at a multiple of a cache line, inside of the block.
        unsafe { self.block.shared(which * LINE) }
    }

    pub fn read(&self, which: usize) -> u32 {
        self.word(which).seq.load(Ordering::SeqCst)
    }

    /// Change all words of a set.
    #[inline]
    pub fn bump(&self, mut set: u64) {
        while set != 0 {
            self.word(set.trailing_zeros() as usize).seq.fetch_add(1, Ordering::SeqCst);
            set &= set - 1;
        }
    }

    /// Wake the sleepers of all words of a set.
    #[inline]
    pub fn wake(&self, mut set: u64) {
        while set != 0 {
            let word = self.word(set.trailing_zeros() as usize);
            let asleep = word.sleepers.load(Ordering::SeqCst);
            if asleep != 0 {
                word.wake(asleep);
            }
            set &= set - 1;
        }
    }

    /// Sleep until the word has changed, at most so long.
    pub fn sleep(&self, which: usize, seen: u32, limit: Duration) {
        let word = self.word(which);
        word.sleepers.store(sleeper_mark(seen), Ordering::SeqCst);
        futex::wait(&word.seq, seen, limit);
    }
}
