//! HTTP/2 towards clients: floods (RFC 9113, section 10.5). Each goes over one named limit, is told to calm down and is closed, in a
//! moment and not at once; whoever else is connected notices nothing. Just below a limit nothing happens.

use crate::breaking::{GET, never, plain, post, with_limits};
use maitred_testkit::h2::{Frame, code, hpack, setting};
use maitred_testkit::{Backend, Gateway, H2Broken, H2Client, Stream, eventually, gateway, gateway_to, stays};
use socket2::{Domain, Socket, Type};
use std::time::{Duration, Instant};

/// From the last byte of the flood to the end of the connection.
const SOON: Duration = Duration::from_secs(1);
/// Who is closed at once begins anew at once.
const CALM: Duration = Duration::from_millis(500);

/// Sends frame after frame until the gateway has had enough; so many of them must be enough.
#[track_caller]
fn floods(gateway: &Gateway, what: &str, enough: u32, mut next: impl FnMut(u32) -> Vec<Frame>) {
    let mut other = gateway.h2();
    let mut client = gateway.h2();
    let began = Instant::now();
    for at in 0..enough {
        let frames = next(at);
        // It may be closed before all of it is sent.
        if frames.into_iter().any(|frame| client.try_send(frame).is_err()) {
            break;
        }
    }
    let sent = Instant::now();
    match client.try_ending() {
        Ok(goaway) => assert_eq!(goaway.map(|goaway| goaway.code), Some(code::ENHANCE_YOUR_CALM), "{what}: the code of GOAWAY"),
        Err(broken) => panic!("{what}: the connection goes on: {broken:?}"),
    }
    assert!(sent.elapsed() < SOON, "{what}: it took {:?}", sent.elapsed());
    assert!(began.elapsed() >= CALM, "{what}: it took no more than {:?}", began.elapsed());
    other.ping();
}

/// So many of them are nothing to complain of.
#[track_caller]
fn is_no_flood(gateway: &Gateway, what: &str, count: u32, mut next: impl FnMut(u32) -> Vec<Frame>) {
    let mut client = gateway.h2();
    for at in 0..count {
        next(at).into_iter().for_each(|frame| client.send(frame));
    }
    let outcome = client.try_ping();
    assert!(outcome.is_ok(), "{what}: {outcome:?}");
    assert!(client.goaways().is_empty(), "{what}");
}

fn stream(at: u32) -> u32 {
    2 * at + 1
}

#[test]
fn streams_that_are_opened_and_reset() {
    let (gateway, backend) = never();
    let next = |at| vec![post(stream(at)), Frame::reset(stream(at), code::CANCEL)];
    is_no_flood(&gateway, "below limits.h2_resets", 95, next);
    floods(&gateway, "over limits.h2_resets", 1000, next);
    eventually("no attempt is left", || backend.open() == 0);
}

#[test]
fn requests_that_are_asked_and_reset_at_once() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let get = hpack::block(&GET);
    floods(&gateway, "over limits.h2_resets", 1000, |at| {
        vec![Frame::headers(stream(at), get.clone(), true), Frame::reset(stream(at), code::CANCEL)]
    });
    eventually("nothing is left of it", || gateway.open() <= 1);
    assert!(backend.connections() < 200, "{} connections to the back end", backend.connections());
}

#[test]
fn streams_that_the_gateway_is_made_to_reset() {
    let (gateway, backend) = never();
    let get = hpack::block(&GET);
    // Each overflows the window of its own stream, which is an error of that stream alone.
    floods(&gateway, "over limits.h2_resets", 1000, |at| {
        vec![Frame::headers(stream(at), get.clone(), true), Frame::window(stream(at), 0x7fff_ffff)]
    });
    eventually("no attempt is left", || backend.open() == 0);
}

#[test]
fn requests_that_are_malformed() {
    let gateway = plain();
    let wrong = [hpack::block(&GET), hpack::literal("connection", "close")].concat();
    floods(&gateway, "over limits.h2_resets", 1000, |at| vec![Frame::headers(stream(at), wrong.clone(), true)]);
}

