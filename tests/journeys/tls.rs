//! TLS towards clients: versions, names, protocols, sessions, certificates that change, and whoever does not shake hands. Clients'
//! own certificates stand in `tls_clients.rs`.

use maitred_testkit::h2::{Frame, PREFACE, code};
use maitred_testkit::{
    Authority, Backend, Client, ClientTls, Folder, Gateway, H2Client, Identity, Stream, TlsVersion, eventually, gateway_with,
    stays,
};
use std::time::Duration;

pub struct Secured {
    pub authority: Authority,
    pub identity: Identity,
    pub backend: Backend,
    pub gateway: Gateway,
}

pub fn files(identity: &Identity) -> [(&'static str, String); 2] {
    [("certs/a.pem", identity.cert.clone()), ("certs/a.key", identity.key.clone())]
}

fn yaml(more: &str, tls: &str) -> String {
    format!(
        "listen: [ {{ address: \"127.0.0.1:0\", tls: {{ certificates: [ {{ cert: certs/a.pem, key: certs/a.key }} ]{tls} }} }} ]
{more}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ ANY /: kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
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
    pub fn tls(&self) -> ClientTls {
        ClientTls::new(&self.authority, "a.test")
    }
}

/// So many seconds pass, and then nobody is connected any more.
#[track_caller]
pub fn all_are_left(gateway: &Gateway, seconds: u64) {
    eventually("they are left", || {
        gateway.turn(Duration::from_secs(seconds));
        gateway.open() == 0
    });
}

#[test]
fn both_versions_are_spoken_and_carry_requests() {
    let secured = secured();
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut client = secured.gateway.tls_client(&secured.tls().version(version));
        for body in ["", "body", "again"] {
            assert_eq!(client.request("POST", "/a?b", "", body).json()["body"], body);
        }
        assert_eq!(client.handshake().version, version);
        assert!(client.handshake().peer_is(&secured.identity));
        let received = secured.backend.last();
        assert_eq!(received.header("x-forwarded-proto"), Some("https"));
        assert!(received.header("forwarded").is_some_and(|value| value.ends_with("proto=https")), "{received:?}");
        assert_eq!(received.headers.members("via"), ["1.1 maitred"]);
    }
}

#[test]
fn the_older_version_is_refused_where_it_is_so_configured() {
    let secured = secured_with("", ", min_version: 1.3", Backend::echo());
    assert!(secured.tls().version(TlsVersion::V12).try_connect(secured.gateway.address()).is_err());
    assert_eq!(secured.gateway.tls_client(&secured.tls()).get("/").status, 200);
}

#[test]
fn protocols_are_agreed_on() {
    let secured = secured();
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = secured.tls().alpn(offered).connect(secured.gateway.address());
        assert_eq!(stream.handshake().and_then(|handshake| handshake.alpn.clone()).as_deref(), agreed, "{offered:?}");
        let status = match agreed {
            Some("h2") => H2Client::over(stream).get("/").status,
            _ => Client::over(stream).get("/").status,
        };
        assert_eq!(status, 200, "{offered:?}");
    }
    assert!(secured.tls().alpn(&["spdy/3"]).try_connect(secured.gateway.address()).is_err(), "nothing in common");
}

#[test]
fn whoever_agreed_on_one_protocol_and_speaks_the_other_is_closed() {
    let secured = secured();
    let mut client = Client::over(secured.tls().h2().connect(secured.gateway.address()));
    let _ = client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.read_to_end();
    let mut client = Client::over(secured.tls().alpn(&["http/1.1"]).connect(secured.gateway.address()));
    let _ = client.try_send(maitred_testkit::h2::PREFACE);
    client.read_to_end();
    assert_eq!(secured.backend.count(), 0);
}

