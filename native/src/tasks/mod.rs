//! Tasks: how one changes hands, the table that they lie in, and what each process does there.

pub mod protocol;

#[cfg(not(loom))]
pub mod handle;
#[cfg(not(loom))]
pub mod item_results;
#[cfg(not(loom))]
pub mod launch;
#[cfg(not(loom))]
pub mod moved;
#[cfg(not(loom))]
pub mod parent;
#[cfg(not(loom))]
mod parent_state;
#[cfg(not(loom))]
mod soundness;
#[cfg(not(loom))]
pub mod supervisor;
#[cfg(not(loom))]
pub mod table;
#[cfg(not(loom))]
pub mod worker;

#[cfg(all(test, loom))]
mod models;
