//! The calls of LMDB, and nothing else of it: every pointer of the C library stays in here.
//!
//! A transaction that the process has inherited by a fork must not be touched, so what can be left
//! by a fork has a `forget`.

use super::records::NEWEST;
use super::reservation::Reservation;
use super::{Error, Result};
use crate::shm::segment::without_file_limit;
use crate::sys::descriptor::{file_behind, File};
use crate::sys::process::generation;
use lmdb_master_sys as ffi;
use std::cell::Cell as Slot;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

mod files;
mod map;
mod robust_list;
mod transactions;

pub use files::InMemory;
use map::Map;
pub use transactions::{Cursor, Near, ReadTransaction, Reading, Record, WriteTransaction};

/// How many transactions may read at a time, in all processes.
pub const READERS: u32 = 4096;
/// LMDB's `mt_next_pgno` lies behind two pointers, a number and a mutex.
const NEXT_PAGE_AT: usize = 24 + size_of::<libc::pthread_mutex_t>();

fn check(code: libc::c_int) -> Result<()> {
    if code == ffi::MDB_SUCCESS {
        return Ok(());
    }
    Err(error_from_code(code))
}

#[cold]
fn error_from_code(code: libc::c_int) -> Error {
    match code {
        ffi::MDB_MAP_FULL => Error::Full("the store has reached its size".into()),
        ffi::MDB_TXN_FULL => Error::Full("too much in one transaction; use several".into()),
        ffi::MDB_READERS_FULL => {
            Error::Full(format!("more than {READERS} transactions read at a time"))
        }
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG | libc::ENOMEM => {
            Error::Full(std::io::Error::from_raw_os_error(code).to_string())
        }
        ffi::MDB_VERSION_MISMATCH => Error::Version("a store of another version of LMDB".into()),
        ffi::MDB_BAD_VALSIZE => Error::Value("too large for the store".into()),
        code if code > 0 => Error::System(code),
        // SAFETY: it answers with a static text for every number.
        code => Error::corrupt(unsafe {
            &std::ffi::CStr::from_ptr(ffi::mdb_strerror(code)).to_string_lossy()
        }),
    }
}

fn value(bytes: &[u8]) -> ffi::MDB_val {
    ffi::MDB_val { mv_size: bytes.len(), mv_data: bytes.as_ptr().cast_mut().cast() }
}

/// # Safety
/// LMDB has filled it, and the bytes stay for `'a`.
unsafe fn bytes<'a>(value: &ffi::MDB_val) -> &'a [u8] {
    if value.mv_size == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(value.mv_data.cast(), value.mv_size) }
}

fn unknown_layout() -> Error {
    Error::Version("this LMDB has structs of another layout".into())
}

/// How a store is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub size: u64,
    pub in_memory: bool,
    pub sync: bool,
    /// Nothing is written, to the table of readers neither if that is a file of its own.
    pub read_only: bool,
    /// No other process has the store open: its table of readers, with the mutexes, is made anew.
    pub alone: bool,
}

/// An open environment: one in a process, for each store.
pub struct Env {
    raw: *mut ffi::MDB_env,
    fd: i32,
    handles: files::Handles,
    pub reservation: Reservation,
    map: Map,
    in_memory: bool,
    /// Pages are limited to those that have memory: this process writes.
    limited: Slot<bool>,
    /// Each record has a sum behind it.
    sums: Slot<bool>,
    /// How records are written.
    version: Slot<u32>,
    /// Readers are checked when the file has grown beyond.
    checked: Slot<u64>,
    /// Others took this process for dead.
    lost: Slot<bool>,
    _file: OpenGuard,
}

/// Where a store's files are.
#[derive(Debug, Clone)]
pub enum Place {
    Folder(PathBuf),
    Memory(InMemory),
}

