//! The gateway's own requests go through upstreams like any other: pool, TLS, protocol, breaker, timeouts.

use maitred_testkit::h2::code;
use maitred_testkit::{Authority, Backend, Door, Gateway, H2Backend, Latch, ServerTls, eventually, gateway, gateway_with};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn asking(upstream: &str, service: SocketAddr) -> (Backend, Gateway) {
    let kitchen = Backend::status(200);
    let yaml = format!(
        "upstreams: {{ kitchen: \"http://$kitchen\", service: {upstream} }}
authorizers:
  outside: {{ forward: {{ upstream: service, path: /check }} }}
  opaque: {{ introspection: {{ upstream: service, path: /introspect, client_id: a, client_secret: b, ttl: 0s, negative_ttl: 0s }} }}
apis:
  all:
    routes:
      - {{ match: GET /, authenticate: [outside], proxy: kitchen }}
      - {{ match: GET /token, authenticate: [opaque], proxy: kitchen }}
"
    );
    let gateway = gateway(&yaml, &[("kitchen", kitchen.address()), ("service", service)]);
    (kitchen, gateway)
}

const TOKEN: &str = "Authorization: Bearer one\r\n";

#[test]
fn connections_are_kept_whatever_the_answer_s_form() {
    let count = AtomicUsize::new(0);
    let service = Backend::new(move |_, conn| {
        conn.body();
        match count.fetch_add(1, SeqCst) % 3 {
            0 => _ = conn.answer(204, "", ""),
            1 => _ = conn.answer(200, "", "x".repeat(1000)),
            _ => {
                conn.chunked_head(200, "");
                conn.chunk("abc");
                conn.send("0\r\nX-Trailer: 1\r\n\r\n");
            }
        }
    });
    let (kitchen, gateway) = asking("\"http://$service/v1\"", service.address());
    for _ in 0..9 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!((service.connections(), kitchen.count()), (1, 9));
    assert!(service.requests().iter().all(|request| request.target == "/v1/check" && request.method == "GET"));
}

#[test]
fn interim_answers_are_for_nobody() {
    let service = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        conn.answer(200, "", "");
    });
    let (_kitchen, gateway) = asking("\"http://$service\"", service.address());
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().start[1], "200");
}

#[test]
fn a_question_is_repeated_where_a_kept_connection_breaks_under_it() {
    let count = AtomicUsize::new(0);
    let service = Backend::new(move |_, conn| {
        conn.body();
        if count.fetch_add(1, SeqCst) == 1 {
            conn.reset();
        } else {
            conn.answer(200, "", r#"{"active":true}"#);
        }
    });
    let (_kitchen, gateway) = asking("\"http://$service\"", service.address());
    for _ in 0..2 {
        assert_eq!(gateway.ask("GET", "/token", TOKEN, "").status, 200);
    }
    assert_eq!(service.count(), 3);
}

#[test]
fn the_circuit_breaker_counts_questions() {
    let latch = Latch::new();
    let held = latch.clone();
    let service = Backend::new(move |_, conn| {
        conn.wait(&held);
        conn.answer(200, "", "");
    });
    let upstream = "{ endpoints: [\"http://$service\"], circuit_breaker: { connections: 1, requests: 1 } }";
    let (_kitchen, gateway) = asking(upstream, service.address());
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    service.wait_for(1);
    assert_eq!(gateway.get("/").status, 503);
    latch.open();
    assert_eq!(first.response().status, 200);
    assert_eq!(gateway.get("/").status, 200, "the place is free again");
    assert_eq!(service.count(), 2);
}

#[test]
fn questions_wait_their_turn_where_there_is_a_queue() {
    let latch = Latch::new();
    let held = latch.clone();
    let service = Backend::new(move |_, conn| {
        conn.wait(&held);
        conn.answer(200, "", "");
    });
    let upstream = "{ endpoints: [\"http://$service\"], concurrency: { limit: 1, queue: { length: 5, timeout: 10s } } }";
    let (_kitchen, gateway) = asking(upstream, service.address());
    let mut clients: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    service.wait_for(1);
    eventually("two wait", || gateway.queue("service").waiting == 2);
    latch.open();
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!(service.count(), 3);
}

#[test]
fn who_goes_away_takes_the_question_back() {
    let latch = Latch::new();
    let held = latch.clone();
    let count = AtomicUsize::new(0);
    let service = Backend::new(move |_, conn| {
        if count.fetch_add(1, SeqCst) == 0 {
            conn.wait(&held);
        }
        conn.answer(200, "", "");
    });
    let upstream = "{ endpoints: [\"http://$service\"], circuit_breaker: { connections: 10, requests: 1 } }";
    let (kitchen, gateway) = asking(upstream, service.address());
    let mut client = gateway.h2();
    let id = client.ask("GET", "/", &[]);
    service.wait_for(1);
    assert_eq!(gateway.get("/").status, 503, "its place is taken");
    client.reset(id, code::CANCEL);
    eventually("its place is free", || gateway.get("/").status == 200);
    latch.open();
    assert_eq!((service.count(), kitchen.count()), (2, 1));
}

#[test]
fn questions_go_over_tls_and_http2_where_the_upstream_says_so() {
    let authority = Authority::new("inside");
    let service = Backend::echo_behind(Door::tls(ServerTls::new(&authority.server(&["localhost"]))));
    let kitchen = Backend::status(200);
    let yaml = "upstreams: { kitchen: \"http://$kitchen\", service: { endpoints: [\"https://$service\"], tls: { ca: ca.pem, server_name: localhost } } }
authorizers: { outside: { forward: { upstream: service, path: /check } } }
apis: { all: { policies: { authenticate: [outside] }, routes: [ GET /: kitchen ] } }";
    let names = [("kitchen", kitchen.address()), ("service", service.address())];
    let gateway = gateway_with(yaml, &names, &[("ca.pem", authority.pem())]);
    assert_eq!((gateway.get("/").status, service.only().target.as_str()), (200, "/check"));

    let service = H2Backend::echo();
    let (_kitchen, gateway) = asking("{ endpoints: [\"http://$service\"], protocol: h2c }", service.address());
    assert_eq!(gateway.get("/").status, 200);
    let asked = service.only();
    assert_eq!((asked.path.as_str(), asked.headers.has("x-forwarded-uri")), ("/check", true));
}
