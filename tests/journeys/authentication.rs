//! Who comes in: keys of consumers, lists of authorizers, open and anonymous routes.

use maitred_testkit::{Backend, Gateway, gateway};

const KEYS: &str = "upstreams: { kitchen: \"http://$kitchen\" }
authorizers:
  keys: { api_key: {} }
  hidden: { api_key: { in: header, name: x-hidden }, strip: true }
  query: { api_key: { in: query, name: key }, strip: true }
  cookie: { api_key: { in: cookie, name: key }, strip: true }
consumers:
  alice: { groups: [staff], api_keys: [alices-key, alices-other-key] }
  bob: { api_keys: [bobs-key] }
apis:
  all:
    cors: { origins: [\"https://app.example.com\"] }
    policies: { authenticate: [keys] }
    routes:
      - GET /: kitchen
      - { match: GET /open, authenticate: none, proxy: kitchen }
      - { match: GET /perhaps, authenticate: [keys, anonymous], proxy: kitchen }
      - { match: GET /either, authenticate: [hidden, keys, query, cookie], proxy: kitchen }
      - { match: GET /staff, authorize: { groups: [staff] }, proxy: kitchen }
      - { match: GET /some, authorize: { groups: { any: [owners, staff] } }, proxy: kitchen }
      - { match: GET /owners, authorize: { groups: [staff, owners] }, proxy: kitchen }
";

fn kitchen() -> (Backend, Gateway) {
    let backend = Backend::status(200);
    let gateway = gateway(KEYS, &[("kitchen", backend.address())]);
    (backend, gateway)
}

#[test]
fn a_key_opens_and_no_key_or_a_wrong_one_does_not() {
    let (backend, gateway) = kitchen();
    for (key, status) in [
        ("", 401),
        ("X-Api-Key: \r\n", 401),
        ("X-Api-Key: alices-key\r\n", 200),
        ("x-api-key:   alices-other-key\t\r\n", 200),
        ("X-Api-Key: alices-ke\r\n", 401),
        ("X-Api-Key: alices-key2\r\n", 401),
        ("X-Api-Key: ALICES-KEY\r\n", 401),
        ("X-Api-Key: alices-key\r\nX-Api-Key: alices-key\r\n", 401),
        ("X-Api-Key: alices-key, bobs-key\r\n", 401),
        ("X-Api-Key: alices-key\r\n", 200),
    ] {
        assert_eq!(gateway.ask("GET", "/", key, "").status, status, "{key:?}");
    }
    assert_eq!(backend.count(), 3);
}

#[test]
fn who_is_refused_is_told_what_is_asked_for_and_nothing_else() {
    let (_backend, gateway) = kitchen();
    let answer = gateway.ask("GET", "/either", "", "");
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.headers.all("www-authenticate"),
        [
            "ApiKey in=\"header\", name=\"x-hidden\"",
            "ApiKey in=\"header\", name=\"x-api-key\"",
            "ApiKey in=\"query\", name=\"key\"",
            "ApiKey in=\"cookie\", name=\"key\""
        ]
    );
    let body = String::from_utf8(answer.body.clone()).expect("text");
    assert!(body.contains("\"type\":\"urn:maitred:fault:unauthenticated\""), "{body}");
    assert!(!body.contains("key"), "{body}");
}

#[test]
fn the_first_whose_credential_is_there_decides_alone() {
    let (backend, gateway) = kitchen();
    let wrong_first = gateway.ask("GET", "/either", "X-Hidden: wrong\r\nX-Api-Key: alices-key\r\n", "");
    assert_eq!(wrong_first.status, 401, "a wrong credential is not outweighed by a right one of another kind");
    assert_eq!(gateway.ask("GET", "/either?key=wrong", "X-Api-Key: bobs-key\r\n", "").status, 200);
    assert_eq!(gateway.ask("GET", "/either?key=bobs-key&key=bobs-key", "", "").status, 401);
    assert_eq!(backend.count(), 1);
}

#[test]
fn a_credential_is_stripped_where_that_is_said_and_passed_on_elsewhere() {
    let (backend, gateway) = kitchen();
    gateway.ask("GET", "/either", "X-Hidden: bobs-key\r\nX_Hidden: bobs-key\r\nX-Other: 1\r\n", "");
    assert!(!backend.last().headers.has("x-hidden") && backend.last().headers.has("x-other"));
    gateway.ask("GET", "/either?a=1&k%65y=bobs-key&b=2", "", "");
    assert_eq!(backend.last().target, "/either?a=1&b=2");
    gateway.ask("GET", "/either?key=bobs-key", "", "");
    assert_eq!(backend.last().target, "/either");
    gateway.ask("GET", "/either", "Cookie: a=1; key=bobs-key\r\nCookie: b=2\r\n", "");
    assert_eq!(backend.last().header("cookie"), Some("a=1; b=2"));
    gateway.ask("GET", "/either", "X-Api-Key: bobs-key\r\n", "");
    assert_eq!(backend.last().header("x-api-key"), Some("bobs-key"));
}

#[test]
fn none_opens_and_anonymous_lets_in_who_shows_nothing() {
    let (_backend, gateway) = kitchen();
    for (path, key, status) in [
        ("/open", "", 200),
        ("/open", "X-Api-Key: wrong\r\n", 200),
        ("/perhaps", "", 200),
        ("/perhaps", "X-Api-Key: alices-key\r\n", 200),
        ("/perhaps", "X-Api-Key: wrong\r\n", 401),
    ] {
        assert_eq!(gateway.ask("GET", path, key, "").status, status, "{path} {key:?}");
    }
}

#[test]
fn groups_are_demanded_each_or_any() {
    let (_backend, gateway) = kitchen();
    for (path, key, status) in [
        ("/staff", "alices-key", 200),
        ("/staff", "bobs-key", 403),
        ("/some", "alices-key", 200),
        ("/some", "bobs-key", 403),
        ("/owners", "alices-key", 403),
        ("/owners", "wrong", 401),
    ] {
        assert_eq!(gateway.ask("GET", path, &format!("X-Api-Key: {key}\r\n"), "").status, status, "{path} {key}");
    }
}

#[test]
fn a_preflight_carries_no_credential_and_a_refusal_may_be_read_by_scripts() {
    let (_backend, gateway) = kitchen();
    let asked = "Origin: https://app.example.com\r\nAccess-Control-Request-Method: GET\r\n";
    assert_eq!(gateway.ask("OPTIONS", "/", asked, "").status, 204);
    let refused = gateway.ask("GET", "/", "Origin: https://app.example.com\r\n", "");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://app.example.com")));
}

#[test]
fn a_key_that_a_reload_takes_away_opens_nothing_any_more() {
    let (backend, gateway) = kitchen();
    assert_eq!(gateway.ask("GET", "/", "X-Api-Key: bobs-key\r\n", "").status, 200);
    let without = KEYS.replace("  bob: { api_keys: [bobs-key] }\n", "").replace("$kitchen", &backend.address().to_string());
    gateway.publish(&without);
    assert_eq!(gateway.ask("GET", "/", "X-Api-Key: bobs-key\r\n", "").status, 401);
    assert_eq!(gateway.ask("GET", "/", "X-Api-Key: alices-key\r\n", "").status, 200);
}
