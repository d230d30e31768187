//! The kernel's futexes.

use super::{FutexWord, Woken};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Sleep while `word == expected`, at most `limit` of the monotonic clock.
///
/// Not `FUTEX_PRIVATE`: the word lies in memory that several processes map.
pub fn wait(word: &impl FutexWord, expected: u32, limit: Duration) -> Woken {
    let limit = libc::timespec {
        // `Duration::MAX` would become a negative time, and the wait be over at once.
        tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    };
    // SAFETY: the word outlives the call, and a relative FUTEX_WAIT measures CLOCK_MONOTONIC.
    let answer = unsafe {
        libc::syscall(libc::SYS_futex, word.address(), libc::FUTEX_WAIT, expected, &raw const limit)
    };
    if answer == 0 {
        return Woken::Changed;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ETIMEDOUT) => Woken::TimedOut,
        Some(libc::EINTR) => Woken::Interrupted,
        _ => Woken::Changed,
    }
}

/// Sleep while both words are what was expected, at most `limit` of the monotonic clock.
///
/// A kernel before Linux 5.16 cannot wait for two; then `limit` bounds how long a change of the
/// second goes unnoticed.
pub fn wait_either(
    first: (&impl FutexWord, u32),
    second: (&impl FutexWord, u32),
    limit: Duration,
) -> Woken {
    static CAN: AtomicBool = AtomicBool::new(true);
    if !CAN.load(Ordering::Relaxed) {
        return wait(first.0, first.1, limit);
    }
    let words = [(first.0.address(), first.1), (second.0.address(), second.1)];
    let words = words.map(|(word, expected)| Waiter {
        expected: u64::from(expected),
        address: word as u64,
        flags: FUTEX2_SIZE_U32,
        reserved: 0,
    });
    let until = deadline(limit);
    // SAFETY: the words outlive the call, and the structs have the kernel's layout.
    let answer = unsafe {
        libc::syscall(
            SYS_FUTEX_WAITV,
            words.as_ptr(),
            words.len(),
            0,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        )
    };
    if answer >= 0 {
        return Woken::Changed;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ETIMEDOUT) => Woken::TimedOut,
        Some(libc::EINTR) => Woken::Interrupted,
        // EPERM is what sandboxes say of a call that they do not know.
        Some(libc::ENOSYS | libc::EPERM) => {
            CAN.store(false, Ordering::Relaxed);
            wait(first.0, first.1, limit)
        }
        _ => Woken::Changed,
    }
}

const SYS_FUTEX_WAITV: libc::c_long = 449;
const FUTEX2_SIZE_U32: u32 = 2;

/// As the kernel's `struct futex_waitv`.
#[repr(C)]
struct Waiter {
    expected: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

fn deadline(limit: Duration) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let nanoseconds = now.tv_nsec as u64 + u64::from(limit.subsec_nanos());
    let seconds = limit.as_secs().min(i32::MAX as u64) + nanoseconds / 1_000_000_000;
    libc::timespec {
        tv_sec: now.tv_sec + seconds as libc::time_t,
        tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
    }
}

/// Wake at most `count` sleepers; how many there were.
pub fn wake(word: &impl FutexWord, count: i32) -> i32 {
    // SAFETY: the word outlives the call; FUTEX_WAKE reads nothing else.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.address(), libc::FUTEX_WAKE, count) };
    woken as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_changed_word_is_not_waited_for() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, Duration::from_secs(60)), Woken::Changed);
    }

    #[test]
    fn a_wait_ends_at_its_limit() {
        let word = AtomicU32::new(0);
        assert_eq!(wait(&word, 0, Duration::from_millis(1)), Woken::TimedOut);
    }

    #[test]
    fn a_wait_for_two_ends_when_either_has_changed_or_at_its_limit() {
        let (word, bell) = (AtomicU32::new(0), AtomicU32::new(7));
        let minute = Duration::from_secs(60);
        assert_eq!(wait_either((&word, 1), (&bell, 7), minute), Woken::Changed);
        assert_eq!(wait_either((&word, 0), (&bell, 6), minute), Woken::Changed);
        let short = Duration::from_millis(1);
        assert_eq!(wait_either((&word, 0), (&bell, 7), short), Woken::TimedOut);
    }

    #[test]
    fn waking_nobody_wakes_nobody() {
        assert_eq!(wake(&AtomicU32::new(0), i32::MAX), 0);
    }
}
