//! The owner's private bookkeeping of one region: where its blocks are, and which are free.
//!
//! Only the owner allocates and frees, so none of this is shared. What another process may do with
//! a block is one store: [`BlockShared::state`] = RELEASED, "I look at it no more". The owner
//! collects released blocks when it next allocates.
//!
//! A small block's bytes follow its head; those of a large one, its body, lie in pages of their own,
//! which can be mapped alone and given back.

use crate::shm::region::{window, Region, Span};
use crate::shm::segment::PAGE;
use crate::sys::damage::damaged;
use crate::sys::memory_left;
use crate::testing::crash_points::crash_point;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, Result};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

/// Blocks start on a cache line, and so do the buffers inside of them (SIMD wants 64).
pub const LINE: usize = 64;
/// Freed memory kept warm for the next block of this size; what is beyond goes back at once.
const WARM_LIMIT: usize = 128 << 20;
/// The parent of a pool keeps this part of what the machine has left, if that is more: it sends the
/// same large object, or ones of its size, again and again, and fresh pages take longer than the copy.
const PARENTS_SHARE: u64 = 32;
/// Regions grow by at least this much, so that small blocks do not cost a system call each. Windows
/// are multiples of it, so no small block lies in two.
const GROWTH: usize = 256 << 10;
/// From this size on a block has a body.
const LARGE: usize = GROWTH;
/// From this size on free memory is worth giving back.
const WORTH: usize = 1 << 20;
/// From this size on a block that is back is worth using again before any other.
const WARM: usize = 32 << 10;
/// So many lent blocks are looked at for that.
const FEW_LENT: usize = 16;

pub const IN_USE: u32 = 1;
pub const RELEASED: u32 = 2;
/// The owner is gone, and has left the block to its last reader.
pub const ABANDONED: u32 = 3;
/// RELEASED, and its whole pages were given back to the system: to be reserved again before use.
pub const EMPTIED: u32 = 4;

/// Whether a block in this state is its owner's again.
pub fn is_back(state: u32) -> bool {
    matches!(state, RELEASED | EMPTIED)
}

/// The head of a block in shared memory.
#[repr(C, align(64))]
pub struct BlockShared {
    /// IN_USE, then RELEASED or EMPTIED by the process that the block was handed to.
    pub state: AtomicU32,
    /// The incarnation that looks at it: when it is dead, the block is free as well.
    pub holder: AtomicU32,
    /// Bytes of the block, head included; of the body if it has one.
    pub len: AtomicU64,
    /// The owner that allocated it, where no other process would notice its death.
    pub owner: AtomicU32,
    /// Where its body lies; 0: the bytes follow the head.
    pub body: AtomicU64,
    /// Made of the head's place, `len` and `body`: what does not fit is no head, or is damaged.
    seal: AtomicU64,
}

const _: () = assert!(size_of::<BlockShared>() == LINE);

fn seal(place: usize, len: u64, body: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    (place as u64 ^ len.rotate_left(24) ^ body.rotate_left(40)).wrapping_add(1).wrapping_mul(ODD)
}

/// A block's head, mapped as long as this lives.
#[derive(Debug, Clone)]
pub struct Head {
    span: Span,
    place: usize,
}

impl Head {
    pub fn of(region: &Region, place: usize) -> Result<Self> {
        if place % LINE != 0 {
            return Err(damaged(format!("no block begins at {place}")));
        }
        Ok(Self { span: region.small(place, LINE)?, place })
    }

    /// Length, and place of the body, if they are what the owner has written.
    fn sizes(&self) -> Result<(usize, usize)> {
        let (len, body) = (self.len.load(Ordering::Relaxed), self.body.load(Ordering::Relaxed));
        if self.seal.load(Ordering::Relaxed) != seal(self.place, len, body) {
            return Err(damaged(format!("what lies at {} is no block", self.place)));
        }
        Ok((len as usize, body as usize))
    }

