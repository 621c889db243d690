//! A body as it streams: whoever reads it pulls, so back-pressure needs no word of its own. Nothing here buffers a whole body.

use crate::fault::Fault;
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// `data` is not empty.
    Data,
    /// The body is over, complete.
    End,
}

/// A body that arrives over time. One task reads it.
pub trait Stream {
    /// Ready when bytes are at hand, or the body ended, or broke.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>>;

    /// The bytes at hand. Do not hold them over a poll.
    fn data(&self) -> Ref<'_, [u8]>;

    /// So many bytes of `data` are done with.
    fn consume(&self, count: usize);

    /// More body bytes than this are a fault.
    fn limit(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Appends the trailer fields, each a line with CRLF, that came at the end.
    fn trailers(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// All of it, where it is held whole.
    fn held(&self) -> Option<Rc<crate::buffered::Held>> {
        None
    }

    /// The end was seen and everything was consumed: what carried the body may be used again.
    fn finish(self: Rc<Self>);
}

/// Both directions of a connection that stopped speaking HTTP (after 101).
pub trait Duplex: Stream {
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>>;

    /// How long nothing may move on it, and how long it lives, where its maker says so and not the listener. Then what it says last is the
    /// end of both directions.
    fn times(&self) -> Option<(Duration, Duration)> {
        None
    }

    /// Sends FIN.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;
}

/// A body that is whole, to be read like one that streams.
pub struct Whole {
    bytes: RefCell<Rc<[u8]>>,
    at: Cell<usize>,
}

impl Whole {
    pub fn new(bytes: Rc<[u8]>) -> Whole {
        Whole { bytes: RefCell::new(bytes), at: Cell::new(0) }
    }
}

impl Stream for Whole {
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        Poll::Ready(Ok(if self.at.get() < self.bytes.borrow().len() { Progress::Data } else { Progress::End }))
    }

    fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.bytes.borrow(), |bytes| &bytes[self.at.get()..])
    }

    fn consume(&self, count: usize) {
        self.at.set(self.at.get() + count);
    }

    fn finish(self: Rc<Self>) {}
}

/// A body of either direction.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    /// All of it is here.
    Bytes(Rc<[u8]>),
    /// All of it is here, part of the configuration.
    Shared(std::sync::Arc<[u8]>),
    Stream(Rc<dyn Stream>),
    /// After 101: the rest of the connection.
    Tunnel(Rc<dyn Duplex>),
}

impl Body {
    pub fn is_empty(&self) -> bool {
        matches!(self, Body::Empty)
    }
}
