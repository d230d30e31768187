//! Freeing what nothing keeps alive, some records at a time.

use super::encoding::{u64_at, Link};
use super::lmdb::Reading;
use super::records::{
    number_in, prefix, store_key, Claim, Head, Item, CLAIM, GARBAGE, HEAD, ITEM, NAME, ORDER,
    OWNED_BY, OWNER_REF, POSITION,
};
use super::references::{first_number, garbage, heads, remove_all};
use super::transaction::Writing;
use super::{claims, kind, mapping, sequence, Error, Result};
use std::collections::HashSet;

/// Everything that an owner has: references, and claimed items.
pub fn release_owner(writing: &mut Writing, owner: u64) -> Result<()> {
    writing.will_free();
    claims::return_all(writing, owner)?;
    let begin = store_key(OWNED_BY, [owner]);
    while let Some(number) = first_number(&writing.reading(), &begin)? {
        remove_all(writing, number, owner)?;
    }
    Ok(())
}

/// Free garbage, so many records at most; how many containers are still garbage.
pub fn free_garbage(writing: &mut Writing, limit: u64) -> Result<u64> {
    free(writing, limit, &garbage(&writing.reading())?)?;
    // Nested containers have become garbage meanwhile.
    Ok(garbage(&writing.reading())?.len() as u64)
}

/// The same of these containers, as far as they are garbage; how many of them still are.
pub fn free_among(writing: &mut Writing, limit: u64, among: &[u64]) -> Result<u64> {
    free(writing, limit, among)?;
    let mut left = 0;
    for number in among {
        left += u64::from(is_garbage(writing, *number)?);
    }
    Ok(left)
}

fn free(writing: &mut Writing, limit: u64, among: &[u64]) -> Result<()> {
    writing.will_free();
    let mut left = limit;
    for number in among {
        if left > 0 && is_garbage(writing, *number)? {
            left -= free_records(writing, *number, left)?;
        }
    }
    Ok(())
}

fn is_garbage(writing: &Writing, number: u64) -> Result<bool> {
    writing.get(&store_key(GARBAGE, [number])).map(|found| found.is_some())
}

/// Delete up to so many items of a container that is garbage, and with the last one its head.
fn free_records(writing: &mut Writing, number: u64, most: u64) -> Result<u64> {
    let record = writing.get(&prefix(number, HEAD))?;
    let mut head = Head::read(record.ok_or_else(|| Error::corrupt("a head is missing"))?)?;
    let is_packed = head.has(Head::PACKED);
    if !is_packed && !head.has(Head::FREEING) {
        head.set(Head::FREEING, true);
        writing.put_head(number, head)?;
    }
    let mut done = if is_packed {
        0
    } else if kind::is_mapping(head.kind) {
        mapping::delete_all(writing, number, most)?
    } else {
        sequence::delete_all(writing, number, most)?
    };
    if !kind::is_mapping(head.kind) {
        done += claims::delete_all(writing, number, most - done)?;
    }
    if done < most {
        writing.delete(&prefix(number, HEAD))?;
        writing.delete(&store_key(GARBAGE, [number]))?;
        done += 1;
    }
    Ok(done)
}

/// Mark as garbage what cannot be reached from a name or an owner: containers that only refer to each
/// other.
pub fn collect_cycles(writing: &mut Writing) -> Result<u64> {
    writing.will_free();
    let reached = reachable(&writing.reading())?;
    let mut marked = 0;
    for (number, head) in heads(&writing.reading())? {
        if !reached.contains(&number) && !head.has(Head::GARBAGE | Head::FREEING) {
            let mut head = head;
            head.set(Head::GARBAGE, true);
            writing.put_head(number, head)?;
            writing.put(&store_key(GARBAGE, [number]), &[])?;
            marked += 1;
        }
    }
    Ok(marked)
}

fn reachable(reading: &Reading<'_>) -> Result<HashSet<u64>> {
    let mut wanted = Vec::new();
    let mut cursor = reading.cursor()?;
    for record_type in [NAME, OWNER_REF] {
        let begin = prefix(0, record_type);
        let mut record = cursor.seek(&begin)?;
        while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
            wanted.push(if record_type == OWNER_REF {
                number_in(key, 9)?
            } else {
                u64_at(found, 1).ok_or_else(|| Error::corrupt("a name"))?
            });
            record = cursor.following()?;
        }
    }
    let mut reached = HashSet::new();
    while let Some(number) = wanted.pop() {
        if reached.insert(number) {
            each_link(reading, number, |link| wanted.push(link.number))?;
        }
    }
    Ok(reached)
}

/// All containers that a container's items name.
fn each_link(reading: &Reading<'_>, number: u64, mut each: impl FnMut(Link)) -> Result<()> {
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&prefix(number, ITEM))?;
    while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&number.to_be_bytes()))
    {
        let value = match key.get(8) {
            Some(&ITEM) => Item::read(found)?.value,
            Some(&POSITION) => found,
            Some(&CLAIM) => Claim::read(found)?.value,
            Some(&ORDER) | None => &[],
            Some(_) => return Err(Error::corrupt("a record of an unknown type")),
        };
        Link::of(value).into_iter().for_each(&mut each);
        record = cursor.following()?;
    }
    Ok(())
}
