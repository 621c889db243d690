//! The back end's side of HTTP/1.1: one connection, one request at a time, its response streamed.

use super::due::{Due, no_head};
use super::{Begin, Failure, Places, broken};
use crate::input::{BUFFER_BYTES, HEAD_BYTES};
use crate::reader::Reader;
use crate::socket::Socket;
use crate::timers::Timer;
use crate::upstream::{ConnectionPlace, ConnectionPool as Pool};
use crate::worker::Worker;
use maitred_core::balance::{InFlight, OpenConnection};
use maitred_core::{Body, Client, Duplex, Fault, Kind, Progress, Stream};
use maitred_wire::{Framing, HeadLimits, LAST_CHUNK, Parsed, ResponseHead, chunk_head};
use std::cell::{Cell, Ref, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// How long a client that expects 100 is kept waiting for the back end's word before its body is asked for anyway.
const CONTINUE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The request's body on its way.
#[derive(Default)]
struct Upload {
    body: Body,
    chunked: bool,
    /// How much of the body's data at hand is copied behind the head and will be consumed once something was written.
    prefilled: usize,
    /// Waits for the back end's 100.
    held: bool,
    done: bool,
}

pub struct ClientConnection {
    socket: Socket,
    worker: Rc<Worker>,
    pool: Weak<Pool>,
    reader: RefCell<Reader>,
    /// What is queued for the back end, and how much of it is written.
    out: RefCell<Vec<u8>>,
    written: Cell<usize>,
    upload: RefCell<Upload>,
    timer: Timer,
    /// Only the upload's hold and stalls use it, so it is made when first needed.
    upload_timer: RefCell<Option<Timer>>,
    upload_timed: Cell<bool>,
    reading_timed: Cell<bool>,
    /// The response timer runs.
    response_timed: Cell<bool>,
    any_written: Cell<bool>,
    /// A head was read, be it an interim one.
    any_read: Cell<bool>,
    /// The wait for the back end's 100 has begun.
    holding: Cell<bool>,
    /// It was just found quiet, by the task that uses it now.
    quiet: Cell<bool>,
    to_head: Cell<bool>,
    upgrade: Cell<bool>,
    tunnelled: Cell<bool>,
    keep_alive: Cell<bool>,
    /// `None` also where the back end's own time is over before.
    deadline: Cell<Option<Due>>,
    /// When the request began, until all of it is written.
    started: Cell<Option<Instant>>,
    response_timeout: Cell<Duration>,
    idle_timeout: Cell<Duration>,
    /// When the last response began, or was last waited for.
    pub(crate) idle_since: Cell<Instant>,
    /// The request's place in what its endpoint has under way.
    in_flight: Cell<Option<InFlight>>,
    _open: OpenConnection,
    /// And in what its upstream has, where that is limited; with the connection's own.
    places: Cell<Places>,
    pub(crate) place: Option<ConnectionPlace>,
}

impl ClientConnection {
    /// Without a pool it serves one request.
    pub(crate) fn new(
        socket: Socket,
        worker: &Rc<Worker>,
        pool: Option<&Rc<Pool>>,
        open: OpenConnection,
        place: Option<ConnectionPlace>,
    ) -> Rc<ClientConnection> {
        worker.shard().upstream_open.add(1);
        Rc::new(ClientConnection {
            socket,
            worker: worker.clone(),
            pool: pool.map(Rc::downgrade).unwrap_or_default(),
            reader: RefCell::default(),
            out: RefCell::default(),
            written: Cell::new(0),
            upload: RefCell::default(),
            timer: Timer::new(&worker.timers),
            upload_timer: RefCell::default(),
            upload_timed: Cell::new(false),
            reading_timed: Cell::new(false),
            response_timed: Cell::new(false),
            any_written: Cell::new(false),
            any_read: Cell::new(false),
            holding: Cell::new(false),
            quiet: Cell::new(false),
            to_head: Cell::new(false),
            upgrade: Cell::new(false),
            tunnelled: Cell::new(false),
            keep_alive: Cell::new(false),
            deadline: Cell::new(None),
            started: Cell::new(None),
            response_timeout: Cell::new(Duration::ZERO),
            idle_timeout: Cell::new(Duration::ZERO),
            idle_since: Cell::new(worker.now()),
            in_flight: Cell::new(None),
            _open: open,
            places: Cell::default(),
            place,
        })
    }

    pub(super) fn carry(&self, in_flight: InFlight) {
        self.in_flight.set(Some(in_flight));
    }

    pub(super) fn hold(&self, places: Places) {
        self.places.set(places);
    }

    /// Its response began at that time: from now on it is needed, or idle.
    pub(crate) fn answered(&self, now: Instant) {
        self.idle_since.set(now);
    }

    /// When a pooled connection has waited for `timeouts.idle` of the upstream that used it last.
    pub(crate) fn idle_until(&self) -> Instant {
        self.idle_since.get() + self.idle_timeout.get()
    }

    /// Whether a pooled connection looks alive: no FIN and no byte came while it waited. Costs no system call unless one did.
    pub(crate) fn is_quiet(&self, cx: &mut Context<'_>) -> bool {
        match self.socket.poll_read_ready(cx) {
            Poll::Pending => {
                self.quiet.set(true);
                true
            }
            Poll::Ready(_) => self.socket.peek() == crate::socket::Peek::Nothing,
        }
    }

    /// Takes up a request. `head` writes its head; body bytes at hand go behind it, into the same write.
    pub fn begin(&self, cx: &mut Context<'_>, begin: Begin, head: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        let mut out = self.worker.take_output();
        head(&mut out);
        self.to_head.set(begin.to_head);
        self.upgrade.set(begin.upgrade);
        self.deadline.set(begin.deadline);
        self.started.set(Some(begin.started));
        self.response_timeout.set(begin.response_timeout);
        self.idle_timeout.set(begin.idle_timeout);
        self.any_written.set(false);
        self.any_read.set(false);
        self.holding.set(false);
        self.response_timed.set(false);
        self.keep_alive.set(false);
        self.written.set(0);
        let mut upload = Upload {
            chunked: begin.framing == Framing::Chunked,
            held: begin.expect_continue,
            done: begin.body.is_empty(),
            body: begin.body,
            prefilled: 0,
        };
        if !upload.done && !upload.held {
            upload.prefill(cx, &mut out).map_err(Failure::unsent)?;
        }
        *self.out.borrow_mut() = out;
        *self.upload.borrow_mut() = upload;
        Ok(())
    }

    /// The request's body again, where an attempt failed before anything was written.
    pub fn take_back_body(&self) -> Body {
        std::mem::take(&mut self.upload.borrow_mut().body)
    }

    /// Sends the request and waits for the response's head. Interim responses go to the client at once.
    pub fn poll_response(
        &self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        client: Option<&dyn Client>,
        limits: &HeadLimits,
    ) -> Poll<Result<(), Failure>> {
        let mut unsent = self.send_more(cx)?;
        if self.quiet.replace(false) && unsent.is_none() {
            // A moment ago there was nothing to read, and whoever is to be woken by an answer is this very task.
            return self.poll_patience(cx, client);
        }
        if client.is_some_and(|client| client.room() < HEAD_BYTES) {
            self.reader.borrow_mut().input.expect_little();
        }
        loop {
            match self.poll_head(cx, head, limits) {
                Poll::Ready(Ok(())) => {}
                // A back end may answer, and close, without reading all: the answer counts more than the failed write.
                Poll::Ready(Err(failure)) => {
                    let fault = match unsent.take() {
                        Some(error) => broken::unwritten(&error),
                        None => failure,
                    };
                    return Poll::Ready(Err(self.failure(fault)));
                }
                Poll::Pending => match &unsent {
                    Some(error) if !self.any_written.get() => {
                        return Poll::Ready(Err(self.failure(broken::unwritten(error))));
                    }
                    Some(_) | None => return self.poll_patience(cx, client),
                },
            }
            match (head.status, head.is_interim()) {
                (100, _) => {
                    self.upload.borrow_mut().held = false;
                    unsent = self.send_more(cx)?;
                }
                (_, true) => {
                    if let Some(client) = client {
                        client.interim(head);
                        let _ = client.poll_flush(cx);
                    }
                }
                (101, _) if !self.upgrade.get() => {
                    return Poll::Ready(Err(self.failure(Fault::new(Kind::UpstreamProtocol, "101 without a request for it"))));
                }
                _ => {
                    self.timer.disarm();
                    self.begin_response(head);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Sends as much of the request as goes. Gives the error where the back end takes no more: it may have answered before.
    fn send_more(&self, cx: &mut Context<'_>) -> Result<Option<std::io::Error>, Failure> {
        // A request that is written at once ends when it began: no need to look at the clock again.
        let started = self.started.take();
        match self.poll_upload(cx) {
            Poll::Pending => Ok(None),
            Poll::Ready(Ok(())) => {
                self.arm_response_timer(started);
                Ok(None)
            }
            Poll::Ready(Err(Sending::Client(fault))) => Err(self.failure(fault)),
            Poll::Ready(Err(Sending::Upstream(error))) if error.kind() == std::io::ErrorKind::TimedOut => {
                Err(self.failure(Fault::new(Kind::UpstreamTimeout, "the back end took no byte of the request for timeouts.idle")))
            }
            Poll::Ready(Err(Sending::Upstream(error))) => Ok(Some(error)),
        }
    }

    /// Nothing to read: is the client still there, and is there time left?
    fn poll_patience(&self, cx: &mut Context<'_>, client: Option<&dyn Client>) -> Poll<Result<(), Failure>> {
        if client.is_some_and(|client| client.poll_gone(cx).is_ready()) {
            return Poll::Ready(Err(self.failure(Fault::new(Kind::ClientGone, "the client went away while it waited"))));
        }
        if !self.response_timed.get()
            && !self.timer.is_armed()
            && let Some(deadline) = self.deadline.get()
        {
            self.timer.arm(deadline.at);
        }
        ready!(self.timer.poll(cx));
        Poll::Ready(Err(self.failure(no_head(self.deadline.get(), self.response_timeout.get()))))
    }

    /// The request is out: from now the back end's time runs.
    fn arm_response_timer(&self, now: Option<Instant>) {
        if !self.response_timed.replace(true) {
            let due = now.unwrap_or_else(|| self.worker.now()) + self.response_timeout.get();
            let sooner = self.deadline.get().filter(|deadline| deadline.at <= due);
            self.deadline.set(sooner);
            self.timer.arm(sooner.map_or(due, |deadline| deadline.at));
        }
    }

    fn failure(&self, fault: Fault) -> Failure {
        let unanswered = !self.any_read.get() && self.reader.borrow().input.is_empty();
        Failure { fault, unsent: !self.any_written.get(), unanswered, refused: false }
    }

    fn poll_head(&self, cx: &mut Context<'_>, head: &mut ResponseHead, limits: &HeadLimits) -> Poll<Result<(), Fault>> {
        let mut reader = self.reader.borrow_mut();
        loop {
            if !reader.input.is_empty() {
                let parsed = head.parse(reader.input.data(), self.to_head.get(), limits);
                match parsed.map_err(|refusal| broken::refused(refusal, reader.input.data()))? {
                    Parsed::Complete(length) => {
                        reader.input.consume(length, &self.worker);
                        self.any_read.set(true);
                        return Poll::Ready(Ok(()));
                    }
                    Parsed::Partial => {}
                }
            }
            match ready!(reader.input.poll_fill(cx, &self.socket, &self.worker, limits.head_bytes)) {
                Ok(0) => return Poll::Ready(Err(broken::without_head(!reader.input.is_empty()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(broken::connection(&error))),
            }
        }
    }

    fn begin_response(&self, head: &ResponseHead) {
        let framing = if head.status == 101 { Framing::Close } else { head.framing };
        self.tunnelled.set(head.status == 101);
        self.keep_alive.set(head.keep_alive && head.status != 101);
        self.reader.borrow_mut().begin(framing);
        if head.status != 101 && self.upload.borrow().held {
            // Refused without 100: the body is not sent, and the connection can't be used again.
            self.keep_alive.set(false);
            self.upload.borrow_mut().body = Body::Empty;
        }
    }

    /// Writes what is queued, then the body as it comes. Ready when all is written.
    fn poll_upload(&self, cx: &mut Context<'_>) -> Poll<Result<(), Sending>> {
        let mut upload = self.upload.borrow_mut();
        loop {
            // Small chunks are gathered, so that a client's many do not become as many system calls.
            let gathers = upload.chunked && !upload.done && !upload.held && upload.prefilled == 0;
            if !gathers || self.out.borrow().len() >= BUFFER_BYTES {
                ready!(self.poll_flush(cx, &mut upload))?;
            }
            if upload.done {
                return Poll::Ready(Ok(()));
            }
            if upload.held {
                if !self.holding.replace(true) {
                    self.with_upload_timer(|timer| timer.arm(self.worker.now() + CONTINUE_WAIT_MAX));
                }
                ready!(self.with_upload_timer(|timer| timer.poll(cx)));
                upload.held = false;
            }
            let body = std::mem::take(&mut upload.body);
            let pumped = self.poll_pump(cx, &body, &mut upload);
            upload.body = body;
            if pumped.is_pending() {
                ready!(self.poll_flush(cx, &mut upload))?;
            }
            ready!(pumped)?;
        }
    }

    /// Moves the next piece of the body into `out`, or straight to the socket.
    fn poll_pump(&self, cx: &mut Context<'_>, body: &Body, upload: &mut Upload) -> Poll<Result<(), Sending>> {
        let Body::Stream(stream) = body else {
            upload.done = true;
            return Poll::Ready(Ok(()));
        };
        match ready!(stream.poll_ready(cx)).map_err(Sending::Client)? {
            Progress::End => {
                if upload.chunked {
                    end_of_chunks(stream, &mut self.out.borrow_mut());
                }
                upload.done = true;
            }
            Progress::Data if upload.chunked => {
                let mut out = self.out.borrow_mut();
                let data = stream.data();
                let count = data.len().min(BUFFER_BYTES);
                append_chunk(&data[..count], &mut out);
                drop(data);
                stream.consume(count);
            }
            Progress::Data => {
                let data = stream.data();
                let count = ready!(self.poll_timed_write(cx, &data))?;
                drop(data);
                stream.consume(count);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<(), Sending>> {
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written.get() < out.len() {
            let count = ready!(self.poll_timed_write(cx, &out[self.written.get()..]))?;
            self.written.set(self.written.get() + count);
            upload.consume_prefilled();
        }
        self.written.set(0);
        if upload.done || !upload.chunked {
            self.worker.give_output(std::mem::take(&mut *out));
        } else {
            out.clear();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_timed_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Sending>> {
        match self.socket.poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => {
                self.any_written.set(true);
                if self.upload_timed.replace(false) {
                    self.with_upload_timer(Timer::disarm);
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Sending::Upstream(error))),
            Poll::Pending => {
                // An encrypted stream may have sent a part of what it has not acknowledged to us.
                self.any_written.set(self.any_written.get() || self.socket.is_encrypted());
                if !self.upload_timed.replace(true) {
                    self.with_upload_timer(|timer| timer.arm(self.worker.now() + self.idle_timeout.get()));
                }
                ready!(self.with_upload_timer(|timer| timer.poll(cx)));
                Poll::Ready(Err(Sending::Upstream(std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    "the back end takes nothing",
                ))))
            }
        }
    }

    fn with_upload_timer<T>(&self, then: impl FnOnce(&Timer) -> T) -> T {
        then(self.upload_timer.borrow_mut().get_or_insert_with(|| Timer::new(&self.worker.timers)))
    }
}

/// Which side broke while a body was sent.
enum Sending {
    Client(Fault),
    Upstream(std::io::Error),
}

impl Upload {
    /// Copies body bytes that are at hand already behind the head. They are consumed when the first write went well, so that
    /// an attempt that wrote nothing leaves the body whole.
    fn prefill(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Body::Stream(stream) = &self.body else { return Ok(()) };
        match stream.poll_ready(cx) {
            Poll::Ready(Err(fault)) => return Err(fault),
            Poll::Ready(Ok(Progress::Data)) => {
                let data = stream.data();
                let count = data.len().min(BUFFER_BYTES);
                if self.chunked {
                    append_chunk(&data[..count], out);
                } else {
                    out.extend_from_slice(&data[..count]);
                }
                self.prefilled = count;
            }
            Poll::Ready(Ok(Progress::End)) | Poll::Pending => {}
        }
        Ok(())
    }

    fn consume_prefilled(&mut self) {
        if let (Body::Stream(stream), 1..) = (&self.body, self.prefilled) {
            stream.consume(self.prefilled);
        }
        self.prefilled = 0;
    }
}

fn append_chunk(data: &[u8], out: &mut Vec<u8>) {
    chunk_head(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The last chunk, and the trailers that the stream ended with.
pub(crate) fn end_of_chunks(stream: &Rc<dyn Stream>, out: &mut Vec<u8>) {
    out.extend_from_slice(&LAST_CHUNK[..3]);
    stream.trailers(out);
    out.extend_from_slice(b"\r\n");
}

/// The response's body.
impl Stream for ClientConnection {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        // A response may begin, even end, before the request has: go on sending.
        if !self.upload.borrow().done && !self.tunnelled.get() {
            match self.poll_upload(cx) {
                Poll::Pending | Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Sending::Client(fault))) => return Poll::Ready(Err(fault)),
                // The back end wants no more of it.
                Poll::Ready(Err(Sending::Upstream(_))) => {
                    self.upload.borrow_mut().body = Body::Empty;
                    self.keep_alive.set(false);
                }
            }
        }
        match self.reader.borrow_mut().poll_ready(cx, &self.socket, &self.worker) {
            Poll::Ready(done) => {
                if self.reading_timed.replace(false) {
                    self.timer.disarm();
                }
                Poll::Ready(done.map_err(broken::body))
            }
            Poll::Pending if self.tunnelled.get() => Poll::Pending,
            Poll::Pending => {
                if !self.reading_timed.replace(true) {
                    let now = self.worker.now();
                    self.idle_since.set(now);
                    self.timer.arm(now + self.idle_timeout.get());
                }
                ready!(self.timer.poll(cx));
                Poll::Ready(Err(Fault::new(Kind::UpstreamTimeout, "no byte of the response came for timeouts.idle")))
            }
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.reader.borrow(), Reader::data)
    }

    fn consume(&self, count: usize) {
        self.reader.borrow_mut().consume(count, &self.worker);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.reader.borrow().trailers);
    }

    /// Back to the pool, if both messages ended and nothing stray came behind them.
    fn finish(self: Rc<Self>) {
        let reader = self.reader.borrow();
        let done = reader.is_done() && reader.input.is_empty() && self.upload.borrow().done;
        let reusable = done && self.keep_alive.get();
        drop(reader);
        *self.upload.borrow_mut() = Upload::default();
        self.in_flight.take();
        self.places.take();
        if let (true, Some(pool)) = (reusable, self.pool.upgrade()) {
            pool.put(self);
        }
    }
}

/// After 101.
impl Duplex for ClientConnection {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        self.socket.poll_write(cx, bytes).map_err(|error| broken::connection(&error))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.socket.poll_shutdown(cx).map_err(|_| Fault::new(Kind::UpstreamReset, "the back end closed the connection"))
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.worker.shard().upstream_open.sub(1);
        self.reader.borrow_mut().input.release(&self.worker);
        self.worker.give_output(std::mem::take(&mut *self.out.borrow_mut()));
    }
}
