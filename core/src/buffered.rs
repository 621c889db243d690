//! Bodies that are held whole, for those who cannot judge one piece by piece: digests, signatures, validation. The bytes of all of them are
//! counted over all workers, and who finds no room is refused, not queued. A body is read once; whoever asks again is given the same bytes.

use crate::body::{Body, Progress, Stream};
use crate::exchange::Exchange;
use crate::fault::{Fault, Kind};
use crate::ports::Ports;
use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

/// What is taken at first, unless the body is known to be shorter: most requests fit.
const FIRST_BYTES: usize = 4 * 1024;

/// Room for bodies that are held whole: what is taken by all, and how much there is. Copies share what is taken.
#[derive(Debug, Clone)]
pub struct Room {
    taken: Arc<AtomicU64>,
    most: u64,
}

impl Default for Room {
    fn default() -> Room {
        Room { taken: Arc::default(), most: u64::MAX }
    }
}

impl Room {
    /// The same room with other walls: what is taken stays taken.
    pub fn with(&self, most: u64) -> Room {
        Room { taken: self.taken.clone(), most }
    }

    /// Bytes that are held now.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// A part of it, with nothing in it so far.
    pub fn part(&self) -> Taken {
        Taken { room: self.clone(), bytes: 0 }
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
pub struct Taken {
    room: Room,
    bytes: u64,
}

impl Taken {
    /// Whether there was as much more.
    fn grow(&mut self, by: u64) -> bool {
        let grown = self.room.take(by);
        self.bytes += if grown { by } else { 0 };
        grown
    }

    /// So many bytes from now on. Less always fits; where more does not, it stays as it was.
    pub fn resize(&mut self, bytes: u64) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(more) => more == 0 || self.grow(more),
            None => {
                self.room.taken.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
                self.bytes = bytes;
                true
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A whole body and its trailers.
#[derive(Debug)]
pub struct Held {
    bytes: Vec<u8>,
    trailers: Vec<u8>,
    taken: Taken,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    fn new(room: &Room) -> Held {
        Held { bytes: Vec::new(), trailers: Vec::new(), taken: room.part() }
    }

    /// Takes in a piece. Room is taken as bytes come and not as they are announced: an announcement costs a client nothing.
    fn add(&mut self, piece: &[u8], expected: usize) -> Result<(), Fault> {
        let length = self.bytes.len() + piece.len();
        if length > self.bytes.capacity() {
            let doubled = (2 * self.bytes.capacity()).max(FIRST_BYTES);
            // Known to be shorter: no more than that.
            let wanted = if expected >= length { doubled.min(expected) } else { doubled }.max(length);
            if !self.taken.grow((wanted - self.bytes.capacity()) as u64) {
                let most = self.taken.room.most;
                return Err(Fault::new(Kind::BufferFull, format!("limits.buffered_bytes ({most}) are held for others")));
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// A held body, read like one that streams.
struct Reading {
    /// In a cell, since that is how a stream lends its bytes.
    held: RefCell<Rc<Held>>,
    at: Cell<usize>,
}

impl Stream for Reading {
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        Poll::Ready(Ok(if self.at.get() < self.held.borrow().len() { Progress::Data } else { Progress::End }))
    }

    fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.held.borrow(), |held| &held[self.at.get()..])
    }

    fn consume(&self, count: usize) {
        let at = self.at.get() + count;
        let mut held = self.held.borrow_mut();
        if at < held.len() {
            return self.at.set(at);
        }
        // Sent: while a slow back end thinks about it, the room is somebody else's.
        let rest = Held { trailers: held.trailers.clone(), ..Held::new(&held.taken.room) };
        *held = Rc::new(rest);
        self.at.set(0);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.held.borrow().trailers);
    }

    fn held(&self) -> Option<Rc<Held>> {
        Some(self.held.borrow().clone())
    }

    fn finish(self: Rc<Self>) {}
}

impl Exchange {
    /// The whole body of the request. It is read here unless it was before, within the route's `body_bytes` and the route's time, and stays
    /// there to be forwarded; once it is, it is gone. More than `most` bytes are a fault.
    pub async fn whole_body(&mut self, ports: &dyn Ports, most: usize) -> Result<Rc<Held>, Fault> {
        let room = ports.room();
        let stream = match &self.body {
            Body::Stream(stream) => stream.clone(),
            Body::Empty | Body::Tunnel(_) => return Ok(Rc::new(Held::new(room))),
            Body::Bytes(bytes) => return copied(bytes, room),
            Body::Shared(bytes) => return copied(bytes, room),
        };
        let held = match stream.held() {
            Some(held) => held,
            None => {
                let expected = match self.request.framing {
                    maitred_wire::Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
                    maitred_wire::Framing::None | maitred_wire::Framing::Chunked | maitred_wire::Framing::Close => 0,
                };
                let deadline = self.deadline;
                let is_late = || deadline.is_some_and(|deadline| deadline <= ports.now());
                let mut held = Held::new(room);
                poll_fn(|cx| read(&*stream, &mut held, (expected, most), &is_late, cx)).await?;
                let held = Rc::new(held);
                self.body = Body::Stream(Rc::new(Reading { held: RefCell::new(held.clone()), at: Cell::new(0) }));
                // It was asked for and came: no back end need ask again.
                self.request.expect_continue = false;
                held
            }
        };
        if held.len() > most { Err(too_large(most)) } else { Ok(held) }
    }
}

fn copied(bytes: &[u8], room: &Room) -> Result<Rc<Held>, Fault> {
    let mut held = Held::new(room);
    held.add(bytes, bytes.len())?;
    Ok(Rc::new(held))
}

fn too_large(most: usize) -> Fault {
    Fault::new(Kind::BodyTooLarge, format!("more than {most} bytes cannot be looked at as a whole"))
}

fn read(
    stream: &dyn Stream,
    held: &mut Held,
    (expected, most): (usize, usize),
    is_late: &dyn Fn() -> bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Fault>> {
    loop {
        match ready!(stream.poll_ready(cx))? {
            Progress::End => {
                stream.trailers(&mut held.trailers);
                return Poll::Ready(Ok(()));
            }
            // Looked at where bytes come: where none do, the stream's own patience ends it.
            Progress::Data if is_late() => {
                return Poll::Ready(Err(Fault::new(Kind::RequestTimeout, "the body took longer than the route's timeout")));
            }
            Progress::Data => {
                let data = stream.data();
                if held.len() + data.len() > most {
                    return Poll::Ready(Err(too_large(most)));
                }
                held.add(&data, expected)?;
                let count = data.len();
                drop(data);
                stream.consume(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixed;
    use std::collections::VecDeque;
    use std::pin::pin;
    use std::time::Instant;

    fn ports(most: u64) -> Fixed {
        Fixed { room: Room::default().with(most), ..Fixed::at(0) }
    }

    /// A body in pieces; where a piece is empty it waits once.
    struct Pieces(RefCell<VecDeque<Vec<u8>>>);

    impl Stream for Pieces {
        fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
            let mut pieces = self.0.borrow_mut();
            match pieces.front() {
                None => Poll::Ready(Ok(Progress::End)),
                Some(piece) if piece.is_empty() => {
                    pieces.pop_front();
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(_) => Poll::Ready(Ok(Progress::Data)),
            }
        }
        fn data(&self) -> Ref<'_, [u8]> {
            Ref::map(self.0.borrow(), |pieces| pieces.front().map_or(&[][..], |piece| &piece[..]))
        }
        fn consume(&self, count: usize) {
            let mut pieces = self.0.borrow_mut();
            let rest = pieces.pop_front().unwrap().split_off(count);
            if !rest.is_empty() {
                pieces.push_front(rest);
            }
        }
        fn trailers(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(b"x: 1\r\n");
        }
        fn finish(self: Rc<Self>) {}
    }

    fn exchange(pieces: &[&[u8]]) -> Exchange {
        let mut exchange = Exchange::new(Instant::now());
        exchange.body = Body::Stream(Rc::new(Pieces(RefCell::new(pieces.iter().map(|piece| piece.to_vec()).collect()))));
        exchange.request.expect_continue = true;
        exchange
    }

    fn whole(exchange: &mut Exchange, ports: &Fixed, most: usize) -> Result<Rc<Held>, Kind> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut reading = pin!(exchange.whole_body(ports, most));
        loop {
            if let Poll::Ready(held) = reading.as_mut().poll(&mut cx) {
                return held.map_err(|fault| fault.kind);
            }
        }
    }

    #[test]
    fn a_body_is_read_once_and_forwarded_after() {
        let (ports, mut exchange) = (ports(1 << 20), exchange(&[b"hel", b"", b"lo"]));
        let first = whole(&mut exchange, &ports, 100).unwrap();
        let second = whole(&mut exchange, &ports, 100).unwrap();
        assert!(Rc::ptr_eq(&first, &second) && &**first == b"hello");
        assert!(!exchange.request.expect_continue);
        let Body::Stream(stream) = &exchange.body else { panic!("a stream") };
        stream.consume(3);
        assert_eq!(&*stream.data(), b"lo");
        drop((first, second));
        assert!(ports.room.taken() > 0);
        stream.consume(2);
        assert_eq!(ports.room.taken(), 0, "what is sent takes no room");
        assert!(matches!(stream.poll_ready(&mut Context::from_waker(std::task::Waker::noop())), Poll::Ready(Ok(Progress::End))));
        let mut trailers = Vec::new();
        stream.trailers(&mut trailers);
        assert_eq!(trailers, b"x: 1\r\n");
    }

    #[test]
    fn what_is_held_is_counted_and_given_back() {
        let ports = ports(10_000);
        let (mut one, mut two, mut three) = (exchange(&[&[1; 6000]]), exchange(&[&[1; 4000]]), exchange(&[b"1"]));
        let held = whole(&mut one, &ports, usize::MAX).unwrap();
        assert_eq!((ports.room.taken(), held.bytes.capacity()), (6000, 6000));
        assert_eq!(whole(&mut three, &ports, usize::MAX).unwrap_err(), Kind::BufferFull);
        assert_eq!(ports.room.taken(), 6000, "what was refused takes nothing");
        drop((one, held));
        assert_eq!(ports.room.taken(), 0);
        whole(&mut two, &ports, usize::MAX).unwrap();
        assert_eq!(ports.room.taken(), FIRST_BYTES as u64);
    }

    #[test]
    fn a_part_grows_and_shrinks_and_is_given_back() {
        let room = Room::default().with(100);
        let (mut one, mut two) = (room.part(), room.part());
        assert!(one.resize(60) && !two.resize(41) && two.resize(40) && !one.resize(61));
        assert_eq!(room.taken(), 100, "what did not fit changed nothing");
        assert!(one.resize(10) && two.resize(90) && one.resize(10));
        drop(two);
        assert_eq!(room.taken(), 10);
        drop(one);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn a_body_of_many_pieces_takes_no_more_than_twice_its_bytes() {
        let ports = ports(u64::MAX);
        let pieces: Vec<&[u8]> = (0..1000).map(|_| &b"0123456789"[..]).collect();
        let held = whole(&mut exchange(&pieces), &ports, usize::MAX).unwrap();
        assert_eq!((held.len(), held.bytes.capacity() as u64), (10_000, held.taken.bytes));
        assert!(held.taken.bytes <= 20_000);
        drop(held);
        assert_eq!(ports.room.taken(), 0);
    }

    #[test]
    fn more_than_was_asked_for_and_longer_than_the_route_lasts_are_faults() {
        let ports = ports(u64::MAX);
        assert_eq!(whole(&mut exchange(&[b"1234", b"5"]), &ports, 4).unwrap_err(), Kind::BodyTooLarge);
        let mut late = exchange(&[b"1234"]);
        late.deadline = Some(ports.now());
        assert_eq!(whole(&mut late, &ports, 4).unwrap_err(), Kind::RequestTimeout);
        let mut known = exchange(&[b"1234"]);
        whole(&mut known, &ports, 4).unwrap();
        assert_eq!(whole(&mut known, &ports, 3).unwrap_err(), Kind::BodyTooLarge);
    }

    #[test]
    fn no_body_is_an_empty_one() {
        let mut exchange = Exchange::new(Instant::now());
        assert!(whole(&mut exchange, &ports(0), 0).unwrap().is_empty() && exchange.body.is_empty());
    }
}
