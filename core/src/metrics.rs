//! Counters that cost an ordinary store: each worker writes its own, a reader sums them. Formats nothing; the admin side does.

use crate::compute::ComputeFigures;
use crate::fault::Kind;
use crate::limit_table::TableFigures;
use crate::limits::series::{LimitName, LimitSeries};
use maitred_wire::Method;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
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
pub const BUCKETS_MICROS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
    30_000_000,
];

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
    100, 101, 200, 201, 202, 203, 204, 205, 206, 207, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405,
    406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500,
    501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 520, 529, 530, 599,
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

/// Pairs of method and status that a route's counts have a place for. Nearly every route answers fewer; a full table for each of
/// 100,000 routes and every worker would be most of the memory.
const PLACES: usize = 8;

/// Every pair, for the rare route that needs them.
type Table = [[Counter; STATUSES.len()]; METHODS.len()];

/// One worker's counts of one route.
#[derive(Debug, Default)]
pub struct RouteShard {
    /// 1 + method × statuses + status of each place that is taken, and its count.
    places: [(AtomicU16, Counter); PLACES],
    more: OnceLock<Box<Table>>,
    pub duration: Histogram,
    pub upstream: Histogram,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

impl RouteShard {
    /// Called by the worker that owns the shard, and no other.
    pub fn count(&self, method: Method, status: u16) {
        let status = STATUS_INDEX[usize::from(status.clamp(100, 599) - 100)];
        let wanted = 1 + method as u16 * STATUSES.len() as u16 + u16::from(status);
        for (key, count) in &self.places {
            match key.load(Ordering::Relaxed) {
                0 => key.store(wanted, Ordering::Relaxed),
                key if key != wanted => continue,
                _ => {}
            }
            return count.add(1);
        }
        let table = self.more.get_or_init(|| Box::new(std::array::from_fn(|_| std::array::from_fn(|_| Counter::default()))));
        table[method as usize][usize::from(status)].add(1);
    }

    /// The counts above zero, with method and status by index in `METHODS` and `STATUSES`.
    pub fn requests(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let places = self.places.iter().filter_map(|(key, count)| {
            let pair = usize::from(key.load(Ordering::Relaxed)).checked_sub(1)?;
            Some((pair / STATUSES.len(), pair % STATUSES.len(), count.get()))
        });
        let rows = self.more.get().into_iter().flat_map(|table| table.iter().enumerate());
        let table =
            rows.flat_map(|(method, row)| row.iter().enumerate().map(move |(status, count)| (method, status, count.get())));
        places.chain(table).filter(|(_, _, count)| *count > 0)
    }
}

/// The name of an API and of a route of it.
type RouteKey = (Arc<str>, Arc<str>);

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

/// How an authorizer's decisions end, as they are labelled.
pub const DECISIONS: [&str; 4] = ["authenticated", "refused", "failed", "forbidden"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It is known who it is.
    Authenticated,
    /// The credential is not valid.
    Refused,
    /// It could not be found out.
    Failed,
    /// It is known who it is, and that one may not: counted besides, where it was found out before.
    Forbidden,
}

/// One worker's counts of an authorizer. Aligned so that workers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct AuthorizerShard([Counter; DECISIONS.len()]);

/// One authorizer's counts. They outlive reloads: an authorizer is known by its name.
#[derive(Debug)]
pub struct AuthorizerSeries {
    pub name: Arc<str>,
    shards: Box<[AuthorizerShard]>,
}

impl AuthorizerSeries {
    pub fn new(name: Arc<str>, workers: usize) -> AuthorizerSeries {
        AuthorizerSeries { name, shards: (0..workers).map(|_| AuthorizerShard::default()).collect() }
    }

    /// Called by that worker, and no other.
    pub fn count(&self, worker: usize, decided: Decided) {
        if let Some(shard) = self.shards.get(worker) {
            shard.0[decided as usize].add(1);
        }
    }

