//! How a task changes hands: the only places where two processes meet on one word.
//!
//! ```text
//! state      written by                      meaning
//! FREE       the parent                      unused
//! READY      the parent, the supervisor      in a ring, to be claimed
//! CLAIMED    worker `owner_id`               taken and signed for, in one store
//! DONE       worker `owner_id`               the result is complete
//! LOST       the supervisor                  `owner_id` died with it; the reason is complete
//!
//! FREE ─▶ READY ─▶ CLAIMED ─▶ DONE ─▶ FREE
//!           ▲         │
//!           └─requeue─┴─▶ LOST ─▶ FREE
//! ```
//!
//! The WAITER bit says that a thread of the parent may sleep on the word; the process that ends the
//! task then wakes it. The ticket is the place in the ring, so that a claim can never take a later
//! task that happens to lie in the same cell.
//!
//! The CANCELLED bit is set by the parent, on CLAIMED only: nobody wants the result. It is a part of
//! the claim, so it is never true of another task, and such a task is not made READY again.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::damage::damaged;
use crate::testing::crash_points::crash_point;
use std::io::Result;

pub const FREE: u32 = 0;
pub const READY: u32 = 1;
pub const CLAIMED: u32 = 2;
pub const DONE: u32 = 3;
pub const LOST: u32 = 4;

/// Owners that a word can name: incarnations count from 1, the parent is 0.
pub const MAX_OWNER_ID: u32 = (1 << 24) - 1;

/// A cell's state word, taken apart. Bits:
/// `ticket:32 | owner_id:24 | ring:1 | waiter:1 | cancelled:1 | tag:5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub tag: u32,
    pub waiter: bool,
    pub cancelled: bool,
    pub ring: u32,
    pub owner_id: u32,
    pub ticket: u32,
}

const WAITER: u64 = 1 << 6;
const CANCELLED: u64 = 1 << 5;

impl State {
    pub fn new(tag: u32, ring: u32, owner_id: u32, ticket: u32) -> Self {
        Self { tag, waiter: false, cancelled: false, ring, owner_id, ticket }
    }

    pub fn unpack(word: u64) -> Self {
        let low = word as u32;
        Self {
            tag: low & 0x1f,
            waiter: word & WAITER != 0,
            cancelled: word & CANCELLED != 0,
            ring: low >> 7 & 1,
            owner_id: low >> 8,
            ticket: (word >> 32) as u32,
        }
    }

    pub fn pack(self) -> u64 {
        let flags = u32::from(self.cancelled) << 5 | u32::from(self.waiter) << 6;
        let low = self.tag | flags | self.ring << 7 | self.owner_id << 8;
        u64::from(self.ticket) << 32 | u64::from(low)
    }

    /// Ready to be claimed from this place of this ring.
    fn waits_at(self, ring: u32, ticket: u32) -> bool {
        self.tag == READY && self.ring == ring && self.ticket == ticket
    }

    /// At work, for a result that nobody wants.
    pub fn is_cancelled_at(self, owner_id: u32) -> bool {
        self.tag == CLAIMED && self.cancelled && self.owner_id == owner_id
    }

    /// Only the parent will still write the word.
    pub fn ended(self) -> bool {
        self.tag == DONE || self.tag == LOST
    }
}

/// Cell numbers in the order in which they became ready. One producer, many claimants.
#[repr(C, align(128))]
pub struct TaskRingShared {
    /// Everything before it was claimed or withdrawn. Any process may help it forward.
    pub head: AtomicU64,
    _line: [u64; 15],
    /// Where the producer writes next.
    pub tail: AtomicU64,
    _other_line: [u64; 15],
}

impl TaskRingShared {
    /// For tests; in shared memory a ring of zeros is an empty ring.
    pub fn new() -> Self {
        let (head, tail) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { head, _line: [0; 15], tail, _other_line: [0; 15] }
    }

