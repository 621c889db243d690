//! Upstreams as an administrator sees them: every endpoint with how it is and what is under way there, and the hand that takes one out.
//! Checks nothing itself and picks nobody: it reads what checks and requests wrote.

mod show;
#[cfg(test)]
mod tests;

use crate::health::{Checked, Checks};
use maitred_core::health::EndpointState;
use maitred_core::queue::GateView;
use maitred_model::{Balance, suggest};
use maitred_transport::{BreakerView, Target, TargetSet, UpstreamSpec};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names listed where none is near to what was asked for.
const LISTED_MAX: usize = 20;

/// An upstream at one moment.
#[derive(Debug, Clone)]
pub struct UpstreamView {
    pub name: Arc<str>,
    pub balance: Balance,
    /// So few endpoints are usable that all of them are used.
    pub panic: bool,
    pub endpoints: Vec<EndpointView>,
    /// What waits for a place, where there is a limit.
    pub queue: Option<GateView>,
    /// What it has at once, where that is limited.
    pub breaker: Option<BreakerView>,
}

#[derive(Debug, Clone)]
pub struct EndpointView {
    pub target: Target,
    pub state: EndpointState,
    pub in_flight: u32,
    pub connections: u32,
    /// The moving average; `None`: nobody has asked it yet.
    pub latency: Option<Duration>,
    pub requests: u64,
    pub failures: u64,
    pub ejections: u64,
    /// Until it is let in again.
    pub ejected_for: Option<Duration>,
    /// Where it is checked, once it was.
    pub checked: Option<Checked>,
}

impl UpstreamView {
    pub fn of(spec: &UpstreamSpec, checks: &Checks, now: Instant) -> UpstreamView {
        let mut checked = checks.of(&spec.name);
        let set = spec.targets.load();
        let endpoint = |(target, figures): (&Target, &Arc<maitred_core::balance::Figures>)| EndpointView {
            target: target.clone(),
            state: figures.state(now),
            in_flight: figures.in_flight(),
            connections: figures.connections(),
            latency: Some(figures.latency(now)).filter(|nanos| *nanos > 0.0).map(|nanos| Duration::from_nanos(nanos as u64)),
            requests: figures.requests(),
            failures: figures.failures(),
            ejections: figures.ejections(),
            ejected_for: figures.ejected_until(now),
            checked: checked.remove(&target.identity()),
        };
        UpstreamView {
            name: spec.name.clone(),
            balance: spec.targets.balance(),
            panic: set.panics(&spec.protection, now),
            endpoints: set.targets.iter().zip(&set.figures).map(endpoint).collect(),
            queue: spec.gate.as_ref().map(|gate| gate.view()),
            breaker: spec.protection.circuit_breaker.map(|limits| spec.shared.breaker.view(limits)),
        }
    }

    pub fn to_json(&self) -> Value {
        show::upstream(self)
    }
}

/// An endpoint was taken out, or let in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    pub endpoint: String,
    pub state: EndpointState,
    /// Requests that are under way there still.
    pub in_flight: u32,
    /// What the administrator may not have meant.
    pub warning: Option<String>,
}

/// There is no such thing; says what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The upstream of that name.
pub fn find<'a, 'n>(specs: impl IntoIterator<Item = &'a Arc<UpstreamSpec>>, name: &'n str) -> Result<&'a UpstreamSpec, Unknown> {
    let mut known = Vec::new();
    for spec in specs {
        if *spec.name == *name {
            return Ok(spec);
        }
        known.push(&*spec.name);
    }
    Err(unknown(format!("there is no upstream `{name}`"), name, &known, "the upstreams are"))
}

/// Takes an endpoint out, or lets it in again: all addresses of that name, if it is one. Those that are under way there end in peace.
pub fn turn(spec: &UpstreamSpec, endpoint: &str, is_drained: bool, now: Instant) -> Result<Turned, Unknown> {
    let set = spec.targets.load();
    let meant: Vec<usize> = (0..set.targets.len()).filter(|index| is_named(&set.targets[*index], endpoint)).collect();
    if meant.is_empty() {
        let mut known: Vec<String> = set.targets.iter().map(|target| target.address.to_string()).collect();
        known.dedup();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(unknown(
            format!("upstream `{}` has no endpoint `{endpoint}`", spec.name),
            endpoint,
            &known,
            "its endpoints are",
        ));
    }
    for index in &meant {
        set.figures[*index].set_drained(is_drained);
    }
    let figures = &set.figures[meant[0]];
    let word = if is_drained { "drained" } else { "enabled" };
    tracing::info!(upstream = &*spec.name, endpoint, "an endpoint is {word} by hand");
    Ok(Turned {
        endpoint: endpoint.to_owned(),
        state: figures.state(now),
        in_flight: meant.iter().map(|index| set.figures[*index].in_flight()).sum(),
        warning: (is_drained && !has_usable(&set, now))
            .then(|| format!("no endpoint of upstream `{}` takes requests now: clients may be answered 503", spec.name)),
    })
}

/// Endpoints that are taken out by hand, for the process that comes after this one.
pub fn drained(spec: &UpstreamSpec) -> Vec<String> {
    let set = spec.targets.load();
    let drained = set.targets.iter().zip(&set.figures).filter(|(_, figures)| figures.is_drained());
    drained.map(|(target, _)| target.address.to_string()).collect()
}

fn has_usable(set: &TargetSet, now: Instant) -> bool {
    set.figures.iter().any(|figures| match figures.state(now) {
        EndpointState::Healthy => true,
        EndpointState::Unhealthy | EndpointState::Ejected | EndpointState::Drained => false,
    })
}

/// An address, a name with its port, or a URL of either, as in the configuration.
fn is_named(target: &Target, endpoint: &str) -> bool {
    let bare = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://")).unwrap_or(endpoint);
    let bare = bare.strip_suffix(&*target.prefix).filter(|_| bare.len() < endpoint.len()).unwrap_or(bare);
    let bare = bare.trim_end_matches('/');
    target.address.to_string() == bare || *target.authority == *bare || target.address.to_string() == endpoint
}

fn unknown(what: String, word: &str, known: &[&str], noun: &str) -> Unknown {
    let listed = &known[..known.len().min(LISTED_MAX)];
    match known {
        [] => Unknown(what),
        _ => Unknown(format!("{what}; {}", suggest(word, listed.iter().copied(), noun))),
    }
}
