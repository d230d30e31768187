//! What lists, deques, queues, arrays and values are made of: items at positions without a gap, each in
//! a record of its own or in a run.
//!
//! Positions begin in the middle of all numbers, so that both ends can grow; what is put into the
//! middle moves the shorter side.

use super::encoding::{integers, Link};
use super::lmdb::Reading;
use super::records::{keyed, prefix, Head, MIDDLE, POSITION};
use super::transaction::{self, Writing};
use super::{kind, nested, runs, Error, Result};

mod positions;

use positions::{at, cut_at, delete, resize_gap, take_apart};

/// The texts that Python has for an index at which there is nothing.
fn out_of_range(kind: u8, what: What) -> Error {
    let deque = kind == kind::DEQUE;
    Error::Index(match what {
        _ if deque && what != What::Pop => "deque index out of range",
        What::Get => "list index out of range",
        What::Set => "list assignment index out of range",
        What::Pop => "pop index out of range",
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Get,
    Set,
    Pop,
}

fn position(head: &Head, index: i64, what: What) -> Result<u64> {
    let len = head.len as i64;
    let at = if index < 0 { index.saturating_add(len) } else { index };
    if (0..len).contains(&at) {
        Ok(head.next + at as u64)
    } else {
        Err(out_of_range(head.kind, what))
    }
}

#[inline]
pub fn get<'t>(reading: &Reading<'t>, number: u64, index: i64) -> Result<&'t [u8]> {
    let head = transaction::sequence(reading, number)?;
    at(reading, number, position(&head, index, What::Get)?)
}

/// The items from `start` to `stop`; what is negative counts from the end, as in Python.
pub fn slice<'t>(
    reading: &Reading<'t>,
    number: u64,
    start: i64,
    stop: i64,
) -> Result<Vec<&'t [u8]>> {
    let head = transaction::sequence(reading, number)?;
    let (start, stop) = (cut(start, head.len), cut(stop, head.len));
    let mut items = Vec::new();
    if start >= stop {
        return Ok(items);
    }
    let wanted = stop - start;
    runs::walk(reading, (number, POSITION), head.next + start, |_, value| {
        items.push(value);
        Ok((items.len() as u64) < wanted)
    })?;
    if (items.len() as u64) < wanted {
        return Err(Error::corrupt("a sequence is too short"));
    }
    Ok(items)
}

fn cut(bound: i64, len: u64) -> u64 {
    if bound < 0 {
        return len.saturating_sub(bound.unsigned_abs());
    }
    len.min(bound.unsigned_abs())
}

pub fn set(writing: &mut Writing, number: u64, index: i64, value: &[u8]) -> Result<()> {
    let head = transaction::sequence(&writing.reading(), number)?;
    let position = position(&head, index, What::Set)?;
    let old = take_apart(writing, number, position)?;
    if let Some(stored) = nested::replace_value(writing, &old, value)? {
        writing.put(&keyed(number, POSITION, position), &[&stored])?;
    }
    writing.touch(number);
    Ok(())
}

/// Take an item off an end, of a head that the caller writes.
fn drop_end(writing: &mut Writing, number: u64, head: &mut Head, left: bool) -> Result<Vec<u8>> {
    let position = if left { head.next } else { head.next + head.len - 1 };
    let old = take_apart(writing, number, position)?;
    writing.delete(&keyed(number, POSITION, position))?;
    head.len -= 1;
    if left {
        head.next += 1;
    }
    Ok(old)
}

#[inline]
pub fn append(writing: &mut Writing, number: u64, value: &[u8], left: bool) -> Result<()> {
    extend(writing, number, &[value], left)
}

pub fn extend<V: AsRef<[u8]>>(
    writing: &mut Writing,
    number: u64,
    values: &[V],
    left: bool,
) -> Result<()> {
    let mut head = transaction::sequence(&writing.reading(), number)?;
    if kind::is_queue(head.kind) {
        if head.has(Head::SHUT) {
            return Err(Error::Shut);
        }
        head.count = head.count.saturating_add(values.len() as i64);
    }
    if head.aux != 0 || head.kind != kind::DEQUE {
        push_all(writing, number, &mut head, values, left)?;
    }
    writing.put_head(number, head)?;
    writing.touch(number);
    trim(writing, number, head, !left)
}

