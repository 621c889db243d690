//! What protects an upstream, against itself and beside the routes that go there: what cannot be meant, and what does nothing.

use super::{Checker, Written};
use crate::diagnostics::Diagnostic;
use crate::document::{
    Api, Authority, ConcurrencyLimit, ConcurrencyScope, Document, HedgeAfter, Integration, Priority, Probe, Protection,
    ProxyTarget, RetryOn, Route, Scheme, Upstream, UpstreamProtocol,
};
use crate::span::{Span, Spanned};
use crate::values::format_duration;
use crate::yaml::{Kind, Node};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What one upstream says, and where.
struct Told<'a> {
    name: &'a str,
    upstream: &'a Upstream,
    node: Option<&'a Node>,
    /// Its name's.
    span: Span,
}

impl Told<'_> {
    /// The innermost of these keys that is written, or else the upstream.
    fn span(&self, keys: &[&str]) -> Span {
        let mut span = self.span;
        let mut node = self.node;
        for key in keys {
            node = node.and_then(|node| node.get(key));
            span = node.map_or(span, |node| node.span);
        }
        span
    }

    fn says(&self, keys: &[&str]) -> bool {
        self.node.and_then(|node| keys.iter().try_fold(node, |node, key| node.get(key))).is_some()
    }
}

/// The entries of a section by their names, looked through once.
fn nodes<'a>(written: &Written<'a>, section: &str) -> HashMap<&'a str, &'a Node> {
    match written.root.get(section).map(|node| &node.kind) {
        Some(Kind::Mapping(entries)) => entries.iter().map(|(key, node)| (key.value.as_str(), node)).collect(),
        Some(Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned) | None => HashMap::new(),
    }
}

/// Every upstream, with what was written of it.
fn told<'a>(document: &'a Document, written: &Written<'a>) -> Vec<Told<'a>> {
    let nodes = nodes(written, "upstreams");
    let of = |(name, upstream): (&'a String, &'a Spanned<Upstream>)| {
        let node = nodes.get(name.as_str()).copied();
        Told { name, upstream: &upstream.value, node, span: upstream.span }
    };
    document.upstreams.iter().map(of).collect()
}

/// What cannot be meant.
pub(super) fn contradictions(document: &Document, checker: &mut Checker<'_>) {
    for told in told(document, checker.written) {
        let Protection { health_check, outlier_detection, retry, .. } = &told.upstream.protection;
        if let Some(retry) = retry.as_ref().filter(|retry| retry.backoff > retry.backoff_max) {
            let longest = ("backoff_max", retry.backoff_max);
            above(&told, "retry", ("backoff", retry.backoff), longest, checker);
        }
        if let Some(outliers) = outlier_detection.as_ref().filter(|outliers| outliers.eject_for > outliers.eject_max) {
            let longest = ("eject_max", outliers.eject_max);
            above(&told, "outlier_detection", ("eject_for", outliers.eject_for), longest, checker);
        }
        let is_grpc = health_check.as_ref().is_some_and(|check| matches!(check.probe, Probe::Grpc { .. }));
        if is_grpc && !speaks_http2(told.upstream) {
            let message = "gRPC needs HTTP/2, and this upstream is spoken to by HTTP/1.1";
            let hint = "write `protocol: h2c` in the upstream, or `protocol: h2` where its endpoints are `https`";
            checker.error("contradiction", told.span(&["health_check", "type"]), message, hint);
        }
        if told.upstream.affinity.is_some() && told.upstream.balance.is_by_key() {
            let word = told.upstream.balance.as_str();
            let message =
                format!("`affinity` sends a client where it was before, and `{word}` sends its key where the key belongs");
            let diagnostic = Diagnostic::error("contradiction", told.span(&["affinity"]), message);
            let hint = "remove one of them, or write `hash_by: cookie:NAME` for a cookie that your back ends set";
            checker.diagnostics.push(diagnostic.hint(hint).also(told.span(&["balance"]), "the other stands here"));
        }
    }
}

/// Or has a port of its own for checks, which by prior knowledge may speak anything.
fn speaks_http2(upstream: &Upstream) -> bool {
    let has_port = upstream.protection.health_check.as_ref().is_some_and(|check| check.port.is_some());
    let is_clear = upstream.endpoints.iter().all(|endpoint| endpoint.scheme == Scheme::Http);
    upstream.protocol != UpstreamProtocol::Http1 || (has_port && is_clear)
}

