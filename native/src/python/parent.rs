//! The parent: fills cells, waits for them, reads and frees them. The only producer.

use super::block::{self, Lease};
use super::finalizing::without_gil;
use super::memory_error;
use super::moved::{Holder, Moved};
use super::table::Table;
use crate::shm::heap::Heap;
use crate::shm::region::Region;
use crate::sys::atomic::{fence, Ordering};
use crate::sys::futex::{self, LowHalf, Woken};
use crate::sys::process::generation;
use crate::sys::spin::Spin;
use crate::tasks::protocol::{
    announce_waiter, peek, withdraw, State, CLAIMED, DONE, FREE, LOST, MAIN,
};
use crate::tasks::table::{self, steal, CAPACITY, INLINE};
use pyo3::exceptions::{PyBlockingIOError, PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The parent's region; everyone else's carries the number of their incarnation.
pub const PARENT_REGION: u32 = 0;
/// What `take` says of a task whose worker died; all other outcomes are the worker's word.
pub const OUTCOME_LOST: u32 = 255;

/// Dropped tickets that are looked at with each new task.
const ORPHANS: usize = 32;
/// From so many cells on, results that nobody has read are moved out before more cells are added.
const MANY: usize = 1 << 16;
/// Cells that are looked at for this at once.
const MOVED: usize = 1 << 12;

/// A function's pickle in the parent's heap, and how many cells still refer to it.
struct Function {
    place: usize,
    users: usize,
    forgotten: bool,
}

#[derive(Clone, Copy, Default)]
struct Use {
    args: Option<usize>,
    function: u32,
    used: bool,
}

/// The parent's private bookkeeping. Never locked while Python code may run.
struct Books {
    free: Vec<u32>,
    cells: Vec<Use>,
    /// For each cell the ticket's part of it, until the result is taken or the ticket dropped.
    holders: Vec<Option<Arc<Holder>>>,
    /// Where the next look for results to move begins.
    moved_up_to: usize,
    in_use: usize,
    completed: u64,
    functions: HashMap<u32, Function>,
    regions: HashMap<u32, Arc<Region>>,
    /// Cells whose ticket was dropped before the task ended.
    orphans: VecDeque<u32>,
    deaths: u32,
    incarnations: u32,
    /// Incarnations that may still live, and dead ones whose region could not be cleared yet.
    known: Vec<u32>,
    dead: Vec<u32>,
}

struct Shared {
    table: Arc<table::Table>,
    heap: Mutex<Heap>,
    books: Mutex<Books>,
    spin: Spin,
    /// Counts the calls of `nudge`.
    nudges: AtomicU32,
    generation: u64,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("never poisoned")
    }

    fn heap(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().expect("never poisoned")
    }

    fn is_dead(&self, who: u32) -> bool {
        self.table.slot_of(who).is_none()
    }

    /// A free cell, with memory behind it.
    fn take_cell(&self) -> PyResult<u32> {
        let mut books = self.books();
        self.collect_orphans(&mut books, ORPHANS);
        if books.free.is_empty() {
            self.find_cells(&mut books)?;
        }
        let cell = books.free.pop().ok_or_else(|| {
            PyBlockingIOError::new_err(format!("{CAPACITY} tasks are waiting or at work"))
        })?;
        books.in_use += 1;
        books.cells[cell as usize].used = true;
        Ok(cell)
    }

    #[cold]
    fn find_cells(&self, books: &mut Books) -> PyResult<()> {
        if books.cells.len() >= MANY {
            self.move_results(books, MOVED);
        }
        let added = if books.free.is_empty() { self.add_cells(books) } else { Ok(true) };
        if !matches!(added, Ok(true)) {
            let everything = books.orphans.len();
            self.collect_orphans(books, everything);
            self.move_results(books, books.cells.len());
        }
        added.map(|_| ()).or_else(|error| if books.free.is_empty() { Err(error) } else { Ok(()) })
    }

    /// Move results that nobody has read yet into memory of this process, and free their cells.
    /// At most so many cells are looked at, and `MOVED` freed.
    fn move_results(&self, books: &mut Books, looks: usize) {
        for _ in 0..looks.min(books.cells.len()) {
            let number = books.moved_up_to % books.cells.len();
            books.moved_up_to = number + 1;
            self.move_result(books, number as u32);
            if books.free.len() >= MOVED {
                return;
            }
        }
    }

    fn move_result(&self, books: &mut Books, number: u32) {
        let Some(holder) = books.holders[number as usize].clone() else { return };
        let cell = self.table.cell(number);
        let state = peek(&cell.state);
        // What was lost stays: its ticket can still say what was asked for.
        if state.tag != DONE {
            return;
        }
        // Without memory for it the result stays where it is.
        if let Ok(result) = Moved::of(cell, state, |region| self.region(books, region)) {
            holder.keep(result);
            self.free_cell(books, number, state);
        }
    }

    fn add_cells(&self, books: &mut Books) -> PyResult<bool> {
        let first = books.cells.len();
        if first == CAPACITY {
            return Ok(false);
        }
        let count = self
            .table
            .reserve_cells(first)
            .map_err(|error| memory_error(&error, "another task"))?;
        let full =
            |_| memory_error(&std::io::Error::from_raw_os_error(libc::ENOMEM), "another task");
        books.cells.try_reserve(count).map_err(full)?;
        books.free.try_reserve(count).map_err(full)?;
        books.holders.try_reserve(count).map_err(full)?;
        books.cells.resize(first + count, Use::default());
        books.holders.resize(first + count, None);
        // Popped from the end: the lowest cell first.
        books.free.extend((first as u32..(first + count) as u32).rev());
        let total = (first + count) as u32;
        self.table.header().cells.store(total, Ordering::Release);
        Ok(true)
    }

    fn collect_orphans(&self, books: &mut Books, count: usize) {
        for _ in 0..count.min(books.orphans.len()) {
            let Some(cell) = books.orphans.pop_front() else { return };
            let state = peek(&self.table.cell(cell).state);
            if state.ended() {
                self.release_result(books, cell);
                self.free_cell(books, cell, state);
            } else {
                books.orphans.push_back(cell);
            }
        }
    }

    /// Give a result that nobody wants back to the heap it lies in.
    fn release_result(&self, books: &mut Books, number: u32) {
        let cell = self.table.cell(number);
        let at = cell.result_at.load(Ordering::Relaxed);
        if at != 0 {
            let region = cell.result_region.load(Ordering::Relaxed);
            if let Ok(region) = self.region(books, region) {
                // What cannot be looked at stays until its worker goes.
                drop(Lease::new(&region, at as usize - 1, 0));
            }
        }
    }

    fn region(&self, books: &mut Books, number: u32) -> std::io::Result<Arc<Region>> {
        if let Some(region) = books.regions.get(&number) {
            return Ok(region.clone());
        }
        let region = self.table.segment.others_region(number)?;
        books.regions.insert(number, region.clone());
        Ok(region)
    }

    /// The cell is the parent's again: nobody else will look at it.
    fn free_cell(&self, books: &mut Books, number: u32, state: State) {
        let Use { args, function, .. } = std::mem::take(&mut books.cells[number as usize]);
        books.holders[number as usize] = None;
        if let Some(place) = args {
            let mut heap = self.heap();
            // A dead or never-come worker looks at nothing; a living one says when it is done.
            if state.tag == LOST || state.tag == FREE {
                heap.free(place);
            } else {
                heap.lend(place);
            }
            heap.sweep_sometimes(|who| self.is_dead(who));
        }
        let cell = self.table.cell(number);
        cell.state.store(State { tag: FREE, waiter: false, ..state }.pack(), Ordering::Relaxed);
        books.free.push(number);
        books.in_use -= 1;
        books.completed += u64::from(state.ended());
        self.drop_function(books, function, 1);
        self.clear_dead_regions(books);
    }

    fn drop_function(&self, books: &mut Books, number: u32, users: usize) {
        let Some(function) = books.functions.get_mut(&number) else { return };
        function.users -= users;
        if function.users == 0 && function.forgotten {
            let place = function.place;
            books.functions.remove(&number);
            self.heap().free(place);
        }
    }

    /// Give the memory of dead workers back, once nobody looks at it.
    fn clear_dead_regions(&self, books: &mut Books) {
        let deaths = self.table.header().deaths.load(Ordering::Acquire);
        if deaths != books.deaths {
            books.deaths = deaths;
            let upto = self.table.header().incarnations.load(Ordering::Acquire);
            books.known.extend(books.incarnations..upto);
            books.incarnations = upto;
            let (dead, alive) = books.known.iter().partition(|&&who| self.is_dead(who));
            books.known = alive;
            let dead: Vec<u32> = dead;
            books.dead.extend(dead);
        } else if books.dead.is_empty() || books.in_use % 16 != 0 {
            return;
        }
        for who in std::mem::take(&mut books.dead) {
            if self.still_wanted(books, who) {
                books.dead.push(who);
                continue;
            }
            books.regions.remove(&who);
            // Without room for the bookkeeping of a hole the pages stay until the pool goes.
            let _ = self.table.segment.punch_region(who);
        }
    }

    fn still_wanted(&self, books: &Books, who: u32) -> bool {
        // Each view that lives has the region.
        if books.regions.get(&who).is_some_and(|region| Arc::strong_count(region) > 1) {
            return true;
        }
        let unread = |number: usize| {
            let cell = self.table.cell(number as u32);
            let state = peek(&cell.state);
            let result = cell.result_at.load(Ordering::Relaxed) != 0
                && cell.result_region.load(Ordering::Relaxed) == who;
            let journal = cell.journal_at.load(Ordering::Relaxed) != 0
                && cell.journal_region.load(Ordering::Relaxed) == who;
            let journal = journal && (state.tag == LOST || state.tag == CLAIMED);
            journal || (state.ended() && result)
        };
        (0..books.cells.len()).any(|number| books.cells[number].used && unread(number))
    }

    fn check_process(&self) -> PyResult<()> {
        if self.generation == generation() {
            return Ok(());
        }
        Err(PyValueError::new_err(
            "this pool belongs to another process (this one was forked from it); make a pool of your own here",
        ))
    }
}

