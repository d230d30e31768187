//! The two heads of a file, and which of them counts.

use super::page::{HEADER, LEAST_SIZE, MOST_SIZE, NOTHING};
use super::{u16_at, u32_at, u64_at, Source};
use crate::store::{Error, Result};

const LEN: usize = HEADER + 136;
const META: u16 = 8;
const MAGIC: u32 = 0xBEEF_C0DE;
const DATA_VERSION: u32 = 1;
/// The free pages are found by the numbers of transactions; the records' tree has no flags.
const INTEGER_KEYS: u16 = 8;

/// A tree, as its head describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    pub depth: u16,
    pub branches: u64,
    pub leaves: u64,
    pub overflow: u64,
    pub entries: u64,
    pub root: u64,
}

impl Tree {
    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u64_at(bytes, 8 * at);
        let depth = u16_at(bytes, 6);
        let (branches, leaves, overflow) = (word(1), word(2), word(3));
        Self { depth, branches, leaves, overflow, entries: word(4), root: word(5) }
    }

    pub fn is_empty(&self) -> bool {
        self.root == NOTHING
    }
}

/// One head.
#[derive(Debug, Clone, Copy)]
struct Head {
    page: usize,
    free: Tree,
    records: Tree,
    last_page: u64,
    transaction: u64,
}

impl Head {
    fn read(source: &(impl Source + ?Sized), number: u64, page: usize) -> Result<Self> {
        let mut bytes = [0; LEN];
        source.read(number * page as u64, &mut bytes)?;
        let bad = |what: &str| Err(Error::Corrupt(format!("head {number}: {what}")));
        let body = &bytes[HEADER..];
        if u64_at(&bytes, 0) != number || u16_at(&bytes, 10) != META || u32_at(body, 0) != MAGIC {
            return bad("no page of this number and kind");
        }
        if u32_at(body, 4) != DATA_VERSION {
            return Err(Error::Version("a store of another version of LMDB".into()));
        }
        let (free, records) = (&body[24..72], &body[72..120]);
        let page = u32_at(free, 0) as usize;
        if !page.is_power_of_two() || !(LEAST_SIZE..=MOST_SIZE).contains(&page) {
            return bad("no possible size of a page");
        }
        let flags = [u16_at(free, 4), u32_at(records, 0) as u16, u16_at(records, 4)];
        if flags != [INTEGER_KEYS, 0, 0] {
            return bad("unknown flags");
        }
        let (last_page, transaction) = (u64_at(body, 120), u64_at(body, 128));
        let (free, records) = (Tree::read(free), Tree::read(records));
        if last_page == 0 || last_page >= NOTHING >> 20 {
            return bad("no possible number of pages");
        }
        Ok(Self { page, free, records, last_page, transaction })
    }
}

/// What the head of the last transaction says.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub page: usize,
    pub free: Tree,
    pub records: Tree,
    /// Pages of the store, the first two included.
    pub pages: u64,
    pub transaction: u64,
}

impl Heads {
    /// Read both. Nothing is in a file that is empty.
    ///
    /// The older one is intact after each transaction. If a changed byte made it the newer one, the
    /// store would lose its last transaction without a word: so their numbers have to fit.
    pub fn read(source: &(impl Source + ?Sized)) -> Result<Option<Self>> {
        if source.len()? == 0 {
            return Ok(None);
        }
        let first = Head::read(source, 0, 0)?;
        let second = Head::read(source, 1, first.page)?;
        let (a, b) = (first.transaction, second.transaction);
        let is_fresh = a == 0 && b == 0;
        if first.page != second.page
            || !(is_fresh || a % 2 == 0 && b % 2 == 1 && a.abs_diff(b) == 1)
        {
            return Err(Error::Corrupt(format!(
                "its two heads are of transactions {a} and {b}, not of one and the next: one of them \
                 is damaged, or was not written before the machine stopped"
            )));
        }
        let last = if b > a { second } else { first };
        let Head { page, free, records, last_page, transaction } = last;
        Ok(Some(Self { page, free, records, pages: last_page + 1, transaction }))
    }

    /// Whether the file has all of its pages. It may lack some that are free.
    pub fn fits(&self, len: u64) -> bool {
        self.pages <= len / self.page as u64
    }

    /// The bytes that the store takes in its file.
    pub fn bytes(&self) -> u64 {
        self.pages.saturating_mul(self.page as u64)
    }
}
