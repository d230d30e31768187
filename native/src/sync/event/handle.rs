//! An event in shared memory, as this process sees it.

use super::{wait, word};
use crate::host::Host;
use crate::owners::wait_session::WaitTarget;
use crate::shm::arena::SharedBlock;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::deadline::Deadline;

#[derive(Debug)]
pub struct Event {
    block: SharedBlock,
}

impl Event {
    pub fn new(block: &SharedBlock) -> Self {
        Self { block: block.clone() }
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: an atomic, where every process has it.
        unsafe { self.block.shared(0) }
    }

    pub fn is_set(&self) -> bool {
        word::is_set(self.word().load(Ordering::Acquire))
    }

    pub fn set(&self) {
        wait::set(self.word());
    }

    pub fn clear(&self) {
        word::clear(self.word());
    }

    /// How often it was set.
    pub fn times(&self) -> u32 {
        word::times(self.word().load(Ordering::Acquire))
    }

    /// Wait until it is set, or was in between.
    pub fn wait<H: Host>(&self, host: H, deadline: &Deadline) -> Result<bool, H::Error> {
        self.wait_since(host, self.times(), deadline)
    }

    /// Wait until it is set, or was more often than `since`.
    pub fn wait_since<H: Host>(
        &self,
        host: H,
        since: u32,
        deadline: &Deadline,
    ) -> Result<bool, H::Error> {
        let target = WaitTarget::new(WaitTarget::EVENT, self.block.object_id(0));
        wait::wait_since(host, self.block.arena.registry, target, self.word(), since, deadline)
    }
}
