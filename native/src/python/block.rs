//! Payloads with their buffers as Python has them: pinned to be written, read as views.

use crate::host::Failure;
use crate::shm::heap::Heap;
use crate::shm::payload::{self, BlockRef, Buffer, Found, Part, WrittenBlock};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView};
use std::os::raw::c_int;
use std::sync::{Arc, Mutex};

/// A Python object's memory, pinned for as long as this lives.
struct PinnedBuffer(Box<ffi::Py_buffer>);

impl PinnedBuffer {
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

    fn as_buffer(&self) -> Buffer {
        let view = &self.0;
        let start = view.buf.cast_const().cast();
        Buffer { start, len: view.len as usize, readonly: view.readonly != 0 }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer; dropped while the thread is attached.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

/// Buffers of Python objects, which stay as long as this lives.
#[derive(Default)]
pub struct PinnedBuffers {
    _pinned: Vec<PinnedBuffer>,
    buffers: Vec<Buffer>,
}

impl PinnedBuffers {
    pub fn of(list: Option<&Bound<'_, PyList>>) -> PyResult<Self> {
        let Some(list) = list else { return Ok(Self::default()) };
        let pinned = list.iter().map(|object| PinnedBuffer::of(&object));
        let pinned = pinned.collect::<PyResult<Vec<_>>>()?;
        let buffers = pinned.iter().map(PinnedBuffer::as_buffer).collect();
        Ok(Self { _pinned: pinned, buffers })
    }

    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Copy a payload and these buffers into one new block of `heap`.
    pub fn write_with(
        &self,
        py: Python<'_>,
        heap: &Mutex<Heap>,
        payload: &[u8],
    ) -> Result<WrittenBlock, Failure> {
        // SAFETY: the buffers are pinned.
        unsafe { payload::write(py, heap, payload, &self.buffers) }
    }
}

/// Bytes in shared memory, as a buffer: nothing is copied, and they stay while a view does.
#[pyclass(frozen, module = "garrison._core")]
pub struct Block {
    block: Arc<BlockRef>,
    offset: usize,
    len: usize,
    readonly: bool,
}

impl Block {
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes(self.offset, self.len)
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
        let this = slf.get();
        let start = this.block.address(this.offset, this.len);
        // SAFETY: the memory lives as long as the block, which the view holds through its owner.
        unsafe { fill_view(view, slf.as_any(), (start, this.len), this.readonly, flags) }
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

/// A payload and its buffers in another process's heap, as views that share one reference.
pub fn read<'py>(
    py: Python<'py>,
    block: &Arc<BlockRef>,
    len: usize,
    buffers: u32,
) -> PyResult<(Bound<'py, Block>, Option<Bound<'py, PyList>>)> {
    let (payload, parts) = block.parts(len, buffers).map_err(Failure::from)?;
    let view = |Part { offset, len, readonly }| {
        Bound::new(py, Block { block: block.clone(), offset, len, readonly })
    };
    let payload = view(payload)?;
    if buffers == 0 {
        return Ok((payload, None));
    }
    let list = PyList::empty(py);
    for part in parts {
        let bytes = block.bytes(part.offset, part.len);
        if block.is_paged() {
            list.append(PyMemoryView::from(view(part)?.as_any())?)?;
        } else if part.readonly {
            list.append(PyBytes::new(py, bytes))?;
        } else {
            list.append(PyByteArray::new(py, bytes))?;
        }
    }
    Ok((payload, Some(list)))
}

/// A payload and its buffers, wherever they were found.
pub fn found<'py>(
    py: Python<'py>,
    found: Found<'_>,
) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyList>>)> {
    match found {
        Found::Inline(bytes) => Ok((PyBytes::new(py, bytes).into_any(), None)),
        Found::InBlock { block, len, buffers } => {
            let (payload, buffers) = read(py, &block, len, buffers)?;
            Ok((payload.into_any(), buffers))
        }
    }
}
