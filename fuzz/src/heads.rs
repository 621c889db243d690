//! Heads of requests and responses: the verdict does not depend on how the bytes arrive, what is accepted could not be read in two
//! ways, and what is written from it reads the same.

use crate::cuts;
use maitred_wire::{
    Framing, HeadLimits, Headers, Name, Parsed, RequestHead, ResponseHead, Version, field, request_line, status_line,
};

pub(crate) const USUAL: HeadLimits =
    HeadLimits { head_bytes: 32 * 1024, fields: 100, target_bytes: 8 * 1024, drop_underscores: true };
/// So small that mutated inputs reach every limit.
pub(crate) const TIGHT: HeadLimits = HeadLimits { head_bytes: 96, fields: 3, target_bytes: 16, drop_underscores: false };
/// Writing anew may add a blank behind each colon.
pub(crate) const ROOMY: HeadLimits =
    HeadLimits { head_bytes: 1 << 20, fields: 256, target_bytes: 1 << 16, drop_underscores: false };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Whole(usize),
    Partial,
    /// For whatever reason: an early refusal may see another than a late one.
    Refused,
}

impl<E> From<Result<Parsed, E>> for Verdict {
    fn from(parsed: Result<Parsed, E>) -> Verdict {
        match parsed {
            Ok(Parsed::Complete(length)) => Verdict::Whole(length),
            Ok(Parsed::Partial) => Verdict::Partial,
            Err(_) => Verdict::Refused,
        }
    }
}

/// What may make a head whole.
const ENDS: [&[u8]; 5] = [b"\r\n\r\n", b"\n\r\n", b"\r\n", b" HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1\r\nHost: a\r\n\r\n"];

/// As a connection does it: with more and more bytes, until there is a verdict.
fn in_pieces(data: &[u8], mut parse: impl FnMut(&[u8]) -> Verdict) {
    let whole = parse(data);
    let early = cuts(data.len()).map(|cut| (cut, parse(&data[..cut]))).find(|(_, verdict)| *verdict != Verdict::Partial);
    match early {
        // A limit may be noticed before the head is whole, or only then; but then it must be.
        Some((cut, Verdict::Refused)) if whole == Verdict::Partial => {
            for end in ENDS {
                let completed = parse(&[data, end].concat());
                assert!(
                    !matches!(completed, Verdict::Whole(_)),
                    "the first {cut} bytes are refused, and accepted before {}",
                    end.escape_ascii()
                );
            }
        }
        Some((cut, verdict)) => assert_eq!(verdict, whole, "the first {cut} bytes give another verdict than all"),
        None => {}
    }
    if let Verdict::Whole(length) = whole {
        assert_eq!(parse(&data[..length]), whole, "what follows a head changes it");
    }
}

pub fn request_head(data: &[u8]) {
    for limits in [USUAL, TIGHT] {
        let mut head = RequestHead::default();
        in_pieces(data, |bytes| head.parse(bytes, &limits).into());
        if let Ok(Parsed::Complete(length)) = head.parse(data, &limits) {
            assert!(
                length <= limits.head_bytes && head.target().len() <= limits.target_bytes && head.headers.len() <= limits.fields
            );
            unambiguous(&data[..length], true);
            request_reads_the_same(&head);
        }
    }
}

fn request_reads_the_same(head: &RequestHead) {
    let mut out = Vec::new();
    request_line(&mut out, head.method_text(), head.path(), head.query());
    emit_fields(&head.headers, &mut out);
    if !head.headers.has(Name::Host) {
        // HTTP/1.0 may go without; what is forwarded may not.
        let authority = if head.authority().is_empty() { b"nobody" } else { head.authority() };
        field(&mut out, b"host", authority);
    }
    out.extend_from_slice(b"\r\n");

    let mut again = RequestHead::default();
    assert_eq!(
        again.parse(&out, &ROOMY),
        Ok(Parsed::Complete(out.len())),
        "what is forwarded is refused: {}",
        out.escape_ascii()
    );
    assert_eq!(again.method_text(), head.method_text());
    assert_eq!(again.method, head.method);
    assert_eq!(again.path().escape_ascii().to_string(), head.path().escape_ascii().to_string());
    assert_eq!(again.query(), head.query());
    assert_eq!((again.framing, again.explicit_zero), (head.framing, head.explicit_zero));
    assert_eq!(again.te_trailers, head.te_trailers);
    if head.version == Version::Http11 {
        assert_eq!((again.keep_alive, again.expect_continue), (head.keep_alive, head.expect_continue));
        let protocol = |head: &RequestHead| head.upgrade.map(|slice| head.headers.slice(slice).to_vec());
        assert_eq!(protocol(&again), protocol(head));
        assert!(!head.host().is_empty());
    }
    if !head.authority().is_empty() {
        assert_eq!((again.authority(), again.host()), (head.authority(), head.host()));
    }
    let mut fields = fields_of(&again.headers);
    fields.truncate(head.headers.iter().count());
    assert_eq!(fields, fields_of(&head.headers));
    assert_ne!(head.framing, Framing::Close, "no request ends with its connection");
}

