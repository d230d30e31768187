//! Where shared objects lie: arenas that are filled once from the bottom up and never used again.
//!
//! ```text
//! | HeaderShared | object | object | object ...      one sealed memfd each
//! ```
//! Only the process that made an arena puts objects into it, and its bookkeeping is one number in
//! its own memory. A place is never used twice. So a reader of an object, in whichever process and
//! for however long, finds that object and nothing else; the kernel frees the arena with its last
//! user. Large objects have an arena to themselves.

use crate::owners::registry::{random_id, Id, OwnerRegistry};
use crate::shm::region::Region;
use crate::shm::segment::{Mapping, Segment, PAGE};
use crate::sys::process::generation;
use crate::testing::crash_points::crash_point;
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Objects start on a cache line: two locks never share one.
pub const LINE: usize = 64;
/// A arena for small objects.
const SHARED: usize = 64 << 10;
/// Objects above this size have a arena of their own.
const SMALL: usize = 8 << 10;
const MAGIC: u64 = u64::from_le_bytes(*b"garrchnk");

#[repr(C, align(64))]
struct HeaderShared {
    magic: AtomicU64,
    id: [AtomicU64; 2],
    family: [AtomicU64; 2],
    /// How often a handle was written down, and read: a arena of which more are under way than
    /// have arrived is kept by its sender.
    exports: AtomicU64,
    imports: AtomicU64,
    /// How much of it its users map at once; 0: all.
    mapped: AtomicU64,
}

const _: () = assert!(size_of::<HeaderShared>() == LINE);

/// A arena as this process sees it.
#[derive(Debug)]
pub struct Arena {
    pub registry: &'static OwnerRegistry,
    pub id: Id,
    segment: Arc<Segment>,
    map: Arc<Mapping>,
    len: usize,
}

static KNOWN: Mutex<Option<HashMap<Id, Weak<Arena>>>> = Mutex::new(None);
/// The arena that is being filled, and how far, and by which process.
static CURRENT: Mutex<Option<(Arc<Arena>, usize, u64)>> = Mutex::new(None);
/// Chunks with handles under way, which a process may still want to attach.
static UNDER_WAY: Mutex<Vec<(Arc<Arena>, u64)>> = Mutex::new(Vec::new());

impl Arena {
    fn create(len: usize, mapped: usize) -> Result<Arc<Self>> {
        let registry = OwnerRegistry::home()?;
        let segment = Segment::create(len, 0)?;
        segment.reserve_control(0, PAGE)?;
        let map = segment.map_range(0, mapped, false)?;
        let id = random_id()?;
        let arena = Arc::new(Self { registry, id, segment, map, len });
        let head = arena.head();
        head.mapped.store(if mapped == len { 0 } else { mapped as u64 }, Ordering::Relaxed);
        head.id.iter().zip(id).for_each(|(word, half)| word.store(half, Ordering::Relaxed));
        let family = arena.registry.id;
        head.family.iter().zip(family).for_each(|(word, half)| word.store(half, Ordering::Relaxed));
        head.magic.store(MAGIC, Ordering::Release);
        crash_point("chunk.created");
        arena.remember();
        Ok(arena)
    }

    fn remember(self: &Arc<Self>) {
        let mut known = KNOWN.lock().expect("never poisoned");
        let all = known.get_or_insert_default();
        all.retain(|_, arena| arena.strong_count() > 0);
        all.insert(self.id, Arc::downgrade(self));
    }

    pub fn known(id: Id) -> Option<Arc<Self>> {
        let known = KNOWN.lock().expect("never poisoned");
        known.as_ref()?.get(&id)?.upgrade()
    }

    /// The arena behind a descriptor that was handed over, which stays the caller's.
    pub fn attach(
        fd: i32,
        len: usize,
        id: Id,
        registry: &'static OwnerRegistry,
    ) -> Result<Arc<Self>> {
        if let Some(arena) = Self::known(id) {
            return Ok(arena);
        }
        let wrong = || Error::new(ErrorKind::NotFound, "not the shared memory that was meant");
        if len < LINE {
            return Err(wrong());
        }
        let segment = Segment::attach_sealed(fd, len)?;
        let map = Self::map(&segment, len)?;
        let arena = Arc::new(Self { registry, id, segment, map, len });
        let head = arena.head();
        let written =
            |words: &[AtomicU64; 2]| [0, 1].map(|half| words[half].load(Ordering::Relaxed));
        if head.magic.load(Ordering::Acquire) != MAGIC
            || written(&head.id) != id
            || written(&head.family) != registry.id
        {
            return Err(wrong());
        }
        arena.remember();
        Ok(arena)
    }

