//! first probe
use super::*;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::collections::VecDeque;

struct Futex { queue: Mutex<(u32, VecDeque<u32>)>, changed: Condvar }
impl Futex {
    fn new() -> Self { Self { queue: Mutex::new((0, VecDeque::new())), changed: Condvar::new() } }
    fn wait(&self, word: &AtomicU32, expected: u32) {
        let mut queue = self.queue.lock().unwrap();
        if word.load(Ordering::Acquire) != expected { return; }
        let me = queue.0; queue.0 += 1; queue.1.push_back(me);
        while queue.1.contains(&me) { queue = self.changed.wait(queue).unwrap(); }
    }
    fn wake(&self, count: usize) -> i32 {
        let mut queue = self.queue.lock().unwrap();
        let n = count.min(queue.1.len());
        queue.1.drain(..n);
        self.changed.notify_all();
        n as i32
    }
}
struct World { shared: [RingShared; 2], entries: [Vec<AtomicU32>; 2], cells: Vec<AtomicU64>, bell: BellShared, futex: Futex }
impl World {
    fn new() -> Arc<Self> {
        let entries = || (0..4).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { shared: [RingShared::new(), RingShared::new()], entries: [entries(), entries()],
            cells: (0..3).map(|_| AtomicU64::new(0)).collect(), bell: BellShared::new(), futex: Futex::new() })
    }
    fn ring(&self, n: u32) -> Ring<'_> { Ring { number: n, shared: &self.shared[n as usize], entries: &self.entries[n as usize] } }
    fn waiting(&self) -> u64 { self.shared.iter().map(RingShared::len).sum() }
    fn has_work(&self) -> bool { self.shared.iter().any(|r| !r.is_empty()) }
    fn claim(&self, who: u32) -> Option<(u32, State)> {
        let s = |c: u32| &self.cells[c as usize];
        let f = self.ring(RETRY).claim(who, s);
        f.or_else(|| self.ring(MAIN).claim(who, s))
    }
    fn publish(&self, ring: u32, cell: u32) { self.ring(ring).push(cell, &self.cells[cell as usize]); self.ring_bell(); }
    fn ring_bell(&self) {
        let enough = self.waiting() <= 1;
        if self.bell.must_ring(enough) { self.bell.rung(self.futex.wake(1)); }
    }
    fn work(&self, who: u32) -> u32 {
        loop {
            if let Some((c, _)) = self.claim(who) { if self.has_work() { self.ring_bell(); } return c; }
            let count = self.bell.prepare();
            if self.has_work() { continue; }
            self.futex.wait(&self.bell.count, count);
        }
    }
}
#[test]
fn two_producers() {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = Some(2);
    b.check(|| {
        let w = World::new();
        let t: Vec<_> = (1..3).map(|who| { let w = w.clone(); thread::spawn(move || w.work(who)) }).collect();
        let w2 = w.clone();
        let p = thread::spawn(move || w2.publish(RETRY, 0));
        w.publish(MAIN, 1);
        p.join().unwrap();
        let mut got: Vec<_> = t.into_iter().map(|t| t.join().unwrap()).collect();
        got.sort();
        assert_eq!(got, [0, 1]);
    });
}
