//! What is asked when, what is remembered, and who comes in, with a function that says what it is told to.

use super::*;
use maitred_core::identity::{Consumer, ConsumerSet, KeyHasher};
use maitred_core::ports::{Fetch, FetchRequest, Fetching};
use maitred_core::testing::Fixed;
use maitred_core::wire::HeadLimits;
use maitred_core::{Compute, Registry};
use maitred_model::{AuthorizerKind, Memory, load_text};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 8192, fields: 30, target_bytes: 4096, drop_underscores: false };
const TOKEN: &str = "Authorization: t\r\n";

/// Nothing is fetched here.
struct Nowhere;

impl Fetch for Nowhere {
    fn fetch(&self, _: FetchRequest) -> Fetching {
        Box::pin(std::future::ready(Err("there is nothing".to_owned())))
    }
}

/// An authorizer as it would be configured, and whose are the keys and names.
fn authorizer(configured: &str) -> FunctionAuthorizer {
    let text = format!(
        "listen: 127.0.0.1:0\nfunctions: {{ checker: {{ runtime: provided, code: ./c }} }}\nauthorizers: {{ a: {{ function: {configured} }} }}"
    );
    let document = load_text("test.yaml", &text, &Memory::default()).document.unwrap_or_else(|| panic!("{configured}"));
    let AuthorizerKind::Function(kind) = &document.authorizers["a"].kind else { unreachable!("written above") };
    let hasher = KeyHasher::new(&[7; 32]);
    let mut set = ConsumerSet::new(vec![hasher.clone()]);
    for name in ["alice", "acme"] {
        let consumer =
            Arc::new(Consumer { name: name.into(), plan: None, account: Default::default(), groups: [].into(), disabled: false });
        set.add(&consumer).unwrap();
        if name == "alice" {
            set.add_identity("a", "user-7", &consumer).unwrap();
        } else {
            set.add_key(hasher.hash(b"a key of acme"), &consumer).unwrap();
        }
    }
    let roll = Arc::new(Roll { configured: set, stored: Arc::default() });
    let (compute, fetch): (_, Arc<dyn Fetch>) = (Arc::new(Compute::new(Arc::default())), Arc::new(Nowhere));
    let making = Making {
        secret: &[7; 32],
        roll: &roll,
        compute: &compute,
        number: 1,
        fetch: &fetch,
        lasting: 1,
        upstream: None,
        function: Some(3),
        region: "eu-west-1",
        keys: None,
        client_ca: &[],
        seen: &Registry::default(),
    };
    FunctionAuthorizer::compile("a".into(), kind, &making).unwrap_or_else(|problem| panic!("{}", problem.message))
}

fn exchange(ports: &Fixed, target: &str, headers: &str) -> Exchange {
    let mut exchange = Exchange::new(ports.now());
    let head = format!("GET {target} HTTP/1.1\r\nHost: api.example.com\r\n{headers}\r\n");
    exchange.request.parse(head.as_bytes(), &LIMITS).expect("a good head");
    exchange.local_path = exchange.request.path;
    exchange.forwarded.client = "10.0.0.7".parse().unwrap();
    exchange
}

fn ports(says: Result<Invoked, Fault>) -> Fixed {
    let ports = Fixed::at(1_428_582_896);
    *ports.says.borrow_mut() = says;
    ports
}

fn returning(value: &Value) -> Result<Invoked, Fault> {
    Ok(Invoked::Returned(value.to_string().into_bytes()))
}

fn raising(message: &str) -> Result<Invoked, Fault> {
    Ok(Invoked::Raised(json!({ "errorMessage": message, "errorType": "Error" }).to_string().into_bytes()))
}

fn policy(effect: &str, resource: &str) -> Value {
    json!({
        "principalId": "user-7",
        "policyDocument": { "Version": "2012-10-17", "Statement": [{ "Effect": effect, "Action": "execute-api:Invoke", "Resource": resource }] },
    })
}

/// As `authenticate` does it: by memory, or else by asking.
fn decide(authorizer: &FunctionAuthorizer, exchange: &mut Exchange, ports: &Fixed) -> Decision {
    if let Some(known) = authorizer.recall(exchange, ports) {
        return known;
    }
    match authorizer.decide(exchange, ports) {
        Hook::Ready(decision) => decision,
        Hook::Pending(mut later) => poll(&mut later).expect("a scripted function answers at once"),
    }
}

fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn word(decision: &Decision) -> String {
    match decision {
        Ok(_) => "in".to_owned(),
        Err(Refusal::Invalid { .. }) => "401 wrong".to_owned(),
        Err(Refusal::Unproven { .. }) => "401".to_owned(),
        Err(Refusal::Forbidden(_)) => "403".to_owned(),
        Err(Refusal::Failed(fault)) => fault.kind.name().to_owned(),
        Err(Refusal::Invited(_)) => "invited".to_owned(),
        Err(Refusal::Answered(answer)) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
    }
}

#[test]
fn what_functions_say_decides() {
    let slow = || Err(Fault::new(Kind::FunctionTimeout, "slow"));
    for (says, wanted) in [
        (returning(&policy("Allow", "*")), "in"),
        (returning(&policy("Allow", "arn:aws:execute-api:eu-west-1:000000000000:/$default/GET/pets/7%2F8")), "in"),
        (returning(&policy("Allow", "*/POST/*")), "403"),
        (returning(&policy("Deny", "*")), "403"),
        (raising("Unauthorized"), "401 wrong"),
        (raising("unauthorized"), "authorizer_failed"),
        (returning(&json!({ "isAuthorized": true })), "authorizer_failed"),
        (returning(&json!(null)), "authorizer_failed"),
        (slow(), "authorizer_unavailable"),
    ] {
        for form in ["kind: token", "event: rest", "event: v1", "event: v2"] {
            let ports = ports(says.clone());
            let decision =
                decide(&authorizer(&format!("{{ name: checker, {form} }}")), &mut exchange(&ports, "/pets/7%2F8", TOKEN), &ports);
            assert_eq!(word(&decision), wanted, "{form} {says:?}");
        }
    }
    for (says, wanted) in [
        (returning(&json!({ "isAuthorized": true })), "in"),
        (returning(&json!({ "isAuthorized": false })), "403"),
        (returning(&policy("Allow", "*")), "authorizer_failed"),
        (raising("Unauthorized"), "authorizer_failed"),
    ] {
        let ports = ports(says.clone());
        let decision = decide(&authorizer("{ name: checker, simple: true }"), &mut exchange(&ports, "/", TOKEN), &ports);
        assert_eq!(word(&decision), wanted, "{says:?}");
    }
}

#[test]
fn who_is_denied_by_a_statement_is_told_so_where_aws_does() {
    let ports = ports(returning(&policy("Deny", "*")));
    let authorizer = authorizer("{ name: checker, event: rest }");
    for (responses, wanted) in [
        (GatewayResponses::Problem, "403".to_owned()),
        (GatewayResponses::AwsHttp, "403".to_owned()),
        (GatewayResponses::AwsRest, format!("403 {EXPLICITLY_DENIED}")),
    ] {
        // Asked, and then remembered.
        for _ in 0..2 {
            let mut exchange = exchange(&ports, "/", TOKEN);
            exchange.gateway_responses = responses;
            assert_eq!(word(&decide(&authorizer, &mut exchange, &ports)), wanted);
        }
    }
    assert_eq!(ports.asked.borrow().len(), 1);
}

