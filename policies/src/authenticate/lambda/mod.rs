//! Lambda authorizers as AWS API Gateway has them: what the function is told, what its result means for each method, and what the client is
//! told then (reference: AWS, "Use API Gateway Lambda authorizers" and "Control access to HTTP APIs with AWS Lambda authorizers"). Pure: runs
//! no function and reads no socket; `Invoke` is for whoever can.

pub mod event;
mod memory;
pub mod policy;
pub mod result;
mod source;

pub use memory::Memory;
pub use source::Source;

use policy::{Circumstances, Verdict};
use result::{Context, Judgement, Said, error_message, read_policy, read_simple};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A REST API refuses longer ones.
const ARN_BYTES_MAX: usize = 1600;
/// The most that may be remembered, in both kinds of API.
pub const TTL_MAX: Duration = Duration::from_secs(3600);
/// The exact words by which a function says that a credential is not valid.
const UNAUTHORIZED: &str = "Unauthorized";

/// Which kind of authorizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Of a REST API, by one header.
    Token,
    /// Of a REST API, by the whole request.
    Rest,
    /// Of an HTTP API, format 1.0.
    HttpV1,
    /// Of an HTTP API, format 2.0; `simple`: the result is yes or no and no policy.
    HttpV2 { simple: bool },
}

impl Form {
    pub fn is_rest(self) -> bool {
        match self {
            Form::Token | Form::Rest => true,
            Form::HttpV1 | Form::HttpV2 { .. } => false,
        }
    }

    /// How long a function may take.
    pub fn timeout(self) -> Duration {
        if self.is_rest() { Duration::from_secs(29) } else { Duration::from_secs(10) }
    }
}

/// What is read of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Of the actual method and the actual path: see `arn`.
    pub arn: &'a str,
    pub stage: &'a str,
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
    pub circumstances: Circumstances<'a>,
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

/// `methodArn`, or `routeArn`: the actual method, and the actual path with its percent-encoding as it came.
pub fn arn(place: Place<'_>, method: &str, path: &str) -> String {
    let Place { region, account, api, stage } = place;
    let path = path.strip_prefix('/').unwrap_or(path);
    format!("arn:aws:execute-api:{region}:{account}:{api}/{stage}/{method}/{path}")
}

pub use maitred_core::{Invoked, Invoking};

/// Runs the function. A fault is a function that could not be run, or was not done in time.
pub trait Invoke {
    fn invoke<'a>(&'a self, event: Vec<u8>, timeout: Duration) -> Invoking<'a>;
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Allowed(Arc<Said>),
    /// An identity source is missing, or the function said so.
    Unauthorized,
    /// No statement allows it.
    ImplicitDeny,
    ExplicitDeny,
    /// `isAuthorized: false`.
    Refused,
    /// The ARN is too long.
    TooLong,
    /// Why, for the log.
    Failed(&'static str),
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub status: u16,
    pub body: &'static str,
    /// Of a REST API.
    pub error_type: Option<&'static str>,
}

