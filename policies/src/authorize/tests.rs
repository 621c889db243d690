use super::condition::{Condition, SOURCE_BYTES_MAX};
use super::given::Given;
use super::{Authorize, Demands, claim, insufficient};
use crate::authenticate::{Authorizer, Choice, Decision};
use maitred_core::identity::Consumer;
use maitred_core::metrics::AuthorizerSeries;
use maitred_core::testing::Fixed;
use maitred_core::wire::HeadLimits;
use maitred_core::{Exchange, Fault, Hook, Kind, Policy, Ports, Principal};
use maitred_model::{self as model, ClaimDemand, Demand};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 256 * 1024, fields: 100, target_bytes: 128 * 1024, drop_underscores: false };

pub(super) fn exchange(head: &str) -> Exchange {
    let mut exchange = Exchange::new(Instant::now());
    let head = format!("{head}\r\n");
    exchange.request.parse(head.as_bytes(), &LIMITS).expect("a good head");
    exchange
}

const HEAD: &str =
    "GET /orders/a%2Fb?v=2&tenant=a&tenant=b&k%C3%A9=%20x HTTP/1.1\r\nHost: API.example.com\r\nX-Team: one\r\nx-team: two\r\n";

pub(super) fn alice() -> Principal {
    let Value::Object(claims) = json!({
        "tenant": "acme", "level": 3, "ratio": 0.5, "admin": true, "nothing": null,
        "roles": ["cook", "waiter"], "realm": { "role": "chef" }, "a.b": "dotted",
    }) else {
        unreachable!()
    };
    Principal {
        authorizer: "staff".into(),
        issuer: Some("https://id.example.com".into()),
        subject: Some("alice".into()),
        consumer: Some(Arc::new(Consumer {
            name: "alice-inc".into(),
            plan: None,
            account: Default::default(),
            groups: ["paying".into()].into(),
            disabled: false,
        })),
        claims,
        scopes: ["orders:read".into()].into(),
        groups: ["staff".into()].into(),
        ..Principal::default()
    }
}

fn judge(source: &str, head: &str, principal: &Principal) -> Result<(), String> {
    let condition = Condition::compile(source).map_err(|problem| format!("{problem:?}"))?;
    let exchange = exchange(head);
    let given = Given { exchange: &exchange, principal, params: &[], time: 1_700_000_000 };
    condition.holds(&given).map_err(|why| why.into_owned())
}

#[test]
fn a_condition_sees_the_request_and_who_makes_it() {
    for source in [
        "request.method == 'GET' && request.scheme == 'http' && request.client_ip == '0.0.0.0'",
        "request.path.startsWith('/orders/') && request.host == 'api.example.com'",
        "request.headers['x-team'] == 'one, two' && !('X-Team' in request.headers)",
        "request.query.v == '2' && request.query['tenant'] == 'a,b' && request.query['ké'] == ' x'",
        "request.time == 1700000000",
        "principal.authorizer == 'staff' && principal.issuer == 'https://id.example.com' && principal.subject == 'alice'",
        "'orders:read' in principal.scopes && 'paying' in principal.groups && 'staff' in principal.groups && !principal.anonymous",
        "consumer.name == 'alice-inc' && consumer.groups == ['paying'] && has(consumer.name)",
        "claims.tenant == 'acme' && claims.level >= 3 && claims.ratio < 1.0 && claims.admin && claims.nothing == null",
        "claims.realm.role == 'chef' && claims['a.b'] == 'dotted' && !has(claims.other)",
        "claims.roles.exists(role, role == 'cook') && claims.roles.all(r, r.size() > 3) && size(claims.roles.filter(r, r == 'cook')) == 1",
        "claims.roles.exists_one(r, r.matches('^c..k$')) && request.path.matches('^/orders/[^/]+$')",
        "[1, 2].map(x, x * 2) == [2, 4] && (true ? int('3') == 3 : false) && {'a': 1}.a == 1 && -claims.level == -3",
        "size(claims.tenant + claims.realm.role) == 8",
        "has(claims.other) || claims.tenant == 'acme'",
    ] {
        assert_eq!(judge(source, HEAD, &alice()), Ok(()), "{source}");
    }
}

