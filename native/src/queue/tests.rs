use super::log::*;
use crate::sys::atomic::Ordering;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{ErrorKind, Result};
use std::panic::{catch_unwind, AssertUnwindSafe};

const GRANULES: u32 = 8;

/// Segments of eight granules in private memory. What is read without memory behind it is noticed,
/// and one can die at the n-th step.
struct Toy {
    entries: Vec<SegmentShared>,
    memory: RefCell<Vec<[Option<u32>; GRANULES as usize]>>,
    /// Real granules of each segment.
    real: RefCell<Vec<u32>>,
    steps_left: Cell<Option<u32>>,
    most: Cell<u32>,
}

struct Killed;

impl Toy {
    fn new(segments: usize) -> Self {
        Self {
            entries: (0..segments).map(|_| SegmentShared::new()).collect(),
            memory: RefCell::new(vec![[None; GRANULES as usize]; segments]),
            real: RefCell::new(vec![0; segments]),
            steps_left: Cell::new(None),
            most: Cell::new(u32::MAX),
        }
    }

    fn write(&self, at: u32, granules: u32, item: u32) {
        let (segment, offset) = ((at / GRANULES) as usize, at % GRANULES);
        assert!(offset + granules <= self.real.borrow()[segment], "written where no memory is");
        for granule in offset..offset + granules {
            self.memory.borrow_mut()[segment][granule as usize] = Some(item);
        }
    }

    fn read(&self, at: u32) -> u32 {
        self.memory.borrow()[(at / GRANULES) as usize][(at % GRANULES) as usize].expect("an item")
    }

    fn real_segments(&self) -> usize {
        self.real.borrow().iter().filter(|&&granules| granules > 0).count()
    }
}

impl SegmentMemory for Toy {
    const GRANULES: u32 = GRANULES;
    const STEP: u32 = 2;

    fn segments(&self) -> u32 {
        self.entries.len() as u32
    }

    fn entry(&self, segment: u32) -> &SegmentShared {
        &self.entries[segment as usize]
    }

    fn reserve_entry(&self, _segment: u32) -> Result<()> {
        Ok(())
    }

    fn reserve(&self, segment: u32, _from: u32, to: u32) -> Result<()> {
        let real = &mut self.real.borrow_mut()[segment as usize];
        *real = to.max(*real);
        Ok(())
    }

    fn punch(&self, segment: u32) {
        self.real.borrow_mut()[segment as usize] = 0;
        self.memory.borrow_mut()[segment as usize] = [None; GRANULES as usize];
    }

    fn may_grow(&self, count: u32) -> Result<()> {
        if count < self.most.get() {
            Ok(())
        } else {
            Err(growth_not_permitted())
        }
    }

    fn ensure_entries(&self) -> Result<()> {
        Ok(())
    }

    fn permit_growth(&self, _count: u32) {}

    fn reach(&self, _point: &'static str) {
        if let Some(left) = self.steps_left.get() {
            if left == 0 {
                self.steps_left.set(None);
                std::panic::resume_unwind(Box::new(Killed));
            }
            self.steps_left.set(Some(left - 1));
        }
    }
}

/// A ring, and what ought to be in it.
struct Scene {
    toy: Toy,
    shared: QueueLogShared,
    inside: VecDeque<u32>,
    next: u32,
}

impl Scene {
    fn new(segments: usize) -> Self {
        let (toy, shared) = (Toy::new(segments), QueueLogShared::new());
        QueueLog { shared: &shared, store: &toy }.create().expect("room");
        Self { toy, shared, inside: VecDeque::new(), next: 0 }
    }

    fn ring(&self) -> QueueLog<'_, Toy> {
        QueueLog { shared: &self.shared, store: &self.toy }
    }

    /// Put items of these sizes in one commit.
    fn put(&mut self, sizes: &[u32]) -> Result<()> {
        let ring = self.ring();
        let tail = ring.tail();
        let mut at = tail.at;
        for (nth, &granules) in (0..).zip(sizes) {
            at = ring.reserve(at, granules)?;
            self.toy.write(at, granules, (self.next + nth) << 3 | granules);
            at += granules;
        }
        self.toy.reach("written");
        let number = tail.number.wrapping_add(sizes.len() as u32);
        ring.commit_put(Position { number, at });
        self.inside.extend((self.next..).zip(sizes).map(|(item, size)| item << 3 | size));
        self.next += sizes.len() as u32;
        Ok(())
    }

    /// Take one item, and see that it is the right one.
    fn get(&mut self) -> bool {
        let ring = self.ring();
        let (mut head, tail) = (ring.head(), ring.tail());
        if head.number == tail.number {
            assert!(self.inside.is_empty());
            return false;
        }
        loop {
            match ring.next_item(head, tail) {
                Item::Beyond => head.at = ring.skip_to_next_segment(head, tail).expect("a circle"),
                Item::Here { at, limit } => {
                    let item = self.toy.read(at);
                    assert!(at + (item & 7) <= limit);
                    assert_eq!(Some(&item), self.inside.front());
                    self.toy.reach("copied");
                    let number = head.number.wrapping_add(1);
                    ring.commit_get(Position { number, at: at + (item & 7) });
                    break;
                }
            }
        }
        self.inside.pop_front();
        true
    }

    /// Do it, killed at the n-th step; whether there were as many.
    fn killed_at(&mut self, step: u32, run: impl FnOnce(&mut Self)) -> bool {
        self.toy.steps_left.set(Some(step));
        let ended = catch_unwind(AssertUnwindSafe(|| run(self)));
        self.toy.steps_left.set(None);
        match ended {
            Ok(()) => false,
            Err(payload) if payload.is::<Killed>() => true,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    fn check(&self) {
        assert_eq!(self.ring().len() as usize, self.inside.len());
        assert_eq!(self.ring().is_empty(), self.inside.is_empty());
    }

    fn drain(&mut self) {
        while self.get() {
            self.check();
        }
    }
}

/// Numbers that look random and are the same each time.
fn noise(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*state >> 33) as u32
}

