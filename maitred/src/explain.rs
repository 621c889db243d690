//! `maitred explain`: puts the data plane's verdict on one request into words. Decides nothing: the router that serves was asked.

mod functions;
mod identity;
mod limits;
mod protection;

use crate::cli::Explain;
use crate::configuration::offline;
use crate::output::{Exit, json, print, say};
use crate::routes::{matched, one};
use maitred_core::Fault;
use maitred_dataplane::{Asked, Explanation, Preflight, RouteView, Snapshot, endpoint_url, explain};
use maitred_model::{
    Api, Authority, Balance, Endpoint, Function, HostPattern, Integration, PathTemplate, ProxyTarget, Route, Upstream,
    format_duration,
};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Routes that are named where none fits.
const CLOSEST_MAX: usize = 3;

pub fn main(arguments: &Explain) -> anyhow::Result<Exit> {
    let Some(snapshot) = offline(&arguments.file) else { return Ok(Exit::Refused) };
    let explanation = match explain(&snapshot, &arguments.method, &arguments.url, &arguments.headers) {
        Ok(explanation) => explanation,
        Err(fault) => return refused(&fault, arguments.json),
    };
    let taken = Taken::of(&snapshot, &explanation, &arguments.method);
    let closest = if explanation.route.is_none() { closest(&snapshot, &explanation) } else { Vec::new() };
    if arguments.json {
        json(&as_json(&explanation, taken.as_ref(), &closest))?;
    } else {
        let request = format!("{} {}", arguments.method, arguments.url);
        print(&in_words(&request, &explanation, taken.as_ref(), &closest))?;
    }
    Ok(if taken.is_some() { Exit::Fine } else { Exit::Refused })
}

/// The request itself is none that the gateway would read.
fn refused(fault: &Fault, as_json: bool) -> anyhow::Result<Exit> {
    if as_json {
        json(&json!({ "route": null, "fault": fault_json(fault) }))?;
    } else {
        say(&format!("answered with {}: {} ({})\n", fault.kind.status(), fault.kind.title(), fault.detail));
    }
    Ok(Exit::Refused)
}

/// What the document says about the route that takes the request.
struct Taken<'a> {
    view: &'a RouteView<'a>,
    /// Name and value.
    params: Vec<(&'a str, &'a str)>,
    /// The upstream's name where it has one, and where it is.
    endpoints: Vec<String>,
    /// What answers, if that is a function.
    function: Option<&'a Function>,
    /// How one of them is picked, where there is anything to pick.
    balance: Option<String>,
    timeouts: Vec<String>,
    limits: Vec<protection::Line>,
    limits_json: Value,
    protection: Vec<protection::Line>,
    /// Closed: what clients are told to wait.
    maintenance: Option<Duration>,
}