    /// In the order of `DECISIONS`.
    pub fn counts(&self) -> [u64; DECISIONS.len()] {
        std::array::from_fn(|at| self.shards.iter().fold(0u64, |sum, shard| sum.wrapping_add(shard.0[at].get())))
    }
}

/// What becomes of requests that have a quota, as it is labelled.
pub const QUOTA_RESULTS: [&str; 2] = ["allowed", "limited"];

/// One worker's counts of a plan's quotas. Aligned so that workers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct QuotaShard([Counter; QUOTA_RESULTS.len()]);

/// The counts of a plan's quotas. They outlive reloads: a plan is known by its name.
#[derive(Debug)]
pub struct QuotaSeries {
    pub plan: Arc<str>,
    shards: Box<[QuotaShard]>,
}

impl QuotaSeries {
    pub fn new(plan: Arc<str>, workers: usize) -> QuotaSeries {
        QuotaSeries { plan, shards: (0..workers).map(|_| QuotaShard::default()).collect() }
    }

    /// Called by that worker, and no other.
    pub fn count(&self, worker: usize, is_allowed: bool) {
        if let Some(shard) = self.shards.get(worker) {
            shard.0[usize::from(!is_allowed)].add(1);
        }
    }

    /// In the order of `QUOTA_RESULTS`.
    pub fn counts(&self) -> [u64; QUOTA_RESULTS.len()] {
        std::array::from_fn(|at| self.shards.iter().fold(0u64, |sum, shard| sum.wrapping_add(shard.0[at].get())))
    }
}

/// Why requests are tried again, as it is labelled.
pub const RETRY_REASONS: [&str; 4] = ["connect", "reset", "timeout", "status"];

/// One worker's counts of an upstream. What is counted here is rare, such as a further try: made with the first of it. Aligned so that
/// workers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamShard {
    /// Further tries, by the index of why in `RETRY_REASONS`.
    pub retries: [Counter; RETRY_REASONS.len()],
    /// Tries that were worth it and not paid for.
    pub retries_unpaid: Counter,
    /// Second requests beside slow ones, and those that were answered first.
    pub hedges: Counter,
    pub hedges_won: Counter,
    /// Requests refused over `circuit_breaker.requests`, those that waited for a connection, and those that got none.
    pub breaker_requests: Counter,
    pub breaker_waits: Counter,
    pub breaker_connections: Counter,
    /// Copies of requests sent there, not sent for want of room, and failed.
    pub mirrored: Counter,
    pub mirror_dropped: Counter,
    pub mirror_failed: Counter,
}

/// What an upstream may be configured to do: it is counted from the beginning, so that there is a zero to rise from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamPart {
    Retries,
    Hedges,
    Breaker,
    Mirror,
}

/// One upstream's counts. They outlive reloads: an upstream is known by its name.
#[derive(Debug)]
pub struct UpstreamSeries {
    pub name: Arc<str>,
    /// By `UpstreamPart`: it was configured once.
    parts: [AtomicBool; 4],
    shards: Box<[OnceLock<Box<UpstreamShard>>]>,
}

impl UpstreamSeries {
    pub fn new(name: Arc<str>, workers: usize) -> UpstreamSeries {
        UpstreamSeries { name, parts: Default::default(), shards: (0..workers).map(|_| OnceLock::new()).collect() }
    }

    /// Called by that worker, and no other.
    pub fn count(&self, worker: usize, of: impl Fn(&UpstreamShard) -> &Counter) {
        if let Some(shard) = self.shards.get(worker) {
            of(shard.get_or_init(Box::default)).add(1);
        }
    }

    /// Called at load.
    pub fn has(&self, part: UpstreamPart) {
        self.parts[part as usize].store(true, Ordering::Relaxed);
    }

    pub fn is_told(&self, part: UpstreamPart) -> bool {
        self.parts[part as usize].load(Ordering::Relaxed)
    }

