//! Where a queue's bytes lie: one sparse memfd, of which each process maps what it needs.
//!
//! ```text
//! offset 0                      DATA                                     REGIONS
//! | QueueShared, entries, records | segment 0 | segment 1 | ... 64 GiB     | region 0 | region 1 ...
//! ```
//! Segments are mapped in windows that double up to a size, and so are the entries of many, so that a
//! small queue costs little address space. A region belongs to one process that has put something
//! big, and is never used by another.

use crate::queue::item::{self, granules, ItemHeader};
use crate::queue::log::{
    growth_not_permitted, Position, QueueLog, SegmentMemory, SegmentShared, GRANULE,
};
use crate::queue::shared::{QueueShared, SHARED_AT};
use crate::shm::arena::{Arena, SharedBlock};
use crate::shm::region::Region;
use crate::shm::segment::{Mapping, PAGE};
use crate::sys::damage::damaged;
use crate::testing::crash_points::crash_point;
use std::io::Result;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

const SEGMENT: usize = 256 << 10;
/// As many as there are granules that a word can name.
const SEGMENTS: usize = (1 << 32) / (SEGMENT / GRANULE);
/// Segments in the largest windows. The first has one, each further one doubles what there is.
const WIDE: usize = 256;
const NARROW: usize = WIDE.trailing_zeros() as usize + 1;
const WINDOWS: usize = NARROW + SEGMENTS / WIDE - 1;

const ENTRIES_AT: usize = PAGE - 64;
const ENTRIES_LEN: usize = SEGMENTS * size_of::<SegmentShared>();
const RECORDS_AT: usize = ENTRIES_AT + ENTRIES_LEN;
/// Regions of which it is known when they are no longer needed.
const RECORDS: usize = 1024;
const RECORDS_LEN: usize = RECORDS * size_of::<RegionShared>();
pub const CONTROL: usize = RECORDS_AT + RECORDS_LEN;
/// What every user maps of it at once, and the segments whose entries lie there.
const MAPPED: usize = 64 << 10;
const NEAR: usize = (MAPPED - PAGE) / size_of::<SegmentShared>();
/// Segments that others may add while an operation is under way.
const MARGIN: u32 = 256;
const DATA: u64 = 8 << 20;
const REGIONS: u64 = 1 << 37;

/// A queue may grow by so many segments before its memory is asked for.
const GROWTH: u32 = (64 << 20) / SEGMENT as u32;

const _: () = assert!(SHARED_AT + size_of::<QueueShared>() <= ENTRIES_AT);
const _: () = assert!(std::mem::offset_of!(QueueShared, get_lock) == 128);
const _: () = assert!((PAGE + ENTRIES_LEN + RECORDS_LEN) as u64 <= DATA);
const _: () = assert!(DATA + (SEGMENTS * SEGMENT) as u64 <= REGIONS);

/// What is known of a region. A death between a count and what it counts leaves them apart, and
/// then the region stays as long as the queue.
#[repr(C)]
pub struct RegionShared {
    /// The owner whose region it is; 0 when it is empty for ever.
    owner: AtomicU32,
    /// Blocks that it has put, counted before.
    pub sent: AtomicU32,
    /// Blocks that were looked at for the last time, counted after.
    pub back: AtomicU32,
    _pad: u32,
}

impl RegionShared {
    /// Whether it was never given out.
    fn is_new(&self) -> bool {
        [&self.owner, &self.sent, &self.back].iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }
}

/// A queue's memory as this process sees it.
#[derive(Debug)]
pub struct QueueFile {
    pub block: SharedBlock,
    windows: Box<[OnceLock<Arc<Mapping>>]>,
    /// Entries and records beyond what is mapped at once.
    far_entries: OnceLock<Arc<Mapping>>,
    records: OnceLock<Arc<Mapping>>,
    /// Up to how many segments there was memory when it was last asked for.
    permitted: AtomicU32,
    /// How long regions are: written once, by the queue's creator.
    region_len: OnceLock<u64>,
}

impl QueueFile {
    /// A new, empty queue.
    pub fn create(maxsize: u32, region_len: usize) -> Result<Self> {
        let block = SharedBlock::allocate_sparse(CONTROL, PAGE - 64, MAPPED)?;
        let file = Self::attach(block)?;
        file.shared().maxsize.store(maxsize, Ordering::Relaxed);
        file.shared().region_len.store(region_len as u64, Ordering::Relaxed);
        file.log().create()?;
        Ok(file)
    }