#[test]
fn heads_that_are_too_large() {
    let gateway = with_limits("header_bytes: 2KiB, uri_bytes: 1KiB");
    let large = [hpack::block(&GET), hpack::literal("x-a", "y".repeat(3000))].concat();
    let next = |at| vec![Frame::headers(stream(at), large.clone(), true)];
    is_no_flood(&gateway, "a few", 20, next);
    floods(&gateway, "over limits.h2_resets", 1000, next);
}

#[test]
fn pings() {
    let gateway = plain();
    is_no_flood(&gateway, "pings", 900, |_| vec![Frame::ping([0; 8])]);
    floods(&gateway, "pings", 20_000, |_| vec![Frame::ping([0; 8])]);
}

#[test]
fn settings() {
    let gateway = plain();
    floods(&gateway, "settings", 20_000, |_| vec![Frame::settings(&[])]);
    floods(&gateway, "settings that say something", 20_000, |at| {
        vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535 + at % 2)])]
    });
}

#[test]
fn priorities() {
    let gateway = plain();
    floods(&gateway, "priorities", 20_000, |at| vec![Frame::priority(stream(at), 0, 1)]);
}

#[test]
fn data_without_a_byte() {
    let (gateway, _backend) = never();
    floods(&gateway, "empty DATA", 20_000, |at| {
        let data = Frame::data(1, "", false);
        if at == 0 { vec![post(1), data] } else { vec![data] }
    });
}

#[test]
fn data_of_padding_alone() {
    let (gateway, _backend) = never();
    let mut client = gateway.h2();
    client.send(post(1));
    // Whoever never reads cannot be given room for it: the window ends it, or the limit.
    for _ in 0..20_000 {
        if client.try_send(Frame::data(1, "", false).padded(255)).is_err() {
            break;
        }
    }
    let code = client.stream_error(1);
    assert!(matches!(code, Some(code::ENHANCE_YOUR_CALM | code::FLOW_CONTROL_ERROR)), "{code:?}");
}

#[test]
fn windows_that_nobody_needs() {
    let (gateway, _backend) = never();
    floods(&gateway, "the connection's window", 20_000, |_| vec![Frame::window(0, 1)]);
    floods(&gateway, "a stream's window", 20_000, |at| {
        if at == 0 { vec![post(1), Frame::window(1, 1)] } else { vec![Frame::window(1, 1)] }
    });
}

#[test]
fn frames_that_nobody_knows() {
    let gateway = plain();
    floods(&gateway, "unknown frames", 20_000, |_| vec![Frame::unknown(0)]);
}

#[test]
fn a_block_that_never_ends() {
    let gateway = plain();
    let piece = hpack::literal("x-more", "y".repeat(1000));
    floods(&gateway, "over limits.header_bytes", 1000, |at| {
        if at == 0 { vec![post(1).unfinished()] } else { vec![Frame::continuation(1, piece.clone(), false)] }
    });
    floods(&gateway, "pieces of nothing", 20_000, |at| {
        if at == 0 { vec![post(1).unfinished()] } else { vec![Frame::continuation(1, [], false)] }
    });
}

#[test]
fn a_block_that_is_small_and_grows_large() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let start = hpack::block(&GET);
    let bomb = hpack::remembered("x-bomb", "y".repeat(3900));
    client.send(Frame::headers(1, [start.clone(), bomb].concat(), true));
    assert_eq!(client.response(1).text(), "x");
    // One byte each, and 4 KB: 60 MB of fields in one frame.
    let many = hpack::indexed(62).repeat(15_000);
    client.send(Frame::headers(3, [start.clone(), many].concat(), true));
    match client.try_response(3) {
        Ok(response) => assert_eq!(response.status, 431),
        // Or it is more than anybody unpacks, and the connection's table is lost with it.
        Err(H2Broken::Closed(goaway)) => assert_eq!(goaway.map(|goaway| goaway.code), Some(code::ENHANCE_YOUR_CALM)),
        Err(broken) => panic!("{broken:?}"),
    }
    assert_eq!(backend.count(), 1);
    assert_eq!(gateway.h2().get("/").text(), "x");
}

