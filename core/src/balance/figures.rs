//! What all workers know of one endpoint: how much is under way there, how long it takes to answer, and how it is. Read and written
//! without order between the fields: a sample that is lost to another worker's costs nothing but itself.

use super::roster::Changes;
use crate::health::{EndpointState, News, Standing};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// After so long a sample counts for 37% of what it did (1/e). Finagle and Linkerd take twice as long, and so does traffic to come back there.
const DECAY: Duration = Duration::from_secs(5);

/// What a failed attempt counts as, if it did not take longer: an endpoint that fails at once must not look like the fastest.
pub const FAILURE_COST: Duration = Duration::from_secs(1);

/// One cache line for what each request writes, so that two endpoints never share one; behind it what is rarely written.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Figures {
    in_flight: AtomicU32,
    connections: AtomicU32,
    /// Failures in a row, over all workers.
    streak: AtomicU32,
    /// Attempts that were answered or failed, since the start.
    requests: AtomicU64,
    failures: AtomicU64,
    /// The moving average in nanoseconds; 0: nothing is known.
    latency: AtomicU64,
    /// When it was written, in nanoseconds from `since`.
    written: AtomicU64,
    pub(crate) standing: Standing,
}

const _: () = assert!(std::mem::offset_of!(Figures, standing) == 64, "what each request writes is one cache line");

impl Figures {
    pub fn new(now: Instant) -> Figures {
        Figures::of(Arc::default(), now)
    }

    pub(super) fn of(changes: Arc<Changes>, now: Instant) -> Figures {
        Figures {
            in_flight: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            streak: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            written: AtomicU64::new(0),
            standing: Standing::new(changes, now),
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Open connections, over all workers.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// Attempts that were answered or failed, since the start.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Those of `requests` that failed: no connection, reset, no answer in time, 5xx.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Nanoseconds to an answer, as they count at `now`: what was seen long ago counts for little.
    pub fn latency(&self, now: Instant) -> f64 {
        self.latency.load(Relaxed) as f64 * self.kept(now)
    }

    /// Takes an attempt in. One that is slower than the average becomes the average at once; faster ones lower it by and by.
    pub fn observe(&self, took: Duration, now: Instant) {
        let (old, sample) = (self.latency.load(Relaxed) as f64, took.as_nanos().max(1) as f64);
        let kept = self.kept(now);
        let new = if sample >= old * kept { sample } else { old * kept + sample * (1.0 - kept) };
        self.latency.store(new as u64, Relaxed);
        self.written.store(self.standing.nanos(now), Relaxed);
    }

    /// Nothing is known any more of how long it takes: what failures made of it says nothing of an endpoint that answers again.
    pub fn forget(&self) {
        self.latency.store(0, Relaxed);
    }

    /// The last attempt failed.
    pub fn fails(&self) -> bool {
        self.streak.load(Relaxed) != 0
    }

    /// How much of the average counts still: e^(-age/decay).
    fn kept(&self, now: Instant) -> f64 {
        let age = self.standing.nanos(now).saturating_sub(self.written.load(Relaxed));
        (-(age as f64) / DECAY.as_nanos() as f64).exp()
    }

    /// Counts an attempt. Returns how many failed in a row, over all workers.
    pub fn count(&self, has_failed: bool) -> u32 {
        self.requests.fetch_add(1, Relaxed);
        if has_failed {
            self.failures.fetch_add(1, Relaxed);
            return self.streak.fetch_add(1, Relaxed).saturating_add(1);
        }
        if self.fails() {
            self.streak.store(0, Relaxed);
        }
        0
    }

    /// Ends an ejection whose time is over. True for the one who did.
    pub(crate) fn let_in(&self, now: Instant) -> bool {
        let is_back = self.standing.let_in(now);
        if is_back {
            self.streak.store(0, Relaxed);
            self.forget();
        }
        is_back
    }

    /// What active checks say; true until they say otherwise.
    pub fn set_healthy(&self, is_healthy: bool, now: Instant) {
        if is_healthy && !self.is_healthy() {
            self.forget();
        }
        self.standing.set_healthy(is_healthy, now);
    }

    pub fn is_healthy(&self) -> bool {
        self.standing.is_healthy()
    }

    /// Nobody new is sent to an endpoint that is drained.
    pub fn set_drained(&self, is_drained: bool) {
        self.standing.set_drained(is_drained);
    }

    pub fn is_drained(&self) -> bool {
        self.standing.is_drained()
    }

    /// How long it is left alone still, by what requests saw of it.
    pub fn ejected_until(&self, now: Instant) -> Option<Duration> {
        self.standing.ejected_until(now)
    }

    /// How often it was ejected since the start.
    pub fn ejections(&self) -> u64 {
        self.standing.ejections()
    }

    /// Whether the log may be told; else it was, a moment ago.
    pub fn may_tell(&self, news: News, now: Instant) -> bool {
        self.standing.may_tell(news, now)
    }

    pub fn state(&self, now: Instant) -> EndpointState {
        self.standing.state(now)
    }
}

/// A request under way at an endpoint, until this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Figures>);

impl InFlight {
    pub fn enter(figures: &Arc<Figures>) -> InFlight {
        figures.in_flight.fetch_add(1, Relaxed);
        InFlight(figures.clone())
    }

    /// Only where fewer than so many are under way.
    pub fn enter_below(figures: &Arc<Figures>, limit: u32) -> Option<InFlight> {
        let entered = figures.in_flight.fetch_update(Relaxed, Relaxed, |count| (count < limit).then(|| count + 1));
        entered.is_ok().then(|| InFlight(figures.clone()))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// An open connection to an endpoint, until this is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Figures>);

impl OpenConnection {
    pub fn open(figures: &Arc<Figures>) -> OpenConnection {
        figures.connections.fetch_add(1, Relaxed);
        OpenConnection(figures.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
