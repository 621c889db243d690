//! HTTP/2 towards clients, section 8 of RFC 9113: what a request may look like, what of it reaches an HTTP/1.1 back end, and what
//! comes back. Frames and streams stand in `h2.rs`, bodies in `h2_bodies.rs`.

use maitred_testkit::h2::{Frame, code, hpack};
use maitred_testkit::{Backend, Folder, Gateway, H2Broken, H2Client, eventually, gateway, gateway_to};

fn fields(change: &[(&'static str, Option<&'static str>)]) -> Vec<(&'static str, &'static str)> {
    let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "gateway.test")];
    for (name, value) in change {
        fields.retain(|(known, _)| known != name);
        if let Some(value) = value {
            fields.push((name, value));
        }
    }
    fields
}

/// Each is refused on its own stream, and the connection goes on.
#[track_caller]
fn all_are_malformed(cases: Vec<(&str, Vec<(&str, &str)>)>) {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for (what, fields) in cases {
        let stream = client.open_with(&fields, true);
        match client.try_response(stream) {
            Err(H2Broken::Reset(code)) => assert_eq!(code, code::PROTOCOL_ERROR, "{what}"),
            Ok(response) => assert_eq!(response.status, 400, "{what}: {response:?}"),
            Err(broken) => panic!("{what}: {broken:?}"),
        }
    }
    assert_eq!(client.get("/good").status, 200);
    assert_eq!(backend.only().target, "/good", "nothing else reached the back end");
}

#[test]
fn pseudo_fields_stand_there_once_first_and_whole() {
    let twice = |name, value| [fields(&[]), vec![(name, value)]].concat();
    all_are_malformed(vec![
        ("no :method", fields(&[(":method", None)])),
        ("no :scheme", fields(&[(":scheme", None)])),
        ("no :path", fields(&[(":path", None)])),
        ("an empty :path", fields(&[(":path", Some(""))])),
        ("a :path without slash", fields(&[(":path", Some("a"))])),
        ("an absolute :path", fields(&[(":path", Some("http://gateway.test/"))])),
        ("an asterisk without OPTIONS", fields(&[(":path", Some("*"))])),
        ("two :method", twice(":method", "GET")),
        ("two :path", twice(":path", "/")),
        ("two :scheme", twice(":scheme", "http")),
        ("two :authority", twice(":authority", "gateway.test")),
        ("one of responses", twice(":status", "200")),
        ("one behind a field", [vec![("x-a", "1")], fields(&[])].concat()),
        ("the last one behind a field", [fields(&[(":path", None)]), vec![("x-a", "1"), (":path", "/")]].concat()),
        ("a scheme that is none", fields(&[(":scheme", Some("h ttp"))])),
    ]);
}

#[test]
fn fields_are_well_formed() {
    let cases = [
        ("X-Upper", "1"),
        ("", "1"),
        (":extension", "1"),
        (":method", "G T"),
        ("x a", "1"),
        ("x:a", "1"),
        ("x\r\nhost", "1"),
        ("x\u{e9}", "1"),
        ("x\u{7f}", "1"),
        ("x-a", "1\r\nx-b: 2"),
        ("x-a", "1\n2"),
        ("x-a", "1\r2"),
        ("x-a", "1\0"),
        ("x-a", " 1"),
        ("x-a", "1\t"),
    ];
    let wrong = |(name, value)| (name, [fields(&[(name, None)]), vec![(name, value)]].concat());
    all_are_malformed(cases.into_iter().map(wrong).collect());
}

#[test]
fn a_path_has_no_fragment() {
    let with = |path| fields(&[(":path", Some(path))]);
    all_are_malformed(vec![("behind a path", with("/a#b")), ("behind a query", with("/?a#b")), ("an empty one", with("/a#"))]);
}

