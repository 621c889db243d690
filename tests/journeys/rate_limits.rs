//! How often requests may come: bursts, keys, several limits together, costs that come with the answer, waiting in order, plans, and reloads.

use maitred_testkit::{Backend, Client, Gateway, H2Backend, Latch, Response, eventually, gateway, gateway_with, refused};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// One route for each of these, which are policies of the route, beside others of the API.
fn yaml(api: &str, routes: &[(&str, &str)]) -> String {
    let mut text =
        format!("upstreams: {{ kitchen: \"http://$kitchen\" }}\napis:\n  all:\n    policies: {{ {api} }}\n    routes:\n");
    for (path, policies) in routes {
        text.push_str(&format!("      - {{ match: GET {path}, name: {}, proxy: kitchen, {policies} }}\n", &path[1..]));
    }
    text
}

fn kitchen(api: &str, routes: &[(&str, &str)]) -> (Backend, Gateway) {
    let backend = Backend::status(200);
    let gateway = gateway(&yaml(api, routes), &[("kitchen", backend.address())]);
    (backend, gateway)
}

/// The answers' statuses, one request after the other on one connection.
fn statuses(gateway: &Gateway, path: &str, headers: &str, count: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..count).map(|_| client.request("GET", path, headers, "").status).collect()
}

fn told<'a>(response: &'a Response, names: [&str; 3]) -> [Option<&'a str>; 3] {
    names.map(|name| response.header(name))
}

const DRAFT: [&str; 3] = ["ratelimit-policy", "ratelimit", "retry-after"];

#[test]
fn a_burst_comes_in_then_nobody_and_then_one_after_the_other_as_time_gives() {
    let (backend, gateway) = kitchen("", &[("/a", "rate_limit: { rate: 1/min, burst: 3, by: ip }")]);
    let policy = Some("\"route\";q=3;w=180");
    for (status, limit, retry) in [
        (200, "\"route\";r=2;t=60", None),
        (200, "\"route\";r=1;t=120", None),
        (200, "\"route\";r=0;t=180", None),
        (429, "\"route\";r=0;t=180", Some("60")),
    ] {
        let response = gateway.get("/a");
        assert_eq!((response.status, told(&response, DRAFT)), (status, [policy, Some(limit), retry]));
    }
    let refused = gateway.get("/a").json();
    assert_eq!((&refused["type"], &refused["status"]), (&"urn:maitred:fault:rate_limited".into(), &429.into()));
    assert_eq!(backend.count(), 3);
    gateway.turn(MINUTE);
    assert_eq!(statuses(&gateway, "/a", "", 2), [200, 429]);
    gateway.turn(MINUTE * 60);
    assert_eq!(statuses(&gateway, "/a", "", 4), [200, 200, 200, 429]);
}

#[test]
fn what_is_left_is_said_in_as_many_ways_as_are_wanted() {
    let limit = "rate_limit: { rate: 1/min, burst: 2, by: route }";
    let with = |ways: &str| format!("{limit}, rate_limit_headers: {ways}");
    let routes =
        [("/none", &*with("none")), ("/split", &*with("split")), ("/x", &*with("x")), ("/all", &*with("[draft, split, x]"))];
    let backend = Backend::new(|_, conn| {
        conn.answer(200, "X-RateLimit-Remaining: 77\r\nRateLimit-Reset: 78\r\n", "x");
    });
    let gateway = gateway(&yaml("", &routes), &[("kitchen", backend.address())]);
    let split = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
    let x = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let (theirs, mine, nothing) = (Some("77"), [Some("2"), Some("1"), Some("60")], [None; 3]);
    let none = gateway.get("/none");
    assert_eq!(
        (told(&none, DRAFT), told(&none, split), told(&none, x)),
        (nothing, [None, None, Some("78")], [None, theirs, None])
    );
    let response = gateway.get("/split");
    assert_eq!((told(&response, DRAFT), told(&response, split)), (nothing, mine), "the gateway's word counts");
    let response = gateway.get("/x");
    assert_eq!((told(&response, DRAFT), told(&response, x)), (nothing, mine));
    let response = gateway.get("/all");
    let draft = [Some("\"route\";q=2;w=120"), Some("\"route\";r=1;t=60"), None];
    assert_eq!((told(&response, DRAFT), told(&response, split), told(&response, x)), (draft, mine, mine));
}

