//! Payloads in shared memory: writing them into one's own heap, looking at another's without a copy.
//!
//! ```text
//! | len of each buffer: u64, read-only flag in its top bit | payload | buffer | buffer ...
//! ```
//! Each part but the payload starts on a cache line.

use super::heap::{self, Head, Heap, ABANDONED, EMPTIED, IN_USE, LINE, RELEASED};
use super::region::{Region, Span};
use crate::host::{Failure, Host};
use crate::sys::damage::damaged;
use crate::sys::memory_left;
use crate::sys::process::{forks, generation};
use crate::testing::crash_points::crash_point;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const READONLY: u64 = 1 << 63;
/// Buffers that take together less than this are copied out: cheaper than pages of their own.
const PAGED: usize = 1 << 16;
/// Copies above this size let other threads run meanwhile.
const LONG_COPY: usize = 1 << 18;

fn line(offset: usize) -> usize {
    offset.div_ceil(LINE) * LINE
}

/// Memory of the program that is to be written down with a payload.
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    pub start: *const u8,
    pub len: usize,
    pub readonly: bool,
}

#[derive(Clone, Copy)]
struct Copy {
    from: *const u8,
    to: *mut u8,
    len: usize,
}

fn copy_all<H: Host>(host: H, copies: &[Copy]) {
    // SAFETY: the block was allocated just now, so the ranges cannot overlap.
    let run = |copies: &[Copy]| {
        copies.iter().for_each(|c| unsafe { std::ptr::copy_nonoverlapping(c.from, c.to, c.len) });
    };
    if copies.iter().map(|c| c.len).sum::<usize>() < LONG_COPY {
        return run(copies);
    }
    host.blocking(|| run(copies));
}

/// Where a payload was put: the block's place in the writer's heap, and how many buffers follow.
#[derive(Debug, Clone, Copy)]
pub struct WrittenBlock {
    pub place: usize,
    pub buffers: u32,
    pub size: u64,
}

/// Copy a payload and its buffers into one new block of `heap`.
///
/// # Safety
/// The buffers' memory must stay until this returns.
pub unsafe fn write<H: Host>(
    host: H,
    heap: &Mutex<Heap>,
    payload: &[u8],
    buffers: &[Buffer],
) -> Result<WrittenBlock, Failure> {
    let payload_at = buffers.len() * size_of::<u64>();
    let mut end = payload_at + payload.len();
    let mut place_after = |len| {
        let at = line(end);
        end = at + len;
        at
    };
    let places: Vec<usize> = buffers.iter().map(|buffer| place_after(buffer.len)).collect();
    let room = {
        let mut heap = heap.lock().expect("never poisoned");
        let paged = !buffers.is_empty() && end >= PAGED;
        let room = if paged { heap.allocate_pages(end) } else { heap.allocate(end) };
        room.map_err(|error| Failure::of(format!("{end} bytes of data"))(error))?
    };
    let base = room.bytes.at(0, end);
    // SAFETY: `at` has checked that `end` bytes lie behind `base`.
    let to = unsafe { base.add(payload_at) };
    let first = Copy { from: payload.as_ptr(), to, len: payload.len() };
    let mut copies = Vec::new();
    for (number, (buffer, at)) in buffers.iter().zip(&places).enumerate() {
        let flag = if buffer.readonly { READONLY } else { 0 };
        // SAFETY: as above.
        unsafe {
            base.cast::<u64>().add(number).write(buffer.len as u64 | flag);
            copies.push(Copy { from: buffer.start, to: base.add(*at), len: buffer.len });
        }
    }
    copy_all(host, &[first]);
    crash_point("result.half_written");
    copy_all(host, &copies);
    Ok(WrittenBlock { place: room.place, buffers: buffers.len() as u32, size: (LINE + end) as u64 })
}

/// The same without buffers.
pub fn write_plain<H: Host>(
    host: H,
    heap: &Mutex<Heap>,
    payload: &[u8],
) -> Result<WrittenBlock, Failure> {
    // SAFETY: there are no buffers.
    unsafe { write(host, heap, payload, &[]) }
}

/// Of blocks of this size the memory is given back at their release, if little is left.
const WORTH_EMPTYING: usize = 64 << 10;

/// What wants to know of the last look at a block.
pub trait OnRelease: std::fmt::Debug + Send + Sync {
    /// It was released. Whether its owner is dead, so that its memory goes back at once.
    fn released(&self, owner: u32) -> bool;
}

/// Another's block, mapped.
#[derive(Debug)]
pub struct MappedBlock {
    region: Arc<Region>,
    place: usize,
    head: Head,
    bytes: Span,
    is_paged: bool,
}

