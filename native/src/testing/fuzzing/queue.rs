//! Items of a queue whose memory another process has overwritten.

use super::{overwrite, Alone, Area, Input};
use crate::host::Failure;
use crate::queue::ends::WaitSpec;
use crate::queue::file::QueueFile;
use crate::queue::item::{self, EncodedItem};
use crate::queue::large_items::retire_senders;
use crate::queue::log::{SegmentMemory, GRANULE};
use crate::queue::{Queue, TakenItem};
use crate::shm::heap::LINE;
use crate::shm::payload;
use crate::shm::region::Span;

const REGION: usize = 1 << 30;
/// Bytes of the first segment that an input may overwrite.
const ITEMS: usize = 1 << 10;
/// More than were put.
const MOST: u32 = 64;

/// Items are put, the memory is overwritten, items are taken and put again.
pub fn queue_items(data: &[u8]) {
    let mut input = Input(data);
    if let Ok(file) = QueueFile::create(u32::from(input.byte() % 8), REGION) {
        let _ = damaged_queue(&mut input, file);
    }
    retire_senders();
}

fn damaged_queue(input: &mut Input<'_>, file: QueueFile) -> Result<(), Failure> {
    let block = file.block.clone();
    let queue = Queue::new(file);
    for _ in 0..input.byte() % 4 {
        put(&queue, input)?;
    }
    let large = if input.byte() % 4 == 0 { put_large(&queue)? } else { None };
    let other = Queue::new(QueueFile::attach(block)?);
    let (areas, _keep) = areas(&queue, large)?;
    overwrite(input, &areas);
    for _ in 0..input.byte() % 8 {
        let queue = if input.byte() % 2 == 0 { &queue } else { &other };
        // After an error the queue is damaged, and still answers.
        let _ = match input.byte() % 4 {
            0 => put(queue, input),
            1 => get(queue, 1),
            2 => put_large(queue).map(|_| ()),
            _ => get(queue, u32::from(input.byte() % 4) + 1),
        };
        let _ = (queue.ends().task_done(), queue.ends().unfinished(), queue.file.log().len());
    }
    for _ in 0..MOST {
        get(&other, 4)?;
        if other.file.log().is_empty() {
            break;
        }
    }
    Ok(())
}

fn put(queue: &Queue, input: &mut Input<'_>) -> Result<(), Failure> {
    let kind = input.byte() % (item::LARGE + 1);
    let bytes = input.piece();
    let item = match kind {
        item::INT | item::FLOAT => EncodedItem::word(kind, bytes.len() as u64),
        // SAFETY: the input lives longer than the call.
        _ => unsafe { EncodedItem::kept(kind, (), bytes) },
    };
    queue.put(Alone, &mut [item], &WaitSpec::immediate()).map(|_| ())
}

/// Put an item that lies in a block; where its head lies.
fn put_large(queue: &Queue) -> Result<Option<usize>, Failure> {
    let bytes = [7; 300];
    let large = queue.large.pack(Alone, &queue.file, (item::PICKLE, bytes.len()), |heap| {
        payload::write_plain(Alone, heap, &bytes)
    })?;
    let place = large.address.place();
    let put = queue.put(Alone, &mut [EncodedItem::<()>::large(large)], &WaitSpec::immediate())?;
    Ok(put.then_some(place))
}

fn get(queue: &Queue, most: u32) -> Result<(), Failure> {
    queue.get(Alone, most, &WaitSpec::immediate(), look).map(|_| ())
}

fn look(item: TakenItem<'_>) -> Result<(), Failure> {
    let received = match item {
        TakenItem::Small(kind, bytes) => {
            std::hint::black_box((kind, bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()));
            return Ok(());
        }
        TakenItem::Large(received) => received,
    };
    std::hint::black_box(received.kind());
    let (len, buffers) = received.extent();
    let block = received.into_ref();
    let (payload, parts) = block.parts(len, buffers)?;
    for part in parts.iter().chain([&payload]) {
        let bytes = block.bytes(part.offset, part.len);
        std::hint::black_box((bytes.first(), bytes.last()));
    }
    Ok(())
}

/// All but the locks: a lock with an owner that does not live is waited for.
fn areas(queue: &Queue, large: Option<usize>) -> Result<(Vec<Area>, Option<Span>), Failure> {
    let file = &queue.file;
    let shared = file.shared();
    let mut areas = vec![
        Area::of(&shared.log.tail),
        Area::of(&shared.log.head),
        Area::of(&shared.log.count),
        Area::of(&shared.log.cursor),
        Area::of(&shared.done),
        Area::of(&shared.regions),
        Area::of(&shared.wake_all),
        Area::of(&shared.region_len),
        Area::of(&shared.getters),
        Area::of(file.entry(0)),
        Area::of(file.entry(1)),
    ];
    file.reserve(0, 0, QueueFile::STEP)?;
    // SAFETY: no item is being looked at.
    areas.push(unsafe { Area::new(file.at(0, ITEMS)?, ITEMS / GRANULE * GRANULE) });
    let (Some(place), Some(record)) = (large, file.record(0)) else { return Ok((areas, None)) };
    areas.push(Area::of(record));
    let head = file.region(0, false)?.small(place, LINE)?;
    // SAFETY: the head of a block is made of atomics.
    areas.push(unsafe { Area::new(head.at(0, head.len()), head.len()) });
    Ok((areas, Some(head)))
}
