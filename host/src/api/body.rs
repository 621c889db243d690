//! Reads the body of a call, whole or piece by piece, however it is delimited. Knows what is too long, and not what the bytes are.

use super::trailers::ERROR_BYTES_MAX;
use super::{HEAD_BYTES_MAX, LIMITS, Refused};
use bytes::{Buf, BufMut, BytesMut};
use maitred_wire::{Chunked, ChunkedStep, Framing, Parsed, Refusal, RequestHead};
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Asked of the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Of a body as it streams, taken at once.
pub(crate) const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Of `\r\n\r\n`.
const HEAD_END_BYTES: usize = 4;
/// A client that sends so much more than it may is not listened to for the sake of its next call.
const DISCARD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A connection's socket, and what was read from it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

/// Where a body is.
#[derive(Debug)]
pub(crate) enum Body {
    Length(u64),
    Chunked(Box<Chunked>),
    Done,
}

/// What comes next of a body.
#[derive(Debug)]
pub(crate) enum Next {
    /// `begins_chunk`: the first of a chunk.
    Data { bytes: BytesMut, begins_chunk: bool },
    /// With its trailer fields.
    End(BytesMut),
}

/// Why a body cannot be read.
#[derive(Debug)]
pub(crate) enum Broken {
    /// More than it may have.
    TooLong,
    /// The connection ended first, or what came is no body.
    Cut,
}

