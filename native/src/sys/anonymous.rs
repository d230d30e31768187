//! Memory as a file without a name, on every system: by `memfd_create` and `fallocate`, or without them.

use crate::shm::segment::{check, PAGE};
use crate::sys::descriptor::duplicate;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Memory as a file without a name, which can be sealed where the system has `memfd_create`.
pub fn anonymous_file() -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: a static C string, and the returned descriptor has no other owner.
    let made = unsafe {
        let fd = libc::memfd_create(c"garrison".as_ptr(), flags);
        check(fd).map(|()| OwnedFd::from_raw_fd(fd))
    };
    match made {
        Ok(fd) => duplicate(fd.as_raw_fd()),
        // EPERM is what sandboxes say of a call that they do not know.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            unlinked_file()
        }
        Err(error) => Err(error),
    }
}

/// The same before Linux 3.17: a file of the system's shared memory that has lost its name.
#[cold]
fn unlinked_file() -> Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let id = crate::owners::registry::random_id()?;
    let path = format!("/dev/shm/garrison-{:x}{:x}", id[0], id[1]);
    let mut how = std::fs::OpenOptions::new();
    let file = how.read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(|error| {
        let text = format!(
            "garrison needs memfd_create (Linux 3.17), which this system refuses, or a /dev/shm \
             that can be written to: {error}"
        );
        Error::new(error.kind(), text)
    })?;
    std::fs::remove_file(&path)?;
    duplicate(file.as_raw_fd())
}

/// Whether it is a file in memory that has no name, and that only this user can open: what cannot be
/// sealed is as good then.
pub fn is_private_memory(fd: i32) -> bool {
    // SAFETY: a struct of numbers, which the call fills.
    unsafe {
        let mut data: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut data) == 0
            && is_in_memory(fd)
            && data.st_nlink == 0
            && data.st_mode & 0o077 == 0
    }
}

/// Whether a descriptor stands for a file of a file system that is memory.
pub fn is_in_memory(fd: i32) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    // SAFETY: a struct of numbers, which the call fills.
    unsafe {
        let mut system: libc::statfs = std::mem::zeroed();
        libc::fstatfs(fd, &raw mut system) == 0 && system.f_type as i64 == TMPFS
    }
}

/// What `fallocate` would do, where the system refuses it.
#[cold]
pub fn without_fallocate(fd: i32, mode: i32, offset: u64, len: usize) -> Result<()> {
    let start = offset / PAGE as u64 * PAGE as u64;
    let len = (offset - start) as usize + len;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping at an address the kernel chooses, which is gone at the end.
    unsafe {
        let base = libc::mmap(std::ptr::null_mut(), len, access, flags, fd, start as libc::off_t);
        if base == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let done = advise(base.cast(), len, mode);
        libc::munmap(base, len);
        done
    }
}

/// The same for memory of a file that is mapped here, and shared.
///
/// Before Linux 5.14 nothing reserves memory then, and where none is left a write to it is fatal.
#[cold]
pub fn advise(start: *mut u8, len: usize, mode: i32) -> Result<()> {
    let advice = if mode == 0 { libc::MADV_POPULATE_WRITE } else { libc::MADV_REMOVE };
    let page = start as usize / PAGE * PAGE;
    let len = start as usize - page + len;
    // SAFETY: the caller has mapped it; neither changes what is there, but for a hole that is wanted.
    let done = check(unsafe { libc::madvise(page as *mut libc::c_void, len, advice) });
    match done.as_ref().map_err(Error::raw_os_error) {
        Err(Some(libc::EFAULT)) => Err(Error::from_raw_os_error(libc::ENOSPC)),
        Err(Some(libc::EINVAL)) => Ok(()),
        _ => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_memfd_create_is_private_and_empty() {
        let file = unlinked_file().expect("a writable /dev/shm");
        assert!(is_private_memory(file.as_raw_fd()));
        assert_eq!(std::fs::File::from(file).metadata().unwrap().len(), 0);
    }

    #[test]
    fn without_fallocate_memory_is_reserved_and_given_back() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        let file = std::fs::File::from(anonymous_file().unwrap());
        file.set_len(1 << 20).unwrap();
        without_fallocate(file.as_raw_fd(), 0, 100, 2 * PAGE).unwrap();
        assert!(file.metadata().unwrap().blocks() as usize * 512 >= 2 * PAGE);
        file.write_at(b"x", 4096).unwrap();
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        without_fallocate(file.as_raw_fd(), hole, 0, 4 * PAGE).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 0);
    }
}
