//! How containers are made and freed: names, references, owners, garbage.

use super::failure::{Failure, Raise};
use super::{checked_kind, PyStore};
use crate::store::transaction::{head, Writing};
use crate::store::{claims, collector, kind, mapping, names, nested, references, sequence, Error};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[pymethods]
impl PyStore {
    #[pyo3(signature = (kind, aux = -1, info = None, hold = true))]
    fn create(
        &self,
        py: Python<'_>,
        kind: u8,
        aux: i64,
        info: Option<&[u8]>,
        hold: bool,
    ) -> PyResult<u64> {
        let (kind, owner) = (checked_kind(kind)?, self.owner());
        let info = info.unwrap_or_default();
        self.write(py, |writing| {
            let number = nested::create(writing, kind, aux, info)?;
            if hold {
                references::add(writing, number, owner)?;
            }
            Ok(number)
        })
        .or_raise()
    }

    /// The container of this name, made if there is none; and whether it was.
    #[pyo3(signature = (name, kind, aux = -1, info = None))]
    fn named(
        &self,
        py: Python<'_>,
        name: &str,
        kind: u8,
        aux: i64,
        info: Option<&[u8]>,
    ) -> PyResult<(u64, bool)> {
        let (kind, info) = (checked_kind(kind)?, info.unwrap_or_default());
        let found = self.read(py, |reading| names::find(reading, name)).or_raise()?;
        if let Some((_, number)) = found.filter(|(is, _)| *is == kind) {
            return Ok((number, false));
        }
        self.write(py, |writing| names::named(writing, name, kind, aux, info)).or_raise()
    }

    /// Kind and number of the container of this name, if there is one.
    fn find_name(&self, py: Python<'_>, name: &str) -> PyResult<Option<(u8, u64)>> {
        self.read(py, |reading| names::find(reading, name)).or_raise()
    }

    fn names(&self, py: Python<'_>) -> PyResult<Vec<(String, u8, u64)>> {
        self.read(py, names::all).or_raise()
    }

    fn remove_name(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        self.write(py, |writing| names::remove(writing, name)).or_raise()
    }

    /// (kind, length, references, aux, count, info)
    #[allow(clippy::type_complexity)]
    fn metadata<'py>(
        &self,
        py: Python<'py>,
        c: u64,
    ) -> PyResult<(u8, u64, u32, i64, i64, Bound<'py, PyBytes>)> {
        self.read(py, |reading| {
            let (head, info) = references::describe(reading, c)?;
            let info = PyBytes::new(py, info);
            Ok((head.kind, head.len, head.refs, head.aux, head.count, info))
        })
        .or_raise()
    }

    fn acquire_ref(&self, py: Python<'_>, c: u64) -> PyResult<()> {
        let owner = self.owner();
        self.write(py, |writing| references::add(writing, c, owner)).or_raise()
    }

    fn release_ref(&self, py: Python<'_>, c: u64) -> PyResult<()> {
        let owner = self.owner();
        self.write(py, |writing| references::remove(writing, c, owner)).or_raise()
    }

    /// Give up all that an owner references, and give back all that it has claimed.
    fn release_owner(&self, py: Python<'_>, owner: u64) -> PyResult<()> {
        self.write_blocking(py, |writing| collector::release_owner(writing, owner)).or_raise()
    }

    /// All owners of references or claims.
    fn owners(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        self.read(py, references::owners).or_raise()
    }

    /// A number that no owner has had.
    fn new_owner(&self, py: Python<'_>) -> PyResult<u64> {
        self.write(py, |writing| {
            let mut meta = writing.meta()?;
            let owner = meta.next_owner;
            meta.next_owner += 1;
            writing.put_meta(meta)?;
            Ok(owner)
        })
        .or_raise()
    }

    /// Give back all that an owner has claimed.
    fn release_claims(&self, py: Python<'_>, owner: u64) -> PyResult<()> {
        self.write(py, |writing| claims::return_all(writing, owner)).or_raise()
    }

    /// The containers that nothing keeps alive.
    fn garbage(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        self.read(py, references::garbage).or_raise()
    }

    /// Free what nothing keeps alive, all or some of it, so many records; how many containers are
    /// left to be freed of all or of those.
    #[pyo3(signature = (limit = 1000, among = None))]
    fn collect_garbage(
        &self,
        py: Python<'_>,
        mut limit: u64,
        among: Option<Vec<u64>>,
    ) -> PyResult<u64> {
        loop {
            match self.write_blocking(py, |writing| match &among {
                Some(among) => collector::free_among(writing, limit, among),
                None => collector::free_garbage(writing, limit),
            }) {
                // Each transaction needs a little room for itself.
                Err(Failure::Store(Error::Full(_))) if limit > 8 && !self.in_transaction(py) => {
                    limit /= 8;
                }
                done => return done.or_raise(),
            }
        }
    }

    /// Find containers that only refer to each other, for the next sweep; how many there are.
    fn collect_cycles(&self, py: Python<'_>) -> PyResult<u64> {
        self.write_blocking(py, collector::collect_cycles).or_raise()
    }

    fn length(&self, py: Python<'_>, c: u64) -> PyResult<u64> {
        self.read(py, |reading| head(reading, c).map(|head| head.len)).or_raise()
    }

    fn clear(&self, py: Python<'_>, c: u64) -> PyResult<()> {
        let run = |writing: &mut Writing| {
            let head = writing.head(c)?;
            if head.len == 0 {
                return Ok(());
            }
            writing.touch(c);
            if kind::is_mapping(head.kind) {
                mapping::clear(writing, c, head)
            } else {
                sequence::clear(writing, c, head)
            }
        };
        if self.is_long(py, c)? {
            return self.write_blocking(py, run).or_raise();
        }
        self.write(py, run).or_raise()
    }

    /// A deep copy: plain dicts, lists, sets and deques, with faces where it refers to others.
    fn snapshot<'py>(&self, py: Python<'py>, c: u64) -> PyResult<Bound<'py, PyAny>> {
        let copy = self.read_long(py, c, |reading| nested::snapshot(reading, c)).or_raise()?;
        self.decode(py, &copy)
    }
}
