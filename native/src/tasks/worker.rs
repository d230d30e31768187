//! A worker: claims cells, finds their arguments, publishes results from its own heap.

use super::item_results::ItemResults;
use super::protocol::{finish, load_state, State, DONE};
use super::table::{
    self, begin, is_failure, CellShared, SlotShared, Table, PARENT_REGION, RESULT_INLINE, RUNNING,
    TERMINATING,
};
use crate::host::{Failure, Host};
use crate::shm::heap::{self, Head, Heap};
use crate::shm::payload::{BlockRef, Found, WrittenBlock};
use crate::shm::region::{Region, Span};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::clock::now;
use crate::sys::damage::damaged;
use crate::sys::futex::{self, Woken};
use crate::sys::process::{self, generation};
use crate::sys::spin::Spin;
use crate::testing::crash_points::crash_point;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// An idle worker looks up this often, so that a signal handler of the program is never late for long.
const NAP: Duration = Duration::from_secs(1);
/// A worker of a terminated pool leaves by itself if no signal has come for so long.
const FAREWELL: Duration = Duration::from_secs(5);
/// Nanoseconds per item from which on each item's beginning is noted: a look at the clock takes 20.
const SLOW_ITEM: u64 = 4_000;
/// In `item_since`, whose last nanosecond matters to nobody: items are that slow.
const TIMED: u64 = 1;

#[derive(Debug, Default)]
struct Current {
    claim: Option<(u32, State)>,
    since: u64,
    tasks: u64,
    items: Option<ItemResults>,
}

/// A task that was claimed.
pub struct Task<'a> {
    pub function: u32,
    pub kind: u32,
    pub payload: Found<'a>,
}

/// What the worker has in hand, for the note on its failure.
pub struct AtWork<'a> {
    pub task: Task<'a>,
    /// The item of the task.
    pub index: u32,
    /// Deaths that were charged to this item.
    pub deaths: u32,
    /// Nanoseconds since the item began, or since one shortly before it.
    pub elapsed: u64,
}