#[test]
fn whatever_is_not_true_is_a_deny() {
    let nobody = Principal::anonymous();
    for (source, principal, words) in [
        ("claims.tenant == 'other'", &alice(), "does not hold"),
        ("claims.tenant", &alice(), "neither true nor false"),
        ("claims.other != 'evil'", &alice(), "needs `claims.other`"),
        ("claims.tenant > 3", &alice(), "cannot be evaluated"),
        ("claims.level / 0 == 1", &alice(), "cannot be evaluated"),
        ("claims.roles[7] == 'x'", &alice(), "cannot be evaluated"),
        ("request.headers['x-none'] == ''", &alice(), "needs `request.headers['x-none']`"),
        ("principal.subject != 'evil'", &nobody, "needs `principal.subject`"),
        ("consumer.name != 'evil'", &nobody, "needs `consumer.name`"),
        ("principal.authorizer != 'evil'", &nobody, "needs `principal.authorizer`"),
        ("!principal.anonymous", &nobody, "does not hold"),
        ("path.other == ''", &alice(), "needs `path.other`"),
        ("claims.tenant == 'acme' && claims.realm.tenant == 'x'", &alice(), "needs `claims.realm.tenant`"),
        ("claims.realm['no.such'] == 'x'", &alice(), "needs `claims.realm['no.such']`"),
        ("[claims.realm].all(r, r.level == 1)", &alice(), "needs `level`"),
        ("claims[request.headers['x-team']] == 'x'", &alice(), "needs something that is not there"),
    ] {
        let why = judge(source, HEAD, principal).expect_err(source);
        assert!(why.contains(words), "{source}: {why}");
    }
    // What a request holds is in no message: it may be a secret.
    let secret = HEAD.to_owned() + "x-secret: hunter2\r\n";
    for source in ["[request.headers['x-secret']][0]", "request.headers['x-secret'] > 3", "request.headers['x-secret'][0] == 1"] {
        let why = judge(source, &secret, &alice()).expect_err(source);
        assert!(!why.contains("hunter2"), "{why}");
    }
}

#[test]
fn what_is_wrong_with_a_condition_is_said_at_load() {
    let deep = |times: usize| format!("{}true{}", "(!".repeat(times), ")".repeat(times));
    let long = "true && ".repeat(600) + "true";
    let loops = ["claims.a.all(x, x)"; 5].join(" && ");
    let joins = format!("{} == ''", ["claims.a"; 18].join(" + "));
    for (source, message, hint) in [
        ("claims.tenant ==", "at its column 17", "written in CEL"),
        ("claims.tenant ==\n  'x' &&& true", "at its line 2, column 9", "written in CEL"),
        ("", "cannot be read", "written in CEL"),
        ("claim.tenant == 'x'", "a variable that there is not: `claim` at its column 1", "did you mean `claims`?"),
        ("true && user == 'x'", "a variable that there is not: `user` at its column 9", "the variables are: `request`"),
        ("'éé' == claims.a && user == 'x'", "`user` at its column 21", ""),
        ("claims.a ==\n  'é' && user", "`user` at its line 2, column 10", ""),
        ("request.methud == 'GET'", "`request.methud`, which there is not", "did you mean `method`?"),
        ("principal.sub == 'x'", "`principal.sub`, which there is not", "`principal` has: `authorizer`"),
        (
            "consumer == 'alice'",
            "compares `consumer`, which has several fields, with a text at its column 1",
            "write `consumer.name`",
        ),
        ("true && 'alice' != principal", "compares `principal`", "write `principal.subject`"),
        ("consumer in ['alice', 'bob']", "compares `consumer`", "write `consumer.name`"),
        ("path == '/menu'", "compares `path`", "write `request.path`"),
        ("{consumer} == 'alice'", "cannot be read", "without braces in a condition: `consumer.name`"),
        ("claims.a.startswith('x')", "calls `startswith`, which there is not", "did you mean `startsWith`?"),
        ("duration('1s') == 1", "calls `duration`, which there is not", "the functions are: `size`"),
        ("has(claims.a, 1)", "calls `has` in a way", "write `has(claims.x)`"),
        ("claims.a.all(x, claims.b.all(y, x == y))", "a loop inside a loop", "one list only"),
        ("claims.a.filter(x, x).all(y, y)", "a loop inside a loop", "one list only"),
        ("claims.a.all(claims, claims)", "calls an element `claims`", "another name"),
        ("claims.a.all(x, x + x == '')", "a `+` inside a loop", "without joining"),
        ("claims.a.matches(claims.b)", "a pattern that is not written out", "write it out"),
        ("claims.a.matches('(')", "a pattern that cannot be used (unclosed group)", "shorter pattern"),
        ("claims.a.matches('(a{50}){50}')", "takes too much memory", "shorter pattern"),
        ("consumer.name", "has a text where it needs true or false at its column 1", "compare it"),
        (
            "true && principal.groups",
            "has a list where it needs true or false at its column 9",
            "`\"staff\" in principal.groups`",
        ),
        ("claims.a == 1 || !(request.method)", "has a text where it needs true or false at its column 20", "compare it"),
        ("claims.a.exists(x, x == 1 || 'x')", "has a text where it needs true or false at its column 30", "compare it"),
        ("claims.a.filter(x, x == 1)", "has a list where it needs true or false at its column 1", "ask what is in it"),
        ("size(claims.a)", "has a number where it needs true or false", "compare it"),
        ("claims.a + claims.b", "has a sum where it needs true or false at its column 1", "compare it"),
        ("request.headers", "has a map where it needs true or false at its column 1", "name what of it is meant"),
        ("'a' ? true : false", "has a text where it needs true or false at its column 1", "compare it"),
        ("null", "has null where it needs true or false at its column 1", "has(claims.x)"),
        ("request{a: 1} == 1", "makes something that there is not", ""),
        (&loops, "more than 4 loops", "split it"),
        (&joins, "more than 16 times `+`", "without joining"),
        (&long, "longer than 4096 bytes", "split it"),
        (&deep(100), "cannot be read", ""),
        (&deep(26), "levels deep", "split it"),
    ] {
        let problem = Condition::compile(source).err().unwrap_or_else(|| panic!("{source} is taken"));
        assert!(problem.placed(source).contains(message) && problem.hint.contains(hint), "{source}: {problem:?}");
    }
}

