//! A socket's two calls, which never raise a signal of their own.

use std::io::{Error, ErrorKind, Result};

/// What one call may receive.
pub const RECEIVE: usize = 1 << 16;

pub fn receive(fd: i32, into: &mut [u8], waits: bool) -> Result<usize> {
    let flags = if waits { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the pointer and the length are of a slice.
    let count = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), flags) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// Send what goes without waiting.
pub fn send(fd: i32, data: &[u8]) -> Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length are of a slice.
    let count = unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), flags) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// Whether the call may do better next time.
pub fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
