//! Several items that are added to a mapping in one step.

use super::{keep_links, put_item, Old};
use crate::store::encoding::keys::{form, Key};
use crate::store::lmdb::Near;
use crate::store::records::{prefix, Head, Item, ITEM, ORDER};
use crate::store::transaction::{self, Writing};
use crate::store::{kind, nested, packed, runs, Error, Result};

/// Adds to a mapping, and writes its head and the end of its order once, when it is finished.
pub struct Inserter {
    number: u64,
    head: Head,
    had: u64,
    order: runs::Writer,
}

/// What is stored under a key.
enum Found {
    /// Nothing was: now it is what was to be set.
    New,
    /// A value that can be written over: no other container is concerned.
    Simple(u64),
    Other(Old),
}

impl Found {
    fn of(record: Option<&[u8]>) -> Result<Self> {
        let Some(item) = record.map(Item::read).transpose()? else { return Ok(Self::New) };
        Ok(if item.is_simple() { Self::Simple(item.seq) } else { Self::Other(Old::of(&item)?) })
    }
}

impl Inserter {
    #[inline]
    pub fn new(writing: &mut Writing, number: u64) -> Result<Self> {
        let mut head = transaction::mapping(&writing.reading(), number)?;
        if head.has(Head::PACKED) {
            packed::unpack(writing, number)?;
            head = transaction::mapping(&writing.reading(), number)?;
        }
        let order = runs::Writer::new((number, ORDER), head.next);
        Ok(Self { number, head, had: head.len, order })
    }

    /// A key that is new, with a value that is stored.
    #[inline]
    pub fn insert(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<()> {
        if (self.head.kind == kind::SET) != value.is_empty() {
            return Err(Error::WrongKind(self.head.kind));
        }
        match self.insert_new(writing, key, value)? {
            Found::New => Ok(()),
            _ => Err(Error::corrupt("a key is there twice")),
        }
    }

    /// Add a key with a value that is stored, unless it is there already.
    #[inline]
    fn insert_new(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<Found> {
        let (seq, original) = (self.head.next, &key.original[..]);
        let begin = Item::head(seq, original.len());
        let record = key.canonical.behind(&prefix(self.number, ITEM));
        let found = Found::of(writing.put_near(Near::Item, record, &[&begin, original, value])?)?;
        if matches!(found, Found::New) {
            self.order.push_key(writing, key.canonical.bytes())?;
            self.head.next += 1;
            self.head.len += 1;
        }
        Ok(found)
    }

    /// Set a key to a value that is stored; empty in a set.
    pub fn put(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<()> {
        let found = self.insert_new(writing, key, value)?;
        if value.is_empty() {
            return Ok(());
        }
        match found {
            Found::New => Ok(()),
            Found::Simple(seq) => self.write_over(writing, key, seq, value),
            Found::Other(old) => {
                nested::release(writing, &old.value)?;
                let kept = (old.seq, &old.original[..]);
                put_item(writing, self.number, &mut key.canonical, kept, value)
            }
        }
    }

    /// Set a key.
    fn set(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<()> {
        if !nested::is_simple(value) {
            return self.set_container(writing, key, value);
        }
        match self.insert_new(writing, key, value)? {
            Found::New => Ok(()),
            Found::Simple(seq) => self.write_over(writing, key, seq, value),
            Found::Other(old) => self.replace(writing, key, &old, value),
        }
    }

    fn set_container(&mut self, writing: &mut Writing, key: &mut Key, value: &[u8]) -> Result<()> {
        let record = key.canonical.behind(&prefix(self.number, ITEM));
        let Some(record) = writing.get_near(Near::Item, record)? else {
            let stored = nested::materialize(writing, value)?;
            return self.insert(writing, key, &stored);
        };
        let old = Old::of(&Item::read(record)?)?;
        self.replace(writing, key, &old, value)
    }

    /// Write over the record that was found last.
    #[inline]
    fn write_over(
        &self,
        writing: &mut Writing,
        key: &mut Key,
        seq: u64,
        value: &[u8],
    ) -> Result<()> {
        let record = key.canonical.behind(&prefix(self.number, ITEM));
        writing.replace_near(Near::Item, record, &[&Item::head(seq, 0), value])
    }

    fn replace(&self, writing: &mut Writing, key: &mut Key, old: &Old, value: &[u8]) -> Result<()> {
        if let Some(stored) = nested::replace_value(writing, &old.value, value)? {
            let record = key.canonical.behind(&prefix(self.number, ITEM));
            let begin = Item::head(old.seq, old.original.len());
            writing.get_near(Near::Item, record)?.ok_or(Error::Missing)?;
            writing.replace_near(Near::Item, record, &[&begin, &old.original, &stored])?;
        }
        Ok(())
    }

    #[inline]
    pub fn finish(mut self, writing: &mut Writing) -> Result<()> {
        self.order.finish(writing)?;
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
