//! HTTP/2 towards clients: what conformance suites ask for and the other journeys do not, in the order of RFC 9113 and RFC 7541. What
//! may be said in several ways is understood in all of them; what may not has the code that the section names.

use crate::breaking::{GET, ends_with, get, never, plain, post};
use maitred_testkit::h2::{Frame, code, flag, hpack, kind, setting};
use maitred_testkit::{Backend, H2Broken, H2Client, Latch, Stream, eventually, gateway, gateway_to};

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

/// A back end that answers once it is let, and how.
fn waiting() -> (Backend, Latch) {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "x");
    (backend, latch)
}

/// These frames break a rule on stream 1, and this is its code, for the stream or for the connection; the others live on.
#[track_caller]
fn fails_with(what: &str, code: u32, frames: &[Frame]) {
    let (gateway, _backend) = never();
    let mut other = gateway.h2();
    let mut client = gateway.h2();
    client.send_all(&[], frames);
    assert_eq!(client.stream_error(1), Some(code), "{what}");
    other.ping();
}

// Section 4.2: sizes.

#[test]
fn what_is_too_short_for_its_fields_is_an_error() {
    let gateway = plain();
    let short = |frame: Frame, flags, length| {
        let mut frame = frame.with_flags(flags);
        frame.payload.truncate(length);
        frame
    };
    let size = code::FRAME_SIZE_ERROR;
    ends_with(&gateway, "HEADERS too short for a priority", size, &[short(get(1), flag::PRIORITY, 4)]);
    ends_with(&gateway, "RST_STREAM of five bytes", size, &[post(1), Frame::new(kind::RST_STREAM, 0, 1, [0; 5])]);
    ends_with(&gateway, "RST_STREAM of nothing", size, &[post(1), Frame::new(kind::RST_STREAM, 0, 1, [])]);
    ends_with(&gateway, "WINDOW_UPDATE of five bytes", size, &[Frame::new(kind::WINDOW_UPDATE, 0, 0, [0, 0, 0, 1, 0])]);
    ends_with(&gateway, "WINDOW_UPDATE of a stream", size, &[post(1), Frame::new(kind::WINDOW_UPDATE, 0, 1, [0; 3])]);
    ends_with(&gateway, "PING of nothing", size, &[Frame::new(kind::PING, 0, 0, [])]);
    ends_with(&gateway, "SETTINGS of seven bytes", size, &[Frame::new(kind::SETTINGS, 0, 0, [0; 7])]);
    fails_with("PRIORITY of six bytes", size, &[post(1), Frame::new(kind::PRIORITY, 0, 1, [0; 6])]);
}

#[test]
fn continuations_are_no_longer_than_announced() {
    let gateway = plain();
    let begun = Frame::headers(1, hpack::block(&GET), true).unfinished();
    let long = Frame::continuation(1, vec![0; 16_385], true);
    ends_with(&gateway, "CONTINUATION", code::FRAME_SIZE_ERROR, &[begun, long]);
}

// Section 5.1: states.

#[test]
fn a_half_closed_stream_takes_no_continuation() {
    let (gateway, _backend) = never();
    let mut client = gateway.h2();
    client.send_all(&[], &[get(1), Frame::continuation(1, hpack::block(&GET), true)]);
    client.expect_goaway(code::PROTOCOL_ERROR);
}

#[test]
fn nothing_follows_the_client_s_own_reset() {
    for (late, wanted) in [
        (Frame::data(1, "late", true), code::STREAM_CLOSED),
        (Frame::headers(1, hpack::block(&[("x-late", "1")]), true), code::STREAM_CLOSED),
        (Frame::continuation(1, hpack::block(&GET), true), code::PROTOCOL_ERROR),
    ] {
        fails_with(&format!("{late:?}"), wanted, &[post(1), Frame::reset(1, code::CANCEL), late]);
    }
    let (gateway, _backend) = never();
    let mut client = gateway.h2();
    client.send_all(
        &[],
        &[post(1), Frame::reset(1, code::CANCEL), Frame::priority(1, 0, 1), Frame::window(1, 1), Frame::reset(1, code::CANCEL)],
    );
    client.ping();
    assert_eq!(client.was_reset(1), None, "what may have been on its way does no harm");
}

