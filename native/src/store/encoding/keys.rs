//! Canonical keys: two keys are the same bytes if a dict takes them for the same.

use super::{float, integers, tag, u32_at};
use crate::store::{Error, Result};
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

/// Keys with a longer canonical form are known by its digest.
pub const LONGEST: usize = 400;
/// Bytes in front of a canonical key in its record's key.
pub const AHEAD: usize = 9;
const DIGEST: u8 = b'#';
const DIGEST_LEN: usize = 33;

/// The first byte of a canonical key.
pub mod form {
    pub const NONE: u8 = b'n';
    /// Big endian, so that numbers in a row are keys in a row.
    pub const INT: u8 = b'i';
    pub const FLOAT: u8 = b'f';
    pub const STR: u8 = b's';
    pub const BYTES: u8 = b'b';
    pub const TUPLE: u8 = b't';
    pub const FROZENSET: u8 = b'z';
    /// Text that UTF-8 cannot say, with its lone surrogates as they are.
    pub const SURROGATES: u8 = b'u';
}

/// A canonical key with room in front for the rest of a record's key.
#[derive(Clone)]
pub struct Canonical {
    len: usize,
    bytes: [u8; AHEAD + LONGEST],
}

impl Canonical {
    /// From a form and what follows it.
    #[inline]
    pub fn of(form: u8, rest: &[u8]) -> Self {
        if rest.len() >= LONGEST {
            return Self::digest(&[&[form], rest]);
        }
        let mut bytes = [0; AHEAD + LONGEST];
        bytes[AHEAD] = form;
        bytes[AHEAD + 1..AHEAD + 1 + rest.len()].copy_from_slice(rest);
        Self { len: rest.len() + 1, bytes }
    }

    /// Become a canonical form, which is not longer than one can be.
    #[inline]
    pub fn assign(&mut self, canonical: &[u8]) {
        self.len = canonical.len();
        self.bytes[AHEAD..AHEAD + canonical.len()].copy_from_slice(canonical);
    }

    /// From bytes of any length, but not none.
    pub fn from_bytes(canonical: &[u8]) -> Result<Self> {
        match canonical.split_first() {
            Some((&form, rest)) => Ok(Self::of(form, rest)),
            None => Err(Error::malformed("an empty key")),
        }
    }

    #[cold]
    fn digest(parts: &[&[u8]]) -> Self {
        let mut hasher = Blake2b::<U32>::new();
        for part in parts {
            hasher.update(part);
        }
        Self::of(DIGEST, &hasher.finalize())
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[AHEAD..AHEAD + self.len]
    }

    /// Whether the key cannot be told from this.
    pub fn is_digest(&self) -> bool {
        self.bytes[AHEAD] == DIGEST
    }

    /// The record's key, with this in front.
    #[inline]
    pub fn behind(&mut self, ahead: &[u8; AHEAD]) -> &[u8] {
        self.bytes[..AHEAD].copy_from_slice(ahead);
        &self.bytes[..AHEAD + self.len]
    }
}

/// A key as it is given: its canonical form, and itself if the canonical form does not tell.
#[derive(Clone)]
pub struct Key {
    pub canonical: Canonical,
    /// A value, or empty.
    pub original: Vec<u8>,
}

impl Key {
    #[inline]
    pub fn plain(form: u8, rest: &[u8]) -> Self {
        Self { canonical: Canonical::of(form, rest), original: Vec::new() }
    }

    #[inline]
    pub fn int(number: i64) -> Self {
        Self::plain(form::INT, integers::shortest_reversed(&number.to_be_bytes()))
    }

