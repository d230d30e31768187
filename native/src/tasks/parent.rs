//! The parent: fills cells, waits for them, reads and frees them. The only producer.

use super::handle::TaskHandle;
use super::moved::Holder;
use super::parent_state::{CellUse, Function, FunctionPin, ParentState, ANOTHER_TASK};
use super::protocol::{State, FREE, MAIN};
use super::table::{Table, INLINE, PARENT_REGION};
use crate::host::{Failure, Host};
use crate::shm::heap::Heap;
use crate::shm::payload::{self, WrittenBlock};
use crate::shm::region::Region;
use crate::sys::atomic::{fence, Ordering};
use crate::sys::futex::{self, Woken};
use crate::sys::process::generation;
use crate::sys::spin::Spin;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The side that submits. The only producer.
pub struct ParentHandle {
    pub(super) table: Arc<Table>,
    pub(super) heap: Mutex<Heap>,
    pub(super) state: Mutex<ParentState>,
    pub(super) spin: Spin,
    /// Counts the calls of `interrupt_waits`.
    pub(super) interrupts: AtomicU32,
    pub(super) generation: u64,
}

/// What a task is, beside its payload.
#[derive(Debug, Clone, Copy)]
pub struct NewTask {
    pub function: u32,
    pub kind: u32,
    pub items: u32,
    pub retries: u32,
    pub timeout: u64,
}

impl ParentHandle {
    pub fn new(table: Arc<Table>) -> Result<Arc<Self>, Failure> {
        let region = table.segment.own_region(PARENT_REGION)?;
        table.warm()?;
        Ok(Arc::new(Self {
            table,
            heap: Mutex::new(Heap::of_parent(region)),
            state: Mutex::new(ParentState::new()),
            spin: Spin::new(),
            interrupts: AtomicU32::new(0),
            generation: generation(),
        }))
    }

    /// Make a function known to the workers: `number` is the caller's name for it.
    pub fn add_function<H: Host>(
        &self,
        host: H,
        number: u32,
        pickled: &[u8],
    ) -> Result<(), Failure> {
        let place = self.keep(host, pickled)?;
        let function = Function { place, users: 0, forgotten: false };
        self.state().functions.insert(number, function);
        Ok(())
    }

    /// Write bytes down for as long as the pool lives, for `Worker::definition`. Where they lie.
    pub fn keep<H: Host>(&self, host: H, data: &[u8]) -> Result<usize, Failure> {
        self.check_process()?;
        Ok(payload::write_plain(host, &self.heap, data)?.place)
    }

    /// Let a function go once its last task is over.
    pub fn forget_function(&self, number: u32) {
        let mut parent = self.state();
        if let Some(function) = parent.functions.get_mut(&number) {
            function.forgotten = true;
            self.drop_function(&mut parent, number, 0);
        }
    }

    /// Put one task into the table; the handle is the only way to its result. A payload that is not
    /// `inline` is written into the heap by `write`.
    pub fn submit<E: From<Failure>>(
        self: &Arc<Self>,
        task: NewTask,
        payload: &[u8],
        inline: bool,
        write: impl FnOnce(&Mutex<Heap>) -> Result<WrittenBlock, E>,
    ) -> Result<TaskHandle, E> {
        self.check_process()?;
        // Held from here on: the copy below may take long, and other threads forget functions.
        let pin = FunctionPin::new(self, task.function)?;
        let block = if inline && payload.len() <= INLINE {
            None
        } else {
            self.heap().sweep_sometimes(|owner_id| self.is_dead(owner_id));
            Some(write(&self.heap)?)
        };
        let number = self.take_cell().inspect_err(|_| {
            if let Some(written) = &block {
                self.heap().free(written.place);
            }
        })?;
        let holder = Arc::new(Holder::default());
        self.assign(number, pin, &holder, block.map(|block| block.place));
        self.fill(number, task, payload, block);
        if let Err(error) = self.table.publish(MAIN, number) {
            let mut parent = self.state();
            self.free_cell(&mut parent, number, State::new(FREE, 0, 0, 0));
            return Err(Failure::of(ANOTHER_TASK)(error).into());
        }
        self.note_latest(number);
        let size = block.map_or(payload.len() as u64, |written| written.size);
        let (parent, taken, cancelled) =
            (self.clone(), AtomicBool::new(false), AtomicBool::new(false));
        let (cell, items, suspicion) = (number, task.items, Mutex::default());
        Ok(TaskHandle { parent, cell, holder, size, items, taken, cancelled, suspicion })
    }

    /// The cell is this task's from now on.
    fn assign(&self, number: u32, pin: FunctionPin<'_>, holder: &Arc<Holder>, args: Option<usize>) {
        let mut parent = self.state();
        let function = pin.function;
        let at = pin.hand_over(&parent);
        parent.holders[number as usize] = Some(holder.clone());
        parent.cells[number as usize] = CellUse { args, function, used: true };
        self.table.cell(number).function_at.store(at, Ordering::Relaxed);
    }

