//! Runs: many small items of a sequence in one record, which lies at the position of the first.
//!
//! ```text
//! | 13 | len:16 item | len:16 item ...
//! ```
//! What comes in bulk is stored so. A run has no links. An item that is changed or taken is first put
//! into a record of its own, with some of its neighbours: what follows is likely to be among them.

use super::encoding::tag;
use super::records::{keyed, POSITION};
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

/// Writes the items of a sequence at one position after the other.
pub struct Writer {
    number: u64,
    /// Where the run begins that is not written yet.
    position: u64,
    count: usize,
    run: Vec<u8>,
}

impl Writer {
    pub fn new(number: u64, position: u64) -> Self {
        Self { number, position, count: 0, run: Vec::new() }
    }

    /// Write a stored value.
    #[inline]
    pub fn push(&mut self, writing: &mut Writing, value: &[u8]) -> Result<()> {
        if value.len() > LONGEST_ITEM || !nested::is_simple(value) || !writing.has_runs() {
            self.finish(writing)?;
            self.position += 1;
            return writing.put(&keyed(self.number, POSITION, self.position - 1), &[value]);
        }
        if self.run.len() + 2 + value.len() > LONGEST {
            self.finish(writing)?;
        }
        if self.run.is_empty() {
            self.run.push(tag::RUN);
        }
        self.run.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.run.extend_from_slice(value);
        self.count += 1;
        Ok(())
    }

    /// Write what is left.
    pub fn finish(&mut self, writing: &mut Writing) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        if self.count >= LEAST {
            writing.put(&keyed(self.number, POSITION, self.position), &[&run])?;
        } else if self.count > 0 {
            write_alone(writing, self.number, self.position, items(&run))?;
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
    number: u64,
    first: u64,
    items: impl Iterator<Item = Result<&'a [u8]>>,
) -> Result<()> {
    for (position, item) in (first..).zip(items) {
        writing.put(&keyed(number, POSITION, position), &[item?])?;
    }
    Ok(())
}

fn write_run(writing: &mut Writing, number: u64, first: u64, items: &[&[u8]]) -> Result<()> {
    let mut writer = Writer::new(number, first);
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
    write_alone(writing, number, first + from as u64, between)?;
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
