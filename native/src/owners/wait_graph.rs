//! Which thread waits for what: records that any process may read, and the cycles among them.
//!
//! A record is signed by the owner that waits, and written only once a wait has lasted for a slice:
//! short waits cost nothing. Of a dead owner it means nothing, and is free.
//!
//! The holder's own record says whether it *holds* what another waits for: while it waits itself,
//! it can release nothing. So a cycle is one that each of its members confirms.

use crate::sys::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use crate::sys::clock::now;
use crate::sys::shared_text;
use std::cell::RefCell;
use std::time::Duration;

pub const RECORDS: usize = 1024;
pub const HELD: usize = 8;
const TEXT: usize = 16;

#[repr(C, align(64))]
pub struct WaitRecordShared {
    /// The owner that waits; 0: the record is free.
    pub owner: AtomicU32,
    thread: AtomicU32,
    kind: AtomicU32,
    endless: AtomicU32,
    holder: AtomicU32,
    holder_thread: AtomicU32,
    object: AtomicU64,
    /// When it began, in ns of the monotonic clock; 0 while the record is written.
    since: AtomicU64,
    held: [AtomicU64; HELD],
    location: [AtomicU64; TEXT],
    _pad: [u64; 3],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<WaitRecordShared>() == 256);

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitRecord {
    pub owner: u32,
    pub thread: u32,
    pub kind: u32,
    /// No timeout will end it.
    pub endless: bool,
    /// The owner and thread that had the object when the waiter last looked; 0 if it has no owner.
    pub holder: (u32, u32),
    pub object: u64,
    pub since: u64,
    /// Objects that the waiting thread holds, of those that look for deadlocks.
    pub held: Vec<u64>,
    pub location: String,
}

impl WaitRecordShared {
    /// Write the record down; the row is signed for already.
    pub fn write(&self, wait: &WaitRecord) {
        self.since.store(0, Ordering::Relaxed);
        self.thread.store(wait.thread, Ordering::Relaxed);
        self.kind.store(wait.kind, Ordering::Relaxed);
        self.endless.store(u32::from(wait.endless), Ordering::Relaxed);
        self.set_holder(wait.holder);
        self.object.store(wait.object, Ordering::Relaxed);
        let held = wait.held.iter().copied().chain(std::iter::repeat(0));
        self.held.iter().zip(held).for_each(|(word, id)| word.store(id, Ordering::Relaxed));
        shared_text::write(&self.location, &wait.location);
        // [wait->read] pairs with the acquire in read()
        self.since.store(wait.since, Ordering::Release);
    }

    pub fn set_holder(&self, holder: (u32, u32)) {
        self.holder.store(holder.0, Ordering::Relaxed);
        self.holder_thread.store(holder.1, Ordering::Relaxed);
    }

    /// Give the row back.
    pub fn clear(&self) {
        self.since.store(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Release);
    }

    /// The record, if it is complete.
    pub fn read(&self) -> Option<WaitRecord> {
        // [wait->read]
        let (owner, since) =
            (self.owner.load(Ordering::Acquire), self.since.load(Ordering::Acquire));
        if owner == 0 || since == 0 {
            return None;
        }
        let load = |word: &AtomicU32| word.load(Ordering::Relaxed);
        let held = self.held.iter().map(|word| word.load(Ordering::Relaxed));
        let wait = WaitRecord {
            owner,
            thread: load(&self.thread),
            kind: load(&self.kind),
            endless: load(&self.endless) != 0,
            holder: (load(&self.holder), load(&self.holder_thread)),
            object: self.object.load(Ordering::Relaxed),
            since,
            held: held.filter(|&id| id != 0).collect(),
            location: shared_text::read(&self.location),
        };
        fence(Ordering::Acquire);
        let same = load(&self.owner) == owner && self.since.load(Ordering::Relaxed) == since;
        same.then_some(wait)
    }
}

impl WaitRecord {
    /// How long it has lasted.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(now().saturating_sub(self.since))
    }
}

/// A wait as it is shown to users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaiterInfo {
    pub pid: u32,
    pub thread: u32,
    pub kind: u32,
    pub object: u64,
    pub waited: Duration,
    /// 0 if the object has no owner.
    pub holder_pid: u32,
    pub holder_thread: u32,
    pub location: String,
}

/// A lock that looks for deadlocks, as the thread that has taken it remembers it.
pub trait HeldLock {
    fn object(&self) -> u64;
    /// Whether this very thread holds it.
    fn is_mine(&self) -> bool;
}

