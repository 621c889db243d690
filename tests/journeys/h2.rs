//! HTTP/2 towards clients, section by section of RFC 9113: how a connection starts, its frames, streams and settings, and what
//! ends it. What is said over it stands in `h2_messages.rs`.

use crate::breaking::{GET, ends_with, get, never, plain, post, with_limits};
use maitred_testkit::h2::{Frame, PREFACE, code, flag, hpack, kind, setting};
use maitred_testkit::{Backend, H2Client, Latch, Stream, eventually, gateway, gateway_to};
use std::net::SocketAddr;
use std::time::Duration;

fn silent(address: SocketAddr) -> H2Client {
    H2Client::silent(Stream::connect(address).expect("a listener"))
}

// Section 3: starting.

#[test]
fn settings_are_exchanged_and_acknowledged() {
    let gateway = plain();
    let client = gateway.h2();
    assert_eq!(client.setting(setting::MAX_CONCURRENT_STREAMS), Some(100), "limits.h2_streams");
    assert_eq!(client.setting(setting::INITIAL_WINDOW_SIZE), Some(64 * 1024), "limits.h2_window");
    assert_eq!(client.setting(setting::MAX_HEADER_LIST_SIZE), Some(64 * 1024), "limits.header_bytes");
    assert_ne!(client.setting(setting::ENABLE_PUSH), Some(1));
}

#[test]
fn limits_are_announced() {
    let gateway = with_limits("h2_streams: 7, h2_window: 100KiB, header_bytes: 32KiB");
    let mut client = gateway.h2();
    assert_eq!(client.setting(setting::MAX_CONCURRENT_STREAMS), Some(7));
    assert_eq!(client.setting(setting::INITIAL_WINDOW_SIZE), Some(100 * 1024));
    assert_eq!(client.setting(setting::MAX_HEADER_LIST_SIZE), Some(32 * 1024));
    // The connection's window comes by WINDOW_UPDATE, some time after the settings.
    let streams: Vec<u32> = (0..7).map(|_| client.open("POST", "/", &[])).collect();
    client.ping();
    let all: usize = streams.iter().map(|stream| client.data_that_fits(*stream, &[0; 100 * 1024])).sum();
    assert_eq!(all, 7 * 100 * 1024, "the connection's window is eight times a stream's");
}

#[test]
fn one_listener_takes_both_versions() {
    let gateway = plain();
    assert_eq!((gateway.get("/").text().as_str(), gateway.h2().get("/").text().as_str()), ("x", "x"));
}

#[test]
fn preface_settings_and_request_may_come_in_one_piece() {
    let gateway = plain();
    let mut client = silent(gateway.address());
    client.send_all(PREFACE, &[Frame::settings(&[]), get(1)]);
    assert_eq!(client.response(1).text(), "x");
}

#[test]
fn preface_and_frames_may_come_byte_by_byte() {
    let gateway = plain();
    let mut client = silent(gateway.address());
    for byte in PREFACE {
        client.send_bytes([*byte]);
    }
    client.send(Frame::settings(&[]));
    client.settle();
    client.send_slowly(get(1));
    assert_eq!(client.response(1).text(), "x");
}

#[test]
fn what_only_begins_like_a_preface_is_closed() {
    let gateway = plain();
    for bytes in ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", "PRI * HTTP/2.0\r\nHost: a\r\n\r\n"] {
        let mut client = gateway.client();
        client.send(bytes);
        // Perhaps with a word about it.
        client.read_to_end();
    }
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn the_first_frame_must_be_settings() {
    let gateway = plain();
    for first in [Frame::ping([0; 8]), get(1), Frame::window(0, 1), Frame::settings_ack()] {
        let mut client = silent(gateway.address());
        client.send_bytes(PREFACE);
        let _ = client.try_send_bytes(first.encode());
        // Section 3.4: GOAWAY may be left out.
        let goaway = client.ending();
        assert!(goaway.is_none_or(|goaway| goaway.code == code::PROTOCOL_ERROR), "{first:?}: {goaway:?}");
    }
}

#[test]
fn a_preface_that_never_ends_has_its_time() {
    let gateway = with_limits("handshake_timeout: 10s, header_timeout: 10s");
    for part in [&PREFACE[..10], PREFACE] {
        let mut client = silent(gateway.address());
        client.send_bytes(part);
        eventually("it is accepted", || gateway.open() == 1);
        eventually("it is left", || {
            gateway.turn(Duration::from_secs(11));
            gateway.open() == 0
        });
        client.expect_closed();
    }
}

// Section 4: frames.

#[test]
fn unknown_types_and_flags_are_ignored() {
    let gateway = plain();
    let mut client = gateway.h2();
    client.send(Frame::unknown(0));
    client.send(Frame::unknown(5));
    let stream = client.open("POST", "/", &[]);
    client.send(Frame::unknown(stream));
    client.send(Frame::data(stream, "a", true).with_flags(0x40 | 0x80));
    assert_eq!(client.response(stream).text(), "x");
    client.send(Frame::new(kind::SETTINGS, 0xfe, 0, []));
    client.ping();
    client.send(Frame::new(kind::PING, 0xfe, 0, [7; 8]));
    assert_eq!(client.pong(), [7; 8]);
}

