//! HTTP/2 towards back ends that break the rules of RFC 9113: the client gets a 502, and the back end is told what it did, with the
//! code that the section names, for its stream or for its connection. What it may do stands in `h2_upstream_spec.rs`.

use maitred_testkit::h2::{Frame, code, flag, hpack, kind, setting};
use maitred_testkit::{Broken, Client, H2Backend, H2Broken, H2Options, H2Stream, eventually, gateway_to_h2c};
use std::time::{Duration, Instant};

/// Longer than this and the back end is not told at all: a whole table of that must not outlast anybody's patience.
const SOON: Duration = Duration::from_secs(2);

/// What it does, behind a request whose body has not ended.
type Wrong = Box<dyn Fn(&mut H2Stream) -> bool + Send + Sync>;

fn frames(frames: impl Fn(u32) -> Vec<Frame> + Send + Sync + 'static) -> Wrong {
    Box::new(move |stream| stream.frames(&frames(stream.id())))
}

fn frame(frame: Frame) -> Wrong {
    frames(move |_| vec![frame.clone()])
}

/// A head of which more is to come.
fn head(fields: &[(&str, &str)]) -> Wrong {
    block(hpack::block(fields))
}

fn block(block: Vec<u8>) -> Wrong {
    frames(move |stream| vec![Frame::headers(stream, block.clone(), false)])
}

fn ok(stream: u32) -> Frame {
    Frame::headers(stream, hpack::block(&[(":status", "200")]), false)
}

/// How the back end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// RST_STREAM; the connection goes on.
    Stream,
    /// GOAWAY, and the end of the connection.
    Connection,
    /// Either: section 5.4.2 lets an error of a stream be one of the connection, where its reader may have lost its place.
    Either,
}

/// A back end that breaks a rule before it answers. The client asks with a body that does not end, so that the stream is open.
fn broken(what: &str, wrong: Wrong, told: Told, code: u32) -> Result<(), String> {
    let backend = H2Backend::new(move |request, stream| {
        if request.path == "/good" {
            stream.answer(200, &[], "x");
            return;
        }
        wrong(stream);
        stream.cancelled();
    });
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.get("/good").text(), "x");
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    let outcome = match client.try_response(stream) {
        Ok(response) if response.status != 502 => Err(format!("the client got {}", response.status)),
        Err(H2Broken::Reset(_)) | Ok(_) => Ok(()),
        Err(broken) => Err(format!("the client got {broken:?}")),
    };
    let codes = || {
        let reset = backend.requests().get(1).and_then(|request| request.reset);
        (reset, backend.goaways().first().map(|goaway| goaway.code))
    };
    let is_right = || match told {
        Told::Stream => codes() == (Some(code), None),
        Told::Connection => codes().1 == Some(code),
        Told::Either => codes().1.or(codes().0) == Some(code),
    };
    let deadline = Instant::now() + SOON;
    while !is_right() && backend.open() > 0 && Instant::now() < deadline {
        client.pump();
    }
    if !is_right() {
        return Err(format!("wanted {told:?} with {code}, and RST_STREAM and GOAWAY had {:?}", codes()));
    }
    outcome?;
    assert_eq!(gateway.get("/good").text(), "x", "{what}: others are served");
    assert_eq!(client.try_ping(), Ok(()), "{what}: the client's connection has no part in it");
    if told == Told::Stream && backend.connections() != 1 {
        return Err("the connection should go on".to_owned());
    }
    let complaints = backend.complaints();
    if complaints.is_empty() { Ok(()) } else { Err(format!("{complaints:?}")) }
}