/// Everything that the parser could be made to do with 4 KiB, in a debug build: it neither overflows its stack nor takes long.
#[test]
fn no_source_hurts_the_reader() {
    for (before, middle, after) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("1+", "1", ""),
        ("", "a", ".b"),
        ("", "a", "[0]"),
        ("a?b:", "c", ""),
        ("a||", "b", ""),
        ("size(", "a", ")"),
        ("{1:", "1", "}"),
        ("", "a", ".f()"),
        ("", "[]", ".map(x,x)"),
    ] {
        let times = (SOURCE_BYTES_MAX - middle.len()) / (before.len() + after.len());
        let source = format!("{}{middle}{}", before.repeat(times), after.repeat(times));
        let started = Instant::now();
        let taken = Condition::compile(&source).is_ok();
        assert!(!taken || ["!", "-"].contains(&before), "{before}{middle}{after}");
        assert!(started.elapsed() < Duration::from_secs(20), "{before}{middle}{after} took {:?}", started.elapsed());
    }
}

#[test]
fn a_condition_looks_at_so_much_and_no_more() {
    let with = |claims: Value| {
        let Value::Object(claims) = claims else { unreachable!() };
        Principal { claims, ..alice() }
    };
    let many = |count: usize| json!({ "a": vec!["x"; count] });
    let nested = (0..20).fold(json!(1), |inner, _| json!([inner]));
    let too_much = "is given more than it may look at";
    for (source, principal, fits) in [
        ("claims.a.all(x, x == 'x')", with(many(998)), true),
        ("claims.a.all(x, x == 'x')", with(many(1_001)), false),
        ("claims.a == claims.a", with(json!({ "a": "x".repeat(70_000) })), false),
        ("has(claims.a)", with(json!({ "a": nested })), false),
        ("has(claims.a)", with(json!({ "a": 1, "b": nested })), true),
        // What it does not ask for is not looked at.
        ("claims.b == 1", with(json!({ "b": 1, "a": "x".repeat(70_000) })), true),
        ("claims.a.all(x, claims.b.contains(x) || true)", with(json!({ "a": vec!["x"; 900], "b": "y".repeat(60_000) })), false),
        ("claims.a.matches('^x*$')", with(json!({ "a": "x".repeat(4_096) })), true),
    ] {
        let outcome = judge(source, HEAD, &principal);
        assert_eq!(outcome.is_ok(), fits, "{source}: {outcome:?}");
        assert!(fits || outcome.is_err_and(|why| why.contains(too_much)), "{source}");
    }
    assert!(judge("claims.a.matches('^x*$')", HEAD, &with(json!({ "a": "x".repeat(4_097) }))).is_err());
    let flood: String = (0..1_001).map(|at| format!("{at}&")).collect();
    let head = HEAD.replace("v=2", &flood);
    assert!(judge("has(request.query.tenant)", &head, &alice()).is_err_and(|why| why.contains(too_much)));
    assert_eq!(judge("has(request.headers.host)", &head, &alice()), Ok(()));
}

