//! Whether all records agree with each other. They always do; this looks.

use super::encoding::Link;
use super::lmdb::{Env, InMemory, Options, Place, Reading};
use super::pages::{file_of, Source};
use super::records::{
    keyed, number_in, prefix, store_key, Claim, Head, Item, Meta, CLAIM, CLAIMED_BY, GARBAGE, ITEM,
    META, NAME, ORDER, OWNED_BY, OWNER_REF, POSITION,
};
use super::references::heads;
use super::reservation::Reservation;
use super::{encoding, kind, mapping, nested, packed, runs, Error, Result};
use crate::shm::arena::{SharedBlock, LINE};
use std::collections::HashMap;

/// What names a container from elsewhere.
#[derive(Default, Clone, Copy)]
struct Wanted {
    owned: u32,
    refs: u32,
    names: u32,
    garbage: u32,
}

/// The same, of a store that no process has open. Nothing is written but `lock`, which is an empty file
/// in memory.
pub fn audit_file(data: i32, lock: i32) -> Result<Vec<String>> {
    let block = SharedBlock::allocate_with(LINE, |reserve| reserve())
        .map_err(|error| Error::System(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let size = file_of(data).len()?.max(1 << 20);
    let options = Options { size, in_memory: false, sync: false, read_only: true, alone: false };
    let place = Place::Memory(InMemory { data, lock });
    let env = Env::open(&place, &options, Reservation::new(block, 0, size))?;
    let mut reader = env.begin_reading()?;
    env.open_database(&reader)?;
    env.check_layout(&reader)?;
    let first = reader.reading().get(&prefix(0, META))?;
    reader.sums = first.map_or(Ok(false), Meta::has_sums)?;
    audit(&reader.reading())
}

struct Audit<'t> {
    reading: Reading<'t>,
    wanted: HashMap<u64, Wanted>,
    problems: Vec<String>,
}

fn count(reading: &Reading<'_>) -> Result<u64> {
    let mut cursor = reading.cursor()?;
    let mut record = cursor.seek(&[0])?;
    let mut found = 0;
    while record.is_some() {
        found += 1;
        record = cursor.following()?;
    }
    Ok(found)
}

/// What is wrong, a line each.
pub fn audit(reading: &Reading<'_>) -> Result<Vec<String>> {
    let mut audit = Audit { reading: *reading, wanted: HashMap::new(), problems: Vec::new() };
    let (said, found) = (reading.count()?, count(reading)?);
    audit.check(said == found, || format!("{found} records, and the store says {said}"));
    let heads = heads(reading)?;
    for (number, head) in &heads {
        audit.look_inside(*number, head)?;
    }
    audit.look_at_own_records()?;
    for (number, head) in &heads {
        audit.compare(*number, head);
    }
    let numbers: std::collections::HashSet<u64> = heads.iter().map(|(number, _)| *number).collect();
    for number in audit.wanted.keys().filter(|number| !numbers.contains(number)) {
        audit.problems.push(format!("container {number} is wanted and does not exist"));
    }
    let meta = reading.get(&prefix(0, META))?.map(Meta::read).transpose()?;
    if meta.is_none_or(|meta| numbers.iter().any(|number| *number >= meta.next_container)) {
        audit.problems.push("the next container's number is taken".into());
    }
    Ok(audit.problems)
}

impl<'t> Audit<'t> {
    fn check(&mut self, fine: bool, problem: impl FnOnce() -> String) {
        if !fine {
            self.problems.push(problem());
        }
    }

    /// Call for each record whose key begins like this.
    fn each(
        &mut self,
        begin: &[u8],
        mut look: impl FnMut(&mut Self, &'t [u8], &'t [u8]) -> Result<()>,
    ) -> Result<u64> {
        let mut cursor = self.reading.cursor()?;
        let mut record = cursor.seek(begin)?;
        let mut count = 0;
        while let Some((key, found)) = record.filter(|(key, _)| key.starts_with(begin)) {
            look(self, key, found)?;
            count += 1;
            record = cursor.following()?;
        }
        Ok(count)
    }

    fn follow(&mut self, value: &[u8]) {
        if let Some(link) = Link::of(value) {
            let wanted = self.wanted.entry(link.number).or_default();
            if link.owned {
                wanted.owned += 1;
            } else {
                wanted.refs += 1;
            }
        }
    }

    fn look_inside(&mut self, number: u64, head: &Head) -> Result<()> {
        let whole = !head.has(Head::FREEING);
        if kind::is_mapping(head.kind) {
            self.look_at_mapping(number, head, whole)?;
        } else {
            self.look_at_sequence(number, head, whole)?;
        }
        self.each(&prefix(number, CLAIM), |audit, key, record| {
            let claim = Claim::read(record)?;
            audit.follow(claim.value);
            let signed = store_key(CLAIMED_BY, [claim.owner, number, number_in(key, 9)?]);
            let is_signed = audit.reading.get(&signed)?.is_some();
            audit.check(is_signed, || format!("a claim of {number} that nobody has signed"));
            Ok(())
        })?;
        Ok(())
    }

    fn look_at_mapping(&mut self, number: u64, head: &Head, whole: bool) -> Result<()> {
        let packed = if whole { packed::contents(&self.reading, number)? } else { None };
        if let Some(packed) = packed {
            return self.look_at_packed(number, head, packed);
        }
        let items = self.each(&prefix(number, ITEM), |audit, key, record| {
            let item = Item::read(record)?;
            audit.follow(item.value);
            let order = mapping::order::key(&audit.reading, number, item.seq);
            let in_order = order == Ok(&key[9..]) && item.seq < head.next;
            audit.check(in_order, || format!("an item of {number} that is not in its order"));
            let has_value = item.value.is_empty() == (head.kind == kind::SET);
            audit.check(has_value, || format!("an item of {number} with a wrong value"));
            Ok(())
        })?;
        let mut order = 0;
        mapping::order::walk(&self.reading, number, 0, |_, _| {
            order += 1;
            Ok(true)
        })?;
        self.check(!whole || (items == head.len && order == head.len), || {
            format!("{number} has length {}, {items} items, and {order} in order", head.len)
        });
        Ok(())
    }

    fn look_at_packed(&mut self, number: u64, head: &Head, packed: &[u8]) -> Result<()> {
        let mut keys = std::collections::HashSet::new();
        for found in packed::items(packed) {
            let (key, item) = found?;
            let is_good = match head.kind {
                kind::SET => item.value.is_empty(),
                _ => nested::is_simple(item.value),
            };
            self.check(is_good && keys.insert(key), || {
                format!("a packed item of {number} that is there twice, or has a wrong value")
            });
        }
        let others = self.each(&prefix(number, ITEM), |_, _, _| Ok(()))?
            + self.each(&prefix(number, ORDER), |_, _, _| Ok(()))?;
        let (len, next) = (keys.len() as u64, head.next);
        self.check(len == head.len && len == next && others == 0, || {
            format!("{number} has length {}, {len} items packed, and {others} others", head.len)
        });
        Ok(())
    }

    fn look_at_sequence(&mut self, number: u64, head: &Head, whole: bool) -> Result<()> {
        let mut expected = head.next;
        self.each(&prefix(number, POSITION), |audit, key, value| {
            audit.follow(value);
            let position = number_in(key, 9)?;
            audit.check(!whole || position == expected, || {
                format!("an item of {number} at {position}, not at {expected}")
            });
            for item in runs::items(value) {
                let alone = !runs::is_run(value) || nested::is_simple(item?);
                audit.check(alone, || format!("an item of {number} in a run, and not simple"));
                expected += 1;
            }
            Ok(())
        })?;
        let items = expected - head.next;
        self.check(!whole || items == head.len, || {
            format!("{number} has length {}, and {items} items", head.len)
        });
        Ok(())
    }

    fn look_at_own_records(&mut self) -> Result<()> {
        self.each(&prefix(0, NAME), |audit, _, record| {
            if let Some(number) = encoding::u64_at(record, 1) {
                audit.wanted.entry(number).or_default().names += 1;
            }
            Ok(())
        })?;
        self.each(&prefix(0, GARBAGE), |audit, key, _| {
            audit.wanted.entry(number_in(key, 9)?).or_default().garbage += 1;
            Ok(())
        })?;
        for (one, other) in [(OWNER_REF, OWNED_BY), (OWNED_BY, OWNER_REF)] {
            self.each(&prefix(0, one), |audit, key, _| {
                let mirrored = store_key(other, [number_in(key, 17)?, number_in(key, 9)?]);
                let is_there = audit.reading.get(&mirrored)?.is_some();
                audit.check(is_there, || format!("half of a reference: {key:?}"));
                Ok(())
            })?;
        }
        self.each(&prefix(0, CLAIMED_BY), |audit, key, _| {
            let claim = keyed(number_in(key, 17)?, CLAIM, number_in(key, 25)?);
            let is_there = audit.reading.get(&claim)?.is_some();
            audit.check(is_there, || format!("half of a claim: {key:?}"));
            Ok(())
        })?;
        Ok(())
    }

    fn compare(&mut self, number: u64, head: &Head) {
        let found = self.wanted.get(&number).copied().unwrap_or_default();
        let said = Wanted {
            owned: head.has(Head::OWNED).into(),
            refs: head.refs,
            names: head.has(Head::NAMED).into(),
            garbage: head.has(Head::GARBAGE).into(),
        };
        for (what, found, said) in [
            ("owners", found.owned, said.owned),
            ("references", found.refs, said.refs),
            ("names", found.names, said.names),
            ("garbage", found.garbage, said.garbage),
        ] {
            self.check(found == said || head.has(Head::FREEING), || {
                format!("{number} has {found} {what}, and its head says {said}")
            });
        }
    }
}