/// The first of a growing time, above the longest.
fn above(
    told: &Told<'_>,
    section: &str,
    (first, value): (&str, Duration),
    (longest, limit): (&str, Duration),
    checker: &mut Checker<'_>,
) {
    let value = format_duration(value);
    let message = format!("`{first}` of {value} is above `{longest}` of {}", format_duration(limit));
    let key = if told.says(&[section, first]) { first } else { longest };
    checker.error("contradiction", told.span(&[section, key]), message, format!("write `{longest}: {value}` or more"));
}

/// What does nothing, or not what it seems to. Only of a document without errors: what is missing for one would show here too.
pub(super) fn without_effect(document: &Document, checker: &mut Checker<'_>) {
    let all = told(document, checker.written);
    for told in &all {
        endpoints(told, checker);
        tries(told, checker);
        line(told, checker);
    }
    zones(document, checker);
    let by_name: HashMap<&str, &Told<'_>> = all.iter().map(|told| (told.name, told)).collect();
    let apis = nodes(checker.written, "apis");
    let mut seen = Seen::default();
    for (name, api) in &document.apis {
        let listed = apis.get(name.as_str()).and_then(|api| api.get("routes"));
        for (at, route) in api.routes.iter().enumerate() {
            let Integration::Proxy(target) = &route.integration.value else { continue };
            let told = match target {
                ProxyTarget::Named(name) => by_name.get(name.as_str()).copied(),
                ProxyTarget::Url(_) => None,
            };
            let written = match listed.map(|listed| &listed.kind) {
                Some(Kind::Sequence(items)) => items.get(at),
                Some(Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned) | None => None,
            };
            own_keys(document, route, told, written, checker);
            if let Some(told) = told {
                patience(api, route, told, &mut seen, checker);
                seen.note(route, told);
            }
        }
    }
    for told in all.iter().filter(|told| told.upstream.protection.hedge.is_some()) {
        if seen.used.contains(told.name) && !seen.repeatable.contains(told.name) {
            let message = format!("only idempotent requests are hedged, and no route to `{}` takes any", told.name);
            let hint = "write `idempotent: true` in a route whose requests may be sent twice, or remove `hedge`";
            checker.warning("no-effect", told.span(&["hedge"]), message, hint);
        }
    }
}

/// Whether there is more than one endpoint, or may be.
fn is_many(upstream: &Upstream) -> bool {
    let is_list = |authority: &Authority| matches!(authority, Authority::Name { every: true, .. } | Authority::Service(_));
    upstream.endpoints.len() > 1 || upstream.endpoints.iter().any(|endpoint| is_list(&endpoint.authority))
}

fn endpoints(told: &Told<'_>, checker: &mut Checker<'_>) {
    let upstream = told.upstream;
    let Protection { health_check, outlier_detection, slow_start, panic_below, hedge, .. } = &upstream.protection;
    if panic_below.is_some() && health_check.is_none() && outlier_detection.is_none() {
        let message = "`panic_below` does nothing: no endpoint is found unusable without `health_check` or `outlier_detection`";
        checker.warning("no-effect", told.span(&["panic_below"]), message, "add one of them, or remove `panic_below`");
    }
    if slow_start.is_some() && !is_many(upstream) {
        let message = "`slow_start` does nothing: the one endpoint has all requests from the first";
        checker.warning("no-effect", told.span(&["slow_start"]), message, "remove it");
    }
    if hedge.is_some() && !is_many(upstream) {
        let message = "`hedge` does nothing: the second request goes to another endpoint, and there is none";
        checker.warning("no-effect", told.span(&["hedge"]), message, "add another endpoint, or remove `hedge`");
    }
    if upstream.affinity.is_some() && !is_many(upstream) {
        let message = "`affinity` does nothing: the one endpoint has all requests anyway";
        checker.warning("no-effect", told.span(&["affinity"]), message, "add another endpoint, or remove `affinity`");
    }
    let mut seen: HashMap<(&Authority, &str), Span> = HashMap::new();
    for endpoint in &upstream.endpoints {
        if let Some(first) = seen.insert((&endpoint.authority, &endpoint.path), endpoint.span) {
            let diagnostic = Diagnostic::warning("endpoint-twice", endpoint.span, "this endpoint is listed twice");
            let hint = "remove one of them; for a larger share write `{ url: …, weight: 2 }`";
            checker.diagnostics.push(diagnostic.hint(hint).also(first, "first written here"));
        }
    }
    let is_socket = |authority: &Authority| matches!(authority, Authority::Unix(_));
    let has_port = health_check.as_ref().is_some_and(|check| check.port.is_some());
    if has_port && upstream.endpoints.iter().all(|endpoint| is_socket(&endpoint.authority)) {
        let message = "a unix socket has no port, and is checked where it is";
        checker.warning("no-effect", told.span(&["health_check", "port"]), message, "remove `port`");
    }
    if outlier_detection.as_ref().is_some_and(|outliers| outliers.success_rate.is_none())
        && told.says(&["outlier_detection", "min_requests"])
    {
        let message = "`min_requests` goes with `success_rate`, and does nothing without it";
        let span = told.span(&["outlier_detection", "min_requests"]);
        checker.warning("no-effect", span, message, "add `success_rate: 90%`, or remove `min_requests`");
    }
}