/// A function that is being used: it stays until the pin is handed over to a cell, or dropped.
struct Pin<'a> {
    shared: &'a Shared,
    function: u32,
    held: bool,
}

impl<'a> Pin<'a> {
    fn new(shared: &'a Shared, function: u32) -> PyResult<Self> {
        match shared.books().functions.get_mut(&function) {
            Some(known) => known.users += 1,
            None => return Err(PyKeyError::new_err(function)),
        }
        Ok(Self { shared, function, held: true })
    }

    /// The cell is a user now. Where the function lies, plus 1.
    fn hand_over(mut self, books: &Books) -> u64 {
        self.held = false;
        books.functions.get(&self.function).map_or(0, |known| known.place as u64 + 1)
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if self.held {
            let mut books = self.shared.books();
            self.shared.drop_function(&mut books, self.function, 1);
        }
    }
}

/// Parent(table): the side that submits.
#[pyclass(frozen, module = "garrison._core")]
pub struct Parent {
    shared: Arc<Shared>,
}

#[pymethods]
impl Parent {
    #[new]
    fn new(table: &Table) -> PyResult<Self> {
        let table = table.shared.clone();
        let region = table.segment.own_region(PARENT_REGION)?;
        table.warm()?;
        let books = Books {
            free: Vec::new(),
            cells: Vec::new(),
            holders: Vec::new(),
            moved_up_to: 0,
            in_use: 0,
            completed: 0,
            functions: HashMap::new(),
            regions: HashMap::new(),
            orphans: VecDeque::new(),
            deaths: 0,
            incarnations: 1,
            known: Vec::new(),
            dead: Vec::new(),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                table,
                heap: Mutex::new(Heap::new(region)),
                books: Mutex::new(books),
                spin: Spin::new(),
                nudges: AtomicU32::new(0),
                generation: generation(),
            }),
        })
    }

    /// Make a function known to the workers: `number` is the caller's name for it.
    fn add_function(&self, py: Python<'_>, number: u32, pickled: &[u8]) -> PyResult<()> {
        self.shared.check_process()?;
        let written = block::write(py, &self.shared.heap, pickled, None)?;
        let function = Function { place: written.place, users: 0, forgotten: false };
        self.shared.books().functions.insert(number, function);
        Ok(())
    }

    /// Write bytes down for as long as the pool lives, for `Worker.definition`. Where they lie.
    fn keep(&self, py: Python<'_>, data: &[u8]) -> PyResult<usize> {
        self.shared.check_process()?;
        Ok(block::write(py, &self.shared.heap, data, None)?.place)
    }

    /// Let a function go once its last task is over.
    fn forget_function(&self, number: u32) {
        let mut books = self.shared.books();
        if let Some(function) = books.functions.get_mut(&number) {
            function.forgotten = true;
            self.shared.drop_function(&mut books, number, 0);
        }
    }

    /// Put one task into the table; the ticket is the only way to its result.
    #[pyo3(signature = (function, kind, payload, buffers=None, items=1, retries=0, timeout=0))]
    #[allow(clippy::too_many_arguments)] // one call for one cell: its fields are what there is
    fn submit(
        &self,
        py: Python<'_>,
        function: u32,
        kind: u32,
        payload: &[u8],
        buffers: Option<&Bound<'_, PyList>>,
        items: u32,
        retries: u32,
        timeout: u64,
    ) -> PyResult<Ticket> {
        let shared = &self.shared;
        shared.check_process()?;
        // Held from here on: the copy below may take long, and other threads forget functions.
        let pin = Pin::new(shared, function)?;
        let buffers = buffers.filter(|list| !list.is_empty());
        let block = if buffers.is_none() && payload.len() <= INLINE {
            None
        } else {
            shared.heap().sweep_sometimes(|who| shared.is_dead(who));
            Some(block::write(py, &shared.heap, payload, buffers)?)
        };
        let number = shared.take_cell().inspect_err(|_| {
            if let Some(written) = &block {
                shared.heap().free(written.place);
            }
        })?;
        let cell = shared.table.cell(number);
        let holder = Arc::new(Holder::default());
        {
            let mut books = shared.books();
            let at = pin.hand_over(&books);
            books.holders[number as usize] = Some(holder.clone());
            books.cells[number as usize] =
                Use { args: block.as_ref().map(|b| b.place), function, used: true };
            cell.function_at.store(at, Ordering::Relaxed);
        }
        cell.function.store(function, Ordering::Relaxed);
        cell.kind.store(kind, Ordering::Relaxed);
        cell.items.store(items, Ordering::Relaxed);
        cell.index.store(0, Ordering::Relaxed);
        cell.retries.store(retries, Ordering::Relaxed);
        cell.attempts.store(0, Ordering::Relaxed);
        cell.fatalities.store(0, Ordering::Relaxed);
        cell.timeout.store(timeout, Ordering::Relaxed);
        cell.args_len.store(payload.len() as u64, Ordering::Relaxed);
        cell.args_at.store(block.as_ref().map_or(0, |b| b.place as u64 + 1), Ordering::Relaxed);
        cell.args_buffers.store(block.as_ref().map_or(0, |b| b.buffers), Ordering::Relaxed);
        cell.result_at.store(0, Ordering::Relaxed);
        cell.journal_at.store(0, Ordering::Relaxed);
        cell.journal_items.store(0, Ordering::Relaxed);
        if block.is_none() {
            // SAFETY: the cell is FREE, so this process is its only writer; the length was checked.
            unsafe {
                let to = (&raw mut (*shared.table.cell_ptr(number)).args).cast::<u8>();
                to.copy_from_nonoverlapping(payload.as_ptr(), payload.len());
            }
        }
        if timeout > 0 {
            let shortest = &shared.table.header().shortest_timeout;
            let known = shortest.load(Ordering::Relaxed);
            if known == 0 || timeout < known {
                shortest.store(timeout, Ordering::SeqCst);
            }
        }
        if let Err(error) = shared.table.publish(MAIN, number) {
            let mut books = shared.books();
            shared.free_cell(&mut books, number, State::new(FREE, 0, 0, 0));
            return Err(memory_error(&error, "another task"));
        }
        let size = block.map_or(payload.len() as u64, |written| written.size);
        let (shared, taken) = (shared.clone(), AtomicBool::new(false));
        Ok(Ticket { shared, cell: number, holder, size, items, taken })
    }

    /// Wait until one of the tickets has ended (its index), at most `limit` seconds or until there
    /// are more `nudges` than the caller knows of (None).
    fn wait_any(
        &self,
        py: Python<'_>,
        tickets: Vec<Py<Ticket>>,
        limit: f64,
        nudges: u32,
    ) -> PyResult<Option<usize>> {
        let table = &self.shared.table;
        let find = || tickets.iter().position(|ticket| ticket.get().ended());
        if let Some(index) = find() {
            return Ok(Some(index));
        }
        let header = table.header();
        let nudged = || self.shared.nudges.load(Ordering::SeqCst) != nudges;
        let over = || find().is_some() || nudged();
        header.watchers.fetch_add(1, Ordering::SeqCst);
        let start = Instant::now();
        let found = self.shared.sleep(py, limit, &over, &|left| {
            fence(Ordering::SeqCst);
            let count = header.ended.load(Ordering::SeqCst);
            if over() {
                Woken::Changed
            } else {
                futex::wait(&header.ended, count, left)
            }
        });
        header.watchers.fetch_sub(1, Ordering::SeqCst);
        self.shared.spin.learn(start.elapsed());
        found.map(|_| find())
    }

    #[getter]
    fn nudges(&self) -> u32 {
        self.shared.nudges.load(Ordering::SeqCst)
    }

    /// Have the threads in `wait_any` come back: there is something new to wait for.
    fn nudge(&self) {
        let header = self.shared.table.header();
        self.shared.nudges.fetch_add(1, Ordering::SeqCst);
        header.ended.fetch_add(1, Ordering::SeqCst);
        futex::wake(&header.ended, i32::MAX);
    }

    /// Tasks whose result nobody has taken yet, those of dropped tickets included.
    #[getter]
    fn in_use(&self) -> usize {
        self.shared.books().in_use
    }

    /// Tasks that have ended and were taken note of.
    #[getter]
    fn completed(&self) -> u64 {
        self.shared.books().completed
    }

    /// Tasks that were submitted, are not over and have a ticket nobody holds any more.
    #[getter]
    fn unfinished_orphans(&self) -> usize {
        let mut books = self.shared.books();
        let everything = books.orphans.len();
        self.shared.collect_orphans(&mut books, everything);
        books.orphans.len()
    }

    /// Bytes of this process's heap that are in use.
    #[getter]
    fn allocated(&self) -> usize {
        let mut heap = self.shared.heap();
        heap.sweep(|who| self.shared.is_dead(who));
        heap.allocated()
    }

    /// Give memory back that is kept for the next big task.
    fn trim(&self) {
        let mut heap = self.shared.heap();
        heap.sweep(|who| self.shared.is_dead(who));
        heap.trim();
    }
}

