//! Transactions, and what is done in them.

use super::{bytes, check, error_from_code, next_page, value};
use crate::store::{sums, Result};
use lmdb_master_sys as ffi;
use std::cell::Cell as Slot;
use std::marker::PhantomData;
use std::ptr::null_mut;

/// Where records are looked up.
#[derive(Clone, Copy)]
pub struct Reading<'t> {
    pub(super) raw: *mut ffi::MDB_txn,
    /// Each record has a sum behind it.
    sums: bool,
    /// A cursor to take and to put back.
    spare: Option<&'t SpareCursor>,
    _transaction: PhantomData<&'t ()>,
}

/// A cursor that nobody uses, or null.
type SpareCursor = Slot<*mut ffi::MDB_cursor>;

/// The one database.
const MAIN: ffi::MDB_dbi = 1;

impl<'t> Reading<'t> {
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<&'t [u8]>> {
        let mut found = value(&[]);
        let mut place = value(key);
        // SAFETY: the transaction lives for `'t`, and so do the bytes.
        unsafe {
            match ffi::mdb_get(self.raw, MAIN, &raw mut place, &raw mut found) {
                ffi::MDB_SUCCESS => record(self.sums, key, bytes(&found)).map(Some),
                ffi::MDB_NOTFOUND => Ok(None),
                code => Err(error_from_code(code)),
            }
        }
    }

    /// How many records there are, as the database itself says.
    pub fn count(&self) -> Result<u64> {
        // SAFETY: a struct of numbers, which the call fills.
        unsafe {
            let mut stat: ffi::MDB_stat = std::mem::zeroed();
            check(ffi::mdb_stat(self.raw, MAIN, &raw mut stat))?;
            Ok(stat.ms_entries as u64)
        }
    }

    pub fn cursor(&self) -> Result<Cursor<'t>> {
        let mut raw = self.spare.map_or(null_mut(), |spare| spare.replace(null_mut()));
        // SAFETY: the transaction lives for `'t`, which the cursor does not outlive.
        check(unsafe {
            if raw.is_null() {
                ffi::mdb_cursor_open(self.raw, MAIN, &raw mut raw)
            } else {
                ffi::mdb_cursor_renew(self.raw, raw)
            }
        })?;
        Ok(Cursor { raw, sums: self.sums, spare: self.spare, _transaction: PhantomData })
    }
}

/// What is stored, without its sum.
#[inline]
fn record<'t>(sums: bool, key: &[u8], stored: &'t [u8]) -> Result<&'t [u8]> {
    if sums {
        return sums::checked(key, stored);
    }
    Ok(stored)
}

/// A record's key and what is stored there.
pub type Record<'t> = (&'t [u8], &'t [u8]);

/// A walk over records, in the order of their keys.
pub struct Cursor<'t> {
    raw: *mut ffi::MDB_cursor,
    sums: bool,
    spare: Option<&'t SpareCursor>,
    _transaction: PhantomData<&'t ()>,
}

impl<'t> Cursor<'t> {
    fn step(&mut self, key: &[u8], how: ffi::MDB_cursor_op) -> Result<Option<Record<'t>>> {
        let (mut key, mut found) = (value(key), value(&[]));
        // SAFETY: the transaction lives for `'t`, and so do the bytes.
        unsafe {
            match ffi::mdb_cursor_get(self.raw, &raw mut key, &raw mut found, how) {
                ffi::MDB_SUCCESS => {
                    let key = bytes(&key);
                    Ok(Some((key, record(self.sums, key, bytes(&found))?)))
                }
                ffi::MDB_NOTFOUND => Ok(None),
                code => Err(error_from_code(code)),
            }
        }
    }

    /// The first record at or behind a key.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Record<'t>>> {
        self.step(key, ffi::MDB_SET_RANGE)
    }

    /// The last record in front of a key.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<Option<Record<'t>>> {
        match self.seek(key)? {
            Some(_) => self.step(&[], ffi::MDB_PREV),
            None => self.step(&[], ffi::MDB_LAST),
        }
    }

    /// The last record at or in front of a key.
    pub fn seek_back(&mut self, key: &[u8]) -> Result<Option<Record<'t>>> {
        match self.seek(key)? {
            Some((found, record)) if found == key => Ok(Some((found, record))),
            Some(_) => self.step(&[], ffi::MDB_PREV),
            None => self.step(&[], ffi::MDB_LAST),
        }
    }

    /// The record of a key. One on the page of the last is found without a search from the root.
    pub fn exact(&mut self, key: &[u8]) -> Result<Option<&'t [u8]>> {
        Ok(self.step(key, ffi::MDB_SET_KEY)?.map(|(_, found)| found))
    }

    pub fn following(&mut self) -> Result<Option<Record<'t>>> {
        self.step(&[], ffi::MDB_NEXT)
    }

    pub fn previous(&mut self) -> Result<Option<Record<'t>>> {
        self.step(&[], ffi::MDB_PREV)
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        match self.spare {
            Some(spare) if spare.get().is_null() => spare.set(self.raw),
            // SAFETY: open, and its transaction has not ended.
            _ => unsafe { ffi::mdb_cursor_close(self.raw) },
        }
    }
}

