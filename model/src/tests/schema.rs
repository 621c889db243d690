//! The schema says what the decoder does.

use super::config_folder;
use crate::decode::basic::to_json;
use crate::diagnostics::Diagnostics;
use crate::document::*;
use crate::language::RawDocument;
use crate::sources::Memory;
use crate::span::FileId;
use crate::{load_text, schema, yaml};
use serde_json::Value;
use std::path::PathBuf;

/// Every golden file that loads.
fn valid_cases() -> Vec<(PathBuf, String)> {
    let mut cases: Vec<(PathBuf, String)> = std::fs::read_dir(config_folder())
        .expect("tests/config is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| std::fs::read_to_string(path.with_extension("expected")).is_ok_and(|text| text.ends_with("ok\n")))
        .map(|path| (path.clone(), std::fs::read_to_string(&path).expect("readable")))
        .collect();
    cases.sort();
    cases
}

/// As much of JSON Schema as ours uses. An unknown keyword is a mistake in this checker, and fails.
pub(super) fn check(schema: &Value, value: &Value, root: &Value, at: &str) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let good = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" => true,
            "$ref" => {
                let name = rule.as_str().and_then(|name| name.strip_prefix("#/$defs/")).expect("a local reference");
                check(&root["$defs"][name], value, root, at)?;
                true
            }
            "anyOf" => {
                let tried: Vec<_> =
                    rule.as_array().expect("a list").iter().map(|schema| check(schema, value, root, at)).collect();
                if tried.iter().all(Result::is_err) {
                    return Err(format!("{at}: none of {tried:?}"));
                }
                true
            }
            "oneOf" => {
                rule.as_array().expect("a list").iter().filter(|schema| check(schema, value, root, at).is_ok()).count() == 1
            }
            "const" => rule == value,
            "enum" => rule.as_array().expect("a list").contains(value),
            "type" => {
                let is = |name: &Value| match name.as_str().expect("a type") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                rule.as_array().map_or_else(|| is(rule), |types| types.iter().any(is))
            }
            "pattern" => value.as_str().is_none_or(|text| pattern(rule).is_match(text)),
            "minimum" => value.as_u64().is_none_or(|number| number >= rule.as_u64().expect("a number")),
            "maximum" => value.as_u64().is_none_or(|number| number <= rule.as_u64().expect("a number")),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().expect("a number")),
            "minProperties" => value.as_object().is_none_or(|map| map.len() as u64 >= rule.as_u64().expect("a number")),
            "maxProperties" => value.as_object().is_none_or(|map| map.len() as u64 <= rule.as_u64().expect("a number")),
            "required" => {
                let keys = rule.as_array().expect("a list").iter().map(|key| key.as_str().expect("a key"));
                value.as_object().is_none_or(|map| keys.clone().all(|key| map.contains_key(key)))
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, root, &format!("{at}[{index}]"))?;
                }
                true
            }
            "propertyNames" => value.as_object().is_none_or(|map| map.keys().all(|key| pattern(&rule["pattern"]).is_match(key))),
            "properties" | "patternProperties" => true,
            "additionalProperties" => {
                for (key, item) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{key}");
                    let named = schema["properties"].get(key);
                    let patterned = schema["patternProperties"]
                        .as_object()
                        .into_iter()
                        .flatten()
                        .find(|(p, _)| pattern(&Value::from(p.as_str())).is_match(key));
                    match named.or(patterned.map(|(_, schema)| schema)) {
                        Some(schema) => check(schema, item, root, &at)?,
                        None if *rule == Value::Bool(false) => return Err(format!("{at}: not a key")),
                        None => check(rule, item, root, &at)?,
                    }
                }
                true
            }
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap_or(u64::MAX)),
            other => panic!("the checker does not know `{other}`"),
        };
        if !good {
            return Err(format!("{at}: {value} against {keyword} {rule}"));
        }
    }
    Ok(())
}

fn pattern(rule: &Value) -> regex::Regex {
    regex::Regex::new(rule.as_str().expect("a pattern")).expect("a good pattern")
}

fn tree(text: &str) -> Value {
    let mut diagnostics = Diagnostics::new();
    to_json(&yaml::parse(text, FileId(0), &mut diagnostics).expect("parses"))
}

