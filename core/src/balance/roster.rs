//! What is known of endpoints, for as long as any list has them: over reloads, and over changes of names. Asked where lists are made, not
//! where requests go.

use super::Figures;
use crate::{Clock, Registry, Remote};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Address, name and prefix: what an endpoint of an upstream is.
pub type Identity = (Remote, Arc<str>, Arc<str>);

/// What moves when anything changes that picks of an upstream go by.
#[derive(Debug, Default)]
pub struct Changes {
    epoch: AtomicU64,
    /// Held by who ejects: the others who would see how many are out already.
    pub(crate) ejecting: Mutex<()>,
}

impl Changes {
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// To be called after the change.
    pub fn bump(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

/// What is known of one upstream's endpoints. Two upstreams may name the same one and find it well and sick.
#[derive(Debug, Default)]
pub struct Roster {
    pub changes: Arc<Changes>,
    clock: Clock,
    /// There was a whole list: who comes from now on is new.
    begun: AtomicBool,
    by_endpoint: Mutex<HashMap<Identity, Weak<Figures>>>,
}

impl Roster {
    pub fn of(&self, endpoints: impl Iterator<Item = Identity>) -> Vec<Arc<Figures>> {
        self.known(endpoints, |has_any| {
            self.begun.fetch_or(has_any, Ordering::Relaxed);
            has_any
        })
    }

    /// Of a list with what its names lead to, at the first look. If it is the first one they were there from the start.
    pub fn completed(&self, endpoints: impl Iterator<Item = Identity>) -> Vec<Arc<Figures>> {
        self.known(endpoints, |has_any| self.begun.swap(true, Ordering::Relaxed) && has_any)
    }

    /// `joins`: whether who is not known yet is new, given whether anyone is known.
    fn known(&self, endpoints: impl Iterator<Item = Identity>, joins: impl FnOnce(bool) -> bool) -> Vec<Arc<Figures>> {
        let mut known = self.by_endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, figures| figures.strong_count() > 0);
        let now = self.clock.now();
        // Whoever joins others is new; where all are, none is.
        let joins = joins(!known.is_empty());
        let figures = |endpoint| {
            let slot = known.entry(endpoint).or_default();
            slot.upgrade().unwrap_or_else(|| {
                let new = Arc::new(Figures::of(self.changes.clone(), now));
                if joins {
                    new.standing.warm_up(now);
                }
                *slot = Arc::downgrade(&new);
                new
            })
        };
        endpoints.map(figures).collect()
    }
}

/// The rosters of all upstreams, by name.
#[derive(Debug, Default)]
pub struct KnownFigures {
    by_upstream: Registry<String, Roster>,
    clock: Clock,
}

impl KnownFigures {
    pub fn new(clock: Clock) -> KnownFigures {
        KnownFigures { by_upstream: Registry::default(), clock }
    }

    pub fn roster(&self, upstream: &str) -> Arc<Roster> {
        self.by_upstream.of(upstream.to_owned(), || Arc::new(Roster { clock: self.clock.clone(), ..Roster::default() }))
    }
}
