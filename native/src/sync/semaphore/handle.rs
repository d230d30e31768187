//! A semaphore in shared memory, as this process sees it.

use super::wait::SemaphoreWords;
use super::word::{MOST, NOBODY};
use crate::host::{Failure, Host};
use crate::owners::registry::OwnerRegistry;
use crate::owners::wait_session::{RateLimit, WaitTarget};
use crate::shm::arena::SharedBlock;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::deadline::Deadline;
use std::sync::atomic::AtomicUsize;

/// In shared memory a word, and for a bounded one a place for each permit behind it.
#[derive(Debug)]
pub struct Semaphore {
    block: SharedBlock,
    target: WaitTarget,
    /// The most permits of one whose permits are counted; 0 if they are signed for.
    most: u32,
    /// Permits that are signed for.
    places: usize,
    hint: AtomicUsize,
    checks: RateLimit,
}

impl Semaphore {
    /// Bytes that one needs in shared memory.
    pub fn size(places: usize) -> usize {
        size_of::<u32>() * (1 + places)
    }

    /// One whose permits are counted has none of the `places`. A new one is given its `value`.
    pub fn new(block: &SharedBlock, value: Option<u32>, most: u32, places: usize) -> Self {
        let bounded = places > 0 || most < MOST;
        let kind = if bounded { WaitTarget::BOUNDED_SEMAPHORE } else { WaitTarget::SEMAPHORE };
        let target = WaitTarget::new(kind, block.object_id(0));
        let most = if places > 0 { 0 } else { most };
        let (hint, checks) = (AtomicUsize::new(0), RateLimit::default());
        let made = Self { block: block.clone(), target, most, places, hint, checks };
        if let Some(value) = value {
            made.word().store(value, Ordering::Release);
        }
        made
    }

    #[inline]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: an atomic, where every process has it.
        unsafe { self.block.shared(0) }
    }

    #[inline]
    fn place_words(&self) -> &[AtomicU32] {
        if self.places == 0 {
            return &[];
        }
        let start = self.block.at(size_of::<u32>(), self.places * size_of::<u32>());
        // SAFETY: in range (checked), aligned to 4, and made of atomics.
        unsafe { std::slice::from_raw_parts(start.cast(), self.places) }
    }

    #[inline]
    fn words(&self) -> SemaphoreWords<'_, OwnerRegistry> {
        SemaphoreWords {
            word: self.word(),
            places: self.place_words(),
            most: self.most,
            owners: self.registry(),
            hint: &self.hint,
            checks: &self.checks,
            target: self.target,
        }
    }

    #[inline]
    fn registry(&self) -> &'static OwnerRegistry {
        self.block.arena.registry
    }

    #[inline]
    fn me(&self) -> Result<u32, Failure> {
        self.registry().me().map_err(Failure::of("a process's registration"))
    }

    #[inline]
    fn is_counted(&self) -> bool {
        self.most > 0
    }

    pub fn object(&self) -> u64 {
        self.target.object
    }

    /// The limit of one whose permits are counted, and the places of one whose are signed for.
    pub fn limits(&self) -> (u32, usize) {
        (self.most, self.places)
    }

    /// Take a permit, waiting until the deadline; false if none could be had.
    #[inline]
    pub fn acquire<H: Host>(&self, host: H, deadline: &Deadline) -> Result<bool, H::Error> {
        let me = if self.is_counted() { 0 } else { self.me()? };
        self.words().acquire(host, me, deadline)
    }

    #[inline]
    pub fn release(&self) -> Result<(), Failure> {
        let me = if self.is_counted() { 0 } else { self.me()? };
        self.words().release(me).then_some(()).ok_or(Failure::NotHeld)
    }

    /// How many permits there are at the moment.
    pub fn value(&self) -> u32 {
        if self.is_counted() {
            return self.word().load(Ordering::Acquire) & MOST;
        }
        let free = |place: &&AtomicU32| place.load(Ordering::Acquire) == NOBODY;
        self.place_words().iter().filter(free).count() as u32
    }

    /// How many permits this process has taken, as far as that is known.
    pub fn taken_here(&self) -> Result<usize, Failure> {
        if self.is_counted() {
            return Ok(0);
        }
        let me = self.me()?;
        let mine = |place: &&AtomicU32| place.load(Ordering::Relaxed) == me;
        Ok(self.place_words().iter().filter(mine).count())
    }

    /// The processes that hold permits which are signed for: (pid, permits).
    pub fn holders(&self) -> Vec<(u32, usize)> {
        let mut found: Vec<(u32, usize)> = Vec::new();
        for place in self.place_words() {
            let owner = place.load(Ordering::Acquire);
            let identity = self.registry().identity(owner).filter(|_| owner != NOBODY);
            let Some(identity) = identity else { continue };
            match found.iter_mut().find(|(pid, _)| *pid == identity.pid) {
                Some((_, permits)) => *permits += 1,
                None => found.push((identity.pid, 1)),
            }
        }
        found
    }
}
