//! A request head made of HTTP/3's field section (RFC 9114 §4.2 and §4.3). The rules for fields are HTTP/2's, and stand in `request_h2.rs`;
//! here is what HTTP/2's driver does before them: pseudo-fields, their order, and that none comes twice.

use crate::headers::Slice;
use crate::parse::{HeadLimits, Refusal};
use crate::qpack::{Unread, read_section};
use crate::request::{Method, RequestHead, Version};
use crate::request_h2::H2Parts;

/// Why a head is none that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum H3Refusal {
    /// QPACK_DECOMPRESSION_FAILED: the connection ends.
    Broken,
    /// H3_MESSAGE_ERROR: the stream ends (§4.1.2).
    Malformed(&'static str),
    /// It is answered.
    Refused(Refusal),
}

/// Reads heads; kept from request to request for its memory.
#[derive(Debug, Default)]
pub struct H3Heads {
    text: Vec<u8>,
    pseudo: Pseudo,
}

#[derive(Debug, Default)]
struct Pseudo {
    bytes: Vec<u8>,
    /// In the order of `NAMES`.
    places: [Option<Slice>; NAMES.len()],
}

const NAMES: [&[u8]; 5] = [b":method", b":scheme", b":authority", b":path", b":protocol"];
const METHOD: usize = 0;
const SCHEME: usize = 1;
const AUTHORITY: usize = 2;
const PATH: usize = 3;
const PROTOCOL: usize = 4;

impl Pseudo {
    fn clear(&mut self) {
        self.bytes.clear();
        self.places = [None; NAMES.len()];
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let index = NAMES.iter().position(|known| *known == name).ok_or("an unknown pseudo-field")?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        match self.places[index].replace(Slice::new(start, self.bytes.len())) {
            Some(_) => Err("a pseudo-field that comes twice"),
            None => Ok(()),
        }
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        self.places[index].map(|place| place.of(&self.bytes))
    }
}

impl H3Heads {
    /// Takes a whole field section in. `finish` follows, when it is known whether a body does.
    pub fn read(&mut self, head: &mut RequestHead, section: &[u8]) -> Result<(), H3Refusal> {
        let H3Heads { text, pseudo } = self;
        pseudo.clear();
        head.begin_h2();
        head.version = Version::Http3;
        let mut fields = false;
        let mut too_large = None;
        read_section(section, text, |name, value| {
            if too_large.is_some() {
                return Ok(());
            }
            if name.first() == Some(&b':') {
                return if fields { Err("a pseudo-field behind a field") } else { pseudo.take(name, value) };
            }
            fields = true;
            match head.h2_field(name, value) {
                Ok(()) => Ok(()),
                Err(Refusal::Bad(why) | Refusal::Malformed(why)) => Err(why),
                // To the end: it may be malformed besides.
                Err(refusal) => {
                    too_large = Some(refusal);
                    Ok(())
                }
            }
        })
        .map_err(|unread| match unread {
            Unread::Broken => H3Refusal::Broken,
            Unread::Refused(why) => H3Refusal::Malformed(why),
        })?;
        if let Some(refusal) = too_large {
            return Err(H3Refusal::Refused(refusal));
        }
        self.check()
    }

    /// RFC 9114 §4.3.1 and §4.4: which of them there are. What they say is looked at in `finish`.
    fn check(&self) -> Result<(), H3Refusal> {
        let pseudo = &self.pseudo;
        let Some(method) = pseudo.get(METHOD) else { return Err(H3Refusal::Malformed("no :method")) };
        let plain_connect = method == b"CONNECT" && pseudo.get(PROTOCOL).is_none();
        let both = pseudo.get(SCHEME).is_some() && pseudo.get(PATH).is_some_and(|path| !path.is_empty());
        let neither = pseudo.get(SCHEME).is_none() && pseudo.get(PATH).is_none();
        match (plain_connect, both, neither) {
            (false, true, _) | (true, _, true) => Ok(()),
            (false, false, _) => Err(H3Refusal::Malformed("no :scheme or no :path")),
            (true, _, false) => Err(H3Refusal::Malformed("a CONNECT with :scheme or :path")),
        }
    }

    /// A client that has said so much of such a request has to end its stream (§4.1): it has no body, and none is announced.
    pub fn should_end(&self, head: &RequestHead) -> bool {
        let method = self.pseudo.get(METHOD).map(Method::of);
        let usual = match method {
            Some(Method::Get | Method::Head | Method::Options) => true,
            Some(Method::Post | Method::Put | Method::Patch | Method::Delete | Method::Other) | None => false,
        };
        usual && !head.headers.has(crate::Name::ContentLength)
    }

