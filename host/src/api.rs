//! The Lambda Runtime API (2018-06-01) and the Extensions API (2020-01-01) as pure functions: which call a request is, what a refusal says,
//! how a failed stream tells why.
//! Opens no sockets (`connection.rs` does) and knows no pool (`instance.rs` does).

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod extensions;
pub(crate) mod trailers;

use extensions::{Denied, ExtensionCall};
use maitred_core::function::PAYLOAD_BYTES_MAX;
use maitred_wire::{HeadLimits, Method, decimal, status_line};

/// A failing Python function puts its stack into a field, which it cuts at 1 MiB; with 64 KiB for all else.
pub(crate) const HEAD_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
/// Clients send a dozen; libraries that trace add theirs.
const FIELDS_MAX: usize = 100;
/// The longest path has a UUID in it.
const TARGET_BYTES_MAX: usize = 4 * 1024;

pub(crate) const LIMITS: HeadLimits =
    HeadLimits { head_bytes: HEAD_BYTES_MAX, fields: FIELDS_MAX, target_bytes: TARGET_BYTES_MAX, drop_underscores: false };

/// What a process calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Call<'a> {
    Next,
    /// With the invocation's id.
    Response(&'a [u8]),
    Error(&'a [u8]),
    InitError,
    Extension(ExtensionCall),
    Ping,
    /// Extensions that ask for logs live on when they are told that there are none.
    NoLogs,
    NoTelemetry,
    WrongMethod,
    Unknown,
}

impl Call<'_> {
    pub fn of(method: Method, path: &[u8]) -> Call<'_> {
        let (call, wanted) = match path {
            b"/ping" => (Call::Ping, Method::Get),
            b"/2020-08-15/logs" => (Call::NoLogs, Method::Put),
            b"/2022-07-01/telemetry" => (Call::NoTelemetry, Method::Put),
            b"/2020-01-01/extension/register" => (Call::Extension(ExtensionCall::Register), Method::Post),
            b"/2020-01-01/extension/event/next" => (Call::Extension(ExtensionCall::Next), Method::Get),
            b"/2020-01-01/extension/init/error" => (Call::Extension(ExtensionCall::InitError), Method::Post),
            b"/2020-01-01/extension/exit/error" => (Call::Extension(ExtensionCall::ExitError), Method::Post),
            _ => match path.strip_prefix(b"/2018-06-01/runtime/").map(Call::of_runtime) {
                Some(Some(found)) => found,
                Some(None) | None => return Call::Unknown,
            },
        };
        if method == wanted { call } else { Call::WrongMethod }
    }

    /// SnapStart's `restore/next` and `restore/error` are not there: no process is told that it runs under it.
    fn of_runtime(path: &[u8]) -> Option<(Call<'_>, Method)> {
        match path {
            b"invocation/next" => return Some((Call::Next, Method::Get)),
            b"init/error" => return Some((Call::InitError, Method::Post)),
            _ => {}
        }
        let path = path.strip_prefix(b"invocation/")?;
        let slash = path.iter().position(|&byte| byte == b'/')?;
        match &path[slash + 1..] {
            b"response" => Some((Call::Response(&path[..slash]), Method::Post)),
            b"error" => Some((Call::Error(&path[..slash]), Method::Post)),
            _ => None,
        }
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The process is not where this call has a place.
    State,
    RequestId,
    ResponseMode,
    Truncated,
    TooLarge,
    /// No request of HTTP.
    Malformed(u16),
    Unknown,
    WrongMethod,
    Extension(Denied),
}

impl Refused {
    /// Status, `errorType` and `errorMessage` as AWS words them.
    pub fn told(self) -> (u16, &'static str, &'static str) {
        match self {
            Refused::State => (403, "InvalidStateTransition", "Transition from this state is not allowed"),
            Refused::RequestId => (400, "InvalidRequestID", "Invalid request ID"),
            Refused::ResponseMode => (400, "InvalidFunctionResponseMode", "Invalid function response mode"),
            Refused::Truncated => (400, "TruncatedHTTPRequest", "HTTP request detected as truncated"),
            Refused::TooLarge => {
                const { assert!(PAYLOAD_BYTES_MAX == 6_291_556) };
                (413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes).")
            }
            Refused::Malformed(status) => (status, "InvalidRequest", "This is no request that can be understood"),
            Refused::Unknown => (404, "NotFound", "The Runtime API has no such path"),
            Refused::WrongMethod => (405, "MethodNotAllowed", "The path is called with another method"),
            Refused::Extension(denied) => denied.told(),
        }
    }

    pub fn write(self, out: &mut Vec<u8>, closes: bool) {
        let (status, kind, message) = self.told();
        json(out, status, &format!("{{\"errorMessage\":\"{message}\",\"errorType\":\"{kind}\"}}\n"), closes);
    }
}

/// What a call that was taken is told.
pub(crate) const TAKEN: &str = "{\"status\":\"OK\"}\n";

pub(crate) fn json(out: &mut Vec<u8>, status: u16, body: &str, closes: bool) {
    whole(out, status, "application/json", body, closes);
}

/// A response with its body.
pub(crate) fn whole(out: &mut Vec<u8>, status: u16, kind: &str, body: &str, closes: bool) {
    status_line(out, status, b"");
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    decimal(out, body.len() as u64);
    out.extend_from_slice(if closes { b"\r\nConnection: close\r\n\r\n" } else { b"\r\n\r\n" });
    out.extend_from_slice(body.as_bytes());
}

/// What goes with an event.
#[derive(Debug)]
pub(crate) struct EventHead<'a> {
    pub id: &'a str,
    /// Since 1970.
    pub deadline_ms: u64,
    pub arn: &'a str,
    /// Empty: none.
    pub trace: &'a str,
    pub client_context: Option<&'a str>,
    pub length: usize,
}

impl EventHead<'_> {
    pub fn write(&self, out: &mut Vec<u8>) {
        // The type must be there: without it the clients of Python and Node die of a null pointer.
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
        decimal(out, self.length as u64);
        out.extend_from_slice(b"\r\nLambda-Runtime-Deadline-Ms: ");
        decimal(out, self.deadline_ms);
        out.extend_from_slice(b"\r\n");
        field(out, "Lambda-Runtime-Aws-Request-Id", self.id);
        field(out, "Lambda-Runtime-Invoked-Function-Arn", self.arn);
        if !self.trace.is_empty() {
            field(out, "Lambda-Runtime-Trace-Id", self.trace);
        }
        if let Some(context) = self.client_context {
            field(out, "Lambda-Runtime-Client-Context", context);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// A field whose value came from outside: JSON may have line feeds between its tokens, and here they would begin a field.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(|byte| if byte < 0x20 || byte == 0x7f { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// What AWS keeps of `Lambda-Runtime-Function-Error-Type`: `(Runtime|Function).[A-Z][A-Za-z]+`.
pub(crate) fn error_type(value: Option<&[u8]>) -> &str {
    let value = value.and_then(|value| str::from_utf8(value).ok()).unwrap_or_default();
    let name = value.strip_prefix("Runtime.").or_else(|| value.strip_prefix("Function."));
    let is_kept = name.is_some_and(|name| {
        name.len() > 1 && name.as_bytes()[0].is_ascii_uppercase() && name.bytes().all(|byte| byte.is_ascii_alphabetic())
    });
    match is_kept {
        true => value,
        false if value.starts_with("Function.") => "Function.Unknown",
        false => "Runtime.Unknown",
    }
}

#[cfg(test)]
mod tests;
