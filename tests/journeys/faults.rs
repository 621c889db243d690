//! What goes wrong at a back end, and what the client is told of it: enough, and no internals.

use maitred_testkit::{Backend, Broken, Conn, Gateway, Latch, Response, gateway, gateway_to, nobody, reluctant};
use std::net::SocketAddr;
use std::time::Duration;

/// A problem (RFC 9457) with the request's id, and nothing that an attacker could use.
#[track_caller]
fn is_problem(response: &Response, status: u16, secrets: &[&str]) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{response:?}");
    let problem = response.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"].as_str(), response.header("x-request-id"), "{response:?}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{response:?}");
    assert!(problem["type"].is_string(), "{response:?}");
    let all = format!("{response:?}");
    for secret in ["127.0.0.1", "kitchen", "refused", "os error", "src/", ".rs", "timeouts.", "limits."].iter().chain(secrets) {
        assert!(!all.contains(secret), "{secret:?} is nobody's business: {response:?}");
    }
}

fn one_route(address: SocketAddr) -> Gateway {
    gateway(
        "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], timeouts: { connect: 3s, response: 20s, idle: 40s } } }
apis: { all: { routes: [ \"ANY /\": kitchen, \"ANY /{path+}\": kitchen ] } }",
        &[("kitchen", address)],
    )
}

#[test]
fn a_back_end_that_closes_without_an_answer_is_a_502() {
    let backend = Backend::new(|_, conn| conn.close());
    let gateway = gateway_to(&backend);
    is_problem(&gateway.get("/"), 502, &[]);
}

#[test]
fn a_back_end_that_resets_is_a_502() {
    let backend = Backend::new(|_, conn| conn.reset());
    let gateway = gateway_to(&backend);
    is_problem(&gateway.get("/"), 502, &[]);
}

#[test]
fn a_back_end_that_cannot_be_reached_is_a_502() {
    let (address, _held) = nobody();
    let gateway = one_route(address);
    let mut client = gateway.client();
    is_problem(&client.get("/"), 502, &[&address.port().to_string()]);
    is_problem(&client.request("POST", "/", "", "x"), 502, &[]);
}

#[test]
fn a_back_end_that_accepts_nobody_is_a_504() {
    let (address, _held) = reluctant();
    let gateway = one_route(address);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.until_readable(|| gateway.turn(Duration::from_secs(3)));
    is_problem(&client.response(), 504, &[]);
}

#[test]
fn a_back_end_that_never_answers_is_a_504() {
    let left = Latch::new();
    let leaving = left.clone();
    let backend = Backend::new(move |_, conn| {
        if conn.peer_leaves() {
            leaving.open();
        }
    });
    let gateway = one_route(backend.address());
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    gateway.turn(Duration::from_secs(12));
    // A round trip: the worker has looked at its clock.
    assert_eq!(gateway.get("/%zz").status, 400);
    assert!(client.is_quiet(), "it has eight seconds left");
    client.until_readable(|| gateway.turn(Duration::from_secs(2)));
    is_problem(&client.response(), 504, &[]);
    left.wait();
    assert_eq!(backend.count(), 1, "a request that may have been acted upon is not repeated");
}

#[test]
fn the_client_s_connection_outlives_a_fault() {
    let backend =
        Backend::new(|request, conn| if request.target == "/bad" { conn.close() } else { _ = conn.answer(200, "", "good") });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    assert_eq!(client.get("/bad").status, 502);
    assert_eq!(client.get("/good").text(), "good");
}

#[test]
fn what_is_no_answer_is_a_502() {
    for garbage in [
        "hello\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n Content-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNoColon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ] {
        let backend = Backend::new(move |_, conn| {
            conn.send(garbage);
            conn.close();
        });
        let gateway = gateway_to(&backend);
        let response = gateway.get("/");
        assert_eq!(response.status, 502, "{garbage:?} became {response:?}");
        is_problem(&response, 502, &["hello", "OpenSSH"]);
    }
}

#[test]
fn a_head_without_end_is_a_502_and_not_a_full_memory() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\n");
        while conn.send(format!("X-Fill: {}\r\n", "x".repeat(8000))) {}
        conn.close();
    });
    let gateway = gateway_to(&backend);
    is_problem(&gateway.get("/"), 502, &[]);
    assert!(backend.written() < 20_000_000);
}

#[test]
fn a_head_that_breaks_off_is_a_502() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\nContent-Len");
        conn.close();
    });
    let gateway = gateway_to(&backend);
    is_problem(&gateway.get("/"), 502, &[]);
}

/// A back end that begins an answer, waits for the latch, and then does as it is told.
fn breaking_off(beginning: &'static str, latch: &Latch, then: impl Fn(&mut Conn) + Send + Sync + 'static) -> Backend {
    let latch = latch.clone();
    Backend::new(move |_, conn| {
        conn.send(beginning);
        conn.wait(&latch);
        then(conn);
        conn.close();
    })
}

