//! Setting an event, and waiting until it is set.

use super::word;
use crate::host::Host;
use crate::owners::wait_session::{WaitSession, WaitTarget};
use crate::owners::Owners;
use crate::sys::atomic::AtomicU32;
use crate::sys::deadline::Deadline;
use crate::sys::futex;
use crate::testing::crash_points::crash_point;

pub fn set(word: &AtomicU32) {
    let someone_sleeps = word::set(word);
    crash_point("event.set");
    if someone_sleeps {
        futex::wake(word, i32::MAX);
    }
}

/// Wait until it is set, or was more often than `since`.
pub fn wait_since<H: Host>(
    host: H,
    owners: &impl Owners,
    target: WaitTarget,
    word: &AtomicU32,
    since: u32,
    deadline: &Deadline,
) -> Result<bool, H::Error> {
    let mut session = WaitSession::new(owners, target);
    loop {
        let Err(seen) = word::look(word, since) else { return Ok(true) };
        if deadline.is_over() {
            return Ok(false);
        }
        session.sleep(host, word, seen, (0, 0), deadline)?;
    }
}
