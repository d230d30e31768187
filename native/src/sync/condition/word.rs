//! The waiters of a condition: a queue of slots, each with an owner and its own word to sleep on.
//!
//! ```text
//! slot     owner: 32 | state: 2 | ticket: 30
//!
//! EMPTY ──take──▶ WAITING ──grant──▶ GRANTED ──▶ EMPTY
//!                    └──give up──▶ EMPTY
//! ```
//! A notification is for the waiters of the moment when it was given, so a slot keeps a ticket: the
//! first to come is woken first, and later ones cannot take it. The owner of a granted slot may be
//! dead, or may die before it looks: then the next waiter of that moment takes it over. So a grant
//! writes down the first ticket that was *not* yet given out.
//!
//! A word that only counts notifications would do with less, but then every sleeper that looks at
//! it after its slice would take itself for the one that was meant.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::testing::crash_points::crash_point;

pub const SLOTS: usize = 256;

pub(super) const EMPTY: u64 = 0;
const WAITING: u32 = 1 << 30;
const GRANTED: u32 = 2 << 30;
const TICKETS: u32 = (1 << 30) - 1;

#[repr(C, align(64))]
pub struct ConditionShared {
    /// The next ticket.
    pub tickets: AtomicU32,
    _pad: [u32; 15],
    pub slots: [AtomicU64; SLOTS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WaitSlot {
    state: u32,
    ticket: u32,
    owner: u32,
}

impl WaitSlot {
    fn unpack(word: u64) -> Self {
        let low = word as u32;
        Self { state: low & !TICKETS, ticket: low & TICKETS, owner: (word >> 32) as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.owner) << 32 | u64::from(self.state | self.ticket)
    }
}

/// Was ticket `a` given out before `b`? They may have run over in between.
fn before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) & TICKETS < TICKETS / 2
}

/// A queue of slots as one process sees it, with its own number.
#[derive(Clone, Copy)]
pub struct WaitQueue<'a> {
    pub tickets: &'a AtomicU32,
    pub slots: &'a [AtomicU64],
    pub me: u32,
}

/// A slot that this process has taken.
#[derive(Debug, Clone, Copy)]
pub struct TakenSlot {
    pub number: usize,
    word: u64,
}

impl TakenSlot {
    /// The half of the slot's word to sleep on, as it was.
    pub fn expected(self) -> u32 {
        self.word as u32
    }
}

fn change(slot: &AtomicU64, from: u64, to: u64) -> bool {
    slot.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

impl WaitQueue<'_> {
    /// Take a slot. The caller holds the condition's lock, so that no notification comes in between.
    pub fn enqueue(&self, is_dead: impl Fn(u32) -> bool) -> Option<TakenSlot> {
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel) & TICKETS;
        let word = WaitSlot { state: WAITING, ticket, owner: self.me }.pack();
        let free = |(number, slot): (usize, &AtomicU64)| {
            change(slot, EMPTY, word).then_some(TakenSlot { number, word })
        };
        self.slots.iter().enumerate().find_map(free).or_else(|| {
            // Full, perhaps of owners that died here and left no waiter to notice.
            self.slots.iter().for_each(|slot| clear_if_dead(slot, &is_dead));
            self.slots.iter().enumerate().find_map(free)
        })
    }

    /// Was it granted? The slot stays signed for until [`WaitQueue::leave`]: should we die before we can use
    /// the notification, it is found there.
    pub fn is_granted(&self, taken: TakenSlot) -> bool {
        self.slots[taken.number].load(Ordering::Acquire) != taken.word
    }

    /// Leave a slot that was granted: the notification is used, or handed on.
    pub fn leave(&self, taken: TakenSlot) {
        self.slots[taken.number].store(EMPTY, Ordering::Release);
    }

    /// Leave without a notification. False if it has come in the meantime.
    pub fn give_up(&self, taken: TakenSlot) -> bool {
        change(&self.slots[taken.number], taken.word, EMPTY)
    }

    /// Grant a notification to the `count` longest waiters. `wake` gets their slots.
    pub fn grant(&self, count: usize, wake: impl Fn(usize)) -> usize {
        let now = self.tickets.load(Ordering::Acquire) & TICKETS;
        self.grant_before(now, count, wake)
    }

    fn grant_before(&self, limit: u32, count: usize, wake: impl Fn(usize)) -> usize {
        let mut granted = 0;
        while granted < count {
            let Some((number, word)) = self.oldest_before(limit) else { break };
            let slot = WaitSlot::unpack(word);
            let next = WaitSlot { state: GRANTED, ticket: limit, ..slot }.pack();
            if change(&self.slots[number], word, next) {
                crash_point("condition.granted");
                wake(number);
                granted += 1;
            }
        }
        granted
    }

    fn oldest_before(&self, limit: u32) -> Option<(usize, u64)> {
        let mut oldest: Option<(usize, u64)> = None;
        for (number, slot) in self.slots.iter().enumerate() {
            let word = slot.load(Ordering::Acquire);
            let this = WaitSlot::unpack(word);
            let waits = this.state == WAITING && before(this.ticket, limit);
            if waits && oldest.is_none_or(|(_, w)| before(this.ticket, WaitSlot::unpack(w).ticket))
            {
                oldest = Some((number, word));
            }
        }
        oldest
    }

    /// Take over what was granted to a dead waiter, if we waited when it was: the granted slot that
    /// is ours instead. One store signs for it, so it is never without an owner.
    pub fn inherit(
        &self,
        taken: TakenSlot,
        is_dead: impl Fn(u32) -> bool,
        wake: impl Fn(usize),
    ) -> Option<TakenSlot> {
        let ours = WaitSlot::unpack(taken.word).ticket;
        for (number, slot) in self.slots.iter().enumerate() {
            let word = slot.load(Ordering::Acquire);
            let other = WaitSlot::unpack(word);
            let for_us = other.state == GRANTED && before(ours, other.ticket);
            if !for_us || other.owner == self.me || !is_dead(other.owner) {
                continue;
            }
            let mine = WaitSlot { owner: self.me, ..other }.pack();
            if !change(slot, word, mine) {
                continue;
            }
            let found = TakenSlot { number, word: mine };
            if self.give_up(taken) {
                return Some(found);
            }
            // Ours came as well: this one goes to the next.
            self.grant_before(other.ticket, 1, wake);
            self.leave(found);
            return Some(taken);
        }
        None
    }

    /// Hand on a notification that was taken and will not be used.
    pub fn grant_next(&self, wake: impl Fn(usize)) {
        self.grant(1, wake);
    }

    /// Whether the next ticket comes after that of a taken slot, as it must.
    pub fn is_sound(&self, taken: TakenSlot) -> bool {
        let now = self.tickets.load(Ordering::Acquire) & TICKETS;
        before(WaitSlot::unpack(taken.word).ticket, now)
    }

    pub fn waiting(&self) -> usize {
        let waits =
            |slot: &&AtomicU64| WaitSlot::unpack(slot.load(Ordering::Acquire)).state == WAITING;
        self.slots.iter().filter(waits).count()
    }
}

fn clear_if_dead(slot: &AtomicU64, is_dead: impl Fn(u32) -> bool) {
    let word = slot.load(Ordering::Acquire);
    if word != EMPTY && is_dead(WaitSlot::unpack(word).owner) {
        change(slot, word, EMPTY);
    }
}