#[test]
fn fields_of_the_connection_do_not_exist() {
    let with = |name, value| [fields(&[]), vec![(name, value)]].concat();
    all_are_malformed(vec![
        ("connection", with("connection", "close")),
        ("connection that names a field", with("connection", "x-a")),
        ("keep-alive", with("keep-alive", "timeout=5")),
        ("proxy-connection", with("proxy-connection", "keep-alive")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("upgrade", with("upgrade", "websocket")),
        ("te other than trailers", with("te", "gzip")),
        ("te with more than trailers", with("te", "trailers, gzip")),
    ]);
}

#[test]
fn the_authority_is_one_and_a_host() {
    let with = |name, value| [fields(&[]), vec![(name, value)]].concat();
    all_are_malformed(vec![
        ("none at all", fields(&[(":authority", None)])),
        ("an empty one", fields(&[(":authority", Some(""))])),
        ("with a user", fields(&[(":authority", Some("user@gateway.test"))])),
        ("with a blank", fields(&[(":authority", Some("gateway test"))])),
        ("another host", with("host", "elsewhere.test")),
        ("two hosts", [fields(&[(":authority", None)]), vec![("host", "a.test"), ("host", "a.test")]].concat()),
    ]);
}

#[test]
fn a_length_is_true() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for (length, body, what) in [
        ("5", "", "no body"),
        ("5", "abc", "too little"),
        ("2", "abc", "too much"),
        ("0", "abc", "something for nothing"),
        ("x", "abc", "no number"),
        ("+3", "abc", "a sign"),
        ("3, 3", "abc", "a list"),
        ("99999999999999999999999", "abc", "beyond counting"),
    ] {
        let headers = [("content-length", length)];
        let stream = if body.is_empty() { client.ask("POST", "/", &headers) } else { client.open("POST", "/", &headers) };
        if !body.is_empty() {
            client.data(stream, body, true);
        }
        let outcome = client.try_response(stream);
        let refused = match &outcome {
            Ok(response) => response.status == 400,
            Err(H2Broken::Reset(code)) => *code == code::PROTOCOL_ERROR,
            Err(_) => false,
        };
        assert!(refused, "{what}: {outcome:?}");
    }
    assert!(backend.requests().iter().all(|request| !request.complete || request.body.is_empty()), "nothing of it looked whole");
    for (pieces, with_trailers) in [(&["ab", "c", "d"][..], false), (&["a", "b"], false), (&["ab"], true)] {
        let stream = client.open("POST", "/", &[("content-length", "3")]);
        let piece = |(at, piece)| Frame::data(stream, piece, at + 1 == pieces.len() && !with_trailers);
        let mut frames: Vec<Frame> = pieces.iter().enumerate().map(piece).collect();
        frames.extend(with_trailers.then(|| Frame::headers(stream, hpack::block(&[("x-sum", "1")]), true)));
        // All at once: else the back end might answer what is whole for it, before the byte too much is there.
        client.send_all(&[], &frames);
        client.expect_malformed(stream);
    }
    let stream = client.open("POST", "/", &[("content-length", "3"), ("content-length", "4")]);
    client.data(stream, "abc", true);
    client.expect_malformed(stream);
    let stream = client.open("POST", "/", &[("content-length", "3")]);
    client.data(stream, "abc", true);
    assert_eq!(client.response(stream).json()["body"], "abc");
    // What was refused may still arrive, cut, behind it.
    let whole = backend.requests().into_iter().find(|request| request.complete && request.body == b"abc").expect("it arrived");
    assert_eq!((whole.header("content-length"), whole.headers.has("transfer-encoding")), (Some("3"), false));
}

#[test]
fn trailers_are_well_formed() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for (what, trailers, end) in [
        ("upper case", ("X-Up", "1"), true),
        ("a field of the connection's", ("connection", "close"), true),
        ("a line", ("x", "1\n2"), true),
        ("a pseudo-field", (":path", "/other"), true),
        ("a pseudo-field of responses", (":status", "200"), true),
        ("no end", ("x-a", "1"), false),
    ] {
        let stream = client.open("POST", "/", &[]);
        client.data(stream, "abc", false);
        client.send(Frame::headers(stream, hpack::block(&[trailers]), end));
        match client.try_response(stream) {
            Err(H2Broken::Reset(found)) => assert_eq!(found, code::PROTOCOL_ERROR, "{what}"),
            Ok(response) => assert_eq!(response.status, 400, "{what}: {response:?}"),
            Err(broken) => panic!("{what}: {broken:?}"),
        }
    }
    assert!(!backend.requests().iter().any(|request| request.complete), "none of them looked whole");
    assert_eq!(client.get("/").status, 200, "and the connection goes on");
}

