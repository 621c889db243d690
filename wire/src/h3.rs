//! The frames of HTTP/3 (RFC 9114 §7) as they come in pieces: where one begins, and how much of it a piece holds. Keeps a frame's head and
//! nothing of what is in it; which frame may stand where is for who asks.

/// Why a stream, or the connection, ends (RFC 9114 §8.1, RFC 9204 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum H3Code {
    NoError = 0x100,
    InternalError = 0x102,
    StreamCreationError = 0x103,
    ClosedCriticalStream = 0x104,
    FrameUnexpected = 0x105,
    FrameError = 0x106,
    ExcessiveLoad = 0x107,
    IdError = 0x108,
    SettingsError = 0x109,
    MissingSettings = 0x10a,
    RequestRejected = 0x10b,
    RequestCancelled = 0x10c,
    RequestIncomplete = 0x10d,
    MessageError = 0x10e,
    DecompressionFailed = 0x200,
    EncoderStreamError = 0x201,
    DecoderStreamError = 0x202,
}

/// A frame's type, as far as a server cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Data,
    Headers,
    CancelPush,
    Settings,
    PushPromise,
    Goaway,
    MaxPushId,
    /// One of HTTP/2's that has no place in HTTP/3 (§11.2.1).
    Reserved,
    /// To be ignored (§9).
    Unknown,
}

impl FrameKind {
    fn of(number: u64) -> FrameKind {
        match number {
            0x00 => FrameKind::Data,
            0x01 => FrameKind::Headers,
            0x03 => FrameKind::CancelPush,
            0x04 => FrameKind::Settings,
            0x05 => FrameKind::PushPromise,
            0x07 => FrameKind::Goaway,
            0x0d => FrameKind::MaxPushId,
            0x02 | 0x06 | 0x08 | 0x09 => FrameKind::Reserved,
            _ => FrameKind::Unknown,
        }
    }
}

/// A variable-length integer (RFC 9000 §16), and how many bytes it takes. `None`: it is not all here.
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    Some((value, length))
}

/// No integer is larger.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value.min(VARINT_MAX) | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// The head of a DATA frame of so many bytes.
pub fn data_head(out: &mut Vec<u8>, length: usize) {
    out.push(0x00);
    put_varint(out, length as u64);
}

/// A HEADERS frame around a field section.
pub fn headers_frame(out: &mut Vec<u8>, section: &[u8]) {
    out.push(0x01);
    put_varint(out, section.len() as u64);
    out.extend_from_slice(section);
}

/// How our control stream begins: its type, and our settings (§6.2.1).
pub fn control_preface(out: &mut Vec<u8>, field_section_bytes: u64) {
    out.push(0x00);
    let mut settings = Vec::new();
    for (name, value) in [(setting::MAX_FIELD_SECTION_SIZE, field_section_bytes), (setting::ENABLE_CONNECT_PROTOCOL, 1)] {
        put_varint(&mut settings, name);
        put_varint(&mut settings, value);
    }
    out.push(0x04);
    put_varint(out, settings.len() as u64);
    out.extend_from_slice(&settings);
}

/// GOAWAY: requests on this stream and those after it are not answered (§5.2).
pub fn goaway_frame(out: &mut Vec<u8>, stream: u64) {
    let mut id = Vec::new();
    put_varint(&mut id, stream);
    out.push(0x07);
    put_varint(out, id.len() as u64);
    out.extend_from_slice(&id);
}

mod setting {
    pub const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
    /// RFC 9220 §5.
    pub const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
}

/// Whether a SETTINGS frame is one: pairs, none twice, none of HTTP/2's (§7.2.4.1). What it says concerns no server without a dynamic
/// table and without pushes.
pub fn check_settings(payload: &[u8]) -> Result<(), H3Code> {
    let mut rest = payload;
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (name, length) = varint(rest).ok_or(H3Code::FrameError)?;
        let (_, more) = varint(&rest[length..]).ok_or(H3Code::FrameError)?;
        rest = &rest[length + more..];
        if matches!(name, 0x00 | 0x02..=0x05) || seen.contains(&name) {
            return Err(H3Code::SettingsError);
        }
        seen.push(name);
    }
    Ok(())
}

/// The longest head of a frame: two integers.
const HEAD_BYTES_MAX: usize = 16;

/// Follows the frames of one stream.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    /// Of the frame that has begun.
    left: u64,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// A frame begins; its head took so many bytes.
    Begin { kind: FrameKind, length: u64, taken: usize },
    /// So many bytes are of the frame that began last.
    Payload(usize),
    /// All bytes are the beginning of a frame's head.
    Partial,
}

impl Frames {
    /// `bytes` is not empty.
    pub fn next(&mut self, bytes: &[u8]) -> Piece {
        if self.left > 0 {
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= length as u64;
            return Piece::Payload(length);
        }
        let known = usize::from(self.head_len);
        let more = bytes.len().min(HEAD_BYTES_MAX - known);
        self.head[known..known + more].copy_from_slice(&bytes[..more]);
        let head = &self.head[..known + more];
        let whole = varint(head).and_then(|(kind, at)| {
            let (length, more) = varint(&head[at..])?;
            Some((kind, length, at + more))
        });
        match whole {
            Some((kind, length, end)) => {
                self.head_len = 0;
                self.left = length;
                Piece::Begin { kind: FrameKind::of(kind), length, taken: end - known }
            }
            None => {
                self.head_len += more as u8;
                Piece::Partial
            }
        }
    }

