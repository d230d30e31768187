//! `Semaphore` and `BoundedSemaphore`.

use super::memory_error;
use super::spot::PySharedBlock;
use super::waiting::{AnyBool, Deadline, RateLimit, WaitSession, WaitTarget};
use crate::owners::registry::OwnerRegistry;
use crate::shm::arena::SharedBlock;
use crate::sync::semaphore::word::{self, HANDED, MOST, NOBODY};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::futex;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

/// What `garrison.Semaphore` and `garrison.BoundedSemaphore` are made of.
///
/// In shared memory a word, and for a bounded one a place for each permit behind it.
#[pyclass(frozen, weakref, name = "Semaphore", module = "garrison._core")]
pub struct PySemaphore {
    spot: SharedBlock,
    home: Py<PySharedBlock>,
    subject: WaitTarget,
    /// The most permits of one whose permits are counted; 0 if they are signed for.
    most: u32,
    /// Permits that are signed for.
    places: usize,
    /// Where this process was lucky last.
    hint: AtomicUsize,
    judged: RateLimit,
}

impl PySemaphore {
    fn word(&self) -> &AtomicU32 {
        // SAFETY: an atomic, where every process has it.
        unsafe { self.spot.shared(0) }
    }

    fn places(&self) -> &[AtomicU32] {
        let start = self.spot.at(size_of::<u32>(), self.places * size_of::<u32>());
        // SAFETY: in range (checked), aligned to 4, and made of atomics.
        unsafe { std::slice::from_raw_parts(start.cast(), self.places) }
    }

