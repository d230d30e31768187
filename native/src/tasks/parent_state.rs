//! The parent's private bookkeeping: cells, functions, regions of the dead.

use super::moved::{Holder, MovedResult};
use super::parent::ParentHandle;
use super::protocol::{load_state, State, CLAIMED, DONE, FREE, LOST};
use super::table::CAPACITY;
use crate::host::Failure;
use crate::shm::heap::Heap;
use crate::shm::payload::BlockRef;
use crate::shm::region::Region;
use crate::sys::atomic::Ordering;
use crate::sys::process::generation;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, MutexGuard};

pub(super) const ANOTHER_TASK: &str = "another task";
/// Dropped handles that are looked at with each new task.
const DROPPED: usize = 32;
/// From so many cells on, unread results are moved out before more cells are added.
const MANY: usize = 1 << 16;
/// New incarnations that are taken note of at once.
const INCARNATIONS: u32 = 1 << 12;
/// Cells that are looked at for this at once.
const MOVED: usize = 1 << 12;

/// A function's pickle in the parent's heap, and how many cells still refer to it.
pub(super) struct Function {
    pub(super) place: usize,
    pub(super) users: usize,
    pub(super) forgotten: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct CellUse {
    pub(super) args: Option<usize>,
    pub(super) function: u32,
    pub(super) used: bool,
}

/// The parent's private bookkeeping. Never locked while Python code may run.
pub(super) struct ParentState {
    pub(super) free: Vec<u32>,
    pub(super) cells: Vec<CellUse>,
    /// For each cell the handle's part of it, until the result is taken or the handle dropped.
    pub(super) holders: Vec<Option<Arc<Holder>>>,
    /// Where the next look for results to move begins.
    pub(super) moved_up_to: usize,
    pub(super) in_use: usize,
    pub(super) completed: u64,
    pub(super) functions: HashMap<u32, Function>,
    pub(super) regions: HashMap<u32, Arc<Region>>,
    /// Cells whose handle was dropped before the task ended.
    pub(super) dropped: VecDeque<u32>,
    pub(super) deaths: u32,
    pub(super) incarnations: u32,
    /// Incarnations that may still live, and dead ones whose region could not be cleared yet.
    pub(super) known: Vec<u32>,
    pub(super) dead: Vec<u32>,
}

impl ParentState {
    pub(super) fn new() -> Self {
        Self {
            free: Vec::new(),
            cells: Vec::new(),
            holders: Vec::new(),
            moved_up_to: 0,
            in_use: 0,
            completed: 0,
            functions: HashMap::new(),
            regions: HashMap::new(),
            dropped: VecDeque::new(),
            deaths: 0,
            incarnations: 1,
            known: Vec::new(),
            dead: Vec::new(),
        }
    }
}

impl ParentState {
    /// The handle of this cell is gone.
    pub(super) fn drop_handle(&mut self, number: u32) {
        self.holders[number as usize] = None;
        self.dropped.push_back(number);
    }

    /// No handle has this cell any more, even if there is one.
    pub(super) fn let_go(&mut self, number: u32) {
        match self.holders[number as usize].take() {
            Some(holder) => holder.give_up(),
            None => self.dropped.retain(|&each| each != number),
        }
    }
}

thread_local! {
    /// The task that this thread has submitted last: the parent's address, the cell, the ticket.
    static LATEST: Cell<(usize, u32, u32)> = const { Cell::new((0, 0, 0)) };
}

impl ParentHandle {
    /// The cell and the ticket of the task that this thread has submitted last, if it was to this pool.
    pub fn latest(&self) -> Option<(u32, u32)> {
        let (parent, cell, ticket) = LATEST.get();
        (parent == std::ptr::from_ref(self) as usize).then_some((cell, ticket))
    }

