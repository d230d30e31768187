//! A queue: its bytes, the file they lie in, and both ends.

pub mod log;

#[cfg(not(loom))]
pub mod file;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
