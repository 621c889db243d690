//! Redis' protocol (RESP, version 2): commands written, replies read, and which slot of a cluster a key is in. Knows no command.

use crate::emit::decimal;

/// A reply as a whole. The list of a cluster of a thousand servers has 200 KiB.
const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// Lists in lists: what is asked for has 4.
const DEPTH_MAX: usize = 8;
/// A line that says a number or what is wrong.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Integer(i64),
    Text(Vec<u8>),
    Error(String),
    Nothing,
    List(Vec<Reply>),
}

/// It is not the protocol, or more than anybody asked for: the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RespError;

impl Reply {
    /// The first reply in `bytes`, and how many of them it has; `None` where more are needed.
    pub fn read(bytes: &[u8]) -> Result<Option<(Reply, usize)>, RespError> {
        let mut reader = Reader { bytes, at: 0 };
        match reader.reply(0) {
            Ok(reply) => Ok(Some((reply, reader.at))),
            Err(Stop::Partial) if bytes.len() < REPLY_BYTES_MAX => Ok(None),
            Err(Stop::Partial | Stop::Wrong) => Err(RespError),
        }
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            Reply::Text(_) | Reply::Error(_) | Reply::Nothing | Reply::List(_) => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Text(text) => std::str::from_utf8(text).ok(),
            Reply::Integer(_) | Reply::Error(_) | Reply::Nothing | Reply::List(_) => None,
        }
    }

    pub fn list(&self) -> Option<&[Reply]> {
        match self {
            Reply::List(list) => Some(list),
            Reply::Integer(_) | Reply::Text(_) | Reply::Error(_) | Reply::Nothing => None,
        }
    }
}

enum Stop {
    Partial,
    Wrong,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn reply(&mut self, depth: usize) -> Result<Reply, Stop> {
        let kind = *self.bytes.get(self.at).ok_or(Stop::Partial)?;
        self.at += 1;
        let line = self.line()?;
        match kind {
            b'+' => Ok(Reply::Text(line.to_vec())),
            b'-' => Ok(Reply::Error(String::from_utf8_lossy(line).into_owned())),
            b':' => number(line).map(Reply::Integer),
            b'$' => match number(line)? {
                -1 => Ok(Reply::Nothing),
                length => self.text(usize::try_from(length).map_err(|_| Stop::Wrong)?),
            },
            b'*' => match number(line)? {
                -1 => Ok(Reply::Nothing),
                length => self.list(usize::try_from(length).map_err(|_| Stop::Wrong)?, depth),
            },
            _ => Err(Stop::Wrong),
        }
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(LINE_BYTES_MAX)]) else {
            return Err(if rest.len() >= LINE_BYTES_MAX { Stop::Wrong } else { Stop::Partial });
        };
        self.at += end + 1;
        rest[..end].strip_suffix(b"\r").ok_or(Stop::Wrong)
    }

    fn text(&mut self, length: usize) -> Result<Reply, Stop> {
        if length > REPLY_BYTES_MAX {
            return Err(Stop::Wrong);
        }
        let end = self.at + length;
        let text = self.bytes.get(self.at..end).ok_or(Stop::Partial)?;
        match self.bytes.get(end..end + 2) {
            Some(b"\r\n") => {
                self.at = end + 2;
                Ok(Reply::Text(text.to_vec()))
            }
            Some(_) => Err(Stop::Wrong),
            None => Err(Stop::Partial),
        }
    }

    /// Room is made as elements come, and not for as many as are announced.
    fn list(&mut self, length: usize, depth: usize) -> Result<Reply, Stop> {
        if depth >= DEPTH_MAX || length > REPLY_BYTES_MAX {
            return Err(Stop::Wrong);
        }
        let mut list = Vec::with_capacity(length.min(4));
        for _ in 0..length {
            list.push(self.reply(depth + 1)?);
        }
        Ok(Reply::List(list))
    }
}

fn number(line: &[u8]) -> Result<i64, Stop> {
    let text = std::str::from_utf8(line).map_err(|_| Stop::Wrong)?;
    // `+1` is a number to Rust, and none to the protocol.
    if text.starts_with('+') {
        return Err(Stop::Wrong);
    }
    text.parse().map_err(|_| Stop::Wrong)
}

/// Appends a command.
pub fn resp_command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    resp_list(out, parts.len());
    parts.iter().for_each(|part| resp_part(out, part));
}

/// Begins a command of so many parts.
pub fn resp_list(out: &mut Vec<u8>, parts: usize) {
    out.push(b'*');
    decimal(out, parts as u64);
    out.extend_from_slice(b"\r\n");
}

/// The next part of a command.
pub fn resp_part(out: &mut Vec<u8>, part: &[u8]) {
    out.push(b'$');
    decimal(out, part.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

/// In which slot a key is: of what stands between its first braces, if anything does, else of all of it.
pub fn resp_slot(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        memchr::memchr(b'}', rest).filter(|close| *close > 0).map(|close| &rest[..close])
    });
    let crc = tag.unwrap_or(key).iter().fold(0, |crc: u16, byte| (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)]);
    crc % SLOTS
}

/// CRC-16/XMODEM, by byte.
static CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Text(text.into())
    }

    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        let list = Reply::List(vec![Reply::Integer(1), Reply::Integer(-2), text("a\r\nb"), Reply::Nothing]);
        for (bytes, reply) in [
            (":12\r\n", Reply::Integer(12)),
            ("+OK\r\n", text("OK")),
            ("$0\r\n\r\n", text("")),
            ("$-1\r\n", Reply::Nothing),
            ("*-1\r\n", Reply::Nothing),
            ("*0\r\n", Reply::List(Vec::new())),
            ("-NOSCRIPT No matching script.\r\n", Reply::Error("NOSCRIPT No matching script.".into())),
            ("*4\r\n:1\r\n:-2\r\n$4\r\na\r\nb\r\n$-1\r\n", list),
        ] {
            let both = format!("{bytes}:7\r\n");
            assert_eq!(Reply::read(both.as_bytes()), Ok(Some((reply, bytes.len()))), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert_eq!(Reply::read(&bytes.as_bytes()[..cut]), Ok(None), "{bytes:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let deep = "*1\r\n".repeat(DEPTH_MAX + 1);
        let long = format!("+{}", "x".repeat(LINE_BYTES_MAX));
        for bytes in [
            "HTTP/1.1 400 Bad Request\r\n",
            ":+1\r\n",
            ":1\n",
            ":\r\n",
            "$-2\r\n",
            "$2\r\nabc\r\n",
            "$99999999999\r\n",
            "*99999999999\r\n",
            "*-2\r\n",
            "$9223372036854775807\r\n",
            &deep,
            &long,
        ] {
            assert_eq!(Reply::read(bytes.as_bytes()), Err(RespError), "{bytes:?}");
        }
    }

    #[test]
    fn commands_are_lists_of_texts() {
        let mut out = Vec::new();
        resp_command(&mut out, &[b"GET", b"a b"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
    }

    /// Of the specification of Redis' cluster, and of what CLUSTER KEYSLOT says.
    #[test]
    fn a_key_is_in_its_slot() {
        for (key, slot) in [("123456789", 0x31c3), ("foo", 12182), ("{foo}bar", 12182), ("x{foo}{bar}", 12182), ("", 0)] {
            assert_eq!(resp_slot(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(resp_slot(b"foo{}"), resp_slot(b"foo{}"));
        assert_ne!(resp_slot(b"foo{}{bar}"), resp_slot(b"bar"), "an empty tag is none");
    }
}
