//! A condition in shared memory, as this process sees it, without its lock.

use super::word::{ConditionShared, TakenSlot, WaitQueue};
use crate::host::{Failure, Host};
use crate::owners::registry::OwnerRegistry;
use crate::owners::wait_session::WaitTarget;
use crate::owners::Owners;
use crate::shm::arena::SharedBlock;
use crate::sync::lock::RawLock;
use crate::sys::deadline::Deadline;
use crate::testing::crash_points::crash_point;

#[derive(Debug)]
pub struct Condition {
    block: SharedBlock,
}

impl Condition {
    /// Bytes that one needs in shared memory.
    pub const SIZE: usize = size_of::<ConditionShared>();

    pub fn new(block: &SharedBlock) -> Self {
        Self { block: block.clone() }
    }

    fn shared(&self) -> &ConditionShared {
        // SAFETY: made of atomics, where every process has them.
        unsafe { self.block.shared(0) }
    }

    fn registry(&self) -> &'static OwnerRegistry {
        self.block.arena.registry
    }

    fn queue(&self) -> Result<WaitQueue<'_>, Failure> {
        let shared = self.shared();
        let me = self.registry().me().map_err(Failure::of("a process's registration"))?;
        Ok(WaitQueue { tickets: &shared.tickets, slots: &shared.slots, me })
    }

    /// How many wait at the moment.
    pub fn waiting(&self) -> Result<usize, Failure> {
        Ok(self.queue()?.waiting())
    }

    /// Notify the `count` that have waited longest; the caller holds the lock.
    pub fn notify(&self, lock: &RawLock, count: usize) -> Result<(), Failure> {
        let queue = self.queue()?;
        if !lock.is_mine(queue.me) {
            return Err(Failure::ConditionNotOwned("lock is not owned"));
        }
        queue.notify(count);
        Ok(())
    }

    /// As a wait of a thread that other threads of its process end: take a slot and release the lock.
    pub fn take_seat(&self, lock: &RawLock) -> Result<TakenSlot, Failure> {
        Ok(self.begin_wait(lock)?.taken)
    }

    /// Wait in a slot, and keep it after the deadline: the slot that was granted.
    pub fn wait_in<H: Host>(
        &self,
        host: H,
        taken: TakenSlot,
        deadline: &Deadline,
    ) -> Result<Option<TakenSlot>, H::Error> {
        let target = WaitTarget::new(WaitTarget::CONDITION, self.block.object_id(0));
        self.queue()?.wait_on(host, self.registry(), target, taken, deadline)
    }

    /// Leave a slot: whether it was granted. A grant that is not used goes to the next waiter.
    pub fn leave(&self, taken: TakenSlot, uses: bool) -> Result<bool, Failure> {
        let queue = self.queue()?;
        let granted = !queue.give_up(taken);
        if granted && uses {
            queue.leave(taken);
        } else if granted {
            queue.pass_notification(taken);
        }
        Ok(granted)
    }

    /// Take a slot and release the lock, which the caller holds.
    pub fn begin_wait<'a>(&'a self, lock: &'a RawLock) -> Result<Waiting<'a>, Failure> {
        let queue = self.queue()?;
        if !lock.is_mine(queue.me) {
            return Err(Failure::ConditionNotOwned("must acquire() condition before using wait()"));
        }
        let registry = self.registry();
        let is_dead = |owner| registry.is_dead(owner) || !registry.is_possible(owner);
        let taken =
            queue.enqueue(is_dead).ok_or(Failure::ConditionFull(self.shared().slots.len()))?;
        crash_point("condition.enqueued");
        let depth = lock.depth();
        lock.release();
        crash_point("condition.unlocked");
        Ok(Waiting { condition: self, lock, queue, taken, depth })
    }
}

/// A wait that has begun: the lock is released.
pub struct Waiting<'a> {
    condition: &'a Condition,
    lock: &'a RawLock,
    queue: WaitQueue<'a>,
    taken: TakenSlot,
    depth: u32,
}

impl Waiting<'_> {
    /// Wait for a notification: the slot that was granted, or nothing after the deadline.
    pub fn wait<H: Host>(
        &self,
        host: H,
        deadline: &Deadline,
    ) -> Result<Option<TakenSlot>, H::Error> {
        let block = &self.condition.block;
        let target = WaitTarget::new(WaitTarget::CONDITION, block.object_id(0));
        let notified =
            self.queue.wait(host, self.condition.registry(), target, self.taken, deadline);
        crash_point("condition.left");
        notified
    }

    /// After an error of the first attempt to acquire the lock again: a waiter that leaves the wait
    /// has the lock, whatever has ended it. The last error.
    pub fn reacquire<H: Host>(&self, host: H, mut error: H::Error) -> H::Error {
        let (me, never) = (self.queue.me, Deadline::never());
        while let Err(another) = self.lock.acquire_slow(host, me, &never, true) {
            error = another;
        }
        error
    }

    /// The lock is the caller's again: true if it was notified. A notification that an error keeps the
    /// caller from using goes to the next.
    pub fn finish<E>(
        self,
        interrupted: Option<E>,
        notified: Result<Option<TakenSlot>, E>,
    ) -> Result<bool, E> {
        self.lock.set_depth(self.depth);
        match (interrupted, notified) {
            (None, Ok(granted)) => {
                if let Some(granted) = granted {
                    self.queue.leave(granted);
                }
                Ok(granted.is_some())
            }
            (Some(error), Ok(granted)) => {
                if let Some(granted) = granted {
                    self.queue.pass_notification(granted);
                }
                Err(error)
            }
            (error, Err(first)) => Err(error.unwrap_or(first)),
        }
    }
}
