//! Which route takes a request, and with which path it goes on.

use maitred_testkit::{Backend, Gateway, gateway};

/// Routes that answer with their own text.
fn menu(routes: &[&str]) -> Gateway {
    let lines: String =
        routes.iter().map(|route| format!("      - {{ match: \"{route}\", respond: {{ text: \"{route}\" }} }}\n")).collect();
    gateway(&format!("apis:\n  all:\n    routes:\n{lines}"), &[])
}

#[track_caller]
fn takes(gateway: &Gateway, method: &str, target: &str, route: &str) {
    let response = gateway.ask(method, target, "", "");
    assert_eq!((response.status, response.text().as_str()), (200, route), "{method} {target}");
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let mut routes =
        ["GET /", "GET /{all+}", "GET /a/{x}", "GET /a/b", "GET /a/{x}/c", "GET /a/{rest+}", "GET /a/b/", "GET /a/b/{y}"];
    for _ in 0..2 {
        let gateway = menu(&routes);
        for (target, route) in [
            ("/", "GET /"),
            ("/z", "GET /{all+}"),
            ("/z/z/z", "GET /{all+}"),
            ("/a", "GET /{all+}"),
            ("/a/b", "GET /a/b"),
            ("/a/b/", "GET /a/b/"),
            ("/a/x", "GET /a/{x}"),
            ("/a/x/c", "GET /a/{x}/c"),
            ("/a/b/c", "GET /a/b/{y}"),
            ("/a/x/d", "GET /a/{rest+}"),
            ("/a/b/c/d", "GET /a/{rest+}"),
            ("/a//", "GET /a/{rest+}"),
            ("//", "GET /{all+}"),
        ] {
            takes(&gateway, "GET", target, route);
        }
        routes.reverse();
    }
}

#[test]
fn a_trailing_slash_and_a_double_slash_are_significant() {
    let gateway = menu(&["GET /a", "GET /b/", "GET /c/d"]);
    takes(&gateway, "GET", "/a", "GET /a");
    takes(&gateway, "GET", "/b/", "GET /b/");
    for target in ["/a/", "/b", "//a", "/c//d", "/c/d/", "/A"] {
        assert_eq!(gateway.get(target).status, 404, "{target}");
    }
}

#[test]
fn a_path_is_canonical_before_it_is_matched() {
    let gateway = menu(&["GET /a/b", "GET /a%2Fb", "GET /~x", "GET /x/{y}"]);
    for (target, route) in [
        ("/%61/b", "GET /a/b"),
        ("/a/./b", "GET /a/b"),
        ("/c/../a/b", "GET /a/b"),
        ("/c/%2e%2E/a/%2e/b", "GET /a/b"),
        ("/a%2fb", "GET /a%2Fb"),
        ("/a%2Fb", "GET /a%2Fb"),
        ("/%7ex", "GET /~x"),
        ("/x/a%2Fb", "GET /x/{y}"),
        ("/x/..%2fa", "GET /x/{y}"),
    ] {
        takes(&gateway, "GET", target, route);
    }
    for target in ["/..", "/a/../..", "/%2e%2e/a", "/a%00", "/a%5cb", "/a\\b", "/%zz", "/%", "/a#b"] {
        assert_eq!(gateway.get(target).status, 400, "{target}");
    }
}

#[test]
fn the_back_end_sees_the_same_canonical_path() {
    let backend = Backend::status(200);
    let gateway = maitred_testkit::gateway_to(&backend);
    for (target, seen) in [
        ("/%61/./b/../c", "/a/c"),
        ("/a%2fb", "/a%2Fb"),
        ("/a//b/", "/a//b/"),
        ("/%7Ex%20y", "/~x%20y"),
        ("/a/%2e%2e/b?q=%7e/../x", "/b?q=%7e/../x"),
        ("/a?", "/a?"),
        ("/a??b", "/a??b"),
        ("/a;v=1", "/a;v=1"),
        ("/..%2fa", "/..%2Fa"),
    ] {
        assert_eq!(gateway.get(target).status, 200, "{target}");
        assert_eq!(backend.last().target, seen, "{target}");
    }
}

