//! Many items of a mapping that are read at once: copies, to be decoded when no transaction is under way.

use super::encoding::keys::{form, Canonical};
use super::lmdb::Reading;
use super::mapping::order;
use super::records::{prefix, Item, ITEM};
use super::{kind, packed, transaction, Error, Result};

/// Items, one behind the other in one buffer.
#[derive(Default)]
pub struct Entries {
    bytes: Vec<u8>,
    /// Where the canonical key ends, the original and the value.
    ends: Vec<[usize; 3]>,
    pub is_set: bool,
}

impl Entries {
    #[inline]
    fn push(&mut self, parts: [&[u8]; 3]) -> Result<()> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.bytes.try_reserve(len).map_err(|_| Error::Memory)?;
        self.ends.push(parts.map(|part| {
            self.bytes.extend_from_slice(part);
            self.bytes.len()
        }));
        Ok(())
    }

    /// Canonical key, original and value of each; empty where they were not wanted.
    pub fn iter(&self) -> impl Iterator<Item = [&[u8]; 3]> {
        let mut begin = 0;
        self.ends.iter().map(move |&[canonical, original, value]| {
            let from = std::mem::replace(&mut begin, value);
            [
                &self.bytes[from..canonical],
                &self.bytes[canonical..original],
                &self.bytes[original..value],
            ]
        })
    }
}

/// What is wanted of each item.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub keys: bool,
    pub values: bool,
}

/// All items of a mapping, in their order.
pub fn entries(reading: &Reading<'_>, number: u64, wanted: Wanted) -> Result<Entries> {
    let head = transaction::mapping(reading, number)?;
    let mut entries = Entries { is_set: head.kind == kind::SET, ..Entries::default() };
    let wanted = if entries.is_set { Wanted { keys: true, values: false } } else { wanted };
    let mut push = |canonical: &[u8], item: &Item<'_>| {
        let (canonical, original) =
            if wanted.keys { (canonical, item.original) } else { (&[][..], &[][..]) };
        let value = if wanted.values { item.value } else { &[] };
        entries.push([canonical, original, value])
    };
    if let Some(packed) = packed::contents(reading, number)? {
        packed::items(packed)
            .try_for_each(|found| found.and_then(|(key, item)| push(key, &item)))?;
    } else {
        order::all(reading, number)?.iter().try_for_each(|(key, item)| push(key, item))?;
    }
    Ok(entries)
}

/// Copies of values, in the order in which they were asked for.
#[derive(Default)]
pub struct Found {
    bytes: Vec<u8>,
    places: Vec<Option<(usize, usize)>>,
}

impl Found {
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.places.iter().map(|place| place.map(|(from, to)| &self.bytes[from..to]))
    }
}

/// The values of many keys, of which the canonical forms are given. Looked up in the order of the
/// store, in which each is near the last one.
pub fn get_many(reading: &Reading<'_>, number: u64, keys: &[&[u8]]) -> Result<Found> {
    let head = transaction::mapping(reading, number)?;
    if head.kind == kind::SET {
        return Err(Error::WrongKind(kind::SET));
    }
    let packed = packed::contents(reading, number)?;
    let mut cursor = reading.cursor()?;
    let mut found = Found { bytes: Vec::new(), places: vec![None; keys.len()] };
    let mut key = Canonical::of(form::NONE, &[]);
    let mut sorted: Vec<usize> = (0..keys.len()).collect();
    sorted.sort_unstable_by_key(|&index| keys[index]);
    for index in sorted {
        let item = match packed {
            Some(packed) => packed::find(packed, keys[index])?,
            None => {
                key.assign(keys[index]);
                cursor.exact(key.behind(&prefix(number, ITEM)))?.map(Item::read).transpose()?
            }
        };
        if let Some(item) = item {
            let from = found.bytes.len();
            found.bytes.try_reserve(item.value.len()).map_err(|_| Error::Memory)?;
            found.bytes.extend_from_slice(item.value);
            found.places[index] = Some((from, found.bytes.len()));
        }
    }
    Ok(found)
}
