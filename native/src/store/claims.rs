//! Items of a queue that an owner has taken and not yet acknowledged. They return if the owner dies.

use super::encoding::Link;
use super::lmdb::Reading;
use super::records::{keyed, number_in, prefix, store_key, Claim, CLAIM, CLAIMED_BY};
use super::transaction::Writing;
use super::{copied, nested, sequence, Error, Result};

/// Take the first item for an owner: the ticket, and the item.
pub fn claim(writing: &mut Writing, number: u64, owner: u64) -> Result<(u64, Vec<u8>)> {
    let (position, value) = sequence::take_first(writing, number)?;
    let ticket = writing.next_ticket();
    let signed = [owner.to_le_bytes(), position.to_le_bytes()].concat();
    writing.put(&keyed(number, CLAIM, ticket), &[&signed, &value])?;
    writing.put(&store_key(CLAIMED_BY, [owner, number, ticket]), &[])?;
    let plain = nested::to_plain(&writing.reading(), &value)?;
    Ok((ticket, plain))
}

fn remove(writing: &mut Writing, number: u64, ticket: u64) -> Result<Option<Vec<u8>>> {
    writing.head(number)?;
    let key = keyed(number, CLAIM, ticket);
    let Some(record) = writing.get(&key)? else { return Ok(None) };
    let claim = Claim::read(record)?;
    let (owner, value) = (claim.owner, copied(claim.value)?);
    writing.will_free();
    writing.delete(&key)?;
    writing.delete(&store_key(CLAIMED_BY, [owner, number, ticket]))?;
    writing.touch(number);
    Ok(Some(value))
}

/// It is dealt with; false if no owner has this ticket.
pub fn ack(writing: &mut Writing, number: u64, ticket: u64) -> Result<bool> {
    match remove(writing, number, ticket)? {
        Some(value) => {
            sequence::done(writing, number)?;
            nested::release(writing, &value).map(|()| true)
        }
        None => Ok(false),
    }
}

/// It goes back to the front; false if no owner has this ticket.
pub fn return_claim(writing: &mut Writing, number: u64, ticket: u64) -> Result<bool> {
    match remove(writing, number, ticket)? {
        Some(value) => sequence::put_first(writing, number, &value).map(|()| true),
        None => Ok(false),
    }
}

/// All that an owner has goes back, the first taken to the very front.
pub fn return_all(writing: &mut Writing, owner: u64) -> Result<()> {
    let mut all = claimed_by(&writing.reading(), owner)?;
    all.reverse();
    for (number, ticket) in all {
        match return_claim(writing, number, ticket) {
            Ok(_) => {}
            Err(Error::Gone(_)) => {
                writing.delete(&store_key(CLAIMED_BY, [owner, number, ticket]))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn claimed_by(reading: &Reading<'_>, owner: u64) -> Result<Vec<(u64, u64)>> {
    let begin = store_key(CLAIMED_BY, [owner]);
    let mut found = Vec::new();
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&begin)?;
    while let Some((key, _)) = record.filter(|(key, _)| key.starts_with(&begin)) {
        found.push((number_in(key, 17)?, number_in(key, 25)?));
        record = cursor.following()?;
    }
    Ok(found)
}

/// Delete the claims of a container that is taken apart, so many at most.
pub fn delete_all(writing: &mut Writing, number: u64, most: u64) -> Result<u64> {
    let (mut links, mut signed) = (Vec::new(), Vec::new());
    let done = writing.delete_range(&prefix(number, CLAIM), most, |key, record| {
        let claim = Claim::read(record)?;
        links.extend(Link::of(claim.value));
        signed.push(store_key(CLAIMED_BY, [claim.owner, number, number_in(key, 9)?]));
        Ok(())
    })?;
    signed.iter().try_for_each(|key| writing.delete(key).map(|_| ()))?;
    links.into_iter().try_for_each(|link| nested::release_link(writing, link))?;
    Ok(done)
}
