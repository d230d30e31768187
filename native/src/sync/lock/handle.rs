//! A lock in shared memory, as this process sees it.

use super::wait::{Acquired, LockWords, Wait};
use super::word::{self, LockShared, FREE};
use crate::host::{Failure, Host};
use crate::owners::registry::OwnerRegistry;
use crate::owners::wait_graph::{self, HeldLock};
use crate::owners::wait_session::{RateLimit, WaitTarget};
use crate::owners::Owners;
use crate::shm::arena::SharedBlock;
use crate::sys::atomic::Ordering;
use crate::sys::clock::coarse_now;
use crate::sys::deadline::Deadline;
use crate::sys::process::thread_id;
use crate::sys::shared_text;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Bytes of the place in the program that are kept with a lock.
const LOCATION: usize = size_of::<u64>() * 5;

/// The words of a lock: taken, released and waited for. A part of other objects, and of [`Lock`].
#[derive(Debug)]
pub struct RawLock {
    /// Keeps the memory behind `shared`.
    block: SharedBlock,
    shared: *const LockShared,
    registry: &'static OwnerRegistry,
    target: WaitTarget,
    checks: RateLimit,
}

// SAFETY: the pointer is into memory that `block` keeps, and to atomics only.
unsafe impl Send for RawLock {}
unsafe impl Sync for RawLock {}

impl Clone for RawLock {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), checks: RateLimit::default(), ..*self }
    }
}

impl HeldLock for RawLock {
    fn object(&self) -> u64 {
        self.target.object
    }

    fn is_mine(&self) -> bool {
        self.me().is_ok_and(|me| self.is_mine(me))
    }
}

impl RawLock {
    pub fn new(block: &SharedBlock, offset: usize, recursive: bool, detects: bool) -> Self {
        // SAFETY: a LockShared is made of atomics, and lies where its object's layout says.
        let shared: &LockShared = unsafe { block.shared(offset) };
        let shared: *const LockShared = shared;
        let registry = block.arena.registry;
        let kind = if recursive { WaitTarget::RLOCK } else { WaitTarget::LOCK };
        let target = WaitTarget { detects, ..WaitTarget::new(kind, block.object_id(offset)) };
        Self { block: block.clone(), shared, registry, target, checks: RateLimit::default() }
    }

    #[inline]
    fn shared(&self) -> &LockShared {
        // SAFETY: made from a reference into memory that `block` keeps.
        unsafe { &*self.shared }
    }

    #[inline]
    fn words(&self) -> LockWords<'_, OwnerRegistry> {
        LockWords { shared: self.shared(), owners: self.registry }
    }

    pub fn registry(&self) -> &'static OwnerRegistry {
        self.registry
    }

    pub fn target(&self) -> WaitTarget {
        self.target
    }

    /// The number that this process signs with.
    #[inline]
    pub fn me(&self) -> Result<u32, Failure> {
        self.registry.me().map_err(Failure::of("a process's registration"))
    }

    /// Take it if it is free.
    #[inline]
    pub fn try_acquire(&self, me: u32) -> bool {
        let acquired = self.words().try_acquire(me);
        if acquired && self.target.detects {
            self.record_held();
        }
        acquired
    }

    /// The same while no other thread of this process runs: none asks for the thread.
    #[inline]
    pub fn try_acquire_briefly(&self, me: u32) -> bool {
        word::try_take(&self.shared().word, me)
    }

    /// Wait for it until the deadline.
    #[cold]
    pub fn acquire_slow<H: Host>(
        &self,
        host: H,
        me: u32,
        deadline: &Deadline,
        may_inherit: bool,
    ) -> Result<Acquired, H::Error> {
        let wait = Wait { deadline, may_inherit, target: self.target, checks: &self.checks };
        let how = self.words().acquire_slow(host, me, &wait)?;
        if self.target.detects && matches!(how, Acquired::Clean | Acquired::FromDeadOwner(_)) {
            self.record_held();
        }
        Ok(how)
    }

    /// Release it; false if it was not held.
    #[inline]
    pub fn release(&self) -> bool {
        if self.target.detects {
            self.forget_held();
        }
        self.words().release()
    }

    #[cold]
    fn record_held(&self) {
        wait_graph::record_held(Box::new(self.clone()));
    }

    #[cold]
    fn forget_held(&self) {
        wait_graph::forget_held(self.target.object);
    }

    /// Keep the place in the program that has acquired it, to be shown.
    #[inline]
    fn record_location<H: Host>(&self, host: H) {
        if self.target.detects {
            let location = host.location();
            let file = location.rsplit('/').next().unwrap_or_default();
            shared_text::write(&self.shared().site, shared_text::beginning(file, LOCATION));
        }
    }

    /// Whether this very thread holds it.
    #[inline]
    pub fn is_mine(&self, me: u32) -> bool {
        let shared = self.shared();
        word::owner(shared.word.load(Ordering::Relaxed)) == me
            && shared.thread.load(Ordering::Relaxed) == thread_id()
    }

    #[inline]
    pub fn is_held(&self) -> bool {
        self.owner() != FREE
    }

    /// The owner at the moment, dead or alive; 0 if there is none.
    pub fn owner(&self) -> u32 {
        word::owner(self.shared().word.load(Ordering::Relaxed))
    }

    /// The owner, if there is one and it is dead.
    pub fn dead_owner(&self) -> Option<u32> {
        let owner = word::owner(self.shared().word.load(Ordering::Acquire));
        (owner != FREE && self.registry.is_dead(owner)).then_some(owner)
    }

    /// How often the owner's thread has acquired it.
    pub fn depth(&self) -> u32 {
        self.shared().depth.load(Ordering::Relaxed)
    }

    pub fn set_depth(&self, depth: u32) {
        self.shared().depth.store(depth, Ordering::Relaxed);
    }

    /// Once more by the thread that has it already.
    #[inline]
    fn enter_recursion(&self) {
        self.set_depth(self.depth() + 1);
    }

    /// Undo one `enter_recursion`; false if there was none.
    #[inline]
    fn exit_recursion(&self) -> bool {
        let now = self.depth();
        if now > 1 {
            self.set_depth(now - 1);
        }
        now > 1
    }

    /// Whether this process holds it, in whichever thread.
    pub fn is_of_this_process(&self) -> Result<bool, Failure> {
        Ok(self.owner() == self.me()?)
    }

    /// The holder, if there is one.
    pub fn holder(&self) -> Option<Holder> {
        let shared = self.shared();
        let owner = word::owner(shared.word.load(Ordering::Acquire));
        let held = coarse_now().saturating_sub(shared.since.load(Ordering::Relaxed));
        (owner != FREE).then(|| Holder {
            pid: self.registry.identity(owner).map_or(0, |identity| identity.pid),
            thread: shared.thread.load(Ordering::Relaxed),
            held: Duration::from_nanos(held),
            location: if self.target.detects {
                shared_text::read(&shared.site)
            } else {
                String::new()
            },
        })
    }
}

