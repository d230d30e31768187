//! Items of an `imap` on their way into cells: pickles one after the other, as a shared cell has them.

use super::plain_pickle;
use crate::host::Failure;
use crate::tasks::item_results;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PySlice};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// Items that are read between two looks at the clock.
const CLOCK: usize = 16;
/// Bytes from which an item has a cell alone: to copy it takes longer than a cell of its own.
const ALONE: usize = 32 << 10;

/// EncodedItems(pickle, buffers): an item and its large buffers, which is alone in its cell; or what an
/// `ItemBuffer` gives, several items, whose slices are the same.
#[pyclass(frozen, module = "garrison._core")]
pub struct EncodedItems {
    /// The only item, and its buffers.
    alone: Option<(Py<PyBytes>, Option<Py<PyList>>)>,
    /// The pickles, each behind its length.
    data: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl EncodedItems {
    fn empty() -> Self {
        Self { alone: None, data: Vec::new(), ends: Vec::new() }
    }

    /// Append what `write` writes; false if it could not.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let start = self.data.len();
        self.data.extend([0; item_results::HEAD]);
        let done = write(&mut self.data);
        if done {
            item_results::write_head(&mut self.data[start..]);
            self.ends.push(self.data.len());
        } else {
            self.data.truncate(start);
        }
        done
    }

    fn part(&self, items: Range<usize>) -> Self {
        let end = |items: usize| items.checked_sub(1).map_or(0, |last| self.ends[last]);
        let bytes = end(items.start)..end(items.end);
        let ends = self.ends[items].iter().map(|end| end - bytes.start).collect();
        Self { alone: None, data: self.data[bytes].to_vec(), ends }
    }

    pub fn len(&self) -> usize {
        if self.alone.is_some() {
            1
        } else {
            self.ends.len()
        }
    }

    /// All of them, as a shared cell has them; of one item its pickle.
    pub fn payload(&self, py: Python<'_>) -> Result<&[u8], Failure> {
        if let Some((pickle, _)) = &self.alone {
            return Ok(pickle.as_bytes(py));
        }
        if self.len() == 1 {
            return Ok(&self.data[item_results::HEAD..]);
        }
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).try_for_each(|(start, end)| item_results::check_len(end - start))?;
        Ok(&self.data)
    }

    fn has_buffers(&self) -> bool {
        self.alone.as_ref().is_some_and(|(_, buffers)| buffers.is_some())
    }

    pub fn buffers<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyList>> {
        self.alone.as_ref().and_then(|(_, buffers)| buffers.as_ref()).map(|list| list.bind(py))
    }
}

#[pymethods]
impl EncodedItems {
    #[new]
    fn new(pickle: Py<PyBytes>, buffers: Option<Py<PyList>>) -> Self {
        Self { alone: Some((pickle, buffers)), ..Self::empty() }
    }

    fn __len__(&self) -> usize {
        self.len()
    }

    /// Some of several items in a row.
    fn __getitem__(&self, items: &Bound<'_, PySlice>) -> PyResult<Self> {
        let range = items.indices(self.ends.len() as isize)?;
        if range.step != 1 || self.alone.is_some() {
            return Err(PyValueError::new_err("only several items have parts, of items in a row"));
        }
        Ok(self.part(range.start as usize..range.stop.max(range.start) as usize))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some((pickle, buffers)) = &self.alone else { return Ok(()) };
        visit.call(pickle)?;
        visit.call(buffers)
    }
}

/// What was read, in its order.
enum Piece {
    Items(EncodedItems),
    Other(Py<PyAny>),
}

#[derive(Default)]
struct Unsubmitted {
    pieces: Vec<Piece>,
    items: usize,
    /// An item whose encoding was interrupted.
    next: Option<Py<PyAny>>,
}

/// ItemBuffer(encode, size, shares): encodes the items of an input as they are read, and keeps them.
///
/// Small plain items are encoded by the core. `encode` returns any other one's pickle, or an object
/// that stands for it: `EncodedItems` with buffers, or an error. If it `shares` cells on its own
/// account, large items have cells of their own.
#[pyclass(frozen, module = "garrison._core")]
pub struct ItemBuffer {
    encode: Py<PyAny>,
    /// Items that share a cell.
    size: AtomicUsize,
    shares: bool,
    unsubmitted: Mutex<Unsubmitted>,
}

