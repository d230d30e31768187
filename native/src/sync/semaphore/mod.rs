//! A semaphore: permits that are counted, or signed for.

#[cfg(not(loom))]
mod handle;
pub mod wait;
pub mod word;

#[cfg(not(loom))]
pub use handle::Semaphore;

#[cfg(all(test, loom))]
mod models;
