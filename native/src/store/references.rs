//! What keeps a container alive: a name, references of owners, references from other containers, or
//! the container that it is a part of. A container that nothing keeps alive is marked as garbage.

use super::encoding::u32_at;
use super::lmdb::{Near, Reading};
use super::records::{
    number_in, prefix, store_key, Head, CLAIMED_BY, GARBAGE, HEAD, OWNED_BY, OWNER_REF,
};
use super::transaction::{head_record, Writing};
use super::{Error, Result};

/// Add a reference of an owner.
pub fn add(writing: &mut Writing, number: u64, owner: u64) -> Result<()> {
    writing.head(number)?;
    let key = store_key(OWNER_REF, [number, owner]);
    let count = writing.get(&key)?.and_then(|record| u32_at(record, 0)).unwrap_or(0);
    let more = count.saturating_add(1).to_le_bytes();
    writing.put(&key, &[&more])?;
    if count == 0 {
        writing.put(&store_key(OWNED_BY, [owner, number]), &[])?;
    }
    unmark(writing, number)
}

/// Remove a reference of an owner; nothing happens if there is none.
pub fn remove(writing: &mut Writing, number: u64, owner: u64) -> Result<()> {
    writing.will_free();
    let key = store_key(OWNER_REF, [number, owner]);
    let count = writing.get(&key)?.and_then(|record| u32_at(record, 0)).unwrap_or(0);
    match count {
        0 => Ok(()),
        1 => remove_all(writing, number, owner),
        _ => writing.put(&key, &[&(count - 1).to_le_bytes()]),
    }
}

/// Remove all references of an owner to a container.
pub fn remove_all(writing: &mut Writing, number: u64, owner: u64) -> Result<()> {
    writing.delete(&store_key(OWNER_REF, [number, owner]))?;
    writing.delete(&store_key(OWNED_BY, [owner, number]))?;
    mark_if_garbage(writing, number)
}

/// The number behind a beginning, in the first key that has it.
pub fn first_number(reading: &Reading<'_>, begin: &[u8]) -> Result<Option<u64>> {
    let record = reading.cursor()?.seek(begin)?;
    match record.filter(|(key, _)| key.starts_with(begin)) {
        Some((key, _)) => number_in(key, begin.len()).map(Some),
        None => Ok(None),
    }
}

/// All owners of references or claims.
pub fn owners(reading: &Reading<'_>) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for record_type in [OWNED_BY, CLAIMED_BY] {
        let mut next = Some(0);
        while let Some(least) = next {
            let record = reading.cursor()?.seek(&store_key(record_type, [least]))?;
            let Some((key, _)) = record.filter(|(key, _)| key.starts_with(&prefix(0, record_type)))
            else {
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

/// Whether anything keeps a container alive that has this head.
pub fn is_referenced(writing: &mut Writing, number: u64, head: &Head) -> Result<bool> {
    Ok(head.has(Head::OWNED | Head::NAMED)
        || head.refs > 0
        || writing.has_near(Near::Owner, &store_key(OWNER_REF, [number]))?)
}

/// Mark a container as garbage if nothing keeps it alive.
pub fn mark_if_garbage(writing: &mut Writing, number: u64) -> Result<()> {
    let mut head = match writing.head(number) {
        Ok(head) => head,
        Err(Error::Gone(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    if head.has(Head::GARBAGE) || is_referenced(writing, number, &head)? {
        return Ok(());
    }
    head.set(Head::GARBAGE, true);
    writing.put_head(number, head)?;
    note_garbage(writing, number)
}

/// List a container as garbage, whose head says so.
pub fn note_garbage(writing: &mut Writing, number: u64) -> Result<()> {
    writing.put_near(Near::Garbage, &store_key(GARBAGE, [number]), &[]).map(|_| ())
}

/// It is referred to again, before it was freed.
pub fn unmark(writing: &mut Writing, number: u64) -> Result<()> {
    let mut head = writing.head(number)?;
    if !head.has(Head::GARBAGE) {
        return Ok(());
    }
    head.set(Head::GARBAGE, false);
    writing.put_head(number, head)?;
    writing.delete(&store_key(GARBAGE, [number])).map(|_| ())
}

/// All containers that are marked as garbage.
pub fn garbage(reading: &Reading<'_>) -> Result<Vec<u64>> {
    let begin = prefix(0, GARBAGE);
    let mut found = Vec::new();
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&begin)?;
    while let Some((key, _)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        found.push(number_in(key, begin.len())?);
        record = cursor.following()?;
    }
    Ok(found)
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

/// The head of a container, and what is stored with it.
pub fn describe<'t>(reading: &Reading<'t>, number: u64) -> Result<(Head, &'t [u8])> {
    let (head, behind) = head_record(reading, number)?;
    Ok((head, if head.has(Head::PACKED) { &[] } else { behind }))
}
