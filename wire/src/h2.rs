//! HTTP/2's frames as they are written, and its numbers (RFC 9113 §6 and §7). `h2_reader.rs` reads them; streams and windows are the
//! driver's.

/// What a client that speaks HTTP/2 sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection starts with `PREFACE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// All of it is there.
    Yes,
    /// It is something else: no bytes behind these can change that.
    No,
    /// Too few bytes to tell.
    Maybe,
}

/// Looks at the first bytes of a connection. No HTTP/1.1 request is a `Yes`: its version would be HTTP/2.0, and its head ends before
/// the preface does.
pub fn starts_preface(input: &[u8]) -> Preface {
    let length = input.len().min(PREFACE.len());
    if input[..length] != PREFACE[..length] {
        Preface::No
    } else if length == PREFACE.len() {
        Preface::Yes
    } else {
        Preface::Maybe
    }
}

/// Length, type, flags, stream (§4.1).
pub const FRAME_HEADER_BYTES: usize = 9;

/// The largest payload that every peer takes; we announce no other, and send none (§6.5.2).
pub const FRAME_BYTES_MAX: usize = 16_384;

/// No flow-control window is larger (§6.9.1).
pub const WINDOW_MAX: u32 = i32::MAX as u32;

/// A window before SETTINGS say otherwise, and always a connection's first (§6.9.2).
pub const WINDOW_AT_FIRST: u32 = 65_535;

/// Types of frames (§6; PRIORITY_UPDATE: RFC 9218 §7.1).
pub(crate) mod kind {
    pub const DATA: u8 = 0x00;
    pub const HEADERS: u8 = 0x01;
    pub const PRIORITY: u8 = 0x02;
    pub const RST_STREAM: u8 = 0x03;
    pub const SETTINGS: u8 = 0x04;
    pub const PUSH_PROMISE: u8 = 0x05;
    pub const PING: u8 = 0x06;
    pub const GOAWAY: u8 = 0x07;
    pub const WINDOW_UPDATE: u8 = 0x08;
    pub const CONTINUATION: u8 = 0x09;
    pub const PRIORITY_UPDATE: u8 = 0x10;
}

pub(crate) mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 0x01;
    pub const END_STREAM: u8 = 0x01;
    pub const END_HEADERS: u8 = 0x04;
    pub const PADDED: u8 = 0x08;
    pub const PRIORITY: u8 = 0x20;
}

/// An error code (§7). Any number may come; unknown ones mean nothing special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H2Code(pub u32);

impl H2Code {
    pub const NO_ERROR: H2Code = H2Code(0x0);
    pub const PROTOCOL_ERROR: H2Code = H2Code(0x1);
    pub const INTERNAL_ERROR: H2Code = H2Code(0x2);
    pub const FLOW_CONTROL_ERROR: H2Code = H2Code(0x3);
    pub const STREAM_CLOSED: H2Code = H2Code(0x5);
    pub const FRAME_SIZE_ERROR: H2Code = H2Code(0x6);
    pub const REFUSED_STREAM: H2Code = H2Code(0x7);
    pub const CANCEL: H2Code = H2Code(0x8);
    pub const COMPRESSION_ERROR: H2Code = H2Code(0x9);
    pub const ENHANCE_YOUR_CALM: H2Code = H2Code(0xb);
    pub const INADEQUATE_SECURITY: H2Code = H2Code(0xc);
    pub const HTTP_1_1_REQUIRED: H2Code = H2Code(0xd);

    /// Says that the peer did wrong.
    pub fn blames(self) -> bool {
        matches!(
            self,
            H2Code::PROTOCOL_ERROR
                | H2Code::FLOW_CONTROL_ERROR
                | H2Code::STREAM_CLOSED
                | H2Code::FRAME_SIZE_ERROR
                | H2Code::REFUSED_STREAM
        )
    }
}

impl std::fmt::Display for H2Code {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => out.write_str(name),
            None => write!(out, "error {:#x}", self.0),
        }
    }
}

