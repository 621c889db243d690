//! The start of a frame (RFC 6455 §5.2), however its bytes are cut. Refuses what is written in more bytes than it needs, what belongs to
//! an extension that nobody knows, and what may not stand there.

pub(super) const FIN: u8 = 0x80;
/// The bit of permessage-deflate (RFC 7692 §6); the other two belong to nobody.
pub(super) const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
pub(super) const MASK: u8 = 0x80;

/// Payload of a control frame (§5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// Start, extended length, mask.
pub(super) const HEADER_BYTES_MAX: usize = 2 + 8 + 4;

/// What a frame is (§11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    pub fn is_control(self) -> bool {
        match self {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => false,
            Opcode::Close | Opcode::Ping | Opcode::Pong => true,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    start: u8,
    /// bytes of payload
    pub length: u64,
    pub mask: Option<[u8; 4]>,
}

impl Header {
    pub fn is_last(&self) -> bool {
        self.start & FIN != 0
    }

    pub fn is_compressed(&self) -> bool {
        self.start & RSV1 != 0
    }

    /// `None`: there is no such frame, or it may not stand there. `in_message`: one has begun, and its last frame was not yet seen.
    pub fn opcode(&self, in_message: bool) -> Option<Opcode> {
        let opcode = match self.start & 0x0f {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        };
        if self.start & RSV2_AND_3 != 0 || self.is_compressed() && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return None;
        }
        let is_sound = if opcode.is_control() {
            // A close frame has a code of two bytes, or nothing (§5.5.1).
            self.is_last() && self.length <= CONTROL_BYTES_MAX as u64 && !(opcode == Opcode::Close && self.length == 1)
        } else {
            // §5.4: a message goes on where one has begun, and only there.
            (opcode == Opcode::Continuation) == in_message
        };
        is_sound.then_some(opcode)
    }
}

/// Gathers the bytes of one header after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct HeaderReader {
    bytes: [u8; HEADER_BYTES_MAX],
    filled: usize,
}

impl HeaderReader {
    /// Nothing of the next header has come.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes what belongs to the header. Gives the bytes behind that; and the header once it is whole, or that it is nonsense.
    pub fn take<'a>(&mut self, mut bytes: &'a [u8]) -> (&'a [u8], Option<Option<Header>>) {
        loop {
            let wanted = self.wanted();
            let (now, later) = bytes.split_at((wanted - self.filled).min(bytes.len()));
            self.bytes[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled < wanted {
                return (bytes, None);
            }
            // The first two bytes say how many there are.
            if wanted == self.wanted() {
                self.filled = 0;
                return (bytes, Some(self.header(wanted)));
            }
        }
    }

    /// How long the header is, as far as can be told.
    fn wanted(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let length = match self.bytes[1] & !MASK {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.bytes[1] & MASK != 0 { 4 } else { 0 }
    }

    fn header(&self, whole: usize) -> Option<Header> {
        let [start, length, extended @ ..] = self.bytes;
        let [a, b, c, d, e, f, g, h, ..] = extended;
        let is_masked = length & MASK != 0;
        // The fewest bytes that can tell it, and no highest bit.
        let length = match length & !MASK {
            126 => Some(u64::from(u16::from_be_bytes([a, b]))).filter(|&length| length > 125)?,
            127 => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])).filter(|&length| length > 0xffff && length >> 63 == 0)?,
            length => u64::from(length),
        };
        let mask = self.bytes[..whole].last_chunk::<4>().copied().filter(|_| is_masked);
        Some(Header { start, length, mask })
    }
}