#[test]
fn what_comes_behind_the_gateway_s_reset_is_read_and_dropped() {
    let backend = Backend::echo();
    let yaml = "limits: { h2_streams: 2, h2_window: 64KiB }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"ANY /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let wrong = [hpack::block(&GET), hpack::literal("connection", "close")].concat();
    // More in all than the connection's window: it must be given back, whoever threw the bytes away.
    for at in 0..20 {
        let stream = client.next_stream();
        client.send(Frame::headers(stream, wrong.clone(), false));
        client.expect_malformed(stream);
        assert!(client.data(stream, vec![0; 50_000], false) || client.was_reset(stream).is_some());
        client.send(Frame::headers(stream, hpack::remembered("x-kept", at.to_string()), true));
        client.ping();
    }
    assert_eq!(backend.count(), 0);
    client.flowing();
    let stream = client.next_stream();
    let start = [hpack::block(&[&[(":method", "POST")], &GET[1..]].concat()), hpack::indexed(62)].concat();
    client.send(Frame::headers(stream, start, false));
    assert!(client.data(stream, vec![b'x'; 300_000], true));
    assert_eq!(client.response(stream).json()["body_length"], 300_000);
    assert_eq!(backend.only().header("x-kept"), Some("19"), "the fields of trailers that were dropped are in the table");
}

#[test]
fn streams_that_were_passed_over_are_closed() {
    let gateway = plain();
    let wrong = code::PROTOCOL_ERROR;
    ends_with(&gateway, "an even one behind an odd one", wrong, &[get(1), get(4)]);
    ends_with(&gateway, "DATA of an idle one that is even", wrong, &[get(5), Frame::data(6, "x", true)]);
    ends_with(&gateway, "RST_STREAM of an idle one", wrong, &[get(5), Frame::reset(7, code::CANCEL)]);
    ends_with(&gateway, "WINDOW_UPDATE of an idle one", wrong, &[get(5), Frame::window(7, 1)]);
    let mut client = gateway.h2();
    client.send_all(&[], &[get(5), Frame::window(3, 1), Frame::reset(3, code::CANCEL)]);
    assert_eq!(client.response(5).text(), "x");
    client.ping();
}

// Section 5.3: priorities are not used, but a stream that waits for itself is one that no sender means.

#[test]
fn a_stream_does_not_depend_on_itself() {
    let mut selfish = get(1).with_flags(flag::PRIORITY);
    selfish.payload.splice(0..0, [0, 0, 0, 1, 7]);
    fails_with("HEADERS", code::PROTOCOL_ERROR, &[selfish]);
    fails_with("PRIORITY", code::PROTOCOL_ERROR, &[post(1), Frame::priority(1, 1, 7)]);
}

// Section 5.4.1: errors.

#[test]
fn a_word_and_then_the_end() {
    let gateway = plain();
    let mut client = gateway.h2();
    client.get("/");
    client.send(Frame::new(kind::PING, 0, 0, [0; 5]));
    assert_eq!(client.expect_goaway(code::FRAME_SIZE_ERROR), 1, "the last stream that was taken up");
    eventually("nobody waits for the client to close", || gateway.open() == 0);
}

// Section 6.

#[test]
fn padding_may_be_all_there_is() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.next_stream();
    client.send(Frame { stream, ..post(1) }.padded(0));
    client.send(Frame::data(stream, "abc", false).padded(1));
    client.send(Frame::data(stream, "", false).padded(254));
    client.send(Frame::headers(stream, hpack::block(&[("x-sum", "1")]), true).padded(9));
    assert_eq!(client.response(stream).json()["body"], "abc");
    assert_eq!(backend.only().trailers.get("x-sum"), Some("1"));
}

#[test]
fn padding_and_priority_share_a_head() {
    let gateway = plain();
    let mut frame = get(1).with_flags(flag::PRIORITY);
    frame.payload.splice(0..0, [0, 0, 0, 0, 7]);
    let mut client = gateway.h2();
    client.send(frame.clone().padded(100));
    assert_eq!(client.response(1).text(), "x");
    // The padding reaches into the priority.
    let mut long = frame.padded(100);
    long.payload[0] = (long.payload.len() - 3) as u8;
    ends_with(&gateway, "padding that leaves no room for a priority", code::PROTOCOL_ERROR, &[long]);
}

#[test]
fn padding_of_trailers_has_room() {
    let (gateway, _backend) = never();
    let mut client = gateway.h2();
    let mut trailers = Frame::headers(1, hpack::block(&[("x-sum", "1")]), true).with_flags(flag::PADDED);
    trailers.payload[0] = 255;
    client.send_all(&[], &[post(1), trailers]);
    client.expect_goaway(code::PROTOCOL_ERROR);
}

