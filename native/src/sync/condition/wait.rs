//! Waiting in a seat until it is granted.

use super::word::{Row, Taken};
use crate::host::Host;
use crate::owners::wait_session::{WaitSession, WaitTarget};
use crate::owners::Owners;
use crate::sys::deadline::Deadline;
use crate::sys::futex::{self, LowHalf};
use crate::testing::crash_points::crash_point;

impl Row<'_> {
    fn word(&self, seat: usize) -> LowHalf<'_> {
        LowHalf(&self.seats[seat])
    }

    fn wake(&self, seat: usize) {
        futex::wake(&self.word(seat), 1);
    }

    /// Notify the `count` that have waited longest.
    pub fn notify(&self, count: usize) {
        self.grant(count, |seat| self.wake(seat));
    }

    /// Nobody here will use this notification.
    pub fn pass_notification(&self, granted: Taken) {
        self.hand_on(|seat| self.wake(seat));
        self.leave(granted);
    }

    /// Wait in a taken seat: the seat that was granted, or nothing after the deadline.
    pub fn wait<H: Host>(
        &self,
        host: H,
        owners: &impl Owners,
        target: WaitTarget,
        taken: Taken,
        deadline: &Deadline,
    ) -> Result<Option<Taken>, H::Error> {
        let mut session = WaitSession::new(owners, target);
        loop {
            if self.is_granted(taken) {
                crash_point("condition.woken");
                return Ok(Some(taken));
            }
            if deadline.is_over() {
                return Ok((!self.give_up(taken)).then_some(taken));
            }
            let word = self.word(taken.number);
            match session.sleep(host, &word, taken.expected(), (0, 0), deadline) {
                Ok(true) => {
                    let is_dead = |owner| owners.is_dead(owner);
                    let granted = self.inherit(taken, is_dead, |seat| self.wake(seat));
                    if granted.is_some() {
                        return Ok(granted);
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    if !self.give_up(taken) {
                        self.pass_notification(taken);
                    }
                    return Err(error);
                }
            }
        }
    }
}
