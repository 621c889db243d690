//! Reads the frames of an HTTP/2 connection (RFC 9113 §4 and §6), of either side: their shapes, which of them may follow which, header
//! blocks put together, bodies passed on as they come. Knows no streams and no windows, and decodes no fields. Keeps no more than one
//! header block.

use crate::h2::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, H2Code, H2Setting, flag, kind};

/// Nobody needs to cut a block into so many pieces; the largest that is taken fits into far fewer.
const CONTINUATIONS_MAX: u32 = 128;

/// A setting's identifier and value (§6.5.1).
const SETTING_BYTES: usize = 6;

/// A frame that came, or a piece of one.
#[derive(Debug, PartialEq, Eq)]
pub enum H2Frame<'a> {
    /// A piece of a DATA frame. `padding`: what the frame takes of the windows beside its bytes, told with the last piece. `end`: with
    /// these bytes the stream ends. Without bytes, and where nothing ends, the whole frame had none.
    Data {
        stream: u32,
        bytes: &'a [u8],
        padding: u32,
        end: bool,
    },
    /// A whole header section. `of_itself`: it asks to depend on itself (§5.3.1 of RFC 7540). `empties`: frames without a byte in it.
    Headers {
        stream: u32,
        block: &'a [u8],
        end: bool,
        of_itself: bool,
        empties: u32,
    },
    /// PRIORITY or PRIORITY_UPDATE; of no meaning to us.
    Priority {
        stream: u32,
        of_itself: bool,
    },
    Reset {
        stream: u32,
        code: H2Code,
    },
    /// To be read with `H2Settings`.
    Settings(H2Settings<'a>),
    SettingsAck,
    Ping {
        payload: [u8; 8],
        ack: bool,
    },
    GoAway {
        last: u32,
        code: H2Code,
    },
    /// `stream` 0 is the connection. `increment` may be 0, which is an error of what it is for.
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    /// Of a type that nobody knows; ignored, and told so that it can be counted.
    Unknown,
}

/// The payload of a SETTINGS frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H2Settings<'a>(&'a [u8]);

impl H2Settings<'_> {
    /// Every known setting in its order. An error is the connection's.
    pub fn iter(&self) -> impl Iterator<Item = Result<H2Setting, H2Code>> {
        self.0.as_chunks::<SETTING_BYTES>().0.iter().filter_map(|[a, b, value @ ..]| {
            H2Setting::read(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value)).transpose()
        })
    }
}

/// The frame header.
#[derive(Debug, Clone, Copy)]
struct Header {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Header {
    fn read(bytes: &[u8; FRAME_HEADER_BYTES]) -> Header {
        let [high, middle, low, kind, flags, stream @ ..] = *bytes;
        Header {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            // The highest bit is reserved, and ignored (§4.1).
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What of a payload is still to come.
#[derive(Debug, Clone, Copy)]
enum Rest {
    Nothing,
    /// DATA: bytes of the body, and of the padding behind them with the byte that said how long it is.
    Data {
        stream: u32,
        bytes: usize,
        padding: u32,
        end: bool,
    },
    /// Of no interest.
    Skip(usize),
}

/// A header block that is not whole yet.
#[derive(Debug, Clone, Copy)]
struct Block {
    stream: u32,
    end: bool,
    of_itself: bool,
    frames: u32,
    empties: u32,
}

/// Follows the bytes of one connection, behind the preface, in one direction.
#[derive(Debug)]
pub struct H2Reader {
    /// SETTINGS came, which must be first (§3.4).
    begun: bool,
    rest: Rest,
    open: Option<Block>,
    block: Vec<u8>,
    block_bytes_max: usize,
}

impl H2Reader {
    /// `block_bytes_max`: a header block that is larger as it comes, compressed, ends the connection.
    pub fn new(block_bytes_max: usize) -> H2Reader {
        H2Reader { begun: false, rest: Rest::Nothing, open: None, block: Vec::new(), block_bytes_max }
    }

    /// The most bytes that may have to be at hand at once for a frame to be read.
    pub const INPUT_BYTES_MAX: usize = FRAME_HEADER_BYTES + FRAME_BYTES_MAX;

    /// The next frame of `input`, and how many bytes of it are done with. No frame and no bytes: more must come. `Err` ends the
    /// connection with that code; the reader is of no use then.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<H2Frame<'a>>), H2Code> {
        match self.rest {
            Rest::Nothing => self.begin(input),
            Rest::Skip(left) => {
                let count = left.min(input.len());
                self.rest = if count == left { Rest::Nothing } else { Rest::Skip(left - count) };
                Ok((count, None))
            }
            Rest::Data { stream, bytes, padding, end } => {
                let count = bytes.min(input.len());
                if count == 0 {
                    return Ok((0, None));
                }
                Ok((count, Some(self.piece(stream, &input[..count], bytes - count, padding, end))))
            }
        }
    }

    /// A piece of DATA behind which `left` bytes and `padding` are to come.
    fn piece<'a>(&mut self, stream: u32, bytes: &'a [u8], left: usize, padding: u32, end: bool) -> H2Frame<'a> {
        if left > 0 {
            self.rest = Rest::Data { stream, bytes: left, padding, end };
            return H2Frame::Data { stream, bytes, padding: 0, end: false };
        }
        self.rest = if padding > 1 { Rest::Skip(padding as usize - 1) } else { Rest::Nothing };
        H2Frame::Data { stream, bytes, padding, end }
    }

