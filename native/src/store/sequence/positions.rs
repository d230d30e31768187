//! Where the items of a sequence are: walks over them, and how they move.

use crate::store::lmdb::Reading;
use crate::store::records::{keyed, number_in, prefix, Head, POSITION};
use crate::store::transaction::Writing;
use crate::store::{copied, runs, Error, Result};

/// The record that has an item, and the position of its first one.
#[inline]
fn record_at<'t>(reading: &Reading<'t>, number: u64, position: u64) -> Result<(u64, &'t [u8])> {
    match reading.get(&keyed(number, POSITION, position))? {
        Some(record) => Ok((position, record)),
        None => run_around(reading, number, position),
    }
}

fn run_around<'t>(reading: &Reading<'t>, number: u64, position: u64) -> Result<(u64, &'t [u8])> {
    let record = reading.cursor()?.seek_before(&keyed(number, POSITION, position))?;
    match record.filter(|(key, _)| key.starts_with(&prefix(number, POSITION))) {
        Some((key, record)) => Ok((number_in(key, 9)?, record)),
        None => Err(Error::corrupt("an item is missing")),
    }
}

#[inline]
pub fn at<'t>(reading: &Reading<'t>, number: u64, position: u64) -> Result<&'t [u8]> {
    let (first, record) = record_at(reading, number, position)?;
    runs::nth(record, position - first)
}

/// A copy of an item, which has a record of its own from now on.
pub fn take_apart(writing: &mut Writing, number: u64, position: u64) -> Result<Vec<u8>> {
    let (first, record) = record_at(&writing.reading(), number, position)?;
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
    let (first, record) = record_at(&writing.reading(), number, position)?;
    if first == position {
        return Ok(());
    }
    let (run, index) = (copied(record)?, (position - first) as usize);
    runs::write_apart(writing, number, first, &run, index..index)
}

/// Show the items from a position on with their positions, as long as they are wanted.
pub fn walk<'t>(
    reading: &Reading<'t>,
    number: u64,
    from: u64,
    mut each: impl FnMut(u64, &'t [u8]) -> Result<bool>,
) -> Result<()> {
    let (begin, start) = (prefix(number, POSITION), keyed(number, POSITION, from));
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&start)?;
    if record.is_none_or(|(key, _)| *key != start) {
        // Perhaps it is in a run that begins before.
        record = cursor.seek_before(&start)?.filter(|(key, _)| key.starts_with(&begin));
        if record.is_none() {
            record = cursor.seek(&start)?;
        }
    }
    while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        for (position, item) in (number_in(key, 9)?..).zip(runs::items(found)) {
            let item = item?;
            if position >= from && !each(position, item)? {
                return Ok(());
            }
        }
        record = cursor.following()?;
    }
    Ok(())
}

/// The same from behind, from the last item in front of a position.
pub fn walk_back<'t>(
    reading: &Reading<'t>,
    number: u64,
    before: u64,
    mut each: impl FnMut(u64, &'t [u8]) -> Result<bool>,
) -> Result<()> {
    let begin = prefix(number, POSITION);
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek_before(&keyed(number, POSITION, before))?;
    while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        let first = number_in(key, 9)?;
        let items = runs::items(found).collect::<Result<Vec<_>>>()?;
        for (index, item) in items.into_iter().enumerate().rev() {
            let position = first + index as u64;
            if position < before && !each(position, item)? {
                return Ok(());
            }
        }
        record = cursor.previous()?;
    }
    Ok(())
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
            record_at(&writing.reading(), number, from)?
        } else {
            run_around(&writing.reading(), number, to)?
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
