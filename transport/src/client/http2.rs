//! The back end's side of HTTP/2: a link is a connection that many requests share, each on a stream of its own.

use super::{Begin, Failure};
use crate::http2::body::{Incoming, end, poll_give, rest};
use crate::http2::line::{Io, Line};
use crate::http2::{SEND_BUFFER_MAX, WINDOW_MAX};
use crate::socket::Socket;
use crate::timers::Timer;
use crate::worker::Worker;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use maitred_core::{Body, Client, Duplex, Fault, Kind, Progress, Stream};
use maitred_wire::{Framing, ResponseHead, accept_key};
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// A stream's window: what a back end may send ahead of a client that does not take it.
const WINDOW: u32 = 64 * 1024;
/// Streams opened before the back end says how many it takes (RFC 9113 §6.5.2 recommends no fewer).
const STREAMS_AT_FIRST: usize = 100;
/// A link whose streams all ended waits for so long where no request said otherwise.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A write that the back end does not take gives up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// The head of a response, decoded.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// A connection that many requests share.
pub(crate) struct Link {
    send: RefCell<SendRequest<Bytes>>,
    line: Rc<Line>,
    worker: Rc<Worker>,
    open: Cell<usize>,
    broken: Cell<bool>,
    /// The back end's SETTINGS are here: what it offers is known.
    is_settled: Cell<bool>,
    settled: Notify,
    idle_since: Cell<Instant>,
    idle_timeout: Cell<Duration>,
}

impl Link {
    pub async fn start(socket: Socket, worker: &Rc<Worker>) -> Result<Rc<Link>, Fault> {
        let line = Rc::new(Line::new(socket, worker, WRITE_PATIENCE));
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(WINDOW)
            // Streams whose clients take nothing hold up no other; each is bounded by its own window.
            .initial_connection_window_size(WINDOW_MAX)
            .initial_max_send_streams(STREAMS_AT_FIRST)
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_send_buffer_size(SEND_BUFFER_MAX);
        let failed = |error: h2::Error| Fault::new(Kind::UpstreamUnreachable, format!("no HTTP/2 with the back end: {error}"));
        let (send, connection) = builder.handshake::<_, Bytes>(Io::of_upstream(line.clone())).await.map_err(failed)?;
        let link = Rc::new(Link {
            send: RefCell::new(send),
            line,
            worker: worker.clone(),
            open: Cell::new(0),
            broken: Cell::new(false),
            is_settled: Cell::new(false),
            settled: Notify::new(),
            idle_since: Cell::new(worker.now()),
            idle_timeout: Cell::new(IDLE_MAX),
        });
        worker.shard().upstream_open.add(1);
        spawn_local(drive(connection, link.clone()));
        Ok(link)
    }

    /// Whether another request may go this way: the back end has not said goodbye.
    pub fn is_usable(&self, cx: &mut Context<'_>) -> bool {
        !self.broken.get() && !matches!(self.send.borrow_mut().poll_ready(cx), Poll::Ready(Err(_)))
    }

    /// Streams beyond the back end's maximum would wait inside, unseen.
    pub fn has_room(&self) -> bool {
        self.open.get() < self.send.borrow().current_max_send_streams()
    }

    pub fn is_settled(&self) -> bool {
        self.is_settled.get()
    }

    /// Until the back end has said what it offers, or is gone.
    pub async fn settled(&self) {
        while !self.is_settled.get() && !self.broken.get() {
            self.settled.notified().await;
        }
    }

    /// `None`: it is in use.
    pub fn idle_until(&self) -> Option<Instant> {
        (self.open.get() == 0).then(|| self.idle_since.get() + self.idle_timeout.get())
    }
}

/// Reads and writes until the back end, or the last user, is gone.
async fn drive(mut connection: h2::client::Connection<Io, Bytes>, link: Rc<Link>) {
    let (line, worker) = (link.line.clone(), link.worker.clone());
    let weak = Rc::downgrade(&link);
    drop(link);
    let mut settled = false;
    std::future::poll_fn(|cx| {
        if line.poll_stuck(cx).is_ready() {
            return Poll::Ready(());
        }
        let over = std::pin::Pin::new(&mut connection).poll(cx);
        if !settled && line.has_settings() {
            settled = true;
            if let Some(link) = weak.upgrade() {
                link.is_settled.set(true);
                link.settled.notify_waiters();
            }
        }
        over.map(drop)
    })
    .await;
    worker.shard().upstream_open.sub(1);
    if let Some(link) = weak.upgrade() {
        link.broken.set(true);
        link.settled.notify_waiters();
    }
}