#[test]
fn there_is_nothing_where_no_route_is() {
    let gateway = menu(&["GET /a"]);
    let response = gateway.get("/b");
    assert_eq!((response.status, response.header("allow")), (404, None));
    let problem = response.json();
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["request_id"].as_str(), response.header("x-request-id"));
}

#[test]
fn another_method_is_told_which_are_allowed() {
    let gateway = menu(&["GET /a", "POST,PUT /a", "PURGE /a", "DELETE /{x}"]);
    let response = gateway.ask("PATCH", "/a", "", "");
    assert_eq!(response.status, 405);
    let mut allow = response.headers.members("allow");
    allow.sort();
    assert_eq!(allow, ["DELETE", "GET", "HEAD", "POST", "PURGE", "PUT"]);
    assert_eq!(response.json()["status"], 405);
    takes(&gateway, "DELETE", "/a", "DELETE /{x}");
    takes(&gateway, "PURGE", "/a", "PURGE /a");
    assert_eq!(gateway.ask("purge", "/a", "", "").status, 405, "methods have a case");
}

#[test]
fn a_get_route_answers_head_unless_another_does() {
    let gateway = menu(&["GET /a", "GET /b", "HEAD /b", "POST /c", "ANY /d"]);
    let head = gateway.ask("HEAD", "/a", "", "");
    assert_eq!((head.status, head.header("content-length")), (200, Some("6")));
    assert!(head.body.is_empty());
    assert_eq!(gateway.ask("HEAD", "/b", "", "").header("content-length"), Some("7"), "HEAD /b is one byte longer than GET /b");
    assert_eq!(gateway.ask("HEAD", "/c", "", "").status, 405);
    assert_eq!(gateway.ask("HEAD", "/d", "", "").status, 200);
}

#[test]
fn a_named_method_beats_any() {
    let gateway = menu(&["ANY /a", "GET /a"]);
    takes(&gateway, "GET", "/a", "GET /a");
    takes(&gateway, "POST", "/a", "ANY /a");
    takes(&gateway, "BREW", "/a", "ANY /a");
}

