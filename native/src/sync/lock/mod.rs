//! A lock: its word, how it is waited for, and the handle of a process on it.

pub mod wait;
pub mod word;

#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
pub use handle::{Lock, RawLock};
pub use wait::Acquired;

#[cfg(all(test, loom))]
mod models;
