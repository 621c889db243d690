//! HTTP/2 towards back ends, by prior knowledge: what they get and what comes back, connections shared and multiplied. Who breaks
//! off, and what is sent again, stands in `h2_upstream_faults.rs`; TLS in `tls_upstream.rs`.

use maitred_testkit::h2::{Frame, setting};
use maitred_testkit::{Broken, H2Backend, H2Options, Latch, eventually, gateway, gateway_to_h2c, stays};
use std::time::Duration;

fn with_settings(settings: &[(u16, u32)]) -> H2Options {
    H2Options { settings: settings.to_vec(), ..H2Options::default() }
}

#[test]
fn an_http_1_1_client_reaches_a_back_end_of_http_2() {
    let backend = H2Backend::echo();
    let gateway = gateway_to_h2c(&backend);
    let headers = "X-Odd-Case: MiXed  Value\r\nX-Twice: 1\r\nX-Twice: 2\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n";
    let response = gateway.ask("POST", "/a/b%20c?x=%2F&y", headers, "the body");
    assert_eq!((response.status, response.version.as_str()), (200, "HTTP/1.1"));
    let received = backend.only();
    assert_eq!(
        (received.method.as_str(), received.path.as_str(), received.scheme.as_str()),
        ("POST", "/a/b%20c?x=%2F&y", "http")
    );
    assert_eq!(received.authority.as_deref(), Some(backend.address().to_string().as_str()));
    assert_eq!((received.header("x-odd-case"), received.headers.all("x-twice")), (Some("MiXed  Value"), vec!["1", "2"]));
    assert_eq!((received.header("content-length"), received.body.as_slice()), (Some("8"), b"the body".as_slice()));
    for name in ["host", "x-private", "te", "connection", "transfer-encoding"] {
        assert!(!received.headers.has(name), "{name} reached the back end: {:?}", received.headers);
    }
    assert_eq!(received.headers.members("via"), ["1.1 maitred"]);
    assert_eq!(received.header("x-forwarded-host"), Some("gateway.test"));
    assert_eq!(received.header("x-request-id"), response.header("x-request-id"));
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn the_authority_is_the_endpoint_s_the_client_s_or_a_literal() {
    for (host, wanted) in [("client", Some("Shop.Example:81")), ("inner.example", Some("inner.example")), ("upstream", None)] {
        let backend = H2Backend::echo();
        let yaml = format!(
            "upstreams: {{ kitchen: {{ endpoints: [\"http://$kitchen\"], protocol: h2c, host: {host} }} }}
apis: {{ all: {{ routes: [ \"GET /\": kitchen ] }} }}"
        );
        let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
        gateway.ask("GET", "/", "Host: Shop.Example:81\r\n", "");
        let own = backend.address().to_string();
        assert_eq!(backend.only().authority.as_deref(), Some(wanted.unwrap_or(&own)), "{host}");
    }
}

#[test]
fn chunks_trailers_and_hints_pass_from_one_version_to_the_other() {
    let backend = H2Backend::new(|_, stream| {
        stream.interim(103, &[("link", "</a.css>")]);
        let body = stream.body();
        stream.head(200, &[("x-back", "end")], false);
        stream.data(body, false);
        stream.trailers(&[("x-sum", "11"), ("cache-control", "no-store")]);
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send("6\r\n world\r\n0\r\nX-Sum: 11\r\nHost: evil\r\nX_Odd: 1\r\n\r\n");
    let hint = client.head();
    assert_eq!((hint.start[1].as_str(), hint.fields.get("link")), ("103", Some("</a.css>")));
    let response = client.response();
    assert_eq!((response.text().as_str(), response.header("transfer-encoding")), ("hello world", Some("chunked")));
    assert_eq!(response.trailers.get("x-sum"), Some("11"));
    assert!(!response.trailers.has("cache-control"), "{:?}", response.trailers);
    let received = backend.only();
    assert!(!received.headers.has("content-length"), "{:?}", received.headers);
    assert_eq!((received.trailers.0, received.complete), (vec![("x-sum".to_owned(), "11".to_owned())], true));
}

#[test]
fn trailers_behind_a_stated_length_are_not_lost() {
    let backend = H2Backend::new(|_, stream| {
        stream.body();
        stream.head(200, &[("content-length", "3")], false);
        stream.data("abc", false);
        stream.trailers(&[("x-sum", "3")]);
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = client.ask("GET", "/", &[("te", "trailers")]);
    let response = client.response(stream);
    assert_eq!((response.header("content-length"), response.text().as_str()), (Some("3"), "abc"));
    assert_eq!(response.trailers.get("x-sum"), Some("3"));
    assert_eq!(gateway.h2().get("/").text(), "abc");
}

#[test]
fn http_2_passes_through_with_trailers_and_hints() {
    let backend = H2Backend::new(|_, stream| {
        stream.interim(103, &[("link", "</a.css>")]);
        stream.interim(103, &[("link", "</b.css>")]);
        let body = stream.body();
        stream.head(200, &[("x-back", "end")], false);
        stream.data(body, false);
        stream.trailers(&[("x-sum", "3")]);
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let stream = client.open("POST", "/", &[("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")]);
    client.data(stream, "abc", false);
    client.trailers(stream, &[("x-end", "yes")]);
    let response = client.response(stream);
    assert_eq!(
        (response.text().as_str(), response.header("x-back"), response.trailers.get("x-sum")),
        ("abc", Some("end"), Some("3"))
    );
    assert_eq!(response.interim.len(), 2);
    let received = backend.only();
    assert_eq!((received.trailers.get("x-end"), received.headers.members("te")), (Some("yes"), vec!["trailers".to_owned()]));
    assert_eq!(received.headers.members("via"), ["2.0 maitred"]);
    let cookies = received.headers.all("cookie").join("; ");
    assert_eq!(cookies, "a=1; b=2", "in one field or in several");
}

#[test]
fn the_answer_of_http_2_is_one_of_http_1_1() {
    let backend = H2Backend::new(|request, stream| match request.path.as_str() {
        "/length" => drop(stream.answer(418, &[("set-cookie", "a=1"), ("set-cookie", "b=2")], "short")),
        "/204" => drop(stream.answer(204, &[], "")),
        "/304" => drop(stream.head(304, &[("etag", "\"x\""), ("content-length", "77")], true)),
        "/empty" => drop(stream.head(200, &[], true)),
        _ => drop(stream.head(200, &[("content-length", "12345")], true)),
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    let response = client.get("/length");
    assert_eq!((response.status, response.header("content-length"), response.text().as_str()), (418, Some("5"), "short"));
    assert_eq!(response.headers.all("set-cookie"), ["a=1", "b=2"]);
    let head = client.request("HEAD", "/head", "", "");
    assert_eq!((head.status, head.header("content-length")), (200, Some("12345")));
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/304").header("etag"), Some("\"x\""));
    let empty = client.get("/empty");
    assert_eq!((empty.status, empty.body.len(), empty.until_close), (200, 0, false));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn many_requests_share_a_connection() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = H2Backend::new(move |_, stream| {
        stream.wait(&seen);
        stream.answer(200, &[], "x");
    });
    let gateway = gateway_to_h2c(&backend);
    let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let mut other = gateway.h2();
    let streams: Vec<u32> = (0..20).map(|_| other.ask("GET", "/", &[])).collect();
    backend.wait_for(40);
    latch.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "x"));
    streams.iter().for_each(|stream| assert_eq!(other.response(*stream).text(), "x"));
    assert_eq!((backend.connections(), backend.most_at_once()), (1, 40));
}

#[test]
fn where_streams_run_out_another_connection_is_opened() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = H2Backend::with(with_settings(&[(setting::MAX_CONCURRENT_STREAMS, 2)]), move |_, stream| {
        stream.wait(&seen);
        stream.answer(200, &[], "x");
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let mut streams = Vec::new();
    // One after the other, so that the back end's settings are there before a connection has too many.
    for count in 1..=7 {
        streams.push(client.ask("GET", "/", &[]));
        backend.wait_for(count);
    }
    assert_eq!((backend.connections(), backend.most_at_once()), (4, 2), "and nobody waited for another one to end");
    latch.open();
    streams.iter().for_each(|stream| assert_eq!(client.response(*stream).text(), "x"));
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "x");
    }
    assert_eq!(backend.connections(), 4, "they are used again");
}

#[test]
fn a_burst_before_the_back_end_said_its_maximum_loses_nothing() {
    let backend = H2Backend::with(with_settings(&[(setting::MAX_CONCURRENT_STREAMS, 2)]), |_, stream| {
        stream.answer(200, &[], "x");
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    let streams: Vec<u32> = (0..20).map(|_| client.ask("POST", "/", &[])).collect();
    streams.iter().for_each(|stream| assert_eq!(client.response(*stream).text(), "x", "{} were refused", backend.refused()));
}

#[test]
fn a_maximum_that_is_lowered_is_kept_to() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = H2Backend::new(move |request, stream| {
        if request.path == "/wait" {
            stream.wait(&seen);
        }
        stream.answer(200, &[], "x");
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.h2();
    client.get("/");
    backend.tell_all(&Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]));
    // The settings come before the answer.
    client.get("/");
    let streams = [client.ask("GET", "/wait", &[]), client.ask("GET", "/wait", &[])];
    backend.wait_for(4);
    assert_eq!((backend.connections(), backend.most_at_once()), (2, 1));
    latch.open();
    streams.iter().for_each(|stream| assert_eq!(client.response(*stream).text(), "x"));
}

#[test]
fn large_bodies_pass_both_ways() {
    let backend = H2Backend::new(|_, stream| {
        let body = stream.body();
        stream.answer(200, &[], body);
    });
    let yaml = "limits: { body_bytes: 1GiB }
upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { all: { routes: [ \"POST /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    let body: String = (0..10_000_000u32).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    assert!(gateway.ask("POST", "/", "", &body).body == body.as_bytes());
    let mut client = gateway.h2();
    client.flowing();
    let stream = client.open("POST", "/", &[]);
    client.flowing();
    client.data(stream, &body, true);
    assert!(client.response(stream).body == body.as_bytes());
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn a_back_end_that_gives_no_window_stops_the_client() {
    let latch = Latch::new();
    let seen = latch.clone();
    let options = H2Options { flowing: false, ..H2Options::default() };
    let backend = H2Backend::with(options, move |_, stream| {
        stream.wait(&seen);
        stream.grant(1 << 30);
        let length = stream.body().len();
        stream.answer(200, &[], length.to_string());
    });
    let yaml = "limits: { body_bytes: 1GiB }
upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { all: { routes: [ \"POST /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    const SIZE: usize = 64 * 1024 * 1024;
    let body = vec![b'x'; SIZE];
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    backend.wait_for(1);
    let mut sent = 0;
    stays("the client is blocked", || {
        sent += client.send_what_fits(&body[sent..]);
        sent as u64
    });
    assert!(sent < SIZE / 2, "{sent} of {SIZE} bytes were taken for a back end that takes nothing");
    assert_eq!(backend.received(), 65_535, "and the back end got what it allowed");
    latch.open();
    client.send(&body[sent..]);
    assert_eq!(client.response().text(), SIZE.to_string());
}

#[test]
fn windows_of_the_back_end_are_kept_to_the_byte() {
    // The back end of the kit complains of a byte too much.
    let options = H2Options { flowing: false, ..with_settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]) };
    let backend = H2Backend::with(options, |_, stream| {
        let mut got = stream.exactly(10).len();
        for _ in 0..5 {
            stream.grant(3);
            got += stream.exactly(3).len();
        }
        stream.frame(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 15)]));
        got += stream.exactly(5).len();
        stream.grant(1000);
        got += stream.body().len() - got;
        stream.answer(200, &[], got.to_string());
    });
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.ask("POST", "/", "", &"x".repeat(500)).text(), "500");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn a_client_that_does_not_read_stops_the_back_end_and_nobody_else() {
    const SIZE: usize = 50 * 1024 * 1024;
    let backend = H2Backend::new(|request, stream| {
        if request.path == "/large" {
            stream.answer(200, &[], vec![b'x'; SIZE]);
        } else {
            stream.answer(200, &[], vec![b'x'; 1 << 20]);
        }
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = maitred_testkit::Client::connect_slow_reader(gateway.address());
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    eventually("the answer flows", || backend.written() > 0);
    let written = stays("the back end is blocked", || backend.written());
    assert!(written < SIZE as u64 / 2, "{written} of {SIZE} bytes were taken for a client that reads nothing");
    assert_eq!(gateway.get("/small").body.len(), 1 << 20, "on the same connection");
    assert_eq!(backend.connections(), 1);
    assert_eq!(client.response().body.len(), SIZE);
}

#[test]
fn long_heads_come_and_go_in_pieces() {
    let long = "y".repeat(40_000);
    let value = long.clone();
    let backend = H2Backend::new(move |request, stream| {
        let length = request.header("x-long").map_or(0, str::len);
        stream.answer(200, &[("x-long", &value)], length.to_string());
    });
    let gateway = gateway_to_h2c(&backend);
    let response = gateway.ask("GET", "/", &format!("X-Long: {long}\r\n"), "");
    assert_eq!((response.text().as_str(), response.header("x-long").map(str::len)), ("40000", Some(40_000)));
}

#[test]
fn the_back_end_s_table_size_is_kept_to() {
    // Its decoder refuses what does not fit.
    let backend = H2Backend::with(with_settings(&[(setting::HEADER_TABLE_SIZE, 0)]), |_, stream| {
        stream.answer(200, &[], "x");
    });
    let gateway = gateway_to_h2c(&backend);
    let mut client = gateway.client();
    for _ in 0..5 {
        assert_eq!(client.request("GET", "/", "X-A: abcdefghijklmnop\r\n", "").text(), "x");
    }
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn pushes_are_not_wanted() {
    let backend = H2Backend::new(|_, stream| {
        stream.frame(Frame::push_promise(stream.id(), 2, &maitred_testkit::h2::hpack::block(&[(":method", "GET")])));
        stream.answer(200, &[], "x");
    });
    let gateway = gateway_to_h2c(&backend);
    let status = gateway.get("/").status;
    assert_eq!(status, 502, "the connection is not to be trusted");
}

#[test]
fn pings_of_the_back_end_are_answered() {
    let backend = H2Backend::new(|_, stream| {
        let answered = stream.ping();
        stream.answer(200, &[], if answered { "pong" } else { "nothing" });
    });
    let gateway = gateway_to_h2c(&backend);
    assert_eq!(gateway.get("/").text(), "pong");
}

#[test]
fn an_idle_connection_is_closed() {
    let backend = H2Backend::named("x");
    let yaml = "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c, timeouts: { idle: 20s } } }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    gateway.get("/");
    gateway.turn(Duration::from_secs(15));
    gateway.get("/");
    assert_eq!(backend.connections(), 1);
    eventually("the idle connection is closed", || {
        gateway.turn(Duration::from_secs(21));
        backend.open() == 0
    });
    assert_eq!(gateway.get("/").text(), "x");
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn the_pool_survives_a_reload_and_each_worker_has_its_own() {
    let backend = H2Backend::named("x");
    let yaml = "workers: 2
upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    for _ in 0..20 {
        assert_eq!(gateway.get("/").text(), "x");
        gateway.publish(yaml);
    }
    assert!(backend.connections() <= 2, "{}", backend.connections());
}

#[test]
fn a_protocol_that_changes_with_a_reload_needs_other_connections() {
    let backend = H2Backend::named("two");
    let old = maitred_testkit::Backend::named("one");
    let yaml =
        |kitchen: &str| format!("upstreams: {{ kitchen: {kitchen} }}\napis: {{ all: {{ routes: [ \"GET /\": kitchen ] }} }}");
    let gateway =
        gateway(&yaml("{ endpoints: [\"http://$two\"], protocol: h2c }"), &[("two", backend.address()), ("one", old.address())]);
    assert_eq!(gateway.get("/").text(), "two");
    gateway.publish(&yaml("{ endpoints: [\"http://$one\"], protocol: http1 }"));
    assert_eq!(gateway.get("/").text(), "one");
    // To speak HTTP/1.1 with who speaks only HTTP/2 ends in words.
    gateway.publish(&yaml("{ endpoints: [\"http://$two\"], protocol: http1 }"));
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn an_answer_by_http_1_1_is_a_502() {
    let backend = maitred_testkit::Backend::raw("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let yaml = "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { all: { routes: [ \"GET /\": kitchen ] } }";
    let gateway = gateway(yaml, &[("kitchen", backend.address())]);
    assert_eq!(gateway.get("/").status, 502);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!matches!(client.try_response("GET"), Err(Broken::Silent(_))));
}
