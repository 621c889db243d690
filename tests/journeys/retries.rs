//! Further tries: which requests have them, when, where, and what they may cost. That a pooled connection which was just closed is replaced
//! unasked stands in `symptoms.rs` and `h2_upstream_faults.rs`.

use maitred_testkit::h2::code;
use maitred_testkit::{Backend, Gateway, H2Backend, eventually, gateway, nobody, reluctant};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// An upstream with these endpoints and this `retry`.
fn retrying(retry: &str, endpoints: &[SocketAddr]) -> Gateway {
    retrying_with(retry, "", "", endpoints)
}

/// And more keys of the upstream, and of the route.
fn retrying_with(retry: &str, upstream: &str, route: &str, endpoints: &[SocketAddr]) -> Gateway {
    let names: Vec<String> = (0..endpoints.len()).map(|at| format!("e{at}")).collect();
    let urls: Vec<String> = names.iter().map(|name| format!("\"http://${name}\"")).collect();
    let yaml = format!(
        "upstreams:
  kitchen: {{ endpoints: [ {} ], retry: {{ {retry} }}{upstream} }}
apis:
  all:
    routes:
      - {{ match: \"ANY /{{path+}}\", proxy: kitchen{route} }}
      - {{ match: \"ANY /\", proxy: kitchen{route} }}",
        urls.join(", ")
    );
    let named: Vec<(&str, SocketAddr)> = names.iter().map(String::as_str).zip(endpoints.iter().copied()).collect();
    gateway(&yaml, &named)
}

/// Answers the first so many requests like this, later ones with 200 and the body that came.
fn failing(times: usize, status: u16, headers: &'static str) -> Backend {
    let asked = AtomicUsize::new(0);
    Backend::new(move |_, conn| {
        let body = conn.body();
        if asked.fetch_add(1, SeqCst) < times {
            conn.answer(status, headers, "not now");
        } else {
            conn.answer(200, "", body);
        }
    })
}

fn counted(gateway: &Gateway, reason: &str) -> u64 {
    let index = maitred_core::metrics::RETRY_REASONS.iter().position(|known| *known == reason).expect("a reason");
    gateway.metrics().upstreams().iter().map(|upstream| upstream.sum(|shard| &shard.retries[index])).sum()
}

const EAGER: &str = "attempts: 3, conditions: [connect, reset, timeout, 500, 502, 503, 504], per_try_timeout: 250ms";

/// GETs, one after the other; the clock is turned while nothing comes.
#[track_caller]
fn all_succeed(gateway: &Gateway, count: usize) {
    let mut client = gateway.client();
    for at in 0..count {
        client.send("GET /menu HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until_readable(|| gateway.turn(Duration::from_millis(5)));
        let response = client.response();
        assert_eq!(response.status, 200, "request {at}: {response:?}");
    }
}

#[test]
fn one_endpoint_of_three_fails_and_no_request_does() {
    let (killed, _held) = nobody();
    let hung = Backend::new(|_, conn| _ = conn.peer_leaves());
    let sick = Backend::status(500);
    // Ten times what the others take, and a bit.
    let slow = Backend::new(|_, conn| {
        std::thread::sleep(Duration::from_millis(60));
        conn.answer(200, "", "slow");
    });
    let breaking = Backend::new(|_, conn| conn.reset());
    for (how, bad) in [
        ("killed", killed),
        ("hung", hung.address()),
        ("sick", sick.address()),
        ("slow", slow.address()),
        ("breaking", breaking.address()),
    ] {
        let (one, two) = (Backend::named("one"), Backend::named("two"));
        let gateway = retrying(&format!("{EAGER}, budget: 50%, backoff: 1ms"), &[one.address(), bad, two.address()]);
        all_succeed(&gateway, 60);
        assert!(one.count() >= 20 && two.count() >= 20, "{how}: {} and {}", one.count(), two.count());
    }
}

#[test]
fn with_outliers_left_alone_the_usual_budget_does() {
    let (killed, _held) = nobody();
    let hung = Backend::new(|_, conn| _ = conn.peer_leaves());
    let sick = Backend::status(500);
    for bad in [killed, hung.address(), sick.address()] {
        let (one, two) = (Backend::named("one"), Backend::named("two"));
        let endpoints = [one.address(), bad, two.address()];
        let ejecting = ", outlier_detection: { consecutive_failures: 5 }";
        let gateway = retrying_with(&format!("{EAGER}, backoff: 1ms"), ejecting, "", &endpoints);
        all_succeed(&gateway, 60);
    }
}

#[test]
fn an_outage_of_all_endpoints_costs_the_offered_load_and_the_budget() {
    let backends = [Backend::status(503), Backend::status(503), Backend::status(503)];
    let gateway = retrying("attempts: 5, backoff: 1ms", &[backends[0].address(), backends[1].address(), backends[2].address()]);
    let mut client = gateway.client();
    for _ in 0..300 {
        assert_eq!(client.get("/").status, 503, "the answer itself is passed on");
    }
    let tried: usize = backends.iter().map(Backend::count).sum();
    assert!((350..=300 + 60 + 10).contains(&tried), "{tried} tries of 300 requests, with a budget of 20% and a reserve of 10");
    let unpaid: u64 = gateway.metrics().upstreams().iter().map(|upstream| upstream.sum(|shard| &shard.retries_unpaid)).sum();
    assert!(unpaid >= 230, "{unpaid}");
}

#[test]
fn so_does_one_that_accepts_nobody() {
    let ((a, _a), (b, _b), (c, _c)) = (nobody(), nobody(), nobody());
    let gateway = retrying("attempts: 5, backoff: 1ms", &[a, b, c]);
    let mut client = gateway.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 502);
    }
    let connects: u64 = gateway.metrics().workers.iter().map(|worker| worker.upstream_connects.get()).sum();
    // Those of whom nothing is known yet are tried for nothing, once each.
    assert!(connects <= 200 + 40 + 10 + 2, "{connects} connections tried for 200 requests");
}

#[test]
fn a_retry_goes_to_another_endpoint() {
    let (bad, good) = (Backend::status(503), Backend::named("good"));
    let gateway = retrying("attempts: 2, backoff: 1ms, budget: 100%", &[bad.address(), good.address()]);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!((bad.count(), good.count()), (10, 20));
    assert_eq!(counted(&gateway, "status"), 10);
}

#[test]
fn only_what_is_harmless_is_sent_twice() {
    for (method, route, status) in [
        ("GET", "", 200),
        ("PUT", "", 200),
        ("DELETE", "", 200),
        ("POST", "", 503),
        ("PATCH", "", 503),
        ("POST", ", idempotent: true", 200),
        ("GET", ", idempotent: false", 503),
    ] {
        let backend = failing(1, 503, "");
        let gateway = retrying_with("attempts: 3, backoff: 1ms", "", route, &[backend.address()]);
        assert_eq!(gateway.ask(method, "/", "", "").status, status, "{method}{route}");
        assert_eq!(backend.count(), if status == 200 { 2 } else { 1 }, "{method}{route}");
    }
}

#[test]
fn what_was_not_sent_is_harmless_whatever_it_is() {
    let good = Backend::echo();
    let (bad, _held) = nobody();
    let gateway = retrying("attempts: 2", &[bad, good.address()]);
    for _ in 0..4 {
        let response = gateway.ask("POST", "/", "", "an order");
        assert_eq!((response.status, response.json()["body"].as_str()), (200, Some("an order")));
    }
    assert_eq!(good.count(), 4);
    assert_eq!(counted(&gateway, "connect"), 0, "where another is in order it costs no budget");
}

#[test]
fn a_retry_makes_nothing_worse_where_most_accept_nobody() {
    let ((a, _a), (b, _b), good) = (nobody(), nobody(), Backend::echo());
    let gateway = retrying("attempts: 2", &[a, good.address(), b]);
    all_succeed(&gateway, 300);
    assert_eq!(good.count(), 300);
}

#[test]
fn conditions_are_those_that_are_named() {
    for (conditions, status, wanted) in
        [("[503]", 503, 2), ("[503]", 502, 1), ("[connect, reset]", 503, 1), ("[429]", 429, 2), ("[404]", 404, 2)]
    {
        let backend = failing(1, status, "");
        let gateway = retrying(&format!("conditions: {conditions}, backoff: 1ms"), &[backend.address()]);
        gateway.get("/");
        assert_eq!(backend.count(), wanted, "{conditions} and {status}");
    }
}

#[test]
fn a_connection_that_breaks_is_tried_again_where_that_is_harmless() {
    for (method, conditions, wanted) in [("GET", "[reset]", 200), ("POST", "[reset]", 502), ("GET", "[connect]", 502)] {
        let asked = AtomicUsize::new(0);
        let backend = Backend::new(move |_, conn| {
            conn.body();
            if asked.fetch_add(1, SeqCst) == 0 {
                // A half-written head: nothing was answered yet.
                conn.send("HTTP/1.1 200 OK\r\nConte");
                return conn.reset();
            }
            conn.answer(200, "", "");
        });
        let gateway = retrying(&format!("conditions: {conditions}, backoff: 1ms"), &[backend.address()]);
        assert_eq!(gateway.ask(method, "/", "", "").status, wanted, "{method} with {conditions}");
    }
}

#[test]
fn each_try_has_its_own_patience_within_that_of_the_request() {
    let hung = Backend::new(|_, conn| _ = conn.peer_leaves());
    let gateway = retrying_with(
        "attempts: 10, conditions: [timeout], per_try_timeout: 1s, backoff: 1ms, budget: 100%",
        "",
        ", timeout: 3500ms",
        &[hung.address()],
    );
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for tries in 1..=4 {
        hung.wait_for(tries);
        assert!(client.is_quiet(), "try {tries}");
        gateway.turn(Duration::from_secs(1));
    }
    client.until_readable(|| {});
    assert_eq!(client.response().status, 504);
    assert_eq!(hung.count(), 4, "the last one had half a second");
    eventually("all are given up", || hung.open() == 0);
}

#[test]
fn the_upstream_s_own_patience_counts_as_a_timeout_too() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = asked.clone();
    let backend =
        Backend::new(
            move |_, conn| {
                if counting.fetch_add(1, SeqCst) == 0 { _ = conn.peer_leaves() } else { _ = conn.answer(200, "", "late") }
            },
        );
    let gateway = retrying_with("conditions: [timeout]", ", timeouts: { response: 20s }", "", &[backend.address()]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_secs(5)));
    assert_eq!(client.response().text(), "late");
}

#[test]
fn who_accepts_nobody_in_time_gives_way_to_another() {
    for (method, retry) in [
        ("GET", "conditions: [connect]"),
        ("POST", "conditions: [connect]"),
        ("POST", "conditions: [timeout], per_try_timeout: 1s"),
    ] {
        let good = Backend::named("good");
        let (bad, _held) = reluctant();
        let gateway = retrying_with(retry, ", timeouts: { connect: 2s }", "", &[bad, good.address()]);
        let mut client = gateway.client();
        for _ in 0..2 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            client.until_readable(|| gateway.turn(Duration::from_millis(500)));
            assert_eq!(client.response().text(), "good", "{method} {retry}");
        }
    }
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let backend = Backend::new(|_, conn| {
        conn.chunked_head(200, "");
        conn.chunk("half");
        conn.peer_leaves();
    });
    let gateway = retrying_with("conditions: [timeout, reset]", ", timeouts: { idle: 10s }", "", &[backend.address()]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().start[1], "200");
    eventually("it is cut", || {
        gateway.turn(Duration::from_secs(5));
        backend.open() == 0
    });
    assert_eq!(backend.count(), 1);
}

