//! Frames of WebSockets (RFC 6455, section 5), and the answer to a handshake's key: for back ends and clients of tests.

/// One frame, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsFrame {
    pub opcode: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A whole frame; what a client sends is masked.
pub fn ws_frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![0x80 | opcode];
    let bit = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => out.push(bit | length as u8),
        length @ 126..65_536 => {
            out.push(bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend_from_slice(&MASK);
    }
    out.extend(payload.iter().enumerate().map(|(at, byte)| if masked { byte ^ MASK[at % 4] } else { *byte }));
    out
}

/// The frame at the start of `bytes`, unmasked, and its length; `None` while it is not whole.
pub fn ws_decode(bytes: &[u8]) -> Option<(WsFrame, usize)> {
    let (opcode, short) = (bytes.first()? & 0x0f, bytes.get(1)? & 0x7f);
    let masked = bytes[1] & 0x80 != 0;
    let (mut at, length) = match short {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let mask: [u8; 4] = if masked { bytes.get(at..at + 4)?.try_into().ok()? } else { [0; 4] };
    at += if masked { 4 } else { 0 };
    let end = at + usize::try_from(length).ok()?;
    let payload = bytes.get(at..end)?.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
    Some((WsFrame { opcode, masked, payload }, end))
}

/// The payload of a close frame.
pub fn ws_close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// Sec-WebSocket-Accept for a key (section 4.2.2), whatever the key is.
pub fn ws_accept(key: &str) -> String {
    base64(&sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()))
}

/// Whether a key is what section 4.1 asks for: sixteen bytes in base64.
pub fn ws_key_is_valid(key: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.len() == 24 && key.ends_with("==") && key[..22].bytes().all(alphabet)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let all = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for at in 0..4 {
            let symbol = ALPHABET[(all >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    out
}

/// RFC 3174. Long broken for whatever must be secret; here it only answers a handshake.
fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut input = bytes.to_vec();
    input.push(0x80);
    while input.len() % 64 != 56 {
        input.push(0);
    }
    input.extend_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in input.chunks(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (f, k) = match at {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    for (bytes, word) in out.chunks_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        assert!(ws_key_is_valid("dGhlIHNhbXBsZSBub25jZQ==") && !ws_key_is_valid("dGhlIHNhbXBsZSBub25jZQ="));
        assert_eq!(ws_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        // Section 5.7.
        assert_eq!(ws_frame(TEXT, b"Hello", true), [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        for length in [0, 125, 126, 65_535, 65_536] {
            for masked in [true, false] {
                let payload = vec![7; length];
                let bytes = ws_frame(BINARY, &payload, masked);
                assert!(ws_decode(&bytes[..bytes.len() - 1]).is_none());
                assert_eq!(ws_decode(&bytes), Some((WsFrame { opcode: BINARY, masked, payload }, bytes.len())));
            }
        }
    }
}
