//! Whether bytes that were received are a value, before anything is done with them.

use super::keys::Key;
use super::trees::Tree;
use super::{integers, tag, u32_at, Link, DEPTH, REF_LEN};
use crate::store::{kind, Error, Result};

/// Raise unless it is a value that may be stored.
pub fn value(bytes: &[u8]) -> Result<()> {
    match bytes.first() {
        Some(&tag::TREE) => tree(bytes, DEPTH),
        Some(&tag::REF) => reference(bytes),
        Some(&tag::TUPLE) => tuple(&bytes[1..], DEPTH),
        Some(&tag::CHILD) => Err(Error::malformed("a container that belongs to another place")),
        _ => scalar(bytes),
    }
}

/// Raise unless it is a value that is no container.
pub fn scalar(bytes: &[u8]) -> Result<()> {
    let (&first, rest) = bytes.split_first().ok_or_else(|| Error::malformed("an empty value"))?;
    let fine = match first {
        tag::NONE | tag::FALSE | tag::TRUE => rest.is_empty(),
        tag::INT | tag::FLOAT => rest.len() == 8,
        tag::BIG => integers::small(rest).is_none(),
        tag::STR => std::str::from_utf8(rest).is_ok(),
        tag::BYTES => true,
        tag::PICKLE => !rest.is_empty(),
        _ => return Err(Error::malformed("an unknown tag")),
    };
    if fine {
        Ok(())
    } else {
        Err(Error::malformed("a value of a wrong length, or text that is not UTF-8"))
    }
}

/// The items of a tuple are plain values, or tuples.
fn tuple(mut rest: &[u8], depth: usize) -> Result<()> {
    let bad = || Error::malformed("a tuple");
    while !rest.is_empty() && depth > 0 {
        let len = u32_at(rest, 0).ok_or_else(bad)? as usize;
        let (item, behind) = rest[4..].split_at_checked(len).ok_or_else(bad)?;
        match item.split_first() {
            Some((&tag::TUPLE, inner)) => tuple(inner, depth - 1)?,
            Some((&tag::PICKLE, _)) => return Err(bad()),
            _ => scalar(item)?,
        }
        rest = behind;
    }
    if rest.is_empty() && depth > 0 {
        Ok(())
    } else {
        Err(bad())
    }
}

fn reference(bytes: &[u8]) -> Result<()> {
    let link = Link::of(bytes).filter(|link| kind::exists(link.kind) && link.number != 0);
    if link.is_none() || bytes.len() != REF_LEN || bytes[10..] != [0; 8] {
        return Err(Error::malformed("a reference to a container"));
    }
    Ok(())
}

fn tree(bytes: &[u8], depth: usize) -> Result<()> {
    let mut tree = Tree::of(bytes)?;
    if depth == 0 {
        return Err(Error::malformed("containers more than 100 deep"));
    }
    if !kind::is_plain(tree.kind) {
        return Err(Error::malformed("a container that cannot be stored in another"));
    }
    for at in 0..tree.values() {
        let item = tree.take()?;
        if tree.kind == kind::SET || (tree.has_pairs() && at % 2 == 0) {
            Key::of_value(item)?;
        } else if item.first() == Some(&tag::TREE) {
            self::tree(item, depth - 1)?;
        } else {
            value(item)?;
        }
    }
    tree.finish()
}

/// The first byte of an object that is written as plain data, not as a pickle.
const PLAIN_MARK: u8 = 1;

/// Whether a value is, or holds, something that its reader would unpickle.
pub fn holds_pickle(bytes: &[u8]) -> Result<bool> {
    holds_pickle_to(bytes, DEPTH)
}

