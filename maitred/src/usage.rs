//! `maitred usage`: what consumers of a gateway that runs have used of their plans' quotas, and what is left.

use crate::cli::{Usage, UsageVerb};
use crate::output::{Exit, json, print, table};
use crate::remote::{self, escaped};
use anyhow::{bail, ensure};
use serde_json::Value;
use std::time::Duration;

/// For the answer: of a hundred thousand consumers, too.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

pub fn main(arguments: &Usage) -> anyhow::Result<Exit> {
    let Usage { verb, name, json: is_json, place } = arguments;
    if let (Some(UsageVerb::Reset { name: reset }), Some(name)) = (verb, name) {
        bail!("`{name}` before `reset` is one too many: write `maitred usage reset {reset}`");
    }
    let (method, path) = match (verb, name) {
        (Some(UsageVerb::Reset { name }), _) => ("POST", format!("/usage/{}/reset", escaped(name))),
        (None, Some(name)) => ("GET", format!("/usage/{}", escaped(name))),
        (None, None) => ("GET", "/usage".to_owned()),
    };
    let answer = remote::ask(place, method, &path, ANSWER_TIME_MAX)?;
    ensure!(answer.status == 200, "{}", answer.detail());
    if *is_json {
        return json(&answer.body);
    }
    match (verb, answer.body.as_array()) {
        (Some(UsageVerb::Reset { name }), _) => print(&format!("{name} has used nothing\n"))?,
        (None, Some(consumers)) => print(&format!("{}{}", told(consumers.iter()), stale(consumers.iter())))?,
        (None, None) => {
            let body = &answer.body;
            let one = || std::iter::once(body);
            print(&format!("{}{}{}{}", told(one()), stale(one()), rates(body), past(body)))?;
        }
    }
    Ok(Exit::Fine)
}

fn told<'a>(consumers: impl Iterator<Item = &'a Value>) -> String {
    let heading = ["CONSUMER", "PLAN", "WHERE", "QUOTA", "USED", "LEFT", "RESETS AT"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(consumers.flat_map(rows)).collect();
    table(&rows)
}

/// What else is to be known of these figures.
fn stale<'a>(mut consumers: impl Iterator<Item = &'a Value>) -> &'static str {
    let is_stale =
        |consumer: &Value| consumer["quotas"].as_array().is_some_and(|quotas| quotas.iter().any(|quota| quota["stale"] == true));
    match consumers.any(is_stale) {
        true => {
            "\nThe counts that gateways share gave no answer: USED is what this gateway heard last, and others may have used more.\n"
        }
        false => "",
    }
}

/// One for each of its quotas.
fn rows(consumer: &Value) -> Vec<Vec<String>> {
    let who = || vec![text(&consumer["consumer"]), text(&consumer["plan"])];
    let quotas = consumer["quotas"].as_array().map_or(&[][..], Vec::as_slice);
    if quotas.is_empty() {
        return vec![[who(), vec!["-".to_owned(), "no quota".to_owned()]].concat()];
    }
    let row = |quota: &Value| {
        let shared = if quota["by"] == "plan" { ", for all of the plan" } else { "" };
        let limit = format!("{}/{}{shared}", quota["limit"], text(&quota["per"]));
        let cells = vec![place(quota), limit, quota["used"].to_string(), quota["left"].to_string(), text(&quota["resets_at"])];
        [who(), cells].concat()
    };
    quotas.iter().map(row).collect()
}

/// Which requests it is about.
fn place(quota: &Value) -> String {
    match (quota["api"].as_str(), quota["route"].as_str()) {
        (Some(api), Some(route)) => format!("{api}: {route}"),
        (Some(api), None) => api.to_owned(),
        (None, _) => "everywhere".to_owned(),
    }
}

fn rates(consumer: &Value) -> String {
    let limits = consumer["rate_limits"].as_array().map_or(&[][..], Vec::as_slice);
    let heading = ["RATE LIMIT", "WHERE", "BURST", "LEFT", "FULL IN"].map(str::to_owned).to_vec();
    let row = |limit: &Value| {
        let full_in = format!("{}s", limit["full_in_seconds"]);
        vec![text(&limit["limit"]), place(limit), limit["burst"].to_string(), limit["left"].to_string(), full_in]
    };
    more(heading, limits.iter().map(row).collect())
}

fn past(consumer: &Value) -> String {
    let periods = consumer["past"].as_array().map_or(&[][..], Vec::as_slice);
    let heading = ["BEGAN", "ENDED", "PLAN", "WHERE", "USED"].map(str::to_owned).to_vec();
    let row = |period: &Value| {
        vec![text(&period["began"]), text(&period["ended"]), text(&period["plan"]), place(period), period["used"].to_string()]
    };
    more(heading, periods.iter().map(row).collect())
}

/// One more table, if there is anything in it.
fn more(heading: Vec<String>, rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", table(&[vec![heading], rows].concat()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_quota_has_a_line_and_whoever_has_none_too() {
        let quota = |api: Option<&str>, route: Option<&str>, by: &str| {
            json!({ "api": api, "route": route, "by": by, "limit": 10, "used": 4, "left": 6, "per": "day",
                "resets_at": "2026-12-01T00:00:00Z" })
        };
        let quotas = [
            quota(None, None, "consumer"),
            quota(Some("shop"), None, "plan"),
            quota(Some("shop"), Some("GET /orders"), "consumer"),
        ];
        let alice = json!({ "consumer": "alice", "plan": "gold", "quotas": quotas });
        let bob = json!({ "consumer": "bob", "plan": null, "quotas": [] });
        let wanted = "\
CONSUMER  PLAN  WHERE              QUOTA                        USED  LEFT  RESETS AT
alice     gold  everywhere         10/day                       4     6     2026-12-01T00:00:00Z
alice     gold  shop               10/day, for all of the plan  4     6     2026-12-01T00:00:00Z
alice     gold  shop: GET /orders  10/day                       4     6     2026-12-01T00:00:00Z
bob       -     -                  no quota
";
        assert_eq!(told([&alice, &bob].into_iter()), wanted);
        let unasked = json!({ "quotas": [{ "stale": false }, { "stale": true }] });
        assert_eq!((stale([&alice, &bob].into_iter()), stale([&alice, &unasked].into_iter()).is_empty()), ("", false));
        assert_eq!((past(&alice), rates(&alice)), (String::new(), String::new()));
        let limit = json!({ "limit": "plan:gold", "api": "shop", "route": null, "burst": 10, "left": 7, "full_in_seconds": 2 });
        let wanted = "\nRATE LIMIT  WHERE  BURST  LEFT  FULL IN\nplan:gold   shop   10     7     2s\n";
        assert_eq!(rates(&json!({ "rate_limits": [limit] })), wanted);
        let gone = json!({ "began": "a", "ended": "b", "plan": "gold", "api": null, "route": null, "used": 7 });
        assert_eq!(
            past(&json!({ "past": [gone] })),
            "\nBEGAN  ENDED  PLAN  WHERE       USED\na      b      gold  everywhere  7\n"
        );
    }
}