/// One request on a link.
pub struct LinkStream {
    link: Rc<Link>,
    worker: Rc<Worker>,
    body: RefCell<Body>,
    /// Body bytes were handed over.
    body_begun: Cell<bool>,
    upload_done: Cell<bool>,
    send: RefCell<Option<SendStream<Bytes>>>,
    response: RefCell<Option<ResponseFuture>>,
    answer: Incoming,
    to_head: Cell<bool>,
    /// The answer to a WebSocket's key, where an upgrade was asked for.
    accept: RefCell<Option<Vec<u8>>>,
    tunnelled: Cell<bool>,
    any_read: Cell<bool>,
    /// `Line::reads` when the request was sent.
    reads: Cell<u64>,
    /// Runs while the back end opens no window; made when first needed.
    write_timer: RefCell<Option<Timer>>,
    timer: Timer,
    reading_timed: Cell<bool>,
    response_timed: Cell<bool>,
    deadline: Cell<Option<Instant>>,
    response_timeout: Cell<Duration>,
    idle_timeout: Cell<Duration>,
}

impl LinkStream {
    /// Takes a place on the link.
    pub(crate) fn new(link: &Rc<Link>, worker: &Rc<Worker>) -> Rc<LinkStream> {
        link.open.set(link.open.get() + 1);
        Rc::new(LinkStream {
            link: link.clone(),
            worker: worker.clone(),
            body: RefCell::default(),
            body_begun: Cell::new(false),
            upload_done: Cell::new(false),
            send: RefCell::default(),
            response: RefCell::default(),
            answer: Incoming::none(),
            to_head: Cell::new(false),
            accept: RefCell::default(),
            tunnelled: Cell::new(false),
            any_read: Cell::new(false),
            reads: Cell::new(0),
            write_timer: RefCell::default(),
            timer: Timer::new(&worker.timers),
            reading_timed: Cell::new(false),
            response_timed: Cell::new(false),
            deadline: Cell::new(None),
            response_timeout: Cell::new(Duration::ZERO),
            idle_timeout: Cell::new(Duration::ZERO),
        })
    }

    pub(super) fn begin(&self, begin: Begin, head: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        let mut lines = self.worker.take_output();
        head(&mut lines);
        let request = request_of(&lines, self.link.line.is_encrypted(), begin.upgrade);
        self.worker.give_output(lines);
        let failed = |fault| Failure::unsent(fault);
        let (request, accept) = request.ok_or_else(|| failed(Fault::new(Kind::Internal, "a head that HTTP/2 cannot carry")))?;
        let mut send = self.link.send.borrow_mut();
        if begin.upgrade && (accept.is_none() || !send.is_extended_connect_protocol_enabled()) {
            return Err(failed(Fault::new(Kind::UpstreamProtocol, "the back end takes no upgrade over HTTP/2")));
        }
        let no_body = begin.body.is_empty() && !begin.upgrade;
        let refused =
            |error: h2::Error| Failure::unsent(Fault::new(Kind::UpstreamReset, format!("no stream could be opened: {error}")));
        let (response, stream) = match send.send_request(request, no_body) {
            Ok(opened) => opened,
            Err(error) => {
                *self.body.borrow_mut() = begin.body;
                return Err(refused(error));
            }
        };
        self.reads.set(self.link.line.reads());
        *self.response.borrow_mut() = Some(response);
        *self.send.borrow_mut() = Some(stream);
        *self.body.borrow_mut() = begin.body;
        *self.accept.borrow_mut() = accept;
        self.upload_done.set(no_body || begin.upgrade);
        self.to_head.set(begin.to_head);
        self.deadline.set(begin.deadline);
        self.response_timeout.set(begin.response_timeout);
        self.idle_timeout.set(begin.idle_timeout);
        self.link.idle_timeout.set(begin.idle_timeout);
        Ok(())
    }

    pub(super) fn take_back_body(&self) -> Body {
        std::mem::take(&mut self.body.borrow_mut())
    }

    pub(super) fn poll_response(
        &self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        client: Option<&dyn Client>,
    ) -> Poll<Result<(), Failure>> {
        match self.poll_upload(cx) {
            Poll::Ready(Err(Uploading::Client(fault))) => return Poll::Ready(Err(self.failure(fault, false))),
            Poll::Ready(Err(Uploading::Stalled)) => {
                let fault = Fault::new(Kind::UpstreamTimeout, "the back end took no byte of the request for timeouts.idle");
                return Poll::Ready(Err(self.late(fault)));
            }
            // The back end may have answered before it took no more.
            Poll::Ready(Err(Uploading::Upstream)) | Poll::Pending => {}
            Poll::Ready(Ok(())) => self.arm_response_timer(),
        }
        let mut future = self.response.borrow_mut();
        let Some(response) = &mut *future else {
            return Poll::Ready(Err(self.failure(Fault::new(Kind::Internal, "a stream without a request"), false)));
        };
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            if let Some(client) = client
                && self.read_head(&interim, head, false).is_ok()
            {
                client.interim(head);
                let _ = client.poll_flush(cx);
            }
        }
        match std::pin::Pin::new(response).poll(cx) {
            Poll::Ready(Ok(response)) => {
                self.any_read.set(true);
                self.timer.disarm();
                let (parts, receive) = response.into_parts();
                let response = Response::from_parts(parts, ());
                let read = self.read_head(&response, head, receive.is_end_stream());
                self.answer.begin(receive);
                Poll::Ready(read.map_err(|fault| self.failure(fault, false)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.broken(&error))),
            Poll::Pending => {
                drop(future);
                self.poll_patience(cx, client)
            }
        }
    }

