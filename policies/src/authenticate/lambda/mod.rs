//! Lambda authorizers as AWS API Gateway has them: what the function is told, what its result means for each method, and what the client is
//! told then (reference: AWS, "Use API Gateway Lambda authorizers" and "Control access to HTTP APIs with AWS Lambda authorizers"). Pure: runs
//! no function, remembers nothing; `function` does.

pub mod event;
pub mod policy;
pub mod result;

use maitred_core::{Fault, Invoked, Kind};
use maitred_model::AuthorizerForm;
use policy::{Circumstances, Verdict};
use result::{Context, Judgement, Said, error_message, read_policy, read_simple};
use serde_json::{Map, Value};
use std::time::Duration;

/// A REST API refuses longer ones.
pub const ARN_BYTES_MAX: usize = 1600;
/// The exact words by which a function says that a credential is not valid.
const UNAUTHORIZED: &str = "Unauthorized";
/// What a REST API tells whom a statement denies; whom none allows is told as every other who may not.
pub const EXPLICITLY_DENIED: &str = r#"{"Message":"User is not authorized to access this resource with an explicit deny"}"#;

pub fn is_rest(form: AuthorizerForm) -> bool {
    match form {
        AuthorizerForm::Token | AuthorizerForm::Rest => true,
        AuthorizerForm::HttpV1 | AuthorizerForm::HttpV2 { .. } => false,
    }
}

/// How long a function may take.
pub fn timeout(form: AuthorizerForm) -> Duration {
    if is_rest(form) { Duration::from_secs(29) } else { Duration::from_secs(10) }
}

/// What is read of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Of the actual method and the actual path.
    pub arn: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    /// The path's template.
    pub resource: &'a str,
    /// `GET /pets/{id}` of an HTTP API.
    pub route_key: &'a str,
    pub raw_query: &'a str,
    /// As they came, in order.
    pub headers: &'a [(String, String)],
    /// Decoded, in order.
    pub query: &'a [(String, String)],
    pub path_parameters: &'a [(String, String)],
    pub stage_variables: &'a [(String, String)],
    pub context: &'a Map<String, Value>,
}

/// Where a method is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub region: &'a str,
    pub account: &'a str,
    pub api: &'a str,
    /// `$default` is written so.
    pub stage: &'a str,
}

/// What comes of running the function.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Said(Box<Said>),
    /// The credential is not valid.
    Unauthorized,
}

/// The event, in JSON. `values`: of the identity sources.
pub fn event(form: AuthorizerForm, request: &Request<'_>, values: &[String]) -> Vec<u8> {
    let event = match form {
        AuthorizerForm::Token => event::token(values.first().map(String::as_str).unwrap_or_default(), request.arn),
        AuthorizerForm::Rest => event::rest(request),
        AuthorizerForm::HttpV1 => event::http_v1(request, values),
        AuthorizerForm::HttpV2 { .. } => event::http_v2(request, values),
    };
    event.to_string().into_bytes()
}

/// What a function said. A fault: nobody can tell.
pub fn read(form: AuthorizerForm, invoked: Invoked) -> Result<Answer, Fault> {
    let bytes = match invoked {
        Invoked::Returned(bytes) => bytes,
        Invoked::Raised(error) if says_unauthorized(form, &error) => return Ok(Answer::Unauthorized),
        Invoked::Raised(_) => return Err(Fault::new(Kind::AuthorizerFailed, "the function raised an error")),
    };
    let said = match form {
        AuthorizerForm::Token | AuthorizerForm::Rest => read_policy(&bytes, Context::Texts),
        AuthorizerForm::HttpV1 | AuthorizerForm::HttpV2 { simple: false } => read_policy(&bytes, Context::Kept),
        AuthorizerForm::HttpV2 { simple: true } => read_simple(&bytes),
    };
    said.map(|said| Answer::Said(Box::new(said))).map_err(|why| Fault::new(Kind::AuthorizerFailed, why))
}

fn says_unauthorized(form: AuthorizerForm, error: &[u8]) -> bool {
    match form {
        AuthorizerForm::HttpV2 { simple: true } => false,
        AuthorizerForm::Token | AuthorizerForm::Rest | AuthorizerForm::HttpV1 | AuthorizerForm::HttpV2 { simple: false } => {
            error_message(error).as_deref() == Some(UNAUTHORIZED)
        }
    }
}

/// What was said is held against each method anew: a policy that allows one allows no other.
pub fn judge(said: &Said, arn: &str, circumstances: &Circumstances<'_>) -> Verdict {
    match &said.judgement {
        Judgement::Plain(true) => Verdict::Allow,
        Judgement::Plain(false) => Verdict::ImplicitDeny,
        Judgement::Policy(policy) => policy.evaluate(arn, circumstances),
    }
}

#[cfg(test)]
mod tests;
