//! The client's side of HTTP/1.1: one task per connection reads a head, has it answered, writes the response, and goes on.
//! Knows no routes; `Service` answers.

use super::sending::{Mode, Sending, TopUp};
use super::under_way::UnderWay;
use super::{Ends, ServerLimits, Service};
use crate::input::{BUFFER_BYTES, Input};
use crate::reader::{ReadError, Reader};
use crate::socket::{Peek, Socket};
use crate::timers::Timer;
use crate::tunnel;
use crate::worker::Worker;
use maitred_core::{Body, Client, Duplex, Exchange, Fault, Kind, Progress, Response, Stream};
use maitred_wire::{Framing, Name, Parsed, RequestHead, ResponseHead, Version, decimal, field, status_line};
use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A refused request's body is discarded up to here, so that the answer is not lost to a reset.
const DISCARD_BYTES_MAX: usize = 1024 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);
/// Body bytes up to here are copied behind the head, to go out in one write.
pub(super) const COPY_BYTES_MAX: usize = BUFFER_BYTES;

/// Serves one connection until it ends. `input`: what was read of it; `timer`: the one that watched over that.
pub(super) async fn serve<S: Service>(socket: Socket, ends: Ends, input: Input, timer: Timer, worker: Rc<Worker>, service: &S) {
    let limits = service.limits();
    let connection = Rc::new(Connection {
        socket,
        read_timer: timer,
        write_timer: Timer::new(&worker.timers),
        worker,
        ends,
        reader: RefCell::new(Reader::with(input)),
        out: RefCell::default(),
        written: Cell::new(0),
        limits: RefCell::new(limits),
        body_limit: Cell::new(u64::MAX),
        owes_continue: Cell::new(false),
        watching: Cell::new(true),
        reading_timed: Cell::new(false),
        writing_timed: Cell::new(false),
        any_written: Cell::new(false),
        takes_interim: Cell::new(true),
        tunnelled: Cell::new(false),
    });
    connection.run(service).await;
}

pub(super) struct Connection {
    pub(super) socket: Socket,
    worker: Rc<Worker>,
    ends: Ends,
    reader: RefCell<Reader>,
    pub(super) out: RefCell<Vec<u8>>,
    /// How much of `out` is written.
    pub(super) written: Cell<usize>,
    read_timer: Timer,
    write_timer: Timer,
    limits: RefCell<Rc<ServerLimits>>,
    body_limit: Cell<u64>,
    /// The client waits for 100 before it sends its body.
    owes_continue: Cell<bool>,
    /// Whether a sign that the client is gone would be news.
    watching: Cell<bool>,
    reading_timed: Cell<bool>,
    writing_timed: Cell<bool>,
    /// Something of this response went out.
    any_written: Cell<bool>,
    /// HTTP/1.0 clients know no 1xx.
    takes_interim: Cell<bool>,
    /// No HTTP any more: the tunnel has its own idle time.
    tunnelled: Cell<bool>,
}

/// What becomes of the connection after a response.
enum Next {
    Request,
    Close,
    /// The client may still be sending: answer, discard, close. What it was in stays open for so long.
    Linger(Option<tunnel::Open>),
    /// The response broke before a byte of it was written: there is time for another.
    Unsent(Fault),
}

/// Why there is no request.
enum NoHead {
    /// Closed, broken or idle too long: nobody expects an answer.
    Over,
    Fault(Fault),
}

