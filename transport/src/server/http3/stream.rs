//! One stream as the exchange sees it: the request's body, the client who waits, and after an extended CONNECT (RFC 9220) a tunnel.

use super::Shared;
use super::code;
use super::incoming::{Broken, HeadRead, Incoming};
use crate::server::ServerLimits;
use crate::timers::Timer;
use maitred_core::{Client, Duplex, Fault, Kind, Progress};
use maitred_wire::{
    H3Code, Name, RequestHead, ResponseHead, accept_key, begin_section, data_head, headers_frame, make_key, write_forwarded,
    write_status,
};
use quinn::{RecvStream, SendStream, StoppedError, VarInt, WriteError};
use std::cell::{Cell, Ref, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// Bytes in one DATA frame.
const DATA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a tunnel that wait for the client.
const TUNNEL_BYTES_MAX: usize = 16 * 1024;
/// Interim responses; hints are optional, memory is not.
const INTERIM_MAX: u32 = 16;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

pub(super) struct Stream {
    pub shared: Rc<Shared>,
    pub limits: Rc<ServerLimits>,
    pub body: Incoming,
    send: RefCell<SendStream>,
    /// Heads on their way, of frames and of messages, and how much of them is written.
    out: RefCell<Vec<u8>>,
    written: Cell<usize>,
    /// Bytes of the DATA frame that was announced last.
    frame_left: Cell<usize>,
    /// The response's head was queued.
    pub begun: Cell<bool>,
    /// Its end was sent, or a reset.
    over: Cell<bool>,
    stopped: RefCell<Option<Stopped>>,
    /// The client has given up on the stream.
    pub given_up: Cell<bool>,
    /// What is wrong with the request: it is answered with this and nothing else.
    pub condemned: Cell<Option<H3Code>>,
    read: Cell<u64>,
    body_limit: Cell<u64>,
    pub owes_continue: Cell<bool>,
    interim: Cell<u32>,
    read_timer: Timer,
    reading_timed: Cell<bool>,
    write_timer: Timer,
    writing_timed: Cell<bool>,
    tunnelled: Cell<bool>,
    /// What a back end must answer to the WebSocket key that we made.
    pub accept: Cell<[u8; 28]>,
}

impl Stream {
    pub fn new(shared: Rc<Shared>, limits: Rc<ServerLimits>, send: SendStream, recv: RecvStream) -> Stream {
        Stream {
            body: Incoming::new(shared.worker.clone(), recv, limits.head.head_bytes),
            read_timer: Timer::new(&shared.worker.timers),
            write_timer: Timer::new(&shared.worker.timers),
            shared,
            limits,
            send: RefCell::new(send),
            out: RefCell::default(),
            written: Cell::new(0),
            frame_left: Cell::new(0),
            begun: Cell::new(false),
            over: Cell::new(false),
            stopped: RefCell::default(),
            given_up: Cell::new(false),
            condemned: Cell::new(None),
            read: Cell::new(0),
            body_limit: Cell::new(u64::MAX),
            owes_continue: Cell::new(false),
            interim: Cell::new(0),
            reading_timed: Cell::new(false),
            writing_timed: Cell::new(false),
            tunnelled: Cell::new(false),
            accept: Cell::new([0; 28]),
        }
    }

    /// Bytes of the request's body that were taken.
    pub fn read(&self) -> u64 {
        self.read.get()
    }

    /// The head, within its time.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<HeadRead, Fault>> {
        match self.body.poll_head(cx) {
            Poll::Ready(read) => {
                self.read_timer.disarm();
                Poll::Ready(read.map_err(|broken| self.fault(broken)))
            }
            Poll::Pending => self.poll_head_time(cx).map(Err),
        }
    }

    /// What follows the head, within its time.
    pub fn poll_decided(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.body.poll_more(cx) {
            Poll::Ready(read) => {
                self.read_timer.disarm();
                Poll::Ready(read.map_err(|broken| self.fault(broken)))
            }
            Poll::Pending => self.poll_head_time(cx).map(Err),
        }
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

    fn poll_head_time(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        if !self.read_timer.is_armed() {
            self.read_timer.arm(self.shared.worker.now() + self.limits.header_timeout);
        }
        self.read_timer.poll(cx).map(|()| Fault::new(Kind::RequestTimeout, "no whole request came for limits.header_timeout"))
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
                self.condemned.set(Some(code));
                Fault::new(Kind::BadRequest, why)
            }
            Broken::Connection(code, why) => {
                self.shared.close(code, why);
                Fault::new(Kind::ClientGone, why)
            }
        }
    }

    /// An HTTP/1.1 back end wants a key, which HTTP/3 has no use for (RFC 9220).
    pub fn begin_websocket(&self, request: &mut RequestHead) {
        let chance = &self.shared.worker.chance;
        let mut random = [0; 16];
        for half in random.as_chunks_mut::<8>().0 {
            *half = chance.next().to_ne_bytes();
        }
        let key = make_key(random);
        request.headers.set(b"sec-websocket-key", &key);
        self.accept.set(accept_key(&key));
    }

    /// The rest of the stream is bytes of another protocol.
    pub fn become_tunnel(&self) {
        self.tunnelled.set(true);
        self.body_limit.set(u64::MAX);
    }

    /// Ends the stream with an error for the client.
    pub fn reset(&self, reason: H3Code) {
        if !self.over.replace(true) {
            let _ = self.send.borrow_mut().reset(code(reason));
        }
        self.body.stop(reason);
    }

    /// Queues a HEADERS frame.
    pub fn queue_section(&self, section: &[u8]) {
        headers_frame(&mut self.out.borrow_mut(), section);
    }

    /// No frame is announced that is not all there.
    pub fn is_between_frames(&self) -> bool {
        self.frame_left.get() == 0
    }

    /// Sends what is queued.
    pub fn poll_queued(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
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
            Poll::Ready(done) => {
                if self.writing_timed.replace(false) {
                    self.write_timer.disarm();
                }
                Poll::Ready(done.map_err(|error| {
                    if let WriteError::Stopped(_) = error {
                        self.given_up.set(true);
                    }
                    gone()
                }))
            }
            // The client takes nothing: for how long?
            Poll::Pending => {
                if !self.writing_timed.replace(true) {
                    self.write_timer.arm(self.shared.worker.now() + self.limits.write_timeout);
                }
                ready!(self.write_timer.poll(cx));
                Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client took nothing for limits.write_timeout")))
            }
        }
    }

    /// Hands over as much of `bytes` as windows allow, waiting for the first. What was announced and not taken must come first the
    /// next time.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        if self.frame_left.get() == 0 && !bytes.is_empty() {
            let length = bytes.len().min(DATA_BYTES_MAX);
            data_head(&mut self.out.borrow_mut(), length);
            self.frame_left.set(length);
        }
        ready!(self.poll_queued(cx))?;
        let piece = &bytes[..bytes.len().min(self.frame_left.get())];
        let count = ready!(self.poll_write_raw(cx, piece))?;
        self.frame_left.set(self.frame_left.get() - count);
        Poll::Ready(Ok(count))
    }

    /// Sends what is queued, and that nothing follows.
    pub fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.poll_queued(cx))?;
        if !self.over.replace(true) {
            let _ = self.send.borrow_mut().finish();
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has all, or wants no more, or is gone.
    pub fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
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

    /// There is nothing to send at the moment: looks whether the client is still there.
    pub fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        if let Poll::Ready(Err(fault)) = self.poll_queued(cx) {
            return Poll::Ready(fault);
        }
        self.poll_delivered(cx).map(|()| gone())
    }

    /// At once, as far as it goes; the rest goes with what follows.
    fn push(&self) {
        let _ = self.poll_queued(&mut Context::from_waker(Waker::noop()));
    }
}

