//! LMDB opens its files by name alone. A store in memory has none, and a folder of links to its
//! descriptors would need `/proc` and a place to write to, which a process in a `chroot` lacks.
//!
//! The linker leads every `open` of this library here (`build.rs`). While a thread opens a store in
//! memory, what LMDB asks for is a duplicate of a descriptor; everything else is opened as ever.
//! Nor is the file cut to the length of this process's map then: others may have made it longer
//! (`reservation`).
//!
//! Nor does LMDB begin a table of readers anew, with its mutexes, because it finds itself alone. It goes
//! by locks on the file, and a program that closes any descriptor of it loses those, as when it copies
//! the folder: a mutex would be made anew while that program has it locked. Who is alone, the caller
//! says.

use crate::sys::descriptor::{duplicate, file_behind, File};
use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::IntoRawFd;

/// The descriptors of the data and of the table of readers.
#[derive(Debug, Clone, Copy)]
pub struct InMemory {
    pub data: i32,
    pub lock: i32,
}

thread_local! {
    static OPENING: Cell<Option<InMemory>> = const { Cell::new(None) };
    static IN_FOLDER: Cell<bool> = const { Cell::new(false) };
    static ALONE: Cell<bool> = const { Cell::new(true) };
}

/// What the path of a store in memory is called; no such file is ever looked for.
pub const NAME: &CStr = c"garrison:";

/// Have LMDB get these descriptors as long as `run` runs; or, for a store in a folder, follow no link
/// that is put there in place of a file. It finds itself `alone` with a table that is in use if the
/// caller says so.
pub fn opening<T>(files: Option<InMemory>, alone: bool, run: impl FnOnce() -> T) -> T {
    OPENING.set(files);
    IN_FOLDER.set(files.is_none());
    ALONE.set(alone);
    let done = run();
    OPENING.set(None);
    IN_FOLDER.set(false);
    ALONE.set(true);
    done
}

/// The flags of an `open`, which follows no link if LMDB opens a store in a folder.
fn without_links(flags: i32) -> i32 {
    match IN_FOLDER.try_with(Cell::get) {
        Ok(true) => flags | libc::O_NOFOLLOW,
        _ => flags,
    }
}

/// The descriptor that a path stands for; -1 and `errno` if there is none. Nothing if it is a file's.
fn wanted(path: *const libc::c_char) -> Option<i32> {
    let files = OPENING.try_with(Cell::get).ok().flatten()?;
    // SAFETY: the caller of `open` has given a C string.
    let name = unsafe { CStr::from_ptr(path) }.to_bytes().strip_prefix(NAME.to_bytes())?;
    let fd = if name.ends_with(b"lock.mdb") { files.lock } else { files.data };
    Some(duplicate(fd).map_or_else(
        |error| {
            // SAFETY: the place is this thread's.
            unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EBADF) };
            -1
        },
        IntoRawFd::into_raw_fd,
    ))
}

type Mode = libc::c_uint;

extern "C" {
    fn __real_fcntl(fd: i32, command: i32, argument: *mut libc::flock) -> i32;
    fn __real_ftruncate(fd: i32, len: libc::off_t) -> i32;
    fn __real_open(path: *const libc::c_char, flags: i32, mode: Mode) -> i32;
}

// So the functions of either name do the same; only some C libraries have those with a number.
const _: () = assert!(size_of::<libc::off_t>() == 8);

/// # Safety
/// As of `open`. With two arguments the third is never looked at.
#[no_mangle]
pub unsafe extern "C" fn __wrap_open(path: *const libc::c_char, flags: i32, mode: Mode) -> i32 {
    // SAFETY: as the caller says.
    wanted(path).unwrap_or_else(|| unsafe { __real_open(path, without_links(flags), mode) })
}

/// # Safety
/// As of `open`.
#[no_mangle]
pub unsafe extern "C" fn __wrap_open64(path: *const libc::c_char, flags: i32, mode: Mode) -> i32 {
    // SAFETY: as the caller says.
    unsafe { __wrap_open(path, flags, mode) }
}

