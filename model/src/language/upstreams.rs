//! Upstreams: where requests go, and what is spoken there.

use super::endpoints::{EndpointLong, EndpointUrl, parse_authority};
use super::tls::UpstreamTlsShape;
use super::values::Timeout;
use crate::decode::{Cx, Defs, List, ScalarOr, Shape, default_of, record, texts, words};
use crate::diagnostics::Diagnostic;
use crate::document::{Endpoint, ProxyVersion, Scheme, Upstream, UpstreamHost, UpstreamProtocol, UpstreamTimeouts, UpstreamTls};
use crate::span::Spanned;
use crate::values::ValueError;
use crate::yaml::{Kind, Node};
use serde_json::Value;

texts! {
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
        balance: Balance = "round_robin",
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
        let RawUpstream { endpoints, balance: Balance::RoundRobin, protocol, tls, proxy_protocol, host, timeouts } =
            RawUpstream::decode(node, cx)?;
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
        Some(Upstream { endpoints, host, timeouts, protocol: protocol.value, tls, proxy_protocol })
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
            host: UpstreamHost::Upstream,
            timeouts: UpstreamTimeouts::default(),
            protocol: UpstreamProtocol::Http1,
            tls: None,
            proxy_protocol: None,
        }
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
