//! The back end's side of HTTP/2: a link is a connection that many requests share, each on a stream of its own.

use super::due::{Due, no_head};
use super::{Begin, Failure, Places};
use crate::http2::{self, Break, By, Channel, Connection, News, Terms, Turn};
use crate::input::Input;
use crate::socket::Socket;
use crate::timers::Timer;
use crate::upstream::{ConnectionPlace, Fate, UpstreamShared};
use crate::worker::Worker;
use maitred_core::balance::{InFlight, OpenConnection};
use maitred_core::{Body, Client, Duplex, Fault, Kind, Progress, Stream};
use maitred_wire::{Framing, GrpcCode, H2Code, HeadLimits, ResponseHead, WINDOW_MAX, reset_to_grpc};
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// A stream's window: what a back end may send ahead of a client that does not take it.
const WINDOW: u32 = 64 * 1024;
/// A link whose streams all ended waits for so long where no request said otherwise.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A link that others wait for takes no new requests, so that it comes free, once it has served for so long, and for so long: some of its
/// streams may last. Then it serves again.
const SERVES_MIN: Duration = Duration::from_millis(100);
const YIELDS_MAX: Duration = Duration::from_secs(1);
const SERVES_AGAIN: Duration = Duration::from_secs(9);
/// A write that the back end does not take gives up.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// The head of a response, decoded.
const HEAD_LIMITS: HeadLimits = HeadLimits { head_bytes: 64 * 1024, fields: 256, target_bytes: 0, drop_underscores: false };

/// A connection that many requests share.
pub(crate) struct Link {
    connection: Rc<Connection>,
    open: Cell<usize>,
    broken: Cell<bool>,
    /// The back end's SETTINGS are here: what it offers is known.
    is_settled: Cell<bool>,
    settled: Notify,
    idle_since: Cell<Instant>,
    idle_timeout: Cell<Duration>,
    /// It is kept for those who use it until then, and after that it yields.
    serves_until: Cell<Instant>,
    yields_until: Cell<Option<Instant>>,
    /// Its place in what its upstream has open, where there is a circuit breaker, and what its pool is called there.
    place: RefCell<Option<(ConnectionPlace, usize)>>,
}

impl Link {
    pub fn start(socket: Socket, worker: &Rc<Worker>, open: OpenConnection, place: Option<(ConnectionPlace, usize)>) -> Rc<Link> {
        let terms = Terms {
            server: false,
            streams: 0,
            window: WINDOW,
            // Streams whose clients take nothing hold up no other; each is bounded by its own window.
            connection_window: WINDOW_MAX,
            head: HEAD_LIMITS,
        };
        let link = Rc::new(Link {
            connection: Connection::new(socket, Input::default(), terms, worker, WRITE_PATIENCE, false),
            open: Cell::new(0),
            broken: Cell::new(false),
            is_settled: Cell::new(false),
            settled: Notify::new(),
            idle_since: Cell::new(worker.now()),
            idle_timeout: Cell::new(IDLE_MAX),
            serves_until: Cell::new(worker.now() + SERVES_MIN),
            yields_until: Cell::new(None),
            place: RefCell::new(place),
        });
        worker.shard().upstream_open.add(1);
        let driven =
            Driven { link: Rc::downgrade(&link), connection: link.connection.clone(), worker: worker.clone(), _open: open };
        spawn_local(driven.run());
        link
    }

    /// Whether another request may go this way: the back end has not said goodbye.
    pub fn is_usable(&self) -> bool {
        !self.broken.get() && self.connection.is_usable()
    }

