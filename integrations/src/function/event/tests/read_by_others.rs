//! What functions in Rust read of it, and whether they would write the same.

use super::*;
use aws_lambda_events::event::alb::AlbTargetGroupRequest;
use aws_lambda_events::event::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn everything() -> Request {
    let principal = Principal {
        claims: claims(json!({ "sub": "alice", "groups": ["a", "b"] })),
        scopes: ["read"].map(Box::from).into(),
        ..alice()
    };
    Request {
        method: "POST",
        query: Some("a=1&a=2&b=x%20y"),
        principal: Some((principal, Vouched::Claims)),
        body: "{\"é\":1}".as_bytes(),
        ..with_headers(&[("content-type", "application/json"), ("cookie", "a=1; b=2"), ("x-twice", "1"), ("x-twice", "2")])
    }
}

/// Members of ours that did not come back as they were.
fn lost(ours: &Value, theirs: Option<&Value>, place: &str, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(members), Some(Value::Object(others))) => {
            for (name, value) in members {
                let found = others.get(name);
                // Headers are maps of theirs, with names in small letters.
                let found = found.or_else(|| others.get(&name.to_ascii_lowercase()));
                lost(value, found, &format!("{place}/{name}"), out);
            }
        }
        (Value::Null, None) => {}
        (ours, theirs) if theirs == Some(ours) => {}
        _ => out.push(place.to_owned()),
    }
}

#[track_caller]
fn check<T: DeserializeOwned + Serialize>(form: &Form, unknown: &[&str]) {
    let bytes = everything().bytes(form);
    let read: T = serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)));
    let (ours, theirs) = (serde_json::from_slice(&bytes).unwrap(), serde_json::to_value(&read).unwrap());
    let mut found = Vec::new();
    lost(&ours, Some(&theirs), "", &mut found);
    assert_eq!(found, unknown, "{theirs:#}");
}

#[test]
fn http_apis() {
    check::<ApiGatewayV2httpRequest>(&form(EventForm::V2), &[]);
}

#[test]
fn function_urls() {
    // Its types leave out what is the same for all of them, and tokens, which a Function URL of AWS cannot verify.
    let unknown = ["/routeKey", "/requestContext/authorizer/jwt", "/requestContext/routeKey", "/requestContext/stage"];
    check::<LambdaFunctionUrlRequest>(&form(EventForm::Url), &unknown);
}

#[test]
fn rest_apis() {
    // Its types know less than AWS says, and write an empty map for null.
    let unknown = ["/stageVariables", "/requestContext/deploymentId", "/requestContext/extendedRequestId"];
    check::<ApiGatewayProxyRequest>(&form(EventForm::V1), &unknown);
}

#[test]
fn load_balancers() {
    check::<AlbTargetGroupRequest>(&form(EventForm::Alb), &[]);
    check::<AlbTargetGroupRequest>(&Form { multi_value_headers: true, ..form(EventForm::Alb) }, &[]);
}
