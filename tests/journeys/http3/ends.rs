//! How connections of HTTP/3 come and go: who learns of it, certificates, drains, reloads, addresses that change.

use super::{GET, secured, secured_with, yaml};
use crate::tls::{all_are_left, files};
use maitred_testkit::h3::{code, headers};
use maitred_testkit::{Authority, Backend, H3Client, Holding, Latch, eventually, gateway_with};
use std::time::Duration;

#[test]
fn clients_of_tcp_are_told_of_it() {
    let secured = secured();
    let port = secured.gateway.address().port();
    let wanted = format!("h3=\":{port}\"; ma=86400");
    let mut client = secured.gateway.tls_client(&secured.tls());
    assert_eq!(client.request("GET", "/", "Host: a.test\r\n", "").header("alt-svc"), Some(wanted.as_str()));
    let mut client = secured.gateway.h2_tls(&secured.tls().h2());
    let stream = client.ask("GET", "/", &[(":authority", "a.test")]);
    assert_eq!(client.response(stream).header("alt-svc"), Some(wanted.as_str()));
    assert_eq!(secured.h3().get("/").header("alt-svc"), None, "who is there needs no way");
    let own = secured_with(
        "",
        "",
        Backend::new(|_, conn| {
            conn.answer(200, "alt-svc: clear\r\n", "");
        }),
    );
    assert_eq!(own.gateway.tls_client(&own.tls()).request("GET", "/", "Host: a.test\r\n", "").header("alt-svc"), Some("clear"));
    let without = crate::tls::secured();
    assert_eq!(without.gateway.tls_client(&without.tls()).get("/").header("alt-svc"), None);
    assert!(std::net::UdpSocket::bind(without.gateway.address()).is_ok(), "nobody is there");
}

#[test]
fn connections_are_counted() {
    let secured = secured();
    let count = || secured.gateway.metrics().workers.iter().map(|shard| shard.h3_open.get()).sum::<u64>();
    let mut client = secured.h3();
    assert_eq!((client.get("/").status, count(), secured.gateway.open()), (200, 1, 1));
    drop(client);
    eventually("it is gone", || count() == 0 && secured.gateway.open() == 0);
}

#[test]
fn a_client_of_another_name_sees_the_first_certificate() {
    let secured = secured();
    let mut other = secured.h3();
    assert!(other.peer_is(&secured.identity));
    let wrong = maitred_testkit::ClientTls::new(&secured.authority, "other.test").h3();
    let refused = H3Client::try_connect(secured.gateway.address(), &wrong).err().expect("its name is not in it");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let nameless = secured.tls().h3().without_sni();
    assert_eq!(H3Client::connect(secured.gateway.address(), &nameless).get("/").status, 200);
    assert_eq!(other.get("/").status, 200);
}

#[test]
fn another_protocol_is_refused() {
    let secured = secured();
    let tls = secured.tls().h3().alpn(&["hq-interop"]);
    assert!(H3Client::try_connect(secured.gateway.address(), &tls).is_err());
    eventually("nothing is left of it", || secured.gateway.open() == 0);
}

#[test]
fn who_comes_when_many_do_must_show_that_it_is_there() {
    let secured = secured_with("limits: { handshakes: 4 }", "", Backend::named("x"));
    let address = secured.gateway.address();
    let quiet = Holding::before(address);
    quiet.release();
    assert_eq!(H3Client::connect(quiet.address(), &secured.tls().h3()).get("/").status, 200);
    assert!(!quiet.was_retried(), "nobody is asked when there is room");
    eventually("it is gone", || secured.gateway.open() == 0);
    // A quarter of them: one client that has not answered yet.
    let held = Holding::before(address);
    let other = Holding::before(address);
    other.release();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| H3Client::connect(held.address(), &secured.tls().h3()).get("/").status);
        eventually("it has begun", || secured.gateway.open() == 1);
        assert_eq!(H3Client::connect(other.address(), &secured.tls().h3()).get("/").status, 200);
        held.release();
        assert_eq!(slow.join().expect("it does not panic"), 200);
    });
    assert!(other.was_retried() && !held.was_retried());
}