#[test]
fn retry_after_is_heeded() {
    for (headers, most, wanted) in [
        ("Retry-After: 0\r\n", "250ms", 200),
        ("Retry-After: 1\r\n", "250ms", 503),
        ("Retry-After: 1\r\n", "2s", 200),
        ("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n", "10s", 503),
        ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "250ms", 200),
    ] {
        let backend = failing(1, 503, headers);
        let gateway = retrying(&format!("backoff: 1ms, backoff_max: {most}"), &[backend.address()]);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        backend.wait_for(1);
        client.until_readable(|| gateway.turn(Duration::from_millis(500)));
        let response = client.response();
        assert_eq!(response.status, wanted, "{headers} and {most}");
        assert_eq!(response.header("retry-after").is_some(), wanted == 503, "passed on as it is: {response:?}");
    }
}

#[test]
fn no_try_begins_that_the_deadline_would_end() {
    let backend = failing(1, 503, "Retry-After: 2\r\n");
    let gateway = retrying_with("backoff_max: 10s", "", ", timeout: 2s", &[backend.address()]);
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!(backend.count(), 1);
}

#[test]
fn bodies_that_fit_are_sent_again() {
    let body = "x".repeat(10_000);
    for (most, wanted) in [("10KB", 200), ("9999B", 503)] {
        for chunked in [false, true] {
            let backend = failing(1, 503, "");
            let gateway = retrying(&format!("backoff: 1ms, body_bytes: {most}"), &[backend.address()]);
            let mut client = gateway.client();
            let response = if chunked {
                client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                client.send(format!("1388\r\n{}\r\n1388\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n", &body[..5000], &body[5000..]));
                client.response()
            } else {
                client.request("PUT", "/", "", &body)
            };
            assert_eq!(response.status, wanted, "{most}, chunked: {chunked}");
            if wanted == 200 {
                assert_eq!((response.text(), backend.count()), (body.clone(), 2));
                let [first, second] = &backend.requests()[..] else { panic!("two requests") };
                assert_eq!((&first.body, &first.trailers.0), (&second.body, &second.trailers.0));
                assert!(!chunked || second.trailers.get("x-sum") == Some("1"), "trailers come again too");
            }
        }
    }
}

