//! The text is read back by a checker that knows the rules of the format and nothing of the code that wrote it.

use super::*;
use crate::health::{Checked, LastCheck};
use crate::upstreams::EndpointView;
use maitred_core::Remote;
use maitred_core::health::EndpointState;
use maitred_core::metrics::UpstreamPart;
use maitred_core::queue::{GateView, Tally};
use maitred_model::Balance;
use maitred_transport::Target;
use maitred_wire::Method;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

type Samples = BTreeMap<String, f64>;

/// Every sample by its name and labels. Panics where the text breaks a rule of the format.
fn read_back(text: &str) -> Samples {
    assert!(text.ends_with('\n'));
    let (mut helped, mut kinds, mut samples) = (HashSet::new(), HashMap::new(), Samples::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()), "two HELP for {name}");
            assert!(!words.is_empty());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains(name), "TYPE before HELP for {name}");
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "two TYPE for {name}");
            current = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] = if kinds[&current] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.iter().any(|suffix| name == format!("{current}{suffix}")), "{name} stands among {current}");
            assert!(kinds[&current] != "counter" || name.ends_with("_total"), "{name}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {series}");
        }
    }
    check_histograms(text, &samples);
    samples
}

fn check_histograms(text: &str, samples: &Samples) {
    let mut last: Option<(String, f64)> = None;
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (start, bound) = series.split_once(",le=\"").unwrap();
        let value: f64 = value.parse().unwrap();
        if let Some((before, below)) = &last {
            assert!(before != start || *below <= value, "buckets are cumulative: {line}");
        }
        if bound == "+Inf\"}" {
            assert_eq!(samples[&format!("{}}}", start.replace("_bucket{", "_count{"))], value);
            assert!(samples.contains_key(&format!("{}}}", start.replace("_bucket{", "_sum{"))));
        }
        last = Some((start.to_owned(), value));
    }
}

fn extra() -> Extra {
    let process = Process {
        resident_bytes: Some(4096),
        cpu: Some(Duration::from_millis(1500)),
        open_fds: Some(9),
        started: Some(Duration::from_secs(1_700_000_000)),
    };
    Extra {
        version: "1.2.3".to_owned(),
        process,
        certificates: Vec::new(),
        upstreams: Vec::new(),
        consumers: ConsumerCounts::default(),
        functions: Vec::new(),
    }
}

fn route(metrics: &Metrics, api: &str, route: &str) -> Arc<RouteSeries> {
    metrics.series([(&api.into(), &route.into())].into_iter()).remove(0)
}

#[test]
fn a_fresh_gateway_has_every_family_and_no_route() {
    let metrics = Metrics::new(2);
    route(&metrics, "shop", "never-asked-for");
    let text = exposition(&metrics, &extra());
    let samples = read_back(&text);
    assert!(!text.contains("never-asked-for"));
    assert_eq!(samples["maitred_connections_open"], 0.0);
    assert_eq!(samples["maitred_build_info{version=\"1.2.3\"}"], 1.0);
    assert_eq!(samples["maitred_faults_total{kind=\"bad_request\"}"], 0.0);
    assert_eq!(samples["process_cpu_seconds_total"], 1.5);
    assert_eq!(samples["process_resident_memory_bytes"], 4096.0);
    for family in [
        "maitred_requests_total",
        "maitred_request_duration_seconds",
        "maitred_upstream_duration_seconds",
        "maitred_request_bytes_total",
        "maitred_response_bytes_total",
    ] {
        assert!(text.contains(&format!("# TYPE {family} ")), "{family}");
    }
}

#[test]
fn the_counts_of_all_workers_are_added_up() {
    let metrics = Metrics::new(3);
    let series = route(&metrics, "shop", "GET /a");
    for worker in 0..3 {
        let shard = series.of(worker);
        shard.count(Method::Get, 200);
        shard.duration.record(Duration::from_micros(700));
        shard.bytes_out.add(10);
    }
    series.of(1).count(Method::Post, 503);
    series.of(1).duration.record(Duration::from_secs(60));
    series.of(1).upstream.record(Duration::from_millis(30));
    let samples = read_back(&exposition(&metrics, &extra()));
    let labels = "api=\"shop\",route=\"GET /a\"";
    assert_eq!(samples[&format!("maitred_requests_total{{{labels},method=\"GET\",status=\"200\"}}")], 3.0);
    assert_eq!(samples[&format!("maitred_requests_total{{{labels},method=\"POST\",status=\"503\"}}")], 1.0);
    assert_eq!(samples[&format!("maitred_response_bytes_total{{{labels}}}")], 30.0);
    let bucket = |le: &str| samples[&format!("maitred_request_duration_seconds_bucket{{{labels},le=\"{le}\"}}")];
    assert_eq!([bucket("0.0005"), bucket("0.001"), bucket("30"), bucket("+Inf")], [0.0, 3.0, 3.0, 4.0]);
    assert_eq!(samples[&format!("maitred_request_duration_seconds_sum{{{labels}}}")], 60.0021);
    assert_eq!(samples[&format!("maitred_upstream_duration_seconds_count{{{labels}}}")], 1.0);
}

