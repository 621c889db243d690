//! HTTP/2 towards back ends: streams that are refused, connections that say goodbye, answers that break off or break the rules,
//! clients who give up. What may be sent again, and what never is.

use maitred_testkit::h2::{Frame, code, hpack};
use maitred_testkit::{Broken, Gateway, H2Backend, H2Broken, Latch, Response, eventually, gateway, gateway_to_h2c};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The kind of fault that a problem names.
fn kind(response: &Response) -> String {
    response.json()["type"].as_str().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default().to_owned()
}

/// Refuses the first `count` streams, in whatever way; answers the others.
fn refuses(count: usize, how: impl Fn(&mut maitred_testkit::H2Stream) + Send + Sync + 'static) -> H2Backend {
    let seen = Arc::new(AtomicUsize::new(0));
    H2Backend::new(move |request, stream| {
        if request.path != "/warm" && seen.fetch_add(1, Ordering::SeqCst) < count {
            how(stream);
        } else {
            stream.body();
            stream.answer(200, &[], "there");
        }
    })
}

/// Whether a connection was there before.
fn warm(gateway: &Gateway, is_warm: bool) {
    if is_warm {
        assert_eq!(gateway.get("/warm").text(), "there");
    }
}

#[test]
fn a_refused_stream_is_asked_for_once_more() {
    for is_warm in [true, false] {
        for method in ["GET", "POST"] {
            let backend = refuses(1, |stream| {
                stream.reset(code::REFUSED_STREAM);
            });
            let gateway = gateway_to_h2c(&backend);
            warm(&gateway, is_warm);
            let response = gateway.ask(method, "/", "", "");
            assert_eq!((response.status, response.text().as_str()), (200, "there"), "{method}, warm: {is_warm}");
            assert_eq!(backend.count(), 2 + usize::from(is_warm));
        }
    }
}

#[test]
fn a_stream_that_is_refused_again_and_again_is_a_5xx() {
    let backend = refuses(usize::MAX, |stream| {
        stream.reset(code::REFUSED_STREAM);
    });
    let gateway = gateway_to_h2c(&backend);
    let response = gateway.get("/");
    assert!(matches!(response.status, 502 | 503), "{response:?}");
    assert!(backend.count() <= 4, "{} attempts", backend.count());
}

#[test]
fn a_request_behind_the_last_of_a_goaway_is_sent_again() {
    for is_warm in [true, false] {
        let backend = refuses(1, |stream| {
            stream.goaway(stream.id().saturating_sub(2), code::NO_ERROR);
            stream.close();
        });
        let gateway = gateway_to_h2c(&backend);
        warm(&gateway, is_warm);
        let response = gateway.ask("POST", "/", "", "");
        assert_eq!((response.status, response.text().as_str()), (200, "there"), "warm: {is_warm}");
        assert_eq!(backend.connections(), 2);
    }
}

#[test]
fn a_goaway_lets_streams_end_and_new_ones_go_elsewhere() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = H2Backend::new(move |request, stream| {
        if request.path == "/slow" {
            stream.wait(&seen);
        }
        stream.answer(200, &[], request.connection.to_string());
    });
    let gateway = gateway_to_h2c(&backend);
    let mut slow = gateway.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    backend.retire_connections();
    eventually("new requests go elsewhere", || gateway.get("/").text() == "1");
    latch.open();
    assert_eq!(slow.response().text(), "0");
    eventually("the old connection is closed", || backend.open() == 1);
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn idle_connections_that_were_retired_or_closed_are_not_used() {
    let backend = H2Backend::named("x");
    let gateway = gateway_to_h2c(&backend);
    for n in 1..6 {
        assert_eq!(gateway.ask("POST", "/", "", "not to be repeated").status, 200);
        assert_eq!(backend.connections(), n);
        if n % 2 == 0 {
            backend.retire_connections();
        }
        backend.close_connections();
        eventually("the gateway has closed it too", || backend.open() == 0);
    }
}

#[test]
fn a_post_that_was_acted_upon_is_never_sent_twice() {
    for code in [code::INTERNAL_ERROR, code::CANCEL, code::PROTOCOL_ERROR, code::ENHANCE_YOUR_CALM] {
        let backend = refuses(1, move |stream| {
            stream.body();
            stream.reset(code);
        });
        let gateway = gateway_to_h2c(&backend);
        warm(&gateway, true);
        let response = gateway.ask("POST", "/", "", "body");
        assert_eq!(response.status, 502, "code {code}: {response:?}");
        assert_eq!(kind(&response), "upstream_reset");
        assert_eq!(backend.count(), 2, "code {code}");
    }
}

