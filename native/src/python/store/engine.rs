//! What all views of a store share in a process: the store itself, and what it asks of Python.

use crate::host::{ExclusiveHost, Host};
use crate::store::change_words::ChangeWords;
use crate::store::lmdb::{InMemory, Options, Place};
use crate::store::open_store::{OpenStore, StoreHost};
use crate::sync::lock::RawLock;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

#[pyclass(frozen, name = "_Engine", module = "garrison._core")]
pub struct Engine {
    /// Returns where the files are: a path, or two descriptors.
    place: Py<PyAny>,
    pub hooks: Py<PyAny>,
    pub uuid: [u8; 16],
    pub store: OpenStore<PyErr>,
}

/// The interpreter, and the store in question.
#[derive(Clone, Copy)]
pub struct StoreCaller<'a, 'py> {
    py: Python<'py>,
    place: &'a Py<PyAny>,
}

impl Host for StoreCaller<'_, '_> {
    type Error = PyErr;

    #[inline]
    fn blocking<T>(self, run: impl FnOnce() -> T) -> T {
        self.py.blocking(run)
    }

    #[inline]
    fn check_signals(self) -> PyResult<()> {
        self.py.check_signals()
    }

    fn location(self) -> String {
        self.py.location()
    }
}

// SAFETY: it has the GIL.
unsafe impl ExclusiveHost for StoreCaller<'_, '_> {}

impl StoreHost for StoreCaller<'_, '_> {
    fn place(self) -> PyResult<Place> {
        let place = self.place.bind(self.py).call0()?;
        match place.extract::<(i32, i32)>() {
            Ok((data, lock)) => Ok(Place::Memory(InMemory { data, lock })),
            Err(_) => place.extract().map(Place::Folder),
        }
    }
}

impl Engine {
    pub fn new(
        place: Py<PyAny>,
        hooks: &Bound<'_, PyAny>,
        lock: RawLock,
        change_words: ChangeWords,
        options: Options,
    ) -> PyResult<Self> {
        let uuid = hooks.getattr("uuid")?.extract()?;
        let store = OpenStore::new(lock, change_words, options);
        Ok(Self { place, hooks: hooks.clone().unbind(), uuid, store })
    }

    /// The store, and the host of its operations.
    #[inline]
    pub fn parts<'a, 'py>(
        &'a self,
        py: Python<'py>,
    ) -> (StoreCaller<'a, 'py>, &'a OpenStore<PyErr>) {
        (StoreCaller { py, place: &self.place }, &self.store)
    }
}

#[pymethods]
impl Engine {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.place)?;
        visit.call(&self.hooks)
    }
}
