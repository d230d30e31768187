//! Big items: written once into a region of their sender's, read there by whoever gets them.
//!
//! ```text
//! block     IN_USE ─▶ RELEASED     by whoever got it: its sender uses the memory again
//!              └────▶ ABANDONED    by a sender that leaves: then the release gives the memory back
//! ```
//! The receiver signs the block before it commits that it has taken the item. So a sender knows of
//! every block that is not in the ring whom to ask for it, and a dead receiver's is free.

use super::block::{self, Keeper, Look};
use super::item;
use super::memory_error;
use crate::queue::file::QueueFile;
use crate::shm::heap::{Heap, RELEASED};
use crate::shm::region::Region;
use crate::sys::process::generation;
use crate::testing::crash_points::crash_point;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Items from this size on are parcels.
pub const BIG: usize = 1 << 16;
/// Blocks that are looked at, for each that is written, whether they are back.
const LOOKS: usize = 8;

/// Regions that stay mapped here although nobody looks at them: mapping one again costs page faults.
const MAPPED: usize = 64;

/// Where a parcel lies, as it stands in the ring.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Address {
    region: u32,
    buffers: u32,
    place: u64,
    len: u64,
    kind: u64,
}

impl Address {
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: numbers without gaps between them.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// # Safety
    /// The bytes are those of an address.
    pub unsafe fn from_bytes(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), size_of::<Self>(), "not an address");
        // SAFETY: the caller's word, and the length is right.
        unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() }
    }
}

/// A block that was written and not yet put; dropped, it is free again.
pub struct Parcel {
    pub address: Address,
    sender: Arc<Sender>,
    put: bool,
}

