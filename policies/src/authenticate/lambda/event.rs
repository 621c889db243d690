//! What an authorizer function is told: the events of AWS API Gateway, byte for byte what functions that were written for it expect. Never a
//! body, and never who it is: that is the question.

use super::Request;
use serde_json::map::Entry;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// These never arrive at a function.
const HOP_BY_HOP: [&str; 12] = [
    "connection",
    "content-length",
    "content-md5",
    "expect",
    "max-forwards",
    "proxy-authenticate",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// `TOKEN` of a REST API.
pub fn token(token: &str, arn: &str) -> Value {
    json!({ "type": "TOKEN", "authorizationToken": token, "methodArn": arn })
}

/// `REQUEST` of a REST API. Maps that are empty are `{}` here, where proxy events have null.
pub fn rest(request: &Request<'_>) -> Value {
    let (headers, multi_headers) = maps(request.headers, true);
    let (query, multi_query) = maps(request.query, false);
    json!({
        "type": "REQUEST",
        "methodArn": request.arn,
        "resource": request.resource,
        "path": request.path,
        "httpMethod": request.method,
        "headers": headers,
        "multiValueHeaders": multi_headers,
        "queryStringParameters": query,
        "multiValueQueryStringParameters": multi_query,
        "pathParameters": plain(request.path_parameters),
        "stageVariables": plain(request.stage_variables),
        "requestContext": context(request),
    })
}

/// `REQUEST` of an HTTP API, format 1.0.
pub fn http_v1(request: &Request<'_>, sources: &[String]) -> Value {
    let mut event = rest(request);
    let joined = sources.join(",");
    event["version"] = "1.0".into();
    event["identitySource"] = joined.as_str().into();
    event["authorizationToken"] = joined.into();
    event
}

/// `REQUEST` of an HTTP API, format 2.0. What is empty is absent.
pub fn http_v2(request: &Request<'_>, sources: &[String]) -> Value {
    let is_cookie = |name: &str| name.eq_ignore_ascii_case("cookie");
    let mut headers = Map::new();
    for (name, value) in request.headers.iter().filter(|(name, _)| !is_cookie(name) && !is_hop_by_hop(name)) {
        join(&mut headers, name.to_ascii_lowercase(), value);
    }
    let mut event = json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": request.arn,
        "identitySource": sources,
        "routeKey": request.route_key,
        "rawPath": request.path,
        "rawQueryString": request.raw_query,
        "headers": headers,
        "requestContext": context(request),
    });
    let crumbs = request.headers.iter().filter(|(name, _)| is_cookie(name)).flat_map(|(_, value)| value.split("; "));
    let cookies: Vec<Value> = crumbs.filter(|crumb| !crumb.is_empty()).map(Value::from).collect();
    let mut query = Map::new();
    for (name, value) in request.query {
        join(&mut query, name.clone(), value);
    }
    let optional = [
        ("cookies", Value::Array(cookies)),
        ("queryStringParameters", Value::Object(query)),
        ("pathParameters", plain(request.path_parameters)),
        ("stageVariables", plain(request.stage_variables)),
    ];
    for (name, value) in optional {
        let is_empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        if !is_empty {
            event[name] = value;
        }
    }
    event
}

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name.to_ascii_lowercase().as_str())
}

/// The last value of each name, and all of them. Names of headers have no case, and keep that of the first.
fn maps(list: &[(String, String)], are_headers: bool) -> (Value, Value) {
    let (mut last, mut all) = (Map::new(), Map::new());
    // Looked up and not searched for: clients choose how many there are.
    let mut first = HashMap::new();
    for (name, value) in list.iter().filter(|(name, _)| !are_headers || !is_hop_by_hop(name)) {
        let name = if are_headers { *first.entry(name.to_ascii_lowercase()).or_insert(name) } else { name };
        last.insert(name.clone(), value.as_str().into());
        if let Value::Array(values) = all.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new())) {
            values.push(value.as_str().into());
        }
    }
    (Value::Object(last), Value::Object(all))
}

fn plain(list: &[(String, String)]) -> Value {
    Value::Object(list.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect())
}

fn join(map: &mut Map<String, Value>, name: String, value: &str) {
    match map.entry(name) {
        Entry::Vacant(vacant) => _ = vacant.insert(value.into()),
        Entry::Occupied(mut occupied) => {
            if let Value::String(joined) = occupied.get_mut() {
                joined.push(',');
                joined.push_str(value);
            }
        }
    }
}

/// Without `authorizer`: nobody has said yet who it is.
fn context(request: &Request<'_>) -> Value {
    let mut context = request.context.clone();
    context.shift_remove("authorizer");
    Value::Object(context)
}