impl Outcome {
    /// `None`: it comes in.
    pub fn told(&self, form: Form) -> Option<Told> {
        let rest = |status, body, error_type| Some(Told { status, body, error_type: Some(error_type) });
        let http = |status, body| Some(Told { status, body, error_type: None });
        match (self, form.is_rest()) {
            (Outcome::Allowed(_), _) => None,
            (Outcome::Unauthorized, true) => rest(401, r#"{"message":"Unauthorized"}"#, "UnauthorizedException"),
            (Outcome::Unauthorized, false) => http(401, r#"{"message":"Unauthorized"}"#),
            (Outcome::ImplicitDeny | Outcome::Refused, true) => {
                rest(403, r#"{"Message":"User is not authorized to access this resource"}"#, "AccessDeniedException")
            }
            (Outcome::ExplicitDeny, true) => {
                let body = r#"{"Message":"User is not authorized to access this resource with an explicit deny"}"#;
                rest(403, body, "AccessDeniedException")
            }
            (Outcome::ImplicitDeny | Outcome::ExplicitDeny | Outcome::Refused, false) => http(403, r#"{"message":"Forbidden"}"#),
            (Outcome::TooLong, true) => rest(414, r#"{"message":"Request URI too long"}"#, "RequestTooLargeException"),
            (Outcome::TooLong, false) => http(414, r#"{"message":"Request URI too long"}"#),
            (Outcome::Failed(_), true) => rest(500, r#"{"message":null}"#, "AuthorizerConfigurationException"),
            (Outcome::Failed(_), false) => http(500, r#"{"message":"Internal Server Error"}"#),
        }
    }
}

/// Holds a token against an expression.
pub type Validation = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// One authorizer, for all stages.
pub struct Lambda {
    number: u64,
    form: Form,
    sources: Vec<Source>,
    /// The whole of a token must match it.
    validation: Option<Validation>,
    ttl: Duration,
}

impl Lambda {
    /// `Err`: what AWS refuses too.
    pub fn new(
        number: u64,
        form: Form,
        sources: Vec<Source>,
        validation: Option<Validation>,
        ttl: Duration,
    ) -> Result<Lambda, &'static str> {
        if form == Form::Token && !matches!(sources[..], [Source::Header(_)]) {
            return Err("a TOKEN authorizer goes by exactly one header");
        }
        if sources.is_empty() && !ttl.is_zero() {
            return Err("without an identity source nothing can be remembered: the ttl must be 0");
        }
        if ttl > TTL_MAX {
            return Err("the ttl is over an hour");
        }
        if validation.is_some() && form != Form::Token {
            return Err("a validation expression goes with a TOKEN authorizer");
        }
        Ok(Lambda { number, form, sources, validation, ttl })
    }

    pub async fn decide(&self, request: &Request<'_>, memory: &RefCell<Memory>, invoke: &dyn Invoke, now: Instant) -> Outcome {
        if self.form.is_rest() && request.arn.len() > ARN_BYTES_MAX {
            return Outcome::TooLong;
        }
        let values: Option<Vec<String>> =
            self.sources.iter().map(|source| source.value(request).map(|value| value.into_owned())).collect();
        let Some(values) = values else { return Outcome::Unauthorized };
        if let (Some(validation), [token]) = (&self.validation, &values[..])
            && !validation(token)
        {
            return Outcome::Unauthorized;
        }
        let key = memory::key(self.number, request.stage, &values);
        let known = memory.borrow().get(&key, now);
        if let Some(said) = known {
            return judge(said, request);
        }
        let event = self.event(request, &values).to_string().into_bytes();
        let said = match invoke.invoke(event, self.form.timeout()).await {
            Ok(Invoked::Returned(bytes)) => self.read(&bytes),
            Ok(Invoked::Raised(error)) if self.says_unauthorized(&error) => return Outcome::Unauthorized,
            Ok(Invoked::Raised(_)) => Err("the function raised an error"),
            Err(_) => Err("the function could not be run, or took too long"),
        };
        match said {
            Ok(said) => {
                let said = Arc::new(said);
                if !self.ttl.is_zero() {
                    memory.borrow_mut().put(key, said.clone(), (now, now + self.ttl));
                }
                judge(said, request)
            }
            // Not remembered: the next request may fare better.
            Err(why) => Outcome::Failed(why),
        }
    }

    fn event(&self, request: &Request<'_>, values: &[String]) -> Value {
        match self.form {
            Form::Token => event::token(values.first().map(String::as_str).unwrap_or_default(), request.arn),
            Form::Rest => event::rest(request),
            Form::HttpV1 => event::http_v1(request, values),
            Form::HttpV2 { .. } => event::http_v2(request, values),
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<Said, &'static str> {
        match self.form {
            Form::Token | Form::Rest => read_policy(bytes, Context::Texts),
            Form::HttpV1 | Form::HttpV2 { simple: false } => read_policy(bytes, Context::Kept),
            Form::HttpV2 { simple: true } => read_simple(bytes),
        }
    }

    fn says_unauthorized(&self, error: &[u8]) -> bool {
        match self.form {
            Form::HttpV2 { simple: true } => false,
            Form::Token | Form::Rest | Form::HttpV1 | Form::HttpV2 { simple: false } => {
                error_message(error).as_deref() == Some(UNAUTHORIZED)
            }
        }
    }
}

/// What was said is held against each method anew: a policy that allows one allows no other.
fn judge(said: Arc<Said>, request: &Request<'_>) -> Outcome {
    match &said.judgement {
        Judgement::Plain(true) => Outcome::Allowed(said),
        Judgement::Plain(false) => Outcome::Refused,
        Judgement::Policy(policy) => match policy.evaluate(request.arn, &request.circumstances) {
            Verdict::Allow => Outcome::Allowed(said),
            Verdict::ExplicitDeny => Outcome::ExplicitDeny,
            Verdict::ImplicitDeny => Outcome::ImplicitDeny,
        },
    }
}

#[cfg(test)]
mod tests;
