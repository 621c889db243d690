//! HTTP/2 towards clients, section 6 of RFC 9113: each type of frame, what it may hold and what it does.

use crate::breaking::{GET, ends_with, get, never, plain, post};
use maitred_testkit::h2::{Frame, code, flag, hpack, kind, setting};
use maitred_testkit::{Backend, H2Broken, Latch, gateway, gateway_to, reluctant, stays};

#[test]
fn frames_of_streams_have_one_and_those_of_connections_none() {
    let gateway = plain();
    for frame in [
        Frame::data(0, "x", false),
        get(0),
        Frame::priority(0, 1, 1),
        Frame::reset(0, code::CANCEL),
        Frame::continuation(0, [], true),
        Frame::new(kind::SETTINGS, 0, 1, []),
        Frame::new(kind::PING, 0, 1, [0; 8]),
        Frame::new(kind::GOAWAY, 0, 1, [0; 8]),
    ] {
        ends_with(&gateway, &format!("{frame:?}"), code::PROTOCOL_ERROR, &[frame]);
    }
}

#[test]
fn padding_is_taken_off_and_counts_as_sent() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.next_stream();
    client.send(Frame { stream, ..post(1) }.padded(200));
    client.send(Frame::data(stream, "hello", false).padded(255));
    client.send(Frame::data(stream, " world", true).padded(0));
    assert_eq!(client.response(stream).json()["body"], "hello world");
}

#[test]
fn padding_is_given_back_to_the_window() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    // Ten windows of nothing but padding and one byte.
    for _ in 0..10 * 256 * 1024 / 257 {
        while client.allowance(stream) < 257 {
            client.next_frame();
        }
        client.send(Frame::data(stream, "x", false).padded(255));
    }
    client.data(stream, "", true);
    client.flowing();
    assert_eq!(client.response(stream).json()["body_length"], 10 * 256 * 1024 / 257);
}

#[test]
fn padding_as_long_as_its_frame_is_an_error() {
    let gateway = plain();
    let long = |frame: Frame| {
        let mut frame = frame.with_flags(flag::PADDED);
        frame.payload[0] = frame.payload.len() as u8;
        frame
    };
    ends_with(&gateway, "DATA", code::PROTOCOL_ERROR, &[post(1), long(Frame::data(1, [0; 10], false))]);
    ends_with(&gateway, "HEADERS", code::PROTOCOL_ERROR, &[long(Frame::headers(1, vec![0; 10], true))]);
}

#[test]
fn priorities_are_ignored() {
    let gateway = plain();
    let mut client = gateway.h2();
    client.send(Frame::priority(3, 0, 255));
    client.send(Frame::priority(5, 3, 0));
    // PRIORITY_UPDATE of RFC 9218.
    client.send(Frame::new(0x10, 0, 0, [&7u32.to_be_bytes()[..], b"u=1, i"].concat()));
    let mut frame = get(client.next_stream()).with_flags(flag::PRIORITY);
    frame.payload.splice(0..0, [0x80, 0, 0, 3, 7]);
    client.send(frame);
    assert_eq!(client.response(1).text(), "x");
    client.send(Frame::priority(1, 7, 9));
    assert_eq!(client.get("/").text(), "x");
}

#[test]
fn every_settings_is_acknowledged() {
    let gateway = plain();
    let mut client = gateway.h2();
    for _ in 0..5 {
        client.send(Frame::settings(&[(0xaaaa, 7), (setting::MAX_HEADER_LIST_SIZE, 1 << 20)]));
    }
    client.settle();
    assert_eq!(client.get("/").text(), "x", "and an unknown one does nothing");
}

