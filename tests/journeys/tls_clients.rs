//! Certificates of clients: who is let in, and for which names. A session that is resumed proves no more than the handshake that it
//! goes back to.

use maitred_testkit::{
    Authority, Backend, Client, ClientTls, Gateway, H2Client, Identity, Stream, TlsVersion, eventually, gateway_with,
};
use std::net::SocketAddr;

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V12, TlsVersion::V13];

struct Club {
    authority: Authority,
    members: Authority,
    backend: Backend,
    gateway: Gateway,
}

fn yaml(auth: &str) -> String {
    format!(
        "listen:
  - address: 127.0.0.1:0
    tls:
      certificates: [ {{ cert: a.pem, key: a.key }}, {{ cert: b.pem, key: b.key }} ]
      client_ca: members.pem
      {auth}
  - address: 127.0.0.2:0
    tls: {{ certificates: [ {{ cert: a.pem, key: a.key }}, {{ cert: b.pem, key: b.key }} ] }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
apis: {{ all: {{ routes: [ ANY /: kitchen ] }} }}"
    )
}

fn pem(name: &'static str, identity: &Identity) -> [(&'static str, String); 2] {
    let (cert, key) = if name == "a" { ("a.pem", "a.key") } else { ("b.pem", "b.key") };
    [(cert, identity.cert.clone()), (key, identity.key.clone())]
}

fn club(auth: &str) -> Club {
    let (authority, members) = (Authority::new("the test's"), Authority::new("the members'"));
    let backend = Backend::echo();
    let (a, b) = (authority.server(&["a.test", "*.a.test"]), authority.server(&["b.test"]));
    let files = [&pem("a", &a)[..], &pem("b", &b), &[("members.pem", members.pem())]].concat();
    let gateway = gateway_with(&yaml(auth), &[("kitchen", backend.address())], &files);
    Club { authority, members, backend, gateway }
}

impl Club {
    fn stranger(&self) -> ClientTls {
        ClientTls::new(&self.authority, "a.test")
    }

    fn member(&self, identity: &Identity) -> ClientTls {
        self.stranger().identity(identity)
    }

    /// Without certificates of clients.
    fn open_door(&self) -> SocketAddr {
        self.gateway.addresses()[1]
    }
}

/// The status of one request; `None` where there was no way in.
fn ask(address: SocketAddr, tls: &ClientTls) -> Option<(u16, bool)> {
    // In TLS 1.3 the client learns of a refusal with its first read.
    let mut client = Client::over(tls.try_connect(address).ok()?);
    let resumed = client.handshake().resumed;
    client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").ok()?;
    client.try_response("GET").ok().map(|response| (response.status, resumed))
}

#[test]
fn where_certificates_are_required_only_members_are_let_in() {
    let club = club("");
    let (members, others) = (&club.members, Authority::new("others'"));
    for version in VERSIONS {
        let address = club.gateway.address();
        assert_eq!(ask(address, &club.member(&members.client("alice")).version(version)), Some((200, false)), "{version:?}");
        assert_eq!(ask(address, &club.stranger().version(version)), None, "without one, {version:?}");
        assert_eq!(ask(address, &club.member(&others.client("eve")).version(version)), None, "of others, {version:?}");
        assert_eq!(ask(address, &club.member(&members.expired_client("bob")).version(version)), None, "expired, {version:?}");
        assert_eq!(ask(address, &club.member(&members.server(&["a.test"])).version(version)), None, "of a server, {version:?}");
        let own = Authority::new("the members'");
        assert_eq!(ask(address, &club.member(&own.client("mallory")).version(version)), None, "of the same name, {version:?}");
    }
    assert_eq!(club.backend.count(), VERSIONS.len(), "nobody else reached the back end");
    eventually("nothing is left of them", || club.gateway.open() == 0);
}

#[test]
fn where_certificates_are_optional_those_that_are_shown_must_be_good() {
    let club = club("client_auth: optional");
    let others = Authority::new("others'");
    for version in VERSIONS {
        let address = club.gateway.address();
        assert_eq!(ask(address, &club.stranger().version(version)), Some((200, false)), "{version:?}");
        assert_eq!(ask(address, &club.member(&club.members.client("alice")).version(version)), Some((200, false)));
        assert_eq!(ask(address, &club.member(&others.client("eve")).version(version)), None, "{version:?}");
    }
}

#[test]
fn http_2_asks_for_certificates_too() {
    let club = club("");
    let alice = club.members.client("alice");
    let mut client = club.gateway.h2_tls(&club.member(&alice).h2());
    let stream = client.ask("GET", "/", &[(":authority", "a.test")]);
    assert_eq!(client.response(stream).status, 200);
}

#[test]
fn a_host_outside_the_certificate_is_another_door_s() {
    let club = club("");
    let alice = club.members.client("alice");
    let mut client = club.gateway.tls_client(&club.member(&alice));
    for (host, status) in
        [("a.test", 200), ("A.Test:8443", 200), ("x.a.test", 200), ("b.test", 421), ("x.y.a.test", 421), ("a.test", 200)]
    {
        let response = client.request("GET", "/", &format!("Host: {host}\r\n"), "");
        assert_eq!(response.status, status, "{host}: {response:?}");
    }
    let mut h2 = club.gateway.h2_tls(&club.member(&alice).h2());
    for (host, status) in [("a.test", 200), ("b.test", 421), ("x.a.test", 200)] {
        let stream = h2.ask("GET", "/", &[(":authority", host)]);
        assert_eq!(h2.response(stream).status, status, "{host}");
    }
    // Where nobody proved anything, the name decides nothing.
    let mut open = Client::connect_tls(club.open_door(), &club.stranger());
    assert_eq!(open.request("GET", "/", "Host: b.test\r\n", "").status, 200);
    let optional = self::club("client_auth: optional");
    let mut client = optional.gateway.tls_client(&optional.stranger());
    let status = client.request("GET", "/", "Host: b.test\r\n", "").status;
    assert_eq!(status, 421, "what was proved for one name says nothing of another");
}

