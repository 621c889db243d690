//! Each test is named after a symptom that once was seen. None waits for time to pass: clocks are turned, states are polled.

use maitred_testkit::{Backend, Client, Latch, eventually, gateway, gateway_to};
use std::time::Duration;

#[test]
fn a_route_s_time_ends_while_its_client_still_uploads() {
    let backend = Backend::new(|_, conn| {
        conn.body();
        conn.answer(200, "", "x");
    });
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ { match: \"POST /{x}\", proxy: kitchen, timeout: 2s } ] } }",
        &[("kitchen", backend.address())],
    );
    let mut client = gateway.client();
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab");
    backend.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_secs(2)));
    assert_eq!(client.response().status, 504);
}

#[test]
fn a_header_name_of_64_kib_is_no_framing_header() {
    let backend = Backend::echo();
    let gateway = gateway(
        "limits: { header_bytes: 256KiB }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ { match: \"ANY /{x+}\", proxy: kitchen } ] } }",
        &[("kitchen", backend.address())],
    );
    let name = format!("transfer-encoding{}", "a".repeat(65536));
    let mut client = gateway.client();
    client.send(format!("POST /a HTTP/1.1\r\nHost: a\r\n{name}: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"));
    assert_eq!(client.response().status, 400);
    assert_eq!(backend.count(), 0);
}

#[test]
fn no_request_keeps_a_response_header_from_being_removed() {
    let backend = Backend::new(|_, conn| {
        conn.body();
        conn.answer(200, "x-secret: s3cret\r\nx-item: from the back end\r\n", "x");
    });
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    routes:
      - match: GET /items/{id}
        proxy: kitchen
        transform: { response: { headers: { set: { x-item: \"{id}\", x-fixed: here }, remove: [x-secret] } } }
",
        &[("kitchen", backend.address())],
    );
    for (target, item) in [("/items/a", Some("a")), ("/items/a%0Ab", None)] {
        let response = gateway.get(target);
        assert_eq!(response.header("x-secret"), None, "{target}");
        assert_eq!((response.header("x-item"), response.header("x-fixed")), (item, Some("here")), "{target}");
    }
}

#[test]
fn many_dead_pooled_connections_are_not_taken_for_live_ones() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |request, conn| {
        conn.body();
        if request.target == "/w" {
            conn.wait(&seen);
        }
        conn.answer(200, "", "x");
    });
    let gateway = gateway_to(&backend);
    let mut clients: Vec<Client> = (0..200).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET /w HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    backend.wait_for(200);
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    backend.close_connections();
    eventually("the back end has closed", || backend.open() == 0);
    let statuses: Vec<u16> = (0..3).map(|_| gateway.ask("POST", "/p", "", "b").status).collect();
    assert_eq!(statuses, [200, 200, 200]);
}

#[test]
fn a_flood_of_hints_to_a_client_that_does_not_read_is_not_kept() {
    let backend = Backend::new(|_, conn| {
        let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "a".repeat(8000)).repeat(100);
        for _ in 0..50 {
            if !conn.send(&hints) {
                return;
            }
        }
        conn.answer(200, "", "x");
    });
    let gateway = gateway_to(&backend);
    let mut client = Client::connect_slow_reader(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("all hints were taken in", || backend.written() > 40_000_000);
    let mut hints = 0;
    while client.head().start[1] == "103" {
        hints += 1;
    }
    assert!(hints < 2500, "{hints} of 5,000 hints were kept for a client that did not read");
}

#[test]
fn what_strangers_say_a_proxy_wrote_does_not_reach_the_back_end() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let spoofed =
        "X-Forwarded-Port: 6666\r\nX-Forwarded-Prefix: /evil\r\nX-Real-IP: 10.0.0.1\r\nProxy: http://evil\r\nX-Forward: kept\r\n";
    gateway.client().request("GET", "/", spoofed, "");
    let received = backend.last();
    for name in ["x-forwarded-port", "x-forwarded-prefix", "x-real-ip", "proxy"] {
        assert_eq!(received.header(name), None);
    }
    assert_eq!(received.header("x-forward"), Some("kept"));
}

#[test]
fn a_dot_segment_behind_a_semicolon_goes_nowhere() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for target in ["/public/..;/admin", "/public/..;x=y/admin", "/public/%2e%2e;/admin", "/.;/a"] {
        assert_eq!(gateway.get(target).status, 400, "{target}");
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_client_that_resets_during_a_quiet_stream_is_gone() {
    let backend = Backend::new(|_, conn| {
        conn.chunked_head(200, "");
        conn.chunk("hi");
        conn.peer_leaves();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.read_exactly(5);
    client.reset();
    eventually("both connections are over", || backend.open() == 0 && gateway.open() == 0);
}

#[test]
fn a_client_that_resets_after_a_head_that_just_fills_a_buffer_is_gone() {
    for missing in [0, 1] {
        let backend = Backend::new(|_, conn| {
            conn.peer_leaves();
        });
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        let base = "GET / HTTP/1.1\r\nHost: a\r\nx: \r\n\r\n".len();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "p".repeat(16384 - base - missing)));
        backend.wait_for(1);
        client.reset();
        eventually("the back end is let go", || backend.open() == 0);
    }
}

#[test]
fn a_crowd_of_connection_options_is_refused() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}close\r\n\r\n", "a,".repeat(40)));
    assert_eq!(client.response().status, 400);
}

#[test]
fn tiny_chunks_arrive_whole_and_gathered() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let chunks = "1\r\nx\r\n".repeat(20_000);
    client.send(format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"));
    assert_eq!(client.response().json()["body_length"], 20_000);
}

#[test]
fn an_upstream_that_leads_back_here_is_a_508() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let response = gateway.client().request("GET", "/", &format!("Via: {}\r\n", ["1.1 maitred"; 8].join(", ")), "");
    assert_eq!(response.status, 508);
    assert_eq!(gateway.client().request("GET", "/", "Via: 1.1 maitred, 1.1 other\r\n", "").status, 200);
}

#[test]
fn a_preflight_is_answered_by_the_route_that_its_query_leads_to() {
    let gateway = gateway(
        "apis:
  all:
    routes:
      - { match: GET /q, respond: { text: plain }, cors: { origins: [\"https://plain.example\"] } }
      - match: GET /q
        when: { query: { c: \"1\" } }
        respond: { text: conditional }
        cors: { origins: [\"https://cond.example\"] }
",
        &[],
    );
    for (target, origin) in [("/q", "https://plain.example"), ("/q?c=1", "https://cond.example")] {
        let asks = format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n");
        let response = gateway.client().request("OPTIONS", target, &asks, "");
        assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{target}");
    }
}
