//! `function`, as it is configured: a Lambda authorizer. Runs nothing.

use super::KeyPlace;
use crate::span::Spanned;
use std::time::Duration;

/// A function that says who may come in.
#[derive(Debug, Clone)]
pub struct FunctionAuthorizer {
    /// Its name under `functions`.
    pub function: Spanned<String>,
    pub form: AuthorizerForm,
    /// What of a request it goes by: without each of them it is not asked.
    pub identity: Vec<IdentitySource>,
    /// With `token`: the whole of the token is like this, or nobody is asked.
    pub validation: Option<Spanned<String>>,
    /// How long its answer is believed, by `identity` alone; zero: each request is asked about.
    pub ttl: Duration,
}

/// What a function is told, and how it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizerForm {
    /// `TOKEN` of a REST API.
    Token,
    /// `REQUEST` of a REST API.
    Rest,
    /// Of an HTTP API, format 1.0.
    HttpV1,
    /// Of an HTTP API, format 2.0; `simple`: the answer is yes or no and no policy.
    HttpV2 { simple: bool },
}

/// One thing of a request that a function goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    Place(KeyPlace),
    Context(ContextValue),
}

/// What is known of a request besides, by AWS's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextValue {
    SourceIp,
    UserAgent,
    Method,
    Path,
    RouteKey,
    Domain,
}

impl ContextValue {
    pub const ALL: [ContextValue; 6] = [
        ContextValue::SourceIp,
        ContextValue::UserAgent,
        ContextValue::Method,
        ContextValue::Path,
        ContextValue::RouteKey,
        ContextValue::Domain,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ContextValue::SourceIp => "identity.sourceIp",
            ContextValue::UserAgent => "identity.userAgent",
            ContextValue::Method => "httpMethod",
            ContextValue::Path => "path",
            ContextValue::RouteKey => "routeKey",
            ContextValue::Domain => "domainName",
        }
    }
}

impl IdentitySource {
    /// As it is written.
    pub fn text(&self) -> String {
        match self {
            IdentitySource::Place(KeyPlace::Header(name)) => format!("header:{}", name.as_str()),
            IdentitySource::Place(KeyPlace::Query(name)) => format!("query:{name}"),
            IdentitySource::Place(KeyPlace::Cookie(name)) => format!("cookie:{name}"),
            IdentitySource::Context(value) => format!("context:{}", value.name()),
        }
    }
}
