//! The processes that share objects, which of them are dead, and which wait for what.

pub mod wait_graph;
pub mod wait_session;

#[cfg(not(loom))]
pub mod identity;
#[cfg(not(loom))]
pub mod registry;

use crate::sys::atomic::AtomicU32;
use wait_graph::{WaitRecord, WaitRecordShared, WaiterInfo};

/// What a waiter asks about the other owners of an object.
pub trait Owners {
    /// Is this owner dead beyond doubt?
    fn is_dead(&self, owner: u32) -> bool;

    /// Whether there can have been such an owner: what signs with another number is damage.
    fn is_possible(&self, owner: u32) -> bool {
        owner != 0
    }

    /// The word that changes when a death becomes known: slept on beside the object's own word.
    fn deaths(&self) -> &AtomicU32;

    /// A record for a wait that lasts; nothing if there is no room for one.
    fn take_wait_record(&self) -> Option<&WaitRecordShared>;

    /// All waits that have lasted for an interval.
    fn waits(&self) -> Vec<WaitRecord>;

    /// The process behind a number; 0 if it is not known any more.
    fn pid(&self, owner: u32) -> u32;

    /// A wait as it is shown to users.
    fn waiter_info(&self, wait: &WaitRecord) -> WaiterInfo {
        WaiterInfo {
            pid: self.pid(wait.owner),
            thread: wait.thread,
            kind: wait.kind,
            object: wait.object,
            waited: wait.duration(),
            holder_pid: self.pid(wait.holder.0),
            holder_thread: wait.holder.1,
            location: wait.location.clone(),
        }
    }
}
