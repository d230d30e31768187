//! What all views of a store share in a process: the environment, who writes, and what a fork leaves.

use super::super::finalizing::without_gil;
use super::super::lock::{LockRef, Outcome};
use super::super::waiting::{thread, Patience};
use super::failure::{Failure, Raise, StoreBusy};
use super::scan::Tail;
use crate::crash::reach;
use crate::segment::{generation, without_file_limit};
use crate::store::bells::{Bells, ALL, MARK_AT};
use crate::store::lmdb::{Env, Options, ReadTransaction, Reading, READERS};
use crate::store::records::{prefix, Meta, META};
use crate::store::room::Room;
use crate::store::transaction::Writing;
use crate::store::{self, Error};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::cell::{RefCell, RefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

#[pyclass(frozen, name = "_Engine", module = "garrison._core")]
pub struct Engine {
    place: Py<PyAny>,
    pub hooks: Py<PyAny>,
    pub uuid: [u8; 16],
    pub lock: LockRef,
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
    fn run<T>(&mut self, run: impl FnOnce(&mut Writing) -> store::Result<T>) -> Result<T, Failure> {
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
        self.open.as_mut().filter(|open| open.view == view && open.thread == thread())
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
        lock: LockRef,
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

    #[cold]
    fn open(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let mut state = self.state();
            state.forget_inherited();
            if state.closed {
                return Err(PyValueError::new_err("the store is closed"));
            }
            if state.env.is_some() {
                return Ok(());
            }
            if !state.opening {
                state.opening = true;
                break;
            }
            std::mem::drop(state);
            without_gil(py, || std::thread::sleep(Duration::from_millis(1)));
            py.check_signals()?;
        }
        let opened = self.open_at_its_place(py);
        self.state().opening = false;
        opened
    }

    fn open_at_its_place(&self, py: Python<'_>) -> PyResult<()> {
        let (path, done): (PathBuf, Py<PyAny>) = self.place.bind(py).call0()?.extract()?;
        let opened = self.open_at(&path);
        done.bind(py).call0()?;
        let env = Arc::new(opened.or_raise()?);
        let reader = env.begin_reading().or_raise()?;
        env.open_database(&reader).or_raise()?;
        let laid_out = env.check_layout(&reader).or_raise();
        let meta = reader
            .reading()
            .get(&prefix(0, META))
            .and_then(|found| found.map(Meta::read).transpose());
        reader.reset();
        laid_out?;
        let is_fresh = meta.or_raise()?.is_none();
        {
            let mut state = self.state();
            state.reader = Some(reader);
            state.env = Some(env);
        }
        if is_fresh {
            self.write(py, 0, true, |writing| writing.put_meta(writing.meta()?)).or_raise()?;
        }
        Ok(())
    }

    fn open_at(&self, path: &Path) -> store::Result<Env> {
        let room = Room::new(self.bells.spot().clone(), MARK_AT, self.options.size);
        if self.options.in_memory {
            reserve_readers(path)?;
        }
        let mut env = Err(Error::Gone(0));
        let _ = without_file_limit(|| {
            env = Env::open(path, &self.options, room);
            Ok(())
        });
        env
    }

    pub fn env(&self, py: Python<'_>) -> PyResult<Arc<Env>> {
        self.ready(py)?;
        self.state().env.clone().ok_or_else(|| PyValueError::new_err("the store is closed"))
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
        let reader = state.renewed()?;
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
        let reader = state.renewed()?;
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

    /// Do something in a transaction: this view's own, or one for it alone.
    #[inline]
    pub fn write<T>(
        &self,
        py: Python<'_>,
        view: u64,
        wait: bool,
        run: impl FnOnce(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.ready(py)?;
        let mut state = self.state();
        if let Some(open) = state.mine(view) {
            return open.run(run);
        }
        std::mem::drop(state);
        let held = self.take_lock(py, wait, None)?;
        // While it waited, a signal's handler may have closed the store.
        let env = self.env(py)?;
        let mut writing = Writing::begin(&env)?;
        reach("store.begun");
        match run(&mut writing) {
            Ok(result) => {
                self.finish(py, writing, held)?;
                Ok(result)
            }
            Err(error) => {
                writing.abort();
                Err(error.into())
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
        reach("store.committed");
        self.bells.mark(rung);
        std::mem::drop(held);
        reach("store.unlocked");
        self.bells.wake(rung);
        reach("store.rung");
        Ok(())
    }

    #[inline]
    fn take_lock(
        &self,
        py: Python<'_>,
        wait: bool,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Held<'_>> {
        let me = self.lock.me()?;
        if !self.lock.try_take(me) {
            self.wait_for_lock(py, me, wait, timeout)?;
        }
        reach("store.locked");
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
        if wait && own == Some(thread()) {
            return Err(PyRuntimeError::new_err(
                "this thread has a transaction open in another view of the store, and would wait \
                 for itself",
            ));
        }
        let patience = if wait { Patience::of_timeout(timeout)? } else { Patience::none() };
        match self.lock.wait(py, me, &patience, true)? {
            Outcome::Taken => Ok(()),
            Outcome::Inherited(_) => {
                self.ring_all();
                Ok(())
            }
            Outcome::TooLate | Outcome::Orphaned(_) => {
                Err(StoreBusy::new_err("somebody else is writing to the store; try again later"))
            }
        }
    }

    /// Who died with the lock may have committed, and woken nobody.
    fn ring_all(&self) {
        self.bells.mark(ALL);
        self.bells.wake(ALL);
    }

    /// If the lock's owner is dead, do what it may have left undone.
    pub fn answer_for_the_dead(&self, py: Python<'_>) -> PyResult<()> {
        use crate::lock::{owner, FREE};
        use crate::protocol::Ordering;
        let agent = owner(self.lock.shared().word.load(Ordering::Acquire));
        if agent == FREE || !self.lock.registry().is_dead(agent) {
            return Ok(());
        }
        let me = self.lock.me()?;
        match self.lock.wait(py, me, &Patience::none(), true)? {
            Outcome::Inherited(_) => {
                self.ring_all();
                self.lock.leave();
            }
            Outcome::Taken => {
                self.lock.leave();
            }
            Outcome::TooLate | Outcome::Orphaned(_) => {}
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
        let env = self.env(py)?;
        let writing = Writing::begin(&env).or_raise()?;
        reach("store.begun");
        self.state().open =
            Some(Open { writing, view, thread: thread(), doomed: false, failure: None });
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

    pub fn close(&self, _py: Python<'_>) -> PyResult<()> {
        let mut state = self.state();
        state.forget_inherited();
        if state.opening || state.open.as_ref().is_some_and(|open| open.thread != thread()) {
            return Err(PyRuntimeError::new_err(
                "another thread is using the store; let it finish",
            ));
        }
        state.closed = true;
        self.let_go(&mut state);
        Ok(())
    }

    fn let_go(&self, state: &mut State) {
        if let Some(open) = state.open.take() {
            open.writing.abort();
            self.lock.leave();
        }
        for tail in state.tails.drain(..) {
            if let Some(tail) = tail.upgrade() {
                tail.close();
            }
        }
        state.reader = None;
        state.env = None;
    }
}

impl State {
    /// The reader of all views, seeing what was committed last.
    #[inline]
    fn renewed(&mut self) -> Result<&ReadTransaction, Failure> {
        if let Some(reader) = &self.reader {
            reader.renew()?;
        } else {
            let env = self.env.as_ref().ok_or(Error::System(libc::EBADF))?;
            self.reader = Some(env.begin_reading()?);
        }
        Ok(self.reader.as_ref().expect("made above"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut state = self.state();
        state.forget_inherited();
        if state.open.as_ref().is_some_and(|open| open.thread != thread()) {
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

/// The writers' lock, for as long as this lives.
struct Held<'a>(&'a LockRef);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The table of readers must have memory before it is mapped. Closing it again is harmless as long
/// as the environment is not open.
fn reserve_readers(path: &Path) -> store::Result<()> {
    use std::os::fd::AsRawFd;
    let failed = |error: std::io::Error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM) => Error::Full(error.to_string()),
        code => Error::System(code.unwrap_or(libc::EIO)),
    };
    let mut how = std::fs::OpenOptions::new();
    let file = how.read(true).write(true).create(true).truncate(false);
    let file = file.open(path.join("lock.mdb")).map_err(failed)?;
    let len = i64::from(READERS + 8) * 64;
    // SAFETY: changes a file that is open here.
    let done = unsafe { libc::fallocate64(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, len) };
    match done {
        0 => Ok(()),
        _ => match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            error => Err(failed(error)),
        },
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
