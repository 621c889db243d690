//! HTTP/2 (RFC 9113) as bytes: frames, header blocks made beforehand, and a client's side of a connection that only counts.
//! Pure: no clock, no socket. Reads of a response what the measurements ask for, status 200 and the length of the body; whatever
//! else is an error, never a guess. Frames are built here for attackers too, so nothing stops a caller from breaking the rules.

use crate::http::Request;
use crate::tls::HOST;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const FRAME_HEAD: usize = 9;
/// What nobody may exceed without having been asked to (RFC 9113, 6.5.2).
pub const FRAME_BYTES_MAX: usize = 16 * 1024;
/// The window that every stream and every connection begins with, unless settings say otherwise.
pub const WINDOW_BEGINS: u32 = 65_535;
pub const WINDOW_MAX: u32 = i32::MAX as u32;

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

pub mod setting {
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// Places in the static table (RFC 7541, appendix A).
pub mod field {
    pub const AUTHORITY: u8 = 1;
    pub const PATH: u8 = 4;
    pub const ACCEPT: u8 = 19;
    pub const CONTENT_LENGTH: u8 = 28;
    pub const CONTENT_TYPE: u8 = 31;
    pub const USER_AGENT: u8 = 58;
}

const METHOD_GET: u8 = 0x82;
const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const SCHEME_HTTPS: u8 = 0x87;
const STATUS_200: u8 = 0x88;
/// The other statuses of the static table, in its order.
const STATUSES: [u16; 6] = [204, 206, 304, 400, 404, 500];

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and priority.
    pub fn content(&self) -> Result<&'a [u8], String> {
        let (mut from, mut until) = (0, self.payload.len());
        if self.has(flag::PADDED) {
            from += 1;
            until = until.checked_sub(*self.payload.first().ok_or("no length of padding")? as usize).ok_or("only padding")?;
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            from += 5;
        }
        self.payload.get(from..until).ok_or("more padding than payload".into())
    }

    pub fn number(&self) -> Result<u32, String> {
        let bytes = self.payload.first_chunk().ok_or("a frame too short")?;
        Ok(u32::from_be_bytes(*bytes) & WINDOW_MAX)
    }

    /// Pairs of a setting and its value.
    pub fn settings(&self) -> impl Iterator<Item = (u16, u32)> + use<'a> {
        self.payload
            .chunks_exact(6)
            .map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]])))
    }
}

/// The first frame, if it is whole, and what follows it.
pub fn next(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, String> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD>() else { return Ok(None) };
    let [a, b, c, kind, flags, stream @ ..] = *head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(format!("a frame of {length} bytes"));
    }
    let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    Ok(Some((Frame { kind, flags, stream: u32::from_be_bytes(stream) & WINDOW_MAX, payload }, rest)))
}

pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend([length[1], length[2], length[3], kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

pub fn settings(out: &mut Vec<u8>, pairs: &[(u16, u32)]) {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    frame(out, kind::SETTINGS, 0, 0, &payload);
}

pub fn window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    frame(out, kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

/// Answers what every peer must answer: settings and pings.
pub fn acknowledge(out: &mut Vec<u8>, asked: &Frame) {
    if !asked.has(flag::ACK) {
        let payload = if asked.kind == kind::PING { asked.payload } else { &[] };
        frame(out, asked.kind, flag::ACK, 0, payload);
    }
}

/// The header block of a GET: indexed or literal without indexing, so the same bytes on every stream of every connection.
pub fn get(path: &str, secure: bool, answer: usize) -> Request {
    let mut block = vec![METHOD_GET, if secure { SCHEME_HTTPS } else { SCHEME_HTTP }];
    common(&mut block, path);
    Request { bytes: block, answer }
}

/// The header block of a POST in cleartext, whose body its sender frames.
pub fn post(path: &str, body: usize) -> Vec<u8> {
    let mut block = vec![METHOD_POST, SCHEME_HTTP];
    common(&mut block, path);
    literal(&mut block, field::CONTENT_TYPE, b"application/octet-stream");
    literal(&mut block, field::CONTENT_LENGTH, body.to_string().as_bytes());
    block
}

fn common(block: &mut Vec<u8>, path: &str) {
    literal(block, field::PATH, path.as_bytes());
    literal(block, field::AUTHORITY, HOST.as_bytes());
    literal(block, field::USER_AGENT, b"maitred-bench");
    literal(block, field::ACCEPT, b"*/*");
}

/// A field with a name from the static table, without indexing.
fn literal(block: &mut Vec<u8>, name: u8, value: &[u8]) {
    integer(block, 0x00, 4, name as usize);
    integer(block, 0x00, 7, value.len());
    block.extend(value);
}

/// An integer behind some bits of its first byte (RFC 7541, 5.1).
pub fn integer(block: &mut Vec<u8>, first: u8, bits: u8, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return block.push(first | value as u8);
    }
    block.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Whether a response's header block says 200, by its first field: `:status` comes first and has a place in the static table.
pub fn is_ok(mut block: &[u8]) -> Result<(), String> {
    // A server may say first that its table changes size.
    while let [first, rest @ ..] = block
        && first & 0xe0 == 0x20
    {
        let long = first & 0x1f == 0x1f;
        let more = if long { rest.iter().take_while(|&byte| byte & 0x80 != 0).count() + 1 } else { 0 };
        block = rest.get(more..).unwrap_or_default();
    }
    match *block {
        [STATUS_200, ..] => Ok(()),
        [first @ 0x89..=0x8e, ..] => Err(format!("answered {}", STATUSES[first as usize - 0x89])),
        // Literal, with the name of any of the statuses: three digits, plain or of five bits each.
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, 3, a, b, c, ..] => spelt([a, b, c]),
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, 0x82, 0x10, 0x01, ..] => Ok(()),
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, ..] => Err("answered another status than 200".into()),
        _ => Err("a response without status in front".into()),
    }
}

fn spelt(digits: [u8; 3]) -> Result<(), String> {
    if digits == *b"200" { Ok(()) } else { Err(format!("answered {}", String::from_utf8_lossy(&digits))) }
}

/// Room for an answer of any size here without waiting for updates, and for many on one connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;
/// A connection is left before it runs out of stream ids.
const STREAM_LAST: u32 = WINDOW_MAX - 1024;

/// One client connection on which several requests are under way.
pub struct Client {
    input: Vec<u8>,
    streams: Vec<Stream>,
    next: u32,
    /// Bytes of bodies that the peer has not been given back as window.
    owed: u32,
    /// A header block whose end is still to come.
    unfinished: bool,
    leaving: bool,
}

struct Stream {
    id: u32,
    slot: usize,
    answer: usize,
    body: usize,
    owed: u32,
    answered: bool,
}

/// The slot that was asked with, and whether its answer was the one expected.
pub type Done = (usize, Result<(), String>);

