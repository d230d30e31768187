//! Looking at a word for a short while before sleeping on it, where that has paid off.
//!
//! A futex wake of an idle core takes 20-60 us, a small task 1-2 us. So a wait that ended quickly
//! earns the next one a spin; one that took long halves it, down to none.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LONGEST: u64 = 60_000;
/// A wait up to this long would have been shorter by spinning: a wake and a task.
const WORTH_IT: u64 = 120_000;
const SHORTEST: u64 = 2_000;
const CHECKS_PER_LOOK: u32 = 32;

/// How many processors there are; 0 before the first call. Asked once, also for the processes that
/// are forked later: the answer takes fourteen system calls. No `OnceLock`: a child that is forked
/// while another thread fills it would wait for that thread for ever.
static PROCESSORS: AtomicUsize = AtomicUsize::new(0);

/// With one processor a spinning thread keeps the one it waits for from running.
fn has_several_processors() -> bool {
    let mut count = PROCESSORS.load(Ordering::Relaxed);
    if count == 0 {
        count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        PROCESSORS.store(count, Ordering::Relaxed);
    }
    count > 1
}

#[derive(Debug)]
pub struct Spin {
    nanoseconds: AtomicU64,
    possible: bool,
}

impl Spin {
    pub fn new() -> Self {
        let possible = !cfg!(loom) && has_several_processors();
        Self { nanoseconds: AtomicU64::new(if possible { LONGEST } else { 0 }), possible }
    }

    pub fn pays(&self) -> bool {
        self.nanoseconds.load(Ordering::Relaxed) > 0
    }

    /// Spin until `done` or until it no longer pays; whether it is done.
    pub fn until(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let budget = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).min(limit);
        if budget.is_zero() {
            return done();
        }
        let start = Instant::now();
        let mut rounds = 0_u32;
        loop {
            for _ in 0..CHECKS_PER_LOOK {
                if done() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= budget {
                return false;
            }
            rounds += 1;
            if rounds % 8 == 0 {
                // More processes than cores: let the one we wait for run.
                std::thread::yield_now();
            }
        }
    }

    /// Learn from a wait that is over.
    pub fn learn(&self, waited: Duration) {
        let now = self.nanoseconds.load(Ordering::Relaxed);
        let next = match waited.as_nanos() as u64 {
            _ if !self.possible => 0,
            waited if waited < WORTH_IT => LONGEST,
            _ if now / 2 < SHORTEST => 0,
            _ => now / 2,
        };
        self.nanoseconds.store(next, Ordering::Relaxed);
    }
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_waits_end_the_spinning_and_a_short_one_brings_it_back() {
        let spin = Spin { nanoseconds: AtomicU64::new(LONGEST), possible: true };
        (0..10).for_each(|_| spin.learn(Duration::from_millis(5)));
        assert!(!spin.pays());
        spin.learn(Duration::from_micros(50));
        assert!(spin.pays());
    }

    #[test]
    fn what_is_done_is_seen_without_spinning() {
        let spin = Spin { nanoseconds: AtomicU64::new(0), possible: false };
        assert!(spin.until(Duration::from_secs(1), || true));
        assert!(!spin.until(Duration::from_secs(1), || false));
    }
}