#[test]
fn a_handshake_may_bring_the_first_request_with_its_last_words() {
    let secured = secured();
    // So much that the words of the handshake and what is behind them are not taken in at one go.
    for length in [100, 3000, 12_000, 40_000] {
        let body = "x".repeat(length);
        let start = [Frame::settings(&[]), crate::breaking::post(1)];
        let pieces: Vec<&[u8]> = body.as_bytes().chunks(16_384).collect();
        let data = pieces.iter().enumerate().map(|(at, piece)| Frame::data(1, piece, at + 1 == pieces.len()));
        let frames: Vec<Frame> = start.into_iter().chain(data).collect();
        let first = [PREFACE.to_vec(), frames.iter().flat_map(Frame::encode).collect()].concat();
        let mut client = H2Client::silent(secured.tls().h2().connect_saying(secured.gateway.address(), &first));
        client.said(&frames);
        client.flowing();
        let outcome = client.try_response(1);
        let Ok(response) = &outcome else {
            // A worker that never comes back could not be stopped either.
            std::mem::forget(secured);
            panic!("{length} bytes over HTTP/2: {outcome:?}");
        };
        assert_eq!(response.json()["body_length"], length);
        let request = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut client = Client::over(secured.tls().connect_saying(secured.gateway.address(), request.as_bytes()));
        let outcome = client.try_response("POST");
        let Ok(response) = &outcome else {
            std::mem::forget(secured);
            panic!("{length} bytes over HTTP/1.1: {outcome:?}");
        };
        assert_eq!(response.json()["body_length"], length);
    }
}

#[test]
fn http_2_over_tls_is_http_2() {
    let secured = secured();
    let mut client = secured.gateway.h2_tls(&secured.tls().h2());
    let streams: Vec<u32> = (0..20).map(|at| client.ask("GET", &format!("/{at}"), &[])).collect();
    for (at, stream) in streams.into_iter().enumerate() {
        assert_eq!(client.response(stream).json()["target"], format!("/{at}"));
    }
    let received = secured.backend.last();
    assert_eq!(
        (received.header("x-forwarded-proto"), received.headers.members("via")),
        (Some("https"), vec!["2.0 maitred".to_owned()])
    );
}

#[test]
fn the_name_chooses_among_certificates() {
    let authority = Authority::new("the test's");
    let (a, b, wild, exact) = (
        authority.server(&["a.test", "also-a.test"]),
        authority.server(&["b.test"]),
        authority.server(&["*.wild.test"]),
        authority.server(&["exact.wild.test"]),
    );
    let listen = "listen:
  - address: 127.0.0.1:0
    tls:
      certificates:
        - { cert: a.pem, key: a.key }
        - { cert: b.pem, key: b.key }
        - { cert: w.pem, key: w.key }
        - { cert: e.pem, key: e.key }
apis: { all: { routes: [ { match: GET /, respond: { text: x } } ] } }";
    let all = [("a", &a), ("b", &b), ("w", &wild), ("e", &exact)];
    let names: Vec<(String, String)> = all
        .iter()
        .flat_map(|(name, identity)| {
            [(format!("{name}.pem"), identity.cert.clone()), (format!("{name}.key"), identity.key.clone())]
        })
        .collect();
    let files: Vec<(&str, String)> = names.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let gateway = gateway_with(listen, &[], &files);
    for (name, wanted) in
        [("a.test", &a), ("also-a.test", &a), ("b.test", &b), ("B.TEST", &b), ("x.wild.test", &wild), ("exact.wild.test", &exact)]
    {
        let stream = ClientTls::new(&authority, name).connect(gateway.address());
        assert!(stream.handshake().is_some_and(|handshake| handshake.peer_is(wanted)), "{name}");
        assert_eq!(Client::over(stream).get("/").text(), "x");
    }
    let stream = ClientTls::new(&authority, "a.test").without_sni().connect(gateway.address());
    assert!(stream.handshake().is_some_and(|handshake| handshake.peer_is(&a)), "who names none gets the first");
    for name in ["wild.test", "deeper.x.wild.test"] {
        let refused = ClientTls::new(&authority, name).try_connect(gateway.address());
        assert!(refused.is_err(), "a wildcard stands for one label: {name}");
    }
}

