//! Authorizers: each knows one way to find out who it is.

mod api_key;
mod asked;
mod basic;
mod client_certificate;
mod forward;
mod function;
mod introspection;
mod jwt;
mod oidc;
mod signatures;

use crate::values::HeaderName;

pub use api_key::{ApiKey, KeyPlace};
pub use asked::Asked;
pub use basic::{Basic, HtpasswdFile};
pub use client_certificate::{CertificatePrincipal, ClientCertificate};
pub use forward::{Ask, Forward};
pub use function::{AuthorizerForm, ContextValue, FunctionAuthorizer, IdentitySource};
pub use introspection::Introspection;
pub use jwt::{Jwt, JwtAlgorithm, JwtKeys};
pub use oidc::{Oidc, OidcSession, SameSite};
pub use signatures::{AwsSignature, Component, HttpSignature, PublicAlgorithm, Replay, SignatureKey};

use crate::span::Spanned;

/// One entry of `authorizers`.
#[derive(Debug, Clone)]
pub struct Authorizer {
    pub kind: AuthorizerKind,
    /// Back ends do not see the credential.
    pub strip: bool,
}

#[derive(Debug, Clone)]
pub enum AuthorizerKind {
    ApiKey(ApiKey),
    Oidc(Box<Oidc>),
    Basic(Basic),
    ClientCertificate(ClientCertificate),
    Jwt(Box<Jwt>),
    HttpSignature(HttpSignature),
    AwsSignature(AwsSignature),
    Introspection(Introspection),
    Forward(Forward),
    Function(FunctionAuthorizer),
}

impl AuthorizerKind {
    /// Its key in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            AuthorizerKind::ApiKey(_) => "api_key",
            AuthorizerKind::Oidc(_) => "oidc",
            AuthorizerKind::Basic(_) => "basic",
            AuthorizerKind::ClientCertificate(_) => "client_certificate",
            AuthorizerKind::Jwt(_) => "jwt",
            AuthorizerKind::HttpSignature(_) => "http_signature",
            AuthorizerKind::AwsSignature(_) => "aws_signature",
            AuthorizerKind::Introspection(_) => "introspection",
            AuthorizerKind::Forward(_) => "forward",
            AuthorizerKind::Function(_) => "function",
        }
    }

    /// Where it looks for credentials.
    pub fn places(&self) -> Vec<KeyPlace> {
        let authorization = || HeaderName::parse("authorization").map(KeyPlace::Header).into_iter().collect();
        match self {
            AuthorizerKind::ApiKey(key) => vec![key.place.clone()],
            AuthorizerKind::Jwt(jwt) => vec![jwt.place.clone()],
            // What a browser brings from the provider opens a door too, once.
            AuthorizerKind::Oidc(oidc) => vec![
                KeyPlace::Cookie(oidc.session.cookie.clone()),
                KeyPlace::Query("code".to_owned()),
                KeyPlace::Query("state".to_owned()),
            ],
            AuthorizerKind::Basic(_) | AuthorizerKind::Introspection(_) => authorization(),
            AuthorizerKind::Forward(forward) => forward.headers.iter().cloned().map(KeyPlace::Header).collect(),
            AuthorizerKind::Function(function) => {
                let placed = |source: &IdentitySource| match source {
                    IdentitySource::Place(place) => Some(place.clone()),
                    IdentitySource::Context(_) => None,
                };
                function.identity.iter().filter_map(placed).collect()
            }
            // A presigned address opens for days to whoever reads it.
            AuthorizerKind::AwsSignature(_) => {
                ["X-Amz-Signature", "X-Amz-Security-Token"].map(|name| KeyPlace::Query(name.to_owned())).into()
            }
            // All of the request is signed, headers of identity too where they are covered.
            AuthorizerKind::HttpSignature(_) | AuthorizerKind::ClientCertificate(_) => Vec::new(),
        }
    }

    /// Headers by which it tells back ends who makes a request.
    pub fn tells(&self) -> &[HeaderName] {
        match self {
            AuthorizerKind::Forward(forward) => &forward.copy_to_upstream,
            AuthorizerKind::ApiKey(_) | AuthorizerKind::Basic(_) | AuthorizerKind::Jwt(_) | AuthorizerKind::Oidc(_) => &[],
            AuthorizerKind::ClientCertificate(_) | AuthorizerKind::HttpSignature(_) | AuthorizerKind::AwsSignature(_) => &[],
            AuthorizerKind::Introspection(_) | AuthorizerKind::Function(_) => &[],
        }
    }

    /// Whom it asks, if it asks anybody.
    pub fn asks(&self) -> Option<&Spanned<Asked>> {
        match self {
            AuthorizerKind::ApiKey(_) | AuthorizerKind::Basic(_) | AuthorizerKind::Jwt(_) | AuthorizerKind::Oidc(_) => None,
            AuthorizerKind::ClientCertificate(_) | AuthorizerKind::HttpSignature(_) | AuthorizerKind::AwsSignature(_) => None,
            AuthorizerKind::Function(_) => None,
            AuthorizerKind::Introspection(introspection) => Some(&introspection.endpoint),
            AuthorizerKind::Forward(forward) => Some(&forward.service),
        }
    }

    /// The function that it runs, if it runs one.
    pub fn runs(&self) -> Option<&FunctionAuthorizer> {
        match self {
            AuthorizerKind::Function(function) => Some(function),
            AuthorizerKind::ApiKey(_) | AuthorizerKind::Basic(_) | AuthorizerKind::Jwt(_) | AuthorizerKind::Oidc(_) => None,
            AuthorizerKind::ClientCertificate(_) | AuthorizerKind::HttpSignature(_) | AuthorizerKind::AwsSignature(_) => None,
            AuthorizerKind::Introspection(_) | AuthorizerKind::Forward(_) => None,
        }
    }

    /// What a dump of it does not show: secrets, and the bytes of files. Who compares two of them needs it too.
    pub fn hidden(&self) -> Vec<&[u8]> {
        match self {
            AuthorizerKind::ApiKey(_) | AuthorizerKind::Forward(_) | AuthorizerKind::Function(_) => Vec::new(),
            AuthorizerKind::Introspection(introspection) => vec![introspection.client_secret.expose().as_bytes()],
            AuthorizerKind::Oidc(oidc) => oidc.client_secret.iter().map(|secret| secret.expose().as_bytes()).collect(),
            AuthorizerKind::Basic(basic) => vec![&basic.htpasswd.bytes],
            AuthorizerKind::ClientCertificate(certificate) => certificate.crl.iter().map(|file| &file.bytes[..]).collect(),
            AuthorizerKind::Jwt(jwt) => match &jwt.keys {
                JwtKeys::Secret(secret) => vec![secret.expose().as_bytes()],
                JwtKeys::File { path: _, bytes } => vec![bytes],
                JwtKeys::Discovery(_) | JwtKeys::Url(_) => Vec::new(),
            },
            AuthorizerKind::HttpSignature(signature) => signature.keys.values().map(|key| key.value.hidden()).collect(),
            AuthorizerKind::AwsSignature(signature) => {
                signature.keys.values().map(|secret| secret.value.expose().as_bytes()).collect()
            }
        }
    }
}
