//! The client's side of HTTP/2 (RFC 9113) on the crate `h2`: one task for the connection, one for each stream. Every stream becomes
//! the same exchange as an HTTP/1.1 request. What a client may cost is bounded here: streams, resets, frames that carry nothing,
//! bytes that it does not read.

mod answer;
mod stream;

use super::under_way::UnderWay;
use super::{Ends, Service, with_timer};
use crate::http2::line::{Io, Line};
use crate::http2::{SEND_BUFFER_MAX, WINDOW_MAX};
use crate::input::Input;
use crate::socket::Socket;
use crate::timers::Timer;
use crate::worker::Worker;
use answer::Answered;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use maitred_core::{Body, Exchange, Fault};
use maitred_wire::{Framing, H2Parts, HeadLimits, Refusal, RequestHead};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use stream::Stream;
use tokio::task::spawn_local;

/// The library counts streams that it must reset for a client's errors over the connection's whole life, and not in a period.
const LIFE: usize = 10;

/// What the streams of a connection share.
struct Shared {
    line: Rc<Line>,
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
    let line = Rc::new(Line::new(socket, &worker, limits.write_timeout));
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits.h2.window)
        // Of all its streams: those that stall hold up no other.
        .initial_connection_window_size(limits.h2.window.saturating_mul(limits.h2.streams).min(WINDOW_MAX))
        .max_concurrent_streams(limits.h2.streams)
        .max_header_list_size(u32::try_from(limits.head.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_local_error_reset_streams(Some(LIFE * limits.h2.resets as usize))
        .max_pending_accept_reset_streams(limits.h2.resets as usize)
        .enable_connect_protocol();
    timer.arm(worker.now() + limits.handshake_timeout);
    let handshake = builder.handshake(Io::of_client(line.clone(), input, !limits.half_close_aborts));
    let Ok(Ok(connection)) = with_timer(&timer, handshake).await else { return };
    timer.disarm();
    let shared = Rc::new(Shared { line, ends, worker, open: Cell::new(0), task: RefCell::default() });
    shared.worker.shard().h2_open.add(1);
    let _open = Open(shared.clone());
    Serving { connection, shared, service, timer, farewell: false }.run().await;
}

/// A connection that is counted however it ends.
struct Open(Rc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.worker.shard().h2_open.sub(1);
    }
}

struct Serving<S: Service> {
    connection: Connection<Io, Bytes>,
    shared: Rc<Shared>,
    service: Rc<S>,
    /// Idle time; after the farewell, the time for it to be read.
    timer: Timer,
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
        let line = self.shared.line.clone();
        drop(self);
        if line.condemned.get() {
            line.linger().await;
        }
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>, mut drain: Pin<&mut tokio::sync::futures::Notified<'_>>) -> Poll<()> {
        // Read before what comes is: what is counted belongs to no later time.
        let now = self.shared.worker.now();
        self.shared.line.begin_turn();
        loop {
            if !self.farewell && (self.service.is_draining() || drain.as_mut().poll(cx).is_ready()) {
                self.farewell = true;
                self.connection.graceful_shutdown();
                // The time for the farewell is shorter than the idle time that may be running.
                self.timer.disarm();
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return self.poll_patience(cx, now),
            }
            self.judge(now);
        }
    }

    /// Nothing came in: is the client still worth waiting for?
    fn poll_patience(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.judge(now) {
            // The last words go out on the next turn.
            cx.waker().wake_by_ref();
        }
        if self.shared.line.poll_stuck(cx).is_ready() {
            return Poll::Ready(());
        }
        if self.shared.line.half_closed.get() && self.shared.open.get() == 0 && !self.farewell {
            // Everything is answered; what is still to be written is, before the connection ends.
            self.farewell = true;
            self.connection.graceful_shutdown();
            self.timer.arm(self.shared.worker.now() + Worker::FAREWELL_TIME);
            cx.waker().wake_by_ref();
        }
        let mut task = self.shared.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        drop(task);
        if self.shared.open.get() > 0 && !self.shared.line.condemned.get() {
            self.timer.disarm();
            return Poll::Pending;
        }
        if !self.timer.is_armed() {
            let patience = if self.farewell { Worker::FAREWELL_TIME } else { self.service.limits().idle_timeout };
            self.timer.arm(now + patience);
        }
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.farewell {
            return Poll::Ready(());
        }
        self.farewell = true;
        self.connection.graceful_shutdown();
        self.timer.arm(now + Worker::FAREWELL_TIME);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the connection for what it must end for: GOAWAY with the reason, and no more is read of it.
    fn judge(&mut self, now: Instant) -> bool {
        let shared = &self.shared;
        let Some(reason) = shared.line.verdict(&self.service.limits().h2, now) else { return false };
        shared.line.condemned.set(true);
        if reason == Reason::ENHANCE_YOUR_CALM {
            shared.worker.shard().h2_floods.add(1);
        }
        tracing::debug!(peer = %shared.ends.peer, %reason, "an HTTP/2 connection was closed for what its client sent");
        self.farewell = true;
        self.connection.abrupt_shutdown(reason);
        self.timer.arm(now + Worker::FAREWELL_TIME);
        true
    }

    fn begin(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.timer.disarm();
        let shared = self.shared.clone();
        shared.open.set(shared.open.get() + 1);
        let place = Place(shared);
        let service = self.service.clone();
        spawn_local(async move { answer_one(&place.0, &*service, request, respond).await });
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

async fn answer_one<S: Service>(shared: &Rc<Shared>, service: &S, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let limits = service.limits();
    let worker = &shared.worker;
    let mut under_way = UnderWay::begin(worker, service, worker.now());
    let Some(exchange) = &mut under_way.exchange else { return };
    let (parts, receive) = request.into_parts();
    let read = read_head(&parts, receive.is_end_stream(), &mut exchange.request, &limits.head);
    let stream = Rc::new(Stream::new(shared.clone(), limits, receive, respond, exchange.request.expect_continue));
    shared.ends.introduce(exchange);
    exchange.client = Some(stream.clone());
    under_way.named = true;
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

fn read_head(parts: &http::request::Parts, end_stream: bool, head: &mut RequestHead, limits: &HeadLimits) -> Result<(), Refusal> {
    head.begin_h2();
    for (name, value) in &parts.headers {
        head.h2_field(name.as_str().as_bytes(), value.as_bytes())?;
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let parts = H2Parts {
        method: parts.method.as_str().as_bytes(),
        // `h2` has looked at it, and keeps it only together with an authority.
        scheme: parts.uri.scheme_str().unwrap_or("http").as_bytes(),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: parts.uri.path_and_query().map_or(&b""[..], |path| path.as_str().as_bytes()),
        protocol: protocol.map(|protocol| protocol.as_str().as_bytes()),
        end_stream,
    };
    head.finish_h2(parts, limits)
}
