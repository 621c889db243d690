//! A response head made of an HTTP/2 back end's fields (RFC 9113 §8.3.2), as strict as one that was parsed. Knows nothing of frames or
//! HPACK.

use crate::field_h2::{self, SECTION_BYTES_MAX};
use crate::names::Name;
use crate::parse::FIELDS_MAX;
use crate::request::{Framing, Version};
use crate::response::{ResponseHead, ResponseRefusal};

impl ResponseHead {
    /// Starts the head of an HTTP/2 response: forgets the last and keeps the memory. `h2_field` for each field and `finish_h2` follow.
    pub fn begin_h2(&mut self, status: u16) {
        self.clear();
        self.status = status;
        self.version = Version::Http2;
        self.keep_alive = true;
    }

    /// `:status`, which is first and once (RFC 9113 §8.3.2); begun with a status of 0, there is none yet.
    pub fn h2_status(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseRefusal> {
        let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else {
            return Err(ResponseRefusal("a status that is no number of three digits"));
        };
        if name != b":status" || self.status != 0 || !self.headers.is_empty() {
            return Err(ResponseRefusal("a pseudo-field where none may be"));
        }
        self.status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        Ok(())
    }

    /// Takes one field in, which is no pseudo-field. How many bytes a head may have, who decodes it decides.
    pub fn h2_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseRefusal> {
        if self.headers.len() >= FIELDS_MAX || self.headers.bytes.len() + name.len() + value.len() > SECTION_BYTES_MAX {
            return Err(ResponseRefusal("a head that is too large"));
        }
        let known = field_h2::check(name, value).map_err(ResponseRefusal)?;
        if known == Name::Te {
            return Err(ResponseRefusal("a TE in a response"));
        }
        self.headers.add(name, value);
        Ok(())
    }

    /// Decides the framing, when every field is in. `to_head`: the request was HEAD. `end_stream`: the stream ended with this head; where
    /// a body could be, its length of 0 is then `stated_length`, so that HTTP/1.1 can be told.
    pub fn finish_h2(&mut self, to_head: bool, end_stream: bool) -> Result<(), ResponseRefusal> {
        if !(100..=999).contains(&self.status) {
            return Err(ResponseRefusal("a status that is no number of three digits"));
        }
        if self.status == 101 {
            return Err(ResponseRefusal("101 in HTTP/2")); // RFC 9113 §8.6
        }
        if self.is_interim() && end_stream {
            return Err(ResponseRefusal("an interim response that ends the stream")); // RFC 9113 §8.1
        }
        let stated = self.read_length()?;
        let may_state = to_head || self.status == 304;
        if end_stream && !may_state && stated.is_some_and(|length| length > 0) {
            return Err(ResponseRefusal("a Content-Length in a response that has no body"));
        }
        let length = if end_stream && !may_state { Some(0) } else { stated };
        self.frame(to_head, length, Framing::Chunked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(status: u16, fields: &[(&str, &str)], to_head: bool, end_stream: bool) -> Result<ResponseHead, ResponseRefusal> {
        let mut head = ResponseHead::default();
        head.begin_h2(status);
        for (name, value) in fields {
            head.h2_field(name.as_bytes(), value.as_bytes())?;
        }
        head.finish_h2(to_head, end_stream)?;
        assert!(head.keep_alive && head.version == Version::Http2 && head.status == status && head.reason.is_empty());
        Ok(head)
    }

    #[test]
    fn framing() {
        const OPEN: bool = false;
        const ENDED: bool = true;
        for (status, length, to_head, end_stream, wanted) in [
            (200, None, false, OPEN, Ok((Framing::Chunked, None))),
            (200, Some("5"), false, OPEN, Ok((Framing::Length(5), None))),
            (200, Some("0"), false, OPEN, Ok((Framing::None, Some(0)))),
            (200, None, false, ENDED, Ok((Framing::None, Some(0)))),
            (200, Some("0"), false, ENDED, Ok((Framing::None, Some(0)))),
            (200, Some("5"), false, ENDED, Err(())),
            (200, Some("5"), true, ENDED, Ok((Framing::None, Some(5)))),
            (200, None, true, ENDED, Ok((Framing::None, None))),
            (200, Some("5"), true, OPEN, Ok((Framing::None, Some(5)))),
            (304, Some("5"), false, ENDED, Ok((Framing::None, Some(5)))),
            (304, None, false, ENDED, Ok((Framing::None, None))),
            (204, None, false, ENDED, Ok((Framing::None, None))),
            (204, None, false, OPEN, Ok((Framing::None, None))),
            (204, Some("0"), false, ENDED, Ok((Framing::None, None))),
            (204, Some("5"), false, ENDED, Err(())),
            (204, Some("5"), false, OPEN, Err(())),
            (100, None, false, OPEN, Ok((Framing::None, None))),
            (103, None, false, ENDED, Err(())),
            (103, Some("5"), false, OPEN, Err(())),
            (101, None, false, OPEN, Err(())),
            (99, None, false, ENDED, Err(())),
            (1000, None, false, ENDED, Err(())),
            (200, Some("5, 5"), false, OPEN, Err(())),
            (200, Some("-5"), false, OPEN, Err(())),
        ] {
            let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
            let head = build(status, &fields, to_head, end_stream);
            let framing = head.map(|head| (head.framing, head.stated_length)).map_err(|_| ());
            assert_eq!(framing, wanted, "{status}, {length:?}, to_head: {to_head}, end_stream: {end_stream}");
        }
        assert!(build(200, &[("content-length", "5"), ("content-length", "5")], false, OPEN).is_err());
    }

    #[test]
    fn fields() {
        let head = build(200, &[("set-cookie", "a=b"), ("set-cookie", "c=d"), ("x", "")], false, true).unwrap();
        assert_eq!(head.headers.get_all(b"set-cookie").collect::<Vec<_>>(), [b"a=b", b"c=d"]);
        for (name, value) in
            [("connection", "close"), ("te", "trailers"), ("transfer-encoding", "chunked"), ("X", "1"), ("x", "1\n")]
        {
            assert!(build(200, &[(name, value)], false, true).is_err(), "{name}: {value:?}");
        }
        assert!(build(200, &[("x", "1"); 257], false, true).is_err());
    }
}
