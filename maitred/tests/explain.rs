//! `maitred explain` and `maitred routes` as a user runs them: who takes a request and why, what protects it, what a browser makes of it.

#[expect(dead_code, reason = "what serves, and follows a process, is for cli.rs, upgrade.rs and systemd.rs")]
mod process;

use process::Folder;
use serde_json::Value;

const SHOP: &str = "
listen: 127.0.0.1:0
upstreams:
  orders: { endpoints: [{ url: \"http://127.0.0.1:9001/base\", weight: 2 }], timeouts: { connect: 1s, response: 2s } }
apis:
  shop:
    hosts: [api.example.com]
    base_path: /shop
    routes:
      - { match: \"GET /orders/{id}\", proxy: orders, rewrite: \"/v2/{id}\", timeout: 3s, name: get-order }
      - { match: \"GET /orders/{id}\", proxy: orders, when: { headers: { x-beta: \"1\" } } }
";

#[test]
fn explain_says_who_takes_it_and_why_the_others_do_not() {
    let folder = Folder::new("explain");
    folder.file("maitred.yaml", SHOP);
    let done = folder.maitred(&["explain", "GET", "http://api.example.com/shop/./orders/7?x=1"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for part in [
        "host        api.example.com",
        "path        /shop/orders/7",
        "API         shop",
        "route       GET /shop/orders/{id}",
        "name        get-order",
        "parameter   id = 7",
        "policies    ",
        "goes to     proxy orders",
        "endpoint    http://127.0.0.1:9001/base (weight 2)",
        "asked for   /v2/7?x=1",
        "timeout     3s in all",
        "Not taken:",
        "when header x-beta: 1",
    ] {
        assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
    }
    let beta = folder.maitred(&["explain", "GET", "http://api.example.com/shop/orders/7", "-H", "x-beta: 1", "--json"]);
    let beta: Value = serde_json::from_str(&beta.stdout).unwrap();
    assert_eq!(beta["route"]["when"][0], "header x-beta: 1");
    assert_eq!((&beta["parameters"]["id"], &beta["forwarded"]), (&"7".into(), &"/orders/7".into()));
    assert_eq!(beta["misses"][0]["route"]["route"], "get-order");
}

const PROTECTED: &str = "
listen: 127.0.0.1:0
zone: a
upstreams:
  orders:
    endpoints: [ { url: \"http://127.0.0.1:9001\", zone: a, weight: 2 }, { srv: _http._tcp.orders.internal, priority: 1 } ]
    affinity: { cookie: table }
    health_check: { path: /healthz, port: 8081 }
    outlier_detection: { success_rate: 90% }
    panic_below: 30%
    slow_start: 20s
    circuit_breaker: { connections: 64 }
    retry: { conditions: [connect, timeout], per_try_timeout: 1s }
    hedge: { after: p95 }
    concurrency: { limit: 20, queue: { length: 100, timeout: 1s } }
apis:
  shop:
    routes:
      - { match: \"GET /orders\", proxy: orders, priority: 5 }
      - { match: \"POST /orders\", proxy: orders }
      - { match: \"GET /closed\", proxy: orders, maintenance: { retry_after: 10min } }
";

#[test]
fn explain_says_what_protects_the_upstream_and_what_of_it_this_request_has() {
    let folder = Folder::new("explain-protection");
    folder.file("maitred.yaml", PROTECTED);
    let get = folder.maitred(&["explain", "GET", "/orders"]);
    for part in [
        "endpoint    http://127.0.0.1:9001 (weight 2, zone a)",
        "endpoint    http://_http._tcp.orders.internal (priority 1)",
        "balance     round_robin",
        "at once     20 requests; 100 more wait up to 1s, these with priority 5",
        "sticks      to its endpoint by the cookie table, for the client's session",
        "health      GET /healthz at port 8081 every 3s; out after 3 failed, back after 1 passed",
        "ejects      after 5 failures in a row, or below 90% of success; for 30s at first, at most 50% of all",
        "panics      below 30% of usable endpoints: then all are used",
        "slow start  20s until an endpoint has its full share",
        "breaker     64 connections, 1024 requests, 1024 pending",
        "retry       2 attempts on connect, timeout; budget 20%\n",
        "hedge       a second request after p95",
    ] {
        assert!(get.stdout.contains(part), "{part} in {}{}", get.stdout, get.stderr);
    }
    let post = folder.maitred(&["explain", "POST", "/orders", "--json"]);
    let post: Value = serde_json::from_str(&post.stdout).unwrap();
    let retry = "2 attempts on connect, timeout; budget 20%; only while nothing was sent: POST is not idempotent";
    assert_eq!((&post["protection"]["retry"], &post["maintenance"]), (&retry.into(), &Value::Null));
    let closed = folder.maitred(&["explain", "GET", "/closed"]);
    assert!(closed.stdout.contains("answer      503, to be asked again after 10min\n"), "{}", closed.stdout);
    assert!(!closed.stdout.contains("endpoint"), "nobody is asked: {}", closed.stdout);
}

#[test]
fn explain_says_what_a_browser_makes_of_a_preflight() {
    let folder = Folder::new("explain-preflight");
    folder.file(
        "maitred.yaml",
        "listen: 127.0.0.1:0
upstreams: { kitchen: http://127.0.0.1:9001 }
apis:
  menu:
    cors: { origins: [\"https://app.example.com\"], methods: [GET, PUT], headers: [x-table], max_age: 1h }
    routes: [ ANY /dishes: kitchen, { match: PUT /closed, proxy: kitchen, cors: none } ]
",
    );
    let explain = |path: &str, origin: &str, method: &str, more: &[&str]| {
        let (origin, method) = (format!("origin: {origin}"), format!("access-control-request-method: {method}"));
        folder.maitred(&[&["explain", "OPTIONS", path, "-H", &origin, "-H", &method], more].concat())
    };
    let (ours, table) = ("https://app.example.com", "access-control-request-headers: X-Table");
    let done = explain("/dishes", ours, "PUT", &["-H", table]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for part in [
        "route       ANY /dishes",
        "goes to     nobody: the gateway answers by itself",
        "answer      204",
        "header      access-control-allow-origin: https://app.example.com",
        "header      access-control-allow-methods: GET, PUT",
        "header      access-control-allow-headers: x-table",
        "header      access-control-max-age: 3600",
        "browser     may send the request",
    ] {
        assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
    }
    assert!(!done.stdout.contains("asked for") && !done.stdout.contains("timeout"), "{}", done.stdout);
    assert!(
        explain("/dishes", ours, "POST", &[]).stdout.contains("browser     may send the request"),
        "nobody is asked for POST"
    );
    for (origin, method, header, refusal) in [
        ("https://other.example.com", "PUT", table, "the origin https://other.example.com is not in `cors.origins`"),
        (ours, "DELETE", table, "the method DELETE is not in `cors.methods`"),
        (ours, "PUT", "access-control-request-headers: x-table, x-other", "the header x-other is not in `cors.headers`"),
    ] {
        let done = explain("/dishes", origin, method, &["-H", header]);
        assert!(done.stdout.contains(&format!("browser     does not send the request: {refusal}")), "{}", done.stdout);
        let done = explain("/dishes", origin, method, &["-H", header, "--json"]);
        let json: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!((&json["preflight"]["status"], &json["preflight"]["refusal"]), (&204.into(), &refusal.into()));
    }
    let closed = explain("/closed", ours, "PUT", &[]);
    assert!(closed.code == 1 && closed.stdout.contains("answer      405"), "{}", closed.stdout);
}

#[test]
fn explain_fails_where_nothing_takes_it() {
    let folder = Folder::new("explain-none");
    folder.file("shop.yaml", SHOP);
    let explain = |method: &str, url: &str| folder.maitred(&["explain", method, url, "--file", "shop.yaml"]);
    for (method, url, parts) in [
        ("DELETE", "http://api.example.com/shop/orders/7", &["405", "allowed     GET", "it does not take DELETE"][..]),
        ("GET", "http://api.example.com/shop/order/7", &["404", "The closest routes:", "GET /shop/orders/{id}"]),
        ("GET", "http://elsewhere/", &["404", "no API has this host"]),
    ] {
        let done = explain(method, url);
        assert_eq!(done.code, 1, "{}", done.stdout);
        for part in parts {
            assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
        }
    }
    let done = explain("GET", "/%00");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("400"), "{}", done.stderr);
    assert_eq!(folder.maitred(&["explain", "GET", "/"]).code, 1, "there is no maitred.yaml");
}

#[test]
fn routes_are_a_table_or_json() {
    let folder = Folder::new("routes");
    folder.file("maitred.yaml", SHOP);
    let done = folder.maitred(&["routes"]);
    let table: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(table.len(), 3, "{}", done.stdout);
    assert!(table[0].starts_with("API   HOSTS            MATCH"), "{}", table[0]);
    assert!(table[1].starts_with("shop  api.example.com  GET /shop/orders/{id}"), "{}", table[1]);
    let list: Value = serde_json::from_str(&folder.maitred(&["routes", "--json"]).stdout).unwrap();
    assert_eq!(
        (&list[0]["api"], &list[0]["base_path"], &list[0]["match"]),
        (&"shop".into(), &"/shop".into(), &"GET /orders/{id}".into())
    );
}