    pub fn sum(&self, of: impl Fn(&UpstreamShard) -> &Counter) -> u64 {
        self.touched().fold(0, |sum, shard| sum.wrapping_add(of(shard).get()))
    }

    /// The shards that were ever written.
    fn touched(&self) -> impl Iterator<Item = &UpstreamShard> {
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
    pub tls_full: Counter,
    pub tls_resumed: Counter,
    pub tls_failed: Counter,
    /// HTTP/2 connections of clients.
    pub h2_open: Counter,
    /// Those that were closed for what they flooded us with.
    pub h2_floods: Counter,
    /// The same of HTTP/3.
    pub h3_open: Counter,
    pub h3_floods: Counter,
    /// Requests that asked counts which gateways share: with an answer in time, without one, and those that nobody could be asked for.
    pub counters_answered: Counter,
    pub counters_unanswered: Counter,
    pub counters_unasked: Counter,
    /// How long those took that were answered.
    pub counters_time: Histogram,
    /// Connections to the servers that are there, those that are missing, and how often one went.
    pub counters_connections: Counter,
    pub counters_lost: Counter,
    pub counters_losses: Counter,
    pub log_dropped: Counter,
    pub faults: FaultCounts,
}

impl WorkerShard {
    pub fn fault(&self, kind: Kind) {
        self.faults.of(kind).add(1);
    }
}

/// A counter for each kind.
#[derive(Debug)]
pub struct FaultCounts([Counter; Kind::ALL.len()]);

impl FaultCounts {
    pub fn of(&self, kind: Kind) -> &Counter {
        &self.0[kind as usize]
    }
}

impl Default for FaultCounts {
    fn default() -> FaultCounts {
        FaultCounts(std::array::from_fn(|_| Counter::default()))
    }
}

/// Lines of the gateway's own log that nobody read in time, or that could not be written. One for the process, as the log is.
pub static LOG_LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Metrics {
    pub workers: Box<[WorkerShard]>,
    routes: Mutex<HashMap<RouteKey, Arc<RouteSeries>>>,
    authorizers: Mutex<BTreeMap<Arc<str>, Arc<AuthorizerSeries>>>,
    limits: Mutex<BTreeMap<LimitName, Arc<LimitSeries>>>,
    quotas: Mutex<BTreeMap<Arc<str>, Arc<QuotaSeries>>>,
    upstreams: Mutex<BTreeMap<Arc<str>, Arc<UpstreamSeries>>>,
    /// Requests that no route took.
    pub unrouted: Arc<RouteSeries>,
    /// Access-log lines that the writer could not write.
    pub log_lost: AtomicU64,
    pub generation: AtomicU64,
    pub reloads_ok: AtomicU64,
    pub reloads_failed: AtomicU64,
    /// Certificates that were obtained by ACME, renewals too, and orders that brought none.
    pub acme_ok: AtomicU64,
    pub acme_failed: AtomicU64,
    /// What was computed away from the workers.
    pub compute: Arc<ComputeFigures>,
    /// Credentials that were looked at and wrong, and the table of the addresses that they came from.
    pub failed_credentials: Arc<AtomicU64>,
    pub failing_addresses: Arc<TableFigures>,
    /// The tables of rate limits, together.
    pub limit_tables: Arc<TableFigures>,
    /// Fetches of issuers' keys, and those that brought none: then the old ones stay.
    pub keys_ok: AtomicU64,
    pub keys_failed: AtomicU64,
    /// Snapshots not yet let go; 1 when every worker has moved on and nothing old is held.
    pub snapshots: AtomicU64,
}

impl Metrics {
    pub fn new(workers: usize) -> Metrics {
        Metrics {
            workers: (0..workers).map(|_| WorkerShard::default()).collect(),
            routes: Mutex::default(),
            authorizers: Mutex::default(),
            limits: Mutex::default(),
            quotas: Mutex::default(),
            upstreams: Mutex::default(),
            unrouted: Arc::new(RouteSeries::new("".into(), "".into(), workers)),
            log_lost: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            reloads_ok: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            acme_ok: AtomicU64::new(0),
            acme_failed: AtomicU64::new(0),
            compute: Arc::default(),
            failed_credentials: Arc::default(),
            failing_addresses: Arc::default(),
            limit_tables: Arc::default(),
            keys_ok: AtomicU64::new(0),
            keys_failed: AtomicU64::new(0),
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

    /// The series of that authorizer, the one it had before where it had one. Called at load.
    pub fn authorizer(&self, name: &Arc<str>) -> Arc<AuthorizerSeries> {
        let mut authorizers = self.authorizers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(AuthorizerSeries::new(name.clone(), self.workers.len()));
        authorizers.entry(name.clone()).or_insert_with(new).clone()
    }

    /// Every authorizer that is there, or that ever decided anything.
    pub fn authorizers(&self) -> Vec<Arc<AuthorizerSeries>> {
        let mut authorizers = self.authorizers.lock().unwrap_or_else(PoisonError::into_inner);
        authorizers.retain(|_, series| Arc::strong_count(series) > 1 || series.counts().iter().any(|count| *count > 0));
        authorizers.values().cloned().collect()
    }

    /// The series of that limit, the one it had before where it had one. Called at load.
    pub fn limit(&self, name: &LimitName) -> Arc<LimitSeries> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(LimitSeries::new(name.clone(), self.workers.len()));
        limits.entry(name.clone()).or_insert_with(new).clone()
    }

    /// Every limit that is there, or that was ever asked.
    pub fn limits(&self) -> Vec<Arc<LimitSeries>> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|_, series| Arc::strong_count(series) > 1 || series.counts().iter().any(|count| *count > 0));
        limits.values().cloned().collect()
    }

