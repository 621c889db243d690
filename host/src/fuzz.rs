//! What must hold for any bytes that a process may send or write. For `fuzz/`, which says what each target asks for.

use crate::api::extensions::{self, Wants};
use crate::api::trailers::{Quirk, StreamError, stream_error};
use crate::api::{Call, EventHead, error_type};
use crate::log::{LINE_BYTES_MAX, Lines};
use bytes::BytesMut;
use maitred_wire::Method;

/// Stands between two chunks, and is in no UTF-8.
const BETWEEN: u8 = 0xff;
const SIZES: [usize; 4] = [1, 2, 7, 64];

pub fn fuzz_runtime_api(data: &[u8]) {
    call(data);
    extension(data);
    stream(data);
    lines(data);
    fields(&String::from_utf8_lossy(data));
    let kind = error_type(Some(data));
    assert!(kind == "Function.Unknown" || kind == "Runtime.Unknown" || kind.as_bytes() == data, "{kind}");
}

fn call(path: &[u8]) {
    const BASE: &[u8] = b"/2018-06-01/runtime/invocation/";
    for method in [Method::Get, Method::Post] {
        let (id, end) = match Call::of(method, path) {
            Call::Response(id) => (id, &b"/response"[..]),
            Call::Error(id) => (id, &b"/error"[..]),
            Call::Next | Call::InitError | Call::Extension(_) | Call::Ping | Call::NoLogs | Call::NoTelemetry => continue,
            Call::WrongMethod | Call::Unknown => continue,
        };
        assert_eq!(path, [BASE, id, end].concat());
        assert!(method == Method::Post && !id.contains(&b'/'));
    }
}

fn extension(data: &[u8]) {
    let _ = Wants::parse(data);
    if let Ok(name) = extensions::name(Some(data)) {
        assert!(!name.is_empty() && name.len() <= extensions::NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Ok(id) = extensions::identifier(Some(data)) {
        assert!(data.eq_ignore_ascii_case(id.hyphenated().to_string().as_bytes()));
    }
}

fn stream(data: &[u8]) {
    let chunks: Vec<&[u8]> = data.split(|byte| *byte == BETWEEN).filter(|chunk| !chunk.is_empty()).collect();
    let (whole, error) = streamed(&chunks, usize::MAX);
    for size in SIZES {
        assert_eq!(streamed(&chunks, size), (whole.clone(), error.clone()), "in pieces of {size}");
    }
    match (&error, chunks.split_last()) {
        (Some(error), Some((last, before))) => {
            assert_eq!(whole, before.concat());
            assert_eq!(stream_error(last).as_ref(), Some(error));
        }
        (Some(_), None) => panic!("an error of nothing"),
        (None, _) => assert_eq!(whole, chunks.concat()),
    }
}

fn streamed(chunks: &[&[u8]], size: usize) -> (Vec<u8>, Option<StreamError>) {
    let (mut quirk, mut out) = (Quirk::default(), Vec::new());
    for chunk in chunks {
        for (at, piece) in chunk.chunks(size).enumerate() {
            quirk.data(at == 0, BytesMut::from(piece)).iter().for_each(|data| out.extend_from_slice(data));
        }
    }
    match quirk.end() {
        Ok(error) => (out, Some(error)),
        Err(rest) => ([&out[..], &rest].concat(), None),
    }
}

fn lines(data: &[u8]) {
    let cut = |size: usize| {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in data.chunks(size) {
            lines.take(piece, &mut { usize::MAX }, |line| all.push(line.to_owned()));
        }
        lines.finish(|line| all.push(line.to_owned()));
        all
    };
    let whole = cut(data.len().max(1));
    for size in SIZES {
        assert_eq!(cut(size), whole, "in pieces of {size}");
    }
    // What is not UTF-8 is three bytes in its place.
    assert!(whole.iter().all(|line| line.len() <= 3 * LINE_BYTES_MAX && !line.contains('\r')));
}

fn fields(text: &str) {
    let mut out = Vec::new();
    EventHead { id: text, deadline_ms: 1, arn: text, trace: "x", client_context: Some(text), length: 0 }.write(&mut out);
    let lines = out.split(|byte| *byte == b'\n').count();
    // The status, seven fields, the empty line, and nothing behind it.
    assert_eq!(lines, 1 + 7 + 1 + 1, "{}", out.escape_ascii());
    assert_eq!(out.iter().filter(|byte| **byte == b'\r').count(), lines - 1);
}
