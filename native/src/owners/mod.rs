//! The processes that share objects, which of them are dead, and which wait for what.

pub mod identity;
pub mod registry;
pub mod wait_graph;
