//! What reaches the back end, and what comes back: method, target, headers, bodies.

use maitred_testkit::{Backend, Latch, gateway, gateway_to};

fn is_uuid_v7(id: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'7',
        19 => b"89ab".contains(&byte),
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    id.len() == 36 && id.bytes().enumerate().all(fits)
}

#[test]
fn method_path_query_headers_and_body_arrive_as_they_were_sent() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let headers = "Accept: text/*;q=0.3\r\nX-Odd-Case: MiXed  Value\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\n";
    let response = gateway.ask("PATCH", "/a/b%20c;d=e/@f?x=%2F&y&&z=1%", headers, "the body");
    assert_eq!(response.status, 200);
    let received = backend.only();
    assert_eq!((received.method.as_str(), received.target.as_str()), ("PATCH", "/a/b%20c;d=e/@f?x=%2F&y&&z=1%"));
    assert_eq!(received.version, "HTTP/1.1");
    assert_eq!(received.header("accept"), Some("text/*;q=0.3"));
    assert_eq!(received.header("x-odd-case"), Some("MiXed  Value"));
    assert_eq!(received.headers.all("x-twice"), ["1", "2"]);
    assert_eq!(received.header("x-empty"), Some(""));
    assert_eq!(received.header("content-length"), Some("8"));
    assert_eq!(received.body, b"the body");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn status_headers_and_body_of_the_answer_come_back_as_they_were_given() {
    let backend = Backend::new(|_, conn| {
        conn.answer(
            418,
            "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Back: end\r\nServer: kitchen/1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n",
            "short",
        );
    });
    let gateway = gateway_to(&backend);
    let response = gateway.get("/");
    assert_eq!((response.status, response.text().as_str()), (418, "short"));
    assert_eq!(response.headers.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.header("x-back"), Some("end"));
    assert_eq!(response.header("server"), Some("kitchen/1"));
    assert_eq!(response.header("date"), Some("Thu, 01 Jan 2026 00:00:00 GMT"), "the origin's date counts");
    assert_eq!(response.header("content-length"), Some("5"));
}

#[test]
fn any_method_is_forwarded() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "X"] {
        assert_eq!(gateway.ask(method, "/", "", "").json()["method"], method);
    }
}

#[test]
fn hop_by_hop_headers_stop_here() {
    let backend = Backend::new(|_, conn| {
        conn.answer(
            200,
            "Connection: x-named\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Kept: 2\r\n",
            "",
        );
    });
    let gateway = gateway_to(&backend);
    let headers = "Connection: keep-alive, X-Private, close-ish\r\nX-Private: 1\r\nClose-ish: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                   Proxy-Authorization: Basic eA==\r\nTE: gzip\r\nX-Public: 2\r\n";
    let response = gateway.ask("GET", "/", headers, "");
    let received = backend.only();
    for name in ["x-private", "close-ish", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade", "connection"]
    {
        assert!(!received.headers.has(name), "{name} reached the back end: {:?}", received.headers);
    }
    assert_eq!(received.header("x-public"), Some("2"));
    for name in ["x-named", "keep-alive", "proxy-authenticate", "connection"] {
        assert!(!response.headers.has(name), "{name} reached the client: {response:?}");
    }
    assert_eq!(response.header("x-kept"), Some("2"));
}

#[test]
fn via_names_the_gateway_behind_those_before_it() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    gateway.get("/");
    assert_eq!(backend.last().headers.members("via"), ["1.1 maitred"]);
    gateway.ask("GET", "/", "Via: 1.0 fred, 1.1 p.example\r\n", "");
    assert_eq!(backend.last().headers.members("via"), ["1.0 fred", "1.1 p.example", "1.1 maitred"]);
    gateway.client().send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    backend.wait_for(3);
    assert_eq!(backend.last().headers.members("via"), ["1.0 maitred"]);
}

