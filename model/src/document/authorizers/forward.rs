//! `forward`, as it is configured. Asks nobody.

use super::Asked;
use crate::span::Spanned;
use crate::values::HeaderName;
use std::time::Duration;

/// A service that is asked about each request.
#[derive(Debug, Clone)]
pub struct Forward {
    pub service: Spanned<Asked>,
    pub method: String,
    /// Request headers that it is shown.
    pub headers: Vec<HeaderName>,
    pub ask: Ask,
    /// Headers of its consent that the back end gets, and no client may send.
    pub copy_to_upstream: Vec<HeaderName>,
    /// Headers of its refusal that the client gets.
    pub copy_to_client: Vec<HeaderName>,
    /// The header of its consent that says who it is.
    pub subject: Option<HeaderName>,
    /// How long its consent is remembered by the headers that it was shown.
    pub ttl: Option<Duration>,
    pub timeout: Duration,
}

/// Which requests a service is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Always,
    /// Those with one of `headers`.
    WithCredential,
}
