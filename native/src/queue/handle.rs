//! A queue in shared memory, as this process sees it.

use super::ends::{Batch, EndState, Ends, LocalState, QueueHost, WaitSpec};
use super::file::QueueFile;
use super::item::{EncodedItem, LARGE};
use super::large_items::{BlockAddress, LargeItems, ReceivedBlock};
use super::log::{Position, GRANULE};
use super::shared::QueueShared;
use super::watch::Watch;
use crate::host::Failure;
use crate::owners::registry::OwnerRegistry;
use crate::owners::Owners;
use crate::shm::arena::Arena;
use crate::sys::deadline::LIVENESS_CHECK_INTERVAL;
use crate::sys::futex;
use crate::sys::process::generation;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No generation of a process.
const NONE: u64 = u64::MAX;

pub struct Queue {
    pub file: Arc<QueueFile>,
    pub large: LargeItems,
    here: LocalState,
    /// Whether there is a watch, of this process or of one that it was forked from.
    watched: AtomicBool,
    watch: Mutex<Option<Watch>>,
    /// The generation of the process that calls [`Queue::await_watch`] at its end.
    awaits: AtomicU64,
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Its memory may be much: it is not kept for a handle that has arrived long ago.
        Arena::prune_exports();
    }
}

impl Queue {
    pub fn new(file: QueueFile) -> Self {
        let end = |offset| EndState::new(file.block.object_id(offset));
        let (put, get) = (end(QueueShared::PUT_LOCK), end(QueueShared::GET_LOCK));
        let here = LocalState::new(file.shared().maxsize.load(Ordering::Relaxed), put, get);
        let (watched, watch) = (AtomicBool::new(false), Mutex::default());
        let (file, large, awaits) = (Arc::new(file), LargeItems::default(), AtomicU64::new(NONE));
        Self { file, large, here, watched, watch, awaits }
    }

