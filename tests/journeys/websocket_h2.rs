//! WebSockets over HTTP/2 (RFC 8441): an extended CONNECT becomes the upgrade that an HTTP/1.1 back end understands, or stays one
//! towards a back end of HTTP/2. Frames of WebSockets pass unread.

use maitred_testkit::h2::{code, setting};
use maitred_testkit::websocket::{CLOSE, PING, PONG, TEXT, ws_accept, ws_close, ws_decode, ws_frame, ws_key_is_valid};
use maitred_testkit::{
    Backend, H2Backend, H2Broken, H2Client, H2Options, Latch, eventually, gateway, gateway_to, gateway_to_h2c, stays,
};
use std::time::Duration;

/// Answers the handshake as RFC 6455 asks for, then says every text again, and answers pings and the close.
fn echo() -> Backend {
    Backend::new(|request, conn| {
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        let protocol = request.headers.members("sec-websocket-protocol").first().cloned();
        let protocol = protocol.map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n{protocol}\r\n",
            ws_accept(&key)
        ));
        let mut buffer = Vec::new();
        loop {
            while let Some((frame, length)) = ws_decode(&buffer) {
                buffer.drain(..length);
                assert!(frame.masked, "a client's frames are masked");
                let opcode = if frame.opcode == PING { PONG } else { frame.opcode };
                conn.send(ws_frame(opcode, &frame.payload, false));
                if frame.opcode == CLOSE {
                    return conn.close();
                }
            }
            let bytes = conn.read_some();
            if bytes.is_empty() {
                return conn.close();
            }
            buffer.extend(bytes);
        }
    })
}

/// Sends bytes back as they come, and FIN after FIN.
fn parrot() -> Backend {
    Backend::new(|request, conn| {
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        let accept = ws_accept(&key);
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        loop {
            let bytes = conn.read_some();
            if bytes.is_empty() {
                return conn.close();
            }
            conn.send(bytes);
        }
    })
}

fn connect_fields<'a>(extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let start = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat?room=1"),
        (":authority", "gateway.test"),
        ("sec-websocket-version", "13"),
        ("origin", "http://gateway.test"),
    ];
    [&start[..], extra].concat()
}

#[track_caller]
fn open(client: &mut H2Client) -> u32 {
    let stream = client.open_with(&connect_fields(&[]), false);
    assert_eq!(client.head(stream).status, 200);
    stream
}

/// The frames that have come, once there are so many bytes of them.
#[track_caller]
fn frame_at(client: &mut H2Client, stream: u32, from: &mut usize) -> (u8, Vec<u8>) {
    let mut wanted = *from + 2;
    loop {
        let body = client.body(stream, wanted);
        if let Some((frame, length)) = ws_decode(&body[*from..]) {
            *from += length;
            assert!(!frame.masked, "a server's frames are not masked");
            return (frame.opcode, frame.payload);
        }
        wanted = body.len() + 1;
    }
}

#[test]
fn it_is_announced() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    assert_eq!(gateway.h2().setting(setting::ENABLE_CONNECT_PROTOCOL), Some(1));
}

#[test]
fn a_connect_becomes_the_upgrade_that_a_back_end_understands() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let fields = connect_fields(&[("sec-websocket-protocol", "soup, salad"), ("cookie", "a=1"), ("cookie", "b=2")]);
    let stream = client.open_with(&fields, false);
    let head = client.head(stream);
    assert_eq!((head.status, head.header("sec-websocket-protocol")), (200, Some("soup")), "{head:?}");
    for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
        assert!(!head.headers.has(name), "{name}: {head:?}");
    }
    let received = backend.only();
    assert_eq!(
        (received.method.as_str(), received.target.as_str(), received.version.as_str()),
        ("GET", "/chat?room=1", "HTTP/1.1")
    );
    assert!(received.headers.members("connection").iter().any(|option| option.eq_ignore_ascii_case("upgrade")), "{received:?}");
    assert_eq!(received.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    assert!(received.header("sec-websocket-key").is_some_and(ws_key_is_valid), "{received:?}");
    assert_eq!(received.header("sec-websocket-version"), Some("13"));
    assert_eq!(received.header("cookie"), Some("a=1; b=2"));
    assert_eq!(received.header("origin"), Some("http://gateway.test"));
    assert!(!received.headers.has("transfer-encoding") && !received.headers.has("content-length"), "{received:?}");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn every_handshake_has_a_key_of_its_own() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for _ in 0..3 {
        open(&mut client);
    }
    let mut keys: Vec<_> =
        backend.requests().iter().map(|request| request.header("sec-websocket-key").map(str::to_owned)).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

#[test]
fn messages_pass_both_ways_and_the_close_is_intact() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = open(&mut client);
    let mut at = 0;
    for text in ["hello", "", "again"] {
        client.data(stream, ws_frame(TEXT, text.as_bytes(), true), false);
        assert_eq!(frame_at(&mut client, stream, &mut at), (TEXT, text.as_bytes().to_vec()));
    }
    // Byte by byte, as no frame of HTTP/2 must match one of WebSockets.
    for byte in ws_frame(TEXT, b"in pieces", true) {
        client.data(stream, [byte], false);
    }
    assert_eq!(frame_at(&mut client, stream, &mut at), (TEXT, b"in pieces".to_vec()));
    client.data(stream, ws_frame(PING, b"?", true), false);
    assert_eq!(frame_at(&mut client, stream, &mut at), (PONG, b"?".to_vec()));
    client.data(stream, ws_frame(CLOSE, &ws_close(4001, "enough"), true), false);
    assert_eq!(frame_at(&mut client, stream, &mut at), (CLOSE, ws_close(4001, "enough")));
    assert!(client.try_response(stream).is_ok(), "the back end's FIN ends the stream");
}

