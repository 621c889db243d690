//! The Extensions API (2020-01-01) as pure functions: what an extension asks for, what it is told, and why it is refused. Knows no process.

use super::field;
use maitred_wire::{decimal, status_line};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Of a list of two words.
pub(crate) const REGISTER_BYTES_MAX: usize = 16 * 1024;
/// Of an error with its stack, as of the one at the end of a stream.
pub(crate) const ERROR_BYTES_MAX: usize = 256 * 1024;
/// Bytes: the name of a file, which AWS wants it to be.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// Of one process, as in AWS (reference: AWS Lambda, Extensions API).
pub(crate) const EXTENSIONS_MAX: usize = 10;
/// A UUID with its hyphens.
const IDENTIFIER_BYTES: usize = 36;

pub(crate) const NAME: &[u8] = b"Lambda-Extension-Name";
pub(crate) const IDENTIFIER: &[u8] = b"Lambda-Extension-Identifier";
pub(crate) const ERROR_TYPE: &[u8] = b"Lambda-Extension-Function-Error-Type";
pub(crate) const FEATURES: &[u8] = b"Lambda-Extension-Accept-Feature";
/// As ARNs of functions here have it.
const ACCOUNT: &str = "000000000000";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtensionCall {
    Register,
    Next,
    InitError,
    ExitError,
}

/// Why an extension is refused, in AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Name,
    Registered,
    TooMany,
    EventType,
    Format,
    IdentifierMissing,
    IdentifierInvalid,
    IdentifierUnknown,
    ErrorTypeMissing,
    TooLong,
}

impl Denied {
    pub fn told(self) -> (u16, &'static str, &'static str) {
        let (kind, message) = match self {
            Denied::Name => ("Extension.InvalidExtensionName", "Lambda-Extension-Name is missing, or no name"),
            Denied::Registered => ("Extension.InvalidExtensionState", "Extension with this name already registered"),
            Denied::TooMany => {
                const { assert!(EXTENSIONS_MAX == 10) };
                ("Extension.TooManyExtensions", "Extension limit (10) reached")
            }
            Denied::EventType => ("Extension.InvalidEventType", "Events are INVOKE and SHUTDOWN"),
            Denied::Format => ("InvalidRequestFormat", "The body is no JSON object with a list of events"),
            Denied::IdentifierMissing => ("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"),
            Denied::IdentifierInvalid => ("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"),
            Denied::IdentifierUnknown => ("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier"),
            Denied::TooLong => return (413, "RequestEntityTooLarge", "The body is longer than one of extensions may be"),
            Denied::ErrorTypeMissing => ("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"),
        };
        (403, kind, message)
    }
}

/// What an extension wants to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub invoke: bool,
    pub shutdown: bool,
}

impl Wants {
    /// `{"events": ["INVOKE", "SHUTDOWN"]}`
    pub fn parse(body: &[u8]) -> Result<Wants, Denied> {
        let body: Value = serde_json::from_slice(body).map_err(|_| Denied::Format)?;
        let body = body.as_object().ok_or(Denied::Format)?;
        // Told apart from an empty list, as AWS does: whoever has keys expects something for them.
        if body.get("configurationKeys").and_then(Value::as_array).is_some_and(|keys| !keys.is_empty()) {
            return Err(Denied::Format);
        }
        let mut wants = Wants::default();
        let events = match body.get("events") {
            None | Some(Value::Null) => return Ok(wants),
            Some(events) => events.as_array().ok_or(Denied::Format)?,
        };
        for event in events {
            match event.as_str() {
                Some("INVOKE") => wants.invoke = true,
                Some("SHUTDOWN") => wants.shutdown = true,
                Some(_) | None => return Err(Denied::EventType),
            }
        }
        Ok(wants)
    }
}

pub(crate) fn name(value: Option<&[u8]>) -> Result<&str, Denied> {
    let name = value.and_then(|value| str::from_utf8(value).ok()).ok_or(Denied::Name)?;
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_name { Ok(name) } else { Err(Denied::Name) }
}

pub(crate) fn identifier(value: Option<&[u8]>) -> Result<Uuid, Denied> {
    let value = value.filter(|value| !value.is_empty()).ok_or(Denied::IdentifierMissing)?;
    let value = Some(value).filter(|value| value.len() == IDENTIFIER_BYTES).ok_or(Denied::IdentifierInvalid)?;
    Uuid::try_parse_ascii(value).map_err(|_| Denied::IdentifierInvalid)
}

/// What an extension that registered learns of its function. `features`: what it says that it understands.
pub(crate) fn registered(out: &mut Vec<u8>, id: Uuid, (name, version, handler): (&str, &str, &str), features: Option<&[u8]>) {
    let mut body = json!({ "functionName": name, "functionVersion": version, "handler": handler });
    let mut features = features.unwrap_or_default().split(|byte| *byte == b',');
    if features.any(|feature| feature.trim_ascii() == b"accountId") {
        body["accountId"] = ACCOUNT.into();
    }
    answer(out, "Lambda-Extension-Identifier", id, &body.to_string());
}

