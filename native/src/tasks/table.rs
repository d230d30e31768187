//! The task table: the layout of a segment's control part, and this process's handle on it.
//!
//! ```text
//! | HeaderShared | SlotShared × slots | entries of ring 0 | of ring 1 | CellShared × CAPACITY |
//! ```
//! Offsets and counts only, no pointers: every process maps it where it likes. Header and slots are
//! mapped at once, entries and cells window by window, as they are used.

use crate::shm::segment::{Mapping, Segment, PAGE};
use crate::shm::windows::Windows;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::damage::damaged;
use crate::sys::futex::{self, LowHalf};
use crate::sys::wake_word::WakeWord;
use crate::tasks::protocol::{
    load_state, Entries, State, TaskRing, TaskRingShared, CLAIMED, MAIN, RETRY,
};
use std::io::{Error, Result};
use std::sync::Arc;

/// Cells with their states, of which each names the owner that has signed for it.
type Held = Vec<(u32, State)>;

/// Tasks that can be in flight. Only what is used is ever backed by memory.
pub const CAPACITY: usize = 1 << 20;
/// A pickled call of a small function fits; so does its result.
pub const INLINE: usize = 96;
pub const RESULT_INLINE: usize = 144;
/// Ends of workers that are remembered, for requests of an exit code.
pub const EXITS: usize = 256;
/// Daemonic children of one worker that are written down.
pub const CHILDREN: usize = 16;
/// Cells are reserved in groups, so that a submit rarely makes a system call.
const RESERVE: usize = 1 << 8;
/// Cells, and entries of a ring, that are mapped together.
const CELLS: usize = 1 << 10;
const ENTRIES: usize = 1 << 16;

/// The parent's region; every other carries the number of its owner's incarnation.
pub const PARENT_REGION: u32 = 0;
/// The outcome of a task that has a result.
pub const OUTCOME_OK: u32 = 0;
/// The outcome of a task for which there was no room, with a message.
pub const OUTCOME_NO_ROOM: u32 = 3;
/// The outcome of a task whose items have an outcome each.
pub const OUTCOME_EACH: u32 = 4;
/// The outcome of a task whose words in shared memory were damaged, with a message.
pub const OUTCOME_CORRUPT: u32 = 5;
/// The outcome of a task whose worker died; all other outcomes are the worker's word.
pub const OUTCOME_LOST: u32 = 255;

/// Whether a task with this outcome has failed as a whole.
pub fn is_failure(outcome: u32) -> bool {
    outcome != OUTCOME_OK && outcome != OUTCOME_EACH
}

/// What the pool as a whole is told. One writer for each word, in brackets.
#[repr(C, align(128))]
pub struct HeaderShared {
    /// [parent] RUNNING, CLOSING (leave when there is no work), TERMINATING.
    pub phase: AtomicU32,
    /// [supervisor] BROKEN: no worker can live, the reason lies in its report. FINISHED: it has
    /// left because all work was done.
    pub broken: AtomicU32,
    /// [supervisor] The next incarnation's number, kept here for the supervisor's successor.
    pub incarnations: AtomicU32,
    /// [supervisor] Changes with each death.
    pub deaths: AtomicU32,
    /// [supervisor] Workers that were stopped by a signal: one ring of the bell may be lost on them.
    pub stopped: AtomicU32,
    /// [parent] Cells that were ever used; the rest need not be looked at.
    pub cells: AtomicU32,
    /// [supervisor] It sleeps without a limit: a task with a deadline must wake it.
    pub dozing: AtomicU32,
    /// [parent] Threads that wait for any task to end.
    pub watchers: AtomicU32,
    /// [parent] The shortest timeout of any task so far, in ns; 0 if there was none.
    pub shortest_timeout: AtomicU64,
    /// Rung at each end of a task while there are watchers.
    pub ended: AtomicU32,
    /// [supervisor] Deaths that were answered by a new attempt, for the statistics.
    pub retried: AtomicU32,
    /// [supervisor] Workers that did not leave in order.
    pub losses: AtomicU32,
    /// [supervisor] Rung when the supervisor has started its workers, or failed to.
    pub ready: AtomicU32,
    /// [parent] Running tasks that were cancelled so far.
    pub cancels: AtomicU32,
    /// Tasks that have failed or were lost so far.
    pub failures: AtomicU32,
    /// [parent] The cell, plus 1, whose waiter is to be woken by a failure of any task.
    pub awaited: AtomicU32,
    _pad: [u32; 1],
    pub idle: WakeWord,
    pub rings: [TaskRingShared; 2],
    /// [supervisor] How workers ended: the incarnation, and its exit code as an i32.
    pub exits: [AtomicU64; EXITS],
}

