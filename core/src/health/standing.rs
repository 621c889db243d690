//! How one endpoint is: rarely written, read where picks are made ready.

use crate::balance::{Changes, Figures};
use maitred_model::OutlierDetection;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
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

/// Of each kind of news an endpoint makes one line of the log in this time.
const QUIET: Duration = Duration::from_secs(1);

/// What the log is told of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Ejected,
    Returned,
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
    /// When its interval ends; 0: none has begun.
    interval_end: AtomicU64,
    /// Requests and failures when it began.
    seen: [AtomicU64; 2],
    /// Until when each kind of news is not told again.
    quiet_until: [AtomicU64; 2],
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
            interval_end: AtomicU64::new(0),
            seen: [AtomicU64::new(0), AtomicU64::new(0)],
            quiet_until: [AtomicU64::new(0), AtomicU64::new(0)],
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

    /// How long ago its weight began to grow; `None`: it has all of it.
    pub(crate) fn warm_for(&self, now: Instant) -> Option<Duration> {
        let from = self.warm_from.load(Relaxed);
        (from > 0).then(|| Duration::from_nanos(self.nanos(now).saturating_sub(from)))
    }

    /// Leaves it alone for a while, unless it is already, or as many of the endpoints are as may be of so many.
    pub(crate) fn eject(
        &self,
        rules: &OutlierDetection,
        (endpoints, count): (&[Arc<Figures>], usize),
        now: Instant,
    ) -> Option<Duration> {
        let most = (count as u64 * u64::from(rules.max_ejected.ppm()) / 1_000_000).max(1) as usize;
        // Those of the list alone: one that left it may go on for as long as a tunnel does.
        let is_full = || endpoints.iter().filter(|figures| figures.standing.is_out()).count() >= most;
        if self.is_out() || is_full() {
            return None;
        }
        let _turn = self.changes.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full() {
            return None;
        }
        let (at, first) = (self.nanos(now), rules.eject_for.as_nanos().max(1) as u64);
        // For each time that it would have been out the first time and was well, one ejection is forgotten.
        let well = at.saturating_sub(self.returned.load(Relaxed)) / first;
        let times = u64::from(self.held_against.load(Relaxed)).saturating_sub(well) + 1;
        let most = (rules.eject_max.as_nanos() as u64).max(first);
        let out = first.saturating_mul(times).min(most);
        self.ejected_until.compare_exchange(0, at.saturating_add(out), Relaxed, Relaxed).ok()?;
        // Beyond the longest time there is nothing to hold against it.
        self.held_against.store(times.min(most.div_ceil(first)) as u32, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        self.changes.bump();
        Some(Duration::from_nanos(out))
    }

    /// Ends an ejection whose time is over. True for the one who did.
    pub(crate) fn let_in(&self, now: Instant) -> bool {
        let until = self.ejected_until.load(Relaxed);
        if until == 0 || self.nanos(now) < until || self.ejected_until.compare_exchange(until, 0, Relaxed, Relaxed).is_err() {
            return false;
        }
        self.returned.store(until, Relaxed);
        self.interval_end.store(0, Relaxed);
        self.warm_up(now);
        self.changes.bump();
        true
    }

    /// Ejected, and not let in yet.
    fn is_out(&self) -> bool {
        self.ejected_until.load(Relaxed) != 0
    }

    /// What its requests and failures came to in an interval that is over; for one of those who ask.
    pub(crate) fn interval(&self, length: Duration, totals: [u64; 2], now: Instant) -> Option<[u64; 2]> {
        let (at, end) = (self.nanos(now), self.interval_end.load(Relaxed));
        if at < end || self.interval_end.compare_exchange(end, at + length.as_nanos() as u64, Relaxed, Relaxed).is_err() {
            return None;
        }
        let seen = [0, 1].map(|which| self.seen[which].swap(totals[which], Relaxed));
        (end > 0).then(|| [0, 1].map(|which: usize| totals[which].saturating_sub(seen[which])))
    }

    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Duration> {
        let left = self.ejected_until.load(Relaxed).saturating_sub(self.nanos(now));
        (left > 0).then(|| Duration::from_nanos(left))
    }

    pub(crate) fn may_tell(&self, news: News, now: Instant) -> bool {
        let (at, until) = (self.nanos(now), &self.quiet_until[news as usize]);
        let may = until.load(Relaxed) <= at;
        if may {
            until.store(at + QUIET.as_nanos() as u64, Relaxed);
        }
        may
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