impl Body {
    pub fn of(framing: Framing) -> Body {
        match framing {
            // A request that says nothing of its body has none.
            Framing::None | Framing::Close => Body::Done,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::new(Chunked::with_trailers(ERROR_BYTES_MAX))),
        }
    }
}

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        Wire { stream, buffer: BytesMut::new() }
    }

    /// `None`: the client has gone. What is read belongs to `head`, and what stands behind it is its body.
    pub async fn head(&mut self, head: &mut RequestHead) -> Option<Result<(), Refused>> {
        let mut seen = 0;
        loop {
            if !self.buffer.is_empty() && is_to_be_parsed(&self.buffer, seen) {
                match head.parse(&self.buffer, &LIMITS) {
                    Ok(Parsed::Complete(length)) => {
                        self.buffer.advance(length);
                        return Some(Ok(()));
                    }
                    Ok(Parsed::Partial) => {}
                    Err(refusal) => return Some(Err(Refused::Malformed(status(refusal)))),
                }
            }
            seen = self.buffer.len();
            let room = READ_BYTES.max(self.buffer.len()).min(HEAD_BYTES_MAX);
            if !matches!(self.fill(room).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Whether some of a body is there already, so that nobody waits to be told to send it.
    pub fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// All of a body, of at most so many bytes.
    pub async fn whole(&mut self, body: &mut Body, most: usize) -> Result<Vec<u8>, Broken> {
        if let Body::Length(length) = *body {
            let length = usize::try_from(length).ok().filter(|length| *length <= most).ok_or(Broken::TooLong)?;
            *body = Body::Done;
            return self.exactly(length).await;
        }
        let mut all = Vec::new();
        while let Next::Data { bytes, .. } = self.next(body).await? {
            if all.len() + bytes.len() > most {
                return Err(Broken::TooLong);
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// What is there is copied, and all else read behind it.
    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        let there = self.buffer.len().min(length);
        let mut all = self.buffer[..there].to_vec();
        self.buffer.advance(there);
        while all.len() < length {
            let left = length - all.len();
            if all.len() == all.capacity() {
                // Twice what came, and not what was announced: only who sends it takes memory. One byte more than that can be: so the last
                // read fills less than its room, as `fill` has it.
                all.reserve_exact(all.len().max(PIECE_BYTES_MAX).min(left) + 1);
            }
            if !matches!(self.stream.read_buf(&mut (&mut all).limit(left + 1)).await, Ok(1..)) {
                return Err(Broken::Cut);
            }
        }
        // Of the next call.
        let behind = all.split_off(length);
        self.buffer.extend_from_slice(&behind);
        Ok(all)
    }

    /// Reads what is left of a body, so that the next call can be. `false`: it is too much, or there will be none.
    pub async fn discard(&mut self, body: &mut Body) -> bool {
        let mut left = DISCARD_BYTES_MAX;
        loop {
            match self.next(body).await {
                Ok(Next::End(_)) => return true,
                Ok(Next::Data { bytes, .. }) if bytes.len() as u64 <= left => left -= bytes.len() as u64,
                Ok(Next::Data { .. }) | Err(_) => return false,
            }
        }
    }

    /// Whatever comes next, as it comes.
    pub async fn next(&mut self, body: &mut Body) -> Result<Next, Broken> {
        match body {
            Body::Done => Ok(Next::End(BytesMut::new())),
            Body::Length(left) => {
                if self.buffer.is_empty() {
                    self.fill_body(usize::try_from(*left).unwrap_or(usize::MAX)).await?;
                }
                let size = self.buffer.len().min(PIECE_BYTES_MAX).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= size as u64;
                if *left == 0 {
                    *body = Body::Done;
                }
                Ok(Next::Data { bytes: self.buffer.split_to(size), begins_chunk: false })
            }
            Body::Chunked(chunked) => {
                let mut begins_chunk = false;
                loop {
                    match chunked.step(&self.buffer).map_err(|_| Broken::Cut)? {
                        ChunkedStep::More { skip } => {
                            // Only what stands between two pieces of data is skipped.
                            begins_chunk |= skip > 0;
                            self.buffer.advance(skip);
                            self.fill_body(READ_BYTES).await?;
                        }
                        ChunkedStep::Data { skip, len } => {
                            begins_chunk |= skip > 0;
                            self.buffer.advance(skip);
                            let len = len.min(PIECE_BYTES_MAX);
                            chunked.taken(len);
                            return Ok(Next::Data { bytes: self.buffer.split_to(len), begins_chunk });
                        }
                        ChunkedStep::End { skip, trailers: (start, end) } => {
                            let mut coding = self.buffer.split_to(skip);
                            *body = Body::Done;
                            coding.truncate(end);
                            coding.advance(start);
                            return Ok(Next::End(coding));
                        }
                    }
                }
            }
        }
    }

    async fn fill_body(&mut self, wanted: usize) -> Result<(), Broken> {
        match self.fill(wanted.clamp(READ_BYTES, PIECE_BYTES_MAX)).await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Broken::Cut),
        }
    }

    /// Asks the socket only once the system has said that there is something: a read that fills less than its room was the last until
    /// then. `Output::catch_up` relies on that.
    async fn fill(&mut self, room: usize) -> io::Result<usize> {
        self.buffer.reserve(room);
        self.stream.read_buf(&mut (&mut self.buffer).limit(room)).await
    }

    /// Until the client has gone; what it sends meanwhile waits, up to a bound.
    pub async fn closed(&mut self) {
        while self.buffer.len() < HEAD_BYTES_MAX {
            if !matches!(self.fill(READ_BYTES).await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Both, in as few calls as can be.
    pub async fn write(&self, first: &[u8], second: &[u8]) -> io::Result<()> {
        let mut done = 0;
        let total = first.len() + second.len();
        while done < total {
            let rest = [
                io::IoSlice::new(&first[done.min(first.len())..]),
                io::IoSlice::new(&second[done.saturating_sub(first.len())..]),
            ];
            match self.stream.try_write_vectored(&rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The first time, since it may be nonsense or whole; then once more when its end has come, or too much. A head that comes byte by byte
/// would be parsed as often as it has bytes.
fn is_to_be_parsed(buffer: &[u8], seen: usize) -> bool {
    let new = &buffer[seen.saturating_sub(HEAD_END_BYTES - 1)..];
    // A line that ends without `\r` is refused, which is to be said as well.
    let ends = || new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n");
    seen == 0 || buffer.len() >= HEAD_BYTES_MAX || ends()
}

fn status(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::Bad(_) | Refusal::Malformed(_) => 400,
        Refusal::HeadTooLarge => 431,
        Refusal::TargetTooLong => 414,
        Refusal::NotImplemented(_) => 501,
        Refusal::Version => 505,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_parsed_when_it_begins_and_when_it_may_have_ended() {
        let head = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        for cut in 1..head.len() {
            assert!(is_to_be_parsed(&head[..cut], 0), "{cut}");
            assert!(is_to_be_parsed(head, cut), "its end is seen wherever it was cut: {cut}");
            assert!(cut == 1 || !is_to_be_parsed(&head[..cut], cut - 1), "{cut}");
        }
        assert!(is_to_be_parsed(b"GET / HTTP/1.1\n\n", 15), "which is then refused");
        assert!(is_to_be_parsed(&vec![b'a'; HEAD_BYTES_MAX], HEAD_BYTES_MAX - 1), "too much");
    }
}
