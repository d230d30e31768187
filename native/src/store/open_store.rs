//! A store in this process: its environment, its transactions, and what a fork leaves of them.
//!
//! Several views use one store: the process itself, and sessions of a server. Each may have one
//! transaction that its user has begun.

mod opening;
mod writers;

use super::change_words::ChangeWords;
use super::lmdb::{Env, Options, Place, ReadTransaction, Reading};
use super::scan::ScanReader;
use super::transaction::Writing;
use super::{Error, Result};
use crate::host::{ExclusiveHost, Failure, Host, HostCell};
use crate::sync::lock::RawLock;
use crate::sys::deadline::{Deadline, LIVENESS_CHECK_INTERVAL};
use crate::sys::process::{generation, thread_id};
use crate::testing::crash_points::crash_point;
use std::cell::RefMut;
use std::sync::{Arc, Weak};
use writers::LockGuard;

/// What a store asks of the program beyond waiting.
pub trait StoreHost: ExclusiveHost {
    /// Where the store's files are now.
    fn place(self) -> std::result::Result<Place, Self::Error>;
}

/// Why an operation has failed: because of the store, or of the program.
#[derive(Debug)]
pub enum StoreFailure<E> {
    Store(Error),
    Host(E),
}

impl<E> From<Error> for StoreFailure<E> {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

pub type Outcome<T, H> = std::result::Result<T, StoreFailure<<H as Host>::Error>>;

pub fn wrong_state<E: From<Failure>>(text: &'static str) -> StoreFailure<E> {
    StoreFailure::Host(Failure::WrongState(text).into())
}

pub fn closed() -> Error {
    Error::Value("the store is closed".into())
}

pub struct OpenStore<E> {
    pub change_words: ChangeWords,
    lock: RawLock,
    options: Options,
    state: HostCell<State<E>>,
}

struct State<E> {
    generation: u64,
    /// Of all views together: it is put aside whenever no thread reads.
    reader: Option<ReadTransaction>,
    transaction: Option<UserTransaction<E>>,
    env: Option<Arc<Env>>,
    scans: Vec<Weak<ScanReader>>,
    opening: bool,
    closed: bool,
    /// What the dead have left in the table of readers is made anew.
    alone: bool,
}

/// A transaction that the user has begun.
struct UserTransaction<E> {
    writing: Writing,
    view: u64,
    thread: u32,
    /// An operation has failed in the middle.
    must_abort: bool,
    /// The first failure of a nested block.
    failure: Option<E>,
}

impl<E: From<Failure>> UserTransaction<E> {
    fn run<T>(
        &mut self,
        mut run: impl FnMut(&mut Writing) -> Result<T>,
    ) -> std::result::Result<T, StoreFailure<E>> {
        self.check()?;
        let before = self.writing.changes();
        let done = run(&mut self.writing);
        self.writing.end_operation();
        done.map_err(|error| {
            self.must_abort = error.is_fatal() || self.writing.changes() != before;
            error.into()
        })
    }

    fn check(&self) -> std::result::Result<(), StoreFailure<E>> {
        if self.must_abort {
            let text = "an operation of this transaction has failed in the middle; abort it";
            return Err(wrong_state(text));
        }
        Ok(())
    }
}

impl<E> State<E> {
    fn new(alone: bool) -> Self {
        Self {
            generation: generation(),
            reader: None,
            transaction: None,
            env: None,
            scans: Vec::new(),
            opening: false,
            closed: false,
            alone,
        }
    }

    /// The transaction that this thread has begun through this view.
    #[inline]
    fn transaction_of(&mut self, view: u64) -> Option<&mut UserTransaction<E>> {
        self.transaction.as_mut().filter(|each| each.view == view && each.thread == thread_id())
    }

