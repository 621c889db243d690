//! What the streams of HTTP/2 and of HTTP/3 have in common: how many of a connection are answered, how long each waits for its client, and
//! how much it takes.

use super::ServerLimits;
use super::patience::Patience;
use crate::worker::Worker;
use maitred_core::{Fault, Kind, Progress};
use maitred_wire::{RequestHead, accept_key, make_key};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// Interim responses for one request; hints are optional, memory is not.
const INTERIM_MAX: u32 = 16;

/// How many streams of a connection are answered, and whom to tell when there are none.
#[derive(Default)]
pub(super) struct Streams {
    open: Cell<usize>,
    /// The connection's task.
    task: RefCell<Option<Waker>>,
}

impl Streams {
    pub fn is_empty(&self) -> bool {
        self.open.get() == 0
    }

    /// The task of the connection waits.
    pub fn wait(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    pub fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }
}

/// What the streams of a connection share.
pub(super) trait Shared {
    fn streams(&self) -> &Streams;
}

/// A stream that is answered, however that ends.
pub(super) struct Place<T: Shared>(pub Rc<T>);

impl<T: Shared> Place<T> {
    pub fn new(shared: Rc<T>) -> Place<T> {
        let open = &shared.streams().open;
        open.set(open.get() + 1);
        Place(shared)
    }
}

impl<T: Shared> Drop for Place<T> {
    fn drop(&mut self) {
        let streams = self.0.streams();
        streams.open.set(streams.open.get() - 1);
        if streams.is_empty() {
            streams.wake();
        }
    }
}

/// One stream's exchange with its client. `Code` is the protocol's of errors.
pub(super) struct Talk<Code> {
    pub worker: Rc<Worker>,
    pub limits: Rc<ServerLimits>,
    /// What is wrong with the request: its stream is reset with this, and there is no answer.
    pub condemned: Cell<Option<Code>>,
    /// The response's head is out, or queued.
    pub begun: Cell<bool>,
    pub tunnelled: Cell<bool>,
    pub owes_continue: Cell<bool>,
    /// Bytes of the request's body that were taken.
    pub read: Cell<u64>,
    body_limit: Cell<u64>,
    interim: Cell<u32>,
    pub reading: Patience,
    pub writing: Patience,
    /// What a back end must answer to the WebSocket key that we made.
    pub accept: Cell<[u8; 28]>,
}

impl<Code: Copy> Talk<Code> {
    pub fn new(worker: Rc<Worker>, limits: Rc<ServerLimits>) -> Talk<Code> {
        Talk {
            worker,
            limits,
            condemned: Cell::new(None),
            begun: Cell::new(false),
            tunnelled: Cell::new(false),
            owes_continue: Cell::new(false),
            read: Cell::new(0),
            body_limit: Cell::new(u64::MAX),
            interim: Cell::new(0),
            reading: Patience::default(),
            writing: Patience::default(),
            accept: Cell::new([0; 28]),
        }
    }

    /// An HTTP/1.1 back end wants a key, for which an extended CONNECT has no use (RFC 8441 §5, RFC 9220 §3).
    pub fn begin_websocket(&self, request: &mut RequestHead) {
        let chance = &self.worker.chance;
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

    /// Whether one more interim response is sent.
    pub fn takes_interim(&self) -> bool {
        self.interim.replace(self.interim.get().saturating_add(1)) < INTERIM_MAX
    }

    /// The body may have so many bytes.
    pub fn limit(&self, bytes: u64) {
        self.body_limit.set(bytes);
    }

    /// Whether it has no more than that, `at_hand` included.
    pub fn check_limit(&self, at_hand: usize) -> Result<(), Fault> {
        match self.read.get() + at_hand as u64 > self.body_limit.get() {
            true => Err(Fault::new(Kind::BodyTooLarge, "the body grew over body_bytes")),
            false => Ok(()),
        }
    }

    /// So many bytes of the body were taken.
    pub fn took(&self, count: usize) {
        self.read.set(self.read.get() + count as u64);
    }

    /// Nothing of the body came: for how long?
    pub fn poll_body_patience(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        // Once the answer has begun, both sides speak when they have something to say.
        if self.tunnelled.get() || self.begun.get() {
            return Poll::Pending;
        }
        ready!(self.reading.poll(cx, &self.worker, self.limits.body_timeout));
        Poll::Ready(Err(Fault::new(Kind::RequestTimeout, "no byte of the body came for limits.body_timeout")))
    }

    /// The client takes nothing: for how long?
    pub fn poll_write_patience<T>(&self, cx: &mut Context<'_>) -> Poll<Result<T, Fault>> {
        ready!(self.writing.poll(cx, &self.worker, self.limits.write_timeout));
        Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client took nothing for limits.write_timeout")))
    }
}

pub(super) fn gone() -> Fault {
    Fault::new(Kind::ClientGone, "the client closed the stream")
}