/// A transaction that reads; it can be put aside and taken up again.
pub struct ReadTransaction {
    raw: *mut ffi::MDB_txn,
    pub sums: bool,
    spare: SpareCursor,
}

// SAFETY: tied to no thread (MDB_NOTLS), and used under the GIL.
unsafe impl Send for ReadTransaction {}

impl ReadTransaction {
    pub(super) fn new(raw: *mut ffi::MDB_txn, sums: bool) -> Self {
        Self { raw, sums, spare: Slot::new(null_mut()) }
    }

    pub(super) fn raw(&self) -> *mut ffi::MDB_txn {
        self.raw
    }

    /// Put it aside: no page is kept for it.
    #[inline]
    pub fn reset(&self) {
        // SAFETY: it is in use; what it has shown is borrowed no longer.
        unsafe { ffi::mdb_txn_reset(self.raw) };
    }

    #[inline]
    pub fn reading(&self) -> Reading<'_> {
        let spare = Some(&self.spare);
        Reading { raw: self.raw, sums: self.sums, spare, _transaction: PhantomData }
    }

    /// It was inherited by a fork, and is another process's.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for ReadTransaction {
    fn drop(&mut self) {
        // SAFETY: nothing uses it any more. A cursor that only reads is closed by itself.
        unsafe {
            ffi::mdb_cursor_close(self.spare.get());
            ffi::mdb_txn_abort(self.raw);
        }
    }
}

/// A transaction that writes, in the hands of the thread that has begun it.
pub struct WriteTransaction {
    pub(super) raw: *mut ffi::MDB_txn,
    pub(super) sums: bool,
    /// Cursors that stand where `put_near` was last; LMDB frees them with the transaction.
    near: [*mut ffi::MDB_cursor; PLACES],
}

/// The places that a transaction remembers, to write close to where it has just written.
#[derive(Debug, Clone, Copy)]
pub enum Near {
    Item,
    /// Heads of new containers.
    Head,
    /// Heads of those that something lets go.
    Released,
    Owner,
    Garbage,
}

const PLACES: usize = 5;

// SAFETY: it is kept where other threads see it, and used by its own alone.
unsafe impl Send for WriteTransaction {}
unsafe impl Sync for WriteTransaction {}

impl WriteTransaction {
    pub(super) fn new(raw: *mut ffi::MDB_txn, sums: bool) -> Self {
        Self { raw, sums, near: [null_mut(); PLACES] }
    }