#[test]
fn of_several_limits_each_must_admit_and_a_refusal_takes_nothing_of_any() {
    let api = "rate_limit: { rate: 1/min, burst: 3, by: api }";
    let two = "rate_limit: [{ rate: 1/h, burst: 2, by: ip }, { rate: 1/min, burst: 5, by: \"header:x-a\" }]";
    let (backend, gateway) = kitchen(api, &[("/two", two), ("/plain", "idempotent: true"), ("/free", "rate_limit: none")]);
    let policy = "\"api\";q=3;w=180, \"route\";q=2;w=7200, \"route-2\";q=5;w=300";
    let first = gateway.get("/two");
    assert_eq!(told(&first, DRAFT), [Some(policy), Some("\"route\";r=1;t=3600"), None], "the tightest of three");
    assert_eq!(gateway.get("/two").status, 200);
    for _ in 0..3 {
        let third = gateway.get("/two");
        assert_eq!((third.status, told(&third, DRAFT)), (429, [Some(policy), Some("\"route\";r=0;t=7200"), Some("3600")]));
    }
    // Of the API's three the refused ones took none.
    assert_eq!(statuses(&gateway, "/plain", "", 2), [200, 429]);
    let free = gateway.get("/free");
    assert_eq!((free.status, told(&free, DRAFT)), (200, [None; 3]));
    assert_eq!(backend.count(), 4);
}

#[test]
fn addresses_are_counted_apart_as_trusted_proxies_tell_them_and_ipv6_by_its_network() {
    let backend = Backend::status(200);
    let routes = [
        ("/a", "rate_limit: { rate: 1/h, burst: 1, by: ip }"),
        ("/wide", "rate_limit: { rate: 1/h, burst: 1, by: ip/48 }"),
        ("/one", "rate_limit: { rate: 1/h, burst: 1, by: ip/128 }"),
    ];
    let text = format!("trusted_proxies: [127.0.0.0/8]\n{}", yaml("", &routes));
    let gateway = gateway(&text, &[("kitchen", backend.address())]);
    let ask = |path: &str, from: &str| gateway.ask("GET", path, &format!("X-Forwarded-For: {from}\r\n"), "").status;
    for (path, from, status) in [
        ("/a", "192.0.2.1", 200),
        ("/a", "192.0.2.1", 429),
        ("/a", "::ffff:192.0.2.1", 429),
        ("/a", "192.0.2.2", 200),
        ("/a", "2001:db8::1", 200),
        ("/a", "2001:db8::ffff:0:0:1", 429),
        ("/a", "2001:db8:0:1::1", 200),
        ("/wide", "2001:db8::1", 200),
        ("/wide", "2001:db8:0:ffff::1", 429),
        ("/wide", "2001:db8:1::1", 200),
        ("/one", "2001:db8::1", 200),
        ("/one", "2001:db8::2", 200),
        ("/one", "2001:db8::2", 429),
        // Whoever is not told apart is the proxy.
        ("/a", "nobody knows", 200),
        ("/a", "nobody knows either", 429),
    ] {
        assert_eq!(ask(path, from), status, "{path} from {from}");
    }
}