    /// What a fork has left is the parent's: let go of it, and touch nothing.
    fn forget_inherited(&mut self) {
        if self.generation == generation() {
            return;
        }
        self.generation = generation();
        if let Some(transaction) = self.transaction.take() {
            transaction.writing.forget();
        }
        self.forget_env();
        self.opening = false;
        self.alone = false;
    }

    fn close_scans(&mut self) {
        self.scans.drain(..).filter_map(|scan| scan.upgrade()).for_each(|scan| scan.close());
    }

    /// Let go of an environment whose locks are lost: places in its table of readers may be another
    /// process's by now.
    fn forget_env(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.forget();
        }
        self.scans.drain(..).filter_map(|scan| scan.upgrade()).for_each(|scan| scan.forget());
        self.env = None;
    }

    fn let_go(&mut self, lock: &RawLock) {
        if let Some(transaction) = self.transaction.take() {
            transaction.writing.abort();
            lock.release();
        }
        self.close_scans();
        self.reader = None;
        self.env = None;
    }

    /// The reader of all views, seeing what was committed last.
    #[inline]
    fn fresh_reader(&mut self) -> Result<&ReadTransaction> {
        let env = self.env.as_ref().ok_or_else(closed)?;
        if let Some(reader) = &self.reader {
            env.renew(reader)?;
        } else {
            self.reader = Some(env.begin_reading()?);
        }
        Ok(self.reader.as_ref().expect("made above"))
    }
}

impl<E: From<Failure>> OpenStore<E> {
    pub fn new(lock: RawLock, change_words: ChangeWords, options: Options) -> Self {
        Self { change_words, lock, options, state: HostCell::new(State::new(options.alone)) }
    }

    /// Open the environment if this process has not done so yet.
    #[inline]
    pub fn ready<H: StoreHost<Error = E>>(&self, host: H) -> Outcome<(), H> {
        let state = self.state.borrow(host);
        if state.env.is_some() && state.generation == generation() {
            return Ok(());
        }
        drop(state);
        self.open(host)
    }

    /// Have the environment opened once more if its descriptors are not its own any more.
    fn forget_lost<H: StoreHost<Error = E>>(&self, host: H) {
        let mut state = self.state.borrow(host);
        let lost = state.env.as_ref().is_some_and(|env| !env.is_writable());
        if lost && state.transaction.is_none() {
            state.forget_env();
        }
    }

    /// A transaction that writes, for the holder of the writers' lock. If the program has closed
    /// LMDB's descriptors, the environment is opened once more.
    #[inline]
    fn writing<H: StoreHost<Error = E>>(&self, host: H) -> Outcome<Writing, H> {
        // While the lock was waited for, a signal's handler may have closed the store.
        let env = self.env(host)?;
        let begun = Writing::begin(&env);
        // Two of the same file must not be open at once.
        drop(env);
        match begun {
            Err(Error::System(libc::EBADF)) => {
                self.forget_lost(host);
                Ok(Writing::begin(&self.env(host)?)?)
            }
            begun => Ok(begun?),
        }
    }

    #[inline]
    pub fn env<H: StoreHost<Error = E>>(&self, host: H) -> Outcome<Arc<Env>, H> {
        self.ready(host)?;
        Ok(self.state.borrow(host).env.clone().ok_or_else(closed)?)
    }

