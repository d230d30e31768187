//! Descriptors that are remembered by their number, and checked before they are used.
//!
//! A program that becomes a daemon closes all descriptors, and the numbers are other files' soon. What
//! we would do under such a number we would do to a file of the user's, closing it included.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// What a file is known by on this machine: device and inode.
pub type File = (u64, u64);

/// Which file a descriptor stands for, if it is open. Allowed after a fork.
pub fn file_behind(fd: i32) -> Option<File> {
    // SAFETY: a struct of numbers, which the call fills; it reports a bad descriptor.
    unsafe {
        let mut data: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &raw mut data) == 0).then_some((data.st_dev, data.st_ino))
    }
}

/// A new descriptor of ours, above the three standard ones: a daemon may have closed those, and what
/// is printed must not go into shared memory.
pub fn duplicate(fd: i32) -> Result<OwnedFd> {
    // SAFETY: fcntl reports a bad descriptor; the duplicate is ours alone.
    unsafe {
        let own = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if own == -1 {
            return Err(Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(own))
    }
}

/// A program rarely closes or reuses descriptors from this number on.
const HIGH: i32 = 512;

/// Move a descriptor that cannot be checked to a high number, if the limits allow it.
pub fn move_up(fd: i32) -> i32 {
    // SAFETY: fcntl reports a bad descriptor, and one that is moved is the caller's own.
    unsafe {
        let higher = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, HIGH);
        if higher == -1 {
            return fd;
        }
        libc::close(fd);
        higher
    }
}

/// A descriptor of ours, and the file that it stands for.
///
/// One that was closed here is got back from the process that has forked this one, if that still has it.
#[derive(Debug)]
pub struct Descriptor {
    number: AtomicI32,
    file: File,
    /// The parent that was last asked in vain.
    asked: AtomicI32,
}

impl Descriptor {
    pub fn own(fd: OwnedFd) -> Result<Self> {
        let file = file_behind(fd.as_raw_fd()).ok_or_else(Error::last_os_error)?;
        Ok(Self { number: fd.into_raw_fd().into(), file, asked: 0.into() })
    }

    /// The number alone: for comparing, and for telling others.
    pub fn number(&self) -> i32 {
        self.number.load(Ordering::Relaxed)
    }

    pub fn file(&self) -> File {
        self.file
    }

    /// Whether it is open, and still stands for our file.
    #[inline]
    pub fn is_ours(&self) -> bool {
        file_behind(self.number()) == Some(self.file)
    }

    /// The number, to be used now; `EBADF` if it is not ours any more.
    #[inline]
    pub fn get(&self) -> Result<i32> {
        let number = self.number();
        if file_behind(number) == Some(self.file) {
            Ok(number)
        } else {
            self.recovered()
        }
    }

    #[cold]
    fn recovered(&self) -> Result<i32> {
        let lost = || Error::from_raw_os_error(libc::EBADF);
        // SAFETY: cannot fail.
        let parent = unsafe { libc::getppid() };
        if parent <= 1 || self.asked.swap(parent, Ordering::Relaxed) == parent {
            return Err(lost());
        }
        let found = open_of_parent(parent, self.file).ok_or_else(lost)?;
        self.asked.store(0, Ordering::Relaxed);
        let number = found.into_raw_fd();
        // If another thread comes here too, the program has one descriptor too many at most.
        self.number.store(number, Ordering::Relaxed);
        Ok(number)
    }

    /// Another description of the file: locks belong to descriptions, and relatives share this one.
    pub fn reopen(&self) -> Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.get()?);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        // What is mounted there may be no /proc.
        match file_behind(file.as_raw_fd()) {
            Some(found) if found == self.file => Ok(file.into()),
            _ => Err(Error::from_raw_os_error(libc::ENOENT)),
        }
    }
}

/// Open a file that the parent has open, under whatever number.
fn open_of_parent(parent: i32, file: File) -> Option<OwnedFd> {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(format!("/proc/{parent}/fd")).ok()? {
        let path = entry.ok()?.path();
        let is_it = std::fs::metadata(&path).is_ok_and(|data| (data.dev(), data.ino()) == file);
        if is_it {
            let opened = std::fs::OpenOptions::new().read(true).write(true).open(path).ok()?;
            return duplicate(opened.as_raw_fd()).ok();
        }
    }
    None
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: ours, and dropped once.
            unsafe { libc::close(self.number()) };
        }
    }
}

/// What is said where a descriptor was lost.
pub const LOST: &str = "the descriptors of this object were closed in this process, by \
                        os.closerange() or as a daemon does it; make the object anew, or close only \
                        descriptors of your own";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_another_files_by_now_is_neither_used_nor_closed() {
        let (mine, other) =
            (std::fs::File::open("/").unwrap(), std::fs::File::open("/dev").unwrap());
        let mine = Descriptor::own(mine.into()).unwrap();
        assert_eq!(mine.get().unwrap(), mine.number());
        let number = mine.number();
        // SAFETY: replaces a descriptor of this test's.
        unsafe { libc::dup2(other.as_raw_fd(), number) };
        assert!(!mine.is_ours());
        assert_eq!(mine.get().unwrap_err().raw_os_error(), Some(libc::EBADF));
        drop(mine);
        assert_eq!(file_behind(number), file_behind(other.as_raw_fd()));
        // SAFETY: it has no owner any more.
        unsafe { libc::close(number) };
    }
}
