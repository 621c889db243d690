//! One client that stays. Towards its transport it is the other end of a tunnel, of which it reads and writes the frames; towards its session
//! it is a queue of messages. Both are tasks of one worker. Holds so many messages and bytes and no more: then the client is not read from.
//! What it holds is counted in the room that all clients share; where that is full, the client is told to come again later.

use super::answer::Said;
use super::outbox::{Outbox, Unsaid};
use maitred_core::{Duplex, Fault, Kind, Progress, Room, Stream, Taken};
use maitred_transport::{Timer, Worker};
use maitred_wire::{Incoming, MessageLimits, MessageReader, Opcode, Side, Violation};
use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Of one message, either way (reference: Amazon API Gateway, WebSocket quotas).
pub(super) const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Of one frame of a client (the same).
const FRAME_BYTES_MAX: usize = 32 * 1024;
/// Messages that wait for their function, and their bytes: one is always let in.
const WAITING_MAX: usize = 64;
const WAITING_BYTES_MAX: usize = 128 * 1024;
/// What a message takes besides its bytes: its place in the queue, and what is known of it.
const MESSAGE_OWN_BYTES: usize = 64;
/// Beyond the idle time, for the last frames to be read: the tunnel is torn down after that.
const IDLE_SLACK: Duration = Duration::from_secs(30);

/// A client left without a close frame (RFC 6455 §7.1.5).
const ABNORMAL: u16 = 1006;
const NO_CODE: u16 = 1005;
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const UNSUPPORTED: u16 = 1003;
/// IANA's registry of close codes.
const TRY_AGAIN_LATER: u16 = 1013;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// Of the close frame, or what stands for none.
    pub code: u16,
    pub reason: Cow<'static, str>,
}

/// A message that a client has said, and its part of the room.
#[derive(Debug)]
pub(super) struct Heard {
    pub said: Said,
    pub room: Taken,
}

pub(super) struct Connection {
    pub id: Box<str>,
    worker: Rc<Worker>,
    reader: RefCell<MessageReader>,
    takes_bytes: bool,
    room: Room,
    /// The part of the message that comes.
    coming: RefCell<Taken>,
    waiting: RefCell<VecDeque<Heard>>,
    waiting_bytes: Cell<usize>,
    outbox: RefCell<Outbox>,
    end: RefCell<Option<End>>,
    idle: Timer,
    idle_time: Duration,
    lifetime: Duration,
    active: Cell<Instant>,
    transport: RefCell<Option<Waker>>,
    session: RefCell<Option<Waker>>,
}

/// How long a client may stay.
pub(super) struct Stay {
    pub idle: Duration,
    pub lifetime: Duration,
}

impl Connection {
    pub fn new(id: Box<str>, worker: &Rc<Worker>, stay: &Stay, takes_bytes: bool, room: &Room) -> Rc<Connection> {
        let limits = MessageLimits { frame: FRAME_BYTES_MAX, message: MESSAGE_BYTES_MAX };
        Rc::new(Connection {
            id,
            worker: worker.clone(),
            reader: RefCell::new(MessageReader::new(Side::Client, limits)),
            takes_bytes,
            room: room.clone(),
            coming: RefCell::new(room.part()),
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            outbox: RefCell::new(Outbox::new(room.part())),
            end: RefCell::new(None),
            idle: Timer::new(&worker.timers),
            idle_time: stay.idle,
            lifetime: stay.lifetime,
            active: Cell::new(worker.now()),
            transport: RefCell::default(),
            session: RefCell::default(),
        })
    }

    pub fn is_open(&self) -> bool {
        self.end.borrow().is_none()
    }

    /// When anything was said last, by either end.
    pub fn active(&self) -> Instant {
        self.active.get()
    }

    /// How it ended; asked when it has.
    pub fn end(&self) -> End {
        self.end.borrow().clone().unwrap_or(End { code: ABNORMAL, reason: "".into() })
    }

    /// The next message; `None` once the last was taken and none can follow.
    pub fn poll_message(&self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        let was_full = self.is_full();
        let next = self.waiting.borrow_mut().pop_front();
        if let Some(heard) = next {
            self.waiting_bytes.set(self.waiting_bytes.get() - heard.said.as_bytes().len());
            if was_full {
                wake(&self.transport);
            }
            return Poll::Ready(Some(heard));
        }
        if !self.is_open() {
            return Poll::Ready(None);
        }
        keep(&self.session, cx);
        Poll::Pending
    }

    /// One message for the client.
    pub fn say(&self, said: &Said) -> Result<(), Unsaid> {
        let opcode = match said {
            Said::Text(_) => Opcode::Text,
            Said::Bytes(_) => Opcode::Binary,
        };
        self.write(opcode, said.as_bytes())
    }

    fn write(&self, opcode: Opcode, payload: &[u8]) -> Result<(), Unsaid> {
        if !self.is_open() {
            return Err(Unsaid::Gone);
        }
        self.outbox.borrow_mut().write(opcode, payload)?;
        self.touch();
        wake(&self.transport);
        Ok(())
    }

    /// Somebody asks that it ends.
    pub fn dismiss(&self) {
        self.close(NORMAL, "Connection deleted".into());
    }