#[test]
fn what_loads_fits_the_schema() {
    let schema = schema();
    let cases = valid_cases();
    assert!(cases.len() >= 7, "only {} valid cases", cases.len());
    for (path, text) in cases {
        check(&schema, &tree(&text), &schema, "").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn the_schema_refuses_what_the_decoder_refuses() {
    let schema = schema();
    for text in [
        "workers: 1",
        "listen: 127.0.0.1:8080\nlimits: { hedaers: 1 }",
        "listen: 127.0.0.1:8080\nlimits: { header_timeout: 10 }",
        "listen: 127.0.0.1:8080\nlimits: { headers: 0 }",
        "listen: 127.0.0.1:8080\nlimits: { half_close: maybe }",
        "listen: 127.0.0.1:8080\nversion: 2",
        "listen: 127.0.0.1:8080\nupstreams: { a: ftp://x }",
        "listen: 127.0.0.1:8080\nupstreams: { a.b: http://x }",
        "listen: { address: 127.0.0.1:8080, tls: true }",
        "listen: { address: 127.0.0.1:8080, redirect_https: 1 }",
        "listen: { address: 127.0.0.1:8080, tls: { acme: { domains: [a.example] }, min_version: 1.1 } }",
        "listen: 127.0.0.1:8080\nupstreams: { a: { endpoints: [https://x], protocol: h3 } }",
        "listen: 127.0.0.1:8080\napis: { a: { routes: [ { match: GET /x, proxy: http://x, mirror: { to: http://y, share: 10 } } ] } }",
        "listen: 127.0.0.1:8080\nupstreams: { a: { endpoints: [http://x], concurrency: { limit: adaptiv } } }",
        "listen: 127.0.0.1:8080\nplans: { a: { rate_limit: { rate: 10/s, by: ip } } }",
        "listen: 127.0.0.1:8080\nplans: { a: { quota: 1000 } }",
        "listen: 127.0.0.1:8080\napis: { a: { policies: { rate_limit: { rate: 10/s } }, routes: [] } }",
        "listen: 127.0.0.1:8080\napis: { a: { policies: { rate_limit: { rate: 10/s, by: somebody } }, routes: [] } }",
        "listen: 127.0.0.1:8080\napis: { a: { policies: { rate_limit: { rate: 10/s, by: ip, wait: 0s } }, routes: [] } }",
        "listen: 127.0.0.1:8080\napis: { a: { policies: { rate_limit_headers: modern }, routes: [] } }",
        "listen: 127.0.0.1:8080\nupstreams: { a: { endpoints: [http://x], hedge: 50ms } }",
        "listen: 127.0.0.1:8080\nupstreams: { a: { endpoints: [http://x], hedge: { after: 0s } } }",
        "listen: 127.0.0.1:8080\nupstreams: { a: { endpoints: [http://x], retry: { attempts: 11 } } }",
        "listen: 127.0.0.1:8080\nupstreams: { a: { endpoints: [http://x], health_check: { expect: 2xx } } }",
        "listen: 127.0.0.1:8080\nupstreams: { a: { endpoints: [ { srv: \"_http._tcp.x:80\" } ] } }",
        "listen: 127.0.0.1:8080\napis: { a: { routes: [ { match: GET /x, proxy: http://x, priority: 16 } ] } }",
        "listen: 127.0.0.1:8080\napis: { a: { maintenance: 5min, routes: [] } }",
        "listen: 127.0.0.1:8080\napis: { a: { routes: [ get /x: k ] } }",
        "listen: 127.0.0.1:8080\napis: { a: { routes: [ { match: GET /x, proxy: k, extra: 1 } ] } }",
        "listen: 127.0.0.1:8080\napis: { a: { routes: [ { proxy: k } ] } }",
    ] {
        assert!(check(&schema, &tree(text), &schema, "").is_err(), "the schema takes {text}");
        assert!(load_text("x.yaml", text, &Memory::default()).document.is_none(), "the decoder takes {text}");
    }
}

#[test]
fn schema_and_decoder_know_the_same_keys() {
    let schema = schema();
    let keys = |at: &Value| -> Vec<String> { at["properties"].as_object().expect("a record").keys().cloned().collect() };
    assert_eq!(keys(&schema), RawDocument::KEYS);
    for (name, known) in [
        ("Limits", Limits::KEYS),
        ("Admin", Admin::KEYS),
        ("Telemetry", Telemetry::KEYS),
        ("Api", Api::KEYS),
        ("Policies", Policies::KEYS),
        ("Cors", Cors::KEYS),
        ("IpRules", IpRules::KEYS),
        ("When", When::KEYS),
        ("Redirect", Redirect::KEYS),
        ("UpstreamTimeouts", UpstreamTimeouts::KEYS),
        ("CertificateFiles", CertificateFiles::KEYS),
    ] {
        assert_eq!(keys(&schema["$defs"][name]), known, "{name}");
        let described = schema["$defs"][name]["properties"].as_object().expect("a record");
        assert!(described.values().all(|field| field["description"].as_str().is_some_and(|text| !text.is_empty())), "{name}");
    }
    let text = schema.to_string();
    assert!(!text.contains("null,") && !text.contains(":null"), "a definition was never filled in");
}
