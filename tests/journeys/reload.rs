//! A reload under way: what is new at once, what stays, what is let go.

use maitred_testkit::{Backend, Gateway, Latch, eventually, gateway};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn text(text: &str) -> String {
    format!("apis: {{ all: {{ routes: [ {{ match: GET /, respond: {{ text: \"{text}\" }} }} ] }} }}")
}

const KITCHEN: &str = "upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ { match: \"ANY /{x+}\", name: all, proxy: kitchen } ] } }";

#[track_caller]
fn one_snapshot(gateway: &Gateway) {
    eventually("the old snapshots are let go", || gateway.metrics().snapshots.load(Ordering::Relaxed) == 1);
}

#[test]
fn new_routes_count_at_once_on_the_same_connection() {
    let gateway = gateway(&text("old"), &[]);
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "old");
    for n in 0..20 {
        gateway.publish(&text(&format!("new {n}")));
        assert_eq!(client.get("/").text(), format!("new {n}"));
    }
    gateway.publish("apis: { all: { routes: [ { match: GET /other, respond: {} } ] } }");
    assert_eq!((client.get("/").status, client.get("/other").status), (404, 200));
    one_snapshot(&gateway);
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let gateway = gateway(&text("good"), &[]);
    let mut client = gateway.client();
    for (yaml, word) in [
        ("apis: { all: { routes: [ GET /: nobody ] } }", "nobody"),
        ("apis: [", "yaml"),
        ("apis: { all: { rutes: [] } }", "rutes"),
        ("limits: { headers: 0 }\napis: { all: { routes: [ { match: GET /, respond: {} } ] } }", "headers"),
    ] {
        let words = gateway.try_publish(yaml).expect_err("a bad file");
        assert!(words.contains(word), "{words}");
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!(gateway.metrics().generation.load(Ordering::Relaxed), 1);
    one_snapshot(&gateway);
}

#[test]
fn a_listener_that_cannot_be_had_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let gateway = gateway(&text("good"), &[]);
    let yaml = format!("listen: [\"127.0.0.1:0\", \"{address}\"]\n{}", text("new"));
    assert!(gateway.try_publish(&yaml).is_err());
    assert_eq!(gateway.get("/").text(), "good");
    one_snapshot(&gateway);
}

#[test]
fn requests_in_flight_end_as_they_began() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.wait(&seen);
        let body = conn.body();
        conn.answer(200, "", body);
    });
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ { match: POST /, proxy: kitchen, transform: { response: { headers: { set: { x-world: old } } } } } ] } }",
        &[("kitchen", backend.address())],
    );
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    backend.wait_for(1);
    gateway.publish(&text("new"));
    assert_eq!(gateway.get("/").text(), "new");
    client.send("half");
    latch.open();
    let response = client.response();
    assert_eq!((response.text().as_str(), response.header("x-world")), ("halfhalf", Some("old")));
    assert_eq!(client.get("/").text(), "new");
    one_snapshot(&gateway);
}

#[test]
fn a_websocket_holds_no_old_snapshot() {
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
    let gateway = gateway(KITCHEN, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
    assert_eq!(client.response().status, 101);
    for _ in 0..10 {
        gateway.publish(KITCHEN);
    }
    gateway.publish(&text("new"));
    one_snapshot(&gateway);
    client.send("still here");
    assert_eq!(client.read_exactly(10), b"still here");
    client.finish();
    client.closed();
    eventually("it is counted under the route it began with", || gateway.counted("all") == 1);
}

#[test]
fn a_stream_holds_no_old_snapshot() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.chunked_head(200, "");
        conn.chunk("first");
        conn.wait(&seen);
        conn.chunk("last");
        conn.send("0\r\n\r\n");
    });
    let gateway = gateway(KITCHEN, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.read_exactly(10);
    gateway.publish(&text("new"));
    one_snapshot(&gateway);
    latch.open();
    assert_eq!(client.read_exactly(14), b"4\r\nlast\r\n0\r\n\r\n");
    assert_eq!(client.get("/").text(), "new");
}

#[test]
fn idle_connections_hold_no_old_snapshot() {
    let backend = Backend::status(200);
    let gateway = gateway(KITCHEN, &[("kitchen", backend.address())]);
    let mut clients: Vec<_> = (0..10).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get("/x");
    }
    gateway.publish(&text("new"));
    one_snapshot(&gateway);
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "new");
    }
}

#[test]
fn counts_and_pools_survive() {
    let backend = Backend::status(200);
    let gateway = gateway(KITCHEN, &[("kitchen", backend.address())]);
    let mut client = gateway.client();
    for n in 1..=10 {
        assert_eq!(client.get("/x").status, 200);
        gateway.publish(KITCHEN);
        eventually("counts survive", || gateway.counted("all") == n);
    }
    gateway.publish(&KITCHEN.replace("proxy: kitchen", "proxy: kitchen, timeout: 5s"));
    assert_eq!(client.get("/x").status, 200);
    assert_eq!(backend.connections(), 1, "the pool survives");
    eventually("a route that changed is still the route of that name", || gateway.counted("all") == 11);
}

