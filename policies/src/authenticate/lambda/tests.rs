//! The rows of AWS's tables, with a function that says what it is told to.

use super::*;
use maitred_core::{Fault, Kind};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context as TaskContext, Poll, Waker};

/// Says the same until it is told otherwise, and notes what it was asked.
struct Scripted {
    says: RefCell<Result<Invoked, Fault>>,
    events: RefCell<Vec<Value>>,
}

impl Scripted {
    fn new(says: Result<Invoked, Fault>) -> Scripted {
        Scripted { says: RefCell::new(says), events: RefCell::default() }
    }

    fn returning(value: &Value) -> Scripted {
        Scripted::new(Ok(Invoked::Returned(value.to_string().into_bytes())))
    }

    fn calls(&self) -> usize {
        self.events.borrow().len()
    }
}

impl Invoke for Scripted {
    fn invoke<'a>(&'a self, event: Vec<u8>, _: Duration) -> Invoking<'a> {
        self.events.borrow_mut().push(serde_json::from_slice(&event).expect("an event is JSON"));
        let says = self.says.borrow().clone();
        Box::pin(async move { says })
    }
}

/// A request that tests change where they need to.
struct Asked {
    arn: String,
    stage: &'static str,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
    path_parameters: Vec<(String, String)>,
    stage_variables: Vec<(String, String)>,
    context: Map<String, Value>,
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

const PLACE: Place<'static> = Place { region: "eu-west-1", account: "123456789012", api: "abc", stage: "prod" };

impl Asked {
    fn new(headers: &[(&str, &str)]) -> Asked {
        let context = json!({ "stage": "prod", "routeKey": "GET /pets/{id}", "identity": { "sourceIp": "10.0.0.7" }, "authorizer": { "principalId": "mallory" } });
        Asked {
            arn: arn(PLACE, "GET", "/pets/7%2F8"),
            stage: "prod",
            headers: pairs(headers),
            query: Vec::new(),
            path_parameters: Vec::new(),
            stage_variables: Vec::new(),
            context: context.as_object().unwrap().clone(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            arn: &self.arn,
            stage: self.stage,
            method: "GET",
            path: "/pets/7%2F8",
            resource: "/pets/{id}",
            route_key: "GET /pets/{id}",
            raw_query: "a=1&a=2",
            headers: &self.headers,
            query: &self.query,
            path_parameters: &self.path_parameters,
            stage_variables: &self.stage_variables,
            context: &self.context,
            circumstances: Circumstances {
                source_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
                is_secure: true,
                user_agent: None,
                referer: None,
            },
        }
    }
}

fn header(name: &str) -> Source {
    Source::Header(name.to_owned())
}

fn lambda(form: Form, sources: &[Source], ttl: u64) -> Lambda {
    Lambda::new(1, form, sources.to_vec(), None, Duration::from_secs(ttl)).expect("a good authorizer")
}

fn decide_at(lambda: &Lambda, asked: &Asked, memory: &RefCell<Memory>, function: &Scripted, now: Instant) -> Outcome {
    let request = asked.request();
    let mut decided = Box::pin(lambda.decide(&request, memory, function, now));
    match decided.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("a scripted function answers at once"),
    }
}

fn decide(lambda: &Lambda, asked: &Asked, function: &Scripted) -> Outcome {
    decide_at(lambda, asked, &RefCell::default(), function, Instant::now())
}

fn policy(effect: &str, resource: &str) -> Value {
    json!({
        "principalId": "alice",
        "policyDocument": { "Version": "2012-10-17", "Statement": [{ "Effect": effect, "Action": "execute-api:Invoke", "Resource": resource }] },
    })
}

fn status(outcome: &Outcome, form: Form) -> u16 {
    outcome.told(form).map_or(200, |told| told.status)
}

const FORMS: [Form; 5] = [Form::Token, Form::Rest, Form::HttpV1, Form::HttpV2 { simple: false }, Form::HttpV2 { simple: true }];

#[test]
fn the_arn_has_the_actual_method_and_path() {
    assert_eq!(arn(PLACE, "GET", "/pets/7%2F8"), "arn:aws:execute-api:eu-west-1:123456789012:abc/prod/GET/pets/7%2F8");
    let default = Place { stage: "$default", ..PLACE };
    assert_eq!(arn(default, "POST", "/"), "arn:aws:execute-api:eu-west-1:123456789012:abc/$default/POST/");
}

#[test]
fn sources_are_written_as_each_kind_of_api_writes_them() {
    for (text, rest, http) in [
        ("method.request.header.Authorization", Some(header("Authorization")), None),
        ("method.request.querystring.q", Some(Source::Query("q".to_owned())), None),
        ("stageVariables.v", Some(Source::StageVariable("v".to_owned())), None),
        ("context.identity.sourceIp", Some(Source::Context("identity.sourceIp".to_owned())), None),
        ("$request.header.Authorization", None, Some(header("Authorization"))),
        ("$request.querystring.q", None, Some(Source::Query("q".to_owned()))),
        ("$stageVariables.v", None, Some(Source::StageVariable("v".to_owned()))),
        ("$context.routeKey", None, Some(Source::Context("routeKey".to_owned()))),
        ("method.request.path.id", None, None),
        ("method.request.header.", None, None),
        ("", None, None),
    ] {
        assert_eq!((Source::parse_rest(text), Source::parse_http(text)), (rest, http), "{text}");
    }
}

#[test]
fn without_an_identity_source_nobody_is_asked() {
    let sources = [
        header("Authorization"),
        Source::Query("q".to_owned()),
        Source::StageVariable("v".to_owned()),
        Source::Context("identity.sourceIp".to_owned()),
    ];
    let whole = || Asked {
        query: pairs(&[("q", "1")]),
        stage_variables: pairs(&[("v", "1")]),
        ..Asked::new(&[("AUTHORIZATION", "token")])
    };
    for form in [Form::Rest, Form::HttpV1, Form::HttpV2 { simple: false }] {
        for ttl in [0, 300] {
            let lambda = lambda(form, &sources, ttl);
            let function = Scripted::returning(&policy("Allow", "*"));
            assert!(matches!(decide(&lambda, &whole(), &function), Outcome::Allowed(_)));
            let lacking = [
                Asked { headers: Vec::new(), ..whole() },
                Asked { headers: pairs(&[("Authorization", "")]), ..whole() },
                Asked { headers: pairs(&[("Authorization", "a"), ("authorization", "b")]), ..whole() },
                Asked { query: Vec::new(), ..whole() },
                Asked { query: pairs(&[("Q", "1")]), ..whole() },
                Asked { query: pairs(&[("q", "1"), ("q", "2")]), ..whole() },
                Asked { stage_variables: Vec::new(), ..whole() },
                Asked { context: Map::new(), ..whole() },
            ];
            for asked in lacking {
                let outcome = decide(&lambda, &asked, &function);
                assert_eq!((status(&outcome, form), function.calls()), (401, 1), "{form:?} {:?}", asked.headers);
            }
        }
    }
}

#[test]
fn a_token_is_held_against_its_expression_first() {
    let validation: Validation = Box::new(|token| token.strip_prefix("Bearer ").is_some_and(|rest| !rest.is_empty()));
    let lambda = Lambda::new(1, Form::Token, vec![header("Authorization")], Some(validation), Duration::ZERO).unwrap();
    let function = Scripted::returning(&policy("Allow", "*"));
    for (token, status_wanted, calls) in [("Basic x", 401, 0), ("Bearer ", 401, 0), ("Bearer x", 200, 1)] {
        let outcome = decide(&lambda, &Asked::new(&[("Authorization", token)]), &function);
        assert_eq!((status(&outcome, Form::Token), function.calls()), (status_wanted, calls), "{token}");
    }
}

#[test]
fn without_sources_and_memory_it_is_always_asked() {
    let (lambda, memory) = (lambda(Form::Rest, &[], 0), RefCell::default());
    let function = Scripted::returning(&policy("Allow", "*"));
    for calls in 1..=3 {
        assert!(matches!(decide_at(&lambda, &Asked::new(&[]), &memory, &function, Instant::now()), Outcome::Allowed(_)));
        assert_eq!(function.calls(), calls);
    }
    assert!(memory.borrow().is_empty());
}

#[test]
fn what_cannot_be_is_no_authorizer() {
    let new = |form, sources: &[Source], validation: bool, ttl| {
        let validation = validation.then(|| Box::new(|_: &str| true) as Validation);
        Lambda::new(1, form, sources.to_vec(), validation, Duration::from_secs(ttl)).is_ok()
    };
    assert!(new(Form::Token, &[header("a")], true, 3600));
    assert!(new(Form::Rest, &[], false, 0));
    assert!(!new(Form::Token, &[], false, 0));
    assert!(!new(Form::Token, &[header("a"), header("b")], false, 0));
    assert!(!new(Form::Token, &[Source::Query("a".to_owned())], false, 0));
    assert!(!new(Form::Rest, &[], false, 300));
    assert!(!new(Form::HttpV2 { simple: true }, &[], false, 1));
    assert!(!new(Form::Rest, &[header("a")], false, 3601));
    assert!(!new(Form::Rest, &[header("a")], true, 0));
}

#[test]
fn what_the_client_is_told() {
    let returned = |value: Value| Ok(Invoked::Returned(value.to_string().into_bytes()));
    let raised =
        |message: &str| Ok(Invoked::Raised(json!({ "errorMessage": message, "errorType": "Error" }).to_string().into_bytes()));
    let unable = || Err(Fault::new(Kind::UpstreamTimeout, "too slow"));
    const DENIED: &str = r#"{"Message":"User is not authorized to access this resource"}"#;
    const DENIED_EXPLICITLY: &str = r#"{"Message":"User is not authorized to access this resource with an explicit deny"}"#;
    const UNAUTHORIZED: &str = r#"{"message":"Unauthorized"}"#;
    const NULL: &str = r#"{"message":null}"#;
    const FORBIDDEN: &str = r#"{"message":"Forbidden"}"#;
    const FAILED: &str = r#"{"message":"Internal Server Error"}"#;
    type Row = (Result<Invoked, Fault>, (u16, &'static str), (u16, &'static str));
    let rows: [Row; 9] = [
        (returned(policy("Allow", "*")), (200, ""), (200, "")),
        (returned(policy("Allow", "nothing")), (403, DENIED), (403, FORBIDDEN)),
        (returned(policy("Deny", "*")), (403, DENIED_EXPLICITLY), (403, FORBIDDEN)),
        (raised("Unauthorized"), (401, UNAUTHORIZED), (401, UNAUTHORIZED)),
        (raised("unauthorized"), (500, NULL), (500, FAILED)),
        (raised("Error: Unauthorized"), (500, NULL), (500, FAILED)),
        (unable(), (500, NULL), (500, FAILED)),
        (returned(json!({ "isAuthorized": true })), (500, NULL), (500, FAILED)),
        (returned(json!("Unauthorized")), (500, NULL), (500, FAILED)),
    ];
    for (says, rest, http) in rows {
        for form in [Form::Token, Form::Rest, Form::HttpV1, Form::HttpV2 { simple: false }] {
            let function = Scripted::new(says.clone());
            let outcome = decide(&lambda(form, &[header("Authorization")], 0), &Asked::new(&[("Authorization", "t")]), &function);
            let told = outcome.told(form);
            let wanted = if form.is_rest() { rest } else { http };
            assert_eq!(told.map_or((200, ""), |told| (told.status, told.body)), wanted, "{form:?} {says:?}");
            assert!(told.is_none_or(|told| told.error_type.is_some() == form.is_rest()));
        }
    }
    let simple = Form::HttpV2 { simple: true };
    for (says, wanted) in [
        (returned(json!({ "isAuthorized": true })), 200),
        (returned(json!({ "isAuthorized": false })), 403),
        (returned(json!({ "isAuthorized": "true" })), 500),
        (returned(policy("Allow", "*")), 500),
        (raised("Unauthorized"), 500),
        (unable(), 500),
    ] {
        let function = Scripted::new(says.clone());
        let outcome = decide(&lambda(simple, &[header("Authorization")], 0), &Asked::new(&[("Authorization", "t")]), &function);
        assert_eq!(status(&outcome, simple), wanted, "{says:?}");
    }
    assert_eq!(Outcome::ImplicitDeny.told(Form::Rest).and_then(|told| told.error_type), Some("AccessDeniedException"),);
    assert_eq!(Outcome::Failed("").told(Form::Token).and_then(|told| told.error_type), Some("AuthorizerConfigurationException"));
}

#[test]
fn an_arn_that_is_too_long_asks_nobody() {
    let mut asked = Asked::new(&[("Authorization", "t")]);
    asked.arn = "x".repeat(ARN_BYTES_MAX + 1);
    let function = Scripted::returning(&policy("Allow", "*"));
    let outcome = decide(&lambda(Form::Token, &[header("Authorization")], 0), &asked, &function);
    assert_eq!((status(&outcome, Form::Token), function.calls()), (414, 0));
}

#[test]
fn what_is_remembered_is_the_policy_and_each_method_is_judged_anew() {
    for form in [Form::Token, Form::Rest, Form::HttpV1, Form::HttpV2 { simple: false }] {
        let (lambda, memory, now) = (lambda(form, &[header("Authorization")], 300), RefCell::default(), Instant::now());
        let first = Asked::new(&[("Authorization", "t")]);
        let mut second = Asked::new(&[("Authorization", "t")]);
        second.arn = arn(PLACE, "POST", "/pets");
        let function = Scripted::returning(&policy("Allow", &first.arn));
        let decide = |asked: &Asked, now| decide_at(&lambda, asked, &memory, &function, now);
        assert!(matches!(decide(&first, now), Outcome::Allowed(_)));
        assert_eq!(decide(&second, now), Outcome::ImplicitDeny, "as in AWS: it allows the first method alone");
        assert!(matches!(decide(&first, now + Duration::from_secs(299)), Outcome::Allowed(_)));
        assert_eq!(function.calls(), 1);
        decide(&first, now + Duration::from_secs(300));
        assert_eq!(function.calls(), 2);
        let mut other = Asked::new(&[("Authorization", "u")]);
        decide(&other, now);
        other.stage = "dev";
        decide(&other, now);
        assert_eq!(function.calls(), 4, "another token, another stage");
    }
}

#[test]
fn neither_an_error_nor_unauthorized_is_remembered() {
    for says in [
        Ok(Invoked::Raised(br#"{"errorMessage":"Unauthorized"}"#.to_vec())),
        Ok(Invoked::Returned(b"null".to_vec())),
        Err(Fault::new(Kind::UpstreamTimeout, "")),
    ] {
        let (lambda, memory) = (lambda(Form::Token, &[header("Authorization")], 300), RefCell::default());
        let function = Scripted::new(says);
        for calls in 1..=2 {
            decide_at(&lambda, &Asked::new(&[("Authorization", "t")]), &memory, &function, Instant::now());
            assert_eq!(function.calls(), calls);
        }
    }
}

#[test]
fn values_of_sources_do_not_run_into_each_other() {
    let (lambda, memory) = (lambda(Form::Rest, &[header("a"), header("b")], 300), RefCell::default());
    let function = Scripted::returning(&policy("Allow", "*"));
    for (a, b) in [("x", "yz"), ("xy", "z"), ("yz", "x")] {
        decide_at(&lambda, &Asked::new(&[("a", a), ("b", b)]), &memory, &function, Instant::now());
    }
    assert_eq!(function.calls(), 3);
}

#[test]
fn memory_is_bounded() {
    let (mut memory, now) = (Memory::default(), Instant::now());
    let said = Arc::new(result::read_simple(br#"{"isAuthorized":true}"#).unwrap());
    for at in 0..5000u32 {
        memory.put(memory::key(1, "prod", &[at.to_string()]), said.clone(), (now, now + TTL_MAX));
    }
    assert!(memory.len() <= 1024 && memory.get(&memory::key(1, "prod", &["4999".to_owned()]), now).is_some());
}

#[test]
fn the_function_is_told_what_aws_tells() {
    let asked = Asked {
        query: pairs(&[("a", "1"), ("a", "2")]),
        path_parameters: pairs(&[("id", "7/8")]),
        stage_variables: pairs(&[("v", "w")]),
        ..Asked::new(&[
            ("Authorization", "t"),
            ("X-Twice", "1"),
            ("x-twice", "2"),
            ("Cookie", "a=1; b=2"),
            ("Connection", "close"),
            ("Content-Length", "5"),
        ])
    };
    let event = |form| {
        let function = Scripted::returning(&policy("Allow", "*"));
        decide(&lambda(form, &[header("Authorization")], 0), &asked, &function);
        function.events.take().pop().expect("it was asked")
    };
    let context = json!({ "stage": "prod", "routeKey": "GET /pets/{id}", "identity": { "sourceIp": "10.0.0.7" } });
    assert_eq!(event(Form::Token), json!({ "type": "TOKEN", "authorizationToken": "t", "methodArn": asked.arn }));
    let rest = json!({
        "type": "REQUEST",
        "methodArn": asked.arn,
        "resource": "/pets/{id}",
        "path": "/pets/7%2F8",
        "httpMethod": "GET",
        "headers": { "Authorization": "t", "X-Twice": "2", "Cookie": "a=1; b=2" },
        "multiValueHeaders": { "Authorization": ["t"], "X-Twice": ["1", "2"], "Cookie": ["a=1; b=2"] },
        "queryStringParameters": { "a": "2" },
        "multiValueQueryStringParameters": { "a": ["1", "2"] },
        "pathParameters": { "id": "7/8" },
        "stageVariables": { "v": "w" },
        "requestContext": context,
    });
    assert_eq!(event(Form::Rest), rest);
    let mut v1 = rest;
    for (name, value) in [("version", "1.0"), ("identitySource", "t"), ("authorizationToken", "t")] {
        v1[name] = value.into();
    }
    assert_eq!(event(Form::HttpV1), v1);
    assert_eq!(
        event(Form::HttpV2 { simple: false }),
        json!({
            "version": "2.0",
            "type": "REQUEST",
            "routeArn": asked.arn,
            "identitySource": ["t"],
            "routeKey": "GET /pets/{id}",
            "rawPath": "/pets/7%2F8",
            "rawQueryString": "a=1&a=2",
            "cookies": ["a=1", "b=2"],
            "headers": { "authorization": "t", "x-twice": "1,2" },
            "queryStringParameters": { "a": "1,2" },
            "requestContext": context,
            "pathParameters": { "id": "7/8" },
            "stageVariables": { "v": "w" },
        })
    );
    let bare = Asked::new(&[("Authorization", "t")]);
    let function = Scripted::returning(&policy("Allow", "*"));
    decide(&lambda(Form::Rest, &[header("Authorization")], 0), &bare, &function);
    decide(&lambda(Form::HttpV2 { simple: true }, &[header("Authorization")], 0), &bare, &function);
    let events = function.events.borrow();
    assert_eq!(events[0]["pathParameters"], json!({}), "empty, and not null");
    assert!(events[1].get("pathParameters").is_none() && events[1].get("cookies").is_none());
}

#[test]
fn context_is_text_in_rest_and_itself_in_http() {
    let mut result = policy("Allow", "*");
    result["context"] = json!({ "level": 7, "list": [1] });
    result["usageIdentifierKey"] = "key".into();
    for form in FORMS {
        if form == (Form::HttpV2 { simple: true }) {
            result["isAuthorized"] = true.into();
        }
        let outcome = decide(
            &lambda(form, &[header("Authorization")], 0),
            &Asked::new(&[("Authorization", "t")]),
            &Scripted::returning(&result),
        );
        match outcome {
            Outcome::Allowed(said) => {
                assert!(!form.is_rest());
                assert_eq!(Value::Object(said.context.clone()), json!({ "level": 7, "list": [1] }));
            }
            other => assert!(form.is_rest() && matches!(other, Outcome::Failed(_)), "{form:?}: {other:?}"),
        }
    }
}
