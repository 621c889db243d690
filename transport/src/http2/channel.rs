//! One stream as its connection and whoever uses it see it: what came and was not taken, what windows allow, how it ended. Its state
//! is changed by `state.rs` alone.

use maitred_core::Progress;
use maitred_wire::{H2Code, ResponseHead};
use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

/// Who ended a stream before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Peer,
    Us,
    /// By a GOAWAY that says it was not acted upon.
    Goodbye,
    /// The connection ended.
    Lost,
}

/// How a stream ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Break {
    pub by: By,
    pub code: H2Code,
}

impl fmt::Display for Break {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            By::Peer => write!(out, "reset with {}", self.code),
            By::Us => write!(out, "reset by us with {}", self.code),
            By::Goodbye => write!(out, "not acted upon before GOAWAY with {}", self.code),
            By::Lost if self.code == H2Code::NO_ERROR => out.write_str("the connection ended"),
            By::Lost => write!(out, "the connection ended with {}", self.code),
        }
    }
}

/// What the stream's task waits for. It is woken for that and for its end, and not for all that happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum News {
    /// A head, bytes, the end.
    Incoming = 1,
    /// A window was opened, or the connection has room.
    Outgoing = 2,
    /// Nothing but the end.
    End = 4,
}

pub(crate) struct Channel {
    pub id: u32,
    waker: RefCell<Option<Waker>>,
    waits: Cell<u8>,
    /// Body bytes that came, of which so many are taken.
    pub(super) inbox: RefCell<Vec<u8>>,
    pub(super) taken: Cell<usize>,
    /// Those that may be forwarded, as lines.
    pub(super) trailers: RefCell<Vec<u8>>,
    /// Heads of responses, interim ones and the last.
    pub(super) heads: RefCell<VecDeque<Box<ResponseHead>>>,
    /// The peer has still to send something.
    pub(super) receiving: Cell<bool>,
    /// We have.
    pub(super) sending: Cell<bool>,
    pub(super) broken: Cell<Option<Break>>,
    /// What the peer may send.
    pub(super) receive_window: Cell<i64>,
    /// What was taken and not yet announced.
    pub(super) owed: Cell<u32>,
    /// What we may send.
    pub(super) send_window: Cell<i64>,
    /// Body bytes to come, where a length was stated.
    pub(super) left: Cell<Option<u64>>,
    /// The request is answered, and so much of what still comes is taken and forgotten.
    pub(super) rest: Cell<Option<u32>>,
    /// The request was HEAD.
    pub(super) to_head: Cell<bool>,
    /// The response's own head came, after which only trailers are headers.
    pub(super) answered: Cell<bool>,
    /// It stands in a queue of its connection.
    pub(super) queued: Cell<bool>,
}

impl Channel {
    pub(super) fn new(id: u32, receive_window: i64, send_window: i64) -> Channel {
        Channel {
            id,
            waker: RefCell::default(),
            waits: Cell::new(0),
            inbox: RefCell::default(),
            taken: Cell::new(0),
            trailers: RefCell::default(),
            heads: RefCell::default(),
            receiving: Cell::new(true),
            sending: Cell::new(true),
            broken: Cell::new(None),
            receive_window: Cell::new(receive_window),
            owed: Cell::new(0),
            send_window: Cell::new(send_window),
            left: Cell::new(None),
            rest: Cell::new(None),
            to_head: Cell::new(false),
            answered: Cell::new(false),
            queued: Cell::new(false),
        }
    }

    /// The task that asks is woken by the next such news.
    pub fn wait(&self, cx: &mut Context<'_>, news: News) {
        self.waits.set(self.waits.get() | news as u8);
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    pub(super) fn tell(&self, news: News) {
        if self.waits.get() & news as u8 != 0 {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        if self.waits.replace(0) != 0
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    pub fn broken(&self) -> Option<Break> {
        self.broken.get()
    }

    /// Ready when the stream was ended before its time.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<Break> {
        match self.broken.get() {
            Some(broken) => Poll::Ready(broken),
            None => {
                self.wait(cx, News::End);
                Poll::Pending
            }
        }
    }

    /// Bytes of the body, or its end. What came before a reset is given first.
    pub fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Break>> {
        if self.at_hand() > 0 {
            return Poll::Ready(Ok(Progress::Data));
        }
        if !self.receiving.get() {
            return Poll::Ready(Ok(Progress::End));
        }
        if let Some(broken) = self.broken.get() {
            return Poll::Ready(Err(broken));
        }
        self.wait(cx, News::Incoming);
        Poll::Pending
    }

    pub fn at_hand(&self) -> usize {
        self.inbox.borrow().len() - self.taken.get()
    }

    pub fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.inbox.borrow(), |inbox| &inbox[self.taken.get()..])
    }

    pub fn copy_trailers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.trailers.borrow());
    }
}
