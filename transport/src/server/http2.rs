//! The client's side of HTTP/2 (RFC 9113): one task for the connection, one for each stream. Every stream becomes the same exchange as
//! an HTTP/1.1 request. What a client may cost is bounded: streams, resets, frames that carry nothing, bytes that it does not read.

mod stream;

use super::answer::{Outlet, answer};
use super::streams::{self, Place, Streams};
use super::under_way::UnderWay;
use super::{Ends, Service};
use crate::http2::{Arrival, Channel, Connection, Terms, Turn};
use crate::input::Input;
use crate::socket::Socket;
use crate::timers::{Timer, put_off};
use crate::worker::Worker;
use maitred_wire::{H2Code, WINDOW_MAX};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use stream::Stream;
use tokio::task::spawn_local;

/// Requests begun before other connections have their turn: one that asks for everything at once makes nobody wait for all of it.
const ARRIVALS_PER_TURN: usize = 8;
/// Where a turn comes so late there is much to do, and fewer are begun in each.
const LATE_TURN: Duration = Duration::from_micros(500);

/// Longer than its turn takes: a request that waited so long waited for its client to make room, and its time begins when it is over.
const WAITED: Duration = Duration::from_millis(500);

/// Requests answered at once whose client has no room for an answer; others of that kind wait until it has, or those are over. Each would
/// hold a connection to a back end for nothing.
const CRAMPED_MAX: usize = 2;

/// What the streams of a connection share.
struct Shared {
    connection: Rc<Connection>,
    ends: Ends,
    worker: Rc<Worker>,
    streams: Streams,
    /// Requests that are answered though their client had no room for an answer when they began.
    cramped: RefCell<Vec<Rc<Channel>>>,
}

impl Shared {
    fn takes_cramped(&self) -> bool {
        let mut cramped = self.cramped.borrow_mut();
        cramped.retain(|channel| self.connection.is_cramped(channel));
        cramped.len() < CRAMPED_MAX
    }
}

/// One of them: when it is over, another may begin.
struct Cramped(Rc<Shared>);

impl Cramped {
    fn new(shared: &Rc<Shared>, channel: &Rc<Channel>) -> Cramped {
        shared.cramped.borrow_mut().push(channel.clone());
        Cramped(shared.clone())
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        self.0.streams.wake();
    }
}

