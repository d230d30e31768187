//! System calls on a connected socket. None of them raises a signal.

use crate::sys::deadline::LIVENESS_CHECK_INTERVAL;
use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

/// What one call receives at most.
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

/// Whether the call may succeed when it is repeated.
pub fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// No `recv` that waits does so for longer than an interval.
pub fn limit_waits(fd: i32) -> Result<()> {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: LIVENESS_CHECK_INTERVAL.as_micros() as libc::suseconds_t,
    };
    let size = size_of::<libc::timeval>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
    // SAFETY: points to a local of this size.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const time).cast(), size) };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

/// Wait until the socket can be used; false if a signal came first.
pub fn poll(fd: i32, reads: bool, writes: bool, limit: Duration) -> bool {
    let wanted = if reads { libc::POLLIN } else { 0 } | if writes { libc::POLLOUT } else { 0 };
    let mut entry = libc::pollfd { fd, events: wanted, revents: 0 };
    let time = libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    };
    // SAFETY: both point to locals, and no signal mask is given.
    let found = unsafe { libc::ppoll(&raw mut entry, 1, &raw const time, std::ptr::null()) };
    found >= 0 || Error::last_os_error().kind() != ErrorKind::Interrupted
}

/// End both directions: a thread that waits in `recv` returns.
pub fn shut_down(fd: i32) {
    // SAFETY: a number; a bad one is reported.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Close a descriptor that is the caller's own.
pub fn close(fd: i32) {
    // SAFETY: the caller owns it, and nothing else closes it.
    unsafe { libc::close(fd) };
}