    /// From a key as a value, of which nothing is known.
    pub fn of_value(value: &[u8]) -> Result<Self> {
        let (&first, rest) =
            value.split_first().ok_or_else(|| Error::malformed("an empty value"))?;
        let eight = || rest.try_into().map_err(|_| Error::malformed("a number of a wrong length"));
        let mut key = match first {
            tag::NONE if rest.is_empty() => Self::plain(form::NONE, &[]),
            tag::FALSE | tag::TRUE if rest.is_empty() => {
                let number = i64::from(first == tag::TRUE);
                Self { original: value.to_vec(), ..Self::int(number) }
            }
            tag::INT => Self::int(i64::from_le_bytes(eight()?)),
            tag::BIG => Self::plain(form::INT, &integers::reversed(rest)),
            tag::FLOAT => Self::of_float(f64::from_le_bytes(eight()?)),
            tag::STR => {
                std::str::from_utf8(rest)
                    .map_err(|_| Error::malformed("text that is not UTF-8"))?;
                Self::plain(form::STR, rest)
            }
            tag::BYTES => Self::plain(form::BYTES, rest),
            tag::KEY => return Self::of_pair_value(rest),
            tag::PICKLE => {
                return Err(Error::malformed("a pickled key without its canonical form"))
            }
            _ => return Err(Error::malformed("no key")),
        };
        if key.canonical.is_digest() {
            key.original = value.to_vec();
        }
        Ok(key)
    }

    /// The canonical form of a key as a value, into a buffer; its original where that does not tell.
    #[inline]
    pub fn split_value(value: &[u8], canonical: &mut Vec<u8>) -> Result<Vec<u8>> {
        canonical.clear();
        match *value {
            [tag::STR, ref text @ ..] if text.len() < LONGEST && text.is_ascii() => {
                canonical.push(form::STR);
                canonical.extend_from_slice(text);
                Ok(Vec::new())
            }
            [tag::INT, ref number @ ..] if number.len() == 8 => {
                let number = i64::from_le_bytes(number.try_into().expect("eight"));
                canonical.push(form::INT);
                canonical.extend_from_slice(integers::shortest_reversed(&number.to_be_bytes()));
                Ok(Vec::new())
            }
            _ => {
                let key = Self::of_value(value)?;
                canonical.extend_from_slice(key.canonical.bytes());
                Ok(key.original)
            }
        }
    }

    #[inline]
    pub fn of_float(number: f64) -> Self {
        match integers::of_float(number) {
            Some(whole) => Self {
                canonical: Canonical::of(form::INT, &integers::reversed(&whole)),
                original: float(number).to_vec(),
            },
            None => Self::plain(form::FLOAT, &number.to_le_bytes()),
        }
    }

    fn of_pair_value(rest: &[u8]) -> Result<Self> {
        let short = || Error::malformed("a key that ends too soon");
        let len = u32_at(rest, 0).ok_or_else(short)? as usize;
        let (canonical, original) = rest[4..].split_at_checked(len).ok_or_else(short)?;
        Self::of_pair(canonical, original)
    }

    /// From both forms, of which nothing is known.
    pub fn of_pair(canonical: &[u8], original: &[u8]) -> Result<Self> {
        let hashed = canonical.first() == Some(&DIGEST);
        if hashed && canonical.len() != DIGEST_LEN {
            return Err(Error::malformed("a digest of a wrong length"));
        }
        if canonical.first() == Some(&tag::RUN) {
            return Err(Error::malformed("a canonical key that looks like several"));
        }
        let canonical = Canonical::from_bytes(canonical)?;
        match original.first() {
            None if canonical.is_digest() => {
                return Err(Error::malformed("a digest without its key"))
            }
            None => check_form(canonical.bytes(), super::DEPTH)?,
            // Of a pickle it is not known; of anything else it is: under another form no lookup
            // would find the key.
            Some(&tag::PICKLE) => super::check::scalar(original)?,
            Some(&first) if first < tag::PICKLE => {
                if Self::of_value(original)?.canonical.bytes() != canonical.bytes() {
                    return Err(Error::malformed("a key under the canonical form of another"));
                }
            }
            Some(_) => return Err(Error::malformed("no key")),
        }
        Ok(Self { canonical, original: original.to_vec() })
    }
}

