//! Task cells that another process has overwritten: before a task is claimed, while it runs, and
//! before its result is taken.

use super::{overwrite, Alone, Area, Input};
use crate::host::Failure;
use crate::shm::heap::{Heap, LINE};
use crate::shm::payload::{self, Buffer, Found, WrittenBlock};
use crate::shm::region::Span;
use crate::sys::atomic::Ordering;
use crate::tasks::handle::TaskHandle;
use crate::tasks::item_results::{self, ItemResults};
use crate::tasks::parent::{NewTask, ParentHandle};
use crate::tasks::supervisor::Supervisor;
use crate::tasks::table::{Table, OUTCOME_CORRUPT, PARENT_REGION};
use crate::tasks::worker::{Task, TaskResult, Worker};
use std::sync::{Arc, Mutex};

const REGION: usize = 1 << 30;
/// Workers leave when there is no work.
const CLOSING: u32 = 1;
const FUNCTION: u32 = 1;
const CELLS: u32 = 3;

/// A pool in one process, one of whose processes writes where it should not.
pub fn task_cells(data: &[u8]) {
    let mut input = Input(data);
    if let Ok(scene) = Scene::new() {
        let _ = scene.play(&mut input);
    }
}

struct Scene {
    table: Arc<Table>,
    parent: Arc<ParentHandle>,
    supervisor: Supervisor,
    worker: Worker,
    worker_id: u32,
}

impl Scene {
    fn new() -> Result<Self, Failure> {
        let table = Arc::new(Table::create(3, REGION)?);
        let parent = ParentHandle::new(table.clone())?;
        let supervisor = Supervisor::new(table.clone())?;
        let worker_id = supervisor.enlist(0, 1)?;
        let worker = Worker::new(table.clone(), 0, worker_id)?;
        parent.add_function(Alone, FUNCTION, b"a function")?;
        Ok(Self { table, parent, supervisor, worker, worker_id })
    }

    fn play(&self, input: &mut Input<'_>) -> Result<(), Failure> {
        let tasks = [self.submit(input)?, self.submit(input)?];
        self.damage(input)?;
        for _ in 0..CELLS {
            let Ok(Some(number)) = self.worker.claim(Alone) else { break };
            if input.byte() % 4 == 0 {
                continue; // the worker dies
            }
            if self.work(number, input).is_err() && self.worker.is_busy() {
                let _ = self.worker.publish(OUTCOME_CORRUPT, &TaskResult::Inline(b"damaged"));
            }
        }
        self.damage(input)?;
        self.supervise(input);
        for task in tasks {
            self.read(&task, input);
        }
        std::hint::black_box((
            self.parent.allocated(),
            self.parent.in_use(),
            self.parent.completed(),
        ));
        let _ = self.table.check();
        Ok(())
    }

    fn submit(&self, input: &mut Input<'_>) -> Result<TaskHandle, Failure> {
        let is_inline = input.byte() % 2 == 0;
        let (items, retries) = (u32::from(input.byte() % 4), u32::from(input.byte() % 2));
        let timeout = u64::from(input.byte() % 2) << 40;
        let payload = input.piece();
        let task = NewTask { function: FUNCTION, kind: 1, items, retries, timeout };
        self.parent.submit(task, payload, is_inline, |heap| written(heap, payload))
    }

    fn damage(&self, input: &mut Input<'_>) -> Result<(), Failure> {
        let (areas, _keep) = self.areas()?;
        overwrite(input, &areas);
        // A worker of a terminated pool waits for its signal.
        self.table.header().phase.store(CLOSING, Ordering::SeqCst);
        Ok(())
    }

    /// The control part, and the heads of the blocks that cells name.
    fn areas(&self) -> Result<(Vec<Area>, Vec<Span>), Failure> {
        let header = self.table.header();
        let mut areas = vec![
            Area::of(header),
            Area::of(&header.rings[0].head),
            Area::of(&header.rings[0].tail),
            Area::of(&header.rings[1]),
            Area::of(self.table.slot(0)),
            Area::of(self.table.slot(2)),
            Area::of(self.table.ring(0).entry(0)),
            Area::of(self.table.ring(0).entry(1)),
            Area::of(self.table.ring(1).entry(0)),
        ];
        let mut heads = Vec::new();
        for number in 0..CELLS {
            let (cell, start) = (self.table.cell(number), self.table.cell_ptr(number).cast());
            // SAFETY: nothing looks at the bytes of the cell at this moment.
            areas.push(unsafe { Area::new(start, size_of_val(cell)) });
            let places = [
                (PARENT_REGION, cell.function_at.load(Ordering::Relaxed)),
                (PARENT_REGION, cell.args_at.load(Ordering::Relaxed)),
                (self.worker_id, cell.result_at.load(Ordering::Relaxed)),
                (self.worker_id, cell.journal_at.load(Ordering::Relaxed)),
            ];
            for (region, at) in places.into_iter().filter(|&(_, at)| at % LINE as u64 == 1) {
                let region = self.table.segment.own_region(region)?;
                let place = at as usize - 1;
                heads.extend(region.small(place, 2 * LINE));
            }
        }
        for head in &heads {
            // SAFETY: the head of a block, and bytes that nothing looks at at this moment.
            areas.push(unsafe { Area::new(head.at(0, head.len()), head.len()) });
        }
        Ok((areas, heads))
    }

