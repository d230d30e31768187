//! What dicts, sets, namespaces and counters are made of: items under canonical keys, in the order
//! in which they came.

use super::encoding::keys::{to_value, Canonical, Key};
use super::encoding::{integers, Link};
use super::lmdb::{Near, Reading};
use super::records::{prefix, Head, Item, HEAD, ITEM, ORDER};
use super::transaction::{self, Writing};
use super::{copied, kind, nested, packed, Error, Result};

mod inserter;
pub mod order;

pub use inserter::{update, Inserter};

/// The item of a key; nothing if there is none. The caller has not looked at the head.
#[inline]
pub fn find<'t>(
    reading: &Reading<'t>,
    number: u64,
    canonical: &mut Canonical,
) -> Result<Option<Item<'t>>> {
    find_where(reading, number, canonical).map(|found| found.map(|(item, _)| item))
}

/// The same, and whether the mapping is packed.
#[inline]
fn find_where<'t>(
    reading: &Reading<'t>,
    number: u64,
    canonical: &mut Canonical,
) -> Result<Option<(Item<'t>, bool)>> {
    transaction::exists(number)?;
    let place = canonical.behind(&prefix(number, ITEM));
    // In front of the items is the head, where a packed mapping has them: one search for both.
    let record = match reading.cursor()?.seek_back(place)? {
        Some((key, record)) if key == place => return Ok(Some((Item::read(record)?, false))),
        Some((key, record)) if *key == prefix(number, HEAD) => Some(record),
        _ => None,
    };
    let (head, behind) = match record {
        Some(record) => transaction::living_head(record, number)?,
        None => transaction::head_record(reading, number)?,
    };
    if !kind::is_mapping(head.kind) {
        return Err(Error::WrongKind(head.kind));
    }
    if head.has(Head::PACKED) {
        return Ok(packed::find(behind, canonical.bytes())?.map(|item| (item, true)));
    }
    Ok(None)
}

/// The value of a key; it must not be a set's.
#[inline]
pub fn get<'t>(
    reading: &Reading<'t>,
    number: u64,
    canonical: &mut Canonical,
) -> Result<Option<&'t [u8]>> {
    match find(reading, number, canonical)? {
        Some(item) if item.value.is_empty() => Err(Error::WrongKind(kind::SET)),
        Some(item) => Ok(Some(item.value)),
        None => Ok(None),
    }
}

/// What an item was before it is changed.
struct Old {
    seq: u64,
    original: Vec<u8>,
    value: Vec<u8>,
}

impl Old {
    fn of(item: &Item<'_>) -> Result<Self> {
        let (seq, original) = (item.seq, copied(item.original)?);
        Ok(Self { seq, original, value: copied(item.value)? })
    }
}

/// A mapping whose item this is, is packed no more.
fn old(writing: &mut Writing, number: u64, canonical: &mut Canonical) -> Result<Option<Old>> {
    let reading = writing.reading();
    let Some((item, is_packed)) = find_where(&reading, number, canonical)? else {
        return Ok(None);
    };
    if is_packed {
        packed::unpack(writing, number)?;
        return old(writing, number, canonical);
    }
    Old::of(&item).map(Some)
}

fn put_item(
    writing: &mut Writing,
    number: u64,
    canonical: &mut Canonical,
    (seq, original): (u64, &[u8]),
    value: &[u8],
) -> Result<()> {
    let record = canonical.behind(&prefix(number, ITEM));
    writing.put(record, &[&Item::head(seq, original.len()), original, value])
}

/// A key that is new, with a value that is stored.
fn insert(writing: &mut Writing, number: u64, key: &mut Key, value: &[u8]) -> Result<()> {
    let mut inserter = Inserter::new(writing, number)?;
    inserter.insert(writing, key, value)?;
    inserter.finish(writing)
}

/// Add to a set; false if it is there already.
pub fn put_member(writing: &mut Writing, number: u64, key: &mut Key) -> Result<bool> {
    match find(&writing.reading(), number, &mut key.canonical)? {
        Some(item) if !item.value.is_empty() => {
            let head = transaction::mapping(&writing.reading(), number)?;
            Err(Error::WrongKind(head.kind))
        }
        Some(_) => Ok(false),
        None => insert(writing, number, key, &[]).map(|()| true),
    }
}

/// Raise before anything is written if this is no place for a value.
pub fn check_takes_values(writing: &Writing, number: u64) -> Result<()> {
    match transaction::mapping(&writing.reading(), number)?.kind {
        kind::SET => Err(Error::WrongKind(kind::SET)),
        _ => Ok(()),
    }
}

#[inline]
pub fn set(writing: &mut Writing, number: u64, key: &mut Key, value: &[u8]) -> Result<()> {
    transaction::exists(number)?;
    let place = key.canonical.behind(&prefix(number, ITEM));
    let found = writing.get_near(Near::Item, place)?.map(Item::read).transpose()?;
    if let Some(item) = found.filter(Item::is_simple).filter(|_| nested::is_simple(value)) {
        // The cursor stands where it is written: one search in all.
        let begin = Item::head(item.seq, 0);
        writing.touch(number);
        return writing.replace_near(Near::Item, place, &[&begin, value]);
    }
    match find(&writing.reading(), number, &mut key.canonical)? {
        None => set_new(writing, number, key, value),
        Some(item) if item.value.is_empty() => Err(Error::WrongKind(kind::SET)),
        Some(_) => replace(writing, number, &mut key.canonical, value),
    }
}

fn set_new(writing: &mut Writing, number: u64, key: &mut Key, value: &[u8]) -> Result<()> {
    if nested::is_simple(value) {
        return insert(writing, number, key, value);
    }
    check_takes_values(writing, number)?;
    let stored = nested::materialize(writing, value)?;
    insert(writing, number, key, &stored)
}