#[test]
fn headers_count_apart_and_who_leaves_them_out_is_one() {
    let routes = [
        ("/one", "rate_limit: { rate: 1/h, burst: 1, by: \"header:x-tenant\" }"),
        ("/two", "rate_limit: { rate: 1/h, burst: 1, by: [\"header:x-tenant\", ip, \"header:host\"] }"),
        ("/cel", "rate_limit: { rate: 1/h, burst: 1, by: \"cel:request.query.a + request.method\" }"),
    ];
    let (_backend, gateway) = kitchen("", &routes);
    let ask = |path: &str, headers: &str| gateway.ask("GET", path, headers, "").status;
    for (path, headers, status) in [
        ("/one", "X-Tenant: a\r\n", 200),
        ("/one", "x-tenant:   a \r\n", 429),
        ("/one", "X-Tenant: b\r\n", 200),
        ("/one", "X-Tenant: a\r\nX-Tenant: c\r\n", 200),
        ("/one", "X-Tenant: a\r\nX-Tenant: c\r\n", 429),
        ("/one", "X-Tenant: \r\n", 200),
        ("/one", "", 200),
        ("/one", "", 429),
        ("/two", "X-Tenant: a\r\n", 200),
        ("/two", "X-Tenant: a\r\n", 429),
        ("/two", "", 200),
        ("/two", "", 429),
        ("/cel?a=1", "", 200),
        ("/cel?a=1", "", 429),
        ("/cel?a=2", "", 200),
        // What cannot be told is one key.
        ("/cel", "", 200),
        ("/cel?b=1", "", 429),
    ] {
        assert_eq!(ask(path, headers), status, "{path} {headers:?}");
    }
}

#[test]
fn an_api_is_one_and_its_routes_are_counted_apart_where_it_says_so() {
    let (_backend, first) =
        kitchen("rate_limit: { rate: 1/h, burst: 2, by: api }", &[("/a", "idempotent: true"), ("/b", "idempotent: true")]);
    assert_eq!([statuses(&first, "/a", "", 1), statuses(&first, "/b", "", 2)].concat(), [200, 200, 429]);
    let (_backend, second) =
        kitchen("rate_limit: { rate: 1/h, burst: 1, by: route }", &[("/a", "idempotent: true"), ("/b", "idempotent: true")]);
    assert_eq!([statuses(&second, "/a", "", 2), statuses(&second, "/b", "", 2)].concat(), [200, 429, 200, 429]);
}

const CALLERS: &str =
    "authorizers: { keys: { api_key: {} }, staff: { jwt: { jwks: keys.json, issuer: joe, audience: kitchen } } }
consumers:
  alice: { plan: gold, api_keys: [alices-key, alices-other-key] }
  bob: { plan: free, api_keys: [bobs-key] }
  carol: { api_keys: [carols-key] }
";
const PLANS: &str = "plans:
  gold: { rate_limit: { rate: 1/h, burst: 3 }, priority: 9 }
  free:
    rate_limit: { rate: 1/h, burst: 1 }
    apis: { all: { routes: { special: { rate_limit: { rate: 1/h, burst: 2 } } } } }
";

fn planless() -> String {
    CALLERS.replace("plan: gold, ", "").replace("plan: free, ", "")
}

fn key(name: &str) -> String {
    format!("X-Api-Key: {name}\r\n")
}

