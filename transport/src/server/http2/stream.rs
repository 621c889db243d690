//! One stream as the exchange sees it: the request's body, the client who waits, and after an extended CONNECT (RFC 8441) a tunnel.

use super::Shared;
use crate::http2::Channel;
use crate::server::ServerLimits;
use crate::timers::Timer;
use maitred_core::{Client, Duplex, Fault, Kind, Progress};
use maitred_wire::{H2Code, RequestHead, ResponseHead, accept_key, make_key};
use std::cell::{Cell, OnceCell, Ref};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Interim responses for one request; hints are optional, memory is not.
const INTERIM_MAX: u32 = 16;

pub(super) struct Stream {
    pub shared: Rc<Shared>,
    pub channel: Rc<Channel>,
    pub limits: Rc<ServerLimits>,
    /// The response's head is out.
    pub begun: Cell<bool>,
    read: Cell<u64>,
    body_limit: Cell<u64>,
    owes_continue: Cell<bool>,
    interim: Cell<u32>,
    reading: Patience,
    writing: Patience,
    tunnelled: Cell<bool>,
    /// What a back end must answer to the WebSocket key that we made.
    pub accept: Cell<[u8; 28]>,
}

/// A client that takes less than this of what there is, in all the time it is given, takes nothing.
const PIECE_BYTES_MIN: usize = 1024;

/// How long a stream waits for one thing. Most wait for nothing, and have no timer.
#[derive(Default)]
struct Patience {
    timer: OnceCell<Timer>,
    runs: Cell<bool>,
    /// Bytes that went since it runs.
    moved: Cell<usize>,
}

impl Patience {
    /// Ready when `time` has passed since the first of such polls in a row.
    fn poll(&self, cx: &mut Context<'_>, shared: &Shared, time: Duration) -> Poll<()> {
        let timer = self.timer.get_or_init(|| Timer::new(&shared.worker.timers));
        if !self.runs.replace(true) {
            self.moved.set(0);
            timer.arm(shared.worker.now() + time);
        }
        timer.poll(cx)
    }

    /// So many of the bytes at hand went.
    fn moved(&self, count: usize, of: usize) {
        self.moved.set(self.moved.get() + count);
        if count == of || self.moved.get() >= PIECE_BYTES_MIN {
            self.rest();
        }
    }

    /// What was waited for came.
    fn rest(&self) {
        if self.runs.replace(false)
            && let Some(timer) = self.timer.get()
        {
            timer.disarm();
        }
    }
}

impl Stream {
    /// `request` is its head.
    pub fn new(shared: Rc<Shared>, limits: Rc<ServerLimits>, channel: Rc<Channel>, request: &RequestHead) -> Stream {
        Stream {
            shared,
            channel,
            limits,
            begun: Cell::new(false),
            read: Cell::new(0),
            body_limit: Cell::new(u64::MAX),
            owes_continue: Cell::new(request.expect_continue),
            interim: Cell::new(0),
            reading: Patience::default(),
            writing: Patience::default(),
            tunnelled: Cell::new(false),
            accept: Cell::new([0; 28]),
        }
    }

    /// Bytes of the request's body that came.
    pub fn read(&self) -> u64 {
        self.read.get() + self.channel.at_hand() as u64
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
    pub fn reset(&self, code: H2Code) {
        self.shared.connection.reset(&self.channel, code);
    }

    /// Ready when a response may begin: what others have to send is not too much.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self.shared.connection.poll_room(cx, &self.channel) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.poll_write_patience(cx),
        }
    }

    /// Sends as much of `bytes` as windows and the socket allow, waiting for the first. `last`: nothing follows them.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<usize, Fault>> {
        match self.shared.connection.poll_send(cx, &self.channel, bytes, last) {
            Poll::Ready(Ok(count)) => {
                self.writing.moved(count, bytes.len());
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(gone())),
            Poll::Pending => self.poll_write_patience(cx),
        }
    }

    /// The client takes nothing: for how long?
    fn poll_write_patience<T>(&self, cx: &mut Context<'_>) -> Poll<Result<T, Fault>> {
        ready!(self.writing.poll(cx, &self.shared, self.limits.write_timeout));
        Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client took nothing for limits.write_timeout")))
    }

    /// There is nothing to send at the moment: is the client still there?
    pub fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.channel.poll_broken(cx).map(|_| gone())
    }

    /// Says that nothing follows, but trailers where there are any.
    pub fn end(&self, trailers: &[u8]) -> Result<(), Fault> {
        self.shared.connection.end(&self.channel, trailers).map_err(|_| gone())
    }
}

pub(super) fn gone() -> Fault {
    Fault::new(Kind::ClientGone, "the client closed the stream")
}

/// The request's body.
impl maitred_core::Stream for Stream {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        if self.owes_continue.replace(false) && self.channel.at_hand() == 0 {
            self.shared.connection.send_interim(&self.channel, 100, &ResponseHead::default().headers);
        }
        match self.channel.poll_incoming(cx) {
            Poll::Ready(progress) => {
                self.reading.rest();
                let progress = progress.map_err(|broken| {
                    Fault::new(Kind::ClientGone, format!("the client's stream broke in the middle of its body: {broken}"))
                })?;
                if self.read.get() + self.channel.at_hand() as u64 > self.body_limit.get() {
                    return Poll::Ready(Err(Fault::new(Kind::BodyTooLarge, "the body grew over body_bytes")));
                }
                Poll::Ready(Ok(progress))
            }
            // Once the answer has begun, both sides speak when they have something to say.
            Poll::Pending if self.tunnelled.get() || self.begun.get() => Poll::Pending,
            Poll::Pending => {
                ready!(self.reading.poll(cx, &self.shared, self.limits.body_timeout));
                Poll::Ready(Err(Fault::new(Kind::RequestTimeout, "no byte of the body came for limits.body_timeout")))
            }
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.channel.data()
    }

    fn consume(&self, count: usize) {
        self.shared.connection.consume(&self.channel, count);
        self.read.set(self.read.get() + count as u64);
    }

    fn limit(&self, bytes: u64) {
        self.body_limit.set(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.channel.copy_trailers(out);
    }

    fn finish(self: Rc<Self>) {}
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.connection.abandon(&self.channel);
    }
}

impl Client for Stream {
    fn interim(&self, head: &ResponseHead) {
        if self.interim.get() < INTERIM_MAX {
            self.interim.set(self.interim.get() + 1);
            self.shared.connection.send_interim(&self.channel, head.status, &head.headers);
        }
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_broken(cx).map(drop)
    }

    fn room(&self) -> usize {
        self.shared.connection.room(&self.channel)
    }
}

/// After an extended CONNECT the stream is bytes both ways.
impl Duplex for Stream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        self.poll_send(cx, bytes, false)
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(self.end(b""))
    }
}
