//! Active health checks: asks every endpoint of the upstreams that want it how it is, on a thread of its own, and notes the answers where
//! picks look. Sends no request of a client, and decides nothing about failures that requests see.
//!
//! What is known is kept by upstream and endpoint: two upstreams may check the same back end by different questions, and each goes by its
//! own. Over a reload an endpoint keeps its state; checks that are the same go on as if nothing had happened.

mod desk;
mod probe;
mod tally;

use maitred_core::Clock;
use maitred_core::balance::Identity;
use maitred_model::HealthCheck;
use maitred_transport::{Dial, TargetCell, UpstreamSpec};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// An upstream whose endpoints are to be checked.
#[derive(Clone)]
pub struct Watched {
    pub upstream: Arc<str>,
    pub check: HealthCheck,
    pub targets: Arc<TargetCell>,
    pub dial: Arc<Dial>,
}

impl Watched {
    /// `None`: nobody wants to know how its endpoints are.
    pub fn of(spec: &UpstreamSpec) -> Option<Watched> {
        let check = spec.protection.health_check.clone()?;
        Some(Watched { upstream: spec.name.clone(), check, targets: spec.targets.clone(), dial: spec.dial.clone() })
    }
}

/// How the last check of an endpoint went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCheck {
    pub at: SystemTime,
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What checks say of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub is_healthy: bool,
    /// Since when.
    pub since: SystemTime,
    /// Why it is not well, as it was when that was found.
    pub reason: Option<String>,
    pub last: LastCheck,
    /// Checks since the start.
    pub passed: u64,
    pub failed: u64,
}

/// All checks. They end when this is dropped.
pub struct Checks {
    shared: Arc<Shared>,
    /// Started with the first check that is wanted: a thread that nobody needs is not there.
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    clock: Clock,
    /// What was applied last, and how often that was done.
    plan: Mutex<Vec<Watched>>,
    applied: AtomicU64,
    stopped: AtomicBool,
    wake: Notify,
    /// By upstream and endpoint.
    checked: Mutex<HashMap<Arc<str>, HashMap<Identity, Checked>>>,
}

impl Checks {
    pub fn new(clock: Clock) -> Checks {
        let shared = Shared {
            clock,
            plan: Mutex::default(),
            applied: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            wake: Notify::new(),
            checked: Mutex::default(),
        };
        Checks { shared: Arc::new(shared), thread: Mutex::default() }
    }

    /// From here on these are checked, and no others.
    pub fn apply(&self, plan: Vec<Watched>) {
        let mut thread = lock(&self.thread);
        if thread.is_none() && !plan.is_empty() {
            *thread = start(self.shared.clone());
        }
        *lock(&self.shared.plan) = plan;
        self.shared.applied.fetch_add(1, Ordering::Release);
        self.look_again();
    }

    /// The clock was turned, or the plan has changed.
    pub fn look_again(&self) {
        self.shared.wake.notify_one();
    }

    /// What is known of an upstream's endpoints by checks.
    pub fn of(&self, upstream: &str) -> HashMap<Identity, Checked> {
        lock(&self.shared.checked).get(upstream).cloned().unwrap_or_default()
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.look_again();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

fn start(shared: Arc<Shared>) -> Option<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("checks".to_owned()).spawn(move || desk::run(shared));
    thread.inspect_err(|error| tracing::error!(%error, "no endpoint is checked: no thread can be started")).ok()
}

impl Shared {
    /// Takes a result in.
    fn note(&self, upstream: &Arc<str>, endpoint: &Identity, is_healthy: bool, last: LastCheck) {
        let mut checked = lock(&self.checked);
        let endpoints = checked.entry(upstream.clone()).or_default();
        let known = endpoints.entry(endpoint.clone()).or_insert_with(|| Checked {
            // As it was taken to be before.
            is_healthy: true,
            since: last.at,
            reason: None,
            last: last.clone(),
            passed: 0,
            failed: 0,
        });
        match &last.failure {
            None => known.passed += 1,
            Some(_) => known.failed += 1,
        }
        if known.is_healthy != is_healthy {
            known.since = last.at;
            known.reason = last.failure.clone().filter(|_| !is_healthy);
            known.is_healthy = is_healthy;
        }
        known.last = last;
    }

    fn forget(&self, upstream: &str, endpoint: &Identity) {
        if let Some(endpoints) = lock(&self.checked).get_mut(upstream) {
            endpoints.remove(endpoint);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