#[test]
fn callers_are_counted_apart_however_they_are_known_and_nobody_passes_uncounted() {
    let issuer = crate::jwt::Key::new("one");
    let backend = Backend::status(200);
    let routes = [
        ("/consumer", "authenticate: [keys, staff, anonymous], rate_limit: { rate: 1/h, burst: 2, by: consumer }"),
        ("/claim", "authenticate: [staff, anonymous], rate_limit: { rate: 1/h, burst: 1, by: \"claim:tenant\" }"),
        (
            "/cel",
            "authenticate: [staff, keys], rate_limit: { rate: 1/h, burst: 1, by: \"cel:has(claims.tenant) ? claims.tenant : consumer.name\" }",
        ),
    ];
    let text = format!("{}{}", planless(), yaml("", &routes));
    let gateway = gateway_with(&text, &[("kitchen", backend.address())], &[("keys.json", crate::jwt::jwks(&[&issuer]))]);
    let token = |claims: &str| {
        let mut all: serde_json::Value = serde_json::from_str(claims).expect("claims");
        all["iss"] = "joe".into();
        all["aud"] = "kitchen".into();
        all["exp"] = (crate::jwt::unix() + 600).into();
        format!("Authorization: Bearer {}\r\n", issuer.token(&all))
    };
    for (path, headers, wanted) in [
        ("/consumer", key("alices-key"), &[200, 200, 429][..]),
        ("/consumer", key("alices-other-key"), &[429]),
        ("/consumer", key("bobs-key"), &[200, 200, 429]),
        ("/consumer", token("{\"sub\":\"dora\"}"), &[200, 200, 429]),
        ("/consumer", token("{\"sub\":\"alice\"}"), &[200, 200, 429]),
        // Nobody, and one of whom the issuer says nothing, are their address.
        ("/consumer", String::new(), &[200]),
        ("/claim", token("{\"sub\":\"a\",\"tenant\":\"x\"}"), &[200, 429]),
        ("/claim", token("{\"sub\":\"b\",\"tenant\":\"x\"}"), &[429]),
        ("/claim", token("{\"sub\":\"b\",\"tenant\":\"3\"}"), &[200]),
        ("/claim", token("{\"sub\":\"b\",\"tenant\":3}"), &[200]),
        ("/claim", token("{\"sub\":\"b\",\"tenant\":[3]}"), &[200, 429]),
        ("/claim", token("{\"sub\":\"b\"}"), &[200]),
        ("/claim", token("{\"sub\":\"b\",\"tenant\":null}"), &[429]),
        ("/claim", String::new(), &[429]),
        ("/cel", token("{\"sub\":\"b\",\"tenant\":\"x\"}"), &[200, 429]),
        ("/cel", key("alices-key"), &[200, 429]),
        ("/cel", key("bobs-key"), &[200]),
    ] {
        assert_eq!(statuses(&gateway, path, &headers, wanted.len()), wanted, "{path} {headers}");
    }
}

#[test]
fn who_is_refused_at_the_door_keeps_what_it_took_and_takes_nothing_of_what_comes_later() {
    let limits = "authenticate: [keys], rate_limit: [{ rate: 1/h, burst: 3, by: ip }, { rate: 1/h, burst: 1, by: consumer }]";
    let backend = Backend::status(200);
    let text = format!("{}{}", planless(), yaml("", &[("/a", limits)]));
    let files = [("keys.json", crate::jwt::jwks(&[&crate::jwt::Key::new("one")]))];
    let gateway = gateway_with(&text, &[("kitchen", backend.address())], &files);
    assert_eq!(statuses(&gateway, "/a", &key("wrong"), 1), [401]);
    let alice = || gateway.ask("GET", "/a", &key("alices-key"), "");
    assert_eq!(alice().status, 200);
    // The caller's own limit refuses, and gives back what the address' took before.
    for _ in 0..5 {
        let second = alice();
        assert_eq!((second.status, second.header("ratelimit")), (429, Some("\"route-2\";r=0;t=3600")));
    }
    assert_eq!(statuses(&gateway, "/a", &key("bobs-key"), 1), [200]);
    assert_eq!(statuses(&gateway, "/a", &key("wrong"), 2), [429, 429], "guesses are counted");
}

#[test]
fn what_the_answer_says_it_cost_is_owed_and_stays_inside() {
    let backend = Backend::new(|request, conn| {
        let cost = request.header("x-say").map_or_else(String::new, |say| format!("X-Cost: {say}\r\n"));
        conn.answer(200, &cost, "x");
    });
    let limit = "rate_limit: { rate: 1/min, burst: 10, by: \"header:x-key\", cost: \"response_header:x-cost\" }";
    let gateway = gateway(&yaml("", &[("/a", limit)]), &[("kitchen", backend.address())]);
    let ask = |key: &str, say: &str| {
        let say = if say.is_empty() { String::new() } else { format!("X-Say: {say}\r\n") };
        let response = gateway.ask("GET", "/a", &format!("X-Key: {key}\r\n{say}"), "");
        assert_eq!(response.header("x-cost"), None, "nobody's to read");
        (response.status, response.header("ratelimit").unwrap_or_default().to_owned())
    };
    for (key, say, status, told) in [
        ("a", "3", 200, "\"route\";r=7;t=180"),
        ("a", "0", 200, "\"route\";r=7;t=180"),
        ("a", "", 200, "\"route\";r=6;t=240"),
        ("a", "many", 200, "\"route\";r=5;t=300"),
        ("a", "-1", 200, "\"route\";r=4;t=360"),
        ("a", "8", 200, "\"route\";r=0;t=840"),
        ("a", "1", 429, "\"route\";r=0;t=840"),
        ("b", "1", 200, "\"route\";r=9;t=60"),
        // A wrong number locks nobody out for longer than ten bursts.
        ("b", "99999999999999999999", 200, "\"route\";r=0;t=6000"),
    ] {
        assert_eq!(ask(key, say), (status, told.to_owned()), "{key} says {say:?}");
    }
    // Fourteen were taken of ten, and one comes back each minute.
    gateway.turn(MINUTE * 4);
    assert_eq!(ask("a", "1").0, 429);
    gateway.turn(MINUTE);
    assert_eq!(ask("a", "1").0, 200);
    gateway.turn(MINUTE * 85);
    assert_eq!(ask("b", "1").0, 429);
    gateway.turn(MINUTE);
    assert_eq!(ask("b", "1").0, 200);
}

