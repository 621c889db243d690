//! Bounds: bodies, connections, and clients that are slow on purpose.

use maitred_testkit::{Backend, Broken, Client, Folder, Gateway, Latch, eventually, gateway, stays};
use std::time::Duration;

fn limited(limits: &str, backend: &Backend) -> Gateway {
    let yaml = format!(
        "limits: {{ {limits} }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis:
  all:
    routes:
      - ANY /: kitchen
      - {{ match: POST /large, proxy: kitchen, body_bytes: 100B }}
"
    );
    gateway(&yaml, &[("kitchen", backend.address())])
}

#[test]
fn a_declared_body_over_the_limit_is_refused_at_once() {
    let backend = Backend::echo();
    let gateway = limited("body_bytes: 10B", &backend);
    assert_eq!(gateway.ask("POST", "/", "", "0123456789").status, 200);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 413, "without a byte of it");
    assert_eq!(response.json()["status"], 413);
    assert!(response.closes());
    assert_eq!(backend.count(), 1);
}

#[test]
fn what_came_of_a_refused_body_is_counted() {
    let folder = Folder::new();
    let path = folder.path("access.log");
    let yaml = format!(
        "limits: {{ body_bytes: 10B }}
telemetry: {{ access_log: {{ to: {} }} }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}",
        path.display()
    );
    let backend = Backend::echo();
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (count, (chunks, bytes)) in [("b\r\n0123456789a\r\n", 11), ("4\r\nabcd\r\n8\r\nefghijkl\r\n", 12)].into_iter().enumerate()
    {
        let mut client = gateway.client();
        client.send(format!("{head}{chunks}"));
        assert_eq!(client.response().status, 413);
        let lines = || std::fs::read_to_string(&path).unwrap_or_default();
        eventually("the line is written", || lines().lines().count() == count + 1);
        let line: serde_json::Value = serde_json::from_str(lines().lines().last().expect("a line")).expect("JSON");
        assert_eq!((&line["status"], &line["bytes_in"]), (&413.into(), &bytes.into()), "{chunks:?}");
    }
}

#[test]
fn a_route_s_own_limit_counts() {
    let backend = Backend::echo();
    let gateway = limited("body_bytes: 10B", &backend);
    assert_eq!(gateway.ask("POST", "/large", "", &"x".repeat(100)).status, 200);
    assert_eq!(gateway.ask("POST", "/large", "", &"x".repeat(101)).status, 413);
}

