//! One sparse, sealed `memfd` for a whole pool, divided into a control part and regions.
//!
//! ```text
//! offset 0          control_len        + region_len       + region_len
//! | control         | region 0         | region 1         | region 2 ...
//! | header, cells   | the parent's     | the supervisor's, the workers': one each, never reused
//! ```
//!
//! File offsets are plentiful (2^62), memory is spent only where something was reserved. A region
//! has one owner for its whole life; when that process is dead and the region has no reader any
//! more, its pages go back by one `fallocate(PUNCH_HOLE)`. There is nothing to repair in it.

use crate::shm::region::Region;
use crate::sys::anonymous::{advise, anonymous_file, is_private_memory, without_fallocate};
use crate::sys::descriptor::{duplicate, Descriptor};
use crate::sys::memory_left;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

pub const PAGE: usize = 4096;
const FILE_LEN: u64 = 1 << 62;
/// So much is reserved at a time, so that processes that grow at once do not exceed a limit together.
const PIECE: usize = 8 << 20;

pub fn check(answer: libc::c_int) -> Result<()> {
    if answer == -1 {
        Err(Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Run with the soft limit on file sizes raised: what is limited is a length, not memory.
pub fn without_file_limit(run: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write a local.
    unsafe {
        libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit);
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const raised);
    }
    let done = run();
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    done
}

/// The file behind everything a pool shares.
#[derive(Debug)]
pub struct Segment {
    fd: Descriptor,
    control_len: usize,
    region_len: usize,
}

impl Segment {
    /// A new, empty, sealed segment: no process can shrink it under a reader (no SIGBUS).
    pub fn create(control_len: usize, region_len: usize) -> Result<Arc<Self>> {
        let fd = anonymous_file()?;
        // SAFETY: plain system calls on a descriptor we own.
        unsafe {
            without_file_limit(|| check(libc::ftruncate(fd.as_raw_fd(), FILE_LEN as libc::off_t)))?;
            let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
            let sealed = libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals);
            if sealed == -1 && !is_private_memory(fd.as_raw_fd()) {
                return Err(Error::last_os_error());
            }
        }
        Self::own(fd, control_len, region_len)
    }

    fn own(fd: OwnedFd, control_len: usize, region_len: usize) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { fd: Descriptor::own(fd)?, control_len, region_len }))
    }

    /// Whether the descriptor is still open, and still this file's.
    pub fn is_open(&self) -> bool {
        self.fd.is_ours()
    }

    /// The segment behind a descriptor that was inherited; a duplicate of it is kept.
    pub fn attach(fd: i32, control_len: usize, region_len: usize) -> Result<Arc<Self>> {
        Self::own(duplicate(fd)?, control_len, region_len)
    }

    /// The same for a descriptor that came from outside: if it is no segment of at least this length,
    /// a look into it could be fatal, so it is refused.
    pub fn attach_sealed(fd: i32, control_len: usize) -> Result<Arc<Self>> {
        let segment = Self::attach(fd, control_len, 0)?;
        // SAFETY: system calls on our own descriptor, and a struct of numbers.
        let (seals, len) = unsafe {
            let mut data: libc::stat = std::mem::zeroed();
            check(libc::fstat(segment.fd(), &raw mut data))?;
            (libc::fcntl(segment.fd(), libc::F_GET_SEALS), data.st_size)
        };
        let is_sealed = seals != -1 && seals & libc::F_SEAL_SHRINK != 0;
        let is_safe = is_sealed || is_private_memory(segment.fd());
        if !is_safe || (len as u64) < control_len as u64 {
            return Err(Error::new(std::io::ErrorKind::NotFound, "no shared memory of garrison's"));
        }
        Ok(segment)
    }

    /// The descriptor's number, for handles.
    pub fn fd(&self) -> i32 {
        self.fd.number()
    }

    pub fn descriptor(&self) -> &Descriptor {
        &self.fd
    }

    pub fn region_len(&self) -> usize {
        self.region_len
    }

    /// Where a region begins. With heaps of terabytes the file has an end that can be reached.
    fn region_offset(&self, region: u32) -> Result<u64> {
        let end = u128::from(region) + 1;
        if end * self.region_len as u128 + self.control_len as u128 > u128::from(FILE_LEN) {
            return Err(Error::from_raw_os_error(libc::EFBIG));
        }
        Ok(self.control_len as u64 + u64::from(region) * self.region_len as u64)
    }

    /// Make `len` bytes from `offset` on really there, or say that the memory is full.
    pub fn reserve_range(&self, offset: u64, len: usize) -> Result<()> {
        // The owner may have closed the descriptor: that is said first.
        self.fd.get()?;
        for done in (0..len).step_by(PIECE) {
            let piece = PIECE.min(len - done);
            memory_left::ask_for_part(piece as u64, (len - done) as u64)?;
            self.fallocate(0, offset + done as u64, piece)?;
        }
        Ok(())
    }

    /// The same in the control part.
    pub fn reserve_control(&self, offset: usize, len: usize) -> Result<()> {
        self.reserve_range(offset as u64, len)
    }

    fn fallocate(&self, mode: i32, offset: u64, len: usize) -> Result<()> {
        let fd = self.fd.get()?;
        loop {
            // SAFETY: a system call on our own descriptor.
            let done = unsafe {
                check(libc::fallocate(fd, mode, offset as libc::off_t, len as libc::off_t))
            };
            match done.as_ref().map_err(Error::raw_os_error) {
                Err(Some(libc::EINTR)) => {}
                Err(Some(libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP)) => {
                    return without_fallocate(fd, mode, offset, len);
                }
                _ => return done,
            }
        }
    }

    /// Give the pages of a dead owner's region back to the system.
    pub fn punch_region(&self, region: u32) -> Result<()> {
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.fallocate(hole, self.region_offset(region)?, self.region_len)
    }

    /// Give back the memory of a part of the file.
    pub fn punch_range(&self, offset: u64, len: usize) -> Result<()> {
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.fallocate(hole, offset, len)
    }

    pub fn map_control(self: &Arc<Self>) -> Result<Arc<Mapping>> {
        Mapping::new(self, 0, self.control_len, libc::MAP_SHARED)
    }

    pub fn map_range(
        self: &Arc<Self>,
        offset: u64,
        len: usize,
        private: bool,
    ) -> Result<Arc<Mapping>> {
        let sharing = if private { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
        Mapping::new(self, offset, len, sharing)
    }

    /// A region as its owner sees it.
    pub fn own_region(self: &Arc<Self>, region: u32) -> Result<Arc<Region>> {
        Ok(Region::new(self, self.region_offset(region)?, self.region_len, false))
    }

    /// Another's region: what is written into its large blocks is seen by no other process, and
    /// after a fork by one side only.
    pub fn others_region(self: &Arc<Self>, region: u32) -> Result<Arc<Region>> {
        Ok(Region::new(self, self.region_offset(region)?, self.region_len, true))
    }
}