#[test]
fn a_request_may_cost_more_than_one() {
    let (_backend, gateway) = kitchen("", &[("/a", "rate_limit: { rate: 1/min, burst: 5, by: ip, cost: 2 }")]);
    assert_eq!(statuses(&gateway, "/a", "", 3), [200, 200, 429]);
    gateway.turn(MINUTE);
    assert_eq!(statuses(&gateway, "/a", "", 2), [200, 429]);
}

/// Of a limit: allowed, delayed, limited.
fn answered(gateway: &Gateway, limit: &str) -> [u64; 3] {
    let limits = gateway.metrics().limits();
    limits.iter().find(|series| &*series.name.limit == limit).map_or([0; 3], |series| series.counts())
}

#[test]
fn who_may_wait_comes_in_by_turn_over_all_workers_and_who_goes_away_leaves_its_turn() {
    let backend = Backend::status(200);
    let limit = "timeout: 1h, rate_limit: { rate: 5/min, burst: 1, by: route, wait: 1min }";
    let text = format!("workers: 2\nlimits: {{ header_timeout: 1h, idle_timeout: 1h }}\n{}", yaml("", &[("/a", limit)]));
    let gateway = gateway(&text, &[("kitchen", backend.address())]);
    assert_eq!(gateway.get("/a").status, 200);
    let delayed = || answered(&gateway, "route")[1];
    let mut waiting: Vec<Client> = (0..5)
        .map(|at| {
            let mut client = gateway.client();
            client.send(format!("GET /a?{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
            eventually("it stands in line", || delayed() == at + 1);
            client
        })
        .collect();
    let sixth = gateway.get("/a");
    assert_eq!((sixth.status, sixth.header("retry-after")), (429, Some("12")));
    // The last of them goes away: there is a turn for another one.
    drop(waiting.pop());
    eventually("its turn is given back", || {
        let mut client = gateway.client();
        let before = delayed();
        client.send("GET /a?5 HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it is answered or waits", || delayed() > before || !client.is_quiet());
        let waits = client.is_quiet();
        if waits {
            waiting.push(client);
        }
        waits
    });
    for served in 1..=5u64 {
        assert_eq!(backend.count() as u64, served);
        gateway.turn(MINUTE / 5);
        backend.wait_for(served as usize + 1);
    }
    let order: Vec<String> = backend.requests()[1..].iter().map(|request| request.target.clone()).collect();
    assert_eq!(order, ["/a?0", "/a?1", "/a?2", "/a?3", "/a?5"]);
    for client in &mut waiting {
        let response = client.response();
        assert_eq!((response.status, response.header("ratelimit").map(|told| &told[..11])), (200, Some("\"route\";r=0")));
    }
}

#[test]
fn a_reload_keeps_what_was_taken_and_a_changed_rate_counts_at_once() {
    let limit = |text: &str| yaml("", &[("/a", &format!("rate_limit: {{ {text} }}")), ("/b", "idempotent: true")]);
    let backend = Backend::status(200);
    let gateway = gateway(&limit("rate: 1/h, burst: 2, by: ip"), &[("kitchen", backend.address())]);
    assert_eq!(statuses(&gateway, "/a", "", 3), [200, 200, 429]);
    gateway.publish(&limit("rate: 1/h, burst: 2, by: ip").replace("/b", "/c"));
    assert_eq!(statuses(&gateway, "/a", "", 1), [429], "the same limit in another configuration");
    gateway.publish(&limit("rate: 1/h, burst: 3, by: ip"));
    assert_eq!(statuses(&gateway, "/a", "", 2), [200, 429], "one more at once");
    // Three hours are owed; under a limit of three minutes that is all of them, and nobody is locked out for longer.
    gateway.publish(&limit("rate: 1/min, burst: 3, by: ip"));
    assert_eq!(gateway.get("/a").header("retry-after"), Some("60"));
    gateway.turn(MINUTE);
    assert_eq!(statuses(&gateway, "/a", "", 2), [200, 429]);
    gateway.publish(&limit("rate: 1/min, burst: 3, by: \"header:x\""));
    assert_eq!(statuses(&gateway, "/a", "", 1), [200], "another key is another count");
}

#[test]
fn an_api_that_gets_another_route_forgets_nothing_of_those_it_has() {
    let routes = ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i"].map(|path| (path, "idempotent: true"));
    let api = "rate_limit: { rate: 1/h, burst: 2, by: route }";
    let backend = Backend::status(200);
    let gateway = gateway(&yaml(api, &routes[..2]), &[("kitchen", backend.address())]);
    assert_eq!(statuses(&gateway, "/a", "", 3), [200, 200, 429]);
    gateway.publish(&yaml(api, &routes));
    assert_eq!(statuses(&gateway, "/a", "", 1), [429]);
    assert_eq!(statuses(&gateway, "/i", "", 3), [200, 200, 429]);
}

#[test]
fn two_workers_together_let_in_what_one_would() {
    let backend = Backend::status(200);
    let text = format!("workers: 2\n{}", yaml("", &[("/a", "rate_limit: { rate: 1/h, burst: 100, by: ip }")]));
    let gateway = gateway(&text, &[("kitchen", backend.address())]);
    let admitted: usize = std::thread::scope(|scope| {
        let ask = || statuses(&gateway, "/a", "", 50).into_iter().filter(|status| *status == 200).count();
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });
    assert_eq!((admitted, backend.count(), answered(&gateway, "route")), (100, 100, [100, 0, 300]));
}

#[test]
fn who_has_the_better_plan_is_served_first_where_requests_wait() {
    let latch = Latch::new();
    let backend = Backend::after(&latch, "served");
    let kitchen = "kitchen: { endpoints: [\"http://$kitchen\"], concurrency: { limit: 1 } }";
    let routes = [("/a", "idempotent: true"), ("/b", "priority: 5"), ("/special", "idempotent: true")];
    let text =
        format!("{CALLERS}{PLANS}{}", yaml("authenticate: [keys]", &routes)).replace("kitchen: \"http://$kitchen\"", kitchen);
    let files = [("keys.json", crate::jwt::jwks(&[&crate::jwt::Key::new("one")]))];
    let gateway = gateway_with(&text, &[("kitchen", backend.address())], &files);
    let mut clients: Vec<Client> = Vec::new();
    for (at, (path, who)) in
        [("/a?first", "carols-key"), ("/a?low", "carols-key"), ("/b?route", "carols-key"), ("/b?plan", "alices-key")]
            .into_iter()
            .enumerate()
    {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n", key(who)));
        match at {
            0 => backend.wait_for(1),
            _ => eventually("it waits", || gateway.queue("kitchen").waiting == at as u32),
        }
        clients.push(client);
    }
    latch.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    let served: Vec<String> = backend.requests()[1..].iter().map(|request| request.target.clone()).collect();
    assert_eq!(served, ["/b?plan", "/b?route", "/a?low"]);
}

fn planned(backend: &Backend, routes: &[(&str, &str)]) -> Gateway {
    let text = format!("{CALLERS}{PLANS}{}", yaml("authenticate: [keys]", routes));
    let files = [("keys.json", crate::jwt::jwks(&[&crate::jwt::Key::new("one")]))];
    gateway_with(&text, &[("kitchen", backend.address())], &files)
}

#[test]
fn a_plan_gives_each_of_its_consumers_so_much_on_all_routes_together_unless_it_says_otherwise() {
    let backend = Backend::status(200);
    let routes = [
        ("/a", "idempotent: true"),
        ("/b", "rate_limit: { rate: 1/h, burst: 2, by: ip }"),
        ("/special", "idempotent: true"),
        ("/open", "authenticate: none"),
    ];
    let gateway = planned(&backend, &routes);
    let first = gateway.ask("GET", "/a", &key("alices-key"), "");
    assert_eq!(told(&first, DRAFT), [Some("\"plan\";q=3;w=10800"), Some("\"plan\";r=2;t=3600"), None]);
    let second = gateway.ask("GET", "/b", &key("alices-other-key"), "");
    assert_eq!(second.headers.all("ratelimit-policy"), ["\"route\";q=2;w=7200", "\"plan\";q=3;w=10800"]);
    assert_eq!(second.header("ratelimit"), Some("\"plan\";r=1;t=7200"), "a third is less than a half");
    for (path, who, wanted) in [
        ("/a", "alices-key", &[200, 429][..]),
        ("/special", "alices-key", &[429]),
        ("/a", "bobs-key", &[200, 429]),
        ("/special", "bobs-key", &[200, 200, 429]),
        ("/a", "carols-key", &[200; 9]),
        // What bob is refused by his plan the address does not pay.
        ("/b", "bobs-key", &[429, 429, 429]),
        ("/b", "carols-key", &[200, 429]),
        ("/open", "bobs-key", &[200; 9]),
    ] {
        assert_eq!(statuses(&gateway, path, &key(who), wanted.len()), wanted, "{path} {who}");
    }
    assert_eq!((answered(&gateway, "plan:gold"), answered(&gateway, "plan:free")), ([3, 0, 2], [1, 0, 4]));
}

#[test]
fn a_plan_s_limit_may_be_waited_for_and_its_name_must_be_known() {
    let words = refused(&format!(
        "{}{PLANS}{}",
        CALLERS.replace("plan: free", "plan: fre"),
        yaml("authenticate: [keys]", &[("/a", "idempotent: true")])
    ));
    assert!(words.contains("there is no plan `fre`"), "{words}");
}

#[test]
fn http2_and_grpc_are_limited_as_everybody_is() {
    let kitchen = H2Backend::echo();
    let gateway = gateway(
        "upstreams: { kitchen: { endpoints: [\"http://$kitchen\"], protocol: h2c } }
apis: { all: { policies: { rate_limit: { rate: 1/min, burst: 2, by: ip } }, routes: [ \"ANY /{path+}\": kitchen ] } }",
        &[("kitchen", kitchen.address())],
    );
    let mut client = gateway.h2();
    let first = client.get("/a");
    assert_eq!((first.status, first.header("ratelimit")), (200, Some("\"api\";r=1;t=60")));
    assert_eq!(client.get("/a").status, 200);
    let third = client.get("/a");
    assert_eq!(
        (third.status, third.header("retry-after"), third.header("ratelimit")),
        (429, Some("60"), Some("\"api\";r=0;t=120"))
    );
    let call = client.request("POST", "/kit.Kit/Unary", &[("content-type", "application/grpc"), ("te", "trailers")], "");
    // RESOURCE_EXHAUSTED.
    assert_eq!((call.status, call.header("grpc-status"), call.header("ratelimit")), (200, Some("8"), Some("\"api\";r=0;t=120")));
}

#[test]
fn a_refusal_is_worded_as_the_api_words_all_of_them() {
    let backend = Backend::status(200);
    for (words, body) in
        [("aws_rest", "{\"message\":\"Too Many Requests\"}"), ("aws_http", "{\"message\":\"Too Many Requests\"}")]
    {
        let text = yaml("", &[("/a", "rate_limit: { rate: 1/min, burst: 1, by: ip }")])
            .replace("    policies:", &format!("    gateway_responses: {words}\n    policies:"));
        let gateway = gateway(&text, &[("kitchen", backend.address())]);
        assert_eq!(gateway.get("/a").status, 200);
        let refused = gateway.get("/a");
        assert_eq!((refused.status, refused.text().as_str(), refused.header("retry-after")), (429, body, Some("60")), "{words}");
    }
}

#[test]
fn what_limits_said_is_counted_and_who_is_refused_most_is_known() {
    let routes = [("/a", "rate_limit: { rate: 1/h, burst: 1, by: [\"header:x-tenant\", \"header:authorization\"] }")];
    let (_backend, gateway) = kitchen("rate_limit: { rate: 1/s, burst: 100, by: ip }", &routes);
    for tenant in ["a", "b", "b", "b"] {
        gateway.ask("GET", "/a", &format!("X-Tenant: {tenant}\r\nAuthorization: secret-{tenant}\r\n"), "");
    }
    assert_eq!(
        (answered(&gateway, "api"), answered(&gateway, "route")),
        ([2, 0, 0], [2, 0, 2]),
        "what is refused is counted by whom"
    );
    let limits = gateway.metrics().limits();
    let series = limits.iter().find(|series| &*series.name.limit == "route").expect("the route's limit");
    assert_eq!((&*series.name.api, &*series.name.route), ("all", "a"));
    let top = series.top.read();
    assert_eq!((top.len(), top[0].count), (1, 2));
    assert!(top[0].text.starts_with("header x-tenant b, header authorization ***"), "{top:?}");
    assert!(!top[0].text.contains("secret"), "{top:?}");
}

#[test]
fn what_a_query_holds_is_not_shown_of_who_is_refused() {
    let limit = "rate_limit: { rate: 1/h, burst: 1, by: \"cel:request.query.token\" }";
    let (_backend, gateway) = kitchen("", &[("/a", limit)]);
    assert_eq!(statuses(&gateway, "/a?token=secret", "", 2), [200, 429]);
    let limits = gateway.metrics().limits();
    let series = limits.iter().find(|series| &*series.name.limit == "route").expect("the route's limit");
    let top = series.top.read();
    assert!(top[0].text.starts_with("cel ***") && !top[0].text.contains("secret"), "{top:?}");
}

#[test]
fn a_turn_after_the_route_s_timeout_is_a_refusal_and_counted_as_one() {
    let limit = "timeout: 10s, rate_limit: { rate: 1/min, burst: 1, by: route, wait: 1min }";
    let (_backend, gateway) = kitchen("", &[("/a", limit)]);
    assert_eq!(statuses(&gateway, "/a", "", 3), [200, 429, 429]);
    assert_eq!(answered(&gateway, "route"), [1, 0, 2]);
}

#[test]
fn what_cannot_be_a_key_or_is_more_than_fits_is_said_at_load() {
    let backend = Backend::status(200);
    let (_kitchen, gateway) = kitchen("", &[("/a", "idempotent: true")]);
    for (limit, words) in [
        ("{ rate: 1/s, by: \"cel:request.nothing\" }", "bad-expression"),
        ("{ rate: 1/s, by: \"cel:request.headers\" }", "a map where it needs a text"),
        ("{ rate: 1/s, by: \"cel:path.id\" }", "unknown-parameter"),
    ] {
        let refused = gateway.try_publish(&yaml("", &[("/a", &format!("rate_limit: {limit}"))])).expect_err(limit);
        assert!(refused.contains(words), "{limit}: {refused}");
    }
    let huge = "rate_limit: { rate: 1/s, by: ip, keys_max: 16000000 }";
    let paths: Vec<String> = (0..20).map(|at| format!("/r{at}")).collect();
    let routes: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), huge)).collect();
    let refused = gateway.try_publish(&yaml("", &routes)).expect_err("twenty times a GiB");
    assert!(refused.contains("too-large"), "{refused}");
    drop(backend);
}