/// The worst that is accepted, on a thread with as little stack as a worker has. The bound is generous: a debug build on a busy
/// machine; a release build takes some milliseconds.
#[test]
fn the_worst_condition_that_is_taken_ends_soon() {
    let words: Vec<String> = (0..490).map(|at| format!("word-{at}")).collect();
    let Value::Object(claims) = json!({ "a": words, "b": words, "t": "y".repeat(4_000), "u": "y".repeat(22_000) }) else {
        unreachable!()
    };
    let principal = Principal { claims, ..alice() };
    let quadratic = "claims.a.all(x, x in claims.b)";
    let patterns = "claims.a.all(x, x.matches('^(w|wo|wor|word)*-[0-9]+$'))";
    let scanning = "claims.a.all(x, !claims.u.contains(x))";
    let joined = format!("size({}) > 0", ["claims.b"; 17].join(" + "));
    let collecting = "size(claims.a.map(x, claims.t)) > 0 && size(claims.a.filter(x, x != 'q')) > 0";
    let deep = format!("{}true{}", "[".repeat(22), "]".repeat(22)) + " != []";
    let wide = ["claims.t.contains('z')"; 100].iter().fold("true".to_owned(), |all, one| all + " && !" + one);
    let sources: Vec<String> =
        [quadratic, patterns, scanning, collecting].map(str::to_owned).into_iter().chain([joined, deep, wide]).collect();
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        for source in sources {
            let shown = source.chars().take(60).collect::<String>();
            let condition = Condition::compile(&source).unwrap_or_else(|problem| panic!("{shown}: {problem:?}"));
            let exchange = exchange(HEAD);
            let given = Given { exchange: &exchange, principal: &principal, params: &[], time: 0 };
            let started = Instant::now();
            let outcome = condition.holds(&given);
            assert_eq!(outcome, Ok(()), "{shown}");
            assert!(started.elapsed() < Duration::from_secs(5), "{shown} took {:?}", started.elapsed());
        }
    });
    thread.expect("a thread").join().expect("nothing panics");
}

#[test]
fn a_claim_is_what_is_demanded_or_a_list_that_has_it() {
    let one_of = |value: Value| match value {
        Value::Array(values) => ClaimDemand::OneOf(values),
        one => ClaimDemand::OneOf(vec![one]),
    };
    for (path, demand, met) in [
        ("tenant", one_of(json!("acme")), true),
        ("tenant", one_of(json!("ACME")), false),
        ("tenant", one_of(json!(["other", "acme"])), true),
        ("tenant", ClaimDemand::Present, true),
        ("nothing", ClaimDemand::Present, false),
        ("other", ClaimDemand::Present, false),
        ("other", one_of(json!("acme")), false),
        ("level", one_of(json!(3)), true),
        ("level", one_of(json!(3.0)), true),
        ("level", one_of(json!("3")), false),
        ("level", one_of(json!(true)), false),
        ("ratio", one_of(json!(0.5)), true),
        ("admin", one_of(json!(true)), true),
        ("admin", one_of(json!("true")), false),
        ("roles", one_of(json!("cook")), true),
        ("roles", one_of(json!(["owner", "waiter"])), true),
        ("roles", one_of(json!("owner")), false),
        ("realm.role", one_of(json!("chef")), true),
        ("realm", one_of(json!("chef")), false),
        ("realm.role.x", ClaimDemand::Present, false),
        ("a.b", one_of(json!("dotted")), true),
    ] {
        assert_eq!(claim(path, &demand, &alice()).is_ok(), met, "{path} {demand:?}");
    }
}

