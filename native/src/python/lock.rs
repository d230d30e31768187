//! `Lock` and `RLock`: the fast path in one exchange, the slow path in slices.

use super::memory_error;
use super::quick;
use super::spot::PySharedBlock;
use super::waiting::{site, thread, AnyBool, Deadline, RateLimit, WaitSession, WaitTarget};
use crate::owners::registry::OwnerRegistry;
use crate::shm::arena::SharedBlock;
use crate::sync::lock::word::{self, LockShared, Look, FREE, WAITERS};
use crate::sys::atomic::Ordering;
use crate::sys::clock::coarse_now;
use crate::sys::futex;
use crate::sys::shared_text;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::RefCell;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long to look at a held lock before sleeping: most are held shorter than a wake takes.
const LOOKS: u32 = 200;
/// Bytes of the place in the code that are kept with a lock.
const SITE: usize = size_of::<u64>() * 5;

/// A lock in shared memory, as this process sees it; also a part of other objects.
#[derive(Debug)]
pub struct Lock {
    /// Keeps the memory behind `shared`.
    _spot: SharedBlock,
    shared: *const LockShared,
    registry: &'static OwnerRegistry,
    subject: WaitTarget,
    /// A lock that is only ever tried is asked so often whether its owner still lives.
    judged: RateLimit,
}

// SAFETY: the pointer is into memory that `_spot` keeps, and to atomics only.
unsafe impl Send for Lock {}
unsafe impl Sync for Lock {}

thread_local! {
    /// The locks that look for deadlocks and that this thread has taken, and perhaps released since.
    static HELD: RefCell<Vec<Lock>> = const { RefCell::new(Vec::new()) };
}

/// The locks that this thread holds, of those that look for deadlocks.
pub fn held_here() -> Vec<u64> {
    HELD.with_borrow_mut(|held| {
        held.retain(Lock::is_held_here);
        held.iter().map(|lock| lock.subject.object).collect()
    })
}

/// How an attempt to take a lock has ended.
pub enum Outcome {
    Taken,
    Inherited(u32),
    Orphaned(u32),
    TooLate,
}

impl Clone for Lock {
    fn clone(&self) -> Self {
        Self { _spot: self._spot.clone(), judged: RateLimit::default(), ..*self }
    }
}

impl Lock {
    pub fn new(spot: &SharedBlock, offset: usize, recursive: bool, detects: bool) -> Self {
        // SAFETY: a LockShared is made of atomics, and lies where its object's layout says.
        let shared: &LockShared = unsafe { spot.shared(offset) };
        let shared: *const LockShared = shared;
        let registry = spot.chunk.registry;
        let kind = if recursive { WaitTarget::RLOCK } else { WaitTarget::LOCK };
        let subject = WaitTarget { detects, ..WaitTarget::at(kind, spot, offset) };
        Self { _spot: spot.clone(), shared, registry, subject, judged: RateLimit::default() }
    }

    #[inline]
    pub fn shared(&self) -> &LockShared {
        // SAFETY: made from a reference into memory that `_spot` keeps.
        unsafe { &*self.shared }
    }

