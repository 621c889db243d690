//! Policies in Cedar: who gets in, what a client is told of why not, and what a changed file changes.

use maitred_testkit::{Backend, Folder, Gateway, eventually, gateway_with};
use serde_json::Value;

const SCHEMA: &str = "
entity Group;
entity User in [Group] { authorizer: String };
entity Order { owner: User };
entity Route;
type Request = { method: String, client_ip: ipaddr, headers: { \"x-team\"?: String } };
action GetOrder appliesTo { principal: User, resource: Order, context: { request: Request, path: { id: String } } };
action GET, POST appliesTo { principal: User, resource: Route, context: { request: Request } };
";

const POLICIES: &str = "
@id(\"own-orders\")
permit (principal, action == Action::\"GetOrder\", resource) when { resource.owner == principal };
@id(\"staff\")
permit (principal in Group::\"staff\", action, resource);
@id(\"not-the-ninth\")
forbid (principal, action == Action::\"GetOrder\", resource == Order::\"9\");
permit (principal, action == Action::\"GET\", resource == Route::\"GET /menu\");
";

const ENTITIES: &str = r#"[
  { "uid": { "type": "Order", "id": "7" }, "attrs": { "owner": { "type": "User", "id": "bob" } }, "parents": [] },
  { "uid": { "type": "Order", "id": "a/b" }, "attrs": { "owner": { "type": "User", "id": "bob" } }, "parents": [] }
]"#;

const KITCHEN: &str = "upstreams: { kitchen: \"http://$kitchen\" }
authorizers: { keys: { api_key: {} } }
consumers:
  alice: { groups: [staff], api_keys: [alices-key] }
  bob: { api_keys: [bobs-key] }
apis:
  all:
    policies: { authenticate: [keys, anonymous] }
    routes:
      - match: \"GET /orders/{id}\"
        authorize: { cedar: { policies: \"policies/*.cedar\", schema: kitchen.cedarschema, entities: entities.json, action: GetOrder, resource: 'Order::\"{id}\"' } }
        proxy: kitchen
      - { match: GET /menu, authorize: { cedar: { policies: policies/kitchen.cedar, schema: kitchen.cedarschema } }, proxy: kitchen }
      - { match: \"GET,POST /menus\", authorize: { cedar: { policies: policies/kitchen.cedar, schema: kitchen.cedarschema, resource: 'Route::\"GET /menu\"' } }, proxy: kitchen }
";

fn files(policies: &str) -> Vec<(&'static str, String)> {
    vec![
        ("kitchen.cedarschema", SCHEMA.to_owned()),
        ("policies/kitchen.cedar", policies.to_owned()),
        ("entities.json", ENTITIES.to_owned()),
    ]
}

fn kitchen(yaml: &str) -> (Backend, Gateway) {
    let backend = Backend::echo();
    let gateway = gateway_with(yaml, &[("kitchen", backend.address())], &files(POLICIES));
    (backend, gateway)
}

const ALICE: &str = "X-Api-Key: alices-key\r\n";
const BOB: &str = "X-Api-Key: bobs-key\r\n";

#[test]
fn policies_let_in_whom_they_permit_and_nobody_else() {
    let (backend, gateway) = kitchen(KITCHEN);
    for (method, target, headers, status) in [
        ("GET", "/orders/7", BOB, 200),
        ("HEAD", "/orders/7", BOB, 200),
        ("GET", "/orders/%37", BOB, 200),
        ("GET", "/orders/a%2Fb", BOB, 200),
        ("GET", "/orders/8", BOB, 403),
        ("GET", "/orders/8", ALICE, 200),
        ("GET", "/orders/9", ALICE, 403),
        ("GET", "/orders/7", "", 401),
        ("GET", "/orders/%ff", ALICE, 403),
        ("GET", "/menu", BOB, 200),
        ("HEAD", "/menu", BOB, 200),
        ("GET", "/menus", BOB, 200),
        ("POST", "/menus", BOB, 403),
        ("POST", "/menus", ALICE, 200),
    ] {
        assert_eq!(gateway.ask(method, target, headers, "").status, status, "{method} {target} {headers:?}");
    }
    assert_eq!(backend.count(), 9);
    let refused = gateway.ask("GET", "/orders/9", ALICE, "");
    let body = refused.text();
    assert!(body.contains("urn:maitred:fault:forbidden") && !body.contains("ninth") && !body.contains("policy"), "{body}");
}

#[test]
fn what_an_api_and_what_a_route_ask_must_both_permit() {
    let policies = "policies: { authenticate: [keys], authorize: { cedar: { policies: more.cedar, schema: kitchen.cedarschema, action: GET, resource: 'Route::\"all\"' } } }";
    let yaml = KITCHEN.replace("policies: { authenticate: [keys, anonymous] }", policies);
    let yaml = yaml.lines().filter(|line| !line.contains("/menu")).map(|line| format!("{line}\n")).collect::<String>();
    let backend = Backend::echo();
    let more = "permit (principal, action, resource == Route::\"all\") when { context.request.headers has \"x-team\" };";
    let files = [files(POLICIES), vec![("more.cedar", more.to_owned())]].concat();
    let gateway = gateway_with(&yaml, &[("kitchen", backend.address())], &files);
    for (target, headers, status) in [
        ("/orders/7", BOB, 403),
        ("/orders/7", "X-Api-Key: bobs-key\r\nX-Team: a\r\n", 200),
        ("/orders/8", "X-Api-Key: bobs-key\r\nX-Team: a\r\n", 403),
    ] {
        assert_eq!(gateway.ask("GET", target, headers, "").status, status, "{target} {headers:?}");
    }
}

#[test]
fn a_policy_that_was_changed_is_in_force_and_a_broken_one_changes_nothing() {
    let (_backend, gateway) = kitchen(KITCHEN);
    assert_eq!(gateway.ask("GET", "/orders/8", BOB, "").status, 403);
    let broken = gateway.try_publish_with(KITCHEN, &[("policies/kitchen.cedar", "permit (principal, action);".to_owned())]);
    let words = broken.expect_err("a policy that cannot be read");
    assert!(words.contains("bad-policy") && words.contains("missing the `resource` variable"), "{words}");
    assert_eq!(gateway.ask("GET", "/orders/7", BOB, "").status, 200);
    let more = "permit (principal == User::\"bob\", action == Action::\"GetOrder\", resource == Order::\"8\");";
    let good = ("policies/kitchen.cedar", POLICIES.to_owned());
    gateway.publish_with(KITCHEN, &[good, ("policies/more.cedar", more.to_owned())]);
    assert_eq!(gateway.ask("GET", "/orders/8", BOB, "").status, 200);
    gateway.publish_with(KITCHEN, &[("policies/kitchen.cedar", "forbid (principal, action, resource);".to_owned())]);
    assert_eq!(gateway.ask("GET", "/orders/8", BOB, "").status, 403);
    let schema = SCHEMA.replace("GetOrder", "FetchOrder");
    let words = gateway.try_publish_with(KITCHEN, &[("kitchen.cedarschema", schema)]).expect_err("there is no such action");
    assert!(words.contains("unrecognized action `Action::\\\"GetOrder\\\"`"), "{words}");
}

#[test]
fn the_access_log_says_which_policy_it_was() {
    let folder = Folder::new();
    let path = folder.path("access.log");
    let (_backend, gateway) = kitchen(&format!("telemetry: {{ access_log: {{ to: {} }} }}\n{KITCHEN}", path.display()));
    for target in ["/orders/9", "/orders/8"] {
        assert_eq!(gateway.ask("GET", target, if target.ends_with('9') { ALICE } else { BOB }, "").status, 403);
    }
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("two lines", || read().matches('\n').count() == 2);
    let details: Vec<String> = read()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["detail"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(details, ["the policy `not-the-ninth` forbids it", "no policy permits it"]);
}

#[test]
fn somebody_of_a_suspended_group_is_kept_out() {
    let schema = "entity Group; namespace Kitchen { entity User in [Group]; entity Route; action GET appliesTo { principal: User, resource: Route }; }";
    let policies = "permit (principal, action == Kitchen::Action::\"GET\", resource);
forbid (principal in Group::\"suspended\", action == Kitchen::Action::\"GET\", resource);";
    let yaml = "upstreams: { kitchen: \"http://$kitchen\" }
authorizers: { keys: { api_key: {} } }
consumers:
  alice: { groups: [staff, suspended], api_keys: [alices-key] }
  bob: { groups: [staff], api_keys: [bobs-key] }
apis:
  all:
    policies: { authenticate: [keys] }
    routes:
      - { match: GET /menu, authorize: { cedar: { policies: p.cedar, schema: s.cedarschema, principal: 'Kitchen::User' } }, proxy: kitchen }
";
    let backend = Backend::echo();
    let files = [("p.cedar", policies.to_owned()), ("s.cedarschema", schema.to_owned())];
    let gateway = gateway_with(yaml, &[("kitchen", backend.address())], &files);
    assert_eq!(gateway.ask("GET", "/menu", BOB, "").status, 200);
    assert_eq!(gateway.ask("GET", "/menu", ALICE, "").status, 403);
    // By way of teams nobody is given groups, and so it would let her in.
    let teams = schema.replace("User in [Group]", "Team in [Group]; entity User in [Team]");
    let words = gateway.try_publish_with(yaml, &[("s.cedarschema", teams)]).expect_err("groups that nobody gives");
    assert!(words.contains("bad-schema") && words.contains("is given no groups that way"), "{words}");
    assert_eq!(gateway.ask("GET", "/menu", ALICE, "").status, 403);
    assert_eq!(backend.count(), 1);
}
