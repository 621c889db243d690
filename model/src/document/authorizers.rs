//! Authorizers: each knows one way to find out who it is.

mod api_key;
mod jwt;

pub use api_key::{ApiKey, KeyPlace};
pub use jwt::{Jwt, JwtAlgorithm, JwtKeys};

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
}

impl AuthorizerKind {
    /// Its key in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            AuthorizerKind::ApiKey(_) => "api_key",
            AuthorizerKind::Jwt(_) => "jwt",
        }
    }

    /// What a dump of it does not show: secrets, and the bytes of files. Who compares two of them needs it too.
    pub fn hidden(&self) -> Vec<&[u8]> {
        match self {
            AuthorizerKind::ApiKey(_) => Vec::new(),
            AuthorizerKind::Jwt(jwt) => match &jwt.keys {
                JwtKeys::Secret(secret) => vec![secret.expose().as_bytes()],
                JwtKeys::File { path: _, bytes } => vec![bytes],
                JwtKeys::Discovery(_) | JwtKeys::Url(_) => Vec::new(),
            },
        }
    }
}