/// A worker's place in the pool. The supervisor writes `incarnation`, `pid` and `over`; the worker
/// that has this incarnation writes the rest.
#[repr(C, align(128))]
pub struct SlotShared {
    pub incarnation: AtomicU32,
    pub pid: AtomicU32,
    /// 1: this incarnation is dead, all that it held is free.
    pub over: AtomicU32,
    /// 1: the worker left on purpose, having served its number of tasks.
    pub retiring: AtomicU32,
    /// Number of the cell it works on, plus 1; 0 while idle.
    pub cell: AtomicU32,
    /// 1: it is past its initializer.
    pub initialized: AtomicU32,
    pub tasks: AtomicU64,
    /// When the present item must be finished, in ns of the monotonic clock; 0 if never.
    ///
    /// While the worker was stopped the supervisor may put it off, by an exchange.
    pub deadline: AtomicU64,
    /// When its process started, in the clock ticks of /proc/PID/stat; 0 if it is not known.
    pub started: AtomicU64,
    /// [supervisor] Its number among all children of the program: `ForkPoolWorker-7`.
    pub number: AtomicU32,
    /// Daemonic children of the worker: they end with it.
    pub children: [AtomicU32; CHILDREN],
    /// [parent] The cell, plus 1, that was cancelled last while this worker had it. Whether it has it
    /// still is what the cell's state says.
    pub cancelled: AtomicU32,
    /// [parent] Nanoseconds that the task may go on after that.
    pub grace: AtomicU64,
}

/// One task. One writer at a time: the state says which (see `protocol`).
#[repr(C, align(128))]
pub struct CellShared {
    pub state: AtomicU64,
    /// What to run: a number of the parent's, and where in its heap the pickled function lies.
    pub function_at: AtomicU64,
    pub function: AtomicU32,
    /// How to run it (CALL, MAP, ...), see `garrison.pool._encoding`.
    pub kind: AtomicU32,
    pub items: AtomicU32,
    /// The item that is being worked on.
    pub index: AtomicU32,
    /// How often each item may be tried again after a death.
    pub retries: AtomicU32,
    /// Deaths that are charged to item `charged`, and to the whole cell.
    pub attempts: AtomicU32,
    pub charged: AtomicU32,
    pub fatalities: AtomicU32,
    /// Length of what is inline, or the payload's part of the block.
    pub args_len: AtomicU64,
    /// 0: inline. Else the block's place in the parent's heap, plus 1.
    pub args_at: AtomicU64,
    pub timeout: AtomicU64,
    pub result_len: AtomicU64,
    pub result_at: AtomicU64,
    pub result_region: AtomicU32,
    pub outcome: AtomicU32,
    /// Nanoseconds that the task took; while it is claimed, when it or its present item began. 0:
    /// not known, since a worker signs for a task before it looks at the clock.
    pub duration: AtomicU64,
    /// Out-of-band buffers (pickle 5) that follow the payload in its block.
    pub args_buffers: AtomicU32,
    pub result_buffers: AtomicU32,
    pub args: [u8; INLINE],
    pub result: [u8; RESULT_INLINE],
    /// Results of a shared cell's first items, in the worker's heap: what survives its death.
    pub journal_at: AtomicU64,
    pub journal_region: AtomicU32,
    /// How many of them are complete. Written after each; the commit of one item.
    pub journal_items: AtomicU32,
    /// When the task ended, in ns of the monotonic clock: results are told in that order.
    pub ended_at: AtomicU64,
    /// Made of what says what to run, and of what says where the result is: see `soundness`.
    pub(super) task_seal: AtomicU32,
    pub(super) result_seal: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<SlotShared>() == 128);
    assert!(size_of::<CellShared>() == 384);
    assert!(size_of::<HeaderShared>() == 768 + 8 * EXITS);
};

pub const BROKEN: u32 = 1;
pub const FINISHED: u32 = 2;

pub const RUNNING: u32 = 0;
// 1: closing. Workers leave when there is no work.
pub const TERMINATING: u32 = 2;

/// In a cell's `index`: the parent has taken the items back that were not begun.
///
/// A worker goes from item to item by an exchange on `index`, the parent sets this bit; so each
/// item is begun by one side only.
const TAKEN_BACK: u32 = 1 << 31;

