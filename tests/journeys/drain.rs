//! The last minutes of a gateway.

use maitred_core::Kind;
use maitred_testkit::{Backend, Broken, Gateway, Latch, eventually, gateway, gateway_to};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn plain() -> Gateway {
    gateway("apis: { all: { routes: [ { match: GET /, respond: { text: x } } ] } }", &[])
}

#[test]
fn the_next_answer_is_the_last() {
    let gateway = plain();
    let mut client = gateway.client();
    assert!(!client.get("/").closes());
    gateway.begin_drain();
    let last = client.get("/");
    assert_eq!((last.status, last.closes()), (200, true));
    client.closed();
}

#[test]
fn idle_connections_live_on_until_they_ask_again() {
    let gateway = plain();
    let (mut one, mut two) = (gateway.client(), gateway.client());
    one.get("/");
    two.get("/");
    gateway.begin_drain();
    assert!(one.get("/").closes());
    assert!(two.is_quiet(), "a request may be on its way: it must not meet a closed door");
    assert!(two.get("/").closes());
    assert!(gateway.drain(SOON), "all have left");
}

#[test]
fn a_drain_ends_when_the_last_connection_does_or_at_its_deadline() {
    let gateway = plain();
    assert!(gateway.drain(SOON));
    let mut gateway = plain();
    let mut idle = gateway.client();
    idle.get("/");
    let begun = Instant::now();
    assert!(!gateway.drain(Duration::from_millis(100)), "one is still there");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert!(idle.is_quiet(), "it is not closed before the deadline");
    gateway.stop();
    let (rest, _) = idle.read_to_end();
    assert!(rest.is_empty());
}

#[test]
fn nobody_new_is_let_in() {
    let gateway = plain();
    let address = gateway.address();
    gateway.begin_drain();
    eventually("new connections are refused", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err());
}

#[test]
fn a_request_in_flight_is_answered() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "late");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| gateway.drain(SOON));
        eventually("the drain has begun", || TcpStream::connect_timeout(&gateway.address(), Duration::from_secs(1)).is_err());
        latch.open();
        let response = client.response();
        assert_eq!((response.text().as_str(), response.closes()), ("late", true));
        client.closed();
        assert!(draining.join().expect("it does not panic"));
    });
}

#[test]
fn pipelined_requests_behind_the_last_are_not_served() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    gateway.begin_drain();
    latch.open();
    assert!(client.response().closes());
    client.closed();
    assert_eq!(backend.only().target, "/1");
}

#[test]
fn a_tunnel_lives_until_the_deadline() {
    let backend = Backend::new(|_, conn| {
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        loop {
            let bytes = conn.read_some();
            if bytes.is_empty() || !conn.send(&bytes) {
                break;
            }
        }
        conn.close();
    });
    let mut gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
    assert_eq!(client.response().status, 101);
    assert!(!gateway.drain(Duration::from_millis(50)));
    client.send("still here");
    assert_eq!(client.read_exactly(10), b"still here");
    gateway.stop();
    assert!(matches!(client.try_head(), Err(Broken::Closed | Broken::Reset(_))));
}

#[test]
fn a_stopped_gateway_leaves_nothing_behind() {
    let backend = Backend::status(200);
    let mut gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.get("/");
    assert_eq!(backend.open(), 1);
    gateway.stop();
    client.closed();
    eventually("the pool is closed", || backend.open() == 0);
    assert!(TcpStream::connect_timeout(&gateway.address(), Duration::from_secs(1)).is_err());
}

#[test]
fn a_request_that_is_cut_off_is_counted_once() {
    let backend = Backend::new(|_, conn| {
        conn.peer_leaves();
    });
    let mut gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_for(1);
    gateway.stop();
    let workers = &gateway.metrics().workers;
    assert_eq!(workers.iter().map(|shard| shard.faults.of(Kind::CutOff).get()).sum::<u64>(), 1);
    assert_eq!(workers.iter().map(|shard| shard.requests_open.get()).sum::<u64>(), 0);
    assert_eq!(gateway.counted("ANY /"), 1);
}