    fn set_sizes(&self, len: usize, body: usize) {
        let (len, body) = (len as u64, body as u64);
        self.len.store(len, Ordering::Relaxed);
        self.body.store(body, Ordering::Relaxed);
        self.seal.store(seal(self.place, len, body), Ordering::Relaxed);
    }

    /// Where the body lies, and how long it is.
    pub fn body(&self) -> Result<Option<(usize, usize)>> {
        let (len, body) = self.sizes()?;
        Ok((body != 0).then_some((body, len)))
    }
}

impl Deref for Head {
    type Target = BlockShared;

    fn deref(&self) -> &BlockShared {
        // SAFETY: `at` checks the range; places are multiples of 64 and the mapping outlives the borrow.
        unsafe { &*self.span.at(0, LINE).cast::<BlockShared>() }
    }
}

/// The bytes of a block, without its head. Checked, since a head may be read that is no longer one.
pub fn bytes(region: &Region, place: usize, head: &Head) -> Result<Span> {
    match head.sizes()? {
        (len, 0) => {
            let len = len.checked_sub(LINE).ok_or_else(|| damaged("a block without a head"))?;
            region.small(place + LINE, len)
        }
        (len, body) => region.body(body, len),
    }
}

/// Give back the memory of a block that has no reader and that nothing will use again.
pub fn punch_block(region: &Region, place: usize, head: &Head) {
    punch_from(region, place, head);
}

/// Give back the memory of a block but for its head: its state is EMPTIED then.
pub fn empty_block(region: &Region, place: usize, head: &Head) {
    punch_from(region, place + LINE, head);
}

fn punch_from(region: &Region, from: usize, head: &Head) {
    // What is damaged stays until the region goes.
    let Ok((len, body)) = head.sizes() else { return };
    let (start, len) = match body {
        0 => (from, (head.place + len).saturating_sub(from)),
        body => (body, len),
    };
    if start.checked_add(len).is_none_or(|end| end > region.len()) {
        return;
    }
    let (first, last) = (start.next_multiple_of(PAGE), (start + len) / PAGE * PAGE);
    if last > first {
        // A system that cannot keeps the memory.
        let _ = region.punch(first, last - first);
    }
}

/// A block that was allocated: its place, and its bytes.
#[derive(Debug)]
pub struct Room {
    pub place: usize,
    pub bytes: Span,
}

/// Free extents, by place (to join neighbours) and by size (to find the best fit).
#[derive(Debug, Default)]
struct Extents {
    by_place: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    total: usize,
    /// They are of the small part, where none lies in two windows.
    in_windows: bool,
}

impl Extents {
    fn are_one(&self, place: usize, next: usize) -> bool {
        !self.in_windows || window(place).0 == window(next).0
    }

    /// Add one, joined with its neighbours; what has become of it.
    fn insert(&mut self, mut place: usize, mut len: usize) -> (usize, usize) {
        if let Some((&before, &size)) = self.by_place.range(..place).next_back() {
            if before + size == place && self.are_one(before, place) {
                self.remove(before, size);
                (place, len) = (before, size + len);
            }
        }
        if let Some(&size) = self.by_place.get(&(place + len)) {
            if self.are_one(place, place + len) {
                self.remove(place + len, size);
                len += size;
            }
        }
        self.by_place.insert(place, len);
        self.by_size.insert((len, place));
        self.total += len;
        (place, len)
    }

    fn remove(&mut self, place: usize, len: usize) {
        self.by_place.remove(&place);
        self.by_size.remove(&(len, place));
        self.total -= len;
    }

    /// `len` bytes that start at a multiple of `unit`, from the smallest extent they fit into.
    fn take(&mut self, len: usize, unit: usize) -> Option<usize> {
        let fits =
            |&&(size, place): &&(usize, usize)| place.next_multiple_of(unit) + len <= place + size;
        let &(size, place) = self.by_size.range((len, 0)..).find(fits)?;
        self.remove(place, size);
        let start = place.next_multiple_of(unit);
        if start > place {
            self.insert(place, start - place);
        }
        if place + size > start + len {
            self.insert(start + len, place + size - start - len);
        }
        Some(start)
    }
}

