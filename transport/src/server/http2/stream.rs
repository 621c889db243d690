//! One stream as the exchange sees it: the request's body, the client who waits, and after an extended CONNECT (RFC 8441) a tunnel.

use super::Shared;
use crate::http2::body::{Incoming, end, poll_give, rest};
use crate::http2::fields::add_fields;
use crate::server::ServerLimits;
use crate::timers::Timer;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Response, StatusCode};
use maitred_core::{Client, Duplex, Fault, Kind, Progress};
use maitred_wire::{RequestHead, ResponseHead, accept_key, make_key};
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Interim responses that wait for a client who does not read; hints are optional, memory is not.
const INTERIM_MAX: u32 = 16;

pub(super) struct Stream {
    pub shared: Rc<Shared>,
    pub limits: Rc<ServerLimits>,
    body: Incoming,
    /// The client has still to send something.
    receiving: Cell<bool>,
    pub respond: RefCell<SendResponse<Bytes>>,
    /// Once the response's head is out.
    pub send: RefCell<Option<SendStream<Bytes>>>,
    read: Cell<u64>,
    body_limit: Cell<u64>,
    owes_continue: Cell<bool>,
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
    pub fn new(
        shared: Rc<Shared>,
        limits: Rc<ServerLimits>,
        receive: RecvStream,
        respond: SendResponse<Bytes>,
        owes_continue: bool,
    ) -> Stream {
        let body = Incoming::new(receive);
        let receiving = Cell::new(!body.is_over());
        if receiving.get() {
            shared.line.receiving.set(shared.line.receiving.get() + 1);
        }
        Stream {
            read_timer: Timer::new(&shared.worker.timers),
            write_timer: Timer::new(&shared.worker.timers),
            shared,
            limits,
            body,
            receiving,
            respond: RefCell::new(respond),
            send: RefCell::default(),
            read: Cell::new(0),
            body_limit: Cell::new(u64::MAX),
            owes_continue: Cell::new(owes_continue),
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

    /// An HTTP/1.1 back end wants a key, which HTTP/2 has no use for (RFC 8441 §5).
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
    pub fn reset(&self, reason: Reason) {
        match &mut *self.send.borrow_mut() {
            Some(send) => send.send_reset(reason),
            None => self.respond.borrow_mut().send_reset(reason),
        }
    }

    /// Hands over as much of `bytes` as windows and the socket allow, waiting for the first. `last`: nothing follows them.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Fault>> {
        let mut send = self.send.borrow_mut();
        let Some(send) = &mut *send else { return Poll::Ready(Err(gone())) };
        match poll_give(cx, send, &self.shared.line, bytes, last) {
            Poll::Ready(given) => {
                if self.writing_timed.replace(false) {
                    self.write_timer.disarm();
                }
                Poll::Ready(given.map_err(|_| gone()))
            }
            Poll::Pending => self.poll_write_patience(cx, send),
        }
    }

    /// The client takes nothing: for how long?
    fn poll_write_patience(&self, cx: &mut Context<'_>, send: &mut SendStream<Bytes>) -> Poll<Result<usize, Fault>> {
        if send.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(gone()));
        }
        if !self.writing_timed.replace(true) {
            self.write_timer.arm(self.shared.worker.now() + self.limits.write_timeout);
        }
        ready!(self.write_timer.poll(cx));
        Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client took nothing for limits.write_timeout")))
    }

    /// There is nothing to send at the moment: gives back what was reserved, and looks whether the client is still there.
    pub fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        let mut send = self.send.borrow_mut();
        let Some(send) = &mut *send else { return Poll::Pending };
        rest(send);
        send.poll_reset(cx).map(|_| gone())
    }
}

pub(super) fn gone() -> Fault {
    Fault::new(Kind::ClientGone, "the client closed the stream")
}

/// The request's body.
impl maitred_core::Stream for Stream {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        if self.owes_continue.replace(false) {
            let head = Response::builder().status(StatusCode::CONTINUE).body(()).expect("a status is a response");
            let _ = self.respond.borrow_mut().send_informational(head);
        }
        loop {
            let at_hand = self.body.at_hand();
            if at_hand > 0 {
                if self.read.get() + at_hand as u64 > self.body_limit.get() {
                    return Poll::Ready(Err(Fault::new(Kind::BodyTooLarge, "the body grew over body_bytes")));
                }
                return Poll::Ready(Ok(Progress::Data));
            }
            if self.body.is_over() {
                return Poll::Ready(Ok(Progress::End));
            }
            match self.poll_more(cx) {
                Poll::Ready(done) => {
                    if self.reading_timed.replace(false) {
                        self.read_timer.disarm();
                    }
                    done?;
                }
                // Once the answer has begun, both sides speak when they have something to say.
                Poll::Pending if self.tunnelled.get() || self.send.borrow().is_some() => return Poll::Pending,
                Poll::Pending => {
                    if !self.reading_timed.replace(true) {
                        self.read_timer.arm(self.shared.worker.now() + self.limits.body_timeout);
                    }
                    ready!(self.read_timer.poll(cx));
                    return Poll::Ready(Err(Fault::new(
                        Kind::RequestTimeout,
                        "no byte of the body came for limits.body_timeout",
                    )));
                }
            }
        }
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

impl Stream {
    /// One more piece of the body, or its end with the trailers.
    fn poll_more(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let broken = |error: h2::Error| {
            Fault::new(Kind::ClientGone, format!("the client's stream broke in the middle of its body: {error}"))
        };
        ready!(self.body.poll_more(cx)).map_err(broken)?;
        if self.body.is_over() {
            self.request_is_over();
        }
        Poll::Ready(Ok(()))
    }

    fn request_is_over(&self) {
        if self.receiving.replace(false) {
            let receiving = &self.shared.line.receiving;
            receiving.set(receiving.get() - 1);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.request_is_over();
    }
}

impl Client for Stream {
    fn interim(&self, head: &ResponseHead) {
        let Ok(status) = StatusCode::from_u16(head.status) else { return };
        if self.interim.get() >= INTERIM_MAX {
            return;
        }
        self.interim.set(self.interim.get() + 1);
        let mut response = Response::new(());
        *response.status_mut() = status;
        add_fields(&head.headers, response.headers_mut());
        let _ = self.respond.borrow_mut().send_informational(response);
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.respond.borrow_mut().poll_reset(cx).map(drop)
    }
}

/// After an extended CONNECT the stream is bytes both ways.
impl Duplex for Stream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        self.poll_send(cx, bytes, false)
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match &mut *self.send.borrow_mut() {
            Some(send) => Poll::Ready(end(send, b"").map_err(|_| gone())),
            None => Poll::Ready(Err(gone())),
        }
    }
}
