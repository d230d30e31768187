//! A process, told from every other that had or will have its number, and whether it still lives.

use crate::sys::process::{generation, own_start_time, start_time, ENDED};
use std::io::{Error, ErrorKind};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// What is written in a slot about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    /// In the clock ticks of `/proc/PID/stat`; 0 where there is no `/proc`.
    pub started: u64,
    pub namespace: u64,
    /// In the kernel's file system of processes; 0 before Linux 6.9.
    pub inode: u64,
}

/// What the process table says of a number.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Alive,
    Gone,
    /// Another namespace's number, or not enough can be seen.
    Unknown,
}

impl Identity {
    pub fn of_this_process() -> Self {
        let pid = std::process::id();
        let started = own_start_time();
        Self { pid, started, namespace: own_namespace(), inode: inode_of(pid).unwrap_or(0) }
    }

    /// One word that two processes do not have in common, if they are not of the same tick.
    pub fn claim(self) -> u64 {
        let stamp = if self.started == 0 { self.inode } else { self.started };
        u64::from(self.pid) << 32 | stamp & u64::from(u32::MAX)
    }

    /// Of a claim only the number can be told.
    pub fn of_claim(claim: u64) -> Self {
        Self { pid: (claim >> 32) as u32, started: 0, namespace: 0, inode: 0 }
    }

    /// Whether no process has this number.
    pub fn has_no_process(self) -> bool {
        // SAFETY: signal 0 only asks.
        let asked = unsafe { libc::kill(self.pid as i32, 0) };
        asked == -1 && Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
    }

    pub fn look(self) -> Seen {
        if self.namespace != own_namespace() {
            return Seen::Unknown;
        }
        match start_time(&self.pid.to_string()) {
            Ok(ENDED) => Seen::Gone,
            Ok(started) if self.started == 0 || started == self.started => Seen::Alive,
            Ok(_) => Seen::Gone,
            Err(_) if self.has_no_process() => Seen::Gone,
            Err(error) if error.kind() == ErrorKind::NotFound => self.look_without_proc(),
            // There is such a process, and we lack the descriptor or the memory to look at it.
            Err(_) => Seen::Alive,
        }
    }

    /// There is no `/proc`, or it does not show the process.
    fn look_without_proc(self) -> Seen {
        match pidfd(self.pid).as_ref().map(inode_behind) {
            Some(Some(inode)) if self.inode != 0 && inode != self.inode => Seen::Gone,
            Some(_) if has_ended(self.pid) => Seen::Gone,
            Some(Some(inode)) if inode == self.inode => Seen::Alive,
            _ => Seen::Unknown,
        }
    }
}

/// A descriptor of a process; none before Linux 5.3.
fn pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: the result is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn inode_of(pid: u32) -> Option<u64> {
    pidfd(pid).as_ref().and_then(inode_behind)
}

fn inode_behind(process: &OwnedFd) -> Option<u64> {
    use std::os::fd::AsRawFd;
    const PIDFS: i64 = 0x5049_4446;
    // SAFETY: structs of numbers, which the calls fill.
    unsafe {
        let mut data: libc::stat = std::mem::zeroed();
        let mut system: libc::statfs = std::mem::zeroed();
        let seen = libc::fstat(process.as_raw_fd(), &raw mut data) == 0
            && libc::fstatfs(process.as_raw_fd(), &raw mut system) == 0;
        (seen && system.f_type as i64 == PIDFS).then_some(data.st_ino)
    }
}

/// Whether a process is a zombie: its descriptor can be read then.
fn has_ended(pid: u32) -> bool {
    use std::os::fd::AsRawFd;
    pidfd(pid).is_some_and(|process| {
        let mut entry = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: points to a local.
        unsafe { libc::poll(&raw mut entry, 1, 0) == 1 }
    })
}

pub fn own_namespace() -> u64 {
    static NAMESPACE: AtomicU64 = AtomicU64::new(0);
    static OF: AtomicU64 = AtomicU64::new(u64::MAX);
    // A child may have been cloned into another namespace.
    if OF.load(Ordering::Relaxed) != generation() {
        use std::os::unix::fs::MetadataExt;
        // Where there is no /proc (any more), it is the parent's.
        if let Ok(data) = std::fs::metadata("/proc/self/ns/pid") {
            NAMESPACE.store(data.ino(), Ordering::Relaxed);
        }
        OF.store(generation(), Ordering::Relaxed);
    }
    NAMESPACE.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_of_its_number_that_began_earlier_is_not() {
        let this = Identity::of_this_process();
        assert_eq!(this.look(), Seen::Alive);
        assert_eq!(Identity { started: this.started - 1, ..this }.look(), Seen::Gone);
        assert_eq!(Identity { namespace: this.namespace + 1, ..this }.look(), Seen::Unknown);
    }

    #[test]
    fn without_proc_the_inode_of_a_process_tells_it_from_another() {
        let this = Identity::of_this_process();
        if this.inode != 0 {
            assert_eq!(this.look_without_proc(), Seen::Alive);
            assert_eq!(Identity { inode: this.inode + 1, ..this }.look_without_proc(), Seen::Gone);
        }
    }
}
