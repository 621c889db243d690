//! HTTP/3 towards clients: messages and bodies. What breaks its rules stands in `http3/rules.rs`, how connections begin and end in
//! `http3/ends.rs`, early data in `http3/early.rs`, gRPC in `http3/grpc.rs`.

mod early;
mod ends;
mod grpc;
mod rules;

use crate::tls::{Secured, files};
use maitred_testkit::h3::{frame, headers};
use maitred_testkit::websocket::{TEXT, ws_accept, ws_decode, ws_frame};
use maitred_testkit::{Authority, Backend, Folder, H3Client, H3Raw, Latch, eventually, gateway_with, stays};

const LARGE: usize = 30 * 1024 * 1024;

pub fn yaml(more: &str, tls: &str) -> String {
    format!(
        "listen: [ {{ address: \"127.0.0.1:0\", http3: true, tls: {{ certificates: [ {{ cert: certs/a.pem, key: certs/a.key }} ]{tls} }} }} ]
{more}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ hosts: [ a.test ], routes: [ ANY /: kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
    )
}

/// A gateway that is a.test, before a back end.
pub fn secured_with(more: &str, tls: &str, backend: Backend) -> Secured {
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let gateway = gateway_with(&yaml(more, tls), &[("kitchen", backend.address())], &files(&identity));
    Secured { authority, identity, backend, gateway }
}

pub fn secured() -> Secured {
    secured_with("", "", Backend::echo())
}

impl Secured {
    #[track_caller]
    pub fn h3(&self) -> H3Client {
        H3Client::connect(self.gateway.address(), &self.tls().h3())
    }

    #[track_caller]
    pub fn raw(&self) -> H3Raw {
        H3Raw::connect(self.gateway.address(), &self.tls().h3())
    }
}

/// Fields of an ordinary request.
pub const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];
pub const POST: [(&str, &str); 4] = [(":method", "POST"), GET[1], GET[2], GET[3]];

#[test]
fn a_request_becomes_one_of_http_1_1() {
    let secured = secured();
    let mut client = secured.h3();
    let response = client.request("POST", "/a/%7eb?c=d", &[("x-a", "1"), ("cookie", "a=b"), ("cookie", "c=d")], "body");
    assert_eq!((response.status, response.json()["body"].as_str()), (200, Some("body")));
    assert!(response.header("date").is_some() && response.header("x-request-id").is_some(), "{response:?}");
    let received = secured.backend.last();
    assert_eq!(
        (received.method.as_str(), received.target.as_str(), received.version.as_str()),
        ("POST", "/a/~b?c=d", "HTTP/1.1")
    );
    assert_eq!(received.header("x-forwarded-host"), Some("a.test"));
    assert_eq!(received.headers.members("via"), ["3.0 maitred"]);
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!((received.header("x-a"), received.header("cookie")), (Some("1"), Some("a=b; c=d")));
    assert!(secured.backend.complaints().is_empty(), "{:?}", secured.backend.complaints());
}

#[test]
fn the_access_log_says_so_and_counts_what_came() {
    let folder = Folder::new();
    let path = folder.path("access.log");
    let more = format!("limits: {{ body_bytes: 10B }}\ntelemetry: {{ access_log: {{ to: {} }} }}", path.display());
    let secured = secured_with(&more, "", Backend::echo());
    let client = secured.raw();
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    for (count, (body, status)) in [(&b"body"[..], 200), (b"eleven byte", 413)].into_iter().enumerate() {
        assert_eq!(client.ask(&[&headers(&POST)[..], &frame(0x00, body)].concat()).status(), status);
        eventually("the line is written", || lines().lines().count() == count + 1);
        let line: serde_json::Value = serde_json::from_str(lines().lines().last().expect("a line")).expect("JSON");
        assert_eq!((&line["protocol"], &line["tls_version"]), (&"HTTP/3".into(), &"TLSv1.3".into()));
        assert_eq!((&line["status"], &line["bytes_in"]), (&status.into(), &body.len().into()));
    }
}

