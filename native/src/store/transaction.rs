//! A transaction that writes, with all that its operations share.

use super::change_words::{ChangeWords, GLOBAL};
use super::lmdb::{Env, Near, Reading, WriteTransaction};
use super::records::{
    prefix, Head, Meta, HEAD, HEAD_LEN, META, VERSION_WITH_ORDER_RUNS, VERSION_WITH_RUNS,
};
use super::{kind, Error, Result};
use crate::testing::crash_points::crash_point;
use std::ops::Range;
use std::sync::Arc;

/// Numbers of containers that a transaction takes after its first one.
const NUMBERS_AT_ONCE: u64 = 64;

/// Raise for the number under which the store keeps its own records.
#[inline]
pub fn exists(number: u64) -> Result<()> {
    if number == 0 {
        return Err(Error::Gone(number));
    }
    Ok(())
}

/// The head of a container that exists.
#[inline]
pub fn head(reading: &Reading<'_>, number: u64) -> Result<Head> {
    head_record(reading, number).map(|(head, _)| head)
}

/// The head of a container that exists, and what is behind it in its record.
#[inline]
pub fn head_record<'t>(reading: &Reading<'t>, number: u64) -> Result<(Head, &'t [u8])> {
    exists(number)?;
    let record = reading.get(&prefix(number, HEAD))?.ok_or(Error::Gone(number))?;
    living_head(record, number)
}

/// The same of the record that is there.
#[inline]
pub fn living_head(record: &[u8], number: u64) -> Result<(Head, &[u8])> {
    let head = Head::read(record)?;
    if head.has(Head::FREEING) {
        return Err(Error::Gone(number));
    }
    Ok((head, &record[HEAD_LEN..]))
}

/// The head of a mapping that exists.
#[inline]
pub fn mapping(reading: &Reading<'_>, number: u64) -> Result<Head> {
    let head = head(reading, number)?;
    if !kind::is_mapping(head.kind) {
        return Err(Error::WrongKind(head.kind));
    }
    Ok(head)
}

/// The head of a sequence that exists.
#[inline]
pub fn sequence(reading: &Reading<'_>, number: u64) -> Result<Head> {
    let head = head(reading, number)?;
    if kind::is_mapping(head.kind) {
        return Err(Error::WrongKind(head.kind));
    }
    Ok(head)
}

/// Operations take this; what reads alone takes a `Reading`.
pub struct Writing {
    transaction: WriteTransaction,
    env: Arc<Env>,
    /// There was no more memory to reserve.
    is_last_room: bool,
    /// The operation under way makes room.
    frees: bool,
    /// The change words of the containers that were changed.
    touched: u64,
    /// How many records were written or deleted.
    changes: u64,
    /// How many tickets were given.
    tickets: u64,
    /// Numbers of containers that are this transaction's.
    numbers: Range<u64>,
    /// How many numbers it takes next.
    wanted_numbers: u64,
}

impl Writing {
    pub fn begin(env: &Arc<Env>) -> Result<Self> {
        env.lift_limit();
        let (transaction, env) = (env.begin_writing()?, env.clone());
        env.limit_map_to_reserved(false);
        let (is_last_room, frees) = (false, false);
        Ok(Self {
            transaction,
            env,
            is_last_room,
            frees,
            touched: 0,
            changes: 0,
            tickets: 0,
            numbers: 0..0,
            wanted_numbers: 1,
        })
    }

