//! The records of the store: what their keys are, and what is in a head and in an item.
//!
//! ```text
//! c 00            head: kind, flags, refs:32, len:64, next:64, aux:64, count:64, info or packed items
//! c 01 canonical  seq:64, length of the original key:32, original key, value
//! c 02 seq        canonical key, or a run of several (a mapping's order)
//! c 03 position   value, or a run of several     (a sequence)
//! c 04 ticket     owner:64, position:64, value   (claimed items)
//! 0 00            version:32, next container:64, next owner:64
//! 0 01 name       kind, c
//! 0 02 c owner    references:32
//! 0 03 owner c
//! 0 04 c                                         (garbage)
//! 0 05 owner c ticket
//! ```
//! In a store with sums each record has one behind it (`sums`).
//!
//! `c`, `seq`, `position`, `ticket` and `owner` are 64 bits in a key, big endian; in a record all
//! numbers are little endian.

use super::encoding::keys::AHEAD;
use super::encoding::{u32_at, u64_at};
use super::{sums, Error, Result};

/// Of a store without sums, which is one in memory or of an early garrison.
pub const VERSION: u32 = 1;
/// Of a store with sums, in which each item has a record of its own.
pub const VERSION_WITH_SUMS: u32 = 2;
/// Of a store with sums, in which a record may have several items.
pub const VERSION_WITH_RUNS: u32 = 3;
/// The same, and keys of a mapping's order may lie in runs too.
pub const VERSION_WITH_ORDER_RUNS: u32 = 4;
/// That of a new store in a folder; one in memory is written in the same way.
pub const NEWEST: u32 = VERSION_WITH_ORDER_RUNS;

pub const HEAD: u8 = 0;
pub const ITEM: u8 = 1;
pub const ORDER: u8 = 2;
pub const POSITION: u8 = 3;
pub const CLAIM: u8 = 4;

pub const META: u8 = 0;
pub const NAME: u8 = 1;
pub const OWNER_REF: u8 = 2;
pub const OWNED_BY: u8 = 3;
pub const GARBAGE: u8 = 4;
pub const CLAIMED_BY: u8 = 5;

/// The longest name that fits into a record's key.
pub const LONGEST_NAME: usize = 480;

/// Where all records of a type begin.
#[inline]
pub fn prefix(number: u64, record_type: u8) -> [u8; AHEAD] {
    let mut key = [record_type; AHEAD];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

/// The key of a record that is known by one more number.
#[inline]
pub fn keyed(number: u64, record_type: u8, last: u64) -> [u8; 17] {
    let mut key = [record_type; 17];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[9..].copy_from_slice(&last.to_be_bytes());
    key
}

/// The key of one of the store's own records.
pub fn store_key<const N: usize>(record_type: u8, numbers: [u64; N]) -> Vec<u8> {
    let mut key = prefix(0, record_type).to_vec();
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

pub fn name(name: &str) -> Result<Vec<u8>> {
    if name.len() > LONGEST_NAME {
        let len = name.len();
        return Err(Error::Value(format!(
            "a name of {len} bytes: at most {LONGEST_NAME} bytes of UTF-8 are possible"
        )));
    }
    Ok([&prefix(0, NAME), name.as_bytes()].concat())
}

/// The number in a key at a place.
#[inline]
pub fn number_in(key: &[u8], at: usize) -> Result<u64> {
    key.get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| Error::corrupt("a key is too short"))
}

/// What is known of a container as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub kind: u8,
    pub flags: u8,
    /// How often it is referred to from other containers.
    pub refs: u32,
    pub len: u64,
    /// The next sequence number, or the position of the first item.
    pub next: u64,
    /// The limit of a queue or a deque, or -1.
    pub aux: i64,
    /// Unfinished tasks, or anything else.
    pub count: i64,
    /// Bytes behind it in its record.
    pub info: usize,
}

pub const HEAD_LEN: usize = 40;
/// A sequence begins here, and grows both ways.
pub const MIDDLE: u64 = 1 << 63;

impl Head {
    /// It is a part of another container.
    pub const OWNED: u8 = 1;
    /// It has a name.
    pub const NAMED: u8 = 2;
    /// It is being freed, and no process can have it back.
    pub const FREEING: u8 = 4;
    /// Nothing keeps it alive: it is to be freed.
    pub const GARBAGE: u8 = 8;
    /// A queue that takes no more items.
    pub const SHUT: u8 = 16;
    /// A mapping whose items lie behind this head.
    pub const PACKED: u8 = 32;

    pub fn new(kind: u8, aux: i64) -> Self {
        let next = if super::kind::is_mapping(kind) { 0 } else { MIDDLE };
        Self { kind, flags: 0, refs: 0, len: 0, next, aux, count: 0, info: 0 }
    }

    #[inline]
    pub fn read(record: &[u8]) -> Result<Self> {
        let Some(head) = record.get(..HEAD_LEN) else {
            return Err(Error::corrupt("a head is too short"));
        };
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("inside"));
        Ok(Self {
            kind: head[0],
            flags: head[1],
            refs: u32::from_le_bytes(head[4..8].try_into().expect("inside")),
            len: word(8),
            next: word(16),
            aux: word(24) as i64,
            count: word(32) as i64,
            info: record.len() - HEAD_LEN,
        })
    }

    #[inline]
    pub fn to_bytes(self) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        head[0] = self.kind;
        head[1] = self.flags;
        head[4..8].copy_from_slice(&self.refs.to_le_bytes());
        head[8..16].copy_from_slice(&self.len.to_le_bytes());
        head[16..24].copy_from_slice(&self.next.to_le_bytes());
        head[24..32].copy_from_slice(&self.aux.to_le_bytes());
        head[32..].copy_from_slice(&self.count.to_le_bytes());
        head
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
}

