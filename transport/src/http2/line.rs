//! The bytes of an HTTP/2 connection on their way: metered as they come in, bounded as they go out. Reads frame headers, and
//! nothing else of what they carry.

use crate::input::Input;
use crate::server::H2Limits;
use crate::socket::Socket;
use crate::timers::Timer;
use crate::worker::Worker;
use h2::Reason;
use maitred_wire::{Meter, PREFACE, Tally};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Over how long floods are counted.
const METER_PERIOD: Duration = Duration::from_secs(10);
/// Whoever sends without end would otherwise keep a worker from all its other clients.
const READS_PER_TURN: u32 = 4;
/// Of a flood so much is read after goodbye was said: what was on its way, and not what goes on coming.
const READ_AWAY_BYTES_MAX: usize = 256 * 1024;
/// Bytes that all streams of a connection together may have handed over and the socket has not taken.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

pub(crate) struct Line {
    socket: Socket,
    worker: Rc<Worker>,
    meter: RefCell<Meter>,
    /// The same for what we send: streams that the library resets for the client's errors.
    sent_meter: RefCell<Meter>,
    /// The tally when the period began, and when that was.
    period: Cell<(Tally, Instant)>,
    /// The tally of the last look.
    seen: Cell<Tally>,
    /// What we sent in the period.
    sent: Cell<Sent>,
    /// Reads that found something.
    reads: Cell<u64>,
    /// Of them, in this turn of the connection's task.
    reads_in_turn: Cell<u32>,
    /// When a write that the socket does not take gives up.
    stuck: Timer,
    is_stuck: Cell<bool>,
    write_timeout: Duration,
    unsent: Cell<usize>,
    /// Streams that wait for the socket to take what there is.
    waiting: RefCell<Vec<Waker>>,
    /// Streams of which the client has still to send something.
    pub receiving: Cell<usize>,
    /// The client ended its half with every request whole; answers may still be on their way to it.
    pub half_closed: Cell<bool>,
    /// Goodbye was said for a fault of the client's: nothing more is read.
    pub condemned: Cell<bool>,
}

impl Line {
    pub fn new(socket: Socket, worker: &Rc<Worker>, write_timeout: Duration) -> Line {
        Line {
            socket,
            worker: worker.clone(),
            meter: RefCell::default(),
            sent_meter: RefCell::default(),
            period: Cell::new((Tally::default(), worker.now())),
            seen: Cell::default(),
            sent: Cell::default(),
            reads: Cell::new(0),
            reads_in_turn: Cell::new(0),
            stuck: Timer::new(&worker.timers),
            is_stuck: Cell::new(false),
            write_timeout,
            unsent: Cell::new(0),
            waiting: RefCell::default(),
            receiving: Cell::new(0),
            half_closed: Cell::new(false),
            condemned: Cell::new(false),
        }
    }

    /// The peer has sent its SETTINGS.
    pub fn has_settings(&self) -> bool {
        self.meter.borrow().tally().settings > 0
    }

    pub fn is_encrypted(&self) -> bool {
        self.socket.is_encrypted()
    }

    /// What the connection must end for, if anything: misshapen frames, floods.
    pub fn verdict(&self, limits: &H2Limits, now: Instant) -> Option<Reason> {
        if self.condemned.get() {
            return None;
        }
        match self.meter.borrow().violation() {
            Some(violation) => Some(Reason::from(violation as u32)),
            None => self.is_flooded(limits, now).then_some(Reason::ENHANCE_YOUR_CALM),
        }
    }

    /// Whether more came in the period than limits allow.
    fn is_flooded(&self, limits: &H2Limits, now: Instant) -> bool {
        let tally = *self.meter.borrow().tally();
        let (_, since) = self.period.get();
        if now.saturating_duration_since(since) > METER_PERIOD {
            // What came before the last look is of another time.
            self.period.set((self.seen.get(), now));
            self.sent.set(Sent { blames_before: self.blames(), ..Sent::default() });
        }
        self.seen.set(tally);
        let sent = self.sent.get();
        flood(&self.period.get().0, &tally, Sent { blames: self.blames() - sent.blames_before, ..sent }, limits)
    }

