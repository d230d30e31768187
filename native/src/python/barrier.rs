//! `Barrier`: the part that touches shared memory; the rest is in Python.

use super::memory_error;
use super::spot::PySharedBlock;
use super::waiting::{Deadline, WaitSession, WaitTarget};
use crate::shm::arena::SharedBlock;
use crate::sync::barrier::word::{Arrival, Barrier, Place, Round, BROKEN};
use crate::sys::atomic::{AtomicU32, AtomicU64};
use crate::sys::futex;
use crate::tasks::table::low_half;
use crate::testing::crash_points::crash_point;
use pyo3::prelude::*;

const WORD: usize = size_of::<u64>();

/// What `garrison.Barrier` is made of.
#[pyclass(frozen, weakref, name = "Barrier", module = "garrison._core")]
pub struct PyBarrier {
    spot: SharedBlock,
    parties: usize,
}

impl PyBarrier {
    fn word(&self) -> &AtomicU64 {
        // SAFETY: an atomic, where every process has it.
        unsafe { self.spot.shared(0) }
    }

    fn low(&self) -> &AtomicU32 {
        low_half(self.word())
    }

    fn barrier(&self) -> PyResult<Barrier<'_>> {
        let start = self.spot.at(WORD, self.parties * WORD);
        // SAFETY: in range (checked), aligned to 8, and made of atomics.
        let places = unsafe { std::slice::from_raw_parts(start.cast(), self.parties) };
        let me = self.spot.chunk.registry.me();
        let me = me.map_err(|error| memory_error(&error, "a process's registration"))?;
        Ok(Barrier { word: self.word(), places, me })
    }

    fn wake_all(&self) {
        futex::wake(self.low(), i32::MAX);
    }

    fn sleeper(&self) -> WaitSession {
        let subject = WaitTarget::at(WaitTarget::BARRIER, &self.spot, 0);
        WaitSession::new(self.spot.chunk.registry, subject)
    }

    /// Sign for a round, when there is one to sign for; nothing if the barrier is broken. A timeout
    /// does not count yet, as with `threading.Barrier`: the round that is full is about to end.
    fn arrive(&self, py: Python<'_>) -> PyResult<Option<Place>> {
        let (barrier, mut sleeper) = (self.barrier()?, self.sleeper());
        let patience = Deadline::endless();
        loop {
            match barrier.arrive() {
                Arrival::Signed(place) => return Ok(Some(place)),
                Arrival::Broken => return Ok(None),
                Arrival::Full(seen) => {
                    // Those who are in watch each other; if all of them are dead, the first is.
                    let first = Place { number: self.parties - 1, round: barrier.look().round };
                    let judge = sleeper.sleep(py, self.low(), seen, (0, 0), &patience)?;
                    self.judge(judge, first)?;
                }
            }
        }
    }

    /// Break the round if the party next to this place is dead.
    fn judge(&self, judge: bool, place: Place) -> PyResult<()> {
        let (barrier, registry) = (self.barrier()?, self.spot.chunk.registry);
        if judge && barrier.has_lost_neighbour(place, |agent| registry.is_dead(agent)) {
            barrier.break_round(place.round);
            self.wake_all();
        }
        Ok(())
    }

    /// End the round if this party is the last; break it if one that has signed is dead.
    fn complete(&self, barrier: &Barrier<'_>, place: Place) -> bool {
        let registry = self.spot.chunk.registry;
        let full = barrier.is_full(place.round);
        if full && barrier.has_lost(place.round, |agent| registry.is_dead(agent)) {
            barrier.break_round(place.round);
            self.wake_all();
        }
        full && barrier.complete(place)
    }

    fn wait_for_end(&self, py: Python<'_>, place: Place, patience: &Deadline) -> PyResult<bool> {
        let (barrier, mut sleeper) = (self.barrier()?, self.sleeper());
        loop {
            let seen = match barrier.standing(place) {
                Round::Passed => return Ok(true),
                Round::Broken => return Ok(false),
                Round::Open(seen) => seen,
            };
            if patience.is_over() {
                if barrier.break_round(place.round) {
                    self.wake_all();
                }
                continue;
            }
            match sleeper.sleep(py, self.low(), seen, (0, 0), patience) {
                Ok(judge) => self.judge(judge, place)?,
                Err(error) => {
                    // An interrupted party goes as if it had not come, if it still can.
                    barrier.withdraw(place);
                    return Err(error);
                }
            }
            crash_point("barrier.woken");
        }
    }
}

#[pymethods]
impl PyBarrier {
    #[new]
    fn new(spot: PyRef<'_, PySharedBlock>, parties: usize) -> Self {
        Self { spot: spot.spot.clone(), parties }
    }

    /// Wait for all parties: the number of this one, or nothing if the barrier is broken. `action`
    /// is called by the last to come.
    #[pyo3(signature = (timeout = None, action = None))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        action: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<usize>> {
        let patience = Deadline::of_timeout(timeout)?;
        let Some(place) = self.arrive(py)? else { return Ok(None) };
        crash_point("barrier.signed");
        let barrier = self.barrier()?;
        if self.complete(&barrier, place) {
            crash_point("barrier.acting");
            if let Some(action) = action {
                action.call0().inspect_err(|_| {
                    barrier.break_round(place.round);
                    self.wake_all();
                })?;
            }
            if barrier.pass(place) {
                crash_point("barrier.passed");
                self.wake_all();
                return Ok(Some(place.number));
            }
        }
        Ok(self.wait_for_end(py, place, &patience)?.then_some(place.number))
    }

    fn reset(&self) -> PyResult<()> {
        self.barrier()?.reset();
        self.wake_all();
        Ok(())
    }

    fn abort(&self) -> PyResult<()> {
        self.barrier()?.abort();
        self.wake_all();
        Ok(())
    }

    #[getter]
    fn n_waiting(&self) -> PyResult<usize> {
        Ok(self.barrier()?.waiting())
    }

    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.barrier()?.look().state == BROKEN)
    }
}
