//! Where the items of a sequence are, and how they move.

use crate::store::lmdb::Reading;
use crate::store::records::{keyed, Head, POSITION};
use crate::store::runs::{record_at, record_before};
use crate::store::transaction::Writing;
use crate::store::{copied, runs, Result};

#[inline]
pub fn at<'t>(reading: &Reading<'t>, number: u64, position: u64) -> Result<&'t [u8]> {
    let (first, record) = record_at(reading, (number, POSITION), position)?;
    runs::nth(record, position - first)
}

/// A copy of an item, which has a record of its own from now on.
pub fn take_apart(writing: &mut Writing, number: u64, position: u64) -> Result<Vec<u8>> {
    let (first, record) = record_at(&writing.reading(), (number, POSITION), position)?;
    let item = copied(runs::nth(record, position - first)?)?;
    if runs::is_run(record) {
        let run = copied(record)?;
        runs::isolate(writing, number, first, &run, position - first)?;
    }
    Ok(item)
}

/// Have a record begin at a position.
pub fn cut_at(writing: &mut Writing, number: u64, head: &Head, position: u64) -> Result<()> {
    if position <= head.next || position >= head.next + head.len {
        return Ok(());
    }
    let (first, record) = record_at(&writing.reading(), (number, POSITION), position)?;
    if first == position {
        return Ok(());
    }
    let (run, index) = (copied(record)?, (position - first) as usize);
    runs::write_apart(writing, number, first, &run, index..index)
}

/// Move the items from `from` to `to` by `by` positions, beginning at the end to which they move. No
/// run lies across one of the ends.
fn shift(writing: &mut Writing, number: u64, from: u64, to: u64, by: i64) -> Result<()> {
    if has_runs(&writing.reading(), number, from, to)? {
        return shift_records(writing, number, from, to, by);
    }
    let mut one = |at: u64| {
        let value = copied(self::at(&writing.reading(), number, at)?)?;
        let target = at.wrapping_add(by as u64);
        writing.put(&keyed(number, POSITION, target), &[&value])
    };
    let gone = if by < 0 {
        (from..to).try_for_each(&mut one)?;
        to.wrapping_add(by as u64).max(from)..to
    } else {
        (from..to).rev().try_for_each(&mut one)?;
        from..to.min(from + by as u64)
    };
    gone.into_iter().try_for_each(|at| delete(writing, number, at))
}

fn has_runs(reading: &Reading<'_>, number: u64, from: u64, to: u64) -> Result<bool> {
    let end = keyed(number, POSITION, to);
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&keyed(number, POSITION, from))?;
    while let Some((_, found)) = record.filter(|(key, _)| **key < end[..]) {
        if runs::is_run(found) {
            return Ok(true);
        }
        record = cursor.following()?;
    }
    Ok(false)
}

/// Move records as they are, each out of the way of the next.
fn shift_records(writing: &mut Writing, number: u64, from: u64, to: u64, by: i64) -> Result<()> {
    let (mut from, mut to) = (from, to);
    while from < to {
        let (first, record) = if by < 0 {
            record_at(&writing.reading(), (number, POSITION), from)?
        } else {
            record_before(&writing.reading(), (number, POSITION), to)?
        };
        let record = copied(record)?;
        writing.delete(&keyed(number, POSITION, first))?;
        writing.put(&keyed(number, POSITION, first.wrapping_add(by as u64)), &[&record])?;
        if by < 0 {
            from += runs::items(&record).count() as u64;
        } else {
            to = first;
        }
    }
    Ok(())
}

/// Make the place of `had` items, whose records are gone, one for `has` items: the shorter side moves.
/// The head is not written.
pub fn resize_gap(
    writing: &mut Writing,
    number: u64,
    head: &mut Head,
    at: u64,
    (had, has): (u64, u64),
) -> Result<()> {
    let (first, end) = (head.next, head.next + head.len);
    let by = has.wrapping_sub(had);
    if had == has {
        return Ok(());
    }
    if at < head.len - at - had {
        shift(writing, number, first, first + at, by.wrapping_neg() as i64)?;
        head.next = head.next.wrapping_sub(by);
    } else {
        shift(writing, number, first + at + had, end, by as i64)?;
    }
    head.len = head.len.wrapping_add(by);
    Ok(())
}

pub fn delete(writing: &mut Writing, number: u64, position: u64) -> Result<()> {
    writing.delete(&keyed(number, POSITION, position)).map(|_| ())
}
