//! What all workers know of one endpoint: how much is under way there, and how long it takes to answer. Read and written without order
//! between the fields: a sample that is lost to another worker's costs nothing but itself.

use crate::{Clock, Remote};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// After so long a sample counts for 37% of what it did (1/e), as in Finagle and Linkerd.
const DECAY: Duration = Duration::from_secs(10);

/// What a failed attempt counts as, if it did not take longer: an endpoint that fails at once must not look like the fastest.
pub const FAILURE_COST: Duration = Duration::from_secs(1);

/// One cache line for each endpoint, so that two of them never share one.
#[derive(Debug)]
#[repr(align(64))]
pub struct Figures {
    in_flight: AtomicU32,
    /// The moving average in nanoseconds; 0: nothing is known.
    latency: AtomicU64,
    /// When it was written, in nanoseconds from `since`.
    written: AtomicU64,
    since: Instant,
}

impl Figures {
    pub fn new(now: Instant) -> Figures {
        Figures { in_flight: AtomicU32::new(0), latency: AtomicU64::new(0), written: AtomicU64::new(0), since: now }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
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
        self.written.store(self.nanos(now), Relaxed);
    }

    /// How much of the average counts still: e^(-age/decay).
    fn kept(&self, now: Instant) -> f64 {
        let age = self.nanos(now).saturating_sub(self.written.load(Relaxed));
        (-(age as f64) / DECAY.as_nanos() as f64).exp()
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_nanos() as u64
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
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Address, name and prefix: what an endpoint is.
pub type Identity = (Remote, Arc<str>, Arc<str>);

/// What is known of endpoints, for as long as any list has them: over reloads, and over changes of names. Asked where lists are made, not
/// where requests go.
#[derive(Debug, Default)]
pub struct KnownFigures {
    by_endpoint: Mutex<HashMap<Identity, Weak<Figures>>>,
    clock: Clock,
}

impl KnownFigures {
    pub fn new(clock: Clock) -> KnownFigures {
        KnownFigures { by_endpoint: Mutex::default(), clock }
    }

    pub fn of(&self, endpoints: impl Iterator<Item = Identity>) -> Vec<Arc<Figures>> {
        let mut known = self.by_endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, figures| figures.strong_count() > 0);
        let figures = |endpoint| {
            let slot = known.entry(endpoint).or_default();
            slot.upgrade().unwrap_or_else(|| {
                let new = Arc::new(Figures::new(self.clock.now()));
                *slot = Arc::downgrade(&new);
                new
            })
        };
        endpoints.map(figures).collect()
    }
}
