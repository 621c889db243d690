//! HTTP/2 towards back ends: what one may do by RFC 9113, however unusual, and the gateway keeps to: padding, pieces, windows and tables
//! that shrink, streams that are divided by a GOAWAY. What one may not do stands in `h2_upstream_rules.rs`.

use maitred_testkit::h2::{Frame, code, hpack, setting};
use maitred_testkit::{Client, H2Backend, H2Options, Latch, eventually, gateway_to_h2c, stays};

fn head(stream: u32) -> Frame {
    Frame::headers(stream, hpack::block(&[(":status", "200")]), false)
}

#[test]
fn a_block_in_many_pieces_is_an_answer() {
    let backend = H2Backend::new(|_, stream| {
        let block = hpack::block(&[(":status", "200"), ("x-long", &"y".repeat(32_000))]);
        let mut frames = vec![Frame::headers(stream.id(), [], false).unfinished()];
        let pieces: Vec<&[u8]> = block.chunks(block.len().div_ceil(32)).collect();
        for (at, piece) in pieces.iter().enumerate() {
            frames.push(Frame::continuation(stream.id(), *piece, at + 1 == pieces.len()));
        }
        stream.frames(&frames);
        stream.data("x", false);
        let trailers = hpack::block(&[("x-sum", "1")]);
        stream.frames(&[
            Frame::headers(stream.id(), &trailers[..2], true).unfinished(),
            Frame::continuation(stream.id(), &trailers[2..], true),
        ]);
    });
    let gateway = gateway_to_h2c(&backend);
    let response = gateway.h2().request("GET", "/", &[("te", "trailers")], "");
    assert_eq!((response.text().as_str(), response.header("x-long").map(str::len)), ("x", Some(32_000)));
    assert_eq!(response.trailers.get("x-sum"), Some("1"));
}

#[test]
fn padding_is_taken_off_and_given_back() {
    const COUNT: usize = 3000;
    let backend = H2Backend::new(|_, stream| {
        let id = stream.id();
        stream.interim(103, &[("link", "</a>")]);
        stream.frame(head(id).padded(200));
        for _ in 0..COUNT {
            // 257 bytes of window for one byte: eleven times a stream's, if nothing came back.
            if !stream.wait_for_window(257) {
                return;
            }
            stream.frame(Frame::data(id, "x", false).padded(255));
        }
        stream.frame(Frame::headers(id, hpack::block(&[("x-sum", "1")]), true).padded(7));
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    client.flowing();
    let response = client.request("GET", "/", &[("te", "trailers")], "");
    assert_eq!((response.body.len(), response.trailers.get("x-sum")), (COUNT, Some("1")));
}

#[test]
fn windows_that_shrink_below_nothing_are_kept_to() {
    let latch = Latch::new();
    let seen = latch.clone();
    let options = H2Options { flowing: false, ..H2Options::default() };
    let backend = H2Backend::with(options, move |_, stream| {
        let mut got = stream.exactly(65_535).len();
        stream.frame(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]));
        stream.ping();
        // It stands at 10 - 65535. The back end of the kit complains of a byte too much.
        stream.grant(65_525);
        stream.ping();
        stream.wait(&seen);
        stream.grant(5);
        got += stream.exactly(5).len();
        stream.frame(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)]));
        got += stream.exactly(990).len();
        stream.grant(1 << 20);
        got += stream.body().len() - got;
        stream.answer(200, &[], got.to_string());
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let _ = client.try_send(vec![b'x'; 100_000]);
    backend.wait_for(1);
    eventually("the window is used up", || backend.received() == 65_535);
    assert_eq!(stays("nothing more comes", || backend.received()), 65_535);
    latch.open();
    assert_eq!(client.response().text(), "100000");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn streams_that_open_after_a_window_shrank_begin_with_it() {
    let options = H2Options { flowing: false, ..H2Options::default() };
    let backend = H2Backend::with(options, |request, stream| {
        if request.method == "GET" {
            stream.answer(200, &[], "x");
            return;
        }
        let first = stream.exactly(7).len();
        stream.grant(1000);
        let all = stream.body().len();
        stream.answer(200, &[], format!("{first} {all}"));
    });
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.get("/").text(), "x");
    backend.tell_all(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 7)]));
    // The settings come before the answer.
    assert_eq!(gateway.get("/").text(), "x");
    assert_eq!(gateway.ask("POST", "/", "", &"x".repeat(500)).text(), "7 500");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn a_table_that_shrinks_is_said_so_first() {
    let backend = H2Backend::named("x");
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    let ask = |client: &mut Client| {
        for _ in 0..3 {
            assert_eq!(client.request("GET", "/", "X-A: abcdefghijklmnop\r\nX-B: 1\r\n", "").text(), "x");
        }
    };
    ask(&mut client);
    for size in [0, 4096, 100, 0, 65_536, 40, 4096] {
        backend.tell_all(&Frame::settings(&[(setting::HEADER_TABLE_SIZE, size)]));
        // The decoder of the kit wants a change of size before any field, and no field that its table does not have.
        ask(&mut client);
        assert!(backend.complaints().is_empty(), "{size}: {:?}", backend.complaints());
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_table_that_shrinks_and_grows_at_once_is_emptied() {
    let backend = H2Backend::named("x");
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.request("GET", "/", "X-A: abcdefghijklmnop\r\nX-B: 1\r\n", "").text(), "x");
        // RFC 7541 §4.2: of several changes between two blocks the smallest must be said too. What it drove out is gone.
        backend.tell_all(&Frame::settings(&[(setting::HEADER_TABLE_SIZE, 0), (setting::HEADER_TABLE_SIZE, 4096)]));
    }
    assert_eq!((backend.connections(), backend.complaints()), (1, Vec::new()));
}

