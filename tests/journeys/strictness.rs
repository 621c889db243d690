//! Whatever two implementations could read differently: refused, the connection closed, and nothing of it at the back end.

use maitred_testkit::{Backend, Broken, Gateway, gateway, gateway_to};

/// Sends a request and another behind it; it must get that status and the end, and the back end nothing.
#[track_caller]
fn is_refused(gateway: &Gateway, backend: &Backend, request: &str, status: u16) {
    let mut client = gateway.client();
    client.send(format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
    let response = match client.try_response("GET") {
        Ok(response) => response,
        Err(broken) => panic!("{request:?} is answered with {broken:?}"),
    };
    assert_eq!(response.status, status, "{request:?} became {response:?}");
    assert!(response.closes(), "{request:?} keeps the connection: {response:?}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    client.closed();
    assert!(!backend.requests().iter().any(|request| request.target == "/smuggled"), "{request:?} smuggles");
}

#[test]
fn an_ambiguous_head_is_refused_and_reaches_nobody() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for request in [
        // Two framings.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 \x0b\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        // Codings.
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        // Lines.
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n",
        // Hosts.
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        // Targets.
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\\ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /../a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        // Connection names what frames.
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n",
    ] {
        is_refused(&gateway, &backend, request, 400);
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn what_the_gateway_does_not_speak_is_said_so() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    is_refused(&gateway, &backend, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501);
    is_refused(&gateway, &backend, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501);
    is_refused(&gateway, &backend, "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
    is_refused(&gateway, &backend, "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505);
    is_refused(&gateway, &backend, "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n", 400);
    assert_eq!(backend.count(), 0);
}

/// A body that turns out wrong has begun to be forwarded; it must never look whole, nor may what follows be a request.
#[test]
fn an_ambiguous_chunk_ends_everything() {
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "4\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3;\nx\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\n\r\n",
        "\r\n",
    ] {
        let backend = Backend::echo();
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        match client.try_response("POST") {
            Ok(response) => {
                assert_eq!(response.status, 400, "{body:?} became {response:?}");
                assert!(response.closes(), "{body:?} keeps the connection");
                client.closed();
            }
            Err(Broken::Closed | Broken::Reset(_)) => {}
            Err(other) => panic!("{body:?} is answered with {other:?}"),
        }
        for request in backend.requests() {
            assert!(request.target == "/" && !request.complete, "{body:?} looks whole to the back end: {request:?}");
        }
    }
}

#[test]
fn a_good_request_before_a_bad_one_is_served() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let refused = client.response();
    assert_eq!((refused.status, refused.closes()), (400, true));
    client.closed();
    assert_eq!(backend.only().target, "/good");
}

#[test]
fn an_empty_line_before_a_request_is_skipped() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn what_is_forwarded_is_written_anew() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST /x HTTP/1.1\r\nhOsT:a\r\ntRANSFER-eNCODING: ChUnKeD\r\nX-A:   b  \t \r\n\r\n0003;a=\"b\"\r\nabc\r\n000\r\n\r\n",
    );
    assert_eq!(client.response().json()["body"], "abc");
    let raw = String::from_utf8(backend.only().raw).expect("text");
    assert!(raw.contains("\r\ntransfer-encoding: chunked\r\n"), "{raw}");
    assert!(raw.contains("\r\nX-A: b\r\n"), "{raw}");
    assert!(!raw.contains("ChUnKeD"), "{raw}");
}

#[test]
fn targets_and_heads_have_limits() {
    let backend = Backend::echo();
    let gateway = gateway(
        "limits: { uri_bytes: 100B, header_bytes: 2KiB, headers: 10 }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"ANY /{x+}\": kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    assert_eq!(gateway.get(&path(100)).status, 200);
    is_refused(&gateway, &backend, &format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path(101)), 414);
    is_refused(&gateway, &backend, &format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path(1900)), 414);
    is_refused(&gateway, &backend, &format!("GET /x HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(2048)), 431);
    is_refused(&gateway, &backend, &format!("GET /x HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10)), 431);
    assert_eq!(gateway.ask("GET", "/x", &"X: y\r\n".repeat(9), "").status, 200);
    assert_eq!(backend.count(), 2);
}

#[test]
fn a_head_that_never_ends_is_refused_before_it_fills_the_memory() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for beginning in ["GET /", "GET / HTTP/1.1\r\nHost: a\r\nX: ", "X"] {
        let mut client = gateway.client();
        let _ = client.try_send(beginning);
        let _ = client.try_send("a".repeat(300_000));
        match client.try_response("GET") {
            Ok(response) => assert!(matches!(response.status, 400 | 414 | 431), "{response:?}"),
            Err(Broken::Reset(_)) => {}
            Err(other) => panic!("{beginning:?}: {other:?}"),
        }
    }
    assert_eq!(backend.count(), 0);
}
