//! An HTTP/2 connection and its socket. One task drives it (`poll_turn`): it reads, and writes what streams hand over, all of them
//! together in one system call where it can. Streams' own tasks call the rest.

use super::channel::{Channel, News};
use super::heads::{self, Hpack};
use super::receiving::Receiving;
use super::state::{Arrival, State, Terms, tell_all};
use crate::input::Input;
use crate::server::H2Limits;
use crate::socket::Socket;
use crate::timers::{Timer, put_off};
use crate::worker::Worker;
use maitred_wire::{FRAME_BYTES_MAX, H2Code, H2Reader, Headers, PREFACE, ResponseHead, h2_data, h2_headers, hpack_no_table};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// Whoever sends without end would otherwise keep a worker from all its other clients.
const READS_PER_TURN: u32 = 4;
/// Of a client's. A read holds thousands of the smallest kind, and four full reads of them keep a worker for a third of a millisecond.
const FRAMES_PER_TURN: u32 = 256;
/// Bytes that all streams of a connection together may have handed over and the socket has not taken.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes that the kernel holds ahead of what a client's window takes: enough for a full turn, less than would delay an urgent answer.
const KERNEL_UNSENT_BYTES: u32 = 128 * 1024;
/// Of answers that nobody asked us for. Whoever makes us owe more does not read.
const OWED_BYTES_MAX: usize = 1024 * 1024;
/// Of requests that go out and are not taken. Others go elsewhere, until the peer reads on or is given up.
const HEADS_BYTES_MAX: usize = 1024 * 1024;
/// Of a flood so much is read after goodbye was said: what was on its way, and not what goes on coming.
const READ_AWAY_BYTES_MAX: usize = 256 * 1024;
/// For what the socket holds to be read, by one who opens its windows meanwhile.
const LAST_ANSWERS_TIME: Duration = Duration::from_secs(2);
/// Room for a frame that began at the end of a buffer.
const INPUT_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
const _: () = assert!(H2Reader::INPUT_BYTES_MAX <= INPUT_BYTES_MAX);

pub(crate) struct Connection {
    socket: Socket,
    worker: Rc<Worker>,
    pub(super) state: RefCell<State>,
    receiving: RefCell<Receiving>,
    /// The task that drives it, and whether it was told that there is something to send.
    driver: RefCell<Option<Waker>>,
    told: Cell<bool>,
    /// Of the bytes that wait to be sent, those that the peer's frames made us write, or fewer wait at all.
    owed: Cell<usize>,
    /// Moves whenever something comes in.
    reads: Cell<u64>,
    /// When a write that the socket does not take gives up.
    stuck: Timer,
    is_stuck: Cell<bool>,
    write_timeout: Duration,
    /// The end of what the peer sends is not the end of what it reads.
    half_close: bool,
    /// That end came, with every request whole; answers may still be on their way.
    half_closed: Cell<bool>,
    /// Of a client that floods: until then it hears nothing.
    calm: RefCell<Option<Timer>>,
    /// Goodbye was said for a fault of the peer's: nothing more is read.
    condemned: Cell<Option<H2Code>>,
}

/// How far a turn of the connection's task came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is nothing more to do at the moment; the task is woken when there is.
    Waiting,
    /// The peer broke the rules, just now: it is told, and nothing more is taken in.
    Condemned(H2Code),
    Over,
}

/// The peer takes nothing more on this stream.
#[derive(Debug)]
pub(crate) struct Closed;

impl Connection {
    /// For last words to be read by one who broke the rules.
    pub const LAST_WORDS_TIME: Duration = Duration::from_millis(500);
    /// Before a client that floods hears of its end: one that is closed at once begins anew at once, and that costs most of all.
    const CALM_TIME: Duration = Duration::from_millis(500);
    /// On top of it, by chance: clients that were closed together would begin anew together, time and again.
    const CALM_SPREAD_MS: usize = 250;
    /// A client that floods and does not listen is gone by then.
    pub const FLOOD_TIME: Duration = Duration::from_millis(950);