    /// Streams beyond the back end's maximum would be refused, and heads that its socket does not take wait in memory.
    pub fn has_room(&self) -> bool {
        self.open.get() < self.connection.streams_max() as usize && self.connection.keeps_up()
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

    pub fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    /// Nobody uses it, and it counts for that upstream.
    pub fn is_unused_of(&self, shared: &Arc<UpstreamShared>) -> bool {
        let counts = |(place, _): &(ConnectionPlace, usize)| Arc::ptr_eq(place.shared(), shared);
        self.open.get() == 0 && self.place.borrow().as_ref().is_some_and(counts)
    }

    /// Says goodbye and leaves its place to another.
    pub fn retire(&self) {
        self.broken.set(true);
        self.connection.say_goodbye();
        let place = self.place.take();
        if let (Some((place, _)), Some(_)) = (&place, self.yields_until.take()) {
            place.shared().breaker.yielded();
        }
    }

    /// A stream has ended: who waits for one may come. Those who wait elsewhere get the whole link, when it comes free.
    fn freed(&self, now: Instant) {
        let fate = match &*self.place.borrow() {
            Some(_) if self.yields(|| now) => Fate::Close,
            Some((place, pool)) => place.shared().breaker.settle(*pool),
            None => Fate::Keep,
        };
        if fate != Fate::Close {
            return;
        }
        if self.open.get() == 0 {
            self.retire();
        } else if now >= self.serves_until.get() && self.may_yield(now) {
            self.yields_until.set(Some(now + YIELDS_MAX));
            self.serves_until.set(now + YIELDS_MAX + SERVES_AGAIN);
        }
    }

    /// Takes no new requests: others wait for it.
    pub fn yields(&self, now: impl FnOnce() -> Instant) -> bool {
        self.yields_until.get().is_some_and(|until| {
            let place = self.place.borrow();
            place.as_ref().is_some_and(|(place, _)| place.shared().breaker.is_short()) && now() < until
        })
    }

    /// One link of an upstream does at a time.
    fn may_yield(&self, now: Instant) -> bool {
        self.place.borrow().as_ref().is_some_and(|(place, _)| place.shared().breaker.yields(now, now + YIELDS_MAX))
    }

    /// `None`: it is in use.
    pub fn idle_until(&self) -> Option<Instant> {
        (self.open.get() == 0).then(|| self.idle_since.get() + self.idle_timeout.get())
    }
}

/// What a link's task has. However that ends, it is counted, and its streams end with it.
struct Driven {
    link: Weak<Link>,
    connection: Rc<Connection>,
    worker: Rc<Worker>,
    _open: OpenConnection,
}

impl Driven {
    async fn run(self) {
        let connection = self.connection.clone();
        self.drive().await;
        // The pool may keep the link for a while: a back end that broke the rules sees the end behind its GOAWAY (RFC 9113 §5.4.1).
        if connection.is_condemned() {
            connection.linger().await;
        }
    }

