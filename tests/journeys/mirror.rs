//! Copies of requests for another back end: they arrive, and whatever becomes of them, the original notices nothing.

use maitred_testkit::{Backend, Gateway, H2Backend, Latch, eventually, gateway, nobody, reluctant};
use std::net::SocketAddr;

fn mirrored(share: &str, kitchen: &Backend, copy: SocketAddr) -> Gateway {
    mirrored_as(&format!("{{ to: copy, share: {share} }}"), "\"http://$copy\"", kitchen, copy)
}

fn mirrored_as(mirror: &str, upstream: &str, kitchen: &Backend, copy: SocketAddr) -> Gateway {
    let yaml = format!(
        "limits: {{ body_bytes: 1GiB }}
upstreams: {{ kitchen: \"http://$kitchen\", copy: {upstream} }}
apis:
  all:
    routes:
      - {{ match: ANY /, name: original, proxy: kitchen, mirror: {mirror} }}
      - {{ match: \"ANY /{{path+}}\", name: other, proxy: kitchen, mirror: {mirror} }}
"
    );
    gateway(&yaml, &[("kitchen", kitchen.address()), ("copy", copy)])
}

#[test]
fn a_copy_reaches_the_other_back_end() {
    let (kitchen, copy) = (Backend::echo(), Backend::echo());
    let gateway = mirrored("100%", &kitchen, copy.address());
    let mut client = gateway.client();
    let response = client.request("POST", "/a%20b?c=d", "X-Own: 1\r\nCookie: a=1\r\n", "the body");
    assert_eq!(response.json()["body"], "the body");
    copy.wait_for(1);
    let (original, received) = (kitchen.only(), copy.only());
    eventually("the copy is whole", || copy.only().complete);
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/a%20b?c=d"));
    assert_eq!(copy.only().body, b"the body");
    for name in ["x-own", "cookie", "x-request-id", "x-forwarded-for", "via"] {
        assert_eq!(received.header(name), original.header(name), "{name}");
    }
    assert!(copy.complaints().is_empty(), "{:?}", copy.complaints());
    assert_eq!(client.request("HEAD", "/", "", "").status, 200);
    copy.wait_for(2);
    assert_eq!(copy.last().method, "HEAD");
}

#[test]
fn only_the_original_s_answer_counts() {
    let kitchen = Backend::named("the original");
    for copy in [Backend::status(500), Backend::bytes(2_000_000), Backend::raw("no HTTP at all\r\n\r\n")] {
        let gateway = mirrored("100%", &kitchen, copy.address());
        let mut client = gateway.client();
        for _ in 0..5 {
            let response = client.get("/");
            assert_eq!((response.status, response.text().as_str()), (200, "the original"));
        }
        copy.wait_for(5);
        eventually("the copies are not counted as requests", || gateway.counted("original") == 5);
    }
}

#[test]
fn a_copy_never_delays_the_original() {
    let kitchen = Backend::echo();
    let latch = Latch::new();
    let seen = latch.clone();
    let slow = Backend::new(move |_, conn| {
        conn.wait(&seen);
        conn.body();
        conn.answer(200, "", "late");
    });
    let (full, _held) = reluctant();
    let (gone, _kept) = nobody();
    for copy in [slow.address(), full, gone] {
        let gateway = mirrored("100%", &kitchen, copy);
        let mut client = gateway.client();
        for _ in 0..20 {
            assert_eq!(client.request("POST", "/", "", "body").json()["body"], "body");
        }
        let body = "x".repeat(3_000_000);
        assert_eq!(client.request("POST", "/", "", &body).json()["body_length"], 3_000_000);
    }
    latch.open();
}

#[test]
fn a_copy_that_has_nowhere_to_go_is_not_sent() {
    let (kitchen, copy) = (Backend::echo(), Backend::echo());
    let gateway = mirrored("100%", &kitchen, copy.address());
    let series = gateway.metrics().upstream(&"copy".into());
    let counts = || (series.sum(|shard| &shard.mirrored), series.sum(|shard| &shard.mirror_failed));
    assert_eq!(gateway.get("/").status, 200);
    eventually("one is sent", || counts() == (1, 0));
    gateway.turn_endpoint("copy", copy.address(), true);
    assert_eq!(gateway.get("/").status, 200);
    eventually("the other fails", || counts() == (1, 1));
    assert_eq!(gateway.metrics().upstream(&"kitchen".into()).sum(|shard| &shard.mirrored), 0);
}

#[test]
fn a_copy_that_breaks_harms_nothing() {
    let kitchen = Backend::echo();
    let breaking = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        conn.reset();
    });
    let gateway = mirrored("100%", &kitchen, breaking.address());
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.request("POST", "/", "", "body").status, 200);
    }
    breaking.wait_for(1);
    assert_eq!(kitchen.connections(), 1);
}

#[test]
fn bodies_are_copied_up_to_a_bound() {
    let (kitchen, copy) = (Backend::echo(), Backend::echo());
    let gateway = mirrored("100%", &kitchen, copy.address());
    let mut client = gateway.client();
    let small = "x".repeat(50_000);
    assert_eq!(client.request("POST", "/", "", &small).status, 200);
    copy.wait_for(1);
    eventually("it is whole", || copy.only().body.len() == 50_000);
    let large = "x".repeat(20_000_000);
    assert_eq!(client.request("POST", "/", "", &large).json()["body_length"], 20_000_000);
    assert_eq!(client.request("POST", "/last", "", "z").status, 200);
    eventually("the next one is copied", || copy.requests().iter().any(|request| request.target == "/last" && request.complete));
    let cut: Vec<_> = copy.requests().into_iter().filter(|request| request.body.len() > 1_000_000).collect();
    assert!(cut.iter().all(|request| !request.complete), "what is too large never arrives as if it were whole");
}