/// Raise unless a key can be made of it.
fn check_form(canonical: &[u8], depth: usize) -> Result<()> {
    let bad = || Error::malformed("a canonical key");
    let (&first, rest) = canonical.split_first().ok_or_else(bad)?;
    let fine = match first {
        form::NONE => rest.is_empty(),
        form::INT => integers::shortest_reversed(rest).len() == rest.len(),
        form::FLOAT => rest
            .try_into()
            .is_ok_and(|bytes| integers::of_float(f64::from_le_bytes(bytes)).is_none()),
        form::STR => std::str::from_utf8(rest).is_ok(),
        form::BYTES => true,
        form::TUPLE | form::FROZENSET if depth > 0 => {
            let mut last: &[u8] = &[];
            for item in items(rest) {
                let item = item.ok_or_else(bad)?;
                check_form(item, depth - 1)?;
                // Two that are not equal to themselves have one form.
                if first == form::FROZENSET && item < last {
                    return Err(bad());
                }
                last = item;
            }
            true
        }
        _ => false,
    };
    if fine {
        Ok(())
    } else {
        Err(bad())
    }
}

/// The parts of a tuple's canonical form; nothing where it ends in the middle of one.
pub fn items(mut rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let item = u32_at(rest, 0).and_then(|len| rest[4..].split_at_checked(len as usize)).map(
            |(item, behind)| {
                rest = behind;
                item
            },
        );
        if item.is_none() {
            rest = &[];
        }
        Some(item)
    })
}

/// A key as a value, from what is stored of it.
pub fn to_value(canonical: &[u8], original: &[u8]) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    append_value(canonical, original, &mut value)?;
    Ok(value)
}

/// The same, behind other bytes.
#[inline]
pub fn append_value(canonical: &[u8], original: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if original.first().is_some_and(|&first| first < tag::PICKLE) {
        out.extend_from_slice(original);
        return Ok(());
    }
    let plain = if original.is_empty() { plain_tag(canonical)? } else { None };
    match plain {
        Some(tag::NONE) => out.push(tag::NONE),
        Some(tag::INT) => append_integer(&canonical[1..], out),
        Some(tag) => {
            out.push(tag);
            out.extend_from_slice(&canonical[1..]);
        }
        None => out.extend_from_slice(&pair_value(canonical, original)),
    }
    Ok(())
}

/// The tag of the value that a canonical key tells by itself.
#[inline]
fn plain_tag(canonical: &[u8]) -> Result<Option<u8>> {
    Ok(match *canonical.first().ok_or_else(|| Error::corrupt("an empty key"))? {
        form::NONE => Some(tag::NONE),
        form::INT => Some(tag::INT),
        form::FLOAT => Some(tag::FLOAT),
        form::STR => Some(tag::STR),
        form::BYTES => Some(tag::BYTES),
        _ => None,
    })
}

#[inline]
fn append_integer(reversed: &[u8], out: &mut Vec<u8>) {
    match integers::small_reversed(reversed) {
        Some(number) => out.extend_from_slice(&super::int(number)),
        None => out.extend_from_slice(&integers::value_of(&turned(reversed))),
    }
}

/// The bytes the other way round.
pub fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

/// Both forms of a key in one value.
pub fn pair_value(canonical: &[u8], original: &[u8]) -> Vec<u8> {
    let len = (canonical.len() as u32).to_le_bytes();
    [&[tag::KEY], &len[..], canonical, original].concat()
}

#[cfg(test)]
mod tests {
    use super::super::int;
    use super::*;

    fn canonical(value: &[u8]) -> Vec<u8> {
        Key::of_value(value).unwrap().canonical.bytes().to_vec()
    }

    #[test]
    fn equal_numbers_are_one_key() {
        assert_eq!(canonical(&int(1)), b"i\x01");
        assert_eq!(canonical(&[tag::TRUE]), b"i\x01");
        assert_eq!(canonical(&float(1.0)), b"i\x01");
        assert_eq!(canonical(&[tag::BIG, 1, 0, 0]), b"i\x01");
        assert_eq!(canonical(&int(0)), canonical(&[tag::FALSE]));
        assert_eq!(canonical(&float(-0.0)), b"i");
        assert_ne!(canonical(&float(1.5)), canonical(&int(1)));
    }

