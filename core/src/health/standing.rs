//! How one endpoint is: rarely written, read where picks are made ready.

use crate::balance::Changes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What an endpoint is to picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    Healthy,
    /// By active checks.
    Unhealthy,
    /// Left alone for a while, by what requests saw of it.
    Ejected,
    /// Taken out by hand.
    Drained,
}

impl EndpointState {
    pub fn as_str(self) -> &'static str {
        match self {
            EndpointState::Healthy => "healthy",
            EndpointState::Unhealthy => "unhealthy",
            EndpointState::Ejected => "ejected",
            EndpointState::Drained => "drained",
        }
    }
}

/// Times are in nanoseconds from `since`.
#[derive(Debug)]
#[repr(align(64))]
pub struct Standing {
    since: Instant,
    changes: Arc<Changes>,
    unhealthy: AtomicBool,
    drained: AtomicBool,
    /// 0: it is not.
    ejected_until: AtomicU64,
    /// Ejections that count for how long the next one is.
    held_against: AtomicU32,
    /// When the last ejection ended.
    returned: AtomicU64,
    ejections: AtomicU64,
    /// When it joined, or was well again; 0: it has its full weight.
    warm_from: AtomicU64,
}

impl Standing {
    pub(crate) fn new(changes: Arc<Changes>, now: Instant) -> Standing {
        Standing {
            since: now,
            changes,
            unhealthy: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            held_against: AtomicU32::new(0),
            returned: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            warm_from: AtomicU64::new(0),
        }
    }

    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_nanos() as u64
    }

    pub(crate) fn set_healthy(&self, is_healthy: bool, now: Instant) {
        if self.unhealthy.swap(!is_healthy, Relaxed) == is_healthy {
            if is_healthy {
                self.warm_up(now);
            }
            self.changes.bump();
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Relaxed)
    }

    pub(crate) fn set_drained(&self, is_drained: bool) {
        if self.drained.swap(is_drained, Relaxed) != is_drained {
            self.changes.bump();
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// Its weight grows from now on, where the upstream has a slow start.
    pub(crate) fn warm_up(&self, now: Instant) {
        self.warm_from.store(self.nanos(now).max(1), Relaxed);
    }

    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Duration> {
        let left = self.ejected_until.load(Relaxed).saturating_sub(self.nanos(now));
        (left > 0).then(|| Duration::from_nanos(left))
    }

    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    pub(crate) fn state(&self, now: Instant) -> EndpointState {
        if self.is_drained() {
            EndpointState::Drained
        } else if !self.is_healthy() {
            EndpointState::Unhealthy
        } else if self.ejected_until(now).is_some() {
            EndpointState::Ejected
        } else {
            EndpointState::Healthy
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if *self.ejected_until.get_mut() != 0 {
            self.changes.ejected.fetch_sub(1, Relaxed);
        }
    }
}