#[test]
fn a_session_is_resumed_at_whatever_worker() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let secured = secured_with("workers: 2", "", Backend::echo());
        let tls = secured.tls().version(version);
        let resumed: Vec<bool> = (0..20)
            .map(|_| {
                let mut client = secured.gateway.tls_client(&tls);
                // Tickets come with the first answer.
                assert_eq!(client.get("/").status, 200);
                client.handshake().resumed
            })
            .collect();
        assert_eq!(resumed, [vec![false], vec![true; 19]].concat(), "{version:?}");
        let workers = &secured.gateway.metrics().workers;
        assert!(workers.iter().all(|shard| shard.connections_accepted.get() > 0), "both had their part in it");
    }
}

#[test]
fn a_session_outlives_a_reload() {
    let secured = secured();
    let tls = secured.tls();
    assert_eq!(secured.gateway.tls_client(&tls).get("/").status, 200);
    secured.gateway.publish(&yaml("limits: { headers: 50 }", ""));
    let mut client = secured.gateway.tls_client(&tls);
    assert_eq!((client.get("/").status, client.handshake().resumed), (200, true));
}

#[test]
fn a_session_ends_after_a_day() {
    let secured = secured();
    let tls = secured.tls();
    assert_eq!(secured.gateway.tls_client(&tls).get("/").status, 200);
    secured.gateway.turn(Duration::from_secs(24 * 3600));
    let mut client = secured.gateway.tls_client(&tls);
    assert_eq!((client.get("/").status, client.handshake().resumed), (200, false));
}

#[test]
fn a_certificate_is_replaced_under_open_connections() {
    let secured = secured();
    let (mut old, mut old_h2) = (secured.gateway.tls_client(&secured.tls()), secured.gateway.h2_tls(&secured.tls().h2()));
    assert_eq!((old.get("/").status, old_h2.get("/").status), (200, 200));
    let renewed = secured.authority.server(&["a.test"]);
    secured.gateway.publish_with(&yaml("", ""), &files(&renewed));
    let fresh = secured.tls().without_resumption();
    eventually("new connections see the new one", || secured.gateway.tls_client(&fresh).handshake().peer_is(&renewed));
    assert_eq!((old.get("/").status, old_h2.get("/").status), (200, 200));
    assert!(old.handshake().peer_is(&secured.identity));
}