fn replace(
    writing: &mut Writing,
    number: u64,
    canonical: &mut Canonical,
    value: &[u8],
) -> Result<()> {
    let old = old(writing, number, canonical)?.ok_or(Error::Missing)?;
    if let Some(stored) = nested::replace_value(writing, &old.value, value)? {
        put_item(writing, number, canonical, (old.seq, &old.original), &stored)?;
    }
    writing.touch(number);
    Ok(())
}

/// Take an item out; what it was. What hangs below its value is not yet let go.
fn take(writing: &mut Writing, number: u64, canonical: &mut Canonical) -> Result<Old> {
    writing.will_free();
    let old = old(writing, number, canonical)?.ok_or(Error::Missing)?;
    let mut head = transaction::mapping(&writing.reading(), number)?;
    head.len -= 1;
    writing.delete(canonical.behind(&prefix(number, ITEM)))?;
    order::remove(writing, number, old.seq)?;
    writing.put_head(number, head)?;
    writing.touch(number);
    Ok(old)
}

pub fn delete(writing: &mut Writing, number: u64, key: &mut Key) -> Result<()> {
    let old = take(writing, number, &mut key.canonical)?;
    nested::release(writing, &old.value)
}

/// The value that was taken out, a child of it as a plain container.
pub fn pop(writing: &mut Writing, number: u64, key: &mut Key) -> Result<Vec<u8>> {
    check_takes_values(writing, number)?;
    let old = take(writing, number, &mut key.canonical)?;
    let plain = nested::to_plain(&writing.reading(), &old.value)?;
    nested::release(writing, &old.value)?;
    Ok(plain)
}

/// The first or the last item: its key as a value, and its value.
pub fn pop_item(writing: &mut Writing, number: u64, last: bool) -> Result<(Vec<u8>, Vec<u8>)> {
    packed::unpack(writing, number)?;
    let head = transaction::mapping(&writing.reading(), number)?;
    let Some((_, canonical)) = order::end(&writing.reading(), number, last)? else {
        return Err(Error::Empty(if head.kind == kind::SET {
            "pop from an empty set"
        } else {
            "popitem(): dictionary is empty"
        }));
    };
    let mut canonical = Canonical::from_bytes(canonical)?;
    let old = take(writing, number, &mut canonical)?;
    let plain = nested::to_plain(&writing.reading(), &old.value)?;
    nested::release(writing, &old.value)?;
    Ok((to_value(canonical.bytes(), &old.original)?, plain))
}

/// The value that is there, or that was put there: true if it was.
pub fn set_default(
    writing: &mut Writing,
    number: u64,
    key: &mut Key,
    value: &[u8],
) -> Result<Vec<u8>> {
    if let Some(value) = get(&writing.reading(), number, &mut key.canonical)? {
        return copied(value);
    }
    check_takes_values(writing, number)?;
    let stored = nested::materialize(writing, value)?;
    insert(writing, number, key, &stored)?;
    Ok(stored.into_owned())
}

/// Add to the number that is there, or to `initial`; the sum.
pub fn add(
    writing: &mut Writing,
    number: u64,
    key: &mut Key,
    delta: &[u8],
    initial: Option<&[u8]>,
) -> Result<Vec<u8>> {
    let Some((item, is_packed)) = find_where(&writing.reading(), number, &mut key.canonical)?
    else {
        check_takes_values(writing, number)?;
        let sum = integers::sum(initial.ok_or(Error::Missing)?, delta)?;
        insert(writing, number, key, &sum)?;
        return Ok(sum);
    };
    if item.value.is_empty() {
        return Err(Error::WrongKind(kind::SET));
    }
    let sum = integers::sum(item.value, delta)?;
    let (seq, original) = (item.seq, copied(item.original)?);
    if is_packed {
        packed::unpack(writing, number)?;
    }
    put_item(writing, number, &mut key.canonical, (seq, &original), &sum)?;
    writing.touch(number);
    Ok(sum)
}

/// Set a key, or delete it, if what is stored there is what is expected.
pub fn compare_and_set(
    writing: &mut Writing,
    number: u64,
    key: &mut Key,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<bool> {
    check_takes_values(writing, number)?;
    let found = find(&writing.reading(), number, &mut key.canonical)?;
    if found.map(|item| item.value) != expected {
        return Ok(false);
    }
    match (expected, value) {
        (None, None) => {}
        (_, Some(value)) => set(writing, number, key, value)?,
        (Some(_), None) => delete(writing, number, key)?,
    }
    Ok(true)
}

/// Delete records of a mapping's items, so many at most; its head is the caller's. In the order of
/// their keys, not in their own: so a page is gone before the next one is touched.
pub fn delete_all(writing: &mut Writing, number: u64, most: u64) -> Result<u64> {
    let mut links = Vec::new();
    let items = writing.delete_range(&prefix(number, ITEM), most, |_, record| {
        links.extend(Link::of(Item::read(record)?.value));
        Ok(())
    })?;
    let order = writing.delete_range(&prefix(number, ORDER), most - items, |_, _| Ok(()))?;
    links.into_iter().try_for_each(|link| nested::release_link(writing, link))?;
    Ok(items + order)
}

pub fn clear(writing: &mut Writing, number: u64, mut head: Head) -> Result<()> {
    packed::unpack(writing, number)?;
    delete_all(writing, number, u64::MAX)?;
    head.len = 0;
    keep_links(writing, number, &mut head)?;
    writing.put_head(number, head)
}

/// What was let go may have referred to this very container.
pub fn keep_links(writing: &Writing, number: u64, head: &mut Head) -> Result<()> {
    let now = writing.head(number)?;
    (head.refs, head.flags) = (now.refs, now.flags);
    Ok(())
}