#[test]
fn a_stranger_s_forwarding_headers_are_replaced() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let lies = "Host: shop.example:81\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
                Forwarded: for=6.6.6.6;host=evil.example\r\n";
    gateway.ask("GET", "/", lies, "");
    let received = backend.only();
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(received.header("x-forwarded-host"), Some("shop.example:81"));
    assert_eq!(received.header("forwarded"), Some("for=127.0.0.1;host=\"shop.example:81\";proto=http"));
}

#[test]
fn a_stranger_s_forwarding_headers_with_underscores_are_dropped_too() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    gateway.ask("GET", "/", "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\n", "");
    assert!(!String::from_utf8_lossy(&backend.only().raw).contains("6.6.6.6"));
}

#[test]
fn a_trusted_proxy_is_believed_and_named() {
    let backend = Backend::status(200);
    let yaml = "
trusted_proxies: [127.0.0.0/8]
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }
";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let told = "X-Forwarded-For: 198.51.100.7, 127.0.0.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nForwarded: for=198.51.100.7;proto=https\r\n";
    let response = gateway.ask("GET", "/", told, "");
    assert_eq!(response.status, 200, "{response:?}");
    let received = backend.only();
    assert_eq!(received.headers.members("x-forwarded-for"), ["198.51.100.7", "127.0.0.9", "127.0.0.1"]);
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("x-forwarded-host"), Some("shop.example"));
    let forwarded = received.headers.members("forwarded");
    assert_eq!(forwarded.len(), 2, "{forwarded:?}");
    assert_eq!(forwarded[0], "for=198.51.100.7;proto=https");
    assert!(forwarded[1].starts_with("for=127.0.0.1"), "{forwarded:?}");
}

#[test]
fn a_plain_request_id_is_kept_and_told_to_both_sides() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let response = gateway.ask("GET", "/", "X-Request-ID: order-42_a.b\r\n", "");
    assert_eq!(response.header("x-request-id"), Some("order-42_a.b"));
    assert_eq!(backend.only().header("x-request-id"), Some("order-42_a.b"));
}

#[test]
fn a_missing_or_odd_request_id_becomes_a_uuid_of_version_7() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let long = format!("X-Request-ID: {}\r\n", "a".repeat(200));
    for given in [
        "",
        "X-Request-ID: a b\r\n",
        "X-Request-ID: <script>\r\n",
        "X-Request-ID: \"\r\n",
        "X-Request-ID:\r\n",
        "X-Request-ID: \u{e9}\r\n",
        &long,
        "X-Request-ID: a\r\nX-Request-ID: b\r\n",
    ] {
        let response = gateway.ask("GET", "/", given, "");
        let id = response.header("x-request-id").expect("an id");
        assert!(is_uuid_v7(id), "{given:?} became {id:?}");
        assert_eq!(backend.last().header("x-request-id"), Some(id));
    }
}

#[test]
fn request_ids_are_ever_new_and_sort_by_time() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(client.get("/").header("x-request-id").expect("an id")[..13].to_owned());
        gateway.turn(std::time::Duration::from_secs(2));
    }
    let mut sorted = ids.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(ids, sorted);
}

#[test]
fn the_trace_passes_through() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    gateway.ask("GET", "/", &format!("traceparent: {trace}\r\ntracestate: a=b,c=d\r\n"), "");
    let received = backend.only();
    assert_eq!(received.header("traceparent"), Some(trace));
    assert_eq!(received.header("tracestate"), Some("a=b,c=d"));
}

#[test]
fn names_with_underscores_are_dropped_unless_allowed() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    gateway.ask("GET", "/", "X_User: admin\r\nX-User: me\r\n", "");
    let received = backend.last();
    assert!(!received.headers.has("x_user"));
    assert_eq!(received.header("x-user"), Some("me"));
    gateway.publish(
        "limits: { underscores: allow }
upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ \"GET /\": kitchen ] } }",
    );
    gateway.ask("GET", "/", "X_User: admin\r\n", "");
    assert_eq!(backend.last().header("x_user"), Some("admin"));
}

#[test]
fn a_header_that_is_dropped_for_its_underscore_cannot_smuggle_a_framing() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let response = gateway.ask("POST", "/", "Content_Length: 3\r\nTransfer_Encoding: chunked\r\n", "hello");
    assert_eq!(response.json()["body"], "hello");
    assert!(!backend.only().headers.0.iter().any(|(name, _)| name.contains('_')));
}