#[test]
fn a_body_with_a_length_that_breaks_off_is_cut_for_the_client() {
    for reset in [false, true] {
        let latch = Latch::new();
        let end = move |conn: &mut Conn| {
            if reset {
                conn.reset()
            }
        };
        let backend = breaking_off("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning", &latch, end);
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().fields.get("content-length"), Some("100"));
        assert_eq!(client.read_exactly(13), b"the beginning");
        latch.open();
        client.closed();
    }
}

/// What may come behind a good beginning, and is no end.
const NO_ENDS: [&str; 8] = ["", "5\r\nab", "0\r\n", "0\r\nX: y\r\n", "zz\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-1\r\n", "0\n\n"];

#[test]
fn a_chunked_body_that_breaks_off_is_cut_for_the_client() {
    for end in NO_ENDS {
        for version in ["1.0", "1.1"] {
            let latch = Latch::new();
            let beginning = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\nthe beginning\r\n";
            let backend = breaking_off(beginning, &latch, move |conn| _ = conn.send(end));
            let gateway = gateway_to(&backend);
            let mut client = gateway.client();
            client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
            client.head();
            let chunked = version == "1.1";
            assert_eq!(
                client.read_exactly(if chunked { 18 } else { 13 }),
                if chunked { &b"d\r\nthe beginning\r\n"[..] } else { b"the beginning" }
            );
            latch.open();
            let (rest, in_order) = client.read_to_end();
            let rest = rest.escape_ascii().to_string();
            // For HTTP/1.0 only the way the connection ends can tell: FIN would say that it is whole.
            assert!(
                if chunked { !rest.contains("0\\r\\n\\r\\n") } else { !in_order },
                "{end:?} for HTTP/{version}: {rest}, in order: {in_order}"
            );
        }
    }
}

#[test]
fn a_body_until_close_that_is_reset_is_cut_for_the_client() {
    let latch = Latch::new();
    let backend = breaking_off("HTTP/1.1 200 OK\r\n\r\nthe beginning", &latch, Conn::reset);
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    assert_eq!(client.read_exactly(18), b"d\r\nthe beginning\r\n");
    latch.open();
    client.closed();
}

/// Head, beginning and failure may arrive together. A connection that just closes looks like one that was stale: clients then send
/// the same request again, though it was served.
#[test]
fn an_answer_that_breaks_off_at_once_is_cut_or_a_502_but_never_silence() {
    let mut answers = vec!["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning".to_owned()];
    answers
        .extend(NO_ENDS.map(|end| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\nthe beginning\r\n{end}")));
    for answer in answers {
        let bytes = answer.clone();
        let backend = Backend::new(move |_, conn| {
            conn.send(&bytes);
            conn.close();
        });
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_response("GET") {
            Err(Broken::BodyCut(body) | Broken::Reset(body)) => {
                assert!(b"the beginningabc".starts_with(&body), "{}", body.escape_ascii())
            }
            Ok(response) => assert_eq!(response.status, 502, "{answer:?} looks whole: {response:?}"),
            Err(other) => panic!("{answer:?} is answered with {other:?}"),
        }
    }
}

#[test]
fn a_body_that_stalls_is_cut_when_the_upstream_s_idle_time_is_over() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning");
        conn.wait(&seen);
    });
    let gateway = one_route(backend.address());
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.read_exactly(13);
    client.until_readable(|| gateway.turn(Duration::from_secs(41)));
    let (rest, _) = client.read_to_end();
    assert!(rest.is_empty());
    latch.open();
}

#[test]
fn a_stream_may_last_for_ever_as_long_as_it_moves() {
    let (tick, ticks) = std::sync::mpsc::channel::<()>();
    let ticks = std::sync::Mutex::new(ticks);
    let backend = Backend::new(move |_, conn| {
        conn.chunked_head(200, "");
        while ticks.lock().expect("one handler").recv().is_ok() {
            conn.chunk("tick");
        }
        conn.send("0\r\n\r\n");
    });
    let gateway = one_route(backend.address());
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    for _ in 0..5 {
        tick.send(()).expect("the back end listens");
        assert_eq!(client.read_exactly(9), b"4\r\ntick\r\n");
        gateway.turn(Duration::from_secs(30));
    }
    drop(tick);
    assert_eq!(client.read_exactly(5), b"0\r\n\r\n", "every pause was shorter than 40 seconds, all of them longer");
}

