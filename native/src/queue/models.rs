//! Every interleaving of a few processes at one small queue, tried by loom.
//!
//! Processes are threads here. What is modelled is the code itself: the ring, the lock word and the
//! bell; only the futex and the loops of `python/ends.rs` are restated in [`World`]. A lost
//! wake-up shows as a deadlock, an item that is read before it is written as a wrong item.

use super::log::*;
use crate::sync::lock::word::{self as lock, Look};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::wake_word::WakeWord;
use crate::testing::loom::{process, Futex};
use loom::sync::Arc;
use std::io::Result;

const GRANULES: u32 = 4;
const SEGMENTS: usize = 4;
/// An agent that does not live.
const DEAD: u32 = 9;

struct Toy {
    entries: Vec<SegmentShared>,
    memory: Vec<AtomicU32>,
}

impl SegmentMemory for Toy {
    const GRANULES: u32 = GRANULES;
    const STEP: u32 = GRANULES;

    fn segments(&self) -> u32 {
        SEGMENTS as u32
    }

    fn entry(&self, segment: u32) -> &SegmentShared {
        &self.entries[segment as usize]
    }

    fn reserve_entry(&self, _segment: u32) -> Result<()> {
        Ok(())
    }

    fn reserve(&self, _segment: u32, _from: u32, _to: u32) -> Result<()> {
        Ok(())
    }

    fn punch(&self, segment: u32) {
        for offset in 0..GRANULES {
            self.memory[(segment * GRANULES + offset) as usize].store(0, Ordering::Relaxed);
        }
    }

    fn may_grow(&self, _count: u32) -> Result<()> {
        Ok(())
    }

    fn reach(&self, _point: &'static str) {}
}

/// A lock word, and where those sleep who wait for it.
struct Lock {
    word: AtomicU32,
    futex: Futex,
}

impl Lock {
    fn new() -> Self {
        Self { word: AtomicU32::new(lock::FREE), futex: Futex::new() }
    }

    // As in `Lock`.

    fn take(&self, me: u32) {
        if lock::try_take(&self.word, me) {
            return;
        }
        loop {
            match lock::look(&self.word, me, true, true, |agent| agent == DEAD) {
                Look::Taken | Look::Inherited(_) => return,
                Look::Orphaned(_) => unreachable!("who may inherit does"),
                Look::Held(seen) => {
                    self.futex.wait(|| self.word.load(Ordering::Relaxed) == seen);
                }
            }
        }
    }

    fn leave(&self) {
        if lock::leave(&self.word) & lock::WAITERS != 0 {
            self.futex.wake(1);
        }
    }
}

struct World {
    shared: QueueLogShared,
    toy: Toy,
    put_lock: Lock,
    get_lock: Lock,
    getters: WakeWord,
    putters: WakeWord,
    items_futex: Futex,
    room_futex: Futex,
    maxsize: u32,
}

impl World {
    fn new(maxsize: u32) -> Self {
        let world = Self {
            shared: QueueLogShared::new(),
            toy: Toy {
                entries: (0..SEGMENTS).map(|_| SegmentShared::new()).collect(),
                memory: (0..SEGMENTS * GRANULES as usize).map(|_| AtomicU32::new(0)).collect(),
            },
            put_lock: Lock::new(),
            get_lock: Lock::new(),
            getters: WakeWord::new(),
            putters: WakeWord::new(),
            items_futex: Futex::new(),
            room_futex: Futex::new(),
            maxsize,
        };
        world.ring().found().unwrap();
        world
    }

    fn ring(&self) -> QueueLog<'_, Toy> {
        QueueLog { shared: &self.shared, store: &self.toy }
    }

    // As in `Inner`.

    fn put(&self, me: u32, item: u32) {
        loop {
            self.put_lock.take(me);
            let ring = self.ring();
            let tail = ring.tail();
            let inside = tail.number.wrapping_sub(ring.head().number);
            if self.maxsize != 0 && inside >= self.maxsize {
                self.put_lock.leave();
                self.await_room();
                continue;
            }
            let at = ring.room(tail.at, 1).unwrap();
            self.toy.memory[at as usize].store(item, Ordering::Relaxed);
            ring.commit_put(Position { number: tail.number + 1, at: at + 1 });
            self.put_lock.leave();
            self.getters.wake(false, 1, |count| self.items_futex.wake(count));
            return;
        }
    }

    fn await_room(&self) {
        while self.ring().len() >= self.maxsize {
            let count = self.putters.prepare();
            if self.ring().len() < self.maxsize {
                return;
            }
            self.room_futex.wait(|| self.putters.count.load(Ordering::Acquire) == count);
        }
    }