    /// The series of that plan, the one it had before where it had one. Called at load.
    pub fn quota(&self, plan: &Arc<str>) -> Arc<QuotaSeries> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(QuotaSeries::new(plan.clone(), self.workers.len()));
        quotas.entry(plan.clone()).or_insert_with(new).clone()
    }

    /// Every plan that has a quota, or that ever counted something of one.
    pub fn quotas(&self) -> Vec<Arc<QuotaSeries>> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.retain(|_, series| Arc::strong_count(series) > 1 || series.counts().iter().any(|count| *count > 0));
        quotas.values().cloned().collect()
    }

    /// The series of that upstream, the one it had before where it had one. Called at load.
    pub fn upstream(&self, name: &Arc<str>) -> Arc<UpstreamSeries> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(UpstreamSeries::new(name.clone(), self.workers.len()));
        upstreams.entry(name.clone()).or_insert_with(new).clone()
    }

    /// Every upstream that is there, or that ever counted something.
    pub fn upstreams(&self) -> Vec<Arc<UpstreamSeries>> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.retain(|_, series| Arc::strong_count(series) > 1 || series.touched().next().is_some());
        upstreams.values().cloned().collect()
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
        for (status, counted) in
            [(200, 200), (299, 200), (404, 404), (499, 499), (498, 400), (599, 599), (555, 500), (103, 100), (999, 599)]
        {
            let shard = RouteShard::default();
            shard.count(Method::Get, status);
            let index = STATUSES.iter().position(|&s| s == counted).unwrap();
            assert_eq!(shard.requests().collect::<Vec<_>>(), [(0, index, 1)], "{status}");
        }
    }

    #[test]
    fn more_pairs_than_places_are_counted_too() {
        let shard = RouteShard::default();
        for round in 1..=2 {
            for status in STATUSES {
                shard.count(Method::Post, status);
            }
            let mut counted: Vec<_> = shard.requests().collect();
            counted.sort_unstable();
            assert_eq!(counted, (0..STATUSES.len()).map(|status| (Method::Post as usize, status, round)).collect::<Vec<_>>());
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
