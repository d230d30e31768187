//! The owner's private bookkeeping of one region: where its blocks are, and which are free.
//!
//! Only the owner allocates and frees, so none of this is shared. What another process may do with
//! a block is one store: [`BlockShared::state`] = RELEASED, "I look at it no more". The owner
//! collects released blocks when it next allocates.

use crate::segment::{Mapping, PAGE};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, Result};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

/// Blocks start on a cache line, and so do the buffers inside of them (SIMD wants 64).
pub const LINE: usize = 64;
/// Freed memory kept warm for the next block of this size; what is beyond goes back at once.
const WARM_LIMIT: usize = 128 << 20;
/// Regions grow by at least this much, so that small blocks do not cost a system call each.
const GROWTH: usize = 256 << 10;
/// From this size on a block has pages of its own, which can be given back.
const LARGE: usize = 1 << 20;

pub const IN_USE: u32 = 1;
pub const RELEASED: u32 = 2;
/// The owner is gone, and has left the block to whoever looks at it last.
pub const ABANDONED: u32 = 3;

/// The head of a block in shared memory.
#[repr(C, align(64))]
pub struct BlockShared {
    /// IN_USE, then RELEASED by whoever the block was handed to.
    pub state: AtomicU32,
    /// The incarnation that looks at it: when it is dead, the block is free as well.
    pub holder: AtomicU32,
    pub len: AtomicU64,
    /// The agent that allocated it, where there is nobody else to notice its death.
    pub owner: AtomicU32,
}

const _: () = assert!(size_of::<BlockShared>() == LINE);

/// Free extents, by place (to join neighbours) and by size (to find the best fit).
#[derive(Debug, Default)]
struct Extents {
    by_place: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    total: usize,
}

