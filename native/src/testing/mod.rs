//! What only tests need: points where they kill a process, traces of faults, helpers for loom, and what is
//! fuzzed.

pub mod crash_points;
#[cfg(all(feature = "crash-points", not(loom)))]
pub mod faults;
#[cfg(all(any(test, fuzzing), not(loom)))]
pub mod fuzzing;
#[cfg(all(test, loom))]
pub(crate) mod loom;

/// A folder that holds `/proc` and `/sys` as the core sees them; empty but in tests.
#[cfg(all(feature = "crash-points", not(loom)))]
pub fn system_root() -> String {
    std::env::var("GARRISON_TEST_ROOT").unwrap_or_default()
}

#[cfg(not(all(feature = "crash-points", not(loom))))]
pub fn system_root() -> &'static str {
    ""
}