thread_local! {
    /// The locks that look for deadlocks and that this thread has taken, and perhaps released since.
    static HELD_BY_THREAD: RefCell<Vec<Box<dyn HeldLock>>> = const { RefCell::new(Vec::new()) };
}

/// This thread has taken a lock.
pub fn record_held(lock: Box<dyn HeldLock>) {
    HELD_BY_THREAD.with_borrow_mut(|held| {
        held.retain(|lock| lock.is_mine());
        held.push(lock);
    });
}

/// This thread releases a lock.
pub fn forget_held(object: u64) {
    HELD_BY_THREAD.with_borrow_mut(|held| held.retain(|lock| lock.object() != object));
}

/// The locks that this thread holds, of those that look for deadlocks.
pub fn held_by_this_thread() -> Vec<u64> {
    HELD_BY_THREAD.with_borrow_mut(|held| {
        held.retain(|lock| lock.is_mine());
        held.iter().map(|lock| lock.object()).collect()
    })
}

/// The cycle that a waiting thread is part of, beginning with it: each waits, without a timeout, for
/// what the next one says that it holds.
pub fn find_cycle(waits: &[WaitRecord], owner: u32, thread: u32) -> Option<Vec<&WaitRecord>> {
    let of = |waiter: (u32, u32)| waits.iter().find(|wait| (wait.owner, wait.thread) == waiter);
    let first = of((owner, thread))?;
    let mut found = vec![first];
    while found.len() <= waits.len() {
        let last = *found.last().expect("never empty");
        let next = of(last.holder)?;
        if !last.endless || !next.held.contains(&last.object) {
            return None;
        }
        if std::ptr::eq(next, first) {
            return Some(found);
        }
        found.push(next);
    }
    // A cycle that we wait for, and are not in.
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn wait(owner: u32, holder: u32, object: u64, held: &[u64]) -> WaitRecord {
        let (kind, since, location) = (1, 1, "a.py:1 in f".to_owned());
        let (endless, held) = (true, held.to_vec());
        WaitRecord {
            owner,
            thread: 1,
            kind,
            endless,
            holder: (holder, 1),
            object,
            since,
            held,
            location,
        }
    }

    fn owners(waits: &[WaitRecord], start: u32) -> Vec<u32> {
        find_cycle(waits, start, 1).unwrap_or_default().iter().map(|wait| wait.owner).collect()
    }

    #[test]
    fn a_ring_of_three_is_found_by_each_of_them() {
        let waits = [wait(1, 2, 20, &[10]), wait(2, 3, 30, &[20]), wait(3, 1, 10, &[30])];
        assert_eq!(owners(&waits, 1), [1, 2, 3]);
        assert_eq!(owners(&waits, 3), [3, 1, 2]);
    }

    #[test]
    fn who_waits_for_oneself_is_a_cycle_too() {
        assert_eq!(owners(&[wait(1, 1, 10, &[10])], 1), [1]);
    }

    #[test]
    fn who_only_waits_for_a_cycle_is_not_in_it() {
        let waits = [wait(1, 2, 20, &[10]), wait(2, 1, 10, &[20]), wait(3, 1, 10, &[])];
        assert_eq!(owners(&waits, 3), [] as [u32; 0]);
        assert_eq!(owners(&waits, 2), [2, 1]);
    }

    #[test]
    fn what_the_holder_does_not_confirm_is_none() {
        assert_eq!(owners(&[wait(1, 2, 20, &[10]), wait(2, 1, 10, &[])], 1), [] as [u32; 0]);
    }

    #[test]
    fn a_wait_with_an_end_is_no_deadlock() {
        let mut waits = [wait(1, 2, 20, &[10]), wait(2, 1, 10, &[20])];
        waits[1].endless = false;
        assert_eq!(owners(&waits, 1), [] as [u32; 0]);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        // SAFETY: atomics of zero.
        let shared: WaitRecordShared = unsafe { std::mem::zeroed() };
        let mut one = wait(7, 8, 9, &[1, 2, 3]);
        shared.owner.store(7, Ordering::Relaxed);
        assert_eq!(shared.read(), None, "not written yet");
        shared.write(&one);
        assert_eq!(shared.read(), Some(one.clone()));
        one.location = format!("{}/end.py:1", "x".repeat(200));
        shared.write(&one);
        assert!(shared.read().is_some_and(|wait| wait.location.ends_with("/end.py:1")));
        shared.clear();
        assert_eq!(shared.read(), None);
    }
}