#[test]
fn the_end_of_a_stream_is_the_end_of_a_connection_and_back() {
    let backend = parrot();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = open(&mut client);
    client.data(stream, "some bytes", false);
    assert_eq!(client.body(stream, 10), b"some bytes");
    // END_STREAM becomes FIN, the parrot's FIN becomes END_STREAM.
    client.data(stream, " and the end", true);
    assert_eq!(client.response(stream).text(), "some bytes and the end");
    eventually("nothing is left open", || backend.open() == 0);
    client.ping();
}

#[test]
fn a_back_end_that_closes_first_ends_the_stream() {
    let backend = Backend::new(|request, conn| {
        let accept = ws_accept(request.header("sec-websocket-key").unwrap_or_default());
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        conn.send(ws_frame(CLOSE, &ws_close(1001, "bye"), false));
        conn.close();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = open(&mut client);
    assert_eq!(ws_decode(&client.response(stream).body).map(|(frame, _)| frame.payload), Some(ws_close(1001, "bye")));
}

#[test]
fn a_reset_is_a_break_both_ways() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |request, conn| {
        let accept = ws_accept(request.header("sec-websocket-key").unwrap_or_default());
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        if request.target.contains("break") {
            conn.read_some();
            conn.reset();
        } else if conn.peer_leaves() {
            leaving.open();
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = open(&mut client);
    client.reset(stream, code::CANCEL);
    left.wait();
    let mut fields = connect_fields(&[]);
    fields[3] = (":path", "/break");
    let stream = client.open_with(&fields, false);
    client.head(stream);
    client.data(stream, "x", false);
    let outcome = client.try_response(stream);
    assert!(matches!(outcome, Err(H2Broken::Reset(_))), "{outcome:?}");
    client.ping();
}

#[test]
fn a_back_end_that_refuses_is_an_ordinary_answer() {
    let backend = Backend::new(|_, conn| {
        conn.answer(403, "X-Why: not you\r\n", "no");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open_with(&connect_fields(&[]), false);
    let response = client.response(stream);
    assert_eq!((response.status, response.text().as_str(), response.header("x-why")), (403, "no", Some("not you")));
}

#[test]
fn a_wrong_answer_to_the_key_is_no_handshake() {
    let backend = Backend::new(|_, conn| {
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        );
        conn.peer_leaves();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open_with(&connect_fields(&[]), false);
    assert_eq!(client.response(stream).status, 502, "the client of HTTP/2 has no key to hold it against: the gateway does");
}

#[test]
fn other_protocols_and_half_a_connect_are_refused() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for (what, change, value) in [
        ("another protocol", ":protocol", Some("connect-udp")),
        ("no path", ":path", None),
        ("no scheme", ":scheme", None),
        ("another method", ":method", Some("GET")),
    ] {
        let mut fields = connect_fields(&[]);
        fields.retain(|(name, _)| *name != change);
        if let Some(value) = value {
            fields.insert(0, (change, value));
        }
        let stream = client.open_with(&fields, false);
        match client.try_response(stream) {
            Ok(response) => assert!(matches!(response.status, 400 | 501), "{what}: {response:?}"),
            Err(broken) => assert!(matches!(broken, H2Broken::Reset(_)), "{what}: {broken:?}"),
        }
    }
    client.ping();
    assert_eq!(backend.count(), 0);
}

#[test]
fn large_messages_pass_under_back_pressure() {
    let backend = parrot();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = open(&mut client);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let mut sent = 0;
    // It gives no window, so the parrot is stopped, and with it the client.
    stays("nothing moves", || {
        sent += client.data_that_fits(stream, &bytes[sent..]);
        sent as u64
    });
    assert_eq!(client.received(stream), 65_535);
    client.flowing();
    client.data(stream, &bytes[sent..], true);
    assert!(client.response(stream).body == bytes);
}

#[test]
fn tunnels_and_requests_share_a_connection() {
    let backend = echo();
    let yaml = "upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /chat\": kitchen, { match: GET /, respond: { text: x } } ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let tunnels: Vec<u32> = (0..5).map(|_| open(&mut client)).collect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "x");
    }
    for (n, tunnel) in tunnels.iter().enumerate() {
        let text = format!("tunnel {n}");
        client.data(*tunnel, ws_frame(TEXT, text.as_bytes(), true), false);
        assert_eq!(frame_at(&mut client, *tunnel, &mut 0), (TEXT, text.into_bytes()));
    }
}

#[test]
fn a_tunnel_without_a_byte_has_its_time() {
    let backend = parrot();
    let yaml = "limits: { tunnel_idle_timeout: 60s, idle_timeout: 10s }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /chat\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let stream = open(&mut client);
    gateway.turn(Duration::from_secs(50));
    client.data(stream, "still here", false);
    assert_eq!(client.body(stream, 10), b"still here");
    gateway.turn(Duration::from_secs(50));
    client.ping();
    assert!(!client.is_ended(stream) && client.was_reset(stream).is_none(), "ten seconds are left");
    eventually("it is over", || {
        gateway.turn(Duration::from_secs(11));
        client.is_ended(stream) || client.was_reset(stream).is_some() || !client.goaways().is_empty()
    });
    eventually("the back end knows", || backend.open() == 0);
}

/// Takes extended CONNECT, sends back what comes, and says bye.
fn modern() -> H2Backend {
    let options = H2Options { settings: vec![(setting::ENABLE_CONNECT_PROTOCOL, 1)], ..H2Options::default() };
    H2Backend::with(options, |request, stream| {
        if request.protocol.is_none() {
            stream.answer(200, &[], "plain");
            return;
        }
        let chosen = request.header("sec-websocket-protocol").map(|name| ("sec-websocket-protocol", name));
        stream.head(200, &chosen.into_iter().collect::<Vec<_>>(), false);
        while let Some(piece) = stream.piece() {
            stream.data(piece, false);
        }
        stream.data(" bye", true);
    })
}

#[test]
fn it_stays_http_2_towards_a_back_end_that_takes_it() {
    for warm in [true, false] {
        let backend = modern();
        let gateway = gateway_to_h2c(&backend);
        let mut client = gateway.h2();
        if warm {
            assert_eq!(client.get("/").text(), "plain");
        }
        let stream = client.open_with(&connect_fields(&[("sec-websocket-protocol", "soup")]), false);
        let head = client.head(stream);
        assert_eq!((head.status, head.header("sec-websocket-protocol")), (200, Some("soup")), "warm: {warm}");
        client.data(stream, "hello", false);
        assert_eq!(client.body(stream, 5), b"hello");
        client.data(stream, "", true);
        assert_eq!(client.response(stream).text(), "hello bye");
        let received = backend.last();
        assert_eq!((received.method.as_str(), received.protocol.as_deref()), ("CONNECT", Some("websocket")));
        assert_eq!((received.path.as_str(), received.header("sec-websocket-version")), ("/chat?room=1", Some("13")));
        assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
    }
}

#[test]
fn a_client_of_http_1_1_reaches_a_back_end_of_http_2() {
    let backend = modern();
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    client.send(format!(
        "GET /chat HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ));
    let response = client.response();
    assert_eq!((response.status, response.header("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    assert_eq!(response.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    client.send(ws_frame(TEXT, b"hello", true));
    let echoed = client.read_exactly(ws_frame(TEXT, b"hello", true).len());
    assert_eq!(echoed, ws_frame(TEXT, b"hello", true));
    client.finish();
    assert_eq!(client.read_exactly(4), b" bye");
    client.closed();
    assert!(!backend.only().headers.has("sec-websocket-key"), "it has no meaning there");
}

#[test]
fn a_back_end_of_http_2_that_does_not_take_it_is_a_5xx() {
    let backend = H2Backend::named("x");
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = client.open_with(&connect_fields(&[]), false);
    let response = client.response(stream);
    assert!(matches!(response.status, 501 | 502), "{response:?}");
    assert_eq!(client.get("/").text(), "x");
}