#[test]
fn what_was_long_ago_does_not_count() {
    let gateway = with_limits("h2_control_frames: 100");
    let mut client = gateway.h2();
    for _ in 0..5 {
        // In one piece that one read takes: nothing is looked at between two bursts.
        client.send_all(&[], &vec![Frame::ping([0; 8]); 80]);
        // The burst was counted before the second of these was answered: the clock must not be turned in between.
        client.ping();
        client.ping();
        gateway.turn(Duration::from_secs(11));
    }
    assert_eq!(client.get("/").text(), "x");
}

#[test]
fn limits_are_as_configured() {
    let gateway = with_limits("h2_control_frames: 10, h2_resets: 5");
    is_no_flood(&gateway, "five pings", 5, |_| vec![Frame::ping([0; 8])]);
    floods(&gateway, "twenty pings", 20, |_| vec![Frame::ping([0; 8])]);
    let (gateway, backend) = never();
    // Nobody is answered: a reset behind an answer takes nothing back, and does not count.
    gateway.publish(&format!(
        "limits: {{ h2_resets: 5 }}
upstreams: {{ kitchen: \"http://{}\" }}
apis: {{ all: {{ routes: [ POST /: kitchen ] }} }}",
        backend.address()
    ));
    floods(&gateway, "ten resets", 10, |at| vec![post(stream(at)), Frame::reset(stream(at), code::CANCEL)]);
}

#[test]
fn a_busy_client_is_no_flood() {
    let backend = Backend::bytes(100_000);
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    client.flowing();
    // The kit grants twice for every frame of DATA, and pings now and then.
    for _ in 0..30 {
        let streams: Vec<u32> = (0..20).map(|_| client.ask("GET", "/", &[])).collect();
        for stream in streams {
            assert_eq!(client.response(stream).body.len(), 100_000);
        }
        client.ping();
    }
    assert_eq!(backend.count(), 600);
}

#[test]
fn a_stream_that_takes_nothing_has_its_time() {
    let backend = Backend::bytes(10_000_000);
    let yaml = "limits: { write_timeout: 30s }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    client.handshake(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let streams: Vec<u32> = (0..20).map(|_| client.ask("GET", "/", &[])).collect();
    backend.wait_for(2);
    stays("every back end is blocked", || backend.written());
    assert_eq!(backend.count(), 2, "the others wait for room");
    gateway.turn(Duration::from_secs(20));
    client.ping();
    assert!(streams.iter().all(|stream| client.was_reset(*stream).is_none()), "ten seconds are left");
    eventually("every one is given up", || {
        gateway.turn(Duration::from_secs(2));
        backend.open() == 0
    });
    for stream in streams {
        let code = client.stream_error(stream);
        assert!(matches!(code, Some(code::CANCEL | code::ENHANCE_YOUR_CALM)), "{code:?}");
    }
}

#[test]
fn requests_without_room_for_an_answer_wait_until_there_is() {
    let backend = Backend::bytes(2000);
    let gateway = gateway_to(&backend);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    client.handshake(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let streams: Vec<u32> = (0..12).map(|_| client.ask("GET", "/", &[])).collect();
    backend.wait_for(2);
    client.ping();
    // A byte is no room; a kilobyte is, and whoever has it overtakes.
    client.grant(streams[9], 1);
    client.grant(streams[11], 1024);
    backend.wait_for(3);
    client.body(streams[11], 1024);
    // One that ends makes room for the next in line.
    client.grant(streams[0], 2000);
    client.body(streams[0], 2000);
    backend.wait_for(4);
    // One that was taken back is not asked for.
    client.send(Frame::reset(streams[9], code::CANCEL));
    for &stream in streams.iter().filter(|&&stream| ![streams[0], streams[9]].contains(&stream)) {
        client.grant(stream, 2000);
        client.body(stream, 2000);
    }
    client.ping();
    assert_eq!(backend.count(), 11);
}

#[test]
fn a_stream_that_is_taken_by_the_byte_has_its_time_too() {
    let backend = Backend::bytes(1_000_000);
    let yaml = "limits: { write_timeout: 30s }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    client.handshake(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let (byte, piece) = (client.ask("GET", "/", &[]), client.ask("GET", "/", &[]));
    for turn in 1..=3 {
        client.grant(byte, 1);
        client.grant(piece, 1024);
        client.body(byte, turn);
        client.body(piece, turn * 1024);
        client.ping();
        gateway.turn(Duration::from_secs(11));
    }
    assert_eq!(client.stream_error(byte), Some(code::CANCEL), "three bytes in thirty seconds");
    client.grant(piece, 10);
    client.body(piece, 3 * 1024 + 10);
    assert!(client.was_reset(piece).is_none(), "slow, but it takes something");
}

/// Windows wide open, and a socket that takes little.
fn deaf(gateway: &Gateway) -> H2Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a buffer size");
    socket.connect(&gateway.address().into()).expect("a listener");
    let mut client = H2Client::over(Stream::plain(socket).expect("a socket that works"));
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]));
    client.send(Frame::window(0, 0x7000_0000));
    client
}