#[test]
fn a_body_that_is_lost_is_not_sent_again() {
    let backend = refuses(1, |stream| {
        stream.body();
        stream.reset(code::REFUSED_STREAM);
    });
    let gateway = gateway_to_h2c(&backend);
    warm(&gateway, true);
    let response = gateway.ask("PUT", "/", "", "gone");
    assert!(matches!(response.status, 502 | 503), "{response:?}");
    assert_eq!(backend.count(), 2);
}

#[test]
fn a_connection_that_breaks_is_a_502_for_all_its_streams() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = H2Backend::new(move |request, stream| {
        if request.path == "/break" {
            stream.wait(&seen);
            stream.abort();
        } else {
            stream.cancelled();
        }
    });
    let gateway = gateway_to_h2c(&backend);
    let mut clients: Vec<_> = (0..5).map(|_| gateway.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let path = if at == 0 { "/break" } else { "/wait" };
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
    }
    backend.wait_for(5);
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 502);
    }
}

#[test]
fn an_answer_that_breaks_off_is_seen_as_a_cut() {
    for with_length in [true, false] {
        for break_connection in [true, false] {
            let backend = H2Backend::new(move |_, stream| {
                let length: &[(&str, &str)] = if with_length { &[("content-length", "100")] } else { &[] };
                stream.head(200, length, false);
                stream.data("half", false);
                if break_connection {
                    stream.abort();
                } else {
                    stream.reset(code::INTERNAL_ERROR);
                }
            });
            let gateway = gateway_to_h2c(&backend);
            let mut client = gateway.client();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let outcome = client.try_response("GET").map(|response| response.status);
            let cut = matches!(&outcome, Err(Broken::BodyCut(_) | Broken::Reset(_))) || matches!(&outcome, Ok(502));
            assert!(cut, "it must not look whole: {outcome:?}");
            let mut client = gateway.h2();
            let stream = client.ask("GET", "/", &[]);
            let outcome = client.try_response(stream);
            let cut = match &outcome {
                Ok(response) => response.status == 502,
                Err(broken) => matches!(broken, H2Broken::Reset(_)),
            };
            assert!(cut, "it must not look whole: {outcome:?}");
        }
    }
}

#[test]
fn answers_that_break_the_rules_are_a_502() {
    let fields = |fields: &[(&str, &str)]| hpack::block(fields);
    type Wrong = Box<dyn Fn(&mut maitred_testkit::H2Stream) -> bool + Send + Sync>;
    let head = |block: Vec<u8>, end: bool| -> Wrong { Box::new(move |stream| stream.block(&block, end)) };
    let cases: Vec<(&str, Wrong)> = vec![
        ("no status", head(fields(&[("x-a", "1")]), true)),
        ("two of them", head(fields(&[(":status", "200"), (":status", "200")]), true)),
        ("a status that is none", head(fields(&[(":status", "2000")]), true)),
        ("101", head(fields(&[(":status", "101")]), true)),
        ("upper case", head(fields(&[(":status", "200"), ("X-Up", "1")]), true)),
        ("a field of the connection's", head(fields(&[(":status", "200"), ("connection", "close")]), true)),
        ("a coding of transfer", head(fields(&[(":status", "200"), ("transfer-encoding", "chunked")]), true)),
        ("a value with a line", head(fields(&[(":status", "200"), ("x-a", "1\r\nx-b: 2")]), true)),
        ("a pseudo-field behind a field", head(fields(&[("x-a", "1"), (":status", "200")]), true)),
        ("a length that is none", head(fields(&[(":status", "200"), ("content-length", "x")]), true)),
        ("a length without a body", head(fields(&[(":status", "200"), ("content-length", "5")]), true)),
        ("two lengths", head(fields(&[(":status", "200"), ("content-length", "5"), ("content-length", "6")]), false)),
        ("DATA before the head", Box::new(|stream| stream.frame(Frame::data(stream.id(), "x", false)))),
        ("what cannot be decompressed", head(hpack::indexed(70), true)),
        ("a frame of DATA of stream 0", Box::new(|stream| stream.frame(Frame::data(0, "x", false)))),
        ("a stream of its own", Box::new(|stream| stream.frame(Frame::headers(2, hpack::block(&[(":status", "200")]), true)))),
    ];
    for (what, send) in cases {
        let backend = H2Backend::new(move |_, stream| {
            send(stream);
            stream.cancelled();
        });
        let gateway = gateway_to_h2c(&backend);
        let response = gateway.ask("POST", "/", "", "x");
        assert_eq!(response.status, 502, "{what}: {response:?}");
        assert!(matches!(kind(&response).as_str(), "upstream_protocol" | "upstream_reset"), "{what}: {response:?}");
    }
}

