//! Tokens that mean nothing by themselves: whom the gateway asks, what it says, what it remembers, and that nobody comes in without an answer.

use maitred_testkit::h2::code;
use maitred_testkit::{Backend, Folder, Gateway, H2Client, Latch, eventually, gateway, gateway_with, nobody};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An authorization server that says this of every token until it is told otherwise.
struct Server {
    backend: Backend,
    says: Arc<Mutex<(u16, String)>>,
}

impl Server {
    fn new(status: u16, text: &str) -> Server {
        let says = Arc::new(Mutex::new((status, text.to_owned())));
        let saying = says.clone();
        let backend = Backend::new(move |_, conn| {
            conn.body();
            let (status, text) = saying.lock().unwrap().clone();
            conn.answer(status, "content-type: application/json\r\n", text);
        });
        Server { backend, says }
    }

    fn says(&self, status: u16, text: &str) {
        *self.says.lock().unwrap() = (status, text.to_owned());
    }
}

fn yaml(more: &str) -> String {
    format!(
        "workers: 1
upstreams: {{ kitchen: \"http://$kitchen\" }}
authorizers:
  opaque: {{ introspection: {{ endpoint: \"http://$server/oauth/introspect/?tenant=1\", client_id: \"gate:way\", client_secret: \"s cret\", token_type_hint: access_token{more} }} }}
consumers:
  alice: {{ groups: [staff], identities: [{{ authorizer: opaque, subject: a-1 }}] }}
apis:
  all:
    policies: {{ authenticate: [opaque] }}
    routes:
      - ANY /: kitchen
      - {{ match: GET /read, authorize: {{ scopes: [read] }}, proxy: kitchen }}
      - {{ match: GET /staff, authorize: {{ groups: [staff] }}, proxy: kitchen }}
"
    )
}

fn guarded(more: &str, server: SocketAddr) -> (Backend, Gateway) {
    let kitchen = Backend::status(200);
    let gateway = gateway(&yaml(more), &[("kitchen", kitchen.address()), ("server", server)]);
    (kitchen, gateway)
}

fn ask(gateway: &Gateway, path: &str, token: &str) -> u16 {
    gateway.ask("GET", path, &format!("Authorization: Bearer {token}\r\n"), "").status
}

#[test]
fn the_server_is_asked_what_a_token_means_as_the_rfc_says() {
    let server = Server::new(200, r#"{"active":true}"#);
    let (kitchen, gateway) = guarded("", server.backend.address());
    let headers = "Authorization: Bearer a-token+/=\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\nX-Request-ID: mine\r\n";
    assert_eq!(gateway.ask("POST", "/?x=y", headers, "secret body").status, 200);
    let asked = server.backend.only();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/oauth/introspect/?tenant=1"));
    assert_eq!(String::from_utf8_lossy(&asked.body), "token=a-token%2B%2F%3D&token_type_hint=access_token");
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("host"), Some(server.backend.address().to_string().as_str()));
    // gate%3Away:s%20cret
    assert_eq!(asked.header("authorization"), Some("Basic Z2F0ZSUzQXdheTpzJTIwY3JldA=="));
    assert_eq!((asked.header("x-request-id"), asked.header("via")), (Some("mine"), Some("1.1 maitred")));
    for absent in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "cookie", "transfer-encoding"] {
        assert!(!asked.headers.has(absent), "{absent}: {:?}", asked.headers);
    }
    assert_eq!(kitchen.only().body, b"secret body");
    assert!(server.backend.complaints().is_empty());
}

#[test]
fn an_answer_is_believed_for_a_while_and_no_longer_than_the_token_lasts() {
    let server = Server::new(200, r#"{"active":true}"#);
    let (_kitchen, gateway) = guarded(", ttl: 60s", server.backend.address());
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "/", "one"), 200);
    }
    assert_eq!(server.backend.count(), 1);
    server.says(200, r#"{"active":false}"#);
    gateway.turn(Duration::from_secs(61));
    assert_eq!((ask(&gateway, "/", "one"), server.backend.count()), (401, 2));

    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 61 + 20;
    server.says(200, &format!(r#"{{"active":true,"exp":{soon}}}"#));
    assert_eq!((ask(&gateway, "/", "two"), ask(&gateway, "/", "two"), server.backend.count()), (200, 200, 3));
    gateway.turn(Duration::from_secs(25));
    assert_eq!((ask(&gateway, "/", "two"), server.backend.count()), (401, 4), "the server is asked, and wrong about it");
}

/// Whoever set the audience wrongly would look for the mistake everywhere else.
#[test]
fn the_log_says_why_a_token_was_refused() {
    let (server, folder) = (Server::new(200, ""), Folder::new());
    let (kitchen, log) = (Backend::status(200), folder.path("access.log"));
    let logged =
        format!("telemetry: {{ access_log: {{ to: {} }} }}\n{}", log.display(), yaml(", audience: [kitchen], issuer: id"));
    let gateway = gateway_with(&logged, &[("kitchen", kitchen.address()), ("server", server.backend.address())], &[]);
    let cases = [
        (r#"{"active":false}"#, "the token is not active"),
        (r#"{"active":true,"iss":"id","aud":"bar"}"#, "the token is for others"),
        (r#"{"active":true,"iss":"other","aud":"kitchen"}"#, "the token is somebody else's"),
        (r#"{"active":true,"iss":"id","aud":"kitchen","exp":1}"#, "the token has expired"),
    ];
    for (at, (said, _)) in cases.iter().enumerate() {
        server.says(200, said);
        assert_eq!((ask(&gateway, "/", &format!("t{at}")), ask(&gateway, "/", &format!("t{at}"))), (401, 401), "{said}");
    }
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("all lines", || read().lines().count() == 2 * cases.len());
    for (line, (said, why)) in read().lines().step_by(2).zip(cases) {
        assert!(line.contains(&format!("\"detail\":\"opaque: {why}\"")), "{said}: {line}");
    }
    assert_eq!(read().matches("opaque: the token was refused before").count(), cases.len());
}

#[test]
fn a_refusal_is_remembered_too() {
    let server = Server::new(200, r#"{"active":false}"#);
    let (kitchen, gateway) = guarded("", server.backend.address());
    for _ in 0..3 {
        let answer = gateway.ask("GET", "/", "Authorization: Bearer one\r\n", "");
        let challenge = "Bearer realm=\"opaque\", error=\"invalid_token\", error_description=\"the token is not active, or not for this gateway\"";
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(challenge)));
    }
    assert_eq!(server.backend.count(), 1);
    server.says(200, r#"{"active":true}"#);
    gateway.turn(Duration::from_secs(11));
    assert_eq!((ask(&gateway, "/", "one"), server.backend.count(), kitchen.count()), (200, 2, 1));
}

#[test]
fn what_is_no_token_is_not_asked_about() {
    let server = Server::new(200, r#"{"active":true}"#);
    let (_kitchen, gateway) = guarded("", server.backend.address());
    for headers in [
        "",
        "Authorization: Basic YTpi\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer a&b=c\r\n",
        "Authorization: Bearer a b\r\n",
        "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n",
    ] {
        assert_eq!(gateway.ask("GET", "/", headers, "").status, 401, "{headers}");
    }
    assert_eq!(gateway.get("/").header("www-authenticate"), Some("Bearer realm=\"opaque\""));
    assert_eq!(server.backend.count(), 0);
}

#[test]
fn scopes_subject_audience_and_issuer_are_what_the_server_says() {
    let server = Server::new(200, r#"{"active":true,"sub":"a-1","scope":"read write","aud":["kitchen"],"iss":"https://id"}"#);
    let (_kitchen, gateway) = guarded(", audience: [bar, kitchen], issuer: \"https://id\"", server.backend.address());
    assert_eq!((ask(&gateway, "/read", "t1"), ask(&gateway, "/staff", "t1")), (200, 200));
    for (text, read, staff) in [
        (r#"{"active":true,"sub":"a-2","scope":"read","aud":"bar","iss":"https://id"}"#, 200, 403),
        (r#"{"active":true,"sub":"a-1","scope":"reader","aud":"bar","iss":"https://id"}"#, 403, 200),
        (r#"{"active":true,"sub":"a-1","scope":"read","aud":"others","iss":"https://id"}"#, 401, 401),
        (r#"{"active":true,"sub":"a-1","scope":"read","aud":"bar","iss":"https://other"}"#, 401, 401),
        (r#"{"active":true,"sub":"a-1","scope":"read","aud":"bar","iss":"https://id","exp":1000}"#, 401, 401),
        (r#"{"active":true,"sub":"a-1","scope":"read","aud":"bar","iss":"https://id","nbf":99999999999}"#, 401, 401),
    ] {
        server.says(200, text);
        gateway.turn(Duration::from_secs(3600));
        assert_eq!((ask(&gateway, "/read", "t1"), ask(&gateway, "/staff", "t1")), (read, staff), "{text}");
    }
}

#[test]
fn without_an_answer_nobody_comes_in_and_nothing_is_remembered() {
    let server = Server::new(200, "");
    let (kitchen, gateway) = guarded("", server.backend.address());
    let long = format!(r#"{{"active":true,"x":"{}"}}"#, "x".repeat(70_000));
    for (status, text, wanted) in [
        (200, "", 503),
        (200, "<html>login</html>", 503),
        (200, r#"{"active":"true"}"#, 503),
        (200, r#"{"active":false,"active":true}"#, 503),
        (200, r#"{"active":true,"exp":"never"}"#, 503),
        (200, &long, 503),
        (204, "", 503),
        (201, r#"{"active":true}"#, 503),
        (302, r#"{"active":true}"#, 503),
        (400, r#"{"active":true}"#, 503),
        (500, r#"{"active":true}"#, 503),
        (503, r#"{"active":true}"#, 503),
        (401, r#"{"active":true}"#, 500),
    ] {
        server.says(status, text);
        let answer = gateway.ask("GET", "/", "Authorization: Bearer one\r\n", "");
        assert_eq!(answer.status, wanted, "{status} {text}");
        let kind = if wanted == 503 { "authorizer_unavailable" } else { "authorizer_failed" };
        assert!(answer.text().contains(kind), "{}", answer.text());
    }
    assert_eq!((server.backend.count(), kitchen.count()), (13, 0), "each was asked about anew");
    server.says(200, r#"{"active":true}"#);
    assert_eq!(ask(&gateway, "/", "one"), 200);
}

#[test]
fn a_server_that_is_down_or_slow_lets_nobody_in_and_holds_nobody_up_longer_than_the_timeout() {
    let (address, _held) = nobody();
    let (kitchen, gateway) = guarded("", address);
    assert_eq!(ask(&gateway, "/", "one"), 503);

    let latch = Latch::new();
    let held = latch.clone();
    let server = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&held);
        conn.answer(200, "", r#"{"active":true}"#);
    });
    let (slow_kitchen, slow) = guarded(", timeout: 2s", server.address());
    let mut client = slow.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\n\r\n");
    server.wait_for(1);
    slow.turn(Duration::from_millis(1500));
    assert!(client.is_quiet(), "there is time left");
    client.until_readable(|| slow.turn(Duration::from_millis(600)));
    assert_eq!(client.response().status, 503);
    latch.open();
    assert_eq!((kitchen.count(), slow_kitchen.count()), (0, 0));
}

#[test]
fn who_was_known_before_the_server_went_down_comes_in_all_the_same() {
    let server = Server::new(200, r#"{"active":true}"#);
    let (kitchen, gateway) = guarded("", server.backend.address());
    assert_eq!(ask(&gateway, "/", "known"), 200);
    server.says(500, "");
    for _ in 0..5 {
        assert_eq!((ask(&gateway, "/", "unknown"), ask(&gateway, "/", "known")), (503, 200));
    }
    assert_eq!((server.backend.count(), kitchen.count()), (6, 6));
}

#[test]
fn a_body_that_never_ends_is_not_waited_for() {
    let latch = Latch::new();
    let held = latch.clone();
    let server = Backend::new(move |_, conn| {
        conn.body();
        conn.chunked_head(200, "");
        conn.chunk(r#"{"active":true"#);
        conn.wait(&held);
    });
    let (kitchen, gateway) = guarded("", server.address());
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\n\r\n");
    server.wait_for(1);
    client.until_readable(|| gateway.turn(Duration::from_millis(600)));
    assert_eq!((client.response().status, kitchen.count()), (503, 0));
    latch.open();
}

#[test]
fn many_requests_with_one_unknown_token_make_one_question() {
    let latch = Latch::new();
    let held = latch.clone();
    let server = Backend::new(move |request, conn| {
        let body = conn.body();
        conn.wait(&held);
        let active = body.starts_with(b"token=good") && request.method == "POST";
        conn.answer(200, "", format!("{{\"active\":{active}}}"));
    });
    let (kitchen, gateway) = guarded("", server.address());
    let send = |token: &str| {
        let mut client = gateway.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
        client
    };
    let mut good: Vec<_> = (0..20).map(|_| send("good")).collect();
    let mut bad: Vec<_> = (0..5).map(|_| send("bad")).collect();
    server.wait_for(2);
    latch.open();
    assert!(good.iter_mut().all(|client| client.response().status == 200));
    assert!(bad.iter_mut().all(|client| client.response().status == 401));
    assert_eq!((server.count(), kitchen.count()), (2, 20));
}

#[test]
fn many_who_ask_in_vain_wait_once_and_not_one_after_the_other() {
    let latch = Latch::new();
    let held = latch.clone();
    let server = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&held);
        conn.answer(500, "", "");
    });
    let (_kitchen, gateway) = guarded("", server.address());
    let mut clients: Vec<_> = (0..10)
        .map(|_| {
            let mut client = gateway.client();
            client.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\n\r\n");
            client
        })
        .collect();
    server.wait_for(1);
    latch.open();
    assert!(clients.iter_mut().all(|client| client.response().status == 503));
    assert!(server.count() < 10, "some of them waited for another's answer: {}", server.count());
}

#[test]
fn who_goes_away_takes_nobody_else_s_answer_along() {
    let latch = Latch::new();
    let held = latch.clone();
    let server = Backend::new(move |_, conn| {
        conn.body();
        conn.wait(&held);
        conn.answer(200, "", r#"{"active":true}"#);
    });
    let (kitchen, gateway) = guarded("", server.address());
    let token = [("authorization", "Bearer one")];
    let mut first = H2Client::connect(gateway.address());
    let gone = first.ask("GET", "/", &token);
    server.wait_for(1);
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\n\r\n");
    assert!(second.is_quiet());
    first.reset(gone, code::CANCEL);
    server.wait_for(2);
    latch.open();
    assert_eq!(second.response().status, 200);
    assert_eq!(kitchen.count(), 1);
}

#[test]
fn a_consumer_that_is_bound_anew_counts_at_once() {
    let server = Server::new(200, r#"{"active":true,"sub":"a-1"}"#);
    let (kitchen, gateway) = guarded("", server.backend.address());
    assert_eq!(ask(&gateway, "/staff", "one"), 200);
    let text = yaml("").replace("subject: a-1", "subject: a-2");
    let text = text.replace("$kitchen", &kitchen.address().to_string()).replace("$server", &server.backend.address().to_string());
    gateway.publish(&text);
    assert_eq!((ask(&gateway, "/staff", "one"), ask(&gateway, "/", "one")), (403, 200));
}

#[test]
fn the_server_may_be_an_upstream_with_a_name_and_is_one_in_any_case() {
    let server = Server::new(200, r#"{"active":true}"#);
    let kitchen = Backend::status(200);
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\", id: { endpoints: [\"http://$server/v1\"], retry: { attempts: 2, conditions: [503] } } }
authorizers:
  named: { introspection: { upstream: id, path: /introspect, client_id: a, client_secret: b }, strip: true }
  direct: { introspection: { endpoint: \"http://$server\", client_id: a, client_secret: b } }
apis:
  all:
    routes:
      - { match: GET /named, authenticate: [named], proxy: kitchen }
      - { match: GET /direct, authenticate: [direct], proxy: kitchen }
",
        &[("kitchen", kitchen.address()), ("server", server.backend.address())],
    );
    assert_eq!((ask(&gateway, "/named", "one"), ask(&gateway, "/direct", "one")), (200, 200));
    let targets: Vec<String> = server.backend.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(targets, ["/v1/introspect", "/"]);
    assert!(!kitchen.requests()[0].headers.has("authorization") && kitchen.requests()[1].headers.has("authorization"));
    assert_eq!(gateway.upstream(&server.backend.url())["endpoints"].as_array().map(Vec::len), Some(1));
    server.says(503, "");
    assert_eq!((ask(&gateway, "/named", "two"), server.backend.count()), (503, 4), "its retries are the upstream's");
}
