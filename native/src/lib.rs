//! garrison's native core: words, futexes, heaps and task cells in shared memory.
//!
//! It has no policy. `sys` wraps the system, `shm` says where bytes lie, `owners` who takes part and
//! who is dead; `sync`, `queue`, `tasks` and `store` are what processes share, `net` is what travels
//! over a network. `host` is what all this needs of the program around it. `python` converts arguments, releases the GIL, calls and converts back.

pub mod host;
pub mod owners;
pub mod queue;
pub mod store;
pub mod sync;
pub mod sys;
pub mod tasks;
pub mod testing;

#[cfg(not(loom))]
pub mod net;
#[cfg(not(loom))]
pub mod shm;

#[cfg(all(feature = "python", not(loom)))]
mod python;
