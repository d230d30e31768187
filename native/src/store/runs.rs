//! Runs: many small items of a sequence in one record, which lies at the position of the first. The keys
//! of a mapping's order are such items too, at their sequence numbers.
//!
//! ```text
//! | 13 | len:16 item | len:16 item ...
//! ```
//! What comes in bulk is stored so. A run has no links. An item that is changed or taken is first put
//! into a record of its own, with some of its neighbours: what follows is likely to be among them.

use super::encoding::tag;
use super::lmdb::{Reading, Record};
use super::records::{keyed, number_in, prefix, POSITION};
use super::transaction::Writing;
use super::{nested, Error, Result};
use std::ops::Range;

/// Bytes of a run: LMDB puts two such records on a page of 4096 bytes.
const LONGEST: usize = 1900;
const LONGEST_ITEM: usize = 256;
/// Fewer items are no run.
const LEAST: usize = 4;
/// How many items get a record of their own together.
const BLOCK: usize = 16;

#[inline]
pub fn is_run(record: &[u8]) -> bool {
    record.first() == Some(&tag::RUN)
}

/// The items in a record, be it a run or an item alone.
pub struct Items<'a> {
    alone: Option<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return self.alone.take().map(Ok);
        }
        let found = self
            .rest
            .split_first_chunk()
            .and_then(|(len, rest)| rest.split_at_checked(usize::from(u16::from_le_bytes(*len))));
        let Some((item, rest)) = found else {
            self.rest = &[];
            return Some(Err(Error::corrupt("a run that ends in the middle of an item")));
        };
        self.rest = rest;
        Some(Ok(item))
    }
}

#[inline]
pub fn items(record: &[u8]) -> Items<'_> {
    if is_run(record) {
        // A run of nothing is damage, and as long as an item that is cut.
        let rest = if record.len() > 1 { &record[1..] } else { record };
        return Items { alone: None, rest };
    }
    Items { alone: Some(record), rest: &[] }
}

/// An item of a record.
#[inline]
pub fn nth(record: &[u8], index: u64) -> Result<&[u8]> {
    let missing = || Error::corrupt("an item is missing");
    items(record).nth(usize::try_from(index).map_err(|_| missing())?).ok_or_else(missing)?
}

/// The record that has an item, and the position of its first one.
#[inline]
pub fn record_at<'t>(
    reading: &Reading<'t>,
    (number, record_type): (u64, u8),
    position: u64,
) -> Result<(u64, &'t [u8])> {
    let record = reading.cursor()?.seek_back(&keyed(number, record_type, position))?;
    of_sequence(record, (number, record_type))
}

/// The last record in front of a position.
pub fn record_before<'t>(
    reading: &Reading<'t>,
    (number, record_type): (u64, u8),
    position: u64,
) -> Result<(u64, &'t [u8])> {
    let record = reading.cursor()?.seek_before(&keyed(number, record_type, position))?;
    of_sequence(record, (number, record_type))
}

fn of_sequence<'t>(
    record: Option<Record<'t>>,
    (number, record_type): (u64, u8),
) -> Result<(u64, &'t [u8])> {
    match record.filter(|(key, _)| key.starts_with(&prefix(number, record_type))) {
        Some((key, record)) => Ok((number_in(key, 9)?, record)),
        None => Err(Error::corrupt("an item is missing")),
    }
}

