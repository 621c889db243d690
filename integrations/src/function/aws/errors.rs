//! What AWS says when it does not run a function, or when a function failed, in the gateway's own faults. What it says in words goes to the log:
//! it names accounts and roles.

use maitred_core::aws::clock;
use maitred_core::function::Failure;
use maitred_core::{Called, Fault, Kind};
use serde_json::{Map, Value};
use std::time::Duration;

/// Of AWS's words, so many characters go to the log.
const WORDS_MAX: usize = 300;
/// No function is busy for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// AWS ran nothing.
#[derive(Debug)]
pub struct Refused {
    status: u16,
    /// `ResourceNotFoundException`; empty where it says none.
    name: String,
    words: String,
    /// `ConcurrentInvocationLimitExceeded` and the like.
    reason: String,
    retry_after: Option<Duration>,
    /// Its own time, since 1970.
    date: Option<u64>,
}

impl Refused {
    pub fn read(called: &Called) -> Refused {
        let Called { head, body } = called;
        let header = |name: &[u8]| head.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
        let object: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        // `Name:http://…` in the header, `com.amazonaws#Name` in the body.
        let name = header(b"x-amzn-errortype").unwrap_or_else(|| text("__type"));
        let name = name.split(':').next().unwrap_or_default();
        let name = name.rsplit('#').next().unwrap_or_default();
        let words = [text("message"), text("Message")].into_iter().find(|words| !words.is_empty()).unwrap_or_default();
        Refused {
            status: head.status,
            name: name.chars().take(WORDS_MAX).collect(),
            words: words.chars().take(WORDS_MAX).collect(),
            reason: text("Reason").chars().take(WORDS_MAX).collect(),
            retry_after: header(b"retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs),
            date: header(b"date").and_then(clock::seconds),
        }
    }

    /// It refused for the clock, and says what time it is.
    pub fn clock(&self) -> Option<u64> {
        self.date.filter(|_| clock::is_refused_for_time(self.status, &self.name, &self.words))
    }

    /// It refused the keys, and might take others.
    pub fn is_for_keys(&self) -> bool {
        let names = ["ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId"];
        matches!(self.status, 400 | 403) && names.contains(&self.name.as_str())
    }

    pub fn fault(self, function: &str) -> Fault {
        let Refused { status, name, words, reason, retry_after, .. } = self;
        let kind = match (status, name.as_str()) {
            (429, _) => Kind::FunctionBusy,
            (413, _) => Kind::BodyTooLarge,
            // The event is the client's own body, and no JSON.
            (400, "InvalidRequestContentException") => Kind::BadRequest,
            (_, _) => Kind::FunctionUnavailable,
        };
        let said = [name, reason, words].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let fault = Fault::new(kind, format!("AWS refused to invoke `{function}`: {status} {said}").trim_end().to_owned());
        Fault { retry_after: retry_after.filter(|_| status == 429).map(|after| after.min(RETRY_AFTER_MAX)), ..fault }
    }
}

/// How a function failed: the name of the error says what the platform did (reference: AWS Lambda, Invoke).
pub fn failure(payload: &[u8]) -> Failure {
    let object: Map<String, Value> = serde_json::from_slice(payload).unwrap_or_default();
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("errorType") {
        "Sandbox.Timedout" => Failure::TimedOut,
        "Runtime.ExitError" => Failure::Exited,
        "Function.ResponseSizeTooLarge" => Failure::TooLarge,
        // An older form has nothing but words.
        "" if text("errorMessage").contains("Task timed out after") => Failure::TimedOut,
        _ => Failure::Raised,
    }
}

/// A request that was not answered: what is wrong with a back end is wrong with the function.
pub fn unreached(function: &str, fault: Fault) -> Fault {
    if fault.kind == Kind::UpstreamTimeout {
        return Fault::new(Kind::FunctionTimeout, format!("`{function}` took too long"));
    }
    let of_endpoint =
        [Kind::UpstreamReset, Kind::UpstreamUnreachable, Kind::UpstreamProtocol, Kind::NoEndpoint, Kind::ConnectTimeout];
    if !of_endpoint.contains(&fault.kind) {
        return fault;
    }
    let detail = format!("`{function}` cannot be invoked: {}: {}", fault.kind.name(), fault.detail);
    Fault::new(Kind::FunctionUnavailable, detail)
}

/// An answer that began and did not end.
pub fn broken(function: &str, fault: Fault) -> Fault {
    if matches!(fault.kind, Kind::UpstreamReset | Kind::UpstreamProtocol) {
        return Fault::new(Kind::FunctionFailed, format!("the result of `{function}` is cut off: {}", fault.detail));
    }
    unreached(function, fault)
}