    #[inline]
    pub fn reading(&self) -> Reading<'_> {
        self.transaction.reading()
    }

    #[inline]
    fn ensure_room(&mut self, bytes: usize) -> Result<()> {
        if self.is_last_room || self.env.has_room(self.transaction.next_page(), bytes) {
            return Ok(());
        }
        self.grow(bytes)
    }

    #[cold]
    fn grow(&mut self, bytes: usize) -> Result<()> {
        let next_page = self.transaction.next_page();
        self.env.make_room(next_page, bytes)?;
        self.is_last_room = !self.env.has_room(next_page, bytes);
        self.env.limit_map_to_reserved(self.frees);
        Ok(())
    }

    /// What is done now makes room, and may use what is kept for that.
    #[inline]
    pub fn will_free(&mut self) {
        if !self.frees {
            self.frees = true;
            self.env.limit_map_to_reserved(true);
        }
    }

    /// An operation of several is over.
    pub fn end_operation(&mut self) {
        if self.frees {
            self.frees = false;
            self.env.limit_map_to_reserved(false);
        }
    }

    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<&[u8]>> {
        self.reading().get(key)
    }

    #[inline]
    pub fn put(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<()> {
        self.ensure_room(parts.iter().map(|part| part.len()).sum())?;
        self.changes += 1;
        self.transaction.put(key, parts).map_err(|error| self.env.explain_full(error))
    }

    /// Write a record whose key has none; else return the one it has. For records that come one
    /// after the other, in each of several places.
    #[inline]
    pub fn put_near(&mut self, near: Near, key: &[u8], parts: &[&[u8]]) -> Result<Option<&[u8]>> {
        self.ensure_room(parts.iter().map(|part| part.len()).sum())?;
        let found = self.transaction.put_near(near, key, parts);
        let found = found.map_err(|error| self.env.explain_full(error))?;
        self.changes += u64::from(found.is_none());
        Ok(found)
    }

    /// The record of a key, looked for near the last one of that place.
    #[inline]
    pub fn get_near(&mut self, near: Near, key: &[u8]) -> Result<Option<&[u8]>> {
        self.transaction.get_near(near, key)
    }

    /// Whether there is a record whose key begins like this, looked for in the same way.
    #[inline]
    pub fn has_near(&mut self, near: Near, begin: &[u8]) -> Result<bool> {
        self.transaction.has_near(near, begin)
    }

    /// Replace the record that `put_near` or `get_near` has found under this key.
    #[inline]
    pub fn replace_near(&mut self, near: Near, key: &[u8], parts: &[&[u8]]) -> Result<()> {
        self.ensure_room(parts.iter().map(|part| part.len()).sum())?;
        self.changes += 1;
        let done = self.transaction.replace_near(near, key, parts);
        done.map_err(|error| self.env.explain_full(error))
    }

    #[inline]
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        self.ensure_room(0)?;
        self.changes += 1;
        self.transaction.delete(key).map_err(|error| self.env.explain_full(error))
    }

    /// Delete the first records whose keys begin like this, so many at most, and show each before; how
    /// many there were.
    pub fn delete_range(
        &mut self,
        begin: &[u8],
        most: u64,
        each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<u64> {
        self.will_free();
        self.delete_while(begin, most, |key| key.starts_with(begin), each)
    }

    /// Delete the records with these keys, and show each before.
    pub fn delete_between(
        &mut self,
        keys: &Range<[u8; 17]>,
        each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.delete_while(&keys.start, u64::MAX, |key| *key < keys.end[..], each).map(|_| ())
    }

    fn delete_while(
        &mut self,
        begin: &[u8],
        most: u64,
        inside: impl Fn(&[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<u64> {
        const STEP: u64 = 64;
        let mut done = 0;
        while done < most {
            self.ensure_room(STEP as usize * self.env.reservation.page as usize)?;
            let step = STEP.min(most - done);
            let now = self.transaction.delete_while(begin, step, &inside, &mut each);
            let now = now.map_err(|error| self.env.explain_full(error))?;
            self.changes += now;
            done += now;
            if now < step {
                break;
            }
        }
        Ok(done)
    }

    /// Whether several items may be written as one record.
    #[inline]
    pub fn has_runs(&self) -> bool {
        self.env.version() >= VERSION_WITH_RUNS
    }

    /// Whether the keys of a mapping's order may lie in runs.
    #[inline]
    pub fn has_order_runs(&self) -> bool {
        self.env.version() >= VERSION_WITH_ORDER_RUNS
    }

    pub fn head(&self, number: u64) -> Result<Head> {
        head(&self.reading(), number)
    }

    /// Write a head anew, with what else is in its record.
    #[inline]
    pub fn put_head(&mut self, number: u64, head: Head) -> Result<()> {
        let key = prefix(number, HEAD);
        if head.info == 0 {
            return self.put(&key, &[&head.to_bytes()]);
        }
        let record = self.get(&key)?.ok_or(Error::Gone(number))?;
        let info = record[HEAD_LEN..].to_vec();
        self.put(&key, &[&head.to_bytes(), &info])
    }

    /// The waiters of this container are to be woken.
    #[inline]
    pub fn touch(&mut self, number: u64) {
        self.touched |= 1 << ChangeWords::of(number);
    }

    pub fn meta(&self) -> Result<Meta> {
        let record = self.get(&prefix(0, META))?;
        record.map_or(Ok(Meta::fresh(self.env.has_sums())), Meta::read)
    }

    pub fn put_meta(&mut self, meta: Meta) -> Result<()> {
        self.put(&prefix(0, META), &[&meta.to_bytes()])
    }

    /// The number of a new container. They are never used again, and need not follow each other: a
    /// transaction that has taken one takes several next.
    pub fn next_number(&mut self) -> Result<u64> {
        if let Some(number) = self.numbers.next() {
            return Ok(number);
        }
        let mut meta = self.meta()?;
        let first = meta.next_container;
        meta.next_container += self.wanted_numbers;
        self.numbers = first + 1..meta.next_container;
        self.wanted_numbers = NUMBERS_AT_ONCE;
        self.put_meta(meta)?;
        Ok(first)
    }

    /// A number that grows from ticket to ticket, whichever process takes it.
    pub fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        (self.transaction.id() << 20) + self.tickets
    }

    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Which change words are to change once it is committed.
    pub fn change_words(&self) -> u64 {
        self.touched | 1 << GLOBAL
    }

    pub fn commit(mut self) -> Result<()> {
        if self.changes == 0 {
            self.abort();
            return Ok(());
        }
        self.ensure_room(0)?;
        crash_point("store.written");
        let done = self.transaction.commit();
        self.env.lift_limit();
        done.map_err(|error| self.env.explain_full(error))
    }

    pub fn abort(self) {
        self.transaction.abort();
        self.env.lift_limit();
    }

    /// It was inherited by a fork, and is another process's.
    pub fn forget(self) {
        self.transaction.forget();
    }
}
