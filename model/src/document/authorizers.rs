//! Authorizers: each knows one way to find out who it is.

mod api_key;
mod basic;
mod client_certificate;
mod jwt;

pub use api_key::{ApiKey, KeyPlace};
pub use basic::{Basic, HtpasswdFile};
pub use client_certificate::{CertificatePrincipal, ClientCertificate};
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
    Basic(Basic),
    ClientCertificate(ClientCertificate),
    Jwt(Box<Jwt>),
}

impl AuthorizerKind {
    /// Its key in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            AuthorizerKind::ApiKey(_) => "api_key",
            AuthorizerKind::Basic(_) => "basic",
            AuthorizerKind::ClientCertificate(_) => "client_certificate",
            AuthorizerKind::Jwt(_) => "jwt",
        }
    }

    /// What a dump of it does not show: secrets, and the bytes of files. Who compares two of them needs it too.
    pub fn hidden(&self) -> Vec<&[u8]> {
        match self {
            AuthorizerKind::ApiKey(_) => Vec::new(),
            AuthorizerKind::Basic(basic) => vec![&basic.htpasswd.bytes],
            AuthorizerKind::ClientCertificate(certificate) => certificate.crl.iter().map(|file| &file.bytes[..]).collect(),
            AuthorizerKind::Jwt(jwt) => match &jwt.keys {
                JwtKeys::Secret(secret) => vec![secret.expose().as_bytes()],
                JwtKeys::File { path: _, bytes } => vec![bytes],
                JwtKeys::Discovery(_) | JwtKeys::Url(_) => Vec::new(),
            },
        }
    }
}
