//! Shared memory: where it lies, which process may use which part of it, what is mapped here.

pub mod arena;
pub mod heap;
pub mod payload;
pub mod region;
pub mod segment;
pub mod windows;
