//! Every interleaving of a few processes at one small queue, tried by loom.
//!
//! Processes are threads here. What is explored is the code itself: both ends with their waiting, the
//! log, the locks and the words that getters and putters sleep on. Only the segments, the registry of
//! owners and the kernel are models. A lost wake-up shows as a deadlock, an item that is read before
//! it is written as a wrong item.

use super::ends::{Batch, EndState, Ends, LocalState, QueueHost, WaitSpec};
use super::log::*;
use super::shared::QueueShared;
use crate::host::{Failure, Host, NoHost};
use crate::sync::lock::word as lock;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::testing::loom::{explore_shared, process, ModelOwners};
use loom::sync::Arc;
use std::io::Result;

const GRANULES: u32 = 4;
const SEGMENTS: usize = 4;
/// An owner that does not live.
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

    fn ensure_entries(&self) -> Result<()> {
        Ok(())
    }

    fn permit_growth(&self, _count: u32) {}

    fn reach(&self, _point: &'static str) {}
}

/// A program that has as much memory as it likes, and other processes.
impl QueueHost for NoHost {
    fn closed(self) -> Failure {
        unreachable!("no end is closed")
    }

    fn check_memory(self, _bytes: u64) -> std::result::Result<(), Failure> {
        Ok(())
    }

    fn check_putters(self) -> std::result::Result<(), Failure> {
        Ok(())
    }

    fn register_sender(self) -> std::result::Result<(), Failure> {
        Ok(())
    }
}

/// A program whose signal handlers raise whenever they are run.
#[derive(Clone, Copy)]
struct Interrupted;

impl Host for Interrupted {
    type Error = Failure;

    fn blocking<T>(self, run: impl FnOnce() -> T) -> T {
        run()
    }

    fn check_signals(self) -> std::result::Result<(), Failure> {
        Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into())
    }
}

impl QueueHost for Interrupted {
    fn closed(self) -> Failure {
        NoHost.closed()
    }

    fn check_memory(self, _bytes: u64) -> std::result::Result<(), Failure> {
        Ok(())
    }

    fn check_putters(self) -> std::result::Result<(), Failure> {
        Ok(())
    }

    fn register_sender(self) -> std::result::Result<(), Failure> {
        Ok(())
    }
}

/// One item, of one granule.
struct One<'a> {
    toy: &'a Toy,
    item: u32,
}

impl Batch for One<'_> {
    fn count(&self) -> u32 {
        1
    }

    fn granules(&self, _nth: usize) -> u32 {
        1
    }

    fn write(&self, _nth: usize, Position { at, .. }: Position) -> Result<()> {
        self.toy.memory[at as usize].store(self.item, Ordering::Relaxed);
        Ok(())
    }

    fn will_be_put(&self) {}

    fn were_put(&mut self, _first: u32) {}
}

struct World {
    shared: QueueShared,
    toy: Toy,
    owners: ModelOwners,
    maxsize: u32,
}

impl World {
    fn new(maxsize: u32) -> Self {
        let world = Self {
            shared: QueueShared::new(maxsize),
            toy: Toy {
                entries: (0..SEGMENTS).map(|_| SegmentShared::new()).collect(),
                memory: (0..SEGMENTS * GRANULES as usize).map(|_| AtomicU32::new(0)).collect(),
            },
            owners: ModelOwners::new(),
            maxsize,
        };
        world.log().create().unwrap();
        world
    }