#[test]
fn settings_have_bounds() {
    let gateway = plain();
    for (name, value, code) in [
        (setting::ENABLE_PUSH, 2, code::PROTOCOL_ERROR),
        (setting::INITIAL_WINDOW_SIZE, 0x8000_0000, code::FLOW_CONTROL_ERROR),
        (setting::INITIAL_WINDOW_SIZE, u32::MAX, code::FLOW_CONTROL_ERROR),
        (setting::MAX_FRAME_SIZE, 16_383, code::PROTOCOL_ERROR),
        (setting::MAX_FRAME_SIZE, 1 << 24, code::PROTOCOL_ERROR),
        (setting::ENABLE_CONNECT_PROTOCOL, 2, code::PROTOCOL_ERROR),
    ] {
        ends_with(&gateway, &format!("setting {name} to {value}"), code, &[Frame::settings(&[(name, value)])]);
    }
}

#[test]
fn a_client_s_own_table_size_is_kept_to() {
    let backend = Backend::new(|_, conn| {
        conn.answer(200, "X-Long: abcdefghijklmnopqrstuvwxyz\r\n", "x");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for size in [4096, 0, 100, 65_536] {
        client.send(Frame::settings(&[(setting::HEADER_TABLE_SIZE, size)]));
        client.settle();
        for _ in 0..3 {
            // The decoder refuses what does not fit its table.
            assert_eq!(client.get("/").header("x-long"), Some("abcdefghijklmnopqrstuvwxyz"));
        }
    }
}

#[test]
fn a_window_may_shrink_below_nothing_and_grow_again() {
    let backend = Backend::bytes(100_000);
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    client.grant(0, 1 << 20);
    let stream = client.ask("GET", "/", &[]);
    client.body(stream, 65_535);
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]));
    client.settle();
    // It stands at 10 - 65535.
    client.grant(stream, 65_525);
    client.ping();
    assert_eq!(client.received(stream), 65_535, "just nothing is left");
    client.grant(stream, 5);
    assert_eq!(client.body(stream, 65_540).len(), 65_540);
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]));
    assert_eq!(client.response(stream).body.len(), 100_000);
}

#[test]
fn pings_come_back_with_what_they_carry() {
    let gateway = plain();
    let mut client = gateway.h2();
    client.ping();
    client.ping();
    client.send(Frame::ping_ack([9; 8]));
    client.ping();
}

#[test]
fn a_client_cannot_push() {
    let gateway = plain();
    ends_with(&gateway, "a push", code::PROTOCOL_ERROR, &[get(1), Frame::push_promise(1, 2, &hpack::block(&GET))]);
}

#[test]
fn streams_of_a_client_that_says_goaway_are_answered() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    client.send(Frame::goaway(0, code::NO_ERROR));
    client.ping();
    latch.open();
    assert_eq!(client.response(stream).text(), "late");
    client.finish();
    client.expect_closed();
}

#[test]
fn an_increment_of_nothing_is_an_error() {
    let gateway = plain();
    ends_with(&gateway, "of the connection", code::PROTOCOL_ERROR, &[Frame::window(0, 0)]);
    let (gateway, _backend) = never();
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    client.send(Frame::window(stream, 0));
    client.expect_stream_error(stream, code::PROTOCOL_ERROR);
}

#[test]
fn windows_do_not_overflow() {
    let gateway = plain();
    ends_with(&gateway, "the connection's", code::FLOW_CONTROL_ERROR, &[Frame::window(0, 0x7fff_ffff)]);
    let most = Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    let (waiting, _backend) = never();
    let mut client = waiting.h2();
    let stream = client.open("POST", "/", &[]);
    client.send(Frame::window(stream, 0x7fff_ffff));
    client.expect_stream_error(stream, code::FLOW_CONTROL_ERROR);
    // Settings move the windows of streams that exist, too; of one that is answered nobody asks.
    let mut client = waiting.h2();
    let stream = client.open("POST", "/", &[]);
    client.send(Frame::window(stream, 1));
    client.send(most);
    client.expect_goaway(code::FLOW_CONTROL_ERROR);
}