    #[inline]
    pub fn ends(&self) -> Ends<'_, QueueFile, OwnerRegistry> {
        let (shared, owners) = (self.file.shared(), self.registry());
        Ends { shared, memory: &*self.file, owners, here: &self.here }
    }

    #[inline]
    fn registry(&self) -> &'static OwnerRegistry {
        self.file.block.arena.registry
    }

    /// The number that this process signs with.
    #[inline]
    pub fn me(&self) -> Result<u32, Failure> {
        self.registry().me().map_err(Failure::of("a process's registration"))
    }

    pub fn maxsize(&self) -> u32 {
        self.here.maxsize
    }

    /// Whether one of these ends is closed in this process, or the whole queue.
    #[inline]
    pub fn is_closed(&self, ends: u8) -> bool {
        self.here.is_closed(ends)
    }

    /// Whether this process has put something before it closed the queue.
    pub fn is_used_up(&self) -> bool {
        self.is_closed(0) && self.registry().known_as() == Some(self.here.putter())
    }

    pub fn close(&self, ends: u8) {
        self.here.close(ends);
        if ends != LocalState::NO_PUT {
            drop(self.watch().take());
        }
    }

    /// Put all of them, or none: true, or false if there was no room in time.
    #[inline]
    pub fn put<H: QueueHost, K>(
        &self,
        host: H,
        items: &mut [EncodedItem<K>],
        wait: &WaitSpec,
    ) -> Result<bool, H::Error> {
        let mut items = Encoded { file: &self.file, items };
        let put = self.ends().put(host, self.me()?, &mut items, wait)?;
        if put {
            self.changed();
        }
        Ok(put)
    }

    /// Take up to so many items, at least one; 0 if there was none in time. `each` is called under the
    /// lock: it copies the item, and calls no code of the user.
    #[inline]
    pub fn get<H: QueueHost>(
        &self,
        host: H,
        most: u32,
        wait: &WaitSpec,
        mut each: impl FnMut(TakenItem<'_>) -> Result<(), H::Error>,
    ) -> Result<u32, H::Error> {
        let me = self.me()?;
        let taken = self.ends().get(host, me, most, wait, |from, limit| {
            let (kind, bytes, granules) =
                self.file.item(from, limit).map_err(Failure::of("a look into a queue"))?;
            each(self.taken(kind, bytes, me)?)?;
            Ok(granules)
        })?;
        if taken > 0 {
            self.changed();
        }
        Ok(taken)
    }

    #[inline]
    fn taken<'a>(&self, kind: u8, bytes: &'a [u8], me: u32) -> Result<TakenItem<'a>, Failure> {
        if kind != LARGE {
            return Ok(TakenItem::Small(kind, bytes));
        }
        let address = BlockAddress::from_bytes(bytes).map_err(Failure::Io)?;
        let received = self.large.sign(&self.file, address, me);
        Ok(TakenItem::Large(received.map_err(Failure::of("a look into a queue"))?))
    }

    fn watch(&self) -> MutexGuard<'_, Option<Watch>> {
        // Held for moments, and with the GIL: by no other thread at a fork.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A descriptor that is readable while there is an item; or one that is always writable.
    pub fn descriptor(&self, putting: bool) -> std::io::Result<i32> {
        let me = self.registry().me()?;
        let mut watch = self.watch();
        let here = match watch.take() {
            Some(here) if here.is_here() => here,
            before => Watch::new(&self.file, me, before)?,
        };
        if !putting {
            here.announce();
        }
        let number = here.descriptor(putting);
        *watch = Some(here);
        self.watched.store(true, Ordering::Relaxed);
        Ok(number)
    }

    /// After a put or get: whether this process is to call `await_watch` at its end, and was not
    /// told so.
    #[inline]
    pub fn is_to_await_watch(&self) -> bool {
        self.is_watched_elsewhere()
            && self.awaits.swap(generation(), Ordering::Relaxed) != generation()
    }

    /// Whether another process keeps a descriptor in step with the queue.
    #[inline]
    fn is_watched_elsewhere(&self) -> bool {
        let watcher = self.file.shared().watcher.load(Ordering::Relaxed);
        watcher != 0 && self.registry().known_as() != Some(watcher)
    }

    /// Wait until that process has seen what was put and taken, at most so long.
    pub fn await_watch(&self, limit: Duration) {
        let shared = self.file.shared();
        let changes = self.file.log().changes();
        let start = Instant::now();
        while self.is_watched_elsewhere() {
            let seen = shared.seen.load(Ordering::SeqCst);
            let left = limit.saturating_sub(start.elapsed());
            let watcher = shared.watcher.load(Ordering::Relaxed);
            let is_over = changes.wrapping_sub(seen) as i32 <= 0 || left.is_zero();
            if is_over || self.registry().is_dead(watcher) {
                return;
            }
            futex::wait(&shared.seen, seen, left.min(LIVENESS_CHECK_INTERVAL));
        }
    }

    /// After an item was put or taken here.
    #[inline]
    fn changed(&self) {
        if self.watched.load(Ordering::Relaxed) {
            self.tell_watch();
        }
    }

    #[cold]
    fn tell_watch(&self) {
        if let Some(watch) = &*self.watch() {
            watch.refresh();
        }
    }
}

/// An item under the lock of the queue's front.
pub enum TakenItem<'a> {
    /// Its kind and its bytes.
    Small(u8, &'a [u8]),
    Large(ReceivedBlock),
}

/// Items that were written down.
struct Encoded<'a, K> {
    file: &'a QueueFile,
    items: &'a mut [EncodedItem<K>],
}

impl<K> Batch for Encoded<'_, K> {
    #[inline]
    fn count(&self) -> u32 {
        self.items.len() as u32
    }

    #[inline]
    fn granules(&self, nth: usize) -> u32 {
        self.items[nth].granules()
    }

    #[inline]
    fn write(&self, nth: usize, to: Position) -> std::io::Result<()> {
        let item = &self.items[nth];
        let Position { number, at } = to;
        let to = self.file.at(at, item.granules() as usize * GRANULE)?;
        // SAFETY: in range (checked), and the caller has found memory that nothing else writes to.
        unsafe { item.write(to, number) };
        Ok(())
    }

    #[inline]
    fn will_be_put(&self) {
        let large = self.items.iter().filter_map(|item| item.large.as_ref());
        large.for_each(|large| large.is_being_put(self.file));
    }

    #[inline]
    fn were_put(&mut self, first: u32) {
        let numbers = (0..).map(|nth| first.wrapping_add(nth));
        for (item, number) in self.items.iter_mut().zip(numbers) {
            if let Some(large) = &mut item.large {
                large.was_put(number);
            }
        }
    }
}