/// The holder of a lock, to be shown.
#[derive(Debug)]
pub struct Holder {
    pub pid: u32,
    pub thread: u32,
    pub held: Duration,
    pub location: String,
}

/// A lock as users have it: perhaps recursive, and telling the owner that inherits it.
#[derive(Debug)]
pub struct Lock {
    pub raw: RawLock,
    pub recursive: bool,
    /// Whether this process has it from an owner that had died.
    abandoned: AtomicBool,
}

impl Lock {
    pub fn new(raw: RawLock, recursive: bool) -> Self {
        Self { raw, recursive, abandoned: AtomicBool::new(false) }
    }

    /// Whether the last acquisition by this process took it from an owner that had died.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    #[inline]
    fn clear_abandoned(&self) {
        if self.is_abandoned() {
            self.abandoned.store(false, Ordering::Relaxed);
        }
    }

    /// Acquire it if that is ordinary and needs no waiting.
    #[inline]
    pub fn try_acquire_fast(&self) -> bool {
        let known = self.raw.registry.known_as().filter(|_| !self.raw.target.detects);
        let Some(me) = known else { return false };
        if self.raw.try_acquire(me) {
            self.clear_abandoned();
            return true;
        }
        let again = self.recursive && self.raw.is_mine(me);
        if again {
            self.raw.enter_recursion();
        }
        again
    }

    /// Release it if it is held, and may be.
    #[inline]
    pub fn try_release_fast(&self) -> bool {
        if self.recursive {
            let mine = self.raw.registry.known_as().is_some_and(|me| self.raw.is_mine(me));
            return mine && (self.raw.exit_recursion() || self.raw.release());
        }
        self.raw.is_held() && self.raw.release()
    }

    /// Acquire it, waiting until the deadline.
    #[inline]
    pub fn acquire<H: Host>(
        &self,
        host: H,
        deadline: &Deadline,
        may_inherit: bool,
    ) -> Result<Acquired, H::Error> {
        let me = self.raw.me()?;
        if self.raw.try_acquire(me) {
            self.raw.record_location(host);
            self.clear_abandoned();
            return Ok(Acquired::Clean);
        }
        if self.recursive && self.raw.is_mine(me) {
            self.raw.enter_recursion();
            return Ok(Acquired::Clean);
        }
        self.acquire_slow(host, me, deadline, may_inherit)
    }

    #[cold]
    fn acquire_slow<H: Host>(
        &self,
        host: H,
        me: u32,
        deadline: &Deadline,
        may_inherit: bool,
    ) -> Result<Acquired, H::Error> {
        let how = self.raw.acquire_slow(host, me, deadline, may_inherit)?;
        match how {
            Acquired::Clean => {
                self.raw.record_location(host);
                self.abandoned.store(false, Ordering::Relaxed);
            }
            Acquired::FromDeadOwner(_) => self.abandoned.store(true, Ordering::Relaxed),
            Acquired::OwnerDead(_) | Acquired::TimedOut => {}
        }
        Ok(how)
    }

    /// Acquire it although its owner may have died holding it; false if it could not be had in time.
    pub fn recover<H: Host>(&self, host: H, deadline: &Deadline) -> Result<bool, H::Error> {
        let me = self.raw.me()?;
        if self.recursive && self.raw.is_mine(me) {
            self.raw.enter_recursion();
            return Ok(true);
        }
        match self.raw.acquire_slow(host, me, deadline, true)? {
            Acquired::TimedOut | Acquired::OwnerDead(_) => Ok(false),
            how => {
                let inherited = matches!(how, Acquired::FromDeadOwner(_));
                self.abandoned.store(inherited, Ordering::Relaxed);
                Ok(true)
            }
        }
    }

    /// Give an inherited lock back to its dead owner, so that the next one is told as well.
    pub fn return_to_dead_owner(&self, dead: u32) -> Result<(), Failure> {
        self.abandoned.store(false, Ordering::Relaxed);
        self.raw.words().return_to_dead_owner(self.raw.me()?, dead);
        Ok(())
    }

    pub fn release(&self) -> Result<(), Failure> {
        if self.recursive {
            if !self.raw.is_mine(self.raw.me()?) {
                return Err(Failure::NotOwner);
            }
            if self.raw.exit_recursion() {
                return Ok(());
            }
        }
        self.raw.release().then_some(()).ok_or(Failure::NotHeld)
    }
}