impl<'a> Taken<'a> {
    fn of(snapshot: &'a Snapshot, explanation: &'a Explanation<'a>, method: &str) -> Option<Taken<'a>> {
        let view = explanation.route.as_ref()?;
        let (api, position) = explanation.place?;
        let (_, api) = snapshot.document.apis.get_index(api as usize)?;
        let route = &api.routes.get(position as usize)?.value;
        let names = route.matcher.path.params();
        let params = names.zip(&explanation.params).map(|(name, value)| (name, value.as_str())).collect();
        let (upstream, endpoints) = behind(snapshot, route);
        let balance = upstream.filter(|upstream| is_picked(upstream)).map(balance);
        let protection = upstream.map(|upstream| protection::lines(upstream, route, method)).unwrap_or_default();
        let maintenance = route.maintenance.as_ref().or(api.maintenance.as_ref());
        let maintenance = maintenance.filter(|maintenance| maintenance.on).map(|maintenance| maintenance.retry_after);
        let by_plan = explanation.asked.is_some() && !snapshot.document.plans.is_empty();
        Some(Taken {
            view,
            params,
            endpoints,
            function: functions::of(&snapshot.document, route),
            balance,
            timeouts: timeouts(api, route, upstream),
            limits: limits::lines(api, route, by_plan),
            limits_json: limits::as_json(api, route),
            protection,
            maintenance,
        })
    }
}

fn is_picked(upstream: &Upstream) -> bool {
    let is_list = |authority: &Authority| matches!(authority, Authority::Name { every: true, .. } | Authority::Service(_));
    upstream.endpoints.iter().any(|endpoint| is_list(&endpoint.authority))
        || upstream.endpoints.len() > 1
        || upstream.balance != Balance::default()
}

fn balance(upstream: &Upstream) -> String {
    let word = upstream.balance.as_str();
    upstream.hash_by.as_ref().map_or_else(|| word.to_owned(), |by| format!("{word} by {by}"))
}

fn behind<'a>(snapshot: &'a Snapshot, route: &Route) -> (Option<&'a Upstream>, Vec<String>) {
    match &route.integration.value {
        Integration::Proxy(ProxyTarget::Named(name)) => {
            let upstream = snapshot.document.upstreams.get(name).map(|upstream| &upstream.value);
            let endpoints = upstream.into_iter().flat_map(|upstream| &upstream.endpoints);
            (upstream, endpoints.map(|endpoint| placed(endpoint)).collect())
        }
        Integration::Proxy(ProxyTarget::Url(endpoint)) => (None, vec![placed(endpoint)]),
        Integration::Function(_)
        | Integration::WebSocket(_)
        | Integration::Respond(_)
        | Integration::Redirect(_)
        | Integration::Login(..) => (None, Vec::new()),
    }
}

/// `http://10.0.1.2:9000 (weight 2, zone b)`
fn placed(endpoint: &Endpoint) -> String {
    let weight = Some(endpoint.weight.get()).filter(|weight| *weight != 1).map(|weight| format!("weight {weight}"));
    let zone = endpoint.zone.as_ref().map(|zone| format!("zone {zone}"));
    let priority = Some(endpoint.priority).filter(|priority| *priority != 0).map(|priority| format!("priority {priority}"));
    let words: Vec<String> = [weight, zone, priority].into_iter().flatten().collect();
    let url = endpoint_url(endpoint);
    if words.is_empty() { url } else { format!("{url} ({})", words.join(", ")) }
}

fn timeouts(api: &Api, route: &Route, upstream: Option<&Upstream>) -> Vec<String> {
    let whole = route.policies.timeout.or(api.policies.timeout).map(|timeout| format!("{} in all", format_duration(timeout)));
    let parts = upstream.map(|upstream| {
        let timeouts = upstream.timeouts;
        format!("{} to connect, {} to answer", format_duration(timeouts.connect), format_duration(timeouts.response))
    });
    whole.into_iter().chain(parts).collect()
}

