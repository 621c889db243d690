//! What whoever comes in must be, and what back ends, logs and counters get to know of who it was.

use maitred_testkit::{Backend, Folder, Gateway, eventually, gateway};
use serde_json::Value;

const KITCHEN: &str = "upstreams: { kitchen: \"http://$kitchen\" }
limits: { underscores: allow }
authorizers:
  keys: { api_key: {} }
  query: { api_key: { in: query, name: key } }
consumers:
  alice: { groups: [staff, cooks], api_keys: [alices-key, alices-other-key] }
  bob: { api_keys: [bobs-key] }
  eve: { groups: [\"a,admin\"], api_keys: [eves-key] }
apis:
  all:
    policies:
      authenticate: [keys, query]
      transform:
        request: { headers: { set: { x-user: \"{principal.subject}\", x-groups: \"{principal.groups}\", x-tenant: \"for {claims.tenant}\" } } }
        response: { headers: { set: { x-served: \"{consumer}\" } } }
    routes:
      - GET /: kitchen
      - { match: ANY /open, authenticate: none, proxy: kitchen }
      - { match: ANY /bare, authenticate: none, transform: {}, proxy: kitchen }
      - { match: GET /perhaps, authenticate: [keys, anonymous], proxy: kitchen }
      - { match: GET /routed, when: { headers: { x-user: admin } }, authenticate: none, respond: { status: 204 } }
      - { match: GET /members, authenticate: [keys, anonymous], authorize: { groups: [staff] }, proxy: kitchen }
      - match: \"GET /of/{owner}\"
        authorize: { condition: \"path.owner == consumer.name || 'staff' in principal.groups\" }
        proxy: kitchen
      - match: GET /both
        authorize: { condition: [\"principal.authorizer == 'keys'\", \"request.query.v == '2' && request.headers['x-a'] == 'b'\"] }
        proxy: kitchen
      - { match: GET /moved, rewrite: \"/u/{consumer}/x\", proxy: kitchen }
      - { match: GET /perhaps/moved, authenticate: [keys, anonymous], rewrite: \"/u/{consumer}/x\", proxy: kitchen }
";

fn kitchen() -> (Backend, Gateway) {
    let backend = Backend::echo();
    let gateway = gateway(KITCHEN, &[("kitchen", backend.address())]);
    (backend, gateway)
}

const ALICE: &str = "X-Api-Key: alices-key\r\n";
const BOB: &str = "X-Api-Key: bobs-key\r\n";

#[test]
fn a_condition_lets_in_whom_it_holds_for_and_nobody_else() {
    let (backend, gateway) = kitchen();
    for (target, headers, status) in [
        ("/of/bob", BOB, 200),
        ("/of/b%6Fb", BOB, 200),
        ("/of/alice", BOB, 403),
        ("/of/bob", ALICE, 200),
        ("/of/bob", "", 401),
        ("/both?v=2", "X-Api-Key: bobs-key\r\nX-A: b\r\n", 200),
        ("/both?v=2&v=2", "X-Api-Key: bobs-key\r\nX-A: b\r\n", 403),
        ("/both?v=2", "X-Api-Key: bobs-key\r\nX-A: b\r\nX-A: b\r\n", 403),
        ("/both?v=2", BOB, 403),
        ("/both", "X-Api-Key: bobs-key\r\nX-A: b\r\n", 403),
        ("/both?v=2&key=bobs-key", "X-A: b\r\n", 403),
    ] {
        assert_eq!(gateway.ask("GET", target, headers, "").status, status, "{target} {headers:?}");
    }
    assert_eq!(backend.count(), 4);
    let refused = gateway.ask("GET", "/of/alice", BOB, "");
    let body = refused.text();
    assert!(body.contains("urn:maitred:fault:forbidden") && !body.contains("owner") && !body.contains("condition"), "{body}");
}

#[test]
fn who_showed_nothing_may_show_something_and_who_lacks_something_may_not() {
    let (_backend, gateway) = kitchen();
    assert_eq!(gateway.ask("GET", "/members", ALICE, "").status, 200);
    assert_eq!(gateway.ask("GET", "/members", BOB, "").status, 403);
    let nobody = gateway.ask("GET", "/members", "", "");
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, Some("ApiKey in=\"header\", name=\"x-api-key\"")));
}

#[test]
fn a_condition_that_cannot_be_asked_is_refused_at_load() {
    let (_backend, gateway) = kitchen();
    let with = |condition: &str| KITCHEN.replace("path.owner == consumer.name", condition);
    for (condition, code, words) in [
        ("path.ownre == consumer.name", "unknown-parameter", "no parameter `{ownre}`"),
        ("pth.owner == consumer.name", "bad-condition", "did you mean `path`?"),
        ("consumer.groups.all(a, consumer.groups.all(b, a == b))", "bad-condition", "a loop inside a loop"),
        ("path.owner ==", "bad-condition", "cannot be read"),
        ("consumer.name", "bad-condition", "has a text where it needs true or false"),
    ] {
        let refusal = gateway.try_publish(&with(condition)).expect_err(condition);
        assert!(refusal.contains(code) && refusal.contains(words), "{condition}: {refusal}");
    }
    gateway.publish(&with("(has(path.other) && path.other == path.owner)"));
    assert_eq!(gateway.ask("GET", "/of/bob", BOB, "").status, 403);
}

#[test]
fn no_client_can_say_who_it_is_on_any_route() {
    let (backend, gateway) = kitchen();
    let spoofed =
        "x-user: admin\r\nX-USER: admin\r\nx_user: admin\r\nX-Groups: admin\r\nx_groups: admin\r\nX-Tenant: t\r\nX-Other: 1\r\n";
    let told = |name: &str| backend.last().headers.all(name).join("|");
    for (target, credential, user, groups) in [
        ("/", ALICE, "alice", "staff,cooks"),
        ("/", BOB, "bob", ""),
        // A name that would read as two is none.
        ("/", "X-Api-Key: eves-key\r\n", "eve", ""),
        ("/perhaps", "", "", ""),
        ("/open", "", "", ""),
        ("/bare", "", "", ""),
        ("/open", ALICE, "", ""),
    ] {
        for method in ["GET", "POST"].into_iter().filter(|method| *method == "GET" || target.len() == 5) {
            let headers = format!("{spoofed}{credential}");
            assert_eq!(gateway.ask(method, target, &headers, "").status, 200, "{target} {credential:?}");
            assert_eq!((told("x-user"), told("x_user")), (user.to_owned(), String::new()), "{target} {credential:?}");
            assert_eq!((told("x-groups"), told("x_groups")), (groups.to_owned(), String::new()), "{target} {credential:?}");
            assert_eq!((told("x-tenant"), told("x-other")), (String::new(), "1".to_owned()), "{target} {credential:?}");
        }
    }
    // Nor have it taken away on the way, as what ends at this hop is.
    for connection in ["x-user", "close, X-User", "keep-alive, x_user"] {
        gateway.ask("GET", "/", &format!("{ALICE}Connection: {connection}\r\nX-User: admin\r\n"), "");
        assert_eq!(told("x-user"), "alice", "{connection}");
    }
    // Nor be led by it where routes are chosen.
    assert_eq!(gateway.ask("GET", "/routed", "X-User: admin\r\n", "").status, 404);
    // Nor at the end of a body.
    let mut client = gateway.client();
    client.send(
        "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-user\r\n\r\n1\r\na\r\n0\r\nX-User: admin\r\nX-Sum: 1\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    assert!(!backend.last().trailers.has("x-user") && backend.last().trailers.has("x-sum"), "{:?}", backend.last().trailers);
    let mut h2 = gateway.h2();
    for path in ["/open", "/bare"] {
        assert_eq!(h2.request("POST", path, &[("x-user", "admin"), ("x-other", "1")], "body").status, 200);
        assert_eq!((told("x-user"), told("x-other")), (String::new(), "1".to_owned()));
        assert_eq!(backend.last().body, b"body");
    }
}

#[test]
fn a_client_and_an_address_get_to_know_who_it_was() {
    let (backend, gateway) = kitchen();
    assert_eq!(gateway.ask("GET", "/", ALICE, "").header("x-served"), Some("alice"));
    assert_eq!(gateway.ask("GET", "/", "", "").header("x-served"), None);
    assert_eq!(gateway.ask("GET", "/moved?v=1", ALICE, "").status, 200);
    assert_eq!(backend.last().target, "/u/alice/x?v=1");
    let count = backend.count();
    assert_eq!(gateway.ask("GET", "/perhaps/moved", "", "").status, 403, "no half address");
    assert_eq!(backend.count(), count);
}

#[test]
fn the_log_says_who_it_was_and_not_by_what() {
    let folder = Folder::new();
    let path = folder.path("access.log");
    let yaml = format!("telemetry: {{ access_log: {{ to: {} }} }}\n{KITCHEN}", path.display());
    let backend = Backend::echo();
    let gateway = gateway(&yaml, &[("kitchen", backend.address())]);
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    let asked = [
        ("/?v=1&k%65y=alices-key&w=2", "", Some("alice"), "query", "/?v=1&k%65y=***&w=2"),
        ("/", BOB, Some("bob"), "keys", "/"),
        ("/of/alice", BOB, Some("bob"), "keys", "/of/alice"),
        ("/?key=wrong-key", "", None, "", "/?key=***"),
        ("/none?key=alices-key", "", None, "", "/none?key=***"),
        ("/perhaps", "", None, "", "/perhaps"),
    ];
    for (count, (target, headers, consumer, authorizer, shown)) in asked.into_iter().enumerate() {
        gateway.ask("GET", target, headers, "");
        eventually("the line is written", || lines().lines().count() == count + 1);
        let line: Value = serde_json::from_str(lines().lines().last().expect("a line")).expect("JSON");
        assert_eq!(line["path"], shown);
        let who = |text: Option<&str>| text.map_or(Value::Null, |text| text.into());
        assert_eq!((&line["consumer"], &line["subject"]), (&who(consumer), &who(consumer)), "{line}");
        assert_eq!(line["authorizer"], who(consumer.map(|_| authorizer)), "{line}");
    }
    assert!(lines().contains("the condition `path.owner"), "why it was refused");
    assert!(!["alices-key", "bobs-key", "wrong-key"].iter().any(|key| lines().contains(key)), "{}", lines());
}

#[test]
fn what_authorizers_decide_is_counted() {
    let (_backend, gateway) = kitchen();
    for (target, headers) in [("/", ALICE), ("/", ALICE), ("/", "X-Api-Key: wrong\r\n"), ("/", ""), ("/of/alice", BOB)] {
        gateway.ask("GET", target, headers, "");
    }
    let counts = || gateway.metrics().authorizers().iter().map(|one| (one.name.to_string(), one.counts())).collect::<Vec<_>>();
    eventually("all are counted", || counts() == [("keys".to_owned(), [3, 1, 0, 1]), ("query".to_owned(), [0; 4])]);
}

#[test]
fn the_requests_of_a_consumer_go_where_its_others_went() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let consumers: String = (0..12).map(|at| format!("  c{at}: {{ api_keys: [key-{at}-a, key-{at}-b] }}\n")).collect();
    let yaml = format!(
        "upstreams: {{ both: {{ endpoints: [\"http://$one\", \"http://$two\"], balance: maglev, hash_by: consumer }} }}
authorizers: {{ keys: {{ api_key: {{}} }} }}
consumers:
{consumers}apis: {{ all: {{ policies: {{ authenticate: [keys] }}, routes: [GET /: both] }} }}"
    );
    let gateway = gateway(&yaml, &[("one", one.address()), ("two", two.address())]);
    let by = |key: String| gateway.ask("GET", "/", &format!("X-Api-Key: {key}\r\n"), "").text();
    let places: Vec<String> = (0..12).map(|at| by(format!("key-{at}-a"))).collect();
    for (at, place) in places.iter().enumerate() {
        assert_eq!(by(format!("key-{at}-b")), *place, "whichever of its keys it shows");
    }
    assert!(places.iter().any(|place| *place != places[0]), "all went to one");
}