#[test]
fn a_chunked_body_is_copied_too() {
    let (kitchen, copy) = (Backend::echo(), Backend::echo());
    let gateway = mirrored("100%", &kitchen, copy.address());
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
    assert_eq!(client.response().json()["body"], "hello world");
    eventually("it is whole", || copy.requests().iter().any(|request| request.complete && request.body == b"hello world"));
}

#[test]
fn a_body_that_never_ends_is_no_copy() {
    let (kitchen, copy) = (Backend::echo(), Backend::echo());
    let gateway = mirrored("100%", &kitchen, copy.address());
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    kitchen.wait_for(1);
    client.reset();
    eventually("the original is abandoned", || kitchen.open() == 0);
    assert_eq!(gateway.ask("POST", "/", "", "whole").status, 200);
    eventually("the next one is copied", || copy.requests().iter().any(|request| request.body == b"whole"));
    assert!(copy.requests().iter().all(|request| !request.body.starts_with(b"abc") || !request.complete));
}

#[test]
fn a_share_is_one() {
    let (kitchen, copy) = (Backend::status(200), Backend::status(200));
    let gateway = mirrored("25%", &kitchen, copy.address());
    let mut client = gateway.client();
    const COUNT: usize = 1000;
    for _ in 0..COUNT {
        assert_eq!(client.get("/").status, 200);
    }
    // Six standard deviations: once in a thousand million runs.
    let (least, most) = (250 - 82, 250 + 82);
    eventually("about a quarter has come", || copy.count() >= least);
    assert!(copy.count() <= most, "{} of {COUNT}", copy.count());
    assert_eq!(kitchen.count(), COUNT);
}

#[test]
fn the_smallest_share_is_next_to_none_and_all_is_all() {
    let (kitchen, copy) = (Backend::status(200), Backend::status(200));
    let gateway = mirrored("0.0001%", &kitchen, copy.address());
    let mut client = gateway.client();
    for _ in 0..200 {
        client.get("/");
    }
    assert!(copy.count() <= 1, "{}", copy.count());
    let gateway = mirrored("100%", &kitchen, copy.address());
    let (before, mut client) = (copy.count(), gateway.client());
    for _ in 0..50 {
        client.get("/");
    }
    eventually("every one is copied", || copy.count() - before == 50);
}

#[test]
fn a_copy_may_go_by_http_2() {
    let (kitchen, copy) = (Backend::echo(), H2Backend::echo());
    let gateway = mirrored_as("{ to: copy }", "{ endpoints: [\"http://$copy\"], protocol: h2c }", &kitchen, copy.address());
    assert_eq!(gateway.ask("POST", "/a", "", "body").json()["body"], "body");
    eventually("it is whole", || copy.requests().iter().any(|request| request.complete && request.body == b"body"));
    let mut client = gateway.h2();
    assert_eq!(client.request("POST", "/b", &[], "more").json()["body"], "more");
    eventually("it is whole", || copy.requests().iter().any(|request| request.complete && request.body == b"more"));
}

#[test]
fn upgrades_are_not_copied() {
    let kitchen = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        let bytes = conn.read_some();
        conn.send(bytes);
    });
    let copy = Backend::echo();
    let gateway = mirrored("100%", &kitchen, copy.address());
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
    assert_eq!(client.response().status, 101);
    client.send("polly");
    assert_eq!(client.read_exactly(5), b"polly");
    assert!(copy.requests().iter().all(|request| !request.headers.has("upgrade")), "{:?}", copy.requests());
}

#[test]
fn what_is_refused_is_not_copied() {
    let (kitchen, copy) = (Backend::echo(), Backend::echo());
    let yaml = "upstreams: { kitchen: \"http://$kitchen\", copy: \"http://$copy\" }
apis: { all: { routes: [ { match: ANY /, proxy: kitchen, mirror: { to: copy }, ip: { deny: [127.0.0.0/8] } }, { match: POST /small, proxy: kitchen, body_bytes: 5B, mirror: { to: copy } } ] } }";
    let gateway = gateway(yaml, &[("kitchen", kitchen.address()), ("copy", copy.address())]);
    assert_eq!(gateway.get("/").status, 403);
    assert_eq!(gateway.ask("POST", "/small", "", "much too long").status, 413);
    assert_eq!(gateway.ask("POST", "/small", "", "short").status, 200);
    copy.wait_for(1);
    assert_eq!(copy.only().body, b"short");
}

#[test]
fn a_crowd_of_copies_is_bounded() {
    let kitchen = Backend::status(200);
    let latch = Latch::new();
    let seen = latch.clone();
    let slow = Backend::new(move |_, conn| {
        conn.wait(&seen);
        conn.answer(200, "", "late");
    });
    let gateway = mirrored("100%", &kitchen, slow.address());
    let mut client = gateway.client();
    for _ in 0..600 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(slow.connections() <= 300, "{} connections for copies that nobody waits for", slow.connections());
    latch.open();
}
