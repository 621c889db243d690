//! Policies over requests, what is said of wrong ones, and what the worst of them cost. The texts of `tests/cedar` are shared with the
//! golden files.

use super::{Decisions, Library, Naming, Rule};
use crate::authorize::given::Given;
use crate::authorize::tests::{alice, exchange};
use maitred_core::{Exchange, Principal};
use maitred_model::{Api, Authenticate, Diagnostics, Files, Memory, Setting, Sources, load, load_text, render};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cedar")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect("readable")
}

/// The rules of a document's routes, and all that is said of them.
fn rules(loaded: maitred_model::Loaded) -> (Vec<Option<Rule>>, String) {
    rules_told(loaded, Arc::default())
}

fn rules_told(loaded: maitred_model::Loaded, decisions: Arc<Decisions>) -> (Vec<Option<Rule>>, String) {
    let (mut diagnostics, files): (Diagnostics, Files) = (loaded.diagnostics, loaded.files);
    let mut rules = Vec::new();
    if let Some(document) = &loaded.document {
        let mut library = Library::new(decisions);
        for (name, api) in &document.apis {
            rules.extend(of_api(name, &api.value, &mut library, &mut diagnostics));
        }
    }
    diagnostics.sort();
    (rules, render(&diagnostics, &files, false))
}

fn of_api(name: &str, api: &Api, library: &mut Library, diagnostics: &mut Diagnostics) -> Vec<Option<Rule>> {
    let mut rules = Vec::new();
    for route in &api.routes {
        let Some(Setting::Some(authorize)) = route.policies.authorize.as_ref().or(api.policies.authorize.as_ref()) else {
            continue;
        };
        let Some(cedar) = &authorize.cedar else { continue };
        library.load(cedar, diagnostics);
        let own = route.name.as_ref().map(|name| name.value.as_str());
        let params: Vec<&str> = route.matcher.path.params().collect();
        let decides = route.policies.authenticate.as_ref().or(api.policies.authenticate.as_ref());
        let authorizers: Vec<&str> = match decides.map(|decides| &decides.value) {
            Some(Authenticate::Any { authorizers, .. }) => authorizers.iter().map(|name| name.value.as_str()).collect(),
            Some(Authenticate::Open) | None => Vec::new(),
        };
        let naming = Naming {
            api: &name.into(),
            route: &own.unwrap_or(&route.matcher.path.source).into(),
            own,
            methods: &route.matcher.methods,
            params: &params,
            authorizers: &authorizers,
            span: route.matcher.span,
        };
        rules.push(library.rule(cedar, &naming, diagnostics));
    }
    rules
}

/// The rule of one route, over these policies and this schema.
fn rule_of(policies: &str, schema: &str, cedar: &str, path: &str) -> Result<Rule, String> {
    let files = Memory::default().file("p.cedar", policies).file("s.cedarschema", schema).file("e.json", text("entities.json"));
    rule_over(&files, cedar, path, Arc::default())
}

