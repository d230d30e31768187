//! A condition: seats for those that wait for a notification.

pub mod word;

#[cfg(all(test, loom))]
mod models;