pub fn response_head(data: &[u8]) {
    for (limits, to_head) in [(USUAL, false), (USUAL, true), (TIGHT, false)] {
        let mut head = ResponseHead::default();
        in_pieces(data, |bytes| head.parse(bytes, to_head, &limits).into());
        if let Ok(Parsed::Complete(length)) = head.parse(data, to_head, &limits) {
            assert!(length <= limits.head_bytes && (100..=999).contains(&head.status));
            unambiguous(&data[..length], false);
            response_reads_the_same(&head, to_head);
        }
    }
}

fn response_reads_the_same(head: &ResponseHead, to_head: bool) {
    let reason = head.headers.slice(head.reason);
    let mut out = Vec::new();
    status_line(&mut out, head.status, reason);
    emit_fields(&head.headers, &mut out);
    out.extend_from_slice(b"\r\n");

    let mut again = ResponseHead::default();
    assert_eq!(
        again.parse(&out, to_head, &ROOMY),
        Ok(Parsed::Complete(out.len())),
        "what is forwarded is refused: {}",
        out.escape_ascii()
    );
    assert_eq!(again.status, head.status);
    if !reason.is_empty() {
        assert_eq!(again.headers.slice(again.reason), reason);
    }
    assert_eq!((again.framing, again.stated_length), (head.framing, head.stated_length));
    if head.version == Version::Http11 {
        assert_eq!(again.keep_alive, head.keep_alive);
    }
    assert_eq!(fields_of(&again.headers), fields_of(&head.headers));
    let bodiless = to_head || head.status < 200 || matches!(head.status, 204 | 304);
    assert!(!bodiless || head.framing == Framing::None, "a body where none can be");
}

pub(crate) fn emit_fields(headers: &Headers, out: &mut Vec<u8>) {
    for entry in headers.iter() {
        field(out, headers.name(entry), headers.value(entry));
    }
}

pub(crate) fn fields_of(headers: &Headers) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    headers.iter().map(|entry| (text(headers.name(entry)), text(headers.value(entry)))).collect()
}

/// The rules that smugglers break, written once more and as plainly as can be: no code in common with the parser.
pub(crate) fn unambiguous(head: &[u8], request: bool) {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let text = text.trim_start_matches("\r\n");
    let lines: Vec<&str> = text.strip_suffix("\r\n\r\n").expect("a head ends with an empty line").split("\r\n").collect();
    let mut framing = 0;
    let mut hosts = 0;
    for line in &lines {
        assert!(!line.contains(['\r', '\n', '\0']), "a bare CR, LF or NUL was accepted");
    }
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').expect("a field has a colon");
        let is_token = |character: char| character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character);
        assert!(!name.is_empty() && name.chars().all(is_token), "a field named {name:?} was accepted");
        let is_control = |character: char| character < ' ' && character != '\t' || character == '\x7f';
        assert!(!value.contains(is_control), "a control character was accepted in {value:?}");
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            assert!(
                value.trim_matches([' ', '\t']).bytes().all(|byte| byte.is_ascii_digit()),
                "a length of {value:?} was accepted"
            );
            framing += 1;
        }
        if name == "transfer-encoding" {
            assert!(value.trim_matches([' ', '\t']).eq_ignore_ascii_case("chunked"), "a coding of {value:?} was accepted");
            framing += 1;
        }
        hosts += usize::from(name == "host");
    }
    assert!(framing <= 1, "two framings were accepted");
    if request {
        let words: Vec<&str> = lines[0].split(' ').collect();
        assert!(matches!(words[..], [_, _, "HTTP/1.1" | "HTTP/1.0"]), "the request line {:?} was accepted", lines[0]);
        assert!(hosts <= 1 && (hosts == 1 || words[2] == "HTTP/1.0"), "{hosts} Hosts were accepted");
    }
}
