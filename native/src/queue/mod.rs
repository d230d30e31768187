//! A queue: its bytes, the file they lie in, both ends, and the handle of a process on it.

pub mod ends;
pub mod log;
pub mod shared;

#[cfg(not(loom))]
pub mod file;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
pub mod item;
#[cfg(not(loom))]
pub mod large_items;
#[cfg(not(loom))]
pub mod watch;

#[cfg(not(loom))]
pub use handle::{Queue, TakenItem};

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
