//! How values and keys are written as bytes. Nothing here knows Python or the store.

pub mod check;
pub mod integers;
pub mod keys;
pub mod trees;

/// The first byte of a value.
pub mod tag {
    pub const NONE: u8 = 0x00;
    pub const FALSE: u8 = 0x01;
    pub const TRUE: u8 = 0x02;
    pub const INT: u8 = 0x03;
    pub const BIG: u8 = 0x04;
    pub const FLOAT: u8 = 0x05;
    pub const STR: u8 = 0x06;
    pub const BYTES: u8 = 0x07;
    pub const PICKLE: u8 = 0x08;
    /// A key that its canonical form alone tells, or with an original that is none of the above.
    pub const KEY: u8 = 0x09;
    /// A tuple of values that are none of those above from PICKLE on: `len:32 item` for each.
    pub const TUPLE: u8 = 0x0a;
    /// A container that belongs to the place where this is stored.
    pub const CHILD: u8 = 0x10;
    /// A container that others may share.
    pub const REF: u8 = 0x11;
    /// A plain container and all that is in it.
    pub const TREE: u8 = 0x12;
    /// Several items of a sequence in one record.
    pub const RUN: u8 = 0x13;
}

/// How deep containers may lie in each other.
pub const DEPTH: usize = 100;
/// Bytes of a CHILD, and of a REF.
pub const CHILD_LEN: usize = 10;
pub const REF_LEN: usize = 18;

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

pub fn int(number: i64) -> [u8; 9] {
    let mut bytes = [tag::INT; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub fn float(number: f64) -> [u8; 9] {
    let mut bytes = [tag::FLOAT; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub fn child(kind: u8, number: u64) -> [u8; CHILD_LEN] {
    let mut bytes = [tag::CHILD; CHILD_LEN];
    bytes[1] = kind;
    bytes[2..].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub fn reference(kind: u8, number: u64) -> [u8; REF_LEN] {
    let mut bytes = [0; REF_LEN];
    bytes[0] = tag::REF;
    bytes[1] = kind;
    bytes[2..10].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Whether a value is all that there is to it: to store it changes no other container.
#[inline]
pub fn is_simple(value: &[u8]) -> bool {
    value.first().is_some_and(|&tag| tag <= tag::PICKLE || tag == tag::TUPLE)
}

/// A container that a value names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub kind: u8,
    pub number: u64,
    pub owned: bool,
}

impl Link {
    /// The container that a value is, if it is one.
    #[inline]
    pub fn of(value: &[u8]) -> Option<Self> {
        match *value.first()? {
            tag::CHILD if value.len() == CHILD_LEN => {
                Some(Self { kind: value[1], number: u64_at(value, 2)?, owned: true })
            }
            tag::REF if value.len() == REF_LEN => {
                Some(Self { kind: value[1], number: u64_at(value, 2)?, owned: false })
            }
            _ => None,
        }
    }
}
