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
            self.rest = Rest::Skip(header.length);
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
        if header.has(flag::PADDED) {
            let (length, rest) = payload.split_first().ok_or(H2Code::FRAME_SIZE_ERROR)?;
            let left = rest.len().checked_sub(usize::from(*length)).ok_or(H2Code::PROTOCOL_ERROR)?;
            payload = &rest[..left];
        }
        let mut of_itself = false;
        if header.has(flag::PRIORITY) {
            of_itself = dependency(payload) == Some(header.stream);
            payload = payload.get(5..).ok_or(H2Code::FRAME_SIZE_ERROR)?;
        }
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
