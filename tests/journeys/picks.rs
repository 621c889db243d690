//! Picks that go by chance, by load or by key: what clients and back ends see of them. Plain turns stand in `balancing.rs`.

use maitred_testkit::{Backend, Client, Gateway, H2Backend, Latch, eventually, gateway, nobody};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

const ALL: [&str; 5] =
    ["random", "least_request", "peak_ewma", "ring_hash, hash_by: \"header:x-user\"", "maglev, hash_by: \"header:x-user\""];

fn yaml(balance: &str, endpoints: &str) -> String {
    format!(
        "upstreams: {{ kitchen: {{ balance: {balance}, endpoints: [ {endpoints} ] }} }}
apis:
  all:
    routes:
      - ANY /: kitchen
      - ANY /{{path+}}: kitchen"
    )
}

/// Who answers the n-th user, and how often each did.
fn shares(gateway: &Gateway, count: usize) -> HashMap<String, usize> {
    let mut client = gateway.client();
    let mut shares = HashMap::new();
    for n in 0..count {
        *shares.entry(of_user(&mut client, n)).or_default() += 1;
    }
    shares
}

fn of_user(client: &mut Client, n: usize) -> String {
    let response = client.request("GET", "/", &format!("X-User: user-{n}\r\n"), "");
    assert_eq!(response.status, 200);
    response.text()
}

/// Answers with its name: what is asked for /hold when the latch opens, of /stream the end.
fn holding(name: &'static str, latch: &Latch) -> Backend {
    let latch = latch.clone();
    Backend::new(move |request, conn| {
        conn.body();
        match request.target.as_str() {
            "/hold" => {
                conn.wait(&latch);
                conn.answer(200, "", name);
            }
            "/stream" => {
                conn.chunked_head(200, "");
                conn.chunk(name);
                conn.wait(&latch);
                conn.chunk("");
            }
            _ => {
                conn.answer(200, "", name);
            }
        }
    })
}

fn two(balance: &str, latch: &Latch) -> (Backend, Backend, Gateway) {
    let (a, b) = (holding("a", latch), holding("b", latch));
    let text = format!("workers: 2\n{}", yaml(balance, "\"http://$a\", \"http://$b\""));
    let gateway = gateway(&text, &[("a", a.address()), ("b", b.address())]);
    (a, b, gateway)
}

fn other(name: &str) -> &'static str {
    if name == "a" { "b" } else { "a" }
}

/// Each by a connection of its own, so that both workers are asked. A client may have its answer a moment before the worker counts it
/// as over, and then the other worker sees two that are equally busy: hence only nearly all.
fn nearly_all_go_to(gateway: &Gateway, name: &str) {
    let there = (0..60).filter(|_| gateway.get("/").text() == name).count();
    assert!(there >= 50, "{there} of 60");
}

fn both_are_used(gateway: &Gateway) {
    eventually("both endpoints are used", || (0..30).map(|_| gateway.get("/").text()).collect::<HashSet<_>>().len() == 2);
}

#[test]
fn shares_follow_the_weights() {
    for balance in ALL {
        let (a, b) = (Backend::named("a"), Backend::named("b"));
        let gateway = gateway(
            &yaml(balance, "{ url: \"http://$a\", weight: 3 }, \"http://$b\""),
            &[("a", a.address()), ("b", b.address())],
        );
        let shares = shares(&gateway, 400);
        if balance == "peak_ewma" {
            assert_eq!(shares.len(), 2, "latency decides, and everybody is tried: {shares:?}");
        } else {
            assert!((240..=360).contains(&shares["a"]), "{balance}: {shares:?}");
        }
    }
}

#[test]
fn an_endpoint_that_refuses_gives_way_to_the_next_whatever_the_algorithm() {
    for balance in ALL {
        let good = Backend::named("good");
        let (bad, _held) = nobody();
        let gateway = gateway(&yaml(balance, "\"http://$bad\", \"http://$good\""), &[("bad", bad), ("good", good.address())]);
        assert_eq!(shares(&gateway, 20), HashMap::from([("good".into(), 20)]), "{balance}");
    }
}

