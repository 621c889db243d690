//! Heads and chunks, parsed a second time: plainly, strictly, by code that shares nothing with the gateway's.

use std::fmt;

/// Header fields in order, names as they came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of a field that stands there at most once.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands there {} times: {self:?}", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The members of a list field, over all its lines.
    pub fn members(&self, name: &str) -> Vec<String> {
        let values = self.all(name);
        values
            .iter()
            .flat_map(|value| value.split(','))
            .map(|member| member.trim().to_owned())
            .filter(|m| !m.is_empty())
            .collect()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            write!(f, "\n  {name}: {value}")?;
        }
        Ok(())
    }
}

/// A start line and fields.
#[derive(Debug, Clone)]
pub struct Head {
    /// The three parts of the start line.
    pub start: [String; 3],
    pub fields: Fields,
    /// Every byte of it, the empty line included.
    pub raw: Vec<u8>,
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    None,
    Length(u64),
    Chunked,
    Close,
}

impl Head {
    /// The head at the start of `bytes`; `Ok(None)` while it is not whole.
    pub fn parse(bytes: &[u8]) -> Result<Option<Head>, String> {
        let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let raw = bytes[..end + 4].to_vec();
        let text = std::str::from_utf8(&raw[..end]).map_err(|_| format!("a head that is not UTF-8: {}", shown(&raw)))?;
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default();
        if text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
            return Err(format!("a bare CR, LF or NUL in a head: {}", shown(&raw)));
        }
        let mut parts = line.splitn(3, ' ').map(str::to_owned);
        let (Some(first), Some(second), Some(third)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("a start line without three parts: {line:?}"));
        };
        let mut fields = Fields::default();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("a line without colon: {line:?}"))?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("a malformed field name: {line:?}"));
            }
            fields.0.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(Some(Head { start: [first, second, third], fields, raw }))
    }

    /// The framing that the fields announce; `other` where they say nothing. Two voices are an error.
    pub(crate) fn frame(&self, other: Frame) -> Result<Frame, String> {
        let (lengths, codings) = (self.fields.all("content-length"), self.fields.all("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(other),
            ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Frame::Length(length.parse().map_err(|_| format!("a length beyond counting: {length}"))?))
            }
            ([], [coding]) if *coding == "chunked" => Ok(Frame::Chunked),
            _ => Err(format!("content-length {lengths:?} with transfer-encoding {codings:?}")),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Bytes for a failure's message: readable, and cut.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(2000)];
    let rest = if bytes.len() > cut.len() { format!("… and {} bytes more", bytes.len() - cut.len()) } else { String::new() };
    format!("\"{}\"{rest}", cut.escape_ascii())
}

/// The progress of reading a body.
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes are needed.
    More,
    /// It is over after so many bytes of input.
    End(usize),
}

/// Reads a body from bytes that grow: call again with the same bytes and more.
#[derive(Debug, Default)]
pub(crate) struct BodyReader {
    /// Where to go on.
    at: usize,
    left: u64,
    pub data: Vec<u8>,
    pub chunks: Vec<usize>,
    pub trailers: Fields,
    started: bool,
    in_trailers: bool,
}

impl BodyReader {
    pub(crate) fn step(&mut self, frame: Frame, input: &[u8]) -> Result<Step, String> {
        match frame {
            Frame::None => Ok(Step::End(0)),
            Frame::Close => {
                self.data.extend_from_slice(&input[self.at..]);
                self.at = input.len();
                Ok(Step::More)
            }
            Frame::Length(length) => {
                if !self.started {
                    (self.started, self.left) = (true, length);
                }
                self.take(input);
                Ok(if self.left == 0 { Step::End(self.at) } else { Step::More })
            }
            Frame::Chunked => self.chunked(input),
        }
    }

    fn take(&mut self, input: &[u8]) {
        let count = self.left.min((input.len() - self.at) as u64) as usize;
        self.data.extend_from_slice(&input[self.at..self.at + count]);
        self.at += count;
        self.left -= count as u64;
    }

    fn chunked(&mut self, input: &[u8]) -> Result<Step, String> {
        loop {
            if self.left > 0 {
                self.take(input);
            }
            if self.left > 0 {
                return Ok(Step::More);
            }
            if self.started && !self.in_trailers {
                let Some(end) = input.get(self.at..self.at + 2) else { return Ok(Step::More) };
                if end != b"\r\n" {
                    return Err(format!("chunk data not followed by CRLF but by {}", shown(end)));
                }
                self.at += 2;
                self.started = false;
            }
            let Some(end) = find(&input[self.at..], b"\r\n") else { return Ok(Step::More) };
            let line = &input[self.at..self.at + end];
            self.at += end + 2;
            if self.in_trailers {
                if line.is_empty() {
                    return Ok(Step::End(self.at));
                }
                let text = String::from_utf8_lossy(line);
                let (name, value) = text.split_once(':').ok_or_else(|| format!("a trailer without colon: {text:?}"))?;
                self.trailers.0.push((name.to_owned(), value.trim().to_owned()));
                continue;
            }
            let text = String::from_utf8_lossy(line).into_owned();
            if text.is_empty() || text.len() > 15 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(format!("a chunk size that is none: {text:?}"));
            }
            let size = u64::from_str_radix(&text, 16).map_err(|_| format!("a chunk size that is none: {text:?}"))?;
            if size == 0 {
                self.in_trailers = true;
            } else {
                (self.started, self.left) = (true, size);
                self.chunks.push(size as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_trailers_are_read_byte_by_byte_as_at_once() {
        let whole = b"3\r\nabc\r\na\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nrest";
        let mut reader = BodyReader::default();
        let mut end = 0;
        for at in 0..=whole.len() {
            if let Step::End(length) = reader.step(Frame::Chunked, &whole[..at]).unwrap() {
                end = length;
                break;
            }
        }
        assert_eq!(&whole[end..], b"rest");
        assert_eq!(reader.data, b"abc0123456789");
        assert_eq!(reader.trailers.get("x-sum"), Some("1"));
    }

    #[test]
    fn two_framings_are_an_error() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert!(head.frame(Frame::None).is_err());
    }
}
