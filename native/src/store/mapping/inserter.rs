//! Several items that are added to a mapping in one step.

use super::{keep_links, old, put_item, set};
use crate::store::encoding::keys::{form, Key};
use crate::store::records::{keyed, prefix, Head, Item, ITEM, ORDER};
use crate::store::transaction::{self, Writing};
use crate::store::{kind, nested, packed, Error, Result};

/// The places of `Writing::put_near`.
const NEAR_ITEM: usize = 0;
const NEAR_ORDER: usize = 1;

/// Adds to a mapping, and writes its head once, at the end.
pub struct Inserter {
    number: u64,
    head: Head,
    had: u64,
}

impl Inserter {
    #[inline]
    pub fn new(writing: &mut Writing, number: u64) -> Result<Self> {
        let mut head = transaction::mapping(&writing.reading(), number)?;
        if head.has(Head::PACKED) {
            packed::unpack(writing, number)?;
            head = transaction::mapping(&writing.reading(), number)?;
        }
        Ok(Self { number, head, had: head.len })
    }

    /// A key that is new, with a value that is stored.
    #[inline]
    pub fn insert(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<()> {
        if (self.head.kind == kind::SET) != value.is_empty() {
            return Err(Error::WrongKind(self.head.kind));
        }
        match self.insert_new(writing, key, value)? {
            true => Ok(()),
            false => Err(Error::corrupt("a key is there twice")),
        }
    }

    /// Add a key with a value that is stored; false if it is there already.
    #[inline]
    fn insert_new(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<bool> {
        let (number, seq, original) = (self.number, self.head.next, &key.original[..]);
        let begin = Item::head(seq, original.len());
        let record = key.canonical.behind(&prefix(number, ITEM));
        if !writing.put_near(NEAR_ITEM, record, &[&begin, original, value])? {
            return Ok(false);
        }
        let order = keyed(number, ORDER, seq);
        if !writing.put_near(NEAR_ORDER, &order, &[key.canonical.bytes()])? {
            return Err(Error::corrupt("a place in the order of a mapping is taken"));
        }
        self.head.next += 1;
        self.head.len += 1;
        Ok(true)
    }

    /// Set a key to a value that is stored; empty in a set.
    pub fn put(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<()> {
        if self.insert_new(writing, key, value)? || value.is_empty() {
            return Ok(());
        }
        let old = old(writing, self.number, &mut key.canonical)?.ok_or(Error::Missing)?;
        nested::release(writing, &old.value)?;
        let kept = (old.seq, &old.original[..]);
        put_item(writing, self.number, &mut key.canonical, kept, value)
    }

    /// Set a key.
    fn set(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<()> {
        if nested::is_simple(value) {
            if self.insert_new(writing, key, value)? {
                return Ok(());
            }
            return set(writing, self.number, key, value);
        }
        if writing.get(key.canonical.behind(&prefix(self.number, ITEM)))?.is_some() {
            return set(writing, self.number, key, value);
        }
        let stored = nested::materialize(writing, value)?;
        self.insert(writing, key, &stored)
    }

    #[inline]
    pub fn finish(mut self, writing: &mut Writing) -> Result<()> {
        if self.head.len != self.had {
            // A value may refer to this very container.
            keep_links(writing, self.number, &mut self.head)?;
            writing.put_head(self.number, self.head)?;
        }
        writing.touch(self.number);
        Ok(())
    }
}

/// Set many keys: each has a canonical form, and an original if that does not tell.
pub fn update<'a>(
    writing: &mut Writing,
    number: u64,
    keys: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    values: impl Iterator<Item = &'a [u8]>,
) -> Result<()> {
    let mut inserter = Inserter::new(writing, number)?;
    let mut key = Key::plain(form::NONE, &[]);
    for ((canonical, original), value) in keys.zip(values) {
        key.canonical.assign(canonical);
        key.original.clear();
        key.original.extend_from_slice(original);
        inserter.set(writing, &mut key, value)?;
    }
    inserter.finish(writing)
}