#[test]
fn a_get_has_no_body_though_its_end_comes_late() {
    let secured = secured();
    let client = secured.raw();
    let mut stream = client.stream(&headers(&GET));
    assert_eq!(stays("nothing is forwarded", || secured.backend.count() as u64), 0);
    stream.finish();
    assert_eq!(stream.end().status(), 200);
    let received = secured.backend.last();
    assert!(!received.headers.has("transfer-encoding") && !received.headers.has("content-length"), "{received:?}");
}

#[test]
fn faults_are_answered_and_the_connection_goes_on() {
    let secured = secured_with("", "", Backend::named("x"));
    let mut client = secured.h3();
    client.authority("other.test");
    let nowhere = client.get("/");
    assert_eq!((nowhere.status, nowhere.json()["status"].as_u64()), (404, Some(404)));
    client.authority("a.test");
    assert_eq!(client.get("/../..").status, 400);
    assert_eq!(client.get(&format!("/{}", "x".repeat(20_000))).status, 414);
    assert_eq!(client.request("GET", "/", &[("x-a", &"x".repeat(60_000))], "").status, 200);
    assert_eq!(client.get("/").text(), "x");
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    let secured = secured_with("", "", Backend::bytes(1000));
    let response = secured.h3().request("HEAD", "/", &[], "");
    assert_eq!((response.status, response.header("content-length"), response.body.len()), (200, Some("1000"), 0));
}