impl Connection {
    async fn run<S: Service>(self: &Rc<Self>, service: &S) {
        let mut now = self.worker.now();
        let mut patience = self.limits.borrow().header_timeout;
        loop {
            self.reading_timed.set(false);
            self.read_timer.arm(now + patience);
            if poll_fn(|cx| self.poll_first_byte(cx)).await.is_err() {
                return;
            }
            let limits = service.limits();
            *self.limits.borrow_mut() = limits.clone();
            now = self.worker.now();
            let mut under_way = UnderWay::begin(&self.worker, service, now);
            let Some(exchange) = &mut under_way.exchange else { return };
            let head = poll_fn(|cx| self.poll_head(cx, &mut exchange.request, &limits)).await;
            let response = match head {
                Err(NoHead::Over) => return,
                Err(NoHead::Fault(fault)) => {
                    self.begin(exchange, Framing::None);
                    exchange.request.keep_alive = false;
                    under_way.named = true;
                    service.refuse(exchange, fault)
                }
                Ok(slow) => {
                    if slow {
                        exchange.record.started = self.worker.now();
                    }
                    let framing = exchange.request.framing;
                    self.begin(exchange, framing);
                    under_way.named = true;
                    service.call(exchange).await
                }
            };
            let mut next = self.respond(exchange, response, service).await;
            if let Next::Unsent(fault) = next {
                let response = service.fail(exchange, fault);
                next = self.respond(exchange, response, service).await;
            }
            now = self.worker.now();
            under_way.end(now, self.reader.borrow().seen());
            match next {
                Next::Request => patience = limits.idle_timeout,
                Next::Close | Next::Unsent(_) => return,
                Next::Linger(_tunnel) => return self.linger(now).await,
            }
        }
    }

