//! A semaphore: permits that are counted, or signed for.

pub mod word;

#[cfg(all(test, loom))]
mod models;
