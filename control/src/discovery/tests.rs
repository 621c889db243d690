//! Names and addresses from a script; time is tokio's, and jumps ahead.

use super::testing::Scripted;
use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn name(host: &str, every: bool, weight: u32) -> EndpointSpec {
    let authority = Authority::Name { host: host.to_owned(), port: 80, every };
    EndpointSpec {
        authority,
        authority_text: format!("{host}:80").into(),
        prefix: "".into(),
        weight: weight.try_into().unwrap(),
        scheme: Scheme::Http,
        zone: None,
        priority: 0,
    }
}

fn literal(address: &str, weight: u32) -> EndpointSpec {
    let authority = Authority::Address(address.parse().unwrap());
    EndpointSpec {
        authority,
        authority_text: address.into(),
        prefix: "/base".into(),
        weight: weight.try_into().unwrap(),
        scheme: Scheme::Http,
        zone: None,
        priority: 0,
    }
}

fn wanted(endpoints: &[EndpointSpec]) -> (Arc<TargetCell>, Request) {
    let cell = Arc::new(TargetCell::default());
    let request = Request { cell: Arc::downgrade(&cell), endpoints: endpoints.to_vec() };
    (cell, request)
}

/// Addresses and weights.
fn shown(cell: &TargetCell) -> Vec<String> {
    cell.load().targets.iter().map(|target| format!("{} x{}", target.address, target.weight)).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn discovery() -> (Arc<Scripted>, Discovery) {
    let script = Arc::new(Scripted::default());
    (script.clone(), Discovery::new(script))
}

#[tokio::test(start_paused = true)]
async fn literal_addresses_need_no_resolver() {
    let (_, discovery) = discovery();
    let (cell, request) = wanted(&[literal("10.0.0.1:9000", 1), literal("[::1]:9000", 2)]);
    assert_eq!(discovery.resolve_all(&[request], PATIENCE).await, []);
    assert_eq!(shown(&cell), ["10.0.0.1:9000 x1", "[::1]:9000 x2"]);
    let set = cell.load();
    assert_eq!((&*set.targets[0].authority, &*set.targets[0].prefix), ("10.0.0.1:9000", "/base"));
    assert_eq!(set.targets.iter().map(|target| target.weight).sum::<u32>(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_address_has_the_weight_or_only_the_first() {
    let (script, discovery) = discovery();
    script.answer("orders", &["::2", "10.0.0.2", "10.0.0.1", "10.0.0.2"], secs(60));
    let (all, first) = (wanted(&[name("orders", true, 3)]), wanted(&[name("orders", false, 3), literal("10.9.9.9:1", 1)]));
    assert_eq!(discovery.resolve_all(&[all.1, first.1], PATIENCE).await, []);
    assert_eq!(shown(&all.0), ["10.0.0.1:80 x3", "10.0.0.2:80 x3", "[::2]:80 x3"]);
    assert_eq!(shown(&first.0), ["10.0.0.1:80 x3", "10.0.0.2:80 x0", "[::2]:80 x0", "10.9.9.9:1 x1"]);
    assert_eq!(script.lookups("orders"), 1, "one lookup for both");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_refreshed_by_its_ttl() {
    let (script, discovery) = discovery();
    script.answer("orders", &["10.0.0.1"], secs(30));
    let (cell, request) = wanted(&[name("orders", true, 1)]);
    discovery.resolve_all(&[request], PATIENCE).await;
    script.answer("orders", &["10.0.0.2"], secs(30));
    sleep(secs(29)).await;
    assert_eq!(shown(&cell), ["10.0.0.1:80 x1"]);
    sleep(secs(2)).await;
    assert_eq!(shown(&cell), ["10.0.0.2:80 x1"]);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_is_held_between_a_second_and_an_hour() {
    let (script, discovery) = discovery();
    script.answer("short", &["10.0.0.1"], Duration::ZERO);
    script.answer("long", &["10.0.0.1"], secs(7 * 86400));
    let (_cell, request) = wanted(&[name("short", true, 1), name("long", true, 1)]);
    discovery.resolve_all(&[request], PATIENCE).await;
    sleep(secs(10) + Duration::from_millis(500)).await;
    assert_eq!(script.lookups("short"), 11);
    sleep(secs(3600)).await;
    assert_eq!(script.lookups("long"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_keeps_the_last_good_answer_and_is_retried_ever_later() {
    let (script, discovery) = discovery();
    script.answer("orders", &["10.0.0.1"], secs(10));
    let (cell, request) = wanted(&[name("orders", true, 1)]);
    let start = Instant::now();
    discovery.resolve_all(&[request], PATIENCE).await;
    script.fail("orders", "server failure");
    // At 10, 11, 13, 17, 25, 41, 71, 101 seconds.
    for (until, lookups) in [(12, 3), (24, 5), (70, 7), (72, 8), (100, 8), (102, 9)] {
        tokio::time::sleep_until(start + Duration::from_millis(until * 1000 - 500)).await;
        assert_eq!(script.lookups("orders"), lookups, "after {until} s");
        assert_eq!(shown(&cell), ["10.0.0.1:80 x1"]);
    }
    script.answer("orders", &["10.0.0.2"], secs(10));
    sleep(secs(31)).await;
    assert_eq!(shown(&cell), ["10.0.0.2:80 x1"]);
    script.answer("orders", &[], secs(10));
    sleep(secs(11)).await;
    assert_eq!(shown(&cell), ["10.0.0.2:80 x1"], "an answer without an address is a failure");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_resolve_in_time_is_said_and_filled_in_later() {
    let (script, discovery) = discovery();
    script.answer("good", &["10.0.0.1"], secs(60));
    script.fail("bad", "server failure");
    script.silence("silent");
    let (cell, request) = wanted(&[name("good", true, 1), name("bad", true, 1), name("silent", true, 1), name("bad", false, 1)]);
    let before = Instant::now();
    let unresolved = discovery.resolve_all(&[request], PATIENCE).await;
    assert_eq!(before.elapsed(), PATIENCE);
    let reasons: Vec<_> = unresolved.iter().map(|name| (name.host.as_str(), name.reason.as_str())).collect();
    assert_eq!(reasons, [("bad", "server failure"), ("silent", "no answer yet")]);
    assert_eq!(shown(&cell), ["10.0.0.1:80 x1"], "the others serve meanwhile");
    script.answer("bad", &["10.0.0.2"], secs(60));
    sleep(secs(10)).await;
    assert_eq!(shown(&cell), ["10.0.0.1:80 x1", "10.0.0.2:80 x1", "10.0.0.2:80 x1"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_uses_is_not_asked_for() {
    let (script, discovery) = discovery();
    script.answer("orders", &["10.0.0.1"], secs(10));
    let (one, two) = (wanted(&[name("orders", true, 1)]), wanted(&[name("orders", true, 1)]));
    discovery.resolve_all(&[one.1, two.1.clone()], PATIENCE).await;
    drop(one.0);
    sleep(secs(11)).await;
    assert_eq!(script.lookups("orders"), 2, "the other still uses it");
    drop(two.0);
    sleep(secs(1000)).await;
    assert_eq!(script.lookups("orders"), 3, "the one that found out");
    assert!(discovery.shared.names().is_empty());
    let (again, request) = wanted(&[name("orders", true, 1)]);
    discovery.resolve_all(&[request], PATIENCE).await;
    assert_eq!(shown(&again), ["10.0.0.1:80 x1"]);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_is_known_is_not_resolved_again() {
    let (script, discovery) = discovery();
    script.answer("orders", &["10.0.0.1"], secs(60));
    let (cell, request) = wanted(&[name("orders", true, 1)]);
    discovery.resolve_all(std::slice::from_ref(&request), PATIENCE).await;
    let before = cell.load();
    discovery.resolve_all(&[request], PATIENCE).await;
    assert_eq!(script.lookups("orders"), 1);
    assert!(Arc::ptr_eq(&before, &cell.load()));
    assert_eq!(discovery.shared.names()[&Question::Host("orders".into())].users.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_discovery_asks_no_more() {
    let (script, discovery) = discovery();
    script.answer("orders", &["10.0.0.1"], secs(10));
    let (_cell, request) = wanted(&[name("orders", true, 1)]);
    discovery.resolve_all(&[request], PATIENCE).await;
    drop(discovery);
    sleep(secs(1000)).await;
    assert_eq!(script.lookups("orders"), 1);
    assert_eq!(Arc::strong_count(&script), 1, "no task holds anything");
}

fn service(name: &str, weight: u32, priority: u8) -> EndpointSpec {
    let authority = Authority::Service(name.to_owned());
    EndpointSpec { authority, priority, ..literal("10.9.9.9:1", weight) }
}

/// Address, Host, weight and priority.
fn in_full(cell: &TargetCell) -> Vec<String> {
    let line = |target: &Target| format!("{} {} x{} p{}", target.address, target.authority, target.weight, target.priority);
    cell.load().targets.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_s_records_say_hosts_ports_weights_and_priorities() {
    let (script, discovery) = discovery();
    let records = ["20 5 9002 c.orders", "10 60 9000 a.orders.", "10 0 80 b.orders"];
    script.services("_http._tcp.orders", &records, secs(60));
    script.add("_http._tcp.orders", "c.orders", &["10.0.0.3"], secs(60));
    script.answer("a.orders", &["10.0.0.1", "::1"], secs(60));
    script.answer("b.orders", &["10.0.0.2"], secs(60));
    let (cell, request) = wanted(&[service("_http._tcp.orders", 2, 1), literal("10.9.9.9:1", 1)]);
    assert_eq!(discovery.resolve_all(&[request], PATIENCE).await, []);
    let expected = [
        "10.0.0.1:9000 a.orders:9000 x120 p1",
        "[::1]:9000 a.orders:9000 x120 p1",
        "10.0.0.2:80 b.orders x2 p1",
        "10.0.0.3:9002 c.orders:9002 x10 p2",
        "10.9.9.9:1 10.9.9.9:1 x1 p0",
    ];
    assert_eq!(in_full(&cell), expected);
    assert_eq!(script.lookups("c.orders"), 0, "its address came along");
    assert_eq!(&*cell.load().targets[0].prefix, "/base");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_asked_for_again_after_the_least_ttl_and_the_same_answer_changes_nothing() {
    let (script, discovery) = discovery();
    script.services("_s", &["1 1 1 a", "1 1 1 b"], secs(100));
    script.answer("a", &["10.0.0.1"], secs(10));
    script.answer("b", &["10.0.0.2"], secs(50));
    let (cell, request) = wanted(&[service("_s", 1, 0)]);
    discovery.resolve_all(&[request], PATIENCE).await;
    let before = cell.load();
    script.services("_s", &["1 1 1 b", "1 1 1 a"], secs(100));
    sleep(secs(11)).await;
    assert_eq!(script.lookups("_s"), 2);
    assert!(Arc::ptr_eq(&before, &cell.load()), "another order is no change");
    script.answer("a", &["10.0.0.9"], secs(10));
    sleep(secs(10)).await;
    assert_eq!(shown(&cell), ["10.0.0.9:1 x1", "10.0.0.2:1 x1"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_or_a_host_of_it_that_does_not_resolve_keeps_what_was_known() {
    let (script, discovery) = discovery();
    script.services("_s", &["1 1 1 a", "1 1 1 b"], secs(10));
    script.answer("a", &["10.0.0.1"], secs(60));
    script.fail("b", "server failure");
    let (cell, request) = wanted(&[service("_s", 1, 0)]);
    assert_eq!(discovery.resolve_all(&[request], PATIENCE).await, [], "the others serve");
    assert_eq!(shown(&cell), ["10.0.0.1:1 x1"]);
    script.answer("b", &["10.0.0.2"], secs(60));
    sleep(secs(6)).await;
    assert_eq!(shown(&cell), ["10.0.0.1:1 x1", "10.0.0.2:1 x1"], "it is asked for again before the service's TTL is over");
    script.fail("a", "server failure");
    sleep(secs(11)).await;
    assert_eq!(shown(&cell), ["10.0.0.1:1 x1", "10.0.0.2:1 x1"], "its last addresses");
    script.fail("_s", "server failure");
    sleep(secs(100)).await;
    assert_eq!(shown(&cell), ["10.0.0.1:1 x1", "10.0.0.2:1 x1"]);
    script.services("_s", &[], secs(10));
    sleep(secs(100)).await;
    assert_eq!(shown(&cell), ["10.0.0.1:1 x1", "10.0.0.2:1 x1"], "no record is a failure");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_said_not_to_exist_has_no_target() {
    let (script, discovery) = discovery();
    script.services("_s", &["1 1 1 a"], secs(10));
    script.answer("a", &["10.0.0.1"], secs(60));
    let (cell, request) = wanted(&[service("_s", 1, 0)]);
    discovery.resolve_all(std::slice::from_ref(&request), PATIENCE).await;
    script.services("_s", &["0 0 0 ."], secs(10));
    sleep(secs(11)).await;
    assert!(shown(&cell).is_empty());
    let unresolved = discovery.resolve_all(&[request], PATIENCE).await;
    assert_eq!(unresolved[0].reason, "the service is said not to be offered");
}

#[tokio::test(start_paused = true)]
async fn a_service_leads_to_no_more_places_than_an_upstream_can_have() {
    let (script, discovery) = discovery();
    let records: Vec<String> = (1..=300).map(|port| format!("1 1 {port} a")).collect();
    script.services("_s", &records.iter().map(String::as_str).collect::<Vec<_>>(), secs(10));
    let addresses: Vec<String> = (0..300).map(|number| format!("10.0.{}.{}", number / 250, number % 250)).collect();
    script.add("_s", "a", &addresses.iter().map(String::as_str).collect::<Vec<_>>(), secs(60));
    let found = discovery.shared.ask(&Question::Service("_s".into()), &[]).await.unwrap();
    assert_eq!(found.places.len(), TARGETS_MAX);
}
