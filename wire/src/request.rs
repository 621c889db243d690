//! A request head: parsed strictly, its framing decided once. Knows nothing of routes or sockets; `request_h2.rs` makes the same head
//! of HTTP/2's parts, by the rules that stand here.

use crate::headers::{Headers, Slice};
use crate::host::split_authority;
use crate::names::Name;
use crate::parse::{
    ConnectionOptions, FIELDS_MAX, HeadLimits, Parsed, Refusal, content_length, empty_fields, ends_in_bare_line_feed,
    has_bare_line_feed, keep, members,
};
use crate::path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
    Http3,
}

/// A method; the text of `Other` is in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Other,
}

impl Method {
    pub fn of(text: &[u8]) -> Method {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"PATCH" => Method::Patch,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }

    /// Repeating it is harmless (RFC 9110 §9.2.2). Unknown methods are not assumed to be.
    pub fn is_idempotent(self) -> bool {
        match self {
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options => true,
            Method::Post | Method::Patch | Method::Other => false,
        }
    }
}

/// How a message's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    #[default]
    None,
    /// Content-Length, more than zero.
    Length(u64),
    Chunked,
    /// Responses only: until the connection closes.
    Close,
}

/// Why a method that would make the gateway a tunnel or a mirror is not served.
pub(crate) const NOT_PROXIED: Refusal = Refusal::NotImplemented("CONNECT and TRACE are not proxied");

/// One request head. Reused from request to request: `parse` and `begin_h2` start by forgetting the last.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    pub headers: Headers,
    pub method: Method,
    pub method_text: Slice,
    pub version: Version,
    /// The target as it came, for logs and for functions that are promised it.
    pub target: Slice,
    /// Canonical, without the query.
    pub path: Slice,
    /// Without the `?`; `None` where there is no `?` at all.
    pub query: Option<Slice>,
    /// The authority, with its port, as the client wrote it; empty only in HTTP/1.0 without Host.
    pub authority: Slice,
    /// Its host part.
    pub host: Slice,
    pub framing: Framing,
    /// A Content-Length of 0 was given: it is passed on, since some servers insist on it for POST.
    pub explicit_zero: bool,
    pub keep_alive: bool,
    pub expect_continue: bool,
    /// The one protocol asked for by Upgrade.
    pub upgrade: Option<Slice>,
    /// `TE: trailers` was given.
    pub te_trailers: bool,
    /// Where a path is made canonical, and before that, where the crumbs of an HTTP/2 Cookie gather.
    pub(crate) scratch: Vec<u8>,
    /// What the fields of an HTTP/2 request count for so far (RFC 9113 §6.5.2).
    pub(crate) section_bytes: usize,
}

impl RequestHead {
    pub fn method_text(&self) -> &[u8] {
        self.headers.slice(self.method_text)
    }

    pub fn target(&self) -> &[u8] {
        self.headers.slice(self.target)
    }

    pub fn path(&self) -> &[u8] {
        self.headers.slice(self.path)
    }

    pub fn query(&self) -> Option<&[u8]> {
        self.query.map(|query| self.headers.slice(query))
    }

    pub fn authority(&self) -> &[u8] {
        self.headers.slice(self.authority)
    }

    pub fn host(&self) -> &[u8] {
        self.headers.slice(self.host)
    }

    /// An upgrade to WebSocket is asked for.
    pub fn is_websocket(&self) -> bool {
        self.upgrade.is_some_and(|protocol| self.headers.slice(protocol).eq_ignore_ascii_case(b"websocket"))
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        let scratch = std::mem::take(&mut self.scratch);
        headers.clear();
        *self = RequestHead { headers, scratch, ..RequestHead::default() };
    }