#[test]
fn settings_count_in_the_order_of_their_standing_there() {
    let backend = Backend::named("slowly");
    let gateway = gateway_to(&backend);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    client.handshake(&[(setting::INITIAL_WINDOW_SIZE, 100), (setting::INITIAL_WINDOW_SIZE, 1)]);
    let stream = client.ask("GET", "/", &[]);
    client.body(stream, 1);
    client.ping();
    assert_eq!(client.received(stream), 1);
    client.grant(stream, 5);
    assert_eq!(client.response(stream).text(), "slowly");
}

#[test]
fn a_window_that_opens_by_settings_moves_streams_that_wait() {
    let backend = Backend::named("slowly");
    let gateway = gateway_to(&backend);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    client.handshake(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let stream = client.ask("GET", "/", &[]);
    client.head(stream);
    for size in [1, 2, 3] {
        client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, size)]));
        client.body(stream, size as usize);
        client.settle();
    }
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]));
    client.settle();
    // It stands at -3.
    client.grant(stream, 3);
    client.ping();
    assert_eq!(client.received(stream), 3);
    client.grant(stream, 3);
    assert_eq!(client.response(stream).text(), "slowly");
}

#[test]
fn frames_that_go_out_are_as_long_as_the_client_allows() {
    // The client of the kit refuses what is longer.
    let backend = Backend::bytes(200_000);
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    client.flowing();
    for size in [16_384, 1 << 20, 16_384, (1 << 24) - 1, 20_000] {
        client.send(Frame::settings(&[(setting::MAX_FRAME_SIZE, size), (setting::INITIAL_WINDOW_SIZE, 1 << 20)]));
        client.settle();
        assert_eq!(client.get("/").body.len(), 200_000);
    }
}

#[test]
fn a_pong_is_not_answered() {
    let gateway = plain();
    let mut client = gateway.h2();
    client.send(Frame::ping_ack([9; 8]));
    client.send(Frame::ping([7; 8]));
    assert_eq!(client.pong(), [7; 8], "the first that comes is the answer to the ping");
}

#[test]
fn the_reserved_bit_of_an_increment_is_ignored() {
    let backend = Backend::named("slowly");
    let gateway = gateway_to(&backend);
    let mut client = H2Client::silent(Stream::connect(gateway.address()).expect("a listener"));
    client.handshake(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let stream = client.ask("GET", "/", &[]);
    client.send(Frame::new(kind::WINDOW_UPDATE, 0, stream, (0x8000_0006_u32).to_be_bytes()));
    // The kit's own books know nothing of such a grant.
    client.grant(stream, 6);
    assert_eq!(client.response(stream).text(), "slowly");
}

#[test]
fn windows_overflow_by_many_small_steps_too() {
    let gateway = plain();
    let half = |stream| Frame::window(stream, 0x4000_0000);
    ends_with(&gateway, "the connection's", code::FLOW_CONTROL_ERROR, &[half(0), half(0)]);
    fails_with("a stream's", code::FLOW_CONTROL_ERROR, &[post(1), half(1), half(1)]);
    let (gateway, _backend) = never();
    let mut client = gateway.h2();
    client.send_all(&[], &[post(1), Frame::window(1, 0x7fff_ffff - 65_535), Frame::window(0, 0x7fff_ffff - 65_535)]);
    client.ping();
    assert_eq!(client.was_reset(1), None, "to the last byte");
}

#[test]
fn a_block_may_come_in_many_pieces() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let start = hpack::block(&GET);
    let mut client = gateway.h2();
    // 32 pieces of 1 KB, of one byte, of a head that has nothing itself.
    for size in [1000, 1] {
        let field = hpack::literal("x-long", "y".repeat(32 * size - 20));
        for (first, rest) in [(start.clone(), field.clone()), (Vec::new(), [start.clone(), field.clone()].concat())] {
            let stream = client.next_stream();
            client.send(Frame::headers(stream, first, true).unfinished());
            let pieces: Vec<&[u8]> = rest.chunks(rest.len().div_ceil(32)).collect();
            for (at, piece) in pieces.iter().enumerate() {
                client.send(Frame::continuation(stream, *piece, at + 1 == pieces.len()));
            }
            assert_eq!(client.response(stream).status, 200, "{} pieces of {size} bytes", pieces.len());
            assert_eq!(backend.last().header("x-long").map(str::len), Some(32 * size - 20));
        }
    }
}

