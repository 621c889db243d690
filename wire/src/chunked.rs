//! The chunked transfer coding (RFC 9112 §7.1), read strictly: exact CRLFs, hexadecimal sizes, bounded extensions and trailers.
//! Works on whatever bytes are at hand; copies nothing.

use crate::names::Name;

/// Above this a trailer section is not worth forwarding and is refused.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// A size line with its extensions; extensions are understood by no one and dropped.
const LINE_BYTES_MAX: usize = 256;

/// 15 hexadecimal digits: no body is larger, and no sum overflows.
const SIZE_DIGITS_MAX: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkError(pub &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SizeLine,
    Data,
    DataEnd,
    Trailers,
    Done,
}

/// Decoder of one body.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    remaining: u64,
    trailer_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkedStep {
    /// `skip` bytes of coding are over; more input is needed behind them.
    More { skip: usize },
    /// `len` bytes of body stand `skip` bytes ahead. Call `taken` for those consumed.
    Data { skip: usize, len: usize },
    /// The body ended; its coding took `skip` bytes more, of which the trailer fields are `trailers`
    /// (their lines with CRLF, without the empty line).
    End { skip: usize, trailers: (usize, usize) },
}

impl Default for Chunked {
    fn default() -> Self {
        Chunked::with_trailers(TRAILER_BYTES_MAX)
    }
}

impl Chunked {
    /// Of a body whose trailers may take so many bytes, where they are for us and not to be forwarded.
    pub fn with_trailers(bytes_max: usize) -> Chunked {
        Chunked { state: State::SizeLine, remaining: 0, trailer_bytes_max: bytes_max }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Looks at `input`, the bytes not yet consumed. After `Data`, consume `skip`, take data, and report it by `taken`.
    pub fn step(&mut self, input: &[u8]) -> Result<ChunkedStep, ChunkError> {
        let mut at = 0;
        loop {
            match self.state {
                State::SizeLine => {
                    let Some((size, used)) = size_line(&input[at..])? else {
                        return Ok(ChunkedStep::More { skip: at });
                    };
                    at += used;
                    self.remaining = size;
                    self.state = if size == 0 { State::Trailers } else { State::Data };
                }
                State::Data if at == input.len() => return Ok(ChunkedStep::More { skip: at }),
                State::Data => {
                    let len = self.remaining.min((input.len() - at) as u64) as usize;
                    return Ok(ChunkedStep::Data { skip: at, len });
                }
                State::DataEnd => match &input[at..] {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::SizeLine;
                    }
                    [] | [b'\r'] => return Ok(ChunkedStep::More { skip: at }),
                    _ => return Err(ChunkError("chunk data that does not end in CRLF")),
                },
                State::Trailers => {
                    let Some(end) = trailer_section(&input[at..], self.trailer_bytes_max)? else {
                        return Ok(ChunkedStep::More { skip: at });
                    };
                    self.state = State::Done;
                    return Ok(ChunkedStep::End { skip: at + end, trailers: (at, at + end - 2) });
                }
                State::Done => return Ok(ChunkedStep::End { skip: at, trailers: (at, at) }),
            }
        }
    }

    /// `len` bytes of the data that `step` announced were consumed.
    pub fn taken(&mut self, len: usize) {
        debug_assert!(self.state == State::Data && len as u64 <= self.remaining);
        self.remaining -= len as u64;
        if self.remaining == 0 {
            self.state = State::DataEnd;
        }
    }
}

/// `1*HEXDIG [ext] CRLF`; `None` while it is incomplete.
fn size_line(input: &[u8]) -> Result<Option<(u64, usize)>, ChunkError> {
    let digits = input.iter().take(SIZE_DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > SIZE_DIGITS_MAX {
        return Err(ChunkError("a chunk size that is too long"));
    }
    if digits == 0 && !input.is_empty() {
        return Err(ChunkError("a chunk size that is no hexadecimal number"));
    }
    let size = input[..digits].iter().fold(0, |sum, &byte| sum << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0)));
    match &input[digits..] {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some((size, digits + 2))),
        [b';', rest @ ..] => extension(rest).map(|end| end.map(|end| (size, digits + 1 + end))),
        _ => Err(ChunkError("a chunk size line with stray bytes")),
    }
}

