//! What may refuse or alter an exchange: header transforms, CORS, addresses.

use maitred_testkit::{Backend, Client, Gateway, gateway};

#[test]
fn request_headers_are_removed_set_and_added() {
    let backend = Backend::status(200);
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    policies: { transform: { request: { headers: { set: { x-from: api } } } } }
    routes:
      - match: GET /orders/{id}
        proxy: kitchen
        transform:
          request:
            headers:
              remove: [cookie, x-gone]
              set: { x-order: \"{id}\", x-who: \"{client.ip} {request.method} {header.user-agent} {query.v}\", x-twice: once }
              add: { x-more: two }
      - GET /plain: kitchen
",
        &[("kitchen", backend.address())],
    );
    gateway.ask(
        "GET",
        "/orders/7%20a?v=%41",
        "Cookie: a\r\nX-Gone: 1\r\nX_Gone: 1\r\nx-twice: 1\r\nX-Twice: 2\r\nX-More: one\r\nUser-Agent: me\r\nX-Order: 6\r\n",
        "",
    );
    let received = backend.last();
    assert!(!received.headers.has("cookie") && !received.headers.has("x-gone"), "{:?}", received.headers);
    assert_eq!(received.header("x-order"), Some("7 a"), "decoded where it is used");
    assert_eq!(received.header("x-who"), Some("127.0.0.1 GET me A"));
    assert_eq!(received.header("x-twice"), Some("once"));
    assert_eq!(received.headers.all("x-more"), ["one", "two"]);
    assert!(!received.headers.has("x-from"), "a route's transform replaces the API's");
    gateway.get("/plain");
    assert_eq!(backend.last().header("x-from"), Some("api"));
}