    /// Write the task into its cell, which is FREE: no process looks at it before it is published.
    #[inline]
    fn fill(&self, number: u32, task: NewTask, payload: &[u8], block: Option<WrittenBlock>) {
        let cell = self.table.cell(number);
        cell.function.store(task.function, Ordering::Relaxed);
        cell.kind.store(task.kind, Ordering::Relaxed);
        cell.items.store(task.items, Ordering::Relaxed);
        cell.index.store(0, Ordering::Relaxed);
        cell.retries.store(task.retries, Ordering::Relaxed);
        cell.attempts.store(0, Ordering::Relaxed);
        cell.fatalities.store(0, Ordering::Relaxed);
        cell.timeout.store(task.timeout, Ordering::Relaxed);
        cell.args_len.store(payload.len() as u64, Ordering::Relaxed);
        cell.args_at.store(block.map_or(0, |b| b.place as u64 + 1), Ordering::Relaxed);
        cell.args_buffers.store(block.map_or(0, |b| b.buffers), Ordering::Relaxed);
        cell.result_at.store(0, Ordering::Relaxed);
        cell.journal_at.store(0, Ordering::Relaxed);
        cell.journal_items.store(0, Ordering::Relaxed);
        cell.duration.store(0, Ordering::Relaxed);
        if block.is_none() {
            assert!(payload.len() <= INLINE, "not that much fits into a cell");
            // SAFETY: the cell is FREE, so this process is its only writer; the length was checked.
            unsafe {
                let to = (&raw mut (*self.table.cell_ptr(number)).args).cast::<u8>();
                to.copy_from_nonoverlapping(payload.as_ptr(), payload.len());
            }
        }
        cell.seal_task();
        if task.timeout > 0 {
            let shortest = &self.table.header().shortest_timeout;
            let known = shortest.load(Ordering::Relaxed);
            if known == 0 || task.timeout < known {
                shortest.store(task.timeout, Ordering::SeqCst);
            }
        }
    }

    /// Wait until `find` finds something, at most `limit` seconds or until there are more interrupts
    /// than the caller knows of (None).
    pub fn wait_any<H: Host>(
        &self,
        host: H,
        find: impl Fn() -> Option<usize>,
        limit: f64,
        interrupts: u32,
    ) -> Result<Option<usize>, H::Error> {
        if let Some(index) = find() {
            return Ok(Some(index));
        }
        let header = self.table.header();
        let interrupted = || self.interrupts.load(Ordering::SeqCst) != interrupts;
        let over = || find().is_some() || interrupted();
        header.watchers.fetch_add(1, Ordering::SeqCst);
        let start = Instant::now();
        let found = self.sleep(host, limit, &over, &|left| {
            fence(Ordering::SeqCst);
            let count = header.ended.load(Ordering::SeqCst);
            if over() {
                Woken::Changed
            } else {
                futex::wait(&header.ended, count, left)
            }
        });
        header.watchers.fetch_sub(1, Ordering::SeqCst);
        self.spin.learn(start.elapsed());
        found.map(|_| find())
    }

    pub fn interrupts(&self) -> u32 {
        self.interrupts.load(Ordering::SeqCst)
    }

    /// Have the threads in `wait_any` come back: there is something new to wait for.
    pub fn interrupt_waits(&self) {
        let header = self.table.header();
        self.interrupts.fetch_add(1, Ordering::SeqCst);
        header.ended.fetch_add(1, Ordering::SeqCst);
        futex::wake(&header.ended, i32::MAX);
    }

    /// Tasks whose result is not taken yet; those of dropped handles until they have ended.
    pub fn in_use(&self) -> usize {
        let mut parent = self.state();
        let everything = parent.dropped.len();
        self.collect_dropped(&mut parent, everything);
        parent.in_use
    }

    /// Tasks that have failed or were lost so far.
    pub fn failures(&self) -> u32 {
        self.table.header().failures.load(Ordering::SeqCst)
    }

    /// Tasks that have ended and were taken note of.
    pub fn completed(&self) -> u64 {
        self.state().completed
    }

    /// Bytes of this process's heap that are in use.
    pub fn allocated(&self) -> usize {
        let mut heap = self.heap();
        heap.sweep(|owner_id| self.is_dead(owner_id));
        heap.allocated()
    }
}

impl ParentHandle {
    fn spin_or_nap(
        &self,
        limit: Duration,
        done: &dyn Fn() -> bool,
        nap: &dyn Fn(Duration) -> Woken,
    ) -> (bool, Woken) {
        let start = Instant::now();
        if self.spin.until(limit, done) {
            return (true, Woken::Changed);
        }
        let left = limit.saturating_sub(start.elapsed());
        let woken = if left.is_zero() { Woken::TimedOut } else { nap(left) };
        (done(), woken)
    }

    /// Spin, then sleep, until `done` or `limit` seconds; signal handlers run meanwhile.
    pub(super) fn sleep<H: Host>(
        &self,
        host: H,
        limit: f64,
        done: &dyn Fn() -> bool,
        nap: &dyn Fn(Duration) -> Woken,
    ) -> Result<bool, H::Error> {
        let start = Instant::now();
        let limit = Duration::try_from_secs_f64(limit.max(0.0)).unwrap_or(Duration::MAX);
        loop {
            let (over, woken) = host
                .blocking(|| self.spin_or_nap(limit.saturating_sub(start.elapsed()), done, nap));
            if over {
                return Ok(true);
            }
            // A signal may have come just before the nap, which then only its end tells.
            if woken != Woken::Changed {
                host.check_signals()?;
            }
            if start.elapsed() >= limit {
                return Ok(false);
            }
        }
    }
}

impl ParentHandle {
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// The heap of an incarnation.
    pub(super) fn region_of(&self, number: u32) -> Result<Arc<Region>, Failure> {
        Ok(self.region(&mut self.state(), number)?)
    }

    /// The task in this cell is over for its handle.
    pub(super) fn free(&self, number: u32, state: State) {
        let mut parent = self.state();
        self.free_cell(&mut parent, number, state);
    }

    /// The handle of this cell is gone.
    pub(super) fn drop_handle(&self, number: u32) {
        self.state().drop_handle(number);
    }

    pub(super) fn learn(&self, waited: Duration) {
        self.spin.learn(waited);
    }
}