    /// Reads a head from the start of `input`. After `Partial`, call again with the same bytes and more.
    pub fn parse(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Parsed, Refusal> {
        self.clear();
        let mut storage = empty_fields();
        let mut request = httparse::Request::new(&mut []);
        let fields = limits.fields.min(FIELDS_MAX);
        let length = match request.parse_with_uninit_headers(input, &mut storage[..fields]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return partial(input, &request, limits),
            Err(error) => return Err(refusal(error, input)),
        };
        let head = &input[..length];
        if length > limits.head_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        if ends_in_bare_line_feed(head, request.headers) {
            return Err(Refusal::Bad("a bare line feed"));
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(Refusal::Bad("an incomplete request line"));
        };
        if target.len() > limits.target_bytes {
            return Err(Refusal::TargetTooLong);
        }
        let place = |part: &str| {
            let start = part.as_ptr() as usize - head.as_ptr() as usize;
            Slice::new(start, start + part.len())
        };
        self.method = Method::of(method.as_bytes());
        self.method_text = place(method);
        self.target = place(target);
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        keep(&mut self.headers, head, request.headers, limits.drop_underscores).map_err(Refusal::Bad)?;
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(NOT_PROXIED);
        }
        self.refuse_tabs()?;
        self.read_target()?;
        self.read_framing()?;
        self.read_connection()?;
        Ok(Parsed::Complete(length))
    }

    /// Some trim a tab around a value and some don't, so it must not stand around what frames or addresses a message.
    fn refuse_tabs(&self) -> Result<(), Refusal> {
        if !self.headers.is_plainly_padded(Name::Host) {
            return Err(Refusal::Bad("a tab around Host"));
        }
        if !self.headers.is_plainly_padded(Name::ContentLength) || !self.headers.is_plainly_padded(Name::TransferEncoding) {
            return Err(Refusal::Bad("a tab around a framing header"));
        }
        Ok(())
    }

    /// Splits the target into authority, path and query (RFC 9112 §3.2), and holds it against Host.
    fn read_target(&mut self) -> Result<(), Refusal> {
        let target = self.headers.slice(self.target);
        refuse_in_target(target)?;
        if self.is_path_or_asterisk() {
            self.read_path(self.target)?;
            return self.read_host(None);
        }
        let scheme = if target.len() > 7 && target[..7].eq_ignore_ascii_case(b"http://") {
            7
        } else if target.len() > 8 && target[..8].eq_ignore_ascii_case(b"https://") {
            8
        } else {
            return Err(Refusal::Bad("a target that is neither a path nor a URL"));
        };
        let start = self.target.start as usize;
        let end = start + target.len();
        let slash = target[scheme..].iter().position(|&byte| byte == b'/' || byte == b'?').map_or(end, |at| start + scheme + at);
        self.read_path(Slice::new(slash, end))?;
        self.read_host(Some(Slice::new(start + scheme, slash)))
    }

    /// Whether the target is a path with or without query, or the asterisk of OPTIONS.
    pub(crate) fn is_path_or_asterisk(&self) -> bool {
        let target = self.headers.slice(self.target);
        target.first() == Some(&b'/') || target == b"*" && self.method == Method::Options
    }

    /// Splits path and query of a target without its authority.
    pub(crate) fn read_path(&mut self, raw: Slice) -> Result<(), Refusal> {
        let bytes = self.headers.slice(raw);
        if bytes == b"*" {
            self.path = raw;
            return Ok(());
        }
        let (start, end) = (raw.start as usize, raw.start as usize + bytes.len());
        let question = memchr::memchr(b'?', bytes).map(|at| start + at);
        self.query = question.map(|at| Slice::new(at + 1, end));
        self.set_path(Slice::new(start, question.unwrap_or(end)))
    }

    fn set_path(&mut self, raw: Slice) -> Result<(), Refusal> {
        if path::is_canonical(self.headers.slice(raw)) {
            self.path = raw;
            return Ok(());
        }
        let raw = if raw.is_empty() { b"/" } else { self.headers.slice(raw) };
        self.scratch.clear();
        path::canonical(raw, &mut self.scratch).map_err(|bad| Refusal::Bad(bad.0))?;
        self.path = self.headers.stash(&self.scratch);
        Ok(())
    }

