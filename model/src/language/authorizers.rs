//! `authorizers`: each entry is a mapping with exactly one kind.

mod api_key;
mod asked;
mod basic;
mod client_certificate;
mod files;
mod forward;
mod function;
mod introspection;
mod issuer;
mod jwt;
mod oidc;
mod place;
mod signatures;

use crate::decode::{Bool, Cx, Defs, Shape, record};
use crate::diagnostics::Diagnostic;
use crate::document::{Authorizer, AuthorizerKind};
use crate::span::Spanned;
use crate::yaml::Node;
use api_key::ApiKeyShape;
use basic::BasicShape;
use client_certificate::ClientCertificateShape;
use forward::ForwardShape;
use function::FunctionAuthorizerShape;
use introspection::IntrospectionShape;
use jwt::JwtShape;
use oidc::OidcShape;
use serde_json::Value;
use signatures::{AwsSignatureShape, HttpSignatureShape};

record! {
    /// One way to find out who it is: exactly one kind.
    "an authorizer" => struct RawAuthorizer {
        /// A key that a consumer was given.
        api_key: Option<Spanned<ApiKeyShape>> = absent,
        /// People log in with a browser, at an OpenID provider.
        oidc: Option<Spanned<OidcShape>> = absent,
        /// Name and password (RFC 7617).
        basic: Option<Spanned<BasicShape>> = absent,
        /// The certificate that a client showed in its handshake.
        client_certificate: Option<Spanned<ClientCertificateShape>> = absent,
        /// A signed token of an issuer, as OAuth and OpenID Connect hand them out.
        jwt: Option<Spanned<JwtShape>> = absent,
        /// Requests signed by RFC 9421.
        http_signature: Option<Spanned<HttpSignatureShape>> = absent,
        /// Requests signed as AWS's are.
        aws_signature: Option<Spanned<AwsSignatureShape>> = absent,
        /// A token that means nothing by itself: whoever issued it is asked (RFC 7662).
        introspection: Option<Spanned<IntrospectionShape>> = absent,
        /// A service that is asked about each request.
        forward: Option<Spanned<ForwardShape>> = absent,
        /// A Lambda function that says who may come in.
        function: Option<Spanned<FunctionAuthorizerShape>> = absent,
        /// Take the credential out of the request before a back end sees it.
        strip: Bool = "false",
    }
}

/// An authorizer of exactly one kind.
pub(crate) struct AuthorizerShape;

impl Shape for AuthorizerShape {
    type Out = Authorizer;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Authorizer> {
        if !cx.is_mapping(node, "an authorizer", "write `{ api_key: { in: header, name: x-api-key } }`") {
            return None;
        }
        let RawAuthorizer {
            api_key,
            basic,
            client_certificate,
            jwt,
            oidc,
            http_signature,
            aws_signature,
            introspection,
            forward,
            function,
            strip,
        } = RawAuthorizer::decode(node, cx)?;
        let choices = [
            api_key.map(|kind| kind.map(AuthorizerKind::ApiKey)),
            basic.map(|kind| kind.map(AuthorizerKind::Basic)),
            client_certificate.map(|kind| kind.map(AuthorizerKind::ClientCertificate)),
            jwt.map(|kind| kind.map(|jwt| AuthorizerKind::Jwt(Box::new(jwt)))),
            oidc.map(|kind| kind.map(|oidc| AuthorizerKind::Oidc(Box::new(oidc)))),
            http_signature.map(|kind| kind.map(AuthorizerKind::HttpSignature)),
            aws_signature.map(|kind| kind.map(AuthorizerKind::AwsSignature)),
            introspection.map(|kind| kind.map(AuthorizerKind::Introspection)),
            forward.map(|kind| kind.map(AuthorizerKind::Forward)),
            function.map(|kind| kind.map(AuthorizerKind::Function)),
        ];
        let kinds = RawAuthorizer::KEYS.iter().filter(|key| **key != "strip");
        let mut chosen = choices.into_iter().flatten();
        let Some(kind) = chosen.next() else {
            if kinds.clone().all(|key| node.get(key).is_none()) {
                let list = kinds.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
                cx.error("missing-key", node.span, "the authorizer has no kind", format!("add one of {list}"));
            }
            return None;
        };
        if let Some(second) = chosen.next() {
            let diagnostic = Diagnostic::error("contradiction", second.span, "an authorizer has exactly one kind");
            cx.push(diagnostic.hint("give each a name of its own").also(kind.span, "the other stands here"));
            return None;
        }
        Some(Authorizer { kind: kind.value, strip })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawAuthorizer::schema(defs)
    }
}