#[test]
fn connect_and_trace_are_not_proxied() {
    let gateway = gateway_to(&Backend::echo());
    let mut client = gateway.h2();
    let trace = client.get_status(&fields(&[(":method", Some("TRACE"))]));
    assert!(matches!(trace, 405 | 501), "{trace}");
    let connect = fields(&[(":method", Some("CONNECT")), (":scheme", None), (":path", None)]);
    let stream = client.open_with(&connect, true);
    match client.try_response(stream) {
        Ok(response) => assert!(matches!(response.status, 400 | 405 | 501), "{response:?}"),
        Err(broken) => assert_eq!(broken, H2Broken::Reset(code::PROTOCOL_ERROR)),
    }
    client.ping();
}

trait Status {
    fn get_status(&mut self, fields: &[(&str, &str)]) -> u16;
}

impl Status for H2Client {
    #[track_caller]
    fn get_status(&mut self, fields: &[(&str, &str)]) -> u16 {
        let stream = self.open_with(fields, true);
        self.response(stream).status
    }
}

#[test]
fn what_is_too_large_is_said_so() {
    let backend = Backend::echo();
    let yaml = "limits: { header_bytes: 4KiB, headers: 20, uri_bytes: 1KiB, body_bytes: 10B }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"ANY /{path+}\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let long = "y".repeat(5000);
    let stream = client.ask("GET", "/a", &[("x-long", &long)]);
    assert_eq!(client.response(stream).status, 431);
    let many: Vec<(String, &str)> = (0..30).map(|at| (format!("x-{at}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let stream = client.ask("GET", "/a", &many);
    assert_eq!(client.response(stream).status, 431);
    assert_eq!(client.get(&format!("/{}", "p".repeat(1100))).status, 414);
    let declared = client.open("POST", "/a", &[("content-length", "11")]);
    assert_eq!(client.head(declared).status, 413, "without a byte of it");
    let grown = client.open("POST", "/a", &[]);
    client.data(grown, "0123456789a", true);
    assert_eq!(client.response(grown).status, 413);
    assert_eq!(client.request("POST", "/a", &[], "0123456789").status, 200);
    assert!(backend.requests().iter().filter(|request| request.complete).count() == 1, "and nothing else looked whole");
}

#[test]
fn method_path_headers_and_body_reach_an_http_1_1_back_end() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let headers = [("accept", "text/*;q=0.3"), ("x-odd", "MiXed  Value"), ("x-twice", "1"), ("x-twice", "2"), ("x-empty", "")];
    let response = client.request("PATCH", "/a/b%20c;d=e/@f?x=%2F&y&&z=1%", &headers, "the body");
    assert_eq!(response.status, 200);
    let received = backend.only();
    assert_eq!((received.method.as_str(), received.target.as_str()), ("PATCH", "/a/b%20c;d=e/@f?x=%2F&y&&z=1%"));
    assert_eq!((received.version.as_str(), received.header("x-odd")), ("HTTP/1.1", Some("MiXed  Value")));
    assert_eq!((received.headers.all("x-twice"), received.header("x-empty")), (vec!["1", "2"], Some("")));
    assert_eq!((received.header("transfer-encoding"), received.body.as_slice()), (Some("chunked"), b"the body".as_slice()));
    assert_eq!(received.header("host"), Some(backend.address().to_string().as_str()));
    assert_eq!(received.header("x-forwarded-host"), Some("gateway.test"));
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.headers.members("via"), ["2.0 maitred"]);
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
    let raw = String::from_utf8_lossy(&received.raw).into_owned();
    assert!(!raw.contains("\r\n:") && !raw.contains("HTTP2-Settings"), "{raw}");
}

#[test]
fn a_request_without_a_body_has_none_at_the_back_end() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    client.get("/");
    let received = backend.last();
    assert!(!received.headers.has("content-length") && !received.headers.has("transfer-encoding"), "{received:?}");
    let stream = client.open("POST", "/", &[("content-length", "0")]);
    client.data(stream, "", true);
    client.response(stream);
    assert_eq!(backend.last().header("content-length"), Some("0"));
}