#[test]
fn large_bodies_pass_both_ways() {
    let backend = Backend::new(|_, conn| {
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let secured = secured_with("limits: { body_bytes: 1GiB }", "", backend);
    let body: Vec<u8> = (0..8_000_000u32).map(|at| (at % 251) as u8).collect();
    let mut client = secured.h3();
    let mut stream = client.open("POST", "/", &[("content-length", "8000000")]);
    for piece in body.chunks(777_777) {
        stream.send(piece);
    }
    stream.finish();
    let response = stream.response();
    assert!(response.body == body, "{} bytes came back, or others", response.body.len());
    assert_eq!(response.header("content-length"), Some("8000000"));
}

#[test]
fn a_client_that_does_not_read_stops_the_back_end_and_nobody_else() {
    let backend = Backend::new(|request, conn| match request.target.as_str() {
        "/large" => drop(conn.answer(200, "", vec![b'x'; LARGE])),
        _ => drop(conn.answer(200, "", "small")),
    });
    let secured = secured_with("", "", backend);
    let mut client = H3Client::with_window(secured.gateway.address(), &secured.tls().h3(), 65_536);
    let mut blocked = client.open("GET", "/large", &[]);
    blocked.finish();
    blocked.head();
    let written = stays("the back end is blocked", || secured.backend.written());
    assert!(written < LARGE as u64 / 2, "{written} of {LARGE} bytes were taken for a client that takes nothing");
    assert_eq!(client.get("/small").text(), "small", "on the same connection");
    let mut length = 0;
    while let Some(piece) = blocked.read_some().expect("a body") {
        length += piece.len();
    }
    assert_eq!(length, LARGE, "it gets all of it once it wants to");
}

#[test]
fn a_client_that_takes_nothing_for_write_timeout_is_left() {
    let secured = secured_with("limits: { write_timeout: 10s, idle_timeout: 1h }", "", Backend::bytes(LARGE));
    let mut client = H3Client::with_window(secured.gateway.address(), &secured.tls().h3(), 65_536);
    let mut blocked = client.open("GET", "/", &[]);
    blocked.finish();
    blocked.head();
    stays("the back end is blocked", || secured.backend.written());
    assert_eq!(secured.backend.open(), 1);
    eventually("the attempt is abandoned", || {
        secured.gateway.turn(std::time::Duration::from_secs(11));
        secured.backend.open() == 0
    });
    let mut read = blocked.read_some();
    while let Ok(Some(_)) = read {
        read = blocked.read_some();
    }
    assert!(read.is_err(), "a part is no whole");
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
    let secured = secured_with("limits: { body_bytes: 1GiB }", "", backend);
    let client = secured.raw();
    let mut slow = client.stream(&headers(&[&POST[..3], &[(":path", "/slow")]].concat()));
    slow.write(&frame(0x00, &vec![0; LARGE])[..5]);
    let taken = slow.accepts(&vec![0; LARGE]);
    assert!(taken < LARGE / 2, "{taken} of {LARGE} bytes were taken for a back end that reads nothing");
    let mut other = client.stream(&headers(&[&POST[..3], &[(":path", "/quick")]].concat()));
    other.write(&frame(0x00, &vec![0; 500_000]));
    other.finish();
    assert_eq!(other.end().status(), 200, "the blocked stream does not hold the connection's window");
    latch.open();
    slow.write(&vec![0; LARGE - taken]);
    slow.finish();
    assert_eq!(slow.end().status(), 200);
    assert_eq!(secured.backend.requests().iter().map(|request| request.body.len()).max(), Some(LARGE));
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
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut stream = client.open("POST", "/", &[]);
    stream.send("first");
    assert_eq!(stream.head().status, 200);
    assert!(stream.read_some().expect("a body").is_some());
    stream.send("second");
    stream.finish();
    let mut rest = Vec::new();
    while let Some(piece) = stream.read_some().expect("a body") {
        rest.extend(piece);
    }
    assert_eq!(rest, b"all");
}

#[test]
fn trailers_pass_both_ways() {
    let backend = Backend::new(|_, conn| {
        conn.body();
        conn.chunked_head(200, "trailer: x-sum\r\n");
        conn.chunk("abc");
        conn.send("0\r\nx-sum: 42\r\n\r\n");
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut stream = client.open("POST", "/", &[("te", "trailers")]);
    stream.send("body");
    stream.trailers(&[("x-check", "7"), ("content-length", "3")]);
    stream.finish();
    let response = stream.response();
    assert_eq!(response.text(), "abc");
    assert_eq!(response.trailers.expect("trailers").get("x-sum").expect("a sum"), "42");
    let received = secured.backend.last();
    assert_eq!(received.trailers.get("x-check"), Some("7"), "{received:?}");
    assert!(!received.trailers.has("content-length"), "it would mean something there");
}

#[test]
fn many_streams_are_answered_at_once() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |request, conn| {
        conn.wait(&seen);
        conn.answer(200, "", request.target.clone());
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut streams: Vec<_> = (0..80)
        .map(|number| {
            let mut stream = client.open("GET", &format!("/{number}"), &[]);
            stream.finish();
            stream
        })
        .collect();
    secured.backend.wait_for(80);
    latch.open();
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.response().text(), format!("/{number}"));
    }
    for round in 0..300 {
        assert_eq!(client.get(&format!("/{round}")).status, 200, "places are given back");
    }
}

#[test]
fn no_more_streams_than_are_allowed() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "x");
    let secured = secured_with("limits: { h2_streams: 2 }", "", backend);
    let client = secured.raw();
    let ask = || {
        let mut stream = client.stream(&headers(&GET));
        stream.finish();
        stream
    };
    let (mut first, mut second) = (ask(), ask());
    secured.backend.wait_for(2);
    std::thread::scope(|scope| {
        // QUIC does not refuse it: it waits at the client's.
        let third = scope.spawn(|| ask().end().status());
        assert_eq!(stays("the third waits", || secured.backend.count() as u64), 2);
        latch.open();
        assert_eq!((first.end().status(), second.end().status()), (200, 200));
        assert_eq!(third.join().expect("it does not panic"), 200);
    });
}

