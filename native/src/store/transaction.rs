//! A transaction that writes, with all that its operations share.

use super::change_words::{ChangeWords, GLOBAL};
use super::lmdb::{Env, Reading, WriteTransaction};
use super::records::{prefix, Head, Meta, HEAD, HEAD_LEN, META};
use super::{kind, Error, Result};
use crate::testing::crash_points::crash_point;
use std::sync::Arc;

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
    exists(number)?;
    let record = reading.get(&prefix(number, HEAD))?.ok_or(Error::Gone(number))?;
    let head = Head::read(record)?;
    if head.has(Head::FREEING) {
        return Err(Error::Gone(number));
    }
    Ok(head)
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
}

impl Writing {
    pub fn begin(env: &Arc<Env>) -> Result<Self> {
        env.lift_limit();
        let (transaction, env) = (env.begin_writing()?, env.clone());
        env.limit_map_to_reserved(false);
        let (is_last_room, frees) = (false, false);
        Ok(Self { transaction, env, is_last_room, frees, touched: 0, changes: 0, tickets: 0 })
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
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<u64> {
        const STEP: u64 = 64;
        self.will_free();
        let mut done = 0;
        while done < most {
            self.ensure_room(STEP as usize * self.env.reservation.page as usize)?;
            let step = STEP.min(most - done);
            let now = self.transaction.delete_range(begin, step, &mut each);
            let now = now.map_err(|error| self.env.explain_full(error))?;
            self.changes += now;
            done += now;
            if now < step {
                break;
            }
        }
        Ok(done)
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
