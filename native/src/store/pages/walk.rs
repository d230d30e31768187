//! The walk through both trees.
//!
//! All keys, those in branches among them, are met in one order, so one bound suffices: what comes
//! next must lie above. That is all that a search in the tree relies on.

use super::heads::{Heads, Tree};
use super::page::{Fault, Node, Page, HEADER, OVERFLOW};
use super::{u16_at, u32_at, u64_at, Source};
use crate::store::{Error, Result};

type Taken = std::result::Result<(), Fault>;
type Looked<T> = std::result::Result<T, Problem>;

/// As deep as LMDB itself follows a tree.
const DEEPEST: usize = 32;
const NUMBER: usize = 8;

/// Where a large value lies.
#[derive(Debug, Clone, Copy)]
pub struct Large {
    at: u64,
    len: u64,
}

impl Large {
    pub fn read(&self, pages: &Pages<'_, impl Source + ?Sized>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let len = self.len as usize;
        bytes.try_reserve_exact(len).map_err(|_| Error::Memory)?;
        bytes.resize(len, 0);
        pages.source.read(self.at, &mut bytes)?;
        Ok(bytes)
    }
}

/// What is done with what the walk comes by.
pub trait Visitor<S: Source + ?Sized> {
    /// A record whose value lies in the page.
    fn small(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// A record whose value has pages of its own, which are in the file.
    fn large(&mut self, pages: &Pages<'_, S>, key: &[u8], value: Large) -> Result<()>;

    /// The pages of a record's value are damaged.
    fn lost_value(&mut self, what: String, key: &[u8]) -> Result<()>;

    /// A page is damaged, and so nothing is known of the records from one key on, up to another or to
    /// the end. An error ends the walk, and is what it returns.
    fn damage(&mut self, what: String, from: &[u8], to: Option<&[u8]>) -> Result<()>;
}

/// The pages of a file, each of which belongs to one thing.
pub struct Pages<'s, S: Source + ?Sized> {
    source: &'s S,
    heads: Heads,
    in_file: u64,
    used: Vec<u64>,
}

impl<'s, S: Source + ?Sized> Pages<'s, S> {
    fn new(source: &'s S, heads: Heads) -> Result<Self> {
        let len = source.len()?;
        let in_file = len / heads.page as u64;
        // Pages that are not in the file are in the list of the free ones, which is.
        if heads.pages > in_file.saturating_add(len / NUMBER as u64) {
            return Err(Error::Corrupt(format!(
                "the file has {len} bytes, and its last page ends at {}: it was cut",
                heads.bytes()
            )));
        }
        let mut used = Vec::new();
        let words = heads.pages.div_ceil(64) as usize;
        used.try_reserve_exact(words).map_err(|_| Error::Memory)?;
        used.resize(words, 0);
        used[0] = 3;
        Ok(Self { source, heads, in_file, used })
    }

    /// Note who has a page; a page can be had once.
    fn take(&mut self, number: u64) -> Taken {
        if number >= self.heads.pages {
            return Err("there is no such page");
        }
        let (word, bit) = (&mut self.used[(number / 64) as usize], 1 << (number % 64));
        if *word & bit != 0 {
            return Err("the page is used twice");
        }
        *word |= bit;
        Ok(())
    }

    fn take_in_file(&mut self, number: u64) -> Taken {
        if number >= self.in_file && number < self.heads.pages {
            return Err("the file ends before the page: it was cut");
        }
        self.take(number)
    }

    fn place(&self, number: u64) -> u64 {
        number * self.heads.page as u64
    }

    fn read(&mut self, number: u64, key: usize, page: &mut Page) -> Looked<()> {
        self.take_in_file(number)?;
        page.bytes.resize(self.heads.page, 0);
        self.source.read(self.place(number), &mut page.bytes)?;
        Ok(page.check(number, key)?)
    }

    /// Take the pages of a large value.
    fn large(&mut self, number: u64, len: u64) -> Looked<(Large, u64)> {
        self.take_in_file(number)?;
        let mut head = [0; HEADER];
        self.source.read(self.place(number), &mut head)?;
        if u64_at(&head, 0) != number || u16_at(&head, 10) != OVERFLOW {
            return Err("it is no page of a large value".into());
        }
        // It may have been written over a larger one.
        let count = u64::from(u32_at(&head, 12));
        if count < (HEADER as u64 + len).div_ceil(self.heads.page as u64) {
            return Err("a large value has too few pages".into());
        }
        for page in number + 1..number + count {
            self.take_in_file(page)?;
        }
        Ok((Large { at: self.place(number) + HEADER as u64, len }, count))
    }

