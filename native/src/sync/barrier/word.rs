//! A barrier: a round that all parties sign for, and one store that ends it.
//!
//! ```text
//! word    outcomes of the last 32 rounds: 32 | round: 30 | state: 2
//! place   owner: 32 | round: 32               one for each party
//!
//! FILLING ──all have signed──▶ ACTING ──▶ FILLING, next round
//!    └─────────────┴── timeout, death, abort ──▶ BROKEN ──reset──▶ FILLING, next round
//! ```
//! A place counts for the round that is written in it, so nothing is to be cleared for the next.
//! A party that looks late at the end of its round finds in the outcomes whether it was broken.
//!
//! A party that was interrupted takes its signature back: WITHDRAWN, and the round. So in an ACTING
//! round each place counts or is withdrawn; anything else is damage.
//!
//! A dead party breaks its round: the last to come looks at all others before it ends the round, and
//! each waiter looks at the next one in every slice of its sleep.

use crate::sys::atomic::{fence, AtomicU64, Ordering};

pub const FILLING: u32 = 0;
pub const ACTING: u32 = 1;
pub const BROKEN: u32 = 2;

const STATE: u32 = 3;
/// In a place without an owner: its party left this round, or one before.
const WITHDRAWN: u64 = 1 << 31;
const ROUNDS: u32 = (1 << 30) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub state: u32,
    pub round: u32,
    outcomes: u32,
}

impl State {
    fn unpack(word: u64) -> Self {
        let low = word as u32;
        Self { state: low & STATE, round: low >> 2, outcomes: (word >> 32) as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.outcomes) << 32 | u64::from(self.low())
    }

    /// What is slept on.
    pub fn low(self) -> u32 {
        self.round << 2 | self.state
    }

    fn next_round(self, broken: bool) -> Self {
        let bit = 1 << (self.round % 32);
        let outcomes = if broken { self.outcomes | bit } else { self.outcomes & !bit };
        Self { state: FILLING, round: (self.round + 1) & ROUNDS, outcomes }
    }
}

/// What a party finds about its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    Passed,
    Broken,
    /// Still going on: the word to sleep on.
    Open(u32),
    /// Another round goes on, and the parties have not signed for the one before.
    Damaged,
}

/// Is a place's word of no party, or of a round before this one?
fn is_older(word: u64, round: u32) -> bool {
    let (owner, of) = (word >> 32, word as u32);
    owner == 0 || (of != round && round.wrapping_sub(of) & ROUNDS < ROUNDS / 2)
}

#[derive(Clone, Copy)]
pub struct Barrier<'a> {
    pub word: &'a AtomicU64,
    pub places: &'a [AtomicU64],
    pub me: u32,
}

/// What becomes of a party that arrives.
#[derive(Debug, Clone, Copy)]
pub enum Arrival {
    Signed(Place),
    Broken,
    /// As many as there are parties are in already: the word to sleep on until the round has ended.
    Full(u32),
}

/// A party's place in a round.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub number: usize,
    pub round: u32,
}

