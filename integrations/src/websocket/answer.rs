//! What a function's result says to whoever is connected: a response as HTTP APIs have it, of which a WebSocket has use for status, body
//! and one header. Refuses what is no such response.

use maitred_wire::base64;
use serde_json::{Map, Value};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Option<Said>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Sec-WebSocket-Protocol`, the one of the client's that is chosen.
    pub protocol: Option<String>,
}

/// Text or bytes, from either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    Bytes(Vec<u8>),
}

impl Said {
    /// Text wherever that is possible: so it reaches clients from AWS.
    pub fn of(bytes: Vec<u8>) -> Said {
        String::from_utf8(bytes).map_or_else(|error| Said::Bytes(error.into_bytes()), Said::Text)
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> usize {
        match self {
            Said::Text(text) => text.capacity(),
            Said::Bytes(bytes) => bytes.capacity(),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Said::Text(text) => text.as_bytes(),
            Said::Bytes(bytes) => bytes,
        }
    }
}

/// `None`: it is no response. `bytes`: who is connected may say bytes, and hears them where the result says so; text otherwise, wherever
/// that is possible.
pub(super) fn read(result: &[u8], bytes: bool) -> Option<Answer> {
    let Ok(Value::Object(mut result)) = serde_json::from_slice(result) else { return None };
    let status = match result.get("statusCode")? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| (200..=599).contains(status))?;
    let is_base64 = matches!(result.get("isBase64Encoded"), Some(Value::Bool(true)));
    let body = match result.remove("body") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if is_base64 => {
            let body = base64::decode(text.as_bytes())?;
            Some(if bytes { Said::Bytes(body) } else { Said::of(body) })
        }
        Some(Value::String(text)) => Some(Said::Text(text)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => return None,
    };
    let headers = match result.remove("headers") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(headers)) => headers,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => return None,
    };
    Some(Answer {
        status,
        body,
        content_type: header(&headers, "content-type"),
        protocol: header(&headers, "sec-websocket-protocol"),
    })
}

/// One that can stand in a head.
fn header(headers: &Map<String, Value>, name: &str) -> Option<String> {
    let (_, value) = headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
    let value = value.as_str()?.trim();
    (!value.is_empty() && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        Answer { status, body: None, content_type: None, protocol: None }
    }

    #[test]
    fn results() {
        let text = |text: &str| Some(Said::Text(text.to_owned()));
        for (result, wanted) in [
            (r#"{"statusCode":200}"#, Some(answer(200))),
            (r#"{"statusCode":"204","body":null,"headers":null}"#, Some(answer(204))),
            (r#"{"statusCode":200,"body":"hello"}"#, Some(Answer { body: text("hello"), ..answer(200) })),
            (
                r#"{"statusCode":200,"body":"aGVsbG8=","isBase64Encoded":true}"#,
                Some(Answer { body: text("hello"), ..answer(200) }),
            ),
            (
                r#"{"statusCode":200,"body":"/w==","isBase64Encoded":true}"#,
                Some(Answer { body: Some(Said::Bytes(vec![0xff])), ..answer(200) }),
            ),
            (
                r#"{"statusCode":403,"body":"no","headers":{"Content-Type":"text/plain"}}"#,
                Some(Answer { body: text("no"), content_type: Some("text/plain".into()), ..answer(403) }),
            ),
            (
                r#"{"statusCode":200,"headers":{"SEC-WebSocket-Protocol":"soup"}}"#,
                Some(Answer { protocol: Some("soup".into()), ..answer(200) }),
            ),
            (r#"{"statusCode":200,"headers":{"Sec-WebSocket-Protocol":"soup\r\nx: y"}}"#, Some(answer(200))),
            (r#"{"statusCode":200,"body":"!","isBase64Encoded":true}"#, None),
            (r#"{"statusCode":200,"body":{"a":1}}"#, None),
            (r#"{"statusCode":200,"headers":[]}"#, None),
            (r#"{"statusCode":101}"#, None),
            (r#"{"statusCode":600}"#, None),
            (r#"{"statusCode":20.5}"#, None),
            (r#"{"statusCode":null}"#, None),
            (r#"{"body":"hello"}"#, None),
            (r#""hello""#, None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(read(result.as_bytes(), false), wanted, "{result}");
        }
    }

    #[test]
    fn bytes_where_they_are_taken() {
        let bytes = |bytes: &[u8]| Some(Said::Bytes(bytes.to_vec()));
        for (result, wanted) in [
            (r#"{"statusCode":200,"body":"aGVsbG8=","isBase64Encoded":true}"#, bytes(b"hello")),
            (r#"{"statusCode":200,"body":"","isBase64Encoded":true}"#, bytes(b"")),
            (r#"{"statusCode":200,"body":"hello","isBase64Encoded":false}"#, Some(Said::Text("hello".to_owned()))),
        ] {
            assert_eq!(read(result.as_bytes(), true), Some(Answer { body: wanted, ..answer(200) }), "{result}");
        }
    }
}
