//! A condition: slots for those that wait for a notification.

#[cfg(not(loom))]
mod handle;
pub mod wait;
pub mod word;

#[cfg(not(loom))]
pub use handle::Condition;
#[cfg(not(loom))]
pub use word::TakenSlot;

#[cfg(all(test, loom))]
mod models;
