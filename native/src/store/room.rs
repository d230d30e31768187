//! Memory for a store's file, reserved before it is written: a full machine is an error, not SIGBUS.
//!
//! The file is as long as the store may ever become, and sparse. All pages up to a mark have memory;
//! the mark lies in shared memory, and whoever has the writers' lock may move it.

use super::lmdb::PAGE;
use super::{Error, Result};
use crate::chunk::Spot;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages that one change of one record can take, beyond those of the record itself.
const FOR_A_RECORD: u64 = 64;
/// Pages that a commit takes to write down which pages are free, and a part of all pages.
const FOR_A_COMMIT: u64 = 64;
const SHARE_FOR_A_COMMIT: u64 = 128;
/// Bytes to reserve at a time.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 32 << 20;

pub struct Room {
    /// Keeps the memory of the mark.
    spot: Spot,
    offset: usize,
    size: u64,
}

impl Room {
    pub fn new(spot: Spot, offset: usize, size: u64) -> Self {
        Self { spot, offset, size }
    }

    fn mark(&self) -> &AtomicU64 {
        // SAFETY: an atomic inside of the spot, aligned to a cache line.
        unsafe { self.spot.shared(self.offset) }
    }

    /// Bytes that have memory.
    pub fn reserved(&self) -> u64 {
        self.mark().load(Ordering::Acquire)
    }

    /// See that a record of so many bytes can be written, and all be committed.
    #[inline]
    pub fn ensure(&self, fd: i32, next_page: u64, bytes: usize) -> Result<()> {
        let pages = next_page + bytes as u64 / PAGE + FOR_A_RECORD + FOR_A_COMMIT;
        let needed = (pages + pages / SHARE_FOR_A_COMMIT) * PAGE;
        let reserved = self.reserved();
        if needed <= reserved || reserved >= self.size {
            return Ok(());
        }
        self.grow(fd, reserved, needed.min(self.size))
    }

    #[cold]
    fn grow(&self, fd: i32, reserved: u64, needed: u64) -> Result<()> {
        let generous =
            (reserved + (reserved / 4).clamp(LEAST, MOST)).clamp(needed, self.size.max(needed));
        let mut outcome = reserve(fd, reserved, generous);
        let mut now = generous;
        if outcome.is_err() && needed < generous {
            outcome = reserve(fd, reserved, needed);
            now = needed;
        }
        outcome.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM | libc::EFBIG) => {
                Error::Full(format!("no memory for more than {reserved} bytes: {error}"))
            }
            code => Error::System(code.unwrap_or(libc::EIO)),
        })?;
        crate::crash::reach("store.reserved");
        self.mark().store(now, Ordering::Release);
        Ok(())
    }
}

fn reserve(fd: i32, from: u64, to: u64) -> std::io::Result<()> {
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
