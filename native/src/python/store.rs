//! `Store`: containers, for a process of this machine and for a session of a server.
//!
//! `engine` has what all views of a store share, `encode` and `decode` convert, the other modules have
//! the methods.

mod block;
mod bulk;
mod changes;
mod checking;
mod counts;
mod decode;
mod encode;
mod engine;
mod failure;
mod functions;
mod lifetime;
mod mappings;
mod scan;
mod sequences;

use crate::store::change_words::{ChangeWords, LINE, WORDS};
use crate::store::encoding::keys::Key;
use crate::store::encoding::tag;
use crate::store::lmdb::{Options, Reading};
use crate::store::transaction::{head, Writing};
use crate::store::{self, Error};
use encode::{Encoder, Value, Values};
use engine::Engine;
use failure::{Failure, Raise};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::sync::atomic::{AtomicU64, Ordering};

use super::convert::deadline_of_timeout;
use super::lock::PyLock;
use super::shared_block::PySharedBlock;

/// Items that take longer than handing the GIL over does.
const LONG: u64 = 4096;

/// Containers in shared memory or in a file; every method that works on one is a single step.
#[pyclass(frozen, weakref, name = "Store", module = "garrison._core")]
pub struct PyStore {
    engine: Py<Engine>,
    /// The owner of references and claims; a forked child has its own.
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
    #[pyo3(signature = (place, hooks, lock, change_words, *, size, in_memory, sync, owner, alone = false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        place: Py<PyAny>,
        hooks: &Bound<'_, PyAny>,
        lock: PyRef<'_, PyLock>,
        change_words: PyRef<'_, PySharedBlock>,
        size: u64,
        in_memory: bool,
        sync: bool,
        owner: u64,
        alone: bool,
    ) -> PyResult<Self> {
        let block = &change_words.block;
        if block.len < WORDS * LINE || block.offset % LINE != 0 {
            let text = "change_words need 4096 bytes that begin at a cache line";
            return Err(PyValueError::new_err(text));
        }
        let size = size.max(1 << 16).next_multiple_of(1 << 16);
        let options = Options { size, in_memory, sync, read_only: false, alone };
        let words = ChangeWords::new(block.clone());
        let engine = Engine::new(place, hooks, lock.lock.raw.clone(), words, options)?;
        let (host, store) = engine.parts(py);
        store.ready(host).or_raise()?;
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
        self.begin_transaction(py, timeout)
    }

    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let (host, store) = self.engine.get().parts(py);
        store.commit(host, self.view).or_raise()
    }

    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let (host, store) = self.engine.get().parts(py);
        store.abort(host, self.view).or_raise()
    }

    #[getter]
    fn in_transaction(&self, py: Python<'_>) -> bool {
        let (host, store) = self.engine.get().parts(py);
        store.is_in_transaction(host, self.view)
    }

    /// Let go of the files. A transaction that is open is aborted.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let (host, store) = self.engine.get().parts(py);
        store.close(host).or_raise()
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        let (host, store) = self.engine.get().parts(py);
        store.is_closed(host)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.engine)
    }
}

impl PyStore {
    fn begin_transaction(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (host, store) = self.engine.get().parts(py);
        let deadline = deadline_of_timeout(timeout)?;
        store.begin(host, self.view, self.blocking, &deadline).or_raise()
    }

    #[inline]
    fn read<T>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&Reading<'_>) -> store::Result<T>,
    ) -> Result<T, Failure> {
        let (host, store) = self.engine.get().parts(py);
        store.read(host, self.view, run)
    }

    #[inline]
    fn write<T>(
        &self,
        py: Python<'_>,
        run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        let (host, store) = self.engine.get().parts(py);
        store.write(host, self.view, self.blocking, run)
    }

    /// Write something long: other threads go on meanwhile.
    fn write_blocking<T>(
        &self,
        py: Python<'_>,
        run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> Result<T, Failure> {
        let (host, store) = self.engine.get().parts(py);
        store.write_blocking(host, self.view, self.blocking, run)
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

    /// The same of one of many.
    #[inline]
    fn push_value<'py>(&self, value: &Bound<'py, PyAny>, values: &mut Values<'py>) -> PyResult<()> {
        if self.encoded {
            values.push_large(encoded(value)?);
            return Ok(());
        }
        self.encoder(value.py()).push_value(value, values)
    }

    /// Decode a value as a method returns it.
    #[inline]
    fn decode<'py>(&self, py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if self.encoded {
            return Ok(PyBytes::new(py, value).into_any());
        }
        if let Some(plain) = decode::plain(py, value)? {
            return Ok(plain);
        }
        decode::value(self.engine.get().hooks.bind(py), value)
    }

    /// Decode as far as that runs no code of the user: a transaction is still under way. A new tuple
    /// may, since it may be what lets the garbage collector call finalizers.
    #[inline]
    fn decode_plain<'py>(&self, py: Python<'py>, value: &[u8]) -> Decoded<'py> {
        let quick = if self.encoded {
            Some(PyBytes::new(py, value).into_any())
        } else if value.first() == Some(&tag::TUPLE) {
            None
        } else {
            decode::plain(py, value).ok().flatten()
        };
        quick.map_or_else(|| Decoded::Encoded(value.to_vec()), Decoded::Plain)
    }

    /// Decode the rest, after the transaction.
    #[inline]
    fn finish<'py>(&self, py: Python<'py>, decoded: Decoded<'py>) -> PyResult<Bound<'py, PyAny>> {
        match decoded {
            Decoded::Plain(object) => Ok(object),
            Decoded::Encoded(value) => self.decode(py, &value),
        }
    }
}

/// A value that was read: the object, or its encoding.
enum Decoded<'py> {
    Plain(Bound<'py, PyAny>),
    Encoded(Vec<u8>),
}

/// A value that comes in its encoding.
fn encoded<'py>(value: &Bound<'py, PyAny>) -> PyResult<Value<'py>> {
    let bytes =
        value.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("an encoded value is bytes"))?;
    store::nested::check_value(bytes.as_bytes()).or_raise()?;
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
    checking::add_to(module)?;
    functions::add_to(module)?;
    module.add_class::<scan::Scan>()?;
    module.add_class::<block::StoreBlock>()?;
    module.add_class::<PyStore>()
}
