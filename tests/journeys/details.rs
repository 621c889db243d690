//! What the log says of a fault: which limit it was and how long, and what to set where a back end speaks another protocol.

use maitred_testkit::{Authority, Backend, Door, Folder, Gateway, H2Backend, ServerTls, eventually, gateway_with};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

struct Logged {
    gateway: Gateway,
    path: PathBuf,
    _folder: Folder,
}

impl Logged {
    fn new(upstream: &str, route: &str, backend: std::net::SocketAddr) -> Logged {
        Logged::over("http", upstream, route, backend, &[])
    }

    fn over(scheme: &str, upstream: &str, route: &str, backend: std::net::SocketAddr, files: &[(&str, String)]) -> Logged {
        let folder = Folder::new();
        let path = folder.path("access.log");
        let yaml = format!(
            "telemetry: {{ access_log: {{ to: {} }} }}
upstreams: {{ kitchen: {{ endpoints: [ \"{scheme}://$kitchen\" ], {upstream} }} }}
apis: {{ all: {{ routes: [ {{ match: \"GET /\", proxy: kitchen, {route} }} ] }} }}",
            path.display()
        );
        Logged { gateway: gateway_with(&yaml, &[("kitchen", backend)], files), path, _folder: folder }
    }

    /// Kind and detail of the one line.
    fn fault(&self) -> (String, String) {
        let read = || std::fs::read_to_string(&self.path).unwrap_or_default();
        eventually("a line", || read().ends_with('\n'));
        let line: Value = serde_json::from_str(read().lines().next().expect("a line")).expect("JSON");
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (field("fault"), field("detail"))
    }
}

#[test]
fn a_504_names_the_limit_and_how_long_it_is() {
    for (upstream, route, wanted) in [
        ("timeouts: { response: 3s }", "timeout: 5s", "timeouts.response of 3s"),
        ("timeouts: { response: 3s }", "timeout: 2s", "the route's timeout of 2s"),
        ("retry: { attempts: 2, per_try_timeout: 500ms }", "timeout: 2s", "retry.per_try_timeout of 500ms"),
        ("protocol: h2c", "name: x", "timeouts.response of 15s"),
        ("protocol: h2c", "timeout: 1500ms", "the route's timeout of 1500ms"),
    ] {
        let (http1, http2) = (Backend::new(|_, conn| _ = conn.peer_leaves()), H2Backend::new(|_, stream| _ = stream.cancelled()));
        let is_h2 = upstream.contains("h2c");
        let logged = Logged::new(upstream, route, if is_h2 { http2.address() } else { http1.address() });
        let mut client = logged.gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if is_h2 {
            http2.wait_for(1)
        } else {
            http1.wait_for(1)
        }
        client.until_readable(|| logged.gateway.turn(Duration::from_millis(250)));
        assert_eq!(client.response().status, 504, "{wanted}");
        assert_eq!(logged.fault(), ("upstream_timeout".to_owned(), format!("no response head within {wanted}")));
    }
}

#[test]
fn a_back_end_that_speaks_another_http_is_told_from_a_broken_one() {
    const SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
    for (upstream, answer, wanted) in [
        (
            "protocol: h2c",
            &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..],
            "set `protocol: http1`",
        ),
        ("host: client", SETTINGS, "set `protocol: h2c`"),
    ] {
        let backend = Backend::raw(answer);
        let logged = Logged::new(upstream, "name: x", backend.address());
        assert_eq!(logged.gateway.get("/").status, 502);
        let (kind, detail) = logged.fault();
        assert!(kind == "upstream_protocol" && detail.contains(wanted), "{kind}: {detail}");
    }
}

/// As docs/tls.md has them.
#[test]
fn tls_that_fails_is_told_in_words() {
    let (authority, members) = (Authority::new("the kitchen's"), Authority::new("the members'"));
    let (own, other) = (authority.server(&["127.0.0.1"]), authority.server(&["kitchen.test"]));
    for (door, kind, words) in [
        (ServerTls::new(&other), "upstream_unreachable", "certificate not valid for name"),
        (ServerTls::with_clients(&own, &members), "upstream_reset", "received fatal alert: CertificateRequired"),
    ] {
        let backend = Backend::named_behind(Door::tls(door), "x");
        let logged = Logged::over("https", "tls: { ca: ca.pem }", "name: x", backend.address(), &[("ca.pem", authority.pem())]);
        assert_eq!(logged.gateway.get("/").status, 502);
        let (fault, detail) = logged.fault();
        assert!(fault == kind && detail.contains(words), "{fault}: {detail}");
    }
}
