//! Memory for a store's file, reserved before it is written: a full machine is an error, not SIGBUS.
//!
//! The file grows, and never shrinks. All pages up to a mark have memory; the mark lies in shared
//! memory, and the holder of the writers' lock may move it. What is reserved ahead is a guess on the
//! safe side; that nothing beyond the mark is written does not depend on it: LMDB takes the mark for
//! the end of the file.

use super::{Error, Result};
use crate::shm::arena::SharedBlock;
use crate::sys::anonymous::is_in_memory;
use crate::sys::memory_left;
use crate::testing::crash_points::crash_point;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages that one change of one record can take, beyond those of the record itself.
const FOR_A_RECORD: u64 = 64;
/// Pages that a commit takes to write down which pages are free, and a part of all pages.
const FOR_A_COMMIT: u64 = 64;
const SHARE_FOR_A_COMMIT: u64 = 128;
/// Pages for operations that free others only, so that a full store can be emptied: a share of all.
const SPARE_SHARE: u64 = 32;
const LEAST_SPARE: u64 = 16;
const MOST_SPARE: u64 = 2048;
/// Bytes to reserve at a time.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 32 << 20;

pub struct Reservation {
    /// Keeps the memory of the mark.
    block: SharedBlock,
    offset: usize,
    size: u64,
    /// Bytes of a page of LMDB's.
    pub page: u64,
}

impl Reservation {
    pub fn new(block: SharedBlock, offset: usize, size: u64) -> Self {
        Self { block, offset, size, page: 4096 }
    }

    fn mark(&self) -> &AtomicU64 {
        // SAFETY: an atomic inside of the block, aligned to a cache line.
        unsafe { self.block.shared(self.offset) }
    }

    /// Bytes that have memory.
    pub fn reserved(&self) -> u64 {
        self.mark().load(Ordering::Acquire)
    }

    /// Pages that may be used: by operations that free others, or by all.
    #[inline]
    pub fn pages(&self, frees: bool) -> u64 {
        let pages = self.reserved().min(self.size) / self.page;
        let spare = if frees { 0 } else { spare(pages) };
        pages.saturating_sub(spare)
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a record of so many bytes can be written, and all be committed, without more memory,
    /// if so many pages are mapped.
    #[inline]
    pub fn is_enough(&self, next_page: u64, bytes: usize, mapped: u64) -> bool {
        self.needed(next_page, bytes) <= self.pages(false).min(mapped)
            || (self.reserved() >= self.size && mapped * self.page >= self.size)
    }

    /// How many bytes of the file must be there for that, those included that are to spare.
    pub fn wanted(&self, next_page: u64, bytes: usize) -> u64 {
        let pages = self.needed(next_page, bytes);
        ((pages + 2 * spare(pages)) * self.page).min(self.size)
    }

    #[inline]
    fn needed(&self, next_page: u64, bytes: usize) -> u64 {
        let pages = next_page + bytes as u64 / self.page + FOR_A_RECORD + FOR_A_COMMIT;
        pages + pages / SHARE_FOR_A_COMMIT
    }

    /// Reserve more, if there is more. If not, what is free inside may do.
    #[cold]
    pub fn grow(&self, fd: i32, next_page: u64, bytes: usize) -> Result<()> {
        let reserved = self.reserved();
        if self.needed(next_page, bytes) <= self.pages(false) || reserved >= self.size {
            return Ok(());
        }
        let enough = self.wanted(next_page, bytes);
        let generous = (reserved + (reserved / 4).clamp(LEAST, MOST)).clamp(enough, self.size);
        for now in [generous, enough] {
            let done = reserve(fd, reserved, now);
            if done.as_ref().is_err_and(memory_left::is_scarcity) {
                continue;
            }
            match done.map_err(|error| error.raw_os_error()) {
                Ok(()) => {
                    crash_point("store.reserved");
                    self.mark().store(now, Ordering::Release);
                    return Ok(());
                }
                // A file system that cannot: then a full disk shows when it is written to.
                Err(Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)) => {
                    self.mark().store(self.size, Ordering::Release);
                    return Ok(());
                }
                Err(Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM | libc::EFBIG)) => {}
                Err(code) => return Err(Error::System(code.unwrap_or(libc::EIO))),
            }
        }
        Ok(())
    }

    /// How little memory is left, where the store takes some.
    #[cold]
    pub fn scarcity(&self, fd: i32) -> Option<String> {
        let room = is_in_memory(fd).then(memory_left::room)??;
        Some(format!("; {room}"))
    }
}

fn spare(pages: u64) -> u64 {
    (pages / SPARE_SHARE).clamp(LEAST_SPARE, MOST_SPARE)
}

fn reserve(fd: i32, from: u64, to: u64) -> std::io::Result<()> {
    if is_in_memory(fd) {
        memory_left::ask(to - from)?;
    }
    loop {
        // SAFETY: changes a file; the descriptor is open.
        if unsafe { libc::fallocate64(fd, 0, from as i64, (to - from) as i64) } == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}