impl Shared {
    fn spin_or_nap(
        &self,
        limit: Duration,
        done: &(dyn Fn() -> bool + Sync),
        nap: &(dyn Fn(Duration) -> Woken + Sync),
    ) -> (bool, Woken) {
        let start = Instant::now();
        if self.spin.until(limit, done) {
            return (true, Woken::Changed);
        }
        let left = limit.saturating_sub(start.elapsed());
        let woken = if left.is_zero() { Woken::TimedOut } else { nap(left) };
        (done(), woken)
    }

    /// Spin, then sleep, until `done` or `limit` seconds; Python's signal handlers run meanwhile.
    fn sleep(
        &self,
        py: Python<'_>,
        limit: f64,
        done: &(dyn Fn() -> bool + Sync),
        nap: &(dyn Fn(Duration) -> Woken + Sync),
    ) -> PyResult<bool> {
        let start = Instant::now();
        let limit = Duration::try_from_secs_f64(limit.max(0.0)).unwrap_or(Duration::MAX);
        loop {
            let (over, woken) = without_gil(py, || {
                self.spin_or_nap(limit.saturating_sub(start.elapsed()), done, nap)
            });
            if over {
                return Ok(true);
            }
            // A signal may have come just before the nap, which then only its end tells.
            if woken != Woken::Changed {
                py.check_signals()?;
            }
            if start.elapsed() >= limit {
                return Ok(false);
            }
        }
    }
}

