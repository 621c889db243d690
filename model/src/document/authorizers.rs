//! Authorizers: each knows one way to find out who it is.

mod api_key;
mod asked;
mod forward;
mod introspection;
mod jwt;

pub use api_key::{ApiKey, KeyPlace};
pub use asked::Asked;
pub use forward::{Ask, Forward};
pub use introspection::Introspection;
pub use jwt::{Jwt, JwtAlgorithm, JwtKeys};

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
    Jwt(Box<Jwt>),
    Introspection(Introspection),
    Forward(Forward),
}

impl AuthorizerKind {
    /// Its key in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            AuthorizerKind::ApiKey(_) => "api_key",
            AuthorizerKind::Jwt(_) => "jwt",
            AuthorizerKind::Introspection(_) => "introspection",
            AuthorizerKind::Forward(_) => "forward",
        }
    }

    /// Whom it asks, if it asks anybody.
    pub fn asks(&self) -> Option<&Spanned<Asked>> {
        match self {
            AuthorizerKind::ApiKey(_) | AuthorizerKind::Jwt(_) => None,
            AuthorizerKind::Introspection(introspection) => Some(&introspection.endpoint),
            AuthorizerKind::Forward(forward) => Some(&forward.service),
        }
    }

    /// What a dump of it does not show: secrets, and the bytes of files. Who compares two of them needs it too.
    pub fn hidden(&self) -> Vec<&[u8]> {
        match self {
            AuthorizerKind::ApiKey(_) | AuthorizerKind::Forward(_) => Vec::new(),
            AuthorizerKind::Introspection(introspection) => vec![introspection.client_secret.expose().as_bytes()],
            AuthorizerKind::Jwt(jwt) => match &jwt.keys {
                JwtKeys::Secret(secret) => vec![secret.expose().as_bytes()],
                JwtKeys::File { path: _, bytes } => vec![bytes],
                JwtKeys::Discovery(_) | JwtKeys::Url(_) => Vec::new(),
            },
        }
    }
}