#[test]
fn a_hint_that_ends_its_stream_is_no_answer() {
    let backend = H2Backend::new(|_, stream| {
        stream.block(&hpack::block(&[(":status", "103")]), true);
        stream.cancelled();
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut head = client.head();
    // The hint may have been passed on by the time that it is known for what it is.
    while head.start[1] == "103" {
        head = client.head();
    }
    assert_eq!(head.start[1], "502");
}

#[test]
fn a_length_that_is_not_true_is_seen_as_a_cut() {
    for (sent, length) in [("short", "10"), ("too long", "3")] {
        let backend = H2Backend::new(move |_, stream| {
            stream.head(200, &[("content-length", length)], false);
            stream.data(sent, true);
        });
        let gateway = gateway_to_h2c(&backend);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let outcome = client.try_response("GET");
        let told = match &outcome {
            Ok(response) => response.status == 502 || response.body == b"too",
            Err(broken) => matches!(broken, Broken::BodyCut(_) | Broken::Reset(_)),
        };
        assert!(told, "{sent}: {outcome:?}");
    }
}

#[test]
fn an_early_answer_ends_the_upload() {
    let backend = H2Backend::new(|_, stream| {
        stream.answer(413, &[], "too much");
        // RFC 9113 §8.1: the rest is not wanted, and nothing is wrong.
        stream.reset(code::NO_ERROR);
    });
    let yaml = "limits: { body_bytes: 1GiB }
upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { all: { routes: [ \"ANY /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 800000\r\n\r\n");
    let _ = client.try_send(vec![b'x'; 800_000]);
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    client.data(stream, "abc", false);
    let response = client.response(stream);
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn who_gives_up_resets_its_stream_and_keeps_the_connection() {
    let backend = H2Backend::new(|request, stream| {
        if request.path == "/never" {
            stream.cancelled();
        } else {
            stream.answer(200, &[], "x");
        }
    });
    let gateway = gateway_to_h2c(&backend);
    let mut h2 = gateway.h2();
    let stream = h2.ask("GET", "/never", &[]);
    backend.wait_for(1);
    h2.reset(stream, code::CANCEL);
    eventually("the back end is told", || backend.requests()[0].reset == Some(code::CANCEL));
    let mut client = gateway.client();
    client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(2);
    client.reset();
    eventually("the back end is told", || backend.requests()[1].reset == Some(code::CANCEL));
    assert_eq!(gateway.get("/").text(), "x");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_client_that_leaves_within_its_body_resets_the_stream() {
    let backend = H2Backend::new(|_, stream| {
        stream.body();
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    eventually("the body has begun", || backend.requests().first().is_some_and(|request| request.body == b"abc"));
    client.finish();
    eventually("the back end is told", || backend.only().reset.is_some());
    assert!(!backend.only().complete, "what was cut must not look whole");
}

#[test]
fn a_back_end_that_never_answers_is_a_504_and_its_stream_is_reset() {
    let backend = H2Backend::new(|request, stream| {
        if request.path == "/never" {
            stream.cancelled();
        } else {
            stream.answer(200, &[], "x");
        }
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_secs(15)));
    assert_eq!(client.response().status, 504);
    eventually("the back end is told", || backend.only().reset == Some(code::CANCEL));
    assert_eq!(client.get("/").text(), "x");
    assert_eq!(backend.connections(), 1, "the connection had no part in it");
}

#[test]
fn a_back_end_that_floods_is_left() {
    let backend = H2Backend::new(|request, stream| {
        if request.path == "/flood" {
            while stream.frame(Frame::ping([0; 8])) && !stream.is_over() {}
        } else {
            stream.answer(200, &[], "x");
        }
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    // Whether it is left by a limit or by the time for a response: it does not hold up the worker.
    client.until_readable(|| gateway.turn(Duration::from_secs(1)));
    assert!(client.response().status >= 502);
    assert_eq!(gateway.get("/").text(), "x");
}

#[test]
fn a_back_end_that_never_says_its_settings_does_not_hang_anybody() {
    let backend = maitred_testkit::Backend::new(|_, conn| {
        conn.peer_leaves();
    });
    let yaml = "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.until_readable(|| gateway.turn(Duration::from_secs(1)));
    assert!(client.response().status >= 502);
}

#[test]
fn what_a_back_end_said_before_it_cut_the_line_is_heard_to_its_end() {
    // Many small pieces, and a PING whose acknowledgement nobody takes any more.
    let backend = H2Backend::new(|_, stream| {
        let id = stream.id();
        let mut frames = vec![Frame::ping([1; 8]), Frame::headers(id, hpack::block(&[(":status", "200")]), false)];
        frames.extend((0..300).map(|_| Frame::data(id, "z", false)));
        frames.push(Frame::data(id, "", true));
        stream.frames(&frames);
        stream.abort();
    });
    let gateway = gateway_to_h2c(&backend);
    for _ in 0..20 {
        let response = gateway.get("/");
        assert_eq!((response.status, response.text().len()), (200, 300));
    }
}
