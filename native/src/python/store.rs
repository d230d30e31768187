//! `Store`: containers, as a process at home reaches them, and as a session of the server does.
//!
//! `engine` has the environment and its transactions, `encode` and `decode` convert, `operations`
//! and its neighbours are the methods.

mod bells;
mod block;
mod counts;
mod decode;
mod encode;
mod engine;
mod failure;
mod functions;
mod lives;
mod mappings;
mod scan;
mod sequences;

use crate::store::bells::{Bells, BELLS, LINE};
use crate::store::encoding::keys::Key;
use crate::store::lmdb::{Options, Reading};
use crate::store::transaction::{head, Writing};
use crate::store::{self, Error};
use encode::{Encoder, Value};
use engine::Engine;
use failure::{Failure, Raise};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock::PyLock;
use super::spot::PySharedBlock;

/// Items that take longer than handing the GIL over does.
const LONG: u64 = 4096;

/// Containers in shared memory or in a file; every method that works on one is a single step.
#[pyclass(frozen, weakref, name = "Store", module = "garrison._core")]
pub struct PyStore {
    engine: Py<Engine>,
    /// Who signs; a forked child signs anew.
    owner: AtomicU64,
    /// Tells this view from others.
    view: u64,
    /// Keys and values come and go in their encoding.
    encoded: bool,
    /// Wait for the writers' lock; else raise StoreBusy.
    blocking: bool,
}

fn next_view() -> u64 {
    static VIEWS: AtomicU64 = AtomicU64::new(1);
    VIEWS.fetch_add(1, Ordering::Relaxed)
}

#[pymethods]
impl PyStore {
    #[new]
    #[pyo3(signature = (place, hooks, lock, bells, *, size, in_memory, sync, owner))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        place: Py<PyAny>,
        hooks: &Bound<'_, PyAny>,
        lock: PyRef<'_, PyLock>,
        bells: PyRef<'_, PySharedBlock>,
        size: u64,
        in_memory: bool,
        sync: bool,
        owner: u64,
    ) -> PyResult<Self> {
        if bells.spot.len < BELLS * LINE || bells.spot.offset % LINE != 0 {
            return Err(PyValueError::new_err("bells need 4096 bytes that begin at a cache line"));
        }
        let size = size.max(1 << 16).next_multiple_of(1 << 16);
        let options = Options { size, in_memory, sync };
        let bells = Bells::new(bells.spot.clone());
        let engine = Engine::new(place, hooks, lock.lock.raw.clone(), bells, options)?;
        engine.ready(py)?;
        let engine = Py::new(py, engine)?;
        Ok(Self { engine, owner: owner.into(), view: next_view(), encoded: false, blocking: true })
    }

    /// The same store under another owner: a session of a server, or another id of this process.
    #[pyo3(signature = (owner, encoded = true, blocking = false))]
    fn session(&self, py: Python<'_>, owner: u64, encoded: bool, blocking: bool) -> Self {
        let engine = self.engine.clone_ref(py);
        Self { engine, owner: owner.into(), view: next_view(), encoded, blocking }
    }

    #[getter]
    fn owner(&self) -> u64 {
        self.owner.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_owner(&self, owner: u64) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    #[getter]
    fn hooks(&self, py: Python<'_>) -> Py<PyAny> {
        self.engine.get().hooks.clone_ref(py)
    }

    #[getter]
    fn encoded(&self) -> bool {
        self.encoded
    }

    #[getter]
    fn uuid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.engine.get().uuid)
    }

    /// Begin a transaction of this thread; all its operations through this view belong to it.
    #[pyo3(signature = (timeout = None))]
    fn begin(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.engine.get().begin(py, self.view, self.blocking, timeout)
    }

    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        self.engine.get().commit(py, self.view)
    }

    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.engine.get().abort(py, self.view)
    }

    #[getter]
    fn in_transaction(&self) -> bool {
        self.engine.get().is_open(self.view)
    }

    /// Let go of the files. A transaction that is open is aborted.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.engine.get().close(py)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.engine.get().is_closed()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.engine)
    }
}