#[test]
fn a_client_that_gives_up_ends_the_attempt() {
    let backend = Backend::new(|_, conn| {
        conn.body();
        conn.peer_leaves();
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut upload = client.open("POST", "/", &[]);
    upload.send("half");
    let mut waiting = client.open("GET", "/", &[]);
    waiting.finish();
    secured.backend.wait_for(2);
    upload.reset();
    waiting.reset();
    eventually("both attempts are abandoned", || secured.backend.open() == 0);
    assert!(secured.backend.requests().iter().any(|request| !request.complete), "half is no whole");
    let mut last = client.open("GET", "/", &[]);
    last.finish();
    secured.backend.wait_for(3);
    drop((client, last, upload, waiting));
    eventually("a connection that goes takes its streams along", || secured.backend.open() == 0);
}

#[test]
fn a_back_end_that_breaks_off_resets_the_stream() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        conn.reset();
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut stream = client.open("GET", "/", &[]);
    stream.finish();
    let broken = stream.try_response().expect_err("a part is no whole");
    assert!(broken.contains("H3_INTERNAL_ERROR"), "{broken}");
    let mut again = client.open("GET", "/", &[]);
    again.finish();
    assert!(again.try_response().is_err(), "the connection goes on");
}

#[test]
fn interim_responses_come_before_the_answer() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        conn.answer(200, "", "x");
    });
    let secured = secured_with("", "", backend);
    let client = secured.raw();
    let mut stream = client.stream(&headers(&GET));
    stream.finish();
    let end = stream.end();
    assert_eq!(end.status(), 103);
    let end = end.after_first();
    assert_eq!(end.status(), 200);
}

#[test]
fn the_body_is_asked_for_when_somebody_wants_it() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let secured = secured_with("", "", backend);
    let client = secured.raw();
    let mut stream = client.stream(&headers(&[&POST[..], &[("expect", "100-continue"), ("content-length", "5")]].concat()));
    // HEADERS with a section of two bytes and an indexed status.
    assert_eq!(stream.read(6), [0x01, 0x04, 0x00, 0x00, 0xff, 0x00]);
    stream.write(&frame(0x00, b"hello"));
    stream.finish();
    assert_eq!(stream.end().status(), 200);
    assert_eq!(secured.backend.last().body, b"hello");
}

#[test]
fn a_refused_body_is_not_read_to_its_end() {
    let secured = secured_with("limits: { body_bytes: 1KiB }", "", Backend::echo());
    let client = secured.raw();
    let mut stream = client.stream(&headers(&[&POST[..], &[("content-length", "1000000")]].concat()));
    assert_eq!(stream.stopped(), Some(maitred_testkit::h3::code::NO_ERROR), "the answer stands, and nothing more is wanted");
    assert_eq!(stream.end().status(), 413);
    let mut unannounced = client.stream(&headers(&POST));
    unannounced.write(&frame(0x00, &[0; 5000]));
    assert_eq!(unannounced.end().status(), 413);
}

#[test]
fn a_websocket_passes_both_ways() {
    let backend = Backend::new(|request, conn| {
        let accept = ws_accept(request.header("sec-websocket-key").unwrap_or_default());
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        let bytes = conn.read_some();
        let (text, _) = ws_decode(&bytes).expect("a frame");
        conn.send(ws_frame(TEXT, &text.payload, false));
        conn.peer_leaves();
    });
    let secured = secured_with("", "", backend);
    let client = secured.raw();
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3], ("sec-websocket-version", "13")];
    let mut stream = client.stream(&headers(&connect));
    stream.write(&frame(0x00, &ws_frame(TEXT, b"hello", true)));
    let head = stream.read(2);
    assert_eq!(head[0], 0x01);
    // A section of up to 63 bytes has a length of one byte, a longer one of two.
    let length = match head[1] {
        short @ 0..=0x3f => usize::from(short),
        long => usize::from(long & 0x3f) << 8 | usize::from(stream.read(1)[0]),
    };
    let section = stream.read(length);
    assert_eq!(section[2], 0xd9, "200: {}", String::from_utf8_lossy(&section));
    assert_eq!(stream.read(9), [&[0x00, 0x07][..], &ws_frame(TEXT, b"hello", false)].concat());
    stream.finish();
    eventually("the back end is left", || secured.backend.open() == 0);
}
