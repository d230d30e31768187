//! What only tests need: points where they kill a process, helpers for loom, and what is fuzzed.

pub mod crash_points;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub mod fuzzing;
#[cfg(all(test, loom))]
pub(crate) mod loom;
