//! Authorizers: each knows one way to find out who it is.

mod api_key;

use crate::values::HeaderName;

pub use api_key::{ApiKey, KeyPlace};

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
}

impl AuthorizerKind {
    /// Its key in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            AuthorizerKind::ApiKey(_) => "api_key",
        }
    }

    /// Where it looks for credentials.
    pub fn places(&self) -> Vec<KeyPlace> {
        match self {
            AuthorizerKind::ApiKey(key) => vec![key.place.clone()],
        }
    }

    /// Headers by which it tells back ends who makes a request.
    pub fn tells(&self) -> &[HeaderName] {
        match self {
            AuthorizerKind::ApiKey(_) => &[],
        }
    }

    /// What a dump of it does not show: secrets, and the bytes of files. Who compares two of them needs it too.
    pub fn hidden(&self) -> Vec<&[u8]> {
        match self {
            AuthorizerKind::ApiKey(_) => Vec::new(),
        }
    }
}
