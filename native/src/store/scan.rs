//! Scans: a container's entries as they were when the scan began, read some at a time.

use super::change_words::ChangeWords;
use super::encoding::int;
use super::encoding::keys::to_value;
use super::lmdb::{Env, ReadTransaction, Reading};
use super::mapping::order;
use super::open_store::{wrong_state, OpenStore, Outcome, StoreFailure, StoreHost};
use super::records::{Item, ORDER, POSITION};
use super::transaction::head;
use super::{copied, kind, nested, packed, runs, Error, Result};
use crate::host::Failure;
use crate::sys::process::generation;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries that are read at a time.
const BATCH: usize = 256;

/// A snapshot that one scan alone reads.
pub struct ScanReader {
    reader: Mutex<Option<(ReadTransaction, Arc<Env>)>>,
    generation: u64,
}

impl ScanReader {
    pub fn new(reader: Option<(ReadTransaction, Arc<Env>)>) -> Self {
        Self { reader: Mutex::new(reader), generation: generation() }
    }

    /// Locked by threads with the host only, so by no other thread at a fork.
    fn lock(&self) -> MutexGuard<'_, Option<(ReadTransaction, Arc<Env>)>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, run: impl FnOnce(&Reading<'_>) -> Result<T>) -> Result<T> {
        let reader = self.lock();
        let (reader, _env) = reader.as_ref().ok_or_else(|| {
            Error::Value("this walk is over: the store was closed, or its descriptors were".into())
        })?;
        run(&reader.reading())
    }

    pub fn close(&self) {
        if self.generation != generation() {
            // It is the parent's, and this is a forked child.
            return self.forget();
        }
        let Some((reader, env)) = self.lock().take() else { return };
        // The environment may end here: what looks into it goes first.
        drop(reader);
        drop(env);
    }

    /// The same where its place in the table of readers may be another process's.
    pub fn forget(&self) {
        let Some((reader, env)) = self.lock().take() else { return };
        reader.forget();
        drop(env);
    }
}

impl Drop for ScanReader {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Select {
    Keys,
    Values,
    Items,
}

/// Where a walk is.
#[derive(Clone, Copy)]
pub struct ScanCursor {
    number: u64,
    record_type: u8,
    is_set: bool,
    select: Select,
    reverse: bool,
    /// Where to go on: at or behind this, or in front of it.
    next: u64,
    /// An index to count from, in a sequence.
    first: u64,
    over: bool,
}

/// A key and a value as they are stored, or only one of them.
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl ScanCursor {
    fn begin(reading: &Reading<'_>, number: u64, select: Select, reverse: bool) -> Result<Self> {
        let head = head(reading, number)?;
        let mapping = kind::is_mapping(head.kind);
        Ok(Self {
            number,
            record_type: if mapping { ORDER } else { POSITION },
            is_set: head.kind == kind::SET,
            select: if mapping || select == Select::Items { select } else { Select::Values },
            reverse,
            next: if reverse { u64::MAX } else { 0 },
            first: if mapping { 0 } else { head.next },
            over: head.len == 0,
        })
    }

    /// Read on, so many entries at most.
    fn read(&mut self, reading: &Reading<'_>, most: usize) -> Result<VecDeque<Entry>> {
        let entries = VecDeque::new();
        if self.over {
            return Ok(entries);
        }
        if self.record_type == POSITION {
            return self.read_sequence(reading, most);
        }
        if let Some(packed) = packed::contents(reading, self.number)? {
            return self.read_packed(packed);
        }
        self.read_mapping(reading, most)
    }

    fn read_mapping(&mut self, reading: &Reading<'_>, most: usize) -> Result<VecDeque<Entry>> {
        let (number, reverse, from) = (self.number, self.reverse, self.next);
        let mut entries = VecDeque::new();
        let mut items = reading.cursor()?;
        let mut stopped = None;
        let each = |at: u64, canonical: &[u8]| {
            if entries.len() == most {
                stopped = Some(if reverse { at + 1 } else { at });
                return Ok(false);
            }
            let item = nested::ordered(&mut items, number, canonical)?;
            entries.push_back(self.entry(canonical, &item)?);
            Ok(true)
        };
        if reverse {
            order::walk_back(reading, number, from, each)?;
        } else {
            order::walk(reading, number, from, each)?;
        }
        self.go_on_at(stopped);
        Ok(entries)
    }

    fn go_on_at(&mut self, stopped: Option<u64>) {
        match stopped {
            Some(next) => self.next = next,
            None => self.over = true,
        }
    }

    fn read_sequence(&mut self, reading: &Reading<'_>, most: usize) -> Result<VecDeque<Entry>> {
        let (number, reverse, first) = (self.number, self.reverse, self.first);
        let with_index = self.select == Select::Items;
        let mut entries = VecDeque::new();
        let mut stopped = None;
        let each = |at: u64, found: &[u8]| {
            if entries.len() == most {
                stopped = Some(if reverse { at + 1 } else { at });
                return Ok(false);
            }
            let index = || int(at.wrapping_sub(first) as i64).to_vec();
            let key = if with_index { index() } else { Vec::new() };
            entries.push_back(Entry { key, value: copied(found)? });
            Ok(true)
        };
        if reverse {
            runs::walk_back(reading, (number, POSITION), self.next, each)?;
        } else {
            runs::walk(reading, (number, POSITION), self.next, each)?;
        }
        self.go_on_at(stopped);
        Ok(entries)
    }

    /// All entries: they are few.
    fn read_packed(&mut self, packed: &[u8]) -> Result<VecDeque<Entry>> {
        let mut entries = VecDeque::new();
        for found in packed::items(packed) {
            let (canonical, item) = found?;
            entries.push_back(self.entry(canonical, &item)?);
        }
        if self.reverse {
            entries.make_contiguous().reverse();
        }
        self.over = true;
        Ok(entries)
    }

    fn entry(&self, found: &[u8], item: &Item<'_>) -> Result<Entry> {
        let wants_key = self.select != Select::Values || self.is_set;
        let key = if wants_key { to_value(found, item.original)? } else { Vec::new() };
        let wants_value = self.select != Select::Keys && !self.is_set;
        let value = if wants_value { copied(item.value)? } else { Vec::new() };
        Ok(Entry { key, value })
    }
}

/// A scan of a sequence that sees its changes: item by item, at each index what is there.
struct Live {
    number: u64,
    /// The container's change word when the scan began: until it changes, the snapshot is scanned.
    seen: u32,
    /// The next item's index.
    at: i64,
    /// It has changed.
    by_index: bool,
    over: bool,
}

/// What a scan of a sequence that may change comes to next.
pub enum Next {
    Over,
    Value(Vec<u8>),
    /// The item that is now at this index of this container.
    At(u64, i64),
}

/// A scan of a container.
pub struct ScanState {
    cursor: ScanCursor,
    ready: VecDeque<Entry>,
    reader: Option<Arc<ScanReader>>,
    generation: u64,
    live: Option<Live>,
}

impl ScanState {
    /// Scan a container as it is now, whatever becomes of it.
    pub fn begin<H: StoreHost>(
        host: H,
        store: &OpenStore<H::Error>,
        view: u64,
        number: u64,
        select: Select,
        reverse: bool,
    ) -> Outcome<Self, H> {
        let ((cursor, ready), reader) =
            store.read_keeping_snapshot(host, view, |reading, all| {
                let mut cursor = ScanCursor::begin(reading, number, select, reverse)?;
                let ready = cursor.read(reading, if all { usize::MAX } else { BATCH })?;
                Ok(((cursor, ready), !cursor.over))
            })?;
        Ok(Self { cursor, ready, reader, generation: generation(), live: None })
    }