    pub fn len(&self) -> u64 {
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire).saturating_sub(head)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for TaskRingShared {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a ring's entries lie: a power of two many.
pub trait Entries: Copy {
    fn count(&self) -> u64;
    fn entry(&self, index: u64) -> &AtomicU32;
}

impl Entries for &[AtomicU32] {
    fn count(&self) -> u64 {
        self.len() as u64
    }

    fn entry(&self, index: u64) -> &AtomicU32 {
        &self[index as usize]
    }
}

/// A ring and its entries, as one process sees them.
#[derive(Clone, Copy)]
pub struct TaskRing<'a, E: Entries = &'a [AtomicU32]> {
    pub number: u32,
    pub shared: &'a TaskRingShared,
    pub entries: E,
}

impl<E: Entries> TaskRing<'_, E> {
    pub fn entry(&self, place: u64) -> &AtomicU32 {
        self.entries.entry(place & (self.entries.count() - 1))
    }

    /// For the producer, before it pushes: is there a free entry, or one that can be had by helping
    /// `head` over tasks that were withdrawn? Without one a push would overwrite a ready task.
    pub fn has_room<'s>(&self, state_of: impl Fn(u32) -> Option<&'s AtomicU64>) -> Result<bool> {
        let tail = self.shared.tail.load(Ordering::Relaxed);
        let mut place = self.shared.head.load(Ordering::Acquire);
        // Only this producer moves the tail, and no further than a lap before the head.
        if !self.is_extent(place, tail) || tail == u64::MAX {
            return Err(no_extent(place, tail));
        }
        while tail.saturating_sub(place) >= self.entries.count() {
            let cell = self.entry(place).load(Ordering::Relaxed);
            let state = state_of(cell).ok_or_else(|| no_such_cell(cell))?;
            if load_state(state).waits_at(self.number, place as u32) {
                return Ok(false);
            }
            place = self.advance_head(place);
        }
        Ok(true)
    }

    /// Head and tail. The tail is never behind the head, nor more than a lap before it.
    #[inline]
    pub fn extent(&self) -> Result<(u64, u64)> {
        let head = self.shared.head.load(Ordering::Acquire);
        let tail = self.shared.tail.load(Ordering::Acquire);
        if self.is_extent(head, tail) {
            return Ok((head, tail));
        }
        self.extent_slow(head)
    }

    #[inline]
    fn is_extent(&self, head: u64, tail: u64) -> bool {
        tail.checked_sub(head).is_some_and(|len| len <= self.entries.count())
    }

    /// Both may have moved on between the two looks: then the head has.
    #[cold]
    fn extent_slow(&self, mut before: u64) -> Result<(u64, u64)> {
        loop {
            let head = self.shared.head.load(Ordering::Acquire);
            let tail = self.shared.tail.load(Ordering::Acquire);
            if self.is_extent(head, tail) {
                return Ok((head, tail));
            }
            if head <= before {
                return Err(no_extent(head, tail));
            }
            before = head;
        }
    }

    /// Make a cell ready. Its fields are written; only this producer writes to this ring. False,
    /// and nothing is done, if the task was taken back, or cancelled, in the meantime.
    ///
    /// The state goes first: a producer that dies before the entry leaves a READY cell which no
    /// ring holds, and that is what [`TaskRing::is_unlisted`] finds again. The other way round an entry
    /// would be skipped as stale.
    pub fn push(&self, cell: u32, state: &AtomicU64) -> bool {
        let place = self.shared.tail.load(Ordering::Relaxed);
        let ready = State::new(READY, self.number, 0, place as u32);
        // Not a plain store: the parent may be setting WAITER at this moment (requeue), and it may
        // withdraw what a dead supervisor has left READY, and use the cell for another task.
        let mut word = state.load(Ordering::Relaxed);
        loop {
            let seen = State::unpack(word);
            if !self.accepts(seen) {
                return false;
            }
            let next = State { waiter: seen.waiter, ..ready }.pack();
            // [fill->claim] pairs with the acquire in claim_cell()
            match state.compare_exchange(word, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if self.number == RETRY {
            crash_point("requeue.marked");
        }
        self.entry(place).store(cell, Ordering::Relaxed);
        // [push->scan] pairs with the acquire of the tail in claim()
        self.shared.tail.store(place + 1, Ordering::Release);
        true
    }

    /// The parent enters what is its own; the supervisor what a dead worker had, or its predecessor
    /// has marked and not entered; but not what nobody wants any more.
    fn accepts(&self, seen: State) -> bool {
        match self.number {
            MAIN => seen.tag == FREE,
            _ => {
                (seen.tag == CLAIMED && !seen.cancelled)
                    || (seen.tag == READY && seen.ring == self.number)
            }
        }
    }

    /// Is this cell READY for this ring, and yet in none of its entries? Then a producer has died
    /// between the two. Claimants may be at work meanwhile, another producer may not.
    pub fn is_unlisted(&self, cell: u32, state: &AtomicU64) -> bool {
        let seen = load_state(state);
        if !seen.waits_at(self.number, seen.ticket) || self.holds(cell, seen.ticket) {
            return false;
        }
        // A claim changes the state before any process moves `head` past its place: was it that?
        load_state(state).waits_at(self.number, seen.ticket)
    }

    /// Does this place lie before us, with this cell in it?
    fn holds(&self, cell: u32, ticket: u32) -> bool {
        let Ok((head, tail)) = self.extent() else { return false };
        let ahead = u64::from(ticket.wrapping_sub(head as u32));
        ahead < tail - head && self.entry(head + ahead).load(Ordering::Relaxed) == cell
    }

    /// Take the oldest ready cell for `owner_id`, or nothing.
    ///
    /// A claimant that dies after the exchange has signed for the cell; the next one helps `head`
    /// over it. Dying at any other place takes nothing.
    pub fn claim<'s>(
        &self,
        owner_id: u32,
        state_of: impl Fn(u32) -> Option<&'s AtomicU64>,
    ) -> Result<Option<(u32, State)>> {
        let mut place = self.shared.head.load(Ordering::Acquire);
        loop {
            let tail = self.shared.tail.load(Ordering::Acquire);
            if tail == place {
                return Ok(None);
            }
            if !self.is_extent(place, tail) {
                (place, _) = self.extent_slow(place)?;
                continue;
            }
            let cell = self.entry(place).load(Ordering::Relaxed);
            // A damaged entry names another cell, or none: each worker would find it again. The task
            // that it stood for is ready and in no ring, which its waiter is told.
            let taken = state_of(cell)
                .and_then(|state| claim_cell(state, self.number, place as u32, owner_id));
            let head = self.advance_head(place);
            if let Some(state) = taken {
                return Ok(Some((cell, state)));
            }
            place = head;
        }
    }

    /// Move `head` over a place that is claimed or withdrawn; where it is then.
    fn advance_head(&self, place: u64) -> u64 {
        let (from, to) = (place, place.wrapping_add(1));
        match self.shared.head.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => to,
            Err(now) => now,
        }
    }
}