#[test]
fn certificates_of_clients_are_asked_for() {
    let (authority, members) = (Authority::new("the test's"), Authority::new("the members'"));
    let (identity, other) = (authority.server(&["a.test"]), authority.server(&["b.test"]));
    let backend = Backend::echo();
    let files =
        [&files(&identity)[..], &[("b.pem", other.cert.clone()), ("b.key", other.key.clone()), ("members.pem", members.pem())]]
            .concat();
    let yaml = yaml("", ", client_ca: members.pem").replace("a.key } ]", "a.key }, { cert: b.pem, key: b.key } ]");
    let yaml = yaml.replace("hosts: [ a.test ]", "hosts: [ a.test, b.test ]");
    let gateway = gateway_with(&yaml, &[("kitchen", backend.address())], &files);
    let tls = || maitred_testkit::ClientTls::new(&authority, "a.test").h3();
    let mut alice = H3Client::connect(gateway.address(), &tls().identity(&members.client("alice")));
    assert_eq!(alice.get("/").status, 200);
    alice.authority("b.test");
    assert_eq!(alice.get("/").status, 421, "what was proved for one name opens no other");
    for (who, tls) in [("nobody", tls()), ("eve", tls().identity(&Authority::new("others'").client("eve")))] {
        // In TLS 1.3 the client learns of a refusal when it is in already.
        if let Ok(mut client) = H3Client::try_connect(gateway.address(), &tls) {
            let answered = client.try_open("GET", "/", &[]).and_then(|mut stream| stream.try_response());
            assert!(answered.is_err(), "{who}: {answered:?}");
        }
    }
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_new_certificate_is_shown_to_new_connections() {
    let secured = secured();
    let mut old = secured.h3();
    assert_eq!(old.get("/").status, 200);
    let renewed = secured.authority.server(&["a.test"]);
    secured.gateway.publish_with(&yaml("", ""), &files(&renewed));
    let mut new = secured.h3();
    assert!(new.peer_is(&renewed) && old.peer_is(&secured.identity));
    assert_eq!((new.get("/").status, old.get("/").status), (200, 200));
}

#[test]
fn it_comes_and_goes_with_a_reload() {
    let secured = secured();
    let address = secured.gateway.address();
    let mut client = secured.h3();
    assert_eq!(client.get("/").status, 200);
    let without = yaml("", "").replace("http3: true, ", "");
    secured.gateway.publish(&without);
    eventually("who is there is told, and leaves", || {
        secured.gateway.turn(Duration::from_secs(2));
        secured.gateway.open() == 0
    });
    assert_eq!(secured.gateway.tls_client(&secured.tls()).request("GET", "/", "Host: a.test\r\n", "").header("alt-svc"), None);
    eventually("its port is free again", || secured.gateway.try_publish(&yaml("", "")).is_ok());
    assert_eq!(H3Client::connect(address, &secured.tls().h3()).get("/").status, 200);
}

#[test]
fn a_drain_lets_requests_end() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut stream = client.open("GET", "/", &[]);
    stream.finish();
    secured.backend.wait_for(1);
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| secured.gateway.drain(Duration::from_secs(10)));
        eventually("nobody new is let in", || H3Client::try_connect(secured.gateway.address(), &secured.tls().h3()).is_err());
        latch.open();
        assert_eq!(stream.response().text(), "late");
        // It has heard GOAWAY, and opens nothing more.
        assert!(client.try_open("GET", "/", &[]).is_err());
        drop((client, stream));
        assert!(draining.join().expect("it does not panic"), "all ended by themselves");
    });
}

#[test]
fn who_asks_after_the_goodbye_is_told_to_ask_elsewhere() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let secured = secured_with("", "", backend);
    let client = secured.raw();
    let mut first = client.stream(&headers(&GET));
    first.finish();
    secured.backend.wait_for(1);
    secured.gateway.begin_drain();
    // SETTINGS first; GOAWAY with the number of the request that would come next.
    let goaway = client.control_bytes(&[0x07, 0x01, 0x04]);
    assert!(goaway, "GOAWAY is said");
    assert_eq!(client.ask(&headers(&GET)), maitred_testkit::h3::RawEnd::Reset(code::REQUEST_REJECTED));
    latch.open();
    assert_eq!(first.end().status(), 200);
    eventually("it is left", || {
        secured.gateway.turn(Duration::from_secs(2));
        secured.gateway.open() == 0
    });
    assert_eq!(client.closed(), code::NO_ERROR);
}

#[test]
fn an_idle_connection_is_left() {
    let secured = secured_with("limits: { idle_timeout: 60s }", "", Backend::echo());
    let mut client = secured.h3();
    assert_eq!(client.get("/").status, 200);
    all_are_left(&secured.gateway, 61);
    assert_eq!(client.closed(), code::NO_ERROR);
}

#[test]
fn a_connection_beyond_the_limit_is_refused() {
    let secured = secured_with("limits: { connections: 1 }", "", Backend::echo());
    let mut first = secured.h3();
    assert_eq!(first.get("/").status, 200);
    assert!(H3Client::try_connect(secured.gateway.address(), &secured.tls().h3()).is_err());
    assert_eq!(first.get("/").status, 200);
    drop(first);
    eventually("there is a place again", || secured.gateway.open() == 0);
    assert_eq!(secured.h3().get("/").status, 200);
}

#[test]
fn a_client_whose_address_changes_is_found_again() {
    let backend = Backend::echo();
    let secured = secured_with("workers: 4", "", backend);
    for _ in 0..4 {
        let mut client = secured.h3();
        assert_eq!(client.get("/").status, 200);
        for _ in 0..4 {
            client.move_away();
            assert_eq!(client.get("/").status, 200, "its datagrams may come to any worker");
        }
    }
    let connections: u64 = secured.gateway.metrics().workers.iter().map(|shard| shard.connections_accepted.get()).sum();
    assert_eq!(connections, 4, "and none was opened for it");
}

#[test]
fn a_stopped_gateway_says_so() {
    let mut secured = secured();
    let client = secured.raw();
    assert_eq!(client.ask(&headers(&GET)).status(), 200);
    secured.gateway.stop();
    assert_eq!(client.closed(), code::NO_ERROR);
}

#[test]
fn datagrams_that_are_none_of_quic_do_no_harm() {
    let secured = secured();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(secured.gateway.address()).expect("an address");
    let mut noise = 1_u64;
    for length in 0..1500 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            })
            .collect();
        let _ = socket.send(&bytes);
    }
    assert_eq!(secured.h3().get("/").status, 200);
    assert_eq!(secured.gateway.tls_client(&secured.tls()).request("GET", "/", "Host: a.test\r\n", "").status, 200);
}

#[test]
fn two_processes_do_not_share_a_port() {
    let secured = secured();
    let port = secured.gateway.address().port();
    // A port that is free for TCP, as far as one can tell.
    let refused = (0..20).find_map(|_| {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let elsewhere = taken.local_addr().expect("an address");
        let yaml = yaml("", "").replace("127.0.0.1:0", &elsewhere.to_string());
        secured.gateway.try_publish(&yaml).err().filter(|words| words.contains("HTTP/3"))
    });
    assert!(refused.is_some_and(|words| words.contains("UDP")));
    assert_eq!(secured.gateway.address().port(), port, "nothing has changed");
    assert_eq!(secured.h3().get("/").status, 200);
}
