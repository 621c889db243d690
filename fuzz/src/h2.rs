//! HTTP/2: heads made of its parts are the same heads in HTTP/1.1 and break none of its rules, and frames
//! are the same however their bytes come.

use crate::cuts;
use crate::heads::{ROOMY, TIGHT, USUAL, emit_fields, fields_of, unambiguous};
use maitred_wire::{
    Framing, H2Code, H2Frame, H2Parts, H2Reader, Headers, Name, PREFACE, Parsed, Preface, Refusal, RequestHead, ResponseHead,
    Version, decimal, field, request_line, starts_preface, status_line,
};

/// How an input is written: one byte of flags, then fields, pseudo-fields among them. No field may have these bytes, so nothing is
/// lost by keeping them from it.
const BETWEEN_FIELDS: u8 = 0x1e;
const BEFORE_VALUE: u8 = 0x1f;
const END_STREAM: u8 = 1;
const TO_HEAD: u8 = 2;

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

fn read(data: &[u8]) -> (u8, Fields<'_>) {
    let (&flags, rest) = data.split_first().unwrap_or((&0, &[]));
    let records = rest.split(|&byte| byte == BETWEEN_FIELDS).filter(|record| !record.is_empty());
    let fields = records.map(|record| {
        let at = record.iter().position(|&byte| byte == BEFORE_VALUE).unwrap_or(record.len());
        (&record[..at], record.get(at + 1..).unwrap_or_default())
    });
    (flags, fields.collect())
}

fn pseudo<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(other, _)| *other == name.as_bytes()).map(|(_, value)| *value)
}

fn is_pseudo((name, _): &(&[u8], &[u8])) -> bool {
    [&b":method"[..], b":scheme", b":authority", b":path", b":protocol", b":status"].contains(name)
}

pub fn request_h2(data: &[u8]) {
    let (flags, fields) = read(data);
    let parts = H2Parts {
        method: pseudo(&fields, ":method").unwrap_or_default(),
        scheme: pseudo(&fields, ":scheme").unwrap_or_default(),
        authority: pseudo(&fields, ":authority"),
        path: pseudo(&fields, ":path").unwrap_or_default(),
        protocol: pseudo(&fields, ":protocol"),
        end_stream: flags & END_STREAM != 0,
    };
    let fields: Fields<'_> = fields.into_iter().filter(|field| !is_pseudo(field)).collect();
    let mut head = RequestHead::default();
    for limits in [USUAL, TIGHT] {
        let mut build = || -> Result<(), Refusal> {
            head.begin_h2();
            fields.iter().try_for_each(|(name, value)| head.h2_field(name, value))?;
            head.finish_h2(parts, &limits)
        };
        if build().is_err() {
            continue;
        }
        assert!(head.target().len() <= limits.target_bytes && head.headers.iter().count() <= limits.fields);
        assert_eq!(head.version, Version::Http2);
        assert!(head.keep_alive && !head.host().is_empty());
        for (name, value) in &fields {
            lawful(name, value);
        }
        assert!(fields.iter().all(|(name, value)| *name != b"te" || *value == b"trailers"));
        let length = only(&fields, b"content-length");
        assert_framing(head.framing, length, parts.end_stream, head.upgrade.is_some());
        request_is_the_same(&head);
    }
}

/// RFC 9113 §8.2, as plainly as can be: no code in common with what is tested.
fn lawful(name: &[u8], value: &[u8]) {
    let name = std::str::from_utf8(name).expect("a name is ASCII");
    assert!(
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_graphic() && !letter.is_ascii_uppercase() && letter != ':')
    );
    assert!(
        !["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"].contains(&name),
        "{name} crossed over"
    );
    assert!(!value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')), "a line was smuggled in");
    assert!(!value.first().is_some_and(u8::is_ascii_whitespace) && !value.last().is_some_and(u8::is_ascii_whitespace));
}