impl ItemBuffer {
    /// Never locked while code of Python may run.
    fn unsubmitted(&self) -> MutexGuard<'_, Unsubmitted> {
        self.unsubmitted.lock().expect("never poisoned")
    }

    /// Encode an item and keep it: how many bytes it has. An item whose buffers are views of the
    /// source's memory is the last of its reading: the next item may be made in the same memory.
    fn add(&self, item: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Some(bytes) = self.unsubmitted().append(|to| plain_pickle::write(item, to)) {
            return Ok(bytes);
        }
        self.unsubmitted().next = Some(item.clone().unbind());
        let encoded = self.encode.bind(item.py()).call1((item,))?;
        let piece = match encoded.cast_into_exact::<PyBytes>() {
            Ok(pickle) if !self.shares || pickle.as_bytes().len() < ALONE => {
                let write = |to: &mut Vec<u8>| {
                    to.extend_from_slice(pickle.as_bytes());
                    true
                };
                return Ok(self.unsubmitted().append(write).unwrap_or_default());
            }
            Ok(pickle) => {
                let alone = EncodedItems::new(pickle.unbind(), None);
                Bound::new(item.py(), alone)?.into_any()
            }
            Err(other) => other.into_inner(),
        };
        let has_views = piece.cast::<EncodedItems>().is_ok_and(|it| it.get().has_buffers());
        self.unsubmitted().push(Piece::Other(piece.unbind()));
        Ok(if has_views { usize::MAX } else { ALONE })
    }
}

impl Unsubmitted {
    fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
        self.count();
    }

    fn count(&mut self) {
        self.items += 1;
        self.next = None;
    }

    /// Append what `write` writes: how many bytes. None if it could not.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<usize> {
        if !matches!(self.pieces.last(), Some(Piece::Items(_))) {
            self.pieces.push(Piece::Items(EncodedItems::empty()));
        }
        let Some(Piece::Items(last)) = self.pieces.last_mut() else { return None };
        let before = last.data.len();
        let done = last.append(write);
        let bytes = last.data.len() - before;
        if done {
            self.count();
        } else if before == 0 {
            self.pieces.pop();
        }
        done.then_some(bytes)
    }
}

#[pymethods]
impl ItemBuffer {
    #[new]
    fn new(encode: Py<PyAny>, size: usize, shares: bool) -> Self {
        Self { encode, size: AtomicUsize::new(size), shares, unsubmitted: Mutex::default() }
    }

    /// Items that were read and not taken.
    fn __len__(&self) -> usize {
        self.unsubmitted().items
    }

    #[getter]
    fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_size(&self, size: usize) {
        self.size.store(size, Ordering::Relaxed);
    }

    /// Read items until there are `limit` or `size` more, they have `most` bytes, or an item takes
    /// longer than `slow` nanoseconds: (whether the input may have more, whether it is slow).
    ///
    /// After an exception, also of the input, the items so far are there.
    fn read(
        &self,
        source: &Bound<'_, PyIterator>,
        limit: usize,
        most: usize,
        slow: u64,
    ) -> PyResult<(bool, bool)> {
        let py = source.py();
        let start = Instant::now();
        let (mut items, mut bytes) = (0, 0);
        let is_slow = |items: usize| start.elapsed().as_nanos() as u64 / slow >= items as u64;
        while items < limit && items < self.size() && bytes < most {
            if items > 0 && items % CLOCK == 0 && is_slow(items) {
                break;
            }
            let next = self.unsubmitted().next.take();
            let item = match next {
                Some(item) => item.into_bound(py),
                None => match source.clone().next() {
                    Some(item) => item?,
                    None => return Ok((false, false)),
                },
            };
            bytes = bytes.saturating_add(self.add(&item)?);
            items += 1;
        }
        Ok((true, is_slow(items)))
    }

    /// Move all that was read to the end of `pieces`, a list or a deque, in its order: `EncodedItems`,
    /// and what `encode` has returned. An interrupt comes before it or after it.
    fn move_to(&self, pieces: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = pieces.py();
        let mut unsubmitted = self.unsubmitted();
        let moved = std::mem::take(&mut unsubmitted.pieces);
        unsubmitted.items = 0;
        drop(unsubmitted);
        for piece in moved {
            let piece = match piece {
                Piece::Items(items) => Bound::new(py, items)?.into_any(),
                Piece::Other(object) => object.into_bound(py),
            };
            pieces.call_method1(intern!(py, "append"), (piece,))?;
        }
        Ok(())
    }

    // An error leads to the frames of callers, and so back to here.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.encode)?;
        let Ok(unsubmitted) = self.unsubmitted.try_lock() else { return Ok(()) };
        visit.call(&unsubmitted.next)?;
        unsubmitted.pieces.iter().try_for_each(|piece| match piece {
            Piece::Items(_) => Ok(()),
            Piece::Other(object) => visit.call(object),
        })
    }

    fn __clear__(&self) {
        let gone = std::mem::take(&mut *self.unsubmitted());
        drop(gone);
    }
}