#[test]
fn first_in_first_out_whatever_the_sizes() {
    let (mut scene, mut state) = (Scene::new(400), 1);
    for _ in 0..if cfg!(miri) { 500 } else { 20_000 } {
        if noise(&mut state) % 100 < 50 {
            let sizes: Vec<_> =
                (0..noise(&mut state) % 4).map(|_| 1 + noise(&mut state) % 7).collect();
            scene.put(&sizes).expect("room");
        } else {
            scene.get();
            scene.get();
        }
        scene.check();
    }
    scene.drain();
}

#[test]
fn a_steady_flow_uses_the_same_two_segments() {
    let mut scene = Scene::new(400);
    for _ in 0..1000 {
        scene.put(&[3]).expect("room");
        assert!(scene.get());
    }
    assert!(scene.toy.real_segments() <= 2, "{}", scene.toy.real_segments());
}

#[test]
fn after_a_flood_the_memory_is_given_back_and_a_steady_flow_stays_warm() {
    let mut scene = Scene::new(400);
    (0..300).for_each(|_| scene.put(&[7]).expect("room"));
    assert!(scene.toy.real_segments() >= 300);
    scene.drain();
    assert!(
        scene.toy.real_segments() <= KEEP_RESERVED as usize + 2,
        "{}",
        scene.toy.real_segments()
    );
    for _ in 0..100 {
        scene.put(&[7]).expect("room");
        scene.get();
    }
    let before = scene.shared.count.load(Ordering::Relaxed);
    (0..300).for_each(|_| scene.put(&[7]).expect("room"));
    scene.drain();
    assert!(scene.shared.count.load(Ordering::Relaxed) <= before + 16, "numbers are used again");
}

#[test]
fn full_is_an_error_that_changes_nothing() {
    let mut scene = Scene::new(5);
    let put = (0..).take_while(|_| scene.put(&[7]).is_ok()).count();
    assert_eq!(put, 5);
    assert!(scene.put(&[1, 1, 7, 7]).is_err());
    scene.check();
    assert!(scene.get() && scene.get());
    scene.put(&[7]).expect("room again");
    scene.drain();
}

#[test]
fn growth_is_asked_for() {
    let mut scene = Scene::new(100);
    scene.toy.most.set(3);
    let error = (0..).find_map(|_| scene.put(&[7]).err()).expect("not for ever");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    scene.toy.most.set(6);
    scene.put(&[7]).expect("now it may");
    scene.drain();
}

#[test]
fn numbers_go_round() {
    let mut scene = Scene::new(50);
    let nearly = Position { number: u32::MAX - 2, at: 0 };
    scene.ring().commit_put(nearly);
    scene.ring().commit_get(nearly);
    for _ in 0..4 {
        scene.put(&[2, 2]).expect("room");
        scene.check();
    }
    scene.drain();
}

/// At every step of every operation, in many states of the ring: killed there, killed again at
/// every step of what the next one does, and nothing is lost, doubled or torn.
#[test]
#[cfg_attr(miri, ignore = "it would take hours")]
fn killed_at_any_step_it_has_done_all_or_nothing() {
    let mut deaths = 0;
    for seed in 0..150_u32 {
        let warmup = u64::from(seed) * 77 + 1;
        for (first, second) in (0..12).flat_map(|first| (0..12).map(move |second| (first, second)))
        {
            let mut scene = Scene::new(60);
            let mut state = warmup;
            (0..seed % 40).for_each(|_| scene.put(&[1 + noise(&mut state) % 7]).expect("room"));
            (0..noise(&mut state) % 40).for_each(|_| _ = scene.get());
            for step in [first, second] {
                let sizes: Vec<_> = (0..5).map(|_| 1 + noise(&mut state) % 7).collect();
                let before = scene.inside.clone();
                let put = noise(&mut state) % 2 == 0;
                let died = scene.killed_at(step, |scene| {
                    if put {
                        scene.put(&sizes).expect("room");
                    } else {
                        scene.get();
                    }
                });
                deaths += u32::from(died);
                assert!(!died || scene.inside == before);
                scene.check();
            }
            (0..30).for_each(|_| scene.put(&[1 + noise(&mut state) % 7]).expect("room"));
            scene.drain();
            // What deaths have left behind is found again when numbers run out.
            while scene.put(&[7]).is_ok() {}
            assert!(scene.inside.len() >= 58, "{} of 60 segments", scene.inside.len());
            scene.drain();
        }
    }
    println!("{deaths} deaths");
    assert!(deaths > 1000);
}
