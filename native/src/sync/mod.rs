//! Locks, semaphores, conditions, events and barriers: a folder for each.

pub mod barrier;
#[cfg(not(loom))]
pub mod c_number;
pub mod condition;
pub mod event;
pub mod lock;
pub mod semaphore;