    /// Ready when a request begins to arrive; holds no buffer while it waits.
    fn poll_first_byte(&self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let mut reader = self.reader.borrow_mut();
        if !reader.input.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match reader.input.poll_fill(cx, &self.socket, &self.worker, BUFFER_BYTES) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(())),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Pending => self.read_timer.poll(cx).map(|()| Err(())),
        }
    }

    /// Gives whether the head came in pieces.
    fn poll_head(&self, cx: &mut Context<'_>, request: &mut RequestHead, limits: &ServerLimits) -> Poll<Result<bool, NoHead>> {
        let mut reader = self.reader.borrow_mut();
        loop {
            if !reader.input.is_empty() {
                match request.parse(reader.input.data(), &limits.head).map_err(|refusal| NoHead::Fault(refusal.into()))? {
                    Parsed::Complete(length) => {
                        reader.input.consume(length, &self.worker);
                        self.read_timer.disarm();
                        let slow = self.reading_timed.replace(false);
                        return Poll::Ready(Ok(slow));
                    }
                    Parsed::Partial if !self.reading_timed.get() => {
                        self.reading_timed.set(true);
                        self.read_timer.arm(self.worker.now() + limits.header_timeout);
                    }
                    Parsed::Partial => {}
                }
            }
            let most = limits.head.head_bytes + limits.head.target_bytes;
            match reader.input.poll_fill(cx, &self.socket, &self.worker, most) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(NoHead::Over)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    ready!(self.read_timer.poll(cx));
                    let begun = !reader.input.is_empty();
                    let late =
                        || NoHead::Fault(Fault::new(Kind::RequestTimeout, "the head took longer than limits.header_timeout"));
                    return Poll::Ready(Err(if begun { late() } else { NoHead::Over }));
                }
            }
        }
    }

    /// A head was read, or refused: make the exchange this connection's.
    fn begin(self: &Rc<Self>, exchange: &mut Exchange, framing: Framing) {
        self.reader.borrow_mut().begin(framing);
        self.body_limit.set(u64::MAX);
        self.watching.set(true);
        self.takes_interim.set(exchange.request.version != Version::Http10);
        self.owes_continue.set(exchange.request.expect_continue);
        self.ends.introduce(exchange);
        exchange.client = Some(self.clone());
        exchange.body = if framing == Framing::None { Body::Empty } else { Body::Stream(self.clone()) };
    }

    async fn respond<S: Service>(self: &Rc<Self>, exchange: &mut Exchange, response: Response, service: &S) -> Next {
        if matches!(exchange.record.fault, Some((Kind::ClientGone, _))) {
            exchange.keep_head(response.head);
            return Next::Close;
        }
        let Response { head, body } = response;
        exchange.record.status = head.status;
        if let Body::Tunnel(upstream) = body {
            self.queue_head(exchange, &head, Mode::Upgrade, true, service);
            exchange.keep_head(head);
            exchange.hold.narrow();
            return self.tunnel(exchange, upstream).await;
        }
        let body_over = poll_fn(|cx| Poll::Ready(self.skip_request_body(cx, exchange))).await;
        let keep = exchange.request.keep_alive && body_over && !service.is_draining();
        let mode = Mode::of(&head, exchange);
        let keep = keep && mode != Mode::UntilClose;
        self.queue_head(exchange, &head, mode, keep, service);
        exchange.keep_head(head);
        let mut sending =
            Sending { body: if mode == Mode::NoBody { Body::Empty } else { body }, chunked: mode == Mode::Chunked, at: 0 };
        let sent = poll_fn(|cx| self.poll_send(cx, &mut sending, exchange)).await;
        self.out_is_done();
        if let Err(fault) = sent {
            if !self.any_written.get() && fault.kind != Kind::ClientGone {
                exchange.record.bytes_out = 0;
                return Next::Unsent(fault);
            }
            exchange.record.fault = Some((fault.kind, fault.detail));
            if mode == Mode::UntilClose {
                // Here FIN would say "complete".
                self.socket.reset();
            }
            return Next::Close;
        }
        let reader = self.reader.borrow();
        match (keep && reader.is_done(), reader.is_done() && reader.input.is_empty()) {
            (true, _) => Next::Request,
            (false, true) => Next::Close,
            (false, false) => Next::Linger(None),
        }
    }

    /// Whether the request's body is over. What is left of a short one, and at hand, is skipped, unless somebody else reads it.
    fn skip_request_body(&self, cx: &mut Context<'_>, exchange: &mut Exchange) -> bool {
        let mut reader = self.reader.borrow_mut();
        let unread = matches!(exchange.body, Body::Stream(_)) && !self.owes_continue.get();
        let mut skipped = 0;
        while unread && !reader.is_done() && skipped < BUFFER_BYTES {
            match reader.poll_ready(cx, &self.socket, &self.worker) {
                Poll::Ready(Ok(Progress::Data)) => {
                    let count = reader.data().len();
                    reader.consume(count, &self.worker);
                    skipped += count;
                }
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        reader.is_done()
    }

    fn queue_head<S: Service>(&self, exchange: &Exchange, head: &ResponseHead, mode: Mode, keep: bool, service: &S) {
        let mut out = self.out.borrow_mut();
        if out.capacity() == 0 {
            *out = self.worker.take_output();
        }
        // An interim response may be half out.
        self.any_written.set(self.written.get() > 0);
        // From here on a 100 would stand in the middle of the answer.
        self.owes_continue.set(false);
        let headers = &head.headers;
        status_line(&mut out, head.status, headers.slice(head.reason));
        headers.write_fields(&mut out, |entry| !entry.known.is_hop_by_hop() && entry.known != Name::XRequestId);
        if !headers.has(Name::Date) {
            out.extend_from_slice(b"date: ");
            service.date(exchange.record.started, &mut out);
            out.extend_from_slice(b"\r\n");
        }
        if !exchange.request_id.is_empty() {
            field(&mut out, b"x-request-id", exchange.request_id());
        }
        match (head.framing, head.stated_length) {
            (Framing::Length(length), _) | (_, Some(length)) => {
                out.extend_from_slice(b"content-length: ");
                decimal(&mut out, length);
                out.extend_from_slice(b"\r\n");
            }
            (Framing::None | Framing::Chunked | Framing::Close, None) => {}
        }
        match mode {
            Mode::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Mode::Upgrade => {
                out.extend_from_slice(b"connection: upgrade\r\n");
                for protocol in headers.all_known(Name::Upgrade) {
                    field(&mut out, b"upgrade", protocol);
                }
            }
            Mode::NoBody | Mode::Plain | Mode::UntilClose => {}
        }
        if !keep {
            out.extend_from_slice(b"connection: close\r\n");
        } else if exchange.request.version == Version::Http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes head and body as fast as both sides allow. Ready when all is written.
    fn poll_send(&self, cx: &mut Context<'_>, sending: &mut Sending, exchange: &mut Exchange) -> Poll<Result<(), Fault>> {
        loop {
            let more = sending.poll_top_up(cx, self, &mut exchange.record.bytes_out)?;
            match more {
                TopUp::Direct => {
                    let count = ready!(sending.poll_direct(cx, self))?;
                    exchange.record.bytes_out += count;
                    continue;
                }
                TopUp::Copied if self.out.borrow().len() < COPY_BYTES_MAX => continue,
                TopUp::Copied | TopUp::Waiting | TopUp::Over => {}
            }
            ready!(self.poll_flush_out(cx))?;
            match more {
                TopUp::Over => return Poll::Ready(Ok(())),
                TopUp::Waiting => {
                    exchange.hold.narrow();
                    ready!(self.poll_gone(cx));
                    return Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client went away during a quiet stream")));
                }
                TopUp::Copied | TopUp::Direct => {}
            }
        }
    }

    fn poll_flush_out(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let mut out = self.out.borrow_mut();
        while self.written.get() < out.len() {
            let count = ready!(self.poll_timed_write(cx, |cx| self.socket.poll_write(cx, &out[self.written.get()..])))?;
            self.written.set(self.written.get() + count);
        }
        out.clear();
        self.written.set(0);
        Poll::Ready(Ok(()))
    }

    /// A write that may not wait longer than `write_timeout`.
    pub(super) fn poll_timed_write(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>) -> Poll<std::io::Result<usize>>,
    ) -> Poll<Result<usize, Fault>> {
        match write(cx) {
            Poll::Ready(done) => {
                if self.writing_timed.replace(false) {
                    self.write_timer.disarm();
                }
                match done {
                    Ok(count) if count > 0 => {
                        self.any_written.set(true);
                        Poll::Ready(Ok(count))
                    }
                    _ => Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client closed the connection while it was answered"))),
                }
            }
            Poll::Pending => {
                if !self.writing_timed.replace(true) {
                    self.write_timer.arm(self.worker.now() + self.limits.borrow().write_timeout);
                }
                ready!(self.write_timer.poll(cx));
                Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client took nothing for limits.write_timeout")))
            }
        }
    }

    /// The response is out: its buffer goes back.
    fn out_is_done(&self) {
        let out = std::mem::take(&mut *self.out.borrow_mut());
        self.written.set(0);
        self.worker.give_output(out);
    }

    async fn tunnel(self: &Rc<Self>, exchange: &mut Exchange, upstream: Rc<dyn Duplex>) -> Next {
        if poll_fn(|cx| self.poll_flush_out(cx)).await.is_err() {
            return Next::Close;
        }
        self.out_is_done();
        self.reader.borrow_mut().begin(Framing::Close);
        self.body_limit.set(u64::MAX);
        self.tunnelled.set(true);
        let limits = self.limits.borrow().clone();
        let relayed = tunnel::relay(&self.worker, &**self, &*upstream, exchange.request.is_websocket(), &limits).await;
        exchange.record.bytes_out += relayed.down;
        relayed.farewell.map_or(Next::Close, |open| Next::Linger(Some(open)))
    }

    /// Says FIN, then reads and forgets for a while, so that the client gets to read its answer.
    async fn linger(&self, now: Instant) {
        self.read_timer.arm(now + DISCARD_TIME_MAX);
        let mut discarded = 0;
        poll_fn(|cx| {
            let _ = self.socket.poll_shutdown(cx);
            let mut reader = self.reader.borrow_mut();
            loop {
                discarded += reader.input.data().len();
                reader.input.release(&self.worker);
                if discarded > DISCARD_BYTES_MAX {
                    return Poll::Ready(());
                }
                match reader.input.poll_fill(cx, &self.socket, &self.worker, BUFFER_BYTES) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return self.read_timer.poll(cx),
                }
            }
        })
        .await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.borrow_mut().input.release(&self.worker);
        self.out_is_done();
    }
}

