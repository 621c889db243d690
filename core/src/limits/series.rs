//! What limits said, for `/metrics` and `GET /limits`: each worker counts for itself. Known by what a limit is, so that it outlives reloads.

use super::top::TopKeys;
use crate::limit_table::Verdict;
use crate::metrics::Counter;
use maitred_model::RateLimit;
use std::sync::Arc;

/// What a limit said, as it is labelled.
pub const ANSWERS: [&str; 3] = ["allowed", "delayed", "limited"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    Allowed,
    /// It came in after a while.
    Delayed,
    Limited,
}

/// Which limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName {
    /// Empty: of all APIs, as a plan's may be.
    pub api: Arc<str>,
    /// Empty: of all routes.
    pub route: Arc<str>,
    /// `api`, `route-2`, `plan:gold`.
    pub limit: Arc<str>,
}

/// One worker's counts. Aligned so that workers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([Counter; ANSWERS.len()]);

/// What one consumer may still take of a limit of its plan.
#[derive(Debug, Clone)]
pub struct RateLeft {
    pub name: LimitName,
    pub burst: u32,
    pub verdict: Verdict,
}

/// A limit that is live, for lists.
#[derive(Debug, Clone)]
pub struct LimitView {
    pub series: Arc<LimitSeries>,
    pub limit: RateLimit,
}

#[derive(Debug)]
pub struct LimitSeries {
    pub name: LimitName,
    shards: Box<[Shard]>,
    /// Whom it refused most often.
    pub top: TopKeys,
}

impl LimitSeries {
    pub fn new(name: LimitName, workers: usize) -> LimitSeries {
        LimitSeries { name, shards: (0..workers).map(|_| Shard::default()).collect(), top: TopKeys::default() }
    }

    /// Called by that worker, and no other.
    #[inline]
    pub fn count(&self, worker: usize, answered: Answered) {
        if let Some(shard) = self.shards.get(worker) {
            shard.0[answered as usize].add(1);
        }
    }

    /// In the order of `ANSWERS`.
    pub fn counts(&self) -> [u64; ANSWERS.len()] {
        std::array::from_fn(|at| self.shards.iter().fold(0u64, |sum, shard| sum.wrapping_add(shard.0[at].get())))
    }
}