impl PyStore {
    #[inline]
    fn read<T>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&Reading<'_>) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.engine.get().read(py, self.view, run)
    }

    #[inline]
    fn write<T>(
        &self,
        py: Python<'_>,
        run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.engine.get().write(py, self.view, self.blocking, run)
    }

    /// The same for what takes a while.
    fn write_at_length<T>(
        &self,
        py: Python<'_>,
        run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        self.engine.get().write_at_length(py, self.view, self.blocking, run)
    }

    /// Whether a container has so many items that other threads should not wait for all of them.
    fn is_long(&self, py: Python<'_>, c: u64) -> Result<bool, Failure> {
        self.read(py, |reading| Ok(head(reading, c)?.len > LONG))
    }

    fn encoder<'a, 'py>(&'a self, py: Python<'py>) -> Encoder<'a, 'py> {
        let engine = self.engine.get();
        Encoder::new(engine.hooks.bind(py), &engine.uuid)
    }

    /// A key as it is given to a method.
    #[inline]
    fn key(&self, key: &Bound<'_, PyAny>) -> PyResult<Key> {
        if !self.encoded {
            return self.encoder(key.py()).key(key);
        }
        if let Ok(value) = key.cast::<PyBytes>() {
            return Key::of_value(value.as_bytes()).or_raise();
        }
        if let Ok(pair) = key.cast::<PyTuple>() {
            let (canonical, original): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair.extract()?;
            return Key::of_pair(canonical.as_bytes(), original.as_bytes()).or_raise();
        }
        Err(PyTypeError::new_err(
            "a raw key is bytes, or a pair of bytes: its canonical form and the original or nothing",
        ))
    }

    /// A value as it is given to a method.
    #[inline]
    fn value<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Value<'py>> {
        if self.encoded {
            return encoded(value);
        }
        self.encoder(value.py()).value(value)
    }

    /// A value as a method returns it.
    #[inline]
    fn give<'py>(&self, py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if self.encoded {
            return Ok(PyBytes::new(py, value).into_any());
        }
        if let Some(plain) = decode::plain(py, value)? {
            return Ok(plain);
        }
        decode::value(self.engine.get().hooks.bind(py), value)
    }

    /// The same while a transaction is still under way: nothing of the user's runs.
    #[inline]
    fn glimpse<'py>(&self, py: Python<'py>, value: &[u8]) -> Glimpse<'py> {
        let quick = if self.encoded {
            Some(PyBytes::new(py, value).into_any())
        } else {
            decode::plain(py, value).ok().flatten()
        };
        quick.map_or_else(|| Glimpse::Later(value.to_vec()), Glimpse::Now)
    }

    #[inline]
    fn show<'py>(&self, py: Python<'py>, glimpse: Glimpse<'py>) -> PyResult<Bound<'py, PyAny>> {
        match glimpse {
            Glimpse::Now(object) => Ok(object),
            Glimpse::Later(value) => self.give(py, &value),
        }
    }
}

/// A value that was looked at: the object, or what it is to be made of.
enum Glimpse<'py> {
    Now(Bound<'py, PyAny>),
    Later(Vec<u8>),
}

/// A value that comes in its encoding.
fn encoded<'py>(value: &Bound<'py, PyAny>) -> PyResult<Value<'py>> {
    let bytes =
        value.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("an encoded value is bytes"))?;
    store::tree::check_value(bytes.as_bytes()).or_raise()?;
    Ok(Value::Object(bytes.clone()))
}

/// A kind that there is.
fn checked_kind(kind: u8) -> Result<u8, Failure> {
    if store::kind::exists(kind) {
        return Ok(kind);
    }
    Err(Error::Value(format!("{kind} is no kind of container")).into())
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    functions::add_to(module)?;
    module.add_class::<scan::Scan>()?;
    module.add_class::<block::StoreBlock>()?;
    module.add_class::<PyStore>()
}