    /// What a worker does with a task.
    fn work(&self, number: u32, input: &mut Input<'_>) -> Result<(), Failure> {
        let Task { payload, .. } = self.worker.arguments(number)?;
        look(&payload)?;
        std::hint::black_box(self.worker.definition(self.worker.function_at()?)?.bytes().first());
        self.worker.restart_clock()?;
        let cell = self.worker.cell()?;
        let mut items = ItemResults::default();
        self.worker.begin_items(cell);
        for item in 0..crate::tasks::worker::items_of(cell).min(4) as u32 {
            if !self.worker.begin_item(cell, item) {
                break;
            }
            items.add(self.worker.heap(), cell, input.byte() % 2 == 0, input.piece())?;
        }
        self.damage(input)?;
        let (outcome, bytes) = (u32::from(input.byte() % 6), input.piece());
        let published = match input.byte() % 3 {
            0 => self.worker.publish(outcome, &TaskResult::Inline(&bytes[..bytes.len().min(144)])),
            1 => {
                let block = written(self.worker.heap(), bytes)?;
                let result = TaskResult::Written { block, len: bytes.len() };
                self.worker.publish(outcome, &result)
            }
            _ => self.worker.publish(outcome, &TaskResult::Items(&items)),
        };
        items.close(self.worker.heap(), false);
        published
    }

    /// What a supervisor does after the worker's death.
    fn supervise(&self, input: &mut Input<'_>) {
        let held = self.supervisor.held_by(self.worker_id).unwrap_or_default();
        std::hint::black_box(self.supervisor.is_late(0, self.worker_id));
        for number in held {
            let _ = match input.byte() % 3 {
                0 => self.supervisor.requeue(number, 1).map(drop),
                1 => self.supervisor.mark_lost(Alone, number, input.piece()),
                _ => self.supervisor.mark_lost(Alone, number, &[b'x'; 300]),
            };
        }
        if input.byte() % 2 == 0 {
            self.supervisor.free_slot(0, true, -9);
        }
        if let Ok((_, forgotten)) = self.supervisor.stranded() {
            for number in forgotten.into_iter().take(4) {
                let _ = self.supervisor.enqueue_retry(number);
            }
        }
    }

    /// What the parent does with a task that has ended, or has not.
    fn read(&self, task: &TaskHandle, input: &mut Input<'_>) {
        let call = task.call();
        std::hint::black_box((call.index, call.payload, task.ended_at(), task.is_lost()));
        let _ = task.recover(|found| match found {
            Some(found) => found.entries().map(|entries| entries.len()),
            None => Ok(0),
        });
        if input.byte() % 4 == 0 {
            let _ = (task.take_back(), task.withdraw());
        }
        let _ = (task.wait(Alone, 0.0, None), task.check());
        let _ = task.take(|_, found| look(&found));
    }
}

/// A block with a payload, and with a buffer behind it.
fn written(heap: &Mutex<Heap>, payload: &[u8]) -> Result<WrittenBlock, Failure> {
    let buffer = Buffer { start: payload.as_ptr(), len: payload.len(), readonly: true };
    // SAFETY: the input lives longer than the call.
    unsafe { payload::write(Alone, heap, payload, &[buffer]) }
}

fn look(payload: &Found<'_>) -> Result<(), Failure> {
    match payload {
        Found::Inline(bytes) => {
            let _ = item_results::split(bytes, 8);
            std::hint::black_box(bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>());
        }
        Found::InBlock { block, len, buffers } => {
            let (payload, parts) = block.parts(*len, *buffers)?;
            for part in parts.iter().chain([&payload]) {
                let bytes = block.bytes(part.offset, part.len);
                std::hint::black_box((bytes.first(), bytes.last()));
            }
        }
    }
    Ok(())
}
