//! What holds for the whole crate: what is printed, what a file depends on, what its values become.

mod hostile;
mod protection;
mod schema;

use crate::document::*;
use crate::sources::{Memory, Sources};
use crate::values::*;
use crate::{load, load_text, render};
use schema::check;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn config_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config")
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
        check(&crate::schema(), &first, &crate::schema(), "").expect("what is printed fits the schema");
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
