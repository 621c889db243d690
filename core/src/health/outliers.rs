//! Which endpoints are left alone for a while by what requests saw of them: failures in a row over all workers, or too few successes in
//! an interval. Who comes back, comes back by time alone.

use crate::balance::Figures;
use maitred_model::OutlierDetection;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    pub time: Duration,
    pub cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// So many failures in a row.
    Failures(u32),
    /// So many of so many requests failed in an interval.
    Share { failures: u64, requests: u64 },
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Failures(count) => write!(f, "{count} failures in a row"),
            Cause::Share { failures, requests } => write!(f, "{failures} of {requests} requests failed"),
        }
    }
}

/// Takes in how an attempt at one of the endpoints went. `Some`: that was once too often. `count`: how many of them have turns; those who
/// stand behind others do not count. `back` is told of those whose time was over.
pub fn attempted(
    rules: &OutlierDetection,
    (endpoints, count): (&[Arc<Figures>], usize),
    (index, has_failed): (usize, bool),
    now: Instant,
    mut back: impl FnMut(usize),
) -> Option<Ejection> {
    let figures = &endpoints[index];
    if has_failed && figures.let_in(now) {
        back(index);
    }
    let streak = figures.count(has_failed);
    let cause = if has_failed && streak >= rules.consecutive_failures.get() {
        Cause::Failures(streak)
    } else {
        too_few(rules, figures, now)?
    };
    // They make place, whether or not anyone has looked since.
    let_in(endpoints, now).for_each(back);
    let time = figures.standing.eject(rules, (endpoints, count), now)?;
    Some(Ejection { time, cause })
}

/// Whether an interval has just ended in which too few requests went well.
fn too_few(rules: &OutlierDetection, figures: &Figures, now: Instant) -> Option<Cause> {
    let wanted = rules.success_rate?;
    let [requests, failures] = figures.standing.interval(rules.interval, [figures.requests(), figures.failures()], now)?;
    let is_short = u128::from(requests - failures.min(requests)) * 1_000_000 < u128::from(requests) * u128::from(wanted.ppm());
    (requests >= u64::from(rules.min_requests.get()) && is_short).then_some(Cause::Share { failures, requests })
}

/// Those whose time was over, and nobody had noticed.
pub(crate) fn let_in(endpoints: &[Arc<Figures>], now: Instant) -> impl Iterator<Item = usize> {
    endpoints.iter().enumerate().filter(move |(_, figures)| figures.let_in(now)).map(|(index, _)| index)
}