/// The small blocks of a region, or the bodies: what is free there.
#[derive(Debug)]
struct Area {
    region: Arc<Region>,
    /// Reserved and free.
    warm: Extents,
    /// Free, its pages given back: to be reserved again before use.
    cold: Extents,
    /// Everything from here to the end was never reserved.
    top: usize,
    end: usize,
    unit: usize,
    /// May keep more than `WARM_LIMIT`.
    is_parents: bool,
}

impl Area {
    fn new(region: &Arc<Region>, from: usize, end: usize, unit: usize) -> Self {
        let free = || Extents { in_windows: unit < PAGE, ..Extents::default() };
        let (warm, cold) = (free(), free());
        Self { region: region.clone(), warm, cold, top: from, end, unit, is_parents: false }
    }

    fn take(&mut self, size: usize) -> Result<usize> {
        match self.warm.take(size, self.unit) {
            Some(place) => Ok(place),
            None => self.grow(size),
        }
    }

    #[cold]
    fn grow(&mut self, size: usize) -> Result<usize> {
        if let Some(place) = self.cold.take(size, self.unit) {
            return match self.region.reserve(place, size) {
                Ok(()) => Ok(place),
                Err(error) => {
                    let _ = self.region.punch(place, size);
                    self.cold.insert(place, size);
                    Err(error)
                }
            };
        }
        // Whole pages, so that the top is always on one.
        let more = size.max(GROWTH.min(self.end - self.top)).next_multiple_of(PAGE);
        if more > self.end - self.top {
            return Err(Error::from_raw_os_error(libc::ENOMEM));
        }
        let place = self.top;
        if let Err(error) = self.region.reserve(place, more) {
            // What a failed fallocate has already taken is given back before anything else.
            let _ = self.region.punch(place, more);
            return Err(error);
        }
        self.top += more;
        if more > size {
            self.warm.insert(place + size, more - size);
        }
        Ok(place)
    }

    fn free(&mut self, place: usize, size: usize) {
        let (place, size) = self.warm.insert(place, size);
        if self.warm.total > WARM_LIMIT && size >= WORTH && !self.may_keep(self.warm.total) {
            self.cool(place, size);
        }
    }

    #[cold]
    fn may_keep(&self, bytes: usize) -> bool {
        self.is_parents
            && memory_left::room().is_some_and(|room| bytes as u64 <= room.left / PARENTS_SHARE)
    }

    /// Free a block whose whole pages from `from` on its reader has given back.
    fn free_emptied(&mut self, place: usize, from: usize, size: usize) {
        let (first, last) = (from.div_ceil(PAGE) * PAGE, (place + size) / PAGE * PAGE);
        if last <= first {
            return self.free(place, size);
        }
        self.split(place, size, (first, last));
    }

    /// Give the whole pages inside of a warm extent back; its ragged ends stay warm.
    fn cool(&mut self, place: usize, size: usize) {
        let first = place.div_ceil(PAGE) * PAGE;
        let last = (place + size) / PAGE * PAGE;
        if last <= first || self.region.punch(first, last - first).is_err() {
            return;
        }
        self.warm.remove(place, size);
        self.split(place, size, (first, last));
    }

    /// Free an extent of which the pages in the middle have no memory.
    fn split(&mut self, place: usize, size: usize, (first, last): (usize, usize)) {
        self.cold.insert(first, last - first);
        if first > place {
            self.warm.insert(place, first - place);
        }
        if place + size > last {
            self.warm.insert(last, place + size - last);
        }
    }

    fn trim_from(&mut self, least: usize) {
        let all: Vec<_> = self.warm.by_place.iter().map(|(&p, &l)| (p, l)).collect();
        for (place, len) in all.into_iter().filter(|&(_, len)| len >= least) {
            self.cool(place, len);
        }
    }
}

#[derive(Debug)]
pub struct Heap {
    region: Arc<Region>,
    small: Area,
    bodies: Area,
    /// Blocks that were handed out and may come back by themselves.
    lent: Vec<usize>,
    lent_at_last_sweep: usize,
    allocated: usize,
}

