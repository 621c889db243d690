//! Second tries, as far as they are arithmetic: what they may cost an upstream, and how long to wait before one. Which requests may be
//! repeated is not decided here.

#[cfg(test)]
mod tests;

use crate::Chance;
use maitred_model::Share;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A retry costs so much: a share is counted in parts of it.
const RETRY: u64 = Share::ALL.ppm() as u64;

/// Retries paid in advance, so that an upstream of few requests has some too.
pub const RESERVE: u64 = 10;

/// Most retries that are saved up: a quiet hour must not pay for a storm.
pub const SAVED_MAX: u64 = 50;

/// What an upstream's retries may cost, over all workers: each request pays its share in, each retry takes a whole one out. From the
/// start on there are never more than `RESERVE` + share × requests.
#[derive(Debug)]
pub struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicU64::new(RESERVE * RETRY))
    }
}

impl Budget {
    /// A request pays in. Where all goes well the budget is full, and this one load.
    pub fn deposit(&self, share: Share) {
        let paid = u64::from(share.ppm());
        let add = |saved: u64| (saved < SAVED_MAX * RETRY).then(|| (saved + paid).min(SAVED_MAX * RETRY));
        let _ = self.0.fetch_update(Relaxed, Relaxed, add);
    }

    /// Takes a retry out, if there is one.
    pub fn withdraw(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(RETRY)).is_ok()
    }

    /// Whole retries that could be made now.
    pub fn left(&self) -> u64 {
        self.0.load(Relaxed) / RETRY
    }
}

/// How long to wait before the n-th retry, from 0: anything from nothing to twice `mean`·2^n ("full jitter", as AWS has it), at most
/// `longest`.
pub fn backoff(mean: Duration, longest: Duration, retry: u32, chance: &Chance) -> Duration {
    let most = mean.saturating_mul(2u32.saturating_pow(retry.saturating_add(1))).min(longest);
    Duration::from_nanos(chance.below(most.as_nanos() as usize + 1) as u64)
}
