//! Who keeps a container alive: a name, holds of owners, references from other containers, or the
//! container that it is a part of. What nobody wants is buried, and taken apart bit by bit.

use super::encoding::{u32_at, Link};
use super::lmdb::Reading;
use super::records::{
    number_in, own, prefix, Head, Item, CLAIM, GRAVE, HEAD, HELD_BY, HOLD, ITEM, NAME, ORDER,
    POSITION,
};
use super::transaction::{head, Writing};
use super::{claims, kind, mapping, sequence, Error, Result};
use std::collections::HashSet;

/// Keep a container for an owner, once more.
pub fn hold(writing: &mut Writing, number: u64, owner: u64) -> Result<()> {
    writing.head(number)?;
    let key = own(HOLD, [number, owner]);
    let held = writing.get(&key)?.and_then(|record| u32_at(record, 0)).unwrap_or(0);
    let more = held.saturating_add(1).to_le_bytes();
    writing.put(&key, &[&more])?;
    if held == 0 {
        writing.put(&own(HELD_BY, [owner, number]), &[])?;
    }
    exhume(writing, number)
}

/// Undo one `hold`; nothing happens if there is none.
pub fn drop(writing: &mut Writing, number: u64, owner: u64) -> Result<()> {
    writing.will_free();
    let key = own(HOLD, [number, owner]);
    let held = writing.get(&key)?.and_then(|record| u32_at(record, 0)).unwrap_or(0);
    match held {
        0 => Ok(()),
        1 => drop_all(writing, number, owner),
        _ => writing.put(&key, &[&(held - 1).to_le_bytes()]),
    }
}

fn drop_all(writing: &mut Writing, number: u64, owner: u64) -> Result<()> {
    writing.delete(&own(HOLD, [number, owner]))?;
    writing.delete(&own(HELD_BY, [owner, number]))?;
    bury_if_unwanted(writing, number)
}

/// Everything that an owner has: holds, and claimed items.
pub fn release_owner(writing: &mut Writing, owner: u64) -> Result<()> {
    writing.will_free();
    claims::give_all_back(writing, owner)?;
    let begin = own(HELD_BY, [owner]);
    while let Some(number) = first_number(&writing.reading(), &begin)? {
        drop_all(writing, number, owner)?;
    }
    Ok(())
}

/// The number behind a beginning, in the first key that has it.
pub fn first_number(reading: &Reading<'_>, begin: &[u8]) -> Result<Option<u64>> {
    let record = reading.cursor()?.seek(begin)?;
    match record.filter(|(key, _)| key.starts_with(begin)) {
        Some((key, _)) => number_in(key, begin.len()).map(Some),
        None => Ok(None),
    }
}

