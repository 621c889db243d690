//! What all workers know of one upstream together. It outlives reloads, known by the upstream's name; limits are no part of it, so
//! that a reload may change them without forgetting what is counted.

use super::breaker::Breaker;
use maitred_core::Clock;
use maitred_core::percentile::Percentiles;
use maitred_core::queue::Gate;
use maitred_core::retry::Budget;
use maitred_model::Concurrency;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

#[derive(Debug)]
pub struct UpstreamShared {
    /// What retries and hedges may cost.
    pub budget: Budget,
    /// How long answers take, where hedges go by that.
    pub answers: Percentiles,
    pub breaker: Breaker,
    /// So few endpoints are usable that all are used, as far as it has been told.
    panics: AtomicBool,
    /// Where a limit of requests in flight stands, or stood.
    gate: OnceLock<Arc<Gate>>,
}

impl UpstreamShared {
    pub fn new(now: Instant) -> UpstreamShared {
        UpstreamShared {
            budget: Budget::default(),
            answers: Percentiles::new(now),
            breaker: Breaker::default(),
            panics: AtomicBool::new(false),
            gate: OnceLock::new(),
        }
    }

    /// Whether that is news: of many workers, one tells it.
    pub(super) fn is_news(&self, panics: bool) -> bool {
        self.panics.load(Relaxed) != panics && self.panics.swap(panics, Relaxed) != panics
    }

    /// The way in, where there is a limit. One that is known keeps its own until it is told otherwise: a configuration that is compiled need
    /// not become the live one.
    pub fn gate(&self, concurrency: &Concurrency, clock: &Clock) -> Arc<Gate> {
        self.gate.get_or_init(|| Arc::new(Gate::new(concurrency, clock.clone()))).clone()
    }

    /// There is no limit any more.
    pub(super) fn open_gate(&self, now: Instant) {
        if let Some(gate) = self.gate.get() {
            gate.open(now);
        }
    }
}