#[test]
fn the_host_is_the_authority() {
    let backend = Backend::echo();
    let yaml = "
upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], host: client } }
apis:
  shop: { hosts: [shop.example], routes: [ \"GET /\": kitchen ] }
  other: { hosts: [other.example], routes: [ { match: GET /, respond: { text: other } } ] }
";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    for headers in
        [&[(":authority", "Shop.Example:8080")][..], &[(":authority", "Shop.Example:8080"), ("host", "Shop.Example:8080")]]
    {
        let stream = client.ask("GET", "/", headers);
        assert_eq!(client.response(stream).status, 200);
        assert_eq!(backend.last().header("host"), Some("Shop.Example:8080"), "as it was sent, and once");
    }
    let only_host = [fields(&[(":authority", None)]), vec![("host", "other.example")]].concat();
    let stream = client.open_with(&only_host, true);
    assert_eq!(client.response(stream).text(), "other");
    assert_eq!(client.get("/").status, 404, "gateway.test is nobody here");
}

#[test]
fn cookies_are_one_field_for_an_http_1_1_back_end() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    client.request("GET", "/", &[("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")], "");
    assert_eq!(backend.only().header("cookie"), Some("a=1; b=2; c=3; d=4"));
}

#[test]
fn the_answer_has_lower_case_names_and_nothing_of_the_connection() {
    let backend = Backend::new(|_, conn| {
        conn.send(
            "HTTP/1.1 418 I'm a teapot\r\nConnection: x-named\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nX-Back: End\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n\r\n",
        );
    });
    let gateway = gateway_to(&backend);
    // The client of the kit refuses what may not stand there.
    let response = gateway.h2().get("/");
    assert_eq!((response.status, response.text().as_str()), (418, "short"));
    assert_eq!((response.header("x-back"), response.headers.all("set-cookie")), (Some("End"), vec!["a=1", "b=2"]));
    assert!(!response.headers.has("x-named") && !response.headers.has("content-length"), "{response:?}");
}

#[test]
fn a_length_stays() {
    let backend = Backend::named("12345");
    let gateway = gateway_to(&backend);
    assert_eq!(gateway.h2().get("/").header("content-length"), Some("5"));
}

#[test]
fn head_no_content_and_not_modified_have_no_body() {
    let backend = Backend::new(|request, conn| match request.target.as_str() {
        "/204" => drop(conn.send("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")),
        "/304" => drop(conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n")),
        _ => drop(conn.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")),
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    for _ in 0..2 {
        let head = client.request("HEAD", "/", &[], "");
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("12345"), 0));
        let none = client.get("/204");
        assert_eq!((none.status, none.header("x-a"), none.header("content-length")), (204, Some("b"), None));
        let same = client.get("/304");
        assert_eq!((same.status, same.header("etag"), same.body.len()), (304, Some("\"x\""), 0));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn trailers_pass_both_ways() {
    let backend = Backend::new(|_, conn| {
        conn.body();
        conn.chunked_head(200, "Trailer: X-Sum\r\n");
        conn.chunk("hello");
        conn.send("0\r\nX-Sum: 5\r\nCache-Control: no-store\r\n\r\n");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[("te", "trailers"), ("trailer", "x-end")]);
    client.data(stream, "abc", false);
    client.trailers(stream, &[("x-end", "yes"), ("host", "evil.test"), ("x_odd", "1")]);
    let response = client.response(stream);
    assert_eq!((response.text().as_str(), response.trailers.get("x-sum")), ("hello", Some("5")));
    assert!(!response.trailers.has("cache-control"), "{:?}", response.trailers);
    let received = backend.only();
    assert_eq!((received.body.as_slice(), received.complete), (b"abc".as_slice(), true));
    assert_eq!(received.trailers.0, [("x-end".to_owned(), "yes".to_owned())], "and not those that must not stand there");
    assert_eq!(received.headers.members("te"), ["trailers"]);
}

#[test]
fn early_hints_pass() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n");
        conn.answer(200, "", "x");
    });
    let gateway = gateway_to(&backend);
    let response = gateway.h2().get("/");
    let links: Vec<_> = response.interim.iter().map(|(status, fields)| (*status, fields.get("link"))).collect();
    assert_eq!(links, [(103, Some("</a.css>")), (103, Some("</b.css>"))]);
    assert_eq!(response.text(), "x");
}

#[test]
fn the_body_is_asked_for_when_the_back_end_asks_for_it() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[("expect", "100-continue"), ("content-length", "5")]);
    assert_eq!(client.interim(stream, 1)[0].0, 100);
    assert_eq!(backend.only().header("expect"), Some("100-continue"));
    client.data(stream, "hello", true);
    let response = client.response(stream);
    assert_eq!((response.text().as_str(), response.interim.len()), ("hello", 1));
}