/// What is stored under a key of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    pub seq: u64,
    pub original: &'a [u8],
    /// Empty in a set.
    pub value: &'a [u8],
}

/// Bytes in front of an item's original key.
pub const ITEM_HEAD: usize = 12;

impl<'a> Item<'a> {
    #[inline]
    pub fn read(record: &'a [u8]) -> Result<Self> {
        let bad = || Error::corrupt("an item is too short");
        let seq = u64_at(record, 0).ok_or_else(bad)?;
        let len = u32_at(record, 8).ok_or_else(bad)? as usize;
        let (original, value) = record[ITEM_HEAD..].split_at_checked(len).ok_or_else(bad)?;
        Ok(Self { seq, original, value })
    }

    /// Whether another value can be written over it: no other container is concerned.
    #[inline]
    pub fn is_simple(&self) -> bool {
        self.original.is_empty() && super::encoding::is_simple(self.value)
    }

    /// The first bytes of the record.
    #[inline]
    pub fn head(seq: u64, original: usize) -> [u8; ITEM_HEAD] {
        let mut head = [0; ITEM_HEAD];
        head[..8].copy_from_slice(&seq.to_le_bytes());
        head[8..].copy_from_slice(&(original as u32).to_le_bytes());
        head
    }
}

/// A claimed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    pub owner: u64,
    pub position: u64,
    pub value: &'a [u8],
}

impl<'a> Claim<'a> {
    pub fn read(record: &'a [u8]) -> Result<Self> {
        let bad = || Error::corrupt("a claim is too short");
        let owner = u64_at(record, 0).ok_or_else(bad)?;
        let position = u64_at(record, 8).ok_or_else(bad)?;
        Ok(Self { owner, position, value: &record[16..] })
    }
}

/// What the store knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    version: u32,
    pub next_container: u64,
    pub next_owner: u64,
}

impl Meta {
    pub const LEN: usize = 20;

    pub fn fresh(sums: bool) -> Self {
        let version = if sums { NEWEST } else { VERSION };
        Self { version, next_container: 1, next_owner: 1 }
    }

    /// Whether each record has a sum behind it, as this one has, with which it is given.
    pub fn has_sums(stored: &[u8]) -> Result<bool> {
        let meta = Self::read(stored)?;
        let with = meta.version >= VERSION_WITH_SUMS;
        let record = if with { sums::checked(&prefix(0, META), stored)? } else { stored };
        if record.len() == Self::LEN {
            return Ok(with);
        }
        Err(Error::corrupt("its first record"))
    }

    /// The version of a store in a folder.
    pub fn version(stored: &[u8]) -> Result<u32> {
        Ok(Self::read(stored)?.version)
    }

    pub fn read(record: &[u8]) -> Result<Self> {
        let version = u32_at(record, 0).ok_or_else(|| Error::corrupt("its first record"))?;
        if !(VERSION..=NEWEST).contains(&version) {
            return Err(Error::Version(format!(
                "a store of version {version}, and this garrison knows version {NEWEST} \
                 and older ones; use the garrison that has written it"
            )));
        }
        let word = |at| u64_at(record, at).ok_or_else(|| Error::corrupt("its first record"));
        Ok(Self { version, next_container: word(4)?, next_owner: word(12)? })
    }

    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.next_container.to_le_bytes());
        bytes[12..].copy_from_slice(&self.next_owner.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let head = Head { flags: 3, refs: 7, len: 1 << 40, count: -5, ..Head::new(2, 17) };
        assert_eq!(Head::read(&head.to_bytes()), Ok(head));
        let meta = Meta { next_container: 5, next_owner: 1 << 50, ..Meta::fresh(false) };
        assert_eq!(Meta::read(&meta.to_bytes()), Ok(meta));
        let record = [&Item::head(9, 2)[..], b"ok", b"value"].concat();
        assert_eq!(Item::read(&record), Ok(Item { seq: 9, original: b"ok", value: b"value" }));
    }

    #[test]
    fn the_first_record_tells_of_sums() {
        let (key, bare) = (prefix(0, META), Meta::fresh(false).to_bytes());
        assert_eq!(Meta::has_sums(&bare), Ok(false));
        let record = Meta::fresh(true).to_bytes();
        let stored = [&record[..], &sums::of(&key, &record)].concat();
        assert_eq!(Meta::has_sums(&stored), Ok(true));
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::has_sums(&damaged).is_err(), "bit {bit}");
        }
        assert!(Meta::has_sums(&record).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        assert!(Head::read(&[0; 39]).is_err());
        assert!(Item::read(&Item::head(9, 1)).is_err());
        assert!(matches!(Meta::read(&[9; 20]), Err(Error::Version(_))));
    }

    #[test]
    fn keys_lie_in_the_order_of_their_numbers() {
        assert!(keyed(1, ORDER, 255) < keyed(1, ORDER, 256));
        assert!(keyed(1, ORDER, u64::MAX) < keyed(1, POSITION, 0));
        assert!(keyed(255, CLAIM, 0)[..] < prefix(256, HEAD)[..]);
    }
}
