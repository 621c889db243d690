//! A response head from a back end: parsed as strictly as a request, its framing decided once (RFC 9112 §6.3); `response_h2.rs` makes
//! the same head of an HTTP/2 response. Says nothing of retries.

use crate::headers::{Headers, Slice};
use crate::names::Name;
use crate::parse::{
    ConnectionOptions, FIELDS_MAX, HeadLimits, Parsed, content_length, empty_fields, ends_in_bare_line_feed, keep,
};
use crate::request::{Framing, Version, remove_nominated};

/// Why a back end's head is not believed; all become 502. The text is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseRefusal(pub &'static str);

const BODY_ANNOUNCED: ResponseRefusal = ResponseRefusal("a body announced in a response that has none");

/// One response head. Reused: `parse` and `begin_h2` start by forgetting the last.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    pub headers: Headers,
    pub status: u16,
    /// What stood behind the status; empty for the standard phrase.
    pub reason: Slice,
    pub version: Version,
    pub framing: Framing,
    /// The length the head states although no body follows: HEAD and 304.
    pub stated_length: Option<u64>,
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = ResponseHead { headers, ..ResponseHead::default() };
    }

    /// Reads a head from the start of `input`. `to_head`: the request was HEAD, so no body follows.
    pub fn parse(&mut self, input: &[u8], to_head: bool, limits: &HeadLimits) -> Result<Parsed, ResponseRefusal> {
        self.clear();
        let mut storage = empty_fields();
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            input,
            &mut storage[..FIELDS_MAX],
        );
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if input.len() >= limits.head_bytes => {
                return Err(ResponseRefusal("a head larger than header_bytes"));
            }
            Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
            Err(_) => return Err(ResponseRefusal("a malformed head")),
        };
        let head = &input[..length];
        if length > limits.head_bytes {
            return Err(ResponseRefusal("a head larger than header_bytes"));
        }
        if ends_in_bare_line_feed(head, response.headers) {
            return Err(ResponseRefusal("a bare line feed"));
        }
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(ResponseRefusal("an incomplete status line"));
        };
        if !(100..=999).contains(&status) {
            return Err(ResponseRefusal("a status below 100"));
        }
        self.status = status;
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        keep(&mut self.headers, head, response.headers, false).map_err(ResponseRefusal)?;
        if let Some(reason) = response.reason.filter(|reason| !reason.is_empty()) {
            let start = reason.as_ptr() as usize - head.as_ptr() as usize;
            self.reason = Slice::new(start, start + reason.len());
        }
        self.read_framing(to_head)?;
        self.read_connection()?;
        Ok(Parsed::Complete(length))
    }

    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    fn read_framing(&mut self, to_head: bool) -> Result<(), ResponseRefusal> {
        let coding = self.headers.known(Name::TransferEncoding);
        if self.headers.is_repeated(Name::TransferEncoding) {
            return Err(ResponseRefusal("a framing header given twice"));
        }
        if coding.is_some() && self.headers.has(Name::ContentLength) {
            return Err(ResponseRefusal("both Content-Length and Transfer-Encoding"));
        }
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(ResponseRefusal("a Transfer-Encoding other than chunked"));
        }
        if coding.is_some() && self.version == Version::Http10 {
            return Err(ResponseRefusal("Transfer-Encoding in HTTP/1.0"));
        }
        // RFC 9112 §6.1 forbids it here; whoever believes it waits for a body.
        if coding.is_some() && !to_head && self.is_bodiless() {
            return Err(BODY_ANNOUNCED);
        }
        let unstated = if coding.is_some() { Framing::Chunked } else { Framing::Close };
        let length = self.read_length()?;
        self.frame(to_head, length, unstated)
    }

    /// The one well-formed Content-Length, if any.
    pub(crate) fn read_length(&self) -> Result<Option<u64>, ResponseRefusal> {
        if self.headers.is_repeated(Name::ContentLength) {
            return Err(ResponseRefusal("a framing header given twice"));
        }
        let Some(value) = self.headers.known(Name::ContentLength) else { return Ok(None) };
        content_length(value).map(Some).ok_or(ResponseRefusal("a malformed Content-Length"))
    }

    /// Whether its status alone says that there is no body and that none may be announced (RFC 9110 §15.2 and §15.3.5).
    pub(crate) fn is_bodiless(&self) -> bool {
        self.status < 200 || self.status == 204
    }

    /// Decides the framing (RFC 9112 §6.3). `length`: the one that is stated; `unstated`: what holds without.
    pub(crate) fn frame(&mut self, to_head: bool, length: Option<u64>, unstated: Framing) -> Result<(), ResponseRefusal> {
        self.framing = if to_head || self.status == 304 {
            self.stated_length = length;
            Framing::None
        } else if self.is_bodiless() {
            // RFC 9110 §8.6 forbids a length here; one that announces bytes would desynchronise whoever believes it.
            if length.is_some_and(|length| length > 0) {
                return Err(BODY_ANNOUNCED);
            }
            Framing::None
        } else {
            match length {
                None => unstated,
                Some(0) => {
                    self.stated_length = Some(0);
                    Framing::None
                }
                Some(length) => Framing::Length(length),
            }
        };
        Ok(())
    }

    fn read_connection(&mut self) -> Result<(), ResponseRefusal> {
        let options = ConnectionOptions::read(&self.headers);
        self.keep_alive =
            !options.close && self.framing != Framing::Close && (self.version == Version::Http11 || options.keep_alive);
        if options.nominates {
            remove_nominated(&mut self.headers).map_err(ResponseRefusal)?;
        }
        Ok(())
    }
}
