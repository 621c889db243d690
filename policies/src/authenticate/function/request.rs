//! A request as an authorizer function is told of it: without its body, and without what the gateway alone says.

use super::super::lambda::{self, Request, is_rest};
use super::{ACCOUNT, STAGE};
use maitred_core::aws::sigv4::stamp;
use maitred_core::wire::{Name, path};
use maitred_core::{Exchange, Matched, Ports, is_vouched_for_by_aws};
use maitred_model::{AuthorizerForm, Segment};
use serde_json::{Map, Value, json};
use std::time::Duration;

type Pairs = Vec<(String, String)>;

/// The event, in JSON.
pub(super) fn event(form: AuthorizerForm, (arn, values): (&str, &[String]), exchange: &Exchange, ports: &dyn Ports) -> Vec<u8> {
    let request = &exchange.request;
    let unix = ports.unix_time(ports.now());
    let matched = exchange.matched();
    let api = matched.map_or("", |matched| matched.api);
    let resource = matched.map_or_else(|| text(exchange.local_path()), |matched| matched.path.source.clone());
    let (headers, query) = (headers(exchange), query(exchange));
    let parameters = parameters(matched.as_ref(), exchange, form);
    // As the function behind it is told it.
    let path = if is_http_v2(form) { decoded(exchange.local_path(), false) } else { text(request.path()) };
    let context =
        if is_http_v2(form) { context_v2(exchange, (api, &path), unix) } else { context_v1(exchange, (api, &resource), unix) };
    let told = Request {
        arn,
        method: &text(request.method_text()),
        path: &path,
        resource: &resource,
        route_key: &route_key(exchange),
        raw_query: &text(request.query().unwrap_or_default()),
        headers: &headers,
        query: &query,
        path_parameters: &parameters,
        stage_variables: &[],
        context: &context,
    };
    lambda::event(form, &told, values)
}

fn is_http_v2(form: AuthorizerForm) -> bool {
    match form {
        AuthorizerForm::HttpV2 { .. } => true,
        AuthorizerForm::Token | AuthorizerForm::Rest | AuthorizerForm::HttpV1 => false,
    }
}

/// `GET /pets/{id}`, as the route is written; with several methods, the one that was used.
pub(super) fn route_key(exchange: &Exchange) -> String {
    let Some(Matched { methods, path, .. }) = exchange.matched() else { return STAGE.to_owned() };
    match methods {
        [] => format!("ANY {}", path.source),
        [only] => format!("{only} {}", path.source),
        [_, ..] => format!("{} {}", text(exchange.request.method_text()), path.source),
    }
}

/// What only a proxy that is trusted may say of the client is said by the gateway itself, or not at all.
fn headers(exchange: &Exchange) -> Pairs {
    let headers = &exchange.request.headers;
    let is_ours = |name: &[u8]| {
        let told = [&b"x-forwarded-for"[..], b"x-forwarded-proto", b"x-forwarded-port", b"forwarded", b"host", b"proxy"];
        told.iter().any(|own| own.eq_ignore_ascii_case(name))
    };
    let trusted = exchange.forwarded.trusted;
    let theirs = headers.iter().map(|entry| (headers.name(entry), headers.value(entry)));
    let theirs = theirs.filter(|(name, _)| !is_ours(name) && (trusted || !is_vouched_for_by_aws(name)));
    let mut told: Pairs = theirs.map(|(name, value)| (text(name), text(value))).collect();
    let authority = text(exchange.request.authority());
    let proto = headers.known(Name::XForwardedProto).filter(|_| trusted).map(text);
    let own = [
        ("Host", authority),
        ("X-Forwarded-For", exchange.client_ip().to_string()),
        ("X-Forwarded-Port", exchange.local.port().to_string()),
        ("X-Forwarded-Proto", proto.unwrap_or_else(|| exchange.scheme.text().to_owned())),
    ];
    told.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    told
}