    fn begin<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<H2Frame<'a>>), H2Code> {
        let Some((header, behind)) = input.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok((0, None)) };
        let header = Header::read(header);
        self.check(&header)?;
        if header.kind == kind::DATA {
            return self.begin_data(header, behind);
        }
        if header.kind > kind::CONTINUATION && header.kind != kind::PRIORITY_UPDATE {
            // Nothing left to skip would look like nothing left to read.
            self.rest = if header.length > 0 { Rest::Skip(header.length) } else { Rest::Nothing };
            return Ok((FRAME_HEADER_BYTES, Some(H2Frame::Unknown)));
        }
        let Some(payload) = behind.get(..header.length) else { return Ok((0, None)) };
        self.begun = true;
        let frame = self.whole(header, payload)?;
        Ok((FRAME_HEADER_BYTES + header.length, frame))
    }

    /// What a frame's header alone says of it (§4.2, §5.5, §6).
    fn check(&self, header: &Header) -> Result<(), H2Code> {
        if !self.begun && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(H2Code::PROTOCOL_ERROR);
        }
        if header.length > FRAME_BYTES_MAX {
            return Err(H2Code::FRAME_SIZE_ERROR);
        }
        // Nothing comes between the frames of one header block (§4.3).
        let goes_on = header.kind == kind::CONTINUATION;
        if goes_on != self.open.is_some() || self.open.is_some_and(|block| block.stream != header.stream) {
            return Err(H2Code::PROTOCOL_ERROR);
        }
        let (of_stream, fits) = match header.kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION => (Some(true), true),
            kind::PRIORITY => (Some(true), header.length == 5),
            kind::RST_STREAM => (Some(true), header.length == 4),
            kind::SETTINGS if header.has(flag::ACK) => (Some(false), header.length == 0),
            kind::SETTINGS => (Some(false), header.length.is_multiple_of(SETTING_BYTES)),
            kind::PING => (Some(false), header.length == 8),
            kind::GOAWAY => (Some(false), header.length >= 8),
            kind::WINDOW_UPDATE => (None, header.length == 4),
            kind::PRIORITY_UPDATE => (Some(false), header.length >= 4),
            // We never allow it (§8.4).
            kind::PUSH_PROMISE => return Err(H2Code::PROTOCOL_ERROR),
            _ => (None, true),
        };
        if of_stream.is_some_and(|of_stream| of_stream != (header.stream != 0)) {
            return Err(H2Code::PROTOCOL_ERROR);
        }
        if fits { Ok(()) } else { Err(H2Code::FRAME_SIZE_ERROR) }
    }

    fn begin_data<'a>(&mut self, header: Header, behind: &'a [u8]) -> Result<(usize, Option<H2Frame<'a>>), H2Code> {
        let (mut bytes, mut taken) = (behind, FRAME_HEADER_BYTES);
        let (mut body, mut padding) = (header.length, 0);
        if header.has(flag::PADDED) {
            if header.length == 0 {
                return Err(H2Code::FRAME_SIZE_ERROR);
            }
            let Some((length, rest)) = behind.split_first() else { return Ok((0, None)) };
            padding = u32::from(*length) + 1;
            // As large as the whole payload, which has this byte too (§6.1).
            body = body.checked_sub(padding as usize).ok_or(H2Code::PROTOCOL_ERROR)?;
            (bytes, taken) = (rest, taken + 1);
        }
        let end = header.has(flag::END_STREAM);
        let count = body.min(bytes.len());
        if count == 0 && body > 0 {
            self.rest = Rest::Data { stream: header.stream, bytes: body, padding, end };
            return Ok((taken, None));
        }
        Ok((taken + count, Some(self.piece(header.stream, &bytes[..count], body - count, padding, end))))
    }

    /// A frame other than DATA, with all of its payload.
    fn whole<'a>(&'a mut self, header: Header, payload: &'a [u8]) -> Result<Option<H2Frame<'a>>, H2Code> {
        let stream = header.stream;
        Ok(Some(match header.kind {
            kind::HEADERS => return self.begin_block(header, payload),
            kind::CONTINUATION => return self.go_on(header, payload),
            kind::PRIORITY => H2Frame::Priority { stream, of_itself: dependency(payload) == Some(stream) },
            kind::PRIORITY_UPDATE => H2Frame::Priority { stream, of_itself: false },
            kind::RST_STREAM => H2Frame::Reset { stream, code: H2Code(number(payload)) },
            kind::SETTINGS if header.has(flag::ACK) => H2Frame::SettingsAck,
            kind::SETTINGS => H2Frame::Settings(H2Settings(payload)),
            kind::PING => {
                let payload = *payload.first_chunk().ok_or(H2Code::FRAME_SIZE_ERROR)?;
                H2Frame::Ping { payload, ack: header.has(flag::ACK) }
            }
            kind::GOAWAY => H2Frame::GoAway { last: number(payload) & 0x7fff_ffff, code: H2Code(number(&payload[4..])) },
            kind::WINDOW_UPDATE => H2Frame::WindowUpdate { stream, increment: number(payload) & 0x7fff_ffff },
            _ => H2Frame::Unknown,
        }))
    }

    fn begin_block<'a>(&'a mut self, header: Header, mut payload: &'a [u8]) -> Result<Option<H2Frame<'a>>, H2Code> {
        let mut padding = 0;
        if header.has(flag::PADDED) {
            let (length, rest) = payload.split_first().ok_or(H2Code::FRAME_SIZE_ERROR)?;
            (padding, payload) = (usize::from(*length), rest);
        }
        let mut of_itself = false;
        if header.has(flag::PRIORITY) {
            of_itself = dependency(payload) == Some(header.stream);
            payload = payload.get(5..).ok_or(H2Code::FRAME_SIZE_ERROR)?;
        }
        // More than there is room for beside the block itself (§6.2).
        let length = payload.len().checked_sub(padding).ok_or(H2Code::PROTOCOL_ERROR)?;
        payload = &payload[..length];
        let end = header.has(flag::END_STREAM);
        let empties = u32::from(payload.is_empty());
        if header.has(flag::END_HEADERS) {
            return Ok(Some(H2Frame::Headers { stream: header.stream, block: payload, end, of_itself, empties }));
        }
        self.block.clear();
        self.block.extend_from_slice(payload);
        self.open = Some(Block { stream: header.stream, end, of_itself, frames: 0, empties });
        Ok(None)
    }

    fn go_on<'a>(&'a mut self, header: Header, payload: &[u8]) -> Result<Option<H2Frame<'a>>, H2Code> {
        let Some(block) = &mut self.open else { return Err(H2Code::PROTOCOL_ERROR) };
        block.frames += 1;
        block.empties += u32::from(payload.is_empty());
        if block.frames > CONTINUATIONS_MAX || self.block.len() + payload.len() > self.block_bytes_max {
            return Err(H2Code::ENHANCE_YOUR_CALM);
        }
        self.block.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Block { stream, end, of_itself, empties, .. } = *block;
        self.open = None;
        Ok(Some(H2Frame::Headers { stream, block: &self.block, end, of_itself, empties }))
    }

    /// Gives back what a large header block needed. Not in the middle of one.
    pub fn shrink(&mut self) {
        if self.open.is_none() && self.block.capacity() > 0 {
            self.block = Vec::new();
        }
    }
}

