//! Authorizers: each knows one way to find out who it is.

mod api_key;
mod signatures;

pub use api_key::{ApiKey, KeyPlace};
pub use signatures::{AwsSignature, Component, HttpSignature, PublicAlgorithm, Replay, SignatureKey};

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
    HttpSignature(HttpSignature),
    AwsSignature(AwsSignature),
}

impl AuthorizerKind {
    /// Its key in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            AuthorizerKind::ApiKey(_) => "api_key",
            AuthorizerKind::HttpSignature(_) => "http_signature",
            AuthorizerKind::AwsSignature(_) => "aws_signature",
        }
    }

    /// What a dump of it does not show: secrets, and the bytes of files. Who compares two of them needs it too.
    pub fn hidden(&self) -> Vec<&[u8]> {
        match self {
            AuthorizerKind::ApiKey(_) => Vec::new(),
            AuthorizerKind::HttpSignature(signature) => signature.keys.values().map(|key| key.value.hidden()).collect(),
            AuthorizerKind::AwsSignature(signature) => {
                signature.keys.values().map(|secret| secret.value.expose().as_bytes()).collect()
            }
        }
    }
}