/// A part of a segment in this process's address space, unmapped with its last user.
#[derive(Debug)]
pub struct Mapping {
    segment: Arc<Segment>,
    base: *mut u8,
    offset: u64,
    len: usize,
}

// SAFETY: the memory is shared between processes anyway; all access goes through atomics, or
// through bytes whose single writer the protocol of `table` names.
unsafe impl Send for Mapping {}
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(
        segment: &Arc<Segment>,
        offset: u64,
        len: usize,
        sharing: libc::c_int,
    ) -> Result<Arc<Self>> {
        let fd = segment.fd.get()?;
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                sharing | libc::MAP_NORESERVE,
                fd,
                offset as libc::off_t,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        // SAFETY: the range was mapped just now. A core dump does not want terabytes of holes.
        unsafe { libc::madvise(base, len, libc::MADV_DONTDUMP) };
        Ok(Arc::new(Self { segment: segment.clone(), base: base.cast(), offset, len }))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of `offset`; `len` bytes from there lie inside (checked).
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset, "outside of the mapping");
        // SAFETY: checked above.
        unsafe { self.base.add(offset) }
    }

    pub fn reserve(&self, offset: usize, len: usize) -> Result<()> {
        if self.segment.fd.get().is_err() {
            // The program has closed the descriptor; the memory is still mapped.
            memory_left::ask(len as u64)?;
            return advise(self.at(offset, len), len, 0);
        }
        self.segment.reserve_range(self.offset + offset as u64, len)
    }

    /// Forget what was written privately: the next look sees the file again. Whole pages only.
    pub fn discard(&self, offset: usize, len: usize) {
        let start = self.at(offset, len);
        if is_as_the_file(start, len) {
            // What is mapped can stay: the next look costs no page faults.
            return;
        }
        // SAFETY: inside of this mapping (checked), which has no reader there any more.
        unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) };
    }

    pub fn punch(&self, offset: usize, len: usize) -> Result<()> {
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        if self.segment.fd.get().is_err() {
            return advise(self.at(offset, len), len, hole);
        }
        self.segment.fallocate(hole, self.offset + offset as u64, len)
    }
}

