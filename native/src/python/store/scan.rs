//! Walking through a container as it was when the walk began.

use super::decode;
use super::engine::Engine;
use super::failure::{Failure, Raise};
use super::PyStore;
use crate::store::bells::Bells;
use crate::store::encoding::keys::to_value;
use crate::store::lmdb::{Env, ReadTransaction, Reading};
use crate::store::records::{number_in, numbered, prefix, ORDER, POSITION};
use crate::store::transaction::head;
use crate::store::{self, kind, sequence, tree, Error};
use crate::sys::process::generation;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries that are read at a time.
const BATCH: usize = 256;

/// A reader that only one walk has, for what it has not read yet.
pub struct Tail {
    reader: RefCell<Option<(ReadTransaction, Arc<Env>)>>,
}

// SAFETY: looked at under the GIL alone.
unsafe impl Send for Tail {}
unsafe impl Sync for Tail {}

impl Tail {
    pub fn new(reader: Option<(ReadTransaction, Arc<Env>)>) -> Arc<Self> {
        Arc::new(Self { reader: RefCell::new(reader) })
    }

    pub fn close(&self) {
        *self.reader.borrow_mut() = None;
    }

    /// It is the parent's, and this is a forked child.
    pub fn forget(&self) {
        if let Some((reader, _env)) = self.reader.borrow_mut().take() {
            reader.forget();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Keys,
    Values,
    Items,
}

/// Where a walk is.
#[derive(Clone, Copy)]
struct Place {
    number: u64,
    sort: u8,
    is_set: bool,
    what: What,
    reverse: bool,
    /// Where to go on: at or behind this, or in front of it.
    next: u64,
    /// An index to count from, in a sequence.
    first: u64,
    over: bool,
}

/// A key and a value as they are stored, or only one of them.
struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Place {
    fn begin(reading: &Reading<'_>, number: u64, what: What, reverse: bool) -> store::Result<Self> {
        let head = head(reading, number)?;
        let mapping = kind::is_mapping(head.kind);
        Ok(Self {
            number,
            sort: if mapping { ORDER } else { POSITION },
            is_set: head.kind == kind::SET,
            what: if mapping || what == What::Items { what } else { What::Values },
            reverse,
            next: if reverse { u64::MAX } else { 0 },
            first: if mapping { 0 } else { head.next },
            over: head.len == 0,
        })
    }

    /// Read on, so many entries at most.
    fn read(&mut self, reading: &Reading<'_>, most: usize) -> store::Result<VecDeque<Entry>> {
        let mut entries = VecDeque::new();
        if self.over {
            return Ok(entries);
        }
        let begin = prefix(self.number, self.sort);
        let mut cursor = reading.cursor()?;
        let place = numbered(self.number, self.sort, self.next);
        let mut record =
            if self.reverse { cursor.seek_before(&place)? } else { cursor.seek(&place)? };
        while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
            let at = number_in(key, 9)?;
            if entries.len() == most {
                self.next = if self.reverse { at + 1 } else { at };
                return Ok(entries);
            }
            entries.push_back(self.entry(reading, at, found)?);
            record = if self.reverse { cursor.previous()? } else { cursor.following()? };
        }
        self.over = true;
        Ok(entries)
    }

    fn entry(&self, reading: &Reading<'_>, at: u64, found: &[u8]) -> store::Result<Entry> {
        if self.sort == POSITION {
            let index = at.wrapping_sub(self.first) as i64;
            let key = store::encoding::int(index).to_vec();
            return Ok(Entry { key, value: store::copied(found)? });
        }
        let item = tree::ordered(reading, self.number, found)?;
        let wants_key = self.what != What::Values || self.is_set;
        let key = if wants_key { to_value(found, item.original)? } else { Vec::new() };
        let wants_value = self.what != What::Keys && !self.is_set;
        let value = if wants_value { store::copied(item.value)? } else { Vec::new() };
        Ok(Entry { key, value })
    }
}

/// A walk over a sequence that sees what becomes of it: item by item, at each index what is there.
struct Live {
    number: u64,
    /// The container's bell when the walk began: as long as it has not rung, one state is walked over.
    seen: u32,
    /// The next item's index.
    at: i64,
    /// It has changed.
    by_index: bool,
    over: bool,
}

/// A walk through a container; see `Store.scan`.
#[pyclass(frozen, name = "Scan", module = "garrison._core")]
pub struct Scan {
    engine: Py<Engine>,
    view: u64,
    raw: bool,
    state: Walk,
}

struct Walk(RefCell<State>);

// SAFETY: looked at under the GIL alone.
unsafe impl Send for Walk {}
unsafe impl Sync for Walk {}

struct State {
    place: Place,
    ready: VecDeque<Entry>,
    tail: Option<Arc<Tail>>,
    generation: u64,
    live: Option<Live>,
}

#[pymethods]
impl PyStore {
    /// Walk through a container as it is now, whatever becomes of it.
    #[pyo3(signature = (c, what = "keys", reverse = false))]
    fn scan(&self, py: Python<'_>, c: u64, what: &str, reverse: bool) -> PyResult<Scan> {
        self.begin_scan(py, c, what, reverse)
    }

