//! Tasks: how one changes hands, and the table that they lie in.

pub mod protocol;

#[cfg(not(loom))]
pub mod table;

#[cfg(all(test, loom))]
mod models;
