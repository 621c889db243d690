//! Endpoints: one place that requests go to, written as a URL or as a name with many addresses.

use super::listeners::socket;
use super::values::Name;
use crate::decode::{Cx, Defs, Shape, named, record, text, texts, whole, whole_schema, words};
use crate::diagnostics::Diagnostic;
use crate::document::{Authority, Endpoint, Scheme};
use crate::span::{Span, Spanned};
use crate::values::{HostPattern, ValueError, canonical_path, parse_socket};
use crate::yaml::Node;
use serde_json::Value;
use std::net::SocketAddr;
use std::num::NonZeroU32;

texts! {
    /// A DNS name and port, as in `orders.internal:9000`.
    NameAndPort => Authority, parse_dns, "a name and port such as `orders.internal:9000`", "^[A-Za-z0-9._-]+:[0-9]+$";
    /// A name with SRV records (RFC 2782), as in `_http._tcp.orders.internal`.
    ServiceName => Authority, parse_service, "a name such as `_http._tcp.orders.internal`", "^[A-Za-z0-9._-]+$";
}

words! {
    /// How the endpoints behind a DNS name are spoken to.
    Scheme {
        /// Without TLS.
        Http = "http",
        /// With TLS.
        Https = "https",
    }
}

record! {
    /// An endpoint in long form: `url`, `dns` or `srv`.
    "an endpoint" => struct RawEndpoint {
        /// One address, a name that is one endpoint, or a unix socket.
        url: Option<Spanned<EndpointUrl>> = absent,
        /// A name and port: every address behind it is an endpoint.
        dns: Option<Spanned<NameAndPort>> = absent,
        /// A name with SRV records, such as `_http._tcp.orders.internal`: every host and port that they name is an endpoint.
        srv: Option<Spanned<ServiceName>> = absent,
        /// With `dns` and `srv`: `http` by default.
        scheme: Option<Spanned<Scheme>> = absent,
        /// Its share of the requests, beside the weights of the others.
        weight: NonZeroU32 = "1",
        /// Where it stands: gateways of the same `zone` prefer it.
        zone: Option<Name> = absent,
        /// Higher numbers are for when the endpoints of the lower ones are not enough.
        priority: EndpointPriority = "0",
    }
}

/// An endpoint as a URL.
pub(crate) struct EndpointUrl;

