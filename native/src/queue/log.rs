//! A queue's bytes: two ends with a lock and a commit word each, over a circle of segments.
//!
//! ```text
//!            head                      tail
//! segments   [..XXX]──▶[XXXX]──▶[XX....]──▶[ warm ]──▶[ cold ]──▶ back to the head's
//!             consumed ...  items  ... free      free, reserved    free, given back
//! ```
//! A word is `number:32 | granule:32`: how many items have passed this end, and where it stands. It
//! moves by one store, the commit. What lies behind the tail is no item yet, what lies before the
//! head is none any more. So an owner of a lock that is killed at any instruction has done all of
//! an operation or nothing, and the next owner has nothing to repair.
//!
//! The circle is changed by the tail's owner alone, and each change is one store of a `next`:
//!
//! ```text
//! next of the tail's segment is        the tail goes
//! free and reserved                    there
//! free and given back                  past it: the store takes it, and others like it, off the circle
//! the head's segment                   into one that the store puts between
//! ```
//! The head's owner gives a segment's memory back only while it still stands in it, where the tail
//! cannot come. Killed between two of these stores it leaves a segment that is marked as given back
//! and is not, or as used and is not on the circle: both are found by looking, and cost nothing.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::damage::damaged;
use std::io::{Error, ErrorKind, Result};

/// What an item takes is a multiple of this many bytes.
pub const GRANULE: usize = 16;
/// Free segments that keep their memory; what is beyond is given back.
pub(super) const KEEP_RESERVED: u32 = 4;
/// How many entries are looked at for a number to be used again before a new one is taken.
const SEARCH_LIMIT: u32 = 8;

/// How many items have passed an end, and the granule at which it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub number: u32,
    pub at: u32,
}

impl Position {
    #[inline]
    pub fn unpack(word: u64) -> Self {
        Self { number: (word >> 32) as u32, at: word as u32 }
    }

    #[inline]
    pub fn pack(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.at)
    }
}

/// The two ends, on lines of their own, and what the tail's owner knows of numbers.
#[repr(C, align(128))]
pub struct QueueLogShared {
    pub tail: AtomicU64,
    /// Segments that were ever used; only the tail's owner needs it.
    pub count: AtomicU32,
    /// Where to look next for one that is free.
    pub cursor: AtomicU32,
    _line: [u64; 14],
    pub head: AtomicU64,
    _other_line: [u64; 15],
}

impl QueueLogShared {
    /// For tests; in shared memory zeros and [`QueueLog::found`] make an empty ring.
    pub fn new() -> Self {
        Self {
            tail: AtomicU64::new(0),
            count: AtomicU32::new(0),
            cursor: AtomicU32::new(0),
            _line: [0; 14],
            head: AtomicU64::new(0),
            _other_line: [0; 15],
        }
    }
}

