//! Active health checks, and endpoints taken out by hand: what back ends are asked, and where clients end up. The clock is turned by
//! hand: one turn is one check of each endpoint.

use maitred_testkit::{
    Authority, Backend, Conn, Door, Gateway, H2Backend, Latch, Received, ServerTls, eventually, gateway, gateway_with, nobody,
    reluctant,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

/// Longer than an interval of 3 s and a tenth of it.
const TURN: Duration = Duration::from_secs(4);

/// `keys`: of the upstream, each with a comma in front.
fn yaml(endpoints: &str, keys: &str) -> String {
    format!(
        "upstreams: {{ kitchen: {{ endpoints: [ {endpoints} ]{keys} }} }}
apis: {{ all: {{ routes: [ ANY /: kitchen, \"ANY /{{path+}}\": kitchen ] }} }}"
    )
}

/// Answers checks with a status that can be changed, everything else with its name.
struct Cook {
    backend: Backend,
    status: Arc<AtomicU16>,
    checks: Arc<AtomicU64>,
}

impl Cook {
    fn new(name: &'static str) -> Cook {
        let (status, checks) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU64::new(0)));
        let (answer, count) = (status.clone(), checks.clone());
        let backend = Backend::new(move |request: &Received, conn: &mut Conn| {
            conn.body();
            if request.target == "/healthz" {
                count.fetch_add(1, Ordering::SeqCst);
                conn.answer(answer.load(Ordering::SeqCst), "", "as ever");
            } else {
                conn.answer(200, "", name);
            }
        });
        Cook { backend, status, checks }
    }

    fn is_well(&self, is_well: bool) {
        self.status.store(if is_well { 200 } else { 503 }, Ordering::SeqCst);
    }

    fn checks(&self) -> u64 {
        self.checks.load(Ordering::SeqCst)
    }

    fn address(&self) -> SocketAddr {
        self.backend.address()
    }
}

/// Checks of an endpoint whose result is known.
fn known(gateway: &Gateway, address: SocketAddr) -> u64 {
    let check = gateway.endpoint("kitchen", address)["health_check"].take();
    check["passed"].as_u64().unwrap_or(0) + check["failed"].as_u64().unwrap_or(0)
}

#[track_caller]
fn wait_for(gateway: &Gateway, address: SocketAddr, checks: u64) {
    eventually(&format!("{address} was checked {checks} times"), || known(gateway, address) >= checks);
}

/// One check more of each.
#[track_caller]
fn check(gateway: &Gateway, addresses: &[SocketAddr]) {
    let before: Vec<u64> = addresses.iter().map(|address| known(gateway, *address)).collect();
    gateway.turn(TURN);
    for (address, before) in addresses.iter().zip(before) {
        wait_for(gateway, *address, before + 1);
    }
}

#[track_caller]
fn state(gateway: &Gateway, address: SocketAddr) -> String {
    gateway.endpoint("kitchen", address)["state"].as_str().expect("a state").to_owned()
}

/// Why the last check failed.
#[track_caller]
fn failure(gateway: &Gateway, address: SocketAddr) -> String {
    gateway.endpoint("kitchen", address)["health_check"]["failure"].as_str().expect("a failure").to_owned()
}

/// Who answers ten requests.
fn served(gateway: &Gateway) -> BTreeSet<String> {
    let mut client = gateway.client();
    (0..10).map(|_| client.get("/").text()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

const HEALTHZ: &str = ", health_check: { path: /healthz }";
const TWO: &str = "\"http://$a\", \"http://$b\"";

#[test]
fn an_endpoint_is_out_after_exactly_three_failures_and_back_after_two_passes() {
    let (a, b) = (Cook::new("a"), Cook::new("b"));
    let keys = ", health_check: { path: /healthz, unhealthy_after: 3, healthy_after: 2 }";
    let gateway = gateway(&yaml(TWO, keys), &[("a", a.address()), ("b", b.address())]);
    let both = [a.address(), b.address()];
    both.iter().for_each(|address| wait_for(&gateway, *address, 1));
    a.is_well(false);
    for failures in 1..=3 {
        assert_eq!((state(&gateway, a.address()), served(&gateway)), ("healthy".to_owned(), names(&["a", "b"])), "{failures}");
        check(&gateway, &both);
    }
    assert_eq!((state(&gateway, a.address()), served(&gateway)), ("unhealthy".to_owned(), names(&["b"])));
    let endpoint = gateway.endpoint("kitchen", a.address());
    assert_eq!(endpoint["reason"], "status 503, expected 200-299");
    assert_eq!((&endpoint["health_check"]["passed"], &endpoint["health_check"]["failed"]), (&1.into(), &3.into()));
    assert!(endpoint["since"].is_string(), "{endpoint}");
    a.is_well(true);
    check(&gateway, &both);
    assert_eq!(served(&gateway), names(&["b"]), "one is not enough");
    check(&gateway, &both);
    assert_eq!((state(&gateway, a.address()), served(&gateway)), ("healthy".to_owned(), names(&["a", "b"])));
    assert_eq!(a.checks(), 6);
}

#[test]
fn the_first_check_decides() {
    let (good, (dead, _held)) = (Cook::new("good"), nobody());
    let gateway = gateway(&yaml("\"http://$dead\", \"http://$good\"", HEALTHZ), &[("dead", dead), ("good", good.address())]);
    wait_for(&gateway, dead, 1);
    wait_for(&gateway, good.address(), 1);
    assert_eq!((state(&gateway, dead), failure(&gateway, dead).as_str()), ("unhealthy".to_owned(), "connection refused"));
    assert_eq!(state(&gateway, good.address()), "healthy");
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.endpoint("kitchen", dead)["requests"], 0, "nobody is sent there");
}

#[test]
fn a_check_asks_what_is_configured() {
    let backend = Backend::echo();
    let keys = ", health_check: { path: \"/health?deep\", host: orders.internal, expect: [204, 200-201] }";
    let gateway = gateway(&yaml("\"http://$a/base\"", keys), &[("a", backend.address())]);
    wait_for(&gateway, backend.address(), 1);
    let asked = backend.only();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/health?deep"), "from the root of the server");
    assert_eq!(asked.header("host"), Some("orders.internal"));
    assert_eq!(asked.header("user-agent"), Some(concat!("maitred/", env!("CARGO_PKG_VERSION"), " health check")));
    assert_eq!(state(&gateway, backend.address()), "healthy");
    assert_eq!(backend.complaints(), Vec::<String>::new());
    check(&gateway, &[backend.address()]);
    assert_eq!(backend.connections(), 2, "each on a connection of its own");
    eventually("both are closed", || backend.open() == 0);
}

#[test]
fn a_connection_is_enough_for_a_check_by_tcp() {
    let (backend, (dead, _held)) = (Backend::echo(), nobody());
    let keys = ", health_check: { type: tcp }";
    let gateway = gateway(&yaml("\"http://$a\", \"http://$dead\"", keys), &[("a", backend.address()), ("dead", dead)]);
    wait_for(&gateway, backend.address(), 1);
    wait_for(&gateway, dead, 1);
    assert_eq!((state(&gateway, backend.address()).as_str(), state(&gateway, dead).as_str()), ("healthy", "unhealthy"));
    eventually("the connection was accepted", || backend.connections() == 1);
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_check_that_takes_too_long_has_failed() {
    let latch = Latch::new();
    let held = latch.clone();
    let silent = Backend::new(move |_, conn| {
        conn.wait(&held);
    });
    let (closed, _sockets) = reluctant();
    let keys = ", health_check: { timeout: 2s }";
    let gateway =
        gateway(&yaml("\"http://$silent\", \"http://$closed\"", keys), &[("silent", silent.address()), ("closed", closed)]);
    silent.wait_for(1);
    // The other may not have begun to connect; its turn comes with the next.
    gateway.turn(Duration::from_secs(2));
    wait_for(&gateway, silent.address(), 1);
    assert_eq!(failure(&gateway, silent.address()), "no answer in 2s");
    eventually("the other is given up, too", || {
        gateway.turn(Duration::from_secs(2));
        known(&gateway, closed) > 0
    });
    assert_eq!((state(&gateway, closed), failure(&gateway, closed).as_str()), ("unhealthy".to_owned(), "no answer in 2s"));
    latch.open();
}

#[test]
fn another_port_can_be_asked() {
    let (kitchen, health) = (Backend::named("kitchen"), Cook::new("health"));
    let keys = format!(", health_check: {{ path: /healthz, port: {}, unhealthy_after: 1 }}", health.address().port());
    let gateway = gateway(&yaml("\"http://$a\"", &keys), &[("a", kitchen.address())]);
    wait_for(&gateway, kitchen.address(), 1);
    assert_eq!((health.checks(), kitchen.count()), (1, 0));
    health.is_well(false);
    check(&gateway, &[kitchen.address()]);
    assert_eq!(state(&gateway, kitchen.address()), "unhealthy");
}

#[test]
fn checks_speak_tls_as_requests_do() {
    let (authority, other) = (Authority::new("the kitchen's"), Authority::new("somebody's"));
    for kind in ["http", "tcp"] {
        let backend =
            |authority: &Authority| Backend::named_behind(Door::tls(ServerTls::new(&authority.server(&["127.0.0.1"]))), "x");
        let (good, bad) = (backend(&authority), backend(&other));
        let keys = format!(", tls: {{ ca: ca.pem }}, health_check: {{ type: {kind} }}");
        let names = [("good", good.address()), ("bad", bad.address())];
        let gateway = gateway_with(&yaml("\"https://$good\", \"https://$bad\"", &keys), &names, &[("ca.pem", authority.pem())]);
        wait_for(&gateway, good.address(), 1);
        wait_for(&gateway, bad.address(), 1);
        assert_eq!((state(&gateway, good.address()).as_str(), state(&gateway, bad.address()).as_str()), ("healthy", "unhealthy"));
        assert!(failure(&gateway, bad.address()).contains("no TLS"), "{}", failure(&gateway, bad.address()));
        assert_eq!(good.count(), usize::from(kind == "http"));
    }
}

#[test]
fn checks_speak_http2_where_requests_do() {
    let backend = H2Backend::new(|request, stream| {
        stream.body();
        stream.head(if request.path == "/healthz" { 200 } else { 404 }, &[], true);
    });
    let gateway =
        gateway(&yaml("\"http://$a\"", ", protocol: h2c, health_check: { path: /healthz }"), &[("a", backend.address())]);
    wait_for(&gateway, backend.address(), 1);
    assert_eq!(state(&gateway, backend.address()), "healthy");
    assert_eq!((backend.only().path.as_str(), backend.only().header("connection")), ("/healthz", None));
    assert_eq!(backend.complaints(), Vec::<String>::new());
}

#[test]
fn checks_agree_on_http2_over_tls() {
    let authority = Authority::new("the kitchen's");
    let backend = H2Backend::tls(ServerTls::new(&authority.server(&["127.0.0.1"])).alpn(&["h2"]), |_, stream| {
        stream.head(200, &[], true);
    });
    let old = Backend::named_behind(Door::tls(ServerTls::new(&authority.server(&["127.0.0.1"]))), "speaks HTTP/1.1 alone");
    let keys = ", protocol: h2, tls: { ca: ca.pem }, health_check: {}";
    let names = [("a", backend.address()), ("old", old.address())];
    let gateway = gateway_with(&yaml("\"https://$a\", \"https://$old\"", keys), &names, &[("ca.pem", authority.pem())]);
    wait_for(&gateway, backend.address(), 1);
    wait_for(&gateway, old.address(), 1);
    assert_eq!((state(&gateway, backend.address()).as_str(), state(&gateway, old.address()).as_str()), ("healthy", "unhealthy"));
    assert_eq!(backend.only().path, "/");
}

#[test]
fn a_unix_socket_is_checked_where_it_is() {
    let backend = Backend::named_behind(Door::unix(), "x");
    let endpoint = format!("\"unix:{}\"", backend.path().display());
    let gateway = gateway(&yaml(&endpoint, ", health_check: {}"), &[]);
    backend.wait_for(1);
    eventually("the check is known", || gateway.upstream("kitchen")["endpoints"][0]["health_check"]["passed"] == 1);
    assert_eq!(backend.last().header("host"), Some("localhost"));
}

#[test]
fn a_check_of_grpc_may_have_a_port_of_its_own_beside_http1() {
    let (kitchen, says) = (Backend::named("kitchen"), Arc::new(AtomicU16::new(1)));
    let health = grpc(&says);
    let keys = format!(", health_check: {{ type: grpc, service: orders, port: {} }}", health.address().port());
    let gateway = gateway(&yaml("\"http://$a\"", &keys), &[("a", kitchen.address())]);
    wait_for(&gateway, kitchen.address(), 1);
    assert_eq!((state(&gateway, kitchen.address()).as_str(), health.count(), kitchen.count()), ("healthy", 1, 0));
    assert_eq!(gateway.get("/").text(), "kitchen");
}

/// A server of gRPC that says of itself what it is told to: SERVING is 1, NOT_SERVING 2; 12 stands for UNIMPLEMENTED.
fn grpc(says: &Arc<AtomicU16>) -> H2Backend {
    let says = says.clone();
    H2Backend::new(move |request, stream| {
        let asked = stream.body();
        let is_right = request.path == "/grpc.health.v1.Health/Check"
            && request.header("content-type") == Some("application/grpc")
            && request.header("te") == Some("trailers")
            && asked == *b"\0\0\0\0\x08\x0a\x06orders";
        match says.load(Ordering::SeqCst) {
            12 => stream.head(200, &[("content-type", "application/grpc"), ("grpc-status", "12")], true),
            status if is_right => {
                stream.head(200, &[("content-type", "application/grpc")], false);
                stream.data([0, 0, 0, 0, 2, 8, status as u8], false);
                stream.trailers(&[("grpc-status", "0")])
            }
            _ => stream.head(400, &[], true),
        };
    })
}

#[test]
fn a_server_of_grpc_is_asked_by_its_own_protocol_of_health() {
    let says = Arc::new(AtomicU16::new(1));
    let backend = grpc(&says);
    let keys = ", protocol: h2c, health_check: { type: grpc, service: orders, unhealthy_after: 1 }";
    let gateway = gateway(&yaml("\"http://$a\"", keys), &[("a", backend.address())]);
    wait_for(&gateway, backend.address(), 1);
    assert_eq!(state(&gateway, backend.address()), "healthy");
    for (status, words) in [(2, "NOT_SERVING"), (12, "UNIMPLEMENTED"), (3, "SERVICE_UNKNOWN")] {
        says.store(status, Ordering::SeqCst);
        check(&gateway, &[backend.address()]);
        assert_eq!(state(&gateway, backend.address()), "unhealthy");
        assert!(failure(&gateway, backend.address()).contains(words), "{}", failure(&gateway, backend.address()));
    }
    says.store(1, Ordering::SeqCst);
    check(&gateway, &[backend.address()]);
    assert_eq!(state(&gateway, backend.address()), "healthy");
}

#[test]
fn a_check_says_in_its_proxy_header_that_it_comes_from_nobody() {
    for version in ["v1", "v2"] {
        let backend = Backend::named_behind(Door::plain().proxied(), "x");
        let keys = format!(", proxy_protocol: {version}, health_check: {{}}");
        let gateway = gateway(&yaml("\"http://$a\"", &keys), &[("a", backend.address())]);
        wait_for(&gateway, backend.address(), 1);
        assert_eq!(state(&gateway, backend.address()), "healthy");
        let headers = backend.proxy_headers();
        let header = headers[0].as_ref().expect("a PROXY header");
        assert_eq!(header.addresses, None, "{version}");
    }
}

#[test]
fn a_reload_keeps_states_and_leaves_checks_alone() {
    let (a, b) = (Cook::new("a"), Cook::new("b"));
    a.is_well(false);
    let gateway = gateway(&yaml(TWO, HEALTHZ), &[("a", a.address()), ("b", b.address())]);
    let both = [a.address(), b.address()];
    both.iter().for_each(|address| wait_for(&gateway, *address, 1));
    assert_eq!(served(&gateway), names(&["b"]));
    gateway.publish(&yaml(TWO, HEALTHZ));
    // Another list of the same endpoints.
    gateway.publish(&yaml("\"http://$b\", \"http://$a\"", HEALTHZ));
    assert_eq!((state(&gateway, a.address()), served(&gateway)), ("unhealthy".to_owned(), names(&["b"])));
    check(&gateway, &both);
    assert_eq!((a.checks(), b.checks()), (2, 2), "nobody was asked for the reloads' sake");
    // Another question: it is asked at once, and what was known holds until enough answers came.
    let patient = ", health_check: { path: /healthz, healthy_after: 2 }";
    a.is_well(true);
    gateway.publish(&yaml(TWO, patient));
    wait_for(&gateway, a.address(), 3);
    assert_eq!((state(&gateway, a.address()), served(&gateway)), ("unhealthy".to_owned(), names(&["b"])));
    check(&gateway, &both);
    assert_eq!((state(&gateway, a.address()), served(&gateway)), ("healthy".to_owned(), names(&["a", "b"])));
    // And without a question nobody is unwell.
    a.is_well(false);
    (0..3).for_each(|_| check(&gateway, &both));
    assert_eq!(served(&gateway), names(&["b"]));
    gateway.publish(&yaml(TWO, ""));
    eventually("nothing is known of checks", || gateway.endpoint("kitchen", a.address())["health_check"].is_null());
    assert_eq!((state(&gateway, a.address()), served(&gateway)), ("healthy".to_owned(), names(&["a", "b"])));
    let asked = a.checks();
    gateway.turn(TURN);
    gateway.get("/");
    assert_eq!(a.checks(), asked);
}

#[test]
fn two_upstreams_that_ask_differently_each_go_by_their_own_answer() {
    let cook = Cook::new("a");
    cook.is_well(false);
    let yaml = "upstreams:
  kitchen: { endpoints: [\"http://$a\"], health_check: { path: /healthz } }
  bar: { endpoints: [\"http://$a\"], health_check: { path: /other } }
apis: { all: { routes: [ GET /: kitchen, GET /bar: bar ] } }";
    let gateway = gateway(yaml, &[("a", cook.address())]);
    wait_for(&gateway, cook.address(), 1);
    eventually("the other is known", || !gateway.endpoint("bar", cook.address())["health_check"].is_null());
    let state = |upstream: &str| gateway.endpoint(upstream, cook.address())["state"].take();
    assert_eq!((state("kitchen"), state("bar")), (Value::from("unhealthy"), Value::from("healthy")));
}

#[test]
fn a_drained_endpoint_gets_nothing_new_and_ends_what_it_has() {
    let latch = Latch::new();
    let held = latch.clone();
    let a = Backend::new(move |request, conn| {
        conn.body();
        if request.target == "/hold" {
            conn.wait(&held);
        }
        conn.answer(200, "", "a");
    });
    let b = Backend::named("b");
    let yaml = yaml(TWO, "");
    let gateway = gateway(&yaml, &[("a", a.address()), ("b", b.address())]);
    let mut waiting: Vec<_> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut waiting {
        client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    a.wait_for(1);
    assert_eq!(gateway.turn_endpoint("kitchen", a.address(), true), None);
    assert_eq!((state(&gateway, a.address()).as_str(), served(&gateway)), ("drained", names(&["b"])));
    assert_eq!(gateway.endpoint("kitchen", a.address())["in_flight"], 1);
    gateway.publish(&yaml.replace("$a\", \"http://$b", "$b\", \"http://$a"));
    assert_eq!((state(&gateway, a.address()).as_str(), served(&gateway)), ("drained", names(&["b"])), "a reload changes nothing");
    latch.open();
    let answers: BTreeSet<String> = waiting.iter_mut().map(|client| client.response().text()).collect();
    assert_eq!(answers, names(&["a", "b"]));
    let warning = gateway.turn_endpoint("kitchen", b.address(), true).expect("a warning");
    assert!(warning.contains("no endpoint of upstream `kitchen`"), "{warning}");
    assert_eq!(gateway.get("/").status, 503, "nobody is left");
    gateway.turn_endpoint("kitchen", a.address(), false);
    assert_eq!(served(&gateway), names(&["a"]));
}

#[test]
fn checks_go_on_while_the_gateway_drains() {
    let a = Cook::new("a");
    let gateway = gateway(&yaml("\"http://$a\"", HEALTHZ), &[("a", a.address())]);
    wait_for(&gateway, a.address(), 1);
    gateway.begin_drain();
    check(&gateway, &[a.address()]);
}
