//! What the system gives: words to sleep on, clocks, descriptors, memory without a name, and how
//! much of it is left.

pub mod atomic;
pub mod clock;
pub mod damage;
pub mod deadline;
pub mod futex;
pub mod process;
pub mod shared_text;
pub mod spin;
pub mod wake_word;

#[cfg(not(loom))]
pub mod anonymous;
#[cfg(not(loom))]
pub mod descriptor;
#[cfg(not(loom))]
pub mod memory_left;