impl Heap {
    /// The heap of a pool's parent, which keeps more memory for the next block than others.
    pub fn of_parent(region: Arc<Region>) -> Self {
        let mut heap = Self::new(region);
        heap.bodies.is_parents = true;
        heap
    }

    pub fn new(region: Arc<Region>) -> Self {
        let small = Area::new(&region, 0, region.half(), LINE);
        let bodies = Area::new(&region, region.half(), region.len(), PAGE);
        let (lent, lent_at_last_sweep, allocated) = (Vec::new(), 0, 0);
        Self { region, small, bodies, lent, lent_at_last_sweep, allocated }
    }

    /// Bytes in blocks at the moment, heads included.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    /// The head of a block of this heap's.
    pub fn head(&self, place: usize) -> Result<Head> {
        Head::of(&self.region, place)
    }

    /// A block for `len` bytes after its head, or the system's word that there is no room.
    pub fn allocate(&mut self, len: usize) -> Result<Room> {
        self.allocate_at(len, len >= LARGE - LINE)
    }

    /// The same on pages of its own, which a reader can map privately.
    pub fn allocate_pages(&mut self, len: usize) -> Result<Room> {
        self.allocate_at(len, true)
    }

    fn allocate_at(&mut self, len: usize, has_body: bool) -> Result<Room> {
        self.try_to_allocate(len, has_body).or_else(|error| {
            if self.small.warm.total + self.bodies.warm.total < WORTH {
                return Err(error);
            }
            self.trim_from(PAGE);
            self.try_to_allocate(len, has_body)
        })
    }

    fn try_to_allocate(&mut self, len: usize, has_body: bool) -> Result<Room> {
        let none = || Error::from_raw_os_error(libc::ENOMEM);
        let after = if has_body { 0 } else { len.next_multiple_of(LINE) };
        let pages = len.checked_next_multiple_of(PAGE).ok_or_else(none)?;
        let pages = if has_body { pages.max(PAGE) } else { 0 };
        if pages > self.region.len() {
            return Err(none());
        }
        let place = self.small.take(LINE + after)?;
        let body = if has_body { self.bodies.take(pages) } else { Ok(0) };
        let body = body.inspect_err(|_| self.small.free(place, LINE + after))?;
        let written = self.write_head(place, LINE + after, (body, pages), len);
        let bytes = written.inspect_err(|_| {
            self.small.free(place, LINE + after);
            if has_body {
                self.bodies.free(body, pages);
            }
        })?;
        self.allocated += LINE + after + pages;
        crash_point("heap.allocated");
        Ok(Room { place, bytes })
    }

