//! One wait for an object, from interval to interval: signals, deaths, and cycles of waits.

use super::wait_graph::{self, WaitRecord, WaitRecordShared};
use super::Owners;
use crate::host::{Failure, Host};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::clock::{coarse_now, now};
use crate::sys::deadline::{Deadline, LIVENESS_CHECK_INTERVAL};
use crate::sys::futex::{self, FutexWord, Woken};
use crate::sys::process::{generation, thread_id};

/// What a process waits for, as it is shown to others.
#[derive(Debug, Clone, Copy)]
pub struct WaitTarget {
    pub kind: u32,
    /// Tells this object from others.
    pub object: u64,
    /// Whether its waits look for deadlocks.
    pub detects: bool,
}

impl WaitTarget {
    pub const LOCK: u32 = 0;
    pub const RLOCK: u32 = 1;
    pub const SEMAPHORE: u32 = 2;
    pub const BOUNDED_SEMAPHORE: u32 = 3;
    pub const CONDITION: u32 = 4;
    pub const EVENT: u32 = 5;
    pub const BARRIER: u32 = 6;

    pub fn new(kind: u32, object: u64) -> Self {
        Self { kind, object, detects: false }
    }
}

/// Limits how often an attempt that does not wait checks whether the owner is alive.
#[derive(Debug)]
pub struct RateLimit(AtomicU64);

impl RateLimit {
    const INTERVAL_NS: u64 = 50_000_000;

    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn allows(&self) -> bool {
        let (now, last) = (coarse_now(), self.0.load(Ordering::Relaxed));
        let allowed = now >= last + Self::INTERVAL_NS;
        if allowed {
            self.0.store(now, Ordering::Relaxed);
        }
        allowed
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

/// One wait.
pub struct WaitSession<'a, O: Owners> {
    owners: &'a O,
    target: WaitTarget,
    /// The word of deaths as it was seen last.
    deaths: u32,
    since: u64,
    record: Option<&'a WaitRecordShared>,
    /// The cycle that was there one interval ago.
    suspected: Vec<WaitRecord>,
    generation: u64,
}

impl<'a, O: Owners> WaitSession<'a, O> {
    pub fn new(owners: &'a O, target: WaitTarget) -> Self {
        let deaths = owners.deaths().load(Ordering::Acquire);
        let (suspected, generation) = (Vec::new(), generation());
        Self { owners, target, deaths, since: 0, record: None, suspected, generation }
    }

    /// Sleep on a word until it changes, a process dies, or the interval is over. True if it is time
    /// to check whether the owners of the object are alive.
    pub fn sleep<H: Host>(
        &mut self,
        host: H,
        word: &impl FutexWord,
        seen: u32,
        holder: (u32, u32),
        deadline: &Deadline,
    ) -> Result<bool, H::Error> {
        if self.since == 0 {
            self.since = now();
        }
        host.check_signals()?;
        let limit = deadline.left().min(LIVENESS_CHECK_INTERVAL);
        let deaths = (self.owners.deaths(), self.deaths);
        let woken = host.blocking(|| futex::wait_either((word, seen), deaths, limit));
        let deaths = self.owners.deaths().load(Ordering::Acquire);
        let check_owner = woken == Woken::TimedOut || deaths != self.deaths;
        self.deaths = deaths;
        // Not only when interrupted: a signal that came just before the system call, or to another
        // thread, interrupts nothing; the end of the interval shows it.
        if let Err(error) = host.check_signals() {
            if woken == Woken::Changed {
                // The call was for one of the sleepers, and this one will not follow it.
                futex::wake(word, 1);
            }
            return Err(error);
        }
        if self.generation != generation() {
            // A signal handler has forked, and this is the child: what is waited for is not its own.
            return Err(Failure::ForkedWhileWaiting.into());
        }
        if woken == Woken::TimedOut {
            self.show(host, holder, deadline);
            if self.target.detects {
                self.look_for_deadlock()?;
            }
        }
        Ok(check_owner)
    }

    /// Let others read that this thread waits.
    fn show<H: Host>(&mut self, host: H, holder: (u32, u32), deadline: &Deadline) {
        if let Some(record) = self.record {
            record.set_holder(holder);
            return;
        }
        let Some(record) = self.owners.take_wait_record() else { return };
        self.record = Some(record);
        record.write(&WaitRecord {
            owner: record.owner.load(Ordering::Relaxed),
            thread: thread_id(),
            kind: self.target.kind,
            endless: deadline.is_never(),
            holder,
            object: self.target.object,
            since: self.since,
            held: wait_graph::held_by_this_thread(),
            location: host.location(),
        });
    }

    /// Fail if this thread is in a cycle that was there an interval ago, and is the one to fail: of all
    /// its members the one with the highest number.
    fn look_for_deadlock(&mut self) -> Result<(), Failure> {
        let Some(record) = self.record else { return Ok(()) };
        let waits = self.owners.waits();
        let me = (record.owner.load(Ordering::Relaxed), thread_id());
        let found = wait_graph::find_cycle(&waits, me.0, me.1).unwrap_or_default();
        let found: Vec<WaitRecord> = found.into_iter().cloned().collect();
        let lasting = !found.is_empty() && found == self.suspected;
        self.suspected = found;
        let highest = self.suspected.iter().map(|wait| (wait.owner, wait.thread)).max();
        if lasting && highest == Some(me) {
            let members = self.suspected.iter().map(|wait| self.owners.waiter_info(wait));
            return Err(Failure::Deadlock(members.collect()));
        }
        Ok(())
    }
}

impl<O: Owners> Drop for WaitSession<'_, O> {
    fn drop(&mut self) {
        if let Some(record) = self.record.filter(|_| self.generation == generation()) {
            record.clear();
        }
    }
}