    /// Reads and writes until the back end, or the last user, is gone.
    async fn drive(self) {
        let Driven { link, connection, worker, _open } = &self;
        let mut settled = false;
        poll_fn(|cx| {
            let turn = connection.poll_turn(cx, None, worker.now());
            if !settled && connection.is_settled() {
                settled = true;
                if let Some(link) = link.upgrade() {
                    link.is_settled.set(true);
                    link.settled.notify_waiters();
                }
            }
            match turn {
                Turn::Waiting if link.strong_count() > 0 => Poll::Pending,
                // Its last words are on their way, if the back end takes any.
                Turn::Waiting | Turn::Condemned(_) | Turn::Over => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.connection.lose();
        self.worker.shard().upstream_open.sub(1);
        if let Some(link) = self.link.upgrade() {
            link.broken.set(true);
            link.settled.notify_waiters();
            drop(link.place.take());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nobody is left who could use it: its task ends it.
        self.connection.say_goodbye();
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
    /// Once the request is on its way.
    channel: OnceCell<Rc<Channel>>,
    /// The answer to a WebSocket's key, where an upgrade was asked for.
    accept: Cell<Option<[u8; 28]>>,
    tunnelled: Cell<bool>,
    any_read: Cell<bool>,
    /// `Connection::reads` when the request was sent.
    reads: Cell<u64>,
    /// Runs while the back end opens no window; made when first needed.
    write_timer: RefCell<Option<Timer>>,
    timer: Timer,
    reading_timed: Cell<bool>,
    response_timed: Cell<bool>,
    /// `None` also where the back end's own time is over before.
    deadline: Cell<Option<Due>>,
    response_timeout: Cell<Duration>,
    idle_timeout: Cell<Duration>,
    /// The request's place in what its endpoint has under way.
    in_flight: Cell<Option<InFlight>>,
    /// And in what its upstream has, where that is limited.
    places: Cell<Places>,
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
            channel: OnceCell::new(),
            accept: Cell::new(None),
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
            in_flight: Cell::new(None),
            places: Cell::default(),
        })
    }

    pub(super) fn carry(&self, in_flight: InFlight) {
        self.in_flight.set(Some(in_flight));
    }

    pub(super) fn hold(&self, places: Places) {
        self.places.set(places);
    }

    pub(super) fn begin(&self, begin: Begin, head: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        let connection = &self.link.connection;
        let refuse = |body: Body, fault: Fault| {
            *self.body.borrow_mut() = body;
            Err(Failure::unsent(fault))
        };
        if !self.link.is_usable() {
            return refuse(begin.body, Fault::new(Kind::UpstreamReset, "no stream could be opened: the connection ends"));
        }
        let mut lines = self.worker.take_output();
        head(&mut lines);
        let accept = if begin.upgrade { http2::accept_of(&lines) } else { None };
        if begin.upgrade && (accept.is_none() || !connection.takes_upgrades()) {
            return refuse(begin.body, Fault::new(Kind::UpstreamProtocol, "the back end takes no upgrade over HTTP/2"));
        }
        let no_body = begin.body.is_empty() && !begin.upgrade;
        let channel = connection.open(begin.to_head);
        let mut fits = false;
        let sent = connection.send_head(&channel, no_body, |out| {
            fits = http2::request(out, &lines, connection.is_encrypted(), begin.upgrade).is_some();
        });
        self.worker.give_output(lines);
        if sent.is_err() || !fits {
            connection.abandon(&channel);
            return refuse(begin.body, Fault::new(Kind::Internal, "a head that HTTP/2 cannot carry"));
        }
        self.reads.set(connection.reads());
        let _ = self.channel.set(channel);
        *self.body.borrow_mut() = begin.body;
        self.accept.set(accept);
        self.upload_done.set(no_body || begin.upgrade);
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
        let Some(channel) = self.channel.get() else {
            return Poll::Ready(Err(self.failure(Fault::new(Kind::Internal, "a stream without a request"), false)));
        };
        while self.link.connection.take_head(channel, head) {
            if !head.is_interim() {
                self.any_read.set(true);
                self.timer.disarm();
                self.agree(head);
                return Poll::Ready(Ok(()));
            }
            if let Some(client) = client {
                client.interim(head);
                let _ = client.poll_flush(cx);
            }
        }
        match channel.broken() {
            Some(broken) => Poll::Ready(Err(self.broken(broken))),
            None => {
                channel.wait(cx, News::Incoming);
                self.poll_patience(cx, client)
            }
        }
    }

    /// A WebSocket that was agreed to is 101, as it is in HTTP/1.1.
    fn agree(&self, head: &mut ResponseHead) {
        if let Some(accept) = self.accept.get()
            && (200..300).contains(&head.status)
        {
            head.status = 101;
            head.framing = Framing::None;
            head.headers.set(b"upgrade", b"websocket");
            head.headers.set(b"sec-websocket-accept", &accept);
            self.tunnelled.set(true);
        }
    }

    fn poll_patience(&self, cx: &mut Context<'_>, client: Option<&dyn Client>) -> Poll<Result<(), Failure>> {
        if client.is_some_and(|client| client.poll_gone(cx).is_ready()) {
            return Poll::Ready(Err(self.failure(Fault::new(Kind::ClientGone, "the client went away while it waited"), false)));
        }
        if !self.response_timed.get()
            && !self.timer.is_armed()
            && let Some(deadline) = self.deadline.get()
        {
            self.timer.arm(deadline.at);
        }
        ready!(self.timer.poll(cx));
        Poll::Ready(Err(self.late(no_head(self.deadline.get(), self.response_timeout.get()))))
    }

    fn arm_response_timer(&self) {
        if !self.response_timed.replace(true) {
            let due = self.worker.now() + self.response_timeout.get();
            let sooner = self.deadline.get().filter(|deadline| deadline.at <= due);
            self.deadline.set(sooner);
            self.timer.arm(sooner.map_or(due, |deadline| deadline.at));
        }
    }

    /// How the stream ended. One that was refused, or that came after the last one of a GOAWAY, was not acted upon (RFC 9113 §8.7).
    fn broken(&self, broken: Break) -> Failure {
        let refused = broken.by == By::Peer && broken.code == H2Code::REFUSED_STREAM;
        if broken.code == H2Code::HTTP_1_1_REQUIRED {
            let detail = "the back end does not speak HTTP/2 but HTTP/1.1: set `protocol: http1`";
            return self.failure(Fault::new(Kind::UpstreamProtocol, detail), false);
        }
        let kind = if broken.by == By::Us { Kind::UpstreamProtocol } else { Kind::UpstreamReset };
        let fault = Fault { grpc: told(broken), ..Fault::new(kind, format!("the back end broke off the stream: {broken}")) };
        Failure { refused, ..self.failure(fault, refused || broken.by == By::Goodbye) }
    }

    /// Time is up. Where nothing at all came in the while, the whole link may be dead, and no other request is sent there.
    fn late(&self, fault: Fault) -> Failure {
        self.doubt();
        self.failure(fault, false)
    }

    fn doubt(&self) {
        if self.link.connection.reads() == self.reads.get() {
            self.link.broken.set(true);
        }
    }

    fn failure(&self, fault: Fault, untouched: bool) -> Failure {
        let unsent = untouched && !self.body_begun.get();
        Failure { fault, unsent, unanswered: !self.any_read.get(), refused: false }
    }

    /// Hands the request's body over as it comes and as the back end takes it.
    fn poll_upload(&self, cx: &mut Context<'_>) -> Poll<Result<(), Uploading>> {
        if self.upload_done.get() {
            return Poll::Ready(Ok(()));
        }
        let Some(channel) = self.channel.get() else { return Poll::Ready(Ok(())) };
        let body = self.body.borrow();
        while !self.upload_done.get() {
            let Body::Stream(stream) = &*body else {
                self.end(channel, b"")?;
                break;
            };
            match stream.poll_ready(cx) {
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(Uploading::Client(fault))),
                Poll::Ready(Ok(Progress::End)) => {
                    let mut trailers = Vec::new();
                    stream.trailers(&mut trailers);
                    self.end(channel, &trailers)?;
                }
                Poll::Ready(Ok(Progress::Data)) => {
                    let data = stream.data();
                    let count = ready!(self.poll_send(cx, channel, &data))?;
                    drop(data);
                    self.body_begun.set(true);
                    stream.consume(count);
                }
                Poll::Pending => {
                    channel.wait(cx, News::End);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&self, channel: &Channel, trailers: &[u8]) -> Result<(), Uploading> {
        self.upload_done.set(true);
        self.link.connection.end(channel, trailers).map_err(|_| Uploading::Upstream)
    }

    fn poll_send(&self, cx: &mut Context<'_>, channel: &Rc<Channel>, bytes: &[u8]) -> Poll<Result<usize, Uploading>> {
        match self.link.connection.poll_send(cx, channel, bytes, false) {
            Poll::Ready(sent) => {
                *self.write_timer.borrow_mut() = None;
                Poll::Ready(sent.map_err(|_| Uploading::Upstream))
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

    /// The stream of a request that is on its way.
    fn begun(&self) -> &Rc<Channel> {
        self.channel.get().expect("a response comes to a request that was begun")
    }
}

/// Which side broke while a body was sent.
enum Uploading {
    Client(Fault),
    Upstream,
    /// The back end opened no window for too long.
    Stalled,
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
        let channel = self.begun();
        match channel.poll_incoming(cx) {
            Poll::Ready(progress) => {
                if self.reading_timed.replace(false) {
                    self.timer.disarm();
                }
                Poll::Ready(progress.map_err(broken_body))
            }
            Poll::Pending if self.tunnelled.get() => Poll::Pending,
            Poll::Pending => {
                if !self.reading_timed.replace(true) {
                    self.timer.arm(self.worker.now() + self.idle_timeout.get());
                }
                ready!(self.timer.poll(cx));
                self.doubt();
                Poll::Ready(Err(Fault::new(Kind::UpstreamTimeout, "no byte of the response came for timeouts.idle")))
            }
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.begun().data()
    }

    fn consume(&self, count: usize) {
        self.link.connection.consume(self.begun(), count);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.begun().copy_trailers(out);
    }

    fn finish(self: Rc<Self>) {
        self.in_flight.take();
        self.places.take();
    }
}

fn broken_body(broken: Break) -> Fault {
    let detail = format!("the back end broke off the stream in the middle of its body: {broken}");
    Fault { grpc: told(broken), ..Fault::new(Kind::UpstreamReset, detail) }
}

/// What a gRPC client is told of a stream that the back end itself reset.
fn told(broken: Break) -> Option<GrpcCode> {
    (broken.by == By::Peer).then(|| reset_to_grpc(broken.code))
}

/// After an extended CONNECT.
impl Duplex for LinkStream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        self.poll_send(cx, self.begun(), bytes).map_err(|_| closed())
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(self.link.connection.end(self.begun(), b"").map_err(|_| closed()))
    }
}

fn closed() -> Fault {
    Fault::new(Kind::UpstreamReset, "the back end closed the stream")
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.get() {
            self.link.connection.abandon(channel);
        }
        self.link.open.set(self.link.open.get() - 1);
        let now = self.worker.now();
        self.link.idle_since.set(now);
        self.link.freed(now);
    }
}
