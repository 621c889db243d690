//! `maitred limits`: the rate limits of a gateway that runs, what they said, and whom they refuse most often.

use crate::cli::Limits;
use crate::output::{Exit, json, print, table};
use crate::remote;
use anyhow::ensure;
use serde_json::Value;
use std::time::Duration;

/// For the answer: of a hundred thousand routes, too.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// Keys of one limit that the table shows; JSON has all that are remembered.
const TOP_MAX: usize = 3;

pub fn main(arguments: &Limits) -> anyhow::Result<Exit> {
    let Limits { json: is_json, place } = arguments;
    let answer = remote::ask(place, "GET", "/limits", ANSWER_TIME_MAX)?;
    ensure!(answer.status == 200, "{}", answer.detail());
    if *is_json {
        return json(&answer.body);
    }
    print(&list(answer.body.as_array().map_or(&[][..], Vec::as_slice)))?;
    Ok(Exit::Fine)
}

fn list(limits: &[Value]) -> String {
    let heading = ["LIMIT", "API", "ROUTE", "RATE", "BURST", "BY", "ALLOWED", "DELAYED", "LIMITED", "MOST OFTEN LIMITED"];
    let rows: Vec<Vec<String>> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(limits.iter().map(row)).collect();
    table(&rows)
}

fn row(limit: &Value) -> Vec<String> {
    let text = |key: &str| limit[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| limit[key].as_u64().unwrap_or(0).to_string();
    let by: Vec<&str> = limit["by"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let top = limit["top"].as_array().map_or(&[][..], Vec::as_slice).iter().take(TOP_MAX);
    let top: Vec<String> = top.map(|top| format!("{} ({})", top["key"].as_str().unwrap_or("-"), top["limited"])).collect();
    vec![
        text("limit"),
        text("api"),
        text("route"),
        text("rate"),
        number("burst"),
        by.join(", "),
        number("allowed"),
        number("delayed"),
        number("limited"),
        top.join("; "),
    ]
}

#[cfg(test)]
mod tests {
    use super::list;
    use serde_json::json;

    #[test]
    fn a_limit_is_a_line_with_whom_it_refuses_most() {
        let top = |key: &str, limited: u64| json!({ "key": key, "limited": limited, "error": 0 });
        let limit = json!({
            "limit": "route-2", "api": "shop", "route": "get-order", "rate": "10/s", "burst": 20, "by": ["ip", "header:x-a"],
            "allowed": 90, "delayed": 0, "limited": 9, "top": [top("ip 192.0.2.1", 5), top("b", 2), top("c", 1), top("d", 1)],
        });
        let plan =
            json!({ "limit": "plan:gold", "api": null, "route": null, "rate": "1/s", "burst": 1, "by": ["consumer"], "top": [] });
        let text = list(&[limit, plan]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect()).collect();
        let shown =
            ["route-2", "shop", "get-order", "10/s", "20", "ip, header:x-a", "90", "0", "9", "ip 192.0.2.1 (5); b (2); c (1)"];
        assert_eq!(lines[1], shown);
        assert_eq!(lines[2], ["plan:gold", "-", "-", "1/s", "1", "consumer", "0", "0", "0"]);
    }
}
