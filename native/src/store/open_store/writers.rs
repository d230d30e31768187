//! One writer at a time: the lock, the transactions that the user begins, and what the dead leave.

use super::{wrong_state, OpenStore, Outcome, StoreFailure, StoreHost, UserTransaction};
use crate::host::Failure;
use crate::store::change_words::ALL;
use crate::store::Error;
use crate::sync::lock::{Acquired, RawLock};
use crate::sys::deadline::Deadline;
use crate::sys::process::thread_id;
use crate::testing::crash_points::crash_point;

/// About ten microseconds.
const SPINS: u32 = 1000;

/// The writers' lock, for as long as this lives.
pub struct LockGuard<'a>(&'a RawLock);

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<E: From<Failure>> OpenStore<E> {
    /// Acquire the writers' lock; `Error::Busy` if it is not free until the deadline, or now.
    #[inline]
    pub(super) fn acquire_lock<H: StoreHost<Error = E>>(
        &self,
        host: H,
        wait: bool,
        deadline: &Deadline,
    ) -> Outcome<LockGuard<'_>, H> {
        let me = self.me()?;
        if !self.lock.try_acquire(me) {
            self.wait_for_lock(host, me, wait, deadline)?;
        }
        crash_point("store.locked");
        Ok(LockGuard(&self.lock))
    }

    #[inline]
    fn me(&self) -> Result<u32, StoreFailure<E>> {
        self.lock.me().map_err(|failure| StoreFailure::Host(failure.into()))
    }

    #[cold]
    fn wait_for_lock<H: StoreHost<Error = E>>(
        &self,
        host: H,
        me: u32,
        wait: bool,
        deadline: &Deadline,
    ) -> Outcome<(), H> {
        let owner = self.state.borrow(host).transaction.as_ref().map(|each| each.thread);
        if wait && owner == Some(thread_id()) {
            return Err(wrong_state(
                "this thread has a transaction open in another view of the store, and would wait \
                 for itself",
            ));
        }
        if !wait && self.spin_for_lock(me) {
            return Ok(());
        }
        let immediate = Deadline::immediate();
        let deadline = if wait { deadline } else { &immediate };
        match self.lock.acquire_slow(host, me, deadline, true).map_err(StoreFailure::Host)? {
            Acquired::Clean => Ok(()),
            Acquired::FromDeadOwner(_) => {
                self.wake_all_watchers();
                Ok(())
            }
            Acquired::TimedOut | Acquired::OwnerDead(_) => Err(Error::Busy.into()),
        }
    }

    /// Most operations are over in a moment: one that does not wait looks for so long.
    fn spin_for_lock(&self, me: u32) -> bool {
        (0..SPINS).any(|_| {
            std::hint::spin_loop();
            self.lock.owner() != me && self.lock.try_acquire(me)
        })
    }

    /// A dead owner of the lock may have committed, and woken no process.
    fn wake_all_watchers(&self) {
        self.change_words.bump(ALL);
        self.change_words.wake(ALL);
    }

    /// If the lock's owner is dead, do what it may have left undone.
    pub(super) fn finish_dead_writers_work<H: StoreHost<Error = E>>(
        &self,
        host: H,
    ) -> Result<(), E> {
        if self.lock.dead_owner().is_none() {
            return Ok(());
        }
        let me = self.lock.me()?;
        match self.lock.acquire_slow(host, me, &Deadline::immediate(), true)? {
            Acquired::FromDeadOwner(_) => {
                self.wake_all_watchers();
                self.lock.release();
            }
            Acquired::Clean => {
                self.lock.release();
            }
            Acquired::TimedOut | Acquired::OwnerDead(_) => {}
        }
        Ok(())
    }

    /// Begin a transaction of this thread; what it does through this view belongs to it.
    pub fn begin<H: StoreHost<Error = E>>(
        &self,
        host: H,
        view: u64,
        wait: bool,
        deadline: &Deadline,
    ) -> Outcome<(), H> {
        self.ready(host)?;
        if self.is_in_transaction(host, view) {
            return Err(wrong_state("this thread is in a transaction already"));
        }
        let held = self.acquire_lock(host, wait, deadline)?;
        // Nothing can be begun once more in the middle: the descriptors that more memory needs are there.
        self.forget_lost(host);
        let writing = self.writing(host)?;
        crash_point("store.begun");
        let (thread, must_abort, failure) = (thread_id(), false, None);
        let transaction = UserTransaction { writing, view, thread, must_abort, failure };
        self.state.borrow(host).transaction = Some(transaction);
        std::mem::forget(held);
        Ok(())
    }

    fn take_transaction<H: StoreHost<Error = E>>(
        &self,
        host: H,
        view: u64,
    ) -> Outcome<UserTransaction<E>, H> {
        let mut state = self.state.borrow(host);
        state.forget_inherited();
        let mine = state.transaction_of(view).is_some();
        let taken = if mine { state.transaction.take() } else { None };
        taken.ok_or_else(|| wrong_state("this thread is in no transaction"))
    }

    pub fn commit<H: StoreHost<Error = E>>(&self, host: H, view: u64) -> Outcome<(), H> {
        let transaction = self.take_transaction(host, view)?;
        let held = LockGuard(&self.lock);
        if let Err(error) = transaction.check() {
            transaction.writing.abort();
            return Err(error);
        }
        Ok(self.finish(host, transaction.writing, held)?)
    }

    pub fn abort<H: StoreHost<Error = E>>(&self, host: H, view: u64) -> Outcome<(), H> {
        let transaction = self.take_transaction(host, view)?;
        let _held = LockGuard(&self.lock);
        transaction.writing.abort();
        Ok(())
    }
}
