//! What all waits have in common: how long, in which slices, for which thread.

use super::finalizing::without_gil;
use crate::owners::registry::OwnerRegistry;
use crate::owners::wait_graph::{cycle, Wait, WaitShared};
use crate::shm::arena::SharedBlock;
use crate::shm::segment::generation;
use crate::sys::futex::{self, Woken};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nobody sleeps longer without looking: a waker may have died before it woke us.
pub const SLICE: Duration = Duration::from_millis(100);
/// A timeout beyond this is as good as none.
const AGES: Duration = Duration::from_secs(1 << 31);

/// A flag that may be any object, as in `if flag:`.
pub struct AnyBool(pub bool);

impl<'py> FromPyObject<'_, 'py> for AnyBool {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// Until when somebody waits.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    until: Option<Instant>,
}

impl Deadline {
    pub fn endless() -> Self {
        Self { until: None }
    }

    pub fn none() -> Self {
        Self::of_seconds(0.0)
    }

    fn of_seconds(seconds: f64) -> Self {
        let limit = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(AGES).min(AGES);
        Self { until: Some(Instant::now() + limit) }
    }

    /// As the standard library reads `block` and `timeout`.
    pub fn of(AnyBool(block): AnyBool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(timeout) = timeout else {
            return Ok(if block { Self::endless() } else { Self::none() });
        };
        let seconds: f64 = timeout.extract()?;
        if seconds.is_nan() {
            return Err(PyValueError::new_err("timeout is not a number (nan)"));
        }
        Ok(if block { Self::of_seconds(seconds) } else { Self::none() })
    }

    /// As above, where there is no `block`.
    pub fn of_timeout(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::of(AnyBool(true), timeout)
    }

    /// The same, but not before so long from now.
    pub fn at_least(&self, grace: Duration) -> Self {
        let soonest = Instant::now() + grace;
        Self { until: self.until.map(|until| until.max(soonest)) }
    }

    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    pub fn left(&self) -> Duration {
        self.until.map_or(AGES, |until| until.saturating_duration_since(Instant::now()))
    }
}

/// The calling thread's number, as the kernel counts them.
#[inline]
pub fn thread() -> u32 {
    thread_local!(static NUMBER: Cell<(u64, u32)> = const { Cell::new((0, 0)) });
    NUMBER.with(|cell| {
        let (of, number) = cell.get();
        if number != 0 && of == generation() {
            return number;
        }
        // SAFETY: cannot fail.
        let number = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
        cell.set((generation(), number));
        number
    })
}

/// What somebody waits for, as it is shown to others.
#[derive(Debug, Clone, Copy)]
pub struct WaitTarget {
    pub kind: u32,
    /// Tells this object from others.
    pub object: u64,
    /// Whether its waits look for deadlocks.
    pub detects: bool,
}

impl WaitTarget {
    pub const LOCK: u32 = 0;
    pub const RLOCK: u32 = 1;
    pub const SEMAPHORE: u32 = 2;
    pub const BOUNDED_SEMAPHORE: u32 = 3;
    pub const CONDITION: u32 = 4;
    pub const EVENT: u32 = 5;
    pub const BARRIER: u32 = 6;

    pub fn at(kind: u32, spot: &SharedBlock, offset: usize) -> Self {
        let object = spot.chunk.id[0] ^ (spot.offset + offset) as u64;
        Self { kind, object, detects: false }
    }
}

/// What is asked often and answered at length, is answered every so often only.
#[derive(Debug, Default)]
pub struct RateLimit(AtomicU64);

impl RateLimit {
    const EVERY: u64 = 50_000_000;

    pub fn may(&self) -> bool {
        let (now, last) = (crate::sys::clock::coarse_now(), self.0.load(Ordering::Relaxed));
        let may = now >= last + Self::EVERY;
        if may {
            self.0.store(now, Ordering::Relaxed);
        }
        may
    }
}

/// One wait, from slice to slice.
pub struct WaitSession {
    registry: &'static OwnerRegistry,
    subject: WaitTarget,
    deaths: u32,
    since: u64,
    row: Option<&'static WaitShared>,
    /// The cycle that was there one slice ago.
    suspected: Vec<Wait>,
    generation: u64,
}

impl WaitSession {
    pub fn new(registry: &'static OwnerRegistry, subject: WaitTarget) -> Self {
        let deaths = registry.deaths().load(Ordering::Acquire);
        let generation = generation();
        Self { registry, subject, deaths, since: 0, row: None, suspected: Vec::new(), generation }
    }