impl MappedBlock {
    pub fn at(region: &Arc<Region>, place: usize) -> std::io::Result<Self> {
        let head = Head::of(region, place)?;
        let bytes = heap::bytes(region, place, &head)?;
        let is_paged = head.body()?.is_some();
        if !(IN_USE..=ABANDONED).contains(&head.state.load(Ordering::Relaxed)) {
            return Err(damaged(format!("the block at {place} is in no state")));
        }
        Ok(Self { region: region.clone(), place, head, bytes, is_paged })
    }

    /// Fail if it has no room for a payload of so many bytes with so many buffers.
    pub fn check_payload(&self, len: usize, buffers: u32) -> std::io::Result<()> {
        self.part(buffers as usize * size_of::<u64>(), len, true).map(|_| ())
    }

    fn part(&self, offset: usize, len: usize, readonly: bool) -> std::io::Result<Part> {
        let room = self.bytes.len();
        if offset.checked_add(len).is_none_or(|end| end > room) {
            return Err(damaged(format!("{len} bytes from {offset} on in a block of {room}")));
        }
        Ok(Part { offset, len, readonly })
    }

    pub fn sign(&self, holder: u32) {
        self.head.holder.store(holder, Ordering::Relaxed);
    }

    /// From now on it is this process's to give back.
    pub fn into_ref(self, on_release: Option<Arc<dyn OnRelease>>) -> Arc<BlockRef> {
        let (generation, forks) = (generation(), forks());
        Arc::new(BlockRef { block: self, generation, forks, on_release })
    }
}

/// This process's word that it looks at another's block; the last view that goes gives it back.
#[derive(Debug)]
pub struct BlockRef {
    block: MappedBlock,
    generation: u64,
    forks: u64,
    on_release: Option<Arc<dyn OnRelease>>,
}

/// A payload, where it was found.
#[derive(Debug)]
pub enum Found<'a> {
    Inline(&'a [u8]),
    InBlock { block: Arc<BlockRef>, len: usize, buffers: u32 },
}

impl Found<'_> {
    /// Bytes of the payload, without its buffers.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::InBlock { len, .. } => *len,
        }
    }
}

/// A buffer behind a payload.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub offset: usize,
    pub len: usize,
    pub readonly: bool,
}

impl BlockRef {
    /// Sign for a block: nothing is done if it cannot be mapped.
    pub fn new(region: &Arc<Region>, place: usize, holder: u32) -> std::io::Result<Arc<Self>> {
        let block = MappedBlock::at(region, place)?;
        block.sign(holder);
        Ok(block.into_ref(None))
    }

    /// Some of its bytes, which nothing writes to any more.
    pub fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: in range (checked); written before the block was published, and kept by this.
        unsafe { std::slice::from_raw_parts(self.address(offset, len), len) }
    }

    /// Where they lie.
    pub fn address(&self, offset: usize, len: usize) -> *mut u8 {
        self.block.bytes.at(offset, len)
    }

    /// Whether its buffers have pages of their own.
    pub fn is_paged(&self) -> bool {
        self.block.is_paged
    }

    /// Fail if it has no room for a payload of so many bytes with so many buffers.
    pub fn check_payload(&self, len: usize, buffers: u32) -> std::io::Result<()> {
        self.block.check_payload(len, buffers)
    }

    /// A payload of so many bytes, with so many buffers behind it.
    pub fn parts(&self, len: usize, buffers: u32) -> std::io::Result<(Part, Vec<Part>)> {
        let payload = self.block.part(buffers as usize * size_of::<u64>(), len, true)?;
        let mut end = payload.offset + len;
        let part = |number| {
            let entry = self.bytes(number * size_of::<u64>(), size_of::<u64>());
            let word = u64::from_ne_bytes(entry.try_into().expect("eight bytes"));
            let (offset, len) = (line(end), (word & !READONLY) as usize);
            let part = self.block.part(offset, len, word & READONLY != 0)?;
            end = offset + len;
            Ok(part)
        };
        let parts = (0..buffers as usize).map(part).collect::<std::io::Result<_>>()?;
        Ok((payload, parts))
    }
}

impl Drop for BlockRef {
    fn drop(&mut self) {
        // A forked child has a copy of this object, but not of the right to give the block back.
        // Nor may the parent give back what a child that it has forked meanwhile may look at.
        if self.generation != generation() || self.forks != forks() {
            return;
        }
        let MappedBlock { region, place, head, bytes, is_paged } = &self.block;
        if *is_paged {
            bytes.discard();
        }
        let owner = head.owner.load(Ordering::Relaxed);
        // The owner may have no reason to look for what came back until others need the memory.
        let empties = bytes.len() >= WORTH_EMPTYING && memory_left::is_scarce();
        if empties {
            heap::empty_block(region, *place, head);
        }
        // [release->collect]
        let was = head.state.swap(if empties { EMPTIED } else { RELEASED }, Ordering::AcqRel);
        let orphaned = self.on_release.as_ref().is_some_and(|wants| wants.released(owner));
        if was == ABANDONED || orphaned {
            heap::punch_block(region, *place, head);
        }
    }
}