    /// Takes what still comes and forgets it, for a while: closed with unread bytes the connection would be reset, and our last words
    /// lost.
    pub async fn linger(&self) {
        let timer = Timer::new(&self.worker.timers);
        timer.arm(self.worker.now() + Worker::FAREWELL_TIME);
        let mut buffer = self.worker.take_buffer();
        let mut left = READ_AWAY_BYTES_MAX;
        poll_fn(|cx| {
            while left > 0 {
                match self.socket.poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(count)) => left = left.saturating_sub(count),
                    Poll::Pending => return timer.poll(cx),
                }
            }
            Poll::Ready(())
        })
        .await;
        self.worker.give_buffer(buffer);
    }

    /// Ready when a write has waited for longer than `write_timeout`.
    pub fn poll_stuck(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_stuck.get() { self.stuck.poll(cx) } else { Poll::Pending }
    }

    /// Ready when the socket keeps up with what streams hand over.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unsent.get() < UNSENT_BYTES_MAX {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|other| other.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The connection's task begins a turn.
    pub fn begin_turn(&self) {
        self.reads_in_turn.set(0);
    }

    /// Moves whenever something comes in.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// A stream handed over so many bytes.
    pub fn handed_over(&self, bytes: usize) {
        self.unsent.set(self.unsent.get() + bytes);
        let sent = self.sent.get();
        self.sent.set(Sent { frames: sent.frames + 1, bytes: sent.bytes + bytes as u64, ..sent });
    }

    fn blames(&self) -> u64 {
        self.sent_meter.borrow().tally().blames
    }

    fn wrote(&self, count: usize) {
        if self.is_stuck.replace(false) {
            self.stuck.disarm();
        }
        self.unsent.set(self.unsent.get().saturating_sub(count));
        self.wake_waiting();
    }

    /// Nothing waits to be written any more. What a reset stream had handed over was never sent, so the count alone would not know.
    fn flushed(&self) {
        self.unsent.set(0);
        self.wake_waiting();
    }

    fn wake_waiting(&self) {
        if self.unsent.get() < UNSENT_BYTES_MAX / 2 && !self.waiting.borrow().is_empty() {
            for waiting in self.waiting.borrow_mut().drain(..) {
                waiting.wake();
            }
        }
    }

    fn cannot_write(&self) {
        if !self.is_stuck.replace(true) {
            self.stuck.arm(self.worker.now() + self.write_timeout);
        }
    }
}

/// What we sent in a period.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    frames: u64,
    bytes: u64,
    /// Streams reset for the client's errors: in the period, and when it began.
    blames: u64,
    blames_before: u64,
}

/// No client with sense opens its windows for less.
const WINDOW_PIECE_BYTES: u64 = 1024;

/// Whether the difference of two tallies is a flood (RFC 9113 §10.5).
fn flood(before: &Tally, now: &Tally, sent: Sent, limits: &H2Limits) -> bool {
    let since = |count: fn(&Tally) -> u64| count(now) - count(before);
    // Each stream may open its window and say its priority; what we send may be acknowledged in small pieces, for stream and connection.
    let streams = since(|tally| tally.headers);
    let windows =
        since(|tally| tally.window_updates).saturating_sub(2 * (sent.frames + streams + sent.bytes / WINDOW_PIECE_BYTES));
    let empty = since(|tally| tally.empty_data);
    let priorities = since(|tally| tally.priorities).saturating_sub(streams);
    let idle =
        since(|tally| tally.settings) + since(|tally| tally.acks) + since(|tally| tally.pings) + since(|tally| tally.unknown);
    windows + empty + priorities + idle > u64::from(limits.control_frames)
        || since(|tally| tally.resets) + sent.blames > u64::from(limits.resets)
}