    /// Sleep on a word until it changes, somebody dies, or the slice is over. True if it is time to
    /// see whether those one waits for still live.
    pub fn sleep(
        &mut self,
        py: Python<'_>,
        word: &AtomicU32,
        seen: u32,
        holder: (u32, u32),
        patience: &Deadline,
    ) -> PyResult<bool> {
        if self.since == 0 {
            self.since = crate::sys::clock::now();
        }
        py.check_signals()?;
        let limit = patience.left().min(SLICE);
        let bell = (self.registry.deaths(), self.deaths);
        let woken = without_gil(py, || futex::wait_either((word, seen), bell, limit));
        let rung = self.registry.deaths().load(Ordering::Acquire);
        let judge = woken == Woken::TimedOut || rung != self.deaths;
        self.deaths = rung;
        // Not only when interrupted: a signal that came just before the system call, or to another
        // thread, interrupts nothing; the end of the slice shows it.
        if let Err(error) = py.check_signals() {
            if woken == Woken::Changed {
                // The call was for one of those who sleep, and this one will not follow it.
                futex::wake(word, 1);
            }
            return Err(error);
        }
        if self.generation != generation() {
            // A signal handler has forked, and this is the child: what is waited for is not its own.
            return Err(PyRuntimeError::new_err(
                "forked by a signal handler in the middle of a wait",
            ));
        }
        if woken == Woken::TimedOut {
            self.show(py, holder, patience);
            if self.subject.detects {
                self.look_for_deadlock(py)?;
            }
        }
        Ok(judge)
    }

    fn show(&mut self, py: Python<'_>, holder: (u32, u32), patience: &Deadline) {
        if let Some(row) = self.row {
            row.set_holder(holder);
            return;
        }
        let Some(row) = self.registry.take_row() else { return };
        self.row = Some(row);
        row.write(&Wait {
            agent: row.agent.load(Ordering::Relaxed),
            thread: thread(),
            kind: self.subject.kind,
            endless: patience.until.is_none(),
            holder,
            object: self.subject.object,
            since: self.since,
            held: super::lock::held_here(),
            site: site(py).unwrap_or_default(),
        });
    }

    /// Raise if one waits in a cycle that was there a slice ago, and is the one to do it: of all
    /// its members the one with the highest number.
    fn look_for_deadlock(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(row) = self.row else { return Ok(()) };
        let waits = self.registry.waits();
        let me = (row.agent.load(Ordering::Relaxed), thread());
        let found = cycle(&waits, me.0, me.1).unwrap_or_default();
        let found: Vec<Wait> = found.into_iter().cloned().collect();
        let lasting = !found.is_empty() && found == self.suspected;
        self.suspected = found;
        let highest = self.suspected.iter().map(|wait| (wait.agent, wait.thread)).max();
        if lasting && highest == Some(me) {
            let members: Vec<_> =
                self.suspected.iter().map(|wait| shown(self.registry, wait)).collect();
            py.import("garrison.sync._introspection")?
                .getattr("raise_deadlock")?
                .call1((members,))?;
        }
        Ok(())
    }
}

impl Drop for WaitSession {
    fn drop(&mut self) {
        if let Some(row) = self.row.filter(|_| self.generation == generation()) {
            row.clear();
        }
    }
}

/// "file.py:12 in function" of the Python code that waits.
pub fn site(py: Python<'_>) -> PyResult<String> {
    let frame = py.import("sys")?.getattr("_getframe")?.call0()?;
    let code = frame.getattr("f_code")?;
    let file: String = code.getattr("co_filename")?.extract()?;
    let line: usize = frame.getattr("f_lineno")?.extract()?;
    let name: String = code.getattr("co_name")?.extract()?;
    Ok(format!("{file}:{line} in {name}"))
}

/// (pid, thread, kind, object, seconds, pid of the holder, its thread, where)
type Shown = (u32, u32, u32, u64, f64, u32, u32, String);

fn shown(registry: &OwnerRegistry, wait: &Wait) -> Shown {
    let pid = |agent| registry.identity(agent).map_or(0, |identity| identity.pid);
    let waited =
        Duration::from_nanos(crate::sys::clock::now().saturating_sub(wait.since)).as_secs_f64();
    let (holder, thread) = wait.holder;
    let site = wait.site.clone();
    (pid(wait.agent), wait.thread, wait.kind, wait.object, waited, pid(holder), thread, site)
}

/// All waits of this process's family that have lasted for 100 ms.
#[pyfunction]
pub fn waits() -> PyResult<Vec<Shown>> {
    let registry = OwnerRegistry::home()
        .map_err(|error| super::memory_error(&error, "a registry of processes"))?;
    Ok(registry.waits().iter().map(|wait| shown(registry, wait)).collect())
}