impl Place {
    /// Which file the data is in, and its length.
    fn data(&self) -> Result<(File, u64)> {
        let look = |fd| {
            let file = file_behind(fd).ok_or_else(std::io::Error::last_os_error)?;
            Ok((file, length(fd)))
        };
        let found = match self {
            Self::Folder(path) => {
                open_file(&path.join("data.mdb")).and_then(|file| look(file.as_raw_fd()))
            }
            Self::Memory(files) => look(files.data),
        };
        found.map_err(|error| error_from_code(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// Do something with the table of readers, before the environment is opened.
    pub fn with_readers<T>(&self, run: impl FnOnce(i32) -> Result<T>) -> Result<T> {
        match self {
            Self::Memory(files) => run(files.lock),
            Self::Folder(path) => {
                let file = open_file(&path.join("lock.mdb"));
                let file = file
                    .map_err(|error| error_from_code(error.raw_os_error().unwrap_or(libc::EIO)))?;
                run(file.as_raw_fd())
            }
        }
    }

    fn in_memory(&self) -> Option<InMemory> {
        match self {
            Self::Folder(_) => None,
            Self::Memory(files) => Some(*files),
        }
    }

    fn name(&self) -> Result<CString> {
        match self {
            Self::Folder(path) => CString::new(path.as_os_str().as_bytes())
                .map_err(|_| Error::Value("a path with a zero byte".into())),
            Self::Memory(_) => Ok(files::NAME.to_owned()),
        }
    }
}

fn length(fd: i32) -> u64 {
    // SAFETY: a struct of numbers, which the call fills.
    unsafe {
        let mut data: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut data);
        data.st_size as u64
    }
}

fn open_file(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut how = std::fs::OpenOptions::new();
    how.read(true).write(true).create(true).truncate(false).mode(0o600);
    how.custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Files of which this process has an environment, each with the count of forks then. When a second one
/// of the same file is closed, the system drops the locks of the first.
static OPEN: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

struct Opened {
    forks: u64,
    file: File,
    folder: Option<PathBuf>,
}

/// The folders of the stores that this process has open, for messages.
pub fn open_folders() -> Vec<PathBuf> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = open.iter().filter(|each| each.forks == generation());
    ours.filter_map(|each| each.folder.clone()).collect()
}

struct OpenGuard(u64, File);

/// The right to open a store, and how long its file is.
fn claim(place: &Place) -> Result<(OpenGuard, u64)> {
    let (data, len) = place.data()?;
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|each| each.forks == generation());
    if open.iter().any(|each| each.file == data) {
        return Err(Error::Value("this process has the store open already; use that one".into()));
    }
    let folder = match place {
        Place::Folder(path) => Some(path.clone()),
        Place::Memory(_) => None,
    };
    open.push(Opened { forks: generation(), file: data, folder });
    Ok((OpenGuard(generation(), data), len))
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|each| each.forks != self.0 || each.file != self.1);
    }
}

// SAFETY: used under the GIL, and by the one thread that has a transaction.
unsafe impl Send for Env {}
unsafe impl Sync for Env {}

/// What is known of an environment.
pub struct EnvInfo {
    pub last_page: u64,
    pub last_transaction: u64,
    pub readers: u32,
}

impl Env {
    pub fn open(place: &Place, options: &Options, reservation: Reservation) -> Result<Self> {
        let (file, len) = claim(place)?;
        let text = place.name()?;
        let mut flags = ffi::MDB_NOTLS | ffi::MDB_NORDAHEAD;
        if options.read_only {
            flags |= ffi::MDB_RDONLY;
        } else if options.in_memory {
            flags |= ffi::MDB_WRITEMAP | ffi::MDB_NOSYNC;
        } else if !options.sync {
            flags |= ffi::MDB_NOSYNC;
        }
        let size = map::size_at_first(len.max(reservation.reserved()), options.size);
        let mut raw = null_mut();
        // SAFETY: the environment is made here; it is closed if it cannot be opened.
        let opened = unsafe {
            check(ffi::mdb_env_create(&raw mut raw))?;
            check(ffi::mdb_env_set_mapsize(raw, size))
                .and_then(|()| check(ffi::mdb_env_set_maxreaders(raw, READERS)))
                .and_then(|()| {
                    let open = || ffi::mdb_env_open(raw, text.as_ptr(), flags, 0o600);
                    check(files::opening(place.in_memory(), options.alone, open))
                })
        };
        opened.and_then(|()| Self::over(raw, file, options, reservation)).inspect_err(|_| {
            // SAFETY: made above, and nothing else has it.
            unsafe { ffi::mdb_env_close(raw) };
        })
    }

