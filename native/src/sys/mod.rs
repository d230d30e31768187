//! What the system gives: words to sleep on, clocks, descriptors, memory without a name.

pub mod atomic;
pub mod futex;
pub mod shared_text;
pub mod wake_word;

#[cfg(not(loom))]
pub mod anonymous;
#[cfg(not(loom))]
pub mod clock;
#[cfg(not(loom))]
pub mod descriptor;
#[cfg(not(loom))]
pub mod spin;
