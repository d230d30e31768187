//! Containers that are known by a name.

use super::encoding::u64_at;
use super::lmdb::Reading;
use super::records::{name as key_of, prefix, Head, NAME};
use super::transaction::Writing;
use super::{nested, references, Error, Result};

fn found(record: &[u8]) -> Result<(u8, u64)> {
    let bad = || Error::corrupt("a name");
    Ok((*record.first().ok_or_else(bad)?, u64_at(record, 1).ok_or_else(bad)?))
}

/// The container of a name, if there is one.
pub fn find(reading: &Reading<'_>, name: &str) -> Result<Option<(u8, u64)>> {
    reading.get(&key_of(name)?)?.map(found).transpose()
}

/// The container of a name, made if there is none: its number, and whether it was.
pub fn named(
    writing: &mut Writing,
    name: &str,
    kind: u8,
    aux: i64,
    info: &[u8],
) -> Result<(u64, bool)> {
    if let Some((is, number)) = find(&writing.reading(), name)? {
        return if is == kind { Ok((number, false)) } else { Err(Error::WrongKind(is)) };
    }
    let number = nested::create(writing, kind, aux, info)?;
    let mut head = writing.head(number)?;
    head.set(Head::NAMED, true);
    writing.put_head(number, head)?;
    writing.put(&key_of(name)?, &[&[kind], &number.to_le_bytes()])?;
    Ok((number, true))
}

/// Forget a name; false if no container has it.
pub fn remove(writing: &mut Writing, name: &str) -> Result<bool> {
    let Some((_, number)) = find(&writing.reading(), name)? else { return Ok(false) };
    writing.will_free();
    writing.delete(&key_of(name)?)?;
    let mut head = writing.head(number)?;
    head.set(Head::NAMED, false);
    writing.put_head(number, head)?;
    references::mark_if_garbage(writing, number)?;
    Ok(true)
}

/// All names, with kind and number.
pub fn all(reading: &Reading<'_>) -> Result<Vec<(String, u8, u64)>> {
    let begin = prefix(0, NAME);
    let mut names = Vec::new();
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&begin)?;
    while let Some((key, value)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        let name = std::str::from_utf8(&key[begin.len()..]);
        let name = name.map_err(|_| Error::corrupt("a name"))?;
        let (kind, number) = found(value)?;
        names.push((name.to_owned(), kind, number));
        record = cursor.following()?;
    }
    Ok(names)
}