    fn get(&self, me: u32) -> u32 {
        loop {
            while self.ring().is_empty() {
                let count = self.getters.prepare();
                if self.ring().is_empty() {
                    self.items_futex.wait(|| self.getters.count.load(Ordering::Acquire) == count);
                }
            }
            self.get_lock.take(me);
            let taken = self.take_out();
            self.get_lock.leave();
            if let Some(item) = taken {
                if self.maxsize != 0 {
                    self.putters.wake(false, 1, |count| self.room_futex.wake(count));
                }
                return item;
            }
        }
    }

    fn take_out(&self) -> Option<u32> {
        let ring = self.ring();
        let (mut head, tail) = (ring.head(), ring.tail());
        if head.number == tail.number {
            return None;
        }
        loop {
            match ring.next_item(head, tail) {
                Item::Beyond => head.at = ring.settle(head, tail),
                Item::Here(at) => {
                    let item = self.toy.memory[at as usize].load(Ordering::Relaxed);
                    ring.commit_get(Position { number: head.number + 1, at: at + 1 });
                    return Some(item);
                }
            }
        }
    }
}

fn explore(preemptions: usize, maxsize: u32, scene: impl Fn(Arc<World>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || scene(Arc::new(World::new(maxsize))));
}

#[test]
fn items_arrive_in_order_across_segments() {
    explore(3, 0, |world| {
        // Three fill a segment.
        let putter = process(&world, |world| (1..=4).for_each(|item| world.put(1, item)));
        let got: Vec<_> = (0..4).map(|_| world.get(2)).collect();
        assert_eq!(got, [1, 2, 3, 4]);
        putter.join().unwrap();
    });
}

#[test]
fn a_segment_that_was_left_is_used_again() {
    explore(2, 2, |world| {
        let putter = process(&world, |world| (1..=8).for_each(|item| world.put(1, item)));
        let got: Vec<_> = (0..8).map(|_| world.get(2)).collect();
        assert_eq!(got, [1, 2, 3, 4, 5, 6, 7, 8]);
        putter.join().unwrap();
        assert!(world.shared.count.load(Ordering::Relaxed) <= 3);
    });
}

#[test]
fn two_putters() {
    explore(2, 0, |world| {
        let putters = [1, 2].map(|me| process(&world, move |world| world.put(me, me)));
        let mut got = [world.get(3), world.get(3)];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        putters.into_iter().for_each(|putter| putter.join().unwrap());
    });
}

#[test]
fn two_getters() {
    explore(2, 0, |world| {
        let getters = [1, 2].map(|me| process(&world, move |world| world.get(me)));
        world.put(3, 10);
        world.put(3, 11);
        let mut got = getters.map(|getter| getter.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [10, 11]);
    });
}

#[test]
fn putters_wait_for_room() {
    explore(2, 1, |world| {
        let putters = [1, 2].map(|me| process(&world, move |world| world.put(me, me)));
        let mut got = [world.get(3), world.get(3)];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert_eq!(world.ring().len(), 0);
        putters.into_iter().for_each(|putter| putter.join().unwrap());
    });
}

#[test]
fn never_more_than_the_limit_nor_less_than_none() {
    explore(2, 1, |world| {
        let putter = process(&world, |world| (1..=3).for_each(|item| world.put(1, item)));
        let getter = process(&world, |world| (0..3).for_each(|_| _ = world.get(2)));
        assert!(world.ring().len() <= 1);
        assert!(world.ring().len() <= 1);
        putter.join().unwrap();
        getter.join().unwrap();
        assert!(world.ring().is_empty());
    });
}

/// Who held both locks is dead, having written an item and not committed it.
#[test]
fn a_dead_owner_of_both_locks_is_inherited_from() {
    explore(2, 0, |world| {
        world.put_lock.word.store(DEAD | lock::WAITERS, Ordering::Relaxed);
        world.get_lock.word.store(DEAD, Ordering::Relaxed);
        let at = world.ring().room(0, 1).unwrap();
        world.toy.memory[at as usize].store(99, Ordering::Relaxed);
        let putters = [1, 2].map(|me| process(&world, move |world| world.put(me, me)));
        let mut got = [world.get(3), world.get(3)];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        putters.into_iter().for_each(|putter| putter.join().unwrap());
    });
}

/// A getter that has died with an item copied and not committed has taken nothing.
#[test]
fn a_dead_getter_has_taken_nothing() {
    explore(2, 0, |world| {
        world.put(1, 7);
        world.get_lock.word.store(DEAD, Ordering::Relaxed);
        let getters = [2, 3].map(|me| process(&world, move |world| world.get(me)));
        world.put(1, 8);
        let mut got = getters.map(|getter| getter.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [7, 8]);
    });
}
