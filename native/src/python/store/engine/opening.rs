//! Opening the environment and letting go of it, in each process anew.

use super::{Engine, State};
use crate::python::finalizing::without_gil;
use crate::python::store::failure::Raise;
use crate::python::waiting::thread;
use crate::segment::without_file_limit;
use crate::store::bells::MARK_AT;
use crate::store::lmdb::{Env, READERS};
use crate::store::records::{prefix, Meta, META};
use crate::store::room::Room;
use crate::store::{self, Error};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
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

    pub(super) fn let_go(&self, state: &mut State) {
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
