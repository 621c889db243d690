//! 1xx: expectations, early hints, and upgrades.

use maitred_testkit::{Backend, Client, Gateway, Latch, eventually, gateway, gateway_to};
use std::time::Duration;

#[test]
fn the_body_is_asked_for_when_the_back_end_asks_for_it() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.wait(&seen);
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    backend.wait_for(1);
    assert_eq!(backend.only().header("expect"), Some("100-continue"));
    assert!(client.is_quiet(), "nobody has asked for the body yet");
    latch.open();
    assert_eq!(client.head().start[1], "100");
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn exactly_one_100_is_sent() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().start[1], "100");
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn the_body_is_asked_for_in_the_end_when_the_back_end_says_nothing() {
    let backend = Backend::new(|_, conn| {
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    backend.wait_for(1);
    assert!(client.is_quiet());
    client.until_readable(|| gateway.turn(Duration::from_secs(1)));
    assert_eq!(client.head().start[1], "100");
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_back_end_that_says_100_and_never_answers_is_a_504() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        conn.body();
        conn.peer_leaves();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    // The body comes unasked, so that it is sent on in the very moment in which 100 arrives.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    backend.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_secs(15)));
    assert_eq!(client.response().status, 504);
}

#[test]
fn a_refused_expectation_never_sends_the_body() {
    for status in [417, 413, 401] {
        let backend = Backend::new(move |_, conn| {
            conn.answer(status, "", "no");
            conn.close();
        });
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (status, "no"));
        assert!(response.closes(), "nobody knows whether the client sends its body: {response:?}");
        assert!(backend.only().body.is_empty());
    }
}

#[test]
fn a_refusal_by_the_gateway_asks_for_no_body() {
    let backend = Backend::status(200);
    let gateway = gateway(
        "limits: { body_bytes: 10B }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"POST /\": kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    for (target, status) in [("/", 413), ("/nowhere", 404)] {
        let mut client = gateway.client();
        client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(client.response().status, status, "and no 100 before it");
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn an_expectation_with_its_body_at_once_is_served() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    let mut head = client.head();
    // RFC 9110 §10.1.1: a server may leave 100 out when the body is there already.
    while head.start[1] == "100" {
        head = client.head();
    }
    assert_eq!(head.start[1], "200");
    assert_eq!(client.read_exactly(5), b"hello");
}

#[test]
fn an_unknown_expectation_does_not_hang() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let status = gateway.ask("POST", "/", "Expect: miracles\r\n", "hello").status;
    assert!(status == 200 || status == 417, "{status}");
}

#[test]
fn an_http_1_0_client_is_never_sent_an_interim_answer() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        conn.body();
        conn.answer(200, "", "final");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().text(), "final");
}

#[test]
fn early_hints_pass_before_the_answer() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\n");
        conn.wait(&seen);
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n");
        conn.answer(200, "", "final");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.head();
    assert_eq!((hints.start[1].as_str(), hints.fields.get("link")), ("103", Some("</a.css>; rel=preload")));
    assert!(!hints.fields.has("connection") && !hints.fields.has("content-length"));
    latch.open();
    assert_eq!(client.head().fields.get("link"), Some("</b.css>"));
    assert_eq!(client.response().text(), "final");
}

/// A back end that speaks a protocol of its own after 101: it sends back what it gets.
fn parrot() -> Backend {
    Backend::new(|request, conn| {
        if request.header("upgrade").is_none() {
            conn.answer(426, "", "");
            return;
        }
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\nX-Feather: green\r\n\r\n");
        loop {
            let bytes = conn.read_some();
            if bytes.is_empty() || !conn.send(&bytes) {
                break;
            }
        }
        conn.close();
    })
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: parrot\r\n\r\n";

fn tunnel(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send(UPGRADE);
    let response = client.response();
    assert_eq!(response.status, 101);
    client
}

#[test]
fn an_upgrade_becomes_bytes_both_ways() {
    let backend = parrot();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(UPGRADE);
    let response = client.response();
    assert_eq!((response.status, response.header("upgrade"), response.header("x-feather")), (101, Some("parrot"), Some("green")));
    assert!(response.headers.members("connection").iter().any(|option| option.eq_ignore_ascii_case("upgrade")), "{response:?}");
    let received = backend.only();
    assert_eq!(received.header("upgrade"), Some("parrot"));
    assert!(received.headers.members("connection").iter().any(|option| option.eq_ignore_ascii_case("upgrade")));
    for message in [&b"hello"[..], b"GET / HTTP/1.1\r\n\r\n", &[0, 255, 13, 10], &[7; 200_000]] {
        client.send(message);
        assert_eq!(client.read_exactly(message.len()), message);
    }
    client.finish();
    client.closed();
    eventually("the tunnel is over", || gateway.open() == 0 && gateway.metrics().workers[0].tunnels_open.get() == 0);
}

#[test]
fn bytes_in_the_same_packet_as_the_101_are_delivered() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\nfirst words");
        let more = conn.read_exactly(3);
        conn.send(more);
        conn.close();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(UPGRADE);
    assert_eq!(client.response().status, 101);
    assert_eq!(client.read_exactly(11), b"first words");
    client.send("abc");
    assert_eq!(client.read_exactly(3), b"abc");
    client.closed();
}

