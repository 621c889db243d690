//! The client's side of HTTP/2 (RFC 9113): one task for the connection, one for each stream. Every stream becomes the same exchange as
//! an HTTP/1.1 request. What a client may cost is bounded: streams, resets, frames that carry nothing, bytes that it does not read.

mod answer;
mod stream;

use super::under_way::UnderWay;
use super::{Ends, Service};
use crate::http2::{Arrival, Connection, Terms, Turn};
use crate::input::Input;
use crate::socket::Socket;
use crate::timers::Timer;
use crate::worker::Worker;
use answer::Answered;
use maitred_core::{Body, Exchange, Fault};
use maitred_wire::{Framing, H2Code, Refusal, WINDOW_MAX};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use stream::{Stream, gone};
use tokio::task::spawn_local;

/// Requests begun before other connections have their turn: one that asks for everything at once makes nobody wait for all of it.
const ARRIVALS_PER_TURN: usize = 8;

/// What the streams of a connection share.
struct Shared {
    connection: Rc<Connection>,
    ends: Ends,
    worker: Rc<Worker>,
    /// Streams that are answered.
    open: Cell<usize>,
    /// The connection's task.
    task: RefCell<Option<Waker>>,
}

pub(super) async fn serve<S: Service>(
    socket: Socket,
    ends: Ends,
    input: Input,
    timer: Timer,
    worker: Rc<Worker>,
    service: Rc<S>,
) {
    let limits = service.limits();
    let terms = Terms {
        server: true,
        streams: limits.h2.streams,
        window: limits.h2.window,
        // Of all its streams: those that stall hold up no other.
        connection_window: limits.h2.window.saturating_mul(limits.h2.streams).min(WINDOW_MAX),
        head: limits.head,
    };
    let connection = Connection::new(socket, input, terms, &worker, limits.write_timeout, !limits.half_close_aborts);
    timer.arm(worker.now() + limits.handshake_timeout);
    let shared = Rc::new(Shared { connection, ends, worker, open: Cell::new(0), task: RefCell::default() });
    shared.worker.shard().h2_open.add(1);
    let open = Open(shared.clone());
    Serving { shared: shared.clone(), service, timer, greeted: false, farewell: false }.run().await;
    // What is still to be read away is no connection that a drain waits for.
    drop(open);
    shared.connection.linger().await;
}

/// A connection that is counted however it ends; its streams end with it.
struct Open(Rc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connection.lose();
        self.0.worker.shard().h2_open.sub(1);
    }
}

struct Serving<S: Service> {
    shared: Rc<Shared>,
    service: Rc<S>,
    /// Time for the client's first words; idle time; after the farewell, the time for it to be read.
    timer: Timer,
    /// The client has sent its preface.
    greeted: bool,
    /// GOAWAY was said.
    farewell: bool,
}

impl<S: Service> Serving<S> {
    async fn run(mut self) {
        let worker = self.shared.worker.clone();
        let mut drain = pin!(worker.draining.notified());
        // A notice that was given before is seen in `is_draining`.
        drain.as_mut().enable();
        poll_fn(|cx| self.poll(cx, drain.as_mut())).await;
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>, mut drain: Pin<&mut tokio::sync::futures::Notified<'_>>) -> Poll<()> {
        let now = self.shared.worker.now();
        if !self.farewell && (self.service.is_draining() || drain.as_mut().poll(cx).is_ready()) {
            self.farewell = true;
            self.shared.connection.announce_goodbye();
            // The time for the farewell is shorter than the idle time that may be running.
            self.timer.disarm();
        }
        let limits = self.service.limits();
        match self.shared.connection.poll_turn(cx, Some(&limits.h2), now) {
            Turn::Over => return Poll::Ready(()),
            Turn::Condemned(code) => self.condemned(code, now, cx),
            Turn::Waiting => {}
        }
        for _ in 0..ARRIVALS_PER_TURN {
            let Some(arrival) = self.shared.connection.take_arrival() else { break };
            self.begin(arrival);
        }
        if self.shared.connection.has_arrivals() {
            cx.waker().wake_by_ref();
        }
        self.poll_patience(cx, now)
    }