#[test]
fn the_reserved_bit_is_ignored() {
    let gateway = plain();
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    client.send_bytes(Frame::data(stream | 0x8000_0000, "a", true).encode());
    assert_eq!(client.response(stream).text(), "x");
}

#[test]
fn a_frame_may_be_as_long_as_announced_and_no_longer() {
    let gateway = plain();
    let mut client = gateway.h2();
    let most = client.setting(setting::MAX_FRAME_SIZE).unwrap_or(16_384) as usize;
    let stream = client.open("POST", "/", &[]);
    client.send(Frame::data(stream, vec![0; most], true));
    assert_eq!(client.response(stream).text(), "x");
    let (waiting, _backend) = never();
    let mut client = waiting.h2();
    let stream = client.open("POST", "/", &[]);
    let _ = client.try_send(Frame::data(stream, vec![0; most + 1], true));
    client.expect_stream_error(stream, code::FRAME_SIZE_ERROR);
    // What alters the connection's state has no stream to blame.
    ends_with(&gateway, "HEADERS", code::FRAME_SIZE_ERROR, &[Frame::headers(1, vec![0x82; most + 1], true)]);
    ends_with(&gateway, "SETTINGS", code::FRAME_SIZE_ERROR, &[Frame::settings(&vec![(0x99, 1); most / 6 + 1])]);
}

#[test]
fn frames_of_fixed_length_have_it() {
    let gateway = plain();
    let size = code::FRAME_SIZE_ERROR;
    for (what, frame) in [
        ("SETTINGS of five bytes", Frame::new(kind::SETTINGS, 0, 0, [0; 5])),
        ("an acknowledgement with settings", Frame::settings(&[(3, 1)]).with_flags(flag::ACK)),
        ("PING of seven bytes", Frame::new(kind::PING, 0, 0, [0; 7])),
        ("PING of nine bytes", Frame::new(kind::PING, 0, 0, [0; 9])),
        ("WINDOW_UPDATE of three bytes", Frame::new(kind::WINDOW_UPDATE, 0, 0, [0; 3])),
        ("GOAWAY of seven bytes", Frame::new(kind::GOAWAY, 0, 0, [0; 7])),
    ] {
        ends_with(&gateway, what, size, &[frame]);
    }
    ends_with(&gateway, "RST_STREAM of three bytes", size, &[post(1), Frame::new(kind::RST_STREAM, 0, 1, [0; 3])]);
    let (waiting, _backend) = never();
    let mut client = waiting.h2();
    let stream = client.open("POST", "/", &[]);
    client.send(Frame::new(kind::PRIORITY, 0, stream, [0; 4]));
    client.expect_stream_error(stream, size);
}

#[test]
fn fields_that_cannot_be_decompressed_end_the_connection() {
    let gateway = plain();
    let start = hpack::block(&GET);
    for (what, block) in [
        ("an index beyond both tables", hpack::indexed(70)),
        ("index 0", vec![0x80]),
        ("a string that breaks off", vec![0x00, 0x05, b'a']),
        ("a table larger than allowed", hpack::table_size(1 << 20)),
        ("a table's size behind a field", [start.clone(), hpack::table_size(0)].concat()),
        ("an index of the table's that is not there yet", [start.clone(), hpack::indexed(62)].concat()),
        ("a name beyond both tables", [start.clone(), vec![0x7f, 0x20, 0x01, b'a']].concat()),
        ("an integer without end", [start.clone(), vec![0xff; 12]].concat()),
        ("Huffman's code with padding of zeros", [start.clone(), vec![0x00, 0x01, b'a', 0x81, 0x00]].concat()),
        ("Huffman's code with a byte of padding", [start.clone(), vec![0x00, 0x01, b'a', 0x82, 0x1f, 0xff]].concat()),
        ("Huffman's code with its end", [start, vec![0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]].concat()),
    ] {
        ends_with(&gateway, what, code::COMPRESSION_ERROR, &[Frame::headers(1, block, true)]);
    }
}

#[test]
fn the_table_is_kept_from_stream_to_stream() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let start = hpack::block(&GET);
    let first = client.next_stream();
    client.send(Frame::headers(first, [start.clone(), hpack::remembered("x-kept", "1")].concat(), true));
    client.response(first);
    // The table is as it was, whatever became of the stream that changed it.
    let refused = client.next_stream();
    client.send(Frame::headers(
        refused,
        [start.clone(), hpack::literal("connection", "x"), hpack::remembered("x-new", "2")].concat(),
        true,
    ));
    client.expect_malformed(refused);
    let last = client.next_stream();
    client.send(Frame::headers(last, [start, hpack::indexed(62), hpack::indexed(63)].concat(), true));
    client.response(last);
    let received = backend.last();
    assert_eq!((received.header("x-new"), received.header("x-kept")), (Some("2"), Some("1")));
}