/// The worker moves on to an item; false if it is no longer the worker's.
pub fn begin(cell: &CellShared, item: u32) -> bool {
    if item == 0 {
        return true;
    }
    cell.index.compare_exchange(item - 1, item, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The parent takes back what was not begun: how many items stay the worker's.
pub fn take_back(cell: &CellShared) -> u32 {
    let at = cell.index.fetch_or(TAKEN_BACK, Ordering::AcqRel) & !TAKEN_BACK;
    // For a second attempt, which begins at item 0 without the bit: see `restart_items`.
    cell.items.store(at + 1, Ordering::Release);
    at + 1
}

/// Another attempt begins at item 0. What the parent has taken back stays its own.
pub fn restart_items(cell: &CellShared) {
    let at = cell.index.swap(0, Ordering::AcqRel);
    if at & TAKEN_BACK != 0 {
        cell.items.store((at & !TAKEN_BACK) + 1, Ordering::Release);
    }
}

/// The item that is being worked on.
pub fn item(cell: &CellShared) -> u32 {
    cell.index.load(Ordering::Acquire) & !TAKEN_BACK
}

/// Remember how an incarnation ended.
pub fn note_exit(header: &HeaderShared, owner_id: u32, exitcode: i32) {
    let entry = u64::from(owner_id) << 32 | u64::from(exitcode as u32);
    header.exits[owner_id as usize % EXITS].store(entry, Ordering::Release);
}

/// How an incarnation ended, if that is not too long ago.
pub fn exit_of(header: &HeaderShared, owner_id: u32) -> Option<i32> {
    let entry = header.exits[owner_id as usize % EXITS].load(Ordering::Acquire);
    (entry >> 32 == u64::from(owner_id)).then_some(entry as u32 as i32)
}

/// This process's view of a table.
#[derive(Debug)]
pub struct Table {
    pub segment: Arc<Segment>,
    pub control: Arc<Mapping>,
    pub slots: usize,
    slots_at: usize,
    rings_at: usize,
    cells_at: usize,
    rings: [Windows; 2],
    cells: Windows,
}

/// The entries of one ring.
#[derive(Debug, Clone, Copy)]
pub struct RingEntries<'a>(&'a Windows);

impl Entries for RingEntries<'_> {
    #[inline]
    fn count(&self) -> u64 {
        CAPACITY as u64
    }

    #[inline]
    fn entry(&self, index: u64) -> &AtomicU32 {
        let at = index as usize * size_of::<AtomicU32>();
        // SAFETY: inside of a window, aligned; atomics may be shared.
        unsafe { &*self.0.at(at, size_of::<AtomicU32>()).cast() }
    }
}

fn layout(slots: usize) -> (usize, usize, usize, usize) {
    let page = |offset: usize| offset.div_ceil(PAGE) * PAGE;
    let slots_at = page(size_of::<HeaderShared>());
    let rings_at = page(slots_at + slots * size_of::<SlotShared>());
    let cells_at = page(rings_at + 2 * CAPACITY * size_of::<u32>());
    let end = page(cells_at + CAPACITY * size_of::<CellShared>());
    (slots_at, rings_at, cells_at, end)
}

impl Table {
    pub fn create(slots: usize, region_len: usize) -> Result<Self> {
        let (_, rings_at, cells_at, end) = layout(slots);
        let table = Self::over(Segment::create(end, region_len)?, slots)?;
        table.segment.reserve_control(0, rings_at)?;
        // The rings are touched entry by entry as tasks come; to reserve 8 MB at every start
        // would cost more than the pool itself, so each page is reserved on its first use.
        debug_assert!(rings_at < cells_at);
        Ok(table)
    }

    pub fn attach(fd: i32, slots: usize, region_len: usize) -> Result<Self> {
        let (_, _, _, end) = layout(slots);
        Self::over(Segment::attach(fd, end, region_len)?, slots)
    }

    fn over(segment: Arc<Segment>, slots: usize) -> Result<Self> {
        let (slots_at, rings_at, cells_at, _) = layout(slots);
        let control = segment.map_range(0, rings_at, false)?;
        let entry = size_of::<AtomicU32>();
        let rings = [MAIN, RETRY].map(|ring| {
            let at = rings_at + ring as usize * CAPACITY * entry;
            Windows::new(&segment, at, ENTRIES * entry, CAPACITY / ENTRIES)
        });
        let size = CELLS * size_of::<CellShared>();
        let cells = Windows::new(&segment, cells_at, size, CAPACITY / CELLS);
        Ok(Self { segment, control, slots, slots_at, rings_at, cells_at, rings, cells })
    }

