//! `introspection`: whom to ask what a token means (RFC 7662).

use super::super::values::{Duration, SecretText, Text, Timeout};
use super::asked::{AskedPath, AskedUrl, UpstreamName, asked};
use crate::decode::{Cx, Defs, List, Shape, record};
use crate::document::Introspection;
use crate::span::Spanned;
use crate::yaml::Node;
use serde_json::Value;

record! {
    /// A token that means nothing by itself: whoever issued it is asked (RFC 7662).
    "`introspection`" => struct RawIntrospection {
        /// The URL of the introspection endpoint.
        endpoint: Option<Spanned<AskedUrl>> = absent,
        /// The upstream that is asked, instead of a URL.
        upstream: Option<Spanned<UpstreamName>> = absent,
        /// The path there.
        path: Option<Spanned<AskedPath>> = absent,
        /// What the gateway is called there.
        client_id: Text = required,
        /// Its password there, by reference: `${env:NAME}` or `${file:path}`.
        client_secret: SecretText = required,
        /// What kind of token the server is told that it is, as in `access_token`.
        token_type_hint: Option<Text> = absent,
        /// The token must be for one of these.
        audience: List<Text> = absent,
        /// Who must have issued it.
        issuer: Option<Text> = absent,
        /// How long an answer is believed; never longer than the token lasts.
        ttl: Duration = "60s",
        /// How long a token that is not active is refused unasked.
        negative_ttl: Duration = "10s",
        /// For the whole answer.
        timeout: Timeout = "2s",
    }
}

/// `introspection`, which says whom to ask.
pub(crate) struct IntrospectionShape;

impl Shape for IntrospectionShape {
    type Out = Introspection;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Introspection> {
        if !cx.is_mapping(
            node,
            "`introspection`",
            "write `{ endpoint: https://id.example.com/introspect, client_id: …, client_secret: … }`",
        ) {
            return None;
        }
        let RawIntrospection {
            endpoint,
            upstream,
            path,
            client_id,
            client_secret,
            token_type_hint,
            audience,
            issuer,
            ttl,
            negative_ttl,
            timeout,
        } = RawIntrospection::decode(node, cx)?;
        let endpoint = asked(node, "endpoint", endpoint, upstream, path, cx)?;
        Some(Introspection { endpoint, client_id, client_secret, token_type_hint, audience, issuer, ttl, negative_ttl, timeout })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawIntrospection::schema(defs)
    }
}
