//! A barrier: rounds that all parties sign for.

#[cfg(not(loom))]
mod handle;
pub mod wait;
pub mod word;

#[cfg(not(loom))]
pub use handle::Barrier;

#[cfg(all(test, loom))]
mod models;