    /// Walk over a sequence by index: what is changed meanwhile is seen, as in a plain list.
    fn walk(&self, py: Python<'_>, c: u64) -> PyResult<Scan> {
        let engine = self.engine.get();
        let (seen, by_index) = (engine.bells.read(Bells::of(c)), engine.is_open(self.view));
        let scan = self.begin_scan(py, c, "values", false)?;
        let live = Live { number: c, seen, at: 0, by_index, over: false };
        scan.state.0.borrow_mut().live = Some(live);
        Ok(scan)
    }
}

impl PyStore {
    fn begin_scan(&self, py: Python<'_>, c: u64, what: &str, reverse: bool) -> PyResult<Scan> {
        let what = match what {
            "keys" => What::Keys,
            "values" => What::Values,
            "items" => What::Items,
            _ => {
                let text = format!("what must be 'keys', 'values' or 'items', not {what:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        let ((place, ready), tail) = self
            .engine
            .get()
            .read_and_keep(py, self.view, |reading, all| {
                let mut place = Place::begin(reading, c, what, reverse)?;
                let ready = place.read(reading, if all { usize::MAX } else { BATCH })?;
                Ok(((place, ready), !place.over))
            })
            .or_raise()?;
        let state = State { place, ready, tail, generation: generation(), live: None };
        let engine = self.engine.clone_ref(py);
        Ok(Scan { engine, view: self.view, raw: self.encoded, state: Walk(RefCell::new(state)) })
    }
}

impl Scan {
    /// The next entries, as they are stored.
    fn take(&self, count: usize) -> Result<Vec<Entry>, Failure> {
        let mut state = self.state.0.borrow_mut();
        let state = &mut *state;
        let mut taken = Vec::new();
        while taken.len() < count {
            if state.ready.is_empty() && !state.refill()? {
                break;
            }
            let now = state.ready.len().min(count - taken.len());
            taken.extend(state.ready.drain(..now));
        }
        Ok(taken)
    }

    /// The next item of a walk that is live; nothing if it is over.
    fn take_live(&self, py: Python<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let engine = self.engine.get();
        let (number, at) = {
            let mut state = self.state.0.borrow_mut();
            let Some(live) = &mut state.live else { return Ok(None) };
            if live.over {
                return Ok(None);
            }
            live.by_index |= engine.bells.read(Bells::of(live.number)) != live.seen;
            live.at += 1;
            let (number, at, by_index) = (live.number, live.at - 1, live.by_index);
            if !by_index && (!state.ready.is_empty() || state.refill()?) {
                return Ok(state.ready.pop_front().map(|entry| entry.value));
            }
            (number, at)
        };
        let found = engine
            .read(py, self.view, |reading| sequence::get(reading, number, at).map(<[u8]>::to_vec));
        match found {
            Err(Failure::Store(Error::Index(_))) => {
                self.end_live();
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    fn end_live(&self) {
        if let Some(live) = &mut self.state.0.borrow_mut().live {
            live.over = true;
        }
    }

    fn show<'py>(&self, py: Python<'py>, entry: &Entry) -> PyResult<Bound<'py, PyAny>> {
        let (what, is_set) = {
            let state = self.state.0.borrow();
            (state.place.what, state.place.is_set)
        };
        match what {
            What::Keys => self.give(py, &entry.key),
            What::Values if is_set => self.give(py, &entry.key),
            What::Values => self.give(py, &entry.value),
            What::Items => {
                let key = self.give(py, &entry.key)?;
                let value = if is_set { key.clone() } else { self.give(py, &entry.value)? };
                Ok(PyTuple::new(py, [key, value])?.into_any())
            }
        }
    }

    fn give<'py>(&self, py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if self.raw {
            return Ok(PyBytes::new(py, value).into_any());
        }
        decode::value(self.engine.get().hooks.bind(py), value)
    }
}

impl State {
    fn refill(&mut self) -> Result<bool, Failure> {
        let Some(tail) = &self.tail else { return Ok(false) };
        if self.generation != generation() {
            return Err(PyRuntimeError::new_err("this walk was begun before a fork").into());
        }
        {
            let reader = tail.reader.borrow();
            let Some((reader, _env)) = &*reader else {
                return Err(PyValueError::new_err("the store is closed").into());
            };
            self.ready = self.place.read(&reader.reading(), BATCH)?;
        }
        if self.place.over {
            self.drop_tail();
        }
        Ok(!self.ready.is_empty())
    }

    fn drop_tail(&mut self) {
        let Some(tail) = self.tail.take() else { return };
        if self.generation == generation() {
            tail.close();
        } else {
            tail.forget();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.drop_tail();
    }
}

#[pymethods]
impl Scan {
    /// The next entries, so many at most; none if it is over.
    fn next<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyList>> {
        let entries = self.take(n).or_raise()?;
        let shown: Vec<_> =
            entries.iter().map(|entry| self.show(py, entry)).collect::<PyResult<_>>()?;
        PyList::new(py, shown)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.state.0.borrow().live.is_some() {
            let found = self.take_live(py).or_raise()?;
            return found.map(|value| self.give(py, &value)).transpose();
        }
        match self.take(1).or_raise()?.first() {
            Some(entry) => self.show(py, entry).map(Some),
            None => Ok(None),
        }
    }

    /// Let go of what has not been read.
    fn close(&self) {
        let mut state = self.state.0.borrow_mut();
        state.drop_tail();
        state.place.over = true;
        state.ready.clear();
        if let Some(live) = &mut state.live {
            live.over = true;
        }
    }
}
