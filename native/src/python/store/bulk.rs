//! What is done with many items of a mapping in one step.

use super::encode::{Keys, Values};
use super::failure::{Failure, Raise};
use super::{decode, PyStore};
use crate::store::bulk::{self, Entries, Found, Wanted};
use crate::store::lmdb::Reading;
use crate::store::{self, mapping};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

#[pymethods]
impl PyStore {
    /// Set many keys: those of a dict, or of a list of pairs.
    fn dict_update<'py>(&self, py: Python<'py>, c: u64, pairs: &Bound<'py, PyAny>) -> PyResult<()> {
        let (mut keys, mut values) = (Keys::default(), Values::default());
        if let Ok(dict) = pairs.cast_exact::<PyDict>() {
            if self.encoded || !self.push_plain(dict, &mut keys, &mut values)? {
                (keys, values) = (Keys::default(), Values::default());
                // A copy: what is written may run code that changes the dict.
                for (key, value) in dict.copy()? {
                    self.push_pair((&key, &value), &mut keys, &mut values)?;
                }
            }
        } else {
            for (key, value) in &pairs.extract::<Vec<Pair<'py>>>()? {
                self.push_pair((key, value), &mut keys, &mut values)?;
            }
        }
        self.write(py, |writing| {
            mapping::check_takes_values(writing, c)?;
            mapping::update(writing, c, keys.iter(), values.iter())
        })
        .or_raise()
    }

    /// The values of many keys, with `missing` for those that are not there.
    #[pyo3(signature = (c, keys, missing = None))]
    fn dict_get_many<'py>(
        &self,
        py: Python<'py>,
        c: u64,
        keys: Vec<Bound<'py, PyAny>>,
        missing: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let found = self.find_many(py, c, &keys)?;
        let missing = missing.unwrap_or_else(|| py.None().into_bound(py));
        let values = found.iter().map(|value| match value {
            Some(value) => self.decode(py, value),
            None => Ok(missing.clone()),
        });
        PyList::new(py, values.collect::<PyResult<Vec<_>>>()?)
    }

    /// The values of many keys as they are stored, with None for those that are not there.
    fn dict_encoded_many<'py>(
        &self,
        py: Python<'py>,
        c: u64,
        keys: Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let found = self.find_many(py, c, &keys)?;
        let values = found.iter().map(|value| value.map(|value| PyBytes::new(py, value)));
        PyList::new(py, values.collect::<Vec<_>>())
    }

    /// All keys, values or items of a mapping, in its order.
    fn dict_entries<'py>(
        &self,
        py: Python<'py>,
        c: u64,
        what: &str,
    ) -> PyResult<Bound<'py, PyList>> {
        let wanted = match what {
            "keys" => Wanted { keys: true, values: false },
            "values" => Wanted { keys: false, values: true },
            "items" => Wanted { keys: true, values: true },
            _ => return Err(PyValueError::new_err("what must be 'keys', 'values' or 'items'")),
        };
        let entries =
            self.read_long(py, c, |reading| bulk::entries(reading, c, wanted)).or_raise()?;
        let objects = self.decode_entries(py, &entries, wanted)?;
        PyList::new(py, objects)
    }
}

impl PyStore {
    fn find_many(&self, py: Python<'_>, c: u64, keys: &[Bound<'_, PyAny>]) -> PyResult<Found> {
        let mut names = Keys::default();
        keys.iter().try_for_each(|key| self.push_key(key, &mut names))?;
        let names: Vec<_> = names.iter().map(|(canonical, _)| canonical).collect();
        self.read(py, |reading| bulk::get_many(reading, c, &names)).or_raise()
    }

    fn push_key<'py>(&self, key: &Bound<'py, PyAny>, keys: &mut Keys) -> PyResult<()> {
        if !self.encoded {
            return self.encoder(key.py()).push_key(key, keys);
        }
        let key = self.key(key)?;
        keys.push(key.canonical.bytes(), &key.original);
        Ok(())
    }

    fn push_pair<'py>(
        &self,
        (key, value): (&Bound<'py, PyAny>, &Bound<'py, PyAny>),
        keys: &mut Keys,
        values: &mut Values<'py>,
    ) -> PyResult<()> {
        self.push_key(key, keys)?;
        self.push_value(value, values)
    }

    /// The items of a dict; false at one that may run code of the user, and then some are missing.
    fn push_plain<'py>(
        &self,
        dict: &Bound<'py, PyDict>,
        keys: &mut Keys,
        values: &mut Values<'py>,
    ) -> PyResult<bool> {
        let encoder = self.encoder(dict.py());
        for (key, value) in dict {
            if !encoder.push_plain_key(&key, keys)? || !encoder.push_small(&value, values)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Read from a container; if it is long, other threads go on meanwhile.
    pub(super) fn read_long<T>(
        &self,
        py: Python<'_>,
        c: u64,
        run: impl FnOnce(&Reading<'_>) -> store::Result<T>,
    ) -> Result<T, Failure> {
        if !self.is_long(py, c)? {
            return self.read(py, run);
        }
        let (host, store) = self.engine.get().parts(py);
        store.read_blocking(host, self.view, run)
    }

    fn decode_entries<'py>(
        &self,
        py: Python<'py>,
        entries: &Entries,
        wanted: Wanted,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let hooks = self.engine.get().hooks.bind(py);
        let one = |[canonical, original, value]: [&[u8]; 3]| {
            if !wanted.keys && !entries.is_set {
                return self.decode(py, value);
            }
            let key = if self.encoded {
                let value = store::encoding::keys::to_value(canonical, original).or_raise()?;
                PyBytes::new(py, &value).into_any()
            } else {
                decode::key(hooks, canonical, original)?
            };
            if !(wanted.keys && wanted.values) {
                return Ok(key);
            }
            let value = if entries.is_set { key.clone() } else { self.decode(py, value)? };
            Ok(PyTuple::new(py, [key, value])?.into_any())
        };
        entries.iter().map(one).collect()
    }
}