// Section 5: streams.

#[test]
fn only_headers_and_priority_come_to_an_idle_stream() {
    let gateway = plain();
    let wrong = code::PROTOCOL_ERROR;
    ends_with(&gateway, "DATA", wrong, &[Frame::data(1, "x", true)]);
    ends_with(&gateway, "RST_STREAM", wrong, &[Frame::reset(1, code::CANCEL)]);
    ends_with(&gateway, "WINDOW_UPDATE", wrong, &[Frame::window(1, 1)]);
    ends_with(&gateway, "CONTINUATION", wrong, &[Frame::continuation(1, hpack::block(&GET), true)]);
    let mut client = gateway.h2();
    client.send(Frame::priority(9, 0, 1));
    assert_eq!(client.get("/").text(), "x");
}

#[test]
fn nothing_follows_the_end_of_a_request() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "x");
    let gateway = gateway_to(&backend);
    for late in [Frame::data(1, "late", false), get(1)] {
        let mut client = gateway.h2();
        let stream = client.ask("GET", "/", &[]);
        assert_eq!(stream, 1);
        client.send(late.clone());
        assert_eq!(client.stream_error(stream), Some(code::STREAM_CLOSED), "{late:?}");
    }
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    client.send(Frame::window(stream, 10));
    client.send(Frame::priority(stream, 0, 1));
    client.ping();
    latch.open();
    assert_eq!(client.response(stream).text(), "x", "what may follow does no harm");
}

#[test]
fn a_stream_that_is_over_takes_nothing_more() {
    let gateway = plain();
    for (late, wanted) in [
        (Frame::data(1, "late", false), code::STREAM_CLOSED),
        (get(1), code::STREAM_CLOSED),
        // Section 6.10 says what goes before it, whatever its stream.
        (Frame::continuation(1, hpack::block(&GET), true), code::PROTOCOL_ERROR),
    ] {
        let mut client = gateway.h2();
        client.get("/");
        client.send(late.clone());
        assert_eq!(client.stream_error(1), Some(wanted), "{late:?}");
    }
    let mut client = gateway.h2();
    client.get("/");
    client.send(Frame::window(1, 10));
    client.send(Frame::reset(1, code::CANCEL));
    client.send(Frame::priority(1, 0, 1));
    assert_eq!(client.get("/").text(), "x", "what may have been on its way does no harm");
}

#[test]
fn what_comes_behind_the_client_s_own_reset_does_not_count() {
    let backend = Backend::new(|_, conn| {
        conn.body();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    backend.wait_for(1);
    client.reset(stream, code::CANCEL);
    client.send(Frame::data(stream, "late", true));
    // For the stream or for the connection; never the end of a request.
    client.expect_stream_error(stream, code::STREAM_CLOSED);
    eventually("the attempt is abandoned", || backend.open() == 0);
    assert!(!backend.only().complete);
}

#[test]
fn the_numbers_of_streams_are_odd_and_grow() {
    let gateway = plain();
    let wrong = code::PROTOCOL_ERROR;
    ends_with(&gateway, "an even one", wrong, &[get(2)]);
    ends_with(&gateway, "zero", wrong, &[get(0)]);
    ends_with(&gateway, "one that goes backwards", wrong, &[get(5), get(3)]);
    let mut client = gateway.h2();
    client.send(get(7));
    assert_eq!(client.response(7).text(), "x", "some may be left out");
}

#[test]
fn streams_beyond_the_announced_limit_are_refused() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "x");
    let yaml = "limits: { h2_streams: 2 }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let (first, second) = (client.ask("GET", "/", &[]), client.ask("GET", "/", &[]));
    let refused = client.next_stream();
    // Its fields change the table all the same.
    client.send(Frame::headers(refused, [hpack::block(&GET), hpack::remembered("x-kept", "1")].concat(), true));
    client.expect_stream_error(refused, code::REFUSED_STREAM);
    client.ping();
    backend.wait_for(2);
    assert_eq!(backend.count(), 2);
    latch.open();
    assert_eq!((client.response(first).text().as_str(), client.response(second).text().as_str()), ("x", "x"));
    let after = client.next_stream();
    client.send(Frame::headers(after, [hpack::block(&GET), hpack::indexed(62)].concat(), true));
    assert_eq!(client.response(after).text(), "x", "there is room again");
    assert_eq!(backend.last().header("x-kept"), Some("1"));
}

#[test]
fn the_last_stream_of_a_goaway_is_the_last_that_was_taken_up() {
    let gateway = plain();
    let mut client = gateway.h2();
    client.get("/");
    client.get("/");
    client.send(Frame::data(9, "on an idle stream", true));
    assert_eq!(client.expect_goaway(code::PROTOCOL_ERROR), 3);
}
