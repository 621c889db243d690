//! `maitred upstream`: the endpoints of a gateway that runs. And what of them one process tells the next.

use crate::cli::{Place, Upstream, UpstreamVerb, Which};
use crate::output::{Exit, json, print, say, table};
use crate::remote::{self, escaped};
use anyhow::ensure;
use maitred_control::upstreams::{drained, find, turn};
use maitred_dataplane::Snapshot;
use serde_json::Value;
use std::time::{Duration, Instant};

/// For the answer: of thousands of endpoints, too.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

pub fn main(arguments: &Upstream) -> anyhow::Result<Exit> {
    let place = &arguments.place;
    match &arguments.verb {
        UpstreamVerb::List { name, json } => list(place, name.as_deref(), *json),
        UpstreamVerb::Drain(which) => turned(place, which, "drain"),
        UpstreamVerb::Enable(which) => turned(place, which, "enable"),
    }
}

fn list(place: &Place, name: Option<&str>, is_json: bool) -> anyhow::Result<Exit> {
    let path = name.map_or_else(|| "/upstreams".to_owned(), |name| format!("/upstreams/{}", escaped(name)));
    let answer = remote::ask(place, "GET", &path, ANSWER_TIME_MAX)?;
    ensure!(answer.status == 200, "{}", answer.detail());
    if is_json {
        return json(&answer.body);
    }
    let upstreams = match &answer.body {
        Value::Array(upstreams) => upstreams.as_slice(),
        one => std::slice::from_ref(one),
    };
    let rows = shown(upstreams);
    let notes: Vec<String> = upstreams.iter().flat_map(notes).collect();
    let gap = if notes.is_empty() { "" } else { "\n" };
    print(&format!("{}{gap}{}", table(&rows), notes.concat()))?;
    Ok(Exit::Fine)
}

/// A column that is there where some endpoint has something else in it than the default.
struct Extra {
    heading: &'static str,
    key: &'static str,
    default: &'static str,
}

const EXTRAS: [Extra; 3] = [
    Extra { heading: "WEIGHT", key: "weight", default: "1" },
    Extra { heading: "ZONE", key: "zone", default: "-" },
    Extra { heading: "PRIORITY", key: "priority", default: "0" },
];

