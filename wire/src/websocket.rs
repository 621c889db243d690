//! WebSocket (RFC 6455): its key, its frames, and where they end. `Tracker` follows what two others say to each other, without copying
//! it; `messages.rs` reads what is said to us. Knows no extension: a compressed message is refused by whoever would have to read it.

mod header;
mod messages;

pub use header::Opcode;
pub use messages::{Incoming, MessageLimits, MessageReader, Side, Violation};

use crate::base64;
use header::{CONTROL_BYTES_MAX, FIN, HeaderReader, MASK};
use sha1_smol::Sha1;

/// What the key is hashed with (§1.3).
const GUID: &[u8; 36] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether these bytes can be a Sec-WebSocket-Key: 16 bytes in base64 (§4.1). Like most servers it does not look at the four bits
/// that are left over at the end.
pub fn is_websocket_key(key: &[u8]) -> bool {
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(|digit| base64::DIGITS.contains(digit)))
}

/// A Sec-WebSocket-Key of these random bytes (§4.1).
pub fn make_key(random: [u8; 16]) -> [u8; 24] {
    let mut key = [b'='; 24];
    base64::fill(&random, &mut key);
    key
}

/// The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (§4.2.2).
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let mut accept = [b'='; 28];
    base64::fill(&hash.digest().bytes(), &mut accept);
    accept
}

/// Follows one direction of a WebSocket connection behind its handshake, however its bytes are cut. Its cost is that of the frames.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    header: HeaderReader,
    /// Bytes of the frame's payload that are still to come.
    payload: u64,
    /// A message has begun and its last frame is not yet seen.
    in_message: bool,
    in_close: bool,
    closed: bool,
    broken: bool,
}

impl Tracker {
    /// Whether the last byte was a frame's last one, or none has come yet: here a control frame may be inserted. Never again once a close
    /// frame was seen, behind which nothing may follow, or when the frames are broken.
    pub fn at_boundary(&self) -> bool {
        self.header.is_empty() && self.payload == 0 && !self.closed && !self.broken
    }

    /// A close frame was seen whole.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// These are no frames of RFC 6455, or bytes came behind a close frame: where one ends can't be known any more.
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// Follows the next bytes of the direction.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.broken {
            if self.closed {
                self.broken = true;
            } else if self.payload > 0 {
                let passed = self.payload.min(bytes.len() as u64);
                self.payload -= passed;
                bytes = &bytes[passed as usize..];
                self.end_frame();
            } else {
                bytes = self.feed_header(bytes);
            }
        }
    }

    /// Takes what belongs to a frame's header; gives what is left.
    fn feed_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (later, header) = self.header.take(bytes);
        let Some(header) = header else { return later };
        match header.map(|header| (header, header.opcode(self.in_message))) {
            Some((header, Some(opcode))) => {
                if !opcode.is_control() {
                    self.in_message = !header.is_last();
                }
                self.in_close = opcode == Opcode::Close;
                self.payload = header.length;
                self.end_frame();
            }
            Some((_, None)) | None => self.broken = true,
        }
        later
    }

    fn end_frame(&mut self) {
        if self.payload == 0 {
            self.closed |= self.in_close;
            self.in_close = false;
        }
    }
}