pub(crate) fn event(out: &mut Vec<u8>, event: &str) {
    answer(out, "Lambda-Extension-Event-Identifier", Uuid::now_v7(), event);
}

fn answer(out: &mut Vec<u8>, name: &str, id: Uuid, body: &str) {
    status_line(out, 200, b"");
    out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
    decimal(out, body.len() as u64);
    out.extend_from_slice(b"\r\n");
    field(out, name, &id.hyphenated().to_string());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.as_bytes());
}

/// `deadline`: since 1970, here and below.
pub(crate) fn invoke(id: &str, arn: &str, trace: &str, deadline: Duration) -> String {
    let mut event = json!({
        "eventType": "INVOKE",
        "deadlineMs": deadline.as_millis() as u64,
        "requestId": id,
        "invokedFunctionArn": arn,
    });
    if !trace.is_empty() {
        event["tracing"] = json!({ "type": "X-Amzn-Trace-Id", "value": trace });
    }
    event.to_string()
}

/// Why a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is needed no more.
    Spindown,
    Timeout,
}

pub(crate) fn shutdown(reason: Reason, deadline: Duration) -> String {
    let reason = match reason {
        Reason::Spindown => "spindown",
        Reason::Timeout => "timeout",
    };
    json!({ "eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline.as_millis() as u64 }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_extension_wants_is_read_or_refused() {
        let wants = |invoke, shutdown| Ok(Wants { invoke, shutdown });
        for (body, expected) in [
            (&br#"{"events":["INVOKE","SHUTDOWN"]}"#[..], wants(true, true)),
            (br#"{ "events": [] }"#, wants(false, false)),
            (br#"{"events":["SHUTDOWN"],"configurationKeys":[]}"#, wants(false, true)),
            (b"{}", wants(false, false)),
            (br#"{"events":null}"#, wants(false, false)),
            (br#"{"events":["RESTORE"]}"#, Err(Denied::EventType)),
            (br#"{"events":[1]}"#, Err(Denied::EventType)),
            (br#"{"events":"INVOKE"}"#, Err(Denied::Format)),
            (br#"{"configurationKeys":["A"]}"#, Err(Denied::Format)),
            (b"[]", Err(Denied::Format)),
            (b"", Err(Denied::Format)),
            (b"\xff", Err(Denied::Format)),
        ] {
            assert_eq!(Wants::parse(body), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn names_and_identifiers_are_bounded() {
        let long = [b'a'; NAME_BYTES_MAX + 1];
        assert_eq!(name(Some(b"lambda-adapter")), Ok("lambda-adapter"));
        assert!(name(Some(&long[1..])).is_ok());
        for wrong in [None, Some(&b""[..]), Some(&long), Some(b"a b"), Some(b"\xff"), Some(b"a\x01")] {
            assert_eq!(name(wrong), Err(Denied::Name));
        }
        let id = Uuid::now_v7();
        let text = id.hyphenated().to_string();
        assert_eq!(identifier(Some(text.as_bytes())), Ok(id));
        assert_eq!(identifier(Some(text.to_uppercase().as_bytes())), Ok(id));
        for (value, expected) in [
            (None, Denied::IdentifierMissing),
            (Some(&b""[..]), Denied::IdentifierMissing),
            (Some(b"nobody"), Denied::IdentifierInvalid),
            (Some(id.simple().to_string().as_bytes()), Denied::IdentifierInvalid),
            (Some(&[b'g'; IDENTIFIER_BYTES]), Denied::IdentifierInvalid),
        ] {
            assert_eq!(identifier(value), Err(expected));
        }
    }

    #[test]
    fn extensions_are_told_as_aws_tells_them() {
        let id = Uuid::now_v7();
        let mut out = Vec::new();
        registered(&mut out, id, ("f", "$LATEST", "app.handler"), Some(b"other, accountId"));
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(&format!("\r\nLambda-Extension-Identifier: {id}")), "{head}");
        assert_eq!(
            serde_json::from_str::<Value>(body).unwrap(),
            json!({"functionName": "f", "functionVersion": "$LATEST", "handler": "app.handler", "accountId": "000000000000"})
        );
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(
            read(invoke("i", "arn", "Root=1", Duration::from_millis(1500))),
            json!({
                "eventType": "INVOKE", "deadlineMs": 1500, "requestId": "i", "invokedFunctionArn": "arn",
                "tracing": { "type": "X-Amzn-Trace-Id", "value": "Root=1" },
            })
        );
        assert!(read(invoke("i", "arn", "", Duration::ZERO)).get("tracing").is_none());
        for (reason, word) in [(Reason::Spindown, "spindown"), (Reason::Timeout, "timeout")] {
            assert_eq!(
                read(shutdown(reason, Duration::from_secs(2))),
                json!({ "eventType": "SHUTDOWN", "shutdownReason": word, "deadlineMs": 2000 })
            );
        }
    }
}
