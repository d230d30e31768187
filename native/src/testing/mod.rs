//! What only tests need: points where they kill a process, and helpers for loom.

pub mod crash_points;
#[cfg(all(test, loom))]
pub(crate) mod loom;