/// All of them, and what is wrong with each.
#[track_caller]
fn are_told<'a>(cases: impl IntoIterator<Item = (&'a str, Wrong, Told, u32)>) {
    let wrong = cases
        .into_iter()
        .filter_map(|(what, wrong, told, code)| broken(what, wrong, told, code).err().map(|why| format!("{what}: {why}")));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_malformed_answer_is_an_error_of_its_stream() {
    are_told(
        [
            ("no status", head(&[("x-a", "1")])),
            ("two of them", head(&[(":status", "200"), (":status", "200")])),
            ("a status of four digits", head(&[(":status", "2000")])),
            ("a status that is no number", head(&[(":status", "2x0")])),
            ("101", head(&[(":status", "101")])),
            ("upper case", head(&[(":status", "200"), ("X-Up", "1")])),
            ("no name", head(&[(":status", "200"), ("", "1")])),
            ("a name with a blank", head(&[(":status", "200"), ("x a", "1")])),
            ("connection", head(&[(":status", "200"), ("connection", "close")])),
            ("keep-alive", head(&[(":status", "200"), ("keep-alive", "5")])),
            ("upgrade", head(&[(":status", "200"), ("upgrade", "h3")])),
            ("a coding of transfer", head(&[(":status", "200"), ("transfer-encoding", "chunked")])),
            ("a value with a line", head(&[(":status", "200"), ("x-a", "1\r\nx-b: 2")])),
            ("a value with a zero", head(&[(":status", "200"), ("x-a", "1\0")])),
            ("a pseudo-field behind a field", head(&[("x-a", "1"), (":status", "200")])),
            ("a pseudo-field of requests", head(&[(":status", "200"), (":path", "/")])),
            ("an unknown pseudo-field", head(&[(":status", "200"), (":odd", "1")])),
            ("a length that is none", head(&[(":status", "200"), ("content-length", "x")])),
            ("two lengths", head(&[(":status", "200"), ("content-length", "5"), ("content-length", "6")])),
            ("DATA before the head", frames(|stream| vec![Frame::data(stream, "x", false)])),
            (
                "a hint and DATA",
                frames(|stream| {
                    vec![Frame::headers(stream, hpack::block(&[(":status", "103")]), false), Frame::data(stream, "x", false)]
                }),
            ),
        ]
        .map(|(what, wrong)| (what, wrong, Told::Stream, code::PROTOCOL_ERROR)),
    );
}

#[test]
fn an_answer_that_becomes_malformed_is_an_error_of_its_stream() {
    let sized = |length: &'static str| Frame::headers(0, hpack::block(&[(":status", "200"), ("content-length", length)]), false);
    let trailers = |fields: &[(&str, &str)], end| Frame::headers(0, hpack::block(fields), end);
    let both = |first: Frame, second: Frame| {
        frames(move |stream| vec![Frame { stream, ..first.clone() }, Frame { stream, ..second.clone() }])
    };
    are_told(
        [
            ("more than its length", both(sized("3"), Frame::data(0, "abcd", false))),
            ("more than its length, and the end", both(sized("3"), Frame::data(0, "abcd", true))),
            ("less than its length", both(sized("3"), Frame::data(0, "ab", true))),
            ("nothing of its length", both(sized("3"), trailers(&[("x-sum", "1")], true))),
            ("trailers that do not end it", both(ok(0), trailers(&[("x-sum", "1")], false))),
            ("a second head", both(ok(0), trailers(&[(":status", "200")], false))),
            ("a hint behind the head", both(ok(0), trailers(&[(":status", "103")], false))),
            ("trailers with a status", both(ok(0), trailers(&[(":status", "200")], true))),
            ("trailers in upper case", both(ok(0), trailers(&[("X-Sum", "1")], true))),
            ("trailers with a field of the connection's", both(ok(0), trailers(&[("connection", "close")], true))),
            ("a window by nothing", frames(|stream| vec![Frame::window(stream, 0)])),
        ]
        .map(|(what, wrong)| (what, wrong, Told::Stream, code::PROTOCOL_ERROR)),
    );
}

#[test]
fn a_whole_answer_that_is_malformed_is_a_502() {
    // The stream is over for both sides: nobody is left to be told.
    for fields in [&[(":status", "103")][..], &[(":status", "200"), ("content-length", "5")], &[("x-a", "1")]] {
        let all = hpack::block(fields);
        let backend = H2Backend::new(move |_, stream| {
            stream.block(&all, true);
        });
        let gateway = gateway_to_h2c(&backend);
        let response = gateway.h2().get("/");
        assert_eq!(response.status, 502, "{fields:?}: {response:?}");
        let reset = backend.last().reset;
        assert!(matches!(reset, None | Some(code::PROTOCOL_ERROR)), "{fields:?}: {reset:?}");
    }
}

#[test]
fn what_cannot_be_decompressed_ends_the_connection() {
    let start = hpack::block(&[(":status", "200")]);
    are_told(
        [
            ("an index beyond both tables", hpack::indexed(70)),
            ("index 0", vec![0x80]),
            ("a string that breaks off", vec![0x00, 0x05, b'a']),
            ("a table larger than allowed", hpack::table_size(1 << 20)),
            ("a table's size behind a field", [start.clone(), hpack::table_size(0)].concat()),
            ("an integer without end", [start.clone(), vec![0xff; 12]].concat()),
            ("Huffman's code with padding of zeros", [start.clone(), vec![0x00, 0x01, b'a', 0x81, 0x00]].concat()),
            ("Huffman's code with its end", [start, vec![0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]].concat()),
        ]
        .map(|(what, wrong)| (what, block(wrong), Told::Connection, code::COMPRESSION_ERROR)),
    );
}

#[test]
fn frames_that_are_wrong_end_the_connection() {
    let status = hpack::block(&[(":status", "200")]);
    let (protocol, size, flow) = (code::PROTOCOL_ERROR, code::FRAME_SIZE_ERROR, code::FLOW_CONTROL_ERROR);
    let push = |stream| Frame::push_promise(stream, 2, &hpack::block(&[(":method", "GET")]));
    let long = |stream| {
        let mut frame = Frame::data(stream, [0; 10], false).with_flags(flag::PADDED);
        frame.payload[0] = 10;
        frame
    };
    let half = |stream| {
        let block = hpack::block(&[(":status", "200"), ("x-a", "1")]);
        (Frame::headers(stream, &block[..6], false).unfinished(), Frame::continuation(stream, &block[6..], true))
    };
    let setting = |name, value| frame(Frame::settings(&[(name, value)]));
    are_told(
        [
            ("DATA of stream 0", frame(Frame::data(0, "x", false)), protocol),
            ("HEADERS of stream 0", frame(Frame::headers(0, status.clone(), false)), protocol),
            ("a stream of its own", frame(Frame::headers(2, status.clone(), true)), protocol),
            ("HEADERS of a stream that nobody opened", frame(Frame::headers(99, status, true)), protocol),
            ("DATA of a stream that nobody opened", frame(Frame::data(99, "x", true)), protocol),
            ("RST_STREAM of a stream that nobody opened", frame(Frame::reset(99, 8)), protocol),
            ("WINDOW_UPDATE of a stream that nobody opened", frame(Frame::window(99, 1)), protocol),
            ("RST_STREAM of stream 0", frame(Frame::reset(0, 8)), protocol),
            ("RST_STREAM of three bytes", frames(|stream| vec![Frame::new(kind::RST_STREAM, 0, stream, [0; 3])]), size),
            ("a push", frames(move |stream| vec![push(stream)]), protocol),
            ("a push from nowhere", frames(move |_| vec![push(0)]), protocol),
            ("SETTINGS of five bytes", frame(Frame::new(kind::SETTINGS, 0, 0, [0; 5])), size),
            ("SETTINGS of a stream", frame(Frame::new(kind::SETTINGS, 0, 1, [])), protocol),
            ("an acknowledgement with settings", frame(Frame::settings(&[(3, 1)]).with_flags(flag::ACK)), size),
            ("leave to push", setting(setting::ENABLE_PUSH, 1), protocol),
            ("more than leave to push", setting(setting::ENABLE_PUSH, 2), protocol),
            ("a window of 2 GiB", setting(setting::INITIAL_WINDOW_SIZE, 0x8000_0000), flow),
            ("frames too short", setting(setting::MAX_FRAME_SIZE, 16_383), protocol),
            ("frames too long", setting(setting::MAX_FRAME_SIZE, 1 << 24), protocol),
            ("tunnels twice", setting(setting::ENABLE_CONNECT_PROTOCOL, 2), protocol),
            ("PING of seven bytes", frame(Frame::new(kind::PING, 0, 0, [0; 7])), size),
            ("PING of a stream", frame(Frame::new(kind::PING, 0, 1, [0; 8])), protocol),
            ("GOAWAY of seven bytes", frame(Frame::new(kind::GOAWAY, 0, 0, [0; 7])), size),
            ("GOAWAY of a stream", frame(Frame::new(kind::GOAWAY, 0, 1, [0; 8])), protocol),
            ("a window by nothing", frame(Frame::window(0, 0)), protocol),
            ("a window of the connection that overflows", frame(Frame::window(0, 0x7fff_ffff)), flow),
            ("WINDOW_UPDATE of three bytes", frame(Frame::new(kind::WINDOW_UPDATE, 0, 0, [0; 3])), size),
            ("CONTINUATION of nothing", frames(|stream| vec![Frame::continuation(stream, [0x88], true)]), protocol),
            ("CONTINUATION of stream 0", frame(Frame::continuation(0, [0x88], true)), protocol),
            ("a ping within a block", frames(move |stream| vec![half(stream).0, Frame::ping([0; 8])]), protocol),
            ("what nobody knows within a block", frames(move |stream| vec![half(stream).0, Frame::unknown(stream)]), protocol),
            ("another block within a block", frames(move |stream| vec![half(stream).0, half(stream + 2).1]), protocol),
            ("padding as long as its frame", frames(move |stream| vec![ok(stream), long(stream)]), protocol),
            ("HEADERS longer than announced", frames(|stream| vec![Frame::headers(stream, vec![0x88; 16_385], false)]), size),
        ]
        .map(|(what, wrong, code)| (what, wrong, Told::Connection, code)),
    );
}

#[test]
fn frames_that_are_wrong_end_their_stream() {
    let (size, flow) = (code::FRAME_SIZE_ERROR, code::FLOW_CONTROL_ERROR);
    are_told(
        [
            ("DATA longer than announced", frames(|stream| vec![ok(stream), Frame::data(stream, vec![0; 16_385], false)]), size),
            ("PRIORITY of four bytes", frames(|stream| vec![Frame::new(kind::PRIORITY, 0, stream, [0; 4])]), size),
            ("a window that overflows", frames(|stream| vec![Frame::window(stream, 0x7fff_ffff)]), flow),
        ]
        .map(|(what, wrong, code)| (what, wrong, Told::Either, code)),
    );
}

#[test]
fn nothing_follows_the_end_of_an_answer() {
    for late in [Frame::data(0, "late", true), Frame::headers(0, hpack::block(&[("x-late", "1")]), true)] {
        let what = format!("{late:?}");
        let backend = H2Backend::new(move |_, stream| {
            let id = stream.id();
            stream.frames(&[ok(id), Frame::data(id, "x", true), Frame { stream: id, ..late.clone() }]);
            stream.cancelled();
        });
        let gateway = gateway_to_h2c(&backend);
        let mut client = gateway.h2();
        // Its body has not ended, and no reset of the gateway's can have crossed what is late.
        let stream = client.open("POST", "/", &[]);
        let _ = client.try_response(stream);
        let told = || backend.goaways().first().map(|goaway| goaway.code).or(backend.only().reset);
        eventually("the back end is told", || told().is_some());
        assert_eq!(told(), Some(code::STREAM_CLOSED), "{what}");
        client.ping();
    }
}

#[test]
fn a_connection_ends_behind_its_goaway() {
    let backend = H2Backend::new(|_, stream| {
        stream.frames(&[Frame { stream: stream.id(), ..Frame::ping([0; 8]) }]);
        stream.cancelled();
    });
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.get("/").status, 502);
    eventually("the back end is told", || backend.goaways().iter().any(|goaway| goaway.code == code::PROTOCOL_ERROR));
    // Section 5.4.1. Nobody asks anew, which would make the gateway look at what it keeps, and now and then it looks by itself.
    let told = Instant::now();
    eventually("the connection is closed", || backend.open() == 0);
    assert!(told.elapsed() < SOON, "closed after {:?}", told.elapsed());
}

