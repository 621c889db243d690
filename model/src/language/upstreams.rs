//! Upstreams: where requests go, and what is spoken there.

use super::endpoints::{EndpointLong, EndpointUrl, parse_authority};
use super::protection::{HealthCheckShape, Long, parse_cookie_name};
use super::tls::UpstreamTlsShape;
use super::values::{ShareOrNever, Timeout};
use crate::decode::{Cx, Defs, List, ScalarOr, Shape, default_of, record, texts, words};
use crate::diagnostics::Diagnostic;
use crate::document::{
    Affinity, Balance, CircuitBreaker, Concurrency, Endpoint, HashBy, Hedge, OutlierDetection, Protection, ProxyVersion, Retry,
    Scheme, Upstream, UpstreamHost, UpstreamProtocol, UpstreamTimeouts, UpstreamTls,
};
use crate::span::Spanned;
use crate::values::{HeaderName, ValueError};
use crate::yaml::{Kind, Node};
use serde_json::Value;

texts! {
    /// The Host that is sent: `upstream` for the endpoint's own, `client` for what the client sent, or a literal.
    HostSent => UpstreamHost, parse_host_sent, "`upstream`, `client` or a host", "^[A-Za-z0-9._:\\[\\]-]+$";
    /// What of a request is its key: `header:NAME`, `cookie:NAME`, `query:NAME`, `path` or `ip`.
    HashByText => HashBy, parse_hash_by, "a key such as `header:x-user`", "^((header|cookie|query):.+|path|ip|consumer)$";
}

words! {
    /// How requests are dealt out among endpoints.
    Balance {
        /// In turn, by weight.
        RoundRobin = "round_robin",
        /// By chance, by weight.
        Random = "random",
        /// The one of two with fewer requests under way.
        LeastRequest = "least_request",
        /// The one of two that is likely to answer sooner: by its latency and what is under way.
        PeakEwma = "peak_ewma",
        /// Requests of one key to one endpoint, by a ring.
        RingHash = "ring_hash",
        /// Requests of one key to one endpoint, by a table.
        Maglev = "maglev",
    }
}

words! {
    /// What is spoken to endpoints.
    UpstreamProtocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2 over TLS, agreed on by ALPN.
        H2 = "h2",
        /// HTTP/2 without TLS, by prior knowledge.
        H2c = "h2c",
    }
}