    fn over(
        raw: *mut ffi::MDB_env,
        file: OpenGuard,
        options: &Options,
        mut reservation: Reservation,
    ) -> Result<Self> {
        let mut fd = -1;
        // SAFETY: it is open, begins with its descriptors, and outlives them.
        let handles = unsafe {
            check(ffi::mdb_env_get_fd(raw, &raw mut fd))?;
            files::Handles::of(raw.cast())
        };
        // SAFETY: as above.
        if unsafe { *raw.cast::<i32>() } != fd {
            return Err(unknown_layout());
        }
        let map = Map::find(raw, fd, options)?;
        reservation.page = map.page as u64;
        let (in_memory, checked, limited) = (options.in_memory, Slot::new(256), Slot::new(false));
        let (sums, version) = (Slot::new(false), Slot::new(NEWEST));
        Ok(Self {
            raw,
            fd,
            handles,
            reservation,
            map,
            in_memory,
            limited,
            sums,
            version,
            checked,
            lost: Slot::new(false),
            _file: file,
        })
    }

    /// Whether a record of so many bytes can be written without more memory or a longer map.
    #[inline]
    pub fn has_room(&self, next_page: u64, bytes: usize) -> bool {
        self.reservation.is_enough(next_page, bytes, self.map.pages())
    }

    /// Reserve more memory, if there is more. If not, what is free inside may do.
    #[cold]
    pub fn make_room(&self, next_page: u64, bytes: usize) -> Result<()> {
        if !self.is_writable() {
            return Err(Error::System(libc::EBADF));
        }
        let before = self.reservation.reserved();
        let mut grown = Ok(());
        let mut grow = || {
            grown = self.reservation.grow(self.fd, next_page, bytes).and_then(|()| self.lengthen());
            Ok(())
        };
        // What is limited is a file's length, not memory.
        let _ = if self.in_memory { without_file_limit(grow) } else { grow() };
        grown?;
        let wanted = self.reservation.wanted(next_page, bytes).min(self.reservation.reserved());
        let _ = self.map.grow(wanted, self.reservation.reserved());
        if self.in_memory {
            self.map.populate(before, self.reservation.reserved());
        }
        Ok(())
    }

    /// What is reserved is in the file, but where the system can reserve nothing. LMDB writes to its
    /// map in memory, which must not reach over the end of the file.
    fn lengthen(&self) -> Result<()> {
        let reserved = self.reservation.reserved();
        if !self.in_memory || length(self.fd) >= reserved {
            return Ok(());
        }
        // SAFETY: changes a file that is open here; the owner of the writers' lock lengthens it.
        match unsafe { libc::ftruncate64(self.fd, reserved as libc::off64_t) } {
            0 => Ok(()),
            _ => Err(error_from_code(
                std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
            )),
        }
    }

    /// Another process has made the store longer than this one's map.
    #[cold]
    fn follow(&self) -> Result<()> {
        if !self.is_writable() {
            return Err(Error::System(libc::EBADF));
        }
        let len = length(self.fd);
        self.map.grow(len, len).map_err(|()| map::no_address_space(self.map.bytes()))?;
        if self.limited.get() {
            // This process is writing: what was committed has memory, and no more is to be used.
            self.map.limit(self.map.limited().max(self.reservation.pages(true)));
        } else {
            self.map.limit(u64::MAX);
        }
        Ok(())
    }

    /// Have LMDB use no pages but those that have memory, whatever it needs; and keep some for a
    /// writer that frees others.
    #[inline]
    pub fn limit_map_to_reserved(&self, frees: bool) {
        self.limited.set(true);
        self.map.limit(self.reservation.pages(frees));
    }