    fn log(&self) -> QueueLog<'_, Toy> {
        QueueLog { shared: &self.shared.log, store: &self.toy }
    }

    /// A process's own view of the queue, for one operation.
    fn with_ends<T>(&self, run: impl FnOnce(&Ends<'_, Toy, ModelOwners>) -> T) -> T {
        let here = LocalState::new(self.maxsize, EndState::new(1), EndState::new(2));
        let (shared, memory, owners) = (&self.shared, &self.toy, &self.owners);
        run(&Ends { shared, memory, owners, here: &here })
    }

    fn put(&self, me: u32, item: u32) {
        self.put_from(NoHost, me, item).unwrap();
    }

    fn put_from<H>(&self, host: H, me: u32, item: u32) -> std::result::Result<(), Failure>
    where
        H: QueueHost<Error = Failure>,
    {
        let mut batch = One { toy: &self.toy, item };
        let put = self.with_ends(|ends| ends.put(host, me, &mut batch, &WaitSpec::never()))?;
        assert!(put);
        Ok(())
    }

    fn get(&self, me: u32) -> u32 {
        self.get_from(NoHost, me).unwrap()
    }

    fn get_from<H>(&self, host: H, me: u32) -> std::result::Result<u32, Failure>
    where
        H: QueueHost<Error = Failure>,
    {
        let mut item = 0;
        let copy = |Position { at, .. }: Position, _limit: u32| {
            item = self.toy.memory[at as usize].load(Ordering::Relaxed);
            Ok(1)
        };
        let taken = self.with_ends(|ends| ends.get(host, me, 1, &WaitSpec::never(), copy))?;
        assert_eq!(taken, 1);
        Ok(item)
    }

    fn task_done(&self) {
        assert!(self.with_ends(|ends| ends.task_done()));
    }

    fn join(&self) {
        self.with_ends(|ends| ends.join(NoHost)).unwrap();
    }
}

fn explore(preemptions: usize, maxsize: u32, scene: impl Fn(Arc<World>) + Sync + Send + 'static) {
    explore_shared(Some(preemptions), move || World::new(maxsize), scene);
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
        assert!(world.shared.log.count.load(Ordering::Relaxed) <= 3);
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
        assert_eq!(world.log().len(), 0);
        putters.into_iter().for_each(|putter| putter.join().unwrap());
    });
}

/// The wake-up of an item may come to a getter that a signal handler ends: the other one gets it.
#[test]
fn an_interrupted_getter_passes_its_wake_up_on() {
    explore(2, 0, |world| {
        let interrupted = process(&world, |world| {
            if let Ok(item) = world.get_from(Interrupted, 1) {
                world.put(1, item);
            }
        });
        let getter = process(&world, |world| world.get(2));
        world.put(3, 10);
        assert_eq!(getter.join().unwrap(), 10);
        // It may sleep still.
        world.put(3, 11);
        interrupted.join().unwrap();
    });
}

/// The same with the room that an item leaves.
#[test]
fn an_interrupted_putter_passes_its_wake_up_on() {
    explore(2, 1, |world| {
        world.put(3, 10);
        let interrupted = process(&world, |world| {
            if world.put_from(Interrupted, 1, 11).is_ok() {
                world.get(1);
            }
        });
        let putter = process(&world, |world| world.put(2, 12));
        world.get(3);
        putter.join().unwrap();
        world.get(3);
        interrupted.join().unwrap();
    });
}

#[test]
fn never_more_than_the_limit_nor_less_than_none() {
    explore(2, 1, |world| {
        let putter = process(&world, |world| (1..=3).for_each(|item| world.put(1, item)));
        let getter = process(&world, |world| (0..3).for_each(|_| _ = world.get(2)));
        assert!(world.log().len() <= 1);
        assert!(world.log().len() <= 1);
        putter.join().unwrap();
        getter.join().unwrap();
        assert!(world.log().is_empty());
    });
}

/// The owner of both locks is dead, having written an item and not committed it.
#[test]
fn a_dead_owner_of_both_locks_is_inherited_from() {
    explore(2, 0, |world| {
        world.owners.die(DEAD);
        world.shared.put_lock.word.store(DEAD | lock::WAITERS, Ordering::Relaxed);
        world.shared.get_lock.word.store(DEAD, Ordering::Relaxed);
        let at = world.log().reserve(0, 1).unwrap();
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
        world.owners.die(DEAD);
        world.shared.get_lock.word.store(DEAD, Ordering::Relaxed);
        let getters = [2, 3].map(|me| process(&world, move |world| world.get(me)));
        world.put(1, 8);
        let mut got = getters.map(|getter| getter.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [7, 8]);
    });
}

/// A joiner is woken when the last item is reported as done.
#[test]
fn a_joiner_leaves_when_all_is_done() {
    explore(2, 0, |world| {
        world.put(1, 7);
        let worker = process(&world, |world| {
            world.get(2);
            world.task_done();
        });
        world.join();
        assert_eq!(world.shared.done.load(Ordering::Relaxed), 1);
        worker.join().unwrap();
    });
}
