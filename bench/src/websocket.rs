//! Just enough WebSocket (RFC 6455) to see whether an upgraded connection still carries bytes both ways:
//! one small text frame there and back. No fragments, no control frames, no long lengths.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::http::head_end;
use crate::sys;

/// The key and its answer from RFC 6455, section 1.3: a fixed pair needs no SHA-1 here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const WAIT: Duration = Duration::from_secs(5);

/// The bytes used and the frame to send back (unmasked, as servers must), once a client's frame is whole.
pub fn unmask(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let length = (bytes.get(1)? & !MASKED) as usize;
    let frame = bytes.get(..6 + length)?;
    let mut echo = vec![frame[0], length as u8];
    echo.extend(frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Some((frame.len(), echo))
}

pub struct WebSocket(TcpStream);

impl WebSocket {
    pub fn open(port: u16) -> io::Result<WebSocket> {
        let mut stream = sys::connect_from(Ipv4Addr::LOCALHOST, sys::loopback(port))?;
        stream.set_read_timeout(Some(WAIT))?;
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: bench.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while head_end(&answer).is_none() {
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(format!("no upgrade: {:?}", String::from_utf8_lossy(&answer))));
        }
        Ok(WebSocket(stream))
    }

    /// Sends a short text and expects it back.
    pub fn echo(&mut self, text: &str) -> io::Result<()> {
        let mut frame = vec![TEXT, MASKED | text.len() as u8];
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame)?;
        let mut back = vec![0; 2 + text.len()];
        self.0.read_exact(&mut back)?;
        if back[0] != TEXT || &back[2..] != text.as_bytes() {
            return Err(io::Error::other("the echo differs"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_comes_back_unmasked() {
        // RFC 6455, section 5.7: a masked "Hello".
        let frame = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(unmask(&frame), Some((11, b"\x81\x05Hello".to_vec())));
        assert_eq!(unmask(&frame[..10]), None);
    }
}
