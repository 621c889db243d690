//! What goes wrong with a call, as AWS Lambda words it: the name of an exception in a header, and a body whose message stands under the key
//! that its model has for it. Clients act on names and statuses, so that these are AWS's own.

use super::super::functions::insert;
use crate::functions::Unrun;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use maitred_core::function::PAYLOAD_BYTES_MAX;
use maitred_core::{Fault, Kind, Unreached};
use maitred_host::NotRun;
use serde_json::{Value, json};

pub(super) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// What AWS says that an event may have; the hundred on top nobody hears of.
const EVENT_BYTES_TOLD: usize = PAYLOAD_BYTES_MAX - 100;
/// Bytes of an event that nobody waits for (reference: AWS Lambda quotas, asynchronous).
pub(super) const LATER_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(in crate::admin) struct Refusal {
    status: StatusCode,
    name: &'static str,
    body: Value,
    /// Whether another try is worth it, and AWS says when.
    is_throttled: bool,
    id: String,
}

impl Refusal {
    fn new(status: StatusCode, name: &'static str, body: Value) -> Refusal {
        Refusal { status, name, body, is_throttled: false, id: String::new() }
    }

    fn user(status: StatusCode, name: &'static str, message: impl Into<String>) -> Refusal {
        Refusal::new(status, name, json!({ "Type": "User", "message": message.into() }))
    }

    /// By which the call is known, if it came so far.
    pub fn of(self, id: &str) -> Refusal {
        Refusal { id: id.to_owned(), ..self }
    }

    /// Before anybody is known: no type, as AWS has it.
    fn unknown_caller(name: &'static str, message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, name, json!({ "message": message.into() }))
    }

    pub fn missing_signature() -> Refusal {
        Refusal::unknown_caller("MissingAuthenticationTokenException", "Missing Authentication Token")
    }

    pub fn incomplete_signature(why: &str) -> Refusal {
        Refusal::unknown_caller(
            "IncompleteSignatureException",
            format!("The request signature is not one that is taken here: {why}."),
        )
    }

    pub fn unknown_key() -> Refusal {
        Refusal::unknown_caller("UnrecognizedClientException", "The security token included in the request is invalid.")
    }

    pub fn wrong_signature(why: &str) -> Refusal {
        Refusal::unknown_caller(
            "InvalidSignatureException",
            format!(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing \
                 method: {why}."
            ),
        )
    }

    pub fn no_such_operation() -> Refusal {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "UnknownOperationException",
            json!({ "message": "Functions answer Invoke, InvokeWithResponseStream, GetFunction, GetFunctionConfiguration and ListFunctions, and `@connections` POST, GET and DELETE." }),
        )
    }

    pub fn not_found(arn: &str) -> Refusal {
        let body = json!({ "Type": "User", "Message": format!("Function not found: {arn}") });
        Refusal::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", body)
    }

    pub fn wrong_parameter(message: impl Into<String>) -> Refusal {
        Refusal::user(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
    }

    /// `what`: the member of the request, with what it should have been.
    pub fn invalid(value: &str, what: &str) -> Refusal {
        let message = format!("1 validation error detected: Value '{value}' at {what}");
        Refusal::new(StatusCode::BAD_REQUEST, "ValidationException", json!({ "message": message }))
    }

    pub fn not_json(why: &str) -> Refusal {
        Refusal::user(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            format!("Could not parse request body into json: {why}"),
        )
    }

    pub fn wrong_context() -> Refusal {
        Refusal::user(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.",
        )
    }

    pub fn too_large() -> Refusal {
        Refusal::larger_than(EVENT_BYTES_TOLD)
    }

    pub fn too_large_for_later() -> Refusal {
        Refusal::larger_than(LATER_BYTES_MAX)
    }

    fn larger_than(most: usize) -> Refusal {
        let message = format!("Request must be smaller than {most} bytes for the InvokeFunction operation");
        Refusal::user(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", message)
    }

    pub fn too_slow() -> Refusal {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException", json!({ "message": "The request came too slowly." }))
    }

    pub fn throttled() -> Refusal {
        let body = json!({
            "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
            "Type": "User",
            "message": "Rate Exceeded.",
        });
        Refusal { is_throttled: true, ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", body) }
    }

    /// Of a connection.
    pub fn unreached(why: Unreached) -> Refusal {
        let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = match why {
            Unreached::Gone => "There is no connection of that id.",
            Unreached::TooLarge => "A message may have 128 KB.",
            Unreached::Full => "Its client reads too slowly.",
            Unreached::NoRoom => "Too much waits for clients.",
        };
        Refusal::new(status, why.error_type(), json!({ "message": message }))
    }

    pub fn service(message: &str) -> Refusal {
        let body = json!({ "Type": "Service", "Message": message });
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", body)
    }

    pub fn unrun(why: Unrun) -> Refusal {
        match why {
            Unrun::Here(NotRun::QueueFull | NotRun::Waited) => Refusal::throttled(),
            Unrun::Here(NotRun::TooLarge) => Refusal::too_large(),
            Unrun::Here(NotRun::Closed) => Refusal::service("The function is being put out of use."),
            Unrun::Away(fault) => Refusal::away(&fault),
        }
    }

    /// What AWS said of a function of its own, in its words once more.
    fn away(fault: &Fault) -> Refusal {
        if fault.kind == Kind::FunctionBusy {
            return Refusal::throttled();
        }
        if fault.kind == Kind::BodyTooLarge {
            return Refusal::too_large();
        }
        if fault.kind == Kind::BadRequest {
            return Refusal::not_json(&fault.detail);
        }
        Refusal::service(&fault.detail)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.name));
        if !self.id.is_empty() {
            insert(headers, REQUEST_ID, &self.id);
        }
        if self.is_throttled {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
