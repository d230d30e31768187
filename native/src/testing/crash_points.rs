//! Named points where a test may kill this process: the answer to "what if it dies right here?".
//!
//! `GARRISON_CRASH="point@/path/token"` arms one point for every process that inherits it. The
//! process that reaches the point and creates the token file (only one can) kills itself with
//! SIGKILL. Without the feature `crash-points` they do nothing.

/// Every point that exists, in the order of a task's life.
pub const POINTS: &[&str] = &[
    "worker.started",
    "cell.claimed",
    "cell.announced",
    "cell.cancelled",
    "args.read",
    "task.done",
    "heap.allocated",
    "result.half_written",
    "result.written",
    "result.published",
    "worker.retiring",
    "supervisor.started",
    "supervisor.forked",
    "supervisor.reaped",
    "requeue.marked",
    "requeue.entered",
    "lost.written",
    "lost.published",
    // The life of a lock: `sync`, `owners`.
    "agent.slot_taken",
    "agent.registered",
    "lock.taken",
    "lock.inherited",
    "lock.marked",
    "lock.woken",
    "lock.released",
    "semaphore.given",
    "semaphore.signed",
    "semaphore.unsigned",
    "condition.enqueued",
    "condition.unlocked",
    "condition.granted",
    "condition.woken",
    "condition.left",
    "event.set",
    "barrier.signed",
    "barrier.acting",
    "barrier.passed",
    "barrier.woken",
    // The life of shared memory: `shm/arena`.
    "chunk.created",
    "chunk.reserved",
    "chunk.allocated",
    // The life of an item: `queue`.
    "queue.big_begun",
    "queue.big_written",
    "queue.put_locked",
    "queue.segments_dropped",
    "queue.segment_assigned",
    "queue.segment_linked",
    "queue.segment_reserved",
    "queue.written",
    "queue.put_committed",
    "queue.put_left",
    "queue.put_woken",
    "queue.get_locked",
    "queue.segment_cold",
    "queue.segment_punched",
    "queue.copied",
    "queue.got_committed",
    "queue.got_left",
    "queue.got_woken",
    "queue.taken",
    "queue.woken",
    "queue.done",
    "queue.done_woken",
    // A change of the store: `store`, `python/store`.
    "store.locked",
    "store.begun",
    "store.reserved",
    "store.written",
    "store.committed",
    "store.unlocked",
    "store.rung",
    // Between the two ends of a value's lock.
    "value.written",
];

#[cfg(feature = "crash-points")]
pub fn crash_point(point: &str) {
    debug_assert!(POINTS.contains(&point), "unknown crash point {point}");
    let Ok(armed) = std::env::var("GARRISON_CRASH") else {
        return;
    };
    let Some((name, token)) = armed.split_once('@') else {
        return;
    };
    let mine = || std::fs::OpenOptions::new().write(true).create_new(true).open(token).is_ok();
    if name == point && mine() {
        // SAFETY: killing oneself has no precondition.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn crash_point(_point: &str) {}
