//! Endpoints that fail are left alone, and come back; those of a lower rank, or of another zone, stand in for them.

use maitred_core::health::EndpointState;
use maitred_testkit::{Backend, Client, Gateway, Latch, gateway, nobody};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

const EJECT: &str = "outlier_detection: { consecutive_failures: 5, eject_for: 30s }";

fn yaml(endpoints: &str, more: &str) -> String {
    format!(
        "workers: 2
upstreams: {{ kitchen: {{ endpoints: [ {endpoints} ], {more} }} }}
apis:
  all:
    routes:
      - ANY /: kitchen
      - ANY /{{path+}}: kitchen"
    )
}

/// A back end that answers with whatever status it is set to, and its name.
struct Moody {
    backend: Backend,
    status: Arc<AtomicU16>,
}

impl Moody {
    fn new(name: &'static str, status: u16) -> Moody {
        let status = Arc::new(AtomicU16::new(status));
        let shown = status.clone();
        let backend = Backend::new(move |_, conn| {
            conn.body();
            match shown.load(Ordering::SeqCst) {
                0 => conn.reset(),
                status => {
                    conn.answer(status, "", name);
                }
            }
        });
        Moody { backend, status }
    }

    fn becomes(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.backend.count()
    }
}

fn two(a: &Moody, b: &Moody, more: &str) -> Gateway {
    two_as("\"http://$a\", \"http://$b\"", a, b, more)
}

fn two_as(endpoints: &str, a: &Moody, b: &Moody, more: &str) -> Gateway {
    gateway(&yaml(endpoints, more), &[("a", a.backend.address()), ("b", b.backend.address())])
}

/// Each on a connection of its own, so that both workers are asked.
fn names(gateway: &Gateway, count: usize) -> HashSet<String> {
    (0..count).map(|_| gateway.get("/").text()).collect()
}

fn set(names: &[&str]) -> HashSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn states(gateway: &Gateway) -> Vec<EndpointState> {
    let set = gateway.targets("kitchen").load();
    set.figures.iter().map(|figures| figures.state(gateway.now())).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_fifth_failure_over_all_workers_ejects_and_time_brings_back() {
    for balance in ["round_robin", "random", "least_request", "ring_hash, hash_by: \"query:u\"", "maglev, hash_by: \"query:u\""] {
        let (bad, good) = (Moody::new("bad", 500), Moody::new("good", 200));
        let gateway = two(&bad, &good, &format!("balance: {balance}, {EJECT}"));
        let ask = |count: usize| (0..count).for_each(|n| drop(gateway.get(&format!("/?u={n}"))));
        ask(80);
        assert_eq!(bad.count(), 5, "{balance}");
        let busy = gateway.metrics().workers.iter().filter(|shard| shard.upstream_connects.get() > 0).count();
        assert_eq!((busy, good.count()), (2, 75));
        bad.becomes(200);
        gateway.turn(secs(29));
        ask(20);
        assert_eq!((bad.count(), states(&gateway)[0]), (5, EndpointState::Ejected));
        gateway.turn(secs(2));
        ask(40);
        assert!(bad.count() > 10, "{balance}: {}", bad.count());
    }
}

#[test]
fn with_peak_ewma_too_the_one_that_fails_is_out_at_the_fifth() {
    let (bad, good) = (Moody::new("bad", 500), Moody::new("good", 500));
    let gateway = two(&bad, &good, &format!("balance: peak_ewma, {EJECT}"));
    while bad.count() < 5 && good.count() < 5 {
        gateway.get("/");
    }
    let first = if bad.count() == 5 { 0 } else { 1 };
    assert_eq!(states(&gateway)[first], EndpointState::Ejected);
    let (ejected, other) = if first == 0 { (&bad, &good) } else { (&good, &bad) };
    names(&gateway, 20);
    assert_eq!(ejected.count(), 5);
    assert!(other.count() >= 20, "half may be out and no more");
}

#[test]
fn a_second_ejection_lasts_twice_as_long() {
    let (bad, good) = (Moody::new("bad", 500), Moody::new("good", 200));
    let gateway = two(&bad, &good, EJECT);
    names(&gateway, 40);
    gateway.turn(secs(31));
    names(&gateway, 40);
    assert_eq!(bad.count(), 10);
    gateway.turn(secs(58));
    names(&gateway, 40);
    assert_eq!(bad.count(), 10);
    gateway.turn(secs(3));
    names(&gateway, 40);
    assert_eq!(bad.count(), 15);
}

#[test]
fn no_more_are_out_than_may_be() {
    let (a, b) = (Moody::new("a", 503), Moody::new("b", 503));
    let gateway = two(&a, &b, EJECT);
    names(&gateway, 40);
    let (least, most) = (a.count().min(b.count()), a.count().max(b.count()));
    assert!(least == 5 && most == 35, "{least} {most}");
}

#[test]
fn where_all_are_out_all_are_used() {
    let (a, b) = (Moody::new("a", 503), Moody::new("b", 503));
    let all = "outlier_detection: { consecutive_failures: 5, max_ejected: 100% }";
    let gateway = two(&a, &b, all);
    names(&gateway, 40);
    assert_eq!(states(&gateway), [EndpointState::Ejected; 2]);
    assert!(a.count() > 10 && b.count() > 10);
    a.becomes(200);
    b.becomes(200);
    assert_eq!(names(&gateway, 20), set(&["a", "b"]));
}

#[test]
fn who_cannot_be_connected_to_or_resets_is_out_and_nobody_notices_the_former() {
    let good = Moody::new("good", 200);
    let (bad, _held) = nobody();
    let gateway = gateway(&yaml("\"http://$bad\", \"http://$good\"", EJECT), &[("bad", bad), ("good", good.backend.address())]);
    assert_eq!(names(&gateway, 40), set(&["good"]));
    let figures = gateway.targets("kitchen").load().figures[0].clone();
    assert_eq!((figures.failures(), figures.requests(), figures.ejections()), (5, 5, 1));

    let bad = Moody::new("bad", 0);
    let gateway = two(&bad, &good, EJECT);
    let failed = (0..40).filter(|_| gateway.ask("POST", "/", "", "x").status == 502).count();
    assert_eq!((failed, bad.count()), (5, 5));
}

#[test]
fn a_client_that_goes_away_says_nothing_of_the_back_end() {
    let latch = Latch::new();
    let opened = latch.clone();
    let slow = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&opened);
        conn.answer(200, "", "slow");
    });
    let gateway = gateway(&yaml("\"http://$slow\"", EJECT), &[("slow", slow.address())]);
    for count in 1..=6 {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        slow.wait_for(count);
        client.reset();
    }
    let figures = gateway.targets("kitchen").load().figures[0].clone();
    maitred_testkit::eventually("all requests are given up", || figures.in_flight() == 0);
    assert_eq!((figures.requests(), states(&gateway)), (0, vec![EndpointState::Healthy]));
    latch.open();
    maitred_testkit::eventually("their connections are closed", || figures.connections() == 0);
}

