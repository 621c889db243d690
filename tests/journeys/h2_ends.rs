//! HTTP/2 towards clients: the last minutes of a connection, whoever ends it, and what goes on under it meanwhile.

use crate::h2_bodies::{to_kitchen, who_waits};
use maitred_testkit::h2::{Frame, Goaway, code, setting};
use maitred_testkit::{Backend, Gateway, H2Broken, H2Client, Latch, Stream, eventually, gateway, gateway_to};
use socket2::{Domain, Socket, Type};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_client_that_breaks_its_connection_ends_all_its_attempts() {
    let (backend, left) = who_waits();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for _ in 0..5 {
        client.ask("GET", "/", &[]);
    }
    backend.wait_for(5);
    client.abort();
    left.wait();
    eventually("all are abandoned", || backend.open() == 0);
    eventually("the connection is forgotten", || gateway.open() == 0);
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "worth the wait");
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let streams = [client.ask("GET", "/", &[]), client.ask("GET", "/", &[])];
    backend.wait_for(2);
    client.finish();
    latch.open();
    for stream in streams {
        assert_eq!(client.response(stream).text(), "worth the wait");
    }
    client.expect_closed();
    eventually("the connection is forgotten", || gateway.open() == 0);
}

#[test]
fn a_half_closed_client_whose_body_is_not_whole_is_gone() {
    let backend = Backend::new(|_, conn| {
        conn.body();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    client.data(stream, "abc", false);
    eventually("the body has begun", || backend.requests().first().is_some_and(|request| request.body == b"abc"));
    client.finish();
    eventually("the attempt is abandoned", || backend.open() == 0);
    assert!(!backend.only().complete);
    eventually("the connection is forgotten", || gateway.open() == 0);
}

#[test]
fn a_half_closed_client_is_gone_where_it_is_so_configured() {
    let (backend, left) = who_waits();
    let gateway = to_kitchen("half_close: abort", &backend);
    let mut client = gateway.h2();
    client.ask("GET", "/", &[]);
    backend.wait_for(1);
    client.finish();
    left.wait();
    client.expect_closed();
    eventually("the connection is forgotten", || gateway.open() == 0);
}

#[test]
fn an_idle_connection_is_closed_with_a_word() {
    let backend = Backend::named("x");
    let gateway = to_kitchen("idle_timeout: 60s", &backend);
    let mut client = gateway.h2();
    client.get("/");
    gateway.turn(Duration::from_secs(50));
    assert_eq!(client.get("/").text(), "x", "its time starts anew");
    eventually("it is left", || {
        gateway.turn(Duration::from_secs(61));
        gateway.open() == 0
    });
    let goaway = client.ending();
    assert_eq!(goaway.map(|goaway| goaway.code), Some(code::NO_ERROR));
}

#[test]
fn a_connection_with_a_stream_is_not_idle() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let yaml = "limits: { idle_timeout: 5s }
upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], timeouts: { response: 1h } } }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    for _ in 0..5 {
        gateway.turn(Duration::from_secs(6));
        client.ping();
    }
    latch.open();
    assert_eq!(client.response(stream).text(), "late");
}

#[test]
fn a_drain_says_goaway_and_lets_streams_end() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| gateway.drain(SOON));
        eventually("it says so", || !client.goaways().is_empty());
        assert_eq!(client.goaways()[0].code, code::NO_ERROR);
        latch.open();
        assert_eq!(client.response(stream).text(), "late");
        assert_eq!(client.expect_goaway(code::NO_ERROR), stream, "the last word names the last stream");
        assert!(draining.join().expect("it does not panic"));
    });
}

/// What a client that waits for an answer hears, in a drain that begins meanwhile. `None`: the machine paused, and it was told before.
fn heard_in_a_drain(
    ask: impl FnOnce(&Gateway, &mut H2Client, &Backend) -> u32,
    crosses: bool,
) -> Option<(Vec<Goaway>, [u32; 2])> {
    const TOLD_ANYWAY: Duration = Duration::from_millis(900);
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let gateway = gateway_to(&backend);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    let began = Instant::now();
    let stream = ask(&gateway, &mut client, &backend);
    backend.wait_for(1);
    // Whoever answers this knows of the drain.
    client.ping();
    let early = client.goaways();
    latch.open();
    assert_eq!(client.response(stream).text(), "late");
    if began.elapsed() > TOLD_ANYWAY {
        return None;
    }
    assert_eq!(early, [], "nothing before the answer");
    // What it sends until it has heard of it is answered.
    let crossing = if crosses { client.ask("GET", "/", &[]) } else { stream };
    assert_eq!(client.response(crossing).text(), "late");
    client.expect_closed();
    Some((client.goaways(), [stream, crossing]))
}

#[test]
fn who_asks_one_after_another_hears_of_a_drain_behind_the_answer() {
    let ask = |gateway: &Gateway, client: &mut H2Client, backend: &Backend| {
        client.handshake(&[]);
        let stream = client.ask("GET", "/", &[]);
        backend.wait_for(1);
        gateway.begin_drain();
        stream
    };
    for crosses in [true, false] {
        let (heard, [_, last]) = (0..10).find_map(|_| heard_in_a_drain(ask, crosses)).expect("a machine that works");
        let announced = Goaway { last: 0x7fff_ffff, code: code::NO_ERROR };
        assert_eq!(heard, [announced, Goaway { last, code: code::NO_ERROR }]);
    }
}

