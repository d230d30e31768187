//! Containers in an LMDB environment: their records, and what can be done with them.
//!
//! No Python here. `encoding` says how keys and values are written, `records` where they lie;
//! `mapping` and `sequence` are the two structures that all kinds are made of, `nested` what is
//! below a value, `references` what keeps a container alive, `collector` what frees the rest.
//! `lmdb` has all calls of the C library.

pub mod encoding;
pub mod records;

#[cfg(not(loom))]
pub mod audit;
#[cfg(not(loom))]
pub mod bulk;
#[cfg(not(loom))]
pub mod change_words;
#[cfg(not(loom))]
pub mod claims;
#[cfg(not(loom))]
pub mod collector;
#[cfg(not(loom))]
pub mod lmdb;
#[cfg(not(loom))]
pub mod mapping;
#[cfg(not(loom))]
pub mod names;
#[cfg(not(loom))]
pub mod nested;
#[cfg(not(loom))]
pub mod open_store;
#[cfg(not(loom))]
pub mod packed;
#[cfg(not(loom))]
pub mod pages;
#[cfg(not(loom))]
pub mod references;
#[cfg(not(loom))]
pub mod reservation;
#[cfg(not(loom))]
pub mod runs;
#[cfg(not(loom))]
pub mod scan;
#[cfg(not(loom))]
pub mod sequence;
pub mod sums;
#[cfg(not(loom))]
pub mod transaction;

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No room in the store, or under it.
    Full(String),
    /// What is stored is not what was written.
    Corrupt(String),
    /// A store of another version.
    Version(String),
    /// There is no such container, or no more.
    Gone(u64),
    /// It is a container of a kind that cannot do this.
    WrongKind(u8),
    /// There is no such key; the caller knows which.
    Missing,
    /// An index, or an end, at which there is nothing.
    Index(&'static str),
    /// A popitem or pop without a key, of an empty mapping.
    Empty(&'static str),
    /// Something that cannot be stored, or added to.
    Value(String),
    Type(&'static str),
    /// A queue that was shut down takes no items, and has none left.
    Shut,
    /// Another process writes to the store.
    Busy,
    /// This process has no memory for a copy of a value.
    Memory,
    /// Of the operating system.
    System(i32),
}

pub type Result<T> = std::result::Result<T, Error>;

/// A copy of a value, which may be large.
#[inline]
pub fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Error::Memory)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

impl Error {
    pub fn malformed(what: &str) -> Self {
        Self::Value(format!("malformed encoding: {what}"))
    }

    /// For what is found while the store is used.
    pub fn corrupt(what: &str) -> Self {
        Self::Corrupt(format!(
            "the store is damaged: {what}; restore it from a backup (`garrison check` on its folder \
             says what is lost)"
        ))
    }

    /// Whether a transaction in which it happened has to be given up.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Corrupt(_) | Self::System(_))
    }
}

/// What a container is to its users.
pub mod kind {
    pub const DICT: u8 = 1;
    pub const LIST: u8 = 2;
    pub const SET: u8 = 3;
    pub const DEQUE: u8 = 4;
    pub const NAMESPACE: u8 = 5;
    pub const VALUE: u8 = 6;
    pub const ARRAY: u8 = 7;
    pub const QUEUE: u8 = 8;
    pub const JOINABLE_QUEUE: u8 = 9;
    pub const COUNTER: u8 = 10;

    pub fn exists(kind: u8) -> bool {
        (DICT..=COUNTER).contains(&kind)
    }

    pub fn is_mapping(kind: u8) -> bool {
        matches!(kind, DICT | SET | NAMESPACE | COUNTER)
    }

    pub fn is_queue(kind: u8) -> bool {
        matches!(kind, QUEUE | JOINABLE_QUEUE)
    }

    /// Whether a plain object of this kind can be stored in a container, and lives on as a child.
    pub fn is_plain(kind: u8) -> bool {
        (DICT..=DEQUE).contains(&kind)
    }
}
