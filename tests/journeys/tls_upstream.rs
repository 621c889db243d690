//! TLS towards back ends: whom the gateway believes, what it shows, which name it asks for, and what a client is told where the
//! handshake fails.

use maitred_testkit::{
    Authority, Backend, Door, Gateway, H2Backend, Identity, Response, ServerTls, TlsVersion, eventually, gateway_with, reluctant,
};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// A gateway in front of `https://$kitchen`, with these keys of the upstream.
fn to(address: SocketAddr, upstream: &str, files: &[(&str, String)]) -> Gateway {
    let yaml = format!(
        "upstreams: {{ kitchen: {{ endpoints: [\"https://$kitchen\"]{upstream} }} }}
apis: {{ all: {{ routes: [ ANY /: kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
    );
    gateway_with(&yaml, &[("kitchen", address)], files)
}

fn ca(authority: &Authority) -> [(&'static str, String); 1] {
    [("ca.pem", authority.pem())]
}

fn server(authority: &Authority) -> Identity {
    authority.server(&["127.0.0.1", "kitchen.test"])
}

#[track_caller]
fn is_unreachable(response: &Response) {
    assert_eq!(response.status, 502, "{response:?}");
    let kind = response.json()["type"].as_str().map(str::to_owned);
    assert!(kind.as_deref().is_some_and(|kind| kind.ends_with("upstream_unreachable")), "{response:?}");
}

const OWN: &str = ", tls: { ca: ca.pem }";

#[test]
fn an_authority_of_one_s_own_is_believed() {
    let authority = Authority::new("the kitchen's");
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let backend = Backend::echo_behind(Door::tls(ServerTls::of_version(&server(&authority), version)));
        let gateway = to(backend.address(), OWN, &ca(&authority));
        let mut client = gateway.client();
        for body in ["", "body", "again"] {
            assert_eq!(client.request("POST", "/a?b", "", body).json()["body"], body);
        }
        let handshake = backend.handshake();
        assert_eq!((handshake.version, handshake.alpn.as_deref()), (version, Some("http/1.1")));
        assert_eq!(handshake.sni, None, "an address is no name (RFC 6066)");
        let received = backend.last();
        assert_eq!(received.header("host"), Some(backend.address().to_string().as_str()));
        assert_eq!(received.header("x-forwarded-proto"), Some("http"), "what the client spoke");
        assert_eq!(backend.connections(), 1, "and the connection is used again");
    }
}

#[test]
fn a_back_end_that_knows_no_alpn_is_spoken_to_as_ever() {
    let authority = Authority::new("the kitchen's");
    let backend = Backend::named_behind(Door::tls(ServerTls::new(&server(&authority)).alpn(&[])), "x");
    assert_eq!(to(backend.address(), OWN, &ca(&authority)).get("/").text(), "x");
}

#[test]
fn nobody_else_is_believed() {
    let (authority, stranger) = (Authority::new("the kitchen's"), Authority::new("a stranger's"));
    let cases = [
        ("of a stranger's", server(&stranger), OWN),
        ("expired", authority.expired_server(&["127.0.0.1"]), OWN),
        ("of another name", authority.server(&["kitchen.test"]), OWN),
        ("of another address", authority.server(&["127.0.0.2"]), OWN),
        ("of a client", authority.client("127.0.0.1"), OWN),
        ("of an authority that the system does not know", server(&authority), ""),
    ];
    for (what, identity, tls) in cases {
        let backend = Backend::named_behind(Door::tls(ServerTls::new(&identity)), "x");
        let gateway = to(backend.address(), tls, &ca(&authority));
        for _ in 0..2 {
            let response = gateway.ask("POST", "/", "", "secret");
            is_unreachable(&response);
            assert!(!response.text().contains("certificate"), "{what}: detail is for the log: {response:?}");
        }
        assert_eq!(backend.count(), 0, "{what}: nothing was told to it");
        eventually("every connection is closed", || backend.open() == 0);
        assert!(backend.handshakes().iter().all(Result::is_err), "{what}");
    }
}

#[test]
fn another_name_may_be_asked_for() {
    let authority = Authority::new("the kitchen's");
    let backend = Backend::named_behind(Door::tls(ServerTls::new(&authority.server(&["kitchen.test"]))), "x");
    let gateway = to(backend.address(), ", tls: { ca: ca.pem, server_name: kitchen.test }", &ca(&authority));
    assert_eq!(gateway.get("/").text(), "x");
    assert_eq!(backend.handshake().sni.as_deref(), Some("kitchen.test"));
    let wrong = to(backend.address(), ", tls: { ca: ca.pem, server_name: cellar.test }", &ca(&authority));
    is_unreachable(&wrong.get("/"));
}

#[test]
fn the_endpoint_s_name_is_asked_for() {
    let authority = Authority::new("the kitchen's");
    let backend = Backend::echo_behind(Door::tls(ServerTls::new(&authority.server(&["localhost"]))));
    let port = backend.address().port();
    let yaml = format!(
        "upstreams: {{ kitchen: {{ endpoints: [\"https://localhost:{port}\"], tls: {{ ca: ca.pem }} }} }}
apis: {{ all: {{ routes: [ GET /: kitchen ] }} }}"
    );
    let gateway = gateway_with(&yaml, &[], &ca(&authority));
    let response = gateway.get("/");
    // Who finds names is no part of the kit's gateway.
    if response.status == 200 {
        assert_eq!(backend.handshake().sni.as_deref(), Some("localhost"));
    } else {
        assert_eq!(response.status, 503, "{response:?}");
    }
}

#[test]
fn verification_may_be_skipped_in_writing() {
    let stranger = Authority::new("a stranger's");
    for identity in [stranger.expired_server(&["elsewhere.test"]), server(&stranger)] {
        let backend = Backend::named_behind(Door::tls(ServerTls::new(&identity)), "x");
        let gateway = to(backend.address(), ", tls: { dangerously_skip_verification: true }", &[]);
        assert_eq!(gateway.get("/").text(), "x");
    }
}

#[test]
fn a_certificate_of_the_gateway_s_own_is_shown() {
    let (authority, members) = (Authority::new("the kitchen's"), Authority::new("the members'"));
    let me = members.client("gateway");
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let backend = Backend::named_behind(Door::tls(ServerTls::with_clients(&server(&authority), &members)), "x");
        let files = [("ca.pem", authority.pem()), ("me.pem", me.cert.clone()), ("me.key", me.key.clone())];
        let gateway = to(backend.address(), ", tls: { ca: ca.pem, cert: me.pem, key: me.key }", &files);
        assert_eq!(gateway.get("/").text(), "x", "{version:?}");
        assert!(backend.handshake().peer_is(&me));
        let bare = to(backend.address(), OWN, &ca(&authority));
        let response = bare.get("/");
        assert_eq!(response.status, 502, "{response:?}");
        assert_eq!(backend.count(), 1);
    }
}

#[test]
fn sessions_are_resumed() {
    let authority = Authority::new("the kitchen's");
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let door = Door::tls(ServerTls::of_version(&server(&authority), version));
        let backend = Backend::behind(door, |_, conn| {
            conn.answer(200, "Connection: close\r\n", "x");
            conn.close();
        });
        let gateway = to(backend.address(), OWN, &ca(&authority));
        for _ in 0..4 {
            assert_eq!(gateway.get("/").text(), "x");
        }
        let resumed: Vec<bool> =
            backend.handshakes().iter().map(|handshake| handshake.as_ref().is_ok_and(|h| h.resumed)).collect();
        assert_eq!(resumed, [false, true, true, true], "{version:?}");
    }
}

#[test]
fn http_2_is_agreed_on() {
    let authority = Authority::new("the kitchen's");
    let backend = H2Backend::tls(ServerTls::new(&server(&authority)), |request, stream| {
        let body = stream.body();
        stream.head(200, &[("x-scheme", &request.scheme)], false);
        stream.data(body, false);
        stream.trailers(&[("x-sum", "1")]);
    });
    let gateway = to(backend.address(), ", protocol: h2, tls: { ca: ca.pem }", &ca(&authority));
    let mut client = gateway.h2();
    let large = vec![b'x'; 1_000_000];
    client.flowing();
    let stream = client.open("POST", "/", &[]);
    client.flowing();
    client.data(stream, &large, true);
    let response = client.response(stream);
    assert_eq!((response.body.len(), response.trailers.get("x-sum")), (1_000_000, Some("1")));
    assert_eq!(response.header("x-scheme"), Some("https"), "what is spoken to the back end");
    assert_eq!(backend.only().scheme, "https");
    for _ in 0..5 {
        assert_eq!(gateway.ask("POST", "/", "", "a").text(), "a");
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.handshakes()[0].as_ref().map(|handshake| handshake.alpn.clone()), Ok(Some("h2".to_owned())));
    assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
}

#[test]
fn a_back_end_that_does_not_agree_on_http_2_is_a_502() {
    let authority = Authority::new("the kitchen's");
    for alpn in [&["http/1.1"][..], &[]] {
        let backend = Backend::named_behind(Door::tls(ServerTls::new(&server(&authority)).alpn(alpn)), "x");
        let gateway = to(backend.address(), ", protocol: h2, tls: { ca: ca.pem }", &ca(&authority));
        let response = gateway.get("/");
        assert_eq!(response.status, 502, "{alpn:?}: {response:?}");
        assert_eq!(backend.count(), 0);
    }
}

#[test]
fn a_back_end_without_tls_is_a_502() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the gateway connects");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        // Until the gateway has had enough of it.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let authority = Authority::new("the kitchen's");
    is_unreachable(&to(address, OWN, &ca(&authority)).get("/"));
    answering.join().expect("it does not panic");
}

#[test]
fn a_handshake_that_never_ends_has_the_time_to_connect() {
    let authority = Authority::new("the kitchen's");
    let silent = Backend::new(|_, conn| {
        conn.peer_leaves();
    });
    for address in [silent.address(), reluctant().0] {
        let gateway = to(address, ", tls: { ca: ca.pem }, timeouts: { connect: 5s }", &ca(&authority));
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until_readable(|| gateway.turn(Duration::from_secs(1)));
        let response = client.response();
        assert!(matches!(response.status, 502 | 504), "{response:?}");
    }
}

#[test]
fn a_goodbye_ends_a_body_and_a_cut_breaks_it() {
    let authority = Authority::new("the kitchen's");
    let backend = Backend::behind(Door::tls(ServerTls::new(&server(&authority))), |request, conn| {
        conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
        if request.target == "/cut" {
            conn.reset();
        }
        conn.close();
    });
    let gateway = to(backend.address(), OWN, &ca(&authority));
    assert_eq!(gateway.get("/").text(), "until the end");
    let mut client = gateway.client();
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    let outcome = client.try_response("GET");
    assert!(!matches!(&outcome, Ok(response) if response.status == 200), "without a goodbye it is not whole: {outcome:?}");
}

#[test]
fn a_pooled_connection_that_said_goodbye_is_not_used() {
    let authority = Authority::new("the kitchen's");
    let backend = Backend::named_behind(Door::tls(ServerTls::new(&server(&authority))), "x");
    let gateway = to(backend.address(), OWN, &ca(&authority));
    let mut client = gateway.client();
    for n in 1..5 {
        assert_eq!(client.request("POST", "/", "", "not to be repeated").status, 200);
        assert_eq!(backend.connections(), n);
        backend.close_connections();
    }
}

#[test]
fn another_authority_by_reload_needs_other_connections() {
    let (authority, other) = (Authority::new("the kitchen's"), Authority::new("another"));
    let backend = Backend::named_behind(Door::tls(ServerTls::new(&server(&authority))), "x");
    let gateway = to(backend.address(), OWN, &ca(&authority));
    assert_eq!(gateway.get("/").text(), "x");
    let yaml = "upstreams: { kitchen: { endpoints: [\"https://$kitchen\"], tls: { ca: ca.pem } } }
apis: { all: { routes: [ ANY /: kitchen ] } }";
    gateway.publish_with(yaml, &[("ca.pem", other.pem())]);
    is_unreachable(&gateway.get("/"));
    gateway.publish_with(yaml, &[("ca.pem", authority.pem())]);
    assert_eq!(gateway.get("/").text(), "x");
}

#[test]
fn what_does_not_fit_is_refused_when_it_is_loaded() {
    let authority = Authority::new("the kitchen's");
    let backend = Backend::named("x");
    let gateway = to(backend.address(), OWN, &ca(&authority));
    let (me, other) = (authority.client("me"), authority.client("other"));
    let yaml = "upstreams: { kitchen: { endpoints: [\"https://$kitchen\"], tls: { ca: ca.pem, cert: me.pem, key: me.key } } }
apis: { all: { routes: [ ANY /: kitchen ] } }";
    let words =
        gateway.try_publish_with(yaml, &[("me.pem", me.cert), ("me.key", other.key)]).expect_err("a key that does not fit");
    assert!(words.contains("me.key"), "{words}");
}

#[test]
fn encrypted_both_ways() {
    let authority = Authority::new("the test's");
    let backend = Backend::echo_behind(Door::tls(ServerTls::new(&server(&authority))));
    let identity = authority.server(&["a.test"]);
    let yaml = "listen: [ { address: \"127.0.0.1:0\", tls: { certificates: [ { cert: a.pem, key: a.key } ] } } ]
upstreams: { kitchen: { endpoints: [\"https://$kitchen\"], tls: { ca: ca.pem } } }
apis: { all: { routes: [ ANY /: kitchen ] } }";
    let files = [("ca.pem", authority.pem()), ("a.pem", identity.cert.clone()), ("a.key", identity.key.clone())];
    let gateway = gateway_with(yaml, &[("kitchen", backend.address())], &files);
    let mut client = gateway.tls_client(&maitred_testkit::ClientTls::new(&authority, "a.test"));
    assert_eq!(client.request("POST", "/", "", "secret").json()["body"], "secret");
    assert_eq!(backend.only().header("x-forwarded-proto"), Some("https"));
}
