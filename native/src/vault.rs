//! Where a queue's bytes lie: one sparse memfd, of which each process maps what it needs.
//!
//! ```text
//! offset 0                      DATA                                     REGIONS
//! | QueueShared, entries, records | segment 0 | segment 1 | ... 64 GiB     | region 0 | region 1 ...
//! ```
//! Segments are mapped in windows that double, so a small queue costs little address space. A region
//! belongs to one process that has put something big, and is never used by another.

use crate::chunk::{Chunk, Spot};
use crate::lock::LockShared;
use crate::protocol::BellShared;
use crate::ring::{ask_first, Ring, RingShared, SegmentShared, Store, GRANULE};
use crate::segment::{Mapping, PAGE};
use std::io::Result;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

const SEGMENT: usize = 256 << 10;
/// As many as there are granules that a word can name.
const SEGMENTS: usize = (1 << 32) / (SEGMENT / GRANULE);
/// Segments in the first window; each further one doubles what there is.
const FIRST_WINDOW: usize = 16;
const WINDOWS: usize = (SEGMENTS / FIRST_WINDOW).trailing_zeros() as usize + 1;

/// The spot begins a cache line into the chunk, and `QueueShared` is aligned to two.
const SHARED_AT: usize = 64;
const ENTRIES_AT: usize = PAGE - 64;
const ENTRIES_LEN: usize = SEGMENTS * size_of::<SegmentShared>();
const RECORDS_AT: usize = ENTRIES_AT + ENTRIES_LEN;
/// Regions of which it is known when nobody needs them any more.
const RECORDS: usize = 1024;
const RECORDS_LEN: usize = RECORDS * size_of::<RegionShared>();
pub const CONTROL: usize = RECORDS_AT + RECORDS_LEN;
const DATA: u64 = 8 << 20;
const REGIONS: u64 = 1 << 37;

/// A queue may grow by so many segments before its memory is asked for.
pub const GROWTH: u32 = (64 << 20) / SEGMENT as u32;

#[repr(C, align(128))]
pub struct QueueShared {
    pub put_lock: LockShared,
    _line: [u64; 8],
    pub get_lock: LockShared,
    _other_line: [u64; 8],
    pub ring: RingShared,
    /// Where those sleep who wait for an item, for room, for the end of all work.
    pub getters: BellShared,
    pub putters: BellShared,
    pub joiners: BellShared,
    /// Items that were reported as done.
    pub done: AtomicU32,
    /// Regions given out so far.
    pub regions: AtomicU32,
    /// 0: no limit. Written before anybody else sees the queue, as is the next.
    pub maxsize: AtomicU32,
    /// Why a wake of one sleeper might wake the wrong one: `SEVERAL`, `WATCHED`.
    pub many: AtomicU32,
    pub region_len: AtomicU64,
}

impl QueueShared {
    pub const PUT_LOCK: usize = SHARED_AT;
    pub const GET_LOCK: usize = SHARED_AT + 128;
    /// Somebody waited for room for several items.
    pub const SEVERAL: u32 = 1;
    /// Somebody sleeps among getters and putters who takes and puts nothing: see `watch`.
    pub const WATCHED: u32 = 2;
}

const _: () = assert!(SHARED_AT + size_of::<QueueShared>() <= ENTRIES_AT);
const _: () = assert!(std::mem::offset_of!(QueueShared, get_lock) == 128);
const _: () = assert!((PAGE + ENTRIES_LEN + RECORDS_LEN) as u64 <= DATA);
const _: () = assert!(DATA + (SEGMENTS * SEGMENT) as u64 <= REGIONS);

/// What is known of a region. A death between a count and what it counts leaves them apart, and
/// then the region stays as long as the queue.
#[repr(C)]
pub struct RegionShared {
    /// The agent whose region it is; 0 when it is empty for ever.
    owner: AtomicU32,
    /// Blocks that it has put, counted before.
    pub sent: AtomicU32,
    /// Blocks that were looked at for the last time, counted after.
    pub back: AtomicU32,
    _pad: u32,
}

/// A queue's memory as this process sees it.
#[derive(Debug)]
pub struct Vault {
    pub spot: Spot,
    windows: [OnceLock<Arc<Mapping>>; WINDOWS],
    /// Up to how many segments there was memory when it was last asked for.
    pub permitted: AtomicU32,
}

impl Vault {
    /// A new, empty queue.
    pub fn found(maxsize: u32, region_len: usize) -> Result<Self> {
        let spot = Spot::allocate_sparse(CONTROL, PAGE - 64)?;
        let vault = Self::attach(spot)?;
        vault.shared().maxsize.store(maxsize, Ordering::Relaxed);
        vault.shared().region_len.store(region_len as u64, Ordering::Relaxed);
        vault.ring().found()?;
        Ok(vault)
    }