/// What `h2` reads and writes.
pub(crate) struct Io {
    line: Rc<Line>,
    /// Somebody judges what the meter finds wrong, and says goodbye for it.
    judged: bool,
    /// The end of what the peer sends is not the end of what it reads.
    half_close: bool,
    /// Read before it was known to be HTTP/2.
    input: Input,
    /// Bytes of the preface still to come; they are no frames.
    preface: usize,
}

impl Io {
    /// A client's connection, of which `input` was read. `half_close`: a FIN behind whole requests does not mean that it is gone.
    pub fn of_client(line: Rc<Line>, input: Input, half_close: bool) -> Io {
        Io { line, judged: true, half_close, input, preface: PREFACE.len() }
    }

    /// A back end's connection.
    pub fn of_upstream(line: Rc<Line>) -> Io {
        Io { line, judged: false, half_close: false, input: Input::default(), preface: 0 }
    }

    fn meter_sent(&self, slices: &[IoSlice<'_>], mut count: usize) {
        if !self.judged {
            return;
        }
        let mut meter = self.line.sent_meter.borrow_mut();
        for slice in slices {
            let piece = &slice[..slice.len().min(count)];
            meter.feed(piece);
            count -= piece.len();
        }
    }

    fn meter(&mut self, bytes: &[u8]) {
        let of_preface = self.preface.min(bytes.len());
        self.preface -= of_preface;
        self.line.meter.borrow_mut().feed(&bytes[of_preface..]);
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.line.condemned.get() || this.line.half_closed.get() {
            return Poll::Pending;
        }
        let turn = this.line.reads_in_turn.get();
        if this.judged && turn >= READS_PER_TURN {
            // What came is judged, and others have their turn, before more is taken.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.input.is_empty() {
            ready!(this.line.socket.poll_read_into(cx, buffer))?;
        } else {
            let count = this.input.data().len().min(buffer.remaining());
            buffer.put_slice(&this.input.data()[..count]);
            this.input.consume(count, &this.line.worker);
        }
        if buffer.filled().len() == before && this.half_close && this.line.receiving.get() == 0 {
            this.line.half_closed.set(true);
            return Poll::Pending;
        }
        this.line.reads_in_turn.set(turn + 1);
        this.line.reads.set(this.line.reads.get() + 1);
        this.meter(&buffer.filled()[before..]);
        if this.line.meter.borrow().violation().is_some() {
            // Nobody acts upon it first.
            buffer.set_filled(before);
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "frames that are none");
            return if this.judged { Poll::Pending } else { Poll::Ready(Err(wrong())) };
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = self.line.socket.poll_write_vectored(cx, slices);
        match &written {
            Poll::Ready(Ok(count)) => {
                self.line.wrote(*count);
                self.meter_sent(slices, *count);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.line.cannot_write(),
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A write is whole only when it is out.
        self.line.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.socket.poll_shutdown(cx)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.input.release(&self.line.worker);
        // Nobody will take what streams wait to hand over.
        for waiting in self.line.waiting.borrow_mut().drain(..) {
            waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: H2Limits = H2Limits { streams: 100, window: 65_535, resets: 100, control_frames: 1000 };

    #[test]
    fn what_streams_need_is_no_flood() {
        let busy = Tally { headers: 5_000, window_updates: 20_000, data_bytes: 1 << 30, ..Tally::default() };
        assert!(!flood(&Tally::default(), &busy, Sent { frames: 5_000, ..Sent::default() }, &LIMITS));
    }

    #[test]
    fn what_carries_nothing_is() {
        let quiet = Tally::default();
        for flooded in [
            Tally { pings: 1001, ..quiet },
            Tally { settings: 600, pings: 600, ..quiet },
            Tally { window_updates: 1001, ..quiet },
            Tally { empty_data: 1001, ..quiet },
            Tally { priorities: 1001, ..quiet },
            Tally { unknown: 1001, ..quiet },
            Tally { resets: 101, ..quiet },
        ] {
            assert!(flood(&quiet, &flooded, Sent::default(), &LIMITS), "{flooded:?}");
            assert!(!flood(&flooded, &flooded, Sent::default(), &LIMITS), "counted from the period's beginning: {flooded:?}");
        }
    }
}