    /// The state, with a reader that sees what was committed last. If the store has grown, and the
    /// program has closed LMDB's descriptors, the environment is opened once more.
    #[inline]
    fn state_with_reader<H: StoreHost<Error = E>>(
        &self,
        host: H,
    ) -> Outcome<RefMut<'_, State<E>>, H> {
        let mut state = self.state.borrow(host);
        match state.fresh_reader() {
            Err(Error::System(libc::EBADF)) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(state),
        }
        drop(state);
        self.forget_lost(host);
        self.ready(host)?;
        let mut state = self.state.borrow(host);
        state.fresh_reader()?;
        Ok(state)
    }

    /// Read what was committed last, or what this view's own transaction has done.
    #[inline]
    pub fn read<H: StoreHost<Error = E>, T>(
        &self,
        host: H,
        view: u64,
        run: impl FnOnce(&Reading<'_>) -> Result<T>,
    ) -> Outcome<T, H> {
        self.ready(host)?;
        let mut state = self.state.borrow(host);
        if let Some(transaction) = state.transaction_of(view) {
            transaction.check()?;
            return Ok(run(&transaction.writing.reading())?);
        }
        drop(state);
        let state = self.state_with_reader(host)?;
        let reader = state.reader.as_ref().ok_or(Error::System(libc::EBADF))?;
        let result = run(&reader.reading());
        reader.reset();
        Ok(result?)
    }

    /// Read, and keep the snapshot if `run` says so. It is told whether it has to read everything now.
    #[allow(clippy::type_complexity)]
    pub fn read_keeping_snapshot<H: StoreHost<Error = E>, T>(
        &self,
        host: H,
        view: u64,
        run: impl FnOnce(&Reading<'_>, bool) -> Result<(T, bool)>,
    ) -> Outcome<(T, Option<Arc<ScanReader>>), H> {
        self.ready(host)?;
        let mut state = self.state.borrow(host);
        if let Some(transaction) = state.transaction_of(view) {
            transaction.check()?;
            let (found, _) = run(&transaction.writing.reading(), true)?;
            return Ok((found, None));
        }
        drop(state);
        let mut state = self.state_with_reader(host)?;
        let reader = state.reader.as_ref().ok_or(Error::System(libc::EBADF))?;
        let (found, keep) = run(&reader.reading(), false).inspect_err(|_| reader.reset())?;
        if !keep {
            reader.reset();
            return Ok((found, None));
        }
        let (reader, env) = (state.reader.take(), state.env.clone());
        let scan = Arc::new(ScanReader::new(reader.zip(env)));
        state.scans.retain(|scan| scan.strong_count() > 0);
        state.scans.push(Arc::downgrade(&scan));
        Ok((found, Some(scan)))
    }

    /// Read something long: other threads go on meanwhile.
    pub fn read_blocking<H: StoreHost<Error = E>, T>(
        &self,
        host: H,
        view: u64,
        run: impl FnOnce(&Reading<'_>) -> Result<T>,
    ) -> Outcome<T, H> {
        self.ready(host)?;
        if self.state.borrow(host).transaction_of(view).is_some() {
            return self.read(host, view, run);
        }
        let mut state = self.state_with_reader(host)?;
        // Both are this call's alone until it is over; the reader goes first.
        let (env, reader) = (state.env.clone(), state.reader.take());
        drop(state);
        let reader = reader.ok_or_else(closed)?;
        let result = host.blocking(|| run(&reader.reading()));
        drop(reader);
        drop(env);
        Ok(result?)
    }

    /// Write in this view's own transaction, or in one for this operation alone.
    #[inline]
    pub fn write<H: StoreHost<Error = E>, T>(
        &self,
        host: H,
        view: u64,
        wait: bool,
        run: impl FnMut(&mut Writing) -> Result<T>,
    ) -> Outcome<T, H> {
        self.write_by(host, view, wait, run, |_, run, writing| run(writing))
    }

    /// Write something long: other threads go on meanwhile, unless it is in a transaction that the
    /// user has begun.
    pub fn write_blocking<H: StoreHost<Error = E>, T>(
        &self,
        host: H,
        view: u64,
        wait: bool,
        run: impl FnMut(&mut Writing) -> Result<T>,
    ) -> Outcome<T, H> {
        self.write_by(host, view, wait, run, |host, run, writing| host.blocking(|| run(writing)))
    }

    #[inline(always)]
    fn write_by<H: StoreHost<Error = E>, T, F: FnMut(&mut Writing) -> Result<T>>(
        &self,
        host: H,
        view: u64,
        wait: bool,
        mut run: F,
        how: impl Fn(H, &mut F, &mut Writing) -> Result<T>,
    ) -> Outcome<T, H> {
        self.ready(host)?;
        let mut state = self.state.borrow(host);
        if let Some(transaction) = state.transaction_of(view) {
            return transaction.run(run);
        }
        drop(state);
        let held = self.acquire_lock(host, wait, &Deadline::never())?;
        let mut again = true;
        loop {
            let mut writing = self.writing(host)?;
            crash_point("store.begun");
            match how(host, &mut run, &mut writing) {
                Ok(result) => {
                    self.finish(host, writing, held)?;
                    return Ok(result);
                }
                Err(Error::System(libc::EBADF)) if again => {
                    // More memory was needed, and the program has closed the descriptor for it.
                    again = false;
                    writing.abort();
                    self.forget_lost(host);
                }
                Err(error) => {
                    writing.abort();
                    return Err(error.into());
                }
            }
        }
    }

    /// Commit, release the lock, and wake the waiters of what was changed.
    #[inline]
    fn finish<H: Host>(&self, host: H, writing: Writing, held: LockGuard<'_>) -> Result<()> {
        let changed = if writing.changes() == 0 { 0 } else { writing.change_words() };
        if self.options.sync && !self.options.in_memory && changed != 0 {
            host.blocking(|| writing.commit())?;
        } else {
            writing.commit()?;
        }
        crash_point("store.committed");
        self.change_words.bump(changed);
        drop(held);
        crash_point("store.unlocked");
        self.change_words.wake(changed);
        crash_point("store.rung");
        Ok(())
    }

    /// Wait until a change word is not what was seen; false if it still is at the deadline.
    pub fn wait_for_change<H: StoreHost<Error = E>>(
        &self,
        host: H,
        which: usize,
        seen: u32,
        deadline: &Deadline,
    ) -> std::result::Result<bool, E> {
        loop {
            if self.change_words.read(which) != seen {
                return Ok(true);
            }
            host.check_signals()?;
            if deadline.is_over() {
                return Ok(false);
            }
            let limit = deadline.left().min(LIVENESS_CHECK_INTERVAL);
            host.blocking(|| self.change_words.sleep(which, seen, limit));
            self.finish_dead_writers_work(host)?;
        }
    }

    /// Whether this thread has begun a transaction through this view.
    pub fn is_in_transaction<H: StoreHost<Error = E>>(&self, host: H, view: u64) -> bool {
        let mut state = self.state.borrow(host);
        state.generation == generation() && state.transaction_of(view).is_some()
    }

    /// A part of the transaction has failed: it can only be aborted. The first failure counts.
    pub fn note_failure<H: StoreHost<Error = E>>(&self, host: H, view: u64, failure: E) {
        if let Some(transaction) = self.state.borrow(host).transaction_of(view) {
            transaction.failure.get_or_insert(failure);
        }
    }

    /// What has been noted, and whether an operation has failed in the middle.
    pub fn failure<H: StoreHost<Error = E>>(&self, host: H, view: u64) -> (Option<E>, bool) {
        let mut state = self.state.borrow(host);
        let transaction = state.transaction_of(view);
        transaction.map_or((None, false), |each| (each.failure.take(), each.must_abort))
    }

    pub fn size(&self) -> u64 {
        self.options.size
    }

    pub fn is_closed<H: StoreHost<Error = E>>(&self, host: H) -> bool {
        self.state.borrow(host).closed
    }
}

impl<E> Drop for OpenStore<E> {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.forget_inherited();
        if state.transaction.as_ref().is_some_and(|each| each.thread != thread_id()) {
            // Only its own thread could end it, so it ends with the process.
            if let (Some(transaction), Some(env)) = (state.transaction.take(), state.env.take()) {
                transaction.writing.forget();
                std::mem::forget(env);
            }
        }
        state.let_go(&self.lock);
    }
}