#[test]
fn certificates_that_do_not_fit_are_refused_and_change_nothing() {
    let secured = secured();
    let other = secured.authority.server(&["b.test"]);
    for (files, word) in [
        ([("certs/a.pem", secured.identity.cert.clone()), ("certs/a.key", other.key.clone())], "a.key"),
        (
            [
                ("certs/a.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
                ("certs/a.key", other.key),
            ],
            "a.pem",
        ),
        (
            [
                ("certs/a.pem", include_str!("../certs/v1.pem").to_owned()),
                ("certs/a.key", include_str!("../certs/nameless.key").to_owned()),
            ],
            "a.pem` cannot be used: it is an X.509 v1 certificate, and v3 is needed",
        ),
    ] {
        let words = secured.gateway.try_publish_with(&yaml("", ""), &files).expect_err("a certificate that cannot be used");
        assert!(words.contains(word) && !words.contains("OtherError"), "{words}");
        assert!(secured.gateway.tls_client(&secured.tls()).handshake().peer_is(&secured.identity));
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let backend = Backend::new(|_, conn| {
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let secured = secured_with("limits: { body_bytes: 1GiB }", "", backend);
    let body: String = (0..5_000_000u32).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut client = secured.gateway.tls_client(&secured.tls().version(version));
        assert!(client.request("POST", "/", "", &body).body == body.as_bytes());
    }
    let mut client = secured.gateway.h2_tls(&secured.tls().h2());
    client.flowing();
    let stream = client.open("POST", "/", &[]);
    client.flowing();
    client.data(stream, &body, true);
    assert!(client.response(stream).body == body.as_bytes());
}

#[test]
fn a_client_that_does_not_read_stops_the_back_end() {
    const SIZE: usize = 30 * 1024 * 1024;
    let secured = secured_with("", "", Backend::bytes(SIZE));
    let mut client = secured.gateway.tls_client(&secured.tls());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    secured.backend.wait_for(1);
    let written = stays("the back end is blocked", || secured.backend.written());
    assert!(written < SIZE as u64 * 2 / 3, "{written} of {SIZE} bytes were taken for a client that reads nothing");
    assert_eq!(client.response().body.len(), SIZE);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let secured = secured();
    let mut client = secured.gateway.tls_client(&secured.tls());
    let all: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n")).collect();
    client.send(all);
    for n in 0..20 {
        assert_eq!(client.response().json()["target"], format!("/{n}"));
    }
}

#[test]
fn an_orderly_end_says_goodbye_and_a_cut_does_not() {
    let backend = Backend::new(|request, conn| {
        conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        conn.send("until the end");
        match request.target.as_str() {
            "/cut" => conn.reset(),
            _ => conn.close(),
        }
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.gateway.tls_client(&secured.tls());
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    // The kit takes the end of a connection without TLS's goodbye for a cut.
    assert_eq!(client.response().text(), "until the end");
    let mut client = secured.gateway.tls_client(&secured.tls());
    client.send("GET /cut HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let outcome = client.try_response("GET");
    assert!(!matches!(&outcome, Ok(response) if response.status == 200), "it must not look whole: {outcome:?}");
    let mut client = secured.gateway.tls_client(&secured.tls());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    client.response();
    assert!(client.read_to_end().1, "it said goodbye");
}

#[test]
fn a_client_s_goodbye_is_its_fin() {
    let latch = maitred_testkit::Latch::new();
    let backend = Backend::after(&latch, "worth the wait");
    let secured = secured_with("", "", backend);
    let mut client = secured.gateway.tls_client(&secured.tls());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    secured.backend.wait_for(1);
    client.finish();
    latch.open();
    assert_eq!(client.response().text(), "worth the wait");
}

#[test]
fn idle_connections_and_drains_are_as_without_tls() {
    let secured = secured_with("limits: { idle_timeout: 60s }", "", Backend::echo());
    let (mut client, mut h2) = (secured.gateway.tls_client(&secured.tls()), secured.gateway.h2_tls(&secured.tls().h2()));
    assert_eq!((client.get("/").status, h2.get("/").status), (200, 200));
    all_are_left(&secured.gateway, 61);
    assert!(client.read_to_end().1, "it said goodbye");
    assert_eq!(h2.ending().map(|goaway| goaway.code), Some(code::NO_ERROR));
    let mut client = secured.gateway.tls_client(&secured.tls());
    client.get("/");
    secured.gateway.begin_drain();
    assert!(client.get("/").closes());
    assert!(client.read_to_end().1);
    assert!(secured.gateway.drain(Duration::from_secs(10)));
}

#[test]
fn upgrades_pass_over_tls() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        loop {
            let bytes = conn.read_some();
            if bytes.is_empty() || !conn.send(&bytes) {
                return conn.close();
            }
        }
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.gateway.tls_client(&secured.tls());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
    assert_eq!(client.response().status, 101);
    client.send("polly");
    assert_eq!(client.read_exactly(5), b"polly");
    client.finish();
    assert!(client.read_to_end().1, "the end passes through, with its goodbye");
}

#[test]
fn the_access_log_says_what_was_spoken() {
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let folder = Folder::new();
    let path = folder.path("access.log");
    let more = format!("telemetry: {{ access_log: {{ to: {} }} }}", path.display());
    let backend = Backend::echo();
    let gateway = gateway_with(&yaml(&more, ""), &[("kitchen", backend.address())], &files(&identity));
    let logged = |count: usize| {
        let text = || std::fs::read_to_string(&path).unwrap_or_default();
        eventually("the line is written", || text().lines().count() == count);
        let line: serde_json::Value = serde_json::from_str(text().lines().last().expect("a line")).expect("JSON");
        let field = |name: &str| line.get(name).and_then(|value| value.as_str()).unwrap_or("absent").to_owned();
        (field("protocol"), field("tls_version"), field("server_name"))
    };
    let is = |line: (String, String, String), protocol: &str, version: &str, name: &str| {
        assert_eq!(line, (protocol.to_owned(), version.to_owned(), name.to_owned()));
    };
    let tls = || ClientTls::new(&authority, "a.test");
    assert_eq!(gateway.tls_client(&tls()).get("/").status, 200);
    is(logged(1), "HTTP/1.1", "TLSv1.3", "a.test");
    assert_eq!(gateway.h2_tls(&tls().h2().version(TlsVersion::V12)).get("/").status, 200);
    is(logged(2), "HTTP/2", "TLSv1.2", "a.test");
    let mut old = gateway.tls_client(&tls().without_sni());
    old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    old.response();
    is(logged(3), "HTTP/1.0", "TLSv1.3", "absent");
    // A stream that could not be read is one all the same.
    let mut client = gateway.h2_tls(&tls().h2());
    assert_eq!(client.request("GET", "/..", &[], "").status, 400);
    is(logged(4), "HTTP/2", "TLSv1.3", "a.test");
}

#[test]
fn the_access_log_and_limits_know_the_same() {
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let folder = Folder::new();
    let path = folder.path("access.log");
    let more = format!("telemetry: {{ access_log: {{ to: {} }} }}\nlimits: {{ connections_per_ip: 2 }}", path.display());
    let backend = Backend::echo();
    let gateway = gateway_with(&yaml(&more, ""), &[("kitchen", backend.address())], &files(&identity));
    let tls = ClientTls::new(&authority, "a.test");
    let (mut first, mut second) = (gateway.tls_client(&tls), gateway.tls_client(&tls));
    assert_eq!((first.get("/1").status, second.get("/2").status), (200, 200));
    let refused = tls.try_connect(gateway.address()).map(|stream| Client::over(stream).try_response("GET").map(|r| r.status));
    assert!(matches!(refused, Err(_) | Ok(Ok(503) | Err(_))), "{refused:?}");
    eventually("the lines are written", || std::fs::read_to_string(&path).is_ok_and(|text| text.lines().count() >= 2));
}

#[test]
fn data_right_behind_the_handshake_is_heard() {
    let secured = secured();
    let head = "POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 12000\r\n\r\n";
    let piece = "x".repeat(4000);
    let records = [head.as_bytes(), piece.as_bytes(), piece.as_bytes(), piece.as_bytes()];
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let tls = secured.tls().version(version);
        let stream = tls.over_saying(Stream::connect(secured.gateway.address()).unwrap(), &records).unwrap();
        assert_eq!(Client::over(stream).response().status, 200);
        assert_eq!(secured.backend.last().body.len(), 12_000);
    }
}

#[test]
fn keys_may_change_at_any_time() {
    let secured = secured();
    let mut client = Client::over(secured.tls().connect(secured.gateway.address()));
    // More often than is allowed without data between.
    for round in 0..50 {
        client.renew_keys();
        let body = "x".repeat(round * 1000);
        let half = body.len() / 2;
        client.send(format!("POST /{round} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body[..half]);
        client.renew_keys();
        client.send(&body[half..]);
        assert_eq!(client.response().json()["target"], format!("/{round}"));
        assert_eq!(secured.backend.last().body.len(), body.len());
        assert_eq!(client.get("/again").status, 200);
    }
}