impl streams::Shared for Shared {
    fn streams(&self) -> &Streams {
        &self.streams
    }
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
    let shared = Rc::new(Shared { connection, ends, worker, streams: Streams::default(), cramped: RefCell::default() });
    shared.worker.shard().h2_open.add(1);
    let _open = Open(shared.clone());
    Serving {
        shared: shared.clone(),
        service,
        timer,
        greeted: false,
        farewell: false,
        planned: None,
        parted: false,
        pace: ARRIVALS_PER_TURN,
        put_off: None,
        room: None,
        rest: None,
    }
    .run()
    .await;
    // The client is still hearing it: the end of a drain waits for that, for a while, and does not count it as cut.
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
    /// GOAWAY was said, or will be behind the answer that is under way.
    farewell: bool,
    /// For how long that is waited for.
    planned: Option<Timer>,
    /// The last word was said, and nobody asked for more time.
    parted: bool,
    /// How many requests a turn begins, and since when others wait for theirs.
    pace: usize,
    put_off: Option<Instant>,
    /// Of requests that wait for their client to make room.
    room: Option<Timer>,
    /// Of those that are answered and not yet whole.
    rest: Option<Timer>,
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
        let limits = self.service.limits();
        match self.shared.connection.poll_turn(cx, Some(&limits.h2), now) {
            Turn::Over => return Poll::Ready(()),
            Turn::Condemned(code) => self.condemned(code, now, cx),
            Turn::Waiting => {}
        }
        // After a turn's share of what was at hand was read: who asked before is told behind the answer.
        if !self.farewell && (self.service.is_draining() || drain.as_mut().poll(cx).is_ready()) {
            self.farewell = true;
            if self.shared.connection.plan_goodbye() {
                self.planned.get_or_insert_with(|| Timer::new(&self.shared.worker.timers)).arm(now + Worker::FAREWELL_TIME);
            } else {
                self.shared.connection.announce_goodbye();
            }
            // The time for the farewell is shorter than the idle time that may be running.
            self.timer.disarm();
        }
        if self.planned.as_ref().is_some_and(|planned| planned.poll(cx).is_ready()) {
            self.planned = None;
            self.shared.connection.take_leave();
        }
        self.give_up_some(cx, now);
        self.begin_some(cx, now);
        self.end_rests(cx, now);
        self.poll_patience(cx, now)
    }

    fn begin_some(&mut self, cx: &mut Context<'_>, now: Instant) {
        if let Some(since) = self.put_off.take() {
            let is_late = now.saturating_duration_since(since) > LATE_TURN;
            self.pace = if is_late { (self.pace / 2).max(1) } else { (self.pace * 2).min(ARRIVALS_PER_TURN) };
        }
        for _ in 0..self.pace {
            let Some((arrival, cramped)) = self.shared.connection.take_arrival(self.shared.takes_cramped()) else { return };
            self.begin(arrival, cramped, now);
        }
        if self.shared.connection.has_arrival(self.shared.takes_cramped()) {
            self.put_off = Some(now);
            put_off(cx);
        }
    }

    /// A client that makes no room for answers has as much time as one that does not take them.
    fn give_up_some(&mut self, cx: &mut Context<'_>, now: Instant) {
        let connection = &self.shared.connection;
        let Some(since) = connection.cramped_since() else { return };
        let patience = self.service.limits().write_timeout;
        let timer = self.room.get_or_insert_with(|| Timer::new(&self.shared.worker.timers));
        timer.arm(since + patience);
        if since + patience <= now {
            connection.give_up_cramped(now - patience, H2Code::CANCEL);
        }
        let _ = timer.poll(cx);
    }

    /// What is still to come of an answered request has its time.
    fn end_rests(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(due) = self.shared.connection.end_rests(now) else { return };
        let timer = self.rest.get_or_insert_with(|| Timer::new(&self.shared.worker.timers));
        timer.arm(due);
        let _ = timer.poll(cx);
    }

    /// The client broke the rules, and is told: how long for it to listen?
    fn condemned(&mut self, code: H2Code, now: Instant, cx: &mut Context<'_>) {
        let shared = &self.shared;
        let is_flood = code == H2Code::ENHANCE_YOUR_CALM;
        shared.worker.shard().h2_floods.add(u64::from(is_flood));
        tracing::debug!(peer = %shared.ends.peer, %code, "an HTTP/2 connection was closed for what its client sent");
        (self.farewell, self.parted) = (true, true);
        self.timer.arm(now + if is_flood { Connection::FLOOD_TIME } else { Connection::LAST_WORDS_TIME });
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
        if connection.is_half_closed() && self.shared.streams.is_empty() && !self.farewell {
            // Everything is answered; what is still to be written is, before the connection ends.
            (self.farewell, self.parted) = (true, true);
            connection.say_goodbye();
            self.timer.arm(now + Worker::FAREWELL_TIME);
        }
        self.shared.streams.wait(cx);
        if !self.shared.streams.is_empty() {
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
        if self.parted || !self.greeted {
            return Poll::Ready(());
        }
        if self.farewell {
            // It has had the time to hear of it; what it sends from here on is not answered.
            self.parted = true;
            connection.say_goodbye();
            self.timer.arm(now + Worker::FAREWELL_TIME);
            let _ = self.timer.poll(cx);
            return Poll::Pending;
        }
        self.farewell = true;
        connection.take_leave();
        self.timer.arm(now + Worker::FAREWELL_TIME);
        Poll::Pending
    }

    fn begin(&self, arrival: Arrival, cramped: bool, now: Instant) {
        let cramped = cramped.then(|| Cramped::new(&self.shared, &arrival.channel));
        let place = Place::new(self.shared.clone());
        let service = self.service.clone();
        spawn_local(async move {
            answer_one(&place.0, &*service, arrival, now).await;
            drop(cramped);
        });
    }
}

async fn answer_one<S: Service>(shared: &Rc<Shared>, service: &S, arrival: Arrival, now: Instant) {
    let Arrival { channel, exchange, read } = arrival;
    let worker = &shared.worker;
    let mut under_way = UnderWay::resume(worker, service, exchange);
    let Some(exchange) = &mut under_way.exchange else { return };
    let stream = Rc::new(Stream::new(shared.clone(), service.limits(), channel));
    shared.ends.introduce(exchange);
    exchange.client = Some(stream.clone());
    under_way.named = true;
    if stream.is_broken() {
        // Taken back, or given up, before its turn came: nobody is asked.
        let gone = stream.why_broken();
        exchange.record.status = gone.kind.status();
        exchange.record.fault = Some((gone.kind, gone.detail));
        return under_way.end(worker.now(), 0);
    }
    if now.saturating_duration_since(exchange.record.started) > WAITED {
        exchange.record.started = now;
    }
    answer(&stream, exchange, read.map_err(|refusal| stream.refuse(refusal)), service).await;
    under_way.end(worker.now(), stream.read());
}