#[test]
fn who_is_heard_first_in_a_drain_is_answered_before_it_hears_of_it() {
    let ask = |gateway: &Gateway, client: &mut H2Client, _: &Backend| {
        let open = || gateway.metrics().workers.iter().map(|shard| shard.connections_open.get()).sum::<u64>();
        eventually("it is taken", || open() > 0);
        gateway.begin_drain();
        client.handshake(&[]);
        client.ask("GET", "/", &[])
    };
    (0..10).find_map(|_| heard_in_a_drain(ask, false)).expect("a machine that works");
}

#[test]
fn who_asks_for_much_at_once_hears_of_a_drain_at_once() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let streams = [client.ask("GET", "/", &[]), client.ask("GET", "/", &[])];
    backend.wait_for(2);
    gateway.begin_drain();
    eventually("it says so", || !client.goaways().is_empty());
    latch.open();
    for stream in streams {
        assert_eq!(client.response(stream).text(), "late");
    }
    assert_eq!(client.expect_goaway(code::NO_ERROR), streams[1], "the last word names the last stream");
}

#[test]
fn a_request_that_crosses_the_drain_is_served() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    assert_eq!(client.get("/").text(), "x");
    gateway.begin_drain();
    // It knows of no GOAWAY: nothing was read since.
    assert_eq!(client.get("/").text(), "x");
    assert_eq!(client.ending().map(|goaway| goaway.code), Some(code::NO_ERROR));
    assert!(gateway.drain(SOON), "all have left");
}

#[test]
fn a_stopped_gateway_cuts_streams_plainly() {
    let (backend, left) = who_waits();
    let mut gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    gateway.stop();
    left.wait();
    let outcome = client.try_response(stream);
    assert!(matches!(outcome, Err(H2Broken::Closed(_) | H2Broken::Reset(_))), "{outcome:?}");
}

#[test]
fn a_reload_goes_on_under_open_connections() {
    let text = |text: &str| format!("apis: {{ all: {{ routes: [ {{ match: GET /, respond: {{ text: {text} }} }} ] }} }}");
    let gateway = gateway(&text("old"), &[]);
    let mut client = gateway.h2();
    assert_eq!(client.get("/").text(), "old");
    gateway.publish(&text("new"));
    assert_eq!(client.get("/").text(), "new");
    client.send(Frame::goaway(0, code::NO_ERROR));
    client.expect_closed();
}

#[test]
fn not_one_request_fails_while_reloads_go_on() {
    let backend = Backend::named("x");
    let yaml = |timeout: &str| {
        format!(
            "workers: 2
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ {{ match: POST /x, proxy: kitchen, timeout: {timeout} }} ] }} }}"
        )
    };
    let gateway = gateway(&yaml("5s"), &[("kitchen", backend.address())]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for kept in [true, false] {
            let (gateway, over) = (&gateway, &over);
            scope.spawn(move || {
                let mut client = gateway.h2();
                while !over.load(Ordering::Relaxed) {
                    if !kept {
                        client = gateway.h2();
                    }
                    let streams: Vec<u32> = (0..5).map(|_| client.open("POST", "/x", &[])).collect();
                    for stream in streams {
                        client.data(stream, "body", true);
                        assert_eq!(client.response(stream).text(), "x");
                    }
                }
            });
        }
        for _ in 0..50 {
            gateway.publish(&yaml("5s"));
            gateway.publish(&yaml("9s"));
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_connection_beyond_the_limit_does_not_wait_for_anything() {
    let backend = Backend::named("x");
    let gateway = to_kitchen("connections: 2", &backend);
    let (mut first, mut second) = (gateway.h2(), gateway.h2());
    let mut third = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    let _ = third.try_send_bytes(maitred_testkit::h2::PREFACE);
    // Told so in whatever words, and left.
    let outcome = third.try_ending();
    assert!(!matches!(outcome, Err(H2Broken::Silent)), "{outcome:?}");
    assert_eq!((first.get("/").text().as_str(), second.get("/").text().as_str()), ("x", "x"));
}

#[test]
fn what_a_slow_client_has_still_to_read_outlives_the_connection() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.wait(&seen);
        // As much as the kernel takes ahead of the client, and a little more.
        conn.answer(200, "", vec![b'x'; 150_000]);
    });
    let gateway = gateway_to(&backend);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a buffer size");
    socket.connect(&gateway.address().into()).expect("a listener");
    let mut client = H2Client::over(Stream::plain(socket).expect("a socket that works"));
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]));
    client.send(Frame::window(0, 0x7000_0000));
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    gateway.begin_drain();
    eventually("it says so", || !client.goaways().is_empty());
    client.ping();
    latch.open();
    let open = || gateway.metrics().workers.iter().map(|shard| shard.requests_open.get()).sum::<u64>();
    eventually("all is handed over", || open() == 0);
    std::thread::sleep(Duration::from_millis(100));
    // Whoever has closed by now answers this with a reset, and forgets what was on its way.
    client.send(Frame::ping([7; 8]));
    assert_eq!(client.response(stream).body.len(), 150_000);
    client.expect_closed();
}