    /// Why the store is full: LMDB takes the end of what is reserved for that of the store.
    #[cold]
    pub fn explain_full(&self, error: Error) -> Error {
        let reserved = self.reservation.reserved();
        let mapped = self.map.bytes();
        match error {
            Error::Full(_) if mapped < reserved.min(self.reservation.size()) => {
                map::no_address_space(mapped)
            }
            Error::Full(_) if reserved < self.reservation.size() => {
                let scarce = self.reservation.scarcity(self.fd).unwrap_or_default();
                Error::Full(format!(
                    "there is no memory for more than its {reserved} bytes{scarce}"
                ))
            }
            // LMDB says so when less was written than it has asked for.
            Error::System(libc::EIO) if self.is_disk_full() => {
                Error::Full("the disk is full".into())
            }
            error => error,
        }
    }

    fn is_disk_full(&self) -> bool {
        // SAFETY: a struct of numbers, which the call fills.
        unsafe {
            let mut disk: libc::statvfs = std::mem::zeroed();
            libc::fstatvfs(self.fd, &raw mut disk) == 0 && disk.f_bavail * disk.f_frsize < 1 << 20
        }
    }

    /// Undo it: others may have reserved more by the time that this process looks again.
    #[inline]
    pub fn lift_limit(&self) {
        self.limited.set(false);
        self.map.limit(u64::MAX);
    }

    /// Write all that is committed to a file, as it is at one moment; writers wait for a moment only.
    pub fn copy_to(&self, fd: i32) -> Result<()> {
        // SAFETY: it is open, and the call leaves the descriptor open.
        check(unsafe { ffi::mdb_env_copyfd(self.raw, fd) })
    }

    pub fn info(&self) -> EnvInfo {
        // SAFETY: a struct of numbers and a pointer, which the call fills.
        unsafe {
            let mut info: ffi::MDB_envinfo = std::mem::zeroed();
            ffi::mdb_env_info(self.raw, &raw mut info);
            EnvInfo {
                last_page: info.me_last_pgno as u64,
                last_transaction: info.me_last_txnid as u64,
                readers: info.me_numreaders,
            }
        }
    }

    /// Take away the slots of readers that are dead, which keep pages from being used again.
    pub fn check_readers(&self) -> i32 {
        let mut dead = 0;
        if !self.handles.are_locked() {
            return dead;
        }
        // SAFETY: it is open.
        unsafe { ffi::mdb_reader_check(self.raw, &raw mut dead) };
        dead
    }

    fn check_readers_if_grown(&self, next_page: u64) {
        if next_page > self.checked.get() {
            self.check_readers();
            self.checked.set(next_page + next_page / 8 + 256);
        }
    }

    /// A transaction that has just begun. The map follows a store that others have made longer.
    fn begin(&self, flags: libc::c_uint) -> Result<*mut ffi::MDB_txn> {
        let mut raw = null_mut();
        let mut begin =
            // SAFETY: it is open, and the place for the answer is a local's.
            || unsafe { ffi::mdb_txn_begin(self.raw, null_mut(), flags, &raw mut raw) };
        let code = match begin() {
            ffi::MDB_MAP_RESIZED => self.follow_until(begin)?,
            code => code,
        };
        check(code).map(|()| raw)
    }

    pub fn begin_reading(&self) -> Result<ReadTransaction> {
        let raw = self.begin(ffi::MDB_RDONLY).or_else(|_| {
            self.check_readers();
            self.begin(ffi::MDB_RDONLY)
        })?;
        Ok(ReadTransaction::new(raw, self.sums.get()))
    }

    /// Whether the descriptors that LMDB writes to, or reserves memory with, are still its own, and
    /// others know that this process reads.
    #[inline]
    pub fn is_writable(&self) -> bool {
        !self.lost.get() && self.handles.are_ours()
    }

