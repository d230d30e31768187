//! What all views of a store share in a process: the environment, who writes, and what a fork leaves.

mod opening;
mod writers;

use super::failure::Failure;
use super::scan::Tail;
use crate::python::finalizing::without_gil;
use crate::store::bells::Bells;
use crate::store::lmdb::{Env, Options, ReadTransaction, Reading};
use crate::store::transaction::Writing;
use crate::store::{self, Error};
use crate::sync::lock::RawLock;
use crate::sys::process::generation;
use crate::sys::process::thread_id;
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::cell::{RefCell, RefMut};
use std::sync::{Arc, Weak};
use writers::Held;

#[pyclass(frozen, name = "_Engine", module = "garrison._core")]
pub struct Engine {
    place: Py<PyAny>,
    pub hooks: Py<PyAny>,
    pub uuid: [u8; 16],
    pub lock: RawLock,
    pub bells: Bells,
    options: Options,
    state: Guarded,
}

/// Borrowed while nothing of Python's runs, under the GIL.
struct Guarded(RefCell<State>);

// SAFETY: looked at under the GIL alone.
unsafe impl Sync for Guarded {}

#[derive(Default)]
struct State {
    generation: u64,
    /// Of all views together: it is put aside whenever nobody reads.
    reader: Option<ReadTransaction>,
    open: Option<Open>,
    env: Option<Arc<Env>>,
    tails: Vec<Weak<Tail>>,
    opening: bool,
    closed: bool,
}

/// A transaction that the user has begun.
struct Open {
    writing: Writing,
    view: u64,
    thread: u32,
    /// An operation has failed in the middle: it can only be aborted.
    doomed: bool,
    /// What a part of it has raised; see `block`.
    failure: Option<PyErr>,
}

impl Open {
    fn run<T>(
        &mut self,
        mut run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.check()?;
        let before = self.writing.changes();
        let done = run(&mut self.writing);
        self.writing.end_operation();
        done.map_err(|error| {
            self.doomed = error.is_fatal() || self.writing.changes() != before;
            error.into()
        })
    }

    fn check(&self) -> PyResult<()> {
        if self.doomed {
            return Err(PyRuntimeError::new_err(
                "an operation of this transaction has failed in the middle; abort it",
            ));
        }
        Ok(())
    }
}

impl State {
    fn mine(&mut self, view: u64) -> Option<&mut Open> {
        self.open.as_mut().filter(|open| open.view == view && open.thread == thread_id())
    }

    /// What a fork has left is the parent's: let go of it, and touch nothing.
    fn forget_inherited(&mut self) {
        if self.generation == generation() {
            return;
        }
        self.generation = generation();
        if let Some(reader) = self.reader.take() {
            reader.forget();
        }
        if let Some(open) = self.open.take() {
            open.writing.forget();
        }
        for tail in self.tails.drain(..) {
            if let Some(tail) = tail.upgrade() {
                tail.forget();
            }
        }
        self.env = None;
        self.opening = false;
    }
}

impl Engine {
    pub fn new(
        place: Py<PyAny>,
        hooks: &Bound<'_, PyAny>,
        lock: RawLock,
        bells: Bells,
        options: Options,
    ) -> PyResult<Self> {
        let uuid = hooks.getattr("uuid")?.extract()?;
        let state = Guarded(RefCell::new(State { generation: generation(), ..State::default() }));
        Ok(Self { place, hooks: hooks.clone().unbind(), uuid, lock, bells, options, state })
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.0.borrow_mut()
    }

    /// The environment, opened if this process has not done so yet.
    #[inline]
    pub fn ready(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state();
        if state.env.is_some() && state.generation == generation() {
            return Ok(());
        }
        std::mem::drop(state);
        self.open(py)
    }

    /// Have the environment opened once more if its descriptors are not its own any more.
    fn forget_lost(&self) {
        let mut state = self.state();
        if state.open.is_none() && state.env.as_ref().is_some_and(|env| !env.is_writable()) {
            state.reader = None;
            state.env = None;
        }
    }