fn in_words(request: &str, explanation: &Explanation<'_>, taken: Option<&Taken<'_>>, closest: &[RouteView<'_>]) -> String {
    let mut out = format!("{request}\n\n");
    let mut line = |label: &str, text: &str| {
        // A String takes whatever it is given.
        let _ = writeln!(out, "  {label:<11} {text}");
    };
    line("host", &explanation.host);
    line("path", &explanation.path);
    line("API", explanation.api.unwrap_or("none: no API has this host and base path"));
    match (taken, &explanation.fault) {
        (Some(taken), _) => say_taken(taken, explanation, &mut line),
        (None, Some(fault)) => {
            line("answer", &format!("{} {}", fault.kind.status(), fault.kind.title()));
            line("because", &fault.detail);
            if let Some(allow) = fault.header("allow") {
                line("allowed", allow);
            }
        }
        (None, None) => line("answer", "nothing takes it"),
    }
    list(&mut out, "Not taken:", explanation.misses.iter().map(|(view, reason)| (full(view), reason.as_str())));
    list(&mut out, "The closest routes:", closest.iter().map(|view| (full(view) + &hosts(view, &explanation.host), "")));
    out
}

fn say_taken(taken: &Taken<'_>, explanation: &Explanation<'_>, line: &mut impl FnMut(&str, &str)) {
    let view = taken.view;
    line("route", &matched(view));
    if view.name != format!("{} {}", view.methods, view.path) {
        line("name", view.name);
    }
    match &explanation.preflight {
        Some(_) => line("because", "it answers a browser that asks whether it may send a request (a CORS preflight)"),
        None => line("because", &why(view, explanation.misses.len())),
    }
    for (name, value) in &taken.params {
        line("parameter", &format!("{name} = {value}"));
    }
    line("policies", &if view.policies.is_empty() { "none".to_owned() } else { view.policies.join(" → ") });
    if let Some(preflight) = &explanation.preflight {
        return say_preflight(preflight, line);
    }
    if let Some(wait) = taken.maintenance {
        line("goes to", "nobody: closed for maintenance");
        return line("answer", &format!("503, to be asked again after {}", format_duration(wait)));
    }
    for (label, words) in identity::lines(explanation.asked.as_ref()) {
        line(label, &words);
    }
    for (label, words) in &taken.limits {
        line(label, words);
    }
    if explanation.asked.as_ref().is_some_and(Asked::is_refused) {
        line("goes to", "nobody, without a credential");
        line("would go to", &view.integration);
    } else {
        line("goes to", &view.integration);
    }
    for endpoint in &taken.endpoints {
        line("endpoint", endpoint);
    }
    for (label, words) in taken.function.into_iter().flat_map(functions::lines) {
        line(label, &words);
    }
    if let Some(balance) = &taken.balance {
        line("balance", balance);
    }
    match &explanation.forwarded {
        Some(Ok(path)) => line("asked for", path),
        Some(Err(fault)) => line("asked for", &format!("nothing: {} ({})", fault.kind.status(), fault.detail)),
        None => {}
    }
    for timeout in &taken.timeouts {
        line("timeout", timeout);
    }
    for (label, words) in &taken.protection {
        line(label, words);
    }
}

fn say_preflight(preflight: &Preflight, line: &mut impl FnMut(&str, &str)) {
    line("goes to", "nobody: the gateway answers by itself");
    line("answer", &preflight.status.to_string());
    for (name, value) in &preflight.headers {
        line("header", &format!("{name}: {value}"));
    }
    match &preflight.refusal {
        Some(refusal) => line("browser", &format!("does not send the request: {refusal}")),
        None => line("browser", "may send the request"),
    }
}

fn why(view: &RouteView<'_>, misses: usize) -> String {
    let mut words = "its path and method fit".to_owned();
    if !view.when.is_empty() {
        let _ = write!(words, ", and its conditions hold: {}", view.when.join(", "));
    }
    words.push_str(if misses == 0 { "; no other route has such a path" } else { "; the others lost, see below" });
    words
}

fn list<'v>(out: &mut String, title: &str, lines: impl Iterator<Item = (String, &'v str)>) {
    let lines: Vec<(String, &str)> = lines.collect();
    if lines.is_empty() {
        return;
    }
    let width = lines.iter().map(|(route, _)| route.chars().count()).max().unwrap_or(0);
    let _ = writeln!(out, "\n{title}");
    for (route, reason) in lines {
        let _ = writeln!(out, "{}", format!("  {route:<width$}  {reason}").trim_end());
    }
}

/// `GET /shop/orders/{id} when header x-beta: 1`
fn full(view: &RouteView<'_>) -> String {
    let when = if view.when.is_empty() { String::new() } else { format!(" when {}", view.when.join(", ")) };
    format!("{}{when}", matched(view))
}

/// The hosts of a route, where the request asked for another.
fn hosts(view: &RouteView<'_>, host: &str) -> String {
    let fits = |pattern: &String| HostPattern::parse(pattern).is_ok_and(|pattern| pattern.matches(host));
    if view.hosts.is_empty() || view.hosts.iter().any(fits) {
        return String::new();
    }
    format!(" (host {})", view.hosts.join(" or "))
}

