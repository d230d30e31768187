//! LMDB's map of the file: short at first, and longer as the store grows.
//!
//! LMDB itself can change its map only while nothing is looked at, and unmaps it then. Here it is made
//! longer in place, behind its end, so that transactions go on and no address changes: there is free
//! address space behind it, because it is put into a large hole when the store is opened.

use super::{unknown_layout, Options};
use crate::store::{Error, Result};
use lmdb_master_sys as ffi;
use std::cell::Cell as Slot;
use std::ops::Range;
use std::ptr::null_mut;

/// Bytes that are mapped of a new store, and at least for each step. A multiple of every page's size.
const STEP: u64 = 4 << 20;
/// A step is this part of what there is, for large ones.
const SHARE: u64 = 4;

/// Bytes of the table that are not readers: two mutexes, each in a cache line or two.
const TABLE_HEAD: usize = 256;

/// Larger than what may be free between two libraries.
const PROBE: u64 = 64 << 20;
const FARTHEST: u64 = 1 << 43;
const LOWEST: u64 = 1 << 36;
/// How many large stores of one process find a place one below the other.
const STORES: u64 = 64;

/// What to map of a file of `len` bytes that may grow to `size`.
pub fn size_at_first(len: u64, size: u64) -> usize {
    let least = STEP.min(size.max(1 << 20));
    len.max(least).next_multiple_of(1 << 16) as usize
}

#[cold]
pub fn no_address_space(mapped: u64) -> Error {
    Error::Full(format!(
        "there is no address space for more than {mapped} bytes of it; raise the limit (ulimit -v)"
    ))
}

pub struct Map {
    /// In LMDB's `MDB_env`: where the map is, and each of its two heads; its bytes; its pages. From
    /// the last on no page exists, for LMDB.
    at: *mut *mut u8,
    heads: [*mut *mut u8; 2],
    /// The table of readers, with the mutexes; null without one.
    table: *const u8,
    size: *mut usize,
    limit: *mut usize,
    pages: Slot<usize>,
    most: u64,
    pub page: usize,
    fd: i32,
    prot: i32,
}

impl Map {
    /// Find what LMDB knows of its map, right after it was opened, and put the map where it can grow.
    pub fn find(env: *mut ffi::MDB_env, fd: i32, options: &Options) -> Result<Self> {
        // SAFETY: structs of numbers and pointers, which the calls fill.
        let (size, page) = unsafe {
            let mut info: ffi::MDB_envinfo = std::mem::zeroed();
            let mut stat: ffi::MDB_stat = std::mem::zeroed();
            ffi::mdb_env_info(env, &raw mut info);
            ffi::mdb_env_stat(env, &raw mut stat);
            (info.me_mapsize as usize, stat.ms_psize as usize)
        };
        let words = env.cast::<usize>();
        // SAFETY: the struct is longer than that.
        let word = |at: usize| unsafe { *words.add(at) };
        // map, lock file, head, head, scratch, transaction, transaction, SIZE, another number, PAGES
        let fits = |&at: &usize| {
            let (map, first, second) = (word(at - 7), word(at - 5), word(at - 4));
            word(at) == size
                && word(at + 2) == size / page
                && map % page == 0
                && (8..64).contains(&first.wrapping_sub(map))
                && second.wrapping_sub(first) == page
        };
        let at = (7..30).find(fits).ok_or_else(unknown_layout)?;
        // SAFETY: as above.
        let pointer = |at: usize| unsafe { words.add(at) };
        let map = Self {
            at: pointer(at - 7).cast(),
            table: word(at - 6) as *const u8,
            heads: [pointer(at - 5).cast(), pointer(at - 4).cast()],
            size: pointer(at),
            limit: pointer(at + 2),
            pages: Slot::new(size / page),
            most: options.size.next_multiple_of(page as u64),
            page,
            fd,
            prot: libc::PROT_READ | if options.in_memory { libc::PROT_WRITE } else { 0 },
        };
        map.move_to_a_hole();
        Ok(map)
    }

    /// Where LMDB has mapped the head of its table of readers, in which the mutexes lie.
    pub fn table(&self) -> Range<usize> {
        self.table as usize..self.table as usize + TABLE_HEAD
    }

    #[inline]
    pub fn pages(&self) -> u64 {
        self.pages.get() as u64
    }

    pub fn bytes(&self) -> u64 {
        (self.pages.get() * self.page) as u64
    }

    /// The pages that LMDB may use now.
    pub fn limited(&self) -> u64 {
        // SAFETY: a number.
        unsafe { *self.limit as u64 }
    }