    /// The client broke the rules, and is told: how long for it to listen?
    fn condemned(&mut self, code: H2Code, now: Instant, cx: &mut Context<'_>) {
        let shared = &self.shared;
        if code == H2Code::ENHANCE_YOUR_CALM {
            shared.worker.shard().h2_floods.add(1);
        }
        tracing::debug!(peer = %shared.ends.peer, %code, "an HTTP/2 connection was closed for what its client sent");
        self.farewell = true;
        self.timer.arm(now + Connection::LAST_WORDS_TIME);
        // If its last words are out, it is over.
        cx.waker().wake_by_ref();
    }

    /// Is the client still worth waiting for?
    fn poll_patience(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let connection = &self.shared.connection;
        if !self.greeted && connection.is_settled() {
            self.greeted = true;
            self.timer.disarm();
        }
        if connection.is_half_closed() && self.shared.open.get() == 0 && !self.farewell {
            // Everything is answered; what is still to be written is, before the connection ends.
            self.farewell = true;
            connection.say_goodbye();
            self.timer.arm(now + Worker::FAREWELL_TIME);
        }
        let mut task = self.shared.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        drop(task);
        if self.shared.open.get() > 0 {
            if self.greeted && !connection.is_condemned() {
                self.timer.disarm();
            }
            return Poll::Pending;
        }
        if !self.timer.is_armed() {
            let patience = if self.farewell { Worker::FAREWELL_TIME } else { self.service.limits().idle_timeout };
            self.timer.arm(now + patience);
        }
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.farewell || !self.greeted {
            return Poll::Ready(());
        }
        self.farewell = true;
        connection.announce_goodbye();
        self.timer.arm(now + Worker::FAREWELL_TIME);
        Poll::Pending
    }

    fn begin(&self, arrival: Arrival) {
        let shared = self.shared.clone();
        shared.open.set(shared.open.get() + 1);
        let place = Place(shared);
        let service = self.service.clone();
        spawn_local(async move { answer_one(&place.0, &*service, arrival).await });
    }
}

/// A stream that is answered, however that ends.
struct Place(Rc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.0.open.get() - 1;
        self.0.open.set(open);
        if open == 0
            && let Some(task) = &*self.0.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}

async fn answer_one<S: Service>(shared: &Rc<Shared>, service: &S, arrival: Arrival) {
    let Arrival { channel, exchange, read } = arrival;
    let worker = &shared.worker;
    let mut under_way = UnderWay::resume(worker, service, exchange);
    let Some(exchange) = &mut under_way.exchange else { return };
    let stream = Rc::new(Stream::new(shared.clone(), service.limits(), channel, &exchange.request));
    shared.ends.introduce(exchange);
    exchange.client = Some(stream.clone());
    under_way.named = true;
    if let Err(refusal @ Refusal::Malformed(_)) = read {
        // There is no request that could be answered (RFC 9113 §8.1.1).
        let response = service.refuse(exchange, refusal.into());
        exchange.record.status = response.head.status;
        exchange.keep_head(response.head);
        stream.reset(H2Code::PROTOCOL_ERROR);
        return under_way.end(worker.now(), 0);
    }
    if stream.channel.broken().is_some() {
        // Taken back before its turn came: nobody is asked.
        let gone = gone();
        exchange.record.status = gone.kind.status();
        exchange.record.fault = Some((gone.kind, gone.detail));
        return under_way.end(worker.now(), 0);
    }
    let response = match read {
        Err(refusal) => service.refuse(exchange, refusal.into()),
        Ok(()) => {
            if exchange.request.upgrade.is_some() {
                stream.begin_websocket(&mut exchange.request);
            }
            exchange.body = match exchange.request.framing {
                Framing::None => Body::Empty,
                Framing::Length(_) | Framing::Chunked | Framing::Close => Body::Stream(stream.clone()),
            };
            service.call(exchange).await
        }
    };
    if let Answered::Unsent(fault) = stream.answer(exchange, response, service).await {
        let response = service.fail(exchange, fault);
        answer_again(&stream, exchange, response, service).await;
    }
    let read = stream.read();
    under_way.end(worker.now(), read);
}

/// The answer that stands in for one that broke before a byte of it went out.
async fn answer_again<S: Service>(stream: &Rc<Stream>, exchange: &mut Exchange, response: maitred_core::Response, service: &S) {
    if let Answered::Unsent(Fault { kind, detail, .. }) = stream.answer(exchange, response, service).await {
        exchange.record.fault = Some((kind, detail));
    }
}