fn as_json(explanation: &Explanation<'_>, taken: Option<&Taken<'_>>, closest: &[RouteView<'_>]) -> Value {
    let misses = explanation.misses.iter().map(|(view, reason)| json!({ "route": one(view), "reason": reason }));
    let params: Option<Map<String, Value>> =
        taken.map(|taken| taken.params.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect());
    json!({
        "host": explanation.host,
        "path": explanation.path,
        "api": explanation.api,
        "route": taken.map(|taken| one(taken.view)),
        "parameters": params,
        "endpoints": taken.map(|taken| &taken.endpoints),
        "function": taken.and_then(|taken| taken.function).map(functions::as_json),
        "balance": taken.and_then(|taken| taken.balance.as_deref()),
        "forwarded": explanation.forwarded.as_ref().and_then(|forwarded| forwarded.as_ref().ok()),
        "identity": taken.and(explanation.asked.as_ref()).map(identity::as_json),
        "preflight": explanation.preflight.as_ref().map(|preflight| json!({
            "status": preflight.status,
            "headers": preflight.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect::<Map<_, _>>(),
            "refusal": preflight.refusal,
        })),
        "limits": taken.map(|taken| &taken.limits_json),
        "timeouts": taken.map(|taken| &taken.timeouts),
        "protection": taken.map(|taken| {
            taken.protection.iter().map(|(label, words)| ((*label).to_owned(), words.as_str().into())).collect::<Map<_, _>>()
        }),
        "maintenance": taken.and_then(|taken| taken.maintenance).map(format_duration),
        "fault": explanation.fault.as_ref().map(fault_json),
        "misses": misses.collect::<Value>(),
        "closest": closest.iter().map(one).collect::<Value>(),
    })
}

fn fault_json(fault: &Fault) -> Value {
    json!({ "kind": fault.kind.name(), "status": fault.kind.status(), "detail": fault.detail, "allow": fault.header("allow") })
}

/// Where nothing fits, what the user may have meant. Routes that fit but for method or conditions are told as misses already.
fn closest<'s>(snapshot: &'s Snapshot, explanation: &Explanation<'_>) -> Vec<RouteView<'s>> {
    if !explanation.misses.is_empty() {
        return Vec::new();
    }
    let ranked = snapshot.routes().filter_map(|view| {
        let whole = PathTemplate::parse(&format!("{}{}", view.base_path, view.path)).ok()?;
        let far = distance(&explanation.path, &whole.source);
        (far * 2 <= explanation.path.len()).then_some((far, view))
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|(far, _)| *far);
    ranked.into_iter().take(CLOSEST_MAX).map(|(_, view)| view).collect()
}

/// How many letters are other, segment by segment; a parameter fits any segment.
fn distance(path: &str, template: &str) -> usize {
    let (mut path, mut template) = (path.split('/').skip(1), template.split('/').skip(1));
    let mut far = 0;
    loop {
        match (path.next(), template.next()) {
            (None, None) => return far,
            (_, Some(segment)) if segment.ends_with("+}") => return far,
            (Some(_), Some(segment)) if segment.starts_with('{') => {}
            (Some(a), Some(b)) => far += letters(a, b),
            (Some(rest), None) | (None, Some(rest)) => far += rest.chars().count() + 1,
        }
    }
}

/// Levenshtein's distance, one row at a time.
fn letters(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_near_and_another_path_is_far() {
        for (path, template, far) in [
            ("/menu", "/menu", 0),
            ("/mneu", "/menu", 2),
            ("/orders/7", "/orders/{id}", 0),
            ("/order/7", "/orders/{id}", 1),
            ("/files/a/b", "/files/{rest+}", 0),
            ("/menu", "/menu/today", 6),
        ] {
            assert_eq!(distance(path, template), far, "{path} {template}");
        }
    }
}
