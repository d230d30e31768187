//! This process and its threads: how often it was forked, which thread is running.

use std::cell::Cell;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// How often this process image was forked: objects of a parent must not act in its child.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// How often this process has forked: what was visible then, some child may still look at.
static FORKS: AtomicU64 = AtomicU64::new(0);

pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Have every fork from now on counted in the child.
pub fn watch_forks() {
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    extern "C" fn in_parent() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: the handlers only add to atomics, which is allowed after a fork.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, Some(in_parent), Some(in_child));
    });
}

/// The start time of a process that is a zombie.
pub const ENDED: u64 = u64::MAX;

/// When this process started; 0 without `/proc`.
pub fn own_start_time() -> u64 {
    start_time("self").unwrap_or(0)
}

/// When a process started, in clock ticks since the machine's start; `ENDED` if it is a zombie.
pub fn start_time(pid: &str) -> Result<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse_start_time(&text).ok_or_else(|| Error::from(ErrorKind::InvalidData))
}

fn parse_start_time(text: &[u8]) -> Option<u64> {
    // The name may contain anything, a parenthesis as well.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return Some(ENDED);
    }
    fields.nth(18)?.parse().ok()
}

/// The calling thread's number, as the kernel counts them.
#[inline]
pub fn thread_id() -> u32 {
    thread_local!(static NUMBER: Cell<(u64, u32)> = const { Cell::new((0, 0)) });
    NUMBER.with(|cell| {
        let (of, number) = cell.get();
        if number != 0 && of == generation() {
            return number;
        }
        // SAFETY: cannot fail.
        let number = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
        cell.set((generation(), number));
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "S 1 2 2 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 8 9";
        for name in ["python3", "a) S (b", ""] {
            assert_eq!(parse_start_time(format!("12 ({name}) {rest}").as_bytes()), Some(4711));
        }
        assert_eq!(parse_start_time(b"12 (python3"), None);
        assert_eq!(parse_start_time(b""), None);
        assert!(own_start_time() > 0);
    }
}