    /// Scan a sequence by index: what is changed meanwhile is seen, as in a plain list.
    pub fn begin_live<H: StoreHost>(
        host: H,
        store: &OpenStore<H::Error>,
        view: u64,
        number: u64,
    ) -> Outcome<Self, H> {
        let seen = store.change_words.read(ChangeWords::of(number));
        let by_index = store.is_in_transaction(host, view);
        let scan = Self::begin(host, store, view, number, Select::Values, false)?;
        let live = Some(Live { number, seen, at: 0, by_index, over: false });
        Ok(Self { live, ..scan })
    }

    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// What is selected, and whether the container is a set.
    pub fn selected(&self) -> (Select, bool) {
        (self.cursor.select, self.cursor.is_set)
    }

    /// The next entries, so many at most.
    pub fn take<E: From<Failure>>(
        &mut self,
        count: usize,
    ) -> std::result::Result<Vec<Entry>, StoreFailure<E>> {
        let mut taken = Vec::new();
        while taken.len() < count && self.fill()? {
            let now = self.ready.len().min(count - taken.len());
            taken.extend(self.ready.drain(..now));
        }
        Ok(taken)
    }

    /// The next entry.
    #[inline]
    pub fn take_one<E: From<Failure>>(
        &mut self,
    ) -> std::result::Result<Option<Entry>, StoreFailure<E>> {
        if self.ready.is_empty() && !self.fill()? {
            return Ok(None);
        }
        Ok(self.ready.pop_front())
    }

    /// What comes next in a scan that is live.
    pub fn next_live<E: From<Failure>>(
        &mut self,
        words: &ChangeWords,
    ) -> std::result::Result<Next, StoreFailure<E>> {
        let Some(live) = self.live.as_mut().filter(|live| !live.over) else {
            return Ok(Next::Over);
        };
        live.by_index |= words.read(ChangeWords::of(live.number)) != live.seen;
        live.at += 1;
        let (number, at, by_index) = (live.number, live.at - 1, live.by_index);
        if !by_index && self.fill()? {
            return Ok(self.ready.pop_front().map_or(Next::Over, |entry| Next::Value(entry.value)));
        }
        Ok(Next::At(number, at))
    }

    /// There is nothing at the index that came last.
    pub fn end_live(&mut self) {
        if let Some(live) = &mut self.live {
            live.over = true;
        }
    }

    /// Whether there is an entry that is read and not taken, after reading on if that is needed.
    fn fill<E: From<Failure>>(&mut self) -> std::result::Result<bool, StoreFailure<E>> {
        if !self.ready.is_empty() {
            return Ok(true);
        }
        let Some(reader) = &self.reader else { return Ok(false) };
        if self.generation != generation() {
            return Err(wrong_state("this walk was begun before a fork"));
        }
        self.ready = reader.read(|reading| self.cursor.read(reading, BATCH))?;
        if self.cursor.over {
            self.reader = None;
        }
        Ok(!self.ready.is_empty())
    }

    /// Let go of what has not been read.
    pub fn close(&mut self) {
        self.reader = None;
        self.cursor.over = true;
        self.ready.clear();
        self.end_live();
    }
}