/// The result of a task, on its way into its cell.
pub enum TaskResult<'a> {
    /// Small enough for the cell itself.
    Inline(&'a [u8]),
    /// In a block of the worker's heap.
    Written { block: WrittenBlock, len: usize },
    /// Each item has written its own.
    Items(&'a ItemResults),
}

/// The side that works.
#[derive(Debug)]
pub struct Worker {
    table: Arc<Table>,
    slot: usize,
    owner_id: u32,
    heap: OnceLock<Mutex<Heap>>,
    /// This worker's own region and the parent's.
    own: Arc<Region>,
    parent: Arc<Region>,
    current: Mutex<Current>,
    /// When the present item began: see [`Worker::time_item`].
    item_since: AtomicU64,
    spin: Spin,
    generation: u64,
}

impl Worker {
    pub fn new(table: Arc<Table>, slot: usize, owner_id: u32) -> Result<Self, Failure> {
        let (own, parent) =
            (table.segment.own_region(owner_id)?, table.segment.others_region(PARENT_REGION)?);
        // What small tasks need is mapped now: an initializer may limit the address space.
        table.warm()?;
        own.small(0, heap::LINE)?;
        parent.small(0, heap::LINE)?;
        let (heap, current, spin) = (OnceLock::new(), Mutex::default(), Spin::new());
        Ok(Self {
            table,
            slot,
            owner_id,
            heap,
            own,
            parent,
            current,
            item_since: AtomicU64::new(0),
            spin,
            generation: generation(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect("never poisoned")
    }

    fn slot(&self) -> &SlotShared {
        self.table.slot(self.slot)
    }

    /// Whether a task was taken whose result has not been handed in.
    pub fn is_busy(&self) -> bool {
        self.lock().claim.is_some()
    }

    /// Whether the present task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        let claim = self.lock().claim;
        claim.is_some_and(|(number, _)| {
            load_state(&self.table.cell(number).state).is_cancelled_at(self.owner_id)
        })
    }

    /// Tasks that this worker has taken.
    pub fn taken(&self) -> u64 {
        self.lock().tasks
    }

    /// Record when this process started, in the clock ticks of /proc/PID/stat.
    pub fn note_start(&self) {
        self.slot().started.store(process::own_start_time(), Ordering::Release);
    }

    /// Write down the daemonic children that end with this process; as many as there is room for.
    pub fn set_children(&self, pids: &[u32]) {
        for (at, place) in self.slot().children.iter().enumerate() {
            place.store(pids.get(at).copied().unwrap_or(0), Ordering::Release);
        }
    }

    /// The initializer is done.
    pub fn set_initialized(&self) {
        self.slot().initialized.store(1, Ordering::Release);
    }

    /// This worker leaves on purpose and wants a successor.
    pub fn retire(&self) {
        self.slot().retiring.store(1, Ordering::Release);
        crash_point("worker.retiring");
    }

    /// A child that a task has forked must not come back here and answer in the worker's name.
    pub fn leave_if_forked(&self) {
        if self.generation != generation() {
            // SAFETY: ends this process at once, without running what belongs to its parent.
            unsafe { libc::_exit(1) };
        }
    }

    pub fn heap(&self) -> &Mutex<Heap> {
        if self.heap.get().is_none() {
            let _ = self.heap.set(Mutex::new(Heap::new(self.own.clone())));
        }
        self.heap.get().expect("set just now")
    }

    fn claimed(&self) -> Result<(u32, State), Failure> {
        self.lock().claim.ok_or(Failure::WrongState("this worker has no task"))
    }

    /// The cell of the present task.
    pub fn cell(&self) -> Result<&CellShared, Failure> {
        Ok(self.table.cell(self.claimed()?.0))
    }

    // Claiming.

    /// The next task, signed for; nothing when the pool is closed and has no more work.
    pub fn claim<H: Host>(&self, host: H) -> Result<Option<u32>, H::Error> {
        if self.is_terminated() {
            return self.await_the_end(host);
        }
        if let Some(claim) = self.look()? {
            return Ok(Some(self.sign(claim)));
        }
        let start = Instant::now();
        loop {
            host.blocking(|| self.nap());
            // Before a task is claimed: Ctrl-C that came while idle must not end it.
            host.check_signals()?;
            if self.is_terminated() {
                return self.await_the_end(host);
            }
            if let Some(claim) = self.look()? {
                self.spin.learn(start.elapsed());
                return Ok(Some(self.sign(claim)));
            }
            if self.table.header().phase.load(Ordering::Acquire) != RUNNING
                && !self.table.has_work()
            {
                return Ok(None);
            }
        }
    }

    fn look(&self) -> Result<Option<(u32, State)>, Failure> {
        self.table.claim(self.owner_id).map_err(Failure::of("a look at a task"))
    }

    /// Write down which task this worker has claimed, and since when.
    fn sign(&self, (number, state): (u32, State)) -> u32 {
        crash_point("cell.claimed");
        let since = now();
        self.item_since.store(since & !TIMED, Ordering::Relaxed);
        {
            let mut current = self.lock();
            current.claim = Some((number, state));
            current.since = since;
            current.tasks += 1;
        }
        self.slot().cell.store(number + 1, Ordering::Relaxed);
        let cell = self.table.cell(number);
        cell.duration.store(since, Ordering::Relaxed);
        self.set_deadline(cell.timeout.load(Ordering::Relaxed), since);
        crash_point("cell.announced");
        self.pass_on();
        number
    }

    /// There is more work than this worker takes: have an idle one look.
    fn pass_on(&self) {
        if self.table.has_work() {
            self.table.wake_worker(true);
        }
    }

    /// What a claimed task brings.
    pub fn arguments(&self, number: u32) -> Result<Task<'_>, Failure> {
        let cell = self.table.cell(number);
        cell.check_task()?;
        let len = cell.args_len.load(Ordering::Relaxed) as usize;
        let at = cell.args_at.load(Ordering::Relaxed);
        let payload = if at == 0 {
            // The claim's acquire has made the parent's bytes visible; it writes no more.
            Found::Inline(cell.inline_args()?)
        } else {
            let block = BlockRef::new(&self.parent, at as usize - 1, self.owner_id)
                .map_err(Failure::of("a look at a task's arguments"))?;
            Found::InBlock { block, len, buffers: cell.args_buffers.load(Ordering::Relaxed) }
        };
        let (function, kind) = (&cell.function, &cell.kind);
        let (function, kind) = (function.load(Ordering::Relaxed), kind.load(Ordering::Relaxed));
        Ok(Task { function, kind, payload })
    }

    /// Where the pickled function of the present task lies.
    pub fn function_at(&self) -> Result<usize, Failure> {
        let at = self.cell()?.function_at.load(Ordering::Relaxed) as usize;
        Ok(at.checked_sub(1).ok_or_else(|| damaged("a task without a function"))?)
    }

    /// What the parent has written at this place, with padding behind it.
    pub fn definition(&self, at: usize) -> Result<Span, Failure> {
        Head::of(&self.parent, at)
            .and_then(|head| heap::bytes(&self.parent, at, &head))
            .map_err(Failure::of("a look at a function"))
    }

    // The clock.

    /// Another attempt begins: its timeout counts from now.
    pub fn restart_clock(&self) -> Result<(), Failure> {
        self.item_since.store(now() & !TIMED, Ordering::Relaxed);
        let timeout = self.cell()?.timeout.load(Ordering::Relaxed);
        self.set_deadline(timeout, now());
        Ok(())
    }

    fn set_deadline(&self, timeout: u64, since: u64) {
        let deadline = if timeout == 0 { 0 } else { since.saturating_add(timeout) };
        self.slot().deadline.store(deadline, Ordering::Release);
    }

    /// Begin with an item of the present task; false if it was taken back meanwhile.
    pub fn begin_item(&self, cell: &CellShared, index: u32) -> bool {
        if !begin(cell, index) {
            return false;
        }
        let timeout = cell.timeout.load(Ordering::Relaxed);
        if timeout > 0 {
            self.set_deadline(timeout, now());
        }
        true
    }

    /// An item begins: note when, unless that would take longer than the items themselves do.
    ///
    /// The clock is read at the first items, then ever more rarely as long as all were short.
    /// So an item that takes long is timed well, wherever it is.
    pub fn time_item(&self, cell: &CellShared, index: u32) {
        let last = self.item_since.load(Ordering::Relaxed);
        if index.is_power_of_two() || last & TIMED != 0 {
            self.read_item_clock(cell, index);
        }
    }

    #[cold]
    fn read_item_clock(&self, cell: &CellShared, index: u32) {
        let (now, since) = (now(), self.lock().since);
        let slow = now.saturating_sub(since) / u64::from(index.max(1)) > SLOW_ITEM;
        cell.duration.store(now, Ordering::Relaxed);
        self.item_since.store(now & !TIMED | u64::from(slow), Ordering::Relaxed);
    }

    /// What is at work, for the note on its failure.
    pub fn at_work(&self) -> Result<AtWork<'_>, Failure> {
        let number = self.claimed()?.0;
        let cell = self.table.cell(number);
        let index = table::item(cell);
        let is_charged = cell.charged.load(Ordering::Relaxed) == index;
        let deaths = cell.attempts.load(Ordering::Relaxed);
        Ok(AtWork {
            task: self.arguments(number)?,
            index,
            deaths: if is_charged { deaths } else { 0 },
            elapsed: now().saturating_sub(self.item_since.load(Ordering::Relaxed)),
        })
    }

    // Results.

    /// The items of this task write their results themselves, into this worker's region.
    pub fn begin_items(&self, cell: &CellShared) {
        cell.journal_region.store(self.owner_id, Ordering::Relaxed);
    }

    /// They have written these.
    pub fn keep_items(&self, items: ItemResults) {
        self.lock().items = Some(items);
    }

    /// What the items of the present task have written.
    pub fn take_items(&self) -> Option<ItemResults> {
        self.lock().items.take()
    }

    /// Whether a result fits into a cell.
    pub fn is_inline(len: usize) -> bool {
        len <= RESULT_INLINE
    }

    /// Hand the result in. Until the last store it is as if the task never ended.
    pub fn publish(&self, outcome: u32, result: &TaskResult<'_>) -> Result<(), Failure> {
        let (number, state) = self.claimed()?;
        let cell = self.table.cell(number);
        let len = match result {
            TaskResult::Inline(bytes) => self.write_inline(number, bytes),
            TaskResult::Written { block, len } => {
                self.lend(cell, block.place, block.buffers);
                *len
            }
            TaskResult::Items(items) => {
                self.lend(cell, items.place, 0);
                items.used
            }
        };
        cell.result_len.store(len as u64, Ordering::Relaxed);
        cell.outcome.store(outcome, Ordering::Relaxed);
        cell.seal_result();
        let mut current = self.lock();
        let ended_at = now();
        cell.duration.store(ended_at.saturating_sub(current.since), Ordering::Relaxed);
        cell.ended_at.store(ended_at, Ordering::Relaxed);
        crash_point("result.written");
        let slot = self.slot();
        slot.tasks.store(current.tasks, Ordering::Relaxed);
        slot.cell.store(0, Ordering::Relaxed);
        slot.deadline.store(0, Ordering::Relaxed);
        current.claim = None;
        let waiter = finish(&cell.state, state, DONE);
        crash_point("result.published");
        self.table.wake_parent(number, waiter);
        if is_failure(outcome) {
            self.table.note_failure();
        }
        Ok(())
    }

    fn write_inline(&self, number: u32, bytes: &[u8]) -> usize {
        assert!(bytes.len() <= RESULT_INLINE, "not that much fits into a cell");
        let (first, second) = bytes.split_at(bytes.len() / 2);
        // SAFETY: this worker has signed for the cell and is its only writer; the length fits.
        unsafe {
            let to = (&raw mut (*self.table.cell_ptr(number)).result).cast::<u8>();
            to.copy_from_nonoverlapping(first.as_ptr(), first.len());
            crash_point("result.half_written");
            to.add(first.len()).copy_from_nonoverlapping(second.as_ptr(), second.len());
        }
        self.table.cell(number).result_at.store(0, Ordering::Relaxed);
        bytes.len()
    }

    /// The result is in this block of this worker's, which is the parent's to give back.
    fn lend(&self, cell: &CellShared, place: usize, buffers: u32) {
        self.heap().lock().expect("never poisoned").lend(place);
        cell.result_at.store(place as u64 + 1, Ordering::Relaxed);
        cell.result_region.store(self.owner_id, Ordering::Relaxed);
        cell.result_buffers.store(buffers, Ordering::Relaxed);
    }

    // Being idle.

    /// Idle for a whole nap: give the memory of results back that have no reader any more.
    fn tidy(&self) {
        let spinner = self.table.header().idle.spinner.load(Ordering::Relaxed);
        if spinner != 0 && self.table.slot_of(spinner).is_none() {
            // None of the workers: the word is damaged, and producers would rely on it for ever.
            self.table.header().idle.stop_spinning(spinner);
        }
        if let Some(heap) = self.heap.get() {
            let mut heap = heap.lock().expect("never poisoned");
            heap.sweep(|_| false);
            heap.trim();
        }
    }

    fn is_terminated(&self) -> bool {
        self.table.header().phase.load(Ordering::Acquire) == TERMINATING
    }

    /// SIGTERM is about to come, and ends this process without its exit functions, as everywhere;
    /// one that has a handler leaves after it.
    fn await_the_end<H: Host>(&self, host: H) -> Result<Option<u32>, H::Error> {
        let limit = FAREWELL.as_millis() as i32;
        // SAFETY: no descriptors, so there is nothing to read or write.
        host.blocking(|| unsafe { libc::poll(std::ptr::null_mut(), 0, limit) });
        host.check_signals()?;
        Ok(None)
    }

    /// Spin if no other worker does, then sleep until woken.
    fn nap(&self) {
        let header = self.table.header();
        let leaving = || header.phase.load(Ordering::Relaxed) != RUNNING;
        let idle = &header.idle;
        if self.spin.pays() && idle.start_spinning(self.owner_id) {
            let seen = self.spin.until(NAP, || self.table.has_work() || leaving());
            idle.stop_spinning(self.owner_id);
            if seen {
                return;
            }
        }
        let count = idle.prepare();
        if self.table.has_work() || leaving() {
            return;
        }
        let start = Instant::now();
        let woken = futex::wait(&idle.count, count, NAP);
        if woken == Woken::TimedOut {
            self.spin.learn(start.elapsed());
            self.tidy();
        }
    }
}

/// How many items of a task are its worker's, at most.
pub fn items_of(cell: &CellShared) -> usize {
    cell.items.load(Ordering::Acquire) as usize
}
