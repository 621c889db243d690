//! Keep-alive, pipelining, HTTP/1.0, half-closed clients, clients that go away, slow readers, pools.

use maitred_testkit::{Backend, Broken, Client, Latch, eventually, gateway, gateway_to, stays};
use std::time::Duration;

#[test]
fn one_upstream_connection_serves_many_requests() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for n in 0..20 {
        assert_eq!(client.get(&format!("/{n}")).json()["target"], format!("/{n}"));
        assert_eq!(gateway.client().request("POST", "/", "", "body").status, 200);
    }
    assert_eq!((backend.count(), backend.connections()), (40, 1));
}

#[test]
fn an_http_1_0_client_gets_one_answer_and_the_end() {
    let backend = Backend::named("old friend");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.header("transfer-encoding")), ("old friend", None));
    client.closed();
    assert_eq!(backend.only().version, "HTTP/1.1", "towards the back end it is always HTTP/1.1");
}

#[test]
fn an_http_1_0_client_may_ask_to_be_kept() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        assert!(
            response.headers.members("connection").iter().any(|option| option.eq_ignore_ascii_case("keep-alive")),
            "{response:?}"
        );
    }
}

#[test]
fn an_http_1_0_client_never_sees_chunks() {
    let backend = Backend::new(|_, conn| {
        conn.chunked_head(200, "");
        conn.chunk("in");
        conn.chunk("pieces");
        conn.send("0\r\n\r\n");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.until_close, response.header("transfer-encoding")), ("inpieces", true, None));
}

#[test]
fn connection_close_is_obeyed_and_repeated() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let response = client.request("GET", "/", "Connection: close\r\n", "");
    assert!(response.closes(), "{response:?}");
    client.closed();
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(backend.connections(), 1, "the client's wish to close is not the back end's business");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let mut all = String::new();
    for n in 0..30 {
        match n % 3 {
            0 => all.push_str(&format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")),
            1 => all.push_str(&format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")),
            _ => {
                all.push_str(&format!("POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
            }
        }
    }
    client.send(all);
    for n in 0..30 {
        assert_eq!(client.response().json()["target"], format!("/{n}"));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn what_is_pipelined_behind_a_close_is_not_served() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.closed();
    assert_eq!(backend.only().target, "/1");
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "worth the wait");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.finish();
    backend.wait_for(1);
    latch.open();
    assert_eq!(client.response().text(), "worth the wait");
    client.closed();
}

#[test]
fn a_half_closed_client_is_gone_where_it_is_so_configured() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        if conn.peer_leaves() {
            leaving.open();
        }
    });
    let gateway = gateway(
        "limits: { half_close: abort }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    client.finish();
    left.wait();
    assert!(matches!(client.try_response("GET"), Err(Broken::Closed | Broken::Reset(_))));
}

#[test]
fn a_client_that_resets_while_it_waits_ends_the_attempt() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        if conn.peer_leaves() {
            leaving.open();
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    client.reset();
    left.wait();
    eventually("the connection is forgotten", || gateway.open() == 0);
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_client_that_resets_within_its_body_ends_the_attempt() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        conn.body();
        leaving.open();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    backend.wait_for(1);
    client.reset();
    left.wait();
    assert!(!backend.only().complete, "a cut body must not look whole");
    eventually("the connection is forgotten", || gateway.open() == 0);
}

#[test]
fn a_client_that_resets_while_it_is_answered_ends_the_answer() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        conn.chunked_head(200, "");
        while conn.chunk([b'x'; 10_000]) {}
        leaving.open();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.reset();
    left.wait();
    eventually("the connection is forgotten", || gateway.open() == 0);
}

#[test]
fn a_cut_chunked_body_is_cut_for_the_back_end_too() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        conn.body();
        leaving.open();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    backend.wait_for(1);
    client.finish();
    left.wait();
    assert!(!backend.only().complete, "no last chunk was sent, so none may arrive");
}

#[test]
fn a_client_that_does_not_read_stops_the_back_end() {
    const SIZE: u64 = 50 * 1024 * 1024;
    let backend = Backend::new(|_, conn| {
        conn.answer(200, "", vec![b'x'; SIZE as usize]);
    });
    let gateway = gateway_to(&backend);
    let mut client = Client::connect_slow_reader(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    eventually("the answer flows", || backend.written() > 0);
    let written = stays("the back end is blocked", || backend.written());
    assert!(written < SIZE / 2, "{written} of {SIZE} bytes were taken for a client that reads nothing");
    assert_eq!(gateway.get("/other").body.len() as u64, SIZE, "and nobody else waits for it");
    assert_eq!(client.response().body.len() as u64, SIZE, "it gets all of it once it reads");
}

#[test]
fn a_back_end_that_does_not_read_stops_the_client() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.wait(&seen);
        let length = conn.body().len();
        conn.answer(200, "", length.to_string());
    });
    let gateway = gateway(
        "limits: { body_bytes: 1GiB }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"POST /\": kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    const SIZE: usize = 64 * 1024 * 1024;
    let body = vec![b'x'; SIZE];
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    backend.wait_for(1);
    let mut sent = client.send_what_fits(&body);
    stays("the client is blocked", || {
        sent += client.send_what_fits(&body[sent..]);
        sent as u64
    });
    assert!(sent < SIZE / 2, "{sent} of {SIZE} bytes were taken for a back end that reads nothing");
    latch.open();
    client.send(&body[sent..]);
    assert_eq!(client.response().text(), SIZE.to_string());
}