/// Show the items from a position on with their positions, as long as they are wanted.
pub fn walk<'t>(
    reading: &Reading<'t>,
    (number, record_type): (u64, u8),
    from: u64,
    mut each: impl FnMut(u64, &'t [u8]) -> Result<bool>,
) -> Result<()> {
    let (begin, start) = (prefix(number, record_type), keyed(number, record_type, from));
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&start)?;
    if record.is_none_or(|(key, _)| *key != start) {
        // Perhaps it is in a run that begins before.
        record = cursor.seek_back(&start)?.filter(|(key, _)| key.starts_with(&begin));
        if record.is_none() {
            record = cursor.seek(&start)?;
        }
    }
    while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        for (position, item) in (number_in(key, 9)?..).zip(items(found)) {
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
    (number, record_type): (u64, u8),
    before: u64,
    mut each: impl FnMut(u64, &'t [u8]) -> Result<bool>,
) -> Result<()> {
    let begin = prefix(number, record_type);
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek_before(&keyed(number, record_type, before))?;
    while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        let first = number_in(key, 9)?;
        let items = items(found).collect::<Result<Vec<_>>>()?;
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

/// Writes the items of a sequence, or of an order, at one position after the other.
pub struct Writer {
    number: u64,
    record_type: u8,
    /// Where the run begins that is not written yet.
    position: u64,
    count: usize,
    run: Vec<u8>,
}

impl Writer {
    pub fn new((number, record_type): (u64, u8), position: u64) -> Self {
        Self { number, record_type, position, count: 0, run: Vec::new() }
    }

    /// Write a stored value.
    #[inline]
    pub fn push(&mut self, writing: &mut Writing, value: &[u8]) -> Result<()> {
        let fits = nested::is_simple(value) && writing.has_runs();
        self.write(writing, value, fits)
    }

    /// Write a key of an order.
    #[inline]
    pub fn push_key(&mut self, writing: &mut Writing, canonical: &[u8]) -> Result<()> {
        let fits = writing.has_order_runs();
        self.write(writing, canonical, fits)
    }

    #[inline]
    fn write(&mut self, writing: &mut Writing, item: &[u8], fits: bool) -> Result<()> {
        if !fits || item.len() > LONGEST_ITEM {
            self.finish(writing)?;
            self.position += 1;
            return writing.put(&keyed(self.number, self.record_type, self.position - 1), &[item]);
        }
        if self.run.len() + 2 + item.len() > LONGEST {
            self.finish(writing)?;
        }
        if self.run.is_empty() {
            self.run.push(tag::RUN);
        }
        self.run.extend_from_slice(&(item.len() as u16).to_le_bytes());
        self.run.extend_from_slice(item);
        self.count += 1;
        Ok(())
    }

    /// Write what is left.
    pub fn finish(&mut self, writing: &mut Writing) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        let of = (self.number, self.record_type);
        if self.count >= LEAST {
            writing.put(&keyed(of.0, of.1, self.position), &[&run])?;
        } else if self.count > 0 {
            write_alone(writing, of, self.position, items(&run))?;
        }
        self.position += self.count as u64;
        self.count = 0;
        self.run = run;
        self.run.clear();
        Ok(())
    }
}

fn write_alone<'a>(
    writing: &mut Writing,
    (number, record_type): (u64, u8),
    first: u64,
    items: impl Iterator<Item = Result<&'a [u8]>>,
) -> Result<()> {
    for (position, item) in (first..).zip(items) {
        writing.put(&keyed(number, record_type, position), &[item?])?;
    }
    Ok(())
}

fn write_run(writing: &mut Writing, number: u64, first: u64, items: &[&[u8]]) -> Result<()> {
    let mut writer = Writer::new((number, POSITION), first);
    items.iter().try_for_each(|item| writer.push(writing, item))?;
    writer.finish(writing)
}

/// Put some items of a run into records of their own. The run is at `first`; it is a copy.
pub fn write_apart(
    writing: &mut Writing,
    number: u64,
    first: u64,
    run: &[u8],
    alone: Range<usize>,
) -> Result<()> {
    let items = items(run).collect::<Result<Vec<_>>>()?;
    let (from, to) = (alone.start.min(items.len()), alone.end.min(items.len()));
    write_run(writing, number, first, &items[..from])?;
    let between = items[from..to].iter().map(|item| Ok(*item));
    write_alone(writing, (number, POSITION), first + from as u64, between)?;
    write_run(writing, number, first + to as u64, &items[to..])
}

/// Give an item of a run a record of its own, and its neighbours too.
pub fn isolate(
    writing: &mut Writing,
    number: u64,
    first: u64,
    run: &[u8],
    index: u64,
) -> Result<()> {
    let begin = index as usize / BLOCK * BLOCK;
    write_apart(writing, number, first, run, begin..begin + BLOCK)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_nothing_is_damage_and_moves_no_walk_on_for_ever() {
        assert!(items(&[tag::RUN]).next().is_some_and(|item| item.is_err()));
        assert_eq!(items(&[tag::RUN]).count(), 1);
    }
}
