//! The client's side of HTTP/3 (RFC 9114) over the crate `quinn`, which is QUIC: one task for the connection, one for each stream. Every
//! stream becomes the same exchange as a request of HTTP/1.1. Frames and field sections are read by `wire`; what a client may cost is
//! bounded here.

mod control;
mod endpoint;
mod incoming;
mod sockets;
mod stream;

pub use endpoint::{Quic, QuicEndpoint, QuicLimits};
pub use sockets::{DatagramShare, bind_datagrams};

use super::answer::{Outlet, answer};
use super::streams::{self, Place, Streams};
use super::under_way::UnderWay;
use super::{Ends, Service};
use crate::timers::Timer;
use crate::worker::Worker;
use incoming::HeadRead;
use maitred_core::{Exchange, Fault, Kind};
use maitred_wire::{
    Framing, H3Code, Method, QpackError, Refusal, RequestFields, Version, control_preface, goaway_frame, read_section,
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use stream::Stream;
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// In which resets and frames that carry nothing are counted.
const PERIOD: Duration = Duration::from_secs(10);

/// The id of a client's next request is larger by so much (RFC 9000 §2.1).
const STREAM_STEP: u64 = 4;

fn code(code: H3Code) -> VarInt {
    VarInt::from_u32(code as u32)
}

/// What the streams of a connection share.
struct Shared {
    connection: Connection,
    ends: Ends,
    worker: Rc<Worker>,
    streams: Streams,
    seen: control::Seen,
    heads: RefCell<Heads>,
    /// Ours; GOAWAY goes there.
    control: RefCell<Option<SendStream>>,
    handshake: Handshake,
    tally: RefCell<Tally>,
}

/// Memory for heads, kept from request to request.
#[derive(Default)]
struct Heads {
    fields: RequestFields,
    scratch: Vec<u8>,
}

/// What came before it may be a copy of what somebody else sent (RFC 8446 §8).
#[derive(Default)]
struct Handshake {
    /// `None`: it is under way. False: it will never be done, and what came is nobody's.
    done: Cell<Option<bool>>,
    told: Notify,
}

impl Handshake {
    /// What was said first counts.
    fn finish(&self, done: bool) {
        self.done.set(self.done.get().or(Some(done)));
        self.told.notify_waiters();
    }
}

#[derive(Default)]
struct Tally {
    since: Option<Instant>,
    resets: u32,
    idle_frames: u32,
    /// The limits were passed.
    flooded: bool,
}

impl streams::Shared for Shared {
    fn streams(&self) -> &Streams {
        &self.streams
    }
}

impl Shared {
    /// Ends the connection for what its client has sent.
    fn close(&self, reason: H3Code, why: &'static str) {
        tracing::debug!(peer = %self.ends.peer, ?reason, why, "an HTTP/3 connection was closed for what its client sent");
        self.connection.close(code(reason), why.as_bytes());
    }

    /// The client has reset a stream, or it was reset for what the client sent, or its head was too large: each costs as much as it may.
    fn count_reset(&self) {
        self.count(|tally| tally.resets += 1);
    }

    /// Frames came that carry nothing.
    fn count_idle(&self, frames: u32) {
        self.count(|tally| tally.idle_frames = tally.idle_frames.saturating_add(frames));
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.borrow_mut();
        let now = self.worker.now();
        if tally.since.is_none_or(|since| now.saturating_duration_since(since) > PERIOD) {
            *tally = Tally { since: Some(now), flooded: tally.flooded, ..Tally::default() };
        }
        add(&mut tally);
        self.streams.wake();
    }
}

/// A connection that is counted however it ends.
struct Open(Rc<Worker>);

impl Open {
    fn new(worker: Rc<Worker>) -> Open {
        worker.shard().connections_open.add(1);
        worker.shard().h3_open.add(1);
        Open(worker)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shard().connections_open.sub(1);
        self.0.shard().h3_open.sub(1);
    }
}

struct Serving<S: Service> {
    shared: Rc<Shared>,
    service: Rc<S>,
    /// Idle time; after the farewell, the time for it to be read.
    timer: Timer,
    /// GOAWAY was said: requests from this id on are not answered.
    farewell: Option<u64>,
    /// The id of the next request.
    next: u64,
}

impl<S: Service> Serving<S> {
    /// Until the connection ends. `leaving` is told when its listener goes.
    async fn run(mut self, leaving: &Notify) {
        let shared = self.shared.clone();
        spawn_local(say_settings(shared.clone(), self.service.limits().head.head_bytes));
        spawn_local(control::read_all(shared.clone()));
        let worker = shared.worker.clone();
        let (mut drain, mut leave) = (pin!(worker.draining.notified()), pin!(leaving.notified()));
        // A notice that was given before is seen in `is_draining`.
        drain.as_mut().enable();
        leave.as_mut().enable();
        let mut accept = pin!(shared.connection.accept_bi());
        poll_fn(|cx| {
            let now = worker.now();
            if self.farewell.is_none()
                && (self.service.is_draining() || drain.as_mut().poll(cx).is_ready() || leave.as_mut().poll(cx).is_ready())
            {
                self.say_farewell();
            }
            loop {
                match accept.as_mut().poll(cx) {
                    Poll::Ready(Ok((send, recv))) => {
                        accept.set(shared.connection.accept_bi());
                        self.begin(send, recv);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.poll_patience(cx, now),
                }
            }
        })
        .await;
        shared.connection.close(code(H3Code::NoError), b"");
    }

    /// Nothing came in: is the client still worth waiting for?
    fn poll_patience(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.judge() {
            return Poll::Ready(());
        }
        self.shared.streams.wait(cx);
        if !self.shared.streams.is_empty() {
            self.timer.disarm();
            return Poll::Pending;
        }
        if !self.timer.is_armed() {
            let patience = if self.farewell.is_some() { Worker::FAREWELL_TIME } else { self.service.limits().idle_timeout };
            self.timer.arm(now + patience);
        }
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.farewell.is_some() {
            return Poll::Ready(());
        }
        self.say_farewell();
        self.timer.arm(now + Worker::FAREWELL_TIME);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the connection of a client that floods us.
    fn judge(&self) -> bool {
        let limits = self.service.limits().h2;
        let mut tally = self.shared.tally.borrow_mut();
        if !tally.flooded && (tally.resets > limits.resets || tally.idle_frames > limits.control_frames) {
            tally.flooded = true;
            self.shared.worker.shard().h3_floods.add(1);
            self.shared.close(H3Code::ExcessiveLoad, "too many resets, or frames that carry nothing");
        }
        tally.flooded
    }

    /// GOAWAY: what is under way is answered, and nothing more.
    fn say_farewell(&mut self) {
        self.farewell = Some(self.next);
        self.timer.disarm();
        let mut frame = Vec::new();
        goaway_frame(&mut frame, self.next);
        let shared = self.shared.clone();
        spawn_local(async move {
            // Two cannot be: it is said once.
            let control = shared.control.borrow_mut().take();
            if let Some(mut control) = control {
                let _ = control.write_all(&frame).await;
                *shared.control.borrow_mut() = Some(control);
            }
        });
    }

    fn begin(&mut self, mut send: SendStream, mut recv: RecvStream) {
        let id = u64::from(VarInt::from(recv.id()));
        if self.farewell.is_some_and(|first| id >= first) {
            // RFC 9114 §4.1.1: nothing was done, and the client may ask again elsewhere.
            let _ = send.reset(code(H3Code::RequestRejected));
            let _ = recv.stop(code(H3Code::RequestRejected));
            return;
        }
        self.next = self.next.max(id + STREAM_STEP);
        self.timer.disarm();
        let place = Place::new(self.shared.clone());
        let service = self.service.clone();
        spawn_local(async move { answer_one(&place.0, &*service, send, recv).await });
    }
}

/// Our control stream, which stays open as long as the connection.
async fn say_settings(shared: Rc<Shared>, head_bytes: usize) {
    let Ok(mut control) = shared.connection.open_uni().await else { return };
    let mut preface = Vec::new();
    control_preface(&mut preface, head_bytes as u64);
    if control.write_all(&preface).await.is_ok() {
        *shared.control.borrow_mut() = Some(control);
    }
}

async fn answer_one<S: Service>(shared: &Rc<Shared>, service: &S, send: SendStream, recv: RecvStream) {
    let limits = service.limits();
    let worker = &shared.worker;
    let stream = Rc::new(Stream::new(shared.clone(), limits, send, recv));
    let head = poll_fn(|cx| stream.poll_head(cx)).await;
    if let Err(Fault { kind: Kind::ClientGone, .. }) = head {
        return;
    }
    let mut under_way = UnderWay::begin(worker, service, worker.now());
    let Some(exchange) = &mut under_way.exchange else { return };
    let mut waited = false;
    let read = match head {
        Ok(HeadRead::Whole) => {
            let mut reading = pin!(read_head(shared, &stream, exchange));
            // Its time begins when it may be answered, as of a head that comes in pieces over HTTP/1.1.
            poll_fn(|cx| {
                let read = reading.as_mut().poll(cx);
                waited |= read.is_pending();
                read
            })
            .await
        }
        Ok(HeadRead::TooLarge) => {
            shared.count_reset();
            Err(Fault::new(Kind::HeadTooLarge, "a field section longer than header_bytes"))
        }
        Err(fault) => Err(fault),
    };
    shared.ends.introduce(exchange);
    exchange.client = Some(stream.clone());
    under_way.named = true;
    if waited {
        exchange.record.started = worker.now();
    }
    answer(&stream, exchange, read, service).await;
    under_way.end(worker.now(), stream.read());
    // What is left of a request that is answered already is not wanted; the answer stands (RFC 9114 §4.1).
    stream.body.stop(H3Code::NoError);
    poll_fn(|cx| stream.poll_farewell(cx)).await;
}

async fn read_head(shared: &Shared, stream: &Stream, exchange: &mut Exchange) -> Result<(), Fault> {
    let mut heads = shared.heads.take();
    let understood = understand(shared, stream, &mut heads, exchange).await;
    *shared.heads.borrow_mut() = heads;
    understood
}

async fn understand(shared: &Shared, stream: &Stream, heads: &mut Heads, exchange: &mut Exchange) -> Result<(), Fault> {
    let head = &mut exchange.request;
    let limits = &stream.talk.limits.head;
    let Heads { fields, scratch } = heads;
    fields.begin(head, Version::Http3);
    read_section(&stream.body.section(), scratch, |name, value| fields.field(head, name, value, limits)).map_err(
        |QpackError(why)| {
            shared.close(H3Code::DecompressionFailed, why);
            Fault::new(Kind::ClientGone, why)
        },
    )?;
    // Whether a body follows is known once the stream ends, or goes on.
    if fields.should_end(head) {
        poll_fn(|cx| stream.poll_decided(cx)).await?;
    } else {
        poll_fn(|cx| Poll::Ready(stream.look_ahead(cx))).await?;
    }
    if let Err(refusal) = fields.finish(head, stream.body.is_over(), limits) {
        if refusal == Refusal::HeadTooLarge {
            shared.count_reset();
        }
        return Err(stream.refuse(refusal));
    }
    stream.expect(if let Framing::Length(length) = head.framing { Some(length) } else { None })?;
    match shared.handshake.done.get() {
        Some(true) => Ok(()),
        Some(false) | None => wait_if_unsafe(shared, head).await,
    }
}

/// Before the handshake is done, what came may have been sent before by another (RFC 8470): what is safe to repeat is answered, and the
/// back end is told; all else waits.
async fn wait_if_unsafe(shared: &Shared, head: &mut maitred_wire::RequestHead) -> Result<(), Fault> {
    match head.method {
        Method::Get | Method::Head | Method::Options => {
            head.headers.set(b"early-data", b"1");
            return Ok(());
        }
        Method::Post | Method::Put | Method::Patch | Method::Delete | Method::Other => {}
    }
    let mut told = pin!(shared.handshake.told.notified());
    told.as_mut().enable();
    if shared.handshake.done.get().is_none() {
        told.await;
    }
    match shared.handshake.done.get() {
        Some(true) => Ok(()),
        // A stream may still be read of a connection that is closed.
        Some(false) | None => Err(Fault::new(Kind::ClientGone, "the handshake was never finished")),
    }
}