#[test]
fn a_control_character_never_becomes_a_header() {
    let backend = Backend::status(200);
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    routes:
      - match: GET /{id}
        proxy: kitchen
        transform: { request: { headers: { set: { x-id: \"{id}\", x-q: \"{query.q}\" } } } }
",
        &[("kitchen", backend.address())],
    );
    for target in ["/a%0D%0AX-Evil:%201", "/a%0AX", "/a%0D", "/a%7F", "/a%01", "/a?q=b%0D%0Ac", "/a?q=%00"] {
        assert_eq!(gateway.get(target).status, 400, "{target}");
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn response_headers_are_removed_set_and_added() {
    let backend = Backend::new(|_, conn| {
        conn.answer(200, "Server: kitchen\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-More: one\r\n", "x");
    });
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    routes:
      - match: GET /{id}
        proxy: kitchen
        transform: { response: { headers: { remove: [server], set: { x-twice: \"{id}\" }, add: { x-more: two } } } }
",
        &[("kitchen", backend.address())],
    );
    let response = gateway.get("/seven");
    assert!(!response.headers.has("server"));
    assert_eq!(response.header("x-twice"), Some("seven"));
    assert_eq!(response.headers.all("x-more"), ["one", "two"]);
}

#[test]
fn a_transform_cannot_take_the_request_s_id_away() {
    let backend = Backend::status(200);
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { routes: [ { match: GET /, proxy: kitchen, transform: { request: { headers: { remove: [x-request-id] } } } } ] } }",
        &[("kitchen", backend.address())],
    );
    let response = gateway.ask("GET", "/", "X-Request-ID: mine\r\n", "");
    assert_eq!(response.header("x-request-id"), Some("mine"));
}

fn cross_origin(backend: &Backend) -> Gateway {
    gateway(
        "limits: { body_bytes: 10B }
upstreams: { kitchen: \"http://$kitchen\" }
apis:
  all:
    cors: { origins: [\"https://app.example.com\", \"https://b.example.com\"], methods: [GET, PUT], headers: [x-token, content-type], expose: [x-total], credentials: true, max_age: 1h }
    routes:
      - GET /a: kitchen
      - PUT /a: kitchen
      - { match: GET /open, respond: { text: open }, cors: { origins: [\"*\"] } }
      - { match: GET /closed, respond: { text: closed }, cors: none }
      - { match: GET /inside, respond: { text: inside }, ip: { allow: [10.0.0.0/8] } }
",
        &[("kitchen", backend.address())],
    )
}

#[test]
fn a_preflight_is_answered_without_the_back_end() {
    let backend = Backend::status(200);
    let gateway = cross_origin(&backend);
    let asking =
        "Origin: https://app.example.com\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-token\r\n";
    let response = gateway.ask("OPTIONS", "/a", asking, "");
    assert!(matches!(response.status, 200 | 204), "{response:?}");
    assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(response.headers.members("access-control-allow-methods"), ["GET", "PUT"]);
    assert_eq!(response.headers.members("access-control-allow-headers"), ["x-token", "content-type"]);
    assert_eq!(response.header("access-control-max-age"), Some("3600"));
    assert!(response.headers.members("vary").iter().any(|name| name.eq_ignore_ascii_case("origin")));
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_preflight_from_elsewhere_is_granted_nothing() {
    let backend = Backend::status(200);
    let gateway = cross_origin(&backend);
    for origin in [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "null",
        "https://APP.example.com",
    ] {
        let asking = format!("Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n");
        let response = gateway.ask("OPTIONS", "/a", &asking, "");
        assert!(!response.headers.has("access-control-allow-origin"), "{origin}: {response:?}");
        assert!(!response.headers.has("access-control-allow-methods"), "{origin}: {response:?}");
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn a_simple_request_is_marked_for_its_origin() {
    let backend = Backend::new(|_, conn| {
        conn.answer(200, "Access-Control-Allow-Origin: *\r\nVary: accept\r\nX-Total: 3\r\n", "x");
    });
    let gateway = cross_origin(&backend);
    let response = gateway.ask("GET", "/a", "Origin: https://b.example.com\r\n", "");
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some("https://b.example.com"),
        "the gateway's word replaces the back end's"
    );
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(response.header("access-control-expose-headers"), Some("x-total"));
    assert_eq!(response.headers.members("vary"), ["accept", "origin"]);
    let stranger = gateway.ask("GET", "/a", "Origin: https://evil.example\r\n", "");
    assert_eq!((stranger.status, stranger.header("access-control-allow-origin")), (200, None));
    let none = gateway.get("/a");
    assert_eq!(none.header("access-control-allow-origin"), None);
    assert!(none.headers.members("vary").iter().any(|name| name == "origin"), "a cache must know, whoever asked first");
}

#[test]
fn faults_and_refusals_are_marked_too() {
    let backend = Backend::new(|_, conn| conn.close());
    let gateway = cross_origin(&backend);
    let origin = "Origin: https://app.example.com\r\n";
    let allowed = Some("https://app.example.com");
    let broken = gateway.ask("GET", "/a", origin, "");
    assert_eq!((broken.status, broken.header("access-control-allow-origin")), (502, allowed));
    let large = gateway.ask("PUT", "/a", origin, "more than ten bytes");
    assert_eq!((large.status, large.header("access-control-allow-origin")), (413, allowed));
    let denied = gateway.ask("GET", "/inside", origin, "");
    assert_eq!((denied.status, denied.header("access-control-allow-origin")), (403, allowed));
}

#[test]
fn a_route_may_have_other_cross_origin_rules_or_none() {
    let backend = Backend::status(200);
    let gateway = cross_origin(&backend);
    let open = gateway.ask("GET", "/open", "Origin: https://any.example\r\n", "");
    assert_eq!((open.header("access-control-allow-origin"), open.header("access-control-allow-credentials")), (Some("*"), None));
    let closed = gateway.ask("GET", "/closed", "Origin: https://app.example.com\r\n", "");
    assert_eq!((closed.text().as_str(), closed.header("access-control-allow-origin")), ("closed", None));
    let asking = "Origin: https://app.example.com\r\nAccess-Control-Request-Method: GET\r\n";
    assert_eq!(gateway.ask("OPTIONS", "/closed", asking, "").status, 405);
}

#[test]
fn plain_options_are_no_preflight() {
    let backend = Backend::named("options");
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis: { all: { cors: { origins: [\"https://a.example\"] }, routes: [ ANY /: kitchen ] } }",
        &[("kitchen", backend.address())],
    );
    assert_eq!(gateway.ask("OPTIONS", "/", "Origin: https://a.example\r\n", "").text(), "options");
}

#[test]
fn addresses_are_allowed_and_denied() {
    let gateway = gateway(
        "apis:
  all:
    ip: { allow: [127.0.0.0/24], deny: [127.0.0.66] }
    routes:
      - { match: GET /, respond: { text: in } }
      - { match: GET /narrow, respond: { text: narrow }, ip: { allow: [127.0.0.2, 127.0.1.1] } }
      - { match: GET /all, respond: { text: all }, ip: none }
",
        &[],
    );
    let ask =
        |from: &str, target: &str| Client::connect_from(from.parse().expect("an address"), gateway.address()).get(target).status;
    for (from, plain, narrow) in
        [("127.0.0.1", 200, 403), ("127.0.0.2", 200, 200), ("127.0.0.66", 403, 403), ("127.0.1.1", 403, 403)]
    {
        assert_eq!((ask(from, "/"), ask(from, "/narrow"), ask(from, "/all")), (plain, narrow, 200), "{from}");
    }
}

#[test]
fn a_stranger_cannot_choose_his_address() {
    let yaml = |trusted: &str| {
        format!(
            "{trusted}\napis: {{ all: {{ ip: {{ allow: [10.0.0.0/8] }}, routes: [ {{ match: GET /, respond: {{ text: in }} }} ] }} }}"
        )
    };
    let open = gateway(&yaml(""), &[]);
    assert_eq!(open.ask("GET", "/", "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n", "").status, 403);
    let behind = gateway(&yaml("trusted_proxies: [127.0.0.1]"), &[]);
    assert_eq!(behind.ask("GET", "/", "X-Forwarded-For: 10.0.0.1\r\n", "").status, 200);
    assert_eq!(behind.ask("GET", "/", "Forwarded: for=\"10.0.0.1:4711\"\r\n", "").status, 200);
    assert_eq!(
        behind.ask("GET", "/", "X-Forwarded-For: 10.0.0.1, 203.0.113.9\r\n", "").status,
        403,
        "only the last hop is vouched for"
    );
    assert_eq!(behind.ask("GET", "/", "", "").status, 403);
}