#[test]
fn turns_among_endpoints_go_to_the_new_ones() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let yaml =
        |name: &str| format!("upstreams: {{ kitchen: \"http://${name}\" }}\napis: {{ all: {{ routes: [ GET /: kitchen ] }} }}");
    let gateway = gateway(&yaml("a"), &[("a", a.address()), ("b", b.address())]);
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "a");
    gateway.publish(&yaml("b"));
    assert_eq!(client.get("/").text(), "b");
    gateway.publish(&yaml("a"));
    assert_eq!(client.get("/").text(), "a");
}

#[test]
fn limits_change_with_the_next_request() {
    let gateway = gateway(&text("x"), &[]);
    let mut client = gateway.client();
    assert_eq!(client.request("GET", "/", "X: 123456789\r\n", "").status, 200);
    gateway.publish(&format!("limits: {{ headers: 1 }}\n{}", text("x")));
    assert_eq!(client.request("GET", "/", "X: 123456789\r\n", "").status, 431);
}

#[test]
fn listeners_come_and_go() {
    let gateway = gateway(&text("x"), &[]);
    let mut first = gateway.client();
    assert_eq!(first.get("/").status, 200);
    gateway.publish(&format!("listen: [\"127.0.0.1:0\", \"127.0.0.2:0\"]\n{}", text("x")));
    let addresses = gateway.addresses();
    assert_eq!(addresses.len(), 2);
    let mut second = maitred_testkit::Client::connect(addresses[1]);
    assert_eq!(second.get("/").status, 200);
    gateway.publish(&format!("listen: \"127.0.0.1:0\"\n{}", text("y")));
    assert_eq!(gateway.addresses(), [addresses[0]], "the one that stays was never closed");
    eventually("the other refuses", || std::net::TcpStream::connect_timeout(&addresses[1], Duration::from_secs(1)).is_err());
    assert_eq!(second.get("/").text(), "y", "its connections are served to their end");
    assert_eq!(first.get("/").text(), "y");
}

#[test]
fn every_worker_moves_on() {
    let backend = Backend::status(200);
    let gateway = gateway(&format!("workers: 3\n{KITCHEN}"), &[("kitchen", backend.address())]);
    let mut clients: Vec<_> = (0..24).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/x").status, 200);
    }
    let busy = gateway.metrics().workers.iter().filter(|shard| shard.connections_open.get() > 0).count();
    assert!(busy > 1, "connections are dealt among the workers");
    gateway.publish(&format!("workers: 3\n{}", text("new")));
    one_snapshot(&gateway);
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "new");
    }
    eventually("counts are summed over the workers", || gateway.counted("all") == 24);
}

#[test]
fn not_one_request_fails_while_reloads_go_on() {
    let backend = Backend::named("x");
    let gateway = gateway(KITCHEN, &[("kitchen", backend.address())]);
    let over = AtomicBool::new(false);
    let reloads = 100;
    std::thread::scope(|scope| {
        for kept in [true, false] {
            let (gateway, over) = (&gateway, &over);
            scope.spawn(move || {
                let mut client = gateway.client();
                while !over.load(Ordering::Relaxed) {
                    if !kept {
                        client = gateway.client();
                    }
                    assert_eq!(client.request("POST", "/x", "", "body").text(), "x");
                }
            });
        }
        for _ in 0..reloads {
            gateway.publish(KITCHEN);
            gateway.publish(&KITCHEN.replace("proxy: kitchen", "proxy: kitchen, timeout: 9s"));
        }
        over.store(true, Ordering::Relaxed);
    });
    one_snapshot(&gateway);
    assert_eq!(gateway.metrics().generation.load(Ordering::Relaxed), 1 + 2 * reloads);
}

#[test]
fn a_port_that_another_gateway_has_is_not_shared() {
    // The kernel would allow it: both are of one user, and both share their ports among their workers.
    let other = gateway(&text("other"), &[]);
    let gateway = gateway(&text("good"), &[]);
    let listen = |address: &str| format!("listen: [\"127.0.0.1:0\", \"{address}\"]\n{}", text("new"));
    let taken = other.address();
    for address in [taken.to_string(), format!("0.0.0.0:{}", taken.port())] {
        let words = gateway.try_publish(&listen(&address)).expect_err("it is another's");
        assert!(words.contains(&format!("cannot listen on {address}")) && words.contains("in use"), "{words}");
        assert_eq!(gateway.get("/").text(), "good");
    }
    for _ in 0..20 {
        assert_eq!(other.get("/").text(), "other");
    }
    assert_eq!(gateway.addresses().len(), 1);
    one_snapshot(&gateway);
    drop(other);
    gateway.publish(&listen(&taken.to_string()));
    assert_eq!(maitred_testkit::Client::connect(taken).get("/").text(), "new", "it is free now");
}

#[test]
fn a_listener_that_goes_may_come_again_at_once() {
    let listen = |more: &str| format!("listen: [\"127.0.0.1:0\"{more}]\nworkers: 2\n{}", text("x"));
    let gateway = gateway(&listen(", \"127.0.0.2:0\""), &[]);
    let place = gateway.addresses()[1];
    gateway.publish(&listen(""));
    for _ in 0..20 {
        gateway.publish(&listen(&format!(", \"{place}\"")));
        assert_eq!(maitred_testkit::Client::connect(place).get("/").status, 200);
        gateway.publish(&listen(""));
    }
}