    /// How many pages nobody has.
    fn lost(&self) -> u64 {
        let taken: u64 = self.used.iter().map(|word| u64::from(word.count_ones())).sum();
        self.heads.pages - taken
    }
}

/// Something wrong with a page, or with reading it.
enum Problem {
    Fault(Fault),
    Error(Error),
    /// What the visitor wants to be the end.
    End(Error),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Problem {
    fn at(self, page: u64) -> Result<String> {
        match self {
            Self::Fault(fault) => Ok(format!("page {page}: {fault}")),
            Self::Error(Error::Corrupt(text)) => Ok(format!("page {page}: {text}")),
            Self::Error(error) | Self::End(error) => Err(error),
        }
    }
}

/// Walk through a whole store; how many of its pages nobody has.
///
/// # Errors
/// What the visitor makes of damage; `Error::Corrupt` for what no visitor can go round.
pub fn walk<S: Source + ?Sized>(
    source: &S,
    heads: &Heads,
    visitor: &mut impl Visitor<S>,
) -> Result<u64> {
    let mut pages = Pages::new(source, *heads)?;
    let free = FreeLists { latest: heads.transaction, problem: None };
    let free = Walk::new(&mut pages, free, NUMBER).through(&heads.free)?;
    if let Some(problem) = free.problem {
        // Nothing of it is anybody's; but what it says of pages cannot be compared any more.
        visitor.damage(problem, &[], Some(&[]))?;
        pages = Pages::new(source, *heads)?;
    }
    Walk::new(&mut pages, Records(visitor), 0).through(&heads.records)?;
    Ok(pages.lost())
}

/// What is done with the records of one of both trees.
trait Leaves<S: Source + ?Sized> {
    fn node(
        &mut self,
        pages: &mut Pages<'_, S>,
        count: &mut Tree,
        key: &[u8],
        node: &Node<'_>,
    ) -> Looked<()>;

    fn damage(&mut self, what: String, from: &[u8], to: Option<&[u8]>) -> Result<()>;
}

struct Records<'v, V>(&'v mut V);

impl<S: Source + ?Sized, V: Visitor<S>> Leaves<S> for Records<'_, V> {
    fn node(
        &mut self,
        pages: &mut Pages<'_, S>,
        count: &mut Tree,
        key: &[u8],
        node: &Node<'_>,
    ) -> Looked<()> {
        match *node {
            Node::Inside(value) => self.0.small(key, value),
            Node::Big(number, len) => match pages.large(number, len) {
                Ok((large, taken)) => {
                    count.overflow += taken;
                    self.0.large(pages, key, large)
                }
                Err(problem) => self.0.lost_value(problem.at(number)?, key),
            },
        }
        .map_err(Problem::End)
    }

    fn damage(&mut self, what: String, from: &[u8], to: Option<&[u8]>) -> Result<()> {
        self.0.damage(what, from, to)
    }
}

/// The lists of free pages: of each transaction, those that it has freed, the last one first.
struct FreeLists {
    latest: u64,
    problem: Option<String>,
}

impl FreeLists {
    fn take<S: Source + ?Sized>(&self, pages: &mut Pages<'_, S>, key: &[u8], list: &[u8]) -> Taken {
        let transaction = u64_at(key, 0);
        if transaction == 0 || transaction > self.latest {
            return Err("pages that a transaction has freed which never was");
        }
        if list.len() < NUMBER || list.len() % NUMBER != 0 {
            return Err("a list of free pages of an impossible length");
        }
        let count = u64_at(list, 0);
        if count > (list.len() / NUMBER - 1) as u64 {
            return Err("a list of free pages that is longer than its record");
        }
        let mut above = u64::MAX;
        for number in list[NUMBER..].chunks_exact(NUMBER).take(count as usize) {
            let number = u64_at(number, 0);
            if number >= above {
                return Err("free pages in no order");
            }
            above = number;
            pages.take(number)?;
        }
        Ok(())
    }
}

impl<S: Source + ?Sized> Leaves<S> for FreeLists {
    fn node(
        &mut self,
        pages: &mut Pages<'_, S>,
        count: &mut Tree,
        key: &[u8],
        node: &Node<'_>,
    ) -> Looked<()> {
        match *node {
            Node::Inside(list) => self.take(pages, key, list)?,
            Node::Big(number, len) => {
                let (large, taken) = pages.large(number, len)?;
                count.overflow += taken;
                let list = large.read(pages)?;
                self.take(pages, key, &list)?;
            }
        }
        Ok(())
    }

    fn damage(&mut self, what: String, _: &[u8], _: Option<&[u8]>) -> Result<()> {
        self.problem.get_or_insert(format!("the free pages: {what}"));
        Ok(())
    }
}

/// A branch, with the next child to look at.
#[derive(Default)]
struct Level {
    page: Page,
    number: u64,
    next: usize,
}