#[test]
fn least_request_avoids_an_endpoint_that_holds_a_request() {
    let latch = Latch::new();
    let (a, b, gateway) = two("least_request", &latch);
    let mut waiting = gateway.client();
    waiting.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is held", || a.count() + b.count() == 1);
    let holder = if a.count() == 1 { "a" } else { "b" };
    nearly_all_go_to(&gateway, other(holder));
    latch.open();
    assert_eq!(waiting.response().text(), holder);
    both_are_used(&gateway);
}

#[test]
fn a_request_counts_until_the_end_of_its_answer() {
    let latch = Latch::new();
    let (_a, _b, gateway) = two("least_request", &latch);
    let mut waiting = gateway.client();
    waiting.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    waiting.head();
    // A chunk of one byte.
    let piece = String::from_utf8_lossy(&waiting.read_exactly(6)).into_owned();
    let holder = if piece.contains('a') { "a" } else { "b" };
    nearly_all_go_to(&gateway, other(holder));
    waiting.reset();
    both_are_used(&gateway);
    latch.open();
}

#[test]
fn a_request_whose_client_went_away_counts_no_more() {
    let latch = Latch::new();
    let (a, b, gateway) = two("least_request", &latch);
    let mut waiting = gateway.client();
    waiting.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is held", || a.count() + b.count() == 1);
    waiting.reset();
    both_are_used(&gateway);
    latch.open();
}

#[test]
fn peak_ewma_avoids_an_endpoint_that_was_slow_and_comes_back_to_it() {
    let latch = Latch::new();
    let (a, b, gateway) = two("peak_ewma", &latch);
    let mut waiting = gateway.client();
    waiting.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is held", || a.count() + b.count() == 1);
    gateway.turn(Duration::from_secs(10));
    latch.open();
    let slow = waiting.response().text();
    nearly_all_go_to(&gateway, other(&slow));
    gateway.turn(Duration::from_secs(600));
    both_are_used(&gateway);
}

#[test]
fn peak_ewma_does_not_take_an_endpoint_that_fails_at_once_for_a_fast_one() {
    let (bad, good) = (Backend::status(503), Backend::status(200));
    let gateway =
        gateway(&yaml("peak_ewma", "\"http://$bad\", \"http://$good\""), &[("bad", bad.address()), ("good", good.address())]);
    for _ in 0..30 {
        gateway.get("/");
    }
    // Once, and whenever a pick in 64 looks whether it has recovered.
    assert!((1..=4).contains(&bad.count()), "{}", bad.count());
    assert_eq!(bad.count() + good.count(), 30);
}

/// Where a key goes at rest, each time by a connection of its own. While the last answer still counts as under way the bound on load may
/// send it elsewhere.
fn home(gateway: &Gateway, n: usize) -> String {
    let mut last = of_user(&mut gateway.client(), n);
    eventually("a key comes home", || {
        let now = of_user(&mut gateway.client(), n);
        std::mem::replace(&mut last, now.clone()) == now
    });
    last
}

fn named(count: usize) -> Vec<Backend> {
    ["a", "b", "c", "d", "e"][..count].iter().map(|name| Backend::named(name)).collect()
}

fn places(backends: &[Backend]) -> Vec<(&'static str, SocketAddr)> {
    ["a", "b", "c", "d", "e"].into_iter().zip(backends.iter().map(Backend::address)).collect()
}

const FOUR: &str = "\"http://$a\", \"http://$b\", \"http://$c\", \"http://$d\"";

#[test]
fn a_key_has_one_endpoint_over_workers_and_gateways() {
    for balance in &ALL[3..] {
        let backends = named(4);
        let first = gateway(&format!("workers: 2\n{}", yaml(balance, FOUR)), &places(&backends));
        // In another order.
        let turned = "\"http://$c\", \"http://$a\", \"http://$d\", \"http://$b\"";
        let second = gateway(&format!("workers: 2\n{}", yaml(balance, turned)), &places(&backends));
        let mut seen = HashSet::new();
        for n in 0..40 {
            let place = home(&first, n);
            for gateway in [&second, &first, &second] {
                assert_eq!(home(gateway, n), place, "{balance}, user {n}");
            }
            seen.insert(place);
        }
        assert_eq!(seen.len(), 4, "{balance}");
    }
}

