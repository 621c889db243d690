//! `maitred consumer`: the registered callers of a gateway that runs. A key that was made goes to stdout, alone, and words about it to
//! stderr: scripts take it, and it is not seen again.

use crate::cli::{Consumer, ConsumerVerb, Identified};
use crate::output::{Exit, count, json, print, say, table};
use crate::remote::{self, Answer, escaped};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// For the answer: a change is on the disk by then, and a list may be of a hundred thousand.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// Bytes of a file with a key: more is no key, and the gateway says so.
const KEY_FILE_BYTES_MAX: u64 = 8 * 1024;

/// A question to the admin listener.
struct Asked {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

pub fn main(arguments: &Consumer) -> anyhow::Result<Exit> {
    let Consumer { verb, json: is_json, place } = arguments;
    let Asked { method, path, body } = asked(verb)?;
    let answer = remote::send(place, (method, &path), body.as_ref(), ANSWER_TIME_MAX)?;
    ensure!(matches!(answer.status, 200 | 201), "{}", answer.detail());
    if *is_json {
        return json(&answer.body);
    }
    tell(verb, &answer)?;
    if let Some(warning) = answer.body["warning"].as_str() {
        say(&format!("warning: {warning}\n"));
    }
    Ok(Exit::Fine)
}

fn asked(verb: &ConsumerVerb) -> anyhow::Result<Asked> {
    let one = |name: &str, rest: &str| format!("/consumers/{}{rest}", escaped(name));
    let ask = |method, path, body| Asked { method, path, body };
    Ok(match verb {
        ConsumerVerb::List => ask("GET", "/consumers".to_owned(), None),
        ConsumerVerb::Show { name } => ask("GET", one(name, ""), None),
        ConsumerVerb::Add { name, groups, plan, identities, no_key, key_file } => {
            let identity = |(authorizer, subject): &(String, String)| json!({ "authorizer": authorizer, "subject": subject });
            let identities: Value = identities.iter().map(identity).collect();
            let mut body = json!({ "name": name, "groups": groups, "plan": plan, "identities": identities, "key": !no_key });
            if let Some(file) = key_file {
                (body["key"], body["api_keys"]) = (false.into(), json!([brought(file)?]));
            }
            ask("POST", "/consumers".to_owned(), Some(body))
        }
        ConsumerVerb::SetGroups { name, groups } => ask("PATCH", one(name, ""), Some(json!({ "groups": groups }))),
        ConsumerVerb::SetPlan { name, plan } => ask("PATCH", one(name, ""), Some(json!({ "plan": plan }))),
        ConsumerVerb::Disable { name } => ask("PATCH", one(name, ""), Some(json!({ "disabled": true }))),
        ConsumerVerb::Enable { name } => ask("PATCH", one(name, ""), Some(json!({ "disabled": false }))),
        ConsumerVerb::Remove { name } => ask("DELETE", one(name, ""), None),
        ConsumerVerb::AddKey { name } => ask("POST", one(name, "/keys"), None),
        ConsumerVerb::RotateKey { name, grace } => ask("POST", one(name, "/rotate-key"), Some(json!({ "grace": grace }))),
        ConsumerVerb::RemoveKey { name, id } => ask("DELETE", one(name, &format!("/keys/{}", escaped(id))), None),
        ConsumerVerb::AddIdentity(Identified { name, identity: (authorizer, subject) }) => {
            let body = json!({ "authorizer": authorizer, "subject": subject });
            ask("POST", one(name, "/identities"), Some(body))
        }
        ConsumerVerb::RemoveIdentity(Identified { name, identity: (authorizer, subject) }) => {
            let query = format!("?authorizer={}&subject={}", escaped(authorizer), escaped(subject));
            ask("DELETE", one(name, &format!("/identities{query}")), None)
        }
    })
}

/// A key that was made elsewhere. Never an argument: those are seen by others on the machine, and kept by shells.
fn brought(file: &Path) -> anyhow::Result<String> {
    let mut key = String::new();
    let is_stdin = file == Path::new("-");
    let read = match is_stdin {
        true => io::stdin().lock().take(KEY_FILE_BYTES_MAX).read_to_string(&mut key),
        false => File::open(file).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut key)),
    };
    let place = if is_stdin { "what comes in".to_owned() } else { file.display().to_string() };
    read.with_context(|| format!("cannot read the key in {place}"))?;
    // Editors and `echo` end a file with a line break, which no key holds.
    let key = key.trim_end_matches(['\r', '\n']);
    ensure!(!key.is_empty(), "there is no key in {place}");
    Ok(key.to_owned())
}

