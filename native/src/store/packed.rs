//! Packed mappings: a small dict or set that was stored in another, all in one record.
//!
//! ```text
//! head | canonical:16 original:16 value:16  canonical key  original key  value | ...
//! ```
//! The items lie in their order, and have no links. The first change writes them as any other
//! mapping's (`unpack`).

use super::encoding::keys::{Canonical, Key};
use super::encoding::trees::Tree;
use super::lmdb::Reading;
use super::records::{prefix, Head, Item, HEAD, ITEM, ORDER};
use super::transaction::{head_record, Writing};
use super::{copied, kind, nested, runs, Error, Result};

/// Bytes of the items, with which two records fit on a page.
const LONGEST: usize = 1800;
/// Items that are looked through for a key.
const MOST: usize = 24;

/// The items of a packed mapping, each with its canonical key.
pub struct Items<'a> {
    rest: &'a [u8],
    seq: u64,
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<(&'a [u8], Item<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((canonical, original, value, rest)) = first(self.rest) else {
            self.rest = &[];
            return Some(Err(Error::corrupt("a packed mapping ends too soon")));
        };
        self.rest = rest;
        self.seq += 1;
        Some(Ok((canonical, Item { seq: self.seq - 1, original, value })))
    }
}

type First<'a> = (&'a [u8], &'a [u8], &'a [u8], &'a [u8]);

fn first(bytes: &[u8]) -> Option<First<'_>> {
    let (lengths, rest) = bytes.split_first_chunk::<6>()?;
    let length = |at: usize| usize::from(u16::from_le_bytes([lengths[at], lengths[at + 1]]));
    let (canonical, rest) = rest.split_at_checked(length(0))?;
    let (original, rest) = rest.split_at_checked(length(2))?;
    let (value, rest) = rest.split_at_checked(length(4))?;
    Some((canonical, original, value, rest))
}

/// The items behind a head.
pub fn items(packed: &[u8]) -> Items<'_> {
    Items { rest: packed, seq: 0 }
}

pub fn find<'a>(packed: &'a [u8], canonical: &[u8]) -> Result<Option<Item<'a>>> {
    for found in items(packed) {
        let (key, item) = found?;
        if key == canonical {
            return Ok(Some(item));
        }
    }
    Ok(None)
}

/// The items of a mapping that is packed.
pub fn contents<'t>(reading: &Reading<'t>, number: u64) -> Result<Option<&'t [u8]>> {
    let (head, behind) = head_record(reading, number)?;
    Ok(head.has(Head::PACKED).then_some(behind))
}

/// Pack a dict or set; nothing if it is too large for that, or has links.
pub fn pack(mut tree: Tree<'_>) -> Result<Option<Vec<u8>>> {
    if !matches!(tree.kind, kind::DICT | kind::SET) || tree.count > MOST {
        return Ok(None);
    }
    let (mut packed, mut canonical) = (Vec::new(), Vec::new());
    for _ in 0..tree.count {
        let key = tree.take()?;
        let value: &[u8] = if tree.kind == kind::SET { &[] } else { tree.take()? };
        if packed.len() + key.len() + value.len() > LONGEST
            || !(value.is_empty() || nested::is_simple(value))
        {
            return Ok(None);
        }
        let original = Key::split_value(key, &mut canonical)?;
        let (canonical, original) = (&canonical[..], &original[..]);
        // Two keys of a dict can be one here, as objects with the same state are.
        if packed.len() + canonical.len() + original.len() + value.len() > LONGEST
            || find(&packed, canonical)?.is_some()
        {
            return Ok(None);
        }
        for part in [canonical, original, value] {
            packed.extend_from_slice(&(part.len() as u16).to_le_bytes());
        }
        for part in [canonical, original, value] {
            packed.extend_from_slice(part);
        }
    }
    tree.finish()?;
    Ok(Some(packed))
}

/// Write the items of a mapping, which may be packed, as records.
pub fn unpack(writing: &mut Writing, number: u64) -> Result<()> {
    let reading = writing.reading();
    let (mut head, packed) = head_record(&reading, number)?;
    if !head.has(Head::PACKED) {
        return Ok(());
    }
    let packed = copied(packed)?;
    head.set(Head::PACKED, false);
    writing.put(&prefix(number, HEAD), &[&head.to_bytes()])?;
    let mut order = runs::Writer::new((number, ORDER), 0);
    for found in items(&packed) {
        let (key, item) = found?;
        let mut canonical = Canonical::from_bytes(key)?;
        let record = canonical.behind(&prefix(number, ITEM));
        let begin = Item::head(item.seq, item.original.len());
        writing.put(record, &[&begin, item.original, item.value])?;
        order.push_key(writing, key)?;
    }
    order.finish(writing)
}
