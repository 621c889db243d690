//! Amazon's event stream (`application/vnd.amazon.eventstream`): frames of headers and a payload, each with two checksums (reference: AWS,
//! "Event stream encoding"). Written and read; knows no event. A payload is passed on as it comes, before its checksum: whoever gets it is told
//! at the end of the frame whether it was right, and nothing here grows with it.

/// Of headers, in one frame (botocore: `_MAX_HEADERS_LENGTH`).
const HEADERS_BYTES_MAX: u32 = 128 * 1024;
/// Of payload, in one frame (botocore: `_MAX_PAYLOAD_LENGTH`).
pub const EVENT_PAYLOAD_BYTES_MAX: u32 = 24 * 1024 * 1024;
/// Total length, length of the headers, and the checksum of both.
const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
/// A frame of nothing.
const FRAME_BYTES_MIN: u32 = 16;

/// What the values of headers are told apart by.
const TRUE: u8 = 0;
const FALSE: u8 = 1;
const INT8: u8 = 2;
const INT16: u8 = 3;
const INT32: u8 = 4;
const INT64: u8 = 5;
const BYTES: u8 = 6;
const TEXT: u8 = 7;
const TIMESTAMP: u8 = 8;
const UUID: u8 = 9;

/// It is no event stream, or was altered on its way: nothing that follows can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventError(pub &'static str);

/// The value of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventValue<'a> {
    Flag(bool),
    /// Of any width.
    Integer(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// milliseconds since 1970
    Timestamp(i64),
    Uuid([u8; 16]),
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStep {
    /// The headers of a frame are there.
    Headers,
    /// The bytes that were taken are payload.
    Payload,
    /// The frame is over, and all of it was right.
    End,
    /// All bytes were taken, and more are needed.
    More,
}

/// Reads frames, from pieces of any size.
#[derive(Debug, Default)]
pub struct EventReader {
    part: Part,
    /// Of all bytes of the frame so far.
    checksum: Checksum,
    /// Prelude or checksum, as far as they are there.
    few: [u8; PRELUDE_BYTES],
    few_count: usize,
    headers: Vec<u8>,
    headers_length: usize,
    payload_left: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Prelude,
    Headers,
    Payload,
    Checksum,
}

impl EventReader {
    /// Takes bytes of `input` up to the next thing to tell: how many, and what it is. With `EventStep::Payload` those that were taken are
    /// payload, and nothing else. After an error there is nothing more to read.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, EventStep), EventError> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.part {
                Part::Prelude => {
                    at += self.gather(PRELUDE_BYTES, rest);
                    if self.few_count < PRELUDE_BYTES {
                        return Ok((at, EventStep::More));
                    }
                    self.begin()?;
                }
                Part::Headers => {
                    let count = rest.len().min(self.headers_length - self.headers.len());
                    self.checksum.add(&rest[..count]);
                    self.headers.extend_from_slice(&rest[..count]);
                    at += count;
                    if self.headers.len() < self.headers_length {
                        return Ok((at, EventStep::More));
                    }
                    check(&self.headers)?;
                    self.part = Part::Payload;
                    return Ok((at, EventStep::Headers));
                }
                Part::Payload if self.payload_left == 0 => {
                    (self.part, self.few_count) = (Part::Checksum, 0);
                }
                Part::Payload => {
                    let count = rest.len().min(self.payload_left);
                    self.checksum.add(&rest[..count]);
                    self.payload_left -= count;
                    let step = if count > 0 { EventStep::Payload } else { EventStep::More };
                    return Ok((at + count, step));
                }
                Part::Checksum => {
                    at += self.gather(CHECKSUM_BYTES, rest);
                    if self.few_count < CHECKSUM_BYTES {
                        return Ok((at, EventStep::More));
                    }
                    if number(&self.few) != self.checksum.value() {
                        return Err(EventError("a frame whose checksum is wrong"));
                    }
                    (self.part, self.few_count, self.checksum) = (Part::Prelude, 0, Checksum::default());
                    return Ok((at, EventStep::End));
                }
            }
        }
    }

    /// Nothing of a frame is there: the stream may end here.
    pub fn is_between(&self) -> bool {
        self.part == Part::Prelude && self.few_count == 0
    }

    /// Of the frame that `EventStep::Headers` was told of, until the next is begun.
    pub fn headers(&self) -> impl Iterator<Item = (&str, EventValue<'_>)> {
        // They were looked at as a whole when they came.
        let mut rest = &self.headers[..];
        std::iter::from_fn(move || header(&mut rest).ok().flatten())
    }

    /// The header of that name, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers().find(|(known, _)| *known == name).and_then(|(_, value)| match value {
            EventValue::Text(text) => Some(text),
            EventValue::Flag(_)
            | EventValue::Integer(_)
            | EventValue::Bytes(_)
            | EventValue::Timestamp(_)
            | EventValue::Uuid(_) => None,
        })
    }

    /// Gathers bytes up to `wanted` of them; how many were taken.
    fn gather(&mut self, wanted: usize, rest: &[u8]) -> usize {
        let count = rest.len().min(wanted - self.few_count);
        self.few[self.few_count..self.few_count + count].copy_from_slice(&rest[..count]);
        self.few_count += count;
        count
    }

    fn begin(&mut self) -> Result<(), EventError> {
        let (total, headers) = (number(&self.few), number(&self.few[4..]));
        self.checksum = Checksum::default();
        self.checksum.add(&self.few[..8]);
        if self.checksum.value() != number(&self.few[8..]) {
            return Err(EventError("a frame whose prelude has a wrong checksum"));
        }
        self.checksum.add(&self.few[8..]);
        if headers > HEADERS_BYTES_MAX {
            return Err(EventError("a frame with more headers than a frame may have"));
        }
        let payload = total.checked_sub(FRAME_BYTES_MIN).and_then(|rest| rest.checked_sub(headers));
        let payload = payload.ok_or(EventError("a frame that is shorter than its headers"))?;
        if payload > EVENT_PAYLOAD_BYTES_MAX {
            return Err(EventError("a frame with more payload than a frame may have"));
        }
        self.headers.clear();
        (self.headers_length, self.payload_left) = (headers as usize, payload as usize);
        self.part = Part::Headers;
        Ok(())
    }
}