#[cold]
fn no_extent(head: u64, tail: u64) -> std::io::Error {
    damaged(format!("a ring of tasks from {head} to {tail}"))
}

#[cold]
fn no_such_cell(cell: u32) -> std::io::Error {
    damaged(format!("a ring of tasks names cell {cell}, which is none"))
}

pub const MAIN: u32 = 0;
pub const RETRY: u32 = 1;

/// READY with this ticket → CLAIMED by `owner_id`, unless another was faster or it was withdrawn.
pub(super) fn claim_cell(
    state: &AtomicU64,
    ring: u32,
    ticket: u32,
    owner_id: u32,
) -> Option<State> {
    let mut word = state.load(Ordering::Relaxed);
    loop {
        let seen = State::unpack(word);
        if !seen.waits_at(ring, ticket) {
            return None;
        }
        let mine = State { tag: CLAIMED, owner_id, ..seen };
        // [fill->claim]
        match state.compare_exchange(word, mine.pack(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(mine),
            Err(now) => word = now,
        }
    }
}

/// CLAIMED → DONE or LOST. True if a waiter may sleep on the word.
pub fn finish(state: &AtomicU64, claimed: State, tag: u32) -> bool {
    let ended = State { tag, waiter: false, ..claimed };
    // [result->read] pairs with the acquire in load_state()
    State::unpack(state.swap(ended.pack(), Ordering::AcqRel)).waiter
}

pub fn load_state(state: &AtomicU64) -> State {
    // [result->read]
    State::unpack(state.load(Ordering::Acquire))
}

/// Announce a sleeper. The word to sleep on, or nothing if the task has ended meanwhile.
pub fn announce_waiter(state: &AtomicU64) -> Option<u64> {
    let mut word = state.load(Ordering::Acquire);
    loop {
        if State::unpack(word).ended() {
            return None;
        }
        let next = word | WAITER;
        match state.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(next),
            Err(now) => word = now,
        }
    }
}

/// READY → FREE: take an unclaimed task back. False if it is too late.
pub fn withdraw(state: &AtomicU64) -> bool {
    let mut word = state.load(Ordering::Acquire);
    loop {
        let seen = State::unpack(word);
        if seen.tag != READY {
            return false;
        }
        let free = State { tag: FREE, waiter: false, ..seen }.pack();
        match state.compare_exchange(word, free, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(now) => word = now,
        }
    }
}

/// Mark a claimed task: nobody wants its result. False if `seen` is not its state any more.
pub fn mark_cancelled(state: &AtomicU64, seen: State) -> bool {
    let marked = State { cancelled: true, ..seen }.pack();
    // [cancel->look] pairs with the acquire in load_state()
    state.compare_exchange(seen.pack(), marked, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_ring_whose_tail_is_behind_its_head_is_damaged() {
        let entries: Vec<_> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let state = AtomicU64::new(0);
        for (head, tail) in [(5, 4), (u64::MAX - 2, 3), (u64::MAX, 0), (0, 9)] {
            let shared = TaskRingShared::new();
            shared.head.store(head, Ordering::Relaxed);
            shared.tail.store(tail, Ordering::Relaxed);
            let ring = TaskRing { number: MAIN, shared: &shared, entries: &entries[..] };
            assert!(ring.extent().is_err(), "{head} {tail}");
            assert!(ring.has_room(|_| Some(&state)).is_err(), "{head} {tail}");
            assert!(ring.claim(1, |_| Some(&state)).is_err(), "{head} {tail}");
        }
    }
}
