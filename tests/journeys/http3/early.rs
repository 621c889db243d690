//! Early data (RFC 8470): what a client says before the handshake is over may be a copy of what somebody else said.

use super::{secured, secured_with};
use crate::tls::Secured;
use maitred_testkit::{Authority, Backend, ClientTls, H3Client, Holding, eventually, gateway_with, stays};

/// A client that has been there, and may speak early the next time.
fn known(secured: &Secured) -> ClientTls {
    let tls = secured.tls().h3().early();
    let mut client = H3Client::connect(secured.gateway.address(), &tls);
    // The ticket comes behind the handshake.
    assert_eq!(client.get("/").status, 200);
    tls
}

#[test]
fn a_get_is_answered_before_the_handshake_is_over_and_the_back_end_is_told() {
    let secured = secured();
    let tls = known(&secured);
    let holding = Holding::before(secured.gateway.address());
    let mut client = H3Client::early(holding.address(), &tls).expect("the gateway allows it");
    let mut stream = client.open("GET", "/early", &[]);
    stream.finish();
    eventually("it is forwarded", || secured.backend.count() == 2);
    holding.answer();
    assert_eq!(stream.response().status, 200);
    assert_eq!(secured.backend.last().header("early-data"), Some("1"));
    holding.release();
    assert!(client.was_early());
    assert_eq!(client.get("/late").status, 200);
    assert_eq!(secured.backend.last().header("early-data"), None);
}

#[test]
fn a_post_waits_for_the_handshake() {
    let secured = secured();
    let tls = known(&secured);
    let before = secured.backend.count();
    let holding = Holding::before(secured.gateway.address());
    let mut client = H3Client::early(holding.address(), &tls).expect("the gateway allows it");
    let mut stream = client.open("POST", "/early", &[]);
    stream.send("body");
    stream.finish();
    holding.answer();
    assert_eq!(stays("it is not forwarded", || secured.backend.count() as u64), before as u64);
    holding.release();
    assert_eq!(stream.response().json()["body"], "body");
    assert_eq!(secured.backend.last().header("early-data"), None, "by now it is nobody's copy");
    assert!(client.was_early());
}

#[test]
fn what_is_sent_again_by_another_is_not_answered_again() {
    let secured = secured();
    let tls = known(&secured);
    let holding = Holding::before(secured.gateway.address());
    let mut client = H3Client::early(holding.address(), &tls).expect("the gateway allows it");
    let mut stream = client.open("GET", "/early", &[]);
    stream.finish();
    eventually("it is forwarded", || secured.backend.count() == 2);
    holding.release();
    assert_eq!(stream.response().status, 200);
    assert!(client.was_early());
    drop((client, stream));
    eventually("it is gone", || secured.gateway.open() == 0);
    let before = secured.backend.count() as u64;
    let _socket = holding.replay();
    assert_eq!(stays("a session is good for one resumption", || secured.backend.count() as u64), before);
}

#[test]
fn where_clients_show_certificates_nothing_is_taken_early() {
    let (authority, members) = (Authority::new("the test's"), Authority::new("the members'"));
    let identity = authority.server(&["a.test"]);
    let backend = Backend::echo();
    let yaml = super::yaml("", ", client_ca: members.pem, client_auth: optional");
    let files = [&crate::tls::files(&identity)[..], &[("members.pem", members.pem())]].concat();
    let gateway = gateway_with(&yaml, &[("kitchen", backend.address())], &files);
    let secured = Secured { authority, identity, backend, gateway };
    let tls = known(&secured);
    assert!(H3Client::early(secured.gateway.address(), &tls).is_none(), "a ticket that does not allow it");
    let mut client = H3Client::connect(secured.gateway.address(), &tls);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_handshake_that_is_never_finished_has_its_time() {
    let secured = secured_with("limits: { handshake_timeout: 10s, idle_timeout: 1h }", "", Backend::echo());
    let tls = known(&secured);
    eventually("the first is gone", || secured.gateway.open() == 0);
    let before = secured.backend.count();
    let holding = Holding::before(secured.gateway.address());
    let mut client = H3Client::early(holding.address(), &tls).expect("the gateway allows it");
    let mut stream = client.open("POST", "/", &[]);
    stream.finish();
    eventually("it is let in", || secured.gateway.open() == 1);
    eventually("it is left", || {
        secured.gateway.turn(std::time::Duration::from_secs(11));
        secured.gateway.open() == 0
    });
    assert_eq!(secured.backend.count(), before, "{:?}", secured.backend.requests());
}