    /// Take a transaction that reads up again: it sees what was committed last.
    #[inline]
    pub fn renew(&self, reader: &ReadTransaction) -> Result<()> {
        // SAFETY: it was put aside.
        let renew = || unsafe { ffi::mdb_txn_renew(reader.raw()) };
        match renew() {
            ffi::MDB_MAP_RESIZED => check(self.follow_until(renew)?),
            // Its locks went with LMDB's descriptors, or with any other of the same file, as when the
            // program copies it.
            ffi::MDB_BAD_RSLOT => {
                self.lost.set(true);
                Err(Error::System(libc::EBADF))
            }
            code => check(code),
        }
    }

    /// Make the map as long as the store, until it is long enough: others may go on meanwhile.
    #[cold]
    fn follow_until(&self, mut begin: impl FnMut() -> libc::c_int) -> Result<libc::c_int> {
        for _ in 0..100 {
            self.follow()?;
            match begin() {
                ffi::MDB_MAP_RESIZED => {}
                code => return Ok(code),
            }
        }
        Err(map::no_address_space(self.map.bytes()))
    }

    pub fn begin_writing(&self) -> Result<WriteTransaction> {
        // A store in memory is written through its map: it needs its descriptors only to grow.
        if !self.in_memory && !self.is_writable() {
            return Err(Error::System(libc::EBADF));
        }
        // The caller has the writers' lock, so no other one is under way.
        let transaction = WriteTransaction::new(self.begin(0)?, self.sums.get());
        self.check_readers_if_grown(transaction.next_page());
        Ok(transaction)
    }

    /// Whether each record has a sum behind it.
    pub fn has_sums(&self) -> bool {
        self.sums.get()
    }

    /// Say so, once after opening.
    pub fn set_sums(&self, sums: bool) {
        self.sums.set(sums);
    }

    /// The version of the records that are written.
    #[inline]
    pub fn version(&self) -> u32 {
        self.version.get()
    }

    /// Say so, once after opening.
    pub fn set_version(&self, version: u32) {
        self.version.set(version);
    }

    /// Make the one database known, once after opening.
    pub fn open_database(&self, transaction: &ReadTransaction) -> Result<()> {
        let mut database = 0;
        // SAFETY: it has not ended; no name stands for the one that is always there.
        check(unsafe {
            ffi::mdb_dbi_open(transaction.raw(), std::ptr::null(), 0, &raw mut database)
        })
    }

    /// Raise if this LMDB keeps its next page elsewhere than this module believes.
    pub fn check_layout(&self, fresh: &ReadTransaction) -> Result<()> {
        let info = self.info();
        // SAFETY: it is open.
        let id = unsafe { ffi::mdb_txn_id(fresh.raw()) } as u64;
        // Another process may have committed meanwhile; then it has asked the same.
        if info.last_transaction != id || next_page(fresh.raw()) == info.last_page + 1 {
            return Ok(());
        }
        Err(unknown_layout())
    }
}

/// For tests: what may be damage from elsewhere is none there.
#[cold]
fn mutex_was_lost() {
    #[cfg(feature = "crash-points")]
    crate::testing::faults::write_stack(
        b"\na mutex was still locked when its store was closed; in native code:\n",
    );
}

/// The first page behind all that a transaction uses.
#[inline]
fn next_page(transaction: *mut ffi::MDB_txn) -> u64 {
    // SAFETY: `check_layout` has seen that the number lies there.
    unsafe { *transaction.cast::<u8>().add(NEXT_PAGE_AT).cast::<usize>() as u64 }
}

impl Drop for Env {
    fn drop(&mut self) {
        self.handles.forget_lost();
        if robust_list::forget(&self.map.table()) {
            mutex_was_lost();
        }
        let files = self.in_memory.then_some(InMemory { data: self.fd, lock: self.fd });
        // SAFETY: nothing uses it any more. In a forked child it closes what was inherited, and
        // touches only readers of this very process.
        files::opening(files, false, || unsafe { ffi::mdb_env_close(self.raw) });
    }
}