#[test]
fn more_conditions_win_and_unmet_ones_pass_on() {
    let gateway = gateway(
        "apis:
  all:
    routes:
      - { match: GET /a, respond: { text: plain } }
      - { match: GET /a, when: { query: { v: \"2\" } }, respond: { text: query } }
      - { match: GET /a, when: { headers: { x-beta: \"1\" } }, respond: { text: header } }
      - { match: GET /a, when: { headers: { x-beta: \"1\" }, query: { v: \"2\" } }, respond: { text: both } }
      - { match: GET /a, when: { headers: { x-any: \"*\" } }, respond: { text: present } }
      - { match: GET /only, when: { headers: { x-beta: \"1\" } }, respond: { text: only } }
",
        &[],
    );
    for (target, headers, text) in [
        ("/a", "", "plain"),
        ("/a?v=3", "", "plain"),
        ("/a?v=2", "", "query"),
        ("/a?x&v=2&y", "", "query"),
        ("/a?%76=%32", "", "query"),
        ("/a?v=1&v=2", "", "query"),
        ("/a", "X-Beta: 1\r\n", "header"),
        ("/a", "X-Beta: 2\r\nx-BETA: 1\r\n", "header"),
        ("/a", "X-Beta: 11\r\n", "plain"),
        ("/a?v=2", "X-Beta: 1\r\n", "both"),
        ("/a", "X-Any: whatever\r\n", "present"),
        ("/a", "X-Any:\r\n", "present"),
    ] {
        assert_eq!(gateway.ask("GET", target, headers, "").text(), text, "{target} {headers}");
    }
    assert_eq!(gateway.get("/only").status, 404);
    assert_eq!(gateway.ask("GET", "/only", "x-beta: 1\r\n", "").text(), "only");
}

#[test]
fn an_exact_host_beats_the_longest_wildcard_beats_any_host() {
    let api =
        |name: &str, hosts: &str| format!("  {name}:\n{hosts}    routes: [ {{ match: GET /, respond: {{ text: {name} }} }} ]\n");
    let yaml = format!(
        "apis:\n{}{}{}{}",
        api("any", ""),
        api("wide", "    hosts: [\"*.example.com\"]\n"),
        api("wider", "    hosts: [\"*.shop.example.com\", other.test]\n"),
        api("exact", "    hosts: [a.shop.example.com]\n")
    );
    let gateway = gateway(&yaml, &[]);
    for (host, name) in [
        ("a.shop.example.com", "exact"),
        ("A.Shop.EXAMPLE.com", "exact"),
        ("a.shop.example.com:8443", "exact"),
        ("a.shop.example.com.", "exact"),
        ("b.shop.example.com", "wider"),
        ("c.b.shop.example.com", "wider"),
        ("other.test", "wider"),
        ("shop.example.com", "wide"),
        ("x.example.com", "wide"),
        ("example.com", "any"),
        ("evilexample.com", "any"),
        ("127.0.0.1", "any"),
        ("[::1]:80", "any"),
    ] {
        assert_eq!(gateway.ask("GET", "/", &format!("Host: {host}\r\n"), "").text(), name, "{host}");
    }
}

#[test]
fn without_an_api_for_the_host_there_is_nothing() {
    let gateway = gateway("apis: { a: { hosts: [a.test], routes: [ { match: GET /, respond: { text: a } } ] } }", &[]);
    assert_eq!(gateway.ask("GET", "/", "Host: b.test\r\n", "").status, 404);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().status, 404, "no Host is no host");
}

#[test]
fn the_longest_base_path_by_segments_wins_and_never_falls_through() {
    let backend = Backend::status(200);
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen\" }
apis:
  root: { routes: [ { match: \"GET /{x+}\", respond: { text: root } } ] }
  shop: { base_path: /shop, routes: [ ANY /: kitchen, \"GET /{x+}\": kitchen ] }
  deep: { base_path: /shop/deep, routes: [ { match: GET /one, respond: { text: deep } } ] }
",
        &[("kitchen", backend.address())],
    );
    for (target, seen) in [
        ("/shop/a?b", "/a?b"),
        ("/shop/", "/"),
        ("/shop", "/"),
        ("/shop?x", "/?x"),
        ("/shop//a", "//a"),
        ("/%73hop/deepest", "/deepest"),
    ] {
        assert_eq!(gateway.get(target).status, 200, "{target}");
        assert_eq!(backend.last().target, seen, "{target}");
    }
    let before = backend.count();
    assert_eq!(gateway.get("/shop/deep/one").text(), "deep");
    assert_eq!(gateway.get("/shop/deep/two").status, 404, "it does not fall through to /shop");
    assert_eq!(gateway.get("/shopping").text(), "root", "a base path is whole segments");
    assert_eq!(gateway.get("/shop%2Fa").text(), "root");
    assert_eq!(backend.count(), before);
}

#[test]
fn a_rewrite_replaces_the_path_and_keeps_the_query() {
    let backend = Backend::status(200);
    let gateway = gateway(
        "upstreams: { kitchen: \"http://$kitchen/base\" }
apis:
  all:
    base_path: /api
    routes:
      - { match: \"GET /orders/{id}\", proxy: kitchen, rewrite: \"/v2/{id}/order\" }
      - { match: \"GET /files/{path+}\", proxy: kitchen, rewrite: \"/store/{path}\" }
      - { match: GET /fixed, proxy: kitchen, rewrite: /elsewhere }
",
        &[("kitchen", backend.address())],
    );
    for (target, seen) in [
        ("/api/orders/7?a=b&c", "/base/v2/7/order?a=b&c"),
        ("/api/orders/a%2Fb", "/base/v2/a%2Fb/order"),
        ("/api/orders/%3Fx%23", "/base/v2/%3Fx%23/order"),
        ("/api/orders/a%20b", "/base/v2/a%20b/order"),
        ("/api/files/a/b//c/", "/base/store/a/b//c/"),
        ("/api/fixed?x", "/base/elsewhere?x"),
    ] {
        assert_eq!(gateway.get(target).status, 200, "{target}");
        assert_eq!(backend.last().target, seen, "{target}");
    }
    let before = backend.count();
    assert_eq!(gateway.get("/api/orders/%2e%2e").status, 404, "dot segments are gone before anything is matched");
    assert_eq!(backend.count(), before);
}

#[test]
fn a_redirect_keeps_the_query_and_encodes_what_it_puts_in() {
    let gateway = gateway(
        "apis:
  all:
    routes:
      - { match: \"GET /old/{id}\", redirect: \"/new/{id}\" }
      - { match: GET /away, redirect: { to: \"https://www.example.com/x?y=1\", status: 302 } }
      - { match: \"GET /q/{id}\", redirect: { to: \"/search?id={id}\", status: 303 } }
      - { match: \"GET /s/{id}\", redirect: \"https://{request.host}{request.path}\" }
      - { match: \"GET /r/{rest+}\", redirect: { to: \"https://www.example.com/{rest}\", status: 301 } }
",
        &[],
    );
    for (target, status, location) in [
        ("/old/7", 308, "/new/7"),
        ("/old/7?a=b&c", 308, "/new/7?a=b&c"),
        ("/old/a%2Fb%0D%0AX:y", 308, "/new/a%2Fb%0D%0AX:y"),
        ("/away?z=2", 302, "https://www.example.com/x?y=1"),
        ("/q/a%26b=c%23", 303, "/search?id=a%26b%3Dc%23"),
        ("/s/a%2Fb?c", 308, "https://gateway.test/s/a%2Fb?c"),
        ("/r/a/b?c", 301, "https://www.example.com/a/b?c"),
    ] {
        let response = gateway.get(target);
        assert_eq!((response.status, response.header("location")), (status, Some(location)), "{target}");
        assert_eq!(response.header("content-length"), Some("0"));
    }
    // "//evil.example" must not become the place to go to.
    let location = gateway.get("/r//evil.example/x").header("location").map(str::to_owned);
    assert_eq!(location.as_deref(), Some("https://www.example.com//evil.example/x"));
}

#[test]
fn a_redirect_to_a_path_never_leads_to_another_host() {
    let gateway = gateway("apis: { all: { routes: [ { match: \"GET /old/{rest+}\", redirect: \"/{rest}\" } ] } }", &[]);
    let response = gateway.get("/old//evil.example/x");
    let location = response.header("location").unwrap_or("none");
    assert!(response.status == 400 || !location.starts_with("//"), "a browser goes to another host for {location:?}");
}

#[test]
fn an_answer_from_the_configuration_is_whole() {
    let gateway = gateway(
        "apis:
  all:
    routes:
      - { match: GET /text, respond: { text: \"grüß\" } }
      - { match: GET /json, respond: { status: 201, json: { ok: true, list: [1, 2.5, null] }, headers: { cache-control: no-store } } }
      - { match: GET /none, respond: { status: 204 } }
      - { match: GET /typed, respond: { text: \"a,b\", headers: { Content-Type: text/csv } } }
      - { match: POST /busy, respond: { status: 503, text: later } }
",
        &[],
    );
    let text = gateway.get("/text");
    assert_eq!((text.header("content-type"), text.text().as_str()), (Some("text/plain; charset=utf-8"), "grüß"));
    assert_eq!(text.header("content-length"), Some("6"));
    let json = gateway.get("/json");
    assert_eq!(
        (json.status, json.header("content-type"), json.header("cache-control")),
        (201, Some("application/json"), Some("no-store"))
    );
    assert_eq!(json.json(), serde_json::json!({ "ok": true, "list": [1, 2.5, null] }));
    let none = gateway.get("/none");
    assert_eq!((none.status, none.header("content-length"), none.body.len()), (204, None, 0));
    assert_eq!(gateway.get("/typed").header("content-type"), Some("text/csv"));
    let head = gateway.ask("HEAD", "/text", "", "");
    assert_eq!((head.header("content-length"), head.body.len()), (Some("6"), 0));
    let mut client = gateway.client();
    assert_eq!(client.request("POST", "/busy", "", "a body that nobody reads").status, 503);
    assert_eq!(client.get("/text").status, 200, "a short body that is at hand is skipped");
}

#[test]
fn requests_are_counted_by_route() {
    let gateway =
        gateway("apis: { all: { routes: [ { match: GET /, name: home, respond: {} }, { match: GET /x, respond: {} } ] } }", &[]);
    for _ in 0..3 {
        gateway.get("/");
    }
    gateway.get("/x");
    maitred_testkit::eventually("three are counted", || gateway.counted("home") == 3);
    maitred_testkit::eventually("one is counted", || gateway.counted("GET /x") == 1);
}
