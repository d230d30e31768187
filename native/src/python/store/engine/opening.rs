//! Opening the environment and letting go of it, in each process anew.

use super::{Engine, State};
use crate::python::finalizing::without_gil;
use crate::python::store::failure::Raise;
use crate::shm::segment::without_file_limit;
use crate::store::bells::MARK_AT;
use crate::store::lmdb::{Env, InMemory, Place, READERS};
use crate::store::records::{prefix, Meta, META};
use crate::store::room::Room;
use crate::store::{self, Error};
use crate::sys::process::thread_id;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    #[cold]
    pub(super) fn open(&self, py: Python<'_>) -> PyResult<()> {
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
        let place = self.place.bind(py).call0()?;
        let place = match place.extract::<(i32, i32)>() {
            Ok((data, lock)) => Place::Memory(InMemory { data, lock }),
            Err(_) => Place::Folder(place.extract()?),
        };
        let env = Arc::new(self.open_at(&place).or_raise()?);
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

    fn open_at(&self, place: &Place) -> store::Result<Env> {
        let room = Room::new(self.bells.spot().clone(), MARK_AT, self.options.size);
        let mut env = Err(Error::Gone(0));
        let _ = without_file_limit(|| {
            let readers = match self.options.in_memory {
                true => place.with_readers(reserve_readers),
                false => Ok(()),
            };
            env = readers.and_then(|()| Env::open(place, &self.options, room));
            Ok(())
        });
        env
    }

    pub fn close(&self, _py: Python<'_>) -> PyResult<()> {
        let mut state = self.state();
        state.forget_inherited();
        if state.opening || state.open.as_ref().is_some_and(|open| open.thread != thread_id()) {
            return Err(PyRuntimeError::new_err(
                "another thread is using the store; let it finish",
            ));
        }
        state.closed = true;
        self.let_go(&mut state);
        Ok(())
    }

    pub(super) fn let_go(&self, state: &mut State) {
        if let Some(open) = state.open.take() {
            open.writing.abort();
            self.lock.release();
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

/// The table of readers must have memory before it is mapped. Closing it again is harmless as long
/// as the environment is not open.
fn reserve_readers(lock: i32) -> store::Result<()> {
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
