//! What protects an upstream, and what routes say of it.

use super::duration;
use crate::document::*;
use crate::values::format_size;
use serde_json::{Value, json};

/// Adds to an upstream what it has of these.
pub(super) fn add(protection: &Protection, upstream: &mut Value) {
    let Protection { health_check, outlier_detection, circuit_breaker, retry, hedge, slow_start, concurrency, panic_below } =
        protection;
    let parts = [
        ("health_check", health_check.as_ref().map(print_health_check)),
        ("outlier_detection", outlier_detection.as_ref().map(print_outlier_detection)),
        ("circuit_breaker", circuit_breaker.as_ref().map(print_circuit_breaker)),
        ("retry", retry.as_ref().map(print_retry)),
        ("hedge", hedge.as_ref().map(|Hedge { after }| json!({ "after": after.to_string() }))),
        ("slow_start", slow_start.map(duration)),
        ("concurrency", concurrency.as_ref().map(print_concurrency)),
        ("panic_below", panic_below.map(|share| share.to_string().into())),
    ];
    for (key, part) in parts {
        if let Some(part) = part {
            upstream[key] = part;
        }
    }
}

fn print_health_check(check: &HealthCheck) -> Value {
    let HealthCheck { probe, port, interval, timeout, unhealthy_after, healthy_after } = check;
    let mut value = json!({
        "type": probe.name(),
        "interval": duration(*interval),
        "timeout": duration(*timeout),
        "unhealthy_after": unhealthy_after.get(),
        "healthy_after": healthy_after.get(),
    });
    match probe {
        Probe::Http { path, host, expect } => {
            value["path"] = path.as_str().into();
            value["expect"] = expect.iter().map(|(from, to)| format!("{from}-{to}")).collect();
            if let Some(host) = host {
                value["host"] = host.as_str().into();
            }
        }
        Probe::Tcp => {}
        Probe::Grpc { service } => value["service"] = service.as_str().into(),
    }
    if let Some(port) = port {
        value["port"] = (*port).into();
    }
    value
}

fn print_outlier_detection(outliers: &OutlierDetection) -> Value {
    let OutlierDetection { consecutive_failures, success_rate, min_requests, interval, eject_for, eject_max, max_ejected } =
        outliers;
    let mut value = json!({
        "consecutive_failures": consecutive_failures.get(),
        "min_requests": min_requests.get(),
        "interval": duration(*interval),
        "eject_for": duration(*eject_for),
        "eject_max": duration(*eject_max),
        "max_ejected": max_ejected.to_string(),
    });
    if let Some(rate) = success_rate {
        value["success_rate"] = rate.to_string().into();
    }
    value
}

fn print_circuit_breaker(breaker: &CircuitBreaker) -> Value {
    let CircuitBreaker { connections, requests, pending } = breaker;
    json!({ "connections": connections.get(), "requests": requests.get(), "pending": pending.get() })
}

fn print_retry(retry: &Retry) -> Value {
    let Retry { attempts, conditions, per_try_timeout, budget, backoff, backoff_max, body_bytes } = retry;
    let mut value = json!({
        "attempts": attempts.get(),
        "conditions": conditions.iter().map(|condition| condition.to_string()).collect::<Value>(),
        "budget": budget.to_string(),
        "backoff": duration(*backoff),
        "backoff_max": duration(*backoff_max),
        "body_bytes": format_size(body_bytes.get().into()),
    });
    if let Some(timeout) = per_try_timeout {
        value["per_try_timeout"] = duration(*timeout);
    }
    value
}

fn print_concurrency(concurrency: &Concurrency) -> Value {
    let Concurrency { limit, per, queue: Queue { length, timeout } } = concurrency;
    let limit = match limit {
        ConcurrencyLimit::Adaptive { min, max } => json!({ "adaptive": { "min": min.get(), "max": max.get() } }),
        ConcurrencyLimit::Fixed(limit) => limit.get().into(),
    };
    let per = match per {
        ConcurrencyScope::Upstream => "upstream",
        ConcurrencyScope::Endpoint => "endpoint",
    };
    json!({ "limit": limit, "per": per, "queue": { "length": length, "timeout": duration(*timeout) } })
}

pub(super) fn priority(priority: &Priority) -> Value {
    match priority {
        Priority::Fixed(number) => (*number).into(),
        Priority::Header(name) => format!("header:{name}").into(),
    }
}

pub(super) fn maintenance(maintenance: &Maintenance) -> Value {
    let Maintenance { on, retry_after } = maintenance;
    if *on { json!({ "retry_after": duration(*retry_after) }) } else { false.into() }
}