    fn registry(&self) -> &'static OwnerRegistry {
        self.spot.chunk.registry
    }

    fn me(&self) -> PyResult<u32> {
        self.registry().me().map_err(|error| memory_error(&error, "a process's registration"))
    }

    fn is_counted(&self) -> bool {
        self.most > 0
    }

    fn try_take(&self, me: u32, judge: bool) -> bool {
        if self.is_counted() {
            return word::try_take(self.word());
        }
        let registry = self.registry();
        let on_loan = || self.word().load(Ordering::SeqCst) & HANDED == 0;
        // Few processes hold many permits: each is asked about once.
        let alive = Cell::new(NOBODY);
        let is_dead = |agent| {
            if !judge || agent == alive.get() || !on_loan() {
                return false;
            }
            let dead = registry.is_dead(agent);
            if !dead {
                alive.set(agent);
            }
            dead
        };
        let hint = self.hint.load(Ordering::Relaxed);
        let found = word::sign(self.places(), hint, me, is_dead);
        if let Some(place) = found {
            crash_point("semaphore.signed");
            self.hint.store(place, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Announce a sleeper; nothing if there is a permit after all, and it is taken.
    fn announce(&self, me: u32, judge: bool) -> Option<u32> {
        if self.is_counted() {
            return word::take(self.word()).err();
        }
        let seen = word::announce(self.word());
        (!self.try_take(me, judge)).then_some(seen)
    }

    fn take(&self, py: Python<'_>, patience: &Deadline) -> PyResult<bool> {
        let me = if self.is_counted() { 0 } else { self.me()? };
        if self.try_take(me, false) {
            return Ok(true);
        }
        let mut sleeper = WaitSession::new(self.registry(), self.subject);
        let mut judge = false;
        loop {
            if patience.is_over() {
                return Ok(self.try_take(me, self.judged.may()));
            }
            let Some(seen) = self.announce(me, judge) else { return Ok(true) };
            judge = sleeper.sleep(py, self.word(), seen, (0, 0), patience)?;
        }
    }

    fn give(&self) -> PyResult<()> {
        let wake = || futex::wake(self.word(), 1);
        let given = if self.is_counted() {
            word::give(self.word(), self.most, wake)
        } else {
            let hint = self.hint.load(Ordering::Relaxed);
            let given = word::unsign(self.word(), self.places(), hint, self.me()?);
            if given {
                crash_point("semaphore.unsigned");
                word::changed(self.word(), wake);
            }
            given
        };
        given.then_some(()).ok_or_else(super::lock::not_held)
    }
}

#[pymethods]
impl PySemaphore {
    /// One whose permits are counted has none of the `places`.
    #[new]
    #[pyo3(signature = (spot, value = None, most = MOST, places = 0))]
    fn new(
        spot: Py<PySharedBlock>,
        value: Option<u32>,
        most: u32,
        places: usize,
    ) -> PyResult<Self> {
        let need = size_of::<u32>() * (1 + places);
        let home = spot;
        let spot = home.get().spot.clone();
        if spot.len < need {
            return Err(PyValueError::new_err("too little shared memory for this semaphore"));
        }
        let bounded = places > 0 || most < MOST;
        let kind = if bounded { WaitTarget::BOUNDED_SEMAPHORE } else { WaitTarget::SEMAPHORE };
        let subject = WaitTarget::at(kind, &spot, 0);
        let most = if places > 0 { 0 } else { most };
        let made = Self {
            spot,
            home,
            subject,
            most,
            places,
            hint: AtomicUsize::new(0),
            judged: RateLimit::default(),
        };
        if let Some(value) = value {
            made.word().store(value, Ordering::Release);
        }
        Ok(made)
    }

    /// What the same semaphore is made of again: the arguments.
    #[getter]
    fn place(&self, py: Python<'_>) -> (Py<PySharedBlock>, Option<u32>, u32, usize) {
        (self.home.clone_ref(py), None, self.most, self.places)
    }

    /// Take a permit; False if none could be had in time.
    #[pyo3(signature = (block = AnyBool(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        block: AnyBool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.take(py, &Deadline::of(block, timeout)?)
    }

    /// Give a permit back.
    fn release(&self) -> PyResult<()> {
        self.give()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, &Deadline::endless())
    }

    #[pyo3(signature = (_kind = None, _error = None, _traceback = None, /))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.give()
    }

    /// How many permits there are at the moment.
    fn get_value(&self) -> u32 {
        if self.is_counted() {
            return self.word().load(Ordering::Acquire) & MOST;
        }
        let free = |place: &&AtomicU32| place.load(Ordering::Acquire) == NOBODY;
        self.places().iter().filter(free).count() as u32
    }

    /// As the standard library's own objects ask theirs.
    fn _get_value(&self) -> u32 {
        self.get_value()
    }

    fn _is_zero(&self) -> bool {
        self.locked()
    }

    /// How many permits this process has taken, as far as that is known.
    fn _count(&self) -> PyResult<usize> {
        if self.is_counted() {
            return Ok(0);
        }
        let me = self.me()?;
        Ok(self.places().iter().filter(|place| place.load(Ordering::Relaxed) == me).count())
    }

    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self._count()? > 0)
    }

    #[classattr]
    fn kind() -> u32 {
        1
    }

    #[getter]
    fn maxvalue(&self) -> usize {
        if self.is_counted() {
            self.most as usize
        } else {
            self.places
        }
    }

    #[getter]
    fn handle(&self) -> u64 {
        self.subject.object
    }

    #[classattr]
    fn name() -> Option<&'static str> {
        None
    }

    fn _after_fork(&self) {}

    /// Whether there is no permit at the moment.
    fn locked(&self) -> bool {
        self.get_value() == 0
    }

    /// The number by which waits name it.
    #[getter]
    fn number(&self) -> u64 {
        self.subject.object
    }

    /// The processes that hold permits which are signed for: (pid, permits).
    #[getter]
    fn holders(&self) -> Vec<(u32, usize)> {
        let mut found: Vec<(u32, usize)> = Vec::new();
        for place in self.places() {
            let agent = place.load(Ordering::Acquire);
            let Some(identity) = self.registry().identity(agent).filter(|_| agent != NOBODY) else {
                continue;
            };
            match found.iter_mut().find(|(pid, _)| *pid == identity.pid) {
                Some((_, permits)) => *permits += 1,
                None => found.push((identity.pid, 1)),
            }
        }
        found
    }
}
