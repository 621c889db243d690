//! What a client sends on a request's stream: a head, a body in DATA frames, trailers. Pulled, so that a window opens as bytes are taken.

use crate::worker::Worker;
use maitred_wire::{FrameKind, Frames, H3Code, Piece, QpackError, forward_trailers, h2_trailer, read_section};
use quinn::{ReadError, RecvStream};
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes of frames that mean nothing to us, for each stream.
const UNKNOWN_BYTES_MAX: u64 = 64 * 1024;

/// Why nothing more can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client has reset the stream.
    Reset,
    /// The connection is over.
    Lost,
    /// The stream must end.
    Stream(H3Code, &'static str),
    /// The connection must.
    Connection(H3Code, &'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    /// Trailers came.
    Over,
    /// The client's end was seen.
    Ended,
}

pub(super) struct Incoming {
    worker: Rc<Worker>,
    recv: RefCell<RecvStream>,
    frames: RefCell<Frames>,
    kind: Cell<FrameKind>,
    phase: Cell<Phase>,
    buffer: RefCell<Vec<u8>>,
    start: Cell<usize>,
    end: Cell<usize>,
    /// From `start` on, bytes of the body.
    data: Cell<usize>,
    /// A field section as it gathers: the head's, then the trailers'.
    section: RefCell<Vec<u8>>,
    section_bytes_max: usize,
    trailers: RefCell<Vec<u8>>,
    /// How long the body is, where that was said, and how much of it was announced.
    length: Cell<Option<u64>>,
    announced: Cell<u64>,
    unknown: Cell<u64>,
    /// Frames without a meaning, or without a byte.
    pub idle_frames: Cell<u32>,
}

/// What reading a head came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadRead {
    Whole,
    /// It is longer than any that is allowed, and was not read.
    TooLarge,
}

impl Incoming {
    pub fn new(worker: Rc<Worker>, recv: RecvStream, section_bytes_max: usize) -> Incoming {
        Incoming {
            worker,
            recv: RefCell::new(recv),
            frames: RefCell::default(),
            kind: Cell::new(FrameKind::Unknown),
            phase: Cell::new(Phase::Head),
            buffer: RefCell::default(),
            start: Cell::new(0),
            end: Cell::new(0),
            data: Cell::new(0),
            section: RefCell::default(),
            section_bytes_max,
            trailers: RefCell::default(),
            length: Cell::new(None),
            announced: Cell::new(0),
            unknown: Cell::new(0),
            idle_frames: Cell::new(0),
        }
    }