impl Extents {
    fn insert(&mut self, mut place: usize, mut len: usize) {
        if let Some((&before, &size)) = self.by_place.range(..place).next_back() {
            if before + size == place {
                self.remove(before, size);
                (place, len) = (before, size + len);
            }
        }
        if let Some(&size) = self.by_place.get(&(place + len)) {
            self.remove(place + len, size);
            len += size;
        }
        self.by_place.insert(place, len);
        self.by_size.insert((len, place));
        self.total += len;
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

#[derive(Debug)]
pub struct Heap {
    map: Arc<Mapping>,
    /// Reserved and free.
    warm: Extents,
    /// Free, its pages given back: to be reserved again before use.
    cold: Extents,
    /// Everything above was never reserved.
    top: usize,
    /// Blocks that were handed out and may come back by themselves.
    lent: Vec<usize>,
    lent_at_last_sweep: usize,
    allocated: usize,
}

fn round(len: usize, unit: usize) -> Option<usize> {
    len.checked_next_multiple_of(if len >= LARGE { PAGE } else { unit })
}

impl Heap {
    pub fn new(map: Arc<Mapping>) -> Self {
        Self {
            map,
            warm: Extents::default(),
            cold: Extents::default(),
            top: 0,
            lent: Vec::new(),
            lent_at_last_sweep: 0,
            allocated: 0,
        }
    }

    pub fn map(&self) -> &Arc<Mapping> {
        &self.map
    }

    /// Bytes in blocks at the moment, heads included.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    pub fn block(&self, place: usize) -> &BlockShared {
        block(&self.map, place)
    }

    /// A block for `len` bytes after its head, or the system's word that there is no room.
    pub fn allocate(&mut self, len: usize) -> Result<usize> {
        self.allocate_at(len, LINE)
    }

    /// The same on pages of its own, which whoever looks at it can map privately.
    pub fn allocate_pages(&mut self, len: usize) -> Result<usize> {
        self.allocate_at(len, PAGE)
    }

    fn allocate_at(&mut self, len: usize, unit: usize) -> Result<usize> {
        let size = len.checked_add(LINE).and_then(|size| round(size, unit));
        let size = size.filter(|&size| size <= self.map.len());
        let size = size.ok_or_else(|| Error::from_raw_os_error(libc::ENOMEM))?;
        let place = match self.warm.take(size, unit) {
            Some(place) => place,
            None => self.grow(size, unit)?,
        };
        self.allocated += size;
        let head = self.block(place);
        head.len.store(size as u64, Ordering::Relaxed);
        head.holder.store(0, Ordering::Relaxed);
        head.state.store(IN_USE, Ordering::Relaxed);
        crate::crash::reach("heap.allocated");
        Ok(place)
    }

    #[cold]
    fn grow(&mut self, size: usize, unit: usize) -> Result<usize> {
        if let Some(place) = self.cold.take(size, unit) {
            return match self.map.reserve(place, size) {
                Ok(()) => Ok(place),
                Err(error) => {
                    self.cold.insert(place, size);
                    Err(error)
                }
            };
        }
        // Whole pages, so that the top is always on one.
        let more = size.max(GROWTH.min(self.map.len() - self.top)).next_multiple_of(PAGE);
        if more > self.map.len() - self.top {
            return Err(Error::from_raw_os_error(libc::ENOMEM));
        }
        let place = self.top;
        if let Err(error) = self.map.reserve(place, more) {
            // What a failed fallocate has already taken is given back before anything else.
            let _ = self.map.punch(place, more);
            return Err(error);
        }
        self.top += more;
        if more > size {
            self.warm.insert(place + size, more - size);
        }
        Ok(place)
    }

    /// Take a block back. Only for blocks that nobody else looks at.
    pub fn free(&mut self, place: usize) {
        let size = self.block(place).len.load(Ordering::Relaxed) as usize;
        self.allocated -= size;
        if size >= LARGE && self.warm.total + size > WARM_LIMIT && self.punch(place, size) {
            return;
        }
        self.warm.insert(place, size);
    }

    /// Give the whole pages inside of a block back; its ragged ends stay warm.
    fn punch(&mut self, place: usize, size: usize) -> bool {
        let first = place.div_ceil(PAGE) * PAGE;
        let last = (place + size) / PAGE * PAGE;
        if last <= first || self.map.punch(first, last - first).is_err() {
            return false;
        }
        self.cold.insert(first, last - first);
        if first > place {
            self.warm.insert(place, first - place);
        }
        if place + size > last {
            self.warm.insert(last, place + size - last);
        }
        true
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

    /// Is the oldest or newest lent block back, and large? Then it is worth having now.
    fn large_return(&self) -> bool {
        let back = |&place: &usize| {
            let head = self.block(place);
            head.state.load(Ordering::Acquire) == RELEASED
                && head.len.load(Ordering::Relaxed) as usize >= LARGE
        };
        self.lent.first().is_some_and(back) || self.lent.last().is_some_and(back)
    }

    pub fn sweep(&mut self, dead: impl Fn(u32) -> bool) {
        let lent = std::mem::take(&mut self.lent);
        for place in lent {
            let head = self.block(place);
            // [release->collect] pairs with the release of whoever looked at the block last
            let back = head.state.load(Ordering::Acquire) == RELEASED;
            let holder = head.holder.load(Ordering::Relaxed);
            if back || (holder != 0 && dead(holder)) {
                self.free(place);
            } else {
                self.lent.push(place);
            }
        }
        self.lent_at_last_sweep = self.lent.len();
    }

    /// Leave a block to whoever looks at it; its memory goes back with the last look.
    pub fn abandon(&mut self, place: usize) {
        let state = &self.block(place).state;
        // [release->collect]
        if state.compare_exchange(IN_USE, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            punch_block(&self.map, place);
        }
    }

    /// Give back all warm memory: for a process that is about to be idle for long.
    pub fn trim(&mut self) {
        self.trim_from(LARGE);
    }

    /// The same to the last page: for a process that is about to end.
    pub fn trim_all(&mut self) {
        self.trim_from(PAGE);
    }

    fn trim_from(&mut self, least: usize) {
        let large: Vec<_> = self.warm.by_place.iter().map(|(&p, &l)| (p, l)).collect();
        for (place, len) in large {
            if len >= least {
                self.warm.remove(place, len);
                if !self.punch(place, len) {
                    self.warm.insert(place, len);
                }
            }
        }
    }
}

/// Give back the memory of a block that nobody looks at and nobody will use again.
pub fn punch_block(map: &Mapping, place: usize) {
    let size = block(map, place).len.load(Ordering::Relaxed) as usize;
    let (first, last) = (place.next_multiple_of(PAGE), (place + size) / PAGE * PAGE);
    if last > first {
        // A system that cannot keeps the memory.
        let _ = map.punch(first, last - first);
    }
}

pub fn block(map: &Mapping, place: usize) -> &BlockShared {
    // SAFETY: `at` checks the range; places are multiples of 64 and the mapping outlives the borrow.
    unsafe { &*map.at(place, LINE).cast::<BlockShared>() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;

    fn heap() -> Heap {
        let segment = Segment::create(PAGE, 1 << 30).expect("a memfd");
        Heap::new(segment.map_region(0).expect("map"))
    }

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let mut heap = heap();
        let mut blocks: Vec<_> = (1..200).map(|i| heap.allocate(i * 37).unwrap()).collect();
        let mut spans: Vec<_> = blocks
            .iter()
            .map(|&b| (b, b + heap.block(b).len.load(Ordering::Relaxed) as usize))
            .collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        blocks.drain(..).for_each(|b| heap.free(b));
        assert_eq!(heap.allocated(), 0);
        assert_eq!(heap.warm.by_place.len(), 1, "neighbours are joined");
    }

    #[test]
    fn the_same_memory_is_used_again() {
        let mut heap = heap();
        for _ in 0..1000 {
            let place = heap.allocate(32 << 20).unwrap();
            heap.lend(place);
            heap.block(place).state.store(RELEASED, Ordering::Release);
            heap.sweep_sometimes(|_| false);
        }
        assert!(heap.top < 70 << 20, "top {}", heap.top);
    }

    #[test]
    fn blocks_with_pages_of_their_own_share_none() {
        let mut heap = heap();
        let small = heap.allocate(100).unwrap();
        let large = heap.allocate_pages(70_000).unwrap();
        let next = heap.allocate(100).unwrap();
        let pages = large / PAGE..(large + 70_064).div_ceil(PAGE);
        assert_eq!(large % PAGE, 0);
        assert!(!pages.contains(&(small / PAGE)) && !pages.contains(&(next / PAGE)));
    }

    #[test]
    fn a_dead_holder_releases() {
        let mut heap = heap();
        let place = heap.allocate(100).unwrap();
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
        assert_eq!((heap.allocated(), heap.top), (0, 0));
    }

    #[test]
    fn trimmed_memory_can_be_had_again() {
        let mut heap = heap();
        let place = heap.allocate(8 << 20).unwrap();
        heap.free(place);
        heap.trim();
        assert!(heap.cold.total >= 7 << 20);
        heap.allocate(7 << 20).unwrap();
        assert!(heap.cold.total < 2 << 20);
    }

    #[test]
    fn sizes_beyond_four_gigabytes_are_kept() {
        let segment = Segment::create(PAGE, 1 << 40).expect("a memfd");
        let map = segment.map_region(0).expect("map");
        block(&map, 0).len.store(5 << 32, Ordering::Relaxed);
        assert_eq!(block(&map, 0).len.load(Ordering::Relaxed), 5 << 32);
    }
}