impl Extra {
    fn of(&self, endpoint: &Value) -> String {
        match &endpoint[self.key] {
            Value::Null => self.default.to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn is_wanted(&self, upstreams: &[Value]) -> bool {
        let mut endpoints = upstreams.iter().filter_map(|upstream| upstream["endpoints"].as_array()).flatten();
        endpoints.any(|endpoint| self.of(endpoint) != self.default)
    }
}

/// The whole table.
fn shown(upstreams: &[Value]) -> Vec<Vec<String>> {
    let extras: Vec<&Extra> = EXTRAS.iter().filter(|extra| extra.is_wanted(upstreams)).collect();
    let first = ["UPSTREAM", "ENDPOINT"].into_iter().chain(extras.iter().map(|extra| extra.heading));
    let heading = first.chain(["STATE", "IN FLIGHT", "LATENCY", "REQUESTS", "FAILURES", "WHY"]).map(str::to_owned).collect();
    std::iter::once(heading).chain(upstreams.iter().flat_map(|upstream| rows(upstream, &extras))).collect()
}

fn rows(upstream: &Value, extras: &[&Extra]) -> Vec<Vec<String>> {
    let endpoints = upstream["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |endpoint: &Value| {
        let latency = endpoint["latency_ms"].as_f64().map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1} ms"));
        let why = match endpoint["ejected_for_seconds"].as_f64() {
            Some(seconds) => format!("for {seconds} s more"),
            // What the last check found; that may be another thing than what took it out.
            None if endpoint["state"] == "unhealthy" => {
                let last = endpoint["health_check"]["failure"].as_str();
                last.or(endpoint["reason"].as_str()).unwrap_or_default().to_owned()
            }
            None => endpoint["reason"].as_str().unwrap_or_default().to_owned(),
        };
        let number = |key: &str| endpoint[key].to_string();
        let (in_flight, requests, failures) = (number("in_flight"), number("requests"), number("failures"));
        let mut row = vec![text(&upstream["name"]), text(&endpoint["address"])];
        row.extend(extras.iter().map(|extra| extra.of(endpoint)));
        row.extend([text(&endpoint["state"]), in_flight, latency, requests, failures, why]);
        row
    };
    if endpoints.is_empty() {
        return vec![vec![text(&upstream["name"]), "(no address)".to_owned()]];
    }
    endpoints.iter().map(row).collect()
}

/// What is to be said of an upstream as a whole, each a line.
fn notes(upstream: &Value) -> Vec<String> {
    let name = upstream["name"].as_str().unwrap_or("-");
    let panic = || format!("{name}: panic; too few endpoints are usable, and requests go to all of them\n");
    let queue = upstream["queue"].as_object().map(|queue| {
        let number = |key: &str| queue.get(key).and_then(Value::as_u64).unwrap_or(0);
        let limit = match number("limit") {
            // The limit was taken away, and the last of those who waited are leaving.
            limit if limit == u64::from(u32::MAX) => "no limit".to_owned(),
            limit => format!("limit {limit}"),
        };
        format!("{name}: {} waiting, {} in flight, {limit}\n", number("waiting"), number("in_flight"))
    });
    let panic = (upstream["panic"] == true).then(panic);
    panic.into_iter().chain(queue).collect()
}

fn turned(place: &Place, which: &Which, verb: &str) -> anyhow::Result<Exit> {
    let Which { name, endpoint } = which;
    let path = format!("/upstreams/{}/{verb}?endpoint={}", escaped(name), escaped(endpoint));
    let answer = remote::ask(place, "POST", &path, ANSWER_TIME_MAX)?;
    ensure!(answer.status == 200, "{}", answer.detail());
    let (state, in_flight) = (answer.body["state"].as_str().unwrap_or_default(), answer.body["in_flight"].as_u64().unwrap_or(0));
    let rest = match in_flight {
        0 => String::new(),
        1 => "; 1 request is under way there".to_owned(),
        many => format!("; {many} requests are under way there"),
    };
    print(&format!("{name} {endpoint} is {state}{rest}\n"))?;
    if let Some(warning) = answer.body["warning"].as_str() {
        say(&format!("warning: {warning}\n"));
    }
    Ok(Exit::Fine)
}

/// Upstreams and their endpoints that were taken out by hand.
pub fn taken_out(snapshot: &Snapshot) -> Vec<(String, String)> {
    let of = |name: &str, endpoints: Vec<String>| {
        endpoints.into_iter().map(|endpoint| (name.to_owned(), endpoint)).collect::<Vec<_>>()
    };
    snapshot.upstreams().flat_map(|(spec, _)| of(&spec.name, drained(spec))).collect()
}

/// Takes those out again. What is gone meanwhile is forgotten.
pub fn take_out(snapshot: &Snapshot, taken_out: &[(String, String)], now: Instant) {
    for (upstream, endpoint) in taken_out {
        let found = find(snapshot.upstreams().map(|(spec, _)| spec), upstream);
        if let Err(unknown) = found.and_then(|spec| turn(spec, endpoint, true, now)) {
            tracing::warn!("a drained endpoint is not there any more: {unknown}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{notes, rows, shown};
    use serde_json::json;

    #[test]
    fn who_is_not_well_is_shown_with_what_the_last_check_said() {
        let why = |state: &str, failure: Option<&str>| {
            let check = json!({ "failure": failure });
            let endpoint = json!({ "state": state, "reason": "connection refused", "health_check": check });
            rows(&json!({ "name": "orders", "endpoints": [endpoint] }), &[])[0].last().cloned().unwrap()
        };
        assert_eq!(why("unhealthy", Some("status 503, expected 200-299")), "status 503, expected 200-299");
        assert_eq!(why("unhealthy", None), "connection refused", "the last one passed, and was not enough");
    }

    #[test]
    fn weights_zones_and_priorities_are_shown_where_there_are_some() {
        let endpoint = |weight: u32, zone: Option<&str>| json!({ "address": "a", "weight": weight, "zone": zone, "priority": 0 });
        let upstream = |endpoints: Vec<serde_json::Value>| [json!({ "name": "orders", "endpoints": endpoints })];
        assert_eq!(shown(&upstream(vec![endpoint(1, None)]))[0][..3], ["UPSTREAM", "ENDPOINT", "STATE"]);
        let table = shown(&upstream(vec![endpoint(3, None), endpoint(1, Some("b"))]));
        assert_eq!(table[0][..5], ["UPSTREAM", "ENDPOINT", "WEIGHT", "ZONE", "STATE"]);
        assert_eq!(
            (&table[1][2..4], &table[2][2..4]),
            (&["3".to_owned(), "-".to_owned()][..], &["1".to_owned(), "b".to_owned()][..])
        );
    }

    #[test]
    fn an_upstream_is_shown_without_addresses_too_and_with_what_concerns_all_of_it() {
        assert_eq!(rows(&json!({ "name": "gone", "endpoints": [] }), &[]), [["gone", "(no address)"]]);
        assert!(notes(&json!({ "name": "a", "panic": false, "queue": null })).is_empty());
        let queue = json!({ "in_flight": 20, "waiting": 3, "limit": 20 });
        let said = notes(&json!({ "name": "a", "panic": true, "queue": queue })).concat();
        let panic = "a: panic; too few endpoints are usable, and requests go to all of them\n";
        assert_eq!(said, format!("{panic}a: 3 waiting, 20 in flight, limit 20\n"));
    }
}
