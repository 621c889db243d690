//! The event of an HTTP API (payload format 2.0), and of a Function URL, which has the same. What is empty is absent.

use super::context::{self, Moment};
use super::json::{Object, joined, list, text};
use super::lists::Query;
use super::{ACCOUNT, Asked, Case, Fields, STAGE, media};
use maitred_wire::{Name, path};
use std::borrow::Cow;

/// Of Function URLs.
const TLS_VERSION: &str = "x-amzn-tls-version";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Api,
    Url,
}

pub(super) fn write(out: &mut Vec<u8>, asked: &Asked<'_>, kind: Kind) {
    let route = match kind {
        Kind::Api => Cow::Owned(route_key(asked)),
        // It has one route alone.
        Kind::Url => Cow::Borrowed(&b"$default"[..]),
    };
    let mut raw_path = Vec::with_capacity(asked.local_path.len());
    path::decode(asked.local_path, &mut raw_path);
    let mut event = Object::begin(out);
    event.text("version", "2.0");
    event.text("routeKey", &route);
    event.text("rawPath", &raw_path);
    event.text("rawQueryString", asked.query.unwrap_or_default());
    cookies(&mut event, asked);
    headers(&mut event, asked, kind);
    query(&mut event, asked.query.unwrap_or_default());
    request_context(&mut event, asked, (&route, &raw_path));
    let is_base64 = !asked.body.is_empty() && media::body(&mut event, asked.body, media::is_text_v2(asked.content_type()));
    if kind == Kind::Api && !asked.params.is_empty() {
        let mut parameters = event.object("pathParameters");
        asked.params(&mut parameters, |out, value, _| {
            let mut decoded = Vec::new();
            path::decode(value, &mut decoded);
            text(out, &decoded);
        });
    }
    event.truth("isBase64Encoded", is_base64);
}

/// The one of the route's methods that it was: AWS's routes have one, or any.
fn route_key(asked: &Asked<'_>) -> Vec<u8> {
    let method = if asked.resource.methods.is_empty() { b"ANY" } else { asked.method };
    [method, b" ", asked.resource.path.as_bytes()].concat()
}

fn cookies(event: &mut Object<'_>, asked: &Asked<'_>) {
    let crumbs = asked.headers.all_known(Name::Cookie).flat_map(|field| field.split(|&byte| byte == b';'));
    let mut crumbs = crumbs.map(<[u8]>::trim_ascii).filter(|crumb| !crumb.is_empty()).peekable();
    if crumbs.peek().is_some() {
        list(event.name("cookies"), crumbs);
    }
}

fn headers(event: &mut Object<'_>, asked: &Asked<'_>, kind: Kind) {
    let tls = asked.tls.filter(|_| kind == Kind::Url);
    let is_ours = |name: &[u8]| tls.is_some() && name.eq_ignore_ascii_case(TLS_VERSION.as_bytes());
    let fields = Fields::of(asked, Case::Lower, |known, name| known != Name::Cookie && !is_ours(name));
    let mut headers = event.object("headers");
    for (name, values) in fields.each() {
        joined(headers.foreign_lower(name), values);
    }
    if let Some(tls) = tls {
        headers.text(TLS_VERSION, tls.version);
    }
}

fn query(event: &mut Object<'_>, query: &[u8]) {
    let query = Query::decoded(query);
    if query.is_empty() {
        return;
    }
    let mut parameters = event.object("queryStringParameters");
    for run in query.groups().iter() {
        joined(parameters.foreign(query.name(run[0])), run.iter().map(|&at| query.value(at)));
    }
}

fn request_context(event: &mut Object<'_>, asked: &Asked<'_>, (route, path): (&[u8], &[u8])) {
    let moment = Moment::of(asked.time);
    let mut inner = event.object("requestContext");
    inner.text("accountId", ACCOUNT);
    inner.text("apiId", &*asked.resource.api);
    if asked.tls.is_some_and(|tls| !tls.client_chain.is_empty()) {
        context::client_certificate(&mut inner.object("authentication"), asked);
    }
    context::http_authorizer(&mut inner, asked);
    inner.text("domainName", asked.host);
    inner.text("domainPrefix", context::prefix(asked.host));
    {
        let mut http = inner.object("http");
        http.text("method", asked.method);
        http.text("path", path);
        http.text("protocol", "HTTP/1.1");
        http.text("sourceIp", asked.client);
        http.text("userAgent", asked.user_agent().unwrap_or_default());
    }
    inner.text("requestId", asked.request_id);
    inner.text("routeKey", route);
    inner.text("stage", STAGE);
    inner.text("time", moment.text());
    inner.number("timeEpoch", moment.millis());
}
