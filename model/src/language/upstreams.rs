//! Upstreams and their endpoints: where requests go.

use super::values::Timeout;
use crate::decode::{Cx, Defs, List, ScalarOr, Shape, default_of, record, texts, words};
use crate::diagnostics::Diagnostic;
use crate::document::{Authority, Endpoint, Upstream, UpstreamHost, UpstreamTimeouts};
use crate::span::Spanned;
use crate::values::{HostPattern, ValueError, canonical_path};
use crate::yaml::Node;
use serde_json::Value;
use std::net::SocketAddr;
use std::num::NonZeroU32;

texts! {
    /// An endpoint: `http://host:port`, with a path to prefix if any.
    EndpointUrl => Endpoint, parse_endpoint, "a URL such as `http://127.0.0.1:9001`", "^http://[^/?#]+(/[^?#]*)?$";
    /// A DNS name and port, as in `orders.internal:9000`.
    NameAndPort => Authority, parse_dns, "a name and port such as `orders.internal:9000`", "^[A-Za-z0-9._-]+:[0-9]+$";
    /// The Host that is sent: `upstream` for the endpoint's own, `client` for what the client sent, or a literal.
    HostSent => UpstreamHost, parse_host_sent, "`upstream`, `client` or a host", "^[A-Za-z0-9._:\\[\\]-]+$";
}

/// How requests are dealt out among endpoints.
pub(crate) enum Balance {
    RoundRobin,
}

words! {
    /// How requests are dealt out among endpoints.
    Balance {
        /// In turn, by weight.
        RoundRobin = "round_robin",
    }
}

/// What is spoken to endpoints.
pub(crate) enum Protocol {
    Http1,
}

words! {
    /// What is spoken to endpoints.
    Protocol {
        /// HTTP/1.1.
        Http1 = "http1",
    }
}

pub(crate) enum Scheme {
    Http,
}

words! {
    /// How the endpoints behind a DNS name are spoken to.
    Scheme {
        /// Without TLS.
        Http = "http",
    }
}

record! {
    /// How long to wait for an upstream.
    "the timeouts of an upstream" => UpstreamTimeouts {
        /// For a connection.
        connect: Timeout = "5s",
        /// From the request fully sent to the head of the response.
        response: Timeout = "15s",
        /// A connection on which no byte moves for so long is closed, be it pooled or in the middle of a body.
        idle: Timeout = "60s",
    }
}

record! {
    /// An endpoint in long form: either `url` or `dns`.
    "an endpoint" => struct RawEndpoint {
        /// One address, or a name that is one endpoint.
        url: Option<Spanned<EndpointUrl>> = absent,
        /// A name and port: every address behind it is an endpoint.
        dns: Option<Spanned<NameAndPort>> = absent,
        /// With `dns`.
        scheme: Option<Spanned<Scheme>> = absent,
        /// Its share of the requests, beside the weights of the others.
        weight: NonZeroU32 = "1",
    }
}

record! {
    /// An upstream in long form.
    "an upstream" => struct RawUpstream {
        /// Where requests go: at least one.
        endpoints: List<Spanned<ScalarOr<EndpointUrl, EndpointLong>>> = required,
        /// How requests are dealt out among the endpoints.
        balance: Balance = "round_robin",
        /// What is spoken to the endpoints.
        protocol: Protocol = "http1",
        /// The Host that is sent.
        host: HostSent = "upstream",
        /// How long to wait.
        timeouts: UpstreamTimeouts = empty,
    }
}

pub(crate) struct EndpointLong;

impl Shape for EndpointLong {
    type Out = Endpoint;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Endpoint> {
        let RawEndpoint { url, dns, scheme, weight } = RawEndpoint::decode(node, cx)?;
        match (url, dns) {
            (Some(url), None) => {
                if let Some(scheme) = scheme {
                    cx.error("contradiction", scheme.span, "`scheme` goes with `dns`; a `url` has its own", "remove `scheme`");
                }
                Some(Endpoint { weight, ..url.value })
            }
            (None, Some(dns)) => {
                let (Some(Spanned { value: Scheme::Http, .. }) | None) = scheme;
                Some(Endpoint { authority: dns.value, path: String::new(), weight })
            }
            (Some(url), Some(dns)) => {
                let diagnostic = Diagnostic::error("contradiction", dns.span, "an endpoint has either `url` or `dns`");
                cx.push(diagnostic.hint("remove one of them").also(url.span, "the other stands here"));
                None
            }
            (None, None) => {
                if node.get("url").is_none() && node.get("dns").is_none() {
                    cx.error("missing-key", node.span, "an endpoint needs `url` or `dns`", "add `url: http://127.0.0.1:9001`");
                }
                None
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        RawEndpoint::schema(defs)
    }
}

/// An upstream: a URL, or a mapping.
pub(crate) struct UpstreamForm;

struct UpstreamShort;
struct UpstreamLong;

impl Shape for UpstreamForm {
    type Out = Upstream;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Upstream> {
        ScalarOr::<UpstreamShort, UpstreamLong>::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        ScalarOr::<UpstreamShort, UpstreamLong>::schema(defs)
    }
}

impl Shape for UpstreamShort {
    type Out = Upstream;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Upstream> {
        let endpoint = Spanned::<EndpointUrl>::decode(node, cx)?;
        Some(Upstream { endpoints: vec![endpoint], host: UpstreamHost::Upstream, timeouts: UpstreamTimeouts::default() })
    }

    fn schema(defs: &mut Defs) -> Value {
        EndpointUrl::schema(defs)
    }
}

impl Shape for UpstreamLong {
    type Out = Upstream;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Upstream> {
        let RawUpstream { endpoints, balance: Balance::RoundRobin, protocol: Protocol::Http1, host, timeouts } =
            RawUpstream::decode(node, cx)?;
        if endpoints.is_empty() {
            let listed = node
                .get("endpoints")
                .is_some_and(|list| matches!(&list.kind, crate::yaml::Kind::Sequence(items) if items.is_empty()));
            if listed {
                cx.error(
                    "missing-value",
                    node.span,
                    "an upstream without endpoints answers nothing",
                    "add `- http://127.0.0.1:9001`",
                );
            }
            return None;
        }
        Some(Upstream { endpoints, host, timeouts })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawUpstream::schema(defs)
    }
}

impl Default for UpstreamTimeouts {
    fn default() -> UpstreamTimeouts {
        default_of::<UpstreamTimeouts>()
    }
}

/// `http://host[:port][/path]`.
pub(crate) fn parse_endpoint(text: &str) -> Result<Endpoint, ValueError> {
    if text.starts_with("https://") {
        return Err(ValueError::new("TLS towards upstreams is not in this version").hint("use `http://`"));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(match text.split_once("://") {
            Some((scheme, rest)) => {
                ValueError::new(format!("the scheme `{scheme}` is not known")).hint(format!("write `http://{rest}`"))
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
    Ok(Endpoint { authority: parse_authority(authority, Some(80))?, path, weight: NonZeroU32::MIN })
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
    }
}

fn parse_authority(text: &str, default_port: Option<u16>) -> Result<Authority, ValueError> {
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

fn parse_host_sent(text: &str) -> Result<UpstreamHost, ValueError> {
    match text {
        "upstream" => Ok(UpstreamHost::Upstream),
        "client" => Ok(UpstreamHost::Client),
        _ => {
            parse_authority(text, Some(80))?;
            Ok(UpstreamHost::Literal(text.to_ascii_lowercase()))
        }
    }
}

/// A name, or a URL of its own: what `proxy` may say.
pub(crate) fn is_url(text: &str) -> bool {
    text.contains("://")
}
