//! Who waits for what: records that anybody may read, and the cycles among them.
//!
//! A record is signed by the agent that waits, and written only once a wait has lasted for a slice:
//! short waits cost nothing. Of a dead agent it means nothing, and is free.
//!
//! Whether somebody *holds* what another waits for says the holder's own record, since while it
//! waits itself it can release nothing. So a cycle is one that each of its members confirms.

use crate::sys::atomic::Ordering;
use crate::sys::shared_text;
use std::sync::atomic::{AtomicU32, AtomicU64};

pub const ROWS: usize = 1024;
pub const HELD: usize = 8;
const TEXT: usize = 16;

#[repr(C, align(64))]
pub struct WaitShared {
    /// Who waits; 0: the record is free.
    pub agent: AtomicU32,
    thread: AtomicU32,
    kind: AtomicU32,
    endless: AtomicU32,
    holder: AtomicU32,
    holder_thread: AtomicU32,
    object: AtomicU64,
    /// When it began, in ns of the monotonic clock; 0 while the record is written.
    since: AtomicU64,
    held: [AtomicU64; HELD],
    site: [AtomicU64; TEXT],
    _pad: [u64; 3],
}

const _: () = assert!(size_of::<WaitShared>() == 256);

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub agent: u32,
    pub thread: u32,
    pub kind: u32,
    /// No timeout will end it.
    pub endless: bool,
    /// The agent and thread that had the object when the waiter last looked; 0 if it has no owner.
    pub holder: (u32, u32),
    pub object: u64,
    pub since: u64,
    /// Objects that the waiting thread holds, of those that look for deadlocks.
    pub held: Vec<u64>,
    pub site: String,
}

impl WaitShared {
    /// Write the record down; the row is signed for already.
    pub fn write(&self, wait: &Wait) {
        self.since.store(0, Ordering::Relaxed);
        self.thread.store(wait.thread, Ordering::Relaxed);
        self.kind.store(wait.kind, Ordering::Relaxed);
        self.endless.store(u32::from(wait.endless), Ordering::Relaxed);
        self.set_holder(wait.holder);
        self.object.store(wait.object, Ordering::Relaxed);
        let held = wait.held.iter().copied().chain(std::iter::repeat(0));
        self.held.iter().zip(held).for_each(|(word, id)| word.store(id, Ordering::Relaxed));
        shared_text::write(&self.site, &wait.site);
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
        self.agent.store(0, Ordering::Release);
    }

    /// The record, if it is complete.
    pub fn read(&self) -> Option<Wait> {
        // [wait->read]
        let (agent, since) =
            (self.agent.load(Ordering::Acquire), self.since.load(Ordering::Acquire));
        if agent == 0 || since == 0 {
            return None;
        }
        let load = |word: &AtomicU32| word.load(Ordering::Relaxed);
        let held = self.held.iter().map(|word| word.load(Ordering::Relaxed));
        let wait = Wait {
            agent,
            thread: load(&self.thread),
            kind: load(&self.kind),
            endless: load(&self.endless) != 0,
            holder: (load(&self.holder), load(&self.holder_thread)),
            object: self.object.load(Ordering::Relaxed),
            since,
            held: held.filter(|&id| id != 0).collect(),
            site: shared_text::read(&self.site),
        };
        std::sync::atomic::fence(Ordering::Acquire);
        let same = load(&self.agent) == agent && self.since.load(Ordering::Relaxed) == since;
        same.then_some(wait)
    }
}

/// The cycle that a waiting thread is part of, beginning with it: each waits, without a timeout, for
/// what the next one says that it holds.
pub fn cycle(waits: &[Wait], agent: u32, thread: u32) -> Option<Vec<&Wait>> {
    let of = |who: (u32, u32)| waits.iter().find(|wait| (wait.agent, wait.thread) == who);
    let first = of((agent, thread))?;
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

    fn wait(agent: u32, holder: u32, object: u64, held: &[u64]) -> Wait {
        let (kind, since, site) = (1, 1, "a.py:1 in f".to_owned());
        let (endless, held) = (true, held.to_vec());
        Wait { agent, thread: 1, kind, endless, holder: (holder, 1), object, since, held, site }
    }

    fn agents(waits: &[Wait], start: u32) -> Vec<u32> {
        cycle(waits, start, 1).unwrap_or_default().iter().map(|wait| wait.agent).collect()
    }

    #[test]
    fn a_ring_of_three_is_found_by_each_of_them() {
        let waits = [wait(1, 2, 20, &[10]), wait(2, 3, 30, &[20]), wait(3, 1, 10, &[30])];
        assert_eq!(agents(&waits, 1), [1, 2, 3]);
        assert_eq!(agents(&waits, 3), [3, 1, 2]);
    }

    #[test]
    fn who_waits_for_oneself_is_a_cycle_too() {
        assert_eq!(agents(&[wait(1, 1, 10, &[10])], 1), [1]);
    }

    #[test]
    fn who_only_waits_for_a_cycle_is_not_in_it() {
        let waits = [wait(1, 2, 20, &[10]), wait(2, 1, 10, &[20]), wait(3, 1, 10, &[])];
        assert_eq!(agents(&waits, 3), [] as [u32; 0]);
        assert_eq!(agents(&waits, 2), [2, 1]);
    }

    #[test]
    fn what_the_holder_does_not_confirm_is_none() {
        assert_eq!(agents(&[wait(1, 2, 20, &[10]), wait(2, 1, 10, &[])], 1), [] as [u32; 0]);
    }

    #[test]
    fn a_wait_with_an_end_is_no_deadlock() {
        let mut waits = [wait(1, 2, 20, &[10]), wait(2, 1, 10, &[20])];
        waits[1].endless = false;
        assert_eq!(agents(&waits, 1), [] as [u32; 0]);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        // SAFETY: atomics of zero.
        let shared: WaitShared = unsafe { std::mem::zeroed() };
        let mut one = wait(7, 8, 9, &[1, 2, 3]);
        shared.agent.store(7, Ordering::Relaxed);
        assert_eq!(shared.read(), None, "not written yet");
        shared.write(&one);
        assert_eq!(shared.read(), Some(one.clone()));
        one.site = format!("{}/end.py:1", "x".repeat(200));
        shared.write(&one);
        assert!(shared.read().is_some_and(|wait| wait.site.ends_with("/end.py:1")));
        shared.clear();
        assert_eq!(shared.read(), None);
    }
}