    /// Map what the first tasks need, as long as there is address space: a limit may come later.
    pub fn warm(&self) -> Result<()> {
        self.rings[MAIN as usize].ensure(0)?;
        self.rings[RETRY as usize].ensure(0)?;
        self.cells.ensure(0)
    }

    /// See to it that this process can look at a cell.
    #[inline]
    pub fn ensure_cell(&self, number: u32) -> Result<()> {
        if number as usize >= CAPACITY {
            return Err(damaged(format!("there is no cell {number}")));
        }
        self.cells.ensure(number as usize * size_of::<CellShared>())
    }

    /// The same for all that were ever used.
    pub fn ensure_cells(&self) -> Result<u32> {
        let cells = self.header().cells.load(Ordering::Acquire);
        if cells as usize > CAPACITY {
            return Err(damaged(format!("a table of {cells} cells")));
        }
        (0..cells).step_by(CELLS).try_for_each(|number| self.ensure_cell(number))?;
        Ok(cells)
    }

    fn ensure_entry(&self, ring: u32, place: u64) -> Result<()> {
        let index = place as usize & (CAPACITY - 1);
        self.rings[ring as usize].ensure(index * size_of::<AtomicU32>())
    }

    /// Have memory behind cells `first..` (a group of them) before any is used.
    pub fn reserve_cells(&self, first: usize) -> Result<usize> {
        let count = RESERVE.min(CAPACITY - first);
        self.ensure_cell(first as u32)?;
        let at = self.cells_at + first * size_of::<CellShared>();
        self.segment.reserve_control(at, count * size_of::<CellShared>())?;
        Ok(count)
    }

    /// Have memory behind the ring entry that the next push writes.
    pub fn reserve_entry(&self, ring: u32, place: u64) -> Result<()> {
        let entry = (place as usize & (CAPACITY - 1)) + ring as usize * CAPACITY;
        let at = self.rings_at + entry * size_of::<u32>();
        self.segment.reserve_control(at / PAGE * PAGE, PAGE)
    }

    pub fn header(&self) -> &HeaderShared {
        // SAFETY: inside of the control part, aligned to a page, lives as long as the mapping.
        unsafe { &*self.control.at(0, size_of::<HeaderShared>()).cast() }
    }

    pub fn slot(&self, number: usize) -> &SlotShared {
        assert!(number < self.slots, "no such slot");
        let at = self.slots_at + number * size_of::<SlotShared>();
        // SAFETY: as above.
        unsafe { &*self.control.at(at, size_of::<SlotShared>()).cast() }
    }

    pub fn cell_ptr(&self, number: u32) -> *mut CellShared {
        assert!((number as usize) < CAPACITY, "no such cell");
        self.cells.at(number as usize * size_of::<CellShared>(), size_of::<CellShared>()).cast()
    }

    pub fn cell(&self, number: u32) -> &CellShared {
        // SAFETY: as above.
        unsafe { &*self.cell_ptr(number) }
    }

    pub fn ring(&self, number: u32) -> TaskRing<'_, RingEntries<'_>> {
        let entries = RingEntries(&self.rings[number as usize]);
        TaskRing { number, shared: &self.header().rings[number as usize], entries }
    }

    /// Is there something to claim?
    pub fn has_work(&self) -> bool {
        let rings = &self.header().rings;
        !rings[MAIN as usize].is_empty() || !rings[RETRY as usize].is_empty()
    }

    pub fn waiting(&self) -> u64 {
        self.header().rings.iter().map(TaskRingShared::len).sum()
    }

    /// What was requeued goes first: it has waited longest.
    pub fn claim(&self, owner_id: u32) -> Result<Option<(u32, State)>> {
        let state_of = |cell| self.state_of(cell);
        for number in [RETRY, MAIN] {
            let ring = self.ring(number);
            if !ring.shared.is_empty() {
                self.ensure_next(number)?;
                if let Some(claim) = ring.claim(owner_id, state_of)? {
                    return Ok(Some(claim));
                }
            }
        }
        Ok(None)
    }

    /// See to it that this process can look at the next task of a ring.
    #[inline]
    fn ensure_next(&self, number: u32) -> Result<()> {
        let ring = self.ring(number);
        let head = ring.shared.head.load(Ordering::Acquire);
        self.ensure_entry(number, head)?;
        let cell = ring.entry(head).load(Ordering::Relaxed);
        // What is damaged and names none is passed over by `claim`.
        if (cell as usize) < CAPACITY {
            self.ensure_cell(cell)?;
        }
        Ok(())
    }

