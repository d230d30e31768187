//! Scans of a container as Python iterates over them.

use super::decode;
use super::engine::Engine;
use super::failure::{Failure, Raise};
use super::PyStore;
use crate::host::HostCell;
use crate::store::scan::{Entry, Next, ScanState, Select};
use crate::store::{sequence, Error};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

/// A scan of a container; see `Store.scan`.
#[pyclass(frozen, name = "Scan", module = "garrison._core")]
pub struct Scan {
    engine: Py<Engine>,
    view: u64,
    encoded: bool,
    state: HostCell<ScanState>,
}

#[pymethods]
impl PyStore {
    /// Scan a container as it is now, whatever becomes of it.
    #[pyo3(signature = (c, what = "keys", reverse = false))]
    fn scan(&self, py: Python<'_>, c: u64, what: &str, reverse: bool) -> PyResult<Scan> {
        let select = match what {
            "keys" => Select::Keys,
            "values" => Select::Values,
            "items" => Select::Items,
            _ => {
                let text = format!("what must be 'keys', 'values' or 'items', not {what:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        let (host, store) = self.engine.get().parts(py);
        let state = ScanState::begin(host, store, self.view, c, select, reverse).or_raise()?;
        Ok(self.new_scan(py, state))
    }

    /// Scan a sequence by index: what is changed meanwhile is seen, as in a plain list.
    fn walk(&self, py: Python<'_>, c: u64) -> PyResult<Scan> {
        let (host, store) = self.engine.get().parts(py);
        let state = ScanState::begin_live(host, store, self.view, c).or_raise()?;
        Ok(self.new_scan(py, state))
    }
}

impl PyStore {
    fn new_scan(&self, py: Python<'_>, state: ScanState) -> Scan {
        let (engine, state) = (self.engine.clone_ref(py), HostCell::new(state));
        Scan { engine, view: self.view, encoded: self.encoded, state }
    }
}

impl Scan {
    /// The next entries, as they are stored.
    fn take(&self, py: Python<'_>, count: usize) -> PyResult<Vec<Entry>> {
        self.state.borrow(py).take::<PyErr>(count).or_raise()
    }

    /// The next item of a scan that is live; nothing if it is over.
    fn take_live(&self, py: Python<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let (host, store) = self.engine.get().parts(py);
        let next = self.state.borrow(py).next_live::<PyErr>(&store.change_words)?;
        let (number, at) = match next {
            Next::Over => return Ok(None),
            Next::Value(value) => return Ok(Some(value)),
            Next::At(number, at) => (number, at),
        };
        let found = store.read(host, self.view, |reading| {
            sequence::get(reading, number, at).map(<[u8]>::to_vec)
        });
        match found {
            Err(Failure::Store(Error::Index(_))) => {
                self.state.borrow(py).end_live();
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    fn decode_entry<'py>(&self, py: Python<'py>, entry: &Entry) -> PyResult<Bound<'py, PyAny>> {
        let (select, is_set) = self.state.borrow(py).selected();
        match select {
            Select::Keys => self.decode(py, &entry.key),
            Select::Values if is_set => self.decode(py, &entry.key),
            Select::Values => self.decode(py, &entry.value),
            Select::Items => {
                let key = self.decode(py, &entry.key)?;
                let value = if is_set { key.clone() } else { self.decode(py, &entry.value)? };
                Ok(PyTuple::new(py, [key, value])?.into_any())
            }
        }
    }

    fn decode<'py>(&self, py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if self.encoded {
            return Ok(PyBytes::new(py, value).into_any());
        }
        decode::value(self.engine.get().hooks.bind(py), value)
    }
}

#[pymethods]
impl Scan {
    /// The next entries, so many at most; none if it is over.
    fn next<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyList>> {
        let entries = self.take(py, n)?;
        let decoded: Vec<_> =
            entries.iter().map(|entry| self.decode_entry(py, entry)).collect::<PyResult<_>>()?;
        PyList::new(py, decoded)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.state.borrow(py).is_live() {
            let found = self.take_live(py).or_raise()?;
            return found.map(|value| self.decode(py, &value)).transpose();
        }
        let entry = self.state.borrow(py).take_one::<PyErr>().or_raise()?;
        entry.map(|entry| self.decode_entry(py, &entry)).transpose()
    }

    /// Let go of what has not been read.
    fn close(&self, py: Python<'_>) {
        self.state.borrow(py).close();
    }
}