#[test]
fn without_what_it_goes_by_nobody_is_asked() {
    let identity = "identity: [\"header:Authorization\", \"query:q\", \"context:identity.userAgent\"]";
    for more in ["event: rest", "event: v1", "event: v2, ttl: 0s"] {
        let authorizer = authorizer(&format!("{{ name: checker, {more}, {identity} }}"));
        let ports = ports(returning(&policy("Allow", "*")));
        let whole = format!("{TOKEN}User-Agent: curl\r\n");
        for (target, headers, wanted, finds) in [
            ("/?q=1", &*whole, "in", true),
            ("/", &*whole, "401", true),
            ("/?q=", &*whole, "401", true),
            ("/?Q=1", &*whole, "401", true),
            ("/?q=1&q=2", &*whole, "401", true),
            ("/?q=1", TOKEN, "401", true),
            ("/?q=1", "User-Agent: curl\r\n", "401", true),
            ("/?q=1", "User-Agent: curl\r\nAuthorization: \r\n", "401", true),
            ("/?q=1", "User-Agent: curl\r\nAuthorization: a\r\nauthorization: b\r\n", "401", true),
            ("/", "User-Agent: curl\r\n", "401", false),
        ] {
            let mut exchange = exchange(&ports, target, headers);
            assert_eq!(authorizer.finds(&exchange), finds, "{target} {headers}");
            assert_eq!(word(&decide(&authorizer, &mut exchange, &ports)), wanted, "{target} {headers}");
        }
        assert_eq!(ports.asked.borrow().len(), 1, "{more}");
    }
    let everyone = authorizer("{ name: checker, identity: [] }");
    let ports = ports(returning(&policy("Allow", "*")));
    for calls in 1..=3 {
        let mut exchange = exchange(&ports, "/", "");
        assert!(everyone.finds(&exchange) && decide(&everyone, &mut exchange, &ports).is_ok());
        assert_eq!(ports.asked.borrow().len(), calls, "nothing is remembered");
    }
}