impl Client {
    pub fn new(out: &mut Vec<u8>) -> Client {
        out.extend(PREFACE);
        settings(out, &[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW)]);
        window_update(out, 0, CONNECTION_WINDOW - WINDOW_BEGINS);
        Client { input: Vec::new(), streams: Vec::new(), next: 1, owed: 0, unfinished: false, leaving: false }
    }

    /// Whether the connection takes no more requests: the peer wants to end it, or its ids are used up.
    pub fn leaving(&self) -> bool {
        self.leaving || self.next > STREAM_LAST
    }

    pub fn request(&mut self, slot: usize, request: &Request, out: &mut Vec<u8>) {
        frame(out, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, self.next, &request.bytes);
        self.streams.push(Stream { id: self.next, slot, answer: request.answer, body: 0, owed: 0, answered: false });
        self.next += 2;
    }

    /// Takes what arrived, and tells whose answers are whole. After an error nothing on this connection can be trusted.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<(), String> {
        let mut input = std::mem::take(&mut self.input);
        let mut rest = bytes;
        if !input.is_empty() {
            input.extend_from_slice(bytes);
            rest = &input;
        }
        while let Some((frame, after)) = next(rest)? {
            self.frame(frame, out, done)?;
            rest = after;
        }
        self.input.extend_from_slice(rest);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<(), String> {
        if self.unfinished != (frame.kind == kind::CONTINUATION) {
            return Err("a header block was interrupted".into());
        }
        match frame.kind {
            kind::DATA => self.data(frame, out, done),
            kind::HEADERS => self.headers(frame, done),
            kind::CONTINUATION => {
                self.unfinished = !frame.has(flag::END_HEADERS);
                Ok(())
            }
            kind::RST_STREAM => {
                let at = self.at(frame.stream)?;
                let why = format!("stream reset with error {}", frame.number()?);
                done.push((self.streams.swap_remove(at).slot, Err(why)));
                Ok(())
            }
            kind::SETTINGS | kind::PING => {
                acknowledge(out, &frame);
                Ok(())
            }
            kind::GOAWAY => self.goaway(frame, done),
            // Windows for what we send: requests without bodies need none.
            _ => Ok(()),
        }
    }

    fn at(&self, stream: u32) -> Result<usize, String> {
        self.streams.iter().position(|s| s.id == stream).ok_or_else(|| format!("a frame for stream {stream}, which is not open"))
    }

    fn headers(&mut self, frame: Frame, done: &mut Vec<Done>) -> Result<(), String> {
        let at = self.at(frame.stream)?;
        self.unfinished = !frame.has(flag::END_HEADERS);
        let stream = &mut self.streams[at];
        // A second block is trailers.
        let status = if stream.answered { Ok(()) } else { is_ok(frame.content()?) };
        stream.answered = true;
        match status {
            Ok(()) => self.ends(frame, at, done),
            // The rest of this stream would be frames of nobody: the connection goes with it.
            Err(why) => Err(why),
        }
    }

    fn data(&mut self, frame: Frame, out: &mut Vec<u8>, done: &mut Vec<Done>) -> Result<(), String> {
        let at = self.at(frame.stream)?;
        let (taken, length) = (frame.payload.len() as u32, frame.content()?.len());
        let stream = &mut self.streams[at];
        stream.body += length;
        stream.owed += taken;
        self.owed += taken;
        if !stream.answered || stream.body > stream.answer {
            return Err(format!("{} bytes of body instead of {}", stream.body, stream.answer));
        }
        if stream.owed >= STREAM_WINDOW / 2 && !frame.has(flag::END_STREAM) {
            window_update(out, frame.stream, std::mem::take(&mut stream.owed));
        }
        if self.owed >= CONNECTION_WINDOW / 2 {
            window_update(out, 0, std::mem::take(&mut self.owed));
        }
        self.ends(frame, at, done)
    }

    fn ends(&mut self, frame: Frame, at: usize, done: &mut Vec<Done>) -> Result<(), String> {
        if frame.has(flag::END_STREAM) {
            let Stream { slot, body, answer, .. } = self.streams.swap_remove(at);
            let whole = if body == answer { Ok(()) } else { Err(format!("{body} bytes of body instead of {answer}")) };
            done.push((slot, whole));
        }
        Ok(())
    }

    fn goaway(&mut self, frame: Frame, done: &mut Vec<Done>) -> Result<(), String> {
        let last = frame.number()?;
        match frame.payload.get(4..8) {
            Some([0, 0, 0, 0]) => self.leaving = true,
            code => return Err(format!("the connection was ended with error {code:?}")),
        }
        self.streams.retain(|stream| {
            if stream.id > last {
                done.push((stream.slot, Err("refused by GOAWAY".into())));
            }
            stream.id <= last
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that has asked for 1 KB with slots 0 and 1, on streams 1 and 3.
    fn asked() -> Client {
        let mut client = Client::new(&mut Vec::new());
        for slot in 0..2 {
            client.request(slot, &get("/1k", false, 1024), &mut Vec::new());
        }
        client
    }

    fn answer(stream: u32, block: &[u8], bodies: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::HEADERS, flag::END_HEADERS, stream, block);
        for (at, body) in bodies.iter().enumerate() {
            let end = if at + 1 == bodies.len() { flag::END_STREAM } else { 0 };
            frame(&mut bytes, kind::DATA, end, stream, &vec![b'x'; *body]);
        }
        bytes
    }

    fn fed(client: &mut Client, bytes: &[u8]) -> Result<Vec<Done>, String> {
        let mut done = Vec::new();
        client.feed(bytes, &mut Vec::new(), &mut done).map(|()| done)
    }

    #[test]
    fn answers_end_in_any_order_and_split_anywhere() {
        let bytes = [answer(3, &[0x88, 0x0f], &[1024]), answer(1, &[0x88], &[1000, 24])].concat();
        for at in 0..bytes.len() {
            let mut client = asked();
            let mut done = fed(&mut client, &bytes[..at]).unwrap();
            done.extend(fed(&mut client, &bytes[at..]).unwrap());
            assert_eq!(done, [(1, Ok(())), (0, Ok(()))], "at {at}");
        }
    }

    #[test]
    fn only_a_status_of_200_is_ok_however_it_is_written() {
        for block in [&[0x88][..], &[0x20, 0x88], &[0x3f, 0xe1, 0x1f, 0x88], b"\x08\x03200", &[0x48, 0x82, 0x10, 0x01]] {
            assert_eq!(is_ok(block), Ok(()), "{block:x?}");
        }
        for block in [&[0x8d][..], &[0x8e], b"\x08\x03503", &[0x48, 0x82, 0x64, 0x02], &[0x58, 0x88], &[0x3f, 0xff], &[]] {
            assert!(is_ok(block).is_err(), "{block:x?}");
        }
    }

    #[test]
    fn a_body_of_another_length_is_an_error() {
        assert!(fed(&mut asked(), &answer(1, &[0x88], &[1025])).is_err());
        let done = fed(&mut asked(), &answer(1, &[0x88], &[1023])).unwrap();
        assert!(matches!(&done[..], [(0, Err(_))]));
        assert!(fed(&mut asked(), &answer(5, &[0x88], &[1024])).is_err(), "nobody asked on stream 5");
    }

    #[test]
    fn padding_is_no_body_and_trailers_are_no_second_answer() {
        let mut bytes = answer(1, &[0x88], &[]);
        let padded = [&[7][..], &[b'x'; 1024], &[0; 7]].concat();
        frame(&mut bytes, kind::DATA, flag::PADDED, 1, &padded);
        frame(&mut bytes, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0x10]);
        assert_eq!(fed(&mut asked(), &bytes).unwrap(), [(0, Ok(()))]);
    }

    #[test]
    fn a_reset_fails_its_stream_and_a_goaway_those_beyond_it() {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]);
        assert!(matches!(&fed(&mut asked(), &bytes).unwrap()[..], [(0, Err(_))]));
        bytes.clear();
        frame(&mut bytes, kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        let mut client = asked();
        assert!(matches!(&fed(&mut client, &bytes).unwrap()[..], [(1, Err(_))]));
        assert!(client.leaving());
        bytes[FRAME_HEAD + 7] = 11;
        assert!(fed(&mut asked(), &bytes).is_err());
    }

    #[test]
    fn settings_and_pings_are_acknowledged_once() {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        settings(&mut bytes, &[(setting::MAX_CONCURRENT_STREAMS, 100)]);
        frame(&mut bytes, kind::PING, 0, 0, b"12345678");
        frame(&mut bytes, kind::PING, flag::ACK, 0, b"12345678");
        asked().feed(&bytes, &mut out, &mut Vec::new()).unwrap();
        let (first, rest) = next(&out).unwrap().unwrap();
        let (second, rest) = next(rest).unwrap().unwrap();
        assert_eq!((first.kind, first.flags, first.payload), (kind::SETTINGS, flag::ACK, &[][..]));
        assert_eq!((second.kind, second.payload, rest), (kind::PING, &b"12345678"[..], &[][..]));
    }

    #[test]
    fn integers_are_those_of_the_rfc() {
        // RFC 7541, C.1.
        for (bits, value, wanted) in [(5, 10, &[0x0a][..]), (5, 1337, &[0x1f, 0x9a, 0x0a]), (8, 42, &[0x2a])] {
            let mut block = Vec::new();
            integer(&mut block, 0, bits, value);
            assert_eq!(block, wanted);
        }
    }
}