#[test]
fn frames_are_as_long_as_the_back_end_allows() {
    let backend = H2Backend::new(|_, stream| {
        stream.grant(1 << 20);
        let length = stream.body().len();
        stream.answer(200, &[], length.to_string());
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    let body = "x".repeat(300_000);
    for size in [16_384, 1 << 20, 16_384, (1 << 24) - 1, 20_000] {
        assert_eq!(client.request("POST", "/", "", &body).text(), "300000");
        backend.tell_all(&Frame::settings(&[(setting::MAX_FRAME_SIZE, size)]));
        assert_eq!(client.request("POST", "/", &format!("X-Long: {}\r\n", "y".repeat(30_000)), &body).text(), "300000");
    }
    assert_eq!((backend.connections(), backend.complaints()), (1, Vec::new()));
}

#[test]
fn a_maximum_of_none_sends_requests_elsewhere() {
    let backend = H2Backend::named("x");
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.get("/").text(), "x");
    backend.tell_all(&Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]));
    // The settings may not have come; then this one is refused and sent again.
    for _ in 0..3 {
        assert_eq!(gateway.get("/").text(), "x");
    }
    assert_eq!((backend.connections(), backend.complaints()), (2, Vec::new()));
}

#[test]
fn a_goaway_divides_the_streams_that_are_under_way() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = H2Backend::new(move |request, stream| {
        if request.connection == 0 && request.path != "/warm" {
            stream.wait(&seen);
        }
        stream.answer(200, &[], request.connection.to_string());
    });
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.get("/warm").text(), "0");
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
        backend.wait_for(at + 2);
    }
    let last = backend.requests()[2].stream;
    backend.tell_all(&Frame::goaway(0x7fff_ffff, code::NO_ERROR));
    backend.tell_all(&Frame::goaway(last, code::NO_ERROR));
    for client in &mut clients[2..] {
        assert_ne!(client.response().text(), "0", "behind the last");
    }
    latch.open();
    assert_eq!((clients[0].response().text().as_str(), clients[1].response().text().as_str()), ("0", "0"), "up to it");
    eventually("the old connection is closed", || backend.open() == backend.connections() - 1);
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn a_goaway_with_an_error_is_no_answer_to_what_it_took() {
    let backend = H2Backend::new(|_, stream| {
        stream.goaway(stream.id(), code::INTERNAL_ERROR);
        stream.close();
    });
    let gateway = gateway_to_h2c(&backend);
    let response = gateway.ask("POST", "/", "", "x");
    assert_eq!(response.status, 502, "{response:?}");
    assert_eq!(backend.count(), 1, "it was taken up, and is not repeated");
}