fn rule_over(files: &Memory, cedar: &str, path: &str, decisions: Arc<Decisions>) -> Result<Rule, String> {
    let yaml = format!(
        "listen: 127.0.0.1:0
authorizers: {{ keys: {{ api_key: {{}} }} }}
apis: {{ a: {{ policies: {{ authenticate: [keys] }}, routes: [ {{ match: \"{path}\", respond: {{ status: 204 }}, authorize: {{ cedar: {{ policies: p.cedar, schema: s.cedarschema, {cedar} }} }} }} ] }} }}"
    );
    let (mut rules, words) = rules_told(load_text("test.yaml", &yaml, files), decisions);
    rules.pop().flatten().ok_or(words)
}

const ORDER: &str = "action: GetOrder, resource: 'Order::\"{id}\"', entities: e.json";
const PATH: &str = "GET /orders/{id}";

/// Of policies about every action those that the schema would have nothing to say on are about this one.
fn kitchen(policies: &str) -> Rule {
    let policies = &policies.replace("(principal, action, resource", "(principal, action == Action::\"GetOrder\", resource");
    rule_of(policies, &text("kitchen.cedarschema"), ORDER, PATH).unwrap_or_else(|words| panic!("{words}"))
}

/// With the path's last segment as its parameter.
fn asked(target: &str) -> Exchange {
    let head = format!("GET {target} HTTP/1.1\r\nHost: API.example.com\r\nX-Team: one\r\nx-team: two\r\n");
    let mut exchange = exchange(&head);
    let path = exchange.request.path;
    let text = exchange.request.path().to_vec();
    let at = text.iter().rposition(|&byte| byte == b'/').expect("a path") + 1;
    exchange.params[0] = maitred_core::wire::Slice::new(path.start as usize + at, path.start as usize + text.len());
    exchange.params_len = 1;
    exchange.forwarded.client = "10.1.2.3".parse().expect("an address");
    exchange
}

fn judge(rule: &Rule, target: &str, principal: &Principal) -> Result<(), String> {
    let given = Given { exchange: &asked(target), principal, params: &["id".into()], time: 1_700_000_000 };
    rule.judge(&given).map_err(|why| why.into_owned())
}

fn named(subject: &str) -> Principal {
    Principal { subject: Some(subject.into()), groups: Box::default(), ..alice() }
}

#[test]
fn policies_see_who_asks_for_what() {
    let bob = named("bob");
    for (condition, principal, holds) in [
        ("principal == User::\"alice\" && principal.authorizer == \"staff\"", &alice(), true),
        ("principal has consumer && principal.consumer == \"alice-inc\"", &alice(), true),
        ("principal in Group::\"staff\" && principal in Group::\"paying\"", &alice(), true),
        ("principal in Group::\"staff\"", &bob, false),
        ("principal.claims has tenant && principal.claims.tenant == \"acme\"", &bob, true),
        ("resource == Order::\"7\" && resource in Tenant::\"acme\" && resource.total == 20", &bob, true),
        ("resource.owner == principal", &alice(), true),
        ("resource.owner == principal", &bob, false),
        ("action in Action::\"reading\" && action == Action::\"GetOrder\"", &bob, true),
        ("context.request.method == \"GET\" && context.request.scheme == \"http\"", &bob, true),
        ("context.request.path == \"/orders/7\" && context.request.host == \"api.example.com\"", &bob, true),
        ("context.request.client_ip.isInRange(ip(\"10.0.0.0/8\"))", &bob, true),
        ("context.request.client_ip == ip(\"10.1.2.4\")", &bob, false),
        ("context.request.time == datetime(\"2023-11-14T22:13:20Z\")", &bob, true),
        ("context.request.headers has \"x-team\" && context.request.headers[\"x-team\"] == \"one, two\"", &bob, true),
        ("context.request.query has v && context.request.query.v == \"2,3\"", &bob, true),
        ("context.path.id == \"7\"", &bob, true),
        ("context.scopes.contains(\"orders:read\")", &bob, true),
        ("context.claims has level && context.claims.level == 3 && context.claims has admin && context.claims.admin", &bob, true),
        ("context.claims has roles && context.claims.roles.containsAll([\"cook\", \"waiter\"])", &bob, true),
        ("context.claims has realm && context.claims.realm.role == \"chef\"", &bob, true),
        ("context has consumer && context.consumer.groups.contains(\"paying\")", &bob, true),
        ("context.claims has tenant && context.claims.tenant like \"*cm*\"", &bob, true),
    ] {
        let rule = kitchen(&format!("permit (principal, action, resource) when {{ {condition} }};"));
        assert_eq!(judge(&rule, "/orders/7?v=2&v=3", principal).is_ok(), holds, "{condition}");
    }
}

#[test]
fn all_of_a_set_decides_and_what_forbids_wins() {
    let rule = kitchen(&text("kitchen.cedar"));
    for (target, principal, words) in [
        ("/orders/7", &alice(), ""),
        ("/orders/8", &alice(), ""),
        ("/orders/8", &named("bob"), ""),
        ("/orders/%38", &named("bob"), ""),
        ("/orders/7", &named("bob"), "no policy permits it"),
        // Nobody knows whose it is.
        ("/orders/9", &named("bob"), "no policy permits it"),
        ("/orders/%ff", &alice(), "the resource's name is no UTF-8"),
        ("/orders/7", &Principal { subject: None, ..alice() }, "names nobody"),
        ("/orders/7", &Principal::anonymous(), "names nobody"),
        ("/orders/8", &named(""), "names nobody"),
    ] {
        let judged = judge(&rule, target, principal);
        assert_eq!(judged.is_ok(), words.is_empty(), "{target}: {judged:?}");
        assert!(judged.is_ok() || judged.as_ref().is_err_and(|why| why.contains(words)), "{target}: {judged:?}");
    }
    let forbid =
        "permit (principal, action, resource);\n@id(\"not-seven\") forbid (principal, action, resource == Order::\"7\");";
    assert_eq!(judge(&kitchen(forbid), "/orders/7", &alice()), Err("the policy `not-seven` forbids it".to_owned()));
    assert_eq!(judge(&kitchen(forbid), "/orders/8", &alice()), Ok(()));
}

#[test]
fn what_forbids_and_cannot_be_evaluated_forbids() {
    let policies = "permit (principal, action, resource);\nforbid (principal, action, resource) when { resource.total > 100 };";
    let rule = kitchen(policies);
    assert_eq!(judge(&rule, "/orders/7", &alice()), Ok(()));
    let why = judge(&rule, "/orders/unknown", &alice()).expect_err("its total is not known");
    assert_eq!(why, "the policy `p.cedar:2`, which may forbid it, asks an entity that is not there");
    // What permits and cannot be evaluated permits nothing.
    let rule = kitchen("permit (principal, action, resource) when { resource.total + 9223372036854775807 > 0 };");
    assert_eq!(judge(&rule, "/orders/7", &alice()), Err("no policy permits it".to_owned()));
}

#[test]
fn what_does_not_fit_the_schema_is_a_deny() {
    let rule = kitchen("permit (principal, action, resource);");
    let with = |claims: Value| {
        let Value::Object(claims) = claims else { unreachable!() };
        Principal { claims, ..alice() }
    };
    for (claims, words) in [
        (json!({}), ""),
        (json!({ "level": null, "unknown": { "to": ["the", "schema"] } }), ""),
        (json!({ "level": "3" }), "`context.claims.level` is no `Long`"),
        (json!({ "level": 3.5 }), "`context.claims.level` is no `Long`"),
        (json!({ "tenant": 3 }), "`context.claims.tenant` is no `String`"),
        (json!({ "tenant": ["acme"] }), "`context.claims.tenant` is no `String`"),
        (json!({ "roles": "cook" }), "`context.claims.roles` is no `Set<String>`"),
        (json!({ "roles": ["cook", 1] }), "`context.claims.roles` is no `String`"),
        (json!({ "realm": {} }), "`context.claims.realm.role` is not there"),
        (json!({ "realm": "chef" }), "`context.claims.realm` is no `Record`"),
        (json!({ "admin": "true" }), "`context.claims.admin` is no `Bool`"),
        (json!({ "tenant": "x".repeat(70_000) }), "`context.claims.tenant` is more than policies may look at"),
        (json!({ "roles": vec!["x"; 1_001] }), "`context.claims.roles` is more than policies may look at"),
    ] {
        let judged = judge(&rule, "/orders/7", &with(claims.clone()));
        assert_eq!(judged.is_ok(), words.is_empty(), "{claims}: {judged:?}");
        assert!(judged.is_ok() || judged.as_ref().is_err_and(|why| why.ends_with(words)), "{claims}: {judged:?}");
    }
    let secret = with(json!({ "level": "hunter2" }));
    assert!(judge(&rule, "/orders/7", &secret).is_err_and(|why| !why.contains("hunter2")));
}

#[test]
fn no_two_resources_have_one_name() {
    let schema = text("kitchen.cedarschema");
    let rule = rule_of(
        "permit (principal, action, resource);",
        &schema,
        "entities: e.json, action: GetOrder, resource: 'Order::\"{id}/{id}\"'",
        PATH,
    );
    let rule = rule.unwrap_or_else(|words| panic!("{words}"));
    assert_eq!(judge(&rule, "/orders/a", &alice()), Ok(()));
    let why = judge(&rule, "/orders/a%2Fb", &alice()).expect_err("`a/b` could be two parts");
    assert!(why.contains("what ends that part"), "{why}");
    // (`x:`, `y`) and (`x`, `:y`) would both be `x:::y`.
    for (between, taken, refused) in [
        ("::", ["x", ":x", "x:y", "-"], ["x:", ":", "x::y", "::"]),
        ("--", ["x", "-x", "x-y", ":"], ["x-", "-", "x--y", "--"]),
        ("-x-", ["x", "-", "x-", "x-y"], ["-x", "y-x", "-x-", "a-x-b"]),
    ] {
        let cedar = format!("entities: e.json, action: GetOrder, resource: 'Order::\"{{id}}{between}{{id}}\"'");
        let rule =
            rule_of("permit (principal, action, resource);", &schema, &cedar, PATH).unwrap_or_else(|words| panic!("{words}"));
        for id in taken {
            assert_eq!(judge(&rule, &format!("/orders/{id}"), &alice()), Ok(()), "{between} {id}");
        }
        for id in refused {
            let why = judge(&rule, &format!("/orders/{id}"), &alice()).expect_err(id);
            assert!(why.contains("what ends that part"), "{between} {id}: {why}");
        }
    }
}

#[test]
fn an_action_is_named_or_is_the_method() {
    let schema = text("kitchen.cedarschema");
    let policies = "permit (principal, action == Action::\"GET\", resource == Route::\"/orders/{id}\");";
    for (path, method, words) in [
        ("GET,POST /orders/{id}", "GET", ""),
        ("GET,POST /orders/{id}", "HEAD", ""),
        ("GET,POST /orders/{id}", "POST", "no policy permits it"),
        ("ANY /orders/{id}", "GET", ""),
        ("ANY /orders/{id}", "PURGE", "no action for the method"),
    ] {
        let rule = rule_of(policies, &schema, "log: all", path).unwrap_or_else(|words| panic!("{path}: {words}"));
        let exchange = exchange(&format!("{method} /orders/7 HTTP/1.1\r\nHost: a\r\n"));
        let judged = rule.judge(&Given { exchange: &exchange, principal: &alice(), params: &[], time: 0 });
        assert_eq!(judged.is_ok(), words.is_empty(), "{path} {method}: {judged:?}");
        assert!(judged.is_ok() || judged.is_err_and(|why| why.contains(words)), "{path} {method}");
    }
}

#[test]
fn an_entity_of_the_file_adds_to_what_is_known() {
    let schema =
        "entity Team; entity Group in [Team]; entity User in [Group, Team] { authorizer: String, desk: Long, boss?: User };
        entity Route; action GET appliesTo { principal: User, resource: Route };";
    let yaml = "listen: 127.0.0.1:0
authorizers: { keys: { api_key: {} } }
apis: { a: { policies: { authenticate: [keys] }, routes: [ { match: GET /x, respond: { status: 204 }, authorize: { cedar: { policies: p.cedar, schema: s, entities: e.json } } } ] } }";
    let entities = json!([
        { "uid": { "type": "User", "id": "alice" }, "attrs": { "authorizer": "of the file", "desk": 7, "boss": { "type": "User", "id": "carol" } },
          "parents": [{ "type": "Team", "id": "late" }] },
        { "uid": { "type": "User", "id": "carol" }, "attrs": { "authorizer": "none", "desk": 1 }, "parents": [] },
        { "uid": { "type": "Group", "id": "staff" }, "attrs": {}, "parents": [{ "type": "Team", "id": "house" }] },
    ]);
    let judged = |condition: &str, principal: &Principal| {
        let policies = format!("permit (principal, action, resource) when {{ {condition} }};");
        let files = Memory::default().file("p.cedar", policies).file("s", schema).file("e.json", entities.to_string());
        let (mut rules, words) = rules(load_text("test.yaml", yaml, &files));
        let rule = rules.pop().flatten().unwrap_or_else(|| panic!("{words}"));
        let exchange = exchange("GET /x HTTP/1.1\r\nHost: a\r\n");
        rule.judge(&Given { exchange: &exchange, principal, params: &[], time: 0 }).map_err(|why| why.into_owned())
    };
    for condition in [
        "principal.desk == 7 && principal.authorizer == \"staff\"",
        "principal has boss && principal.boss.desk == 1",
        "principal in Team::\"late\" && principal in Team::\"house\" && principal in Group::\"staff\"",
    ] {
        assert_eq!(judged(condition, &alice()), Ok(()), "{condition}");
    }
    let stranger = judged("true", &named("eve")).expect_err("has no desk");
    assert_eq!(stranger, "the request does not fit the schema: `principal.desk` is not there");
}

/// What `tests/cedar/NAME.yaml` is told is in `NAME.expected`. With UPDATE_GOLDEN=1 the expected texts are written anew.
#[test]
fn every_mistake_gets_the_words_it_should() {
    struct Golden;
    impl Sources for Golden {
        fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
            std::fs::read(folder().join(path)).map_err(|error| std::io::Error::new(error.kind(), "no such file"))
        }
        fn env(&self, _: &str) -> Option<String> {
            None
        }
        fn glob(&self, pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
            let found = maitred_model::Disk.glob(&folder().join(pattern))?;
            Ok(found.iter().filter_map(|path| path.strip_prefix(folder()).ok()).map(Path::to_owned).collect())
        }
    }
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("readable").path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(cases.len() >= 4, "{cases:?}");
    let mut wrong = Vec::new();
    for case in cases {
        let (_, mut words) = rules(load(Path::new(case.file_name().expect("a name")), &Golden));
        if words.is_empty() {
            words.push_str("ok\n");
        }
        let expected = case.with_extension("expected");
        if update {
            std::fs::write(&expected, &words).expect("writable");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != words {
            wrong.push(format!("--- {} ---\n{words}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ from their `.expected`; look, then UPDATE_GOLDEN=1:\n{}", wrong.join("\n"));
}

/// Everything that the parser could be made to do with one policy: it neither overflows its stack nor takes long.
#[test]
fn no_policy_hurts_the_reader() {
    let whole = |condition: String| format!("permit (principal, action, resource) when {{ {condition} }};");
    for (before, middle, after) in [
        ("(", "true", ")"),
        ("[", "1", "]"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("1+", "1", ""),
        ("true&&", "true", ""),
        ("true||", "true", ""),
        ("if true then true else ", "true", ""),
        ("", "context", ".a"),
        ("", "context", "[\"a\"]"),
        ("{a:", "1", "}"),
        ("", "context", ".f()"),
        ("a::", "a", ""),
    ] {
        let times = 15_000 / (before.len() + after.len());
        let policy = whole(format!("{}{middle}{}", before.repeat(times), after.repeat(times)));
        let started = Instant::now();
        let taken = rule_of(&policy, &text("kitchen.cedarschema"), ORDER, PATH);
        assert!(taken.is_err(), "{before}{middle}{after} is taken");
        assert!(started.elapsed() < Duration::from_secs(20), "{before}{middle}{after} took {:?}", started.elapsed());
    }
    for schema in
        [&"type A = Set<".repeat(2_000), &format!("type A = {}Long{};", "{a:".repeat(60), "}".repeat(60)), "entity A in [A"]
    {
        assert!(rule_of("permit (principal, action, resource);", schema, ORDER, PATH).is_err(), "{schema}");
    }
    // Each twice the one before.
    let doubling: String = (1..60).map(|at| format!("type T{at} = {{ a: T{}, b: T{} }};", at - 1, at - 1)).collect();
    let words = rule_of("permit (principal, action, resource);", &format!("type T0 = Long;{doubling}"), ORDER, PATH).err();
    assert!(
        words.as_ref().is_some_and(|words| words.contains("levels deep") || words.contains("more than 100000 types")),
        "{words:?}"
    );
}

/// The deepest that is accepted, on a thread with as little stack as a worker has; a debug build takes several times as much of it.
#[test]
fn the_deepest_policy_that_is_taken_is_evaluated() {
    let rule =
        kitchen(&format!("permit (principal, action, resource) when {{ {}true }};", "context.path.id == \"7\" && ".repeat(56)));
    let thread = std::thread::Builder::new()
        .stack_size(if cfg!(debug_assertions) { 8 << 20 } else { 1 << 20 })
        .spawn(move || judge(&rule, "/orders/7", &alice()));
    assert_eq!(thread.expect("a thread").join().expect("nothing panics"), Ok(()));
}

#[test]
fn what_could_take_long_is_refused_before_it_runs() {
    let pattern = "*a".repeat(300);
    let policies = format!(
        "permit (principal, action, resource) when {{ context.claims has tenant && context.claims.tenant like \"{pattern}\" }};"
    );
    let rule = kitchen(&policies.repeat(12));
    let Value::Object(claims) = json!({ "tenant": "a".repeat(20_000) }) else { unreachable!() };
    let started = Instant::now();
    let judged = judge(&rule, "/orders/7", &Principal { claims, ..alice() });
    assert_eq!(judged, Err("policies are given more than they may look at".to_owned()));
    assert!(started.elapsed() < Duration::from_secs(1));
}

/// Not a bar: the numbers are for docs/adr/0021-cedar.md. `cargo test -p maitred-policies --features cedar --release -- costs --nocapture`
#[test]
fn what_one_decision_costs() {
    let rule = kitchen(&text("kitchen.cedar"));
    let exchange = asked("/orders/8");
    let (principal, times) = (alice(), 200);
    let given = Given { exchange: &exchange, principal: &principal, params: &["id".into()], time: 1_700_000_000 };
    let started = Instant::now();
    for _ in 0..times {
        assert!(rule.judge(&given).is_ok());
    }
    println!("a decision takes {:?}", started.elapsed() / times);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_decision_is_told_with_all_that_led_to_it() {
    let policies = "@id(\"all\") permit (principal, action, resource);
@id(\"dear\") forbid (principal, action, resource) when { resource.total > 100 };
@id(\"eighth\") forbid (principal, action, resource == Order::\"8\");";
    let policies = policies.replace("(principal, action, resource", "(principal, action == Action::\"GetOrder\", resource");
    let told = |log: &str, target: &str, principal: &Principal| {
        let (decisions, receiver) = Decisions::held();
        let files = Memory::default().file("p.cedar", policies.as_str()).file("s.cedarschema", text("kitchen.cedarschema"));
        let files = files.file("e.json", text("entities.json"));
        let rule = rule_over(&files, &format!("{ORDER}, log: {log}"), PATH, decisions).unwrap_or_else(|words| panic!("{words}"));
        let _ = judge(&rule, target, principal);
        receiver.try_recv().ok().map(|told| {
            let resource = format!("{} {} {}", told.action, told.resource, if told.permitted { "permit" } else { "deny" });
            format!("{} {} {resource} [{}] [{}]", told.authorizer, told.subject, told.policies.join(","), told.errors.join(","))
        })
    };
    let unknown = "dear asks an entity that is not there";
    for (log, target, principal, words) in [
        ("all", "/orders/7", &alice(), Some("staff alice Action::\"GetOrder\" Order::\"7\" permit [all] []".to_owned())),
        ("denied", "/orders/7", &alice(), None),
        ("none", "/orders/8", &alice(), None),
        ("denied", "/orders/x", &alice(), Some(format!("staff alice Action::\"GetOrder\" Order::\"x\" deny [dear] [{unknown}]"))),
        (
            "denied",
            "/orders/7",
            &Principal { subject: None, ..alice() },
            Some(
                "staff  Action::\"GetOrder\" Order::\"7\" deny [] [the credential names nobody of whom policies could speak]"
                    .to_owned(),
            ),
        ),
    ] {
        assert_eq!(told(log, target, principal), words, "{log} {target}");
    }
}

/// Groups are given as the one `Group` that the schema has for them, in whatever namespace; or it is refused.
#[test]
fn a_forbid_on_groups_matches_or_is_refused() {
    let actions = "entity Route; action GET appliesTo { principal: User, resource: Route };";
    let forbid = |group: &str, space: &str| {
        let action = format!("{space}Action::\"GET\"");
        format!(
            "permit (principal, action == {action}, resource); forbid (principal in {group}::\"staff\", action == {action}, resource);"
        )
    };
    for (schema, group, space, words) in [
        (format!("entity Group; entity User in [Group]; {actions}"), "Group", "", ""),
        (format!("entity Group; namespace K {{ entity User in [Group]; {actions} }}"), "Group", "K::", ""),
        (
            format!("namespace S {{ entity Group; }} namespace K {{ entity User in [S::Group]; {actions} }}"),
            "S::Group",
            "K::",
            "",
        ),
        (format!("entity Group in [Group]; entity Team in [Group]; entity User in [Group, Team]; {actions}"), "Group", "", ""),
        (format!("entity Group; entity User in [Team]; entity Team in [Group]; {actions}"), "Group", "", "another type alone"),
        (
            format!(
                "namespace S {{ entity Group; }} namespace K {{ entity Group; entity User in [S::Group, Group]; {actions} }}"
            ),
            "S::Group",
            "K::",
            "nobody knows which",
        ),
    ] {
        let rule = rule_of(&forbid(group, space), &schema, &format!("principal: '{space}User'"), "GET /x");
        match rule {
            Ok(rule) => {
                assert_eq!(words, "", "{schema}");
                let judged = judge(&rule, "/x", &alice());
                assert!(judged.as_ref().is_err_and(|why| why.ends_with("forbids it")), "{schema}: {judged:?}");
                assert_eq!(judge(&rule, "/x", &named("bob")), Ok(()), "{schema}");
            }
            Err(said) => assert!(!words.is_empty() && said.contains(words) && said.contains("bad-schema"), "{schema}: {said}"),
        }
    }
}

#[test]
fn entities_are_bounded_by_what_becomes_of_them() {
    let schema = "entity Group in [Group]; entity User in [Group] { note?: String }; entity Order { owner?: User, note: String };
        action GetOrder appliesTo { principal: User, resource: Order };";
    let permit = "permit (principal, action, resource);";
    let rule = |policies: &str, entities: &Value| {
        let files =
            Memory::default().file("p.cedar", policies).file("s.cedarschema", schema).file("e.json", entities.to_string());
        rule_over(&files, ORDER, PATH, Arc::default())
    };
    let group = |at: usize| json!({ "type": "Group", "id": at.to_string() });
    let chain = |length: usize| -> Value {
        (0..length).map(|at| json!({ "uid": group(at), "attrs": {}, "parents": [group(at + 1)] })).collect()
    };
    assert!(rule(permit, &chain(100)).is_ok());
    let started = Instant::now();
    let words = rule(permit, &chain(9_000)).err().expect("each is in all that follow");
    assert!(words.contains("bad-entities") && words.contains("too many groups above them"), "{words}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    let user = |id: &str| json!({ "type": "User", "id": id });
    let note = |bytes: usize| "x".repeat(bytes);
    let entities = json!([
        { "uid": { "type": "Order", "id": "7" }, "attrs": { "owner": user("bob"), "note": note(600_000) }, "parents": [] },
        { "uid": { "type": "Order", "id": "8" }, "attrs": { "note": note(1_000_000) }, "parents": [] },
        { "uid": user("bob"), "attrs": { "note": note(600_000) }, "parents": [] },
        { "uid": user("carol"), "attrs": { "note": note(1_100_000) }, "parents": [] },
    ]);
    let once = rule(permit, &entities).unwrap_or_else(|words| panic!("{words}"));
    assert_eq!(judge(&once, "/orders/8", &alice()), Ok(()));
    let too_many = Err("policies can reach more entities than they may look at".to_owned());
    assert_eq!(judge(&once, "/orders/7", &alice()), too_many);
    assert_eq!(judge(&once, "/orders/9", &named("carol")), too_many);
    // Each policy looks at something, if only at whom it is about.
    let many = rule(&permit.repeat(70), &entities).unwrap_or_else(|words| panic!("{words}"));
    assert_eq!(judge(&many, "/orders/8", &alice()), Err("policies are given more than they may look at".to_owned()));
    assert_eq!(judge(&many, "/orders/9", &alice()), Ok(()));
}