#[test]
fn the_host_sent_is_the_endpoint_s_the_client_s_or_a_literal() {
    for (setting, host) in [("upstream", None), ("client", Some("Shop.Example:8080")), ("inner.example", Some("inner.example"))] {
        let backend = Backend::status(200);
        let yaml = format!(
            "upstreams: {{ kitchen: {{ endpoints: [\"http://$kitchen\"], host: {setting} }} }}
apis: {{ all: {{ routes: [ \"GET /\": kitchen ] }} }}"
        );
        let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
        gateway.ask("GET", "/", "Host: Shop.Example:8080\r\n", "");
        let endpoint = backend.address().to_string();
        assert_eq!(backend.only().header("host"), Some(host.unwrap_or(&endpoint)), "{setting}");
    }
}

#[test]
fn an_absolute_target_is_forwarded_as_a_path() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    gateway.ask("GET", "http://gateway.test/a?b", "", "");
    assert_eq!(backend.last().target, "/a?b");
    gateway.ask("GET", "http://gateway.test?b", "", "");
    assert_eq!(backend.last().target, "/?b");
    assert_eq!(backend.last().header("x-forwarded-host"), Some("gateway.test"));
}

#[test]
fn a_head_request_is_forwarded_as_one_and_keeps_the_stated_length() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nX-A: b\r\n\r\n");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.request("HEAD", "/", "", "");
        assert_eq!((response.status, response.header("content-length")), (200, Some("12345")));
        assert!(response.body.is_empty());
    }
    let methods: Vec<String> = backend.requests().into_iter().map(|request| request.method).collect();
    assert_eq!((methods, backend.connections()), (vec!["HEAD".to_owned(); 2], 1), "and the connection is used again");
}

#[test]
fn no_content_and_not_modified_have_no_body() {
    let backend = Backend::new(|request, conn| match request.target.as_str() {
        "/204" => drop(conn.send("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")),
        "/304" => drop(conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n")),
        _ => drop(conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"y\"\r\n\r\n")),
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let none = client.get("/204");
    assert_eq!((none.status, none.header("content-length"), none.header("transfer-encoding")), (204, None, None));
    let same = client.get("/304");
    assert_eq!((same.status, same.header("etag"), same.header("transfer-encoding")), (304, Some("\"x\""), None));
    let plain = client.get("/304-plain");
    assert_eq!((plain.status, plain.header("etag")), (304, Some("\"y\"")));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_empty_body_has_a_length_of_zero() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let response = client.request("POST", "/", "Content-Length: 0\r\n", "");
    assert_eq!(response.header("content-length"), Some("0"));
    assert_eq!(backend.last().header("content-length"), Some("0"));
    client.get("/");
    assert!(!backend.last().headers.has("content-length"), "none was given, so none is made up");
}

#[test]
fn a_chunked_request_reaches_the_back_end_chunked_with_its_trailers() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;ext=1\r\nhello\r\n");
    client.send("6\r\n world\r\n0\r\nX-Sum: 11\r\nHost: evil\r\nX_Odd: 1\r\nConnection: x\r\n\r\n");
    assert_eq!(client.response().json()["body"], "hello world");
    let received = backend.only();
    assert_eq!(received.header("transfer-encoding"), Some("chunked"));
    assert!(!received.headers.has("content-length"));
    assert_eq!(received.trailers.0, [("X-Sum".to_owned(), "11".to_owned())], "and not those that must not stand there");
}

#[test]
fn a_chunked_answer_reaches_the_client_chunked_with_its_trailers() {
    let backend = Backend::new(|_, conn| {
        conn.chunked_head(200, "Trailer: X-Sum\r\n");
        conn.chunk("hello");
        conn.chunk(" world");
        conn.send("0\r\nX-Sum: 11\r\nSet-Cookie: x=1\r\nCache-Control: no-store\r\n\r\n");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let response = client.request("GET", "/", "TE: trailers\r\n", "");
    assert_eq!((response.status, response.text().as_str()), (200, "hello world"));
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.trailers.get("x-sum"), Some("11"));
    assert!(!response.trailers.has("cache-control"), "{:?}", response.trailers);
    assert_eq!(backend.last().headers.members("te"), ["trailers"]);
    client.get("/");
    assert_eq!(backend.connections(), 1, "a chunked answer leaves the connection usable");
}

#[test]
fn an_answer_that_ends_with_its_connection_becomes_chunked() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        conn.close();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.text().as_str(), response.until_close), ("until the end", false));
    }
    let old = Backend::new(|_, conn| {
        conn.send("HTTP/1.0 200 OK\r\n\r\nold");
        conn.close();
    });
    assert_eq!(gateway_to(&old).get("/").text(), "old");
}