    /// There is no room for what it has said, or is to be told.
    pub fn send_away(&self) {
        self.worker.shard().fault(Kind::BufferFull);
        self.close(TRY_AGAIN_LATER, "no room at the moment".into());
    }

    /// Says goodbye.
    fn close(&self, code: u16, reason: Cow<'static, str>) {
        if self.is_open() {
            self.outbox.borrow_mut().close(Some(code), &reason);
            self.finish(End { code, reason });
        }
    }

    /// From here on nothing is said or heard.
    fn finish(&self, end: End) {
        self.end.borrow_mut().get_or_insert(end);
        self.reader.borrow_mut().give_up();
        self.coming.borrow_mut().resize(0);
        wake(&self.transport);
        wake(&self.session);
    }

    fn is_full(&self) -> bool {
        self.waiting.borrow().len() >= WAITING_MAX || self.waiting_bytes.get() >= WAITING_BYTES_MAX
    }

    fn touch(&self) {
        let now = self.worker.now();
        self.active.set(now);
        self.idle.arm(now + self.idle_time);
    }

    /// As the reader does it; and what that holds now.
    fn feed(&self, bytes: &[u8]) -> (usize, Result<Option<Incoming>, Violation>, usize) {
        let mut reader = self.reader.borrow_mut();
        let (count, result) = reader.feed(bytes);
        (count, result, reader.held())
    }

    fn hear(&self, incoming: Incoming) {
        match incoming {
            Incoming::Text(text) => self.queue(Said::Text(text)),
            Incoming::Binary(bytes) if self.takes_bytes => self.queue(Said::Bytes(bytes)),
            Incoming::Binary(_) => self.close(UNSUPPORTED, "binary messages are not taken here".into()),
            // A client that pings and reads nothing gets no more answers than fit.
            Incoming::Ping(payload) => _ = self.write(Opcode::Pong, &payload),
            Incoming::Pong => {}
            Incoming::Close(None, _) => {
                self.outbox.borrow_mut().close(None, "");
                self.finish(End { code: NO_CODE, reason: "Client-side close frame status not set".into() });
            }
            Incoming::Close(Some(code), reason) => {
                self.outbox.borrow_mut().close(Some(code), "");
                self.finish(End { code, reason: reason.into() });
            }
        }
    }

    fn queue(&self, said: Said) {
        let mut room = self.room.part();
        if !room.resize((MESSAGE_OWN_BYTES + said.capacity()) as u64) {
            return self.send_away();
        }
        self.waiting_bytes.set(self.waiting_bytes.get() + said.as_bytes().len());
        self.waiting.borrow_mut().push_back(Heard { said, room });
        wake(&self.session);
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = &*waker.borrow() {
        waker.wake_by_ref();
    }
}

fn keep(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut place = place.borrow_mut();
    if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

/// The connection as its tunnel holds it. A tunnel that is over, however it came to that, ends the connection.
pub(super) struct Endpoint(pub Rc<Connection>);

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.0.finish(End { code: ABNORMAL, reason: "Connection closed abnormally".into() });
        // The session may live on for as long as a function has: it has no part in what nobody will be sent.
        self.0.outbox.borrow_mut().clear();
    }
}

/// What the client is sent.
impl Stream for Endpoint {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        let connection = &*self.0;
        keep(&connection.transport, cx);
        loop {
            if !connection.outbox.borrow().unsent().is_empty() {
                return Poll::Ready(Ok(Progress::Data));
            }
            if !connection.is_open() {
                return Poll::Ready(Ok(Progress::End));
            }
            if !connection.idle.is_armed() {
                connection.touch();
            }
            if connection.idle.poll(cx).is_pending() {
                return Poll::Pending;
            }
            connection.close(GOING_AWAY, "Going away".into());
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.0.outbox.borrow(), Outbox::unsent)
    }

    fn consume(&self, count: usize) {
        self.0.outbox.borrow_mut().consume(count);
        self.0.touch();
    }

    fn finish(self: Rc<Self>) {}
}

/// What the client sends.
impl Duplex for Endpoint {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        let connection = &*self.0;
        let mut taken = 0;
        while taken < bytes.len() && connection.is_open() {
            if connection.is_full() {
                keep(&connection.transport, cx);
                break;
            }
            let (count, result, held) = connection.feed(&bytes[taken..]);
            taken += count;
            // One piece is held before it is counted, and no longer than until here.
            if !connection.coming.borrow_mut().resize(held as u64) {
                connection.send_away();
            }
            match result {
                Ok(None) => {}
                Ok(Some(incoming)) => connection.hear(incoming),
                Err(violation) => connection.close(violation.code(), violation.reason().into()),
            }
        }
        if taken > 0 {
            connection.touch();
        }
        // What comes behind the end is nobody's.
        let taken = if connection.is_open() { taken } else { bytes.len() };
        if taken == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    /// The client said FIN, and no word before it.
    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.0.finish(End { code: ABNORMAL, reason: "Connection closed abnormally".into() });
        Poll::Ready(Ok(()))
    }

    fn times(&self) -> Option<(Duration, Duration)> {
        Some((self.0.idle_time + IDLE_SLACK, self.0.lifetime))
    }
}

#[cfg(test)]
mod tests;
