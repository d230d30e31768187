//! What the processes of a queue share beside its segments.

use super::log::QueueLogShared;
use crate::sync::lock::word::LockShared;
use crate::sys::atomic::{AtomicU32, AtomicU64};
use crate::sys::wake_word::WakeWord;

/// The block begins a cache line into the arena, and `QueueShared` is aligned to two.
pub const SHARED_AT: usize = 64;

#[repr(C, align(128))]
pub struct QueueShared {
    pub put_lock: LockShared,
    _line: [u64; 8],
    pub get_lock: LockShared,
    _other_line: [u64; 8],
    pub log: QueueLogShared,
    /// Where those sleep that wait for an item, for room, for the end of all work.
    pub getters: WakeWord,
    pub putters: WakeWord,
    pub joiners: WakeWord,
    /// Items that were reported as done.
    pub done: AtomicU32,
    /// Regions given out so far.
    pub regions: AtomicU32,
    /// 0: no limit. Written before another process sees the queue, as is the next.
    pub maxsize: AtomicU32,
    /// Why a wake of one sleeper might wake the wrong one: `SEVERAL`, `WATCHED`.
    pub wake_all: AtomicU32,
    pub region_len: AtomicU64,
    /// The process that keeps a descriptor in step last, 0 if none does: see [`super::watch`].
    pub watcher: AtomicU32,
    /// How many puts and gets it has seen; slept on.
    pub seen: AtomicU32,
}

impl QueueShared {
    pub const PUT_LOCK: usize = SHARED_AT;
    pub const GET_LOCK: usize = SHARED_AT + 128;
    /// A putter waited for room for several items.
    pub const SEVERAL: u32 = 1;
    /// A sleeper among getters and putters takes and puts nothing: see [`super::watch`].
    pub const WATCHED: u32 = 2;
}

#[cfg(all(test, loom))]
impl QueueShared {
    /// In shared memory zeros are an empty queue, once its log is made.
    pub fn new(maxsize: u32) -> Self {
        let zero = || AtomicU32::new(0);
        let wake_word = WakeWord::new;
        Self {
            put_lock: LockShared::new(),
            _line: [0; 8],
            get_lock: LockShared::new(),
            _other_line: [0; 8],
            log: QueueLogShared::new(),
            getters: wake_word(),
            putters: wake_word(),
            joiners: wake_word(),
            done: zero(),
            regions: zero(),
            maxsize: AtomicU32::new(maxsize),
            wake_all: zero(),
            region_len: AtomicU64::new(0),
            watcher: zero(),
            seen: zero(),
        }
    }
}
