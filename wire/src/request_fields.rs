//! The header section of a request as a decompressor gives it, field by field (RFC 9113 §8.3, RFC 9114 §4.3): pseudo-fields first, each
//! once. Knows no frames and no compression; what fields and pseudo-fields may say is for `request_h2.rs`.

use crate::headers::Slice;
use crate::parse::{HeadLimits, Refusal};
use crate::request::{RequestHead, Version};
use crate::request_h2::H2Parts;

/// One request's header section as HPACK or QPACK gives it. Reused from request to request.
#[derive(Debug, Default)]
pub struct RequestFields {
    text: Vec<u8>,
    method: Option<Slice>,
    scheme: Option<Slice>,
    authority: Option<Slice>,
    path: Option<Slice>,
    protocol: Option<Slice>,
    /// The first thing wrong; what follows is not looked at.
    wrong: Option<Refusal>,
    begun: bool,
}

impl RequestFields {
    /// A new request of `version`, whose head is begun with it.
    pub fn begin(&mut self, head: &mut RequestHead, version: Version) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        *self = RequestFields { text, ..RequestFields::default() };
        head.begin_h2();
        head.version = version;
    }

    /// Gives back memory that is more than this, between two requests.
    pub fn shrink(&mut self, bytes: usize) {
        if self.text.capacity() > bytes {
            self.text = Vec::new();
        }
    }

    /// The next field. Memory is bounded by the limits, however much is decoded.
    pub fn field(&mut self, head: &mut RequestHead, name: &[u8], value: &[u8], limits: &HeadLimits) {
        if self.wrong.is_some() {
            return;
        }
        let taken = match name.first() {
            Some(b':') => self.pseudo(name, value, limits),
            _ => {
                self.begun = true;
                head.h2_field(name, value)
            }
        };
        let bytes = head.section_bytes + self.text.len();
        self.wrong = taken.err().or((bytes > limits.head_bytes).then_some(Refusal::HeadTooLarge));
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(Refusal::Malformed("an unknown pseudo-field")),
        };
        if self.begun {
            return Err(Refusal::Malformed("a pseudo-field behind a field"));
        }
        if place.is_some() {
            return Err(Refusal::Malformed("a pseudo-field given twice"));
        }
        if value.len() > limits.head_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        let start = self.text.len();
        self.text.extend_from_slice(value);
        *place = Some(Slice::new(start, self.text.len()));
        Ok(())
    }

    /// A client that has said so much of such a request has to end its stream (RFC 9114 §4.1): it has no body, and none is announced.
    /// A request with something wrong is not worth the wait.
    #[cfg(feature = "http3")]
    pub fn should_end(&self, head: &RequestHead) -> bool {
        use crate::Method::{Get, Head, Options};
        let usual = self.text(self.method).is_some_and(|method| matches!(crate::Method::of(method), Get | Head | Options));
        usual && !head.headers.has(crate::Name::ContentLength) && self.wrong.or(self.missing()).is_none()
    }

    /// Decides all the rest. `end_stream`: the stream ended with this section. A head that is refused is good for a log.
    pub fn finish(&self, head: &mut RequestHead, end_stream: bool, limits: &HeadLimits) -> Result<(), Refusal> {
        let parts = H2Parts {
            method: self.text(self.method).unwrap_or_default(),
            scheme: self.text(self.scheme).unwrap_or(b"http"),
            authority: self.text(self.authority),
            path: self.text(self.path).unwrap_or_default(),
            protocol: self.text(self.protocol),
            end_stream,
        };
        if let Some(wrong) = self.wrong.or(self.missing()) {
            head.keep_start(&parts);
            return Err(wrong);
        }
        head.finish_h2(parts, limits)
    }

    fn text(&self, slice: Option<Slice>) -> Option<&[u8]> {
        slice.map(|slice| slice.of(&self.text))
    }

    /// §8.3.1; a CONNECT has neither scheme nor path (§8.5), an extended one has (RFC 8441 §4).
    fn missing(&self) -> Option<Refusal> {
        let plain_connect = self.text(self.method) == Some(b"CONNECT") && self.protocol.is_none();
        match (self.method, self.scheme, self.path) {
            (None, _, _) => Some(Refusal::Malformed("no :method")),
            (_, None, None) if plain_connect => None,
            _ if plain_connect => Some(Refusal::Malformed("a CONNECT with :scheme or :path")),
            (_, None, _) => Some(Refusal::Malformed("no :scheme")),
            (_, _, None) => Some(Refusal::Malformed("no :path")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, Method};

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 65536, fields: 100, target_bytes: 16384, drop_underscores: true };
    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/a?b")];

    fn read(section: &mut RequestFields, head: &mut RequestHead, fields: &[(&str, &str)]) {
        section.begin(head, Version::Http3);
        for (name, value) in fields {
            section.field(head, name.as_bytes(), value.as_bytes(), &LIMITS);
        }
    }

    fn build(fields: &[(&str, &str)], end_stream: bool) -> Result<RequestHead, Refusal> {
        let (mut section, mut head) = (RequestFields::default(), RequestHead::default());
        read(&mut section, &mut head, fields);
        section.finish(&mut head, end_stream, &LIMITS)?;
        Ok(head)
    }

    fn with(fields: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [&GET[..], fields].concat()
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        GET.into_iter().filter(|(other, _)| *other != name).collect()
    }

    #[test]
    fn a_plain_request() {
        let head = build(&with(&[("x-a", "1"), ("cookie", "a=b"), ("cookie", "c=d")]), true).unwrap();
        assert_eq!((head.method, head.version, head.framing), (Method::Get, Version::Http3, Framing::None));
        assert_eq!((head.path(), head.query(), head.host()), (&b"/a"[..], Some(&b"b"[..]), &b"a.example"[..]));
        assert_eq!(head.headers.get(b"cookie"), Some(&b"a=b; c=d"[..]));
        let host = build(&[&without(":authority")[..], &[("host", "b.example")]].concat(), true).unwrap();
        assert_eq!(host.host(), b"b.example");
    }

    #[test]
    fn what_is_malformed() {
        for fields in [
            without(":method"),
            without(":scheme"),
            without(":path"),
            [&without(":path")[..], &[(":path", "")]].concat(),
            with(&[(":path", "/b")]),
            with(&[(":status", "200")]),
            with(&[(":unknown", "x")]),
            with(&[("x-a", "1"), (":protocol", "websocket")]),
            with(&[("X-Upper-Case", "1")]),
            with(&[("connection", "close")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("te", "gzip")]),
            with(&[("x-a", "a\nb")]),
            with(&[("", "nameless")]),
            with(&[("content-length", "5")]),
            vec![(":method", "CONNECT"), (":authority", "a.example:443"), (":path", "/")],
        ] {
            assert!(matches!(build(&fields, true), Err(Refusal::Malformed(_))), "{fields:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(build(&with(&[("x-a", "1"); 300]), true).unwrap_err(), Refusal::HeadTooLarge);
        assert!(matches!(build(&with(&[("host", "b.example")]), true), Err(Refusal::Bad(_))));
        let connect = [(":method", "CONNECT"), (":authority", "a.example:443")];
        assert!(matches!(build(&connect, false), Err(Refusal::NotImplemented(_))));
    }

    #[test]
    fn nothing_is_left_of_the_last_head() {
        let (mut section, mut head) = (RequestFields::default(), RequestHead::default());
        read(&mut section, &mut head, &with(&[("x-a", "1"), (":path", "/")]));
        assert!(section.finish(&mut head, true, &LIMITS).is_err());
        read(&mut section, &mut head, &GET);
        section.finish(&mut head, true, &LIMITS).unwrap();
        assert_eq!(head.headers.get(b"x-a"), None);
    }

    #[test]
    #[cfg(feature = "http3")]
    fn who_has_to_say_that_nothing_follows() {
        let should_end = |fields: &[(&str, &str)]| {
            let (mut section, mut head) = (RequestFields::default(), RequestHead::default());
            read(&mut section, &mut head, fields);
            section.should_end(&head)
        };
        assert!(should_end(&GET) && should_end(&[&[(":method", "HEAD")], &GET[1..]].concat()));
        assert!(!should_end(&[&[(":method", "POST")], &GET[1..]].concat()));
        assert!(!should_end(&with(&[("content-length", "5")])));
        assert!(!should_end(&without(":path")) && !should_end(&with(&[("connection", "close")])), "nobody waits for them");
    }
}
