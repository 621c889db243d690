//! A body on a stream of HTTP/2, in either direction and for either side: pieces as they come, and pieces as windows and the socket
//! allow. Whose fault an error is, and how long to wait, is for the side that asks.

use super::CHUNK_BYTES_MAX;
use super::fields::{trailer_lines, trailer_map};
use super::line::Line;
use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::cell::{Cell, Ref, RefCell};
use std::task::{Context, Poll, ready};

/// What a peer sends. Without a stream it has ended.
pub(crate) struct Incoming {
    receive: RefCell<Option<RecvStream>>,
    /// At hand.
    bytes: RefCell<Bytes>,
    trailers: RefCell<Vec<u8>>,
    ended: Cell<bool>,
}

impl Incoming {
    pub fn new(receive: RecvStream) -> Incoming {
        let ended = Cell::new(receive.is_end_stream());
        Incoming { receive: RefCell::new(Some(receive)), ended, ..Incoming::none() }
    }

    /// Nothing has begun to come.
    pub fn none() -> Incoming {
        Incoming { receive: RefCell::default(), bytes: RefCell::default(), trailers: RefCell::default(), ended: Cell::new(false) }
    }

    /// The stream, once there is one.
    pub fn begin(&self, receive: RecvStream) {
        *self.receive.borrow_mut() = Some(receive);
    }

    /// One more piece, or the end with the trailers.
    pub fn poll_more(&self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let mut receive = self.receive.borrow_mut();
        let Some(receive) = &mut *receive else {
            self.ended.set(true);
            return Poll::Ready(Ok(()));
        };
        match ready!(receive.poll_data(cx)) {
            Some(bytes) => *self.bytes.borrow_mut() = bytes?,
            None => {
                if let Some(trailers) = ready!(receive.poll_trailers(cx))? {
                    trailer_lines(&trailers, &mut self.trailers.borrow_mut());
                }
                self.ended.set(true);
            }
        }
        Poll::Ready(Ok(()))
    }

    pub fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.bytes.borrow(), |bytes| &bytes[..])
    }

    /// Opens the window for as much.
    pub fn consume(&self, count: usize) {
        self.bytes.borrow_mut().advance(count);
        if let Some(receive) = &mut *self.receive.borrow_mut() {
            // A stream that was reset meanwhile has no window to open.
            let _ = receive.flow_control().release_capacity(count);
        }
    }

    pub fn at_hand(&self) -> usize {
        self.bytes.borrow().len()
    }

    pub fn is_over(&self) -> bool {
        self.ended.get()
    }

    pub fn trailers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.trailers.borrow());
    }
}

/// The peer takes nothing more on this stream.
pub(crate) struct Closed;

/// Hands over as much of `bytes` as windows and the socket allow, waiting for the first. `last`: nothing follows them.
pub(crate) fn poll_give(
    cx: &mut Context<'_>,
    send: &mut SendStream<Bytes>,
    line: &Line,
    bytes: &[u8],
    last: bool,
) -> Poll<Result<usize, Closed>> {
    ready!(line.poll_room(cx));
    if send.capacity() == 0 {
        // No more than is in hand: what is reserved and not used is taken from other streams.
        send.reserve_capacity(bytes.len().min(CHUNK_BYTES_MAX));
    }
    let mut room = send.capacity();
    while room == 0 {
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(capacity)) => room = capacity,
            Some(Err(_)) | None => return Poll::Ready(Err(Closed)),
        }
    }
    let count = bytes.len().min(room).min(CHUNK_BYTES_MAX);
    send.send_data(Bytes::copy_from_slice(&bytes[..count]), last && count == bytes.len()).map_err(|_| Closed)?;
    line.handed_over(count);
    Poll::Ready(Ok(count))
}

/// There is nothing to give at the moment: what was reserved is for others.
pub(crate) fn rest(send: &mut SendStream<Bytes>) {
    if send.capacity() > 0 {
        send.reserve_capacity(0);
    }
}

/// Says that nothing follows, but trailers where there are any.
pub(crate) fn end(send: &mut SendStream<Bytes>, trailers: &[u8]) -> Result<(), Closed> {
    match trailers.is_empty() {
        true => send.send_data(Bytes::new(), true),
        false => send.send_trailers(trailer_map(trailers)),
    }
    .map_err(|_| Closed)
}