#[test]
fn a_route_without_a_back_end_has_no_upstream_time() {
    let metrics = Metrics::new(1);
    let series = route(&metrics, "shop", "static");
    series.of(0).count(Method::Get, 200);
    series.of(0).duration.record(Duration::from_micros(1));
    let text = exposition(&metrics, &extra());
    read_back(&text);
    assert!(!text.contains("maitred_upstream_duration_seconds_bucket"));
}

#[test]
fn a_gauge_counted_down_by_another_worker_is_right_in_sum() {
    let metrics = Metrics::new(2);
    metrics.workers[0].connections_open.add(5);
    metrics.workers[1].connections_open.sub(3);
    metrics.workers[1].requests_open.sub(1);
    let samples = read_back(&exposition(&metrics, &extra()));
    assert_eq!(samples["maitred_connections_open"], 2.0);
    assert_eq!(samples["maitred_requests_open"], -1.0, "seen for a moment while a worker is between two counts");
}

#[test]
fn faults_and_reloads_are_told_apart() {
    let metrics = Metrics::new(1);
    metrics.workers[0].fault(Kind::ConnectTimeout);
    metrics.reloads_failed.store(2, Ordering::Relaxed);
    metrics.generation.store(7, Ordering::Relaxed);
    let samples = read_back(&exposition(&metrics, &extra()));
    assert_eq!(samples["maitred_faults_total{kind=\"connect_timeout\"}"], 1.0);
    assert_eq!(samples["maitred_config_reloads_total{result=\"failed\"}"], 2.0);
    assert_eq!(samples["maitred_config_reloads_total{result=\"ok\"}"], 0.0);
    assert_eq!(samples["maitred_config_generation"], 7.0);
}

