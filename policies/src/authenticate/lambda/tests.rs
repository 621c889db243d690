//! The rows of AWS's tables that are pure; what is asked when, and what is remembered, stands with `function`.

use super::*;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};

/// A request that tests change where they need to.
struct Asked {
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
    path_parameters: Vec<(String, String)>,
    stage_variables: Vec<(String, String)>,
    context: Map<String, Value>,
}

const ARN: &str = "arn:aws:execute-api:eu-west-1:123456789012:abc/prod/GET/pets/7%2F8";
const FORMS: [AuthorizerForm; 5] = [
    AuthorizerForm::Token,
    AuthorizerForm::Rest,
    AuthorizerForm::HttpV1,
    AuthorizerForm::HttpV2 { simple: false },
    AuthorizerForm::HttpV2 { simple: true },
];

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

impl Asked {
    fn new(headers: &[(&str, &str)]) -> Asked {
        let context = json!({ "stage": "prod", "routeKey": "GET /pets/{id}", "identity": { "sourceIp": "10.0.0.7" }, "authorizer": { "principalId": "mallory" } });
        Asked {
            headers: pairs(headers),
            query: Vec::new(),
            path_parameters: Vec::new(),
            stage_variables: Vec::new(),
            context: context.as_object().unwrap().clone(),
        }
    }

    fn event(&self, form: AuthorizerForm) -> Value {
        let request = Request {
            arn: ARN,
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
        };
        serde_json::from_slice(&event(form, &request, &["t".to_owned()])).expect("an event is JSON")
    }
}

fn policy(effect: &str, resource: &str) -> Value {
    json!({
        "principalId": "alice",
        "policyDocument": { "Version": "2012-10-17", "Statement": [{ "Effect": effect, "Action": "execute-api:Invoke", "Resource": resource }] },
    })
}

fn returned(value: &Value) -> Invoked {
    Invoked::Returned(value.to_string().into_bytes())
}

fn raised(message: &str) -> Invoked {
    Invoked::Raised(json!({ "errorMessage": message, "errorType": "Error" }).to_string().into_bytes())
}

/// `None`: it failed, or the credential is not valid.
fn verdict(form: AuthorizerForm, invoked: Invoked) -> Option<Verdict> {
    let source_ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    let circumstances = Circumstances { source_ip, is_secure: true, user_agent: None, referer: None };
    match read(form, invoked) {
        Ok(Answer::Said(said)) => Some(judge(&said, ARN, &circumstances)),
        Ok(Answer::Unauthorized) | Err(_) => None,
    }
}

#[test]
fn what_a_policy_means() {
    for form in [AuthorizerForm::Token, AuthorizerForm::Rest, AuthorizerForm::HttpV1, AuthorizerForm::HttpV2 { simple: false }] {
        for (invoked, wanted) in [
            (returned(&policy("Allow", "*")), Some(Verdict::Allow)),
            (returned(&policy("Allow", ARN)), Some(Verdict::Allow)),
            (returned(&policy("Allow", "nothing")), Some(Verdict::ImplicitDeny)),
            (returned(&policy("Deny", "*")), Some(Verdict::ExplicitDeny)),
            (returned(&json!({ "isAuthorized": true })), None),
            (returned(&json!("Unauthorized")), None),
            (raised("Unauthorized"), None),
        ] {
            assert_eq!(verdict(form, invoked.clone()), wanted, "{form:?} {invoked:?}");
        }
        for (message, is_unauthorized) in [("Unauthorized", true), ("unauthorized", false), ("Error: Unauthorized", false)] {
            assert_eq!(
                read(form, raised(message)).is_ok_and(|answer| answer == Answer::Unauthorized),
                is_unauthorized,
                "{message}"
            );
        }
    }
}

#[test]
fn what_yes_and_no_mean() {
    let simple = AuthorizerForm::HttpV2 { simple: true };
    for (invoked, wanted) in [
        (returned(&json!({ "isAuthorized": true })), Some(Verdict::Allow)),
        (returned(&json!({ "isAuthorized": false })), Some(Verdict::ImplicitDeny)),
        (returned(&json!({ "isAuthorized": "true" })), None),
        (returned(&policy("Allow", "*")), None),
        (raised("Unauthorized"), None),
    ] {
        assert_eq!(verdict(simple, invoked.clone()), wanted, "{invoked:?}");
    }
    assert!(read(simple, raised("Unauthorized")).is_err(), "here that is an error as any other");
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
    let event = |form| asked.event(form);
    let context = json!({ "stage": "prod", "routeKey": "GET /pets/{id}", "identity": { "sourceIp": "10.0.0.7" } });
    assert_eq!(event(AuthorizerForm::Token), json!({ "type": "TOKEN", "authorizationToken": "t", "methodArn": ARN }));
    let rest = json!({
        "type": "REQUEST",
        "methodArn": ARN,
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
    assert_eq!(event(AuthorizerForm::Rest), rest);
    let mut v1 = rest;
    for (name, value) in [("version", "1.0"), ("identitySource", "t"), ("authorizationToken", "t")] {
        v1[name] = value.into();
    }
    assert_eq!(event(AuthorizerForm::HttpV1), v1);
    assert_eq!(
        event(AuthorizerForm::HttpV2 { simple: false }),
        json!({
            "version": "2.0",
            "type": "REQUEST",
            "routeArn": ARN,
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
    let many: Vec<(String, String)> = (0..100_000).map(|at| (format!("q{}", at / 2), "x".to_owned())).collect();
    let many = Asked { query: [many, pairs(&[("a", ""); 100_000])].concat(), ..Asked::new(&[]) };
    assert_eq!(many.event(AuthorizerForm::Rest)["multiValueQueryStringParameters"]["q49999"], json!(["x", "x"]));
    let joined = many.event(AuthorizerForm::HttpV2 { simple: true })["queryStringParameters"].take();
    assert_eq!((&joined["q7"], joined["a"].as_str().map(str::len)), (&json!("x,x"), Some(99_999)));
    let bare = Asked::new(&[("Authorization", "t")]);
    assert_eq!(bare.event(AuthorizerForm::Rest)["pathParameters"], json!({}), "empty, and not null");
    let plain = bare.event(AuthorizerForm::HttpV2 { simple: true });
    assert!(plain.get("pathParameters").is_none() && plain.get("cookies").is_none());
}

#[test]
fn context_is_text_in_rest_and_itself_in_http() {
    let mut result = policy("Allow", "*");
    result["context"] = json!({ "level": 7, "list": [1] });
    result["usageIdentifierKey"] = "key".into();
    result["isAuthorized"] = true.into();
    for form in FORMS {
        match read(form, returned(&result)) {
            Ok(Answer::Said(said)) => {
                assert!(!is_rest(form));
                assert_eq!(Value::Object(said.context.clone()), json!({ "level": 7, "list": [1] }));
            }
            other => assert!(is_rest(form) && other.is_err(), "{form:?}: {other:?}"),
        }
    }
}