    #[test]
    fn a_key_comes_back_as_it_was() {
        let long = [&[tag::STR], &[b'x'; 1000][..]].concat();
        for value in
            [&int(-7)[..], &[tag::TRUE], &float(2.0), &float(0.1), b"\x06ab", b"\x07", &long]
        {
            let key = Key::of_value(value).unwrap();
            assert_eq!(to_value(key.canonical.bytes(), &key.original).unwrap(), value);
        }
    }

    #[test]
    fn long_keys_are_digests() {
        let key = Key::of_value(&[&[tag::BYTES], &[0; 400][..]].concat()).unwrap();
        assert_eq!(key.canonical.bytes().len(), DIGEST_LEN);
        let most = Key::of_value(&[&[tag::BYTES], &[0; 399][..]].concat()).unwrap();
        assert_eq!(most.canonical.bytes().len(), LONGEST);
    }

    #[test]
    fn a_key_is_split_as_it_is_read() {
        let long = [&[tag::STR], &[b'x'; 400][..]].concat();
        let most = &long[..400];
        let others = [&[tag::NONE][..], &[tag::TRUE], &float(2.0), &float(0.1), b"\x07b"];
        let texts = [&b"\x06ab"[..], b"\x06", "\u{6}\u{e9}".as_bytes(), most, &long];
        let numbers = [0, 1, -1, 127, 128, -129, i64::MIN, i64::MAX].map(int);
        let numbers = numbers.iter().map(|number| &number[..]);
        let mut canonical = b"left".to_vec();
        for value in others.into_iter().chain(texts).chain(numbers) {
            let (key, original) =
                (Key::of_value(value).unwrap(), Key::split_value(value, &mut canonical).unwrap());
            assert_eq!((&canonical[..], original), (key.canonical.bytes(), key.original));
        }
        assert!(Key::split_value(&[tag::STR, 0xff], &mut canonical).is_err());
        assert!(Key::split_value(&[tag::INT, 1], &mut canonical).is_err());
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let bad: [&[u8]; 12] = [
            &[],
            &[tag::INT, 1],
            &[tag::STR, 0xff],
            &[tag::PICKLE, 1],
            &[tag::CHILD],
            &[tag::NONE, 0],
            &[tag::KEY],
            &[tag::KEY, 9, 0, 0, 0, b'i'],
            &[tag::KEY, 0, 0, 0, 0],
            &[tag::KEY, 1, 0, 0, 0, b'x'],
            &[tag::KEY, 3, 0, 0, 0, b't', 1, 0],
            &[tag::KEY, 3, 0, 0, 0, b'i', 0, 1],
        ];
        for value in bad {
            assert!(Key::of_value(value).is_err(), "{value:?}");
        }
        assert!(Key::of_pair(b"#short", &int(1)).is_err());
        // Each is what no dict has: another key's form, a whole number as a float, a set's parts
        // out of order.
        assert!(Key::of_pair(b"i\x02", &int(1)).is_err());
        assert!(Key::of_pair(&[&b"#"[..], &[0; 32]].concat(), b"\x06x").is_err());
        assert!(Key::of_pair(&[&b"f"[..], &2.0_f64.to_le_bytes()].concat(), &[]).is_err());
        assert!(Key::of_pair(b"z\x01\0\0\0n\x01\0\0\0i", &[]).is_err());
        assert!(Key::of_pair(b"i\x01", &[tag::TREE]).is_err());
        let mut deep = b"n".to_vec();
        for _ in 0..102 {
            deep = [b"t", &(deep.len() as u32).to_le_bytes()[..], &deep].concat();
        }
        assert!(check_form(&deep, super::super::DEPTH).is_err());
    }
}
