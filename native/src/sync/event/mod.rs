//! An event: one word that a signal handler may set.

#[cfg(not(loom))]
mod handle;
pub mod wait;
pub mod word;

#[cfg(not(loom))]
pub use handle::Event;

#[cfg(all(test, loom))]
mod models;