/// Retries and hedges.
fn tries(told: &Told<'_>, checker: &mut Checker<'_>) {
    let response = told.upstream.timeouts.response;
    let Protection { retry, hedge, .. } = &told.upstream.protection;
    if let Some(retry) = retry {
        let conditions = told.span(&["retry", "conditions"]);
        if retry.attempts.get() == 1 {
            let message = "one attempt is the first and the last: nothing is tried again";
            checker.warning("no-effect", told.span(&["retry", "attempts"]), message, "write `attempts: 2`, or remove `retry`");
        } else if retry.conditions.is_empty() {
            let message = "no condition, no retry";
            checker.warning("no-effect", conditions, message, "remove `conditions` for the usual ones, or remove `retry`");
        } else if let Some(per_try) = retry.per_try_timeout {
            let span = told.span(&["retry", "per_try_timeout"]);
            let words = format_duration(per_try);
            if per_try > response {
                let message = format!("`per_try_timeout` of {words} is above `response` of {}", format_duration(response));
                let hint = "write a shorter one, or a longer `timeouts: { response: … }`";
                checker.warning("no-effect", span, message, hint);
            }
            if !retry.conditions.contains(&RetryOn::Timeout) {
                let message = format!("a try that takes longer than {words} is given up, and is no reason for another");
                let diagnostic = Diagnostic::warning("no-retry", span, message).hint("add `timeout` to `conditions`");
                checker.diagnostics.push(diagnostic);
            }
        }
    }
    if let Some(HedgeAfter::Delay(after)) = hedge.map(|hedge| hedge.after)
        && after >= response
    {
        let words = format_duration(response);
        let message = format!("the first request is given up after {words}, before a second one is sent");
        checker.warning("no-effect", told.span(&["hedge", "after"]), message, format!("write less than {words}"));
    }
}

/// Limit and queue.
fn line(told: &Told<'_>, checker: &mut Checker<'_>) {
    let Some(concurrency) = told.upstream.protection.concurrency else { return };
    if concurrency.queue.length == 0 && told.says(&["concurrency", "queue", "timeout"]) {
        let message = "nobody waits in a queue of length 0, and `timeout` does nothing";
        let span = told.span(&["concurrency", "queue", "timeout"]);
        checker.warning("no-effect", span, message, "remove `timeout`, or write a `length`");
    }
    let breaker = told.upstream.protection.circuit_breaker.map(|breaker| breaker.requests);
    if let (Some(requests), ConcurrencyLimit::Fixed(limit), ConcurrencyScope::Upstream) =
        (breaker, concurrency.limit, concurrency.per)
        && requests < limit
    {
        let message =
            format!("the circuit breaker refuses more than {requests} requests, and the {limit} of `limit` are never reached");
        let diagnostic = Diagnostic::warning("no-effect", told.span(&["concurrency", "limit"]), message);
        let breaker = told.span(&["circuit_breaker", "requests"]);
        let hint = format!("write `limit: {requests}` or less, so that requests wait before they are refused");
        checker.diagnostics.push(diagnostic.hint(hint).also(breaker, "the circuit breaker stands here"));
    }
}

