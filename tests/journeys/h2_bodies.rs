//! HTTP/2 towards clients: bodies, windows and back-pressure, who gives up and who notices. The last minutes of a
//! connection stand in `h2_ends.rs`.

use crate::breaking::{GET, plain, with_limits};
use maitred_testkit::h2::{Frame, code, hpack, setting};
use maitred_testkit::{Backend, Gateway, H2Broken, H2Client, Latch, Stream, eventually, gateway, gateway_to, stays};
use std::time::Duration;

const LARGE: usize = 30 * 1024 * 1024;

pub fn to_kitchen(limits: &str, backend: &Backend) -> Gateway {
    let yaml = format!(
        "limits: {{ {limits} }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ ANY /: kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
    );
    gateway(&yaml, &[("kitchen", backend.address())])
}

/// A handler that answers nothing and opens the latch when its peer has left.
pub fn who_waits() -> (Backend, Latch) {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        if conn.peer_leaves() {
            leaving.open();
        }
    });
    (backend, left)
}

#[test]
fn large_bodies_pass_both_ways() {
    let backend = Backend::new(|_, conn| {
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = to_kitchen("body_bytes: 1GiB", &backend);
    let mut client = gateway.h2();
    client.flowing();
    let body: Vec<u8> = (0..20_000_000u32).map(|at| (at % 251) as u8).collect();
    let stream = client.open("POST", "/", &[("content-length", "20000000")]);
    client.flowing();
    assert!(client.data(stream, &body, true));
    let response = client.response(stream);
    assert!(response.body == body, "{} bytes came back, or others", response.body.len());
}

#[test]
fn a_client_that_gives_no_window_stops_the_back_end_and_nobody_else() {
    let backend = Backend::new(|request, conn| {
        if request.target == "/large" {
            conn.answer(200, "", vec![b'x'; LARGE]);
        } else {
            conn.answer(200, "", "small");
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    // Only the stream's window holds it back.
    client.grant(0, 1 << 20);
    let blocked = client.ask("GET", "/large", &[]);
    client.body(blocked, 65_535);
    let written = stays("the back end is blocked", || backend.written());
    assert!(written < LARGE as u64 / 2, "{written} of {LARGE} bytes were taken for a client that takes nothing");
    assert_eq!(client.received(blocked), 65_535);
    assert_eq!(client.get("/small").text(), "small", "on the same connection");
    assert_eq!(gateway.h2().get("/small").text(), "small");
    client.flowing();
    assert_eq!(client.response(blocked).body.len(), LARGE, "it gets all of it once it wants to");
}

#[test]
fn many_streams_that_take_nothing_hold_up_nobody() {
    let backend = Backend::new(|request, conn| {
        let size = if request.target == "/large" { LARGE } else { 20_000 };
        conn.answer(200, "", vec![b'x'; size]);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    // Each stream's own window holds it back, and the connection's is open.
    client.grant(0, 1 << 24);
    let blocked: Vec<u32> = (0..30).map(|_| client.ask("GET", "/large", &[])).collect();
    for stream in &blocked {
        client.body(*stream, 65_535);
    }
    stays("every back end is blocked", || backend.written());
    for _ in 0..10 {
        assert_eq!(client.get("/small").body.len(), 20_000, "on the same connection");
    }
    assert!(blocked.iter().all(|stream| client.received(*stream) == 65_535));
}

#[test]
fn a_window_of_one_byte_is_kept_to() {
    let backend = Backend::named("slowly");
    let gateway = gateway_to(&backend);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    client.handshake(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let stream = client.ask("GET", "/", &[]);
    assert_eq!(client.head(stream).status, 200, "a head needs no window");
    for count in 1..=6 {
        client.grant(stream, 1);
        assert_eq!(client.body(stream, count).len(), count);
    }
    assert_eq!(client.response(stream).text(), "slowly");
}

#[test]
fn the_connection_s_window_holds_back_all_streams() {
    let backend = Backend::bytes(100_000);
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let streams: Vec<u32> = (0..4).map(|_| client.ask("GET", "/", &[])).collect();
    let all = stays("the window is used up", || streams.iter().map(|stream| client.received(*stream)).sum());
    assert_eq!(all, 65_535);
    client.flowing();
    for stream in streams {
        assert_eq!(client.response(stream).body.len(), 100_000);
    }
}

#[test]
fn a_back_end_that_does_not_read_stops_the_client_and_nobody_else() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |request, conn| {
        if request.target == "/slow" {
            conn.wait(&seen);
        }
        let length = conn.body().len();
        conn.answer(200, "", length.to_string());
    });
    let gateway = to_kitchen("body_bytes: 1GiB", &backend);
    let mut client = gateway.h2();
    let slow = client.open("POST", "/slow", &[]);
    let body = vec![0; LARGE];
    let mut sent = 0;
    let taken = stays("the client is blocked", || {
        sent += client.data_that_fits(slow, &body[sent..]);
        sent as u64
    });
    assert!(taken < LARGE as u64 / 2, "{taken} of {LARGE} bytes were taken for a back end that reads nothing");
    let other = client.open("POST", "/quick", &[]);
    assert!(client.data(other, vec![0; 500_000], true), "the blocked stream does not hold the connection's window");
    assert_eq!(client.response(other).text(), "500000");
    latch.open();
    assert!(client.data(slow, &body[sent..], true));
    assert_eq!(client.response(slow).text(), LARGE.to_string());
}

#[test]
fn uploads_that_stall_leave_room_for_the_one_that_moves() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |request, conn| {
        if request.target == "/slow" {
            conn.wait(&seen);
        }
        let length = conn.body().len();
        conn.answer(200, "", length.to_string());
    });
    // All but one of the streams that the connection's window has room for.
    let gateway = to_kitchen("body_bytes: 1GiB, h2_streams: 8", &backend);
    let mut client = gateway.h2();
    let slow: Vec<u32> = (0..7).map(|_| client.open("POST", "/slow", &[])).collect();
    let body = vec![0; 4 * 1024 * 1024];
    let mut sent = vec![0; slow.len()];
    stays("all of them are blocked", || {
        for (stream, sent) in slow.iter().zip(&mut sent) {
            *sent += client.data_that_fits(*stream, &body[*sent..]);
        }
        sent.iter().sum::<usize>() as u64
    });
    let live = client.open("POST", "/quick", &[]);
    assert!(client.data(live, &body, true), "the window of the connection has room for it");
    assert_eq!(client.response(live).text(), body.len().to_string());
    latch.open();
}

#[test]
fn an_upload_and_its_answer_may_overlap() {
    let backend = Backend::new(|_, conn| {
        conn.chunked_head(200, "");
        let first = conn.read_some();
        conn.chunk(format!("got {} ", first.len()));
        conn.body();
        conn.chunk("all");
        conn.send("0\r\n\r\n");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[("content-length", "6")]);
    assert_eq!(client.head(stream).status, 200);
    client.data(stream, "abc", false);
    assert_eq!(client.body(stream, 6), b"got 3 ");
}

#[test]
fn an_early_answer_to_an_upload_is_delivered() {
    let backend = Backend::new(|_, conn| {
        conn.answer(403, "Connection: close\r\n", "enough");
        conn.close();
    });
    let gateway = to_kitchen("body_bytes: 1GiB", &backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[("content-length", "1000000")]);
    client.data(stream, "the beginning", false);
    let response = client.response(stream);
    assert_eq!((response.status, response.text().as_str()), (403, "enough"));
    // RFC 9113 §8.1: it may be told to stop, without an error.
    client.ping();
    let reset = client.was_reset(stream);
    assert!(matches!(reset, None | Some(code::NO_ERROR | code::CANCEL)), "{reset:?}");
    assert_eq!(client.get("/").status, 403, "and the connection goes on");
}

/// A request that is answered before its body has ended, and what its client still sends.
fn answered_early(client: &mut H2Client, headers: &[(&str, &str)]) -> u32 {
    let stream = client.open("POST", "/", headers);
    assert_eq!(client.response(stream).text(), "x");
    stream
}

#[test]
fn the_rest_of_an_answered_request_is_let_through() {
    let gateway = plain();
    let mut client = gateway.h2();
    let bare = answered_early(&mut client, &[]);
    client.data(bare, [0; 10_000], false);
    client.data(bare, "the end", true);
    let counted = answered_early(&mut client, &[("content-length", "5")]);
    client.data(counted, "three", true);
    let trailed = answered_early(&mut client, &[]);
    client.trailers(trailed, &[("x-sum", "1")]);
    gateway.turn(Duration::from_secs(5));
    for stream in [bare, counted, trailed] {
        client.ping();
        assert_eq!(client.was_reset(stream), None, "RFC 9113 section 8.1: it may be told to stop, and need not be");
    }
    assert_eq!(client.get("/").text(), "x");
}

#[test]
fn who_stops_sending_once_it_has_its_answer_takes_nothing_back() {
    let gateway = plain();
    let mut client = gateway.h2();
    for _ in 0..150 {
        let stream = answered_early(&mut client, &[]);
        client.send(Frame::reset(stream, code::NO_ERROR));
    }
    assert_eq!(client.get("/").text(), "x", "it is no rapid reset: each was answered");
}

#[test]
fn the_rest_of_an_answered_request_is_held_against_the_rules() {
    let gateway = plain();
    let window = Frame::window(1, 0x7fff_ffff);
    let malformed = Frame::headers(1, hpack::block(&[(":method", "POST")]), true);
    for (what, headers, frames, code) in [
        ("section 6.9: an increment of 0", &[][..], vec![Frame::window(1, 0)], code::PROTOCOL_ERROR),
        ("section 6.9.1: a window of more than 2^31-1", &[], vec![window.clone(), window], code::FLOW_CONTROL_ERROR),
        (
            "section 8.1: a second head",
            &[],
            vec![Frame::headers(1, hpack::block(&[("x-sum", "1")]), false)],
            code::PROTOCOL_ERROR,
        ),
        ("section 8.1: a pseudo-field in trailers", &[], vec![malformed], code::PROTOCOL_ERROR),
        (
            "section 8.1.1: more than was stated",
            &[("content-length", "1")],
            vec![Frame::data(1, "test", true)],
            code::PROTOCOL_ERROR,
        ),
        (
            "section 8.1.1: less than was stated",
            &[("content-length", "9")],
            vec![Frame::data(1, "test", true)],
            code::PROTOCOL_ERROR,
        ),
        (
            "section 5.1: anything behind a reset",
            &[],
            vec![Frame::reset(1, code::CANCEL), Frame::headers(1, hpack::block(&GET), true)],
            code::STREAM_CLOSED,
        ),
    ] {
        let mut client = gateway.h2();
        let stream = answered_early(&mut client, headers);
        assert_eq!(stream, 1);
        client.send_all(&[], &frames);
        assert_eq!(client.stream_error(stream), Some(code), "{what}");
        assert_eq!(client.get("/").text(), "x", "{what}: and the connection goes on");
    }
}

#[test]
fn a_rest_that_goes_on_is_told_to_stop() {
    let gateway = plain();
    let mut client = gateway.h2();
    let silent = answered_early(&mut client, &[]);
    client.ping();
    assert_eq!(client.was_reset(silent), None);
    gateway.turn(Duration::from_millis(1100));
    assert_eq!(client.stream_error(silent), Some(code::NO_ERROR), "it had its time");

    let large = answered_early(&mut client, &[("content-length", "1000000")]);
    assert_eq!(client.stream_error(large), Some(code::NO_ERROR), "more than could be on its way");

    let endless = answered_early(&mut client, &[]);
    assert_eq!(client.data_that_fits(endless, &[0; 64 * 1024]), 64 * 1024);
    assert_eq!(client.stream_error(endless), Some(code::NO_ERROR), "as much as is taken");
    // All of it was given back to the connection.
    for _ in 0..200 {
        let stream = answered_early(&mut client, &[]);
        client.data(stream, [0; 40_000], true);
    }
}

#[test]
fn nobody_is_refused_for_what_nobody_wants() {
    let gateway = with_limits("h2_streams: 3");
    let mut client = gateway.h2();
    let streams: Vec<u32> = (0..10).map(|_| answered_early(&mut client, &[])).collect();
    assert_eq!(client.stream_error(streams[0]), Some(code::NO_ERROR));
}

#[test]
fn what_nobody_wants_delays_no_farewell() {
    let gateway = plain();
    let mut client = gateway.h2();
    let stream = answered_early(&mut client, &[]);
    client.send(Frame::goaway(0, code::NO_ERROR));
    assert_eq!(client.ending().map(|goaway| goaway.code), Some(code::NO_ERROR));
    assert_eq!(client.was_reset(stream), Some(code::NO_ERROR));
}

#[test]
fn many_streams_are_answered_as_they_come() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |request, conn| {
        if request.target == "/0" {
            conn.wait(&seen);
        }
        conn.answer(200, "", &request.target);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let streams: Vec<u32> = (0..100).map(|at| client.ask("GET", &format!("/{at}"), &[])).collect();
    for (at, stream) in streams.iter().enumerate().skip(1) {
        assert_eq!(client.response(*stream).text(), format!("/{at}"));
    }
    assert!(!client.is_ended(streams[0]));
    latch.open();
    assert_eq!(client.response(streams[0]).text(), "/0");
}

#[test]
fn a_client_that_resets_while_it_waits_ends_the_attempt() {
    let (backend, left) = who_waits();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    client.reset(stream, code::CANCEL);
    left.wait();
    client.ping();
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
    let mut client = gateway.h2();
    for headers in [&[][..], &[("content-length", "100")]] {
        let stream = client.open("POST", "/", headers);
        client.data(stream, "abc", false);
        eventually("the body has begun", || backend.requests().last().is_some_and(|request| request.body == b"abc"));
        client.reset(stream, code::CANCEL);
        left.wait();
        eventually("it is seen as cut", || backend.open() == 0);
        assert!(!backend.last().complete, "a cut body must not look whole");
    }
    client.ping();
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
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    client.head(stream);
    client.reset(stream, code::CANCEL);
    left.wait();
    client.ping();
}

#[test]
fn a_back_end_that_breaks_off_is_seen_as_a_cut() {
    let backend = Backend::new(|_, conn| {
        conn.chunked_head(200, "");
        conn.chunk("half");
        conn.reset();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    let outcome = client.try_response(stream);
    assert!(matches!(outcome, Err(H2Broken::Reset(_))), "it must not look whole: {outcome:?}");
    client.ping();
}

#[test]
fn a_body_that_stalls_ends_its_attempt_and_no_other() {
    let backend = Backend::echo();
    let gateway = to_kitchen("body_timeout: 30s", &backend);
    let mut client = gateway.h2();
    let stalled = client.open("POST", "/", &[]);
    client.data(stalled, "abc", false);
    backend.wait_for(1);
    eventually("it is over", || {
        gateway.turn(Duration::from_secs(31));
        client.is_ended(stalled) || client.was_reset(stalled).is_some()
    });
    if let Ok(response) = client.try_response(stalled) {
        assert_eq!(response.status, 408);
    }
    eventually("the attempt is abandoned", || backend.open() == 0);
    assert!(!backend.only().complete);
}

#[test]
fn the_body_is_asked_for_in_the_end_when_the_back_end_says_nothing() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[("expect", "100-continue"), ("content-length", "5")]);
    backend.wait_for(1);
    eventually("it is asked for", || {
        gateway.turn(Duration::from_secs(1));
        client.has_interim(stream)
    });
    client.data(stream, "hello", true);
    let response = client.response(stream);
    assert_eq!((response.json()["body"].as_str(), response.interim[0].0), (Some("hello"), 100));
}