    /// One that another process has made; the block must be all of it.
    pub fn attach(block: SharedBlock) -> Result<Self> {
        if block.len != CONTROL || block.offset != 64 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "not a queue's memory",
            ));
        }
        let windows = (0..WINDOWS).map(|_| OnceLock::new()).collect();
        let (far_entries, records) = (OnceLock::new(), OnceLock::new());
        let permitted = AtomicU32::new(GROWTH);
        let region_len = OnceLock::new();
        let file = Self { block, windows, far_entries, records, permitted, region_len };
        file.window(0)?;
        Ok(file)
    }

    #[inline]
    pub fn shared(&self) -> &QueueShared {
        // SAFETY: made of atomics, and what lies there in every queue's memory.
        unsafe { self.block.shared(SHARED_AT) }
    }

    #[inline]
    pub fn log(&self) -> QueueLog<'_, Self> {
        QueueLog { shared: &self.shared().log, store: self }
    }

    #[inline]
    fn window(&self, number: usize) -> Result<&Arc<Mapping>> {
        match self.windows[number].get() {
            Some(window) => Ok(window),
            None => self.map_window(number),
        }
    }

    #[cold]
    fn map_window(&self, number: usize) -> Result<&Arc<Mapping>> {
        let (first, count) = segments(number);
        let offset = DATA + (first * SEGMENT) as u64;
        let map = self.block.arena.map_range(offset, count * SEGMENT, false)?;
        Ok(self.windows[number].get_or_init(|| map))
    }

    /// The window of a segment, and where it begins there.
    #[inline]
    fn place(&self, segment: usize) -> Result<(&Arc<Mapping>, usize)> {
        let number = number(segment);
        Ok((self.window(number)?, (segment - segments(number).0) * SEGMENT))
    }

    #[cold]
    fn far_entries(&self) -> Result<&Arc<Mapping>> {
        if let Some(map) = self.far_entries.get() {
            return Ok(map);
        }
        let len = PAGE + ENTRIES_LEN - MAPPED;
        let map = self.block.arena.map_range(MAPPED as u64, len, false)?;
        Ok(self.far_entries.get_or_init(|| map))
    }

    fn records(&self) -> Result<&Arc<Mapping>> {
        if let Some(map) = self.records.get() {
            return Ok(map);
        }
        let offset = (self.block.offset + RECORDS_AT) as u64;
        let map = self.block.arena.map_range(offset, RECORDS_LEN, false)?;
        Ok(self.records.get_or_init(|| map))
    }

    /// The address of `len` bytes from a granule on.
    #[inline]
    pub fn at(&self, granule: u32, len: usize) -> Result<*mut u8> {
        let byte = granule as usize * GRANULE;
        let (map, start) = self.place(byte / SEGMENT)?;
        Ok(map.at(start + byte % SEGMENT, len))
    }

    /// The item at a position, which ends before a granule, for the owner of the get lock: its kind,
    /// its bytes, and its granules.
    #[inline]
    pub(super) fn item(&self, from: Position, limit: u32) -> Result<(u8, &[u8], u32)> {
        let Position { number, at } = from;
        let from = self.at(at, GRANULE)?;
        // SAFETY: an item begins here, and the owner of the get lock alone may move past it.
        let head = unsafe { ItemHeader::read(from) };
        let granules = granules(head.len);
        let room = limit.saturating_sub(at).min(Self::GRANULES - at % Self::GRANULES);
        if granules > room || !head.is_of(number) {
            return Err(damaged(format!("no item lies at granule {at} of a queue")));
        }
        self.at(at, granules as usize * GRANULE)?;
        // SAFETY: as above, and in range (checked).
        Ok((head.kind, unsafe { item::body(from, head.len) }, granules))
    }

    /// A region for large items: `owner`'s as long as it lives, and then no process's.
    pub fn new_region(&self, owner: u32) -> Result<(u32, Arc<Region>)> {
        self.block.reserve(RECORDS_AT, RECORDS_LEN)?;
        self.records()?;
        let number = self.shared().regions.fetch_add(1, Ordering::Relaxed);
        if let Some(record) = self.record(number) {
            if !record.is_new() {
                return Err(damaged(format!("region {number} of a queue was given out twice")));
            }
            record.owner.store(owner, Ordering::Release);
        }
        Ok((number, self.region(number, false)?))
    }

    /// What is known of a region that was given out.
    pub fn record(&self, number: u32) -> Option<&RegionShared> {
        if number as usize >= RECORDS {
            return None;
        }
        // Without address space for it the region stays as long as the queue.
        let (map, size) = (self.records().ok()?, size_of::<RegionShared>());
        // SAFETY: made of atomics, and what lies there in every queue's memory.
        Some(unsafe { &*map.at(number as usize * size, size).cast() })
    }

    /// Give back the memory of a region whose owner is dead, if none of it is needed.
    pub fn free_region(&self, number: u32) {
        let Some(record) = self.record(number) else { return };
        let owner = record.owner.load(Ordering::Acquire);
        if owner == 0 || !self.block.arena.registry.seems_dead(owner) {
            return;
        }
        // Its last word on the first number was spoken before it died.
        let sent = record.sent.load(Ordering::Acquire);
        if sent == record.back.load(Ordering::Acquire) {
            if let Ok((offset, len)) = self.region_range(number) {
                let _ = self.block.arena.punch_range(offset, len);
            }
            record.owner.store(0, Ordering::Relaxed);
        }
    }

    fn region_range(&self, number: u32) -> Result<(u64, usize)> {
        let len = || self.shared().region_len.load(Ordering::Relaxed);
        let len = *self.region_len.get_or_init(len);
        let offset = u64::from(number)
            .checked_mul(len)
            .and_then(|offset| offset.checked_add(REGIONS))
            .filter(|offset| offset.checked_add(len).is_some_and(|end| end <= 1 << 62))
            .ok_or_else(|| std::io::Error::from_raw_os_error(libc::EFBIG))?;
        Ok((offset, len as usize))
    }

    pub fn region(&self, number: u32, private: bool) -> Result<Arc<Region>> {
        let (offset, len) = self.region_range(number)?;
        Ok(self.block.arena.region(offset, len, private))
    }

    /// The identity of the memory behind it.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.block.arena
    }
}