/// Appends one whole frame. `mask`: what a client must mask with, chosen by chance; `None` for a server, which must not. The payload of a
/// control frame is 125 bytes at most.
pub fn websocket_frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    debug_assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX);
    let is_masked = if mask.is_some() { MASK } else { 0 };
    out.reserve(header::HEADER_BYTES_MAX + payload.len());
    out.push(FIN | opcode as u8);
    match payload.len() {
        length @ ..=125 => out.push(is_masked | length as u8),
        length @ ..=0xffff => {
            out.push(is_masked | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(is_masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| &mask[..]));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

/// Masks, or takes a mask off (§5.3). Gives the mask for the bytes that follow these.
fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4]) -> [u8; 4] {
    let (groups, rest) = bytes.as_chunks_mut::<4>();
    for group in groups {
        *group = (u32::from_ne_bytes(*group) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    rest.iter_mut().zip(mask).for_each(|(byte, key)| *byte ^= key);
    mask.rotate_left(rest.len());
    mask
}

/// Appends a close frame (§5.5.1). `code` is one that may be sent (§7.4): not 1005, 1006 or 1015. `reason` is cut to what a control frame
/// holds. `mask` as that of any frame.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    debug_assert!((1000..5000).contains(&code) && !matches!(code, 1004 | 1005 | 1006 | 1015));
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    websocket_frame(Opcode::Close, &payload[..2 + end], mask, out);
}

#[cfg(test)]
mod tests {
    use super::header::RSV1;
    use super::*;

    const CONTINUATION: u8 = Opcode::Continuation as u8;
    const TEXT: u8 = Opcode::Text as u8;
    const BINARY: u8 = Opcode::Binary as u8;
    const CLOSE: u8 = Opcode::Close as u8;
    const PING: u8 = Opcode::Ping as u8;
    const PONG: u8 = Opcode::Pong as u8;

    #[test]
    fn a_key_that_is_made_is_one() {
        assert_eq!(&make_key(*b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==", "the example of §1.3");
        assert!(is_websocket_key(&make_key([0xff; 16])));
    }
    use proptest::prelude::*;

    #[test]
    fn keys() {
        // RFC 6455 §1.3, and another that is well known.
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&accept_key(b"x3JJHMbDL1EzLkh9GBhXDw=="), b"HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
        for (key, wanted) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AQIDBAUGBwgJCgsMDQ4PEC==", true),
            ("+/+/+/+/+/+/+/+/+/+/+A==", true),
            ("", false),
            ("==", false),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("dGhlIHNhbXBsZSBub25jZQQ=", false),
            ("dGhlIHNhbXBsZSBub25jZQQQ", false),
            ("dGhlIHNhbXBsZSBub25jZQ== ", false),
            ("dGhlIHNhbXBsZSBub25jZ===", false),
            ("dGhlIHNhbXBsZSBub25j-_==", false),
            ("dGhlIHNhbXBsZSBub25jZQQQQQ==", false),
        ] {
            assert_eq!(is_websocket_key(key.as_bytes()), wanted, "{key:?}");
        }
    }

    /// A frame with the shortest length; a payload of 0xff, so that one read for a header is noticed.
    fn frame(start: u8, is_masked: bool, payload: usize) -> Vec<u8> {
        let mask = if is_masked { MASK } else { 0 };
        let mut frame = vec![start];
        match payload {
            0..=125 => frame.push(mask | payload as u8),
            126..=0xffff => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + if is_masked { 4 } else { 0 } + payload, 0xff);
        frame
    }

    /// Boundary, closed, broken.
    fn state(tracker: &Tracker) -> (bool, bool, bool) {
        (tracker.at_boundary(), tracker.closed(), tracker.broken())
    }

    fn fed(bytes: &[u8]) -> Tracker {
        let mut tracker = Tracker::default();
        tracker.feed(bytes);
        tracker
    }

    #[test]
    fn a_boundary_is_where_a_frame_ends_and_nowhere_else() {
        assert_eq!(state(&Tracker::default()), (true, false, false));
        for payload in [0, 1, 125, 126, 0xffff, 0x10000] {
            for is_masked in [false, true] {
                let frame = frame(FIN | BINARY, is_masked, payload);
                let mut tracker = Tracker::default();
                for (at, &byte) in frame.iter().enumerate() {
                    assert_eq!(tracker.at_boundary(), at == 0, "{payload} bytes, masked: {is_masked}, before byte {at}");
                    tracker.feed(&[byte]);
                }
                assert_eq!(state(&tracker), (true, false, false), "{payload} bytes, masked: {is_masked}");
                assert_eq!(state(&fed(&[&frame[..], &frame].concat())), (true, false, false));
            }
        }
    }

    #[test]
    fn a_close_frame_counts_when_it_is_whole_and_nothing_follows_it() {
        let close = frame(FIN | CLOSE, true, 2);
        assert_eq!(state(&fed(&close[..close.len() - 1])), (false, false, false));
        assert_eq!(state(&fed(&close)), (false, true, false));
        assert_eq!(state(&fed(&frame(FIN | CLOSE, false, 0))), (false, true, false));
        assert_eq!(state(&fed(&[&close[..], b"x"].concat())), (false, true, true));
        // Between the frames of a message control frames are welcome.
        let frames = [frame(TEXT, true, 3), frame(FIN | PING, true, 4), close].concat();
        assert_eq!(state(&fed(&frames)), (false, true, false));
    }

    #[test]
    fn messages_in_several_frames() {
        let frames = [
            frame(RSV1 | TEXT, false, 3),
            frame(CONTINUATION, false, 0),
            frame(FIN | PONG, false, 0),
            frame(FIN | CONTINUATION, false, 300),
            frame(FIN | BINARY, false, 1),
        ];
        assert_eq!(state(&fed(&frames.concat())), (true, false, false));
    }

    #[test]
    fn nonsense_is_broken_for_ever() {
        for (why, bytes) in [
            ("an unknown opcode", frame(FIN | 3, true, 0)),
            ("an unknown control opcode", frame(FIN | 0xb, true, 0)),
            ("RSV2", frame(FIN | 0x20 | TEXT, true, 0)),
            ("RSV3", frame(FIN | 0x10 | TEXT, true, 0)),
            ("RSV1 in a control frame", frame(FIN | RSV1 | PING, true, 0)),
            ("RSV1 in a continuation", [frame(TEXT, true, 0), frame(FIN | RSV1, true, 0)].concat()),
            ("a control frame in pieces", frame(PING, true, 0)),
            ("a long control frame", frame(FIN | PING, true, 126)),
            ("a close frame with half a code", frame(FIN | CLOSE, true, 1)),
            ("a continuation of nothing", frame(FIN | CONTINUATION, true, 0)),
            ("a message within a message", [frame(TEXT, true, 0), frame(FIN | TEXT, true, 0)].concat()),
            ("16 bits for 125", vec![FIN | TEXT, 126, 0, 125]),
            ("64 bits for 65535", vec![FIN | TEXT, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            ("more than 63 bits", vec![FIN | TEXT, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ] {
            let mut tracker = fed(&bytes);
            assert_eq!(state(&tracker), (false, false, true), "{why}");
            tracker.feed(&frame(FIN | TEXT, true, 0));
            tracker.feed(&frame(FIN | CLOSE, true, 0));
            assert_eq!(state(&tracker), (false, false, true), "{why}, later");
        }
        let longest = [&[FIN | TEXT, 127, 0x7f][..], &[0xff; 7]].concat();
        assert_eq!(state(&fed(&longest)), (false, false, false));
    }

    #[test]
    fn close_frames() {
        for (code, reason, mask, wanted) in [
            (1000, "", None, &b"\x88\x02\x03\xe8"[..]),
            (1001, "bye", None, b"\x88\x05\x03\xe9bye"),
            (1001, "bye", Some([1, 2, 3, 4]), b"\x88\x85\x01\x02\x03\x04\x02\xeba}d"),
        ] {
            let mut out = b"kept".to_vec();
            close_frame(code, reason, mask, &mut out);
            assert_eq!(&out[4..], wanted, "{}", out.escape_ascii());
        }
        let mut out = Vec::new();
        close_frame(1001, &"é".repeat(100), None, &mut out);
        assert_eq!((out[1], out.len()), (2 + 122, 2 + 2 + 122), "no character is cut in two");
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(FIN | TEXT), Just(TEXT), Just(FIN), Just(2), Just(0)], 0..40),
            piece in 1usize..10,
        ) {
            let mut tracker = Tracker::default();
            bytes.chunks(piece).for_each(|bytes| tracker.feed(bytes));
            prop_assert_eq!(state(&tracker), state(&fed(&bytes)));
        }

        #[test]
        fn a_close_frame_closes(code in 3000u16..5000, reason in any::<String>(), mask in any::<Option<[u8; 4]>>()) {
            let mut out = frame(FIN | BINARY, true, 200);
            close_frame(code, &reason, mask, &mut out);
            prop_assert_eq!(state(&fed(&out)), (false, true, false));
        }
    }
}