#[test]
fn a_reload_that_adds_an_endpoint_leaves_most_keys_where_they_are() {
    for balance in &ALL[3..] {
        let backends = named(5);
        let gateway = gateway(&yaml(balance, FOUR), &places(&backends));
        let homes = || -> Vec<String> {
            let mut client = gateway.client();
            (0..200).map(|n| of_user(&mut client, n)).collect()
        };
        let before = homes();
        gateway.publish(&yaml(balance, &format!("{FOUR}, \"http://$e\"")));
        let after = homes();
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert!((10..=75).contains(&moved), "{balance}: {moved} of 200 moved; a fifth is fair");
        let elsewhere = before.iter().zip(&after).filter(|(before, after)| before != after && *after != "e").count();
        assert!(elsewhere <= 20, "{balance}: {elsewhere} of 200 moved between old endpoints");
    }
}

#[test]
fn keys_are_headers_cookies_parameters_paths_or_addresses() {
    let backends = named(4);
    for by in ["header:X-User", "cookie:user", "query:user", "path", "ip"] {
        let gateway = gateway(&yaml(&format!("maglev, hash_by: \"{by}\""), FOUR), &places(&backends));
        let ask = |n: usize, noise: usize| {
            let from = format!("127.0.0.{}", if by == "ip" { n + 1 } else { noise + 1 });
            let mut client = Client::connect_from(from.parse().expect("an address"), gateway.address());
            let (target, headers) = match by {
                "header:X-User" => (format!("/{noise}"), format!("x-user: {n}\r\n")),
                "cookie:user" => (format!("/{noise}"), format!("Cookie: x={noise}; user={n}; y=1\r\n")),
                "query:user" => (format!("/{noise}?x={noise}&user={n}"), String::new()),
                "path" => (format!("/{n}?{noise}"), String::new()),
                _ => (format!("/{noise}"), String::new()),
            };
            client.request("GET", &target, &headers, "").text()
        };
        let homes: Vec<String> = (0..40).map(|n| ask(n, 0)).collect();
        assert_eq!(homes.iter().collect::<HashSet<_>>().len(), 4, "{by}");
        for noise in 1..4 {
            assert!((0..40).all(|n| ask(n, noise) == homes[n]), "{by}");
        }
    }
}

#[test]
fn requests_without_the_key_go_anywhere() {
    let backends = named(4);
    for by in ["header:x-user", "cookie:user", "query:user"] {
        let gateway = gateway(&yaml(&format!("ring_hash, hash_by: \"{by}\""), FOUR), &places(&backends));
        let mut client = gateway.client();
        let seen: HashSet<String> =
            (0..100).map(|_| client.request("GET", "/?user=", "X-User:\r\nCookie: user=\r\n", "").text()).collect();
        assert_eq!(seen.len(), 4, "{by}: an empty key is none");
    }
}

#[test]
fn streams_of_http2_are_counted_and_keyed_too() {
    let latch = Latch::new();
    let backend = |name: &'static str| {
        let latch = latch.clone();
        H2Backend::new(move |request, stream| {
            stream.body();
            if request.path == "/hold" {
                latch.opens();
            }
            stream.answer(200, &[], name);
        })
    };
    let (a, b) = (backend("a"), backend("b"));
    let start = |balance: &str| {
        let text = yaml(balance, "\"http://$a\", \"http://$b\"").replace("balance:", "protocol: h2c, balance:");
        gateway(&text, &[("a", a.address()), ("b", b.address())])
    };
    let keyed = start("maglev, hash_by: \"header:x-user\"");
    let mut client = keyed.client();
    let homes: Vec<String> = (0..20).map(|n| of_user(&mut client, n)).collect();
    assert_eq!(homes.iter().collect::<HashSet<_>>().len(), 2);
    assert!((0..20).all(|n| of_user(&mut client, n) == homes[n]));
    let counted = start("least_request");
    let before = (a.count(), b.count());
    let mut waiting = counted.client();
    waiting.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is held", || (a.count(), b.count()) != before);
    let holder = if a.count() > before.0 { "a" } else { "b" };
    nearly_all_go_to(&counted, other(holder));
    latch.open();
    assert_eq!(waiting.response().text(), holder);
    both_are_used(&counted);
}
