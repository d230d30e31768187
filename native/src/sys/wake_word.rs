//! A word to sleep on, and a flag that says whether a thread may sleep there.

use crate::sys::atomic::{fence, AtomicU32, Ordering};

/// Where idle claimants sleep. Producers wake them, and so do claimants that leave work behind.
///
/// ```text
/// SLEEPING  meaning
///    0      no claimant sleeps: publishing needs no system call
///    1      a claimant may sleep: the producer must wake
/// ```
/// The flag is down only while all claimants are awake, or are being woken by the process that took
/// it down. It was once taken down before each wake and put up after it, for the other sleepers.
/// A second producer in between found it down and went away, and so did the woken claimant when it
/// passed the rest on. Then a task was ready, a claimant asleep and the flag up. (The model
/// `tasks::models::wake_word::two_producers` finds that.)
#[repr(C, align(128))]
pub struct WakeWord {
    /// Counts the wake-ups; the word that is slept on.
    pub count: AtomicU32,
    pub sleeping: AtomicU32,
    /// The claimant that spins at the moment, 0 if none does. It needs no wake-up.
    pub spinner: AtomicU32,
    _pad: [u32; 29],
}

impl WakeWord {
    pub fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            sleeping: AtomicU32::new(0),
            spinner: AtomicU32::new(0),
            _pad: [0; 29],
        }
    }

    /// Before sleeping: the count to sleep on. The caller then looks for work once more, and only
    /// if there is none waits for the count to change.
    ///
    /// The count is read before the flag is put up: a producer that takes the flag down counts
    /// afterwards, so a sleeper that it has overlooked finds its count outdated.
    pub fn prepare(&self) -> u32 {
        let count = self.count.load(Ordering::SeqCst);
        self.sleeping.store(1, Ordering::SeqCst);
        // [publish->sleep] pairs with the fence in wake(): we see the work, or it sees the flag
        fence(Ordering::SeqCst);
        count
    }

    /// Become the spinner instead of sleeping. False if there is another.
    pub fn start_spinning(&self, owner_id: u32) -> bool {
        self.spinner.compare_exchange(0, owner_id, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// After it: the caller looks for work once more, for producers have relied on it so far.
    pub fn stop_spinning(&self, owner_id: u32) {
        // Only its own mark: the supervisor may have given the place to another.
        let _ = self.spinner.compare_exchange(owner_id, 0, Ordering::SeqCst, Ordering::SeqCst);
        // [publish->spin] pairs with the fence in wake(): we see the work, or it sees no spinner
        fence(Ordering::SeqCst);
    }

    /// After publishing: wake as many, if a claimant may sleep. `wake` tells how many it has woken.
    pub fn wake(&self, spinner_is_enough: bool, count: i32, wake: impl Fn(i32) -> i32) {
        // [publish->sleep] [publish->spin]
        fence(Ordering::SeqCst);
        if spinner_is_enough && self.spinner.load(Ordering::SeqCst) != 0 {
            return;
        }
        if self.sleeping.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        if wake(count) == 0 {
            self.silence(wake);
        }
    }

    /// No claimant sleeps any more: until one does, publishing shall need no system call. One that
    /// has gone to sleep just now is woken, and puts the flag up again.
    #[cold]
    fn silence(&self, wake: impl Fn(i32) -> i32) {
        self.sleeping.store(0, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
        wake(i32::MAX);
    }

    /// Wake all, whatever the words say: a claimant that was to be woken or to wake may be dead.
    pub fn wake_all(&self, wake: impl Fn(i32) -> i32) {
        self.spinner.store(0, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
        wake(i32::MAX);
    }
}

impl Default for WakeWord {
    fn default() -> Self {
        Self::new()
    }
}
