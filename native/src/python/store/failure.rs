//! What can go wrong in a store, as Python's exceptions.

use crate::python::errors::{
    ContainerGone, ShutDown, StoreBusy, StoreCorrupt, StoreFull, StoreVersion, WrongKind,
};
use crate::store::lmdb::open_folders;
use crate::store::open_store::StoreFailure;
use crate::store::{kind, Error};
use pyo3::exceptions::{
    PyIndexError, PyKeyError, PyMemoryError, PyOSError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;

/// Of the store, or of Python.
pub type Failure = StoreFailure<PyErr>;

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Host(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => raised(error),
            Failure::Host(error) => error,
        }
    }
}

fn name_of(kind: u8) -> &'static str {
    match kind {
        kind::DICT => "a dict",
        kind::LIST => "a list",
        kind::SET => "a set",
        kind::DEQUE => "a deque",
        kind::NAMESPACE => "a namespace",
        kind::VALUE => "a value",
        kind::ARRAY => "an array",
        kind::QUEUE | kind::JOINABLE_QUEUE => "a queue",
        kind::COUNTER => "a counter",
        _ => "a container of an unknown kind",
    }
}

#[cold]
fn raised(error: Error) -> PyErr {
    match error {
        Error::Full(text) => StoreFull::new_err(format!(
            "no room in the store: {text}; delete something, or make the store larger"
        )),
        Error::Corrupt(text) => StoreCorrupt::new_err(with_folder(text)),
        Error::Version(text) => StoreVersion::new_err(text),
        Error::Gone(number) => {
            ContainerGone::new_err(format!("container {number} does not exist, or no longer"))
        }
        Error::WrongKind(kind) => {
            WrongKind::new_err(format!("this is {}, which cannot do that", name_of(kind)))
        }
        Error::Missing => PyKeyError::new_err(()),
        Error::Index(text) => PyIndexError::new_err(text),
        Error::Empty(text) => PyKeyError::new_err(text),
        Error::Value(text) => PyValueError::new_err(text),
        Error::Type(text) => PyTypeError::new_err(text),
        Error::Busy => StoreBusy::new_err("somebody else is writing to the store; try again later"),
        Error::Shut => ShutDown::new_err(()),
        Error::Memory => PyMemoryError::new_err("no memory for a copy of the value"),
        Error::System(libc::EBADF) => crate::python::descriptor::lost(),
        Error::System(code) => {
            let text = std::io::Error::from_raw_os_error(code).to_string();
            PyOSError::new_err((code, format!("the store cannot be used: {text}")))
        }
    }
}

/// What is wrong with a store that is open says in which folder it is, as far as that is known.
fn with_folder(text: String) -> String {
    let Some(rest) = text.strip_prefix("the store is damaged") else { return text };
    let folders: Vec<_> = open_folders().iter().map(|each| each.display().to_string()).collect();
    if folders.is_empty() {
        return text;
    }
    format!("the store in {} is damaged{rest}", folders.join(" or "))
}

/// From a result of the store to one of Python.
pub trait Raise<T> {
    fn or_raise(self) -> PyResult<T>;
    /// The same, with the key that is missing.
    fn or_missing(self, key: &Bound<'_, PyAny>) -> PyResult<T>;
}

impl<T, E: Into<Failure>> Raise<T> for Result<T, E> {
    #[inline]
    fn or_raise(self) -> PyResult<T> {
        self.map_err(|error| error.into().into())
    }

    #[inline]
    fn or_missing(self, key: &Bound<'_, PyAny>) -> PyResult<T> {
        self.map_err(|error| match error.into() {
            Failure::Store(Error::Missing) => missing(key),
            failure => failure.into(),
        })
    }
}

#[cold]
pub fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    // As one argument, whatever the key is: a tuple would become several.
    PyKeyError::new_err((key.clone().unbind(),))
}
