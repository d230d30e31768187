//! Stores that LMDB has written are sound; what was changed in one is found, or does no harm.

use super::*;
use lmdb_master_sys as ffi;
use std::ffi::CString;
use std::path::PathBuf;
use std::ptr::null_mut;

const PAGE: usize = 4096;

/// A store of LMDB's in a folder that is gone afterwards.
struct Store {
    folder: PathBuf,
    env: *mut ffi::MDB_env,
}

fn fine(code: libc::c_int) {
    assert_eq!(code, 0);
}

fn value(bytes: &[u8]) -> ffi::MDB_val {
    ffi::MDB_val { mv_size: bytes.len(), mv_data: bytes.as_ptr().cast_mut().cast() }
}

impl Store {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pages-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = CString::new(folder.to_str().unwrap()).unwrap();
        let mut env = null_mut();
        // SAFETY: calls of the C library in their order.
        unsafe {
            fine(ffi::mdb_env_create(&raw mut env));
            fine(ffi::mdb_env_set_mapsize(env, 64 << 20));
            fine(ffi::mdb_env_open(env, path.as_ptr(), ffi::MDB_NOSYNC, 0o600));
        }
        let store = Self { folder, env };
        store
            .write_all(&[(prefix(0, META).to_vec(), Some(Meta::fresh(false).to_bytes().to_vec()))]);
        store
    }

    /// In one transaction: write values of so many bytes, or delete.
    fn write(&self, records: impl Iterator<Item = (u32, Option<usize>)>) {
        let key = |number: u32| format!("{number:0width$}", width = 4 + number as usize % 90);
        let value = |number: u32, len| vec![number as u8; len];
        let record = |(number, len): (u32, Option<usize>)| {
            (key(number).into_bytes(), len.map(|len| value(number, len)))
        };
        self.write_all(&records.map(record).collect::<Vec<_>>());
    }

    fn write_all(&self, records: &[(Vec<u8>, Option<Vec<u8>>)]) {
        let (mut transaction, mut database) = (null_mut(), 0);
        // SAFETY: as above.
        unsafe {
            fine(ffi::mdb_txn_begin(self.env, null_mut(), 0, &raw mut transaction));
            fine(ffi::mdb_dbi_open(transaction, std::ptr::null(), 0, &raw mut database));
            for (key, data) in records {
                let mut key = value(key);
                match data {
                    Some(data) => {
                        let mut data = value(data);
                        fine(ffi::mdb_put(transaction, database, &raw mut key, &raw mut data, 0));
                    }
                    None => {
                        ffi::mdb_del(transaction, database, &raw mut key, null_mut());
                    }
                }
            }
            fine(ffi::mdb_txn_commit(transaction));
        }
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.folder.join("data.mdb")).unwrap()
    }

    /// One with several levels, large values, and lists of free pages.
    fn filled(name: &str) -> Self {
        let store = Self::new(name);
        store.write((0..400).map(|each| (each, Some(each as usize % 200))));
        store.write((0..400).step_by(40).map(|each| (each, Some(9000))));
        store.write((0..400).filter(|each| each % 5 == 1).map(|each| (each, None)));
        store.write((0..20).map(|each| (each * 7, Some(3))));
        store
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: as above; nothing is open in it.
        unsafe { ffi::mdb_env_close(self.env) };
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Numbers by chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn heads(bytes: &[u8]) -> Heads {
    Heads::read(bytes).unwrap().unwrap()
}

fn fault(bytes: &[u8]) -> String {
    match check(bytes) {
        Err(Error::Corrupt(text)) => text,
        other => format!("{other:?}"),
    }
}

#[test]
fn what_lmdb_writes_is_sound() {
    let store = Store::new("sound");
    assert_eq!(check(&store.bytes()[..]), Ok(()));
    let mut chance = Chance(42);
    for round in 0..40 {
        let count = chance.next() % 300;
        let mut record = || {
            let (number, choice) = (chance.next() % 2000, chance.next());
            let len = if choice % 50 == 0 { choice % 60_000 } else { choice % 900 };
            (number as u32, (choice % 3 != 0).then_some(len as usize))
        };
        store.write((0..count).map(|_| record()).collect::<Vec<_>>().into_iter());
        let bytes = store.bytes();
        assert_eq!(check(&bytes[..]), Ok(()), "round {round}");
        assert_eq!(walk(&bytes[..], &heads(&bytes), &mut Sound::default()), Ok(0), "round {round}");
    }
    store.write((0..2000).map(|number| (number, None)));
    assert_eq!(heads(&store.bytes()).records.entries, 1);
    assert_eq!(check(&store.bytes()[..]), Ok(()));
}

#[test]
fn an_empty_file_is_a_store_to_be() {
    assert_eq!(check(&[][..]), Ok(()));
    assert!(matches!(check(&[0; 100][..]), Err(Error::Corrupt(_))));
    assert!(matches!(check(&[0; 3 * PAGE][..]), Err(Error::Corrupt(_))));
}

#[test]
fn a_cut_file_is_found() {
    let bytes = Store::filled("cut").bytes();
    let used = heads(&bytes).bytes() as usize;
    assert_eq!(check(&bytes[..used]), Ok(()));
    let free_at_the_end = |len: usize| check(&bytes[..len]) == Ok(());
    assert!(!(1..used / PAGE - 20).any(|pages| free_at_the_end(pages * PAGE)));
    for len in (1..used).step_by(4001) {
        let _ = check(&bytes[..len]);
    }
}

#[test]
fn an_older_head_is_not_taken_for_the_newer_one() {
    let mut bytes = Store::filled("older").bytes();
    let older = (heads(&bytes).transaction as usize - 1) % 2;
    bytes[older * PAGE + 16 + 129] ^= 1;
    assert!(fault(&bytes).contains("its two heads are of transactions"));
}

#[test]
fn a_circle_ends() {
    let mut bytes = Store::filled("circle").bytes();
    let tree = heads(&bytes).records;
    assert!(tree.depth > 1);
    let root = tree.root as usize * PAGE;
    let node = root + u16_at(&bytes, root + 16) as usize;
    bytes[node..node + 4].copy_from_slice(&(tree.root as u32).to_le_bytes());
    assert!(fault(&bytes).contains("the page is used twice"));
}

#[test]
fn keys_in_no_order_are_found() {
    let mut bytes = Store::filled("order").bytes();
    let root = heads(&bytes).records.root as usize * PAGE;
    let (one, other) = (root + 18, root + 20);
    bytes.swap(one, other);
    bytes.swap(one + 1, other + 1);
    assert!(fault(&bytes).contains("its keys are in no order"));
}

#[test]
fn no_changed_byte_leads_out_of_the_file() {
    let bytes = Store::filled("bytes").bytes();
    let used = heads(&bytes).bytes() as usize;
    let mut damaged = bytes.clone();
    let mut found = 0;
    for at in (0..used).step_by(509).chain(0..300).chain(PAGE..PAGE + 300) {
        for change in [0xFF, 1, 0x80] {
            damaged[at] ^= change;
            found += u32::from(check(&damaged[..]).is_err());
            let _ = report(&damaged[..]);
            damaged[at] = bytes[at];
        }
    }
    assert!(found > 300, "{found}");
}

#[test]
fn random_pages_are_refused() {
    let bytes = Store::filled("random").bytes();
    let used = heads(&bytes).bytes() as usize / PAGE;
    let mut chance = Chance(7);
    for round in 0..300 {
        let mut damaged = bytes.clone();
        let number = 2 + chance.next() as usize % (used - 2);
        let page = &mut damaged[number * PAGE..(number + 1) * PAGE];
        // Some keep the page's number and kind, some the bounds of its free space as well.
        let kept = [0, 12, 16, 40][round % 4];
        page[kept..].chunks_mut(8).for_each(|word| {
            let random = chance.next() & if round % 3 == 0 { 0x0FFF_00FF_0FFF_0FFF } else { !0 };
            word.copy_from_slice(&random.to_le_bytes()[..word.len()]);
        });
        let _ = check(&damaged[..]);
        let _ = report(&damaged[..]);
    }
}
