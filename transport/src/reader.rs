//! Reads one message's body off a socket, whichever side it comes from: length, chunks, until close, or no HTTP at all any more.

use crate::input::{BUFFER_BYTES, Input};
use crate::socket::Socket;
use crate::worker::Worker;
use maitred_core::Progress;
use maitred_wire::{Chunked, ChunkedStep, Framing, TRAILER_BYTES_MAX, forward_trailers};
use std::io;
use std::task::{Context, Poll, ready};

#[derive(Default)]
enum State {
    #[default]
    Done,
    Length(u64),
    /// The decoder, and how many bytes of data are at hand.
    Chunked(Chunked, usize),
    Close,
}

/// Why a body broke off.
pub enum ReadError {
    /// The peer closed in the middle of it.
    Truncated,
    Io(io::Error),
    Coding(&'static str),
}

#[derive(Default)]
pub struct Reader {
    pub input: Input,
    state: State,
    /// Trailer fields fit to be forwarded.
    pub trailers: Vec<u8>,
    /// Body bytes consumed so far.
    pub read: u64,
}

impl Reader {
    /// Of a connection of which some bytes were read already.
    pub fn with(input: Input) -> Reader {
        Reader { input, ..Reader::default() }
    }

    /// A new message: its body is framed so.
    pub fn begin(&mut self, framing: Framing) {
        self.state = match framing {
            Framing::None => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::default(), 0),
            Framing::Close => State::Close,
        };
        self.trailers.clear();
        self.read = 0;
        self.input.reset_size();
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The body bytes at hand.
    pub fn data(&self) -> &[u8] {
        let data = self.input.data();
        match &self.state {
            State::Done => &[],
            State::Length(left) => &data[..data.len().min(usize::try_from(*left).unwrap_or(usize::MAX))],
            State::Chunked(_, at_hand) => &data[..*at_hand],
            State::Close => data,
        }
    }

    /// Body bytes that came so far, consumed or not.
    pub fn seen(&self) -> u64 {
        self.read + self.data().len() as u64
    }

    pub fn consume(&mut self, count: usize, worker: &Worker) {
        self.read += count as u64;
        match &mut self.state {
            State::Done => debug_assert!(count == 0),
            State::Length(left) => {
                *left -= count as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
            }
            State::Chunked(decoder, at_hand) => {
                decoder.taken(count);
                *at_hand -= count;
            }
            State::Close => {}
        }
        self.input.consume(count, worker);
    }

    pub fn poll_ready(&mut self, cx: &mut Context<'_>, socket: &Socket, worker: &Worker) -> Poll<Result<Progress, ReadError>> {
        loop {
            match &mut self.state {
                State::Done => return Poll::Ready(Ok(Progress::End)),
                State::Length(_) | State::Close if !self.input.is_empty() => return Poll::Ready(Ok(Progress::Data)),
                State::Length(_) | State::Close => {}
                State::Chunked(_, at_hand) if *at_hand > 0 => return Poll::Ready(Ok(Progress::Data)),
                State::Chunked(decoder, at_hand) => match decoder.step(self.input.data()).map_err(|e| ReadError::Coding(e.0))? {
                    ChunkedStep::Data { skip, len } => {
                        self.input.consume(skip, worker);
                        *at_hand = len;
                        return Poll::Ready(Ok(Progress::Data));
                    }
                    ChunkedStep::End { skip, trailers } => {
                        forward_trailers(&self.input.data()[trailers.0..trailers.1], &mut self.trailers);
                        self.input.consume(skip, worker);
                        self.state = State::Done;
                        return Poll::Ready(Ok(Progress::End));
                    }
                    ChunkedStep::More { skip } => self.input.consume(skip, worker),
                },
            }
            let count = ready!(self.input.poll_fill(cx, socket, worker, BUFFER_BYTES.max(2 * TRAILER_BYTES_MAX)));
            if count.map_err(ReadError::Io)? == 0 {
                if matches!(self.state, State::Close) {
                    self.state = State::Done;
                    return Poll::Ready(Ok(Progress::End));
                }
                return Poll::Ready(Err(ReadError::Truncated));
            }
        }
    }
}
