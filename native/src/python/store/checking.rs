//! The pages of a store's file, looked at before LMDB is let read it.

use super::failure::Raise;
use crate::store::audit::audit_file;
use crate::store::pages::{check_file, file_of, report, Container, Heads, Source};
use crate::store::records::Head;
use pyo3::prelude::*;
use std::collections::BTreeMap;

/// The bytes that a store takes in its file, and whether they are all in it; 0 for an empty file.
#[pyfunction]
fn store_bytes(fd: i32) -> PyResult<(u64, bool)> {
    let file = file_of(fd);
    let heads = Heads::read(&*file).or_raise()?;
    let len = Source::len(&*file).or_raise()?;
    Ok(heads.map_or((0, true), |heads| (heads.bytes(), heads.fits(len))))
}

/// Raise StoreCorrupt unless LMDB can read and write a file that nobody writes to meanwhile.
#[pyfunction]
fn check_store_pages(py: Python<'_>, fd: i32) -> PyResult<()> {
    py.detach(|| check_file(fd)).or_raise()
}

type Found = (u8, u64, u64, bool, Vec<Vec<u8>>);
type Damaged = (String, Vec<u8>, Option<Vec<u8>>);

/// What is in a store's file, and what is damaged: bytes, records, whether each has a sum, the
/// containers (kind, items by its head, items found, being freed, names), the damage.
#[pyfunction]
#[allow(clippy::type_complexity)]
fn inspect_store(
    py: Python<'_>,
    fd: i32,
) -> PyResult<(u64, u64, bool, BTreeMap<u64, Found>, Vec<Damaged>)> {
    let found = py.detach(|| report(&*file_of(fd))).or_raise()?;
    let sums = found.has_sums();
    let of = |container: Container| {
        let Container { head, names, items } = container;
        let freed = head.is_some_and(|head| head.has(Head::FREEING));
        (head.map_or(0, |head| head.kind), head.map_or(0, |head| head.len), items, freed, names)
    };
    let containers = found.containers.into_iter().map(|(number, each)| (number, of(each)));
    let damage = found.damage.into_iter().map(|each| (each.what, each.from, each.to));
    Ok((found.bytes, found.records, sums, containers.collect(), damage.collect()))
}

/// What does not agree in the records of a store whose pages are sound. Both files are open: the
/// data, to be read only, and an empty one in memory for LMDB's table of readers.
#[pyfunction]
fn audit_store(py: Python<'_>, data: i32, lock: i32) -> PyResult<Vec<String>> {
    py.detach(|| audit_file(data, lock)).or_raise()
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(store_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(check_store_pages, module)?)?;
    module.add_function(wrap_pyfunction!(inspect_store, module)?)?;
    module.add_function(wrap_pyfunction!(audit_store, module)?)
}