    /// Our form of a head. A WebSocket that was agreed to is 101, as it is in HTTP/1.1.
    fn read_head(&self, response: &Response<()>, head: &mut ResponseHead, end_stream: bool) -> Result<(), Fault> {
        let wrong = |refusal: maitred_wire::ResponseRefusal| Fault::new(Kind::UpstreamProtocol, refusal.0);
        head.begin_h2(response.status().as_u16());
        for (name, value) in response.headers() {
            head.h2_field(name.as_str().as_bytes(), value.as_bytes()).map_err(wrong)?;
        }
        head.finish_h2(self.to_head.get(), end_stream).map_err(wrong)?;
        if let Some(accept) = &*self.accept.borrow()
            && response.status().is_success()
        {
            head.status = 101;
            head.framing = Framing::None;
            head.headers.set(b"upgrade", b"websocket");
            head.headers.set(b"sec-websocket-accept", accept);
            self.tunnelled.set(true);
        }
        Ok(())
    }

    fn poll_patience(&self, cx: &mut Context<'_>, client: Option<&dyn Client>) -> Poll<Result<(), Failure>> {
        if client.is_some_and(|client| client.poll_gone(cx).is_ready()) {
            return Poll::Ready(Err(self.failure(Fault::new(Kind::ClientGone, "the client went away while it waited"), false)));
        }
        if !self.response_timed.get()
            && !self.timer.is_armed()
            && let Some(deadline) = self.deadline.get()
        {
            self.timer.arm(deadline);
        }
        ready!(self.timer.poll(cx));
        Poll::Ready(Err(self.late(Fault::new(Kind::UpstreamTimeout, "no response head in time"))))
    }

    fn arm_response_timer(&self) {
        if !self.response_timed.replace(true) {
            let due = self.worker.now() + self.response_timeout.get();
            self.timer.arm(self.deadline.get().map_or(due, |deadline| deadline.min(due)));
        }
    }

    /// What an error of the stream says. A stream that was refused, or that came after the last one of a GOAWAY, was not acted upon
    /// (RFC 9113 §8.7).
    fn broken(&self, error: &h2::Error) -> Failure {
        let refused = error.is_remote() && (error.reason() == Some(Reason::REFUSED_STREAM) || error.is_go_away());
        self.failure(Fault::new(Kind::UpstreamReset, format!("the back end broke off the stream: {error}")), refused)
    }

    /// Time is up. Where nothing at all came in the while, the whole link may be dead, and no other request is sent there.
    fn late(&self, fault: Fault) -> Failure {
        self.doubt();
        self.failure(fault, false)
    }

    fn doubt(&self) {
        if self.link.line.reads() == self.reads.get() {
            self.link.broken.set(true);
        }
    }

    fn failure(&self, fault: Fault, refused: bool) -> Failure {
        Failure { fault, unsent: refused && !self.body_begun.get(), unanswered: !self.any_read.get() }
    }

