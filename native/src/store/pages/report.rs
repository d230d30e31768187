//! What is damaged in a store, and what is lost with it. The walk goes on behind damage.

use super::{walk, Heads, Large, Pages, Source, Sums, Visitor};
use crate::store::encoding::{check, u64_at, Link};
use crate::store::records::{
    number_in, prefix, Claim, Head, Item, Meta, CLAIM, HEAD, HEAD_LEN, ITEM, META, NAME, ORDER,
    POSITION,
};
use crate::store::{kind, packed, runs, sums, Error, Result};
use std::collections::BTreeMap;

/// What was found of a container.
#[derive(Debug, Default)]
pub struct Container {
    /// Nothing if its head is lost.
    pub head: Option<Head>,
    pub names: Vec<Vec<u8>>,
    /// Items that can be read.
    pub items: u64,
}

/// What is wrong, and the records of which nothing is known for it: from one key up to another, or to
/// the end. A single record is damaged if both are the same.
#[derive(Debug)]
pub struct Damage {
    pub what: String,
    pub from: Vec<u8>,
    pub to: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct Report {
    pub bytes: u64,
    pub records: u64,
    pub damage: Vec<Damage>,
    pub containers: BTreeMap<u64, Container>,
    sums: Sums,
}

/// Look at all of a file, to which nobody writes meanwhile.
///
/// # Errors
/// `Error::Corrupt` if nothing at all can be found in it.
pub fn report<S: Source + ?Sized>(source: &S) -> Result<Report> {
    let mut report = Report::default();
    if let Some(heads) = Heads::read(source)? {
        report.bytes = heads.bytes();
        walk(source, &heads, &mut report)?;
    }
    Ok(report)
}

impl Report {
    /// Whether each value has a sum.
    pub fn has_sums(&self) -> bool {
        self.sums.known().unwrap_or(true)
    }

    fn note(&mut self, what: String, from: &[u8], to: Option<&[u8]>) {
        self.damage.push(Damage { what, from: from.to_vec(), to: to.map(<[u8]>::to_vec) });
    }

    fn look(&mut self, key: &[u8], stored: &[u8]) {
        self.records += 1;
        if self.sums.known().is_none() && *key != prefix(0, META) {
            self.note("the first record is lost".into(), &prefix(0, META), Some(key));
            self.sums.assume(sums::without_sum(key, stored).is_some());
        }
        let looked = self.sums.check(key, stored).and_then(|record| self.read(key, record));
        match looked {
            Ok(()) => {}
            Err(Error::Corrupt(what) | Error::Value(what) | Error::Version(what)) => {
                self.note(what, key, Some(key));
            }
            Err(other) => self.note(format!("{other:?}"), key, Some(key)),
        }
    }

    fn read(&mut self, key: &[u8], record: &[u8]) -> Result<()> {
        let unknown = || Error::Corrupt("a record of an unknown kind".into());
        let number = number_in(key, 0)?;
        let record_type = *key.get(8).ok_or_else(unknown)?;
        if number == 0 {
            return self.read_own(key, record_type, record);
        }
        let container = self.containers.entry(number).or_default();
        match record_type {
            HEAD => {
                let head = Head::read(record)?;
                if !kind::exists(head.kind) {
                    return Err(unknown());
                }
                if head.has(Head::PACKED) {
                    for found in packed::items(&record[HEAD_LEN..]) {
                        let (_, item) = found?;
                        if !item.value.is_empty() {
                            value(item.value)?;
                        }
                        container.items += 1;
                    }
                }
                container.head = Some(head);
            }
            ITEM => {
                let item = Item::read(record)?;
                if !item.value.is_empty() {
                    value(item.value)?;
                }
                container.items += 1;
            }
            POSITION => {
                for item in runs::items(record) {
                    value(item?)?;
                    container.items += 1;
                }
            }
            CLAIM => value(Claim::read(record)?.value)?,
            ORDER => runs::items(record).try_for_each(|key| key.map(|_| ()))?,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn read_own(&mut self, key: &[u8], record_type: u8, record: &[u8]) -> Result<()> {
        match record_type {
            META => Meta::read(record).map(|_| ()),
            NAME => {
                let bad = || Error::Corrupt("a name that names nothing".into());
                let number = u64_at(record, 1).ok_or_else(bad)?;
                self.containers.entry(number).or_default().names.push(key[9..].to_vec());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn value(bytes: &[u8]) -> Result<()> {
    match Link::of(bytes) {
        Some(link) if kind::exists(link.kind) => Ok(()),
        _ => check::value(bytes),
    }
}

impl<S: Source + ?Sized> Visitor<S> for Report {
    fn small(&mut self, key: &[u8], stored: &[u8]) -> Result<()> {
        self.look(key, stored);
        Ok(())
    }

    fn large(&mut self, pages: &Pages<'_, S>, key: &[u8], value: Large) -> Result<()> {
        match value.read(pages) {
            Ok(stored) => self.look(key, &stored),
            Err(Error::Corrupt(what)) => self.note(what, key, Some(key)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn lost_value(&mut self, what: String, key: &[u8]) -> Result<()> {
        self.note(what, key, Some(key));
        Ok(())
    }

    fn damage(&mut self, what: String, from: &[u8], to: Option<&[u8]>) -> Result<()> {
        self.note(what, from, to);
        Ok(())
    }
}
