//! One field of an HTTP/2 message, checked so that it can be written as HTTP/1.1 (RFC 9113 §8.2). Refuses what HPACK can carry and a
//! line cannot; knows nothing of pseudo-fields, and no meaning but that of the fields which concern one connection.

use crate::names::Name;
use crate::parse::NAME_BYTES_MAX;

/// What each field counts for beside its bytes (RFC 9113 §6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE).
pub(crate) const FIELD_OVERHEAD: usize = 32;

/// Above this no head is taken in, whatever limits are held against it afterwards: places in its buffer are kept in 32 bits.
pub(crate) const SECTION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The characters of a token (RFC 9110 §5.6.2).
static TOKEN: [bool; 256] = token_table();

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| TOKEN[byte as usize])
}

/// Refuses a field that HTTP/1.1 could not carry or would read differently. Gives its name, where it is a well-known one.
pub(crate) fn check(name: &[u8], value: &[u8]) -> Result<Name, &'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Err("a header name that is too long");
    }
    // §8.2.1. A colon ahead is a pseudo-field's, which has come too late or is unknown.
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err("a malformed header name");
    }
    // §8.2.1 asks for NUL, CR and LF; the other control characters are none of a field's either (RFC 9110 §5.5), and HTTP/1.1 refuses them.
    if value.iter().fold(false, |bad, &byte| bad | (byte < 0x20 && byte != b'\t') | (byte == 0x7f)) {
        return Err("a malformed header value");
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.first()) || is_blank(value.last()) {
        return Err("a blank around a header value");
    }
    let known = Name::of(name);
    if is_connection_specific(known) { Err("a field that concerns one connection of HTTP/1") } else { Ok(known) }
}

/// Adds a trailer field of HTTP/2 or HTTP/3 as a line of HTTP/1.1, where the lines are no more than `bytes_max` then. Pseudo-fields are
/// none (RFC 9113 §8.1, RFC 9114 §4.3).
pub fn h2_trailer(out: &mut Vec<u8>, name: &[u8], value: &[u8], bytes_max: usize) -> Result<(), &'static str> {
    check(name, value)?;
    if out.len() + name.len() + value.len() > bytes_max {
        return Err("trailers that are too large");
    }
    crate::emit::field(out, name, value);
    Ok(())
}

/// RFC 9113 §8.2.2, but TE, which a request may have.
fn is_connection_specific(name: Name) -> bool {
    matches!(name, Name::Connection | Name::KeepAlive | Name::ProxyConnection | Name::TransferEncoding | Name::Upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_have_their_size() {
        let mut lines = Vec::new();
        assert!(h2_trailer(&mut lines, b"a", b"123456789", 9).is_err());
        h2_trailer(&mut lines, b"a", b"12345678", 9).unwrap();
        assert!(h2_trailer(&mut lines, b"b", b"", 9).is_err());
        assert!(h2_trailer(&mut lines, b":path", b"/", 100).is_err());
        assert_eq!(lines, b"a: 12345678\r\n");
    }

    #[test]
    fn fields_that_a_line_could_not_carry_are_refused() {
        for (name, value) in [
            ("", "x"),
            ("X-Upper", "x"),
            (":path", "/"),
            ("a b", "x"),
            ("a:", "x"),
            ("a\r\nb", "x"),
            ("é", "x"),
            ("a", "x\r\ny: z"),
            ("a", "x\ny"),
            ("a", "x\ry"),
            ("a", "x\0"),
            ("a", "\x01"),
            ("a", "\x7f"),
            ("a", " x"),
            ("a", "x\t"),
            ("a", " "),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ] {
            assert!(check(name.as_bytes(), value.as_bytes()).is_err(), "{name:?}: {value:?}");
        }
        assert!(check(&[b'a'; 257], b"x").is_err());
        for (name, value) in [("a", ""), ("a_b", "x\ty"), ("!#$%&'*+-.^_`|~09", "é ü"), ("te", "gzip"), ("cookie", "a=b")] {
            assert!(check(name.as_bytes(), value.as_bytes()).is_ok(), "{name:?}: {value:?}");
        }
    }
}