    /// As much of it as its users map at once.
    fn map(segment: &Arc<Segment>, len: usize) -> Result<Arc<Mapping>> {
        let first = segment.map_range(0, len.min(SHARED), false)?;
        // SAFETY: the header lies there, in whatever file this is.
        let head: &HeaderShared = unsafe { &*first.at(0, LINE).cast() };
        let mapped = head.mapped.load(Ordering::Relaxed) as usize;
        let mapped = if mapped == 0 || mapped > len { len } else { mapped };
        if mapped <= first.len() {
            return Ok(first);
        }
        drop(first);
        segment.map_range(0, mapped, false)
    }

    fn head(&self) -> &HeaderShared {
        // SAFETY: `at` checks the range; the first page is reserved.
        unsafe { &*self.map.at(0, LINE).cast() }
    }

    pub fn fd(&self) -> i32 {
        self.segment.fd()
    }

    /// The same, to be used now.
    pub fn open_fd(&self) -> Result<i32> {
        self.segment.descriptor().get()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Another part of the file, beyond what all its users map.
    pub fn map_range(&self, offset: u64, len: usize, private: bool) -> Result<Arc<Mapping>> {
        self.segment.map_range(offset, len, private)
    }

    /// A part of the file that belongs to one process.
    pub fn region(&self, offset: u64, len: usize, private: bool) -> Arc<Region> {
        Region::new(&self.segment, offset, len, private)
    }

    pub fn punch_range(&self, offset: u64, len: usize) -> Result<()> {
        self.segment.punch_range(offset, len)
    }

    /// A handle is about to be sent: keep the arena until it has arrived.
    pub fn export(self: &Arc<Self>) {
        let mut under_way = UNDER_WAY.lock().expect("never poisoned");
        let here = generation();
        under_way
            .retain(|(arena, of)| *of == here && (arena.is_under_way() || arena.id == self.id));
        self.head().exports.fetch_add(1, Ordering::Relaxed);
        if !under_way.iter().any(|(arena, _)| arena.id == self.id) {
            under_way.push((self.clone(), here));
        }
    }

    /// Have no longer what has arrived since.
    pub fn prune_exports() {
        let gone = {
            let mut under_way = UNDER_WAY.lock().expect("never poisoned");
            let (stay, gone): (Vec<_>, Vec<_>) =
                under_way.drain(..).partition(|(arena, _)| arena.is_under_way());
            *under_way = stay;
            gone
        };
        drop(gone);
    }

    fn is_under_way(&self) -> bool {
        let arrived = self.head().imports.load(Ordering::Relaxed);
        self.head().exports.load(Ordering::Relaxed) > arrived
    }

    /// A handle has arrived here. One that arrives twice does not count for another.
    pub fn import(&self) {
        let (exports, imports) = (&self.head().exports, &self.head().imports);
        let mut seen = imports.load(Ordering::Relaxed);
        while seen < exports.load(Ordering::Relaxed) {
            let next = seen + 1;
            match imports.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Have no longer what was kept for handles that have all arrived.
    pub fn sweep() {
        let mut under_way = UNDER_WAY.lock().expect("never poisoned");
        if !under_way.is_empty() {
            let here = generation();
            under_way.retain(|(arena, of)| *of == here && arena.is_under_way());
        }
    }

    /// Have no longer what is only kept for handles under way.
    pub fn forget_exports(&self) {
        let mut under_way = UNDER_WAY.lock().expect("never poisoned");
        under_way.retain(|(arena, _)| arena.id != self.id);
    }
}

/// Descriptors of the arena that is being filled, of which there is one as long as the process lives,
/// and of those that wait for handles to arrive.
pub fn open_descriptors() -> Vec<i32> {
    let current = CURRENT.lock().expect("never poisoned");
    let under_way = UNDER_WAY.lock().expect("never poisoned");
    let filled = current.iter().map(|(arena, ..)| arena.fd());
    filled.chain(under_way.iter().map(|(arena, _)| arena.fd())).collect()
}

/// A place in a arena, which it keeps alive.
#[derive(Debug, Clone)]
pub struct SharedBlock {
    pub arena: Arc<Arena>,
    pub offset: usize,
    pub len: usize,
}

impl SharedBlock {
    /// `len` bytes of shared memory, all zero, that no object ever had. `at_length` is given what takes
    /// long for a large one, and may release the GIL meanwhile: no lock of ours is held then, which a
    /// forked child would find held for ever.
    pub fn allocate_with(
        len: usize,
        at_length: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()>,
    ) -> Result<Self> {
        let full = || Error::from_raw_os_error(libc::ENOMEM);
        let room = len.max(1).checked_next_multiple_of(LINE).ok_or_else(full)?;
        if room > SMALL {
            let all = room.checked_add(LINE).and_then(|all| all.checked_next_multiple_of(PAGE));
            let all = all.filter(|&all| all < isize::MAX as usize).ok_or_else(full)?;
            let arena = Arena::create(all, all)?;
            at_length(&|| arena.segment.reserve_control(0, all))?;
            crash_point("chunk.reserved");
            return Ok(Self { arena, offset: LINE, len });
        }
        let mut current = CURRENT.lock().expect("never poisoned");
        let fits = matches!(&*current,
            Some((arena, used, of)) if *of == generation() && used + room <= SHARED
                && arena.segment.is_open());
        if !fits {
            *current = Some((Arena::create(SHARED, SHARED)?, LINE, generation()));
        }
        let (arena, used, _) = current.as_mut().expect("there is one now");
        let offset = *used;
        let (reserved, wanted) =
            (offset.next_multiple_of(PAGE), (offset + room).next_multiple_of(PAGE));
        if wanted > reserved {
            arena.segment.reserve_control(reserved, wanted - reserved)?;
            crash_point("chunk.reserved");
        }
        *used += room;
        crash_point("chunk.allocated");
        Ok(Self { arena: arena.clone(), offset, len })
    }

    /// The same in a arena of its own, of which only so many bytes have memory yet, and its users
    /// map a part; both are counted from the arena's beginning.
    pub fn allocate_sparse(len: usize, reserved: usize, mapped: usize) -> Result<Self> {
        let block = Self { arena: Arena::create(LINE + len, mapped)?, offset: LINE, len };
        block.reserve(0, reserved)?;
        crash_point("chunk.reserved");
        Ok(block)
    }

    /// Make a part of a sparse one real.
    pub fn reserve(&self, offset: usize, len: usize) -> Result<()> {
        self.arena.segment.reserve_control(self.offset + offset, len)
    }

    /// A place that a handle names; it must lie inside.
    pub fn within(arena: Arc<Arena>, offset: usize, len: usize) -> Result<Self> {
        let inside = offset >= LINE && offset % 8 == 0;
        if !inside || offset.checked_add(len).is_none_or(|end| end > arena.len()) {
            return Err(Error::new(ErrorKind::InvalidInput, "a handle with a place outside"));
        }
        Ok(Self { arena, offset, len })
    }

    /// The address of `len` bytes from `offset` on (checked).
    #[inline]
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset, "outside of the object");
        self.arena.map.at(self.offset + offset, len)
    }

    /// A number that tells the object at `offset` from others.
    pub fn object_id(&self, offset: usize) -> u64 {
        self.arena.id[0] ^ (self.offset + offset) as u64
    }

    /// What lies at `offset`. For types of atomics only, which any bits are a value of.
    ///
    /// # Safety
    /// `T` must be made of atomics, and every user of this place must see the same `T`.
    pub unsafe fn shared<T>(&self, offset: usize) -> &T {
        let start = self.at(offset, size_of::<T>()).cast::<T>();
        assert!(start.is_aligned(), "misaligned");
        // SAFETY: in range, aligned, reserved; the rest is the caller's word.
        unsafe { &*start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocate(len: usize) -> Result<SharedBlock> {
        SharedBlock::allocate_with(len, |reserve| reserve())
    }

    #[test]
    fn objects_do_not_overlap_and_large_ones_are_alone() {
        let small: Vec<_> = (0..2000).map(|n| allocate(n % 200).unwrap()).collect();
        for pair in small.windows(2) {
            let [a, b] = pair else { unreachable!() };
            assert!(a.arena.id != b.arena.id || a.offset + a.len <= b.offset);
        }
        let large = allocate(SMALL + 1).unwrap();
        assert!(small.iter().all(|block| block.arena.id != large.arena.id));
        // SAFETY: inside, and reserved.
        unsafe { assert_eq!(*large.at(SMALL, 1), 0) };
    }

    #[test]
    fn a_chunk_goes_with_its_last_object() {
        let block = allocate(100_000).unwrap();
        let id = block.arena.id;
        assert!(Arena::known(id).is_some());
        drop(block);
        assert!(Arena::known(id).is_none());
    }

    #[test]
    fn what_is_under_way_is_kept_until_it_has_arrived() {
        let block = allocate(100_000).unwrap();
        let id = block.arena.id;
        block.arena.export();
        drop(block);
        let arrived = Arena::known(id).expect("kept");
        arrived.import();
        drop(arrived);
        Arena::sweep();
        assert!(Arena::known(id).is_none());
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(allocate(usize::MAX).is_err());
        assert!(allocate(1 << 60).is_err());
    }
}
