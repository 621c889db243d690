//! What all workers know of one upstream together. It outlives reloads, known by the upstream's name; limits are no part of it, so
//! that a reload may change them without forgetting what is counted.

use super::breaker::Breaker;
use maitred_core::percentile::Percentiles;
use maitred_core::retry::Budget;
use std::time::Instant;

#[derive(Debug)]
pub struct UpstreamShared {
    /// What retries and hedges may cost.
    pub budget: Budget,
    /// How long answers take, where hedges go by that.
    pub answers: Percentiles,
    pub breaker: Breaker,
}

impl UpstreamShared {
    pub fn new(now: Instant) -> UpstreamShared {
        UpstreamShared { budget: Budget::default(), answers: Percentiles::new(now), breaker: Breaker::default() }
    }
}