impl Barrier<'_> {
    pub fn look(&self) -> State {
        // [end->seen] pairs with the release of the party that has ended the round
        State::unpack(self.word.load(Ordering::Acquire))
    }

    fn change(&self, from: State, to: State) -> bool {
        let (from, to) = (from.pack(), to.pack());
        // [end->seen]
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn signature(&self, round: u32) -> u64 {
        u64::from(self.me) << 32 | u64::from(round)
    }

    fn counts(place: &AtomicU64, round: u32) -> Option<u32> {
        let word = place.load(Ordering::Acquire);
        let owner = (word >> 32) as u32;
        (word as u32 == round && owner != 0).then_some(owner)
    }

    /// Sign for the present round.
    ///
    /// A place is taken only from an older round. So while one was free for this round the round was
    /// not over, and a signature in it counts, however late its writer looks at the word again.
    pub fn arrive(&self) -> Arrival {
        loop {
            let seen = self.look();
            if seen.state == BROKEN {
                return Arrival::Broken;
            }
            let mine = self.signature(seen.round);
            let free = |place: &AtomicU64| {
                let word = place.load(Ordering::Acquire);
                let (yes, no) = (Ordering::AcqRel, Ordering::Acquire);
                is_older(word, seen.round) && place.compare_exchange(word, mine, yes, no).is_ok()
            };
            if let Some(number) = self.places.iter().position(free) {
                return Arrival::Signed(Place { number, round: seen.round });
            }
            if self.look().round == seen.round {
                return Arrival::Full(seen.low());
            }
        }
    }

    /// Have all parties signed for this round? Asked after one's own signature.
    pub fn is_full(&self, round: u32) -> bool {
        // [sign->count] pairs with itself: of two last signers, one sees both signatures
        fence(Ordering::SeqCst);
        self.places.iter().all(|each| Self::counts(each, round).is_some())
    }

    /// Become the party that ends the round, if all have signed and no other does.
    pub fn complete(&self, place: Place) -> bool {
        let full = self.is_full(place.round);
        let seen = self.look();
        full && seen.state == FILLING
            && seen.round == place.round
            && self.change(seen, State { state: ACTING, ..seen })
    }

    /// End the round. False if it was broken meanwhile.
    pub fn pass(&self, place: Place) -> bool {
        let seen = self.look();
        seen.round == place.round
            && seen.state == ACTING
            && self.change(seen, seen.next_round(false))
    }

    /// How this party's round stands.
    pub fn standing(&self, place: Place) -> Round {
        let seen = self.look();
        if seen.round == place.round {
            return if seen.state == BROKEN { Round::Broken } else { Round::Open(seen.low()) };
        }
        let was_broken = |round: u32| seen.outcomes >> (round % 32) & 1 == 1;
        let last = seen.round.wrapping_sub(1) & ROUNDS;
        let has_left = |place: &AtomicU64| {
            let of = place.load(Ordering::Acquire) as u32 & ROUNDS;
            of == last || last.wrapping_sub(of) & ROUNDS >= ROUNDS / 2
        };
        if was_broken(place.round) {
            Round::Broken
        } else if was_broken(last) || self.places.iter().all(has_left) {
            Round::Passed
        } else {
            Round::Damaged
        }
    }

    /// Take the signature back: this party will not wait any longer, and the barrier stays whole.
    /// False if it is too late for that.
    pub fn withdraw(&self, place: Place) -> bool {
        let (seat, mine) = (&self.places[place.number], self.signature(place.round));
        let seen = self.look();
        if seen.round != place.round || seen.state != FILLING {
            return false;
        }
        let left = WITHDRAWN | u64::from(place.round);
        seat.compare_exchange(mine, left, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Break the round, if it is still going on. True if it is broken now.
    pub fn break_round(&self, round: u32) -> bool {
        loop {
            let seen = self.look();
            if seen.round != round || seen.state == BROKEN {
                return seen.round == round;
            }
            if self.change(seen, State { state: BROKEN, ..seen }) {
                return true;
            }
        }
    }

    /// Break it, whichever round it is.
    pub fn abort(&self) {
        while !self.break_round(self.look().round) {}
    }

    /// Begin a new round; a waiter in the present one finds it broken.
    pub fn reset(&self) {
        loop {
            let seen = self.look();
            let untouched = seen.state == FILLING && self.waiting() == 0;
            if untouched || self.change(seen, seen.next_round(true)) {
                return;
            }
        }
    }

    /// Whether the words can be what was written there: in a round that `is_full`, or that a party
    /// ends, each place is that of a party which `is_possible`.
    pub fn is_sound(&self, is_full: bool, is_possible: impl Fn(u32) -> bool) -> bool {
        let seen = self.look();
        let is_sound = |place: &AtomicU64| match Self::counts(place, seen.round) {
            Some(owner) => is_possible(owner),
            None => {
                let word = place.load(Ordering::Acquire);
                seen.state == FILLING && !is_full || word & WITHDRAWN != 0 && word >> 32 == 0
            }
        };
        let are_sound = seen.state == BROKEN || self.places.iter().all(is_sound);
        seen.state != STATE && are_sound || self.look().pack() != seen.pack()
    }

    /// Parties in the present round.
    pub fn waiting(&self) -> usize {
        let seen = self.look();
        if seen.state == BROKEN {
            return 0;
        }
        self.places.iter().filter(|place| Self::counts(place, seen.round).is_some()).count()
    }

    /// Has a party that signed for this round died? For the last to come: no party that died
    /// before is counted in.
    pub fn has_lost(&self, round: u32, is_dead: impl Fn(u32) -> bool) -> bool {
        let mut owners = self.places.iter().filter_map(|place| Self::counts(place, round));
        owners.any(|owner| owner != self.me && is_dead(owner))
    }

    /// Has the next party in this round died, seen from `place`?
    ///
    /// Each waiter looks at one other, so that waiting costs the same for many parties as for two.
    /// They stand in a circle: of the dead ones, one has a living party before it.
    pub fn has_lost_neighbour(&self, place: Place, is_dead: impl Fn(u32) -> bool) -> bool {
        let (before, after) = self.places.split_at(place.number);
        let mut others = after.iter().skip(1).chain(before);
        others
            .find_map(|seat| Self::counts(seat, place.round).filter(|&owner| owner != self.me))
            .is_some_and(is_dead)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn each_party_looks_at_one_other_and_all_are_looked_at() {
        let (word, places) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; 60]);
        let barrier = |me| Barrier { word: &word, places: &places, me };
        let asked = RefCell::new(Vec::new());
        for me in 1..=50 {
            assert!(matches!(barrier(me).arrive(), Arrival::Signed(_)));
        }
        for number in 0..50 {
            let (me, place) = (number as u32 + 1, Place { number, round: 0 });
            let alive = |owner| {
                asked.borrow_mut().push(owner);
                false
            };
            assert!(!barrier(me).has_lost_neighbour(place, alive));
        }
        let mut asked = asked.into_inner();
        asked.sort_unstable();
        assert_eq!(asked, Vec::from_iter(1..=50));
    }
}
