//! The better of two: what the power of two choices leaves to decide (Mitzenmacher, 1996).

use super::{Asked, FAILURE_COST};
use std::time::Instant;

/// The one with fewer requests under way for its weight; of equals the first, so that idle endpoints are picked by weight.
pub(super) fn least_request((first, second): (u16, u16), asked: &Asked<'_>) -> u16 {
    let load = |index: u16| u64::from(asked.figures[usize::from(index)].in_flight());
    let weight = |index: u16| u64::from(asked.members[usize::from(index)].weight);
    if load(first) * weight(second) <= load(second) * weight(first) { first } else { second }
}

/// The one that a request is likely to wait less at: its latency for each request under way and this one. A heavier endpoint bears more.
pub(super) fn peak_ewma((first, second): (u16, u16), mean: f64, now: Instant, asked: &Asked<'_>) -> u16 {
    let cost = |index: u16| {
        let figures = &asked.figures[usize::from(index)];
        let load = f64::from(figures.in_flight()) * mean / f64::from(asked.members[usize::from(index)].weight);
        let latency = figures.latency(now);
        // An endpoint of which nothing is known is tried, by one request and not by all of them.
        let latency = if latency < 1.0 && load > 0.0 { FAILURE_COST.as_nanos() as f64 } else { latency };
        latency * (load + 1.0)
    };
    if cost(first) <= cost(second) { first } else { second }
}
