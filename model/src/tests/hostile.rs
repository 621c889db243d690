//! No bytes bring it down, and what is large loads in time.

use super::codes;
use crate::sources::Memory;
use crate::values::*;
use crate::{fuzz_load, load_text, render, yaml};
use proptest::prelude::*;

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
        let mut text = include_str!("../../../tests/config/ok_everything.yaml").as_bytes().to_vec();
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
