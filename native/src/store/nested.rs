//! What is below a value: children that belong to it, and containers that it refers to.

pub use super::encoding::is_simple;
use super::encoding::trees::{Builder, Tree};
use super::encoding::{check, child, keys, tag, Link, DEPTH};
use super::lmdb::{Cursor, Near, Reading};
use super::records::{prefix, Head, Item, HEAD, HEAD_LEN, POSITION};
use super::transaction::{head, Writing};
use super::{copied, kind, mapping, packed, references, runs, Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;

/// Make a container. Nothing keeps it alive yet.
pub fn create(writing: &mut Writing, kind: u8, aux: i64, info: &[u8]) -> Result<u64> {
    let number = writing.next_number()?;
    writing.put(&prefix(number, HEAD), &[&Head::new(kind, aux).to_bytes(), info])?;
    Ok(number)
}

/// What is to be stored for a value: a plain container becomes a child, a reference is counted.
#[inline]
pub fn materialize<'a>(writing: &mut Writing, value: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    match value.first() {
        Some(&tag::TREE) => create_children(writing, value, DEPTH).map(Cow::Owned),
        Some(&tag::REF) => {
            add_reference(writing, value)?;
            Ok(Cow::Borrowed(value))
        }
        Some(&tag::CHILD) | None => Err(Error::malformed("no value that may be stored")),
        Some(_) => Ok(Cow::Borrowed(value)),
    }
}

fn add_reference(writing: &mut Writing, value: &[u8]) -> Result<()> {
    let link = Link::of(value).ok_or_else(|| Error::malformed("a reference to a container"))?;
    let mut head = writing.head(link.number).map_err(|error| match error {
        Error::Gone(number) => {
            Error::Value(format!("a reference to container {number}, which does not exist"))
        }
        error => error,
    })?;
    if head.kind != link.kind {
        return Err(Error::malformed("a reference to a container of another kind"));
    }
    head.refs = head.refs.checked_add(1).ok_or_else(|| {
        Error::Value("a container that is stored in more than 4,294,967,295 places".into())
    })?;
    writing.put_head(link.number, head)?;
    references::unmark(writing, link.number)
}

/// Make children of a plain container and of all that are in it.
fn create_children(writing: &mut Writing, value: &[u8], depth: usize) -> Result<Vec<u8>> {
    let mut tree = Tree::of(value)?;
    if depth == 0 || !kind::is_plain(tree.kind) {
        return Err(Error::malformed("a container that cannot be stored in another"));
    }
    let number = writing.next_number()?;
    let mut head = Head::new(tree.kind, tree.maxlen);
    head.set(Head::OWNED, true);
    let packed = if writing.has_runs() { packed::pack(tree)? } else { None };
    if let Some(packed) = &packed {
        head.set(Head::PACKED, true);
        (head.len, head.next) = (tree.count as u64, tree.count as u64);
        put_new_head(writing, number, &[&head.to_bytes(), packed])?;
    } else {
        put_new_head(writing, number, &[&head.to_bytes()])?;
        fill(writing, number, &mut tree, depth)?;
    }
    Ok(child(tree.kind, number).to_vec())
}

fn put_new_head(writing: &mut Writing, number: u64, parts: &[&[u8]]) -> Result<()> {
    match writing.put_near(Near::Head, &prefix(number, HEAD), parts)? {
        None => Ok(()),
        Some(_) => Err(Error::corrupt("the number of a new container is taken")),
    }
}

fn fill(writing: &mut Writing, number: u64, tree: &mut Tree<'_>, depth: usize) -> Result<()> {
    if kind::is_mapping(tree.kind) {
        let mut inserter = mapping::Inserter::new(writing, number)?;
        for _ in 0..tree.count {
            let mut key = keys::Key::of_value(tree.take()?)?;
            let value = match tree.kind {
                kind::SET => Cow::Borrowed(&[][..]),
                _ => create_child_item(writing, tree.take()?, depth)?,
            };
            inserter.put(writing, &mut key, &value)?;
        }
        inserter.finish(writing)?;
    } else {
        let mut head = writing.head(number)?;
        let mut writer = runs::Writer::new((number, POSITION), head.next);
        for _ in 0..tree.count {
            let value = create_child_item(writing, tree.take()?, depth)?;
            writer.push(writing, &value)?;
        }
        writer.finish(writing)?;
        head.len = tree.count as u64;
        writing.put_head(number, head)?;
    }
    tree.finish()
}

fn create_child_item<'a>(
    writing: &mut Writing,
    value: &'a [u8],
    depth: usize,
) -> Result<Cow<'a, [u8]>> {
    if value.first() == Some(&tag::TREE) {
        return create_children(writing, value, depth - 1).map(Cow::Owned);
    }
    materialize(writing, value)
}

/// A value is gone from its place: release what is below it.
#[inline]
pub fn release(writing: &mut Writing, value: &[u8]) -> Result<()> {
    match Link::of(value) {
        Some(link) => release_link(writing, link),
        None => Ok(()),
    }
}

#[cold]
pub fn release_link(writing: &mut Writing, link: Link) -> Result<()> {
    let place = prefix(link.number, HEAD);
    let Some(record) = writing.get_near(Near::Released, &place)? else { return Ok(()) };
    let mut head = Head::read(record)?;
    if head.has(Head::FREEING) {
        return Ok(());
    }
    let info = copied(&record[HEAD_LEN..])?;
    if link.owned {
        head.set(Head::OWNED, false);
    } else {
        head.refs = head.refs.saturating_sub(1);
    }
    if !head.has(Head::GARBAGE) && !references::is_referenced(writing, link.number, &head)? {
        head.set(Head::GARBAGE, true);
        references::note_garbage(writing, link.number)?;
    }
    writing.replace_near(Near::Released, &place, &[&head.to_bytes(), &info])
}