/// One setting (§6.5.2; ENABLE_CONNECT_PROTOCOL: RFC 8441 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum H2Setting {
    HeaderTableSize(u32),
    EnablePush(bool),
    MaxConcurrentStreams(u32),
    InitialWindowSize(u32),
    MaxFrameSize(u32),
    MaxHeaderListSize(u32),
    EnableConnectProtocol(bool),
}

impl H2Setting {
    /// Identifier and value as they are sent.
    fn pair(self) -> (u16, u32) {
        match self {
            H2Setting::HeaderTableSize(bytes) => (0x1, bytes),
            H2Setting::EnablePush(on) => (0x2, on.into()),
            H2Setting::MaxConcurrentStreams(count) => (0x3, count),
            H2Setting::InitialWindowSize(bytes) => (0x4, bytes),
            H2Setting::MaxFrameSize(bytes) => (0x5, bytes),
            H2Setting::MaxHeaderListSize(bytes) => (0x6, bytes),
            H2Setting::EnableConnectProtocol(on) => (0x8, on.into()),
        }
    }

    /// `Ok(None)`: one that is unknown, and ignored. `Err`: a value that may not be.
    pub(crate) fn read(identifier: u16, value: u32) -> Result<Option<H2Setting>, H2Code> {
        let switch = || if value > 1 { Err(H2Code::PROTOCOL_ERROR) } else { Ok(value == 1) };
        Ok(Some(match identifier {
            0x1 => H2Setting::HeaderTableSize(value),
            0x2 => H2Setting::EnablePush(switch()?),
            0x3 => H2Setting::MaxConcurrentStreams(value),
            0x4 if value > WINDOW_MAX => return Err(H2Code::FLOW_CONTROL_ERROR),
            0x4 => H2Setting::InitialWindowSize(value),
            0x5 if !(16_384..=16_777_215).contains(&value) => return Err(H2Code::PROTOCOL_ERROR),
            0x5 => H2Setting::MaxFrameSize(value),
            0x6 => H2Setting::MaxHeaderListSize(value),
            0x8 => H2Setting::EnableConnectProtocol(switch()?),
            _ => return Ok(None),
        }))
    }
}

fn frame(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags, a, b, c, d]);
}

