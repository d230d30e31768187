//! Plain containers in one piece: a TREE, how it is built and how it is read.
//!
//! ```text
//! | 12 | kind | count:32 | maxlen:64 of a deque | len:32 item | len:32 item ...
//! ```

use super::{tag, u32_at, u64_at};
use crate::store::{kind, Error, Result};

/// Writes a tree whose items come one after the other.
pub struct Builder {
    pub bytes: Vec<u8>,
}

/// Where a tree that is being built has begun.
#[derive(Clone, Copy)]
pub struct Begun {
    at: usize,
}

impl Builder {
    pub fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    pub fn begin(&mut self, kind: u8, maxlen: i64) -> Begun {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[tag::TREE, kind, 0, 0, 0, 0]);
        if kind == kind::DEQUE {
            self.bytes.extend_from_slice(&maxlen.to_le_bytes());
        }
        Begun { at }
    }

    /// Begin an item; its bytes are pushed next.
    pub fn begin_item(&mut self) -> Begun {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        Begun { at }
    }

    pub fn end_item(&mut self, begun: Begun) -> Result<()> {
        let len = u32::try_from(self.bytes.len() - begun.at - 4);
        let len = len.map_err(|_| Error::Value("too large: an item of 4 GiB or more".into()))?;
        self.bytes[begun.at..begun.at + 4].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    pub fn item(&mut self, value: &[u8]) -> Result<()> {
        let begun = self.begin_item();
        self.bytes.extend_from_slice(value);
        self.end_item(begun)
    }

    pub fn end(&mut self, begun: Begun, count: usize) -> Result<()> {
        let count = u32::try_from(count);
        let count = count.map_err(|_| Error::Value("too large: 2**32 items or more".into()))?;
        self.bytes[begun.at + 2..begun.at + 6].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// A tree that is read.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    pub kind: u8,
    /// Of a deque, or -1.
    pub maxlen: i64,
    /// Items; of a mapping twice as many values, if it is no set.
    pub count: usize,
    rest: &'a [u8],
}

impl<'a> Tree<'a> {
    pub fn of(value: &'a [u8]) -> Result<Self> {
        let short = || Error::malformed("a container that ends too soon");
        let count = u32_at(value, 2).ok_or_else(short)? as usize;
        let kind = value[1];
        if value[0] != tag::TREE || !kind::exists(kind) {
            return Err(Error::malformed("no container"));
        }
        let (maxlen, begin) = if kind == kind::DEQUE {
            (u64_at(value, 6).ok_or_else(short)? as i64, 14)
        } else {
            (-1, 6)
        };
        if maxlen < -1 {
            return Err(Error::malformed("a deque's maxlen"));
        }
        Ok(Self { kind, maxlen, count, rest: &value[begin..] })
    }

    pub fn has_pairs(&self) -> bool {
        kind::is_mapping(self.kind) && self.kind != kind::SET
    }

    /// How many values follow.
    pub fn values(&self) -> usize {
        if self.has_pairs() {
            self.count * 2
        } else {
            self.count
        }
    }

    /// The next value.
    pub fn take(&mut self) -> Result<&'a [u8]> {
        let short = || Error::malformed("a container that ends too soon");
        let len = u32_at(self.rest, 0).ok_or_else(short)? as usize;
        let (item, rest) = self.rest[4..].split_at_checked(len).ok_or_else(short)?;
        self.rest = rest;
        Ok(item)
    }

    /// Raise if anything is left.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::malformed("bytes behind a container"))
    }
}