    /// One that another process has made; the spot must be all of it.
    pub fn attach(spot: Spot) -> Result<Self> {
        if spot.len != CONTROL || spot.offset != 64 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "not a queue's memory",
            ));
        }
        let windows = [const { OnceLock::new() }; WINDOWS];
        let vault = Self { spot, windows, permitted: AtomicU32::new(GROWTH) };
        vault.window(0)?;
        Ok(vault)
    }

    #[inline]
    pub fn shared(&self) -> &QueueShared {
        // SAFETY: made of atomics, and what lies there in every queue's memory.
        unsafe { self.spot.shared(SHARED_AT) }
    }

    #[inline]
    pub fn ring(&self) -> Ring<'_, Self> {
        Ring { shared: &self.shared().ring, store: self }
    }

    fn window(&self, number: usize) -> Result<&Arc<Mapping>> {
        if let Some(window) = self.windows[number].get() {
            return Ok(window);
        }
        let (first, count) = match number {
            0 => (0, FIRST_WINDOW),
            _ => (FIRST_WINDOW << (number - 1), FIRST_WINDOW << (number - 1)),
        };
        let offset = DATA + (first * SEGMENT) as u64;
        let map = self.spot.chunk.map_range(offset, count * SEGMENT, false)?;
        Ok(self.windows[number].get_or_init(|| map))
    }

    /// The window of a segment, and where it begins there.
    #[inline]
    fn place(&self, segment: usize) -> Result<(&Arc<Mapping>, usize)> {
        let number = match segment / FIRST_WINDOW {
            0 => 0,
            windows => windows.ilog2() as usize + 1,
        };
        let first = if number == 0 { 0 } else { FIRST_WINDOW << (number - 1) };
        Ok((self.window(number)?, (segment - first) * SEGMENT))
    }

    /// The address of `len` bytes from a granule on.
    #[inline]
    pub fn at(&self, granule: u32, len: usize) -> Result<*mut u8> {
        let byte = granule as usize * GRANULE;
        let (map, start) = self.place(byte / SEGMENT)?;
        Ok(map.at(start + byte % SEGMENT, len))
    }

    /// A region for big items: `owner`'s as long as it lives, and then nobody's.
    pub fn new_region(&self, owner: u32) -> Result<(u32, Arc<Mapping>)> {
        self.spot.reserve(RECORDS_AT, RECORDS_LEN)?;
        let number = self.shared().regions.fetch_add(1, Ordering::Relaxed);
        if let Some(record) = self.record(number) {
            record.owner.store(owner, Ordering::Release);
        }
        Ok((number, self.map_region(number, false)?))
    }

    /// What is known of a region that was given out.
    pub fn record(&self, number: u32) -> Option<&RegionShared> {
        let at = RECORDS_AT + number as usize * size_of::<RegionShared>();
        // SAFETY: made of atomics, and what lies there in every queue's memory.
        ((number as usize) < RECORDS).then(|| unsafe { self.spot.shared(at) })
    }

    /// Give back the memory of a region whose owner is dead, if nobody needs any of it.
    pub fn bury(&self, number: u32) {
        let Some(record) = self.record(number) else { return };
        let owner = record.owner.load(Ordering::Acquire);
        if owner == 0 || !self.spot.chunk.registry.seems_dead(owner) {
            return;
        }
        // Its last word on the first number was spoken before it died.
        let sent = record.sent.load(Ordering::Acquire);
        if sent == record.back.load(Ordering::Acquire) {
            if let Ok((offset, len)) = self.region_range(number) {
                let _ = self.spot.chunk.punch_range(offset, len);
            }
            record.owner.store(0, Ordering::Relaxed);
        }
    }

    fn region_range(&self, number: u32) -> Result<(u64, usize)> {
        let len = self.shared().region_len.load(Ordering::Relaxed);
        let offset = u64::from(number)
            .checked_mul(len)
            .and_then(|offset| offset.checked_add(REGIONS))
            .filter(|offset| offset + len <= 1 << 62)
            .ok_or_else(|| std::io::Error::from_raw_os_error(libc::EFBIG))?;
        Ok((offset, len as usize))
    }

    pub fn map_region(&self, number: u32, private: bool) -> Result<Arc<Mapping>> {
        let (offset, len) = self.region_range(number)?;
        self.spot.chunk.map_range(offset, len, private)
    }

    /// The identity of the memory behind it.
    pub fn chunk(&self) -> &Arc<Chunk> {
        &self.spot.chunk
    }
}

impl Store for Vault {
    const GRANULES: u32 = (SEGMENT / GRANULE) as u32;
    const STEP: u32 = (64 << 10) / GRANULE as u32;

    fn segments(&self) -> u32 {
        SEGMENTS as u32
    }

    #[inline]
    fn entry(&self, segment: u32) -> &SegmentShared {
        let size = size_of::<SegmentShared>();
        // SAFETY: made of atomics, and what lies there in every queue's memory.
        unsafe { self.spot.shared(ENTRIES_AT + segment as usize * size) }
    }

    fn reserve_entry(&self, segment: u32) -> Result<()> {
        let entry = ENTRIES_AT + segment as usize * size_of::<SegmentShared>();
        self.spot.reserve(entry, size_of::<SegmentShared>())
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
            Err(ask_first())
        }
    }

    fn reach(&self, point: &'static str) {
        crate::crash::reach(point);
    }
}
