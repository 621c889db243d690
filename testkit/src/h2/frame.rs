//! Frames of HTTP/2 (RFC 9113, sections 4 and 6), as right or wrong as a test wants them. Knows no connection and no state.

use std::fmt;

/// The types of section 6.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// The error codes of section 7.
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const SETTINGS_TIMEOUT: u32 = 4;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const CONNECT_ERROR: u32 = 10;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
    pub const INADEQUATE_SECURITY: u32 = 12;
    pub const HTTP_1_1_REQUIRED: u32 = 13;
}

/// The parameters of section 6.5.2, and of RFC 8441.
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { kind, flags, stream, payload: payload.into() }
    }

    pub fn data(stream: u32, bytes: impl AsRef<[u8]>, end: bool) -> Frame {
        Frame::new(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, bytes.as_ref())
    }

    /// A whole field block.
    pub fn headers(stream: u32, block: impl Into<Vec<u8>>, end: bool) -> Frame {
        Frame::new(kind::HEADERS, flag::END_HEADERS | if end { flag::END_STREAM } else { 0 }, stream, block)
    }

    pub fn continuation(stream: u32, block: impl Into<Vec<u8>>, last: bool) -> Frame {
        Frame::new(kind::CONTINUATION, if last { flag::END_HEADERS } else { 0 }, stream, block)
    }

    pub fn priority(stream: u32, depends_on: u32, weight: u8) -> Frame {
        Frame::new(kind::PRIORITY, 0, stream, [&depends_on.to_be_bytes()[..], &[weight]].concat())
    }

    pub fn reset(stream: u32, code: u32) -> Frame {
        Frame::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub fn settings(settings: &[(u16, u32)]) -> Frame {
        let bytes = settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        Frame::new(kind::SETTINGS, 0, 0, bytes.collect::<Vec<u8>>())
    }

    pub fn settings_ack() -> Frame {
        Frame::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    pub fn push_promise(stream: u32, promised: u32, block: &[u8]) -> Frame {
        Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, [&promised.to_be_bytes()[..], block].concat())
    }

    pub fn ping(bytes: [u8; 8]) -> Frame {
        Frame::new(kind::PING, 0, 0, bytes)
    }

    pub fn ping_ack(bytes: impl Into<Vec<u8>>) -> Frame {
        Frame::new(kind::PING, flag::ACK, 0, bytes)
    }

    pub fn goaway(last: u32, code: u32) -> Frame {
        Frame::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// Stream 0 is the connection.
    pub fn window(stream: u32, increment: u32) -> Frame {
        Frame::new(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
    }

    /// Of a type that nobody knows, with every flag there is.
    pub fn unknown(stream: u32) -> Frame {
        Frame::new(0xfe, 0xff, stream, *b"nobody knows this")
    }

    pub fn with_flags(mut self, flags: u8) -> Frame {
        self.flags |= flags;
        self
    }

    /// Without END_HEADERS: more of the block is to come.
    pub fn unfinished(mut self) -> Frame {
        self.flags &= !flag::END_HEADERS;
        self
    }

    /// With so many bytes of padding, for DATA and HEADERS.
    pub fn padded(mut self, count: u8) -> Frame {
        self.payload.insert(0, count);
        self.payload.extend(std::iter::repeat_n(0, usize::from(count)));
        self.with_flags(flag::PADDED)
    }

    /// A length that the payload need not have.
    pub fn encode_as_long_as(&self, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[self.kind, self.flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    pub fn encode(&self) -> Vec<u8> {
        self.encode_as_long_as(self.payload.len())
    }

    /// The frame at the start of `bytes`, and its length; `None` while it is not whole.
    pub fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
        let head = bytes.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = bytes.get(9..9 + length)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some((Frame::new(head[3], head[4], stream, payload), 9 + length))
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// DATA or HEADERS that ends its stream.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.has(flag::END_STREAM)
    }

    /// Four bytes of the payload as a number.
    pub(crate) fn number(&self, at: usize) -> Result<u32, String> {
        let bytes = self.payload.get(at..at + 4).ok_or_else(|| format!("a frame too short: {self:?}"))?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn pairs(&self) -> Result<Vec<(u16, u32)>, String> {
        if !self.payload.len().is_multiple_of(6) {
            return Err(format!("settings of odd length: {self:?}"));
        }
        let pairs = self.payload.chunks(6);
        Ok(pairs.map(|b| (u16::from_be_bytes([b[0], b[1]]), u32::from_be_bytes([b[2], b[3], b[4], b[5]]))).collect())
    }

    /// What DATA or HEADERS carry, without padding and priority.
    pub(crate) fn content(&self) -> Result<&[u8], String> {
        let short = || format!("padding longer than its frame: {self:?}");
        let (mut start, mut end) = (0, self.payload.len());
        if self.has(flag::PADDED) {
            let padding = usize::from(*self.payload.first().ok_or_else(short)?);
            (start, end) = (1, end.checked_sub(padding).ok_or_else(short)?);
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            start += 5;
        }
        self.payload.get(start..end).ok_or_else(short)
    }
}

const NAMES: [&str; 10] =
    ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"];

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.kind)) {
            Some(name) => write!(f, "{name}")?,
            None => write!(f, "type {:#x}", self.kind)?,
        }
        write!(f, "(stream {}, flags {:#x}, ", self.stream, self.flags)?;
        let cut = &self.payload[..self.payload.len().min(40)];
        write!(f, "{} bytes \"{}\")", self.payload.len(), cut.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frames = [
            Frame::data(1, "abc", true).padded(5),
            Frame::headers(3, [0x82], false),
            Frame::settings(&[(setting::MAX_FRAME_SIZE, 16384), (setting::ENABLE_PUSH, 0)]),
            Frame::goaway(7, code::ENHANCE_YOUR_CALM),
            Frame::window(0, 1 << 20),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut rest = bytes.as_slice();
        for frame in &frames {
            assert!(Frame::decode(&rest[..8]).is_none());
            let (decoded, length) = Frame::decode(rest).unwrap();
            assert_eq!(&decoded, frame);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        assert_eq!(frames[0].content(), Ok(b"abc".as_slice()));
        assert_eq!(frames[2].pairs(), Ok(vec![(5, 16384), (2, 0)]));
    }
}
