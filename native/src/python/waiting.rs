//! What all waits have in common: how long, in which slices, for which thread.

use crate::segment::generation;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Nobody sleeps longer without looking: a waker may have died before it woke us.
pub const SLICE: Duration = Duration::from_millis(100);
/// A timeout beyond this is as good as none.
const AGES: Duration = Duration::from_secs(1 << 31);

/// Until when somebody waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    until: Option<Instant>,
}

impl Patience {
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
    pub fn of(block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
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
        Self::of(true, timeout)
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
