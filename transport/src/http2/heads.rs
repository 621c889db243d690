//! Heads and trailers as they are sent: from our form to fields of HPACK, or of QPACK. Decides nothing about what is forwarded but what
//! HTTP/2 and HTTP/3 forbid.

use maitred_wire::{Headers, Name, accept_key, digits, hpack_field, hpack_known, hpack_status};
#[cfg(feature = "http3")]
use maitred_wire::{begin_section, write_field, write_status};

/// How fields are compressed.
pub(crate) trait Compression {
    fn begin(out: &mut Vec<u8>);
    fn status(out: &mut Vec<u8>, status: u16);
    /// `known` is `Name::of(name)`.
    fn field(out: &mut Vec<u8>, known: Name, name: &[u8], value: &[u8]);
}

pub(crate) struct Hpack;

impl Compression for Hpack {
    fn begin(_: &mut Vec<u8>) {}

    fn status(out: &mut Vec<u8>, status: u16) {
        hpack_status(out, status);
    }

    fn field(out: &mut Vec<u8>, known: Name, name: &[u8], value: &[u8]) {
        hpack_known(out, known, name, value);
    }
}

#[cfg(feature = "http3")]
pub(crate) struct Qpack;

#[cfg(feature = "http3")]
impl Compression for Qpack {
    fn begin(out: &mut Vec<u8>) {
        begin_section(out);
    }

    fn status(out: &mut Vec<u8>, status: u16) {
        write_status(out, status);
    }

    fn field(out: &mut Vec<u8>, _: Name, name: &[u8], value: &[u8]) {
        write_field(out, name, value);
    }
}

/// An interim response.
pub(crate) fn interim<C: Compression>(out: &mut Vec<u8>, status: u16, headers: &Headers) {
    C::begin(out);
    C::status(out, status);
    fields::<C>(out, headers);
}

/// A response's head.
pub(crate) struct Answer<'a> {
    pub status: u16,
    pub headers: &'a Headers,
    /// Of the body, where it is known.
    pub length: Option<u64>,
    /// Empty for none.
    pub date: &'a [u8],
    /// Empty for none.
    pub request_id: &'a [u8],
}

impl Answer<'_> {
    pub fn write<C: Compression>(&self, out: &mut Vec<u8>) {
        C::begin(out);
        C::status(out, self.status);
        fields::<C>(out, self.headers);
        if !self.date.is_empty() {
            C::field(out, Name::Date, b"date", self.date);
        }
        if !self.request_id.is_empty() {
            C::field(out, Name::XRequestId, b"x-request-id", self.request_id);
        }
        if let Some(length) = self.length {
            C::field(out, Name::ContentLength, b"content-length", digits(length, &mut [0; 20]));
        }
    }
}

/// The fields that go on to a client.
fn fields<C: Compression>(out: &mut Vec<u8>, headers: &Headers) {
    for entry in headers.iter() {
        if !entry.known.is_hop_by_hop() && entry.known != Name::XRequestId {
            C::field(out, entry.known, headers.name(entry), headers.value(entry));
        }
    }
}

/// A request's head from the one that HTTP/1.1 would get, so that there is one place which decides what is forwarded. For an upgrade
/// to WebSocket it is the extended CONNECT (RFC 8441). `None`: HTTP/2 cannot carry it.
pub(crate) fn request(out: &mut Vec<u8>, lines: &[u8], encrypted: bool, upgrade: bool) -> Option<()> {
    let mut lines = split(lines);
    let mut words = lines.next()?.split(|&byte| byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut lines = lines.take_while(|line| !line.is_empty()).map(pair);
    // Host is what is written first.
    let (b"host", authority) = lines.next()?? else { return None };
    hpack_field(out, b":method", if upgrade { b"CONNECT" } else { method });
    hpack_field(out, b":scheme", if encrypted { b"https" } else { b"http" });
    hpack_field(out, b":path", target);
    hpack_field(out, b":authority", authority);
    if upgrade {
        hpack_field(out, b":protocol", b"websocket");
    }
    for line in lines {
        let (name, value) = line?;
        let known = Name::of(name);
        match known {
            // The body is asked for when the stream takes it, so nobody has to wait for a word.
            Name::Connection | Name::TransferEncoding | Name::Upgrade | Name::Expect => {}
            Name::Other if upgrade && name.eq_ignore_ascii_case(WEBSOCKET_KEY) => {}
            _ => hpack_known(out, known, name, value),
        }
    }
    Some(())
}

const WEBSOCKET_KEY: &[u8] = b"sec-websocket-key";

/// What an HTTP/1.1 client's key is to be answered with.
pub(crate) fn accept_of(lines: &[u8]) -> Option<[u8; 28]> {
    let mut fields = split(lines).skip(1).filter_map(pair);
    fields.find(|(name, _)| name.eq_ignore_ascii_case(WEBSOCKET_KEY)).map(|(_, key)| accept_key(key))
}

/// Trailers from their lines.
pub(crate) fn trailers<C: Compression>(out: &mut Vec<u8>, lines: &[u8]) {
    C::begin(out);
    for (name, value) in split(lines).filter_map(pair) {
        C::field(out, Name::of(name), name, value);
    }
}

fn split(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn pair(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}