    /// The state of a cell whose number was read from shared memory.
    #[inline]
    fn state_of(&self, cell: u32) -> Option<&AtomicU64> {
        ((cell as usize) < CAPACITY).then(|| &self.cell(cell).state)
    }

    /// Make `cell` ready in a ring and see to it that a worker takes it. False, and nothing is done,
    /// if it was taken back or cancelled in the meantime.
    pub fn publish(&self, ring: u32, cell: u32) -> Result<bool> {
        let ring = self.ring(ring);
        self.ensure_entry(ring.number, ring.shared.tail.load(Ordering::Relaxed))?;
        self.ensure_cell(cell)?;
        if !ring.has_room(|cell| self.state_of(cell))? {
            return Err(Error::from_raw_os_error(libc::ENOSPC));
        }
        let place = ring.shared.tail.load(Ordering::Relaxed);
        if place < CAPACITY as u64 && place % (PAGE / size_of::<u32>()) as u64 == 0 {
            self.reserve_entry(ring.number, place)?;
        }
        let is_entered = ring.push(cell, &self.cell(cell).state);
        if is_entered {
            self.wake_worker(true);
        }
        Ok(is_entered)
    }

    pub fn wake_worker(&self, spinner_is_enough: bool) {
        let header = self.header();
        let stopped = header.stopped.load(Ordering::Relaxed) > 0;
        let enough = spinner_is_enough && !stopped && self.waiting() <= 1;
        let count = if stopped { i32::MAX } else { 1 };
        header.idle.wake(enough, count, |count| futex::wake(&header.idle.count, count));
    }

    /// Move on to a later phase and have every worker look.
    pub fn enter(&self, phase: u32) {
        self.header().phase.fetch_max(phase, Ordering::SeqCst);
        self.wake_all_workers();
    }

    /// Wake every idle worker, whatever the flags say.
    pub fn wake_all_workers(&self) {
        let idle = &self.header().idle;
        idle.wake_all(|count| futex::wake(&idle.count, count));
    }

    /// Tell the parent's threads that a task ended.
    pub fn wake_parent(&self, cell: u32, waiter: bool) {
        if waiter {
            futex::wake(&LowHalf(&self.cell(cell).state), i32::MAX);
        }
        let header = self.header();
        crate::sys::atomic::fence(Ordering::SeqCst);
        if header.watchers.load(Ordering::SeqCst) != 0 {
            header.ended.fetch_add(1, Ordering::SeqCst);
            futex::wake(&header.ended, i32::MAX);
        }
    }

    /// A task has failed: who waits for another one may have to know. A wake-up that comes too early
    /// is made up for by the end of the nap.
    pub fn note_failure(&self) {
        let header = self.header();
        header.failures.fetch_add(1, Ordering::SeqCst);
        let Some(cell) = header.awaited.load(Ordering::SeqCst).checked_sub(1) else { return };
        if self.ensure_cell(cell).is_ok() {
            futex::wake(&LowHalf(&self.cell(cell).state), i32::MAX);
        }
    }

    /// The slot of an incarnation that lives.
    pub fn slot_of(&self, owner_id: u32) -> Option<usize> {
        (0..self.slots).find(|&number| {
            let slot = self.slot(number);
            slot.incarnation.load(Ordering::Acquire) == owner_id
                && slot.over.load(Ordering::Acquire) == 0
        })
    }

    /// Cells signed for by `owner_id`.
    pub fn held_by(&self, owner_id: u32) -> Result<Held> {
        let states =
            (0..self.ensure_cells()?).map(|cell| (cell, load_state(&self.cell(cell).state)));
        Ok(states.filter(|(_, state)| state.tag == CLAIMED && state.owner_id == owner_id).collect())
    }

    /// What a dead supervisor left: cells that no living owner holds, and ready ones in no ring.
    pub fn stranded(&self) -> Result<(Held, Vec<u32>)> {
        let cells = self.ensure_cells()?;
        let (mut held, mut forgotten) = (Vec::new(), Vec::new());
        for cell in 0..cells {
            let state = load_state(&self.cell(cell).state);
            if state.tag == CLAIMED && self.slot_of(state.owner_id).is_none() {
                held.push((cell, state));
            } else if self.ring(RETRY).is_unlisted(cell, &self.cell(cell).state) {
                forgotten.push(cell);
            }
        }
        Ok((held, forgotten))
    }
}