#[test]
fn a_body_that_is_still_on_its_way_goes_on_in_the_next_try() {
    let asked = AtomicUsize::new(0);
    let backend = Backend::new(move |_, conn| {
        if asked.fetch_add(1, SeqCst) == 0 {
            // Answered before all of the body was there.
            conn.read_exactly(5);
            conn.answer(503, "", "");
            return conn.close();
        }
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = retrying("backoff: 1ms", &[backend.address()]);
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello");
    backend.wait_for(2);
    client.send(" world");
    assert_eq!(client.response().text(), "hello world");
}

#[test]
fn a_body_that_waits_for_100_is_not_asked_for_by_a_try_that_fails() {
    let backend = failing_before_the_body();
    let gateway = retrying("backoff: 1ms", &[backend.address()]);
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head().start[1], "100");
    assert_eq!(backend.count(), 2);
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

fn failing_before_the_body() -> Backend {
    let asked = AtomicUsize::new(0);
    Backend::new(move |_, conn| {
        if asked.fetch_add(1, SeqCst) == 0 {
            conn.answer(503, "", "");
            return conn.close();
        }
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conn.body();
        conn.answer(200, "", body);
    })
}

#[test]
fn an_upgrade_is_tried_again_only_where_nothing_was_sent() {
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let backend = failing(1, 503, "");
    let gateway = retrying("backoff: 1ms", &[backend.address()]);
    assert_eq!(gateway.ask("GET", "/", upgrade, "").status, 503);
    assert_eq!(backend.count(), 1);
    let (bad, _held) = nobody();
    let gateway = retrying("backoff: 1ms", &[bad, backend.address()]);
    for _ in 0..2 {
        assert_eq!(gateway.ask("GET", "/", upgrade, "").status, 200);
    }
}

#[test]
fn the_connection_of_an_answer_that_nobody_got_is_used_again() {
    let backend = failing(3, 503, "");
    let gateway = retrying("attempts: 4, backoff: 30ms, backoff_max: 60ms", &[backend.address()]);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(backend.count(), 4);
    assert!(backend.connections() <= 2, "{} connections for 4 tries", backend.connections());
    // One that does not end is left.
    let endless = Backend::new(|_, conn| {
        conn.chunked_head(503, "");
        while conn.chunk([b'x'; 16 * 1024]) {}
    });
    let gateway = retrying("attempts: 2, backoff: 1ms", &[endless.address()]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().start[1], "503");
    drop(client);
    eventually("both are closed", || endless.open() == 0);
}

#[test]
fn a_client_that_leaves_between_tries_ends_them() {
    let backend = failing(9, 503, "Retry-After: 60\r\n");
    let gateway = retrying("attempts: 9, backoff_max: 100s", &[backend.address()]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    client.reset();
    eventually("it is gone", || gateway.open() == 0);
    gateway.turn(Duration::from_secs(100));
    assert_eq!(gateway.get("/%zz").status, 400);
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_replaced_pooled_connection_is_no_retry() {
    let backend = Backend::named("one");
    let gateway = retrying("attempts: 2", &[backend.address()]);
    for _ in 0..3 {
        assert_eq!(gateway.get("/").status, 200);
        backend.close_connections();
    }
    assert_eq!(["connect", "reset", "timeout", "status"].map(|reason| counted(&gateway, reason)), [0; 4]);
}

#[test]
fn a_refused_stream_is_paid_for() {
    let backend = H2Backend::new(|_, stream| _ = stream.reset(code::REFUSED_STREAM));
    let yaml = "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c, retry: { attempts: 3, backoff: 1ms } } }
apis: { all: { routes: [ ANY /: kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    for _ in 0..100 {
        assert_eq!(client.request("POST", "/", "", "").status, 502);
    }
    assert!(backend.count() <= 100 + 20 + 10, "{} streams for 100 requests", backend.count());
}

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// A gateway to a service that answers the first calls with these trailers only.
fn calling(route: &str, trailers: &'static [(&'static str, &'static str)]) -> (H2Backend, Gateway) {
    let asked = AtomicUsize::new(0);
    let backend = H2Backend::new(move |_, stream| {
        stream.body();
        if asked.fetch_add(1, SeqCst) == 0 {
            let head = [&[("content-type", "application/grpc")], trailers].concat();
            stream.head(200, &head, true);
            return;
        }
        stream.head(200, &[("content-type", "application/grpc")], false);
        stream.trailers(&[("grpc-status", "0")]);
    });
    let yaml = format!(
        "upstreams:
  kitchen: {{ endpoints: [\"http://$kitchen\"], protocol: h2c, retry: {{ backoff: 1ms, backoff_max: 10s }} }}
apis: {{ all: {{ routes: [ {{ match: ANY /kit.Kit/Get, proxy: kitchen{route} }} ] }} }}"
    );
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    (backend, gateway)
}

#[test]
fn a_call_that_is_unavailable_is_tried_again_where_it_is_declared_harmless() {
    let unavailable: &[(&str, &str)] = &[("grpc-status", "14")];
    for (route, trailers, wanted) in [
        (", idempotent: true", unavailable, 2),
        ("", unavailable, 1),
        (", idempotent: true", &[("grpc-status", "13")], 1),
        (", idempotent: true", &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")], 1),
    ] {
        let (backend, gateway) = calling(route, trailers);
        let mut client = gateway.h2();
        let stream = client.open("POST", "/kit.Kit/Get", &GRPC);
        client.data(stream, [0, 0, 0, 0, 1, b'x'], true);
        let response = client.response(stream);
        let status = response.trailers.get("grpc-status").or_else(|| response.header("grpc-status"));
        let told = if wanted == 2 { "0" } else { trailers[0].1 };
        assert_eq!((status, backend.count()), (Some(told), wanted), "{route} {trailers:?}");
        assert!(backend.requests().iter().all(|request| request.body == [0, 0, 0, 0, 1, b'x']), "the message comes again");
    }
}

#[test]
fn each_try_is_told_what_is_left_of_the_deadline() {
    let (backend, gateway) = calling(", idempotent: true", &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "5000")]);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/kit.Kit/Get", &[GRPC[0], GRPC[1], ("grpc-timeout", "20S")]);
    client.data(stream, [0, 0, 0, 0, 0], true);
    backend.wait_for(1);
    eventually("the second try", || {
        gateway.turn(Duration::from_millis(500));
        backend.count() == 2
    });
    assert_eq!(client.response(stream).trailers.get("grpc-status"), Some("0"));
    let left: Vec<f64> = backend.requests().iter().map(|request| seconds(request.header("grpc-timeout"))).collect();
    assert!(left[0] <= 20.0 && left[0] > 10.0 && left[1] <= left[0] - 5.0 && left[1] > 0.0, "{left:?}");
}

fn seconds(timeout: Option<&str>) -> f64 {
    let timeout = timeout.expect("a grpc-timeout");
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let unit = match unit {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "S" => 1.0,
        other => panic!("a unit of {other}"),
    };
    number.parse::<f64>().expect("a number") * unit
}
