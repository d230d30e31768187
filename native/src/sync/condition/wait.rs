//! Waiting in a slot until it is granted.

use super::word::{TakenSlot, WaitQueue};
use crate::host::{Failure, Host};
use crate::owners::wait_session::{WaitSession, WaitTarget};
use crate::owners::Owners;
use crate::sys::damage::damaged;
use crate::sys::deadline::Deadline;
use crate::sys::futex::{self, LowHalf};
use crate::testing::crash_points::crash_point;

impl WaitQueue<'_> {
    fn word(&self, slot: usize) -> LowHalf<'_> {
        LowHalf(&self.slots[slot])
    }

    fn wake(&self, slot: usize) {
        futex::wake(&self.word(slot), 1);
    }

    /// Notify the `count` that have waited longest.
    pub fn notify(&self, count: usize) {
        self.grant(count, |slot| self.wake(slot));
    }

    /// This waiter will not use the notification.
    pub fn pass_notification(&self, granted: TakenSlot) {
        self.grant_next(|slot| self.wake(slot));
        self.leave(granted);
    }

    /// Wait in a taken slot: the slot that was granted, or nothing after the deadline, which leaves it.
    pub fn wait<H: Host>(
        &self,
        host: H,
        owners: &impl Owners,
        target: WaitTarget,
        taken: TakenSlot,
        deadline: &Deadline,
    ) -> Result<Option<TakenSlot>, H::Error> {
        match self.wait_on(host, owners, target, taken, deadline) {
            Ok(None) => Ok((!self.give_up(taken)).then_some(taken)),
            Ok(granted) => Ok(granted),
            Err(error) => {
                if !self.give_up(taken) {
                    self.pass_notification(taken);
                }
                Err(error)
            }
        }
    }

    /// Wait in a taken slot, and keep it after the deadline.
    pub fn wait_on<H: Host>(
        &self,
        host: H,
        owners: &impl Owners,
        target: WaitTarget,
        taken: TakenSlot,
        deadline: &Deadline,
    ) -> Result<Option<TakenSlot>, H::Error> {
        let mut session = WaitSession::new(owners, target);
        loop {
            if self.is_granted(taken) {
                crash_point("condition.woken");
                return Ok(Some(taken));
            }
            if deadline.is_over() {
                return Ok(None);
            }
            let word = self.word(taken.number);
            if session.sleep(host, &word, taken.expected(), (0, 0), deadline)? {
                if !self.is_sound(taken) {
                    let text = "the tickets of a condition are fewer than its waiters have";
                    return Err(Failure::Io(damaged(text)).into());
                }
                // What no process can have signed has no owner to use it.
                let is_dead = |owner| owners.is_dead(owner) || !owners.is_possible(owner);
                let granted = self.inherit(taken, is_dead, |slot| self.wake(slot));
                if granted.is_some() {
                    return Ok(granted);
                }
            }
        }
    }
}
