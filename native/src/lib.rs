//! garrison's native core: words, futexes, heaps and task cells in shared memory.
//!
//! It has no policy. `protocol` says how a task changes hands, `table` where it lies, `lock` how a
//! lock does and `registry` who may hold it; `heap`, `chunk` and `segment` say where bytes lie; `wire` what
//! travels over a network; `python` converts arguments, releases the GIL, calls and converts back.

pub mod barrier;
pub mod condition;
pub mod crash;
pub mod event;
pub mod futex;
pub mod lock;
pub mod protocol;
pub mod ring;
pub mod semaphore;
pub mod store;
pub mod text;

#[cfg(not(loom))]
pub mod anonymous;
#[cfg(not(loom))]
pub mod chunk;
#[cfg(not(loom))]
pub mod descriptor;
#[cfg(not(loom))]
pub mod heap;
#[cfg(not(loom))]
pub mod identity;
#[cfg(not(loom))]
pub mod region;
#[cfg(not(loom))]
pub mod registry;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
pub mod spin;
#[cfg(not(loom))]
pub mod table;
#[cfg(not(loom))]
pub mod vault;
#[cfg(not(loom))]
pub mod waits;
#[cfg(not(loom))]
pub mod windows;
#[cfg(not(loom))]
pub mod wire;

#[cfg(all(feature = "python", not(loom)))]
mod python;