fn tell(verb: &ConsumerVerb, answer: &Answer) -> anyhow::Result<()> {
    let body = &answer.body;
    match verb {
        ConsumerVerb::List => print(&list(body.as_array().map_or(&[][..], Vec::as_slice))),
        ConsumerVerb::Show { .. } => print(&show(body)),
        ConsumerVerb::Add { name, .. } => made(body, &format!("consumer {name} was added")),
        ConsumerVerb::AddKey { name } => made(body, &format!("consumer {name} has one more key")),
        ConsumerVerb::RotateKey { name, grace } => {
            let rest = grace.as_ref().map_or_else(|| "ended".to_owned(), |grace| format!("end in {grace}"));
            made(body, &format!("consumer {name} has a new key; those from before {rest}"))
        }
        ConsumerVerb::SetGroups { name, .. } => print(&format!("{name}: {}\n", or_dash(words(&body["consumer"]["groups"])))),
        ConsumerVerb::SetPlan { name, plan: Some(plan) } => print(&format!("{name} has plan {plan}\n")),
        ConsumerVerb::SetPlan { name, plan: None } => print(&format!("{name} has no plan\n")),
        ConsumerVerb::Disable { name } => print(&format!("{name} is disabled\n")),
        ConsumerVerb::Enable { name } => print(&format!("{name} is enabled\n")),
        ConsumerVerb::Remove { name } => print(&format!("{name} is removed\n")),
        ConsumerVerb::RemoveKey { name, id } => print(&format!("key {id} of {name} has ended\n")),
        ConsumerVerb::AddIdentity(Identified { name, identity: (authorizer, subject) }) => {
            print(&format!("{authorizer} calls {name} {subject}\n"))
        }
        ConsumerVerb::RemoveIdentity(Identified { name, identity: (authorizer, subject) }) => {
            print(&format!("{authorizer} does not call {name} {subject} any more\n"))
        }
    }
}

/// The key alone on stdout.
fn made(body: &Value, words: &str) -> anyhow::Result<()> {
    let Some(key) = body["key"].as_str() else {
        say(&format!("{words}\n"));
        return Ok(());
    };
    say(&format!("{words}; its key is shown this once:\n"));
    print(&format!("{key}\n"))
}

fn list(consumers: &[Value]) -> String {
    let heading = ["CONSUMER", "SOURCE", "STATE", "PLAN", "GROUPS", "KEYS", "IDENTITIES"].map(str::to_owned).to_vec();
    let row = |consumer: &Value| {
        let length = |key: &str| consumer[key].as_array().map_or(0, Vec::len).to_string();
        vec![
            text(&consumer["name"]),
            text(&consumer["source"]),
            state(consumer),
            text(&consumer["plan"]),
            or_dash(words(&consumer["groups"])),
            length("api_keys"),
            length("identities"),
        ]
    };
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(consumers.iter().map(row)).collect();
    table(&rows)
}

fn state(consumer: &Value) -> String {
    let keys = consumer["api_keys"].as_array().map_or(&[][..], Vec::as_slice);
    let unusable = keys.iter().filter(|key| key["unusable"] == true).count();
    match consumer {
        _ if consumer["hidden"] == true => "hidden by the configuration".to_owned(),
        _ if consumer["disabled"] == true => "disabled".to_owned(),
        _ if consumer["plan_unknown"] == true => "refused: the configuration lacks its plan".to_owned(),
        _ if unusable > 0 => format!("enabled; {} of another secret_key", count(unusable, "key")),
        _ => "enabled".to_owned(),
    }
}

fn show(consumer: &Value) -> String {
    let mut rows = vec![
        vec!["consumer".to_owned(), text(&consumer["name"])],
        vec!["source".to_owned(), text(&consumer["source"])],
        vec!["state".to_owned(), state(consumer)],
        vec!["plan".to_owned(), text(&consumer["plan"])],
        vec!["groups".to_owned(), or_dash(words(&consumer["groups"]))],
        vec!["created".to_owned(), text(&consumer["created"])],
        vec!["changed".to_owned(), text(&consumer["changed"])],
    ];
    for key in consumer["api_keys"].as_array().into_iter().flatten() {
        let ends = key["ends"].as_str().map_or_else(String::new, |ends| format!(", ends {ends}"));
        let unusable = if key["unusable"] == true { ", of another secret_key: it opens nothing" } else { "" };
        let described = match key["id"].as_str() {
            None => "in the configuration".to_owned(),
            Some(id) if key["prefix"].is_null() => format!("{id}, brought along {}{ends}{unusable}", text(&key["created"])),
            Some(id) => format!("{id} ({}_…), made {}{ends}{unusable}", text(&key["prefix"]), text(&key["created"])),
        };
        rows.push(vec!["key".to_owned(), described]);
    }
    for identity in consumer["identities"].as_array().into_iter().flatten() {
        rows.push(vec!["identity".to_owned(), format!("{}={}", text(&identity["authorizer"]), text(&identity["subject"]))]);
    }
    table(&rows)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// A list of texts.
fn words(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_where_each_stands_and_what_is_the_matter_with_it() {
        let key = |unusable: bool| json!({ "id": "k1", "prefix": "mk_k1", "unusable": unusable });
        let consumer = |name: &str, hidden: bool, disabled: bool, unusable: bool| {
            json!({ "name": name, "source": "store", "groups": ["a", "b"], "hidden": hidden, "disabled": disabled,
                "api_keys": [key(unusable)], "identities": [] })
        };
        let told = list(&[
            consumer("alice", false, false, false),
            consumer("bob", false, true, true),
            consumer("carol", true, true, false),
            consumer("dave", false, false, true),
        ]);
        let column = told.find("STATE").unwrap();
        let states: Vec<&str> = told.lines().skip(1).map(|line| line[column..].split("  ").next().unwrap_or_default()).collect();
        assert_eq!(
            states,
            ["enabled", "disabled", "hidden by the configuration", "enabled; 1 key of another secret_key"],
            "{told}"
        );
    }
}
