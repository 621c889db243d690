//! The only place that reads the time. A test turns the same clock by hand: its skew is added to the real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A handle on the process's clock; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    skew_nanos: Arc<AtomicU64>,
}

impl Clock {
    pub fn now(&self) -> Instant {
        let now = Instant::now();
        match self.skew_nanos.load(Ordering::Relaxed) {
            0 => now,
            skew => now + Duration::from_nanos(skew),
        }
    }

    /// Wall time, for dates and ids.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now() + Duration::from_nanos(self.skew_nanos.load(Ordering::Relaxed))
    }

    /// Turns the clock forward, in tests. Timers notice when their worker is told.
    pub fn turn(&self, by: Duration) {
        self.skew_nanos.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }
}