#[test]
fn a_session_that_is_resumed_stands_for_its_name_alone() {
    for version in VERSIONS {
        let club = club("");
        let tls = club.member(&club.members.client("alice")).version(version);
        assert_eq!(ask(club.gateway.address(), &tls), Some((200, false)));
        // Resumed or not: it is alice, and she asks as she did.
        let mut client = club.gateway.tls_client(&tls);
        for (host, status) in [("a.test", 200), ("b.test", 421), ("x.a.test", 200)] {
            assert_eq!(client.request("GET", "/", &format!("Host: {host}\r\n"), "").status, status, "{host}, {version:?}");
        }
    }
}

#[test]
fn who_names_nobody_stands_for_the_first_certificate() {
    let club = club("");
    let tls = club.member(&club.members.client("alice")).without_sni();
    let mut client = club.gateway.tls_client(&tls);
    for (host, status) in [("a.test", 200), ("b.test", 421)] {
        assert_eq!(client.request("GET", "/", &format!("Host: {host}\r\n"), "").status, status, "{host}");
    }
}

/// In each version nobody was let in.
#[track_caller]
fn nobody_gets_in(what: &str, attempt: impl Fn(TlsVersion) -> Option<(u16, bool)>) {
    assert_eq!(VERSIONS.map(attempt), [None, None], "{what}, in TLS 1.2 and 1.3");
}

#[test]
fn a_session_begun_without_a_certificate_opens_no_door_that_asks_for_one() {
    nobody_gets_in("a session of the open door", |version| {
        let club = club("");
        let tls = club.stranger().version(version);
        assert_eq!(ask(club.open_door(), &tls), Some((200, false)));
        assert_eq!(ask(club.open_door(), &tls), Some((200, true)), "there is a session");
        ask(club.gateway.address(), &tls)
    });
}

#[test]
fn a_session_of_one_club_opens_no_other() {
    nobody_gets_in("a session of another authority's", |version| {
        let (authority, ours, theirs) = (Authority::new("the test's"), Authority::new("ours"), Authority::new("theirs"));
        let listener = |address: &str, ca: &str| {
            format!(
                "  - {{ address: \"{address}:0\", tls: {{ certificates: [ {{ cert: a.pem, key: a.key }} ], client_ca: {ca} }} }}\n"
            )
        };
        let yaml = format!(
            "listen:\n{}{}apis: {{ all: {{ routes: [ {{ match: GET /, respond: {{ text: x }} }} ] }} }}",
            listener("127.0.0.1", "ours.pem"),
            listener("127.0.0.2", "theirs.pem")
        );
        let identity = authority.server(&["a.test"]);
        let files = [&pem("a", &identity)[..], &[("ours.pem", ours.pem()), ("theirs.pem", theirs.pem())]].concat();
        let gateway = gateway_with(&yaml, &[], &files);
        let alice = ClientTls::new(&authority, "a.test").identity(&ours.client("alice")).version(version);
        assert_eq!(ask(gateway.addresses()[0], &alice), Some((200, false)));
        ask(gateway.addresses()[1], &alice)
    });
}

#[test]
fn a_session_ends_with_the_membership() {
    nobody_gets_in("a session that outlived its authority", |version| {
        let club = club("");
        let tls = club.member(&club.members.client("alice")).version(version);
        assert_eq!(ask(club.gateway.address(), &tls), Some((200, false)));
        // Everybody must join anew.
        let anew = Authority::new("the new members'");
        club.gateway.publish_with(&yaml(""), &[("members.pem", anew.pem())]);
        eventually("new members are let in", || {
            ask(club.gateway.address(), &club.member(&anew.client("carol")).version(version)).is_some()
        });
        ask(club.gateway.address(), &tls)
    });
}

#[test]
fn a_session_for_one_name_is_none_for_another() {
    for version in VERSIONS {
        let club = club("");
        let alice = club.members.client("alice");
        let tls = club.member(&alice).version(version);
        assert_eq!(ask(club.gateway.address(), &tls), Some((200, false)));
        // Another name is another handshake: its connection stands for that name alone.
        let mut client = club.gateway.tls_client(&ClientTls::new(&club.authority, "b.test").identity(&alice).version(version));
        assert!(!client.handshake().resumed);
        assert_eq!(client.request("GET", "/", "Host: b.test\r\n", "").status, 200);
        assert_eq!(client.request("GET", "/", "Host: a.test\r\n", "").status, 421);
    }
}

#[test]
fn a_refused_client_harms_nobody() {
    let club = club("");
    let alice = club.member(&club.members.client("alice"));
    let mut member = club.gateway.h2_tls(&club.member(&club.members.client("bob")).h2());
    for _ in 0..50 {
        assert_eq!(ask(club.gateway.address(), &club.stranger()), None);
    }
    let half: Vec<Stream> = (0..5).filter_map(|_| Stream::connect(club.gateway.address()).ok()).collect();
    let stream = member.ask("GET", "/", &[(":authority", "a.test")]);
    assert_eq!(member.response(stream).status, 200);
    assert_eq!(ask(club.gateway.address(), &alice).map(|(status, _)| status), Some(200));
    drop(half);
    let mut plain = H2Client::silent(Stream::connect(club.gateway.address()).expect("a listener"));
    let _ = plain.try_send_bytes(b"no TLS at all");
    let _ = plain.try_ending();
}