    /// Ready when the head is whole: it is in `section` then.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<HeadRead, Broken>> {
        while self.phase.get() == Phase::Head {
            if self.kind.get() == FrameKind::Headers && self.frames.borrow().left() > self.section_bytes_max as u64 {
                return Poll::Ready(Ok(HeadRead::TooLarge));
            }
            ready!(self.poll_step(cx))?;
        }
        Poll::Ready(Ok(HeadRead::Whole))
    }

    pub fn section(&self) -> Ref<'_, [u8]> {
        Ref::map(self.section.borrow(), |section| &section[..])
    }

    /// The head is understood; the body has so many bytes, if that was said.
    pub fn expect(&self, length: Option<u64>) -> Result<(), Broken> {
        self.length.set(length);
        self.check_length()
    }

    fn check_length(&self) -> Result<(), Broken> {
        match self.length.get().is_some_and(|length| self.announced.get() > length) {
            true => Err(Broken::Stream(H3Code::MessageError, "a body longer than its Content-Length")),
            false => Ok(()),
        }
    }

    /// Ready when there is something of the body, or its end.
    pub fn poll_more(&self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while self.data.get() == 0 && self.phase.get() != Phase::Ended {
            ready!(self.poll_step(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// One piece of what the client sends.
    fn poll_step(&self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.start.get() == self.end.get() {
            if ready!(self.poll_fill(cx))? {
                return Poll::Ready(self.end_of_stream());
            }
            return Poll::Ready(Ok(()));
        }
        let buffer = self.buffer.borrow();
        let bytes = &buffer[self.start.get()..self.end.get()];
        let piece = self.frames.borrow_mut().next(bytes);
        let taken = match piece {
            Piece::Partial => bytes.len(),
            Piece::Begin { kind, length, taken } => {
                self.kind.set(kind);
                self.begin(kind, length)?;
                taken
            }
            Piece::Payload(count) => {
                self.payload(&bytes[..count])?;
                // Bytes of the body are taken when they are consumed.
                if self.kind.get() == FrameKind::Data { 0 } else { count }
            }
        };
        drop(buffer);
        self.advance(taken);
        let left = self.frames.borrow().left();
        if left == 0 && self.kind.get() == FrameKind::Headers {
            self.kind.set(FrameKind::Unknown);
            return Poll::Ready(self.end_of_section());
        }
        Poll::Ready(Ok(()))
    }

    /// RFC 9114 §4.1 and §7.1: which frame may come when.
    fn begin(&self, kind: FrameKind, length: u64) -> Result<(), Broken> {
        let unexpected = Broken::Connection(H3Code::FrameUnexpected, "a frame that may not stand there");
        match (kind, self.phase.get()) {
            (FrameKind::Headers, Phase::Head) => Ok(()),
            (FrameKind::Headers, Phase::Body) => {
                self.section.borrow_mut().clear();
                match length > self.section_bytes_max as u64 {
                    true => Err(Broken::Stream(H3Code::ExcessiveLoad, "trailers that are too large")),
                    false => Ok(()),
                }
            }
            (FrameKind::Data, Phase::Body) => {
                if length == 0 {
                    self.idle_frames.set(self.idle_frames.get() + 1);
                }
                self.announced.set(self.announced.get().saturating_add(length));
                self.check_length()
            }
            (FrameKind::Unknown, _) => {
                self.idle_frames.set(self.idle_frames.get() + 1);
                self.unknown.set(self.unknown.get().saturating_add(length));
                match self.unknown.get() > UNKNOWN_BYTES_MAX {
                    true => Err(Broken::Stream(H3Code::ExcessiveLoad, "many bytes that mean nothing")),
                    false => Ok(()),
                }
            }
            (FrameKind::Headers | FrameKind::Data, _) => Err(unexpected),
            (
                FrameKind::CancelPush
                | FrameKind::Settings
                | FrameKind::PushPromise
                | FrameKind::Goaway
                | FrameKind::MaxPushId
                | FrameKind::Reserved,
                _,
            ) => Err(unexpected),
        }
    }

    fn payload(&self, bytes: &[u8]) -> Result<(), Broken> {
        match self.kind.get() {
            FrameKind::Data => self.data.set(bytes.len()),
            FrameKind::Headers => self.section.borrow_mut().extend_from_slice(bytes),
            FrameKind::Unknown => {}
            FrameKind::CancelPush
            | FrameKind::Settings
            | FrameKind::PushPromise
            | FrameKind::Goaway
            | FrameKind::MaxPushId
            | FrameKind::Reserved => return Err(Broken::Connection(H3Code::FrameUnexpected, "a frame that may not stand there")),
        }
        Ok(())
    }

    fn end_of_section(&self) -> Result<(), Broken> {
        match self.phase.get() {
            Phase::Head => {
                self.phase.set(Phase::Body);
                Ok(())
            }
            Phase::Body | Phase::Over | Phase::Ended => {
                self.phase.set(Phase::Over);
                self.read_trailers()
            }
        }
    }

    fn read_trailers(&self) -> Result<(), Broken> {
        let (mut lines, mut wrong) = (self.worker.take_output(), None);
        read_section(&self.section.borrow(), &mut Vec::new(), |name, value| {
            if wrong.is_none() {
                wrong = h2_trailer(&mut lines, name, value, self.section_bytes_max).err();
            }
        })
        .map_err(|QpackError(why)| Broken::Connection(H3Code::DecompressionFailed, why))?;
        if let Some(why) = wrong {
            return Err(Broken::Stream(H3Code::MessageError, why));
        }
        forward_trailers(&lines, &mut self.trailers.borrow_mut());
        self.worker.give_output(lines);
        Ok(())
    }

    fn end_of_stream(&self) -> Result<(), Broken> {
        let before = self.phase.replace(Phase::Ended);
        if !self.frames.borrow().is_between() {
            return Err(Broken::Connection(H3Code::FrameError, "a stream that ends inside a frame"));
        }
        match before {
            Phase::Head => Err(Broken::Stream(H3Code::RequestIncomplete, "a stream without a request")),
            _ if self.length.get().is_some_and(|length| self.announced.get() < length) => {
                Err(Broken::Stream(H3Code::MessageError, "a body shorter than its Content-Length"))
            }
            Phase::Body | Phase::Over | Phase::Ended => Ok(()),
        }
    }

    /// One read; whether it found the end.
    fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        let mut buffer = std::mem::take(&mut *self.buffer.borrow_mut());
        if buffer.is_empty() {
            buffer = self.worker.take_buffer();
        }
        let read = self.recv.borrow_mut().poll_read(cx, &mut buffer);
        let count = match &read {
            Poll::Ready(Ok(count)) => *count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.start.set(0);
        self.end.set(count);
        match count {
            0 => self.worker.give_buffer(buffer),
            _ => *self.buffer.borrow_mut() = buffer,
        }
        Poll::Ready(match ready!(read) {
            Ok(count) => Ok(count == 0),
            Err(ReadError::Reset(_)) => Err(Broken::Reset),
            Err(
                ReadError::ConnectionLost(_)
                | ReadError::ClosedStream
                | ReadError::IllegalOrderedRead
                | ReadError::ZeroRttRejected,
            ) => Err(Broken::Lost),
        })
    }

    fn advance(&self, count: usize) {
        self.start.set(self.start.get() + count);
        if self.start.get() == self.end.get() && self.end.get() > 0 {
            self.start.set(0);
            self.end.set(0);
            self.worker.give_buffer(std::mem::take(&mut *self.buffer.borrow_mut()));
        }
    }

    pub fn data(&self) -> Ref<'_, [u8]> {
        let (start, length) = (self.start.get(), self.data.get());
        Ref::map(self.buffer.borrow(), |buffer| &buffer[start..start + length])
    }

    pub fn consume(&self, count: usize) {
        self.data.set(self.data.get() - count);
        self.advance(count);
    }

    pub fn at_hand(&self) -> usize {
        self.data.get()
    }

    /// The client's end was seen, and everything before it.
    pub fn is_over(&self) -> bool {
        self.phase.get() == Phase::Ended
    }

    pub fn trailers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.trailers.borrow());
    }

    /// Wants nothing more.
    pub fn stop(&self, code: H3Code) {
        if !self.is_over() {
            let _ = self.recv.borrow_mut().stop(super::code(code));
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let buffer = std::mem::take(self.buffer.get_mut());
        if !buffer.is_empty() {
            self.worker.give_buffer(buffer);
        }
    }
}
