//! How an item lies in the log: a word that says what and how long, then its bytes.
//!
//! ```text
//! | len:32 | kind:8 | check:24 | bytes ...      from the next granule on: the next item
//! ```
//! The check is made of the rest and of the item's number: where none begins, none is found.
//! Of the exact types that most items have the bytes are the value. Everything else is a pickle, and
//! of what is large only the address in its sender's region lies here.

use super::large_items::{BlockAddress, LargeItem};
use super::log::GRANULE;

pub const NONE: u8 = 0;
pub const TRUE: u8 = 1;
pub const FALSE: u8 = 2;
pub const INT: u8 = 3;
pub const FLOAT: u8 = 4;
pub const BYTES: u8 = 5;
pub const STR: u8 = 6;
pub const PICKLE: u8 = 7;
pub const LARGE: u8 = 8;

const HEAD: usize = size_of::<u64>();

/// What is to be put, written down already. `K` keeps the bytes of an object of the program.
pub struct EncodedItem<K> {
    pub kind: u8,
    bytes: Bytes<K>,
    /// Where the bytes are, if it is large.
    pub large: Option<LargeItem>,
    /// Handles may be in it, which are under way once it is written.
    pub travels: bool,
}

enum Bytes<K> {
    Word(u64),
    Kept(K, *const u8, usize),
    Address(BlockAddress),
}

impl<K> EncodedItem<K> {
    pub fn word(kind: u8, word: u64) -> Self {
        Self { kind, bytes: Bytes::Word(word), large: None, travels: false }
    }

    /// # Safety
    /// The bytes must live, and stay as they are, as long as `keep` does.
    pub unsafe fn kept(kind: u8, keep: K, bytes: &[u8]) -> Self {
        let bytes = Bytes::Kept(keep, bytes.as_ptr(), bytes.len());
        Self { kind, bytes, large: None, travels: false }
    }

    pub fn large(item: LargeItem) -> Self {
        let bytes = Bytes::Address(item.address);
        Self { kind: LARGE, bytes, large: Some(item), travels: false }
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            // SAFETY: a word is eight bytes.
            Bytes::Word(word) => unsafe {
                std::slice::from_raw_parts(std::ptr::from_ref(word).cast(), 8)
            },
            // SAFETY: what owns them is kept.
            Bytes::Kept(_, start, len) => unsafe { std::slice::from_raw_parts(*start, *len) },
            Bytes::Address(address) => address.as_bytes(),
        }
    }

    #[inline]
    pub fn granules(&self) -> u32 {
        granules(self.bytes().len())
    }

    /// Write it down as the item of this number, where there is room for as many granules.
    ///
    /// # Safety
    /// The memory is the caller's, and the address a granule's.
    #[inline]
    pub unsafe fn write(&self, to: *mut u8, number: u32) {
        let bytes = self.bytes();
        let check = check(number, self.kind, bytes.len() as u32);
        let head = bytes.len() as u64 | u64::from(self.kind) << 32 | u64::from(check) << 40;
        // SAFETY: the caller's word.
        unsafe {
            to.cast::<u64>().write(head);
            match self.bytes {
                Bytes::Word(word) => to.add(HEAD).cast::<u64>().write(word),
                _ => std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(HEAD), bytes.len()),
            }
        }
    }
}

#[inline]
pub fn granules(len: usize) -> u32 {
    (HEAD + len).div_ceil(GRANULE) as u32
}

#[inline]
fn check(number: u32, kind: u8, len: u32) -> u32 {
    let mixed = number ^ len.rotate_left(4) ^ u32::from(kind) << 11 ^ 0x5bd1_e995;
    mixed.wrapping_mul(0x9e37_79b1) >> 8
}

/// The word before an item's bytes.
#[derive(Clone, Copy)]
pub struct ItemHeader {
    pub kind: u8,
    pub len: usize,
    check: u32,
}

impl ItemHeader {
    /// # Safety
    /// An item begins there.
    #[inline]
    pub unsafe fn read(from: *const u8) -> Self {
        // SAFETY: the caller's word.
        let word = unsafe { from.cast::<u64>().read() };
        Self { kind: (word >> 32) as u8, len: word as u32 as usize, check: (word >> 40) as u32 }
    }

    /// Whether it is that of the item with this number, as it was written.
    #[inline]
    pub fn is_of(&self, number: u32) -> bool {
        self.check == check(number, self.kind, self.len as u32)
    }
}

/// # Safety
/// An item of `len` bytes begins there.
#[inline]
pub unsafe fn body<'a>(from: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: the caller's word.
    unsafe { std::slice::from_raw_parts(from.add(HEAD), len) }
}
