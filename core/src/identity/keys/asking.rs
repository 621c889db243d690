//! Something that the control side brings and requests may want anew: who asks for it, how often, and who hears of it. Knows not what it is.

use super::Bell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two times that requests asked for it: whoever invents names of keys cannot have the issuer asked more often, and a refusal by AWS for
/// every request is no reason to ask STS for every request.
pub const COOLDOWN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Asking {
    born: Instant,
    /// From when on a request may ask, in nanoseconds after `born`.
    from: AtomicU64,
    under_way: AtomicBool,
    wanted: Arc<Bell>,
    over: Bell,
}

impl Asking {
    pub fn new(now: Instant) -> Asking {
        Asking {
            born: now,
            from: AtomicU64::new(0),
            under_way: AtomicBool::new(false),
            wanted: Arc::default(),
            over: Bell::default(),
        }
    }

    /// Rings when a request wants what is not there.
    pub fn wanted(&self) -> &Arc<Bell> {
        &self.wanted
    }

    /// Rings when it was asked for, however that went.
    pub fn over(&self) -> &Bell {
        &self.over
    }

    /// A request wants what is not there. Whether something is under way that may bring it.
    pub fn ask(&self, now: Instant) -> bool {
        if self.is_under_way() {
            return true;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.born));
        let from = self.from.load(Ordering::Relaxed);
        let next = now.saturating_add(nanos(COOLDOWN));
        let is_first = now >= from && self.from.compare_exchange(from, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if is_first {
            self.begin();
            self.wanted.ring();
        }
        // Of many at one moment one has asked, and the others wait with it.
        is_first || self.is_under_way()
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }

    /// It is being asked for, wanted or not.
    pub fn begin(&self) {
        self.under_way.store(true, Ordering::Release);
    }

    /// What came of it, if anything, is in its place.
    pub fn end(&self) {
        self.under_way.store(false, Ordering::Release);
        self.over.ring();
    }
}