/// Is it the data of the store that this thread is opening?
fn is_data(fd: i32) -> bool {
    let files = OPENING.try_with(Cell::get).ok().flatten();
    files.is_some_and(|files| {
        file_behind(fd).is_some_and(|file| Some(file) == file_behind(files.data))
    })
}

/// # Safety
/// As of `ftruncate`.
#[no_mangle]
pub unsafe extern "C" fn __wrap_ftruncate(fd: i32, len: libc::off_t) -> i32 {
    if is_data(fd) {
        return 0;
    }
    // SAFETY: as the caller says.
    unsafe { __real_ftruncate(fd, len) }
}

/// # Safety
/// As of `ftruncate`.
#[no_mangle]
pub unsafe extern "C" fn __wrap_ftruncate64(fd: i32, len: libc::off_t) -> i32 {
    // SAFETY: as the caller says.
    unsafe { __wrap_ftruncate(fd, len) }
}

/// Does LMDB ask whether it is alone with a table of readers that is in use?
///
/// # Safety
/// For this command the argument must be what `fcntl` wants.
unsafe fn asks_for_all(fd: i32, command: i32, argument: *const libc::flock) -> bool {
    let mut magic = 0_u32;
    command == libc::F_SETLK
        && ALONE.try_with(Cell::get) == Ok(false)
        // SAFETY: as the caller says; the number has room for what is read.
        && unsafe {
            i32::from((*argument).l_type) == libc::F_WRLCK
                && libc::pread(fd, (&raw mut magic).cast(), size_of::<u32>(), 0) == size_of::<u32>() as isize
        }
        // It is written last when a table is made.
        && magic != 0
}

/// # Safety
/// As of `fcntl`. Without a third argument it is passed on as it is, and never looked at.
#[no_mangle]
pub unsafe extern "C" fn __wrap_fcntl(fd: i32, command: i32, argument: *mut libc::flock) -> i32 {
    // SAFETY: as the caller says; the place of the error is this thread's.
    unsafe {
        if asks_for_all(fd, command, argument) {
            *libc::__errno_location() = libc::EAGAIN;
            return -1;
        }
        __real_fcntl(fd, command, argument)
    }
}

/// # Safety
/// As of `fcntl`.
#[no_mangle]
pub unsafe extern "C" fn __wrap_fcntl64(fd: i32, command: i32, argument: *mut libc::flock) -> i32 {
    // SAFETY: as the caller says.
    unsafe { __wrap_fcntl(fd, command, argument) }
}

/// The descriptors of an open environment: its first three words. Which files they are is remembered,
/// so that none is closed, or written to, that is another file's by now.
pub struct Handles {
    words: *mut i32,
    files: [Option<File>; 3],
}

const NONE: i32 = -1;
/// Which of the words is the descriptor of the table of readers.
const LOCK: usize = 1;

impl Handles {
    /// # Safety
    /// `words` must be those of an environment that outlives this.
    pub unsafe fn of(words: *mut i32) -> Self {
        // SAFETY: as the caller says.
        let files = [0, 1, 2].map(|at| file_behind(unsafe { *words.add(at) }));
        Self { words, files }
    }

    fn number(&self, at: usize) -> i32 {
        // SAFETY: the environment is there.
        unsafe { *self.words.add(at) }
    }

    fn is_ours(&self, at: usize) -> bool {
        self.number(at) == NONE || file_behind(self.number(at)) == self.files[at]
    }

    /// Whether the table of readers is open here: the system shows others the locks that this process
    /// has on it, by which they know that it lives.
    #[inline]
    pub fn are_locked(&self) -> bool {
        self.is_ours(LOCK)
    }

    /// Whether LMDB may write to all of them.
    pub fn are_ours(&self) -> bool {
        (0..3).all(|at| self.is_ours(at))
    }

    /// Have LMDB not close what is not ours.
    pub fn forget_lost(&self) {
        for at in 0..3 {
            if !self.is_ours(at) {
                // SAFETY: the environment is there, and nothing uses it any more.
                unsafe { *self.words.add(at) = NONE };
            }
        }
    }
}