#[test]
fn an_upload_and_its_answer_may_overlap() {
    let backend = Backend::new(|_, conn| {
        conn.chunked_head(200, "");
        let first = conn.read_some();
        conn.chunk(format!("got {}", first.len()));
        conn.body();
        conn.chunk("all");
        conn.send("0\r\n\r\n");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    client.head();
    client.send("abc");
    assert_eq!(client.read_exactly(10), b"5\r\ngot 3\r\n");
}

#[test]
fn an_early_answer_to_an_upload_is_delivered() {
    let backend = Backend::new(|_, conn| {
        conn.answer(403, "Connection: close\r\n", "enough");
        conn.close();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nthe beginning");
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (403, "enough"));
    assert!(response.closes(), "the body was not read: the connection cannot go on");
}

#[test]
fn an_early_answer_while_the_client_keeps_sending_is_delivered() {
    let backend = Backend::new(|_, conn| {
        conn.answer(413, "Connection: close\r\n", "too much");
        conn.close();
    });
    let gateway = gateway(
        "limits: { body_bytes: 1GiB }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"POST /\": kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 800000\r\n\r\n");
    // It may be refused in the middle of this; what counts is that the answer is there.
    let _ = client.try_send(vec![b'x'; 800_000]);
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));
}

#[test]
fn an_early_answer_whose_body_goes_on_while_the_upload_does_is_whole() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        conn.body();
        conn.send("world");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    client.head();
    assert_eq!(client.read_exactly(5), b"hello");
    client.send("def");
    assert_eq!(client.read_exactly(5), b"world");
    assert_eq!(backend.only().body, b"abcdef");
}

#[test]
fn idle_upstream_connections_that_were_closed_are_not_used() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for n in 1..6 {
        assert_eq!(client.request("POST", "/", "", "not to be repeated").status, 200);
        assert_eq!(backend.connections(), n);
        backend.close_connections();
    }
}

#[test]
fn a_stale_connection_costs_a_get_nothing() {
    // The back end answers once on each connection, and closes when the next request comes: the race that every pool has.
    let backend = Backend::new(|request, conn| {
        if request.connection == 0 && request.target != "/first" {
            conn.close();
        } else {
            conn.answer(200, "", "there");
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    assert_eq!(client.get("/first").status, 200);
    let response = client.get("/second");
    assert_eq!((response.status, response.text().as_str()), (200, "there"));
    let targets: Vec<(String, usize)> =
        backend.requests().into_iter().map(|request| (request.target, request.connection)).collect();
    assert_eq!(targets, [("/first".into(), 0), ("/second".into(), 0), ("/second".into(), 1)]);
}

#[test]
fn a_stale_connection_that_is_reset_costs_a_get_nothing() {
    let backend = Backend::new(|request, conn| {
        if request.connection == 0 && request.target != "/first" {
            conn.reset();
        } else {
            conn.answer(200, "", "there");
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.get("/first");
    assert_eq!(client.get("/second").text(), "there");
}

#[test]
fn a_post_that_was_written_is_never_sent_twice() {
    for body in ["", "body"] {
        let backend = Backend::new(|request, conn| {
            conn.body();
            if request.connection == 0 && request.method == "POST" {
                conn.close();
            } else {
                conn.answer(200, "", "there");
            }
        });
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        assert_eq!(client.get("/first").status, 200);
        let response = client.request("POST", "/second", "Content-Type: a/b\r\n", body);
        assert_eq!(response.status, 502, "whether it was acted upon nobody knows");
        assert_eq!(backend.requests().iter().filter(|request| request.method == "POST").count(), 1);
    }
}

#[test]
fn a_put_with_a_body_that_is_lost_is_not_sent_again() {
    let backend = Backend::new(|request, conn| {
        conn.body();
        if request.method == "PUT" {
            conn.close();
        } else {
            conn.answer(200, "", "there");
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.get("/first");
    assert_eq!(client.request("PUT", "/second", "", "gone").status, 502);
    assert_eq!(backend.requests().iter().filter(|request| request.method == "PUT").count(), 1);
}

#[test]
fn a_new_connection_that_fails_is_not_tried_again() {
    let backend = Backend::new(|_, conn| conn.close());
    let gateway = gateway_to(&backend);
    assert_eq!(gateway.get("/").status, 502);
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_back_end_that_says_close_is_connected_to_anew() {
    let backend = Backend::new(|_, conn| {
        conn.answer(200, "Connection: close\r\n", "bye");
        conn.close();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for n in 1..4 {
        let response = client.get("/");
        assert_eq!((response.status, response.closes()), (200, false), "that is between the gateway and the back end");
        assert_eq!(backend.connections(), n);
    }
}

#[test]
fn an_http_1_0_back_end_is_understood() {
    let backend = Backend::new(|request, conn| {
        if request.target == "/kept" {
            conn.send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nkept");
        } else {
            conn.send("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nonce");
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    assert_eq!((client.get("/kept").text().as_str(), client.get("/kept").text().as_str()), ("kept", "kept"));
    assert_eq!(backend.connections(), 1);
    assert_eq!((client.get("/").text().as_str(), client.get("/").text().as_str()), ("once", "once"));
    assert_eq!(backend.connections(), 2);
}

#[test]
fn bytes_behind_an_answer_end_its_connection() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    assert_eq!(client.get("/1").text(), "ok");
    assert_eq!(client.get("/2").text(), "ok", "an answer that nobody asked for is nobody's");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn pooled_connections_are_closed_when_they_were_idle_too_long() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    gateway.get("/");
    assert_eq!(backend.open(), 1);
    gateway.turn(Duration::from_secs(61));
    eventually("the idle connection is closed", || backend.open() == 0);
}
