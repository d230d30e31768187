//! Sleeping on a word of shared memory, and waking who sleeps there.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Why a wait ended. Every cause is a hint: the caller looks at the word again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Someone called [`wake`], or the word was no longer `expected`.
    Changed,
    TimedOut,
    /// A signal arrived; its handler may want to run.
    Interrupted,
}

/// Sleep while `word == expected`, at most `limit` of the monotonic clock.
///
/// Not `FUTEX_PRIVATE`: the word lies in memory that several processes map.
pub fn wait(word: &AtomicU32, expected: u32, limit: Duration) -> Woken {
    let limit = libc::timespec {
        // `Duration::MAX` would become a negative time, and the wait be over at once.
        tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    };
    // SAFETY: the word outlives the call, and a relative FUTEX_WAIT measures CLOCK_MONOTONIC.
    let answer = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const limit)
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

/// Wake at most `count` sleepers; how many there were.
pub fn wake(word: &AtomicU32, count: i32) -> i32 {
    // SAFETY: the word outlives the call; FUTEX_WAKE reads nothing else.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    woken as i32
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn waking_nobody_wakes_nobody() {
        assert_eq!(wake(&AtomicU32::new(0), i32::MAX), 0);
    }
}
