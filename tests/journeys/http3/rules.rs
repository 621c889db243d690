//! What breaks the rules of HTTP/3: who does it loses its stream, or its connection, and nobody else is disturbed.

use super::{GET, POST, secured, secured_with};
use crate::tls::Secured;
use maitred_testkit::h3::{RawEnd, code, frame, headers, section};
use maitred_testkit::{Backend, H3Raw, eventually};
use std::time::Duration;

/// A gateway whose back end says `x`.
fn plain() -> Secured {
    secured_with("", "", Backend::named("x"))
}

#[test]
fn what_is_malformed_is_reset() {
    let secured = plain();
    let client = secured.raw();
    let with = |fields: &[(&'static str, &'static str)]| [&GET[..], fields].concat();
    let without = |name: &str| -> Vec<_> { GET.into_iter().filter(|(other, _)| *other != name).collect() };
    for (what, fields) in [
        ("a name in upper case", with(&[("X-Upper", "1")])),
        ("connection", with(&[("connection", "keep-alive")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("a TE that is not trailers", with(&[("te", "gzip")])),
        ("no :path", without(":path")),
        ("no :method", without(":method")),
        ("no :scheme", without(":scheme")),
        ("an empty :path", [&without(":path")[..], &[(":path", "")]].concat()),
        ("a :path twice", with(&[(":path", "/other")])),
        ("a :status", with(&[(":status", "200")])),
        ("an unknown pseudo-field", with(&[(":other", "x")])),
        ("a pseudo-field behind a field", [&without(":path")[..], &[("x-a", "1"), (":path", "/")]].concat()),
        ("a line break in a value", with(&[("x-a", "1\r\nx-b: 2")])),
        ("a NUL", with(&[("x-a", "\0")])),
        ("a nameless field", with(&[("", "1")])),
        ("a blank before a value", with(&[("x-a", " 1")])),
        ("a :path without a slash", [&GET[..3], &[(":path", "no-slash")]].concat()),
        ("another :scheme", vec![GET[0], (":scheme", "ftp"), GET[2], GET[3]]),
        ("somebody in the :authority", vec![GET[0], GET[1], (":authority", "u@a.test"), GET[3]]),
        ("a length, and no body", with(&[("content-length", "5")])),
    ] {
        assert_eq!(client.ask(&headers(&fields)), RawEnd::Reset(code::MESSAGE_ERROR), "{what}");
    }
    assert_eq!(secured.backend.count(), 0, "nothing of it was forwarded");
    assert_eq!(client.ask(&headers(&GET)).status(), 200, "the connection goes on");
}

#[test]
fn what_is_only_refused_is_answered() {
    let secured = plain();
    let client = secured.raw();
    for (status, fields) in [
        (400, [&GET[..], &[("host", "other.test")]].concat()),
        (400, [&GET[..3], &[(":path", "/../..")]].concat()),
        (400, vec![GET[0], GET[1], GET[3]]),
        (501, vec![(":method", "CONNECT"), (":authority", "a.test:443")]),
        (501, vec![(":method", "TRACE"), GET[1], GET[2], GET[3]]),
    ] {
        assert_eq!(client.ask(&headers(&fields)).status(), status, "{fields:?}");
    }
}

#[test]
fn a_length_that_is_not_the_body_s_makes_a_request_malformed() {
    let secured = secured_with("", "", Backend::echo());
    let client = secured.raw();
    let five = headers(&[&POST[..], &[("content-length", "5")]].concat());
    let ask = |body: &[u8]| client.ask(&[&five[..], &frame(0x00, body)].concat());
    assert_eq!(ask(b"longer").clone(), RawEnd::Reset(code::MESSAGE_ERROR));
    assert_eq!(ask(b"less"), RawEnd::Reset(code::MESSAGE_ERROR));
    assert_eq!(client.ask(&[&five[..], &frame(0x00, b"he"), &frame(0x00, b"llo")].concat()).status(), 200);
    assert_eq!(client.ask(&headers(&[&POST[..], &[("content-length", "0")]].concat())).status(), 200);
    assert_eq!(client.ask(&five), RawEnd::Reset(code::MESSAGE_ERROR), "no body at all");
}

#[test]
fn a_head_has_its_size_and_its_number_of_fields() {
    let secured = secured_with("limits: { header_bytes: 8KiB, uri_bytes: 4KiB, headers: 20 }", "", Backend::named("x"));
    let client = secured.raw();
    let large = "x".repeat(7000);
    let ask = |fields: &[(&str, &str)]| client.ask(&headers(&[&GET[..], fields].concat())).status();
    assert_eq!(ask(&[("x-a", &large)]), 200);
    assert_eq!(ask(&[("x-a", &large), ("x-b", &large)]), 431);
    assert_eq!(ask(&vec![("x-a", "1"); 19]), 200);
    assert_eq!(ask(&vec![("x-a", "1"); 40]), 431);
    // A frame that says it is large is not waited for.
    let mut stream = client.stream(&frame(0x01, &vec![0; 1 << 20])[..100]);
    assert_eq!(stream.end().status(), 431);
    assert_eq!(ask(&[]), 200, "the connection goes on");
}

#[test]
fn frames_in_the_wrong_place_end_the_connection() {
    let secured = plain();
    let (get, post) = (headers(&GET), headers(&POST));
    let malformed = [frame(0x01, &[0x00, 0x00, 0x80])].concat();
    for (what, bytes, codes) in [
        ("DATA first", frame(0x00, b"x"), [code::FRAME_UNEXPECTED; 2]),
        ("SETTINGS first", frame(0x04, b""), [code::FRAME_UNEXPECTED; 2]),
        ("PUSH_PROMISE", [&post[..], &frame(0x05, b"")].concat(), [code::FRAME_UNEXPECTED; 2]),
        ("GOAWAY", [&post[..], &frame(0x07, b"\0")].concat(), [code::FRAME_UNEXPECTED; 2]),
        ("MAX_PUSH_ID", [&post[..], &frame(0x0d, b"\0")].concat(), [code::FRAME_UNEXPECTED; 2]),
        ("PRIORITY of HTTP/2", [&post[..], &frame(0x02, b"")].concat(), [code::FRAME_UNEXPECTED; 2]),
        (
            "a third HEADERS",
            [&post[..], &frame(0x01, &section(&[])), &frame(0x01, &section(&[]))].concat(),
            [code::FRAME_UNEXPECTED; 2],
        ),
        (
            "DATA behind trailers",
            [&post[..], &frame(0x01, &section(&[])), &frame(0x00, b"x")].concat(),
            [code::FRAME_UNEXPECTED; 2],
        ),
        ("half a frame", get[..get.len() - 1].to_vec(), [code::FRAME_ERROR; 2]),
        ("a section that refers to the dynamic table", malformed, [code::QPACK_DECOMPRESSION_FAILED; 2]),
        ("an empty section", frame(0x01, b""), [code::QPACK_DECOMPRESSION_FAILED; 2]),
    ] {
        let other = secured.raw();
        let client = secured.raw();
        let mut stream = client.stream(&bytes);
        stream.finish();
        let closed = client.closed();
        assert!(codes.contains(&closed), "{what}: {closed:x}");
        assert_eq!(other.ask(&get).status(), 200, "{what}: and nobody else is disturbed");
    }
}

#[test]
fn a_stream_that_says_nothing_is_incomplete() {
    let secured = plain();
    let client = secured.raw();
    assert_eq!(client.ask(b""), RawEnd::Reset(code::REQUEST_INCOMPLETE));
    assert_eq!(client.ask(&headers(&GET)).status(), 200);
}

#[test]
fn unknown_frames_mean_nothing() {
    let secured = secured();
    let client = secured.raw();
    let bytes = [
        &frame(0x21, b"grease")[..],
        &headers(&POST),
        &frame(0x21, b""),
        &frame(0x00, b"hel"),
        &[0x40, 0x40, 0x02, b'x', b'y'],
        &frame(0x00, b"lo"),
        &frame(0x01, &section(&[("x-check", "1")])),
        &frame(0x3f, b"at the end"),
    ];
    assert_eq!(client.ask(&bytes.concat()).status(), 200);
    let received = secured.backend.last();
    assert_eq!((received.body.as_slice(), received.trailers.get("x-check")), (&b"hello"[..], Some("1")));
}

#[test]
fn malformed_trailers_are_reset() {
    let secured = secured();
    let client = secured.raw();
    for fields in [&[(":path", "/")][..], &[("X-Upper", "1")], &[("connection", "x")]] {
        let bytes = [&headers(&POST)[..], &frame(0x00, b"x"), &headers(fields)].concat();
        assert_eq!(client.ask(&bytes), RawEnd::Reset(code::MESSAGE_ERROR), "{fields:?}");
    }
}

#[test]
fn the_streams_of_a_connection_have_their_rules() {
    let secured = plain();
    let address = secured.gateway.address();
    let silent = || H3Raw::silent(address, &secured.tls().h3());
    for (what, pieces, wanted) in [
        ("no SETTINGS first", vec![&[0x00, 0x07, 0x01, 0x00][..]], code::MISSING_SETTINGS),
        ("SETTINGS twice", vec![&[0x00, 0x04, 0x00, 0x04, 0x00]], code::FRAME_UNEXPECTED),
        ("a setting twice", vec![&[0x00, 0x04, 0x04, 0x06, 0x01, 0x06, 0x01]], code::SETTINGS_ERROR),
        ("a setting of HTTP/2", vec![&[0x00, 0x04, 0x02, 0x02, 0x01]], code::SETTINGS_ERROR),
        ("HEADERS among control", vec![&[0x00, 0x04, 0x00, 0x01, 0x00]], code::FRAME_UNEXPECTED),
        ("two control streams", vec![&[0x00, 0x04, 0x00], &[0x00, 0x04, 0x00]], code::STREAM_CREATION_ERROR),
        ("a push", vec![&[0x01, 0x00]], code::STREAM_CREATION_ERROR),
        ("an insert for a table without room", vec![&[0x02, 0xc0, 0x01, b'x']], code::QPACK_ENCODER_STREAM_ERROR),
        ("an acknowledgement of nothing", vec![&[0x03, 0x80]], 0x202),
    ] {
        let client = silent();
        let _streams: Vec<_> = pieces.iter().map(|bytes| client.uni(bytes)).collect();
        assert_eq!(client.closed(), wanted, "{what}");
    }
    let client = silent();
    let mut control = client.uni(&[0x00, 0x04, 0x00]);
    control.finish().expect("a stream");
    assert_eq!(client.closed(), code::CLOSED_CRITICAL_STREAM);
    // What means nothing is refused alone.
    let client = secured.raw();
    let _unknown = client.uni(&[0x21, b'x']);
    assert_eq!(client.ask(&headers(&GET)).status(), 200);
}

#[test]
fn a_head_that_never_ends_has_its_time() {
    let secured = secured_with("limits: { header_timeout: 10s, idle_timeout: 1h }", "", Backend::named("x"));
    let client = secured.raw();
    let get = headers(&GET);
    let mut streams = [client.stream(&get[..3]), client.stream(&get[..20]), client.stream(&get)];
    let ended = std::thread::scope(|scope| {
        let waiting: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(|| stream.end().status())).collect();
        eventually("they are answered", || {
            secured.gateway.turn(Duration::from_secs(11));
            waiting.iter().all(|thread| thread.is_finished())
        });
        waiting.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    assert_eq!(ended, [408, 408, 408]);
    assert_eq!(secured.backend.count(), 0);
}

#[test]
fn a_body_that_stops_has_its_time() {
    let secured = secured_with("limits: { body_timeout: 10s, idle_timeout: 1h }", "", Backend::echo());
    let client = secured.raw();
    let mut stream = client.stream(&[&headers(&POST)[..], &frame(0x00, b"half")].concat());
    secured.backend.wait_for(1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stream.end().status());
        eventually("it is answered", || {
            secured.gateway.turn(Duration::from_secs(11));
            waiting.is_finished()
        });
        assert_eq!(waiting.join().expect("it does not panic"), 408);
    });
}

#[test]
fn a_stream_that_is_taken_by_the_byte_has_its_time_too() {
    let secured = secured_with("limits: { write_timeout: 30s, idle_timeout: 1h }", "", Backend::bytes(1_000_000));
    // Each byte that is read makes room for one more.
    let client = || H3Raw::with_window(secured.gateway.address(), &secured.tls().h3(), 8);
    let (one, other) = (client(), client());
    let (mut byte, mut piece) = (one.stream(&headers(&GET)), other.stream(&headers(&GET)));
    byte.finish();
    piece.finish();
    for _ in 0..3 {
        byte.read(1);
        piece.read(1100);
        secured.gateway.turn(Duration::from_secs(11));
    }
    eventually("one is given up", || {
        secured.gateway.turn(Duration::from_millis(1));
        secured.backend.open() == 1
    });
    assert_eq!(byte.end(), RawEnd::Reset(code::REQUEST_CANCELLED), "three bytes in thirty seconds");
    piece.read(3000);
}

fn floods(secured: &Secured) -> u64 {
    secured.gateway.metrics().workers.iter().map(|shard| shard.h3_floods.get()).sum()
}

#[test]
fn a_flood_of_resets_ends_the_connection() {
    let secured = secured_with(
        "limits: { h2_resets: 50 }",
        "",
        Backend::new(|_, conn| {
            conn.peer_leaves();
        }),
    );
    let other = secured.raw();
    let client = secured.raw();
    for _ in 0..100 {
        let Ok(mut stream) = client.try_stream(&headers(&GET)) else { break };
        stream.reset(code::REQUEST_CANCELLED);
    }
    assert_eq!(client.closed(), code::EXCESSIVE_LOAD);
    assert_eq!(floods(&secured), 1);
    eventually("no attempt is left", || secured.backend.open() == 0);
    let mut waiting = other.stream(&headers(&GET));
    waiting.finish();
    eventually("the other is served", || secured.backend.open() == 1);
}

#[test]
fn a_flood_of_malformed_requests_ends_the_connection() {
    let secured = secured_with("limits: { h2_resets: 50, header_bytes: 8KiB, uri_bytes: 4KiB }", "", Backend::echo());
    let malformed = headers(&[&GET[..], &[("connection", "close")]].concat());
    let longer = [&headers(&[&POST[..], &[("content-length", "1")]].concat())[..], &frame(0x00, b"ab")].concat();
    let large = headers(&[&GET[..], &[("x-a", &"x".repeat(8192))]].concat());
    for (at, bytes) in [malformed, longer, large].into_iter().enumerate() {
        let client = secured.raw();
        for _ in 0..100 {
            let Ok(mut stream) = client.try_stream(&bytes) else { break };
            stream.finish();
        }
        assert_eq!(client.closed(), code::EXCESSIVE_LOAD, "{at}");
        assert_eq!(floods(&secured), 1 + at as u64);
    }
}

#[test]
fn resets_that_come_slowly_are_no_flood() {
    let secured = secured_with("limits: { h2_resets: 50, idle_timeout: 1h }", "", Backend::named("x"));
    let client = secured.raw();
    for round in 0..100 {
        let mut stream = client.stream(&headers(&GET)[..10]);
        stream.reset(code::REQUEST_CANCELLED);
        if round % 40 == 39 {
            // All are counted before the next period begins.
            assert_eq!(client.ask(&headers(&GET)).status(), 200);
            secured.gateway.turn(Duration::from_secs(11));
        }
    }
    assert_eq!(client.ask(&headers(&GET)).status(), 200);
}

#[test]
fn a_flood_of_frames_that_carry_nothing_ends_the_connection() {
    let secured = secured_with("limits: { h2_control_frames: 200 }", "", Backend::named("x"));
    let unknown = [0x21, 0x00].repeat(1000);
    let client = secured.raw();
    let mut control = H3Raw::silent(secured.gateway.address(), &secured.tls().h3());
    let _stream = control.uni(&[&[0x00, 0x04, 0x00][..], &unknown].concat());
    assert_eq!(control.closed(), code::EXCESSIVE_LOAD);
    control = H3Raw::silent(secured.gateway.address(), &secured.tls().h3());
    let _request = control.stream(&[&headers(&POST)[..], &[0x00, 0x00].repeat(1000)].concat());
    assert_eq!(control.closed(), code::EXCESSIVE_LOAD);
    assert_eq!(floods(&secured), 2);
    assert_eq!(client.ask(&headers(&GET)).status(), 200, "and nobody else is disturbed");
    // Bytes that mean nothing are not read for ever.
    let mut stream = client.stream(&headers(&POST));
    stream.write(&frame(0x21, &vec![0; 1 << 20])[..5]);
    stream.accepts(&vec![0; 1 << 20]);
    assert_eq!(stream.end(), RawEnd::Reset(code::EXCESSIVE_LOAD));
}