#[test]
fn what_comes_behind_the_gateway_s_reset_is_read_and_dropped() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = H2Backend::new(move |request, stream| {
        if request.path == "/good" {
            let kept: &[u8] = &[hpack::indexed(62), hpack::literal("content-length", "1")].concat();
            stream.block(&[hpack::block(&[(":status", "200")]), kept.to_vec()].concat(), false);
            stream.data("x", true);
            return;
        }
        stream.cancelled();
        // As if it had been on its way: a head that changes the table, and as much of a body as the connection's window has.
        stream.frame(Frame::headers(
            stream.id(),
            [hpack::block(&[(":status", "200")]), hpack::remembered("x-kept", "1")].concat(),
            false,
        ));
        for _ in 0..10 {
            stream.frame(Frame::data(stream.id(), vec![0; 6000], false));
        }
        seen.open();
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[]);
    backend.wait_for(1);
    client.reset(stream, code::CANCEL);
    latch.wait();
    let response = client.get("/good");
    assert_eq!((response.text().as_str(), response.header("x-kept")), ("x", Some("1")));
    assert_eq!((backend.connections(), backend.goaways().len()), (1, 0));
}

#[test]
fn resets_and_goaways_with_codes_that_nobody_knows_are_no_different() {
    for code in [0xdead_beef, code::NO_ERROR, code::HTTP_1_1_REQUIRED] {
        let backend = H2Backend::new(move |_, stream| {
            stream.body();
            stream.reset(code);
        });
        let gateway = gateway_to_h2c(&backend);
        assert_eq!(gateway.ask("POST", "/", "", "x").status, 502, "code {code:#x}");
        assert_eq!(backend.count(), 1, "code {code:#x}");
    }
}

#[test]
fn frames_that_nobody_knows_are_ignored() {
    let backend = H2Backend::new(|_, stream| {
        let id = stream.id();
        stream.frames(&[
            Frame::unknown(0),
            Frame::unknown(id),
            Frame::priority(id, 0, 1),
            Frame::priority(99, 0, 1),
            Frame::settings(&[(0xaaaa, 7), (setting::ENABLE_PUSH, 0)]),
            Frame::ping_ack([9; 8]),
            // ALTSVC and ORIGIN.
            Frame::new(0xa, 0, 0, *b"\0\0h2"),
            Frame::new(0xc, 0, 0, *b"\0\x03a.b"),
            head(id).with_flags(0x40),
            Frame::unknown(id),
            Frame::data(id, "x", false).with_flags(0x80 | 0x20),
            Frame::data(id, "", true),
        ]);
    });
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.get("/").text(), "x");
    assert_eq!((backend.connections(), backend.complaints()), (1, Vec::new()));
}

#[test]
fn answers_come_in_every_order() {
    let backend = H2Backend::new(|_, stream| {
        for _ in 0..3 {
            stream.interim(103, &[("link", "</a>")]);
        }
        stream.interim(100, &[]);
        stream.head(200, &[], false);
        stream.data("", false);
        stream.data("early", false);
        stream.body();
        stream.data(" and late", false);
        stream.trailers(&[]);
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    assert_eq!(client.body(stream, 5), b"early", "while the request is under way");
    client.data(stream, "x", true);
    assert_eq!(client.response(stream).text(), "early and late");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}