words! {
    /// The PROXY header that connections to endpoints begin with.
    ProxyVersion {
        /// In text.
        V1 = "v1",
        /// In binary.
        V2 = "v2",
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
    /// An upstream in long form.
    "an upstream" => struct RawUpstream {
        /// Where requests go: at least one.
        endpoints: List<Spanned<ScalarOr<EndpointUrl, EndpointLong>>> = required,
        /// How requests are dealt out among the endpoints.
        balance: Spanned<Balance> = "round_robin",
        /// With `ring_hash` and `maglev`: what of a request is its key.
        hash_by: Option<Spanned<HashByText>> = absent,
        /// What is spoken to the endpoints.
        protocol: Spanned<UpstreamProtocol> = "http1",
        /// With endpoints of `https`: whom to trust, and the gateway's own certificate.
        tls: Option<Spanned<UpstreamTlsShape>> = absent,
        /// The PROXY header that each connection begins with; with HTTP/1.1 only.
        proxy_protocol: Option<Spanned<ProxyVersion>> = absent,
        /// The Host that is sent.
        host: HostSent = "upstream",
        /// How long to wait.
        timeouts: UpstreamTimeouts = empty,
        /// The cookie that sends a client where it was before.
        affinity: Option<Long<Affinity>> = absent,
        /// How endpoints are asked whether they are well.
        health_check: Option<HealthCheckShape> = absent,
        /// Which endpoints are left alone for a while, by what requests saw of them.
        outlier_detection: Option<Long<OutlierDetection>> = absent,
        /// With fewer usable endpoints than this, all of them are used; `0%` for never.
        panic_below: Option<ShareOrNever> = absent,
        /// What the upstream may have at once, over all workers.
        circuit_breaker: Option<Long<CircuitBreaker>> = absent,
        /// Another try for requests that failed, where that is safe.
        retry: Option<Long<Retry>> = absent,
        /// A second request beside an idempotent one that takes long.
        hedge: Option<Long<Hedge>> = absent,
        /// A new endpoint, or one that is healthy again, reaches its full weight in this time.
        slow_start: Option<Timeout> = absent,
        /// How many requests are in flight at once; the rest wait in line.
        concurrency: Option<Long<Concurrency>> = absent,
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
        Some(Upstream::of(endpoint))
    }

    fn schema(defs: &mut Defs) -> Value {
        EndpointUrl::schema(defs)
    }
}

impl Shape for UpstreamLong {
    type Out = Upstream;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Upstream> {
        let RawUpstream {
            endpoints,
            balance,
            hash_by,
            protocol,
            tls,
            proxy_protocol,
            host,
            timeouts,
            affinity,
            health_check,
            outlier_detection,
            panic_below,
            circuit_breaker,
            retry,
            hedge,
            slow_start,
            concurrency,
        } = RawUpstream::decode(node, cx)?;
        let protection =
            Protection { health_check, outlier_detection, circuit_breaker, retry, hedge, slow_start, concurrency, panic_below };
        keys(balance, hash_by.as_ref(), node, cx);
        let listed = match node.get("endpoints").map(|list| &list.kind) {
            Some(Kind::Sequence(items)) => items.len(),
            Some(Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned) | None => usize::MAX,
        };
        if endpoints.is_empty() {
            if listed == 0 {
                cx.error(
                    "missing-value",
                    node.span,
                    "an upstream without endpoints answers nothing",
                    "add `- http://127.0.0.1:9001`",
                );
            }
            return None;
        }
        // Where one could not be read, its scheme is not known.
        if listed == endpoints.len() {
            schemes(&endpoints, protocol, tls.as_ref(), cx);
        }
        if let (Some(header), UpstreamProtocol::H2 | UpstreamProtocol::H2c) = (&proxy_protocol, protocol.value) {
            let message = "a PROXY header names one client, and an HTTP/2 connection carries the requests of many";
            let diagnostic = Diagnostic::error("contradiction", header.span, message);
            cx.push(diagnostic.hint("remove it, or write `protocol: http1`").also(protocol.span, "HTTP/2 is chosen here"));
        }
        let proxy_protocol = proxy_protocol.map(|header| header.value);
        let (balance, hash_by) = (balance.value, hash_by.map(|by| by.value));
        let protocol = protocol.value;
        Some(Upstream { endpoints, balance, hash_by, host, timeouts, protocol, tls, proxy_protocol, affinity, protection })
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

impl Upstream {
    /// One endpoint, and the rest as it is by default.
    pub fn of(endpoint: Spanned<Endpoint>) -> Upstream {
        Upstream {
            endpoints: vec![endpoint],
            balance: Balance::RoundRobin,
            hash_by: None,
            host: UpstreamHost::Upstream,
            timeouts: UpstreamTimeouts::default(),
            protocol: UpstreamProtocol::Http1,
            tls: None,
            proxy_protocol: None,
            affinity: None,
            protection: Protection::default(),
        }
    }
}

/// A key where one is needed, and nowhere else.
fn keys(balance: Spanned<Balance>, hash_by: Option<&Spanned<HashBy>>, node: &Node, cx: &mut Cx<'_>) {
    let word = balance.as_str();
    match hash_by {
        // One that could not be read is complained about already.
        None if balance.is_by_key() && node.get("hash_by").is_none() => {
            let message = format!("`{word}` sends requests of one key to one endpoint, and needs `hash_by`: what the key is");
            cx.error(
                "missing-key",
                balance.span,
                message,
                "add `hash_by: header:x-user`, or `cookie:`, `query:`, `path`, `ip`, `consumer`",
            );
        }
        Some(by) if !balance.is_by_key() => {
            let message = format!("`hash_by` goes with `ring_hash` and `maglev`, and does nothing with `{word}`");
            cx.error("contradiction", by.span, message, "write `balance: maglev`, or remove `hash_by`");
        }
        None | Some(_) => {}
    }
}

/// One scheme for all, and the one that the protocol needs.
fn schemes(
    endpoints: &[Spanned<Endpoint>],
    protocol: Spanned<UpstreamProtocol>,
    tls: Option<&Spanned<UpstreamTls>>,
    cx: &mut Cx<'_>,
) {
    let [first, others @ ..] = endpoints else { return };
    if let Some(other) = others.iter().find(|other| other.scheme != first.scheme) {
        let (scheme, wanted) = (other.scheme.as_str(), first.scheme.as_str());
        let message = format!("this endpoint is spoken to by `{scheme}`, and the first one by `{wanted}`");
        let diagnostic = Diagnostic::error("contradiction", other.span, message);
        let hint = format!("make both `{wanted}://`, or give this one an upstream of its own");
        cx.push(diagnostic.hint(hint).also(first.span, "the first stands here"));
        return;
    }
    match (protocol.value, first.scheme) {
        (UpstreamProtocol::H2, Scheme::Http) => {
            let diagnostic =
                Diagnostic::error("contradiction", protocol.span, "`h2` is HTTP/2 over TLS, and needs endpoints of `https`");
            cx.push(
                diagnostic.hint("write `protocol: h2c`, or `https://` in the endpoints").also(first.span, "this one is `http`"),
            );
        }
        (UpstreamProtocol::H2c, Scheme::Https) => {
            let diagnostic =
                Diagnostic::error("contradiction", protocol.span, "`h2c` is HTTP/2 without TLS, and needs endpoints of `http`");
            cx.push(
                diagnostic.hint("write `protocol: h2`, or `http://` in the endpoints").also(first.span, "this one is `https`"),
            );
        }
        (UpstreamProtocol::Http1, _) | (UpstreamProtocol::H2, Scheme::Https) | (UpstreamProtocol::H2c, Scheme::Http) => {}
    }
    if let (Some(tls), Scheme::Http) = (tls, first.scheme) {
        let diagnostic = Diagnostic::error(
            "contradiction",
            tls.span,
            "`tls` goes with endpoints of `https`: these are spoken to in the clear",
        );
        cx.push(diagnostic.hint("write `https://` in the endpoints, or remove `tls`").also(first.span, "this one is `http`"));
    }
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

fn parse_hash_by(text: &str) -> Result<HashBy, ValueError> {
    const FORMS: &str = "write `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `ip` or `consumer`";
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("path", None) => Ok(HashBy::Path),
        ("ip", None) => Ok(HashBy::Ip),
        ("header" | "cookie" | "query", None | Some("")) => {
            Err(ValueError::new(format!("`{kind}` needs a name")).hint(format!("write `{kind}:` and the name behind it")))
        }
        ("header", Some(name)) => HeaderName::parse(name).map(HashBy::Header),
        ("cookie", Some(name)) => {
            let hint = "a cookie's name has letters, digits, `-` and `_`: `cookie:session`";
            parse_cookie_name(name).map(HashBy::Cookie).map_err(|error| error.hint(hint))
        }
        ("query", Some(name)) => Ok(HashBy::Query(name.to_owned())),
        ("consumer", None) => Ok(HashBy::Consumer),
        _ => Err(ValueError::new(format!("`{text}` is no key that this version knows")).hint(FORMS)),
    }
}