    /// Decides all the rest.
    pub fn finish(&self, head: &mut RequestHead, end_stream: bool, limits: &HeadLimits) -> Result<(), Refusal> {
        let get = |index| self.pseudo.get(index);
        let parts = H2Parts {
            method: get(METHOD).unwrap_or_default(),
            scheme: get(SCHEME).unwrap_or_default(),
            authority: get(AUTHORITY),
            path: get(PATH).unwrap_or_default(),
            protocol: get(PROTOCOL),
            end_stream,
        };
        head.finish_h2(parts, limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Framing;
    use crate::qpack::{begin_section, write_field};

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 65536, fields: 100, target_bytes: 16384, drop_underscores: true };
    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/a?b")];

    /// As it stands: upper case is kept, which `write_field` would not.
    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        begin_section(&mut out);
        for (name, value) in fields {
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                out.extend_from_slice(&[0x27, (name.len() - 7) as u8]);
                out.extend_from_slice(name.as_bytes());
                out.push(value.len() as u8);
                out.extend_from_slice(value.as_bytes());
            } else {
                write_field(&mut out, name.as_bytes(), value.as_bytes());
            }
        }
        out
    }

    fn build(fields: &[(&str, &str)], end_stream: bool) -> Result<RequestHead, H3Refusal> {
        let mut heads = H3Heads::default();
        let mut head = RequestHead::default();
        heads.read(&mut head, &section(fields))?;
        heads.finish(&mut head, end_stream, &LIMITS).map_err(H3Refusal::Refused)?;
        Ok(head)
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        GET.into_iter().filter(|(other, _)| *other != name).collect()
    }

    #[test]
    fn a_plain_request() {
        let head = build(&[&GET[..], &[("x-a", "1"), ("cookie", "a=b"), ("cookie", "c=d")]].concat(), true).unwrap();
        assert_eq!((head.method, head.version, head.framing), (Method::Get, Version::Http3, Framing::None));
        assert_eq!((head.path(), head.query(), head.host()), (&b"/a"[..], Some(&b"b"[..]), &b"a.example"[..]));
        assert_eq!(head.headers.get(b"cookie"), Some(&b"a=b; c=d"[..]));
        let host = build(&[&without(":authority")[..], &[("host", "b.example")]].concat(), true).unwrap();
        assert_eq!(host.host(), b"b.example");
    }

    #[test]
    fn what_is_malformed() {
        let with = |fields: &[(&'static str, &'static str)]| [&GET[..], fields].concat();
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
            vec![(":method", "CONNECT"), (":authority", "a.example:443"), (":path", "/")],
        ] {
            assert!(matches!(build(&fields, true), Err(H3Refusal::Malformed(_))), "{fields:?}");
        }
        let mut head = RequestHead::default();
        assert_eq!(H3Heads::default().read(&mut head, &[0, 0, 0x80]), Err(H3Refusal::Broken));
    }

    #[test]
    fn what_is_refused() {
        let with = |fields: &[(&'static str, &'static str)]| [&GET[..], fields].concat();
        let many: Vec<(&str, &str)> = (0..300).map(|_| ("x-a", "1")).collect();
        assert!(matches!(build(&with(&many), true), Err(H3Refusal::Refused(Refusal::HeadTooLarge))));
        assert!(matches!(build(&with(&[("host", "b.example")]), true), Err(H3Refusal::Refused(Refusal::Bad(_)))));
        assert!(matches!(build(&with(&[("content-length", "5")]), true), Err(H3Refusal::Refused(Refusal::Malformed(_)))));
        let connect = [(":method", "CONNECT"), (":authority", "a.example:443")];
        assert!(matches!(build(&connect, false), Err(H3Refusal::Refused(Refusal::NotImplemented(_)))));
    }

    #[test]
    fn nothing_is_left_of_the_last_head() {
        let mut heads = H3Heads::default();
        let mut head = RequestHead::default();
        heads.read(&mut head, &section(&[&GET[..], &[("x-a", "1")]].concat())).unwrap();
        assert!(heads.read(&mut head, &section(&without(":path"))).is_err());
        heads.read(&mut head, &section(&GET)).unwrap();
        heads.finish(&mut head, true, &LIMITS).unwrap();
        assert_eq!(head.headers.get(b"x-a"), None);
    }
}
