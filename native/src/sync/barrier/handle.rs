//! A barrier in shared memory, as this process sees it.

use super::wait::BarrierWords;
use super::word::{self, BROKEN};
use crate::host::{Failure, Host};
use crate::owners::registry::OwnerRegistry;
use crate::owners::wait_session::WaitTarget;
use crate::shm::arena::SharedBlock;
use crate::sys::deadline::Deadline;

const WORD: usize = size_of::<u64>();

#[derive(Debug)]
pub struct Barrier {
    block: SharedBlock,
    parties: usize,
}

impl Barrier {
    pub fn new(block: &SharedBlock, parties: usize) -> Self {
        Self { block: block.clone(), parties }
    }

    fn words(&self) -> Result<BarrierWords<'_, OwnerRegistry>, Failure> {
        let start = self.block.at(WORD, self.parties * WORD);
        // SAFETY: in range (checked), aligned to 8, and made of atomics.
        let places = unsafe { std::slice::from_raw_parts(start.cast(), self.parties) };
        // SAFETY: an atomic, where every process has it.
        let word = unsafe { self.block.shared(0) };
        let owners = self.block.arena.registry;
        let me = owners.me().map_err(Failure::of("a process's registration"))?;
        let target = WaitTarget::new(WaitTarget::BARRIER, self.block.object_id(0));
        Ok(BarrierWords { barrier: word::Barrier { word, places, me }, owners, target })
    }

    /// Wait for all parties: the number of this one, or nothing if the barrier is broken. `action`
    /// is called by the last to come; its error breaks the round.
    pub fn wait<H: Host>(
        &self,
        host: H,
        deadline: &Deadline,
        action: impl FnOnce() -> Result<(), H::Error>,
    ) -> Result<Option<usize>, H::Error> {
        self.words()?.wait(host, deadline, action)
    }

    pub fn reset(&self) -> Result<(), Failure> {
        let words = self.words()?;
        words.barrier.reset();
        words.wake_all();
        Ok(())
    }

    pub fn abort(&self) -> Result<(), Failure> {
        let words = self.words()?;
        words.barrier.abort();
        words.wake_all();
        Ok(())
    }

    pub fn waiting(&self) -> Result<usize, Failure> {
        Ok(self.words()?.barrier.waiting())
    }

    pub fn is_broken(&self) -> Result<bool, Failure> {
        Ok(self.words()?.barrier.look().state == BROKEN)
    }
}