#[test]
fn settings_come_first() {
    for greeting in [Frame::ping([0; 8]), Frame::window(0, 1), Frame::settings_ack(), Frame::goaway(0, code::NO_ERROR)] {
        let what = format!("{greeting:?}");
        let backend = H2Backend::with(H2Options { greeting: Some(greeting), ..H2Options::default() }, |_, stream| {
            stream.answer(200, &[], "x");
        });
        let gateway = gateway_to_h2c(&backend);
        assert!(gateway.get("/").status >= 502, "{what}");
        eventually("it is told, or left", || backend.open() == 0);
        assert!(backend.goaways().iter().all(|goaway| goaway.code == code::PROTOCOL_ERROR), "{what}: {:?}", backend.goaways());
    }
}

#[test]
fn a_back_end_that_sends_beyond_its_window_is_stopped() {
    let backend = H2Backend::new(|_, stream| {
        stream.head(200, &[], false);
        // Nobody takes it: the window is not opened again.
        while !stream.is_over() && stream.frame(Frame::data(stream.id(), vec![0; 16_384], false)) {}
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = Client::connect_slow_reader(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let told =
        || backend.goaways().last().map(|goaway| goaway.code).or(backend.requests().last().and_then(|request| request.reset));
    eventually("it is told", || told().is_some());
    assert_eq!(told(), Some(code::FLOW_CONTROL_ERROR));
    let outcome = client.try_response("GET").map(|response| response.status);
    assert!(matches!(outcome, Err(Broken::BodyCut(_) | Broken::Reset(_))), "it must not look whole: {outcome:?}");
}

#[test]
fn a_length_that_is_not_true_resets_the_client_s_stream() {
    for (sent, length) in [("short", "10"), ("too long", "3")] {
        let backend = H2Backend::new(move |_, stream| {
            stream.head(200, &[("content-length", length)], false);
            stream.data(&sent[..2], false);
            stream.data(&sent[2..], true);
        });
        let gateway = gateway_to_h2c(&backend);
        let mut client = gateway.h2();
        let stream = client.ask("GET", "/", &[]);
        match client.try_response(stream) {
            Ok(response) => assert_eq!(response.status, 502, "{sent}: {response:?}"),
            Err(broken) => assert!(matches!(broken, H2Broken::Reset(_)), "{sent}: {broken:?}"),
        }
        client.ping();
    }
}

#[test]
fn a_block_that_never_ends_ends_the_connection() {
    let endless: [(&str, Vec<u8>); 2] = [("nothing", Vec::new()), ("much", hpack::literal("x-more", "y".repeat(1000)))];
    for (what, piece) in endless {
        let backend = H2Backend::new(move |_, stream| {
            stream.frame(Frame::headers(stream.id(), [0x88], false).unfinished());
            // Far beyond any limit; the connection is cut meanwhile.
            for _ in 0..50_000 {
                if stream.is_over() || !stream.frame(Frame::continuation(stream.id(), piece.clone(), false)) {
                    break;
                }
            }
            stream.cancelled();
        });
        let gateway = gateway_to_h2c(&backend);
        let response = gateway.get("/");
        assert_eq!(response.status, 502, "{what}: {response:?}");
        eventually("the connection is left", || backend.open() == 0);
        let goaway = backend.goaways().last().map(|goaway| goaway.code);
        assert!(matches!(goaway, None | Some(code::ENHANCE_YOUR_CALM | code::PROTOCOL_ERROR)), "{what}: {goaway:?}");
    }
}
