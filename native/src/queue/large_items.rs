//! Large items: written once into a region of their sender's, read there by their receiver.
//!
//! ```text
//! block     IN_USE ─▶ RELEASED     by its receiver: its sender uses the memory again
//!              ├────▶ EMPTIED      the same while memory is scarce: it has given the memory back
//!              └────▶ ABANDONED    by a sender that leaves: then the release gives the memory back
//! ```
//! The receiver signs the block before it commits that it has taken the item. So a sender knows the
//! receiver of every block that is not in the log, and a dead receiver's is free.

use super::ends::QueueHost;
use super::file::QueueFile;
use crate::host::Failure;
use crate::shm::heap::{is_back, Heap, RELEASED};
use crate::shm::payload::{BlockRef, MappedBlock, OnRelease, WrittenBlock};
use crate::shm::region::Region;
use crate::sys::damage::damaged;
use crate::sys::memory_left;
use crate::sys::process::generation;
use crate::testing::crash_points::crash_point;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Items from this size on are large.
pub const BIG: usize = 1 << 16;
/// Blocks that are looked at, for each that is written, whether they are back.
const LOOKS: usize = 8;

/// Regions that stay mapped here although unused: mapping one again costs page faults.
const MAPPED: usize = 64;

/// Where a large item lies, as it stands in the log.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct BlockAddress {
    region: u32,
    buffers: u32,
    place: u64,
    len: u64,
    kind: u32,
    /// Made of the rest, see [`BlockAddress::sum`].
    sum: u32,
}

impl BlockAddress {
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: numbers without gaps between them.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// Where in its region the block begins.
    #[cfg(any(test, fuzzing))]
    pub fn place(&self) -> usize {
        self.place as usize
    }

    pub fn from_bytes(bytes: &[u8]) -> std::io::Result<Self> {
        if bytes.len() != size_of::<Self>() {
            return Err(damaged("a large item without an address"));
        }
        // SAFETY: the length is right, and any bits are numbers.
        let address = unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() };
        if address.sum != address.sum() {
            return Err(damaged("the address of a large item of a queue"));
        }
        Ok(address)
    }

    fn sum(&self) -> u32 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let words = [self.region.into(), self.buffers.into(), self.place, self.len];
        let all = words.into_iter().chain([self.kind.into()]);
        (all.fold(ODD, |sum, word| (sum.rotate_left(23) ^ word).wrapping_mul(ODD)) >> 32) as u32
    }
}

/// A block that was written and not yet put; dropped, it is free again.
pub struct LargeItem {
    pub address: BlockAddress,
    sender: Arc<SenderRegion>,
    put: bool,
}