#[test]
fn trailers_may_come_in_pieces() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[]);
    client.data(stream, "abc", false);
    let block = hpack::block(&[("x-sum", "1")]);
    client.send(Frame::headers(stream, &block[..3], true).unfinished());
    client.send(Frame::continuation(stream, &block[3..5], false));
    client.send(Frame::continuation(stream, &block[5..], true));
    assert_eq!(client.response(stream).json()["body"], "abc");
    assert_eq!(backend.only().trailers.get("x-sum"), Some("1"));
}

#[test]
fn a_block_that_is_too_long_for_anybody_is_refused_or_ends_the_connection() {
    let gateway = plain();
    let mut other = gateway.h2();
    let mut client = gateway.h2();
    let stream = client.next_stream();
    client.send(Frame::headers(stream, hpack::block(&GET), true).unfinished());
    let piece = hpack::literal("x-more", "y".repeat(10_000));
    // 400 KB, where limits.header_bytes are 64 KiB.
    for at in 0..40 {
        if client.try_send(Frame::continuation(stream, piece.clone(), at == 39)).is_err() {
            break;
        }
    }
    match client.try_response(stream) {
        Ok(response) => {
            assert_eq!(response.status, 431);
            client.ping();
        }
        Err(H2Broken::Closed(goaway)) => {
            let code = goaway.map(|goaway| goaway.code);
            assert!(matches!(code, Some(code::ENHANCE_YOUR_CALM | code::PROTOCOL_ERROR)), "{code:?}");
        }
        Err(broken) => panic!("{broken:?}"),
    }
    assert_eq!(other.get("/").text(), "x");
}

#[test]
fn a_continuation_continues_something() {
    let gateway = plain();
    let block = hpack::block(&GET);
    let wrong = code::PROTOCOL_ERROR;
    let whole = [Frame::headers(1, &block[..9], false).unfinished(), Frame::continuation(1, &block[9..], true)];
    let more = Frame::continuation(1, hpack::block(&[("x-more", "1")]), true);
    ends_with(&gateway, "behind a head that ended", wrong, &[post(1), more.clone()]);
    ends_with(&gateway, "behind a continuation that ended", wrong, &[whole[0].clone(), whole[1].clone(), more.clone()]);
    ends_with(&gateway, "behind DATA", wrong, &[post(1), Frame::data(1, "x", false), more]);
    let begun = Frame::headers(1, &block[..9], true).unfinished();
    for between in [Frame::reset(1, code::CANCEL), Frame::goaway(0, code::NO_ERROR), Frame::ping_ack([0; 8]), Frame::unknown(1)] {
        ends_with(&gateway, &format!("{between:?}"), wrong, &[begun.clone(), between]);
    }
    ends_with(&gateway, "a second head", wrong, &[begun.clone(), begun]);
}

#[test]
fn a_push_is_wrong_on_any_stream() {
    let gateway = plain();
    let block = hpack::block(&GET);
    for push in [Frame::push_promise(0, 2, &block), Frame::push_promise(1, 2, &block), Frame::push_promise(3, 1, &block)] {
        ends_with(&gateway, &format!("{push:?}"), code::PROTOCOL_ERROR, &[push]);
    }
}

// Section 7: codes that nobody knows mean nothing special.

#[test]
fn unknown_codes_are_no_errors() {
    let (backend, latch) = waiting();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let (kept, gone) = (client.ask("GET", "/", &[]), client.ask("GET", "/", &[]));
    backend.wait_for(2);
    client.reset(gone, 0xdead_beef);
    client.send(Frame::goaway(0, 0xff));
    client.ping();
    latch.open();
    assert_eq!(client.response(kept).text(), "x");
}

// Section 8.1: messages.

#[test]
fn a_second_head_ends_its_stream() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for second in [hpack::block(&GET), hpack::block(&[("x-a", "1")])] {
        let stream = client.open("POST", "/", &[]);
        client.data(stream, "abc", false);
        client.send(Frame::headers(stream, second, false));
        client.expect_malformed(stream);
    }
    assert_eq!(client.get("/").status, 200);
    assert!(backend.requests().iter().all(|request| !request.complete || request.body.is_empty()), "none of them looked whole");
}

#[test]
fn every_method_has_its_answer() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for method in ["GET", "PUT", "DELETE", "PATCH", "PROPFIND"] {
        assert_eq!(client.request(method, "/", &[], "").json()["method"], method);
    }
    assert!(client.request("HEAD", "/", &[], "").body.is_empty());
    let stream = client.open("POST", "/", &[]);
    client.data(stream, "a", false);
    client.data(stream, "b", false);
    client.trailers(stream, &[("x-sum", "2")]);
    assert_eq!(client.response(stream).json()["body"], "ab");
}

