//! How long an upstream's recent answers took, as a histogram that forgets: four buckets to each doubling, halved every ten seconds.
//! Workers write without order; a sample that is lost to another worker's costs nothing but itself.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The first bucket ends here, in microseconds.
const FIRST: u64 = 64;
/// Buckets to each doubling: a bucket's end is at most 1/4 above its beginning.
const PARTS: usize = 4;
/// 64 µs · 2^21 = 134 s: nothing that is hedged takes longer.
const BUCKETS: usize = 1 + 21 * PARTS;
/// All counts are halved after so long.
const HALVED_EVERY: Duration = Duration::from_secs(10);
/// Of fewer answers nothing is said.
const SAMPLES_MIN: u64 = 20;

#[derive(Debug)]
pub struct Percentiles {
    counts: [AtomicU32; BUCKETS],
    since: Instant,
    /// How often counts were to be halved.
    halvings: AtomicU64,
}

impl Percentiles {
    pub fn new(now: Instant) -> Percentiles {
        Percentiles { counts: std::array::from_fn(|_| AtomicU32::new(0)), since: now, halvings: AtomicU64::new(0) }
    }

    pub fn record(&self, took: Duration, now: Instant) {
        self.forget(now);
        self.counts[bucket(took)].fetch_add(1, Relaxed);
    }

    /// The time in which so many of a thousand recent answers came: the end of its bucket. `None` while too few came at all.
    pub fn at(&self, per_mille: u16, now: Instant) -> Option<Duration> {
        self.forget(now);
        let counts = self.counts.each_ref().map(|count| u64::from(count.load(Relaxed)));
        let total: u64 = counts.iter().sum();
        let wanted = (total * u64::from(per_mille)).div_ceil(1000).max(1);
        let mut below = 0;
        let reaches = |count: &u64| {
            below += count;
            below >= wanted
        };
        let found = counts.iter().position(reaches)?;
        (total >= SAMPLES_MIN).then(|| end_of(found))
    }

    /// Halves the counts where it is time, once for all workers.
    fn forget(&self, now: Instant) {
        let due = now.saturating_duration_since(self.since).as_secs() / HALVED_EVERY.as_secs();
        let done = self.halvings.load(Relaxed);
        if due <= done || self.halvings.compare_exchange(done, due, Relaxed, Relaxed).is_err() {
            return;
        }
        let times = (due - done).min(31) as u32;
        self.counts.iter().for_each(|count| count.store(count.load(Relaxed) >> times, Relaxed));
    }
}

/// Where a time is counted: the first bucket whose end it does not exceed.
fn bucket(took: Duration) -> usize {
    let micros = took.as_micros().min(u128::from(u64::MAX)) as u64;
    if micros <= FIRST {
        return 0;
    }
    let doubling = ((micros - 1) / FIRST).ilog2() as usize;
    let (start, part) = (FIRST << doubling, (FIRST << doubling) / PARTS as u64);
    (1 + doubling * PARTS + ((micros - 1 - start) / part) as usize).min(BUCKETS - 1)
}

fn end_of(bucket: usize) -> Duration {
    let Some(index) = bucket.checked_sub(1) else { return Duration::from_micros(FIRST) };
    let start = FIRST << (index / PARTS);
    Duration::from_micros(start + start / PARTS as u64 * (index % PARTS + 1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chance;

    #[test]
    fn every_time_has_a_bucket_that_ends_at_most_a_quarter_later() {
        for exponent in 0..1000 {
            let micros = (1.02f64.powi(exponent) as u64).min(134_000_000);
            let took = Duration::from_micros(micros);
            let end = end_of(bucket(took));
            assert!(end >= took, "{took:?} in a bucket that ends at {end:?}");
            assert!(end <= took + took / 4 + Duration::from_micros(FIRST), "{took:?} in a bucket that ends at {end:?}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_percentile_is_right_within_a_bucket() {
        let (now, chance) = (Instant::now(), Chance::seeded(3));
        let percentiles = Percentiles::new(now);
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..10_000 {
            // Many short ones, a long tail.
            let took = Duration::from_micros(500 + (2f64.powf(chance.below(1000) as f64 / 70.0) * 10.0) as u64);
            percentiles.record(took, now);
            times.push(took);
        }
        times.sort_unstable();
        for per_mille in [1, 500, 900, 950, 990, 999, 1000] {
            let exact = times[(10 * usize::from(per_mille)).saturating_sub(1)];
            let told = percentiles.at(per_mille, now).unwrap();
            assert!(told >= exact && told <= exact + exact / 4, "p{per_mille}: {told:?}, exactly {exact:?}");
        }
    }

    #[test]
    fn few_answers_say_nothing_and_old_ones_are_forgotten() {
        let start = Instant::now();
        let percentiles = Percentiles::new(start);
        (1..SAMPLES_MIN).for_each(|_| percentiles.record(Duration::from_millis(1), start));
        assert_eq!(percentiles.at(950, start), None);
        (0..1000).for_each(|_| percentiles.record(Duration::from_millis(1), start));
        assert!(percentiles.at(950, start).unwrap() < Duration::from_micros(1300));
        let later = start + Duration::from_secs(60);
        (0..200).for_each(|_| percentiles.record(Duration::from_millis(100), later));
        assert!(percentiles.at(500, later).unwrap() >= Duration::from_millis(100), "the back end has become slow");
        assert_eq!(percentiles.at(950, later + Duration::from_secs(3600)), None, "an hour ago is long ago");
    }
}