/// Whether no page there was written to privately, as far as the system tells.
fn is_as_the_file(start: *mut u8, len: usize) -> bool {
    const SWAPPED: u64 = 1 << 62;
    const PRESENT: u64 = 1 << 63;
    const OF_FILE: u64 = 1 << 61;
    let Ok(map) = std::fs::File::open("/proc/self/pagemap") else { return false };
    let mut words = [0_u8; 4096];
    let (mut page, end) = (start as usize / PAGE, (start as usize + len) / PAGE);
    while page < end {
        let wanted = (end - page).min(words.len() / 8) * 8;
        let got = std::os::unix::fs::FileExt::read_at(&map, &mut words[..wanted], page as u64 * 8);
        let Ok(got @ 8..) = got else { return false };
        let own = words[..got / 8 * 8].chunks_exact(8).any(|word| {
            let word = u64::from_ne_bytes(word.try_into().expect("eight bytes"));
            word & SWAPPED != 0 || word & (PRESENT | OF_FILE) == PRESENT
        });
        if own {
            return false;
        }
        page += got / 8;
    }
    true
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing else has this mapping, this being its last `Arc`.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::descriptor::file_behind;

    fn segment() -> Arc<Segment> {
        Segment::create(PAGE, 1 << 30).expect("a memfd")
    }

    #[test]
    fn what_one_mapping_writes_another_reads() {
        let one = segment();
        let two = Segment::attach(one.fd(), PAGE, 1 << 30).expect("attached");
        let (a, b) =
            (one.own_region(3).expect("a region"), two.others_region(3).expect("a region"));
        a.reserve(0, PAGE).expect("room");
        let (a, b) = (a.small(100, 1).expect("mapped"), b.small(100, 1).expect("mapped"));
        // SAFETY: both lie inside of reserved pages.
        unsafe {
            *a.at(0, 1) = 42;
            assert_eq!(*b.at(0, 1), 42);
        }
    }

    #[test]
    fn a_punched_region_reads_as_zero() {
        let segment = segment();
        let span = segment.own_region(0).expect("a region").small(5, 1).expect("mapped");
        // SAFETY: inside of the mapping; a memfd hole reads as zero.
        unsafe {
            *span.at(0, 1) = 7;
            segment.punch_region(0).expect("punched");
            assert_eq!(*span.at(0, 1), 0);
        }
    }

    #[test]
    fn a_number_that_is_another_files_by_now_is_left_alone() {
        let segment = segment();
        let number = segment.fd();
        // SAFETY: closes and replaces the segment's own descriptor, as a daemon does.
        unsafe {
            let other = libc::memfd_create(c"other".as_ptr(), 0);
            assert_eq!(libc::dup2(other, number), number);
            libc::close(other);
        }
        let other = file_behind(number);
        assert!(segment.reserve_control(0, PAGE).is_err());
        drop(segment);
        assert!(other.is_some() && file_behind(number) == other, "neither closed nor written to");
        // SAFETY: it has no owner any more.
        unsafe { libc::close(number) };
    }

    #[test]
    fn what_was_written_privately_is_forgotten_and_what_was_only_read_stays() {
        let segment = segment();
        let shared = segment.map_range(0, 4 * PAGE, false).expect("map");
        let private = segment.map_range(0, 4 * PAGE, true).expect("map");
        segment.reserve_range(0, 4 * PAGE).expect("room");
        // SAFETY: inside of reserved pages.
        unsafe {
            assert_eq!(*private.at(2 * PAGE, 1), 0);
            assert!(is_as_the_file(private.at(0, 4 * PAGE), 4 * PAGE));
            private.discard(0, 4 * PAGE);
            *shared.at(2 * PAGE, 1) = 1;
            assert_eq!(*private.at(2 * PAGE, 1), 1, "the same page");
            *private.at(PAGE, 1) = 5;
            assert!(!is_as_the_file(private.at(0, 4 * PAGE), 4 * PAGE));
            private.discard(0, 4 * PAGE);
            assert_eq!(*private.at(PAGE, 1), 0);
            assert!(is_as_the_file(private.at(0, 4 * PAGE), 4 * PAGE));
        }
    }

    #[test]
    fn nobody_can_shrink_it() {
        let segment = segment();
        // SAFETY: the call fails, that is the point.
        assert_eq!(unsafe { libc::ftruncate(segment.fd(), 0) }, -1);
    }
}