pub fn h2_settings(out: &mut Vec<u8>, settings: &[H2Setting]) {
    frame(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for setting in settings {
        let (identifier, value) = setting.pair();
        out.extend_from_slice(&identifier.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub fn h2_settings_ack(out: &mut Vec<u8>) {
    frame(out, 0, kind::SETTINGS, flag::ACK, 0);
}

pub fn h2_ping(out: &mut Vec<u8>, payload: [u8; 8], ack: bool) {
    frame(out, 8, kind::PING, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&payload);
}

/// `last`: the last stream that was or will be acted upon.
pub fn h2_goaway(out: &mut Vec<u8>, last: u32, code: H2Code) {
    frame(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub fn h2_reset(out: &mut Vec<u8>, stream: u32, code: H2Code) {
    frame(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// `stream` 0 is the connection. `increment` is at least 1.
pub fn h2_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    frame(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// One DATA frame; `bytes` are no more than `FRAME_BYTES_MAX`.
pub fn h2_data(out: &mut Vec<u8>, stream: u32, bytes: &[u8], end: bool) {
    debug_assert!(bytes.len() <= FRAME_BYTES_MAX);
    out.reserve(FRAME_HEADER_BYTES + bytes.len());
    frame(out, bytes.len(), kind::DATA, if end { flag::END_STREAM } else { 0 }, stream);
    out.extend_from_slice(bytes);
}

/// A header section: `block` writes its fields in HPACK. What does not fit into one frame goes on in CONTINUATIONs.
pub fn h2_headers(out: &mut Vec<u8>, stream: u32, end: bool, block: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let flags = if end { flag::END_STREAM } else { 0 };
    frame(out, 0, kind::HEADERS, flags | flag::END_HEADERS, stream);
    block(out);
    let length = out.len() - start - FRAME_HEADER_BYTES;
    if length <= FRAME_BYTES_MAX {
        set_length(out, start, length);
        return;
    }
    let block = out.split_off(start + FRAME_HEADER_BYTES);
    let mut pieces = block.chunks(FRAME_BYTES_MAX);
    out.truncate(start);
    frame(out, FRAME_BYTES_MAX, kind::HEADERS, flags, stream);
    out.extend_from_slice(pieces.next().unwrap_or_default());
    while let Some(piece) = pieces.next() {
        let last = if pieces.len() == 0 { flag::END_HEADERS } else { 0 };
        frame(out, piece.len(), kind::CONTINUATION, last, stream);
        out.extend_from_slice(piece);
    }
}

fn set_length(out: &mut [u8], start: usize, length: usize) {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    out[start..start + 3].copy_from_slice(&[high, middle, low]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_requests() {
        for length in 0..PREFACE.len() {
            assert_eq!(starts_preface(&PREFACE[..length]), Preface::Maybe);
        }
        assert_eq!(starts_preface(PREFACE), Preface::Yes);
        assert_eq!(starts_preface(&[&PREFACE[..], b"\0\0"].concat()), Preface::Yes);
        for other in
            ["G", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/1.1\r\n", "PRI * HTTP/2.0\r\nHost: a\r\n\r\n", "\r\n", "pri", "PRI /"]
        {
            assert_eq!(starts_preface(other.as_bytes()), Preface::No, "{other:?}");
        }
    }

    #[test]
    fn settings_are_bounded_as_the_rfc_says() {
        for (identifier, value, wanted) in [
            (4, 1 << 31, Err(H2Code::FLOW_CONTROL_ERROR)),
            (4, (1 << 31) - 1, Ok(Some(H2Setting::InitialWindowSize(WINDOW_MAX)))),
            (2, 2, Err(H2Code::PROTOCOL_ERROR)),
            (8, 2, Err(H2Code::PROTOCOL_ERROR)),
            (8, 1, Ok(Some(H2Setting::EnableConnectProtocol(true)))),
            (5, 16_383, Err(H2Code::PROTOCOL_ERROR)),
            (5, 16_384, Ok(Some(H2Setting::MaxFrameSize(16_384)))),
            (5, 1 << 24, Err(H2Code::PROTOCOL_ERROR)),
            (9, u32::MAX, Ok(None)),
        ] {
            assert_eq!(H2Setting::read(identifier, value), wanted, "{identifier}: {value}");
        }
    }

    #[test]
    fn codes_have_the_names_of_the_rfc() {
        assert_eq!(H2Code::ENHANCE_YOUR_CALM.to_string(), "ENHANCE_YOUR_CALM");
        assert_eq!(H2Code(0xd).to_string(), "HTTP_1_1_REQUIRED");
        assert_eq!(H2Code(0xe).to_string(), "error 0xe");
        let blaming = (0..14).filter(|code| H2Code(*code).blames()).collect::<Vec<_>>();
        assert_eq!(blaming, [1, 3, 5, 6, 7]);
    }

    #[test]
    fn a_long_block_goes_on_in_continuations() {
        for (length, frames) in [(0, 1), (FRAME_BYTES_MAX, 1), (FRAME_BYTES_MAX + 1, 2), (2 * FRAME_BYTES_MAX, 2), (50_000, 4)] {
            let mut out = b"before".to_vec();
            h2_headers(&mut out, 5, true, |out| out.resize(out.len() + length, 7));
            let mut rest = &out[6..];
            let mut seen = 0;
            while let Some((header, behind)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() {
                let payload = usize::from(header[1]) << 8 | usize::from(header[2]);
                let last = behind.len() == payload;
                let flags = (if seen == 0 { flag::END_STREAM } else { 0 }) | (if last { flag::END_HEADERS } else { 0 });
                let kind = if seen == 0 { kind::HEADERS } else { kind::CONTINUATION };
                assert_eq!((header[3], header[4], header[8]), (kind, flags, 5), "{length}");
                assert!(payload <= FRAME_BYTES_MAX && behind[..payload].iter().all(|byte| *byte == 7));
                rest = &behind[payload..];
                seen += 1;
            }
            assert_eq!((rest.len(), seen), (0, frames), "{length}");
        }
    }
}
