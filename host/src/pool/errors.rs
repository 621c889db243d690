//! What callers are told when a function did not: the errors that AWS's platform makes, word for word.

use crate::api::trailers::StreamError;
use crate::log::LINE_BYTES_MAX;
use crate::process::Exit;
use maitred_model::format_size;
use serde_json::Value;
use std::time::Duration;

/// Of an error with its trace: as much as a line of the log has.
const TOLD_BYTES_MAX: usize = LINE_BYTES_MAX;
/// A longer error is shown as it stands and not taken apart: read as JSON it would take many times its bytes, on a thread that all functions share.
const READ_BYTES_MAX: usize = 64 * 1024;
const KILLED: &str = "Runtime exited with error: signal: killed";
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
        Exit::Memory { .. } => "Runtime.OutOfMemory",
        Exit::Code(_) | Exit::Signal(_) => "Runtime.ExitError",
    };
    object(kind, &format!("RequestId: {id} Error: {}", how(exit)))
}

/// As AWS says it.
pub(crate) fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(0) => "Runtime exited without providing a reason".into(),
        Exit::Code(code) => format!("Runtime exited with error: exit status {code}"),
        Exit::Signal(libc::SIGKILL) => KILLED.into(),
        Exit::Signal(signal) => format!("Runtime exited with error: signal: {signal}"),
        Exit::Memory { had, most } => {
            format!(
                "{KILLED}: Runtime.OutOfMemory: it had {}, and `memory: {}` is the most",
                beyond(had, most),
                format_size(most)
            )
        }
    }
}

/// In the limit's own unit, and rounded up, so that it is never as much as the limit that it passed.
fn beyond(bytes: u64, most: u64) -> String {
    match most.is_multiple_of(1 << 20) {
        true => format!("{}MiB", bytes.div_ceil(1 << 20)),
        false => format!("{}MB", bytes.div_ceil(1_000_000)),
    }
}

/// What a process told of its error, in words and with where it happened. Anything may stand in it.
pub(crate) fn told(payload: &[u8]) -> String {
    let is_short = payload.len() <= READ_BYTES_MAX;
    let error: Value = is_short.then(|| serde_json::from_slice(payload).ok()).flatten().unwrap_or_default();
    let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty());
    let mut told = match (text("errorType"), text("errorMessage")) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => String::from_utf8_lossy(&payload[..payload.len().min(TOLD_BYTES_MAX)]).into_owned(),
    };
    // `trace` is what Node's runtime calls it.
    let trace = ["stackTrace", "trace"].into_iter().find_map(|key| error[key].as_array());
    let mut lines = trace.into_iter().flatten().filter_map(Value::as_str).peekable();
    // Node's begins with what was said just now.
    lines.next_if(|line| *line == told);
    for line in lines {
        told.push('\n');
        told.push_str(line.trim_end());
    }
    let end = (0..=TOLD_BYTES_MAX.min(told.len())).rev().find(|&end| told.is_char_boundary(end));
    told.truncate(end.unwrap_or_default());
    told
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
        assert_eq!(
            text(exited("i", Exit::Memory { had: (130 << 20) + 1, most: 128 << 20 })),
            r#"{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: i Error: Runtime exited with error: signal: killed: Runtime.OutOfMemory: it had 131MiB, and `memory: 128MiB` is the most"}"#
        );
        for constant in [TOO_LARGE, TRUNCATED, INVALID_MODE] {
            assert!(serde_json::from_str::<serde_json::Value>(constant).unwrap()["errorType"].is_string());
        }
        assert_eq!(or_named(b"{}".to_vec(), "A"), b"{}");
        assert!(text(or_named(Vec::new(), "Runtime.Unknown")).contains("Runtime.Unknown"));
    }

    #[test]
    fn what_a_process_tells_of_its_error_is_told_with_its_trace() {
        for (payload, wanted) in [
            (
                r#"{"errorType":"T","errorMessage":"m","stackTrace":["  one\n    two\n"," three",4]}"#,
                "T: m\n  one\n    two\n three",
            ),
            (r#"{"errorType":"T","errorMessage":"","trace":["at x"]}"#, "T\nat x"),
            (r#"{"errorType":"E","errorMessage":"m","trace":["E: m","    at x"]}"#, "E: m\n    at x"),
            (r#"{"errorMessage":7}"#, r#"{"errorMessage":7}"#),
            ("no JSON", "no JSON"),
            ("", ""),
        ] {
            assert_eq!(told(payload.as_bytes()), wanted, "{payload}");
        }
        assert!(told("ä".repeat(TOLD_BYTES_MAX).as_bytes()).len() <= TOLD_BYTES_MAX);
        assert!(told(format!(r#"{{"errorType":"a{}"}}"#, "ä".repeat(TOLD_BYTES_MAX)).as_bytes()).len() <= TOLD_BYTES_MAX);
    }
}
