//! Whom an authorizer asks: an upstream, and what for there. How that is written is not known here.

use crate::document::ProxyTarget;

/// Whom an authorizer asks, over HTTP.
#[derive(Debug, Clone)]
pub struct Asked {
    /// A URL of its own has no path here.
    pub upstream: ProxyTarget,
    /// Path and query, as they are sent.
    pub target: String,
}