#[test]
fn answers_that_do_not_come_in_time_count() {
    let latch = Latch::new();
    let opened = latch.clone();
    let hung = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&opened);
    });
    let good = Backend::named("good");
    let gateway = gateway(
        &yaml(
            "\"http://$hung\", \"http://$good\"",
            "timeouts: { response: 2s }, outlier_detection: { consecutive_failures: 5, eject_for: 5min }",
        ),
        &[("hung", hung.address()), ("good", good.address())],
    );
    let mut clients: Vec<Client> = Vec::new();
    while hung.count() < 5 {
        let mut client = gateway.client();
        let (before, answered) = (hung.count(), good.count());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        maitred_testkit::eventually("someone has it", || hung.count() > before || good.count() > answered);
        if hung.count() > before {
            clients.push(client);
        }
    }
    for client in &mut clients {
        client.until_readable(|| gateway.turn(secs(2)));
        assert_eq!(client.response().status, 504);
    }
    assert_eq!(states(&gateway), [EndpointState::Ejected, EndpointState::Healthy]);
    assert_eq!(names(&gateway, 10), set(&["good"]));
    latch.open();
}

#[test]
fn a_lower_rank_stands_in_while_the_first_is_out() {
    let (first, second) = (Moody::new("first", 200), Moody::new("second", 200));
    let endpoints = "\"http://$a\", { url: \"http://$b\", priority: 1 }";
    let gateway = two_as(endpoints, &first, &second, EJECT);
    assert_eq!(names(&gateway, 20), set(&["first"]));
    first.becomes(500);
    names(&gateway, 5);
    assert_eq!(names(&gateway, 20), set(&["second"]));
    first.becomes(200);
    gateway.turn(secs(31));
    assert_eq!(names(&gateway, 20), set(&["first"]));
}

#[test]
fn the_own_zone_is_preferred_and_others_stand_in() {
    let (near, far) = (Moody::new("near", 200), Moody::new("far", 200));
    let endpoints = "{ url: \"http://$a\", zone: here }, { url: \"http://$b\", zone: there }";
    let text = |zone: &str| format!("zone: {zone}\n{}", yaml(endpoints, "balance: least_request"));
    let gateway = gateway(&text("here"), &[("a", near.backend.address()), ("b", far.backend.address())]);
    assert_eq!(names(&gateway, 20), set(&["near"]));
    gateway.targets("kitchen").load().figures[0].set_drained(true);
    assert_eq!(names(&gateway, 20), set(&["far"]));
    gateway.targets("kitchen").load().figures[0].set_drained(false);
    assert_eq!(names(&gateway, 20), set(&["near"]));
    gateway.publish(&text("there"));
    assert_eq!(names(&gateway, 20), set(&["far"]));
    gateway.publish(&yaml(endpoints, "balance: least_request"));
    assert_eq!(names(&gateway, 40), set(&["near", "far"]), "a gateway that stands nowhere has no preference");
}

