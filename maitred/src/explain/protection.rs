//! What protects the upstream behind a route, in few words: one line for each thing that is configured, and none for the rest.

use maitred_core::wire::Method;
use maitred_model::{
    Affinity, CircuitBreaker, Concurrency, ConcurrencyLimit, ConcurrencyScope, HealthCheck, Hedge, OutlierDetection, Priority,
    Probe, Protection, Retry, Route, Share, Upstream, format_duration,
};

/// Label and words.
pub type Line = (&'static str, String);

/// In the order in which a request meets them.
pub fn lines(upstream: &Upstream, route: &Route, method: &str) -> Vec<Line> {
    let Protection { health_check, outlier_detection, circuit_breaker, retry, hedge, slow_start, concurrency, panic_below } =
        &upstream.protection;
    let repeatable = repeatable(route, method);
    let parts = [
        ("at once", concurrency.as_ref().map(|concurrency| at_once(concurrency, route.priority.as_ref()))),
        ("sticks", upstream.affinity.as_ref().map(sticks)),
        ("health", health_check.as_ref().map(health)),
        ("ejects", outlier_detection.as_ref().map(ejects)),
        ("panics", panic_below.map(panics)),
        ("slow start", slow_start.map(|time| format!("{} until an endpoint has its full share", format_duration(time)))),
        ("breaker", circuit_breaker.as_ref().map(breaker)),
        ("retry", retry.as_ref().map(|retry| tries(retry, &repeatable))),
        ("hedge", hedge.as_ref().map(|hedge| second(hedge, &repeatable))),
    ];
    parts.into_iter().filter_map(|(label, words)| Some((label, words?))).collect()
}

fn panics(share: Share) -> String {
    if share == Share::NONE { "never".to_owned() } else { format!("below {share} of usable endpoints: then all are used") }
}

/// `Err`: why not.
fn repeatable(route: &Route, method: &str) -> Result<(), String> {
    match route.idempotent {
        Some(true) => Ok(()),
        Some(false) => Err("the route says that it is not idempotent".to_owned()),
        None if Method::of(method.as_bytes()).is_idempotent() => Ok(()),
        None => Err(format!("{method} is not idempotent")),
    }
}

fn at_once(concurrency: &Concurrency, priority: Option<&Priority>) -> String {
    let Concurrency { limit, per, queue } = concurrency;
    let limit = match limit {
        ConcurrencyLimit::Adaptive { min, max } => format!("as many requests as it bears, {min} to {max}"),
        ConcurrencyLimit::Fixed(limit) => format!("{limit} requests"),
    };
    let per = match per {
        ConcurrencyScope::Upstream => "",
        ConcurrencyScope::Endpoint => " for each endpoint",
    };
    let priority = match priority {
        None | Some(Priority::Fixed(0)) => String::new(),
        Some(Priority::Fixed(number)) => format!(", these with priority {number}"),
        Some(Priority::Header(name)) => format!(", with the priority in {name}"),
    };
    match queue.length {
        0 => format!("{limit}{per}; no others wait"),
        length => format!("{limit}{per}; {length} more wait up to {}{priority}", format_duration(queue.timeout)),
    }
}

fn sticks(affinity: &Affinity) -> String {
    let Affinity { cookie, ttl } = affinity;
    let ttl = ttl.map_or_else(|| "the client's session".to_owned(), format_duration);
    format!("to its endpoint by the cookie {cookie}, for {ttl}")
}

fn health(check: &HealthCheck) -> String {
    let HealthCheck { probe, port, interval, timeout: _, unhealthy_after, healthy_after } = check;
    let what = match probe {
        Probe::Http { path, .. } => format!("GET {path}"),
        Probe::Tcp => "a connection".to_owned(),
        Probe::Grpc { service } if service.is_empty() => "gRPC health".to_owned(),
        Probe::Grpc { service } => format!("gRPC health of {service}"),
    };
    let port = port.map_or_else(String::new, |port| format!(" at port {port}"));
    format!(
        "{what}{port} every {}; out after {unhealthy_after} failed, back after {healthy_after} passed",
        format_duration(*interval)
    )
}

fn ejects(outliers: &OutlierDetection) -> String {
    let OutlierDetection { consecutive_failures, success_rate, eject_for, max_ejected, .. } = outliers;
    let rate = success_rate.map_or_else(String::new, |rate| format!(", or below {rate} of success"));
    format!(
        "after {consecutive_failures} failures in a row{rate}; for {} at first, at most {max_ejected} of all",
        format_duration(*eject_for)
    )
}

fn breaker(breaker: &CircuitBreaker) -> String {
    let CircuitBreaker { connections, requests, pending } = breaker;
    format!("{connections} connections, {requests} requests, {pending} pending")
}

fn tries(retry: &Retry, repeatable: &Result<(), String>) -> String {
    let Retry { attempts, conditions, budget, .. } = retry;
    let conditions: Vec<String> = conditions.iter().map(ToString::to_string).collect();
    let whole = format!("{attempts} attempts on {}; budget {budget}", conditions.join(", "));
    match repeatable {
        Ok(()) => whole,
        Err(why) => format!("{whole}; only while nothing was sent: {why}"),
    }
}

fn second(hedge: &Hedge, repeatable: &Result<(), String>) -> String {
    match repeatable {
        Ok(()) => format!("a second request after {}", hedge.after),
        Err(why) => format!("none: {why}"),
    }
}