    /// Exactly one well-formed authority, but in HTTP/1.0: Host agrees with an absolute-form target (RFC 9112 §3.2) and with
    /// `:authority` (RFC 9113 §8.3.1). `target`: where it stands there.
    pub(crate) fn read_host(&mut self, target: Option<Slice>) -> Result<(), Refusal> {
        if self.headers.is_repeated(Name::Host) {
            return Err(Refusal::Bad("more than one Host"));
        }
        let field = self.headers.known(Name::Host);
        if let (Some(field), Some(target)) = (field, target)
            && !field.eq_ignore_ascii_case(self.headers.slice(target))
        {
            return Err(Refusal::Bad("a Host that disagrees with the target"));
        }
        let value = match (field, target, self.version) {
            (Some(value), _, _) => value,
            (None, _, Version::Http11) | (None, None, Version::Http2 | Version::Http3) => return Err(Refusal::Bad("no Host")),
            (None, Some(target), Version::Http10 | Version::Http2 | Version::Http3) => self.headers.slice(target),
            (None, None, Version::Http10) => return Ok(()),
        };
        let authority = split_authority(value).ok_or(Refusal::Bad("a malformed Host"))?;
        let start = value.as_ptr() as usize - self.headers.bytes.as_ptr() as usize;
        let (host, whole) = (authority.host.len(), value.len());
        self.authority = Slice::new(start, start + whole);
        self.host = Slice::new(start, start + host);
        Ok(())
    }

    /// RFC 9112 §6.3, with every doubtful case refused.
    fn read_framing(&mut self) -> Result<(), Refusal> {
        let length = self.headers.known(Name::ContentLength);
        let coding = self.headers.known(Name::TransferEncoding);
        self.framing = match (coding, length) {
            (None, None) => Framing::None,
            (Some(_), Some(_)) => return Err(Refusal::Bad("both Content-Length and Transfer-Encoding")),
            (Some(coding), None) => {
                if self.version == Version::Http10 {
                    return Err(Refusal::Bad("Transfer-Encoding in HTTP/1.0"));
                }
                if self.headers.is_repeated(Name::TransferEncoding) {
                    return Err(Refusal::Bad("more than one Transfer-Encoding"));
                }
                if !coding.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Bad("a Transfer-Encoding other than chunked"));
                }
                Framing::Chunked
            }
            (None, Some(length)) => self.read_length(length)?,
        };
        self.explicit_zero = self.headers.has(Name::ContentLength) && self.framing == Framing::None;
        Ok(())
    }

    /// What a Content-Length of `value` says of the body.
    pub(crate) fn read_length(&self, value: &[u8]) -> Result<Framing, Refusal> {
        if self.headers.is_repeated(Name::ContentLength) {
            return Err(Refusal::Bad("more than one Content-Length"));
        }
        Ok(match content_length(value).ok_or(Refusal::Bad("a malformed Content-Length"))? {
            0 => Framing::None,
            length => Framing::Length(length),
        })
    }

    fn read_connection(&mut self) -> Result<(), Refusal> {
        let options = ConnectionOptions::read(&self.headers);
        self.keep_alive = !options.close && (self.version == Version::Http11 || options.keep_alive);
        if options.nominates {
            remove_nominated(&mut self.headers).map_err(Refusal::Bad)?;
        }
        if self.version == Version::Http11 {
            self.read_expect()?;
            // An upgrade with a body would leave two readers in doubt about where the new protocol starts, and h2c
            // by Upgrade is how requests are smuggled past a proxy: both are answered as plain requests.
            if options.upgrade && self.framing == Framing::None && !self.headers.is_repeated(Name::Upgrade) {
                self.upgrade = self.headers.known(Name::Upgrade).filter(|protocol| is_plain_protocol(protocol)).map(|protocol| {
                    let start = protocol.as_ptr() as usize - self.headers.bytes.as_ptr() as usize;
                    Slice::new(start, start + protocol.len())
                });
            }
        }
        self.read_te();
        Ok(())
    }

    /// RFC 9110 §10.1.1. Needs the framing.
    pub(crate) fn read_expect(&mut self) -> Result<(), Refusal> {
        if self.headers.is_repeated(Name::Expect) {
            return Err(Refusal::Bad("more than one Expect"));
        }
        if let Some(expect) = self.headers.known(Name::Expect) {
            self.expect_continue = expect.eq_ignore_ascii_case(b"100-continue") && self.framing != Framing::None;
        }
        Ok(())
    }

    pub(crate) fn read_te(&mut self) {
        self.te_trailers =
            self.headers.known(Name::Te).is_some_and(|te| members(te).any(|coding| coding.eq_ignore_ascii_case(b"trailers")));
    }
}