#[test]
fn bytes_behind_an_upgrade_wait_for_the_101() {
    let latch = Latch::new();
    let (seen, early) = (latch.clone(), Latch::new());
    let too_early = early.clone();
    let backend = Backend::new(move |request, conn| {
        // Were they sent on too early they would be here by now, or taken for a request.
        if request.target != "/chat" {
            too_early.open();
        }
        conn.wait(&seen);
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        let bytes = conn.read_exactly(5);
        conn.send(bytes);
        conn.close();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(format!("{UPGRADE}eager"));
    backend.wait_for(1);
    assert_eq!(backend.only().raw.windows(5).filter(|window| window == b"eager").count(), 0);
    latch.open();
    assert_eq!(client.response().status, 101);
    assert_eq!(client.read_exactly(5), b"eager");
    assert!(!early.is_open());
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer_and_what_follows_is_a_request() {
    let backend = Backend::named("no");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(format!("{UPGRADE}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().status, 200);
    let targets: Vec<String> = backend.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/chat", "/next"]);
}

#[test]
fn a_101_that_nobody_asked_for_is_a_fault() {
    let backend = Backend::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
    let gateway = gateway_to(&backend);
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn h2c_by_upgrade_is_not_passed_on() {
    let backend = Backend::named("plain");
    let gateway = gateway_to(&backend);
    let response = gateway.ask(
        "GET",
        "/",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "",
    );
    assert_eq!(response.text(), "plain");
    let received = backend.only();
    assert!(!received.headers.has("upgrade") && !received.headers.has("http2-settings") && !received.headers.has("connection"));
}

#[test]
fn upgrade_without_connection_is_not_passed_on() {
    let backend = Backend::named("plain");
    let gateway = gateway_to(&backend);
    assert_eq!(gateway.ask("GET", "/", "Upgrade: parrot\r\n", "").text(), "plain");
    assert!(!backend.only().headers.has("upgrade"));
}

#[test]
fn each_side_of_a_tunnel_may_finish_first() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\nlast words");
        conn.finish();
        let rest = conn.read_exactly(4);
        assert_eq!(rest, b"okay");
        conn.close();
    });
    let gateway = gateway_to(&backend);
    let mut client = tunnel(&gateway);
    assert_eq!(client.read_exactly(10), b"last words");
    client.closed();
    client.send("okay");
    client.finish();
    eventually("the tunnel is over", || gateway.open() == 0 && backend.open() == 0);
}

#[test]
fn a_broken_tunnel_breaks_on_the_other_side() {
    let backend = parrot();
    let gateway = gateway_to(&backend);
    let client = tunnel(&gateway);
    client.reset();
    eventually("the back end's side is closed", || backend.open() == 0);
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        conn.read_exactly(1);
        conn.reset();
    });
    let gateway = gateway_to(&backend);
    let mut client = tunnel(&gateway);
    client.send("x");
    let (rest, _) = client.read_to_end();
    assert!(rest.is_empty());
}

#[test]
fn a_tunnel_on_which_nothing_moves_is_closed() {
    let backend = parrot();
    let gateway = gateway_to(&backend);
    let mut client = tunnel(&gateway);
    client.send("x");
    client.read_exactly(1);
    gateway.turn(Duration::from_secs(50));
    client.send("y");
    assert_eq!(client.read_exactly(1), b"y", "a byte every minute keeps it");
    client.until_readable(|| gateway.turn(Duration::from_secs(76)));
    client.closed();
}

#[test]
fn a_tunnel_s_reader_that_does_not_read_stops_the_writer() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        while conn.send([7; 65536]) {}
    });
    let gateway = gateway_to(&backend);
    let mut client = Client::connect_slow_reader(gateway.address());
    client.send(UPGRADE);
    client.head();
    eventually("bytes flow", || backend.written() > 1_000_000);
    maitred_testkit::stays("the back end is blocked", || backend.written());
    assert!(backend.written() < 40_000_000);
    assert_eq!(gateway.metrics().workers[0].tunnels_open.get(), 1);
}

#[test]
fn a_back_end_that_dies_before_its_101_is_a_502() {
    let backend = Backend::new(|_, conn| conn.close());
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(UPGRADE);
    assert_eq!(client.response().status, 502);
}