fn holds_pickle_to(bytes: &[u8], depth: usize) -> Result<bool> {
    let short = || Error::malformed("a key that ends too soon");
    match bytes.split_first() {
        Some((&tag::PICKLE, rest)) => Ok(rest.first() != Some(&PLAIN_MARK)),
        Some((&tag::KEY, rest)) => {
            let len = u32_at(rest, 0).ok_or_else(short)? as usize;
            let original = rest[4..].get(len..).ok_or_else(short)?;
            Ok(original.first() == Some(&tag::PICKLE) && original.get(1) != Some(&PLAIN_MARK))
        }
        Some((&tag::TREE, _)) if depth > 0 => {
            let mut tree = Tree::of(bytes)?;
            for _ in 0..tree.values() {
                if holds_pickle_to(tree.take()?, depth - 1)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Some((&tag::TREE, _)) => Err(Error::malformed("containers more than 100 deep")),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trees::Builder;
    use super::super::{child, int, reference as to};
    use super::*;

    fn list_of(items: &[&[u8]]) -> Vec<u8> {
        let mut builder = Builder::new();
        let begun = builder.begin(kind::LIST, -1);
        for item in items {
            builder.item(item).unwrap();
        }
        builder.end(begun, items.len()).unwrap();
        builder.bytes
    }

    #[test]
    fn good_values_are_taken() {
        let nested = list_of(&[&int(1), &list_of(&[]), &to(kind::DICT, 7), b"\x06ok"]);
        let good: [&[u8]; 5] = [&[0], &int(1), &nested, &to(kind::LIST, 1), &[8, 1]];
        for bytes in good {
            assert_eq!(value(bytes), Ok(()), "{bytes:?}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = list_of(&[&int(1), &list_of(&[b"\x06abc"]), &int(2)]);
        for len in 0..whole.len() {
            assert!(value(&whole[..len]).is_err(), "{len}");
        }
        assert!(value(&[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn what_only_the_store_may_write_is_refused() {
        assert!(value(&child(kind::DICT, 3)).is_err());
        assert!(value(&list_of(&[&child(kind::DICT, 3)])).is_err());
        assert!(value(&to(77, 3)).is_err());
        assert!(value(&to(1, 0)).is_err());
        assert!(value(&[tag::TREE, kind::QUEUE, 0, 0, 0, 0]).is_err());
        assert!(value(&[tag::TREE, kind::LIST, 255, 255, 255, 255]).is_err());
        assert!(value(&[0x77]).is_err());
    }

    #[test]
    fn a_pickle_is_found_wherever_it_is() {
        let (pickle, plain): (&[u8], &[u8]) = (&[tag::PICKLE, 0x80, 4], &[tag::PICKLE, 1, b'1']);
        let key = |original: &[u8]| [&[tag::KEY, 1, 0, 0, 0, 0x20][..], original].concat();
        let with = |item: &[u8]| list_of(&[&int(1), &list_of(&[item])]);
        for bytes in [pickle, &[tag::PICKLE][..], &with(pickle), &key(pickle), &with(&key(pickle))]
        {
            assert_eq!(holds_pickle(bytes), Ok(true), "{bytes:?}");
        }
        for bytes in [plain, &int(8), &with(plain), &key(plain), &key(&[]), &to(kind::DICT, 7)] {
            assert_eq!(holds_pickle(bytes), Ok(false), "{bytes:?}");
        }
        assert!(holds_pickle(&[tag::KEY, 9, 0, 0, 0, 1]).is_err());
        assert!(holds_pickle(&[tag::KEY, 9]).is_err());
        assert!(holds_pickle(&with(plain)[..9]).is_err());
    }

    #[test]
    fn a_tuple_has_plain_items_only() {
        let tuple_of =
            |item: &[u8]| [&[tag::TUPLE], &(item.len() as u32).to_le_bytes()[..], item].concat();
        let deep = |levels: usize| (0..levels).fold(int(1).to_vec(), |inner, _| tuple_of(&inner));
        for good in [&[tag::TUPLE][..], &tuple_of(b"\x06ok"), &deep(100), &list_of(&[&deep(2)])] {
            assert_eq!(value(good), Ok(()), "{good:?}");
        }
        for item in [&[tag::PICKLE, 0x80, 4][..], &to(kind::DICT, 7), &list_of(&[]), &[], &[0x77]] {
            assert!(value(&tuple_of(item)).is_err(), "{item:?}");
        }
        assert!(value(&deep(101)).is_err());
        assert!(value(&tuple_of(&int(1))[..9]).is_err());
        assert!(Key::of_value(&tuple_of(&int(1))).is_err());
    }

    #[test]
    fn depth_is_limited() {
        let deep = |levels: usize| (0..levels).fold(int(1).to_vec(), |inner, _| list_of(&[&inner]));
        assert_eq!(value(&deep(100)), Ok(()));
        assert!(value(&deep(101)).is_err());
        assert!(value(&deep(if cfg!(miri) { 300 } else { 5000 })).is_err());
    }
}