#[test]
fn a_client_that_does_not_read_is_asked_for_little_however_wide_its_windows() {
    // Twenty of them are more than the kernel takes ahead of a client (`tcp_wmem`), however it feels.
    const BYTES: usize = 500_000;
    let backend = Backend::bytes(BYTES);
    let gateway = gateway_to(&backend);
    let mut client = deaf(&gateway);
    let mut streams: Vec<u32> = (0..20).map(|_| client.ask("GET", "/", &[])).collect();
    stays("whoever was asked is blocked, or done", || backend.written());
    streams.extend((0..70).map(|_| client.ask("GET", "/", &[])));
    stays("the others wait", || backend.written());
    assert!(backend.count() <= 20 + 2, "{} requests were sent on for answers that nobody reads", backend.count());
    // It was slow, and no more than that.
    for stream in streams {
        assert_eq!(client.response(stream).body.len(), BYTES);
    }
}

#[test]
fn a_client_that_does_not_read_at_all_has_its_time() {
    let backend = Backend::bytes(50_000_000);
    let yaml = "limits: { write_timeout: 30s }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = deaf(&gateway);
    for _ in 0..5 {
        client.ask("GET", "/", &[]);
    }
    backend.wait_for(2);
    let written = stays("every back end is blocked", || backend.written());
    assert!(written < 100_000_000, "{written} bytes were taken for a client that reads nothing");
    assert_eq!(gateway.open(), 1);
    eventually("the client is left", || {
        gateway.turn(Duration::from_secs(5));
        gateway.open() == 0
    });
    eventually("no attempt is left", || backend.open() == 0);
}

#[test]
fn a_client_that_floods_and_does_not_read_is_left_all_the_same() {
    let gateway = plain();
    let mut client = gateway.h2();
    // Megabytes of answers that nobody takes.
    for _ in 0..200_000 {
        if client.try_send(Frame::ping([0; 8])).is_err() {
            break;
        }
    }
    eventually("it is left", || gateway.open() == 0);
}

#[test]
fn many_connections_that_only_shake_hands_hold_up_nobody() {
    let gateway = plain();
    let idle: Vec<H2Client> = (0..200).map(|_| gateway.h2()).collect();
    assert_eq!(gateway.h2().get("/").text(), "x");
    eventually("all are dismissed", || {
        gateway.turn(Duration::from_secs(80));
        gateway.open() == 0
    });
    drop(idle);
}