/// Zones are something only where both sides name theirs.
fn zones(document: &Document, checker: &mut Checker<'_>) {
    let mut endpoints = document.upstreams.values().flat_map(|upstream| &upstream.endpoints);
    let zoned = endpoints.find(|endpoint| endpoint.zone.is_some());
    match (&document.zone, zoned) {
        (None, Some(endpoint)) => {
            let message = "endpoints have a `zone` and the gateway has none: all of them are alike to it";
            checker.warning(
                "no-effect",
                endpoint.span,
                message,
                "add `zone: …` at the top of the file, or remove the endpoints'",
            );
        }
        (Some(_), None) => {
            let span = checker.written.root.get("zone").map_or(Span::none(), |node| node.span);
            let message = "the gateway has a `zone` and no endpoint has one: all of them are alike to it";
            checker.warning("no-effect", span, message, "write endpoints as `{ url: …, zone: … }`, or remove it");
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// `priority` and `idempotent` of a route, each beside what it needs.
fn own_keys(
    document: &Document,
    route: &Spanned<Route>,
    told: Option<&Told<'_>>,
    written: Option<&Node>,
    checker: &mut Checker<'_>,
) {
    let none = Protection::default();
    let protection = told.map_or(&none, |told| &told.upstream.protection);
    let span = |key| written.and_then(|node| node.get(key)).map_or(route.matcher.span, |node| node.span);
    let mut found = Vec::new();
    if let Some(priority) = &route.priority {
        if protection.concurrency.is_none() {
            let message = "`priority` does nothing: without `concurrency` nobody waits for this upstream";
            let hint = "add `concurrency: { limit: adaptive }` to the upstream, or remove `priority`";
            found.push(Diagnostic::warning("no-effect", span("priority"), message).hint(hint));
        } else if matches!(priority, Priority::Header(_)) && document.trusted_proxies.is_empty() {
            let message = "this header is taken from trusted proxies alone, and there are none";
            let hint = "add `trusted_proxies: [10.0.0.0/8]` at the top of the file, or write a number";
            found.push(Diagnostic::warning("no-effect", span("priority"), message).hint(hint));
        }
    }
    let repeats = protection.retry.is_some() || protection.hedge.is_some();
    match route.idempotent {
        Some(_) if !repeats => {
            let message = "`idempotent` does nothing: this upstream has neither `retry` nor `hedge`";
            let hint = "add `retry: {}` to the upstream, or remove `idempotent`";
            found.push(Diagnostic::warning("no-effect", span("idempotent"), message).hint(hint));
        }
        Some(true) if takes(route, |method| !is_idempotent(method)) => {
            let message = "requests of this route may reach the back end twice, whatever their method";
            let hint = "see that they carry a key by which it knows the second one";
            found.push(Diagnostic::warning("repeated", span("idempotent"), message).hint(hint));
        }
        Some(true | false) | None => {}
    }
    for diagnostic in found {
        checker.diagnostics.push(diagnostic);
    }
}

/// RFC 9110 §9.2.2; TRACE is not proxied.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

fn takes(route: &Route, mut is: impl FnMut(&str) -> bool) -> bool {
    route.matcher.methods.is_empty() || route.matcher.methods.iter().any(|method| is(method))
}

/// What routes said of upstreams so far.
#[derive(Default)]
struct Seen<'a> {
    used: HashSet<&'a str>,
    /// Those to which a route sends requests that may be sent twice.
    repeatable: HashSet<&'a str>,
    /// Upstream and key: told once.
    short: HashSet<(&'a str, &'static str)>,
}

impl<'a> Seen<'a> {
    fn note(&mut self, route: &Route, told: &Told<'a>) {
        self.used.insert(told.name);
        if route.idempotent.unwrap_or_else(|| takes(route, is_idempotent)) {
            self.repeatable.insert(told.name);
        }
    }
}

/// The patience of an upstream, where a route has less. Told at the first such route.
fn patience<'a>(api: &Api, route: &Spanned<Route>, told: &Told<'a>, seen: &mut Seen<'a>, checker: &mut Checker<'_>) {
    let Some(whole) = route.policies.timeout.or(api.policies.timeout) else { return };
    let Protection { retry, hedge, concurrency, .. } = &told.upstream.protection;
    let delay = |after| match after {
        HedgeAfter::Delay(after) => Some(after),
        HedgeAfter::Percentile { .. } => None,
    };
    let waits: [(&'static str, &[&str], Option<Duration>); 3] = [
        ("per_try_timeout", &["retry", "per_try_timeout"], retry.as_ref().and_then(|retry| retry.per_try_timeout)),
        ("after", &["hedge", "after"], hedge.and_then(|hedge| delay(hedge.after))),
        ("timeout", &["concurrency", "queue", "timeout"], concurrency.map(|concurrency| concurrency.queue.timeout)),
    ];
    for (key, keys, wait) in waits {
        // What nobody wrote is nobody's mistake.
        let Some(wait) = wait.filter(|wait| *wait > whole && told.says(keys)) else { continue };
        if seen.short.insert((told.name, key)) {
            let message = format!(
                "`{key}` of {} is longer than a route has for all of its tries: {}",
                format_duration(wait),
                format_duration(whole)
            );
            let diagnostic = Diagnostic::warning("no-effect", told.span(keys), message);
            let hint = "write a shorter one, or a longer `timeout` in the route";
            checker.diagnostics.push(diagnostic.hint(hint).also(route.matcher.span, "this route gives up earlier"));
        }
    }
}