/// The request's body.
impl Stream for Connection {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        let mut reader = self.reader.borrow_mut();
        if self.owes_continue.replace(false) && reader.input.is_empty() {
            self.queue(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !self.out.borrow().is_empty() {
            let _ = self.poll_flush_out(cx)?;
        }
        match reader.poll_ready(cx, &self.socket, &self.worker) {
            Poll::Ready(done) => {
                if self.reading_timed.replace(false) {
                    self.read_timer.disarm();
                }
                let progress = done.map_err(body_fault)?;
                if reader.seen() > self.body_limit.get() {
                    return Poll::Ready(Err(Fault::new(Kind::BodyTooLarge, "the body grew over body_bytes")));
                }
                Poll::Ready(Ok(progress))
            }
            Poll::Pending if self.tunnelled.get() => Poll::Pending,
            Poll::Pending => {
                if !self.reading_timed.replace(true) {
                    self.read_timer.arm(self.worker.now() + self.limits.borrow().body_timeout);
                }
                ready!(self.read_timer.poll(cx));
                Poll::Ready(Err(Fault::new(Kind::RequestTimeout, "no byte of the body came for limits.body_timeout")))
            }
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.reader.borrow(), Reader::data)
    }

    fn consume(&self, count: usize) {
        self.reader.borrow_mut().consume(count, &self.worker);
    }

    fn limit(&self, bytes: u64) {
        self.body_limit.set(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.reader.borrow().trailers);
    }

    fn finish(self: Rc<Self>) {}
}

fn body_fault(error: ReadError) -> Fault {
    match error {
        ReadError::Truncated => Fault::new(Kind::ClientGone, "the client closed the connection in the middle of its body"),
        ReadError::Io(error) => {
            Fault::new(Kind::ClientGone, format!("the client's connection broke in the middle of its body: {error}"))
        }
        ReadError::Coding(why) => Fault::new(Kind::BadRequest, why),
    }
}

/// After 101 the connection is bytes both ways.
impl Duplex for Connection {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        self.poll_timed_write(cx, |cx| self.socket.poll_write(cx, bytes))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.socket.poll_shutdown(cx).map_err(|_| Fault::new(Kind::ClientGone, "the client closed the connection"))
    }
}

