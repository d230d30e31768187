//! Locks, semaphores, conditions, events and barriers: a folder for each.

pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod semaphore;
