//! Who waits for a condition: a row of seats, each signed for, each with its own word to sleep on.
//!
//! ```text
//! seat     agent: 32 | state: 2 | ticket: 30
//!
//! EMPTY ──take──▶ WAITING ──grant──▶ GRANTED ──▶ EMPTY
//!                    └──give up──▶ EMPTY
//! ```
//! A notification is for those who waited when it was given, so a seat keeps a ticket: who sat down
//! first is woken first, and who came later cannot take it. The one it was given to may be dead, or
//! may die before it looks: then the next of those who waited at that moment takes it over. That is
//! why a grant writes down the first ticket that was *not* yet given out.
//!
//! A word that only counts notifications would do with less, but then every sleeper that looks at
//! it after its slice would take itself for the one that was meant.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::testing::crash_points::crash_point;

pub const SEATS: usize = 256;

pub(super) const EMPTY: u64 = 0;
const WAITING: u32 = 1 << 30;
const GRANTED: u32 = 2 << 30;
const TICKETS: u32 = (1 << 30) - 1;

#[repr(C, align(64))]
pub struct ConditionShared {
    /// The next ticket.
    pub tickets: AtomicU32,
    _pad: [u32; 15],
    pub seats: [AtomicU64; SEATS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    state: u32,
    ticket: u32,
    agent: u32,
}

impl Seat {
    fn unpack(word: u64) -> Self {
        let low = word as u32;
        Self { state: low & !TICKETS, ticket: low & TICKETS, agent: (word >> 32) as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.agent) << 32 | u64::from(self.state | self.ticket)
    }
}

/// Was ticket `a` given out before `b`? They may have run over in between.
fn before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) & TICKETS < TICKETS / 2
}

/// A row of seats as one process sees it, with its own number.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub tickets: &'a AtomicU32,
    pub seats: &'a [AtomicU64],
    pub me: u32,
}

/// A seat that this process has taken.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub number: usize,
    word: u64,
}

impl Taken {
    /// The half of the seat's word to sleep on, as it was.
    pub fn expected(self) -> u32 {
        self.word as u32
    }
}

fn change(seat: &AtomicU64, from: u64, to: u64) -> bool {
    seat.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

impl Row<'_> {
    /// Sit down. The caller holds the condition's lock, so that no notification comes in between.
    pub fn sit(&self, is_dead: impl Fn(u32) -> bool) -> Option<Taken> {
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel) & TICKETS;
        let word = Seat { state: WAITING, ticket, agent: self.me }.pack();
        let free = |(number, seat): (usize, &AtomicU64)| {
            change(seat, EMPTY, word).then_some(Taken { number, word })
        };
        self.seats.iter().enumerate().find_map(free).or_else(|| {
            // Full, perhaps of those who died here and left nobody to notice.
            self.seats.iter().for_each(|seat| clear_if_dead(seat, &is_dead));
            self.seats.iter().enumerate().find_map(free)
        })
    }

    /// Was it granted? The seat stays signed for until [`Row::leave`]: should we die before we can use
    /// the notification, it is found there.
    pub fn is_granted(&self, taken: Taken) -> bool {
        self.seats[taken.number].load(Ordering::Acquire) != taken.word
    }

    /// Leave a seat that was granted: the notification is used, or handed on.
    pub fn leave(&self, taken: Taken) {
        self.seats[taken.number].store(EMPTY, Ordering::Release);
    }

    /// Leave without a notification. False if it has come in the meantime.
    pub fn give_up(&self, taken: Taken) -> bool {
        change(&self.seats[taken.number], taken.word, EMPTY)
    }

    /// Grant a notification to the `count` who have waited longest. `wake` gets their seats.
    pub fn grant(&self, count: usize, wake: impl Fn(usize)) -> usize {
        let now = self.tickets.load(Ordering::Acquire) & TICKETS;
        self.grant_before(now, count, wake)
    }

    fn grant_before(&self, limit: u32, count: usize, wake: impl Fn(usize)) -> usize {
        let mut granted = 0;
        while granted < count {
            let Some((number, word)) = self.oldest_before(limit) else { break };
            let seat = Seat::unpack(word);
            let next = Seat { state: GRANTED, ticket: limit, ..seat }.pack();
            if change(&self.seats[number], word, next) {
                crash_point("condition.granted");
                wake(number);
                granted += 1;
            }
        }
        granted
    }

    fn oldest_before(&self, limit: u32) -> Option<(usize, u64)> {
        let mut oldest: Option<(usize, u64)> = None;
        for (number, seat) in self.seats.iter().enumerate() {
            let word = seat.load(Ordering::Acquire);
            let this = Seat::unpack(word);
            let waits = this.state == WAITING && before(this.ticket, limit);
            if waits && oldest.is_none_or(|(_, w)| before(this.ticket, Seat::unpack(w).ticket)) {
                oldest = Some((number, word));
            }
        }
        oldest
    }

    /// Take over what was granted to somebody who is dead, if we waited when it was: the granted seat
    /// that is ours instead. One store signs for it, so it is never nobody's.
    pub fn inherit(
        &self,
        taken: Taken,
        is_dead: impl Fn(u32) -> bool,
        wake: impl Fn(usize),
    ) -> Option<Taken> {
        let ours = Seat::unpack(taken.word).ticket;
        for (number, seat) in self.seats.iter().enumerate() {
            let word = seat.load(Ordering::Acquire);
            let other = Seat::unpack(word);
            let for_us = other.state == GRANTED && before(ours, other.ticket);
            if !for_us || other.agent == self.me || !is_dead(other.agent) {
                continue;
            }
            let mine = Seat { agent: self.me, ..other }.pack();
            if !change(seat, word, mine) {
                continue;
            }
            let found = Taken { number, word: mine };
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
    pub fn hand_on(&self, wake: impl Fn(usize)) {
        self.grant(1, wake);
    }

    pub fn waiting(&self) -> usize {
        let waits = |seat: &&AtomicU64| Seat::unpack(seat.load(Ordering::Acquire)).state == WAITING;
        self.seats.iter().filter(waits).count()
    }
}

fn clear_if_dead(seat: &AtomicU64, is_dead: impl Fn(u32) -> bool) {
    let word = seat.load(Ordering::Acquire);
    if word != EMPTY && is_dead(Seat::unpack(word).agent) {
        change(seat, word, EMPTY);
    }
}