    /// `input` was read before. `half_close`: a FIN behind whole requests does not mean that the client is gone.
    pub fn new(
        socket: Socket,
        input: Input,
        terms: Terms,
        worker: &Rc<Worker>,
        write_timeout: Duration,
        half_close: bool,
    ) -> Rc<Connection> {
        let (now, server) = (worker.now(), terms.server);
        // HPACK may make a block larger, though nobody with sense lets it; a frame of the usual size is always taken.
        let reader = H2Reader::new(terms.head.head_bytes.saturating_add(FRAME_BYTES_MAX));
        let mut state = State::new(terms, worker, now);
        if server {
            // What is stuck in the kernel holds up every stream, and nobody sees it.
            socket.keep_unsent(KERNEL_UNSENT_BYTES);
        } else {
            // The client's words, which stand ahead of its SETTINGS.
            state.out.splice(0..0, PREFACE.iter().copied());
        }
        Rc::new(Connection {
            socket,
            worker: worker.clone(),
            state: RefCell::new(state),
            receiving: RefCell::new(Receiving::new(input, reader, server)),
            driver: RefCell::default(),
            told: Cell::new(false),
            owed: Cell::new(0),
            reads: Cell::new(0),
            stuck: Timer::new(&worker.timers),
            is_stuck: Cell::new(false),
            write_timeout,
            half_close,
            half_closed: Cell::new(false),
            calm: RefCell::default(),
            condemned: Cell::new(None),
        })
    }

    pub fn is_encrypted(&self) -> bool {
        self.socket.is_encrypted()
    }

    /// Moves whenever something comes in.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// The peer has sent its SETTINGS.
    pub fn is_settled(&self) -> bool {
        self.state.borrow().peer.settled
    }

    /// The peer takes an extended CONNECT (RFC 8441).
    pub fn takes_upgrades(&self) -> bool {
        self.state.borrow().peer.extended_connect
    }

    /// A request may be sent: the peer has not said goodbye, and there are numbers left.
    pub fn is_usable(&self) -> bool {
        let state = self.state.borrow();
        !state.peer.going && state.has_numbers() && self.condemned.get().is_none()
    }

    /// The socket keeps up with the heads of requests, which wait for no room.
    pub fn keeps_up(&self) -> bool {
        self.state.borrow().unsent() < HEADS_BYTES_MAX
    }

    /// How many more streams the peer takes at the moment, whatever others have in hand.
    pub fn streams_max(&self) -> u32 {
        self.state.borrow().peer.streams
    }

    /// Goodbye was said for a fault of the peer's.
    pub fn is_condemned(&self) -> bool {
        self.condemned.get().is_some()
    }

    /// The client has said that it sends nothing more, and reads on.
    pub fn is_half_closed(&self) -> bool {
        self.half_closed.get()
    }

    /// Reads what came, and writes what there is. `limits`: the peer is held to them.
    pub fn poll_turn(&self, cx: &mut Context<'_>, limits: Option<&H2Limits>, now: Instant) -> Turn {
        self.told.set(false);
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        drop(driver);
        let was_condemned = self.condemned.get();
        let ended = self.poll_receive(cx, limits, now);
        let is_calm = self.calm.borrow().as_ref().is_none_or(|calm| calm.poll(cx).is_ready());
        let flushed = if is_calm { self.poll_flush(cx) } else { Poll::Pending };
        match (self.condemned.get(), flushed) {
            (_, Poll::Ready(Err(_))) => Turn::Over,
            (Some(code), _) if was_condemned.is_none() => Turn::Condemned(code),
            (Some(_), Poll::Ready(Ok(()))) => Turn::Over,
            (Some(_), Poll::Pending) => Turn::Waiting,
            (None, _) if ended.is_ready() || self.state.borrow().is_over() => Turn::Over,
            (None, Poll::Pending) if self.stuck.poll(cx).is_ready() => Turn::Over,
            (None, _) => Turn::Waiting,
        }
    }