#[test]
fn scopes_that_would_do_are_named_where_they_can_be() {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    assert_eq!(insufficient(&words(&["a:b", "c"])), "Bearer error=\"insufficient_scope\", scope=\"a:b c\"");
    assert_eq!(insufficient(&words(&["a\"b", "c\r\nd", "e f", "g"])), "Bearer error=\"insufficient_scope\", scope=\"g\"");
}

/// An authorizer that is there for its name and its challenge.
struct Named(Arc<str>, &'static str);

impl Authorizer for Named {
    fn name(&self) -> &Arc<str> {
        &self.0
    }

    fn finds(&self, _: &Exchange) -> bool {
        false
    }

    fn recall(&self, _: &Exchange, _: &dyn Ports) -> Option<Decision> {
        None
    }

    fn decide<'a>(&'a self, _: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Decision> {
        unreachable!("nobody asks it")
    }

    fn challenge(&self) -> Option<String> {
        Some(self.1.to_owned())
    }

    fn strip(&self, _: &mut Exchange) {}
}

/// `staff` takes bearer tokens, `keys` does not.
fn refusal(configured: &model::Authorize, conditions: &[&str], principal: Principal) -> Option<Fault> {
    let choice = |name: &'static str, challenge| Choice {
        authorizer: Arc::new(Named(name.into(), challenge)),
        strip: false,
        series: Arc::new(AuthorizerSeries::new(name.into(), 1)),
    };
    let choices = [choice("staff", "Bearer realm=\"x\""), choice("keys", "ApiKey in=\"header\"")];
    let forbidden = !principal.is_anonymous();
    let conditions = conditions.iter().map(|source| Arc::new(Condition::compile(source).expect("a good condition"))).collect();
    let authorize = Authorize::compile(&[Demands { configured, conditions, cedar: None }], &choices, &["id"]).expect("demands");
    let mut exchange = exchange(HEAD);
    let name = principal.authorizer.clone();
    exchange.principal = Some(Arc::new(principal));
    let fault = match authorize.enter(&mut exchange, &Fixed::at(1_700_000_000)) {
        Hook::Ready(flow) => flow.err(),
        Hook::Pending(_) => panic!("it waits for nobody"),
    };
    let counted: u64 = choices.iter().filter(|choice| choice.series.name == name).map(|choice| choice.series.counts()[3]).sum();
    assert_eq!(counted, u64::from(fault.is_some() && forbidden));
    fault
}

#[test]
fn who_lacks_something_is_told_what_helps_and_nothing_else() {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let all = |names: &[&str]| Demand { all: words(names), any: Vec::new() };
    let any = |names: &[&str]| Demand { all: Vec::new(), any: words(names) };
    let of = |authorizer: &str| Principal { authorizer: authorizer.into(), ..alice() };
    let scopes = |scopes| model::Authorize { scopes, ..model::Authorize::default() };
    let claims = |path: &str, demand| model::Authorize { claims: vec![(path.to_owned(), demand)], ..Default::default() };

    assert!(refusal(&scopes(all(&["orders:read"])), &[], of("staff")).is_none());
    assert!(refusal(&scopes(any(&["other", "orders:read"])), &[], of("staff")).is_none());
    for (demand, named) in [
        (all(&["orders:read", "orders:write"]), "orders:read orders:write"),
        (any(&["orders:write", "admin"]), "orders:write admin"),
    ] {
        let fault = refusal(&scopes(demand.clone()), &[], of("staff")).expect("a refusal");
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{named}\"");
        assert_eq!((fault.kind, fault.header("www-authenticate")), (Kind::Forbidden, Some(&*challenge)));
        // Another scope helps nobody who has no token.
        let fault = refusal(&scopes(demand), &[], of("keys")).expect("a refusal");
        assert_eq!((fault.kind, fault.header("www-authenticate")), (Kind::Forbidden, None));
    }
    for (configured, conditions, detail) in [
        (claims("tenant", ClaimDemand::OneOf(vec![json!("other")])), &[][..], "the claim `tenant` is another"),
        (claims("none", ClaimDemand::Present), &[], "the claim `none` is missing"),
        (model::Authorize::default(), &["true", "claims.tenant == 'x'"], "the condition `claims.tenant == 'x'` does not hold"),
        (model::Authorize { groups: all(&["boss"]), ..Default::default() }, &["true"], "the group `boss` is missing"),
    ] {
        let fault = refusal(&configured, conditions, of("staff")).expect("a refusal");
        assert_eq!((fault.kind, &*fault.detail, fault.headers.len()), (Kind::Forbidden, detail, 0));
        // Who showed nothing may try again with a credential.
        let fault = refusal(&configured, conditions, Principal::anonymous()).expect("a refusal");
        assert_eq!((fault.kind, fault.headers.len()), (Kind::Unauthenticated, 2));
    }
    let both = claims("tenant", ClaimDemand::OneOf(vec![json!("acme")]));
    assert!(refusal(&both, &["claims.tenant == 'acme'", "request.time == 1700000000"], of("staff")).is_none());
}

