//! JSON, written as it goes into one buffer: no tree stands in between. Writes what it is told, and reads nothing.

use serde_json::Value;

/// Members between braces; closed when it goes.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_begun: bool,
}

impl<'a> Object<'a> {
    pub fn begin(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, is_begun: false }
    }

    fn next(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            self.out.push(b',');
        }
    }

    /// A name of ours: it needs no escapes. What is written next is its value.
    pub fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.next();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A name from outside.
    pub fn foreign(&mut self, name: &[u8]) -> &mut Vec<u8> {
        self.next();
        text(self.out, name);
        self.out.push(b':');
        self.out
    }

    /// The same in small letters.
    pub fn foreign_lower(&mut self, name: &[u8]) -> &mut Vec<u8> {
        self.next();
        let start = self.out.len();
        text(self.out, name);
        self.out[start..].make_ascii_lowercase();
        self.out.push(b':');
        self.out
    }

    pub fn text(&mut self, name: &str, value: impl AsRef<[u8]>) {
        text(self.name(name), value.as_ref());
    }

    /// `None` is null.
    pub fn text_or_null(&mut self, name: &str, value: Option<impl AsRef<[u8]>>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    pub fn null(&mut self, name: &str) {
        self.name(name).extend_from_slice(b"null");
    }

    pub fn truth(&mut self, name: &str, value: bool) {
        self.name(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub fn number(&mut self, name: &str, value: u64) {
        maitred_wire::decimal(self.name(name), value);
    }

    pub fn object(&mut self, name: &str) -> Object<'_> {
        Object::begin(self.name(name))
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push(b'}');
    }
}

/// A list of texts.
pub(super) fn list<'a>(out: &mut Vec<u8>, items: impl Iterator<Item = &'a [u8]>) {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, item);
    }
    out.push(b']');
}

/// One text. What is no UTF-8 becomes U+FFFD, as AWS has it.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    joined(out, std::iter::once(bytes));
}

/// One text of several, with commas in between.
pub(super) fn joined<'a>(out: &mut Vec<u8>, pieces: impl Iterator<Item = &'a [u8]>) {
    out.push(b'"');
    for (at, piece) in pieces.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        for chunk in piece.utf8_chunks() {
            escaped(out, chunk.valid());
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

/// A value that is one already.
pub(super) fn value(out: &mut Vec<u8>, value: &Value) {
    use std::io::Write;
    // Writing into memory cannot fail.
    let _ = write!(out, "{value}");
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (DIGITS[usize::from(control >> 4)], DIGITS[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_close_where_they_end() {
        let mut out = Vec::new();
        {
            let mut outer = Object::begin(&mut out);
            outer.text("a", "1");
            {
                let mut inner = outer.object("b");
                inner.null("c");
                inner.truth("d", true);
            }
            drop(outer.object("e"));
            outer.number("f", 7);
        }
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":"1","b":{"c":null,"d":true},"e":{},"f":7}"#);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_it_is_json_that_says_them(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            text(&mut out, &bytes);
            let read: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