impl LargeItem {
    /// It will be in the ring at once: count it.
    pub fn is_being_put(&self, file: &QueueFile) {
        if let Some(record) = file.record(self.address.region) {
            record.sent.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It is in the ring under this number.
    pub fn was_put(&mut self, number: u32) {
        self.put = true;
        let mut outstanding = self.sender.outstanding.lock().expect("never poisoned");
        outstanding.in_ring.push_back((self.address.place as usize, number));
    }
}

impl Drop for LargeItem {
    fn drop(&mut self) {
        if !self.put && self.sender.generation == generation() {
            self.sender.heap.lock().expect("never poisoned").free(self.address.place as usize);
        }
    }
}

/// This process's region of one queue.
pub struct SenderRegion {
    generation: u64,
    region: u32,
    heap: Mutex<Heap>,
    outstanding: Mutex<OutstandingBlocks>,
    retired: AtomicBool,
}

/// Blocks that were put, and did not come back yet.
#[derive(Default)]
struct OutstandingBlocks {
    /// Place and item number, as they are in the ring.
    in_ring: VecDeque<(usize, u32)>,
    /// Places of what was taken since.
    taken: Vec<usize>,
    /// Where among these the next look begins.
    cursor: usize,
}

impl OutstandingBlocks {
    fn follow(&mut self, file: &QueueFile) {
        let (head, tail) = (file.log().head(), file.log().tail());
        let inside = tail.number.wrapping_sub(head.number);
        while let Some(&(place, number)) = self.in_ring.front() {
            if number.wrapping_sub(head.number) < inside {
                break;
            }
            self.in_ring.pop_front();
            self.taken.push(place);
        }
    }

    /// Some of what was taken, others each time, of which those are free that `is_back` says.
    fn collect(&mut self, looks: usize, is_back: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut back = Vec::new();
        for _ in 0..looks.min(self.taken.len()) {
            if self.cursor >= self.taken.len() {
                self.cursor = 0;
            }
            if is_back(self.taken[self.cursor]) {
                back.push(self.taken.swap_remove(self.cursor));
            } else {
                self.cursor += 1;
            }
        }
        back
    }
}

/// All senders of this process, to be retired when it ends.
static SENDERS: Mutex<Vec<Weak<SenderRegion>>> = Mutex::new(Vec::new());

impl SenderRegion {
    fn is_of_this_process(&self) -> bool {
        self.generation == generation() && !self.retired.load(Ordering::Relaxed)
    }

    /// Take back what came back, and what dead holders had.
    fn sweep(&self, file: &QueueFile, looks: usize) {
        let (mut heap, mut outstanding) = (
            self.heap.lock().expect("never poisoned"),
            self.outstanding.lock().expect("never poisoned"),
        );
        outstanding.follow(file);
        let registry = file.arena().registry;
        let back = outstanding.collect(looks, |place| {
            let Ok(block) = heap.head(place) else { return false };
            // [release->collect]
            if is_back(block.state.load(Ordering::Acquire)) {
                return true;
            }
            let dead = registry.seems_dead(block.holder.load(Ordering::Relaxed));
            // Released just before it died: then it has counted that, or no process does.
            if dead && !is_back(block.state.swap(RELEASED, Ordering::AcqRel)) {
                if let Some(record) = file.record(self.region) {
                    record.back.fetch_add(1, Ordering::AcqRel);
                }
            }
            dead
        });
        back.into_iter().for_each(|place| heap.free(place));
    }

    /// Leave: what is outstanding is the receivers' to give back, the rest goes back now.
    fn retire(&self) {
        if self.generation != generation() || self.retired.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut heap = self.heap.lock().expect("never poisoned");
        let outstanding = std::mem::take(&mut *self.outstanding.lock().expect("never poisoned"));
        let places = outstanding.in_ring.iter().map(|&(place, _)| place).chain(outstanding.taken);
        places.for_each(|place| heap.abandon(place));
        heap.trim_all();
    }
}

impl Drop for SenderRegion {
    fn drop(&mut self) {
        self.retire();
    }
}

/// This process ends: it will not collect what comes back.
pub fn retire_senders() {
    let senders = std::mem::take(&mut *SENDERS.lock().expect("never poisoned"));
    senders.iter().filter_map(Weak::upgrade).for_each(|sender| sender.retire());
}

/// Both ends of the parcels of one queue, in one process.
#[derive(Default)]
pub struct LargeItems {
    sender: Mutex<Option<Arc<SenderRegion>>>,
    regions: Mutex<HashMap<u32, Arc<Region>>>,
    /// The region that is looked at next.
    cursor: AtomicU32,
}

impl LargeItems {
    fn sender<H: QueueHost>(
        &self,
        host: H,
        file: &QueueFile,
        me: u32,
    ) -> Result<Arc<SenderRegion>, H::Error> {
        if let Some(sender) = &*self.sender.lock().expect("never poisoned") {
            if sender.is_of_this_process() {
                return Ok(sender.clone());
            }
        }
        let (region, own) = file.new_region(me).map_err(Failure::of("a region of a queue"))?;
        let sender = Arc::new(SenderRegion {
            generation: generation(),
            region,
            heap: Mutex::new(Heap::new(own)),
            outstanding: Mutex::default(),
            retired: AtomicBool::new(false),
        });
        host.register_sender()?;
        SENDERS.lock().expect("never poisoned").push(Arc::downgrade(&sender));
        let old = self.sender.lock().expect("never poisoned").replace(sender.clone());
        drop(old);
        Ok(sender)
    }

    /// Look whether the next region is that of a dead owner.
    fn look_at_another(&self, file: &QueueFile) {
        let count = file.shared().regions.load(Ordering::Relaxed);
        let next = self.cursor.fetch_add(1, Ordering::Relaxed);
        if count > 1 {
            file.free_region(next % count);
        }
    }

    /// Have a payload of some kind and so many bytes written into a block of one's own.
    pub fn pack<H: QueueHost>(
        &self,
        host: H,
        file: &QueueFile,
        (kind, len): (u8, usize),
        write: impl Fn(&Mutex<Heap>) -> Result<WrittenBlock, H::Error>,
    ) -> Result<LargeItem, H::Error> {
        let me = file.arena().registry.me().map_err(Failure::of("a process's registration"))?;
        let sender = self.sender(host, file, me)?;
        sender.sweep(file, LOOKS);
        self.look_at_another(file);
        crash_point("queue.big_begun");
        let written = write(&sender.heap).or_else(|_| {
            sender.sweep(file, usize::MAX);
            write(&sender.heap)
        })?;
        let head = sender.heap.lock().expect("never poisoned").head(written.place);
        head.map_err(Failure::from)?.owner.store(me, Ordering::Relaxed);
        crash_point("queue.big_written");
        let mut address = BlockAddress {
            region: sender.region,
            buffers: written.buffers,
            place: written.place as u64,
            len: len as u64,
            kind: u32::from(kind),
            sum: 0,
        };
        address.sum = address.sum();
        Ok(LargeItem { address, sender, put: false })
    }

    /// Sign for a large item, before the item is taken: without address space for it, it stays.
    pub fn sign(
        &self,
        file: &Arc<QueueFile>,
        address: BlockAddress,
        me: u32,
    ) -> std::io::Result<ReceivedBlock> {
        let block = MappedBlock::at(&self.region(file, address.region)?, address.place as usize)?;
        block.check_payload(address.len as usize, address.buffers)?;
        if address.buffers == 0 {
            memory_left::ask_for_copy(address.len)?;
        }
        block.sign(me);
        let on_release = Arc::new(Record { file: file.clone(), region: address.region });
        Ok(ReceivedBlock { address, block, on_release })
    }

    fn region(&self, file: &QueueFile, number: u32) -> std::io::Result<Arc<Region>> {
        let mut regions = self.regions.lock().expect("never poisoned");
        if let Some(region) = regions.get(&number) {
            return Ok(region.clone());
        }
        if regions.len() >= MAPPED {
            regions.retain(|_, region| Arc::strong_count(region) > 1);
        }
        let region = file.region(number, true)?;
        regions.insert(number, region.clone());
        Ok(region)
    }
}

/// Counts what comes back of a region.
#[derive(Debug)]
struct Record {
    file: Arc<QueueFile>,
    region: u32,
}

impl OnRelease for Record {
    fn released(&self, owner: u32) -> bool {
        if let Some(record) = self.file.record(self.region) {
            // [look->bury] pairs with the acquire in bury()
            record.back.fetch_add(1, Ordering::AcqRel);
        }
        let dead = self.file.arena().registry.seems_dead(owner);
        if dead {
            self.file.free_region(self.region);
        }
        dead
    }
}

/// A large item that was signed for.
pub struct ReceivedBlock {
    address: BlockAddress,
    block: MappedBlock,
    on_release: Arc<dyn OnRelease>,
}

impl ReceivedBlock {
    /// The kind of its payload.
    pub fn kind(&self) -> u8 {
        self.address.kind as u8
    }

    /// Its payload's length, and how many buffers it has.
    pub fn extent(&self) -> (usize, u32) {
        (self.address.len as usize, self.address.buffers)
    }

    /// Look at it, after its item was taken.
    pub fn into_ref(self) -> Arc<BlockRef> {
        self.block.into_ref(Some(self.on_release))
    }
}
