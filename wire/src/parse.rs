//! What both heads share: where a head ends, bare line feeds, and fields into `Headers`. Decides no framing.

use crate::headers::{Headers, Slice};
use crate::names::Name;
use std::mem::MaybeUninit;

/// Bounds of a head, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes of the whole head, request line included.
    pub head_bytes: usize,
    /// Number of fields.
    pub fields: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
    /// Drop fields whose name has an underscore: behind WSGI and CGI they impersonate `-`.
    pub drop_underscores: bool,
}

/// Most fields any configuration can allow: it bounds the parser's stack, 32 bytes a field.
pub const FIELDS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A whole head; so many bytes of the input were it.
    Complete(usize),
}

/// Why a request head is refused. Each closes the connection, since what follows can't be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400, with a reason for the log.
    Bad(&'static str),
    /// The same of a request that is none by HTTP/2's own rules; its stream is reset (RFC 9113 §8.1.1).
    Malformed(&'static str),
    /// 431: the head is larger than `header_bytes`, or has more than `headers` fields.
    HeadTooLarge,
    /// 414
    TargetTooLong,
    /// 501: CONNECT and TRACE.
    NotImplemented(&'static str),
    /// 505
    Version,
}

pub(crate) type Fields<'a> = [MaybeUninit<httparse::Header<'a>>; FIELDS_MAX];

pub(crate) fn empty_fields<'a>() -> Fields<'a> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// httparse takes a bare LF for a line's end; two implementations would not agree, so it is refused. It has refused every bare CR
/// in what it parsed already, so there is a bare LF exactly where there are more LF than CR; counting needs no branches.
pub(crate) fn has_bare_line_feed(head: &[u8]) -> bool {
    let (blocks, rest) = head.as_chunks::<64>();
    let surplus = |block: &[u8]| block.iter().fold(0i8, |sum, &byte| sum + i8::from(byte == b'\n') - i8::from(byte == b'\r'));
    blocks.iter().fold(0i32, |sum, block| sum + i32::from(surplus(block))) + i32::from(surplus(rest)) != 0
}

/// The same of a whole head that was parsed: every LF in it ends a line, so only the lines' ends are looked at, and not what stands in them.
pub(crate) fn ends_in_bare_line_feed(head: &[u8], fields: &[httparse::Header<'_>]) -> bool {
    let is_ended = |at: usize| head[..at].ends_with(b"\r\n");
    // Empty lines may come before the first.
    let first = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or_default();
    let (pairs, rest) = head[..first].as_chunks::<2>();
    let is_good_before = rest.is_empty() && pairs.iter().all(|pair| pair == b"\r\n");
    let start = |field: &httparse::Header<'_>| field.name.as_ptr() as usize - head.as_ptr() as usize;
    !(is_good_before && head.ends_with(b"\r\n\r\n") && fields.iter().all(|field| is_ended(start(field))))
}

/// A longer name is no header's; lengths are kept in 16 bits.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// Copies the head into `headers` and records where each field is. `Err` is why it is refused.
pub(crate) fn keep(
    headers: &mut Headers,
    head: &[u8],
    fields: &[httparse::Header<'_>],
    drop_underscores: bool,
) -> Result<(), &'static str> {
    headers.bytes.extend_from_slice(head);
    let base = head.as_ptr() as usize;
    for field in fields {
        if field.name.len() > NAME_BYTES_MAX {
            return Err("a header name that is too long");
        }
        let known = Name::of(field.name.as_bytes());
        // No well-known name has one.
        if known == Name::Other && drop_underscores && field.name.as_bytes().contains(&b'_') {
            continue;
        }
        let name = field.name.as_ptr() as usize - base;
        // An empty value's pointer is not promised to lie within the head.
        let value = if field.value.is_empty() { 0 } else { field.value.as_ptr() as usize - base };
        headers.push_known(known, Slice::new(name, name + field.name.len()), Slice::new(value, value + field.value.len()));
    }
    Ok(())
}

/// 1*DIGIT that fits, and nothing else: no sign, no space, no list (RFC 9110 §8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// The comma-separated members of a list field, trimmed, without empty ones.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// What the Connection fields say (RFC 9110 §7.6.1).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Other fields are named, which then concern this connection alone.
    pub nominates: bool,
}

impl ConnectionOptions {
    pub fn read(headers: &Headers) -> ConnectionOptions {
        let mut options = ConnectionOptions::default();
        for value in headers.all_known(Name::Connection) {
            // Nearly everybody says one word, and that as it stands here.
            match value {
                b"keep-alive" => options.keep_alive = true,
                b"close" => options.close = true,
                _ => members(value).for_each(|option| options.add(option)),
            }
        }
        options
    }

    fn add(&mut self, option: &[u8]) {
        if option.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        } else {
            self.nominates = true;
        }
    }
}
