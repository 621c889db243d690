//! `introspection`, as it is configured. Asks nobody.

use super::Asked;
use crate::span::Spanned;
use crate::values::Secret;
use std::time::Duration;

/// A token that means nothing by itself: whoever issued it is asked (RFC 7662).
#[derive(Debug, Clone)]
pub struct Introspection {
    pub endpoint: Spanned<Asked>,
    pub client_id: String,
    pub client_secret: Secret,
    pub token_type_hint: Option<String>,
    /// The token is for one of these, where there are any.
    pub audience: Vec<String>,
    pub issuer: Option<String>,
    /// How long an answer is believed; no longer than the token lasts.
    pub ttl: Duration,
    /// The same where the token is not active.
    pub negative_ttl: Duration,
    pub timeout: Duration,
}
