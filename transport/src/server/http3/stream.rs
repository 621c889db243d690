//! One stream as the exchange sees it: the request's body, the client who waits, and after an extended CONNECT (RFC 9220) a tunnel.

use super::incoming::{Broken, HeadRead, Incoming};
use super::{Shared, code};
use crate::http2::{Answer, Qpack, interim, trailers};
use crate::server::ServerLimits;
use crate::server::answer::Outlet;
use crate::server::streams::{Talk, gone};
use maitred_core::{Client, Duplex, Fault, Kind, Progress};
use maitred_wire::{H3Code, ResponseHead, data_head, headers_frame};
use quinn::{RecvStream, SendStream, StoppedError, VarInt, WriteError};
use std::cell::{Cell, Ref, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// Bytes in one DATA frame.
const DATA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a tunnel that wait for the client.
const TUNNEL_BYTES_MAX: usize = 16 * 1024;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

pub(super) struct Stream {
    shared: Rc<Shared>,
    pub talk: Talk<H3Code>,
    pub body: Incoming,
    send: RefCell<SendStream>,
    /// Heads on their way, of frames and of messages, and how much of them is written.
    out: RefCell<Vec<u8>>,
    written: Cell<usize>,
    /// Bytes of the DATA frame that was announced last.
    frame_left: Cell<usize>,
    /// Nothing follows what is queued.
    ending: Cell<bool>,
    /// The end was sent, or a reset.
    over: Cell<bool>,
    stopped: RefCell<Option<Stopped>>,
    /// The client has given up on the stream.
    given_up: Cell<bool>,
}

impl Stream {
    pub fn new(shared: Rc<Shared>, limits: Rc<ServerLimits>, send: SendStream, recv: RecvStream) -> Stream {
        Stream {
            body: Incoming::new(shared.worker.clone(), recv, limits.head.head_bytes),
            talk: Talk::new(shared.worker.clone(), limits),
            shared,
            send: RefCell::new(send),
            out: RefCell::default(),
            written: Cell::new(0),
            frame_left: Cell::new(0),
            ending: Cell::new(false),
            over: Cell::new(false),
            stopped: RefCell::default(),
            given_up: Cell::new(false),
        }
    }

    /// Bytes of the request's body that came.
    pub fn read(&self) -> u64 {
        self.talk.read.get() + self.body.at_hand() as u64
    }

    /// The head, within its time.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<HeadRead, Fault>> {
        let read = self.body.poll_head(cx);
        self.poll_head_time(cx, read)
    }

    /// What follows the head, within its time.
    pub fn poll_decided(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let read = self.body.poll_more(cx);
        self.poll_head_time(cx, read)
    }

    fn poll_head_time<T>(&self, cx: &mut Context<'_>, read: Poll<Result<T, Broken>>) -> Poll<Result<T, Fault>> {
        let Talk { reading, worker, limits, .. } = &self.talk;
        if let Poll::Ready(read) = read {
            reading.rest();
            return Poll::Ready(read.map_err(|broken| self.fault(broken)));
        }
        ready!(reading.poll(cx, worker, limits.header_timeout));
        Poll::Ready(Err(Fault::new(Kind::RequestTimeout, "no whole request came for limits.header_timeout")))
    }

    /// What is there already of the body.
    pub fn look_ahead(&self, cx: &mut Context<'_>) -> Result<(), Fault> {
        match self.body.poll_more(cx) {
            Poll::Ready(Err(broken)) => Err(self.fault(broken)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// The body has so many bytes, if that was said.
    pub fn expect(&self, length: Option<u64>) -> Result<(), Fault> {
        self.body.expect(length).map_err(|broken| self.fault(broken))
    }

    /// What an end of reading means. The connection, or the stream, ends for it.
    fn fault(&self, broken: Broken) -> Fault {
        match broken {
            Broken::Reset => {
                self.given_up.set(true);
                Fault::new(Kind::ClientGone, "the client reset its stream")
            }
            Broken::Lost => gone(),
            Broken::Stream(code, why) => {
                self.talk.condemned.set(Some(code));
                Fault::new(Kind::BadRequest, why)
            }
            Broken::Connection(code, why) => {
                self.shared.close(code, why);
                Fault::new(Kind::ClientGone, why)
            }
        }
    }

    /// Queues a HEADERS frame.
    fn queue(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let worker = &self.talk.worker;
        let mut section = worker.take_output();
        write(&mut section);
        headers_frame(&mut self.out.borrow_mut(), &section);
        worker.give_output(section);
    }

    /// Sends what is queued at once, as far as it goes; the rest goes with what follows.
    fn push_interim(&self, head: &ResponseHead) {
        self.queue(|section| interim::<Qpack>(section, head.status, &head.headers));
        let _ = self.poll_queued(&mut Context::from_waker(Waker::noop()));
    }

    /// Sends what is queued.
    fn poll_queued(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let mut out = self.out.borrow_mut();
        while self.written.get() < out.len() {
            let count = ready!(self.poll_write_raw(cx, &out[self.written.get()..]))?;
            self.written.set(self.written.get() + count);
        }
        out.clear();
        self.written.set(0);
        Poll::Ready(Ok(()))
    }

    fn poll_write_raw(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        match Pin::new(&mut *self.send.borrow_mut()).poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => {
                self.talk.writing.moved(count, bytes.len());
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => {
                if let WriteError::Stopped(_) = error {
                    self.given_up.set(true);
                }
                Poll::Ready(Err(gone()))
            }
            Poll::Pending => self.talk.poll_write_patience(cx),
        }
    }

    /// Ready when the client has all, or wants no more, or is gone.
    fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut stopped = self.stopped.borrow_mut();
        let stopped = stopped.get_or_insert_with(|| Box::pin(self.send.borrow().stopped()));
        let told = ready!(stopped.as_mut().poll(cx));
        if let Ok(Some(_)) = told {
            self.given_up.set(true);
        }
        // Asked again it is not polled again.
        *stopped = Box::pin(std::future::ready(told));
        Poll::Ready(())
    }

    /// The same, within its time: the connection is not closed before.
    pub fn poll_farewell(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_delivered(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.talk.poll_write_patience::<()>(cx).map(drop),
        }
    }
}

impl Outlet for Stream {
    type Code = H3Code;
    const MALFORMED: H3Code = H3Code::MessageError;
    const CANCELLED: H3Code = H3Code::RequestCancelled;
    const BROKEN: H3Code = H3Code::InternalError;

    fn talk(&self) -> &Talk<H3Code> {
        &self.talk
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        // What is queued is this stream's own.
        Poll::Ready(Ok(()))
    }

    fn send_head(&self, last: bool, answer: &Answer<'_>) -> Result<(), Fault> {
        self.queue(|section| answer.write::<Qpack>(section));
        self.ending.set(last);
        Ok(())
    }

    /// What was announced and not taken must come first the next time.
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Fault>> {
        if self.frame_left.get() == 0 && !bytes.is_empty() {
            let length = bytes.len().min(DATA_BYTES_MAX);
            data_head(&mut self.out.borrow_mut(), length);
            self.frame_left.set(length);
        }
        ready!(self.poll_queued(cx))?;
        let piece = &bytes[..bytes.len().min(self.frame_left.get())];
        let count = if piece.is_empty() { 0 } else { ready!(self.poll_write_raw(cx, piece))? };
        self.frame_left.set(self.frame_left.get() - count);
        self.ending.set(last && count == bytes.len());
        Poll::Ready(Ok(count))
    }

    fn end(&self, lines: &[u8]) -> Result<(), Fault> {
        if self.frame_left.get() > 0 {
            // What stands for the rest of a frame would be taken for the body.
            return Err(Fault::new(Kind::ClientGone, "a frame that is not whole"));
        }
        if !lines.is_empty() {
            self.queue(|section| trailers::<Qpack>(section, lines));
        }
        self.ending.set(true);
        Ok(())
    }

    fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        if let Poll::Ready(Err(fault)) = self.poll_queued(cx) {
            return Poll::Ready(fault);
        }
        self.poll_delivered(cx).map(|()| gone())
    }

    fn reset(&self, reason: H3Code) {
        if !self.over.replace(true) {
            let _ = self.send.borrow_mut().reset(code(reason));
        }
        self.body.stop(reason);
    }
}

/// The request's body.
impl maitred_core::Stream for Stream {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        if self.talk.owes_continue.replace(false) && self.body.at_hand() == 0 {
            self.push_interim(&ResponseHead { status: 100, ..ResponseHead::default() });
        }
        if self.talk.tunnelled.get()
            && let Poll::Ready(Err(fault)) = self.poll_queued(cx)
        {
            return Poll::Ready(Err(fault));
        }
        let more = self.body.poll_more(cx);
        let idle = self.body.idle_frames.take();
        if idle > 0 {
            self.shared.count_idle(idle);
        }
        match more {
            Poll::Ready(done) => {
                self.talk.reading.rest();
                done.map_err(|broken| self.fault(broken))?;
                let at_hand = self.body.at_hand();
                self.talk.check_limit(at_hand)?;
                Poll::Ready(Ok(if at_hand == 0 { Progress::End } else { Progress::Data }))
            }
            Poll::Pending => self.talk.poll_body_patience(cx),
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.body.data()
    }

    fn consume(&self, count: usize) {
        self.body.consume(count);
        self.talk.took(count);
    }

    fn limit(&self, bytes: u64) {
        self.talk.limit(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.body.trailers(out);
    }

    fn finish(self: Rc<Self>) {}
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What is dropped unfinished would be finished: nobody may take a part for the whole.
        if !self.over.get() {
            let _ = self.send.get_mut().reset(code(H3Code::RequestCancelled));
        }
        self.body.stop(H3Code::NoError);
        if self.given_up.get() || self.talk.condemned.get().is_some() {
            self.shared.count_reset();
        }
    }
}

impl Client for Stream {
    fn interim(&self, head: &ResponseHead) {
        if self.talk.takes_interim() {
            self.push_interim(head);
        }
    }

    /// Sends what is queued, and the end, where that was said.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.poll_queued(cx))?;
        if self.ending.get() && !self.over.replace(true) {
            let _ = self.send.borrow_mut().finish();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_delivered(cx)
    }
}

/// After an extended CONNECT the stream is bytes both ways.
impl Duplex for Stream {
    /// A whole DATA frame, or none: what comes next may be a farewell, and not what a frame was announced for. What does not go at
    /// once goes when the other direction is looked at.
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        ready!(self.poll_queued(cx))?;
        let count = bytes.len().min(TUNNEL_BYTES_MAX);
        let mut out = self.out.borrow_mut();
        data_head(&mut out, count);
        out.extend_from_slice(&bytes[..count]);
        drop(out);
        if let Poll::Ready(Err(fault)) = self.poll_queued(cx) {
            return Poll::Ready(Err(fault));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.ending.set(true);
        self.poll_flush(cx)
    }
}