    /// A stream may end here.
    pub fn is_between(&self) -> bool {
        self.left == 0 && self.head_len == 0
    }

    /// Bytes of the frame that began last which are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }
}

/// Reads what a client says on its QPACK streams, where it has nothing to say: our table has no room, and we use none of its.
#[derive(Debug, Default)]
pub struct QpackStream {
    in_integer: bool,
    /// How far the next bits of the integer are shifted.
    shift: u32,
}

impl QpackStream {
    /// Instructions of its encoder (RFC 9204 §4.3): it may set the capacity that it has anyway.
    pub fn encoder(&mut self, bytes: &[u8]) -> Result<(), H3Code> {
        let is_zero = bytes.iter().all(|&byte| byte == 0x20);
        if is_zero { Ok(()) } else { Err(H3Code::EncoderStreamError) }
    }

    /// Instructions of its decoder (§4.4): it may cancel streams.
    pub fn decoder(&mut self, bytes: &[u8]) -> Result<(), H3Code> {
        for &byte in bytes {
            if self.in_integer {
                self.shift += 7;
                self.in_integer = byte & 0x80 != 0;
                if self.shift > 63 {
                    return Err(H3Code::DecoderStreamError);
                }
            } else if byte & 0xc0 == 0x40 {
                self.in_integer = byte & 0x3f == 0x3f;
                self.shift = 0;
            } else {
                return Err(H3Code::DecoderStreamError);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_those_of_the_rfc() {
        // RFC 9000 Appendix A.1.
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(varint(bytes), Some((value, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
        }
        assert_eq!(varint(&[0x40, 0x25]), Some((37, 2)));
    }

    /// Types, lengths, and what is in them.
    fn follow(pieces: &[&[u8]]) -> (Vec<(FrameKind, u64)>, usize, bool) {
        let mut frames = Frames::default();
        let (mut seen, mut payload) = (Vec::new(), 0);
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                match frames.next(rest) {
                    Piece::Begin { kind, length, taken } => {
                        seen.push((kind, length));
                        rest = &rest[taken..];
                    }
                    Piece::Payload(count) => {
                        payload += count;
                        rest = &rest[count..];
                    }
                    Piece::Partial => rest = &[],
                }
            }
        }
        (seen, payload, frames.is_between())
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = Vec::new();
        headers_frame(&mut bytes, &[7; 100]);
        data_head(&mut bytes, 3);
        bytes.extend_from_slice(b"abc");
        data_head(&mut bytes, 0);
        goaway_frame(&mut bytes, 1 << 40);
        bytes.extend_from_slice(&[0x40, 0x21, 0x01, b'x', 0x02, 0x00]);
        let wanted = vec![
            (FrameKind::Headers, 100),
            (FrameKind::Data, 3),
            (FrameKind::Data, 0),
            (FrameKind::Goaway, 8),
            (FrameKind::Unknown, 1),
            (FrameKind::Reserved, 0),
        ];
        for step in 1..=bytes.len() {
            let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
            assert_eq!(follow(&pieces), (wanted.clone(), 112, true), "pieces of {step}");
        }
        assert!(!follow(&[&bytes[..50]]).2 && !follow(&[&bytes[..1]]).2);
    }

    #[test]
    fn settings_are_pairs_of_which_none_comes_twice() {
        for (payload, verdict) in [
            (&[][..], Ok(())),
            (&[0x06, 0x10, 0x01, 0x00, 0x21, 0x05], Ok(())),
            (&[0x06, 0x10, 0x06, 0x10], Err(H3Code::SettingsError)),
            (&[0x02, 0x01], Err(H3Code::SettingsError)),
            (&[0x06], Err(H3Code::FrameError)),
            (&[0x06, 0x40], Err(H3Code::FrameError)),
        ] {
            assert_eq!(check_settings(payload), verdict, "{payload:x?}");
        }
        let mut ours = Vec::new();
        control_preface(&mut ours, 65_536);
        assert_eq!(ours[..2], [0x00, 0x04]);
        assert_eq!(check_settings(&ours[3..]), Ok(()));
    }

    #[test]
    fn a_decoder_may_cancel_streams_and_an_encoder_may_do_nothing() {
        let mut stream = QpackStream::default();
        assert_eq!(stream.decoder(&[0x44, 0x7f, 0x81]), Ok(()));
        assert_eq!(stream.decoder(&[0x01, 0x40]), Ok(()));
        assert_eq!(stream.decoder(&[0x80]), Err(H3Code::DecoderStreamError));
        assert_eq!(QpackStream::default().decoder(&[0x01]), Err(H3Code::DecoderStreamError));
        assert_eq!(QpackStream::default().encoder(&[0x20]), Ok(()));
        assert_eq!(QpackStream::default().encoder(&[0x21]), Err(H3Code::EncoderStreamError));
    }

    proptest! {
        #[test]
        fn every_byte_is_taken_once(bytes in prop::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
            let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
            prop_assert_eq!(follow(&pieces), follow(&[&bytes]));
        }
    }
}
