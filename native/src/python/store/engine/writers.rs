//! One writer at a time: the lock, the transactions that the user begins, and what the dead leave.

use super::{Engine, Open};
use crate::python::convert::deadline_of_timeout;
use crate::python::errors::StoreBusy;
use crate::python::store::failure::Raise;
use crate::store::bells::ALL;
use crate::sync::lock::{Acquired, RawLock};
use crate::sys::deadline::Deadline;
use crate::sys::process::thread_id;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// About ten microseconds.
const GLANCES: u32 = 1000;

/// The writers' lock, for as long as this lives.
pub struct Held<'a>(pub(super) &'a RawLock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Engine {
    #[inline]
    pub(super) fn take_lock(
        &self,
        py: Python<'_>,
        wait: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Held<'_>> {
        let me = self.lock.me()?;
        if !self.lock.try_acquire(me) {
            self.wait_for_lock(py, me, wait, timeout)?;
        }
        crash_point("store.locked");
        Ok(Held(&self.lock))
    }

    #[cold]
    fn wait_for_lock(
        &self,
        py: Python<'_>,
        me: u32,
        wait: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let own = self.state().open.as_ref().map(|open| open.thread);
        if wait && own == Some(thread_id()) {
            return Err(PyRuntimeError::new_err(
                "this thread has a transaction open in another view of the store, and would wait \
                 for itself",
            ));
        }
        if !wait && self.glance(me) {
            return Ok(());
        }
        let patience = if wait { deadline_of_timeout(timeout)? } else { Deadline::immediate() };
        match self.lock.acquire_slow(py, me, &patience, true)? {
            Acquired::Clean => Ok(()),
            Acquired::FromDeadOwner(_) => {
                self.ring_all();
                Ok(())
            }
            Acquired::TimedOut | Acquired::OwnerDead(_) => {
                Err(StoreBusy::new_err("somebody else is writing to the store; try again later"))
            }
        }
    }

    /// Most operations are over in a moment: one that does not wait looks for so long.
    fn glance(&self, me: u32) -> bool {
        (0..GLANCES).any(|_| {
            std::hint::spin_loop();
            self.lock.owner() != me && self.lock.try_acquire(me)
        })
    }

    /// Who died with the lock may have committed, and woken nobody.
    fn ring_all(&self) {
        self.bells.mark(ALL);
        self.bells.wake(ALL);
    }

    /// If the lock's owner is dead, do what it may have left undone.
    pub fn answer_for_the_dead(&self, py: Python<'_>) -> PyResult<()> {
        if self.lock.dead_owner().is_none() {
            return Ok(());
        }
        let me = self.lock.me()?;
        match self.lock.acquire_slow(py, me, &Deadline::immediate(), true)? {
            Acquired::FromDeadOwner(_) => {
                self.ring_all();
                self.lock.release();
            }
            Acquired::Clean => {
                self.lock.release();
            }
            Acquired::TimedOut | Acquired::OwnerDead(_) => {}
        }
        Ok(())
    }

    pub fn begin(
        &self,
        py: Python<'_>,
        view: u64,
        wait: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.ready(py)?;
        if self.is_open(view) {
            return Err(PyRuntimeError::new_err("this thread is in a transaction already"));
        }
        let held = self.take_lock(py, wait, timeout)?;
        // Nothing can be begun once more in the middle: the descriptors that more memory needs are there.
        self.forget_lost();
        let writing = self.writing(py).or_raise()?;
        crash_point("store.begun");
        self.state().open =
            Some(Open { writing, view, thread: thread_id(), doomed: false, failure: None });
        std::mem::forget(held);
        Ok(())
    }

    fn take_open(&self, view: u64) -> PyResult<Open> {
        let mut state = self.state();
        state.forget_inherited();
        let mine = state.mine(view).is_some();
        let open = if mine { state.open.take() } else { None };
        open.ok_or_else(|| PyRuntimeError::new_err("this thread is in no transaction"))
    }

    pub fn commit(&self, py: Python<'_>, view: u64) -> PyResult<()> {
        let open = self.take_open(view)?;
        let held = Held(&self.lock);
        if let Err(error) = open.check() {
            open.writing.abort();
            return Err(error);
        }
        self.finish(py, open.writing, held).or_raise()
    }

    pub fn abort(&self, _py: Python<'_>, view: u64) -> PyResult<()> {
        let open = self.take_open(view)?;
        let _held = Held(&self.lock);
        open.writing.abort();
        Ok(())
    }
}