    #[inline]
    pub fn reading(&self) -> Reading<'_> {
        Reading { raw: self.raw, sums: self.sums, spare: None, _transaction: PhantomData }
    }

    /// The first page behind all that are in use.
    #[inline]
    pub fn next_page(&self) -> u64 {
        next_page(self.raw)
    }

    pub fn id(&self) -> u64 {
        // SAFETY: it has not ended.
        unsafe { ffi::mdb_txn_id(self.raw) as u64 }
    }

    /// Write a record that is made of parts.
    #[inline]
    pub fn put(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<()> {
        let mut name = value(key);
        let mut place = self.place(parts);
        // SAFETY: it has not ended; LMDB gives a place of that many bytes.
        unsafe {
            let data = &raw mut place;
            check(ffi::mdb_put(self.raw, MAIN, &raw mut name, data, ffi::MDB_RESERVE))?;
            self.fill(key, &place, parts);
        }
        Ok(())
    }

    /// The cursor of a place, which LMDB frees with the transaction.
    #[inline]
    fn cursor_near(&mut self, near: Near) -> Result<*mut ffi::MDB_cursor> {
        let cursor = &raw mut self.near[near as usize];
        // SAFETY: it has not ended; the pointer is this struct's.
        unsafe {
            if (*cursor).is_null() {
                check(ffi::mdb_cursor_open(self.raw, MAIN, cursor))?;
            }
            Ok(*cursor)
        }
    }

    /// Write a record whose key has none; else return the one it has. If it belongs on the page of
    /// the last of its place, the page is found without a search from the root.
    #[inline]
    pub fn put_near(&mut self, near: Near, key: &[u8], parts: &[&[u8]]) -> Result<Option<&[u8]>> {
        let cursor = self.cursor_near(near)?;
        let (mut name, mut place) = (value(key), self.place(parts));
        let how = ffi::MDB_RESERVE | ffi::MDB_NOOVERWRITE;
        // SAFETY: the cursor is this transaction's; LMDB gives a place of that many bytes, or shows
        // what is there.
        unsafe {
            match ffi::mdb_cursor_put(cursor, &raw mut name, &raw mut place, how) {
                ffi::MDB_KEYEXIST => return record(self.sums, key, bytes(&place)).map(Some),
                code => check(code)?,
            }
            self.fill(key, &place, parts);
        }
        Ok(None)
    }

    /// The record of a key, looked for as `put_near` does.
    #[inline]
    pub fn get_near(&mut self, near: Near, key: &[u8]) -> Result<Option<&[u8]>> {
        let cursor = self.cursor_near(near)?;
        let (mut name, mut found) = (value(key), value(&[]));
        // SAFETY: the cursor is this transaction's, which lives as long as what is shown.
        unsafe {
            match ffi::mdb_cursor_get(cursor, &raw mut name, &raw mut found, ffi::MDB_SET) {
                ffi::MDB_SUCCESS => record(self.sums, key, bytes(&found)).map(Some),
                ffi::MDB_NOTFOUND => Ok(None),
                code => Err(error_from_code(code)),
            }
        }
    }

    /// Whether there is a record whose key begins like this.
    #[inline]
    pub fn has_near(&mut self, near: Near, begin: &[u8]) -> Result<bool> {
        let cursor = self.cursor_near(near)?;
        let (mut name, mut found) = (value(begin), value(&[]));
        // SAFETY: as above.
        unsafe {
            match ffi::mdb_cursor_get(cursor, &raw mut name, &raw mut found, ffi::MDB_SET_RANGE) {
                ffi::MDB_SUCCESS => Ok(bytes(&name).starts_with(begin)),
                ffi::MDB_NOTFOUND => Ok(false),
                code => Err(error_from_code(code)),
            }
        }
    }

    /// Replace the record on which the cursor of a place stands, which has this key.
    #[inline]
    pub fn replace_near(&mut self, near: Near, key: &[u8], parts: &[&[u8]]) -> Result<()> {
        let cursor = self.cursor_near(near)?;
        let (mut name, mut place) = (value(key), self.place(parts));
        let how = ffi::MDB_RESERVE | ffi::MDB_CURRENT;
        // SAFETY: as above.
        unsafe {
            check(ffi::mdb_cursor_put(cursor, &raw mut name, &raw mut place, how))?;
            self.fill(key, &place, parts);
        }
        Ok(())
    }

    /// Room for a record.
    #[inline]
    fn place(&self, parts: &[&[u8]]) -> ffi::MDB_val {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let stored = if self.sums { len + sums::LEN } else { len };
        ffi::MDB_val { mv_size: stored, mv_data: null_mut() }
    }

    /// # Safety
    /// LMDB has given the place, of the size for these parts.
    #[inline]
    unsafe fn fill(&self, key: &[u8], place: &ffi::MDB_val, parts: &[&[u8]]) {
        let begin: *mut u8 = place.mv_data.cast();
        let mut to = begin;
        // SAFETY: as the caller says.
        unsafe {
            for part in parts {
                to.copy_from_nonoverlapping(part.as_ptr(), part.len());
                to = to.add(part.len());
            }
            if self.sums {
                let len = place.mv_size - sums::LEN;
                let sum = sums::of(key, std::slice::from_raw_parts(begin, len));
                to.copy_from_nonoverlapping(sum.as_ptr(), sums::LEN);
            }
        }
    }

    /// Delete a record; false if there was none.
    #[inline]
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let mut key = value(key);
        // SAFETY: it has not ended.
        match unsafe { ffi::mdb_del(self.raw, MAIN, &raw mut key, null_mut()) } {
            ffi::MDB_SUCCESS => Ok(true),
            ffi::MDB_NOTFOUND => Ok(false),
            code => Err(error_from_code(code)),
        }
    }

    /// Delete the first records from a key on whose keys are `inside`, so many at most, and show each
    /// before; how many there were.
    pub fn delete_while(
        &mut self,
        begin: &[u8],
        most: u64,
        inside: impl Fn(&[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<u64> {
        let mut cursor = self.reading().cursor()?;
        let mut record = cursor.seek(begin)?;
        let mut done = 0;
        while let Some((key, found)) = record.filter(|(key, _)| inside(key)) {
            if done == most {
                break;
            }
            each(key, found)?;
            // SAFETY: it is open, and stands on a record, which is not looked at any more.
            check(unsafe { ffi::mdb_cursor_del(cursor.raw, 0) })?;
            done += 1;
            record = cursor.following()?;
        }
        Ok(done)
    }

    pub fn commit(self) -> Result<()> {
        let raw = self.raw;
        std::mem::forget(self);
        // SAFETY: it has not ended, and does now, whatever the answer is.
        check(unsafe { ffi::mdb_txn_commit(raw) })
    }

    pub fn abort(self) {
        drop(self);
    }

    /// It was inherited by a fork, and is another process's.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        // SAFETY: it has not ended.
        unsafe { ffi::mdb_txn_abort(self.raw) };
    }
}
