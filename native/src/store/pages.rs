//! Whether the pages of a store's file are what LMDB takes for granted, looked at before LMDB is.
//!
//! LMDB believes all that its file says: a page's number, a node's place and length. A byte that was
//! changed leads it out of the file, out of a page, or round in a circle. So nothing here is believed:
//!
//! ```text
//! page 0, 1   heads: of the last two transactions, one each        `heads`
//! branch      children, and the least key of each but the first    `page`
//! leaf        records, or where a large value lies                 `page`
//! overflow    a large value, in pages one behind the other         `walk`
//! ```
//! Two trees begin in a head: the records, and the lists of free pages. The walk goes through both; it
//! keeps a bit for each page, so that it ends. It reads by `pread`: a file that is cut meanwhile is
//! an error here too.

mod heads;
mod page;
mod report;
// They have LMDB write stores, which Miri cannot.
#[cfg(all(test, not(miri)))]
mod tests;
mod walk;

pub use heads::Heads;
pub use report::{report, Container};
pub use walk::{walk, Large, Pages, Visitor};

use super::records::{prefix, Meta, META};
use super::{sums, Error, Result};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

/// Takes the first damage for the end, and looks at sums.
#[derive(Default)]
struct Sound {
    sums: Sums,
}

/// Whether the records have sums: the first one tells.
#[derive(Debug, Default)]
pub struct Sums(Option<bool>);

impl Sums {
    /// Whether they have, once the first one was seen.
    pub fn known(&self) -> Option<bool> {
        self.0
    }

    /// Go on without the first one.
    pub fn assume(&mut self, with: bool) {
        self.0 = Some(with);
    }

    /// What is stored in a record, without its sum, which must be right.
    pub fn check<'r>(&mut self, key: &[u8], stored: &'r [u8]) -> Result<&'r [u8]> {
        let with = match self.0 {
            Some(with) => with,
            None if *key == prefix(0, META) => *self.0.insert(Meta::has_sums(stored)?),
            None => return Err(Error::Corrupt("the first record is missing".into())),
        };
        let sound = if with { sums::without_sum(key, stored) } else { Some(stored) };
        sound.ok_or_else(|| Error::Corrupt("the sum of a record is wrong".into()))
    }
}

impl<S: Source + ?Sized> Visitor<S> for Sound {
    fn small(&mut self, key: &[u8], stored: &[u8]) -> Result<()> {
        self.sums.check(key, stored).map(|_| ())
    }

    fn large(&mut self, _: &Pages<'_, S>, _: &[u8], _: Large) -> Result<()> {
        Ok(())
    }

    fn lost_value(&mut self, what: String, _: &[u8]) -> Result<()> {
        Err(Error::Corrupt(what))
    }

    fn damage(&mut self, what: String, _: &[u8], _: Option<&[u8]>) -> Result<()> {
        Err(Error::Corrupt(what))
    }
}

/// Raise unless LMDB can read and write the file.
///
/// # Errors
/// `Error::Corrupt` for the first page that is damaged.
pub fn check(source: &(impl Source + ?Sized)) -> Result<()> {
    match Heads::read(source)? {
        Some(heads) => walk(source, &heads, &mut Sound::default()).map(|_| ()),
        None => Ok(()),
    }
}

/// A file, or what stands for one in tests.
pub trait Source {
    fn len(&self) -> Result<u64>;

    /// Read as many bytes, or fail.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<()>;
}

impl Source for File {
    fn len(&self) -> Result<u64> {
        self.metadata().map(|data| data.len()).map_err(|error| system(&error))
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        self.read_exact_at(into, at).map_err(|error| system(&error))
    }
}

impl Source for [u8] {
    fn len(&self) -> Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or_else(|| ends_too_early(at))?);
        Ok(())
    }
}

/// The file of a descriptor, which stays open.
pub fn file_of(fd: i32) -> ManuallyDrop<File> {
    // SAFETY: never closed here; a bad descriptor is reported by each call.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

/// Raise unless LMDB can read and write the file of a descriptor.
///
/// # Errors
/// As of `check`.
pub fn check_file(fd: i32) -> Result<()> {
    // SAFETY: advice only: nearly all pages are wanted, in the order of the trees.
    unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_WILLNEED) };
    check(&*file_of(fd))
}

fn ends_too_early(at: u64) -> Error {
    Error::Corrupt(format!("the file ends before byte {at}"))
}

fn system(error: &std::io::Error) -> Error {
    match error.raw_os_error() {
        // A sector of the disk that cannot be read any more is damage as well.
        Some(libc::EIO) => Error::Corrupt("the disk cannot read it (EIO)".into()),
        Some(code) => Error::System(code),
        None => Error::Corrupt("the file ends before its last page".into()),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