    /// A transaction that writes, in the hands of who has the writers' lock. If the program has closed
    /// LMDB's descriptors, it is opened once more.
    #[inline]
    fn writing(&self, py: Python<'_>) -> Result<Writing, Failure> {
        // While the lock was waited for, a signal's handler may have closed the store.
        let env = self.env(py)?;
        let begun = Writing::begin(&env);
        // Two of the same file must not be open at once.
        std::mem::drop(env);
        match begun {
            Err(Error::System(libc::EBADF)) => {
                self.forget_lost();
                Ok(Writing::begin(&self.env(py)?)?)
            }
            begun => Ok(begun?),
        }
    }

    pub fn env(&self, py: Python<'_>) -> PyResult<Arc<Env>> {
        self.ready(py)?;
        self.state().env.clone().ok_or_else(|| PyValueError::new_err("the store is closed"))
    }

    /// What all views share, with a reader that sees what was committed last. If the store has grown,
    /// and the program has closed LMDB's descriptors, it is opened once more.
    #[inline]
    fn look(&self, py: Python<'_>) -> Result<RefMut<'_, State>, Failure> {
        let mut state = self.state();
        match state.renewed() {
            Err(Error::System(libc::EBADF)) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(state),
        }
        std::mem::drop(state);
        self.forget_lost();
        self.ready(py)?;
        let mut state = self.state();
        state.renewed()?;
        Ok(state)
    }

    /// Look at what was committed last, or at what this view's own transaction has done.
    #[inline]
    pub fn read<T>(
        &self,
        py: Python<'_>,
        view: u64,
        run: impl FnOnce(&Reading<'_>) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.ready(py)?;
        let mut state = self.state();
        if let Some(open) = state.mine(view) {
            open.check()?;
            return run(&open.writing.reading()).map_err(Failure::from);
        }
        std::mem::drop(state);
        let state = self.look(py)?;
        let reader = state.reader.as_ref().ok_or(Error::System(libc::EBADF))?;
        let result = run(&reader.reading());
        reader.reset();
        result.map_err(Failure::from)
    }

    /// The same, and keep what was looked at if `keep` says so.
    pub fn read_and_keep<T>(
        &self,
        py: Python<'_>,
        view: u64,
        run: impl FnOnce(&Reading<'_>, bool) -> store::Result<(T, bool)>,
    ) -> Result<(T, Option<Arc<Tail>>), Failure> {
        self.ready(py)?;
        let mut state = self.state();
        if let Some(open) = state.mine(view) {
            open.check()?;
            let (found, _) = run(&open.writing.reading(), true)?;
            return Ok((found, None));
        }
        std::mem::drop(state);
        let mut state = self.look(py)?;
        let reader = state.reader.as_ref().ok_or(Error::System(libc::EBADF))?;
        let (found, keep) = run(&reader.reading(), false).inspect_err(|_| reader.reset())?;
        if !keep {
            reader.reset();
            return Ok((found, None));
        }
        let (reader, env) = (state.reader.take(), state.env.clone());
        let tail = Tail::new(reader.zip(env));
        state.tails.retain(|tail| tail.strong_count() > 0);
        state.tails.push(Arc::downgrade(&tail));
        Ok((found, Some(tail)))
    }

    /// The same for what takes a while: other threads go on meanwhile.
    pub fn read_at_length<T>(
        &self,
        py: Python<'_>,
        view: u64,
        run: impl FnOnce(&Reading<'_>) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.ready(py)?;
        let mut state = self.state();
        if state.mine(view).is_some() {
            std::mem::drop(state);
            return self.read(py, view, run);
        }
        std::mem::drop(state);
        let mut state = self.look(py)?;
        // Both are this call's alone until it is over; the reader goes first.
        let (env, reader) = (state.env.clone(), state.reader.take());
        std::mem::drop(state);
        let reader = reader.ok_or_else(|| Error::Value("the store is closed".into()))?;
        let result = without_gil(py, || run(&reader.reading()));
        std::mem::drop(reader);
        std::mem::drop(env);
        result.map_err(Failure::from)
    }

    /// Do something in a transaction: this view's own, or one for it alone.
    #[inline]
    pub fn write<T>(
        &self,
        py: Python<'_>,
        view: u64,
        wait: bool,
        run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.write_by(py, view, wait, run, |py, run, writing| {
            let _ = py;
            run(writing)
        })
    }

    /// The same for what takes a while: other threads go on meanwhile, unless it is in a transaction
    /// that the user has begun.
    pub fn write_at_length<T>(
        &self,
        py: Python<'_>,
        view: u64,
        wait: bool,
        run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.write_by(py, view, wait, run, |py, run, writing| without_gil(py, || run(writing)))
    }

    #[inline(always)]
    fn write_by<T, F: FnMut(&mut Writing) -> store::Result<T>>(
        &self,
        py: Python<'_>,
        view: u64,
        wait: bool,
        mut run: F,
        how: impl Fn(Python<'_>, &mut F, &mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.ready(py)?;
        let mut state = self.state();
        if let Some(open) = state.mine(view) {
            return open.run(run);
        }
        std::mem::drop(state);
        let held = self.take_lock(py, wait, None)?;
        let mut again = true;
        loop {
            let mut writing = self.writing(py)?;
            crash_point("store.begun");
            match how(py, &mut run, &mut writing) {
                Ok(result) => {
                    self.finish(py, writing, held)?;
                    return Ok(result);
                }
                Err(Error::System(libc::EBADF)) if again => {
                    // More memory was needed, and the program has closed the descriptor for it.
                    again = false;
                    writing.abort();
                    self.forget_lost();
                }
                Err(error) => {
                    writing.abort();
                    return Err(error.into());
                }
            }
        }
    }

    /// Commit, let the next one write, and wake who waits for what was changed.
    #[inline]
    fn finish(&self, py: Python<'_>, writing: Writing, held: Held<'_>) -> Result<(), Failure> {
        let rung = if writing.changes() == 0 { 0 } else { writing.bells() };
        if self.options.sync && !self.options.in_memory && rung != 0 {
            without_gil(py, || writing.commit())?;
        } else {
            writing.commit()?;
        }
        crash_point("store.committed");
        self.bells.mark(rung);
        std::mem::drop(held);
        crash_point("store.unlocked");
        self.bells.wake(rung);
        crash_point("store.rung");
        Ok(())
    }

    pub fn is_open(&self, view: u64) -> bool {
        let mut state = self.state();
        state.generation == generation() && state.mine(view).is_some()
    }

    /// A part of the transaction has failed: it can only be aborted. The first failure counts.
    pub fn note_failure(&self, view: u64, failure: PyErr) {
        if let Some(open) = self.state().mine(view) {
            open.failure.get_or_insert(failure);
        }
    }

    /// What has been noted, and whether an operation has failed in the middle.
    pub fn failure(&self, view: u64) -> (Option<PyErr>, bool) {
        let mut state = self.state();
        state.mine(view).map_or((None, false), |open| (open.failure.take(), open.doomed))
    }

    pub fn size(&self) -> u64 {
        self.options.size
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }
}

impl State {
    /// The reader of all views, seeing what was committed last.
    #[inline]
    fn renewed(&mut self) -> store::Result<&ReadTransaction> {
        let closed = || Error::Value("the store is closed".into());
        let env = self.env.as_ref().ok_or_else(closed)?;
        if let Some(reader) = &self.reader {
            env.renew(reader)?;
        } else {
            self.reader = Some(env.begin_reading()?);
        }
        Ok(self.reader.as_ref().expect("made above"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut state = self.state();
        state.forget_inherited();
        if state.open.as_ref().is_some_and(|open| open.thread != thread_id()) {
            // Only its own thread could end it, so it ends with the process.
            if let (Some(open), Some(env)) = (state.open.take(), state.env.take()) {
                open.writing.forget();
                std::mem::forget(env);
            }
        }
        self.let_go(&mut state);
    }
}

#[pymethods]
impl Engine {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.place)?;
        visit.call(&self.hooks)
    }
}

/// Raise unless all this is bytes.
pub fn optional_bytes<'a>(value: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<&'a [u8]>> {
    value
        .map(|value| {
            let bytes = value.cast::<pyo3::types::PyBytes>();
            bytes
                .map(pyo3::types::PyBytesMethods::as_bytes)
                .map_err(|_| PyTypeError::new_err("an encoded value is bytes, or None"))
        })
        .transpose()
}