/// Put values at an end, of a head that the caller writes; from the left each in front of the last.
fn push_all<V: AsRef<[u8]>>(
    writing: &mut Writing,
    number: u64,
    head: &mut Head,
    values: &[V],
    left: bool,
) -> Result<()> {
    let (len, count) = (values.len(), values.len() as u64);
    let first = if left { head.next - count } else { head.next + head.len };
    let mut writer = runs::Writer::new((number, POSITION), first);
    let mut simple = true;
    for index in 0..len {
        let value = values[if left { len - 1 - index } else { index }].as_ref();
        simple &= nested::is_simple(value);
        let stored = nested::materialize(writing, value)?;
        writer.push(writing, &stored)?;
    }
    writer.finish(writing)?;
    head.len += count;
    if left {
        head.next = first;
    }
    if !simple {
        super::mapping::keep_links(writing, number, head)?;
    }
    Ok(())
}

/// Drop what a deque has too many.
fn trim(writing: &mut Writing, number: u64, mut head: Head, left: bool) -> Result<()> {
    if head.kind != kind::DEQUE || head.aux < 0 || head.len <= head.aux as u64 {
        return Ok(());
    }
    let mut dropped = Vec::new();
    while head.len > head.aux as u64 {
        dropped.push(drop_end(writing, number, &mut head, left)?);
    }
    writing.put_head(number, head)?;
    dropped.iter().try_for_each(|old| nested::release(writing, old))
}

pub fn insert(writing: &mut Writing, number: u64, index: i64, value: &[u8]) -> Result<()> {
    let mut head = transaction::sequence(&writing.reading(), number)?;
    if head.kind == kind::DEQUE && head.aux >= 0 && head.len >= head.aux as u64 {
        return Err(Error::Index("deque already at its maximum size"));
    }
    let len = head.len as i64;
    let at = if index < 0 { index.saturating_add(len).max(0) } else { index.min(len) };
    let stored = nested::materialize(writing, value)?;
    let at = at as u64;
    cut_at(writing, number, &head, head.next + at)?;
    resize_gap(writing, number, &mut head, at, (0, 1))?;
    writing.put(&keyed(number, POSITION, head.next + at), &[&stored])?;
    super::mapping::keep_links(writing, number, &mut head)?;
    writing.put_head(number, head)?;
    writing.touch(number);
    Ok(())
}

/// Take an item out; what it was. What hangs below it is not yet let go.
fn take(writing: &mut Writing, number: u64, index: i64, what: What) -> Result<Vec<u8>> {
    let mut head = transaction::sequence(&writing.reading(), number)?;
    writing.will_free();
    if head.len == 0 && head.has(Head::SHUT) {
        return Err(Error::Shut);
    }
    if head.len == 0 && what == What::Pop {
        return Err(Error::Index(empty(head.kind)));
    }
    let position = position(&head, index, what)?;
    let at = position - head.next;
    let old = if at == 0 || at == head.len - 1 {
        drop_end(writing, number, &mut head, at == 0)?
    } else {
        let old = take_apart(writing, number, position)?;
        delete(writing, number, position)?;
        resize_gap(writing, number, &mut head, at, (1, 0))?;
        old
    };
    writing.put_head(number, head)?;
    writing.touch(number);
    Ok(old)
}

fn empty(kind: u8) -> &'static str {
    match kind {
        kind::DEQUE => "pop from an empty deque",
        kind::QUEUE | kind::JOINABLE_QUEUE => "the queue is empty",
        _ => "pop from empty list",
    }
}

pub fn remove(writing: &mut Writing, number: u64, index: i64) -> Result<()> {
    let old = take(writing, number, index, What::Set)?;
    nested::release(writing, &old)
}

/// The item that was taken out, a child of it as a plain container.
pub fn pop(writing: &mut Writing, number: u64, index: i64) -> Result<Vec<u8>> {
    let old = take(writing, number, index, What::Pop)?;
    let plain = nested::to_plain(&writing.reading(), &old)?;
    nested::release(writing, &old)?;
    Ok(plain)
}

/// The first item, taken out as it is, and the position it had.
pub fn take_first(writing: &mut Writing, number: u64) -> Result<(u64, Vec<u8>)> {
    let head = transaction::sequence(&writing.reading(), number)?;
    take(writing, number, 0, What::Pop).map(|old| (head.next, old))
}

/// Put an item that was taken out in front of all others.
pub fn put_first(writing: &mut Writing, number: u64, value: &[u8]) -> Result<()> {
    let mut head = transaction::sequence(&writing.reading(), number)?;
    head.next -= 1;
    head.len += 1;
    writing.put(&keyed(number, POSITION, head.next), &[value])?;
    writing.put_head(number, head)?;
    writing.touch(number);
    Ok(())
}