fn query(exchange: &Exchange) -> Pairs {
    let query = exchange.request.query().unwrap_or_default();
    let parts = query.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    let pair = |part: &[u8]| {
        let at = part.iter().position(|byte| *byte == b'=');
        let (name, value) = at.map_or((part, &[][..]), |at| (&part[..at], &part[at + 1..]));
        (decoded(name, true), decoded(value, true))
    };
    parts.map(pair).collect()
}

/// REST APIs tell them as they stand in the path, HTTP APIs decoded.
fn parameters(matched: Option<&Matched<'_>>, exchange: &Exchange, form: AuthorizerForm) -> Pairs {
    let segments = matched.map(|matched| &matched.path.segments[..]).unwrap_or_default();
    let named = segments.iter().filter_map(|segment| match segment {
        Segment::Literal(_) => None,
        Segment::Param(name) => Some((name, false)),
        Segment::Rest(name) => Some((name, true)),
    });
    let value = |(at, (name, is_rest)): (usize, (&String, bool))| {
        let raw = exchange.param(at);
        let raw = if is_rest && !is_http_v2(form) { raw.strip_suffix(b"/").unwrap_or(raw) } else { raw };
        (name.clone(), if is_rest_or_v1(form) { text(raw) } else { decoded(raw, false) })
    };
    named.enumerate().map(value).collect()
}

fn is_rest_or_v1(form: AuthorizerForm) -> bool {
    is_rest(form) || form == AuthorizerForm::HttpV1
}

fn context_v1(exchange: &Exchange, (api, resource): (&str, &str), unix: Duration) -> Map<String, Value> {
    let (method, host, path) = facts(exchange);
    let id = text(exchange.request_id());
    let context = json!({
        "accountId": ACCOUNT,
        "apiId": api,
        "domainName": host,
        "domainPrefix": host.split('.').next().unwrap_or_default(),
        "extendedRequestId": id,
        "httpMethod": method,
        "identity": { "sourceIp": exchange.client_ip().to_string(), "userAgent": user_agent(exchange) },
        "path": path,
        "protocol": "HTTP/1.1",
        "requestId": id,
        "requestTime": moment(unix),
        "requestTimeEpoch": unix.as_millis() as u64,
        "resourcePath": resource,
        "stage": STAGE,
    });
    object(context)
}

fn context_v2(exchange: &Exchange, (api, path): (&str, &str), unix: Duration) -> Map<String, Value> {
    let (method, host, _) = facts(exchange);
    let context = json!({
        "accountId": ACCOUNT,
        "apiId": api,
        "domainName": host,
        "domainPrefix": host.split('.').next().unwrap_or_default(),
        "http": {
            "method": method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": exchange.client_ip().to_string(),
            "userAgent": user_agent(exchange).unwrap_or_default(),
        },
        "requestId": text(exchange.request_id()),
        "routeKey": route_key(exchange),
        "stage": STAGE,
        "time": moment(unix),
        "timeEpoch": unix.as_millis() as u64,
    });
    object(context)
}

fn facts(exchange: &Exchange) -> (String, String, String) {
    let request = &exchange.request;
    (text(request.method_text()), text(request.host()), text(request.path()))
}

fn user_agent(exchange: &Exchange) -> Option<String> {
    exchange.request.headers.known(Name::UserAgent).map(text)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// `09/Apr/2015:12:34:56 +0000`.
fn moment(unix: Duration) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let stamp = text(&stamp::format(unix.as_secs()));
    let month = stamp[4..6].parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?)).unwrap_or(&"Jan");
    format!("{}/{month}/{}:{}:{}:{} +0000", &stamp[6..8], &stamp[..4], &stamp[9..11], &stamp[11..13], &stamp[13..15])
}

fn decoded(bytes: &[u8], is_form: bool) -> String {
    let spaced: Vec<u8> = bytes.iter().map(|&byte| if is_form && byte == b'+' { b' ' } else { byte }).collect();
    let mut out = Vec::with_capacity(spaced.len());
    path::decode(&spaced, &mut out);
    text(&out)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