#[test]
fn who_is_drained_gets_nobody_new_and_ends_what_it_has() {
    let latch = Latch::new();
    let opened = latch.clone();
    let old = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&opened);
        conn.answer(200, "", "old");
    });
    let new = Backend::named("new");
    let gateway =
        gateway(&yaml("\"http://$old\", \"http://$new\"", "balance: random"), &[("old", old.address()), ("new", new.address())]);
    let mut waiting = gateway.client();
    while old.count() == 0 {
        let (mut client, answered) = (gateway.client(), new.count());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        maitred_testkit::eventually("someone has it", || old.count() > 0 || new.count() > answered);
        waiting = client;
    }
    let cell = gateway.targets("kitchen");
    cell.load().figures[0].set_drained(true);
    assert_eq!(names(&gateway, 20), set(&["new"]));
    assert_eq!(states(&gateway), [EndpointState::Drained, EndpointState::Healthy]);
    latch.open();
    assert_eq!(waiting.response().text(), "old");
    cell.load().figures[1].set_drained(true);
    assert_eq!(gateway.get("/").status, 503, "nobody is left, and who is drained is not used in need either");
    cell.load().figures[0].set_drained(false);
    assert_eq!(gateway.get("/").text(), "old");
}

#[test]
fn with_panic_below_nothing_nobody_who_is_out_is_used_in_need() {
    let (a, b) = (Moody::new("a", 500), Moody::new("b", 500));
    let out = "outlier_detection: { consecutive_failures: 5, max_ejected: 100% }, panic_below";
    let gateway = two(&a, &b, &format!("{out}: 0%"));
    names(&gateway, 20);
    assert_eq!((a.count(), b.count(), states(&gateway)), (5, 5, vec![EndpointState::Ejected; 2]));
    assert_eq!(gateway.get("/").status, 503);
    gateway.publish(&yaml("\"http://$a\", \"http://$b\"", &format!("{out}: 0.0001%")));
    assert_eq!(gateway.get("/").status, 500, "the least share that is none is for when nobody is left");
}

#[test]
fn a_reload_keeps_who_is_out() {
    let (bad, good) = (Moody::new("bad", 500), Moody::new("good", 200));
    let gateway = two(&bad, &good, EJECT);
    names(&gateway, 40);
    assert_eq!(bad.count(), 5);
    for more in ["balance: random", "timeouts: { connect: 1s }", "balance: least_request"] {
        gateway.publish(&yaml("\"http://$b\", \"http://$a\"", &format!("{more}, {EJECT}")));
        names(&gateway, 20);
        assert_eq!((bad.count(), states(&gateway)), (5, vec![EndpointState::Healthy, EndpointState::Ejected]));
    }
    gateway.publish(&yaml("\"http://$b\", \"http://$a\"", "balance: round_robin"));
    assert_eq!(names(&gateway, 20), set(&["bad", "good"]), "without outlier detection nobody is left alone");
}

#[test]
fn a_list_that_changes_loses_no_request_in_flight_and_keeps_who_is_out() {
    let latch = Latch::new();
    let opened = latch.clone();
    let old = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&opened);
        conn.answer(200, "", "old");
    });
    let (new, bad) = (Backend::named("new"), Moody::new("bad", 500));
    let gateway = gateway(
        &yaml("\"http://$old\"", EJECT),
        &[("old", old.address()), ("new", new.address()), ("bad", bad.backend.address())],
    );
    let cell = gateway.targets("kitchen");
    let target = cell.load().targets[0].clone();
    let at = |address| maitred_transport::Target { address: maitred_core::Remote::Tcp(address), ..target.clone() };
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    old.wait_for(1);
    cell.publish(vec![at(new.address()), at(bad.backend.address())]);
    names(&gateway, 40);
    assert_eq!((bad.count(), old.count()), (5, 1));
    cell.publish(vec![at(bad.backend.address()), at(new.address())]);
    assert_eq!(names(&gateway, 10), set(&["new"]));
    latch.open();
    assert_eq!(client.response().text(), "old");
}

fn cookie_of(response: &maitred_testkit::Response) -> Option<String> {
    response.header("set-cookie").map(|line| line.split(';').next().unwrap_or_default().to_owned())
}