    #[inline]
    pub(super) fn note_latest(&self, cell: u32) {
        let ticket = load_state(&self.table.cell(cell).state).ticket;
        LATEST.set((std::ptr::from_ref(self) as usize, cell, ticket));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ParentState> {
        self.state.lock().expect("never poisoned")
    }

    pub(super) fn heap(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().expect("never poisoned")
    }

    pub(super) fn is_dead(&self, owner_id: u32) -> bool {
        self.table.slot_of(owner_id).is_none()
    }

    /// A free cell, with memory behind it.
    pub(super) fn take_cell(&self) -> Result<u32, Failure> {
        let mut parent = self.state();
        self.collect_dropped(&mut parent, DROPPED);
        if parent.free.is_empty() {
            self.find_cells(&mut parent)?;
        }
        let cell = parent.free.pop().ok_or(Failure::TableFull(CAPACITY))?;
        parent.in_use += 1;
        parent.cells[cell as usize].used = true;
        Ok(cell)
    }

    #[cold]
    pub(super) fn find_cells(&self, parent: &mut ParentState) -> Result<(), Failure> {
        if parent.cells.len() >= MANY {
            self.move_results(parent, MOVED);
        }
        let added = if parent.free.is_empty() { self.add_cells(parent) } else { Ok(true) };
        if !matches!(added, Ok(true)) {
            let everything = parent.dropped.len();
            self.collect_dropped(parent, everything);
            self.move_results(parent, parent.cells.len());
        }
        added.map(|_| ()).or_else(|error| if parent.free.is_empty() { Err(error) } else { Ok(()) })
    }

    /// Move unread results into memory of this process, and free their cells.
    /// At most so many cells are looked at, and `MOVED` freed.
    pub(super) fn move_results(&self, parent: &mut ParentState, looks: usize) {
        for _ in 0..looks.min(parent.cells.len()) {
            let number = parent.moved_up_to % parent.cells.len();
            parent.moved_up_to = number + 1;
            self.move_result(parent, number as u32);
            if parent.free.len() >= MOVED {
                return;
            }
        }
    }

    pub(super) fn move_result(&self, parent: &mut ParentState, number: u32) {
        let Some(holder) = parent.holders[number as usize].clone() else { return };
        let cell = self.table.cell(number);
        let state = load_state(&cell.state);
        // What was lost stays: its handle can still say what was asked for.
        if state.tag != DONE {
            return;
        }
        // Without memory for it the result stays where it is.
        if let Ok(result) = MovedResult::of(cell, state, |region| self.region(parent, region)) {
            holder.keep(result);
            self.free_cell(parent, number, state);
        }
    }

    pub(super) fn add_cells(&self, parent: &mut ParentState) -> Result<bool, Failure> {
        let first = parent.cells.len();
        if first == CAPACITY {
            return Ok(false);
        }
        let count = self.table.reserve_cells(first).map_err(Failure::of(ANOTHER_TASK))?;
        let full = |_| Failure::of(ANOTHER_TASK)(std::io::Error::from_raw_os_error(libc::ENOMEM));
        parent.cells.try_reserve(count).map_err(full)?;
        parent.free.try_reserve(count).map_err(full)?;
        parent.holders.try_reserve(count).map_err(full)?;
        parent.cells.resize(first + count, CellUse::default());
        parent.holders.resize(first + count, None);
        // Popped from the end: the lowest cell first.
        parent.free.extend((first as u32..(first + count) as u32).rev());
        let total = (first + count) as u32;
        self.table.header().cells.store(total, Ordering::Release);
        Ok(true)
    }

    pub(super) fn collect_dropped(&self, parent: &mut ParentState, count: usize) {
        for _ in 0..count.min(parent.dropped.len()) {
            let Some(cell) = parent.dropped.pop_front() else { return };
            let state = load_state(&self.table.cell(cell).state);
            if state.ended() {
                self.release_result(parent, cell);
                self.free_cell(parent, cell, state);
            } else {
                parent.dropped.push_back(cell);
            }
        }
    }

    /// Give an unwanted result back to the heap it lies in.
    pub(super) fn release_result(&self, parent: &mut ParentState, number: u32) {
        let cell = self.table.cell(number);
        let at = cell.result_at.load(Ordering::Relaxed);
        if at != 0 && cell.check_result().is_ok() {
            let region = cell.result_region.load(Ordering::Relaxed);
            if let Ok(region) = self.region(parent, region) {
                // What cannot be looked at stays until its worker goes.
                drop(BlockRef::new(&region, at as usize - 1, 0));
            }
        }
    }

    pub(super) fn region(
        &self,
        parent: &mut ParentState,
        number: u32,
    ) -> std::io::Result<Arc<Region>> {
        if let Some(region) = parent.regions.get(&number) {
            return Ok(region.clone());
        }
        let region = self.table.segment.others_region(number)?;
        parent.regions.insert(number, region.clone());
        Ok(region)
    }

    /// The cell is the parent's again: no other process will look at it.
    pub(super) fn free_cell(&self, parent: &mut ParentState, number: u32, state: State) {
        let CellUse { args, function, .. } = std::mem::take(&mut parent.cells[number as usize]);
        parent.holders[number as usize] = None;
        if let Some(place) = args {
            let mut heap = self.heap();
            // A dead or never-come worker looks at nothing; a living one says when it is done.
            if state.tag == LOST || state.tag == FREE {
                heap.free(place);
            } else {
                heap.lend(place);
            }
            heap.sweep_sometimes(|owner_id| self.is_dead(owner_id));
        }
        let cell = self.table.cell(number);
        cell.state.store(State { tag: FREE, waiter: false, ..state }.pack(), Ordering::Relaxed);
        parent.free.push(number);
        parent.in_use -= 1;
        parent.completed += u64::from(state.ended());
        self.drop_function(parent, function, 1);
        self.clear_dead_regions(parent);
    }

    pub(super) fn drop_function(&self, parent: &mut ParentState, number: u32, users: usize) {
        let Some(function) = parent.functions.get_mut(&number) else { return };
        function.users -= users;
        if function.users == 0 && function.forgotten {
            let place = function.place;
            parent.functions.remove(&number);
            self.heap().free(place);
        }
    }

    /// Give the memory of dead workers back, once nothing looks at it.
    pub(super) fn clear_dead_regions(&self, parent: &mut ParentState) {
        let deaths = self.table.header().deaths.load(Ordering::Acquire);
        if deaths != parent.deaths {
            parent.deaths = deaths;
            // A damaged number is not worth gigabytes of bookkeeping: the rest comes next time.
            let upto = self.table.header().incarnations.load(Ordering::Acquire);
            let upto = upto.min(parent.incarnations.saturating_add(INCARNATIONS));
            parent.known.extend(parent.incarnations..upto);
            parent.incarnations = upto.max(parent.incarnations);
            let (dead, alive) = parent.known.iter().partition(|&&owner_id| self.is_dead(owner_id));
            parent.known = alive;
            let dead: Vec<u32> = dead;
            parent.dead.extend(dead);
        } else if parent.dead.is_empty() || parent.in_use % 16 != 0 {
            return;
        }
        for owner_id in std::mem::take(&mut parent.dead) {
            if self.still_wanted(parent, owner_id) {
                parent.dead.push(owner_id);
                continue;
            }
            parent.regions.remove(&owner_id);
            // Without room for the bookkeeping of a hole the pages stay until the pool goes.
            let _ = self.table.segment.punch_region(owner_id);
        }
    }

    pub(super) fn still_wanted(&self, parent: &ParentState, owner_id: u32) -> bool {
        // Each view that lives has the region.
        if parent.regions.get(&owner_id).is_some_and(|region| Arc::strong_count(region) > 1) {
            return true;
        }
        let unread = |number: usize| {
            let cell = self.table.cell(number as u32);
            let state = load_state(&cell.state);
            let result = cell.result_at.load(Ordering::Relaxed) != 0
                && cell.result_region.load(Ordering::Relaxed) == owner_id;
            let journal = cell.journal_at.load(Ordering::Relaxed) != 0
                && cell.journal_region.load(Ordering::Relaxed) == owner_id;
            let journal = journal && (state.tag == LOST || state.tag == CLAIMED);
            journal || (state.ended() && result)
        };
        (0..parent.cells.len()).any(|number| parent.cells[number].used && unread(number))
    }

    pub(super) fn check_process(&self) -> Result<(), Failure> {
        if self.generation == generation() {
            return Ok(());
        }
        Err(Failure::OtherProcess)
    }
}

/// A function that is being used: it stays until the pin is handed over to a cell, or dropped.
pub(super) struct FunctionPin<'a> {
    pub(super) shared: &'a ParentHandle,
    pub(super) function: u32,
    pub(super) held: bool,
}

impl<'a> FunctionPin<'a> {
    pub(super) fn new(shared: &'a ParentHandle, function: u32) -> Result<Self, Failure> {
        match shared.state().functions.get_mut(&function) {
            Some(known) => known.users += 1,
            None => return Err(Failure::UnknownFunction(function)),
        }
        Ok(Self { shared, function, held: true })
    }

    /// The cell is a user now. Where the function lies, plus 1.
    pub(super) fn hand_over(mut self, parent: &ParentState) -> u64 {
        self.held = false;
        parent.functions.get(&self.function).map_or(0, |known| known.place as u64 + 1)
    }
}

impl Drop for FunctionPin<'_> {
    fn drop(&mut self) {
        if self.held {
            let mut parent = self.shared.state();
            self.shared.drop_function(&mut parent, self.function, 1);
        }
    }
}