/// The first segment of a window, and how many it has.
#[inline]
fn segments(window: usize) -> (usize, usize) {
    match window {
        0 => (0, 1),
        window if window < NARROW => (1 << (window - 1), 1 << (window - 1)),
        window => ((window - NARROW + 1) * WIDE, WIDE),
    }
}

/// The window of a segment.
#[inline]
fn number(segment: usize) -> usize {
    match segment {
        0 => 0,
        segment if segment < WIDE => segment.ilog2() as usize + 1,
        segment => NARROW - 1 + segment / WIDE,
    }
}

impl SegmentMemory for QueueFile {
    const GRANULES: u32 = (SEGMENT / GRANULE) as u32;
    const STEP: u32 = (64 << 10) / GRANULE as u32;

    fn segments(&self) -> u32 {
        SEGMENTS as u32
    }

    #[inline]
    fn entry(&self, segment: u32) -> &SegmentShared {
        let size = size_of::<SegmentShared>();
        let segment = segment as usize;
        if segment < NEAR {
            // SAFETY: made of atomics, and what lies there in every queue's memory.
            return unsafe { self.block.shared(ENTRIES_AT + segment * size) };
        }
        let far = self.far_entries().expect("address space for a queue; see `ulimit -v`");
        // SAFETY: as above.
        unsafe { &*far.at((segment - NEAR) * size, size).cast() }
    }

    fn reserve_entry(&self, segment: u32) -> Result<()> {
        let entry = ENTRIES_AT + segment as usize * size_of::<SegmentShared>();
        self.block.reserve(entry, size_of::<SegmentShared>())
    }

    fn reserve(&self, segment: u32, from: u32, to: u32) -> Result<()> {
        let (map, start) = self.place(segment as usize)?;
        map.reserve(start + from as usize * GRANULE, (to - from) as usize * GRANULE)
    }

    fn punch(&self, segment: u32) {
        if let Ok((map, start)) = self.place(segment as usize) {
            // A system that cannot keeps the memory.
            let _ = map.punch(start, SEGMENT);
        }
    }

    fn may_grow(&self, count: u32) -> Result<()> {
        if count < self.permitted.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(growth_not_permitted())
        }
    }

    #[inline]
    fn ensure_entries(&self) -> Result<()> {
        if self.shared().log.count.load(Ordering::Relaxed).saturating_add(MARGIN) < NEAR as u32 {
            return Ok(());
        }
        self.far_entries().map(|_| ())
    }

    fn permit_growth(&self, count: u32) {
        self.permitted.store(count.saturating_add(GROWTH), Ordering::Relaxed);
    }

    fn reach(&self, point: &'static str) {
        crash_point(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segment_lies_in_its_window() {
        let mut next = 0;
        for window in 0..WINDOWS {
            let (first, count) = segments(window);
            assert_eq!((first, number(first), number(first + count - 1)), (next, window, window));
            next = first + count;
        }
        assert_eq!(next, SEGMENTS);
    }

    #[test]
    fn entries_lie_side_by_side_wherever_they_are_mapped() {
        let file = QueueFile::create(0, 1 << 30).expect("a queue");
        for segment in [0, 1, NEAR - 1, NEAR, NEAR + 1, SEGMENTS - 1] {
            file.reserve_entry(segment as u32).expect("room");
            file.entry(segment as u32).next.store(segment as u32, Ordering::Relaxed);
        }
        let all = file.block.arena.map_range(0, PAGE + ENTRIES_LEN, false).expect("mapped");
        for segment in [0, 1, NEAR - 1, NEAR, NEAR + 1, SEGMENTS - 1] {
            let size = size_of::<SegmentShared>();
            // SAFETY: in range, and made of atomics.
            let entry: &SegmentShared = unsafe { &*all.at(PAGE + segment * size, size).cast() };
            assert_eq!(entry.next.load(Ordering::Relaxed), segment as u32);
        }
    }
}
