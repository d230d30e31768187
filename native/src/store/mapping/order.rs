//! The order of a mapping: its canonical keys by their sequence numbers, in runs where they came in
//! bulk. A key that is deleted leaves an empty place in its run.

use crate::store::encoding::tag;
use crate::store::lmdb::Reading;
use crate::store::records::{keyed, prefix, Item, ITEM, ORDER};
use crate::store::transaction::Writing;
use crate::store::{copied, runs, Result};

/// Show the keys from a sequence number on, as long as they are wanted.
pub fn walk<'t>(
    reading: &Reading<'t>,
    number: u64,
    from: u64,
    each: impl FnMut(u64, &'t [u8]) -> Result<bool>,
) -> Result<()> {
    runs::walk(reading, (number, ORDER), from, of_keys(each))
}

/// The same from behind, from the last key in front of a sequence number.
pub fn walk_back<'t>(
    reading: &Reading<'t>,
    number: u64,
    before: u64,
    each: impl FnMut(u64, &'t [u8]) -> Result<bool>,
) -> Result<()> {
    runs::walk_back(reading, (number, ORDER), before, of_keys(each))
}

/// Leave out the empty places of deleted keys.
fn of_keys<'t>(
    mut each: impl FnMut(u64, &'t [u8]) -> Result<bool>,
) -> impl FnMut(u64, &'t [u8]) -> Result<bool> {
    move |seq, key| if key.is_empty() { Ok(true) } else { each(seq, key) }
}

/// Sequence number and canonical key of the first or the last item.
pub fn end<'t>(reading: &Reading<'t>, number: u64, last: bool) -> Result<Option<(u64, &'t [u8])>> {
    let mut found = None;
    let each = |seq, key: &'t [u8]| {
        found = Some((seq, key));
        Ok(false)
    };
    if last {
        walk_back(reading, number, u64::MAX, each)?;
    } else {
        walk(reading, number, 0, each)?;
    }
    Ok(found)
}

/// The key with a sequence number.
pub fn key<'t>(reading: &Reading<'t>, number: u64, seq: u64) -> Result<&'t [u8]> {
    let (first, record) = runs::record_at(reading, (number, ORDER), seq)?;
    runs::nth(record, seq - first)
}

/// Take a key out.
pub fn remove(writing: &mut Writing, number: u64, seq: u64) -> Result<()> {
    let (first, record) = runs::record_at(&writing.reading(), (number, ORDER), seq)?;
    if !runs::is_run(record) {
        return writing.delete(&keyed(number, ORDER, seq)).map(|_| ());
    }
    let left = without(&copied(record)?, seq - first)?;
    let place = keyed(number, ORDER, first);
    if left.len() == 1 {
        return writing.delete(&place).map(|_| ());
    }
    writing.put(&place, &[&left])
}

/// A run with an empty place for one of its keys; empty places at its end are left out.
pub fn without(run: &[u8], index: u64) -> Result<Vec<u8>> {
    let (mut left, mut end) = (vec![tag::RUN], 1);
    for (place, key) in (0_u64..).zip(runs::items(run)) {
        let key = if place == index { key.map(|_| &[][..])? } else { key? };
        left.extend_from_slice(&(key.len() as u16).to_le_bytes());
        left.extend_from_slice(key);
        if !key.is_empty() {
            end = left.len();
        }
    }
    left.truncate(end);
    Ok(left)
}

/// All items of a mapping that is not packed, in their order: canonical keys and records. Read as they
/// lie, which is faster than to look each of them up.
pub fn all<'t>(reading: &Reading<'t>, number: u64) -> Result<Vec<(&'t [u8], Item<'t>)>> {
    let begin = prefix(number, ITEM);
    let mut items = Vec::new();
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&begin)?;
    while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        items.push((&key[begin.len()..], Item::read(found)?));
        record = cursor.following()?;
    }
    Ok(in_order(items))
}

/// Sort by sequence numbers. Most have no large gaps: then each has a place of its own.
fn in_order<'t>(mut items: Vec<(&'t [u8], Item<'t>)>) -> Vec<(&'t [u8], Item<'t>)> {
    const GAPS: u64 = 4;
    let seqs = || items.iter().map(|(_, item)| item.seq);
    if seqs().is_sorted() {
        return items;
    }
    let (least, most) = (seqs().min().unwrap_or(0), seqs().max().unwrap_or(0));
    if most - least >= items.len() as u64 * GAPS {
        items.sort_by_key(|(_, item)| item.seq);
        return items;
    }
    let mut places = vec![None; (most - least + 1) as usize];
    for (key, item) in items {
        places[(item.seq - least) as usize] = Some((key, item));
    }
    places.into_iter().flatten().collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn run(keys: &[&[u8]]) -> Vec<u8> {
        let parts = keys.iter().map(|key| [&(key.len() as u16).to_le_bytes()[..], key].concat());
        [vec![tag::RUN], parts.collect::<Vec<_>>().concat()].concat()
    }

    #[test]
    fn a_deleted_key_leaves_an_empty_place_and_none_at_the_end() {
        let whole = run(&[b"sa", b"sb", b"sc"]);
        let gap = without(&whole, 1).unwrap();
        assert_eq!(gap, run(&[b"sa", b"", b"sc"]));
        assert_eq!(without(&gap, 2).unwrap(), run(&[b"sa"]));
        assert_eq!(without(&run(&[b"sa"]), 0).unwrap(), [tag::RUN]);
    }

    #[test]
    fn items_are_sorted_by_sequence_numbers_with_gaps_or_without() {
        let item = |seq| (&b"s"[..], Item { seq, original: &[], value: &[] });
        for seqs in [vec![], vec![5], vec![7, 4, 6], vec![1 << 40, 3, 9], vec![2, 2, 1]] {
            let sorted = in_order(seqs.iter().map(|&seq| item(seq)).collect());
            assert!(sorted.is_sorted_by_key(|(_, item)| item.seq), "{seqs:?}");
        }
    }
}
