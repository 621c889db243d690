//! A service is asked about each request: what it is told, what its consent and its refusal do, and that nobody comes in without either.

use maitred_testkit::{Backend, Gateway, Latch, eventually, gateway, nobody};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Script = Arc<Mutex<(u16, String, String)>>;

/// A service that says this about every request until it is told otherwise.
fn service(status: u16, headers: &str, body: &str) -> (Backend, Script) {
    let script: Script = Arc::new(Mutex::new((status, headers.to_owned(), body.to_owned())));
    let saying = script.clone();
    let backend = Backend::new(move |_, conn| {
        conn.body();
        let (status, headers, body) = saying.lock().unwrap().clone();
        conn.answer(status, &headers, body);
    });
    (backend, script)
}

fn says(script: &Script, status: u16, headers: &str, body: &str) {
    *script.lock().unwrap() = (status, headers.to_owned(), body.to_owned());
}

fn guarded(more: &str, service: SocketAddr) -> (Backend, Gateway) {
    let kitchen = Backend::status(200);
    let yaml = format!(
        "limits: {{ underscores: allow }}
upstreams: {{ kitchen: \"http://$kitchen\" }}
authorizers:
  keys: {{ api_key: {{}} }}
  outside: {{ forward: {{ url: \"http://$service/check?a=b\"{more} }} }}
consumers:
  alice: {{ groups: [staff], api_keys: [alices-key], identities: [{{ authorizer: outside, subject: a-1 }}] }}
apis:
  all:
    base_path: /shop
    policies: {{ authenticate: [outside] }}
    routes:
      - ANY /: kitchen
      - ANY /{{path+}}: kitchen
      - {{ match: GET /staff, authorize: {{ groups: [staff] }}, proxy: kitchen }}
      - {{ match: GET /either, authenticate: [keys, outside, anonymous], proxy: kitchen }}
"
    );
    let gateway = gateway(&yaml, &[("kitchen", kitchen.address()), ("service", service)]);
    (kitchen, gateway)
}

#[test]
fn the_service_is_told_of_the_request_and_gets_no_body() {
    let (service, _) = service(200, "", "");
    let (kitchen, gateway) = guarded("", service.address());
    let headers = "Authorization: Basic YTpi\r\nCookie: a=b\r\nX-Other: 1\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Method: GET\r\nX-Request-ID: mine\r\n";
    assert_eq!(gateway.ask("DELETE", "/shop/a/../%7eb?c=%20d", headers, "body").status, 200);
    let asked = service.only();
    assert_eq!((asked.method.as_str(), asked.target.as_str(), asked.body.len()), ("GET", "/check?a=b", 0));
    for (name, value) in [
        ("authorization", "Basic YTpi"),
        ("cookie", "a=b"),
        ("x-forwarded-method", "DELETE"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-uri", "/shop/~b?c=%20d"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-request-id", "mine"),
        ("host", &service.address().to_string()),
    ] {
        assert_eq!(asked.headers.all(name), [value], "{name}");
    }
    assert!(asked.headers.has("x-forwarded-host"));
    for absent in ["x-other", "content-length", "transfer-encoding", "forwarded"] {
        assert!(!asked.headers.has(absent), "{absent}");
    }
    let received = kitchen.only();
    assert_eq!((received.method.as_str(), received.target.as_str(), &received.body[..]), ("DELETE", "/~b?c=%20d", &b"body"[..]));
    assert!(service.complaints().is_empty());
}

#[test]
fn what_it_says_of_who_it_is_reaches_the_back_end_and_nobody_else_may_say_it() {
    let (service, script) = service(204, "X-User: alice\r\nX-Roles: a\r\nX-Roles: b\r\nX-More: no\r\n", "");
    let (kitchen, gateway) = guarded(", copy_to_upstream: [x-user, x-roles]", service.address());
    let forged = "X-User: root\r\nx_user: root\r\nX-ROLES: root\r\nX_Roles: root\r\nX-More: mine\r\n";
    assert_eq!(gateway.ask("GET", "/shop/", forged, "").status, 200);
    let received = kitchen.last();
    assert_eq!((received.headers.all("x-user"), received.headers.all("x-roles")), (vec!["alice"], vec!["a", "b"]));
    assert!(!received.headers.has("x_user") && !received.headers.has("x_roles"), "{:?}", received.headers);
    assert_eq!(received.headers.all("x-more"), ["mine"]);

    says(&script, 200, "X-Roles: a\r\n", "");
    assert_eq!(gateway.ask("GET", "/shop/", forged, "").status, 200);
    assert!(!kitchen.last().headers.has("x-user") && !kitchen.last().headers.has("x_user"), "absent in the answer is absent");
}

#[test]
fn what_it_vouches_for_is_taken_out_also_where_another_decides() {
    let (service, _) = service(200, "X-User: alice\r\n", "");
    let (kitchen, gateway) = guarded(", copy_to_upstream: [x-user], ask: with_credential", service.address());
    for (credential, asked) in [("X-Api-Key: alices-key\r\n", 0), ("", 0), ("Cookie: a=b\r\n", 1)] {
        let headers = format!("{credential}X-User: root\r\nX_User: root\r\n");
        assert_eq!(gateway.ask("GET", "/shop/either", &headers, "").status, 200, "{credential}");
        let received = kitchen.last();
        let expected = if asked == 1 { vec!["alice"] } else { vec![] };
        assert_eq!((received.headers.all("x-user"), received.headers.has("x_user")), (expected, false), "{credential}");
        assert_eq!(service.count(), asked, "{credential}");
    }
    assert_eq!(gateway.get("/shop/").status, 401, "nobody else takes a request that shows nothing");
}

#[test]
fn its_refusal_is_the_client_s_answer() {
    let (service, script) = service(401, "", "");
    let (kitchen, gateway) = guarded("", service.address());
    for (status, body) in [(401, "who are you"), (403, ""), (302, "moved"), (303, ""), (307, ""), (301, ""), (308, "")] {
        let headers = "Content-Type: text/html\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Bearer\r\nLocation: https://id/login\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Secret: 1\r\nServer: inside\r\n";
        says(&script, status, headers, body);
        let answer = gateway.get("/shop/");
        assert_eq!((answer.status, answer.text().as_str()), (status, body));
        assert_eq!(answer.headers.all("www-authenticate").len(), 2);
        assert_eq!(answer.headers.all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(answer.header("location"), Some("https://id/login"));
        assert_eq!(answer.header("content-type").is_some(), !body.is_empty());
        assert!(!answer.headers.has("x-secret") && answer.header("server") != Some("inside"), "{:?}", answer.headers);
    }
    assert_eq!(kitchen.count(), 0);
    let grpc = gateway.ask("POST", "/shop/", "Content-Type: application/grpc\r\n", "");
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("16")));
}

#[test]
fn what_says_nothing_lets_nobody_in() {
    let (service, script) = service(500, "", "");
    let (kitchen, gateway) = guarded("", service.address());
    let long = "x".repeat(70_000);
    for (status, body, wanted) in [
        (500, "", 503),
        (503, "", 503),
        (429, "", 503),
        (404, "", 500),
        (400, "", 500),
        (304, "", 500),
        (200, &*long, 503),
        (401, &long, 503),
    ] {
        says(&script, status, "", body);
        assert_eq!(gateway.get("/shop/").status, wanted, "{status}");
    }
    assert_eq!(kitchen.count(), 0);
    let garbage = Backend::raw("this is no HTTP\r\n\r\n");
    let (kitchen, gateway) = guarded("", garbage.address());
    assert_eq!((gateway.get("/shop/").status, kitchen.count()), (503, 0));
    let switching = Backend::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let (kitchen, gateway) = guarded("", switching.address());
    assert_eq!((gateway.get("/shop/").status, kitchen.count()), (503, 0));
    let (address, _held) = nobody();
    let (kitchen, gateway) = guarded("", address);
    assert_eq!((gateway.get("/shop/").status, kitchen.count()), (503, 0));
}

#[test]
fn a_slow_service_holds_nobody_up_longer_than_the_timeout() {
    let latch = Latch::new();
    let held = latch.clone();
    let service = Backend::new(move |_, conn| {
        conn.wait(&held);
        conn.answer(200, "", "");
    });
    let (kitchen, gateway) = guarded(", timeout: 1s", service.address());
    let mut client = gateway.client();
    client.send("GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n");
    service.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_millis(300)));
    assert_eq!((client.response().status, kitchen.count()), (503, 0));
    latch.open();
}

#[test]
fn a_consent_is_remembered_by_what_was_shown_where_that_is_asked_for() {
    let (always, _) = service(200, "", "");
    let (_kitchen, gateway) = guarded("", always.address());
    for _ in 0..2 {
        assert_eq!(gateway.ask("GET", "/shop/", "Cookie: a=b\r\n", "").status, 200);
    }
    assert_eq!(always.count(), 2, "each request is asked about");

    let (service, script) = service(200, "X-User: alice\r\n", "");
    let (kitchen, gateway) = guarded(", ttl: 10s, copy_to_upstream: [x-user], headers: [cookie, x-tenant]", service.address());
    for (headers, asked) in [
        ("Cookie: a=b\r\n", 1),
        ("Cookie: a=b\r\n", 1),
        ("X-Tenant: a=b\r\n", 2),
        ("Cookie: a=b\r\nX-Tenant: 1\r\n", 3),
        ("Cookie: a=c\r\n", 4),
        ("", 5),
        ("", 6),
        ("Cookie: a=b\r\n", 6),
    ] {
        assert_eq!(gateway.ask("GET", "/shop/", &format!("{headers}X-User: root\r\n"), "").status, 200, "{headers}");
        assert_eq!(kitchen.last().headers.all("x-user"), ["alice"], "{headers}");
        assert_eq!(service.count(), asked, "{headers}");
    }
    says(&script, 403, "", "");
    gateway.turn(Duration::from_secs(11));
    for _ in 0..2 {
        assert_eq!(gateway.ask("GET", "/shop/", "Cookie: a=b\r\n", "").status, 403);
    }
    assert_eq!(service.count(), 8, "a refusal is not remembered");
}

#[test]
fn its_subject_finds_the_consumer() {
    let (service, script) = service(200, "X-Id: a-1\r\n", "");
    let (_kitchen, gateway) = guarded(", subject: x-id", service.address());
    assert_eq!(gateway.get("/shop/staff").status, 200);
    for (headers, status) in [("X-Id: a-2\r\n", 403), ("", 403), ("X-Id: a-1\r\nX-Id: a-2\r\n", 500), ("X-Id: \u{e9}\r\n", 403)] {
        says(&script, 200, headers, "");
        assert_eq!(gateway.get("/shop/staff").status, status, "{headers}");
    }
}

#[test]
fn a_circle_ends() {
    let kitchen = Backend::status(200);
    let front = Backend::new(|_, conn| _ = conn.answer(500, "", ""));
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
authorizers: { round: { forward: { url: \"http://$front/check\" } } }
apis: { all: { policies: { authenticate: [round] }, routes: [ { match: \"ANY /{path+}\", proxy: kitchen } ] } }",
        &[("kitchen", kitchen.address()), ("front", front.address())],
    );
    // The service is this very gateway.
    let yaml = format!(
        "upstreams: {{ kitchen: \"http://$kitchen\" }}
authorizers: {{ round: {{ forward: {{ url: \"http://{}/check\" }} }} }}
apis: {{ all: {{ policies: {{ authenticate: [round] }}, routes: [ {{ match: \"ANY /{{path+}}\", proxy: kitchen }} ] }} }}",
        gateway.address()
    );
    gateway.publish(&yaml);
    assert_eq!(gateway.get("/menu").status, 503);
    eventually("the last of them is counted", || gateway.counted("ANY /{path+}") == 9);
    assert_eq!(kitchen.count(), 0);
}