/// Skips extensions: visible characters, spaces and tabs up to CRLF. A bare CR or LF in them is how requests are smuggled.
fn extension(rest: &[u8]) -> Result<Option<usize>, ChunkError> {
    for (at, &byte) in rest.iter().enumerate().take(LINE_BYTES_MAX) {
        match byte {
            b'\r' => {
                return match rest.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some(at + 2)),
                    Some(_) => Err(ChunkError("a bare carriage return in a chunk extension")),
                };
            }
            b'\t' | 0x20..=0x7e => {}
            _ => return Err(ChunkError("a chunk extension with a byte that is not allowed")),
        }
    }
    if rest.len() >= LINE_BYTES_MAX { Err(ChunkError("a chunk extension that is too long")) } else { Ok(None) }
}

/// The trailer section with its final empty line; `None` while it is incomplete. Every line is checked as a field.
fn trailer_section(input: &[u8], bytes_max: usize) -> Result<Option<usize>, ChunkError> {
    let mut at = 0;
    loop {
        let rest = &input[at..];
        let Some(feed) = memchr::memchr(b'\n', rest) else {
            return if input.len() > bytes_max { Err(ChunkError("trailers that are too large")) } else { Ok(None) };
        };
        if feed == 0 || rest[feed - 1] != b'\r' {
            return Err(ChunkError("a bare line feed in the trailers"));
        }
        if at + feed > bytes_max {
            return Err(ChunkError("trailers that are too large"));
        }
        let line = &rest[..feed - 1];
        at += feed + 1;
        if line.is_empty() {
            return Ok(Some(at));
        }
        if !is_field(line) {
            return Err(ChunkError("a malformed trailer field"));
        }
        // Some parsers believe a length wherever it stands.
        if matches!(field_name(line), Name::ContentLength | Name::TransferEncoding) {
            return Err(ChunkError("a framing header among the trailers"));
        }
    }
}

/// What stands before the colon.
fn field_name(line: &[u8]) -> Name {
    Name::of(&line[..memchr::memchr(b':', line).unwrap_or(0)])
}

fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let text = |byte: &u8| *byte == b'\t' || (0x20..0x7f).contains(byte) || *byte >= 0x80;
    colon > 0 && line[..colon].iter().all(token) && line[colon + 1..].iter().all(text)
}

/// Appends the size line of a chunk of `len` bytes; `len` > 0.
pub fn chunk_head(out: &mut Vec<u8>, len: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut shift = (usize::BITS - len.leading_zeros()).div_ceil(4) * 4;
    while shift > 0 {
        shift -= 4;
        out.push(DIGITS[len >> shift & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends those of `lines` (a checked trailer section) that may be forwarded: fields that frame, route, authenticate or
/// control a message mean nothing at its end and are dropped (RFC 9110 §6.5.1).
pub fn forward_trailers(lines: &[u8], out: &mut Vec<u8>) {
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if may_trail(name) {
            out.extend_from_slice(line);
        }
    }
}

/// Beginnings of names that frame, route, authenticate, condition or control a message.
const NEVER_BEGIN: [&[u8]; 7] = [b"access-control-", b"authenti", b"content-", b"if-", b"proxy-", b"x-forwarded-", b"x-real-"];
const NEVER: [&[u8]; 18] = [
    b"age",
    b"authorization",
    b"cache-control",
    b"cookie",
    b"date",
    b"expires",
    b"forwarded",
    b"host",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"trailer",
    b"vary",
    b"www-authenticate",
];

fn may_trail(name: &[u8]) -> bool {
    let begins = |prefix: &&[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    !Name::of(name).is_hop_by_hop()
        && !name.contains(&b'_')
        && !NEVER_BEGIN.iter().any(begins)
        && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
}