#[test]
fn who_sends_more_than_its_window_is_stopped() {
    let (address, _held) = reluctant();
    let yaml = "limits: { h2_window: 64KiB }
upstreams: { nobody: \"http://$nobody\" }
apis: { all: { routes: [ \"POST /\": nobody ] } }";
    let gateway = gateway(yaml, &[("nobody", address)]);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    for _ in 0..5 {
        let _ = client.try_send(Frame::data(stream, [0; 16_384], false));
    }
    client.expect_stream_error(stream, code::FLOW_CONTROL_ERROR);
}

#[test]
fn uploads_that_stall_use_up_no_other_s_room() {
    let (address, _held) = reluctant();
    let backend = Backend::echo();
    let yaml = "upstreams: { nobody: \"http://$nobody\", kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"POST /\": nobody, \"POST /live\": kitchen ] } }";
    let gateway = gateway(yaml, &[("nobody", address), ("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let stalled: Vec<u32> = (0..99).map(|_| client.open("POST", "/", &[])).collect();
    for stream in stalled {
        for _ in 0..4 {
            client.send(Frame::data(stream, [0; 16_384], false));
        }
    }
    let live = client.open("POST", "/live", &[]);
    client.data(live, "abc", true);
    assert_eq!(client.response(live).json()["body"], "abc");
}

#[test]
fn no_window_is_given_for_what_nobody_takes() {
    let (address, _held) = reluctant();
    let gateway = gateway(
        "upstreams: { nobody: \"http://$nobody\" }\napis: { all: { routes: [ \"POST /\": nobody ] } }",
        &[("nobody", address)],
    );
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    client.ping();
    let body = vec![0; 1 << 20];
    let mut sent = 0;
    let sent = stays("the window is used up", || {
        sent += client.data_that_fits(stream, &body[sent..]);
        sent as u64
    });
    assert_eq!(sent, 64 * 1024, "limits.h2_window");
}

#[test]
fn a_block_may_come_in_pieces() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let block = [hpack::block(&GET), hpack::literal("x-long", "y".repeat(1000))].concat();
    let stream = client.next_stream();
    client.send(Frame::headers(stream, &block[..1], true).unfinished());
    let rest: Vec<&[u8]> = block[1..].chunks(300).collect();
    for (at, piece) in rest.iter().enumerate() {
        client.send(Frame::continuation(stream, *piece, at + 1 == rest.len()));
    }
    client.response(stream);
    assert_eq!(backend.only().header("x-long").map(str::len), Some(1000));
}

#[test]
fn nothing_comes_between_the_pieces_of_a_block() {
    let gateway = plain();
    let block = hpack::block(&GET);
    let begun = Frame::headers(1, &block[..5], true).unfinished();
    let rest = Frame::continuation(1, &block[5..], true);
    for between in [
        Frame::ping([0; 8]),
        Frame::settings(&[]),
        Frame::window(0, 1),
        Frame::priority(1, 0, 1),
        Frame::unknown(0),
        Frame::continuation(3, &block[5..], true),
        Frame::data(1, "x", false),
        get(3),
    ] {
        let what = format!("{between:?}");
        ends_with(&gateway, &what, code::PROTOCOL_ERROR, &[begun.clone(), between, rest.clone()]);
    }
    ends_with(&gateway, "more than the end", code::PROTOCOL_ERROR, &[post(1), Frame::continuation(1, &block[..], true)]);
}

#[test]
fn a_client_that_resets_is_not_answered() {
    let backend = Backend::new(|_, conn| {
        conn.peer_leaves();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    client.reset(stream, code::CANCEL);
    client.ping();
    assert_eq!(client.was_reset(stream), None, "a reset is not answered with one");
    assert!(!matches!(client.try_ping(), Err(H2Broken::Closed(_))));
}

#[test]
fn an_empty_frame_that_nobody_knows_hides_nothing() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.next_stream();
    // In one piece: nothing comes behind it that would have the gateway look again.
    client.send_all(&[], &[Frame::new(0xfe, 0, 0, []), get(stream)]);
    assert_eq!(client.response(stream).text(), "x");
}