pub(super) fn gone() -> Fault {
    Fault::new(Kind::ClientGone, "the client closed the stream")
}

/// The request's body.
impl maitred_core::Stream for Stream {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        if self.owes_continue.replace(false) {
            let mut section = Vec::new();
            begin_section(&mut section);
            write_status(&mut section, 100);
            self.queue_section(&section);
            self.push();
        }
        if self.tunnelled.get()
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
                if self.reading_timed.replace(false) {
                    self.read_timer.disarm();
                }
                done.map_err(|broken| self.fault(broken))?;
            }
            // Once the answer has begun, both sides speak when they have something to say.
            Poll::Pending if self.tunnelled.get() || self.begun.get() => return Poll::Pending,
            Poll::Pending => {
                if !self.reading_timed.replace(true) {
                    self.read_timer.arm(self.shared.worker.now() + self.limits.body_timeout);
                }
                ready!(self.read_timer.poll(cx));
                return Poll::Ready(Err(Fault::new(Kind::RequestTimeout, "no byte of the body came for limits.body_timeout")));
            }
        }
        let at_hand = self.body.at_hand();
        if at_hand == 0 {
            return Poll::Ready(Ok(Progress::End));
        }
        if self.read.get() + at_hand as u64 > self.body_limit.get() {
            return Poll::Ready(Err(Fault::new(Kind::BodyTooLarge, "the body grew over body_bytes")));
        }
        Poll::Ready(Ok(Progress::Data))
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.body.data()
    }

    fn consume(&self, count: usize) {
        self.body.consume(count);
        self.read.set(self.read.get() + count as u64);
    }

    fn limit(&self, bytes: u64) {
        self.body_limit.set(bytes);
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
        if self.given_up.get() {
            self.shared.count_reset();
        }
    }
}

impl Client for Stream {
    fn interim(&self, head: &ResponseHead) {
        if self.interim.get() >= INTERIM_MAX {
            return;
        }
        self.interim.set(self.interim.get() + 1);
        let mut section = Vec::new();
        begin_section(&mut section);
        write_status(&mut section, head.status);
        write_fields(&mut section, head, true);
        self.queue_section(&section);
        self.push();
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.poll_queued(cx)
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_delivered(cx)
    }
}

/// The fields of a response's head that go on to a client.
pub(super) fn write_fields(section: &mut Vec<u8>, head: &ResponseHead, with_length: bool) {
    let headers = &head.headers;
    for entry in headers.iter() {
        let is_ours = entry.known == Name::XRequestId || entry.known == Name::ContentLength && !with_length;
        if !entry.known.is_hop_by_hop() && !is_ours {
            write_forwarded(section, headers.name(entry), headers.value(entry));
        }
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
        self.poll_end(cx)
    }
}