// RFC 7541.

#[test]
fn the_examples_of_hpack_are_understood() {
    let backend = Backend::echo();
    let yaml = "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], host: client } }
apis: { all: { routes: [ \"ANY /\": kitchen, \"ANY /{path+}\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let plain = ["8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865", PLAIN_LAST];
    let huffman = ["8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf", HUFFMAN_LAST];
    // Appendices C.3 and C.4, but without https, which this connection is not.
    const PLAIN_LAST: &str = "8286 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65";
    const HUFFMAN_LAST: &str = "8286 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf";
    for blocks in [plain, huffman] {
        let mut client = gateway.h2();
        for block in blocks {
            let stream = client.next_stream();
            client.send(Frame::headers(stream, unhex(block), true));
            assert_eq!(client.response(stream).status, 200, "{block}");
            assert_eq!(backend.last().header("host"), Some("www.example.com"));
        }
        let [.., second, third] = &backend.requests()[..] else { panic!("three requests") };
        assert_eq!((second.target.as_str(), second.header("cache-control")), ("/", Some("no-cache")));
        assert_eq!((third.target.as_str(), third.header("custom-key")), ("/index.html", Some("custom-value")));
    }
}

#[test]
fn every_form_of_a_field_is_understood() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let start = hpack::block(&GET[..2]);
    let host = hpack::literal(":authority", "gateway.test");
    // Appendix C.2.2, a name from the static table without indexing; C.2.3, a field that is never indexed.
    let path = unhex("040c 2f73 616d 706c 652f 7061 7468");
    let secret = unhex("1008 7061 7373 776f 7264 0673 6563 7265 74");
    let mut client = gateway.h2();
    let first = client.next_stream();
    let block = [hpack::table_size(0), hpack::table_size(4096), start.clone(), path, host.clone(), secret].concat();
    client.send(Frame::headers(first, [block, hpack::remembered("x-kept", "1")].concat(), true));
    assert_eq!(client.response(first).status, 200);
    let received = backend.last();
    assert_eq!((received.target.as_str(), received.header("password")), ("/sample/path", Some("secret")));
    // A name from the dynamic table: with indexing, without, and never.
    for (form, value) in [(vec![0x7e], "2"), (vec![0x0f, 47], "3"), (vec![0x1f, 47], "4")] {
        let stream = client.next_stream();
        let field = [form, vec![1], value.as_bytes().to_vec()].concat();
        client.send(Frame::headers(stream, [start.clone(), vec![0x84], host.clone(), field].concat(), true));
        assert_eq!(client.response(stream).status, 200, "{value}");
        assert_eq!(backend.last().header("x-kept"), Some(value));
    }
    // The table is emptied, and with it what was in it.
    let last = client.next_stream();
    client.send(Frame::headers(last, [hpack::table_size(0), start, vec![0x84], host, hpack::indexed(62)].concat(), true));
    client.expect_goaway(code::COMPRESSION_ERROR);
}

#[test]
fn the_table_holds_what_it_can_and_no_more() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let start = hpack::block(&GET);
    let mut client = gateway.h2();
    let mut send = |fields: Vec<u8>| {
        let stream = client.next_stream();
        client.send(Frame::headers(stream, [start.clone(), fields].concat(), true));
        client.try_response(stream).map(|response| response.status)
    };
    // 32 bytes beside name and value: ten of them fill 4096 bytes, the eleventh drives out the first.
    let fields: Vec<Vec<u8>> = (0..11).map(|at| hpack::remembered(format!("x-{at:02}"), "v".repeat(409 - 32 - 4))).collect();
    assert_eq!(send(fields[..10].concat()), Ok(200));
    assert_eq!(send(hpack::indexed(71)), Ok(200), "the first is the tenth from the newest");
    assert!(backend.last().headers.has("x-00"));
    assert_eq!(send(fields[10].clone()), Ok(200));
    assert_eq!(send(hpack::indexed(71)), Ok(200));
    assert!(backend.last().headers.has("x-01") && !backend.last().headers.has("x-00"));
    // What is larger than the table empties it.
    assert_eq!(send(hpack::remembered("x-large", "v".repeat(5000))), Ok(200));
    let outcome = send(hpack::indexed(62));
    assert!(
        matches!(outcome, Err(H2Broken::Closed(Some(goaway))) if goaway.code == code::COMPRESSION_ERROR),
        "nothing is left: {outcome:?}"
    );
}
