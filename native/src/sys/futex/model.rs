//! The kernel's futexes as loom explores them.
//!
//! The kernel compares a word under the lock of its queue, and wakes in the order of arrival. Time is
//! modelled as what intervals are for: a sleeper may wake without a waker only after
//! [`end_intervals`], which a model calls when a process has died. So a wake-up that is lost among
//! the living shows as a deadlock.

use super::{FutexWord, Woken};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::ThreadId;
use std::collections::HashMap;
use std::time::Duration;

loom::lazy_static! {
    static ref KERNEL: Mutex<Kernel> = Mutex::new(Kernel::default());
}

#[derive(Default)]
struct Kernel {
    /// Sleepers in the order of arrival, once for each word that they sleep on.
    queue: Vec<Entry>,
    arrived: u64,
    /// How often all intervals have ended.
    ended: u32,
    /// Up to which of these ends each thread has been woken.
    seen: HashMap<ThreadId, u32>,
}

struct Entry {
    word: usize,
    sleeper: u64,
    moved: Arc<Condvar>,
}

/// Have the kernel exist before there are threads: to make it orders nothing between them.
pub fn boot() {
    drop(KERNEL.lock().unwrap());
}

/// Some time passes: every interval ends, also of waits for deaths, also if it begins later.
pub fn end_intervals() {
    let mut kernel = KERNEL.lock().unwrap();
    kernel.ended += 1;
    kernel.queue.iter().for_each(|entry| entry.moved.notify_one());
}

pub fn wait(word: &impl FutexWord, expected: u32, _limit: Duration) -> Woken {
    sleep(&[word.address() as usize], || word.value() == expected)
}

pub fn wait_either(
    first: (&impl FutexWord, u32),
    second: (&impl FutexWord, u32),
    _limit: Duration,
) -> Woken {
    let words = [first.0.address() as usize, second.0.address() as usize];
    sleep(&words, || first.0.value() == first.1 && second.0.value() == second.1)
}

fn sleep(words: &[usize], is_unchanged: impl Fn() -> bool) -> Woken {
    let mut kernel = KERNEL.lock().unwrap();
    if !is_unchanged() {
        return Woken::Changed;
    }
    let (me, moved) = (kernel.arrived, Arc::new(Condvar::new()));
    kernel.arrived += 1;
    for &word in words {
        kernel.queue.push(Entry { word, sleeper: me, moved: moved.clone() });
    }
    let thread = loom::thread::current().id();
    let woken = loop {
        if kernel.queue.iter().filter(|entry| entry.sleeper == me).count() < words.len() {
            break Woken::Changed;
        }
        let ended = if words.len() > 1 { kernel.ended } else { 0 };
        let seen = kernel.seen.entry(thread).or_insert(0);
        if *seen < ended {
            *seen = ended;
            break Woken::TimedOut;
        }
        kernel = moved.wait(kernel).unwrap();
    };
    kernel.queue.retain(|entry| entry.sleeper != me);
    woken
}

pub fn wake(word: &impl FutexWord, count: i32) -> i32 {
    let (mut kernel, word) = (KERNEL.lock().unwrap(), word.address() as usize);
    let mut woken = 0;
    kernel.queue.retain(|entry| {
        let wakes = entry.word == word && woken < count;
        if wakes {
            woken += 1;
            entry.moved.notify_one();
        }
        !wakes
    });
    woken
}