impl Connection {
    fn queue(&self, bytes: &[u8]) {
        let mut out = self.out.borrow_mut();
        if out.capacity() == 0 {
            *out = self.worker.take_output();
        }
        out.extend_from_slice(bytes);
    }
}

impl Client for Connection {
    fn interim(&self, head: &ResponseHead) {
        // A client that does not read, and a back end that goes on sending hints: hints are optional, memory is not.
        if !self.takes_interim.get() || self.out.borrow().len() > BUFFER_BYTES {
            return;
        }
        let mut lines = Vec::new();
        status_line(&mut lines, head.status, head.headers.slice(head.reason));
        for entry in head.headers.iter().filter(|entry| !entry.known.is_hop_by_hop()) {
            field(&mut lines, head.headers.name(entry), head.headers.value(entry));
        }
        lines.extend_from_slice(b"\r\n");
        self.queue(&lines);
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.poll_flush_out(cx)
    }

    fn poll_gone_unread(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.socket.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        match self.socket.peek() {
            Peek::Broken | Peek::Closed => Poll::Ready(()),
            // Readiness was left over from a read that just filled its buffer.
            Peek::Nothing => self.socket.poll_news(cx),
            // A body, or another request: behind it nothing is seen.
            Peek::Bytes => Poll::Pending,
        }
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.watching.get() || self.socket.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let reader = self.reader.borrow();
        if !reader.is_done() || !reader.input.is_empty() {
            // Whoever reads the body, or the next request, finds out.
            return Poll::Pending;
        }
        match self.socket.peek() {
            Peek::Broken => Poll::Ready(()),
            Peek::Closed if self.limits.borrow().half_close_aborts => Poll::Ready(()),
            // Readiness was left over from a read that just filled its buffer.
            Peek::Nothing => self.socket.poll_news(cx),
            Peek::Closed | Peek::Bytes => {
                self.watching.set(false);
                Poll::Pending
            }
        }
    }
}