#[test]
fn a_route_s_timeout_ends_at_the_response_head() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |request, conn| {
        if request.target == "/slow-body" {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nso");
            conn.wait(&seen);
            conn.send("on");
        } else {
            conn.peer_leaves();
        }
    });
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ { match: \"GET /{x}\", proxy: kitchen, timeout: 2s } ] } }",
        &[("kitchen", backend.address())],
    );
    let mut client = gateway.client();
    client.send("GET /slow-head HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_secs(2)));
    is_problem(&client.response(), 504, &[]);
    let mut client = gateway.client();
    client.send("GET /slow-body HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.read_exactly(2);
    gateway.turn(Duration::from_secs(10));
    assert_eq!(gateway.get("/%zz").status, 400);
    latch.open();
    assert_eq!(client.read_exactly(2), b"on", "a stream is not the timeout's business");
}

#[test]
fn an_upstream_whose_name_leads_nowhere_is_a_503() {
    let gateway = gateway(
        "upstreams: { kitchen: \"http://kitchen.invalid:9000\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }",
        &[],
    );
    is_problem(&gateway.get("/"), 503, &["kitchen.invalid"]);
}

#[test]
fn a_fault_without_body_for_head() {
    let (address, _held) = nobody();
    let gateway = one_route(address);
    let mut client = gateway.client();
    let response = client.request("HEAD", "/", "", "");
    assert_eq!(response.status, 502);
    assert_eq!(client.get("/").status, 502, "no body came behind it, so the next answer is the next");
}

#[test]
fn an_api_may_speak_of_faults_as_aws_does() {
    let kitchen = Backend::status(200);
    let (down, _held) = nobody();
    let api = |host: &str, form: &str| {
        format!(
            "  {form}:
    hosts: [{host}]
    gateway_responses: {form}
    policies: {{ authenticate: [keys] }}
    routes:
      - GET /: kitchen
      - {{ match: GET /staff, authorize: {{ groups: [staff] }}, proxy: kitchen }}
      - {{ match: POST /small, body_bytes: 1B, proxy: kitchen }}
      - {{ match: GET /down, proxy: down }}
      - {{ match: GET /outside, authenticate: [outside], proxy: kitchen }}
"
        )
    };
    let yaml = format!(
        "upstreams: {{ kitchen: \"http://$kitchen\", down: \"http://$down\" }}
authorizers: {{ keys: {{ api_key: {{}} }}, outside: {{ forward: {{ url: \"http://$down/\" }} }} }}
consumers: {{ alice: {{ api_keys: [alices-key] }} }}
apis:
{}{}{}",
        api("rest.example.com", "aws_rest"),
        api("http.example.com", "aws_http"),
        api("own.example.com", "problem")
    );
    let gateway = gateway(&yaml, &[("kitchen", kitchen.address()), ("down", down)]);
    let ask = |host: &str, method: &str, path: &str, headers: &str, body: &str| {
        let mut client = gateway.client();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{length}\r\n{body}"));
        client.response_to(method)
    };
    const KEY: &str = "X-Api-Key: alices-key\r\n";
    for (method, path, key, rest, http, own) in [
        (
            "GET",
            "/nothing",
            "",
            (403, r#"{"message":"Missing Authentication Token"}"#, "MissingAuthenticationTokenException"),
            (404, r#"{"message":"Not Found"}"#),
            404,
        ),
        (
            "PUT",
            "/",
            "",
            (403, r#"{"message":"Missing Authentication Token"}"#, "MissingAuthenticationTokenException"),
            (404, r#"{"message":"Not Found"}"#),
            405,
        ),
        (
            "GET",
            "/",
            "",
            (401, r#"{"message":"Unauthorized"}"#, "UnauthorizedException"),
            (401, r#"{"message":"Unauthorized"}"#),
            401,
        ),
        (
            "GET",
            "/staff",
            KEY,
            (403, r#"{"Message":"User is not authorized to access this resource"}"#, "AccessDeniedException"),
            (403, r#"{"message":"Forbidden"}"#),
            403,
        ),
        (
            "POST",
            "/small",
            KEY,
            (413, r#"{"message":"Request Too Long"}"#, "RequestTooLargeException"),
            (413, r#"{"message":"Request Entity Too Large"}"#),
            413,
        ),
        (
            "GET",
            "/down",
            KEY,
            (504, r#"{"message":"Network error communicating with endpoint"}"#, "InternalServerErrorException"),
            (503, r#"{"message":"Service Unavailable"}"#),
            502,
        ),
        (
            "GET",
            "/outside",
            "",
            (500, r#"{"message":null}"#, "AuthorizerConfigurationException"),
            (500, r#"{"message":"Internal Server Error"}"#),
            503,
        ),
    ] {
        let body = if method == "POST" { "long" } else { "" };
        let answer = ask("rest.example.com", method, path, key, body);
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.header("x-amzn-errortype").unwrap_or_default()),
            rest,
            "{path}"
        );
        assert_eq!((answer.header("content-type"), answer.header("allow")), (Some("application/json"), None), "{path}");
        let answer = ask("http.example.com", method, path, key, body);
        assert_eq!((answer.status, answer.text().as_str(), answer.header("x-amzn-errortype")), (http.0, http.1, None), "{path}");
        let answer = ask("own.example.com", method, path, key, body);
        assert_eq!((answer.status, answer.header("content-type")), (own, Some("application/problem+json")), "{path}");
    }
    assert_eq!(ask("elsewhere.example.com", "GET", "/", "", "").status, 404, "of no API nobody knows how it speaks");
    let grpc = ask("rest.example.com", "GET", "/", "Content-Type: application/grpc\r\n", "");
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("16")));
}