/// Put other items into the place of those from `start` to `stop`.
pub fn replace<V: AsRef<[u8]>>(
    writing: &mut Writing,
    number: u64,
    start: u64,
    stop: u64,
    values: &[V],
) -> Result<()> {
    let mut head = transaction::sequence(&writing.reading(), number)?;
    let start = start.min(head.len);
    let stop = stop.clamp(start, head.len);
    let mut stored = values
        .iter()
        .map(|value| nested::materialize(writing, value.as_ref()))
        .collect::<Result<Vec<_>>>()?;
    let mut olds = Vec::new();
    let (had, has) = (stop - start, stored.len() as u64);
    if has < had {
        writing.will_free();
    }
    cut_at(writing, number, &head, head.next + start)?;
    cut_at(writing, number, &head, head.next + stop)?;
    let range =
        keyed(number, POSITION, head.next + start)..keyed(number, POSITION, head.next + stop);
    writing.delete_between(&range, |_, record| {
        // Of plain values nothing is needed.
        for item in runs::items(record) {
            let item = item?;
            olds.push(Link::of(item).map_or_else(Vec::new, |_| item.to_vec()));
        }
        Ok(())
    })?;
    nested::retain_children(&mut olds, &mut stored);
    resize_gap(writing, number, &mut head, start, (had, has))?;
    let mut writer = runs::Writer::new((number, POSITION), head.next + start);
    stored.iter().try_for_each(|value| writer.push(writing, value))?;
    writer.finish(writing)?;
    super::mapping::keep_links(writing, number, &mut head)?;
    writing.put_head(number, head)?;
    writing.touch(number);
    olds.iter().try_for_each(|old| nested::release(writing, old))?;
    let head = writing.head(number)?;
    trim(writing, number, head, true)
}

pub fn add(writing: &mut Writing, number: u64, index: i64, delta: &[u8]) -> Result<Vec<u8>> {
    let head = transaction::sequence(&writing.reading(), number)?;
    let position = position(&head, index, What::Get)?;
    let sum = integers::sum(at(&writing.reading(), number, position)?, delta)?;
    take_apart(writing, number, position)?;
    writing.put(&keyed(number, POSITION, position), &[&sum])?;
    writing.touch(number);
    Ok(sum)
}

pub fn compare_and_set(
    writing: &mut Writing,
    number: u64,
    index: i64,
    expected: &[u8],
    value: &[u8],
) -> Result<bool> {
    if get(&writing.reading(), number, index)? != expected {
        return Ok(false);
    }
    set(writing, number, index, value).map(|()| true)
}

/// Delete records of a sequence's items, so many at most; its head is the caller's.
pub fn delete_all(writing: &mut Writing, number: u64, most: u64) -> Result<u64> {
    let mut links = Vec::new();
    let done = writing.delete_range(&prefix(number, POSITION), most, |_, value| {
        links.extend(Link::of(value));
        Ok(())
    })?;
    links.into_iter().try_for_each(|link| nested::release_link(writing, link))?;
    Ok(done)
}

/// Have a queue take no more items; those that are there are dropped at once, or left to be taken.
pub fn shut(writing: &mut Writing, number: u64, immediate: bool) -> Result<()> {
    let mut head = transaction::sequence(&writing.reading(), number)?;
    if !kind::is_queue(head.kind) {
        return Err(Error::WrongKind(head.kind));
    }
    head.set(Head::SHUT, true);
    writing.touch(number);
    if immediate {
        head.count = head.count.saturating_sub_unsigned(head.len).max(0);
    }
    writing.put_head(number, head)?;
    if immediate {
        clear(writing, number, head)?;
    }
    Ok(())
}

/// An item of a queue is dealt with.
pub fn done(writing: &mut Writing, number: u64) -> Result<()> {
    let mut head = writing.head(number)?;
    if head.count > 0 {
        head.count -= 1;
        writing.put_head(number, head)?;
    }
    Ok(())
}

pub fn clear(writing: &mut Writing, number: u64, mut head: Head) -> Result<()> {
    delete_all(writing, number, u64::MAX)?;
    (head.len, head.next) = (0, MIDDLE);
    super::mapping::keep_links(writing, number, &mut head)?;
    writing.put_head(number, head)
}