    /// Ready when nothing more comes.
    fn poll_receive(&self, cx: &mut Context<'_>, limits: Option<&H2Limits>, now: Instant) -> Poll<()> {
        let receiving = &mut *self.receiving.borrow_mut();
        // Whatever a back end said before it closed is heard, before a write to it fails.
        let mut room = if limits.is_some() { FRAMES_PER_TURN } else { u32::MAX };
        for _ in 0..READS_PER_TURN {
            if self.half_closed.get() || self.condemned.get().is_some() {
                return Poll::Pending;
            }
            if room == 0 {
                break;
            }
            // What was read before it was known to be HTTP/2, or was too much for one turn.
            if receiving.is_behind {
                self.take_in(receiving, &mut room, limits, now);
                continue;
            }
            match ready!(receiving.input.poll_fill(cx, &self.socket, &self.worker, INPUT_BYTES_MAX)) {
                Ok(1..) => {
                    self.reads.set(self.reads.get() + 1);
                    self.take_in(receiving, &mut room, limits, now);
                }
                Ok(0) if self.half_close && !receiving.preface && !self.state.borrow().is_receiving() => {
                    self.half_closed.set(true);
                    // Whoever waits for its turn waits for nobody now.
                    self.state.borrow().wake_all();
                }
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        // What came is judged, and others have their turn, before more is taken.
        put_off(cx);
        Poll::Pending
    }

    /// Takes in every frame at hand for which there is room.
    fn take_in(&self, receiving: &mut Receiving, room: &mut u32, limits: Option<&H2Limits>, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        state.flood.look(now);
        let before = state.unsent();
        let taken = receiving.take_frames(state, room, &self.worker, now);
        self.owed.set(self.owed.get().min(before) + (state.unsent() - before));
        let flooded = limits.is_some_and(|limits| state.flood.is_over(limits)) || self.owed.get() > OWED_BYTES_MAX;
        let calm = if flooded { Err(H2Code::ENHANCE_YOUR_CALM) } else { Ok(()) };
        if let Err(code) = taken.and(calm) {
            self.condemned.set(Some(code));
            if limits.is_some() && code == H2Code::ENHANCE_YOUR_CALM {
                let calm = Timer::new(&self.worker.timers);
                let spread = Duration::from_millis(self.worker.chance.below(Self::CALM_SPREAD_MS) as u64);
                calm.arm(now + Self::CALM_TIME + spread);
                *self.calm.borrow_mut() = Some(calm);
            }
            state.condemn(code);
            receiving.input.release(&self.worker);
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        while state.unsent() > 0 {
            match self.socket.poll_write(cx, &state.out[state.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    state.written += count;
                    if self.is_stuck.replace(false) {
                        self.stuck.disarm();
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if !self.is_stuck.replace(true) {
                        self.stuck.arm(self.worker.now() + self.write_timeout);
                    }
                    // What was written is forgotten before it is much.
                    if state.written > UNSENT_BYTES_MAX {
                        let written = std::mem::take(&mut state.written);
                        state.out.drain(..written);
                    }
                    if state.unsent() < UNSENT_BYTES_MAX / 2 {
                        tell_all(&mut state.crowded);
                    }
                    return Poll::Pending;
                }
            }
        }
        state.written = 0;
        state.out.clear();
        if state.streams.is_empty() && state.out.capacity() > 0 {
            self.worker.give_output(std::mem::take(&mut state.out));
        }
        tell_all(&mut state.crowded);
        Poll::Ready(Ok(()))
    }

    /// The next request, and whether its client is cramped: it has room for hardly a byte of an answer. `cramped`: such ones too.
    pub fn take_arrival(&self, cramped: bool) -> Option<(Arrival, bool)> {
        let state = &mut *self.state.borrow_mut();
        if !cramped && self.is_clogged(state) {
            return None;
        }
        let at = state.next_arrival(cramped)?;
        let arrival = state.arrivals.remove(at)?;
        let is_cramped = self.is_clogged(state) || state.is_cramped(&arrival.channel);
        Some((arrival, is_cramped))
    }

    pub fn has_arrival(&self, cramped: bool) -> bool {
        let state = &*self.state.borrow();
        (cramped || !self.is_clogged(state)) && state.next_arrival(cramped).is_some()
    }

    /// Something is still to be sent on it, and the peer has no room.
    pub fn is_cramped(&self, channel: &Channel) -> bool {
        let state = &*self.state.borrow();
        channel.sending.get() && (self.is_clogged(state) || state.is_cramped(channel))
    }

    /// The peer's windows may be open: it does not read.
    fn is_clogged(&self, state: &State) -> bool {
        self.is_stuck.get() && state.unsent() >= UNSENT_BYTES_MAX
    }

    /// Since when the oldest request waits for room for its answer, if any does.
    pub fn cramped_since(&self) -> Option<Instant> {
        let state = self.state.borrow();
        let cramped = state.arrivals.iter().filter(|arrival| state.is_cramped(&arrival.channel));
        cramped.map(|arrival| arrival.exchange.record.started).min()
    }

    /// Resets the requests that have waited for room since `then` or longer.
    pub fn give_up_cramped(&self, then: Instant, code: H2Code) {
        let state = &mut *self.state.borrow_mut();
        let is_late = |arrival: &&Arrival| arrival.exchange.record.started <= then && state.is_cramped(&arrival.channel);
        let late: Vec<Rc<Channel>> = state.arrivals.iter().filter(is_late).map(|arrival| arrival.channel.clone()).collect();
        for channel in late {
            state.reset(&channel, code);
        }
        self.tell_driver();
    }

    /// Whether the goodbye is said behind the answer that is under way.
    pub fn plan_goodbye(&self) -> bool {
        self.state.borrow_mut().plan_goodbye()
    }

    /// What was planned has waited for long enough, or the connection was idle for as long as it may be.
    pub fn take_leave(&self) {
        self.state.borrow_mut().take_leave();
        self.tell_driver();
    }

    /// Says that no further request is wanted; those that are on their way are answered.
    pub fn announce_goodbye(&self) {
        self.state.borrow_mut().announce_goodbye();
        self.tell_driver();
    }

    /// The same for one who begins no more of its own.
    pub fn say_goodbye(&self) {
        self.state.borrow_mut().say_goodbye();
        self.tell_driver();
    }

    /// The connection is over: its streams are told.
    pub fn lose(&self) {
        if self.is_stuck.get() {
            // A peer that reads nothing would not see the end either, behind all that it has not read.
            self.socket.reset();
        }
        self.state.borrow_mut().lose(H2Code::NO_ERROR);
        self.receiving.borrow_mut().input.release(&self.worker);
    }

    /// Takes what still comes and forgets it, for a while: closed with unread bytes the connection would be reset, and our last words
    /// lost, or of an answer what the socket still holds.
    pub async fn linger(&self) {
        let (is_over, unsent) = (self.state.borrow().is_over(), self.state.borrow().unsent());
        let time = match self.condemned.get() {
            Some(_) if unsent == 0 => Self::LAST_WORDS_TIME,
            None if is_over => LAST_ANSWERS_TIME,
            Some(_) | None => return,
        };
        let timer = Timer::new(&self.worker.timers);
        timer.arm(self.worker.now() + time);
        let mut buffer = self.worker.take_buffer();
        let mut left = READ_AWAY_BYTES_MAX;
        poll_fn(|cx| {
            let _ = self.socket.poll_shutdown(cx);
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

    fn tell_driver(&self) {
        if !self.told.replace(true)
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    /// What a stream could send at the moment.
    pub fn room(&self, channel: &Channel) -> usize {
        let state = self.state.borrow();
        let window = usize::try_from(channel.send_window.get().min(state.send_window)).unwrap_or(0);
        window.min(UNSENT_BYTES_MAX.saturating_sub(state.unsent()))
    }

    /// Ready when the socket keeps up with what streams hand over, or this one has nothing more to hand over.
    pub fn poll_room(&self, cx: &mut Context<'_>, channel: &Rc<Channel>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.unsent() < UNSENT_BYTES_MAX || !channel.sending.get() {
            return Poll::Ready(());
        }
        if !channel.queued.replace(true) {
            state.crowded.push_back(channel.clone());
        }
        channel.wait(cx, News::Outgoing);
        Poll::Pending
    }

    /// Sends a head; `block` writes its fields. `end`: nothing follows.
    pub fn send_head(&self, channel: &Channel, end: bool, block: impl FnOnce(&mut Vec<u8>)) -> Result<(), Closed> {
        let state = &mut *self.state.borrow_mut();
        if !channel.sending.get() {
            return Err(Closed);
        }
        let update = state.take_table_update();
        h2_headers(&mut state.out, channel.id, end, |out| {
            if update {
                hpack_no_table(out);
            }
            block(out);
        });
        if end {
            state.sent(channel);
        }
        self.tell_driver();
        Ok(())
    }

    /// Sends an interim response, where the socket keeps up: it is a hint.
    pub fn send_interim(&self, channel: &Channel, status: u16, headers: &Headers) {
        if self.state.borrow().unsent() < UNSENT_BYTES_MAX {
            let _ = self.send_head(channel, false, |out| heads::interim::<Hpack>(out, status, headers));
        }
    }

    /// Sends as much of `bytes` as windows and the socket allow, waiting for the first. `last`: nothing follows them.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        channel: &Rc<Channel>,
        bytes: &[u8],
        last: bool,
    ) -> Poll<Result<usize, Closed>> {
        ready!(self.poll_room(cx, channel));
        let state = &mut *self.state.borrow_mut();
        if !channel.sending.get() {
            return Poll::Ready(Err(Closed));
        }
        let window = channel.send_window.get().min(state.send_window);
        let count = bytes.len().min(FRAME_BYTES_MAX).min(usize::try_from(window).unwrap_or(0));
        if count == 0 && !bytes.is_empty() {
            if channel.send_window.get() > 0 && !channel.queued.replace(true) {
                state.waiting.push_back(channel.clone());
            }
            channel.wait(cx, News::Outgoing);
            return Poll::Pending;
        }
        let end = last && count == bytes.len();
        h2_data(&mut state.out, channel.id, &bytes[..count], end);
        channel.send_window.set(channel.send_window.get() - count as i64);
        state.send_window -= count as i64;
        // One that a window cut short buys its reader no more such windows.
        state.flood.tally.sent_frames += u64::from(count == bytes.len().min(FRAME_BYTES_MAX));
        state.flood.tally.sent_bytes += count as u64;
        if end {
            state.sent(channel);
        }
        self.tell_driver();
        Poll::Ready(Ok(count))
    }

    /// Says that nothing follows, but trailers where there are any, each a line.
    pub fn end(&self, channel: &Channel, trailers: &[u8]) -> Result<(), Closed> {
        if !trailers.is_empty() {
            return self.send_head(channel, true, |out| heads::trailers::<Hpack>(out, trailers));
        }
        let state = &mut *self.state.borrow_mut();
        if !channel.sending.get() {
            return Err(Closed);
        }
        h2_data(&mut state.out, channel.id, b"", true);
        state.sent(channel);
        self.tell_driver();
        Ok(())
    }

    /// So many bytes of the body at hand are done with.
    pub fn consume(&self, channel: &Channel, count: usize) {
        let mut inbox = channel.inbox.borrow_mut();
        let taken = channel.taken.get() + count;
        debug_assert!(taken <= inbox.len());
        channel.taken.set(taken);
        if taken == inbox.len() {
            channel.taken.set(0);
            inbox.clear();
            if !channel.receiving.get() {
                self.worker.give_output(std::mem::take(&mut inbox));
            }
        }
        drop(inbox);
        if self.state.borrow_mut().taken(channel, count as u32) {
            self.tell_driver();
        }
    }

    /// Ends a stream with an error for the peer.
    pub fn reset(&self, channel: &Channel, code: H2Code) {
        self.state.borrow_mut().reset(channel, code);
        self.tell_driver();
    }

    /// Whoever used a stream is done with it.
    pub fn abandon(&self, channel: &Channel) {
        let state = &mut *self.state.borrow_mut();
        let before = state.out.len();
        state.abandon(channel);
        // What is still to come of it has its time.
        if state.out.len() > before || channel.rest.get().is_some() {
            self.tell_driver();
        }
    }

    /// Tells clients to stop whose answered requests have gone on for long enough, and gives when the next will have.
    pub fn end_rests(&self, now: Instant) -> Option<Instant> {
        let state = &mut *self.state.borrow_mut();
        let before = state.out.len();
        state.end_rests(Some(now));
        if state.out.len() > before {
            self.tell_driver();
        }
        state.rest_due()
    }

    /// A stream for a request of ours. Its head is to be sent at once: numbers only grow.
    pub fn open(&self, to_head: bool) -> Rc<Channel> {
        self.state.borrow_mut().open(to_head)
    }

    /// The next head of the response, if it came.
    pub fn take_head(&self, channel: &Channel, head: &mut ResponseHead) -> bool {
        let Some(mut came) = channel.heads.borrow_mut().pop_front() else { return false };
        std::mem::swap(head, &mut came);
        self.state.borrow_mut().keep_head(came);
        true
    }
}
