//! Keys, values, records and pages of a store: what a client sends, and what a damaged file holds.

use super::Input;
use crate::store::encoding::keys::{to_value, Canonical, Key};
use crate::store::encoding::trees::Tree;
use crate::store::encoding::{check, integers, tag, Link};
use crate::store::mapping::order;
use crate::store::pages::{check as check_pages, report};
use crate::store::records::{self, Claim, Head, Item, Meta};
use crate::store::{packed, runs};

/// A key or a value, whatever it is.
pub fn keys(data: &[u8]) {
    let _ = (check::holds_pickle(data), Link::of(data));
    if check::value(data).is_ok() {
        assert!(check::holds_pickle(data).is_ok(), "a value that is good and cannot be walked");
        walk(data);
    }
    if let Ok(key) = Key::of_value(data) {
        let value = to_value(key.canonical.bytes(), &key.original).expect("a key is a value");
        let again = Key::of_value(&value).expect("a key that was read can be read");
        assert_eq!(again.canonical.bytes(), key.canonical.bytes(), "a key that changes");
    }
    pair(&mut Input(data));
    number(data);
}

fn walk(value: &[u8]) {
    if value.first() != Some(&tag::TREE) {
        return;
    }
    let mut tree = Tree::of(value).expect("it was checked");
    for _ in 0..tree.values() {
        walk(tree.take().expect("it was checked"));
    }
    tree.finish().expect("it was checked");
}

fn pair(input: &mut Input<'_>) {
    let (canonical, original) = (input.piece(), input.0);
    let _ = (Canonical::from_bytes(canonical), to_value(canonical, original));
    if let Ok(key) = Key::of_pair(canonical, original) {
        let value = to_value(key.canonical.bytes(), &key.original).expect("a key is a value");
        Key::of_value(&value).expect("a key that was read can be read");
    }
}

fn number(bytes: &[u8]) {
    let shortest = integers::shortest(bytes);
    assert!(shortest.len() <= bytes.len() && integers::small(shortest) == integers::small(bytes));
    assert_eq!(integers::shortest(shortest), shortest, "the shortest form can be shortened");
    let value = integers::value_of(bytes);
    assert_eq!(check::scalar(&value), Ok(()), "a number is a value");
    let (a, b) = bytes.split_at(bytes.len() / 2);
    if let Ok(sum) = integers::sum(a, b) {
        assert_eq!(check::scalar(&sum), Ok(()), "a sum is a value");
    }
    if let Ok(eight) = bytes.try_into() {
        if let Some(whole) = integers::of_float(f64::from_le_bytes(eight)) {
            assert_eq!(integers::shortest(&whole), whole, "a whole number in its shortest form");
        }
    }
}

/// Records as a damaged file may have them.
pub fn store_records(data: &[u8]) {
    if let Ok(head) = Head::read(data) {
        assert_eq!(Head::read(&head.to_bytes()).map(|again| again.info), Ok(0));
    }
    if let Ok(item) = Item::read(data) {
        assert_eq!(records::ITEM_HEAD + item.original.len() + item.value.len(), data.len());
        let _ = (to_value(item.original, item.value), check::value(item.value));
    }
    if let Ok(claim) = Claim::read(data) {
        let _ = check::value(claim.value);
    }
    let _ = (Meta::read(data), Input(data).number());
    for at in [0, 8, 9, 17, usize::MAX - 8] {
        if at.checked_add(8).is_some() {
            let _ = records::number_in(data, at);
        }
    }
    if let Ok(name) = std::str::from_utf8(data) {
        let _ = records::name(name);
    }
    several(data);
}

/// A record of several items. Each has one at least, if only a damaged one, so every walk moves on.
fn several(data: &[u8]) {
    let mut count = 0;
    for item in runs::items(data) {
        let _ = item.map(check::value);
        count += 1;
    }
    assert!(count > 0 && runs::nth(data, count).is_err());
    if let Some(left) = runs::is_run(data).then(|| order::without(data, 1)).and_then(Result::ok) {
        assert!(runs::nth(&left, 1).map_or(true, <[u8]>::is_empty), "a key that is still there");
    }
    for found in packed::items(data).flatten() {
        let (canonical, item) = found;
        let _ = (to_value(canonical, item.original), check::value(item.value));
    }
}

/// A whole file, whose pages may be of 512 bytes.
pub fn store_pages(data: &[u8]) {
    let reported = report(data).map(|report| report.damage.is_empty());
    if check_pages(data).is_err() {
        assert_ne!(reported, Ok(true), "damage that the report does not find");
    }
}