/// All who hold or have claimed something.
pub fn owners(reading: &Reading<'_>) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for sort in [HELD_BY, super::records::CLAIMED_BY] {
        let mut next = Some(0);
        while let Some(least) = next {
            let record = reading.cursor()?.seek(&own(sort, [least]))?;
            let Some((key, _)) = record.filter(|(key, _)| key.starts_with(&prefix(0, sort))) else {
                break;
            };
            let owner = number_in(key, 9)?;
            found.push(owner);
            next = owner.checked_add(1);
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn is_wanted(writing: &Writing, number: u64, head: &Head) -> Result<bool> {
    Ok(head.has(Head::OWNED | Head::NAMED)
        || head.refs > 0
        || first_number(&writing.reading(), &own(HOLD, [number]))?.is_some())
}

pub fn bury_if_unwanted(writing: &mut Writing, number: u64) -> Result<()> {
    let mut head = match writing.head(number) {
        Ok(head) => head,
        Err(Error::Gone(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    if head.has(Head::BURIED) || is_wanted(writing, number, &head)? {
        return Ok(());
    }
    head.set(Head::BURIED, true);
    writing.put_head(number, head)?;
    writing.put(&own(GRAVE, [number]), &[])
}

/// Somebody wants it again, before it was taken apart.
pub fn exhume(writing: &mut Writing, number: u64) -> Result<()> {
    let mut head = writing.head(number)?;
    if !head.has(Head::BURIED) {
        return Ok(());
    }
    head.set(Head::BURIED, false);
    writing.put_head(number, head)?;
    writing.delete(&own(GRAVE, [number])).map(|_| ())
}

/// Take apart what is buried, so many records at most; how many containers are still buried.
pub fn sweep(writing: &mut Writing, limit: u64, among: Option<&[u64]>) -> Result<u64> {
    writing.will_free();
    let mut left = limit;
    let among: Option<HashSet<u64>> = among.map(|chosen| chosen.iter().copied().collect());
    for number in graves(&writing.reading())? {
        if left > 0 && among.as_ref().is_none_or(|chosen| chosen.contains(&number)) {
            left -= take_apart(writing, number, left)?;
        }
    }
    // Nested containers have been buried meanwhile.
    Ok(graves(&writing.reading())?.len() as u64)
}

/// What is buried.
pub fn graves(reading: &Reading<'_>) -> Result<Vec<u64>> {
    let begin = prefix(0, GRAVE);
    let mut found = Vec::new();
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&begin)?;
    while let Some((key, _)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        found.push(number_in(key, begin.len())?);
        record = cursor.following()?;
    }
    Ok(found)
}

/// Delete up to so many items of a buried container, and with the last one its head.
fn take_apart(writing: &mut Writing, number: u64, most: u64) -> Result<u64> {
    let record = writing.get(&prefix(number, HEAD))?;
    let mut head = Head::read(record.ok_or_else(|| Error::corrupt("a head is missing"))?)?;
    if !head.has(Head::DYING) {
        head.set(Head::DYING, true);
        writing.put_head(number, head)?;
    }
    let mut done = if kind::is_mapping(head.kind) {
        mapping::delete_all(writing, number, most)?
    } else {
        sequence::delete_all(writing, number, most)?
    };
    done += claims::delete_all(writing, number, most - done)?;
    if done < most {
        writing.delete(&prefix(number, HEAD))?;
        writing.delete(&own(GRAVE, [number]))?;
        done += 1;
    }
    Ok(done)
}

/// Bury all that cannot be reached from a name or a hold: containers that refer to each other.
pub fn collect(writing: &mut Writing) -> Result<u64> {
    writing.will_free();
    let reached = reachable(&writing.reading())?;
    let mut buried = 0;
    for (number, head) in heads(&writing.reading())? {
        if !reached.contains(&number) && !head.has(Head::BURIED | Head::DYING) {
            let mut head = head;
            head.set(Head::BURIED, true);
            writing.put_head(number, head)?;
            writing.put(&own(GRAVE, [number]), &[])?;
            buried += 1;
        }
    }
    Ok(buried)
}

/// All containers and their heads.
pub fn heads(reading: &Reading<'_>) -> Result<Vec<(u64, Head)>> {
    let mut found = Vec::new();
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&prefix(1, HEAD))?;
    while let Some((key, head)) = record {
        let number = number_in(key, 0)?;
        if key.len() == 9 && key[8] == HEAD {
            found.push((number, Head::read(head)?));
        }
        let Some(next) = number.checked_add(1) else { break };
        record = cursor.seek(&prefix(next, HEAD))?;
    }
    Ok(found)
}

fn reachable(reading: &Reading<'_>) -> Result<HashSet<u64>> {
    let mut wanted = Vec::new();
    let mut cursor = reading.cursor()?;
    for sort in [NAME, HOLD] {
        let begin = prefix(0, sort);
        let mut record = cursor.seek(&begin)?;
        while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(&begin)) {
            wanted.push(if sort == HOLD {
                number_in(key, 9)?
            } else {
                super::encoding::u64_at(found, 1).ok_or_else(|| Error::corrupt("a name"))?
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
            Some(&CLAIM) => super::records::Claim::read(found)?.value,
            Some(&ORDER) | None => &[],
            Some(_) => return Err(Error::corrupt("a record of an unknown sort")),
        };
        Link::of(value).into_iter().for_each(&mut each);
        record = cursor.following()?;
    }
    Ok(())
}

/// The head of a container, and what is stored with it.
pub fn describe<'t>(reading: &Reading<'t>, number: u64) -> Result<(Head, &'t [u8])> {
    let head = head(reading, number)?;
    let record = reading.get(&prefix(number, HEAD))?.unwrap_or_default();
    Ok((head, record.get(super::records::HEAD_LEN..).unwrap_or_default()))
}
