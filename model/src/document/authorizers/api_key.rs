//! `api_key`: a key that a consumer was given.

use crate::values::HeaderName;

/// A key that a consumer was given, shown as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub place: KeyPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    Header(HeaderName),
    Query(String),
    Cookie(String),
}
