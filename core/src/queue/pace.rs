//! How fast the line moves, for those who ask when to come again.

use std::time::{Duration, Instant};

/// A rate is of the last whole period, or of this one if it has lasted long enough to tell.
const PERIOD: Duration = Duration::from_secs(1);
const TELLS_AFTER: Duration = Duration::from_millis(200);
const SERVED_TELL: u32 = 10;
/// Nobody is told to wait longer: by then much is different.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT_MIN: Duration = Duration::from_secs(1);

pub(super) struct Pace {
    since: Instant,
    served: u32,
    /// Of the last period, each second.
    last: f64,
}

impl Pace {
    pub fn new(now: Instant) -> Pace {
        Pace { since: now, served: 0, last: 0.0 }
    }

    /// Nobody waited; from now on somebody does.
    pub fn begin(&mut self, now: Instant) {
        (self.since, self.served) = (now, 0);
    }

    pub fn served(&mut self, now: Instant) {
        self.served += 1;
        let age = now.saturating_duration_since(self.since);
        if age >= PERIOD {
            self.last = f64::from(self.served) / age.as_secs_f64();
            self.begin(now);
        }
    }

    /// When a line of so many will be served, from a second to a minute.
    pub fn until_served(&self, waiting: u32, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.since);
        let tells = self.last == 0.0 || (age >= TELLS_AFTER && self.served >= SERVED_TELL);
        let rate = if tells { f64::from(self.served) / age.max(TELLS_AFTER).as_secs_f64() } else { self.last };
        if rate > 0.0 {
            Duration::from_secs_f64((f64::from(waiting) / rate).min(WAIT_MAX.as_secs_f64())).max(WAIT_MIN)
        } else {
            WAIT_MIN
        }
    }
}