/// Below what comes next.
#[derive(Default)]
struct Bound {
    key: Vec<u8>,
    /// It may be the bound itself: that came from a branch.
    or_equal: bool,
}

struct Walk<'w, 's, S: Source + ?Sized, L> {
    pages: &'w mut Pages<'s, S>,
    leaves: L,
    /// Bytes of each key, or 0.
    key: usize,
    bound: Bound,
    found: Tree,
    is_whole: bool,
}

impl<'w, 's, S: Source + ?Sized, L: Leaves<S>> Walk<'w, 's, S, L> {
    fn new(pages: &'w mut Pages<'s, S>, leaves: L, key: usize) -> Self {
        let found = Tree { depth: 0, branches: 0, leaves: 0, overflow: 0, entries: 0, root: 0 };
        Self { pages, leaves, key, bound: Bound::default(), found, is_whole: true }
    }

    fn through(mut self, tree: &Tree) -> Result<L> {
        if !tree.is_empty() {
            self.descend(tree)?;
        }
        self.found.root = tree.root;
        self.found.depth = if tree.is_empty() { 0 } else { tree.depth };
        if self.is_whole && self.found != *tree {
            let (found, said) = (self.found, tree);
            let what = format!(
                "{} records in {} pages, and its head says {} in {}",
                found.entries,
                found.branches + found.leaves + found.overflow,
                said.entries,
                said.branches.wrapping_add(said.leaves).wrapping_add(said.overflow),
            );
            self.leaves.damage(what, &[], Some(&[]))?;
        }
        Ok(self.leaves)
    }

    fn descend(&mut self, tree: &Tree) -> Result<()> {
        let depth = tree.depth as usize;
        if depth == 0 || depth > DEEPEST {
            return self.damage("a tree of an impossible depth".into(), None);
        }
        let mut levels: Vec<Level> = (0..depth).map(|_| Level::default()).collect();
        let (mut at, mut number) = (0, tree.root);
        loop {
            levels[at].number = number;
            let entered = self.enter(&mut levels[at], at + 1 == depth);
            if let Err(problem) = entered {
                let what = problem.at(number)?;
                self.damage(what, next_key(&levels[..at]))?;
                levels[at].next = usize::MAX;
            }
            // The next child of the lowest branch that has one left.
            loop {
                let level = &mut levels[at];
                if !level.page.is_leaf && level.next < level.page.len() {
                    number = level.page.child(level.next);
                    level.next += 1;
                    break;
                }
                if at == 0 {
                    return Ok(());
                }
                at -= 1;
                let (parents, level) = levels.split_at(at);
                let level = &level[0];
                if level.next < level.page.len() {
                    let key = level.page.key(level.next).to_vec();
                    if !self.raise(&key, true) {
                        let what = format!("page {}: its keys are in no order", level.number);
                        self.damage(what, next_key(parents))?;
                        levels[at].next = usize::MAX;
                    }
                }
            }
            at += 1;
        }
    }

    /// Look at a page; a leaf as a whole.
    fn enter(&mut self, level: &mut Level, lowest: bool) -> Looked<()> {
        level.next = 0;
        level.page.is_leaf = false;
        self.pages.read(level.number, self.key, &mut level.page)?;
        if level.page.is_leaf != lowest {
            return Err("it is at a wrong depth of the tree".into());
        }
        if !lowest {
            self.found.branches += 1;
            return Ok(());
        }
        self.found.leaves += 1;
        for index in 0..level.page.len() {
            let key = level.page.key(index);
            if !self.raise(key, false) {
                return Err("its keys are in no order".into());
            }
            self.found.entries += 1;
            let node = level.page.value(index);
            self.leaves.node(self.pages, &mut self.found, key, &node)?;
        }
        Ok(())
    }

    /// Go on to a key; false if it does not lie above what was met.
    fn raise(&mut self, key: &[u8], or_equal: bool) -> bool {
        let bound = &mut self.bound;
        let order = if self.key != 0 && bound.key.len() == NUMBER {
            u64_at(key, 0).cmp(&u64_at(&bound.key, 0))
        } else {
            key.cmp(&bound.key)
        };
        let fine = order.is_gt() || bound.or_equal && !or_equal && order.is_eq();
        bound.key.clear();
        bound.key.extend_from_slice(key);
        bound.or_equal = or_equal;
        fine
    }

    fn damage(&mut self, what: String, to: Option<&[u8]>) -> Result<()> {
        self.is_whole = false;
        self.leaves.damage(what, &self.bound.key, to)
    }
}

/// The least key behind a page, by the branches above it.
fn next_key(above: &[Level]) -> Option<&[u8]> {
    above
        .iter()
        .rev()
        .find(|level| level.next < level.page.len())
        .map(|level| level.page.key(level.next))
}
