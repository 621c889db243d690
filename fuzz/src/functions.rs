//! What goes to functions and what comes from them. Whatever a request is, its event is JSON in which each name stands once; whatever a result
//! is, its response is one that HTTP can carry; and a stream's body begins where a plain reading finds it.

use maitred_core::wire::{HeadLimits, Parsed, RequestHead, ResponseHead, field, status_line};
use maitred_integrations::function::event::{Asked, Resource, write};
use maitred_integrations::function::prelude::{METADATA_BYTES_MAX, Prelude};
use maitred_integrations::function::{Form, answer};
use maitred_model::{EventForm, InvocationType, ResponseMode};
use serde_json::Value;
use std::time::Duration;

const EVENTS: [EventForm; 4] = [EventForm::V1, EventForm::V2, EventForm::Url, EventForm::Alb];

fn form(event: EventForm, multi_value_headers: bool) -> Form {
    Form {
        event,
        response: ResponseMode::Buffered,
        invocation: InvocationType::RequestResponse,
        binary_media_types: vec!["image/*".to_owned()],
        multi_value_headers,
    }
}

fn head_limits() -> HeadLimits {
    HeadLimits { head_bytes: 256 * 1024, fields: 1024, target_bytes: 16 * 1024, drop_underscores: false }
}

pub fn function_event(data: &[u8]) {
    let mut request = RequestHead::default();
    let Ok(Parsed::Complete(length)) = request.parse(data, &head_limits()) else { return };
    let resource = Resource {
        function: "f".into(),
        api: "a".into(),
        methods: Vec::new(),
        path: "/{rest+}".to_owned(),
        params: vec![("rest".to_owned(), true)],
        region: "eu-west-1".into(),
    };
    let path = request.path();
    let asked = Asked {
        resource: &resource,
        method: request.method_text(),
        path,
        local_path: path,
        query: request.query(),
        headers: &request.headers,
        params: &[path.strip_prefix(b"/").unwrap_or(path)],
        authority: request.authority(),
        host: request.host(),
        trusted: false,
        forwarded_for: b"10.0.0.9",
        proto: b"http",
        port: b"80",
        client: "10.0.0.9",
        tls: None,
        request_id: b"id",
        trace: "Root=1-67891233-abcdef012345678912345678",
        time: Duration::from_secs(length as u64),
        principal: None,
        body: &data[length..],
    };
    for event in EVENTS {
        for multi_value_headers in [false, true] {
            let told = write(&form(event, multi_value_headers), &asked);
            // Strict: a name that stands twice is an error.
            let told = maitred_core::identity::json::object(&told).unwrap_or_else(|why| panic!("{event:?}: {why}"));
            let headers = &told[if told.contains_key("headers") { "headers" } else { "multiValueHeaders" }];
            let headers = headers.as_object().expect("headers");
            for forged in ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "transfer-encoding", "connection"] {
                let said = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(forged)).map(|(_, value)| value);
                let own = said.is_none_or(|said| said == "10.0.0.9" || said[0] == "10.0.0.9");
                assert!(own, "{event:?}: {forged} was believed");
            }
        }
    }
}

pub fn function_result(data: &[u8]) {
    for event in EVENTS {
        for multi_value_headers in [false, true] {
            let mut head = ResponseHead::default();
            let form = form(event, multi_value_headers);
            if let Ok(body) = answer::whole(&form, data.to_vec(), Some(b"image/png"), &mut head) {
                sendable(&mut head);
                plainly(event, data, head.status, &body);
            }
        }
        let mut head = ResponseHead::default();
        if answer::metadata(&form(event, false), data, &mut head).is_ok() {
            sendable(&mut head);
        }
    }
    assert!(answer::raised(data).chars().all(|char| !char.is_control()));
}

/// Written and read again it is the same response.
fn sendable(head: &mut ResponseHead) {
    assert!((200..=599).contains(&head.status));
    let (mut out, mut count) = (Vec::new(), 0);
    status_line(&mut out, head.status, head.headers.slice(head.reason));
    for entry in head.headers.iter() {
        field(&mut out, head.headers.name(entry), head.headers.value(entry));
        count += 1;
    }
    out.extend_from_slice(b"\r\n");
    let mut again = ResponseHead::default();
    let parsed = again.parse(&out, false, &head_limits());
    assert!(matches!(parsed, Ok(Parsed::Complete(length)) if length == out.len()), "{}", String::from_utf8_lossy(&out));
    assert_eq!((again.status, again.headers.iter().count()), (head.status, count));
}

/// What a reading that knows no borrowing says of it.
fn plainly(event: EventForm, data: &[u8], status: u16, body: &[u8]) {
    let Ok(plain) = serde_json::from_slice::<Value>(data) else {
        // Numbers that are too large for it, say.
        return;
    };
    let is_http = matches!(event, EventForm::V2 | EventForm::Url);
    if is_http && plain.get("statusCode").is_none_or(Value::is_null) {
        let told = plain.as_str().map_or(data, str::as_bytes);
        assert_eq!((status, body), (200, told));
        return;
    }
    let text = plain["body"].as_str().unwrap_or_default();
    if plain["isBase64Encoded"] != true {
        assert_eq!(body, text.as_bytes());
    }
    match &plain["statusCode"] {
        Value::Null => assert_eq!(status, 200),
        Value::String(digits) => assert_eq!(status.to_string(), *digits),
        number => assert_eq!(number.as_u64(), Some(status.into())),
    }
}

pub fn function_prelude(data: &[u8]) {
    let whole = prelude(&[data]);
    for cut in crate::cuts(data.len()) {
        assert_eq!(prelude(&[&data[..cut], &data[cut..]]), whole, "cut at {cut}");
    }
    let first = data.iter().position(|&byte| byte == 0);
    match whole {
        Some((Some(metadata), body)) => {
            assert_eq!(first, Some(metadata.len()));
            assert_eq!([&metadata[..], &[0; 8], &body].concat(), data);
        }
        Some((None, body)) => assert!(body.is_empty() && data.len() <= METADATA_BYTES_MAX + 7),
        None => assert!(first.unwrap_or(data.len()) > METADATA_BYTES_MAX || first.is_some()),
    }
}

type Split = (Option<Vec<u8>>, Vec<u8>);

/// `None`: it is malformed.
fn prelude(pieces: &[&[u8]]) -> Option<Split> {
    let (mut prelude, mut body) = (Prelude::default(), Vec::new());
    for piece in pieces {
        let taken = prelude.feed(piece).ok()?;
        body.extend_from_slice(&piece[taken..]);
    }
    Some((prelude.metadata().map(<[u8]>::to_vec), body))
}
