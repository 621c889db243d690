//! Doors with and without TLS beside each other, and whoever comes to the wrong one or never shakes hands.

use crate::tls::{all_are_left, files, secured, secured_with};
use maitred_testkit::{
    Authority, Backend, Client, ClientTls, Door, H2Client, ServerTls, Stream, eventually, gateway, gateway_with,
};
use std::time::Duration;

#[test]
fn listeners_may_differ() {
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let yaml = "listen:
  - 127.0.0.1:0
  - { address: \"127.0.0.2:0\", tls: { certificates: [ { cert: certs/a.pem, key: certs/a.key } ] } }
apis: { all: { routes: [ { match: GET /, respond: { text: x } } ] } }";
    let gateway = gateway_with(yaml, &[], &files(&identity));
    let addresses = gateway.addresses();
    assert_eq!(Client::connect(addresses[0]).get("/").text(), "x");
    assert_eq!(Client::connect_tls(addresses[1], &ClientTls::new(&authority, "a.test")).get("/").text(), "x");
    assert!(ClientTls::new(&authority, "a.test").try_connect(addresses[0]).is_err(), "the plain one speaks no TLS");
}

#[test]
fn who_never_shakes_hands_has_its_time() {
    let secured = secured_with("limits: { handshake_timeout: 10s }", "", Backend::echo());
    // A record that says that 200 bytes come, and eleven of them.
    let begun = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\x00\x00\x00\x00\x00";
    for bytes in [&b""[..], &begun[..1], &begun[..]] {
        let mut client = secured.gateway.client();
        client.send(bytes);
        eventually("it is accepted", || secured.gateway.open() == 1);
        all_are_left(&secured.gateway, 11);
        client.read_to_end();
    }
    assert_eq!(secured.gateway.tls_client(&secured.tls()).get("/").status, 200);
}

#[test]
fn handshakes_that_stall_hold_up_others_only_for_their_time() {
    let secured = secured_with("limits: { handshake_timeout: 10s, handshakes: 2 }", "", Backend::echo());
    let stalled: Vec<Client> = (0..5).map(|_| secured.gateway.client()).collect();
    eventually("they are accepted", || secured.gateway.open() >= 2);
    let address = secured.gateway.address();
    let tls = secured.tls();
    let gets_in = || {
        let Ok(stream) = tls.try_connect(address) else { return false };
        let mut client = Client::over(stream);
        let sent = client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        sent.is_ok() && client.try_response("GET").is_ok_and(|response| response.status == 200)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| eventually("somebody gets in", gets_in));
        while !other.is_finished() {
            secured.gateway.turn(Duration::from_secs(2));
            std::thread::yield_now();
        }
    });
    drop(stalled);
}

#[test]
fn garbage_closes_quietly() {
    let secured = secured();
    for bytes in [
        &b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0xff; 2000],
        b"\x16\x03\x01\xff\xff\x01\x00",
    ] {
        let mut client = secured.gateway.client();
        let _ = client.try_send(bytes);
        client.finish();
        let (answer, _) = client.read_to_end();
        assert!(answer.len() < 200, "at most an alert, or a word: {answer:?}");
    }
    eventually("nothing is left of them", || secured.gateway.open() == 0);
    assert_eq!(secured.gateway.tls_client(&secured.tls()).get("/").status, 200);
    assert_eq!(secured.backend.count(), 1);
}

#[test]
fn a_plain_door_shows_the_way_to_the_encrypted_one() {
    let authority = Authority::new("the test's");
    let identity = authority.server(&["a.test"]);
    let yaml = "listen:
  - { address: \"127.0.0.2:0\", redirect_https: true }
  - { address: \"127.0.0.1:0\", tls: { certificates: [ { cert: certs/a.pem, key: certs/a.key } ] } }
apis: { all: { routes: [ { match: ANY /, respond: { text: x } } ] } }";
    let gateway = gateway_with(yaml, &[], &files(&identity));
    let mut client = Client::connect(gateway.addresses()[0]);
    for (method, target, host, path) in [
        ("GET", "/", "a.test", "/"),
        ("POST", "/a/b%20c?x=1&y", "A.test:8080", "/a/b%20c?x=1&y"),
        ("GET", "/../../etc", "a.test", "/etc"),
        ("GET", "//evil.test/x", "a.test", "//evil.test/x"),
    ] {
        let response = client.request(method, target, &format!("Host: {host}\r\n"), "");
        if response.status == 400 {
            assert!(target.contains(".."), "{target}");
            client = Client::connect(gateway.addresses()[0]);
            continue;
        }
        assert_eq!(response.status, 308, "{method} {target}");
        let location = response.header("location").unwrap_or_default().to_ascii_lowercase();
        let rest = location.strip_prefix("https://a.test").unwrap_or_else(|| panic!("{location}"));
        // The port of the encrypted listener, unless it is the usual one.
        let rest = rest.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
        assert_eq!(rest, path, "{location}");
    }
    let mut h2 = H2Client::connect(gateway.addresses()[0]);
    assert_eq!(h2.get("/").status, 308);
    assert_eq!(Client::connect_tls(gateway.addresses()[1], &ClientTls::new(&authority, "a.test")).get("/").text(), "x");
}

#[test]
fn a_plain_gateway_is_not_touched_by_any_of_this() {
    let gateway = gateway("apis: { all: { routes: [ { match: GET /, respond: { text: x } } ] } }", &[]);
    assert_eq!(gateway.get("/").text(), "x");
    // A back end behind TLS is another matter.
    let authority = Authority::new("the test's");
    let backend = Backend::named_behind(Door::tls(ServerTls::new(&authority.server(&["127.0.0.1"]))), "x");
    let yaml = format!("apis: {{ all: {{ routes: [ {{ match: GET /, proxy: \"http://{}\" }} ] }} }}", backend.address());
    gateway.publish(&yaml);
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn who_speaks_plain_http_to_tls_is_told_so() {
    let secured = secured();
    for request in ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "POST /x HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"] {
        let mut client = secured.gateway.client();
        client.send(request);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (400, "this port speaks TLS: use https://\n"));
        assert!(response.closes());
        client.closed();
    }
    // Whatever is no request is left without a word of HTTP.
    let mut client = secured.gateway.client();
    client.send("ehlo a.test\r\n");
    let (said, _) = client.read_to_end();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    let mut client = H2Client::silent(Stream::connect(secured.gateway.address()).expect("a listener"));
    let _ = client.try_send_bytes(maitred_testkit::h2::PREFACE);
    let _ = client.try_ending();
    assert_eq!(secured.backend.count(), 0);
    assert_eq!(secured.gateway.tls_client(&secured.tls()).get("/").status, 200);
}