#[test]
fn a_token_is_held_against_its_expression_first() {
    let authorizer = authorizer("{ name: checker, kind: token, validation: \"Bearer [a-z]+|x\" }");
    let ports = ports(returning(&policy("Allow", "*")));
    for (token, wanted, calls) in [
        ("Basic x", "401 wrong", 0),
        ("Bearer ", "401 wrong", 0),
        ("xBearer a", "401 wrong", 0),
        ("Bearer a", "in", 1),
        ("x", "in", 2),
    ] {
        let mut exchange = exchange(&ports, "/", &format!("Authorization: {token}\r\n"));
        assert_eq!(
            (word(&decide(&authorizer, &mut exchange, &ports)).as_str(), ports.asked.borrow().len()),
            (wanted, calls),
            "{token}"
        );
    }
    for wrong in ["(", ")(", "a{1000000}"] {
        assert!(expression(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_remembered_is_the_policy_and_each_request_is_judged_anew() {
    for form in ["kind: token", "event: rest", "event: v1", "event: v2"] {
        let authorizer = authorizer(&format!("{{ name: checker, {form}, ttl: 300s }}"));
        let ports = ports(returning(&policy("Allow", "*/GET/menu")));
        let ask = |target: &str, token: &str| {
            let mut exchange = exchange(&ports, target, &format!("Authorization: {token}\r\n"));
            (word(&decide(&authorizer, &mut exchange, &ports)), ports.asked.borrow().len())
        };
        assert_eq!(ask("/menu", "t"), ("in".to_owned(), 1));
        assert_eq!(ask("/orders", "t"), ("403".to_owned(), 1), "as in AWS: it allows the first alone");
        ports.now.set(ports.now() + Duration::from_secs(299));
        assert_eq!(ask("/menu", "t"), ("in".to_owned(), 1));
        assert_eq!(ask("/menu", "u"), ("in".to_owned(), 2));
        ports.now.set(ports.now() + Duration::from_secs(1));
        assert_eq!(ask("/menu", "t"), ("in".to_owned(), 3));
    }
}

#[test]
fn neither_an_error_nor_unauthorized_is_remembered() {
    for says in [raising("Unauthorized"), raising("oops"), returning(&json!(null)), Err(Fault::new(Kind::FunctionBusy, ""))] {
        let (authorizer, ports) = (authorizer("{ name: checker, kind: token }"), ports(says));
        for calls in 1..=2 {
            assert!(decide(&authorizer, &mut exchange(&ports, "/", TOKEN), &ports).is_err());
            assert_eq!(ports.asked.borrow().len(), calls);
        }
        *ports.says.borrow_mut() = returning(&policy("Allow", "*"));
        assert!(decide(&authorizer, &mut exchange(&ports, "/", TOKEN), &ports).is_ok(), "it is well again");
    }
}

#[test]
fn a_no_is_remembered_and_takes_no_place_from_who_was_let_in() {
    let authorizer = authorizer("{ name: checker, simple: true }");
    let ports = ports(returning(&json!({ "isAuthorized": true })));
    assert!(decide(&authorizer, &mut exchange(&ports, "/", "Authorization: right\r\n"), &ports).is_ok());
    *ports.says.borrow_mut() = returning(&json!({ "isAuthorized": false }));
    for guess in 0..20_000 {
        let mut exchange = exchange(&ports, "/", &format!("Authorization: guess-{guess}\r\n"));
        assert_eq!(word(&decide(&authorizer, &mut exchange, &ports)), "403");
    }
    let asked = ports.asked.borrow().len();
    assert!(decide(&authorizer, &mut exchange(&ports, "/", "Authorization: right\r\n"), &ports).is_ok(), "it is still known");
    assert_eq!(word(&decide(&authorizer, &mut exchange(&ports, "/", "Authorization: guess-19999\r\n"), &ports)), "403");
    assert_eq!(ports.asked.borrow().len(), asked);
}

#[test]
fn values_do_not_run_into_each_other() {
    let authorizer = authorizer("{ name: checker, identity: [\"header:a\", \"header:b\"] }");
    let ports = ports(returning(&policy("Allow", "*")));
    for (a, b) in [("x", "yz"), ("xy", "z"), ("yz", "x")] {
        assert!(decide(&authorizer, &mut exchange(&ports, "/", &format!("a: {a}\r\nb: {b}\r\n")), &ports).is_ok());
    }
    assert_eq!(ports.asked.borrow().len(), 3);
}

#[test]
fn many_who_show_the_same_at_once_are_one_question() {
    let authorizer = authorizer("{ name: checker }");
    let ports = ports(returning(&policy("Allow", "*/GET/menu")));
    ports.are_silent.set(true);
    let (mut first, mut second, mut other) =
        (exchange(&ports, "/menu", TOKEN), exchange(&ports, "/orders", TOKEN), exchange(&ports, "/menu", "Authorization: u\r\n"));
    let mut all: Vec<_> = [&mut first, &mut second, &mut other]
        .map(|exchange| match authorizer.decide(exchange, &ports) {
            Hook::Pending(later) => later,
            Hook::Ready(_) => panic!("it is to be asked"),
        })
        .into();
    assert!(all.iter_mut().all(|one| poll(one).is_none()));
    assert_eq!(ports.asked.borrow().len(), 2);
    ports.are_silent.set(false);
    let words: Vec<String> = all.iter_mut().map(|one| word(&poll(one).expect("an answer"))).collect();
    assert_eq!(words, ["in", "403", "in"], "each judged for itself");
}

#[test]
fn without_a_ttl_each_request_is_asked_about() {
    let authorizer = authorizer("{ name: checker, ttl: 0s }");
    let ports = ports(returning(&policy("Allow", "*")));
    ports.are_silent.set(true);
    let (mut first, mut second) = (exchange(&ports, "/a", TOKEN), exchange(&ports, "/b", TOKEN));
    for exchange in [&mut first, &mut second] {
        let Hook::Pending(mut later) = authorizer.decide(exchange, &ports) else { panic!("it is to be asked") };
        assert!(poll(&mut later).is_none());
    }
    let paths: Vec<Value> = ports.asked.borrow().iter().map(|(_, event)| event_of(event)["rawPath"].clone()).collect();
    assert_eq!(paths, ["/a", "/b"]);
}

#[test]
fn a_path_that_is_too_long_for_a_rest_api_asks_nobody() {
    let target = format!("/{}", "x".repeat(ARN_BYTES_MAX));
    for (form, wanted, calls) in [("kind: token", "uri_too_long", 0), ("event: rest", "uri_too_long", 0), ("event: v2", "in", 1)]
    {
        let ports = ports(returning(&policy("Allow", "*")));
        let authorizer = authorizer(&format!("{{ name: checker, {form} }}"));
        assert_eq!(word(&decide(&authorizer, &mut exchange(&ports, &target, TOKEN), &ports)), wanted, "{form}");
        assert_eq!(ports.asked.borrow().len(), calls);
    }
}

#[test]
fn who_it_is_and_what_is_known_of_it() {
    let mut said = policy("Allow", "*");
    said["context"] = json!({ "tenant": "a", "level": 7 });
    for (change, subject, consumer) in [
        (json!({}), Some("user-7"), Some("alice")),
        (json!({ "principalId": "nobody-we-know" }), Some("nobody-we-know"), None),
        (json!({ "principalId": "" }), None, None),
        (json!({ "usageIdentifierKey": "a key of acme" }), Some("user-7"), Some("acme")),
        (json!({ "usageIdentifierKey": "a key of nobody" }), Some("user-7"), Some("alice")),
    ] {
        let mut said = said.clone();
        said.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let ports = ports(returning(&said));
        let principal = decide(&authorizer("{ name: checker }"), &mut exchange(&ports, "/", TOKEN), &ports);
        let principal = principal.unwrap_or_else(|_| panic!("{change}"));
        assert_eq!((principal.subject.as_deref(), principal.consumer_name()), (subject, consumer), "{change}");
        assert_eq!((&principal.claims["tenant"], &principal.claims["level"]), (&json!("a"), &json!(7)));
        assert_eq!((&*principal.authorizer, principal.vouched), ("a", Vouched::Lambda));
        assert_eq!(principal.usage_key.as_deref(), said.get("usageIdentifierKey").and_then(Value::as_str));
    }
    let ports = ports(returning(&said));
    let rest = decide(&authorizer("{ name: checker, event: rest }"), &mut exchange(&ports, "/", TOKEN), &ports);
    assert_eq!(rest.unwrap_or_else(|_| panic!("let in")).claims["level"], json!("7"), "a REST API makes texts of it");
}

#[test]
fn what_it_went_by_is_taken_out_where_that_is_wanted() {
    let authorizer = authorizer("{ name: checker, identity: [\"header:authorization\", \"query:token\", \"cookie:session\"] }");
    let ports = ports(returning(&json!({})));
    let mut exchange = exchange(&ports, "/?a=1&token=x", &format!("{TOKEN}Cookie: a=1; session=x\r\n"));
    authorizer.strip(&mut exchange);
    assert_eq!(exchange.request.headers.get(b"authorization"), None);
    assert_eq!((exchange.request.query(), exchange.request.headers.get(b"cookie")), (Some(&b"a=1"[..]), Some(&b"a=1"[..])));
}

fn event_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("an event is JSON")
}

#[test]
fn a_function_is_told_of_the_request() {
    let arn = "arn:aws:execute-api:eu-west-1:000000000000:/$default/GET/pets/7%2F8";
    let headers =
        format!("{TOKEN}X-Forwarded-For: 1.2.3.4\r\nX-Twice: 1\r\nx-twice: 2\r\nUser-Agent: curl\r\nCookie: a=1; b=2\r\n");
    let event = |more: &str| {
        let ports = ports(returning(&policy("Allow", "*")));
        let authorizer = authorizer(&format!("{{ name: checker, {more} }}"));
        assert!(decide(&authorizer, &mut exchange(&ports, "/pets/7%2F8?a=1&a=b+c%21", &headers), &ports).is_ok(), "{more}");
        let (function, event) = ports.asked.borrow_mut().pop().expect("it was asked");
        assert_eq!(function, 3);
        event_of(&event)
    };
    assert_eq!(event("kind: token"), json!({ "type": "TOKEN", "authorizationToken": "t", "methodArn": arn }));
    let rest = event("event: rest");
    assert_eq!((&rest["type"], &rest["methodArn"], &rest["path"]), (&json!("REQUEST"), &json!(arn), &json!("/pets/7%2F8")));
    assert_eq!(rest["multiValueHeaders"]["X-Forwarded-For"], json!(["10.0.0.7"]), "no client says who it is");
    assert_eq!((&rest["headers"]["X-Twice"], &rest["headers"]["Host"]), (&json!("2"), &json!("api.example.com")));
    assert_eq!(rest["multiValueQueryStringParameters"], json!({ "a": ["1", "b c!"] }));
    let context = &rest["requestContext"];
    assert_eq!(context["identity"], json!({ "sourceIp": "10.0.0.7", "userAgent": "curl" }));
    assert_eq!((&context["requestTime"], &context["stage"]), (&json!("09/Apr/2015:12:34:56 +0000"), &json!("$default")));
    assert_eq!(context.get("authorizer"), None);
    let v1 = event("event: v1");
    assert_eq!((&v1["version"], &v1["identitySource"], &v1["authorizationToken"]), (&json!("1.0"), &json!("t"), &json!("t")));
    let v2 = event("event: v2");
    assert_eq!((&v2["version"], &v2["routeArn"], &v2["identitySource"]), (&json!("2.0"), &json!(arn), &json!(["t"])));
    assert_eq!((&v2["rawQueryString"], &v2["cookies"]), (&json!("a=1&a=b+c%21"), &json!(["a=1", "b=2"])));
    assert_eq!(v2["requestContext"]["http"]["sourceIp"], json!("10.0.0.7"));
    assert_eq!(v2["requestContext"]["timeEpoch"], json!(1_428_582_896_000u64));
}

#[test]
fn a_function_is_told_by_strangers_nothing_that_a_proxy_says() {
    const SAID: [&str; 11] = [
        "X-Real-IP",
        "X_Real_IP",
        "X-Forwarded-Host",
        "X-Forwarded-Client-Cert",
        "x_forwarded_for",
        "X-Amzn-Trace-Id",
        "X_AMZN_TRACE_ID",
        "X-Amzn-Oidc-Identity",
        "x-amzn-mtls-clientcert",
        "x-amzn-tls-version",
        "X-Kept",
    ];
    let headers: String = SAID.iter().map(|name| format!("{name}: forged\r\n")).collect();
    for form in ["event: rest", "event: v1", "event: v2"] {
        for (trusted, wanted) in [(false, 1), (true, SAID.len())] {
            let ports = ports(returning(&policy("Allow", "*")));
            let mut exchange = exchange(&ports, "/", &format!("{TOKEN}Proxy: forged\r\n{headers}"));
            exchange.forwarded.trusted = trusted;
            assert!(decide(&authorizer(&format!("{{ name: checker, {form} }}")), &mut exchange, &ports).is_ok());
            let (_, event) = ports.asked.borrow_mut().pop().expect("it was asked");
            let told = event_of(&event)["headers"].as_object().expect("headers").clone();
            let forged: Vec<&String> = told.iter().filter(|(_, value)| *value == "forged").map(|(name, _)| name).collect();
            assert_eq!(forged.len(), wanted, "{form} {forged:?}");
        }
    }
}

#[test]
fn a_plus_is_the_same_to_what_is_remembered_and_to_what_is_told() {
    let authorizer = authorizer("{ name: checker, event: v2, identity: [\"query:q\"] }");
    let ports = ports(returning(&policy("Allow", "*")));
    for (target, value, calls) in [("/?q=a+b", "a b", 1), ("/?q=a%20b", "a b", 1), ("/?q=a%2Bb", "a+b", 2)] {
        assert!(decide(&authorizer, &mut exchange(&ports, target, ""), &ports).is_ok(), "{target}");
        let asked = ports.asked.borrow();
        let event = event_of(&asked.last().expect("it was asked").1);
        assert_eq!((&event["identitySource"], &event["queryStringParameters"]["q"]), (&json!([value]), &json!(value)));
        assert_eq!(asked.len(), calls, "{target}");
    }
}

#[test]
fn of_format_2_the_path_is_the_one_that_functions_are_told() {
    for (form, wanted) in [("event: v1", "/api/pets/7%2F8%20a"), ("event: v2", "/pets/7/8 a")] {
        let ports = ports(returning(&policy("Allow", "*")));
        let authorizer = authorizer(&format!("{{ name: checker, {form} }}"));
        let mut exchange = exchange(&ports, "/api/pets/7%2F8%20a", TOKEN);
        exchange.local_path = exchange.request.headers.stash(b"/pets/7%2F8%20a");
        assert!(decide(&authorizer, &mut exchange, &ports).is_ok());
        let event = event_of(&ports.asked.borrow_mut().pop().expect("it was asked").1);
        let context = &event["requestContext"];
        let told =
            if form == "event: v2" { (&event["rawPath"], &context["http"]["path"]) } else { (&event["path"], &context["path"]) };
        assert_eq!(told, (&json!(wanted), &json!(wanted)), "{form}");
    }
}