#[test]
fn a_cookie_brings_a_client_where_it_was_before() {
    for balance in ["round_robin", "random", "least_request", "peak_ewma"] {
        let (a, b) = (Moody::new("a", 200), Moody::new("b", 200));
        let sticky = format!("balance: {balance}, affinity: {{ cookie: stay, ttl: 1h }}");
        let gateway = two(&a, &b, &sticky);
        let first = gateway.get("/");
        let line = first.header("set-cookie").expect("a cookie").to_owned();
        let (cookie, rest) = line.split_once("; ").unwrap();
        assert_eq!(rest, "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600");
        assert!(cookie.len() == "stay=".len() + 16 && !line.contains("127"), "{line}");
        let with = |cookie: &str| format!("Cookie: x=1; {cookie}\r\n");
        for _ in 0..20 {
            let again = gateway.ask("GET", "/", &with(cookie), "");
            assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None), "{balance}");
        }
        let invented = gateway.ask("GET", "/", &with("stay=00000000000000ff"), "");
        assert!(cookie_of(&invented).is_some(), "a cookie that names nobody is replaced");
        // A reload, and others beside it, change nothing.
        gateway.publish(&yaml("\"http://$b\", \"http://$a\"", &sticky));
        assert_eq!(gateway.ask("GET", "/", &with(cookie), "").text(), first.text());
        // Who is out loses its clients; they stay where they went.
        let home = usize::from(first.text() == "a");
        gateway.targets("kitchen").load().figures[home].set_drained(true);
        let moved = gateway.ask("GET", "/", &with(cookie), "");
        assert_ne!(moved.text(), first.text());
        let other = cookie_of(&moved).expect("a new cookie");
        gateway.targets("kitchen").load().figures[home].set_drained(false);
        for _ in 0..10 {
            assert_eq!(gateway.ask("GET", "/", &with(&other), "").text(), moved.text());
        }
    }
}

#[test]
fn nobody_is_bound_to_an_endpoint_that_fails() {
    let (bad, good) = (Moody::new("bad", 500), Moody::new("good", 200));
    let gateway = two(&bad, &good, "affinity: { cookie: stay }");
    let answers: Vec<_> = (0..10).map(|_| gateway.get("/")).collect();
    assert!(answers.iter().all(|answer| cookie_of(answer).is_some() == (answer.status == 200)));
    assert!(bad.count() > 0 && good.count() > 0);
}

#[test]
fn who_joins_later_starts_slowly_and_who_was_there_first_does_not() {
    let (a, b) = (Moody::new("a", 200), Moody::new("b", 200));
    let gateway = gateway(
        &yaml("\"http://$a\"", "slow_start: 20s").replace("workers: 2", "workers: 1"),
        &[("a", a.backend.address()), ("b", b.backend.address())],
    );
    let cell = gateway.targets("kitchen");
    let target = cell.load().targets[0].clone();
    let other = maitred_transport::Target { address: maitred_core::Remote::Tcp(b.backend.address()), ..target.clone() };
    assert_eq!(names(&gateway, 3), set(&["a"]));
    cell.publish(vec![target, other]);
    let share = |count: usize| {
        let before = b.count();
        names(&gateway, count);
        b.count() - before
    };
    assert_eq!(share(44), 4, "a tenth of the other's");
    gateway.turn(secs(10));
    assert_eq!(share(60), 20, "a half");
    gateway.turn(secs(11));
    assert_eq!(share(60), 30);
}

#[test]
fn open_connections_and_requests_are_counted_for_every_upstream() {
    let latch = Latch::new();
    let opened = latch.clone();
    let slow = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&opened);
        conn.answer(200, "", "slow");
    });
    let gateway = gateway(&yaml("\"http://$slow\"", "protocol: http1"), &[("slow", slow.address())]);
    let figures = gateway.targets("kitchen").load().figures[0].clone();
    let mut clients: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    slow.wait_for(3);
    assert_eq!((figures.in_flight(), figures.connections(), figures.requests()), (3, 3, 0));
    latch.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "slow"));
    maitred_testkit::eventually("none is under way", || figures.in_flight() == 0);
    assert_eq!((figures.connections(), figures.requests(), figures.failures()), (3, 3, 0));
    slow.close_connections();
    gateway.turn(secs(120));
    maitred_testkit::eventually("their ends are noticed", || figures.connections() == 0);
}

#[test]
fn who_cannot_be_connected_to_gives_way_within_its_rank_first() {
    let (near, far) = (Moody::new("near", 200), Moody::new("far", 200));
    let (bad, _held) = nobody();
    let addresses = [("bad", bad), ("near", near.backend.address()), ("far", far.backend.address())];
    let endpoints = "\"http://$bad\", { url: \"http://$far\", priority: 1 }, \"http://$near\"";
    let gateway = gateway(&yaml(endpoints, "balance: random"), &addresses);
    assert_eq!(names(&gateway, 30), set(&["near"]));
    gateway.targets("kitchen").load().figures[2].set_drained(true);
    assert!(names(&gateway, 30).contains("far"), "a connection that nobody takes goes on to the next rank");
}