    fn write_head(
        &self,
        place: usize,
        size: usize,
        (body, pages): (usize, usize),
        len: usize,
    ) -> Result<Span> {
        let head = self.head(place)?;
        let bytes = match body {
            0 => self.region.small(place + LINE, len)?,
            body => self.region.body(body, len)?,
        };
        head.set_sizes(if body == 0 { size } else { pages }, body);
        head.holder.store(0, Ordering::Relaxed);
        head.state.store(IN_USE, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Take a block back. Only for blocks that nothing else looks at.
    pub fn free(&mut self, place: usize) {
        // If its head cannot be looked at now, the block stays until the region goes.
        let Ok(head) = self.head(place) else { return };
        let Ok((len, body)) = head.sizes() else { return };
        let is_emptied = head.state.load(Ordering::Acquire) == EMPTIED;
        self.allocated -= if body == 0 { len } else { LINE + len };
        match (body, is_emptied) {
            (0, false) => return self.small.free(place, len),
            (0, true) => return self.small.free_emptied(place, place + LINE, len),
            (body, false) => self.bodies.free(body, len),
            (body, true) => self.bodies.free_emptied(body, body, len),
        }
        self.small.free(place, LINE);
    }

    /// Remember a block that another process was given, to free it once it is released.
    pub fn lend(&mut self, place: usize) {
        self.lent.push(place);
    }

    /// Collect what came back; amortised, so that many lent blocks cost nothing each time.
    pub fn sweep_sometimes(&mut self, dead: impl Fn(u32) -> bool) {
        if self.lent.len() > 2 * self.lent_at_last_sweep.max(4) || self.large_return() {
            self.sweep(dead);
        }
    }

    /// Is the oldest or newest lent block back, and large? Then it is worth having now: its pages are
    /// there, and another place's would be faulted in. Among many, to look at all takes longer.
    fn large_return(&self) -> bool {
        let large = if self.lent.len() <= FEW_LENT { WARM } else { WORTH };
        let back = |&place: &usize| {
            self.head(place).is_ok_and(|head| {
                is_back(head.state.load(Ordering::Acquire))
                    && head.len.load(Ordering::Relaxed) as usize >= large
            })
        };
        self.lent.first().is_some_and(back) || self.lent.last().is_some_and(back)
    }

    pub fn sweep(&mut self, dead: impl Fn(u32) -> bool) {
        let lent = std::mem::take(&mut self.lent);
        for place in lent {
            let is_back = self.head(place).is_ok_and(|head| {
                // [release->collect] pairs with the release of the block's last reader
                let back = is_back(head.state.load(Ordering::Acquire));
                let holder = head.holder.load(Ordering::Relaxed);
                back || (holder != 0 && dead(holder))
            });
            if is_back {
                self.free(place);
            } else {
                self.lent.push(place);
            }
        }
        self.lent_at_last_sweep = self.lent.len();
    }

    /// Leave a block to its reader; its memory goes back with the last look.
    pub fn abandon(&mut self, place: usize) {
        let Ok(head) = self.head(place) else { return };
        // [release->collect]
        let left =
            head.state.compare_exchange(IN_USE, ABANDONED, Ordering::AcqRel, Ordering::Acquire);
        if left.is_err() {
            punch_block(&self.region, place, &head);
        }
    }

    /// Give back all warm memory, and the address space of what is free: for a process that is about
    /// to be idle for long.
    pub fn trim(&mut self) {
        self.trim_from(WORTH);
        self.region.forget_bodies();
    }

    /// The same to the last page: for a process that is about to end.
    pub fn trim_all(&mut self) {
        self.trim_from(PAGE);
    }

    fn trim_from(&mut self, least: usize) {
        self.small.trim_from(least);
        self.bodies.trim_from(least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::segment::Segment;

    fn heap() -> Heap {
        let segment = Segment::create(PAGE, 1 << 30).expect("a memfd");
        Heap::new(segment.own_region(0).expect("a region"))
    }

    impl Heap {
        fn block(&self, place: usize) -> Head {
            self.head(place).expect("mapped")
        }
    }

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let mut heap = heap();
        let mut blocks: Vec<_> = (1..200).map(|i| heap.allocate(i * 37).unwrap().place).collect();
        let mut spans: Vec<_> = blocks
            .iter()
            .map(|&b| (b, b + heap.block(b).len.load(Ordering::Relaxed) as usize))
            .collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        blocks.drain(..).for_each(|b| heap.free(b));
        assert_eq!(heap.allocated(), 0);
        assert_eq!(heap.small.warm.by_place.len(), 1, "neighbours are joined");
    }

    #[test]
    fn the_same_memory_is_used_again() {
        let mut heap = heap();
        for _ in 0..1000 {
            let place = heap.allocate(32 << 20).unwrap().place;
            heap.lend(place);
            heap.block(place).state.store(RELEASED, Ordering::Release);
            heap.sweep_sometimes(|_| false);
        }
        let used = heap.bodies.top - heap.region.half();
        assert!(used < 70 << 20, "used {used}");
    }

    #[test]
    fn a_parent_keeps_more_for_the_next_block_than_others() {
        let segment = Segment::create(PAGE, 8 << 30).expect("a memfd");
        let region = |number| segment.own_region(number).expect("a region");
        let kept = |heap: Heap| {
            let mut heap = heap;
            let place = heap.allocate(WARM_LIMIT + WORTH).unwrap().place;
            heap.free(place);
            heap.bodies.warm.total
        };
        let little = WARM_LIMIT as u64 + 3 * WORTH as u64;
        let has_enough = memory_left::room().is_some_and(|room| room.left / PARENTS_SHARE > little);
        assert_eq!(kept(Heap::of_parent(region(0))) > WARM_LIMIT, has_enough);
        assert!(kept(Heap::new(region(1))) < WARM_LIMIT);
    }

    #[test]
    fn a_block_of_some_pages_that_is_back_is_used_again() {
        let mut heap = heap();
        for len in [WARM, 100_000, 1_000_000] {
            let places = [0; 6].map(|_| {
                heap.sweep_sometimes(|_| false);
                let place = heap.allocate(len).unwrap().place;
                heap.lend(place);
                heap.block(place).state.store(RELEASED, Ordering::Release);
                place
            });
            assert!(places.iter().all(|&place| place == places[0]), "{places:?}");
        }
    }

    #[test]
    fn blocks_with_pages_of_their_own_share_none() {
        let mut heap = heap();
        let blocks =
            [heap.allocate_pages(100), heap.allocate_pages(70_000), heap.allocate(1 << 20)];
        let heads = blocks.map(|room| heap.block(room.expect("room").place));
        let mut bodies = heads.map(|head| head.body().expect("a head").expect("a body"));
        bodies.sort_unstable();
        assert!(bodies.iter().all(|(place, len)| place % PAGE == 0 && len % PAGE == 0));
        assert!(bodies.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    }

    #[test]
    fn no_small_block_lies_in_two_windows() {
        let mut heap = heap();
        let mut places: Vec<_> = (0..5000).map(|n| heap.allocate(n * 13).unwrap().place).collect();
        places.drain(..).step_by(2).for_each(|place| heap.free(place));
        for n in 0..5000 {
            let room = heap.allocate(n * 29 % 60_000).expect("room");
            let head = heap.block(room.place);
            assert_eq!(
                bytes(&heap.region, room.place, &head).expect("its bytes").at(0, 0),
                room.bytes.at(0, 0)
            );
        }
    }

    #[test]
    fn a_dead_holder_releases() {
        let mut heap = heap();
        let place = heap.allocate(100).unwrap().place;
        heap.block(place).holder.store(7, Ordering::Relaxed);
        heap.lend(place);
        heap.sweep(|_| false);
        assert_eq!(heap.allocated(), 192);
        heap.sweep(|incarnation| incarnation == 7);
        assert_eq!(heap.allocated(), 0);
    }

    #[test]
    fn more_than_the_region_is_an_error_and_changes_nothing() {
        let mut heap = heap();
        assert!(heap.allocate(2 << 30).is_err());
        assert!(heap.allocate(usize::MAX).is_err());
        assert_eq!((heap.allocated(), heap.bodies.top), (0, heap.region.half()));
        assert_eq!(heap.allocate(100).expect("room").place, 0, "what it had begun is undone");
    }

    #[test]
    fn trimmed_memory_can_be_had_again() {
        let mut heap = heap();
        let place = heap.allocate(8 << 20).unwrap().place;
        heap.free(place);
        heap.trim();
        assert!(heap.bodies.cold.total >= 7 << 20);
        heap.allocate(7 << 20).unwrap();
        assert!(heap.bodies.cold.total < 2 << 20);
    }

    #[test]
    fn what_is_no_head_any_more_is_refused() {
        let mut heap = heap();
        let place = heap.allocate(1000).unwrap().place;
        let head = heap.block(place);
        for (len, body) in
            [(3, 0), (5 << 32, 0), (64, 1), (5 << 32, 1 << 29), (4096, 1_usize << 40)]
        {
            head.set_sizes(len, body);
            assert!(bytes(&heap.region, place, &head).is_err());
        }
        head.set_sizes(1024, 0);
        assert!(bytes(&heap.region, place, &head).is_ok());
        head.len.store(2048, Ordering::Relaxed);
        assert!(bytes(&heap.region, place, &head).is_err(), "not what was written");
    }
}
