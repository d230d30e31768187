//! An event: one word that a signal handler may set.

pub mod word;

#[cfg(all(test, loom))]
mod models;
