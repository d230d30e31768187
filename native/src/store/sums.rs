//! A sum behind each record of a store in a folder, so that a changed byte is an error.
//!
//! ```text
//! record    what is stored ...    sum:32
//! ```
//! It is the low half of XXH64 of the record, seeded with that of its key: a record under another key
//! is damage too. LMDB itself has no sums. A store in memory has none: its pages are in no file, and
//! only its own processes write to them. Whether a store has sums, its first record tells (`Meta`).

use super::{Error, Result};

pub const LEN: usize = 4;

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;
const STRIPE: usize = 32;

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

#[inline]
fn round(sum: u64, word: u64) -> u64 {
    sum.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

#[inline]
fn merge(hash: u64, sum: u64) -> u64 {
    (hash ^ round(0, sum)).wrapping_mul(P1).wrapping_add(P4)
}

/// Four sums at a time, of as many stripes as there are. Written out: adapters of iterators are not
/// always inlined, and cost thirty times as much then.
fn stripes(bytes: &[u8], seed: u64) -> u64 {
    let (mut a, mut b) = (seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2));
    let (mut c, mut d) = (seed, seed.wrapping_sub(P1));
    for stripe in bytes.chunks_exact(STRIPE) {
        a = round(a, word(&stripe[..8]));
        b = round(b, word(&stripe[8..16]));
        c = round(c, word(&stripe[16..24]));
        d = round(d, word(&stripe[24..]));
    }
    let hash = a.rotate_left(1).wrapping_add(b.rotate_left(7));
    let hash = hash.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
    merge(merge(merge(merge(hash, a), b), c), d)
}

/// XXH64, of Yann Collet: <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.
#[inline]
fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let begun = if bytes.len() < STRIPE { seed.wrapping_add(P5) } else { stripes(bytes, seed) };
    let mut hash = begun.wrapping_add(bytes.len() as u64);
    let rest = &bytes[bytes.len() / STRIPE * STRIPE..];
    let words = rest.chunks_exact(8);
    let mut rest = words.remainder();
    for each in words {
        hash = (hash ^ round(0, word(each))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    if let Some((half, last)) = rest.split_first_chunk::<4>() {
        let half = u64::from(u32::from_le_bytes(*half));
        hash = (hash ^ half.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = last;
    }
    for &each in rest {
        hash = (hash ^ u64::from(each).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// The sum of a record.
#[inline]
pub fn of(key: &[u8], record: &[u8]) -> [u8; LEN] {
    (xxh64(record, xxh64(key, 0)) as u32).to_le_bytes()
}

/// A record without its sum, which must be right.
#[inline]
pub fn checked<'r>(key: &[u8], stored: &'r [u8]) -> Result<&'r [u8]> {
    without_sum(key, stored).ok_or_else(|| wrong_sum(key))
}

/// The same, or nothing.
#[inline]
pub fn without_sum<'r>(key: &[u8], stored: &'r [u8]) -> Option<&'r [u8]> {
    let (record, sum) = stored.split_last_chunk::<LEN>()?;
    (*sum == of(key, record)).then_some(record)
}

#[cold]
fn wrong_sum(key: &[u8]) -> Error {
    let number = key.first_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
    match number {
        0 => Error::corrupt("one of its own records has changed on the disk"),
        number => Error::corrupt(&format!("a value of container {number} has changed on the disk")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_xxh64() {
        let bytes: Vec<u8> = (0..101_u8).collect();
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc", 0), 0x44BC_2CF5_AD77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition", 0), 0xFBCE_A83C_8A37_8BF1);
        assert_ne!(xxh64(&bytes, 0), xxh64(&bytes, 1));
    }

    #[test]
    fn every_changed_bit_is_found() {
        let key = b"\0\0\0\0\0\0\0\x07\x03key";
        for len in [0, 1, 7, 12, 40, 100] {
            let record: Vec<u8> = (0..len).collect();
            let stored = [&record[..], &of(key, &record)].concat();
            assert_eq!(checked(key, &stored), Ok(&record[..]));
            for bit in 0..stored.len() * 8 {
                let mut damaged = stored.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(checked(key, &damaged).is_err(), "bit {bit} of {len} bytes");
            }
            assert!(checked(&key[..8], &stored).is_err());
        }
        assert!(checked(key, b"abc").is_err());
    }
}
