//! A lock: one word that is taken and signed in one store.

pub mod word;

#[cfg(all(test, loom))]
mod models;