    /// Hands the request's body over as it comes and as the back end takes it.
    fn poll_upload(&self, cx: &mut Context<'_>) -> Poll<Result<(), Uploading>> {
        let mut send = self.send.borrow_mut();
        let Some(send) = &mut *send else { return Poll::Ready(Ok(())) };
        let body = self.body.borrow();
        while !self.upload_done.get() {
            let Body::Stream(stream) = &*body else {
                end(send, b"").map_err(|_| Uploading::Upstream)?;
                self.upload_done.set(true);
                break;
            };
            match stream.poll_ready(cx) {
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(Uploading::Client(fault))),
                Poll::Ready(Ok(Progress::End)) => {
                    let mut trailers = Vec::new();
                    stream.trailers(&mut trailers);
                    self.upload_done.set(true);
                    end(send, &trailers).map_err(|_| Uploading::Upstream)?;
                }
                Poll::Ready(Ok(Progress::Data)) => {
                    let data = stream.data();
                    let count = ready!(self.poll_send(cx, send, &data))?;
                    drop(data);
                    self.body_begun.set(true);
                    stream.consume(count);
                }
                Poll::Pending => {
                    rest(send);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&self, cx: &mut Context<'_>, send: &mut SendStream<Bytes>, bytes: &[u8]) -> Poll<Result<usize, Uploading>> {
        match poll_give(cx, send, &self.link.line, bytes, false) {
            Poll::Ready(given) => {
                *self.write_timer.borrow_mut() = None;
                Poll::Ready(given.map_err(|_| Uploading::Upstream))
            }
            Poll::Pending if self.tunnelled.get() => Poll::Pending,
            Poll::Pending => {
                let mut timer = self.write_timer.borrow_mut();
                let timer = timer.get_or_insert_with(|| {
                    let timer = Timer::new(&self.worker.timers);
                    timer.arm(self.worker.now() + self.idle_timeout.get());
                    timer
                });
                timer.poll(cx).map(|()| Err(Uploading::Stalled))
            }
        }
    }
}

/// Which side broke while a body was sent.
enum Uploading {
    Client(Fault),
    Upstream,
    /// The back end opened no window for too long.
    Stalled,
}

/// A head as HTTP/2 has it, from the one that HTTP/1.1 would get: so there is one place that decides what is forwarded. For an
/// upgrade to WebSocket, the extended CONNECT (RFC 8441), and what its key is to be answered with.
fn request_of(lines: &[u8], encrypted: bool, upgrade: bool) -> Option<(Request<()>, Option<Vec<u8>>)> {
    let mut lines = lines.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next()?.split(|&byte| byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    let (mut authority, mut accept) = (None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (HeaderName::from_bytes(&line[..colon]).ok()?, line[colon + 1..].trim_ascii());
        match name {
            header::HOST => authority = Some(value),
            // The body is asked for when the stream takes it, so nobody has to wait for a word.
            header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE | header::EXPECT => {}
            header::SEC_WEBSOCKET_KEY if upgrade => accept = Some(accept_key(value).to_vec()),
            _ => {
                request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
            }
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if encrypted { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    parts.authority = Some(http::uri::Authority::try_from(authority?).ok()?);
    parts.path_and_query = Some(http::uri::PathAndQuery::try_from(target).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    if upgrade {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    }
    Some((request, accept))
}

/// The response's body.
impl Stream for LinkStream {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        // A response may begin, even end, before the request has: go on sending.
        if !self.upload_done.get() && !self.tunnelled.get() {
            match self.poll_upload(cx) {
                Poll::Pending | Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Uploading::Client(fault))) => return Poll::Ready(Err(fault)),
                // The back end wants no more of it.
                Poll::Ready(Err(Uploading::Upstream | Uploading::Stalled)) => self.upload_done.set(true),
            }
        }
        loop {
            if self.answer.at_hand() > 0 {
                return Poll::Ready(Ok(Progress::Data));
            }
            if self.answer.is_over() {
                return Poll::Ready(Ok(Progress::End));
            }
            match self.answer.poll_more(cx).map_err(broken_body) {
                Poll::Ready(done) => {
                    if self.reading_timed.replace(false) {
                        self.timer.disarm();
                    }
                    done?;
                }
                Poll::Pending if self.tunnelled.get() => return Poll::Pending,
                Poll::Pending => {
                    if !self.reading_timed.replace(true) {
                        self.timer.arm(self.worker.now() + self.idle_timeout.get());
                    }
                    ready!(self.timer.poll(cx));
                    self.doubt();
                    return Poll::Ready(Err(Fault::new(Kind::UpstreamTimeout, "no byte of the response came for timeouts.idle")));
                }
            }
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.answer.data()
    }

    fn consume(&self, count: usize) {
        self.answer.consume(count);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.answer.trailers(out);
    }

    fn finish(self: Rc<Self>) {}
}

fn broken_body(error: h2::Error) -> Fault {
    Fault::new(Kind::UpstreamReset, format!("the back end broke off the stream in the middle of its body: {error}"))
}

/// After an extended CONNECT.
impl Duplex for LinkStream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        let gone = || Fault::new(Kind::UpstreamReset, "the back end closed the stream");
        let mut send = self.send.borrow_mut();
        let Some(send) = &mut *send else { return Poll::Ready(Err(gone())) };
        self.poll_send(cx, send, bytes).map_err(|_| gone())
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let ended = self.send.borrow_mut().as_mut().map(|send| end(send, b""));
        match ended {
            Some(Ok(())) => Poll::Ready(Ok(())),
            Some(Err(_)) | None => Poll::Ready(Err(Fault::new(Kind::UpstreamReset, "the back end closed the stream"))),
        }
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.link.open.set(self.link.open.get() - 1);
        self.link.idle_since.set(self.worker.now());
    }
}