/// Whether storing `new` in the place of `old` would change nothing but the container's owner.
pub fn is_same_container(old: &[u8], new: &[u8]) -> bool {
    match (Link::of(old), Link::of(new)) {
        (Some(old), Some(new)) => old.number == new.number && !new.owned,
        _ => false,
    }
}

/// Replace a value that is stored: what to store, or nothing if it is there already.
pub fn replace_value<'a>(
    writing: &mut Writing,
    old: &[u8],
    new: &'a [u8],
) -> Result<Option<Cow<'a, [u8]>>> {
    if is_same_container(old, new) {
        return Ok(None);
    }
    // The new one first: what the old one lets go may be in it.
    let stored = materialize(writing, new)?;
    release(writing, old)?;
    Ok(Some(stored))
}

/// A child that is put back into the sequence that it is taken from, as sorting does, stays its own:
/// the reference goes instead.
pub fn retain_children(olds: &mut [Vec<u8>], stored: &mut [Cow<'_, [u8]>]) {
    let mut own: HashMap<u64, usize> = olds
        .iter()
        .enumerate()
        .filter_map(|(index, old)| Some((Link::of(old).filter(|link| link.owned)?.number, index)))
        .collect();
    if own.is_empty() {
        return;
    }
    for value in stored {
        let Some(link) = Link::of(value).filter(|link| !link.owned) else { continue };
        if let Some(index) = own.remove(&link.number) {
            let reference = value.to_vec();
            *value = Cow::Owned(std::mem::replace(&mut olds[index], reference));
        }
    }
}

/// A deep copy of a container in one piece.
pub fn snapshot(reading: &Reading<'_>, number: u64) -> Result<Vec<u8>> {
    let mut builder = Builder::new();
    copy(reading, number, &mut builder, 0)?;
    Ok(builder.bytes)
}

/// What the taker of a value is given: a child as a plain container.
#[inline]
pub fn to_plain(reading: &Reading<'_>, value: &[u8]) -> Result<Vec<u8>> {
    match Link::of(value) {
        Some(link) if link.owned => snapshot(reading, link.number),
        _ => copied(value),
    }
}

fn copy(reading: &Reading<'_>, number: u64, builder: &mut Builder, depth: usize) -> Result<()> {
    // Children can become deeper than a tree that was stored; a child cannot be in itself.
    if depth > 10 * DEPTH {
        return Err(Error::Value("containers more than 1000 deep".into()));
    }
    let head = head(reading, number)?;
    let maxlen = if head.kind == kind::DEQUE { head.aux } else { -1 };
    let begun = builder.begin(head.kind, maxlen);
    let count = if kind::is_mapping(head.kind) {
        copy_mapping(reading, number, head.kind, builder, depth)?
    } else {
        copy_sequence(reading, number, builder, depth)?
    };
    builder.end(begun, count)
}

fn copy_mapping(
    reading: &Reading<'_>,
    number: u64,
    kind: u8,
    builder: &mut Builder,
    depth: usize,
) -> Result<usize> {
    if let Some(packed) = packed::contents(reading, number)? {
        return copy_packed(packed, kind, builder);
    }
    let items = mapping::order::all(reading, number)?;
    for (canonical, item) in &items {
        copy_key(canonical, item, builder)?;
        if kind != kind::SET {
            copy_value(reading, item.value, builder, depth)?;
        }
    }
    Ok(items.len())
}

#[inline]
fn copy_key(canonical: &[u8], item: &Item<'_>, builder: &mut Builder) -> Result<()> {
    let begun = builder.begin_item();
    keys::append_value(canonical, item.original, &mut builder.bytes)?;
    builder.end_item(begun)
}

fn copy_packed(packed: &[u8], kind: u8, builder: &mut Builder) -> Result<usize> {
    let mut count = 0;
    for found in packed::items(packed) {
        let (canonical, item) = found?;
        copy_key(canonical, &item, builder)?;
        if kind != kind::SET {
            builder.item(item.value)?;
        }
        count += 1;
    }
    Ok(count)
}

/// The item that an order's record names. A cursor for several finds it faster: keys that were added
/// one after the other often lie on the same page.
pub fn ordered<'t>(items: &mut Cursor<'t>, number: u64, canonical: &[u8]) -> Result<Item<'t>> {
    let mut key = keys::Canonical::from_bytes(canonical)?;
    let record = items.exact(key.behind(&prefix(number, super::records::ITEM)))?;
    Item::read(record.ok_or_else(|| Error::corrupt("an item is missing"))?)
}

fn copy_sequence(
    reading: &Reading<'_>,
    number: u64,
    builder: &mut Builder,
    depth: usize,
) -> Result<usize> {
    let mut count = 0;
    runs::walk(reading, (number, POSITION), 0, |_, value| {
        copy_value(reading, value, builder, depth)?;
        count += 1;
        Ok(true)
    })?;
    Ok(count)
}

fn copy_value(
    reading: &Reading<'_>,
    value: &[u8],
    builder: &mut Builder,
    depth: usize,
) -> Result<()> {
    match Link::of(value) {
        Some(link) if link.owned => {
            let begun = builder.begin_item();
            copy(reading, link.number, builder, depth + 1)?;
            builder.end_item(begun)
        }
        _ => builder.item(value),
    }
}

/// Raise unless a value from outside may be stored.
pub fn check_value(value: &[u8]) -> Result<()> {
    check::value(value)
}
