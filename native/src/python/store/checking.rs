//! The pages of a store's file, looked at before LMDB is let read it.

use super::failure::Raise;
use crate::store::pages::{check, Heads, Source};
use pyo3::prelude::*;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

/// A file that stays open for its owner.
fn borrowed(fd: i32) -> ManuallyDrop<File> {
    // SAFETY: never closed here; a bad descriptor is reported by each call.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

/// The bytes that a store takes in its file, and whether they are all in it; 0 for an empty file.
#[pyfunction]
fn store_bytes(fd: i32) -> PyResult<(u64, bool)> {
    let file = borrowed(fd);
    let heads = Heads::read(&*file).or_raise()?;
    let len = file.len().or_raise()?;
    Ok(heads.map_or((0, true), |heads| (heads.bytes(), heads.fits(len))))
}

/// Raise StoreCorrupt unless LMDB can read and write a file that nobody writes to meanwhile.
#[pyfunction]
fn check_store_pages(py: Python<'_>, fd: i32) -> PyResult<()> {
    py.detach(|| {
        let file = borrowed(fd);
        // SAFETY: advice only; the pages are wanted in the order of the trees, and nearly all of them.
        unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_WILLNEED) };
        check(&*file)
    })
    .or_raise()
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(store_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(check_store_pages, module)?)
}