impl Parcel {
    /// It will be in the ring at once: count it.
    pub fn is_being_put(&self, vault: &QueueFile) {
        if let Some(record) = vault.record(self.address.region) {
            record.sent.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It is in the ring under this number.
    pub fn was_put(&mut self, number: u32) {
        self.put = true;
        let mut lent = self.sender.lent.lock().expect("never poisoned");
        lent.in_ring.push_back((self.address.place as usize, number));
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if !self.put && self.sender.generation == generation() {
            self.sender.heap.lock().expect("never poisoned").free(self.address.place as usize);
        }
    }
}

/// This process's region of one queue.
pub struct Sender {
    generation: u64,
    region: u32,
    heap: Mutex<Heap>,
    lent: Mutex<Lent>,
    retired: AtomicBool,
}

/// Blocks that were put, and did not come back yet.
#[derive(Default)]
struct Lent {
    /// Place and item number, as they are in the ring.
    in_ring: VecDeque<(usize, u32)>,
    /// Places of what was taken since.
    taken: Vec<usize>,
    /// Where among these the next look begins.
    cursor: usize,
}

impl Lent {
    fn follow(&mut self, vault: &QueueFile) {
        let (head, tail) = (vault.log().head(), vault.log().tail());
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
static SENDERS: Mutex<Vec<Weak<Sender>>> = Mutex::new(Vec::new());

impl Sender {
    fn is_of_this_process(&self) -> bool {
        self.generation == generation() && !self.retired.load(Ordering::Relaxed)
    }

    /// Take back what came back, and what those held who are dead.
    fn sweep(&self, vault: &QueueFile, looks: usize) {
        let (mut heap, mut lent) =
            (self.heap.lock().expect("never poisoned"), self.lent.lock().expect("never poisoned"));
        lent.follow(vault);
        let registry = vault.arena().registry;
        let back = lent.collect(looks, |place| {
            let Ok(block) = heap.head(place) else { return false };
            // [release->collect]
            if block.state.load(Ordering::Acquire) == RELEASED {
                return true;
            }
            let dead = registry.seems_dead(block.holder.load(Ordering::Relaxed));
            // Released just before it died: then it has counted that, or nobody does.
            if dead && block.state.swap(RELEASED, Ordering::AcqRel) != RELEASED {
                if let Some(record) = vault.record(self.region) {
                    record.back.fetch_add(1, Ordering::AcqRel);
                }
            }
            dead
        });
        back.into_iter().for_each(|place| heap.free(place));
    }

    /// Leave: what is lent is the receivers' to give back, the rest goes back now.
    fn retire(&self) {
        if self.generation != generation() || self.retired.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut heap = self.heap.lock().expect("never poisoned");
        let lent = std::mem::take(&mut *self.lent.lock().expect("never poisoned"));
        let places = lent.in_ring.iter().map(|&(place, _)| place).chain(lent.taken);
        places.for_each(|place| heap.abandon(place));
        heap.trim_all();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.retire();
    }
}

/// This process ends: nobody will collect what comes back.
#[pyfunction]
pub fn retire_senders() {
    let senders = std::mem::take(&mut *SENDERS.lock().expect("never poisoned"));
    senders.iter().filter_map(Weak::upgrade).for_each(|sender| sender.retire());
}

/// Both ends of the parcels of one queue, in one process.
#[derive(Default)]
pub struct Post {
    sender: Mutex<Option<Arc<Sender>>>,
    regions: Mutex<HashMap<u32, Arc<Region>>>,
    /// The region that is looked at next.
    cursor: AtomicU32,
}

impl Post {
    fn sender(&self, py: Python<'_>, vault: &QueueFile, me: u32) -> PyResult<Arc<Sender>> {
        if let Some(sender) = &*self.sender.lock().expect("never poisoned") {
            if sender.is_of_this_process() {
                return Ok(sender.clone());
            }
        }
        let full = |error| memory_error(&error, "a region of a queue");
        let (region, own) = vault.new_region(me).map_err(full)?;
        let sender = Arc::new(Sender {
            generation: generation(),
            region,
            heap: Mutex::new(Heap::new(own)),
            lent: Mutex::default(),
            retired: AtomicBool::new(false),
        });
        py.import("garrison.sync._queue_pickling")?.call_method0("register_sender_cleanup")?;
        SENDERS.lock().expect("never poisoned").push(Arc::downgrade(&sender));
        let old = self.sender.lock().expect("never poisoned").replace(sender.clone());
        drop(old);
        Ok(sender)
    }

    /// Look whether the next region is that of somebody dead.
    fn look_at_another(&self, vault: &QueueFile) {
        let count = vault.shared().regions.load(Ordering::Relaxed);
        let next = self.cursor.fetch_add(1, Ordering::Relaxed);
        if count > 1 {
            vault.bury(next % count);
        }
    }

    /// Write a payload of some kind, and its buffers, into a block of one's own.
    pub fn pack(
        &self,
        py: Python<'_>,
        vault: &QueueFile,
        kind: u8,
        payload: &[u8],
        buffers: Option<&Bound<'_, PyList>>,
    ) -> PyResult<Parcel> {
        let registry = vault.arena().registry;
        let me = registry.me().map_err(|error| memory_error(&error, "a process's registration"))?;
        let sender = self.sender(py, vault, me)?;
        sender.sweep(vault, LOOKS);
        self.look_at_another(vault);
        crash_point("queue.big_begun");
        let written = block::write(py, &sender.heap, payload, buffers).or_else(|_| {
            sender.sweep(vault, usize::MAX);
            block::write(py, &sender.heap, payload, buffers)
        })?;
        let head = sender.heap.lock().expect("never poisoned").head(written.place)?;
        head.owner.store(me, Ordering::Relaxed);
        crash_point("queue.big_written");
        let address = Address {
            region: sender.region,
            buffers: written.buffers,
            place: written.place as u64,
            len: payload.len() as u64,
            kind: u64::from(kind),
        };
        Ok(Parcel { address, sender, put: false })
    }

    /// Sign for a parcel, before the item is taken: without address space for it, it stays.
    pub fn sign(
        &self,
        vault: &Arc<QueueFile>,
        address: Address,
        me: u32,
    ) -> std::io::Result<Received> {
        let look = Look::at(&self.region(vault, address.region)?, address.place as usize)?;
        look.sign(me);
        let keeper = Arc::new(Record { vault: vault.clone(), region: address.region });
        Ok(Received { address, look, keeper })
    }

    fn region(&self, vault: &QueueFile, number: u32) -> std::io::Result<Arc<Region>> {
        let mut regions = self.regions.lock().expect("never poisoned");
        if let Some(region) = regions.get(&number) {
            return Ok(region.clone());
        }
        if regions.len() >= MAPPED {
            regions.retain(|_, region| Arc::strong_count(region) > 1);
        }
        let region = vault.region(number, true)?;
        regions.insert(number, region.clone());
        Ok(region)
    }
}

/// Counts what comes back of a region.
#[derive(Debug)]
struct Record {
    vault: Arc<QueueFile>,
    region: u32,
}

impl Keeper for Record {
    fn released(&self, owner: u32) -> bool {
        if let Some(record) = self.vault.record(self.region) {
            // [look->bury] pairs with the acquire in bury()
            record.back.fetch_add(1, Ordering::AcqRel);
        }
        let dead = self.vault.arena().registry.seems_dead(owner);
        if dead {
            self.vault.bury(self.region);
        }
        dead
    }
}

/// A parcel that was signed for.
pub struct Received {
    address: Address,
    look: Look,
    keeper: Arc<dyn Keeper>,
}

impl Received {
    /// Look at it, after its item was taken.
    pub fn open<'py>(self, py: Python<'py>) -> PyResult<Opened<'py>> {
        let (len, lease) = (self.address.len as usize, self.look.lease(Some(self.keeper)));
        let (payload, buffers) = block::read(py, &lease, len, self.address.buffers)?;
        Ok(match self.address.kind as u8 {
            item::PICKLE => Opened::Pickle(payload.into_any(), buffers),
            kind => Opened::Value(item::rebuild(py, kind, payload.get().bytes())?),
        })
    }
}

pub enum Opened<'py> {
    Value(Bound<'py, PyAny>),
    Pickle(Bound<'py, PyAny>, Option<Bound<'py, PyList>>),
}