/// Refuses bytes that may stand in no target.
pub(crate) fn refuse_in_target(target: &[u8]) -> Result<(), Refusal> {
    if target.iter().any(|&byte| byte <= 0x20 || byte >= 0x7f || byte == b'#') {
        return Err(Refusal::Bad("a character in the target that is not allowed there"));
    }
    Ok(())
}

fn is_plain_protocol(protocol: &[u8]) -> bool {
    !protocol.is_empty() && !protocol.contains(&b',') && !protocol.to_ascii_lowercase().starts_with(b"h2")
}

/// Each option is looked for among all fields.
const OPTIONS_MAX: usize = 32;

/// Removes the fields that Connection names (RFC 9110 §7.6.1). Naming one that frames or addresses the message is an attack.
pub(crate) fn remove_nominated(headers: &mut Headers) -> Result<(), &'static str> {
    let named = headers.all_known(Name::Connection).flat_map(members);
    let options: Vec<Vec<u8>> = named.take(OPTIONS_MAX + 1).map(<[u8]>::to_ascii_lowercase).collect();
    if options.len() > OPTIONS_MAX {
        return Err("more options in Connection than any client has use for");
    }
    for option in options {
        match Name::of(&option) {
            Name::Host | Name::ContentLength | Name::TransferEncoding => {
                return Err("a Connection header that names Host or a framing header");
            }
            name if name.is_hop_by_hop() => {}
            _ => headers.remove(&option),
        }
    }
    Ok(())
}

/// The head is not whole yet: is it already too large?
fn partial(input: &[u8], request: &httparse::Request<'_, '_>, limits: &HeadLimits) -> Result<Parsed, Refusal> {
    if request.path.is_none() && target_so_far(input) > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    if input.len() >= limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    // A bare LF may make httparse wait for what another parser has already seen the end of. The last byte may be the CR of a pair.
    if has_bare_line_feed(input.strip_suffix(b"\r").unwrap_or(input)) {
        return Err(Refusal::Bad("a bare line feed"));
    }
    Ok(Parsed::Partial)
}

/// How long the target is already: what stands behind the first space, up to the second.
fn target_so_far(input: &[u8]) -> usize {
    let mut words = input.splitn(3, |&byte| byte == b' ');
    words.nth(1).map_or(0, <[u8]>::len)
}

fn refusal(error: httparse::Error, input: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        // "HTTP/2.0" and "HTTP/1.2" are versions that exist or may; anything else there is noise.
        httparse::Error::Version if names_a_version(input) => Refusal::Version,
        httparse::Error::Version => Refusal::Bad("a malformed HTTP version"),
        httparse::Error::HeaderName => Refusal::Bad("a malformed header name"),
        httparse::Error::HeaderValue => Refusal::Bad("a malformed header value"),
        httparse::Error::NewLine => Refusal::Bad("a bare carriage return"),
        httparse::Error::Token => Refusal::Bad("a malformed request line"),
        httparse::Error::Status => Refusal::Bad("a malformed request line"),
    }
}

fn names_a_version(input: &[u8]) -> bool {
    let line = input.split(|&byte| byte == b'\r' || byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(_), Some(_), Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}
