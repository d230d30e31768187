//! How a task changes hands: the only places where two processes meet on one word.
//!
//! ```text
//! state      written by                      meaning
//! FREE       the parent                      nobody's
//! READY      the parent, the supervisor      in a ring, to be claimed
//! CLAIMED    worker `who`                    taken and signed for, in one store
//! DONE       worker `who`                    the result is complete
//! LOST       the supervisor                  `who` died with it; the reason is complete
//!
//! FREE ─▶ READY ─▶ CLAIMED ─▶ DONE ─▶ FREE
//!           ▲         │
//!           └─requeue─┴─▶ LOST ─▶ FREE
//! ```
//!
//! The WAITER bit says that a thread of the parent may sleep on the word; whoever ends the task
//! then wakes it. The ticket is the place in the ring, so that a claim can never take a later task
//! that happens to lie in the same cell.

#[cfg(loom)]
pub use loom::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
pub use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

pub const FREE: u32 = 0;
pub const READY: u32 = 1;
pub const CLAIMED: u32 = 2;
pub const DONE: u32 = 3;
pub const LOST: u32 = 4;

/// Who may be named in a word: incarnations count from 1, the parent is 0.
pub const MAX_WHO: u32 = (1 << 24) - 1;

/// A cell's state word, taken apart. Bits: `ticket:32 | who:24 | ring:1 | waiter:1 | tag:6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub tag: u32,
    pub waiter: bool,
    pub ring: u32,
    pub who: u32,
    pub ticket: u32,
}

const WAITER: u64 = 1 << 6;

impl State {
    pub fn new(tag: u32, ring: u32, who: u32, ticket: u32) -> Self {
        Self { tag, waiter: false, ring, who, ticket }
    }

    pub fn unpack(word: u64) -> Self {
        let low = word as u32;
        Self {
            tag: low & 0x3f,
            waiter: word & WAITER != 0,
            ring: low >> 7 & 1,
            who: low >> 8,
            ticket: (word >> 32) as u32,
        }
    }

    pub fn pack(self) -> u64 {
        let low = self.tag | u32::from(self.waiter) << 6 | self.ring << 7 | self.who << 8;
        u64::from(self.ticket) << 32 | u64::from(low)
    }

    /// Nobody will write the word any more but the parent.
    pub fn ended(self) -> bool {
        self.tag == DONE || self.tag == LOST
    }
}

/// Cell numbers in the order in which they became ready. One producer, many claimants.
#[repr(C, align(128))]
pub struct RingShared {
    /// Everything before it was claimed or withdrawn. Anyone may help it forward.
    pub head: AtomicU64,
    _line: [u64; 15],
    /// Where the producer writes next.
    pub tail: AtomicU64,
    _other_line: [u64; 15],
}

impl RingShared {
    /// For tests; in shared memory a ring of zeros is an empty ring.
    pub fn new() -> Self {
        Self { head: AtomicU64::new(0), _line: [0; 15], tail: AtomicU64::new(0), _other_line: [0; 15] }
    }

    pub fn len(&self) -> u64 {
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire).saturating_sub(head)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for RingShared {
    fn default() -> Self {
        Self::new()
    }
}

/// A ring and its entries, as one process sees them.
#[derive(Clone, Copy)]
pub struct Ring<'a> {
    pub number: u32,
    pub shared: &'a RingShared,
    /// A power of two many.
    pub entries: &'a [AtomicU32],
}

