//! Shared memory: where it lies, who may use which part of it, what of it is mapped here.

pub mod arena;
pub mod heap;
pub mod payload;
pub mod region;
pub mod segment;
pub mod windows;