#[test]
fn a_chunk_is_passed_on_when_it_comes_and_not_when_the_next_one_does() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.chunked_head(200, "Content-Type: text/event-stream\r\n");
        conn.chunk("data: 1\n\n");
        conn.wait(&seen);
        conn.chunk("data: 2\n\n");
        conn.send("0\r\n\r\n");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    assert_eq!(client.read_exactly(14), b"9\r\ndata: 1\n\n\r\n");
    latch.open();
    assert_eq!(client.read_exactly(19), b"9\r\ndata: 2\n\n\r\n0\r\n\r\n");
}

#[test]
fn large_bodies_pass_both_ways() {
    let backend = Backend::echo();
    let bytes = Backend::bytes(5_000_000);
    let gateway = gateway(
        "limits: { body_bytes: 64MiB }
upstreams: { kitchen: \"http://$kitchen\", cellar: \"http://$cellar\" }
apis: { all: { routes: [ \"POST /up\": kitchen, \"GET /down\": cellar ] } }",
        &[("kitchen", backend.address()), ("cellar", bytes.address())],
    );
    let body: String = (0..300_000).map(|n| format!("{n:06} ")).collect();
    let response = gateway.ask("POST", "/up", "", &body);
    assert_eq!(response.json()["body_length"], body.len());
    assert!(backend.only().body == body.as_bytes(), "every byte in its place");
    let response = gateway.get("/down");
    assert_eq!(response.body.len(), 5_000_000);
    assert!(response.body.iter().all(|&byte| byte == b'x'));
}

#[test]
fn requests_that_arrive_byte_by_byte_are_requests() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for byte in "POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n".bytes() {
        client.send([byte]);
    }
    let response = client.response();
    assert_eq!((response.json()["target"].as_str(), response.json()["body"].as_str()), (Some("/slow"), Some("abc")));
}

#[test]
fn answers_that_arrive_byte_by_byte_are_answers() {
    let backend = Backend::new(|_, conn| {
        for byte in "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n".bytes() {
            conn.send([byte]);
        }
    });
    let gateway = gateway_to(&backend);
    let response = gateway.get("/");
    assert_eq!((response.text().as_str(), response.trailers.get("x-t")), ("abc", Some("1")));
}

#[test]
fn a_date_is_given_where_the_origin_gives_none() {
    let backend = Backend::status(200);
    let gateway = gateway_to(&backend);
    let date = gateway.get("/").header("date").expect("a date").to_owned();
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
}

#[test]
fn an_endpoint_s_own_path_stands_before_every_path() {
    let backend = Backend::status(200);
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen/base/v1/\" }
apis: { all: { routes: [ ANY /: kitchen, \"ANY /{path+}\": kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    gateway.get("/a/b?c");
    assert_eq!(backend.last().target, "/base/v1/a/b?c");
    gateway.get("/");
    assert_eq!(backend.last().target, "/base/v1/");
}

#[test]
fn a_route_may_name_a_url_of_its_own() {
    let backend = Backend::status(200);
    let gateway = gateway("apis: { all: { routes: [ \"GET /x\": \"http://$kitchen\" ] } }", &[("kitchen", backend.address())]);
    assert_eq!(gateway.get("/x").status, 200);
}