/// The number of a field that may be given once.
fn only(fields: &Fields<'_>, wanted: &[u8]) -> Option<u64> {
    let mut values = fields.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let value = values.next()?;
    assert_eq!(values.next(), None, "two lengths were accepted");
    let digits = std::str::from_utf8(value).expect("digits are ASCII");
    assert!(digits.chars().all(|digit| digit.is_ascii_digit()), "a length of {digits:?} was accepted");
    Some(digits.parse().expect("a length that fits"))
}

fn assert_framing(framing: Framing, length: Option<u64>, end_stream: bool, upgrade: bool) {
    let wanted = match (length, end_stream) {
        _ if upgrade => Framing::None,
        (None | Some(0), true) | (Some(0), false) => Framing::None,
        (Some(length), false) => Framing::Length(length),
        (Some(length), true) => panic!("{length} bytes behind the end were accepted"),
        (None, false) => Framing::Chunked,
    };
    assert_eq!(framing, wanted);
}

fn forwarded(headers: &Headers) -> Vec<(String, String)> {
    let hop = |name: &str| Name::of(name.as_bytes()).is_hop_by_hop();
    fields_of(headers).into_iter().filter(|(name, _)| !hop(name)).collect()
}

/// Written as the proxy writes it, and read as HTTP/1.1.
fn request_is_the_same(head: &RequestHead) {
    let mut out = Vec::new();
    request_line(&mut out, head.method_text(), head.path(), head.query());
    emit_fields(&without_hops(&head.headers), &mut out);
    emit_framing(head.framing, head.explicit_zero.then_some(0), &mut out);
    if head.expect_continue {
        field(&mut out, b"expect", b"100-continue");
    }
    if let Some(upgrade) = head.upgrade {
        field(&mut out, b"connection", b"upgrade");
        field(&mut out, b"upgrade", head.headers.slice(upgrade));
    }
    out.extend_from_slice(b"\r\n");
    unambiguous(&out, true);

    let mut again = RequestHead::default();
    assert_eq!(again.parse(&out, &ROOMY), Ok(Parsed::Complete(out.len())), "HTTP/1.1 refuses it: {}", out.escape_ascii());
    assert_eq!((again.method, again.method_text()), (head.method, head.method_text()));
    assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    assert_eq!((again.authority(), again.host()), (head.authority(), head.host()));
    assert_eq!((again.framing, again.explicit_zero), (head.framing, head.explicit_zero));
    assert_eq!(again.expect_continue, head.expect_continue);
    let protocol = |head: &RequestHead| head.upgrade.map(|slice| head.headers.slice(slice).to_vec());
    assert_eq!(protocol(&again), protocol(head));
    assert_eq!(forwarded(&again.headers), forwarded(&head.headers));
}

fn without_hops(headers: &Headers) -> Headers {
    let mut headers = headers.clone();
    headers.remove_where(|name| Name::of(name).is_hop_by_hop());
    headers
}

fn emit_framing(framing: Framing, length: Option<u64>, out: &mut Vec<u8>) {
    match (framing, length) {
        (Framing::Length(length), _) | (_, Some(length)) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        (Framing::Chunked, None) => field(out, b"transfer-encoding", b"chunked"),
        (Framing::None | Framing::Close, None) => {}
    }
}

pub fn response_h2(data: &[u8]) {
    let (flags, fields) = read(data);
    let (to_head, end_stream) = (flags & TO_HEAD != 0, flags & END_STREAM != 0);
    let status = pseudo(&fields, ":status").and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0);
    let fields: Fields<'_> = fields.into_iter().filter(|field| !is_pseudo(field)).collect();
    let mut head = ResponseHead::default();
    head.begin_h2(status);
    let taken = fields.iter().try_for_each(|(name, value)| head.h2_field(name, value));
    if taken.is_err() || head.finish_h2(to_head, end_stream).is_err() {
        return;
    }
    for (name, value) in &fields {
        lawful(name, value);
        assert_ne!(*name, b"te");
    }
    let length = only(&fields, b"content-length");
    let bodiless = to_head || status < 200 || matches!(status, 204 | 304);
    assert!(!bodiless || head.framing == Framing::None, "a body where none can be");
    if !bodiless {
        assert_framing(head.framing, length, end_stream, false);
        assert!(head.framing != Framing::None || head.stated_length == Some(0), "HTTP/1.1 would wait for a body");
    }

    let mut out = Vec::new();
    status_line(&mut out, status, b"");
    emit_fields(&without_hops(&head.headers), &mut out);
    emit_framing(head.framing, head.stated_length, &mut out);
    out.extend_from_slice(b"\r\n");
    unambiguous(&out, false);
    let mut again = ResponseHead::default();
    assert_eq!(
        again.parse(&out, to_head, &ROOMY),
        Ok(Parsed::Complete(out.len())),
        "HTTP/1.1 refuses it: {}",
        out.escape_ascii()
    );
    assert_eq!((again.status, again.framing, again.stated_length), (status, head.framing, head.stated_length));
    assert!(again.keep_alive, "it would end its connection");
    assert_eq!(forwarded(&again.headers), forwarded(&head.headers));
}