impl Default for QueueLogShared {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of a segment.
#[repr(C)]
pub struct SegmentShared {
    /// The segment after it. Written by the tail's owner.
    pub next: AtomicU32,
    /// Where its items end, once the tail has left it.
    pub end: AtomicU32,
    /// Granules with memory behind them, from the first. 0: given back.
    pub reserved: AtomicU32,
    /// 0: surely not on the circle, its number may be used again.
    pub used: AtomicU32,
}

impl SegmentShared {
    pub fn new() -> Self {
        let zero = || AtomicU32::new(0);
        Self { next: zero(), end: zero(), reserved: zero(), used: zero() }
    }
}

impl Default for SegmentShared {
    fn default() -> Self {
        Self::new()
    }
}

/// Where segments lie. Everything is idempotent: a dead owner may have done it already.
pub trait SegmentMemory {
    /// Granules of a segment; a power of two. The last one is never used, so that an end at the
    /// end of a segment has a place in it.
    const GRANULES: u32;
    /// How many granules are reserved at once.
    const STEP: u32;
    fn segments(&self) -> u32;
    fn entry(&self, segment: u32) -> &SegmentShared;
    /// Make an entry's memory real.
    fn reserve_entry(&self, segment: u32) -> Result<()>;
    /// Make a segment's granules real, from one to another.
    fn reserve(&self, segment: u32, from: u32, to: u32) -> Result<()>;
    /// Give all its memory back.
    fn punch(&self, segment: u32);
    /// Whether a ring of so many segments may have one more.
    fn may_grow(&self, count: u32) -> Result<()>;
    /// Before an operation: see to it that the entries of all segments can be looked at.
    fn ensure_entries(&self) -> Result<()>;
    /// There is memory for a log that grows beyond so many segments.
    fn permit_growth(&self, count: u32);
    fn reach(&self, point: &'static str);
}

/// A ring as one process sees it.
pub struct QueueLog<'a, S: SegmentMemory> {
    pub shared: &'a QueueLogShared,
    pub store: &'a S,
}

impl<S: SegmentMemory> QueueLog<'_, S> {
    /// For its creator, before another process sees it: one segment, which follows itself.
    pub fn create(&self) -> Result<()> {
        self.store.reserve_entry(0)?;
        self.store.entry(0).used.store(1, Ordering::Relaxed);
        self.shared.count.store(1, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub fn tail(&self) -> Position {
        // [put->get] pairs with the release in commit_put()
        Position::unpack(self.shared.tail.load(Ordering::Acquire))
    }

    #[inline]
    pub fn head(&self) -> Position {
        // [get->reuse] pairs with the release in commit_get()
        Position::unpack(self.shared.head.load(Ordering::Acquire))
    }

    /// Items inside, exactly: as many as there were at one moment.
    pub fn len(&self) -> u32 {
        let mut head = self.head();
        loop {
            let tail = self.tail();
            let again = self.head();
            if head == again {
                return tail.number.wrapping_sub(head.number);
            }
            head = again;
        }
    }

    /// Puts and gets so far.
    pub fn changes(&self) -> u32 {
        self.head().number.wrapping_add(self.tail().number)
    }

    /// Whether both ends stand at one place. They do if no item is inside, unless one is damaged.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.head() == self.tail()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head().number == self.tail().number
    }

    fn segment(at: u32) -> u32 {
        at / S::GRANULES
    }

    fn offset(at: u32) -> u32 {
        at % S::GRANULES
    }

    // The tail's owner.

    /// Where an item of so many granules goes, behind `at`: there is memory there, and no reader.
    #[inline]
    pub fn reserve(&self, mut at: u32, granules: u32) -> Result<u32> {
        if Self::offset(at) + granules >= S::GRANULES {
            at = self.leave_segment(at)?;
        }
        let (segment, end) = (Self::segment(at), Self::offset(at) + granules);
        let reserved = self.store.entry(segment).reserved.load(Ordering::Relaxed);
        if reserved < end || reserved > S::GRANULES || reserved % S::STEP != 0 {
            self.reserve_memory(segment, end)?;
        }
        Ok(at)
    }

    #[cold]
    fn reserve_memory(&self, segment: u32, end: u32) -> Result<()> {
        let entry = self.store.entry(segment);
        let from = entry.reserved.load(Ordering::Relaxed);
        if from > S::GRANULES || (from % S::STEP != 0 && from != S::GRANULES) {
            return Err(damaged(format!("a segment of a queue with {from} granules")));
        }
        if from >= end {
            return Ok(());
        }
        let to = end.next_multiple_of(S::STEP).min(S::GRANULES);
        self.store.reserve(segment, from, to)?;
        self.store.reach("queue.segment_reserved");
        entry.reserved.store(to, Ordering::Relaxed);
        Ok(())
    }

    /// Go on to the next segment: the granule at its beginning.
    #[cold]
    fn leave_segment(&self, at: u32) -> Result<u32> {
        let segment = Self::segment(at);
        let next = self.next_free(segment)?;
        // plain: published by [put->get], if the item comes to be committed
        self.store.entry(segment).end.store(Self::offset(at), Ordering::Relaxed);
        Ok(next * S::GRANULES)
    }

    fn next_free(&self, segment: u32) -> Result<u32> {
        let entry = self.store.entry(segment);
        let head = Self::segment(self.head().at);
        let next = self.next_of(segment)?;
        // A dead owner may have put it there, and not counted it.
        self.shared.count.fetch_max(next + 1, Ordering::Relaxed);
        let first_warm = self.skip_cold(next, head)?;
        if first_warm != next {
            entry.next.store(first_warm, Ordering::Relaxed);
            self.store.reach("queue.segments_dropped");
            self.mark_unused(next, first_warm)?;
        }
        if first_warm != head {
            return Ok(first_warm);
        }
        let new = self.unused()?;
        let added = self.store.entry(new);
        added.used.store(1, Ordering::Relaxed);
        added.next.store(head, Ordering::Relaxed);
        self.store.reach("queue.segment_assigned");
        entry.next.store(new, Ordering::Release);
        self.shared.count.fetch_max(new + 1, Ordering::Relaxed);
        self.store.reach("queue.segment_linked");
        Ok(new)
    }

    /// The first segment from `from` on that has memory, or the head's.
    fn skip_cold(&self, from: u32, head: u32) -> Result<u32> {
        let mut segment = from;
        for _ in 0..self.store.segments() {
            let is_cold = self.store.entry(segment).reserved.load(Ordering::Relaxed) == 0;
            if segment == head || !is_cold {
                return Ok(segment);
            }
            segment = self.next_of(segment)?;
        }
        Err(endless())
    }

    fn mark_unused(&self, from: u32, to: u32) -> Result<()> {
        let mut segment = from;
        for _ in 0..self.store.segments() {
            if segment == to {
                return Ok(());
            }
            let entry = self.store.entry(segment);
            segment = self.next_of(segment)?;
            entry.used.store(0, Ordering::Relaxed);
        }
        Err(endless())
    }

    /// The segment behind this one.
    fn next_of(&self, segment: u32) -> Result<u32> {
        let next = self.store.entry(segment).next.load(Ordering::Acquire);
        if next < self.store.segments() {
            return Ok(next);
        }
        Err(damaged(format!("segment {segment} of a queue is followed by {next}, which is none")))
    }

    /// The number of a segment that is not on the circle.
    fn unused(&self) -> Result<u32> {
        let count = self.shared.count.load(Ordering::Relaxed);
        if count == 0 || count > self.store.segments() {
            return Err(damaged(format!("a queue of {count} segments")));
        }
        let cursor = self.shared.cursor.load(Ordering::Relaxed);
        let near =
            (cursor..cursor.saturating_add(SEARCH_LIMIT.min(count))).map(|number| number % count);
        if let Some(found) = self.first_unused(near) {
            self.shared.cursor.store((found + 1) % count, Ordering::Relaxed);
            return Ok(found);
        }
        if count < self.store.segments() {
            self.store.may_grow(count)?;
            self.store.reserve_entry(count)?;
            return Ok(count);
        }
        if let Some(found) = self.first_unused(0..count) {
            return Ok(found);
        }
        self.forget_lost(count)?;
        let none = || Error::from_raw_os_error(libc::ENOMEM);
        self.first_unused(0..count).ok_or_else(none)
    }

    fn first_unused(&self, mut among: impl Iterator<Item = u32>) -> Option<u32> {
        among.find(|&number| self.store.entry(number).used.load(Ordering::Relaxed) == 0)
    }

    /// Find what dead owners had marked as used and not put on the circle, or taken off it.
    #[cold]
    fn forget_lost(&self, count: u32) -> Result<()> {
        let mut on_circle = vec![false; count as usize];
        let first = Self::segment(self.tail().at);
        let mut segment = first;
        loop {
            // Each is on the circle once.
            match on_circle.get_mut(segment as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(endless()),
            }
            segment = self.next_of(segment)?;
            if segment == first {
                break;
            }
        }
        for number in (0..count).filter(|&number| !on_circle[number as usize]) {
            self.store.punch(number);
            self.store.entry(number).reserved.store(0, Ordering::Relaxed);
            self.store.entry(number).used.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The items up to here are put.
    #[inline]
    pub fn commit_put(&self, end: Position) {
        // [put->get]
        self.shared.tail.store(end.pack(), Ordering::Release);
    }

    // The head's owner.

    /// Where the next item is. If it is in another segment, the one that is left must be settled,
    /// with the head standing at its end, before anything is taken from the next.
    #[inline]
    pub fn next_item(&self, head: Position, tail: Position) -> Item {
        let (segment, at) = (Self::segment(head.at), head.at);
        if segment == Self::segment(tail.at) {
            return Item::Here { at, limit: tail.at };
        }
        match self.store.entry(segment).end.load(Ordering::Relaxed) {
            end if end == Self::offset(at) => Item::Beyond,
            end => Item::Here { at, limit: (segment * S::GRANULES).saturating_add(end) },
        }
    }

    /// Leave a segment that is used up: its memory goes back if there is enough of it. The caller
    /// holds the head's lock, and the head stands at the end of the segment.
    #[cold]
    pub fn skip_to_next_segment(&self, head: Position, tail: Position) -> Result<u32> {
        let segment = Self::segment(head.at);
        let entry = self.store.entry(segment);
        if self.has_enough_warm(Self::segment(tail.at), segment) {
            entry.reserved.store(0, Ordering::Relaxed);
            self.store.reach("queue.segment_cold");
            self.store.punch(segment);
            self.store.reach("queue.segment_punched");
        }
        // [put->get]: the tail is beyond, so the putter of the next segment here has committed.
        Ok(self.next_of(segment)? * S::GRANULES)
    }

    /// A guess: the tail may be moving at this moment.
    fn has_enough_warm(&self, tail: u32, head: u32) -> bool {
        let most = self.store.segments();
        let (mut segment, mut warm) = (tail, 0);
        for _ in 0..most {
            match self.next_of(segment) {
                Ok(next) if next != head => segment = next,
                _ => return false,
            }
            warm += u32::from(self.store.entry(segment).reserved.load(Ordering::Relaxed) > 0);
            if warm >= KEEP_RESERVED {
                return true;
            }
        }
        false
    }

    /// The items up to here are taken.
    #[inline]
    pub fn commit_get(&self, end: Position) {
        // [get->reuse]
        self.shared.head.store(end.pack(), Ordering::Release);
    }
}

/// Where an item lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// At this granule; it ends before the limit.
    Here { at: u32, limit: u32 },
    /// In the next segment.
    Beyond,
}

#[cold]
fn endless() -> Error {
    damaged("the segments of a queue are no circle")
}

/// What [`SegmentMemory::may_grow`] answers for: ask whether there is memory, then try again.
pub fn growth_not_permitted() -> Error {
    Error::new(ErrorKind::WouldBlock, "ask first")
}
