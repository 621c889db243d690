//! What callers are told when a function did not: the errors that AWS's platform makes, word for word.

use crate::api::trailers::StreamError;
use crate::process::Exit;
use std::time::Duration;

pub(crate) const TOO_LARGE: &str = "{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size (6291556 bytes).\",\
                                    \"errorType\":\"Function.ResponseSizeTooLarge\"}";
pub(crate) const TRUNCATED: &str = "{\"errorMessage\":\"Response is truncated: the connection ended before it did\",\"errorType\":\"Runtime.TruncatedResponse\"}";
pub(crate) const INVALID_MODE: &str =
    "{\"errorMessage\":\"Invalid function response mode\",\"errorType\":\"Runtime.InvalidResponseModeHeader\"}";

fn object(kind: &str, message: &str) -> Vec<u8> {
    serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into_bytes()
}

pub(crate) fn timed_out(id: &str, after: Duration) -> Vec<u8> {
    object("Sandbox.Timedout", &format!("RequestId: {id} Error: {}", took_too_long(after)))
}

pub(crate) fn took_too_long(after: Duration) -> String {
    format!("Task timed out after {:.2} seconds", after.as_secs_f64())
}

pub(crate) fn exited(id: &str, exit: Exit) -> Vec<u8> {
    let kind = match exit {
        Exit::Memory => "Runtime.OutOfMemory",
        Exit::Code(_) | Exit::Signal(_) => "Runtime.ExitError",
    };
    object(kind, &format!("RequestId: {id} Error: {}", how(exit)))
}

/// As AWS says it.
pub(crate) fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(0) => "Runtime exited without providing a reason".into(),
        Exit::Code(code) => format!("Runtime exited with error: exit status {code}"),
        Exit::Signal(libc::SIGKILL) | Exit::Memory => "Runtime exited with error: signal: killed".into(),
        Exit::Signal(signal) => format!("Runtime exited with error: signal: {signal}"),
    }
}

/// The process could not be started at all.
pub(crate) fn no_entrypoint(id: &str, error: &str) -> Vec<u8> {
    object("Runtime.InvalidEntrypoint", &format!("RequestId: {id} Error: The process cannot be started: {error}"))
}

/// It started and never asked for work.
pub(crate) fn init_timed_out(id: &str, after: Duration) -> Vec<u8> {
    object(
        "Sandbox.Timedout",
        &format!("RequestId: {id} Error: Initialization timed out after {:.2} seconds", after.as_secs_f64()),
    )
}

/// An extension said that it cannot start.
pub(crate) fn of_extension(name: &str, kind: &str) -> Vec<u8> {
    object("Extension.InitError", &format!("The extension `{name}` failed: {kind}"))
}

/// What a function says of its error, or, where it says nothing, of which type it is.
pub(crate) fn or_named(payload: Vec<u8>, kind: &str) -> Vec<u8> {
    if payload.is_empty() { object(kind, "The function failed and said no more") } else { payload }
}

pub(crate) fn of_stream(error: StreamError) -> Vec<u8> {
    let kind = if error.kind.is_empty() { "Runtime.Unknown" } else { &error.kind };
    or_named(error.body, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_worded_as_aws_words_them() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(timed_out("i", Duration::from_secs(30))),
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: i Error: Task timed out after 30.00 seconds"}"#
        );
        for (exit, message) in [
            (Exit::Code(127), "Runtime exited with error: exit status 127"),
            (Exit::Code(0), "Runtime exited without providing a reason"),
            (Exit::Signal(9), "Runtime exited with error: signal: killed"),
            (Exit::Signal(11), "Runtime exited with error: signal: 11"),
        ] {
            assert_eq!(
                text(exited("i", exit)),
                format!(r#"{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: i Error: {message}"}}"#)
            );
        }
        assert!(text(exited("i", Exit::Memory)).contains("Runtime.OutOfMemory"));
        for constant in [TOO_LARGE, TRUNCATED, INVALID_MODE] {
            assert!(serde_json::from_str::<serde_json::Value>(constant).unwrap()["errorType"].is_string());
        }
        assert_eq!(or_named(b"{}".to_vec(), "A"), b"{}");
        assert!(text(or_named(Vec::new(), "Runtime.Unknown")).contains("Runtime.Unknown"));
    }
}