/// `data`: the bytes of a connection, with or without the preface.
pub fn h2_frames(data: &[u8]) {
    let verdict = starts_preface(data);
    for cut in cuts(data.len()) {
        let early = starts_preface(&data[..cut]);
        assert!(early == verdict || early == Preface::Maybe, "the first {cut} bytes give another verdict than all");
    }
    assert_eq!(verdict == Preface::Yes, data.starts_with(PREFACE));
    if verdict == Preface::Yes {
        let parsed = RequestHead::default().parse(data, &ROOMY);
        assert!(!matches!(parsed, Ok(Parsed::Complete(_))), "a request of HTTP/1 was taken for HTTP/2");
    }

    let frames = data.strip_prefix(PREFACE).unwrap_or(data);
    let wanted = read_frames(frames, &[frames.len()]);
    let bytewise = (0..=frames.len()).collect::<Vec<_>>();
    assert_eq!(read_frames(frames, &bytewise), wanted, "byte by byte");
    for cut in cuts(frames.len()) {
        assert_eq!(read_frames(frames, &[cut, frames.len()]), wanted, "cut at {cut}");
    }
}

const BLOCK_BYTES_MAX: usize = 40_000;

/// What is read when so many bytes at a time have come: frames as text, the pieces of a body put together, and how it ended.
fn read_frames(input: &[u8], ends: &[usize]) -> (Vec<String>, Result<(), H2Code>) {
    let mut reader = H2Reader::new(BLOCK_BYTES_MAX);
    let (mut seen, mut at) = (Vec::new(), 0);
    let mut body: Option<(u32, Vec<u8>, u32)> = None;
    for &end in ends {
        loop {
            let (count, frame) = match reader.next(&input[at..end]) {
                Ok(read) => read,
                Err(code) => {
                    seen.extend(body.map(|body| format!("{body:?}")));
                    return (seen, Err(code));
                }
            };
            assert!(at + count <= end, "more was taken than had come");
            at += count;
            match frame {
                None if count == 0 => break,
                None => {}
                Some(H2Frame::Data { stream, bytes, padding, end }) => {
                    let (of, all, pads) = body.get_or_insert_with(|| (stream, Vec::new(), 0));
                    if *of != stream {
                        seen.push(format!("{:?}", (&*of, &*all, &*pads)));
                        (*of, *all, *pads) = (stream, Vec::new(), 0);
                    }
                    all.extend_from_slice(bytes);
                    *pads += padding;
                    if end {
                        seen.extend(body.take().map(|body| format!("{body:?}, the end")));
                    }
                }
                Some(other) => {
                    seen.extend(body.take().map(|body| format!("{body:?}")));
                    if let H2Frame::Settings(settings) = other {
                        let _ = settings.iter().count();
                    }
                    if let H2Frame::Headers { block, .. } = other {
                        assert!(block.len() <= BLOCK_BYTES_MAX);
                    }
                    seen.push(format!("{other:?}"));
                }
            }
        }
        assert!(input[at..end].len() < H2Reader::INPUT_BYTES_MAX, "a buffer that is full is waited upon");
    }
    seen.extend(body.map(|body| format!("{body:?}")));
    (seen, Ok(()))
}