#[test]
fn request_ids_are_told_to_both_sides() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.h2();
    let response = client.request("GET", "/", &[("x-request-id", "order-42")], "");
    assert_eq!((response.header("x-request-id"), backend.last().header("x-request-id")), (Some("order-42"), Some("order-42")));
    let made = client.get("/").header("x-request-id").map(str::to_owned);
    assert_eq!(made.as_deref().map(str::len), Some(36));
    assert_eq!(backend.last().header("x-request-id"), made.as_deref());
}

#[test]
fn policies_and_faults_are_the_same_as_over_http_1_1() {
    let backend = Backend::echo();
    let yaml = "
upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    cors: { origins: [\"https://app.example\"] }
    routes:
      - { match: GET /own, proxy: kitchen, transform: { request: { headers: { set: { x-own: \"{client.ip}\" } } }, response: { headers: { set: { x-back: \"1\" } } } } }
      - { match: GET /denied, proxy: kitchen, ip: { deny: [127.0.0.0/8] } }
      - { match: ANY /away, redirect: /own }
";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let mut client = gateway.h2();
    let response = client.request("GET", "/own", &[("origin", "https://app.example")], "");
    assert_eq!((response.status, response.header("x-back")), (200, Some("1")));
    assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(backend.only().header("x-own"), Some("127.0.0.1"));
    let denied = client.get("/denied");
    assert_eq!((denied.status, denied.header("content-type")), (403, Some("application/problem+json")));
    assert!(denied.json()["type"].as_str().is_some_and(|kind| kind.ends_with("address_denied")), "{denied:?}");
    let wrong = client.request("POST", "/own", &[], "body");
    assert_eq!((wrong.status, wrong.header("allow").is_some()), (405, true));
    assert_eq!(client.get("/nowhere").status, 404);
    let away = client.get("/away");
    assert_eq!((away.status, away.header("location")), (308, Some("/own")));
    assert!(denied.header("date").is_some());
}

#[test]
fn the_access_log_has_the_same_fields() {
    let backend = Backend::echo();
    let folder = Folder::new();
    let path = folder.path("access.log");
    let yaml = format!(
        "telemetry: {{ access_log: {{ to: {} }} }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ {{ match: \"POST /{{x}}\", name: order, proxy: kitchen }} ] }} }}",
        path.display()
    );
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    one_of_each(&gateway);
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("both lines are written", || lines().lines().count() == 2);
    let lines: Vec<serde_json::Value> = lines().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let keys = |line: &serde_json::Value| line.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let (old, new) = (&lines[0], &lines[1]);
    let mut wanted = keys(old);
    wanted.retain(|key| key != "protocol");
    let mut found = keys(new);
    found.retain(|key| key != "protocol");
    assert_eq!(found, wanted);
    for key in ["client_ip", "method", "host", "path", "status", "api", "route", "bytes_in", "user_agent", "endpoint"] {
        assert_eq!(new[key], old[key], "{key}");
    }
    assert_eq!((&old["protocol"], &new["protocol"]), (&"HTTP/1.1".into(), &"HTTP/2".into()));
    assert_eq!((new.get("tls_version"), new.get("server_name")), (None, None));
    assert_eq!(new["bytes_in"], 4);
}

/// The same request over both versions.
fn one_of_each(gateway: &Gateway) {
    assert_eq!(gateway.ask("POST", "/1?q", "User-Agent: kit\r\n", "body").status, 200);
    eventually("the first is counted", || gateway.counted("order") == 1);
    assert_eq!(gateway.h2().request("POST", "/1?q", &[("user-agent", "kit")], "body").status, 200);
}