impl Shape for EndpointUrl {
    type Out = Endpoint;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Endpoint> {
        let endpoint = text(node, cx, "a URL such as `http://127.0.0.1:9001`", |scalar| parse_endpoint(&scalar.text))?;
        placed(endpoint, node.span, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        const DOC: &str =
            "An endpoint: `http://host:port` or `https://host:port`, with a path to prefix if any, or `unix:/run/app.sock`.";
        named(defs, "EndpointUrl", &[DOC], "^(https?://[^/?#]+(/[^?#]*)?|unix:.+)$")
    }
}

/// A relative path of a socket is relative to the file that names it.
fn placed(endpoint: Endpoint, span: Span, cx: &mut Cx<'_>) -> Option<Endpoint> {
    match endpoint.authority {
        Authority::Unix(path) => Some(Endpoint { authority: Authority::Unix(socket(path, span, cx)?), ..endpoint }),
        Authority::Address(_) | Authority::Name { .. } | Authority::Service(_) => Some(endpoint),
    }
}

pub(crate) struct EndpointLong;

impl Shape for EndpointLong {
    type Out = Endpoint;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Endpoint> {
        let RawEndpoint { url, dns, srv, scheme, weight, zone, priority } = RawEndpoint::decode(node, cx)?;
        let written = [
            url.as_ref().map(|url| ("url", url.span)),
            dns.as_ref().map(|dns| ("dns", dns.span)),
            srv.as_ref().map(|srv| ("srv", srv.span)),
        ];
        let mut written = written.into_iter().flatten();
        let (first, second) = (written.next(), written.next());
        if let (Some((one, at)), Some((other, also))) = (first, second) {
            let message = format!("an endpoint has one of `url`, `dns` and `srv`, and this one has `{one}` and `{other}`");
            let diagnostic = Diagnostic::error("contradiction", also, message);
            cx.push(diagnostic.hint("remove one of them").also(at, "the other stands here"));
            return None;
        }
        if let Some(srv) = &srv {
            whole_service(srv, cx);
        }
        if let Some(url) = url {
            if let Some(scheme) = scheme {
                let message = "`scheme` goes with `dns` and `srv`; a `url` has its own";
                cx.error("contradiction", scheme.span, message, "remove `scheme`");
            }
            return Some(Endpoint { weight, zone, priority, ..url.value });
        }
        // Both are looked up, and have no scheme of their own.
        let Some(name) = dns.or(srv) else {
            if ["url", "dns", "srv"].iter().all(|key| node.get(key).is_none()) {
                let message = "an endpoint needs `url`, `dns` or `srv`";
                cx.error("missing-key", node.span, message, "add `url: http://127.0.0.1:9001`");
            }
            return None;
        };
        if scheme.is_none() && node.get("scheme").is_some() {
            return None;
        }
        let scheme = scheme.map_or(Scheme::Http, |scheme| scheme.value);
        Some(Endpoint { scheme, authority: name.value, path: String::new(), weight, zone, priority })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawEndpoint::schema(defs)
    }
}

/// RFC 2782: `_service._proto.name`. Others are rare, and mostly the name of a host.
fn whole_service(name: &Spanned<Authority>, cx: &mut Cx<'_>) {
    let Authority::Service(text) = &name.value else { return };
    let mut labels = text.split('.');
    let is_whole = (0..2).all(|_| labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_')));
    if !is_whole || labels.next().is_none() {
        let message = "SRV records stand at `_service._proto.name`, and this name does not begin so";
        let hint =
            "write a name such as `_http._tcp.orders.internal`, or `dns: orders.internal:9000` for the addresses of a host";
        cx.push(Diagnostic::warning("unusual-name", name.span, message).hint(hint));
    }
}

/// `http://host[:port][/path]`, the same with `https`, or `unix:/path`.
/// An endpoint as a URL says it.
pub fn parse_endpoint(text: &str) -> Result<Endpoint, ValueError> {
    if let Some(path) = text.strip_prefix("unix:") {
        let authority = Authority::Unix(parse_socket(path)?);
        return Ok(Endpoint {
            scheme: Scheme::Http,
            authority,
            path: String::new(),
            weight: NonZeroU32::MIN,
            zone: None,
            priority: 0,
        });
    }
    let known = [Scheme::Http, Scheme::Https].into_iter();
    let found = known.filter_map(|scheme| Some((scheme, text.strip_prefix(scheme.as_str())?.strip_prefix("://")?))).next();
    let Some((scheme, rest)) = found else {
        return Err(match text.split_once("://") {
            Some((scheme, path)) if matches!(scheme.to_ascii_lowercase().as_str(), "http+unix" | "https+unix" | "unix+http") => {
                let hint = format!("write `unix:/{}`", path.trim_start_matches('/'));
                ValueError::new(format!("the scheme `{scheme}` is not known")).hint(hint)
            }
            Some((scheme, rest)) => {
                let meant = if matches!(scheme.to_ascii_lowercase().as_str(), "https" | "wss") { "https" } else { "http" };
                ValueError::new(format!("the scheme `{scheme}` is not known")).hint(format!("write `{meant}://{rest}`"))
            }
            None => {
                ValueError::new(format!("`{text}` is not a URL")).hint(format!("write `http://{}`", text.trim_start_matches('/')))
            }
        });
    };
    if rest.contains(['?', '#']) {
        return Err(ValueError::new("the URL of an upstream has no query and no fragment").hint("remove what follows the path"));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err(ValueError::new("a URL with a user in it would send a password in plain sight")
            .hint("set the header instead: `transform: { request: { headers: { set: { authorization: \"${env:NAME}\" } } } }`"));
    }
    let path = if path.is_empty() { String::new() } else { canonical_path(path)?.trim_end_matches('/').to_owned() };
    let authority = parse_authority(authority, Some(scheme.default_port()))?;
    Ok(Endpoint { scheme, authority, path, weight: NonZeroU32::MIN, zone: None, priority: 0 })
}

/// How many steps of failing over there may be.
const ENDPOINT_PRIORITY_MAX: u64 = 127;

pub(crate) struct EndpointPriority;

impl Shape for EndpointPriority {
    type Out = u8;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<u8> {
        whole(node, cx, 0, ENDPOINT_PRIORITY_MAX).map(|priority| priority as u8)
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 0, ENDPOINT_PRIORITY_MAX)
    }
}

fn parse_service(text: &str) -> Result<Authority, ValueError> {
    if text.contains(':') {
        return Err(ValueError::new("SRV records say the port").hint("write the name alone: `_http._tcp.orders.internal`"));
    }
    match HostPattern::parse(text)? {
        HostPattern::Exact(name) => Ok(Authority::Service(name)),
        HostPattern::Wildcard(_) => Err(ValueError::new("an upstream's host has no wildcard").hint("write one name")),
    }
}

fn parse_dns(text: &str) -> Result<Authority, ValueError> {
    if let Some((_, rest)) = text.split_once("://") {
        return Err(
            ValueError::new("`dns` is a name and port, not a URL").hint(format!("write `{}`", rest.trim_end_matches('/')))
        );
    }
    match parse_authority(text, None)? {
        Authority::Name { host, port, every: _ } => Ok(Authority::Name { host, port, every: true }),
        Authority::Address(address) => Err(ValueError::new(format!("`{address}` is an address, and needs no DNS"))
            .hint(format!("write `url: http://{address}`"))),
        // Only a URL can name a socket.
        other @ (Authority::Unix(_) | Authority::Service(_)) => Ok(other),
    }
}

pub(crate) fn parse_authority(text: &str, default_port: Option<u16>) -> Result<Authority, ValueError> {
    if text.is_empty() {
        return Err(ValueError::new("the URL names no host").hint("write `http://127.0.0.1:9001`"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return nonzero(address.port(), text).map(|_| Authority::Address(address));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let (Ok(address), Some(port)) = (bare.parse(), default_port) {
        return Ok(Authority::Address(SocketAddr::new(address, port)));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) => {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let port = digits.parse().ok().filter(|_| plain).ok_or_else(|| {
                ValueError::new(format!("`{digits}` is not a port"))
                    .hint(format!("write a number from 1 to 65535: `{host}:9001`"))
            })?;
            (host, nonzero(port, text)?)
        }
        None => (text, default_port.ok_or_else(|| ValueError::new("the port is missing").hint(format!("write `{text}:9000`")))?),
    };
    match HostPattern::parse(host) {
        Ok(HostPattern::Exact(host)) if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Err(ValueError::new(format!("`{host}` is not an IPv4 address")).hint("write all four numbers: `127.0.0.1`"))
        }
        Ok(HostPattern::Exact(host)) => Ok(Authority::Name { host, port, every: false }),
        Ok(HostPattern::Wildcard(_)) => Err(ValueError::new("an upstream's host has no wildcard").hint("write one name")),
        Err(error) => Err(error),
    }
}

fn nonzero(port: u16, text: &str) -> Result<u16, ValueError> {
    if port == 0 { Err(ValueError::new(format!("`{text}` has port 0")).hint("write a port from 1 to 65535")) } else { Ok(port) }
}

/// A name, or a URL of its own: what `proxy` may say.
pub(crate) fn is_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("unix:")
}
