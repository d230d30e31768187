//! Payloads in shared memory: writing them into one's own heap, looking at another's without a copy.
//!
//! ```text
//! | len of each buffer: u64, read-only flag in its top bit | payload | buffer | buffer ...
//! ```
//! Each part but the payload starts on a cache line.

use super::finalizing::without_gil;
use super::memory_error;
use crate::shm::heap::{self, Head, Heap, ABANDONED, LINE, RELEASED};
use crate::shm::region::{Region, Span};
use crate::sys::process::{forks, generation};
use crate::testing::crash_points::crash_point;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};
use std::os::raw::c_int;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const READONLY: u64 = 1 << 63;
/// Buffers that take together less than this are copied out: cheaper than pages of their own.
const PAGED: usize = 1 << 16;
/// Copies above this size let other threads run meanwhile.
const COPY_WITHOUT_GIL: usize = 1 << 18;

fn line(offset: usize) -> usize {
    offset.div_ceil(LINE) * LINE
}

/// A Python object's memory, pinned for as long as this lives.
struct Pinned(Box<ffi::Py_buffer>);

impl Pinned {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the view is a fresh one, filled by this call or not used.
        let answer =
            unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) };
        if answer == -1 {
            Err(PyErr::fetch(object.py()))
        } else {
            Ok(Self(view))
        }
    }

    fn len(&self) -> usize {
        self.0.len as usize
    }

    fn is_readonly(&self) -> bool {
        self.0.readonly != 0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer; dropped while the thread is attached.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

/// A copy that may run without the GIL: raw addresses of pinned memory.
#[derive(Clone, Copy)]
struct Copy {
    from: *const u8,
    to: *mut u8,
    len: usize,
}

fn copy_all(py: Python<'_>, copies: &[Copy]) {
    // SAFETY: the block was allocated just now, so the ranges cannot overlap.
    let run = |copies: &[Copy]| {
        copies.iter().for_each(|c| unsafe { std::ptr::copy_nonoverlapping(c.from, c.to, c.len) });
    };
    if copies.iter().map(|c| c.len).sum::<usize>() < COPY_WITHOUT_GIL {
        return run(copies);
    }
    without_gil(py, || run(copies));
}

/// Where a payload was put: the block's place in the writer's heap, and how many buffers follow.
pub struct Written {
    pub place: usize,
    pub buffers: u32,
    pub size: u64,
}

/// Copy a payload and its buffers into one new block of `heap`.
pub fn write(
    py: Python<'_>,
    heap: &Mutex<Heap>,
    payload: &[u8],
    buffers: Option<&Bound<'_, PyList>>,
) -> PyResult<Written> {
    let pinned = buffers
        .map(|list| list.iter().map(|object| Pinned::of(&object)).collect::<PyResult<Vec<_>>>())
        .transpose()?
        .unwrap_or_default();
    let mut offset = pinned.len() * size_of::<u64>();
    let payload_at = offset;
    offset += payload.len();
    let places: Vec<usize> = pinned
        .iter()
        .map(|buffer| {
            let at = line(offset);
            offset = at + buffer.len();
            at
        })
        .collect();
    let room = {
        let mut heap = heap.lock().expect("never poisoned");
        let paged = !pinned.is_empty() && offset >= PAGED;
        let room = if paged { heap.allocate_pages(offset) } else { heap.allocate(offset) };
        room.map_err(|error| memory_error(&error, &format!("{offset} bytes of data")))?
    };
    let base = room.bytes.at(0, offset);
    let mut copies = vec![Copy {
        from: payload.as_ptr(),
        // SAFETY: `at` has checked that `offset` bytes lie behind `base`.
        to: unsafe { base.add(payload_at) },
        len: payload.len(),
    }];
    for (number, (buffer, at)) in pinned.iter().zip(&places).enumerate() {
        let flag = if buffer.is_readonly() { READONLY } else { 0 };
        // SAFETY: as above.
        unsafe {
            let entry = base.cast::<u64>().add(number);
            entry.write(buffer.len() as u64 | flag);
            let from = buffer.0.buf.cast_const().cast();
            copies.push(Copy { from, to: base.add(*at), len: buffer.len() });
        }
    }
    let (first, rest) = copies.split_at(1);
    copy_all(py, first);
    crash_point("result.half_written");
    copy_all(py, rest);
    Ok(Written { place: room.place, buffers: pinned.len() as u32, size: (LINE + offset) as u64 })
}

/// Somebody who wants to know of the last look at a block.
pub trait Keeper: std::fmt::Debug + Send + Sync {
    /// It was released. Whether its owner is dead, so that its memory goes back at once.
    fn released(&self, owner: u32) -> bool;
}

/// Another's block, mapped.
#[derive(Debug)]
pub struct Look {
    region: Arc<Region>,
    place: usize,
    head: Head,
    bytes: Span,
}

impl Look {
    pub fn at(region: &Arc<Region>, place: usize) -> std::io::Result<Self> {
        let head = Head::of(region, place)?;
        let bytes = heap::bytes(region, place, &head)?;
        Ok(Self { region: region.clone(), place, head, bytes })
    }

    pub fn sign(&self, holder: u32) {
        self.head.holder.store(holder, Ordering::Relaxed);
    }

    /// From now on it is this process's to give back.
    pub fn lease(self, keeper: Option<Arc<dyn Keeper>>) -> Arc<Lease> {
        let (generation, forks) = (generation(), forks());
        Arc::new(Lease { look: self, generation, forks, keeper })
    }
}

/// This process's word that it looks at another's block; the last view that goes gives it back.
#[derive(Debug)]
pub struct Lease {
    look: Look,
    generation: u64,
    forks: u64,
    keeper: Option<Arc<dyn Keeper>>,
}

impl Lease {
    /// Sign for a block: nothing is done if it cannot be mapped.
    pub fn new(region: &Arc<Region>, place: usize, holder: u32) -> std::io::Result<Arc<Self>> {
        let look = Look::at(region, place)?;
        look.sign(holder);
        Ok(look.lease(None))
    }
}

impl Lease {
    /// The payload of a block without buffers.
    pub fn payload(&self, len: usize) -> &[u8] {
        let start = self.look.bytes.at(0, len);
        // SAFETY: in range (checked); written before the cell was published, and kept by the lease.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A forked child has a copy of this object, but not of the right to give the block back.
        // Nor may the parent give back what a child that it has forked meanwhile may look at.
        if self.generation != generation() || self.forks != forks() {
            return;
        }
        let Look { region, place, head, bytes } = &self.look;
        if head.body().is_some() {
            bytes.discard();
        }
        let owner = head.owner.load(Ordering::Relaxed);
        // [release->collect]
        let was = head.state.swap(RELEASED, Ordering::AcqRel);
        let orphaned = self.keeper.as_ref().is_some_and(|keeper| keeper.released(owner));
        if was == ABANDONED || orphaned {
            heap::punch_block(region, *place, head);
        }
    }
}

/// Bytes in shared memory, as a buffer: nothing is copied, and they stay while anybody looks.
#[pyclass(frozen, module = "garrison._core")]
pub struct Block {
    lease: Arc<Lease>,
    offset: usize,
    len: usize,
    readonly: bool,
}

impl Block {
    pub fn bytes(&self) -> &[u8] {
        let start = self.lease.look.bytes.at(self.offset, self.len);
        // SAFETY: in range (checked); the lease keeps it, and nobody writes to a payload.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

#[pymethods]
impl Block {
    fn __len__(&self) -> usize {
        self.len
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let block = slf.get();
        let start = block.lease.look.bytes.at(block.offset, block.len);
        // SAFETY: the memory lives as long as the lease, which the view holds through its owner.
        unsafe { fill_view(view, slf.as_any(), (start, block.len), block.readonly, flags) }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// Make a view of plain bytes, for an object's buffer protocol.
///
/// # Safety
/// The bytes must live as long as `owner`.
pub unsafe fn fill_view(
    view: *mut ffi::Py_buffer,
    owner: &Bound<'_, PyAny>,
    (start, len): (*mut u8, usize),
    readonly: bool,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view to fill"));
    }
    let (len, readonly) = (len as ffi::Py_ssize_t, c_int::from(readonly));
    // SAFETY: the view takes a reference to its owner; the rest is the caller's word.
    let answer =
        unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start.cast(), len, readonly, flags) };
    if answer == -1 {
        Err(PyErr::fetch(owner.py()))
    } else {
        Ok(())
    }
}

/// A payload and its buffers in another process's heap, as views that share one lease.
pub fn read<'py>(
    py: Python<'py>,
    lease: &Arc<Lease>,
    len: usize,
    buffers: u32,
) -> PyResult<(Bound<'py, Block>, Option<Bound<'py, PyList>>)> {
    let bytes = &lease.look.bytes;
    let mut offset = buffers as usize * size_of::<u64>();
    let view = |offset, len, readonly| {
        Bound::new(py, Block { lease: lease.clone(), offset, len, readonly })
    };
    let payload = view(offset, len, true)?;
    offset += len;
    if buffers == 0 {
        return Ok((payload, None));
    }
    let paged = lease.look.head.body().is_some();
    let list = PyList::empty(py);
    for number in 0..buffers as usize {
        let entry = bytes.at(number * size_of::<u64>(), size_of::<u64>());
        // SAFETY: in range (checked), aligned to 8, written before the cell was published.
        let word = unsafe { entry.cast::<u64>().read() };
        let size = (word & !READONLY) as usize;
        let readonly = word & READONLY != 0;
        offset = line(offset);
        if paged {
            list.append(PyMemoryView::from(view(offset, size, readonly)?.as_any())?)?;
        } else {
            // SAFETY: in range (checked), written before the cell was published.
            let bytes = unsafe { std::slice::from_raw_parts(bytes.at(offset, size), size) };
            if readonly {
                list.append(PyBytes::new(py, bytes))?;
            } else {
                list.append(PyByteArray::new(py, bytes))?;
            }
        }
        offset += size;
    }
    Ok((payload, Some(list)))
}
