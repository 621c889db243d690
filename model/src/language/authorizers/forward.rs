//! `forward`: a service that is asked about each request.

use super::super::routes::FRAMING;
use super::super::values::{HeaderWord, Method, Timeout};
use super::asked::{AskedPath, AskedUrl, UpstreamName, asked};
use crate::decode::{Cx, Defs, List, Shape, record, words};
use crate::document::{Ask, Forward};
use crate::span::{Span, Spanned};
use crate::values::HeaderName;
use crate::yaml::Node;
use serde_json::Value;

words! {
    /// Which requests a service is asked about.
    Ask {
        /// Each of them: the service also says what becomes of those who show nothing.
        Always = "always",
        /// Those with one of `headers`; others are for the next authorizer.
        WithCredential = "with_credential",
    }
}

record! {
    /// A service that is asked about each request.
    "`forward`" => struct RawForward {
        /// The URL that is asked.
        url: Option<Spanned<AskedUrl>> = absent,
        /// The upstream that is asked, instead of a URL.
        upstream: Option<Spanned<UpstreamName>> = absent,
        /// The path there.
        path: Option<Spanned<AskedPath>> = absent,
        /// The method of the question.
        method: Method = "GET",
        /// Request headers that the service is shown.
        headers: List<Spanned<HeaderWord>> = "[authorization, cookie]",
        /// Which requests the service is asked about.
        ask: Ask = "always",
        /// Headers of a consent that the back end gets. Those of a client are always taken out.
        copy_to_upstream: List<Spanned<HeaderWord>> = absent,
        /// Headers of a refusal that the client gets.
        copy_to_client: List<Spanned<HeaderWord>> = "[www-authenticate, location, set-cookie]",
        /// The header of a consent that says who it is.
        subject: Option<HeaderWord> = absent,
        /// How long a consent is remembered by `headers` alone; left out for not at all.
        ttl: Option<Spanned<Timeout>> = absent,
        /// For the whole answer.
        timeout: Timeout = "2s",
    }
}

/// `forward`, which says whom to ask, and copies no header that belongs to a connection.
pub(crate) struct ForwardShape;

impl Shape for ForwardShape {
    type Out = Forward;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Forward> {
        if !cx.is_mapping(node, "`forward`", "write `{ url: http://127.0.0.1:9300/check }`") {
            return None;
        }
        let RawForward { url, upstream, path, method, headers, ask, copy_to_upstream, copy_to_client, subject, ttl, timeout } =
            RawForward::decode(node, cx)?;
        let service = asked(node, "url", url, upstream, path, cx);
        if headers.is_empty() {
            bare(node, ask, ttl.as_ref().map(|ttl| ttl.span), cx);
        }
        Some(Forward {
            service: service?,
            method,
            headers: names(headers, cx),
            ask,
            copy_to_upstream: names(copy_to_upstream, cx),
            copy_to_client: names(copy_to_client, cx),
            subject,
            ttl: ttl.map(|ttl| ttl.value),
            timeout,
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawForward::schema(defs)
    }
}

/// Without headers there is nothing to go by.
fn bare(node: &Node, ask: Ask, ttl: Option<Span>, cx: &mut Cx<'_>) {
    let span = node.get("headers").map_or(node.span, |headers| headers.span);
    if ask == Ask::WithCredential {
        cx.error(
            "contradiction",
            span,
            "no request has one of no headers: nobody would be asked",
            "name the credential's header",
        );
    }
    if let Some(ttl) = ttl {
        cx.error("contradiction", ttl, "a consent is remembered by `headers`, and there are none", "remove `ttl`");
    }
}

fn names(headers: Vec<Spanned<HeaderName>>, cx: &mut Cx<'_>) -> Vec<HeaderName> {
    for header in &headers {
        let name = header.value.as_str();
        if FRAMING.contains(&name) || name == "host" || name == "via" || name.starts_with("x-forwarded-") {
            let message = format!("the header `{name}` is written by the gateway");
            cx.error("framing-header", header.span, message, "remove it");
        }
    }
    headers.into_iter().map(|header| header.value).collect()
}