/// A frame whose headers are text. `Err`: it is longer than a frame may be; then nothing was written.
pub fn event_frame(headers: &[(&str, &str)], payload: &[u8], out: &mut Vec<u8>) -> Result<(), EventError> {
    let start = out.len();
    let written = write_frame(headers, payload, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_frame(headers: &[(&str, &str)], payload: &[u8], out: &mut Vec<u8>) -> Result<(), EventError> {
    let start = out.len();
    out.extend_from_slice(&[0; PRELUDE_BYTES]);
    for (name, value) in headers {
        let name_length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
        out.push(name_length.ok_or(EventError("a header whose name is empty or too long"))?);
        out.extend_from_slice(name.as_bytes());
        out.push(TEXT);
        let value_length = u16::try_from(value.len()).map_err(|_| EventError("a header that is too long"))?;
        out.extend_from_slice(&value_length.to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    let headers = u32::try_from(out.len() - start - PRELUDE_BYTES).ok().filter(|length| *length <= HEADERS_BYTES_MAX);
    let headers = headers.ok_or(EventError("a frame with more headers than a frame may have"))?;
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= EVENT_PAYLOAD_BYTES_MAX);
    let length = length.ok_or(EventError("a frame with more payload than a frame may have"))?;
    out[start..start + 4].copy_from_slice(&(FRAME_BYTES_MIN + headers + length).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&headers.to_be_bytes());
    let prelude = Checksum::of(&out[start..start + 8]);
    out[start + 8..start + PRELUDE_BYTES].copy_from_slice(&prelude.to_be_bytes());
    out.extend_from_slice(payload);
    let whole = Checksum::of(&out[start..]);
    out.extend_from_slice(&whole.to_be_bytes());
    Ok(())
}

/// `bytes` are four at least.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// All headers of a frame are ones, and each name stands once.
fn check(headers: &[u8]) -> Result<(), EventError> {
    let mut names = Vec::new();
    let mut rest = headers;
    while let Some((name, _)) = header(&mut rest)? {
        names.push(name);
    }
    names.sort_unstable();
    if names.windows(2).any(|two| two[0] == two[1]) {
        return Err(EventError("a header that stands twice"));
    }
    Ok(())
}

/// The next header of several; `None` at their end.
fn header<'a>(rest: &mut &'a [u8]) -> Result<Option<(&'a str, EventValue<'a>)>, EventError> {
    let Some((&length, behind)) = rest.split_first() else { return Ok(None) };
    *rest = behind;
    let name = text(take(rest, usize::from(length))?)?;
    if name.is_empty() {
        return Err(EventError("a header without a name"));
    }
    let [kind] = fixed(rest)?;
    let value = match kind {
        TRUE => EventValue::Flag(true),
        FALSE => EventValue::Flag(false),
        INT8 => EventValue::Integer(i64::from(i8::from_be_bytes(fixed(rest)?))),
        INT16 => EventValue::Integer(i64::from(i16::from_be_bytes(fixed(rest)?))),
        INT32 => EventValue::Integer(i64::from(i32::from_be_bytes(fixed(rest)?))),
        INT64 => EventValue::Integer(i64::from_be_bytes(fixed(rest)?)),
        BYTES => EventValue::Bytes(long(rest)?),
        TEXT => EventValue::Text(text(long(rest)?)?),
        TIMESTAMP => EventValue::Timestamp(i64::from_be_bytes(fixed(rest)?)),
        UUID => EventValue::Uuid(fixed(rest)?),
        _ => return Err(EventError("a header of an unknown type")),
    };
    Ok(Some((name, value)))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], EventError> {
    let (taken, behind) = rest.split_at_checked(count).ok_or(EventError("a header that ends too early"))?;
    *rest = behind;
    Ok(taken)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], EventError> {
    take(rest, N)?.try_into().map_err(|_| EventError("a header that ends too early"))
}

fn long<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], EventError> {
    let length = u16::from_be_bytes(fixed(rest)?);
    take(rest, usize::from(length))
}

fn text(bytes: &[u8]) -> Result<&str, EventError> {
    std::str::from_utf8(bytes).map_err(|_| EventError("a header that is no text"))
}

/// CRC-32 of IEEE 802.3, eight bytes at a time: payloads are megabytes.
#[derive(Debug, Clone, Copy)]
struct Checksum(u32);

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum(u32::MAX)
    }
}

/// `TABLES[n][byte]`: what a byte does to the checksum when `n` more follow.
static TABLES: [[u32; 256]; 8] = tables();

impl Checksum {
    fn of(bytes: &[u8]) -> u32 {
        let mut checksum = Checksum::default();
        checksum.add(bytes);
        checksum.value()
    }

    fn value(self) -> u32 {
        !self.0
    }

    fn add(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        let step = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
        for &[a, b, c, d, e, f, g, h] in eights {
            let [w, x, y, z] = self.0.to_le_bytes();
            let first = step(7, a ^ w) ^ step(6, b ^ x) ^ step(5, c ^ y) ^ step(4, d ^ z);
            self.0 = first ^ step(3, e) ^ step(2, f) ^ step(1, g) ^ step(0, h);
        }
        for &byte in rest {
            self.0 = step(0, byte ^ self.0 as u8) ^ (self.0 >> 8);
        }
    }
}

const fn tables() -> [[u32; 256]; 8] {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests;
