//! Opening the environment and letting go of it, in each process anew.

use super::{closed, wrong_state, OpenStore, Outcome, StoreFailure, StoreHost};
use crate::host::Failure;
use crate::shm::segment::without_file_limit;
use crate::store::change_words::MARK_AT;
use crate::store::lmdb::{Env, Options, Place, READERS};
use crate::store::records::{prefix, Meta, META, NEWEST};
use crate::store::reservation::Reservation;
use crate::store::{Error, Result};
use crate::sys::process::thread_id;
use std::sync::Arc;
use std::time::Duration;

impl<E: From<Failure>> OpenStore<E> {
    #[cold]
    pub(super) fn open<H: StoreHost<Error = E>>(&self, host: H) -> Outcome<(), H> {
        loop {
            let mut state = self.state.borrow(host);
            state.forget_inherited();
            if state.closed {
                return Err(closed().into());
            }
            if state.env.is_some() {
                return Ok(());
            }
            if !state.opening {
                state.opening = true;
                break;
            }
            drop(state);
            host.blocking(|| std::thread::sleep(Duration::from_millis(1)));
            host.check_signals().map_err(StoreFailure::Host)?;
        }
        let opened = self.open_at_its_place(host);
        self.state.borrow(host).opening = false;
        opened
    }

    fn open_at_its_place<H: StoreHost<Error = E>>(&self, host: H) -> Outcome<(), H> {
        let place = host.place().map_err(StoreFailure::Host)?;
        // Only once: by the next time others may have opened it.
        let alone = self.state.borrow(host).alone;
        let env = Arc::new(self.open_at(&place, &Options { alone, ..self.options })?);
        self.state.borrow(host).alone = false;
        let mut reader = env.begin_reading()?;
        env.open_database(&reader)?;
        let laid_out = env.check_layout(&reader);
        let known = reader.reading().get(&prefix(0, META)).and_then(|found| {
            found.map(|meta| Ok((Meta::has_sums(meta)?, Meta::version(meta)?))).transpose()
        });
        reader.reset();
        laid_out?;
        let (is_fresh, in_memory) =
            (known.as_ref().is_ok_and(Option::is_none), self.options.in_memory);
        let (sums, version) = known?.unwrap_or((!in_memory, NEWEST));
        env.set_sums(sums);
        env.set_version(if in_memory { NEWEST } else { version });
        reader.sums = sums;
        {
            let mut state = self.state.borrow(host);
            state.reader = Some(reader);
            state.env = Some(env);
        }
        if is_fresh {
            self.write(host, 0, true, |writing| writing.put_meta(writing.meta()?))?;
        }
        Ok(())
    }

    fn open_at(&self, place: &Place, options: &Options) -> Result<Env> {
        let block = self.change_words.block().clone();
        let reservation = Reservation::new(block, MARK_AT, self.options.size);
        let mut env = Err(Error::Gone(0));
        let _ = without_file_limit(|| {
            let readers = match self.options.in_memory {
                true => place.with_readers(reserve_readers),
                false => Ok(()),
            };
            env = readers.and_then(|()| Env::open(place, options, reservation));
            Ok(())
        });
        env
    }

    pub fn close<H: StoreHost<Error = E>>(&self, host: H) -> Outcome<(), H> {
        let mut state = self.state.borrow(host);
        state.forget_inherited();
        let others = state.transaction.as_ref().is_some_and(|each| each.thread != thread_id());
        if state.opening || others {
            return Err(wrong_state("another thread is using the store; let it finish"));
        }
        state.closed = true;
        state.let_go(&self.lock);
        Ok(())
    }
}

/// The table of readers must have memory before it is mapped. Closing it again is harmless as long
/// as the environment is not open.
fn reserve_readers(lock: i32) -> Result<()> {
    let len = i64::from(READERS + 8) * 64;
    // SAFETY: changes a file; a bad descriptor is reported.
    let done = unsafe { libc::fallocate64(lock, libc::FALLOC_FL_KEEP_SIZE, 0, len) };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => Ok(()),
        Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM) => Err(Error::Full(error.to_string())),
        code => Err(Error::System(code.unwrap_or(libc::EIO))),
    }
}
