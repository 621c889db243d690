//! Counters that cost an ordinary store: each worker writes its own, a reader sums them. Formats nothing; the admin side does.

use crate::fault::Kind;
use maitred_wire::Method;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A counter with one writer. `add` is a load and a store, no locked instruction; a reader may see it a moment late.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// For gauges.
    pub fn sub(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(by), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the histograms' buckets in microseconds: Prometheus' customary ones, and finer below.
pub const BUCKETS_MICROS: [u64; 15] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000];

#[derive(Debug, Default)]
pub struct Histogram {
    /// The last is above every bound.
    pub buckets: [Counter; BUCKETS_MICROS.len() + 1],
    pub sum_micros: Counter,
}

impl Histogram {
    pub fn record(&self, value: Duration) {
        let micros = value.as_micros() as u64;
        let bucket = BUCKETS_MICROS.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS_MICROS.len());
        self.buckets[bucket].add(1);
        self.sum_micros.add(micros);
    }
}

/// The statuses counted one by one; any other is counted as its class's first.
pub const STATUSES: [u16; 64] = [
    100, 101, 200, 201, 202, 203, 204, 205, 206, 207, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407,
    408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504,
    505, 506, 507, 508, 510, 511, 520, 529, 530, 599,
];

/// Where each status from 100 to 599 is counted.
static STATUS_INDEX: [u8; 500] = status_index();

const fn status_index() -> [u8; 500] {
    let mut table = [0u8; 500];
    let mut status = 0;
    while status < 500 {
        let class = (status as u16 / 100 + 1) * 100;
        let mut index = 0;
        let mut found = 0;
        while index < STATUSES.len() {
            if STATUSES[index] == class && found == 0 {
                found = index;
            }
            if STATUSES[index] == status as u16 + 100 {
                found = index;
            }
            index += 1;
        }
        table[status] = found as u8;
        status += 1;
    }
    table
}

/// Methods as they are labelled.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"];

/// One worker's counts of one route.
#[derive(Debug)]
pub struct RouteShard {
    /// [method][status]
    pub requests: [[Counter; STATUSES.len()]; METHODS.len()],
    pub duration: Histogram,
    pub upstream: Histogram,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

impl Default for RouteShard {
    fn default() -> Self {
        RouteShard {
            requests: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
            duration: Histogram::default(),
            upstream: Histogram::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
        }
    }
}

impl RouteShard {
    pub fn count(&self, method: Method, status: u16) {
        let status = STATUS_INDEX[usize::from(status.clamp(100, 599) - 100)];
        self.requests[method as usize][status as usize].add(1);
    }
}

/// One route's counts. They outlive reloads: a route is known by its API's name and its own.
#[derive(Debug)]
pub struct RouteSeries {
    pub api: Arc<str>,
    pub route: Arc<str>,
    /// A worker's shard is made at its first request there.
    shards: Box<[OnceLock<Box<RouteShard>>]>,
}

impl RouteSeries {
    pub fn new(api: Arc<str>, route: Arc<str>, workers: usize) -> RouteSeries {
        RouteSeries { api, route, shards: (0..workers).map(|_| OnceLock::new()).collect() }
    }

    /// The worker's own counts.
    pub fn of(&self, worker: usize) -> &RouteShard {
        self.shards[worker].get_or_init(Box::default)
    }

    /// The shards that were ever written.
    pub fn shards(&self) -> impl Iterator<Item = &RouteShard> {
        self.shards.iter().filter_map(|shard| shard.get().map(|shard| &**shard))
    }
}

/// One worker's counts that belong to no route. Aligned so that workers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerShard {
    pub connections_open: Counter,
    pub connections_accepted: Counter,
    pub connections_refused: Counter,
    pub requests_open: Counter,
    pub upstream_connects: Counter,
    pub upstream_reuses: Counter,
    pub upstream_open: Counter,
    pub tunnels_open: Counter,
    pub log_dropped: Counter,
    pub faults: [Counter; 32],
}

impl WorkerShard {
    pub fn fault(&self, kind: Kind) {
        self.faults[kind as usize].add(1);
    }
}

const _: () = assert!(Kind::ALL.len() <= 32, "faults have 32 counters");

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Metrics {
    pub workers: Box<[WorkerShard]>,
    routes: Mutex<HashMap<(Arc<str>, Arc<str>), Arc<RouteSeries>>>,
    /// Requests that no route took.
    pub unrouted: Arc<RouteSeries>,
    pub generation: AtomicU64,
    pub reloads_ok: AtomicU64,
    pub reloads_failed: AtomicU64,
    /// Snapshots not yet let go; 1 when every worker has moved on and nothing old is held.
    pub snapshots: AtomicU64,
}

impl Metrics {
    pub fn new(workers: usize) -> Metrics {
        Metrics {
            workers: (0..workers).map(|_| WorkerShard::default()).collect(),
            routes: Mutex::default(),
            unrouted: Arc::new(RouteSeries::new("".into(), "".into(), workers)),
            generation: AtomicU64::new(0),
            reloads_ok: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
        }
    }

    /// The series of these routes, the ones they had before where they had one. Called at load, by the control thread alone.
    pub fn series<'a>(&self, keys: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> Vec<Arc<RouteSeries>> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.workers.len();
        keys.map(|(api, route)| {
            let entry = routes.entry((api.clone(), route.clone()));
            entry.or_insert_with(|| Arc::new(RouteSeries::new(api.clone(), route.clone(), workers))).clone()
        })
        .collect()
    }

    /// Forgets routes that no snapshot has any more and that were never asked for; the others keep their counts.
    pub fn forget_unused(&self) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|_, series| Arc::strong_count(series) > 1 || series.shards().next().is_some());
    }

    /// Every route that was ever asked for.
    pub fn routes(&self) -> Vec<Arc<RouteSeries>> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut touched: Vec<_> = routes.values().filter(|series| series.shards().next().is_some()).cloned().collect();
        touched.sort_by(|a, b| (&a.api, &a.route).cmp(&(&b.api, &b.route)));
        if self.unrouted.shards().next().is_some() {
            touched.insert(0, self.unrouted.clone());
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_counted_under_itself_or_its_class() {
        for (status, counted) in [(200, 200), (299, 200), (404, 404), (499, 499), (498, 400), (599, 599), (555, 500), (103, 100), (999, 599)] {
            let shard = RouteShard::default();
            shard.count(Method::Get, status);
            let index = STATUSES.iter().position(|&s| s == counted).unwrap();
            assert_eq!(shard.requests[0][index].get(), 1, "{status}");
        }
    }

    #[test]
    fn series_outlive_a_reload() {
        let metrics = Metrics::new(1);
        let key: (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let first = metrics.series([(&key.0, &key.1)].into_iter());
        first[0].of(0).count(Method::Get, 200);
        let again = metrics.series([(&key.0, &key.1)].into_iter());
        assert!(Arc::ptr_eq(&first[0], &again[0]));
    }
}
