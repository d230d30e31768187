//! When a wait gives up, and how long it sleeps at most before it looks again.

use std::time::{Duration, Instant};

/// No waiter sleeps longer without looking: a waker may have died before it woke us.
pub const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A timeout beyond this is as good as none.
const AGES: Duration = Duration::from_secs(1 << 31);

/// When a wait gives up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Option<Instant>,
}

impl Deadline {
    pub fn never() -> Self {
        Self { at: None }
    }

    /// For an attempt that does not wait.
    pub fn immediate() -> Self {
        Self::after(0.0)
    }

    /// So many seconds from now; at once if they are negative.
    pub fn after(seconds: f64) -> Self {
        let limit = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(AGES).min(AGES);
        Self { at: Some(Instant::now() + limit) }
    }

    /// The same deadline, but not before so long from now.
    pub fn at_least(&self, grace: Duration) -> Self {
        let soonest = Instant::now() + grace;
        Self { at: self.at.map(|at| at.max(soonest)) }
    }

    /// The same deadline, but not later than so long from now.
    pub fn at_most(&self, limit: Duration) -> Self {
        let latest = Instant::now() + limit;
        Self { at: Some(self.at.map_or(latest, |at| at.min(latest))) }
    }

    pub fn is_never(&self) -> bool {
        self.at.is_none()
    }

    pub fn is_over(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    pub fn left(&self) -> Duration {
        self.at.map_or(AGES, |at| at.saturating_duration_since(Instant::now()))
    }
}