/// Claims as hostile as an issuer may make them.
fn anything() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![
            json!(i64::MIN),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(0),
            json!(-1),
            json!(1e308),
            json!(-0.0),
            json!(0.5)
        ]),
    ];
    let text = prop_oneof![
        any::<String>().prop_map(Value::from),
        select(vec![
            "",
            "9223372036854775808",
            "-9223372036854775808",
            "NaN",
            "1e999",
            "inf",
            "0x10",
            "\u{0}",
            "\u{10ffff}",
            " 1"
        ])
        .prop_map(Value::from),
    ];
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, text];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((select(vec!["a", "b", "", "0", "1"]), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

/// Every operator and function, over claims of any kind.
const EVERYTHING: [&str; 40] = [
    "claims.a + claims.b == claims.a",
    "claims.a - claims.b == claims.a",
    "claims.a * claims.b == claims.a",
    "claims.a / claims.b == claims.a",
    "claims.a % claims.b == claims.a",
    "-claims.a == claims.b",
    "!claims.a",
    "claims.a < claims.b",
    "claims.a <= claims.b",
    "claims.a > claims.b",
    "claims.a >= claims.b",
    "claims.a != claims.b",
    "claims.a in claims.b",
    "claims.a ? claims.b : true",
    "claims.a[claims.b] == claims.a",
    "claims.a[0] == claims.a[-1]",
    "claims.a[1u] == claims.b[9223372036854775807]",
    "claims.a['a'] == claims.b['']",
    "claims.a.b.a == null",
    "has(claims.a.b)",
    "size(claims.a) == claims.b.size()",
    "claims.a.contains(claims.b)",
    "claims.a.startsWith(claims.b)",
    "claims.a.endsWith(claims.b)",
    "claims.a.matches('^[a-z]*(a|b)?$')",
    "string(claims.a) == claims.b",
    "int(claims.a) == claims.b",
    "uint(claims.a) == claims.b",
    "double(claims.a) == claims.b",
    "int(double(claims.a)) == 1",
    "uint(int(claims.a)) == 1u",
    "int(claims.a) / int(claims.b) == 1",
    "int(claims.a) % int(claims.b) == 1",
    "int(claims.a) * int(claims.b) - int(claims.a) == -int(claims.b)",
    "claims.a.all(x, x == claims.b)",
    "claims.a.exists(x, x < claims.b)",
    "claims.a.exists_one(x, x in claims.b)",
    "claims.a.filter(x, x > 0) == claims.b",
    "claims.a.map(x, x * 2) == claims.b",
    "{claims.a: claims.b} == {claims.b: claims.a}",
];

proptest! {
    #[test]
    fn no_claim_makes_a_condition_do_anything_but_hold_or_not(a in anything(), b in anything()) {
        static COMPILED: LazyLock<Vec<Condition>> =
            LazyLock::new(|| EVERYTHING.iter().map(|source| Condition::compile(source).expect(source)).collect());
        let Value::Object(claims) = json!({ "a": a, "b": b }) else { unreachable!() };
        let principal = Principal { claims, ..alice() };
        let exchange = exchange(HEAD);
        let given = Given { exchange: &exchange, principal: &principal, params: &[], time: 0 };
        for condition in &*COMPILED {
            let _ = condition.holds(&given);
        }
    }
}