    pub fn registry(&self) -> &'static OwnerRegistry {
        self.registry
    }

    #[inline]
    pub fn me(&self) -> PyResult<u32> {
        self.registry().me().map_err(|error| memory_error(&error, "a process's registration"))
    }

    #[inline]
    fn sign(&self) {
        let shared = self.shared();
        shared.thread.store(thread(), Ordering::Relaxed);
        shared.depth.store(1, Ordering::Relaxed);
        shared.since.store(coarse_now(), Ordering::Relaxed);
        if self.subject.detects {
            self.note_held();
        }
    }

    #[cold]
    fn note_held(&self) {
        HELD.with_borrow_mut(|held| {
            held.retain(Lock::is_held_here);
            held.push(self.clone());
        });
    }

    #[inline]
    fn note_site(&self, py: Python<'_>) {
        if self.subject.detects {
            // Only for show: a thread without a Python frame has none.
            let site = site(py).unwrap_or_default();
            let file = site.rsplit('/').next().unwrap_or_default();
            shared_text::write(&self.shared().site, shared_text::beginning(file, SITE));
        }
    }

    #[cold]
    fn note_left(&self) {
        HELD.with_borrow_mut(|held| held.retain(|lock| lock.shared != self.shared));
    }

    /// Whether this very thread holds it.
    fn is_held_here(&self) -> bool {
        self.me().is_ok_and(|me| self.is_mine(me))
    }

    /// Take it if it is free.
    #[inline]
    pub fn try_take(&self, me: u32) -> bool {
        let taken = word::try_take(&self.shared().word, me);
        if taken {
            crash_point("lock.taken");
            self.sign();
        }
        taken
    }

    /// Wait for it, as long as `patience` lasts.
    #[cold]
    pub fn wait(
        &self,
        py: Python<'_>,
        me: u32,
        patience: &Deadline,
        may_inherit: bool,
    ) -> PyResult<Outcome> {
        if let Some(outcome) = self.spin(me, patience) {
            return Ok(outcome);
        }
        let (shared, registry) = (self.shared(), self.registry);
        let word = &shared.word;
        let mut sleeper = WaitSession::new(registry, self.subject);
        let mut judge = patience.is_over() && self.judged.may();
        loop {
            let found = word::look(word, me, judge, may_inherit, |agent| registry.is_dead(agent));
            let seen = match found {
                Look::Taken => return Ok(self.took(Outcome::Taken)),
                Look::Inherited(dead) => {
                    crash_point("lock.inherited");
                    return Ok(self.took(Outcome::Inherited(dead)));
                }
                Look::Orphaned(dead) => return Ok(Outcome::Orphaned(dead)),
                Look::Held(seen) => seen,
            };
            crash_point("lock.marked");
            if patience.is_over() {
                if judge || !self.judged.may() {
                    return Ok(Outcome::TooLate);
                }
                judge = true;
                continue;
            }
            let holder = (word::owner(seen), shared.thread.load(Ordering::Relaxed));
            judge = sleeper.sleep(py, word, seen, holder, patience)?;
            crash_point("lock.woken");
        }
    }

    fn took(&self, outcome: Outcome) -> Outcome {
        crash_point("lock.taken");
        self.sign();
        outcome
    }

    fn spin(&self, me: u32, patience: &Deadline) -> Option<Outcome> {
        let word = &self.shared().word;
        // Its owner may be a thread of this process, which needs the GIL to release it.
        if patience.is_over() || word::owner(word.load(Ordering::Relaxed)) == me {
            return None;
        }
        for _ in 0..LOOKS {
            if word.load(Ordering::Relaxed) == FREE && self.try_take(me) {
                return Some(Outcome::Taken);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Whether this very thread holds it.
    #[inline]
    pub fn is_mine(&self, me: u32) -> bool {
        let shared = self.shared();
        word::owner(shared.word.load(Ordering::Relaxed)) == me
            && shared.thread.load(Ordering::Relaxed) == thread()
    }

    #[inline]
    fn is_held(&self) -> bool {
        self.shared().word.load(Ordering::Relaxed) != FREE
    }

    /// Release it; false if nobody held it.
    #[inline]
    pub fn leave(&self) -> bool {
        if self.subject.detects {
            self.note_left();
        }
        let was = word::leave(&self.shared().word);
        crash_point("lock.released");
        if was & WAITERS != 0 {
            futex::wake(&self.shared().word, 1);
        }
        was != FREE
    }

    fn disown(&self, me: u32, dead: u32) {
        word::disown(&self.shared().word, me, dead);
        futex::wake(&self.shared().word, 1);
    }

    /// Once more by the thread that has it already.
    #[inline]
    pub fn nest(&self) {
        let depth = &self.shared().depth;
        depth.store(depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Undo one `nest`; false if it was not nested.
    #[inline]
    pub fn unnest(&self) -> bool {
        let depth = &self.shared().depth;
        let now = depth.load(Ordering::Relaxed);
        if now > 1 {
            depth.store(now - 1, Ordering::Relaxed);
        }
        now > 1
    }
}

/// What to do when a lock is inherited from a process that died with it.
const RAISE: u8 = 1;

/// What `garrison.Lock` and `garrison.RLock` are made of.
#[pyclass(frozen, weakref, name = "Lock", module = "garrison._core")]
pub struct PyLock {
    pub lock: Lock,
    home: Py<PySharedBlock>,
    offset: usize,
    #[pyo3(get)]
    pub recursive: bool,
    on_abandon: u8,
    abandoned: AtomicBool,
}

impl PyLock {
    /// Take it if that is ordinary and needs no waiting.
    #[inline]
    pub fn take_at_once(&self) -> bool {
        let Some(me) = self.lock.registry.known_as().filter(|_| !self.lock.subject.detects) else {
            return false;
        };
        if self.lock.try_take(me) {
            if self.abandoned.load(Ordering::Relaxed) {
                self.abandoned.store(false, Ordering::Relaxed);
            }
            return true;
        }
        let again = self.recursive && self.lock.is_mine(me);
        if again {
            self.lock.nest();
        }
        again
    }

    /// Release it if it is held, and may be.
    #[inline]
    pub fn release_at_once(&self) -> bool {
        if self.recursive {
            let mine = self.lock.registry.known_as().is_some_and(|me| self.lock.is_mine(me));
            return mine && (self.lock.unnest() || self.lock.leave());
        }
        self.lock.is_held() && self.lock.leave()
    }

    /// Take it, as `acquire` does.
    #[inline]
    pub fn take(slf: &Bound<'_, Self>, patience: &Deadline) -> PyResult<bool> {
        let this = slf.get();
        let me = this.lock.me()?;
        if this.lock.try_take(me) {
            this.lock.note_site(slf.py());
            if this.abandoned.load(Ordering::Relaxed) {
                this.abandoned.store(false, Ordering::Relaxed);
            }
            return Ok(true);
        }
        if this.recursive && this.lock.is_mine(me) {
            this.lock.nest();
            return Ok(true);
        }
        Self::take_slowly(slf, me, patience, this.on_abandon != RAISE)
    }

    #[cold]
    fn take_slowly(
        slf: &Bound<'_, Self>,
        me: u32,
        patience: &Deadline,
        may_inherit: bool,
    ) -> PyResult<bool> {
        let this = slf.get();
        let dead = match this.lock.wait(slf.py(), me, patience, may_inherit)? {
            Outcome::TooLate => return Ok(false),
            Outcome::Taken => {
                this.lock.note_site(slf.py());
                this.abandoned.store(false, Ordering::Relaxed);
                return Ok(true);
            }
            Outcome::Inherited(dead) => {
                this.abandoned.store(true, Ordering::Relaxed);
                dead
            }
            Outcome::Orphaned(dead) => dead,
        };
        let pid = this.lock.registry().identity(dead).map(|identity| identity.pid);
        // It warns or raises. If it raises, the next one is to be told as well.
        report(slf, pid).inspect_err(|_| {
            this.abandoned.store(false, Ordering::Relaxed);
            this.lock.disown(me, dead);
        })?;
        Ok(true)
    }
}

/// Tell the user in Python, by a warning or an error.
fn report(slf: &Bound<'_, PyLock>, pid: Option<u32>) -> PyResult<()> {
    let inherited = slf.py().import("garrison.sync._locks")?.getattr("warn_or_raise_owner_died")?;
    inherited.call1((slf, pid, slf.get().on_abandon))?;
    Ok(())
}

#[pymethods]
impl PyLock {
    #[new]
    #[pyo3(signature = (spot, offset, recursive, on_abandon, detects = false))]
    fn new(
        spot: Py<PySharedBlock>,
        offset: usize,
        recursive: bool,
        on_abandon: u8,
        detects: bool,
    ) -> PyResult<Self> {
        let home = spot;
        let spot = &home.get().spot;
        let inside = offset <= spot.len && size_of::<LockShared>() <= spot.len - offset;
        if !inside || (spot.offset + offset) % align_of::<LockShared>() != 0 {
            return Err(PyValueError::new_err("a handle with no room for a lock"));
        }
        let lock = Lock::new(spot, offset, recursive, detects);
        let abandoned = AtomicBool::new(false);
        Ok(Self { lock, home, offset, recursive, on_abandon, abandoned })
    }

    /// What the same lock is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>, usize, bool, u8, bool) {
        let detects = self.lock.subject.detects;
        (self.home.clone_ref(py), self.offset, self.recursive, self.on_abandon, detects)
    }

    /// Take the lock; False if it could not be had in time.
    #[pyo3(signature = (block = AnyBool(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(
        slf: &Bound<'_, Self>,
        block: AnyBool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        Self::take(slf, &Deadline::of(block, timeout)?)
    }

    /// Release the lock.
    fn release(&self) -> PyResult<()> {
        if self.recursive {
            if !self.lock.is_mine(self.lock.me()?) {
                return Err(PyAssertionError::new_err(
                    "attempt to release recursive lock not owned by thread",
                ));
            }
            if self.lock.unnest() {
                return Ok(());
            }
        }
        if self.lock.leave() {
            Ok(())
        } else {
            Err(not_held())
        }
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::take(slf, &Deadline::endless())
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None, /))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Take the lock although its owner died holding it, without a warning or an error.
    #[pyo3(signature = (block = AnyBool(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn recover(
        slf: &Bound<'_, Self>,
        block: AnyBool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let this = slf.get();
        let me = this.lock.me()?;
        if this.recursive && this.lock.is_mine(me) {
            this.lock.nest();
            return Ok(true);
        }
        match this.lock.wait(slf.py(), me, &Deadline::of(block, timeout)?, true)? {
            Outcome::TooLate | Outcome::Orphaned(_) => Ok(false),
            outcome => {
                let inherited = matches!(outcome, Outcome::Inherited(_));
                this.abandoned.store(inherited, Ordering::Relaxed);
                Ok(true)
            }
        }
    }

    /// `acquire`, `release`, `__enter__` and `__exit__`, made to be called often.
    fn quick<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        quick::methods(slf)
    }

    /// Whether any process holds it.
    fn locked(&self) -> bool {
        self.lock.is_held()
    }

    /// Whether the last acquisition by this process took it from an owner that had died.
    #[getter]
    fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// (pid, thread, seconds, where) of who holds it, or nothing.
    #[getter]
    fn holder(&self) -> Option<(u32, u32, f64, String)> {
        let shared = self.lock.shared();
        let agent = word::owner(shared.word.load(Ordering::Acquire));
        if agent == FREE {
            return None;
        }
        let pid = self.lock.registry().identity(agent).map_or(0, |identity| identity.pid);
        let held = coarse_now().saturating_sub(shared.since.load(Ordering::Relaxed));
        let held = Duration::from_nanos(held).as_secs_f64();
        let site =
            if self.lock.subject.detects { shared_text::read(&shared.site) } else { String::new() };
        Some((pid, shared.thread.load(Ordering::Relaxed), held, site))
    }

    /// The number by which waits name it.
    #[getter]
    fn number(&self) -> u64 {
        self.lock.subject.object
    }

    /// Whether the calling thread holds it.
    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.lock.is_mine(self.lock.me()?))
    }

    /// How often this process has taken it.
    fn _count(&self) -> PyResult<u32> {
        let shared = self.lock.shared();
        let here = word::owner(shared.word.load(Ordering::Relaxed)) == self.lock.me()?;
        Ok(if here { shared.depth.load(Ordering::Relaxed) } else { 0 })
    }

    // What the standard library's has besides.

    fn _get_value(&self) -> u32 {
        u32::from(!self.lock.is_held())
    }

    fn _is_zero(&self) -> bool {
        self.lock.is_held()
    }

    /// 0: recursive.
    #[getter]
    fn kind(&self) -> u32 {
        u32::from(!self.recursive)
    }

    #[classattr]
    fn maxvalue() -> u32 {
        1
    }

    #[getter]
    fn handle(&self) -> u64 {
        self.number()
    }

    #[classattr]
    fn name() -> Option<&'static str> {
        None
    }

    fn _after_fork(&self) {}
}

/// What a release raises that nobody had a right to.
#[cold]
pub fn not_held() -> PyErr {
    const TEXT: &str = "semaphore or lock released too many times";
    Python::attach(|py| {
        let kind = py.import("garrison.errors").and_then(|errors| errors.getattr("NotHeld"));
        match kind.and_then(|kind| kind.call1((TEXT,))) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    })
}
