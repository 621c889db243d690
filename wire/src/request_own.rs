//! The head of a request that nobody sent: one of the gateway's own, made of its parts by the rules of `request.rs`. Trusts its parts no more
//! than a client's: what cannot stand in a head is refused.

use crate::field_h2;
use crate::names::Name;
use crate::parse::{FIELDS_MAX, Refusal};
use crate::request::{Framing, Method, NOT_PROXIED, RequestHead, refuse_in_target};

/// What a request of the gateway's own is made of.
#[derive(Debug, Clone, Copy)]
pub struct OwnParts<'a> {
    /// In upper case.
    pub method: &'a [u8],
    /// Path and query.
    pub target: &'a [u8],
    /// Names in lower case; neither Host nor what frames the message.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    pub body_bytes: usize,
}

impl RequestHead {
    /// Forgets the last head and makes one of these.
    pub fn compose(&mut self, parts: OwnParts<'_>) -> Result<(), Refusal> {
        self.clear();
        self.keep_alive = true;
        if matches!(parts.method, b"CONNECT" | b"TRACE") {
            return Err(NOT_PROXIED);
        }
        if !field_h2::is_token(parts.method) {
            return Err(Refusal::Bad("a malformed method"));
        }
        refuse_in_target(parts.target)?;
        if parts.target.first() != Some(&b'/') {
            return Err(Refusal::Bad("a target that is not a path"));
        }
        if parts.headers.len() > FIELDS_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        self.method = Method::of(parts.method);
        self.method_text = self.headers.stash(parts.method);
        self.target = self.headers.stash(parts.target);
        self.read_path(self.target)?;
        for (name, value) in parts.headers {
            let known = field_h2::check(name, value).map_err(Refusal::Bad)?;
            if matches!(known, Name::Host | Name::ContentLength | Name::Te | Name::Expect) {
                return Err(Refusal::Bad("a field that frames or addresses a message"));
            }
            self.headers.add(name, value);
        }
        match (parts.body_bytes, self.method) {
            (0, Method::Get | Method::Head | Method::Delete | Method::Options) => {}
            (0, Method::Post | Method::Put | Method::Patch | Method::Other) => self.explicit_zero = true,
            (length, _) => self.framing = Framing::Length(length as u64),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(method: &str, target: &str, headers: &[(&str, &str)], body_bytes: usize) -> Result<RequestHead, Refusal> {
        let mut head = RequestHead::default();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        head.compose(OwnParts { method: method.as_bytes(), target: target.as_bytes(), headers: &headers, body_bytes })?;
        Ok(head)
    }

    #[test]
    fn a_head_is_what_its_parts_say() {
        let head = compose("POST", "/a/b?c=d", &[("accept", "*/*"), ("x-a", "1")], 7).unwrap();
        assert_eq!((head.method, head.method_text()), (Method::Post, &b"POST"[..]));
        assert_eq!((head.path(), head.query()), (&b"/a/b"[..], Some(&b"c=d"[..])));
        assert_eq!((head.framing, head.explicit_zero, head.keep_alive), (Framing::Length(7), false, true));
        assert_eq!(head.headers.get(b"x-a"), Some(&b"1"[..]));
        assert!(compose("POST", "/", &[], 0).unwrap().explicit_zero);
        assert!(!compose("GET", "/", &[], 0).unwrap().explicit_zero);
    }

    #[test]
    fn what_would_be_two_messages_is_none() {
        for (method, target, headers) in [
            ("GE T", "/", vec![]),
            ("", "/", vec![]),
            ("CONNECT", "/", vec![]),
            ("GET", "*", vec![]),
            ("GET", "", vec![]),
            ("GET", "http://a/", vec![]),
            ("GET", "/a b", vec![]),
            ("GET", "/\r\nx: y", vec![]),
            ("GET", "/../..", vec![]),
            ("GET", "/", vec![("x-a", "1\r\nx-b: 2")]),
            ("GET", "/", vec![("x-a\n", "1")]),
            ("GET", "/", vec![("host", "other")]),
            ("GET", "/", vec![("content-length", "5")]),
            ("GET", "/", vec![("transfer-encoding", "chunked")]),
            ("GET", "/", vec![("connection", "close")]),
            ("GET", "/", vec![("x", "1"); FIELDS_MAX + 1]),
        ] {
            assert!(compose(method, target, &headers, 0).is_err(), "{method} {target} {headers:?}");
        }
    }
}
