//! garrison's native core: words, futexes, heaps and task cells in shared memory.
//!
//! It has no policy. `sys` wraps the system, `shm` says where bytes lie, `owners` which processes
//! take part and which are dead. `sync`, `queue`, `tasks` and `store` are what processes share,
//! `net` is what travels over a network. `host` is what all this needs of the program around it.
//! `python` converts arguments, releases the GIL, calls and converts back.

// Without the Python face only its tests call the rest.
#![cfg_attr(any(loom, not(feature = "python")), allow(dead_code, unused_imports))]

mod host;
mod owners;
mod queue;
mod store;
mod sync;
mod sys;
mod tasks;
mod testing;

#[cfg(not(loom))]
mod net;
#[cfg(not(loom))]
mod shm;

#[cfg(all(feature = "python", not(loom)))]
mod python;

#[cfg(all(fuzzing, not(loom)))]
pub use testing::fuzzing;
