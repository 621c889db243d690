//! The keys of protection: their defaults, and that checking them costs little.

use crate::document::{Hedge, HedgeAfter};
use crate::load_text;
use crate::sources::Memory;
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn what_protects_an_upstream_has_the_defaults_that_are_documented() {
    let text = "listen: 127.0.0.1:0
upstreams:
  a:
    endpoints: [http://x, http://y]
    health_check: {}
    outlier_detection: {}
    circuit_breaker: {}
    retry: {}
    hedge: { after: p95 }
    concurrency: { limit: adaptive }
apis: { a: { maintenance: true, routes: [ GET /: a ] } }
";
    let printed = crate::to_json(&load_text("x.yaml", text, &Memory::default()).document.expect("loads"));
    let upstream = &printed["upstreams"]["a"];
    for (key, wanted) in [
        (
            "health_check",
            r#"{"type":"http","path":"/","expect":["200-299"],"interval":"3s","timeout":"1s","unhealthy_after":3,"healthy_after":1}"#,
        ),
        (
            "outlier_detection",
            r#"{"consecutive_failures":5,"min_requests":20,"interval":"3s","eject_for":"30s","eject_max":"5min","max_ejected":"50%"}"#,
        ),
        ("circuit_breaker", r#"{"connections":1024,"requests":1024,"pending":1024}"#),
        (
            "retry",
            r#"{"attempts":2,"conditions":["connect","reset","502","503","504"],"budget":"20%","backoff":"25ms","backoff_max":"250ms","body_bytes":"64KiB"}"#,
        ),
        ("concurrency", r#"{"limit":{"adaptive":{"min":1,"max":1000}},"per":"upstream","queue":{"length":500,"timeout":"2s"}}"#),
    ] {
        assert_eq!(upstream[key], serde_json::from_str::<Value>(wanted).expect("JSON"), "{key}");
    }
    assert_eq!(printed["apis"]["a"]["maintenance"]["retry_after"], "1min");
    for off in ["affinity", "slow_start", "panic_below"] {
        assert!(upstream.get(off).is_none(), "{off}");
    }
}

#[test]
fn many_keys_that_do_nothing_are_found_in_time() {
    let mut text = "listen: 127.0.0.1:8080\nupstreams:\n".to_owned();
    for number in 0..5_000 {
        text.push_str(&format!("  u{number}: {{ endpoints: [http://x], slow_start: 1s }}\n"));
    }
    text.push_str("apis:\n");
    for number in 0..5_000 {
        text.push_str(&format!(
            "  a{number}: {{ hosts: [a{number}.example], routes: [ {{ match: GET /, proxy: u{number}, priority: 3 }} ] }}\n"
        ));
    }
    let loaded = load_text("x.yaml", &text, &Memory::default());
    assert_eq!((loaded.diagnostics.len(), loaded.document.is_some()), (10_000, true));
}

proptest! {
    #[test]
    fn percentiles_read_what_they_write(per_mille in 500u16..=999) {
        let written = HedgeAfter::Percentile { per_mille }.to_string();
        let text = format!("listen: 127.0.0.1:0\nupstreams: {{ a: {{ endpoints: [http://x], hedge: {{ after: {written} }} }} }}");
        let document = load_text("x.yaml", &text, &Memory::default()).document.expect("loads");
        prop_assert_eq!(document.upstreams["a"].protection.hedge, Some(Hedge { after: HedgeAfter::Percentile { per_mille } }));
    }
}
