//! What holds for the whole crate: the schema says what the decoder does, no bytes bring it down, and large files load in time.

mod protection;

use crate::decode::basic::to_json;
use crate::diagnostics::Diagnostics;
use crate::document::*;
use crate::language::RawDocument;
use crate::sources::{Memory, Sources};
use crate::span::FileId;
use crate::values::*;
use crate::{fuzz_load, load, load_text, render, schema, yaml};
use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn config_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config")
}

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

/// The folder of golden files, with an environment in which those that are good load.
struct ConfigFolder;

impl Sources for ConfigFolder {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(config_folder().join(path))
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "PORT" => Some("9001".to_owned()),
            "DOMAIN" => Some("shop.example.com".to_owned()),
            _ => Some("a{b}".to_owned()),
        }
    }

    fn glob(&self, _: &Path) -> std::io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// As much of JSON Schema as ours uses. An unknown keyword is a mistake in this checker, and fails.
fn check(schema: &Value, value: &Value, root: &Value, at: &str) -> Result<(), String> {
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
fn what_is_printed_loads_again_and_prints_the_same() {
    for name in [
        "ok_everything.yaml",
        "ok_tls.yaml",
        "ok_protection.yaml",
        "ok_jwt.yaml",
        "ok_signatures.yaml",
        "ok_limits.yaml",
        "ok_cedar.yaml",
    ] {
        let mut first = crate::to_json(&load(Path::new(name), &ConfigFolder).document.expect("loads"));
        check(&schema(), &first, &schema(), "").expect("what is printed fits the schema");
        // Stars are too few.
        first.as_object_mut().and_then(|map| map.remove("secret_key"));
        let again = load_text(name, &first.to_string(), &ConfigFolder);
        let again = again.document.unwrap_or_else(|| panic!("{}", render(&again.diagnostics, &again.files, false)));
        assert_eq!(first, crate::to_json(&again));
    }
}

#[test]
fn a_private_key_is_mute() {
    let loaded = load(Path::new("ok_tls.yaml"), &ConfigFolder);
    let document = loaded.document.expect("loads");
    let tls = document.listen[1].tls.as_ref().expect("there");
    assert!(tls.certificates[0].key.bytes.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
    let printed = format!("{document:?} {document:#?} {}", crate::to_json(&document));
    // As text, and as a list of numbers.
    assert!(!printed.contains("PRIVATE KEY") && !printed.contains("45, 45, 45") && !printed.contains("hunter2"));
    assert!(printed.contains("PemFile(../certs/api.key)") && printed.contains("\"key\":\"../certs/api.key\""));
}

#[test]
fn a_path_is_relative_to_the_file_that_names_it() {
    let document = load(Path::new("ok_tls.yaml"), &ConfigFolder).document.expect("loads");
    let included = document.upstreams["included"].tls.as_ref().expect("there").ca.as_ref().expect("there");
    assert_eq!(included.path, Path::new("parts/../../certs/ca.pem"));
    assert_eq!(document.upstreams["beside"].endpoints[0].authority, Authority::Unix("parts/app.sock".into()));
    let main =
        "listen: { address: unix:x.sock, tls: { acme: { domains: [a.example] } } }\ntelemetry: { access_log: { to: log } }\n";
    let memory = Memory::default().file("conf/main.yaml", main);
    let document = load(Path::new("conf/main.yaml"), &memory).document.expect("loads");
    let tls = document.listen[0].tls.as_ref().expect("there");
    assert_eq!(tls.acme.as_ref().expect("there").storage, Path::new("conf/acme"));
    assert_eq!(document.listen[0].address, ListenAddress::Unix("conf/x.sock".into()));
    assert_eq!(document.listen[0].address.to_string(), "unix:conf/x.sock");
    assert_eq!(document.telemetry.access_log, AccessLog::File("conf/log".into()));
}

#[test]
fn a_certificate_is_a_dependency_and_is_read_once() {
    let pem = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n";
    let text = "listen: [ { address: 127.0.0.1:1, tls: { certificates: { cert: a.pem, key: a.pem } } }, { address: 127.0.0.1:2, tls: { certificates: { cert: b.pem, key: a.pem } } } ]";
    let memory = Memory::default().file("conf/main.yaml", text).file("conf/a.pem", pem);
    let loaded = load(Path::new("conf/main.yaml"), &memory);
    // The missing one too: who puts it there wants to see it taken.
    assert_eq!(loaded.dependencies, ["conf/main.yaml", "conf/a.pem", "conf/b.pem"].map(PathBuf::from));
    assert_eq!(codes(&loaded), ["unreadable"]);
    let memory = memory.file("conf/b.pem", pem);
    let document = load(Path::new("conf/main.yaml"), &memory).document.expect("loads");
    let pair = |at: usize| &document.listen[at].tls.as_ref().expect("there").certificates[0];
    assert!(std::sync::Arc::ptr_eq(&pair(0).cert.bytes, &pair(1).key.bytes));
}

#[test]
fn a_file_of_certificates_has_a_limit() {
    let pem = |bytes: usize| "-----BEGIN CERTIFICATE-----".to_owned() + &"x".repeat(bytes - 27);
    let limit = crate::decode::PEM_BYTES_MAX;
    let one = |bytes| {
        let text = "listen: { address: 127.0.0.1:1, tls: { acme: { domains: [a.example], ca: ca.pem } } }";
        load_text("x.yaml", text, &Memory::default().file("ca.pem", pem(bytes)))
    };
    assert!(one(limit).document.is_some());
    let loaded = one(limit + 1);
    assert!(render(&loaded.diagnostics, &loaded.files, false).contains("`ca.pem` cannot be read: it is larger than 1 MiB"));
    let (mut text, mut memory) = ("listen: 127.0.0.1:1\nupstreams:\n".to_owned(), Memory::default());
    for number in 0..65 {
        text.push_str(&format!("  u{number}: {{ endpoints: [ https://x ], tls: {{ ca: {number}.pem }} }}\n"));
        memory = memory.file(format!("{number}.pem"), pem(limit));
    }
    let loaded = load_text("x.yaml", &text, &memory);
    assert_eq!(codes(&loaded), ["unreadable"]);
    assert!(render(&loaded.diagnostics, &loaded.files, false).contains("more than 64 MiB"));
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

#[test]
fn authorizers_of_signatures_are_shown_without_their_secrets() {
    let text = r#"listen: 127.0.0.1:8080
authorizers:
  plain: { http_signature: { keys: { a: { algorithm: hmac-sha256, secret: "${env:SECRET}" } } } }
  full:
    http_signature:
      components: ["@query-param;name=\"id\"", Content-Digest]
      max_age: 1min
      label: sig1
      tag: orders
      replay: allow
      keys: { a: { algorithm: ed25519, public_key: a.pem } }
    strip: true
  aws: { aws_signature: { region: eu-west-1, keys: { AKID: "${env:SECRET}" } } }
"#;
    let pem = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n";
    let memory = Memory::default().var("SECRET", "hush").file("a.pem", pem);
    let document = load_text("x.yaml", text, &memory).document.expect("loads");
    let printed = crate::to_json(&document);
    for (name, shown) in [
        (
            "plain",
            r#"{"strip":false,"http_signature":{"components":["@method","@authority","@path","@query"],"max_age":"5min","replay":"refuse","keys":{"a":{"algorithm":"hmac-sha256","secret":"***"}}}}"#,
        ),
        (
            "full",
            r#"{"strip":true,"http_signature":{"components":["@query-param;name=\"id\"","content-digest"],"max_age":"1min","replay":"allow","keys":{"a":{"algorithm":"ed25519","public_key":"a.pem"}},"label":"sig1","tag":"orders"}}"#,
        ),
        (
            "aws",
            r#"{"strip":false,"aws_signature":{"region":"eu-west-1","service":"execute-api","max_age":"5min","unsigned_payload":false,"keys":{"AKID":"***"}}}"#,
        ),
    ] {
        assert_eq!(printed["authorizers"][name].to_string(), shown, "{name}");
    }
    let hidden = |name: &str| document.authorizers[name].value.kind.hidden().concat();
    assert_eq!([hidden("plain"), hidden("full"), hidden("aws")], [&b"hush"[..], pem.as_bytes(), b"hush"]);
}

#[test]
fn defaults_are_those_of_the_page() {
    let document = load_text("x.yaml", "listen: 127.0.0.1:8080", &Memory::default()).document.expect("loads");
    let printed = crate::to_json(&document);
    for (key, value) in [
        ("connections", Value::from(50000)),
        ("connections_per_ip", 1000.into()),
        ("header_bytes", "64KiB".into()),
        ("headers", 100.into()),
        ("uri_bytes", "16KiB".into()),
        ("body_bytes", "10MiB".into()),
        ("buffered_bytes", "256MiB".into()),
        ("websocket_bytes", "256MiB".into()),
        ("header_timeout", "10s".into()),
        ("body_timeout", "30s".into()),
        ("write_timeout", "30s".into()),
        ("idle_timeout", "75s".into()),
        ("drain_timeout", "30s".into()),
        ("handshake_timeout", "10s".into()),
        ("handshakes", 256.into()),
        ("h2_streams", 100.into()),
        ("h2_window", "64KiB".into()),
        ("h2_resets", 100.into()),
        ("h2_control_frames", 1000.into()),
        ("tunnel_idle_timeout", "5min".into()),
        ("tunnel_lifetime", "1d".into()),
        ("half_close", "deliver".into()),
        ("underscores", "drop".into()),
        ("failed_credentials", serde_json::json!({ "rate": "1/s", "burst": 20 })),
    ] {
        assert_eq!(printed["limits"][key], value, "{key}");
    }
    assert_eq!(printed["admin"]["listen"], "127.0.0.1:9080");
    assert_eq!(printed["telemetry"]["access_log"]["to"], "stdout");
    assert!(document.workers.is_none());
    assert_eq!(Limits::default().headers, document.limits.headers);
    assert_eq!(Admin::default().listen.value, document.admin.listen.value);
    assert_eq!(Telemetry::default().access_log, AccessLog::Stdout);
    let timeouts = UpstreamTimeouts::default();
    assert_eq!([timeouts.connect, timeouts.response, timeouts.idle].map(|time| time.as_secs()), [5, 15, 60]);
}

#[test]
fn every_file_that_was_asked_for_is_a_dependency() {
    let memory = Memory::default()
        .file("conf/main.yaml", "listen: 127.0.0.1:8080\ninclude: [api/*.yaml, gone.yaml]\nadmin: { token: \"${file:token}\" }\n")
        .file("conf/api/a.yaml", "apis: { a: { routes: [ { match: GET /, respond: { text: \"${file:../body}\" } } ] } }")
        .file("conf/token", "t\n")
        .file("conf/api/../body", "b\r\n");
    let loaded = load(Path::new("conf/main.yaml"), &memory);
    let names: Vec<_> = loaded.dependencies.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(names, ["conf/main.yaml", "conf/token", "conf/api/a.yaml", "conf/api/../body", "conf/gone.yaml"]);
    assert_eq!(loaded.diagnostics.len(), 1, "{}", render(&loaded.diagnostics, &loaded.files, false));
}

#[test]
fn a_missing_main_file_is_a_diagnostic() {
    let loaded = load(Path::new("gone.yaml"), &Memory::default());
    assert!(render(&loaded.diagnostics, &loaded.files, false).contains("`gone.yaml` cannot be read"));
    assert_eq!(loaded.dependencies, [PathBuf::from("gone.yaml")]);
}

fn codes(loaded: &crate::Loaded) -> Vec<&'static str> {
    loaded.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn what_is_too_large_is_refused() {
    let text = "#".repeat(yaml::FILE_BYTES_MAX + 1);
    assert_eq!(codes(&load_text("x.yaml", &text, &Memory::default())), ["file-too-large"]);
    let mut memory = Memory::default();
    for number in 0..10_001 {
        memory = memory.file(format!("{number}.yml"), "apis: {}");
    }
    let loaded = load_text("x.yaml", "listen: 127.0.0.1:8080\ninclude: '*.yml'", &memory);
    assert_eq!(codes(&loaded).iter().filter(|code| **code == "include-size").count(), 1);
}

#[test]
fn what_a_file_says_cannot_steer_a_terminal() {
    let loaded = load_text(
        "x.yaml",
        "listen: \"\\e[31m:80\"\n\"\\e[2J\": 1\nworkers: \"\\e]0;x\\a\"\nlimits: \"\\e[1m\"\n",
        &Memory::default(),
    );
    assert!(loaded.diagnostics.len() >= 4);
    assert!(!render(&loaded.diagnostics, &loaded.files, false).contains(['\u{1b}', '\u{7}']));
}

#[test]
fn values_from_elsewhere_are_text_in_a_template() {
    let text = "listen: 127.0.0.1:8080\napis: { a: { routes: [ { match: GET /, proxy: http://x:1, transform: { request: { headers: { set: { a: \"x${env:V}{client.ip}\" } } } } } ] } }";
    let memory = Memory::default().var("V", "{id}");
    let document = load_text("x.yaml", text, &memory).document.expect("loads");
    let transform = document.apis["a"].routes[0].policies.transform.as_ref().expect("there").value.clone();
    let (_, template) = &transform.request.set[0];
    assert_eq!(template.parts, [Part::Literal("x{id}".to_owned()), Part::Variable(Variable::ClientIp)]);
    assert_eq!(template.source, "x${env:V}{client.ip}");
}

#[test]
fn a_hundred_thousand_mistakes_are_counted_and_not_all_shown() {
    let mut text = "listen: 127.0.0.1:8080\nupstreams: { kitchen: http://x:1 }\napis:\n  a:\n    routes:\n".to_owned();
    for number in 0..20_000 {
        text.push_str(&format!("      - GET /{number}: kitchn\n"));
    }
    let loaded = load_text("x.yaml", &text, &Memory::default());
    assert_eq!(loaded.diagnostics.len(), 20_000);
    let shown = render(&loaded.diagnostics, &loaded.files, true);
    assert!(shown.contains("… and 19800 more") && shown.len() < 200_000);
}

/// Run with `--release --nocapture` for the time; the bar of half a second holds there.
#[test]
fn a_hundred_thousand_routes_load() {
    let mut text = "listen: 127.0.0.1:8080\nupstreams: { kitchen: http://127.0.0.1:9001 }\napis:\n  a:\n    routes:\n".to_owned();
    for number in 0..100_000 {
        text.push_str(&format!("      - GET /orders/{number}/{{id}}/lines: kitchen\n"));
    }
    let start = std::time::Instant::now();
    let loaded = load_text("x.yaml", &text, &Memory::default());
    println!("{} bytes: {:?}", text.len(), start.elapsed());
    assert_eq!(loaded.document.map(|document| document.apis["a"].routes.len()), Some(100_000));
}

#[test]
fn wide_and_hostile_files_are_answered() {
    for text in [
        "x: ".to_owned() + &"[".repeat(100_000),
        "{".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(10_000),
        "a: {".repeat(1_000),
        format!("listen: [{}]", "x,".repeat(50_000)),
        format!("listen: {}", "é".repeat(100_000)),
        format!("apis: {{ a: {{ routes: [ {{ match: GET {} }} ] }} }}", "/{a}".repeat(200)),
        (0..20_000).map(|number| format!("k{number}: 1\n")).collect(),
        "listen: \"${env:${env:${\"".to_owned(),
        "listen: $${env:X}${".to_owned(),
    ] {
        fuzz_load(text.as_bytes());
    }
    fuzz_load(&vec![b' '; yaml::FILE_BYTES_MAX + 1]);
}

/// Pieces that make a configuration, so that chance reaches behind the parser.
const WORDS: &[&str] = &[
    "listen",
    "upstreams",
    "apis",
    "routes",
    "limits",
    "admin",
    "match",
    "proxy",
    "respond",
    "redirect",
    "rewrite",
    "cors",
    "ip",
    "none",
    "GET /a/{id}",
    "http://x:1",
    "https://x",
    "unix:/x",
    "tls",
    "acme",
    "certificates",
    "proxy_protocol",
    "from",
    "mirror",
    "health_check",
    "retry",
    "hedge",
    "p95",
    "concurrency",
    "adaptive",
    "maintenance",
    "srv",
    "zone",
    "5%",
    "127.0.0.1:8080",
    "${env:X}",
    "$${",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ":\n  ",
    "\n",
    "\n    - ",
    ", ",
    "\"",
    "'",
    "|\n",
    "#",
    "*",
    "&a",
    "!t",
    "---\n",
    "\t",
    "é",
    "\u{feff}",
    "\0",
    "5s",
    "10MiB",
    "true",
    "yes",
    "~",
    "a",
];

proptest! {
    #[test]
    fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz_load(&bytes);
    }

    #[test]
    fn no_words_bring_it_down(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60)) {
        fuzz_load(words.concat().as_bytes());
    }

    #[test]
    fn no_cut_of_a_good_file_brings_it_down(at in 0usize..4000, to in 0usize..40, word in proptest::sample::select(WORDS)) {
        let mut text = include_str!("../../tests/config/ok_everything.yaml").as_bytes().to_vec();
        let at = at.min(text.len());
        let to = (at + to).min(text.len());
        text.splice(at..to, word.bytes());
        fuzz_load(&text);
    }

    #[test]
    fn a_canonical_path_is_its_own_canonical_path(path in "/[a-zA-Z0-9/._~%!$&'()*+,;=:@-]{0,40}") {
        if let Ok(canonical) = canonical_path(&path) {
            prop_assert_eq!(canonical_path(&canonical), Ok(canonical.clone()));
        }
    }

    #[test]
    fn no_text_brings_a_value_down(text in "\\PC{0,40}") {
        let _ = (PathTemplate::parse(&text), Template::parse(&text), Template::parse_rewrite(&text), Template::parse_redirect(&text));
        let _ = (IpNet::parse(&text), HostPattern::parse(&text), HeaderName::parse(&text), HeaderValue::parse(&text));
        let _ = (parse_duration(&text), parse_size(&text), parse_method(&text), Share::parse(&text));
    }

    #[test]
    fn durations_and_sizes_read_what_they_write(ms in 0u64..10_000_000_000, bytes in 0u64..u64::MAX / 2) {
        let duration = std::time::Duration::from_millis(ms);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
    }

    #[test]
    fn shares_read_what_they_write(ppm in 1u32..=1_000_000) {
        let share = Share::parse(&format!("{}.{:04}%", ppm / 10_000, ppm % 10_000));
        prop_assert_eq!(share.as_ref().map(|share| share.ppm()), Ok(ppm));
        prop_assert_eq!(Share::parse(&share.expect("read").to_string()).map(Share::ppm), Ok(ppm));
    }
}