/// The first four bytes; 0 where there are fewer.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The stream that a priority names, without the flag ahead of it.
fn dependency(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::{h2_data, h2_settings};

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
        let [a, b, c, d] = stream.to_be_bytes();
        [&[high, middle, low, kind, flags, a, b, c, d], payload].concat()
    }

    fn settings() -> Vec<u8> {
        let mut out = Vec::new();
        h2_settings(&mut out, &[H2Setting::HeaderTableSize(0)]);
        out
    }

    /// What is read behind SETTINGS, as text, the input given in two pieces.
    fn read(frames: &[Vec<u8>], cut: usize) -> Result<Vec<String>, H2Code> {
        let input = [settings(), frames.concat()].concat();
        let mut reader = H2Reader::new(100_000);
        let (mut seen, mut at) = (Vec::new(), 0);
        for end in [cut.min(input.len()), input.len()] {
            loop {
                let (count, frame) = reader.next(&input[at..end])?;
                at += count;
                match frame {
                    Some(frame) => seen.push(format!("{frame:?}")),
                    None if count == 0 => break,
                    None => {}
                }
            }
        }
        seen.remove(0);
        Ok(seen)
    }

    fn text(frame: H2Frame<'_>) -> String {
        format!("{frame:?}")
    }

    #[test]
    fn each_frame_is_read_as_what_it_is() {
        let unknown = frame(0x42, 0xff, 7, b"whatever");
        let ping = frame(kind::PING, 0, 0, b"12345678");
        let block = [
            frame(kind::HEADERS, flag::END_STREAM | flag::PADDED | flag::PRIORITY, 3, b"\x02\0\0\0\x03\x10ab\0\0"),
            frame(kind::CONTINUATION, 0, 3, b""),
            frame(kind::CONTINUATION, flag::END_HEADERS, 3, b"cd"),
        ]
        .concat();
        for (bytes, wanted) in [
            (frame(kind::PRIORITY, 0, 3, b"\x80\0\0\x03\x01"), text(H2Frame::Priority { stream: 3, of_itself: true })),
            (frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0\x03u=1"), text(H2Frame::Priority { stream: 0, of_itself: false })),
            (frame(kind::RST_STREAM, 0, 3, b"\0\0\0\x08"), text(H2Frame::Reset { stream: 3, code: H2Code::CANCEL })),
            (frame(kind::SETTINGS, flag::ACK, 0, b""), text(H2Frame::SettingsAck)),
            (ping, text(H2Frame::Ping { payload: *b"12345678", ack: false })),
            (frame(kind::GOAWAY, 0, 0, b"\x80\0\0\x05\0\0\0\0why"), text(H2Frame::GoAway { last: 5, code: H2Code::NO_ERROR })),
            (frame(kind::WINDOW_UPDATE, 0, 0, b"\x80\0\0\0"), text(H2Frame::WindowUpdate { stream: 0, increment: 0 })),
            (unknown, text(H2Frame::Unknown)),
            (block, text(H2Frame::Headers { stream: 3, block: b"abcd", end: true, of_itself: true, empties: 1 })),
        ] {
            for cut in 0..60 {
                assert_eq!(read(std::slice::from_ref(&bytes), cut), Ok(vec![wanted.clone()]), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_body_comes_in_pieces_and_its_padding_with_the_last() {
        let head = settings().len() + FRAME_HEADER_BYTES;
        let padded = frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x03hello\0\0\0");
        let data = |bytes, padding, end| text(H2Frame::Data { stream: 1, bytes, padding, end });
        for (cut, wanted) in [
            (head, vec![data(b"hello", 4, true)]),
            (head + 1, vec![data(b"hello", 4, true)]),
            (head + 3, vec![data(b"he", 0, false), data(b"llo", 4, true)]),
            (head + 6, vec![data(b"hello", 4, true)]),
            (head + 8, vec![data(b"hello", 4, true)]),
        ] {
            assert_eq!(read(std::slice::from_ref(&padded), cut), Ok(wanted), "cut at {cut}");
        }
        let mut plain = Vec::new();
        h2_data(&mut plain, 1, b"", false);
        h2_data(&mut plain, 1, b"x", true);
        assert_eq!(read(&[plain], 0), Ok(vec![data(b"", 0, false), data(b"x", 0, true)]));
        let all_padding = frame(kind::DATA, flag::PADDED, 1, b"\x01\0");
        assert_eq!(read(&[all_padding], 0), Ok(vec![data(b"", 2, false)]));
    }

    #[test]
    fn what_is_misshapen_or_out_of_place_ends_the_connection() {
        const SIZE: H2Code = H2Code::FRAME_SIZE_ERROR;
        const PROTOCOL: H2Code = H2Code::PROTOCOL_ERROR;
        let long = vec![0; FRAME_BYTES_MAX + 1];
        let open = || frame(kind::HEADERS, 0, 1, b"ab");
        for (why, frames, wanted) in [
            ("a frame too large", vec![frame(kind::DATA, 0, 1, &long)], SIZE),
            ("an unknown one too large", vec![frame(0x42, 0, 1, &long)], SIZE),
            ("half a setting", vec![frame(kind::SETTINGS, 0, 0, b"12345")], SIZE),
            ("an acknowledgement with settings", vec![frame(kind::SETTINGS, flag::ACK, 0, b"123456")], SIZE),
            ("a short ping", vec![frame(kind::PING, 0, 0, b"1234567")], SIZE),
            ("a long reset", vec![frame(kind::RST_STREAM, 0, 1, b"12345")], SIZE),
            ("a short increment", vec![frame(kind::WINDOW_UPDATE, 0, 1, b"123")], SIZE),
            ("a short priority", vec![frame(kind::PRIORITY, 0, 1, b"1234")], SIZE),
            ("a short goodbye", vec![frame(kind::GOAWAY, 0, 0, b"1234567")], SIZE),
            ("padding without its length", vec![frame(kind::DATA, flag::PADDED, 1, b"")], SIZE),
            ("priority that is cut", vec![frame(kind::HEADERS, flag::PRIORITY, 1, b"1234")], SIZE),
            ("DATA of no stream", vec![frame(kind::DATA, 0, 0, b"a")], PROTOCOL),
            ("HEADERS of no stream", vec![frame(kind::HEADERS, 4, 0, b"a")], PROTOCOL),
            ("RST_STREAM of no stream", vec![frame(kind::RST_STREAM, 0, 0, b"1234")], PROTOCOL),
            ("SETTINGS of a stream", vec![frame(kind::SETTINGS, 0, 1, b"")], PROTOCOL),
            ("PING of a stream", vec![frame(kind::PING, 0, 1, b"12345678")], PROTOCOL),
            ("GOAWAY of a stream", vec![frame(kind::GOAWAY, 0, 1, b"12345678")], PROTOCOL),
            ("a promise", vec![frame(kind::PUSH_PROMISE, 4, 1, b"\0\0\0\x02")], PROTOCOL),
            ("CONTINUATION of nothing", vec![frame(kind::CONTINUATION, 4, 1, b"a")], PROTOCOL),
            ("CONTINUATION of another", vec![open(), frame(kind::CONTINUATION, 4, 3, b"a")], PROTOCOL),
            ("DATA in a block", vec![open(), frame(kind::DATA, 0, 1, b"a")], PROTOCOL),
            ("an unknown frame in a block", vec![open(), frame(0x42, 0, 1, b"a")], PROTOCOL),
            ("pieces without end", vec![open(), frame(kind::CONTINUATION, 0, 1, b"").repeat(129)], H2Code::ENHANCE_YOUR_CALM),
            ("a block too large", vec![open(), frame(kind::CONTINUATION, 0, 1, &long[1..]).repeat(7)], H2Code::ENHANCE_YOUR_CALM),
        ] {
            assert_eq!(read(&frames, 0), Err(wanted), "{why}");
        }
        assert!(read(&[frame(kind::DATA, flag::PADDED, 1, b"\x02ab")], 0).is_ok(), "all but its length may be padding");
        let too_much = frame(kind::DATA, flag::PADDED, 1, b"\x03ab");
        assert_eq!(read(&[too_much], 0), Err(PROTOCOL));
        let too_much = frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, b"\x03ab");
        assert_eq!(read(&[too_much], 0), Err(PROTOCOL));
    }

    #[test]
    fn an_unknown_frame_without_payload_holds_up_nothing() {
        let wanted = [text(H2Frame::Unknown), text(H2Frame::Ping { payload: *b"12345678", ack: false })];
        for cut in 0..60 {
            let frames = [frame(0x42, 0, 0, b""), frame(kind::PING, 0, 0, b"12345678")];
            assert_eq!(read(&frames, cut), Ok(wanted.to_vec()), "cut at {cut}");
        }
    }

    #[test]
    fn settings_come_first() {
        for other in [frame(kind::PING, 0, 0, b"12345678"), frame(kind::SETTINGS, flag::ACK, 0, b""), frame(0x42, 0, 0, b"")] {
            assert_eq!(H2Reader::new(1000).next(&other), Err(H2Code::PROTOCOL_ERROR));
        }
    }

    #[test]
    fn many_pieces_that_fit_are_one_block() {
        let mut frames = vec![frame(kind::HEADERS, 0, 1, b"a")];
        frames.extend((0..127).map(|_| frame(kind::CONTINUATION, 0, 1, b"b")));
        frames.push(frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"c"));
        let block = [&b"a"[..], &[b'b'; 127], b"c"].concat();
        let wanted = text(H2Frame::Headers { stream: 1, block: &block, end: false, of_itself: false, empties: 0 });
        assert_eq!(read(&frames, 0), Ok(vec![wanted]));
    }
}
