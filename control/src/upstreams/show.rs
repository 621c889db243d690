//! Views of upstreams as JSON. Times are RFC 3339, durations milliseconds or seconds, as their names say.

use super::{EndpointView, UpstreamView};
use crate::health::{Checked, LastCheck};
use crate::times::of_millis;
use jiff::Timestamp;
use maitred_core::health::EndpointState;
use maitred_core::queue::GateView;
use maitred_transport::BreakerView;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

pub(super) fn upstream(view: &UpstreamView) -> Value {
    let UpstreamView { name, balance, panic, endpoints, queue, breaker } = view;
    json!({
        "name": **name,
        "balance": balance.as_str(),
        "panic": panic,
        "queue": queue.as_ref().map(|GateView { in_flight, waiting, limit, tally: _ }| json!({ "in_flight": in_flight, "waiting": waiting, "limit": limit })),
        "circuit_breaker": breaker.as_ref().map(|BreakerView { requests, connections, pending, limits: _ }| json!({ "requests": requests, "connections": connections, "pending": pending })),
        "endpoints": endpoints.iter().map(endpoint).collect::<Value>(),
    })
}

fn endpoint(view: &EndpointView) -> Value {
    let EndpointView { target, state, in_flight, connections, latency, requests, failures, ejections, ejected_for, checked } =
        view;
    // Since when, and why, is known of what checks found.
    let found = match state {
        EndpointState::Healthy | EndpointState::Unhealthy => checked.as_ref(),
        EndpointState::Ejected | EndpointState::Drained => None,
    };
    json!({
        "address": target.address.to_string(),
        "host": *target.authority,
        "weight": target.weight,
        "zone": target.zone.as_deref(),
        "priority": target.priority,
        "state": state.as_str(),
        "since": found.map(|checked| time(checked.since)),
        "reason": found.and_then(|checked| checked.reason.as_deref()),
        "in_flight": in_flight,
        "connections": connections,
        "latency_ms": latency.map(millis),
        "requests": requests,
        "failures": failures,
        "ejections": ejections,
        "ejected_for_seconds": ejected_for.map(|left| (left.as_secs_f64() * 10.0).round() / 10.0),
        "health_check": checked.as_ref().map(health_check),
    })
}

fn health_check(checked: &Checked) -> Value {
    let Checked { is_healthy, since: _, reason: _, last, passed, failed } = checked;
    let LastCheck { at, took, failure } = last;
    json!({
        "healthy": is_healthy,
        "last": time(*at),
        "took_ms": millis(*took),
        "failure": failure,
        "passed": passed,
        "failed": failed,
    })
}

/// To the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn time(time: SystemTime) -> Option<String> {
    let time = Timestamp::try_from(time).ok()?;
    of_millis(time.as_millisecond())
}