impl Ring<'_> {
    fn entry(&self, place: u64) -> &AtomicU32 {
        &self.entries[(place & (self.entries.len() as u64 - 1)) as usize]
    }

    pub fn is_full(&self) -> bool {
        self.shared.len() >= self.entries.len() as u64
    }

    /// Make a cell ready. Its fields are written; only this producer writes to this ring.
    ///
    /// The state goes first: a producer that dies before the entry leaves a READY cell which no
    /// ring holds, and that is what [`Ring::holds`] finds again. The other way round an entry
    /// would be skipped as stale.
    pub fn push(&self, cell: u32, state: &AtomicU64) {
        let place = self.shared.tail.load(Ordering::Relaxed);
        let ready = State::new(READY, self.number, 0, place as u32);
        // Not a plain store: the parent may be setting WAITER at this moment (requeue).
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            let next = State { waiter: State::unpack(seen).waiter, ..ready }.pack();
            // [fill->claim] pairs with the acquire in claim()
            match state.compare_exchange(seen, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        #[cfg(not(loom))]
        if self.number == RETRY {
            crate::crash::reach("requeue.marked");
        }
        self.entry(place).store(cell, Ordering::Relaxed);
        // [push->scan] pairs with the acquire of the tail in claim()
        self.shared.tail.store(place + 1, Ordering::Release);
    }

    /// Is a READY cell with this ticket still going to be found by a claimant?
    pub fn holds(&self, cell: u32, ticket: u32) -> bool {
        let head = self.shared.head.load(Ordering::Acquire);
        let tail = self.shared.tail.load(Ordering::Acquire);
        let ahead = u64::from(ticket.wrapping_sub(head as u32));
        ahead < tail - head && self.entry(head + ahead).load(Ordering::Relaxed) == cell
    }

    /// Take the oldest ready cell for `who`, or nothing.
    ///
    /// A claimant that dies after the exchange has signed for the cell; the next one helps `head`
    /// over it. Dying at any other place takes nothing.
    pub fn claim<'s>(
        &self,
        who: u32,
        state_of: impl Fn(u32) -> &'s AtomicU64,
    ) -> Option<(u32, State)> {
        let mut place = self.shared.head.load(Ordering::Acquire);
        loop {
            if place >= self.shared.tail.load(Ordering::Acquire) {
                return None;
            }
            let cell = self.entry(place).load(Ordering::Relaxed);
            let taken = take(state_of(cell), self.number, place as u32, who);
            let next = place + 1;
            let moved = self.shared.head.compare_exchange(
                place,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if let Some(state) = taken {
                return Some((cell, state));
            }
            place = match moved {
                Ok(_) => next,
                Err(now) => now,
            };
        }
    }
}

pub const MAIN: u32 = 0;
pub const RETRY: u32 = 1;

/// READY with this ticket → CLAIMED by `who`, unless someone else was faster or it was withdrawn.
fn take(state: &AtomicU64, ring: u32, ticket: u32, who: u32) -> Option<State> {
    let mut word = state.load(Ordering::Relaxed);
    loop {
        let seen = State::unpack(word);
        if seen.tag != READY || seen.ring != ring || seen.ticket != ticket {
            return None;
        }
        let mine = State { tag: CLAIMED, who, ..seen };
        // [fill->claim]
        match state.compare_exchange(word, mine.pack(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(mine),
            Err(now) => word = now,
        }
    }
}

/// CLAIMED → DONE or LOST. True if somebody may sleep on the word.
pub fn end(state: &AtomicU64, claimed: State, tag: u32) -> bool {
    let ended = State { tag, waiter: false, ..claimed };
    // [result->read] pairs with the acquire in peek()
    State::unpack(state.swap(ended.pack(), Ordering::AcqRel)).waiter
}

pub fn peek(state: &AtomicU64) -> State {
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

/// READY → FREE: take a task back that nobody has claimed. False if it is too late.
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

/// Where idle claimants sleep; producers ring it.
///
/// ```text
/// SLEEPING  meaning
///    0      nobody sleeps: publishing needs no system call
///    1      someone may sleep: the producer must ring
/// ```
#[repr(C, align(128))]
pub struct BellShared {
    /// Counts the rings; the word that is slept on.
    pub count: AtomicU32,
    pub sleeping: AtomicU32,
    /// The claimant that spins at the moment, 0 if none does. It needs no bell.
    pub spinner: AtomicU32,
    _pad: [u32; 29],
}

impl BellShared {
    pub fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            sleeping: AtomicU32::new(0),
            spinner: AtomicU32::new(0),
            _pad: [0; 29],
        }
    }

    /// Before sleeping: the count to sleep on. The caller then looks for work once more, and only
    /// if there is none waits for the count to change.
    ///
    /// The count is read before the flag is set: a producer that clears the flag rings afterwards,
    /// so a sleeper which it has overlooked finds its count outdated.
    pub fn prepare(&self) -> u32 {
        let count = self.count.load(Ordering::SeqCst);
        self.sleeping.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        count
    }

    /// After publishing: must somebody be woken? Then the caller wakes, and reports how it went.
    pub fn must_ring(&self, spinner_is_enough: bool) -> bool {
        fence(Ordering::SeqCst);
        if spinner_is_enough && self.spinner.load(Ordering::SeqCst) != 0 {
            return false;
        }
        if self.sleeping.swap(0, Ordering::SeqCst) == 0 {
            return false;
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// After waking: more may sleep than were woken.
    pub fn rung(&self, woken: i32) {
        if woken > 0 {
            self.sleeping.store(1, Ordering::SeqCst);
        }
    }
}

impl Default for BellShared {
    fn default() -> Self {
        Self::new()
    }
}