#[test]
fn a_chunked_body_over_the_limit_is_refused_when_it_grows_over_it() {
    let backend = Backend::echo();
    let gateway = limited("body_bytes: 10B", &backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n");
    backend.wait_for(2);
    client.send("6\r\nfghijk\r\n");
    let response = client.response();
    assert_eq!((response.status, response.closes()), (413, true), "{response:?}");
    eventually("the attempt is abandoned", || backend.open() <= 1);
    assert!(!backend.last().complete, "what was cut must not look whole");
}

#[test]
fn a_client_that_sends_on_after_its_refusal_still_reads_it() {
    let backend = Backend::echo();
    let gateway = limited("body_bytes: 10B", &backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n");
    let _ = client.try_send(vec![b'x'; 500_000]);
    assert_eq!(client.response().status, 413);
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_refused_client_that_sends_without_end_is_left() {
    let backend = Backend::echo();
    let gateway = limited("body_bytes: 10B", &backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
    let mut sent = 0;
    while client.try_send(&chunk).is_ok() {
        sent += chunk.len();
        assert!(sent < 200_000_000, "it takes whatever is sent");
    }
    eventually("the connection is forgotten", || gateway.open() == 0);
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let backend = Backend::echo();
    let gateway = limited("connections: 2", &backend);
    let (mut first, mut second) = (gateway.client(), gateway.client());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = gateway.client();
    let response = third.response();
    assert_eq!((response.status, response.closes()), (503, true));
    third.closed();
    drop(first);
    eventually("the place is free", || gateway.open() < 2);
    assert_eq!(gateway.client().get("/").status, 200);
    assert_eq!(second.get("/").status, 200, "the others were never disturbed");
}

#[test]
fn one_address_cannot_take_all_connections() {
    let backend = Backend::echo();
    let gateway = limited("connections_per_ip: 2", &backend);
    let (mut first, mut second) = (gateway.client(), gateway.client());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    assert_eq!(gateway.client().response().status, 503);
    let mut other = Client::connect_from("127.0.0.2".parse().expect("an address"), gateway.address());
    assert_eq!(other.get("/").status, 200);
}

#[test]
fn a_head_that_takes_too_long_is_a_408() {
    let backend = Backend::echo();
    let gateway = limited("header_timeout: 10s", &backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: ");
    client.until_readable(|| gateway.turn(Duration::from_secs(10)));
    let response = client.response();
    assert_eq!((response.status, response.closes()), (408, true));
    client.closed();
}

#[test]
fn dripping_bytes_do_not_extend_a_head_s_time() {
    let backend = Backend::echo();
    let gateway = limited("header_timeout: 10s", &backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nX: ");
    for _ in 0..3 {
        gateway.turn(Duration::from_secs(2));
        client.send("y");
        assert!(client.is_quiet(), "it has four seconds left");
    }
    client.until_readable(|| gateway.turn(Duration::from_secs(2)));
    assert_eq!(client.response().status, 408);
}

#[test]
fn a_connection_that_never_says_anything_is_closed_without_a_word() {
    let backend = Backend::echo();
    let gateway = limited("header_timeout: 10s", &backend);
    let mut client = gateway.client();
    eventually("it is accepted", || gateway.open() == 1);
    client.until_readable(|| gateway.turn(Duration::from_secs(11)));
    client.closed();
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let backend = Backend::echo();
    let gateway = limited("idle_timeout: 60s", &backend);
    let mut client = gateway.client();
    assert_eq!(client.get("/").status, 200);
    gateway.turn(Duration::from_secs(50));
    assert_eq!(client.get("/").status, 200, "its time starts anew");
    gateway.turn(Duration::from_secs(50));
    assert_eq!(gateway.get("/").status, 200);
    assert!(client.is_quiet(), "it has ten seconds left");
    client.until_readable(|| gateway.turn(Duration::from_secs(61)));
    client.closed();
}

#[test]
fn a_body_that_stalls_is_a_408_and_the_attempt_is_abandoned() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        conn.body();
        leaving.open();
    });
    let gateway = limited("body_timeout: 30s", &backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    backend.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_secs(31)));
    let response = client.response();
    assert_eq!((response.status, response.closes()), (408, true));
    assert_eq!(response.json()["status"], 408);
    left.wait();
    assert!(!backend.only().complete);
}

#[test]
fn a_slow_body_that_moves_is_no_stalled_one() {
    let backend = Backend::echo();
    let gateway = limited("body_timeout: 30s", &backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    for (at, byte) in ["a", "b", "c", "d"].into_iter().enumerate() {
        gateway.turn(Duration::from_secs(25));
        client.send(byte);
        eventually("the byte has reached the back end", || {
            at == 3 || backend.requests().last().is_some_and(|request| request.body.len() == at + 1)
        });
    }
    assert_eq!(client.response().json()["body"], "abcd");
}

#[test]
fn a_client_that_does_not_read_is_left_when_its_time_is_over() {
    let blocked = Latch::new();
    let writing = blocked.clone();
    let backend = Backend::new(move |_, conn| {
        conn.answer(200, "", vec![b'x'; 50_000_000]);
        writing.open();
    });
    let gateway = limited("write_timeout: 30s", &backend);
    let mut client = Client::connect_slow_reader(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    eventually("the answer flows", || backend.written() > 0);
    stays("the back end is blocked", || backend.written());
    gateway.turn(Duration::from_secs(20));
    assert_eq!(gateway.open(), 1);
    eventually("the client is left", || {
        gateway.turn(Duration::from_secs(2));
        gateway.open() == 0
    });
    blocked.wait();
    let answer = client.try_response("GET").map(|response| response.status);
    assert!(matches!(answer, Err(Broken::BodyCut(_) | Broken::Reset(_))), "it must be cut, and plainly so: {answer:?}");
}

#[test]
fn a_thousand_slow_heads_hold_up_nobody() {
    let backend = Backend::echo();
    let gateway = limited("connections_per_ip: 2000", &backend);
    let slow: Vec<Client> = (0..300)
        .map(|_| {
            let mut client = gateway.client();
            client.send("GET / HTTP/1.1\r\nX: ");
            client
        })
        .collect();
    assert_eq!(gateway.get("/").status, 200);
    eventually("all are dismissed", || {
        gateway.turn(Duration::from_secs(11));
        gateway.open() == 0
    });
    drop(slow);
}

#[test]
fn limits_that_contradict_each_other_are_refused_with_words() {
    let words =
        maitred_testkit::refused("limits: { uri_bytes: 128KiB }\napis: { a: { routes: [ { match: GET /, respond: {} } ] } }");
    assert!(words.contains("uri_bytes"), "{words}");
}