    /// Have LMDB use no pages beyond.
    #[inline]
    pub fn limit(&self, pages: u64) {
        // SAFETY: a number that LMDB reads when it begins a transaction and in the one that writes,
        // which is this thread's.
        unsafe { *self.limit = pages.min(self.pages()) as usize };
    }

    fn map(&self, place: *mut u8, offset: u64, len: u64) -> bool {
        let how = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: at a free place only: an old kernel, which does not know that, puts it elsewhere.
        unsafe {
            let got = libc::mmap(
                place.cast(),
                len as usize,
                self.prot,
                how,
                self.fd,
                offset as libc::off_t,
            );
            if got != libc::MAP_FAILED && got != place.cast() {
                libc::munmap(got, len as usize);
            }
            let done = got == place.cast();
            if done {
                libc::madvise(got, len as usize, libc::MADV_RANDOM);
            }
            done
        }
    }

    /// Before anything is looked at: to the beginning of a large hole, if there is one.
    fn move_to_a_hole(&self) {
        let bytes = self.bytes();
        let Some(hole) = holes(self.most).into_iter().find(|hole| self.map(*hole, 0, bytes)) else {
            return;
        };
        // SAFETY: the same pages at another place, and only LMDB has a pointer into the old one, in
        // these three words.
        unsafe {
            let old = *self.at;
            for head in self.heads {
                *head = hole.add((*head).offset_from(old) as usize);
            }
            *self.at = hole;
            libc::munmap(old.cast(), bytes as usize);
        }
    }

    /// Have the system prepare pages that have memory, all at once: else it does so at the first write
    /// to each, which takes longer than to fill it.
    pub fn populate(&self, from: u64, to: u64) {
        let to = to.min(self.bytes());
        if from < to {
            // SAFETY: advice about a part of the map; old kernels do not know it.
            unsafe {
                let begin = (*self.at).add(from as usize);
                libc::madvise(begin.cast(), (to - from) as usize, libc::MADV_POPULATE_WRITE);
            }
        }
    }

    /// Map at least `wanted` bytes, and some ahead, but no more than `most`.
    #[cold]
    pub fn grow(&self, wanted: u64, most: u64) -> std::result::Result<(), ()> {
        let bytes = self.bytes();
        let whole = |bytes: u64| bytes.next_multiple_of(self.page as u64).min(self.most);
        let enough = whole(wanted);
        if enough <= bytes {
            return Ok(());
        }
        let ahead = whole(most.min(bytes + (bytes / SHARE).max(STEP))).max(enough);
        // SAFETY: behind the end of the map, where something may be or not.
        let end = unsafe { (*self.at).add(bytes as usize) };
        let now = [ahead, enough].into_iter().find(|now| self.map(end, bytes, now - bytes));
        let now = now.ok_or(())?;
        self.pages.set(now as usize / self.page);
        // SAFETY: LMDB's own number, of which it makes use when it is closed.
        unsafe { *self.size = now as usize };
        Ok(())
    }
}

/// Places with much free address space behind them, as far as one can tell without taking it: new
/// mappings are put below the others, so it is free below a new one. Where another store of this
/// process is, there is none: then farther below.
fn holes(most: u64) -> Vec<*mut u8> {
    let wanted = most.min(FARTHEST).next_multiple_of(STEP);
    let mut len = PROBE;
    while len >= STEP {
        if let Some(found) = free_place(null_mut(), len, 0) {
            let below: Vec<_> = (1..=STORES)
                .filter_map(|stores| (found as u64).checked_sub(stores * wanted))
                .filter(|&below| below > LOWEST)
                .map(|at| at as *mut u8)
                .collect();
            let is_free =
                |at: &&*mut u8| free_place(**at, wanted, libc::MAP_FIXED_NOREPLACE) == Some(**at);
            // Under a limit of address space nothing of that size can be tried.
            let best = below.iter().find(is_free).or(below.first()).copied();
            return best.into_iter().chain([found]).collect();
        }
        len /= 2;
    }
    Vec::new()
}

/// Where the kernel would put a mapping: it is gone again.
fn free_place(at: *mut u8, len: u64, flags: i32) -> Option<*mut u8> {
    let how = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | flags;
    // SAFETY: a fresh mapping at an address that was free, and gone at once.
    unsafe {
        let found = libc::mmap(at.cast(), len as usize, libc::PROT_NONE, how, -1, 0);
        if found == libc::MAP_FAILED {
            return None;
        }
        libc::munmap(found, len as usize);
        Some(found.cast())
    }
}
