//! Without sockets: what is shown of figures, and which endpoints a word means.

use super::*;
use maitred_core::balance::KnownFigures;
use maitred_core::{Clock, Remote};
use maitred_transport::{Order, TargetCell, UpstreamSpec};
use serde_json::json;

fn target(address: &str, host: &str) -> Target {
    let address = Remote::Tcp(address.parse().unwrap());
    Target { address, authority: host.into(), prefix: "/base".into(), weight: 2, zone: Some("b".into()), priority: 1 }
}

fn orders() -> Arc<UpstreamSpec> {
    let targets = vec![
        target("10.0.1.1:9000", "10.0.1.1:9000"),
        target("10.0.1.2:9000", "orders:9000"),
        target("10.0.1.3:9000", "orders:9000"),
    ];
    let cell =
        TargetCell::new(targets, Order { balance: Balance::LeastRequest, zone: None }, KnownFigures::default().roster("orders"));
    Arc::new(UpstreamSpec::plain("orders", Arc::new(cell), Instant::now()))
}

#[test]
fn an_endpoint_is_named_by_address_or_host_or_url() {
    let (spec, now) = (orders(), Instant::now());
    for (word, meant) in [
        ("10.0.1.1:9000", 1),
        ("http://10.0.1.1:9000", 1),
        ("http://10.0.1.1:9000/base", 1),
        ("https://10.0.1.1:9000/", 1),
        ("orders:9000", 2),
        ("10.0.1.3:9000", 1),
    ] {
        turn(&spec, word, true, now).unwrap();
        assert_eq!(drained(&spec).len(), meant, "{word}");
        assert_eq!(turn(&spec, word, false, now).unwrap().state, EndpointState::Healthy);
    }
    let unknown = turn(&spec, "10.0.1.1:900", true, now).unwrap_err().to_string();
    assert_eq!(unknown, "upstream `orders` has no endpoint `10.0.1.1:900`; did you mean `10.0.1.1:9000`?");
}

#[test]
fn who_is_left_alone_by_nobody_is_not_shown_as_ejected() {
    let (spec, now) = (orders(), Instant::now());
    let rules = maitred_model::OutlierDetection {
        consecutive_failures: 1.try_into().unwrap(),
        success_rate: None,
        min_requests: 20.try_into().unwrap(),
        interval: Duration::from_secs(3),
        eject_for: Duration::from_secs(30),
        eject_max: Duration::from_secs(300),
        max_ejected: maitred_model::Share::ALL,
    };
    maitred_core::health::attempted(&rules, (&spec.targets.load().figures, 3), (0, true), now, |_| {}).unwrap();
    let shown = |spec: &UpstreamSpec| {
        let view = UpstreamView::of(spec, &Checks::new(Clock::default()), now).to_json();
        (view["endpoints"][0]["state"].clone(), view["endpoints"][0]["ejected_for_seconds"].clone())
    };
    assert_eq!(shown(&spec), (json!("healthy"), Value::Null), "outlier_detection was taken out of the configuration");
    let mut with = UpstreamSpec::plain("orders", spec.targets.clone(), now);
    with.protection.outlier_detection = Some(rules);
    assert_eq!(shown(&with), (json!("ejected"), json!(30.0)));
}

#[test]
fn whoever_takes_the_last_one_out_is_warned() {
    let (spec, now) = (orders(), Instant::now());
    assert_eq!(turn(&spec, "orders:9000", true, now).unwrap().warning, None);
    let last = turn(&spec, "10.0.1.1:9000", true, now).unwrap();
    assert!(last.warning.unwrap().contains("no endpoint of upstream `orders`"));
    assert_eq!(turn(&spec, "10.0.1.1:9000", false, now).unwrap().warning, None);
}

#[test]
fn an_unknown_upstream_is_told_with_what_there_is() {
    let specs = [orders()];
    assert_eq!(&*find(&specs, "orders").unwrap().name, "orders");
    let words = |name| find(&specs, name).err().unwrap().to_string();
    assert_eq!(words("ordesr"), "there is no upstream `ordesr`; did you mean `orders`?");
    assert_eq!(words("bakery"), "there is no upstream `bakery`; the upstreams are: `orders`");
}

#[test]
fn a_view_is_all_that_is_known() {
    let (spec, now) = (orders(), Instant::now());
    turn(&spec, "orders:9000", true, now).unwrap();
    let figures = &spec.targets.load().figures[0];
    figures.observe(Duration::from_millis(12), now);
    let view = UpstreamView::of(&spec, &Checks::new(Clock::default()), now).to_json();
    assert_eq!((&view["name"], &view["balance"], &view["queue"]), (&json!("orders"), &json!("least_request"), &Value::Null));
    let expected = json!({
        "address": "10.0.1.1:9000", "host": "10.0.1.1:9000", "weight": 2, "zone": "b", "priority": 1, "state": "healthy",
        "since": null, "reason": null, "in_flight": 0, "connections": 0, "latency_ms": 12.0, "requests": 0, "failures": 0, "ejections": 0,
        "ejected_for_seconds": null, "health_check": null,
    });
    assert_eq!(view["endpoints"][0], expected);
    assert_eq!((&view["endpoints"][1]["state"], &view["endpoints"][1]["latency_ms"]), (&json!("drained"), &Value::Null));
}