#[test]
fn an_upstream_in_trouble_can_be_told_from_one_that_is_not() {
    let metrics = Metrics::new(2);
    let [kitchen, shop, quiet] = ["kitchen", "shop", "quiet"].map(|name| metrics.upstream(&name.into()));
    for upstream in [&kitchen, &shop] {
        upstream.has(UpstreamPart::Retries);
        upstream.has(UpstreamPart::Breaker);
    }
    shop.has(UpstreamPart::Mirror);
    for worker in 0..2 {
        kitchen.count(worker, |shard| &shard.retries[3]);
        kitchen.count(worker, |shard| &shard.retries_unpaid);
        shop.count(worker, |shard| &shard.mirror_failed);
    }
    // A worker that is not there counts nothing.
    kitchen.count(2, |shard| &shard.retries_unpaid);
    let text = exposition(&metrics, &extra());
    let samples = read_back(&text);
    for (series, value) in [
        ("maitred_retries_total{upstream=\"kitchen\",reason=\"status\"}", 2.0),
        ("maitred_retries_total{upstream=\"kitchen\",reason=\"connect\"}", 0.0),
        ("maitred_retries_total{upstream=\"shop\",reason=\"status\"}", 0.0),
        ("maitred_retries_unpaid_total{upstream=\"kitchen\"}", 2.0),
        ("maitred_breaker_waits_total{upstream=\"shop\"}", 0.0),
        ("maitred_mirrored_requests_total{upstream=\"shop\"}", 0.0),
        ("maitred_mirror_failed_total{upstream=\"shop\"}", 2.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    assert!(!text.contains("maitred_hedges_total{") && !text.contains(&*quiet.name), "what is not configured is not told");
}

#[test]
fn names_cannot_break_out_of_their_labels() {
    let metrics = Metrics::new(1);
    route(&metrics, "a\"b", "c\\d\ne").of(0).count(Method::Get, 200);
    let samples = read_back(&exposition(&metrics, &extra()));
    assert_eq!(samples["maitred_requests_total{api=\"a\\\"b\",route=\"c\\\\d\\ne\",method=\"GET\",status=\"200\"}"], 1.0);
}

#[test]
fn requests_that_no_route_took_are_counted_too() {
    let metrics = Metrics::new(1);
    metrics.unrouted.of(0).count(Method::Get, 404);
    let samples = read_back(&exposition(&metrics, &extra()));
    assert_eq!(samples["maitred_requests_total{api=\"\",route=\"\",method=\"GET\",status=\"404\"}"], 1.0);
}

#[test]
fn seconds_are_decimal() {
    for (micros, text) in [(0, "0"), (500, "0.0005"), (1_000_000, "1"), (10_000_000, "10"), (60_002_100, "60.0021")] {
        assert_eq!(seconds(micros), text);
    }
}

#[test]
fn of_certificates_with_the_same_name_the_first_to_end_counts() {
    let metrics = Metrics::new(1);
    metrics.acme_ok.store(3, Ordering::Relaxed);
    metrics.acme_failed.store(2, Ordering::Relaxed);
    let end = |listener: &str, name: &str, not_after| CertificateEnd { listener: listener.into(), name: name.into(), not_after };
    let certificates =
        vec![end("0.0.0.0:443", "b", 30), end("0.0.0.0:443", "a", 20), end("0.0.0.0:443", "b", 10), end("[::]:443", "b", 40)];
    let samples = read_back(&exposition(&metrics, &Extra { certificates, ..extra() }));
    for (series, value) in [
        ("maitred_certificate_expiry_seconds{listener=\"0.0.0.0:443\",name=\"a\"}", 20.0),
        ("maitred_certificate_expiry_seconds{listener=\"0.0.0.0:443\",name=\"b\"}", 10.0),
        ("maitred_certificate_expiry_seconds{listener=\"[::]:443\",name=\"b\"}", 40.0),
        ("maitred_acme_orders_total{result=\"ok\"}", 3.0),
        ("maitred_acme_orders_total{result=\"failed\"}", 2.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
}

fn endpoint(index: usize, state: EndpointState) -> EndpointView {
    let address = Remote::Tcp(format!("10.0.{}.{}:9000", index / 250, index % 250).parse().unwrap());
    let target = Target { address, authority: "orders".into(), prefix: "".into(), weight: 1, zone: None, priority: 0 };
    let last = LastCheck { at: SystemTime::UNIX_EPOCH, took: Duration::ZERO, failure: None };
    let checked = Checked { is_healthy: true, since: SystemTime::UNIX_EPOCH, reason: None, last, passed: 5, failed: 2 };
    EndpointView {
        target,
        state,
        in_flight: 3,
        connections: 4,
        latency: None,
        requests: 70,
        failures: 7,
        ejections: 1,
        ejected_for: None,
        checked: (index == 0).then_some(checked),
    }
}

fn upstream(name: &str, endpoints: Vec<EndpointView>) -> UpstreamView {
    UpstreamView { name: name.into(), balance: Balance::RoundRobin, panic: false, endpoints, queue: None, breaker: None }
}

#[test]
fn an_upstream_with_a_limit_says_who_waits() {
    let mut waited = [0; 16];
    (waited[1], waited[15]) = (3, 1);
    let tally = Tally { waited, waited_micros: 40_500_000, full: 1, timeout: 2, shed: 3, outranked: 5, gone: 4 };
    let queue = Some(GateView { in_flight: 20, waiting: 7, limit: 20, tally });
    let upstreams = vec![UpstreamView { queue, ..upstream("a", Vec::new()) }, upstream("free", Vec::new())];
    let text = exposition(&Metrics::new(1), &Extra { upstreams, ..extra() });
    let samples = read_back(&text);
    for (series, value) in [
        ("maitred_upstream_concurrency_in_flight{upstream=\"a\"}", 20.0),
        ("maitred_upstream_concurrency_limit{upstream=\"a\"}", 20.0),
        ("maitred_upstream_queue_length{upstream=\"a\"}", 7.0),
        ("maitred_upstream_queue_refused_total{upstream=\"a\",reason=\"full\"}", 1.0),
        ("maitred_upstream_queue_refused_total{upstream=\"a\",reason=\"timeout\"}", 2.0),
        ("maitred_upstream_queue_refused_total{upstream=\"a\",reason=\"shed\"}", 3.0),
        ("maitred_upstream_queue_refused_total{upstream=\"a\",reason=\"gone\"}", 4.0),
        ("maitred_upstream_queue_refused_total{upstream=\"a\",reason=\"outranked\"}", 5.0),
        ("maitred_upstream_queue_wait_seconds_bucket{upstream=\"a\",le=\"0.001\"}", 3.0),
        ("maitred_upstream_queue_wait_seconds_bucket{upstream=\"a\",le=\"30\"}", 3.0),
        ("maitred_upstream_queue_wait_seconds_count{upstream=\"a\"}", 4.0),
        ("maitred_upstream_queue_wait_seconds_sum{upstream=\"a\"}", 40.5),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    assert!(!text.contains("maitred_upstream_queue_length{upstream=\"free\""), "without a limit there is nothing to tell");
}

#[test]
fn an_endpoint_has_series_of_its_own() {
    let mut endpoints = vec![endpoint(0, EndpointState::Healthy), endpoint(1, EndpointState::Ejected)];
    // One address by two names is one series.
    endpoints.push(EndpointView { requests: 1, ..endpoint(1, EndpointState::Healthy) });
    let upstreams = vec![upstream("a \"b\"", endpoints), upstream("empty", Vec::new())];
    let samples = read_back(&exposition(&Metrics::new(1), &Extra { upstreams, ..extra() }));
    let of = |name: &str, endpoint: &str| {
        samples[&format!("maitred_upstream_endpoint_{name}{{upstream=\"a \\\"b\\\"\",endpoint=\"{endpoint}:9000\"}}")]
    };
    for (name, value) in [
        ("up", 1.0),
        ("in_flight", 3.0),
        ("connections", 4.0),
        ("requests_total", 70.0),
        ("failures_total", 7.0),
        ("ejections_total", 1.0),
    ] {
        assert_eq!(of(name, "10.0.0.0"), value, "{name}");
    }
    assert_eq!((of("up", "10.0.0.1"), of("requests_total", "10.0.0.1")), (0.0, 70.0));
    let checks: Vec<(&String, &f64)> = samples.iter().filter(|(series, _)| series.contains("checks_total")).collect();
    assert!(
        matches!(checks[..], [(failed, 2.0), (passed, 5.0)] if failed.contains("failed") && passed.contains("passed")),
        "{checks:?}"
    );
}

#[test]
fn endpoints_beyond_a_thousand_are_only_counted() {
    let many = |count| (0..count).map(|index| endpoint(index, EndpointState::Healthy)).collect::<Vec<_>>();
    let upstreams = vec![upstream("a", many(900)), upstream("b", many(900))];
    let samples = read_back(&exposition(&Metrics::new(1), &Extra { upstreams, ..extra() }));
    let listed =
        |upstream: &str| samples.keys().filter(|series| series.contains("endpoint_up{") && series.contains(upstream)).count();
    assert_eq!((listed("upstream=\"a\""), listed("upstream=\"b\"")), (900, 100));
    assert_eq!(samples["maitred_upstream_endpoints_unlisted"], 800.0);
}

#[test]
fn hosted_functions_have_their_own_families_and_only_where_there_are_some() {
    let metrics = Metrics::new(1);
    assert!(!exposition(&metrics, &extra()).contains("maitred_function_invocations"));
    let counts = |name: &str| FunctionCounts {
        name: name.to_owned(),
        invocations: 10,
        failures: 3,
        timeouts: 1,
        throttles: 2,
        starts: 4,
        busy: 1,
        idle: 2,
        starting: 1,
        waiting: 5,
        duration: 1_500_000,
        init: 250_000,
    };
    let text = exposition(&metrics, &Extra { functions: vec![counts("dessert"), counts("soup")], ..extra() });
    let samples = read_back(&text);
    for (sample, value) in [
        ("maitred_function_invocations_total{function=\"dessert\"}", 10.0),
        ("maitred_function_failures_total{function=\"soup\"}", 3.0),
        ("maitred_function_timeouts_total{function=\"dessert\"}", 1.0),
        ("maitred_function_throttles_total{function=\"dessert\"}", 2.0),
        ("maitred_function_starts_total{function=\"dessert\"}", 4.0),
        ("maitred_function_duration_seconds_total{function=\"dessert\"}", 1.5),
        ("maitred_function_init_seconds_total{function=\"dessert\"}", 0.25),
        ("maitred_function_processes{function=\"dessert\",state=\"busy\"}", 1.0),
        ("maitred_function_processes{function=\"dessert\",state=\"idle\"}", 2.0),
        ("maitred_function_processes{function=\"dessert\",state=\"starting\"}", 1.0),
        ("maitred_function_waiting{function=\"soup\"}", 5.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}");
    }
}