const NOTHING: &str = "there is no result to take";

/// (outcome, payload, buffers, nanoseconds, who)
type Taken<'py> = (u32, Bound<'py, PyAny>, Option<Bound<'py, PyList>>, u64, u32);

/// The right to one task's result.
#[pyclass(frozen, module = "garrison._core")]
pub struct Ticket {
    shared: Arc<Shared>,
    /// Its cell, unless the holder has the result.
    cell: u32,
    holder: Arc<Holder>,
    size: u64,
    items: u32,
    taken: AtomicBool,
}

impl Ticket {
    /// Is the cell still this ticket's?
    fn has_cell(&self) -> bool {
        !self.taken.load(Ordering::Relaxed) && !self.holder.has()
    }
}

#[pymethods]
impl Ticket {
    /// Is the result there (or the loss known)?
    fn ended(&self) -> bool {
        let cell = self.shared.table.cell(self.cell);
        // A cell that was given away meanwhile was DONE: whatever it holds now, that is true.
        !self.has_cell() || peek(&cell.state).ended() || self.holder.has()
    }

    /// When the task ended, in nanoseconds; 0 while it has not.
    #[getter]
    fn ended_at(&self) -> u64 {
        let cell = self.shared.table.cell(self.cell);
        if let Some(ended_at) = self.holder.ended_at() {
            return ended_at;
        }
        let ended = self.has_cell() && peek(&cell.state).ended();
        if ended {
            cell.ended_at.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// Wait at most `limit` seconds; True if the task has ended. Signal handlers run meanwhile.
    fn wait(&self, py: Python<'_>, limit: f64) -> PyResult<bool> {
        if self.ended() {
            return Ok(true);
        }
        self.shared.check_process()?;
        let state = &self.shared.table.cell(self.cell).state;
        let start = Instant::now();
        let done = || self.ended();
        let ended = self.shared.sleep(py, limit, &done, &|left| match announce_waiter(state) {
            None => Woken::Changed,
            Some(word) => futex::wait(&LowHalf(state), word as u32, left),
        });
        self.shared.spin.learn(start.elapsed());
        ended
    }

    /// The result, once: (outcome, payload, buffers, nanoseconds, who); the cell is free after it.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Taken<'py>> {
        // A forked child may look, but must not free its parent's cell.
        self.shared.check_process()?;
        let cell = self.shared.table.cell(self.cell);
        if self.holder.has() {
            let moved = self.holder.take();
            let moved = moved.ok_or_else(|| PyRuntimeError::new_err(NOTHING))?;
            self.taken.store(true, Ordering::Relaxed);
            let (payload, buffers) = moved.payload(py)?;
            return Ok((moved.outcome, payload, buffers, moved.duration, moved.who));
        }
        let state = peek(&cell.state);
        if !state.ended() || self.taken.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err(NOTHING));
        }
        let told = cell.outcome.load(Ordering::Relaxed);
        let outcome = if state.tag == LOST { OUTCOME_LOST } else { told };
        let duration = cell.duration.load(Ordering::Relaxed);
        let len = cell.result_len.load(Ordering::Relaxed) as usize;
        let at = cell.result_at.load(Ordering::Relaxed);
        let (payload, buffers) = if at == 0 {
            // SAFETY: the acquire in peek() has made the worker's bytes visible; it writes no more.
            let bytes = unsafe { std::slice::from_raw_parts(cell.result.as_ptr(), len) };
            (PyBytes::new(py, bytes).into_any(), None)
        } else {
            let lease = self.lease(cell, at as usize - 1)?;
            let count = cell.result_buffers.load(Ordering::Relaxed);
            let (payload, buffers) = block::read(py, &lease, len, count)?;
            (payload.into_any(), buffers)
        };
        self.taken.store(true, Ordering::Relaxed);
        let mut books = self.shared.books();
        self.shared.free_cell(&mut books, self.cell, state);
        drop(books);
        Ok((outcome, payload, buffers, duration, state.who))
    }

    /// Bytes of the task's arguments.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// Has the worker died with it?
    fn lost(&self) -> bool {
        let cell = self.shared.table.cell(self.cell);
        self.has_cell() && peek(&cell.state).tag == LOST
    }

    /// What was asked for: (function, kind, index, payload). For messages, before `take`.
    fn call<'py>(&self, py: Python<'py>) -> (u32, u32, u32, Option<Bound<'py, PyBytes>>) {
        let cell = self.shared.table.cell(self.cell);
        let payload = super::supervisor::args(&self.shared.table, self.cell, PARENT_REGION);
        (
            cell.function.load(Ordering::Relaxed),
            cell.kind.load(Ordering::Relaxed),
            table::item(cell),
            payload.map(|bytes| PyBytes::new(py, &bytes)),
        )
    }

    /// Results of a shared cell's first items that are complete, whether the worker is still at
    /// work or has died: (succeeded, pickle) for each. None any more once the task is done.
    fn salvage<'py>(&self, py: Python<'py>) -> PyResult<Vec<(bool, Bound<'py, PyBytes>)>> {
        self.shared.check_process()?;
        let cell = self.shared.table.cell(self.cell);
        let before = peek(&cell.state);
        if !self.has_cell() || cell.journal_at.load(Ordering::Acquire) == 0 {
            return Ok(Vec::new());
        }
        let number = cell.journal_region.load(Ordering::Acquire);
        let region = {
            let mut books = self.shared.books();
            self.shared.region(&mut books, number)?
        };
        let found = super::journal::salvage(py, &region, cell);
        fence(Ordering::Acquire);
        let after = peek(&cell.state);
        let same = State { waiter: false, ..before } == State { waiter: false, ..after };
        if !same || after.tag == DONE {
            return Ok(Vec::new());
        }
        found
    }

    /// Take the items back that the worker has not begun: the number of those that stay its own.
    fn steal(&self) -> PyResult<u32> {
        self.shared.check_process()?;
        let cell = self.shared.table.cell(self.cell);
        Ok(if self.has_cell() { steal(cell) } else { self.items })
    }

    /// Take a task back that no worker has claimed. False if it is too late for that.
    fn withdraw(&self) -> bool {
        let shared = &self.shared;
        let cell = shared.table.cell(self.cell);
        if shared.generation != generation() || !self.has_cell() || !withdraw(&cell.state) {
            return false;
        }
        self.taken.store(true, Ordering::Relaxed);
        futex::wake(&LowHalf(&cell.state), i32::MAX);
        let mut books = shared.books();
        shared.free_cell(&mut books, self.cell, peek(&cell.state));
        true
    }
}

impl Ticket {
    /// Sign for the result. Without address space for it nothing is done, and it can be taken later.
    fn lease(&self, cell: &table::CellShared, place: usize) -> PyResult<Arc<Lease>> {
        let number = cell.result_region.load(Ordering::Relaxed);
        let region = self.shared.region(&mut self.shared.books(), number)?;
        Lease::new(&region, place, 0).map_err(|error| {
            let len = cell.result_len.load(Ordering::Relaxed);
            memory_error(&error, &format!("a result of {len} bytes"))
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let shared = &self.shared;
        if shared.generation != generation() || !self.has_cell() {
            return;
        }
        let mut books = shared.books();
        books.holders[self.cell as usize] = None;
        books.orphans.push_back(self.cell);
    }
}
