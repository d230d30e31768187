//! A barrier: rounds that all parties sign for.

pub mod word;

#[cfg(all(test, loom))]
mod models;
