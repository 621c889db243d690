//! Properties of a connection, as server and as client. Its peer and its streams are played by chance, and all that it sends is held
//! against RFC 9113 by books of their own. No socket takes part: what is to be sent is looked at where it waits.

mod cases;

use super::channel::Channel;
use super::connection::Connection;
use super::state::{Terms, tell_all};
use crate::input::Input;
use crate::worker::Worker;
use maitred_core::Clock;
use maitred_core::metrics::Metrics;
use maitred_wire::{
    H2Code, H2Frame, H2Reader, H2Setting, HeadLimits, PREFACE, WINDOW_AT_FIRST, WINDOW_MAX, h2_data, h2_goaway, h2_headers,
    h2_ping, h2_reset, h2_settings, h2_settings_ack, h2_window_update, hpack_field, hpack_status,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

const STREAMS: u32 = 5;
const WINDOW: u32 = 20_000;
const CONNECTION_WINDOW: u32 = 70_000;
const HEAD: HeadLimits = HeadLimits { head_bytes: 2000, fields: 50, target_bytes: 500, drop_underscores: false };
/// Above it streams wait for the socket.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// What is done, with which stream, how much of it.
type Step = (u8, usize, u32);

/// A stream as the peer's books have it.
#[derive(Default)]
struct Side {
    /// What we may send, and what the peer may.
    window: i64,
    room: i64,
    head: bool,
    ended: bool,
    reset: bool,
    /// The peer has ended its half, or all of it.
    done: bool,
    reset_by_peer: bool,
}

/// A stream as its task has it.
struct Used {
    channel: Rc<Channel>,
    woken: Arc<Flag>,
    sends: bool,
    reads: bool,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Play {
    connection: Rc<Connection>,
    worker: Rc<Worker>,
    server: bool,
    used: Vec<Used>,
    /// What the peer sent that is not read yet, and all that it ever sent.
    input: Vec<u8>,
    sent: Vec<u8>,
    reader: H2Reader,
    /// How the connection ended.
    over: Option<H2Code>,
    /// The peer's books; how much of what waits to be sent is in them.
    books: H2Reader,
    booked: usize,
    sides: BTreeMap<u32, Side>,
    window: i64,
    room: i64,
    initial: i64,
    agreed: bool,
    goodbye: u32,
}

impl Play {
    fn new(server: bool, runtime: &Runtime) -> Play {
        let _inside = runtime.enter();
        let worker = Worker::new(0, Clock::default(), Arc::new(Metrics::new(1)));
        let (socket, _) = UnixStream::pair().unwrap();
        let terms = Terms { server, streams: STREAMS, window: WINDOW, connection_window: CONNECTION_WINDOW, head: HEAD };
        let connection = Connection::new(socket.into(), Input::default(), terms, &worker, Duration::from_secs(9), false);
        let mut play = Play {
            connection,
            worker,
            server,
            used: Vec::new(),
            input: Vec::new(),
            sent: Vec::new(),
            reader: H2Reader::new(HEAD.head_bytes),
            over: None,
            books: H2Reader::new(100_000),
            booked: if server { 0 } else { PREFACE.len() },
            sides: BTreeMap::new(),
            window: WINDOW_AT_FIRST.into(),
            room: WINDOW_AT_FIRST.into(),
            initial: WINDOW_AT_FIRST.into(),
            agreed: false,
            goodbye: WINDOW_MAX,
        };
        play.book();
        play.tell(|out| h2_settings(out, &[]));
        play
    }

    /// The peer says something.
    fn tell(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.input.len();
        write(&mut self.input);
        self.sent.extend_from_slice(&self.input[before..]);
        self.read();
    }

    fn read(&mut self) {
        let (mut at, now) = (0, self.worker.now());
        let mut state = self.connection.state.borrow_mut();
        while self.over.is_none() {
            let taken = self.reader.next(&self.input[at..]).and_then(|(count, frame)| {
                at += count;
                let more = count > 0 || frame.is_some();
                frame.map_or(Ok(()), |frame| state.take(frame, now)).map(|()| more)
            });
            match taken {
                Ok(true) => {}
                Ok(false) => break,
                Err(code) => {
                    state.condemn(code);
                    self.over = Some(code);
                }
            }
        }
        drop(state);
        self.input.drain(..at);
        while let Some(arrival) = self.connection.take_arrival() {
            self.worker.give_exchange(arrival.exchange);
            self.used.push(Used::new(arrival.channel));
        }
        self.book();
    }

    /// Enters what is to be sent, and finds what may not be.
    fn book(&mut self) {
        let out = self.connection.state.borrow().out[self.booked..].to_vec();
        self.booked += out.len();
        let mut at = 0;
        let mut books = std::mem::replace(&mut self.books, H2Reader::new(0));
        loop {
            let (count, frame) = books.next(&out[at..]).expect("what is sent is HTTP/2");
            at += count;
            let Some(frame) = frame else { break };
            match frame {
                H2Frame::Headers { stream, end, .. } => {
                    let highest = self.sides.keys().next_back().copied().unwrap_or(0);
                    if !self.server && stream > highest {
                        assert!(!stream.is_multiple_of(2));
                        self.begin(stream);
                    }
                    let side = self.open(stream);
                    (side.head, side.ended) = (true, end);
                }
                H2Frame::Data { stream, bytes, end, .. } => {
                    self.window -= bytes.len() as i64;
                    assert!(bytes.is_empty() || self.window >= 0, "more than the connection's window");
                    let side = self.open(stream);
                    side.window -= bytes.len() as i64;
                    assert!(side.head && (bytes.is_empty() || side.window >= 0), "DATA of {stream}");
                    side.ended = end;
                }
                H2Frame::Reset { stream, .. } => {
                    let side = self.sides.get_mut(&stream).expect("a stream that is not idle");
                    assert!(!std::mem::replace(&mut side.reset, true), "{stream} is reset twice");
                }
                H2Frame::WindowUpdate { stream, increment } => {
                    assert!(increment > 0);
                    let room = match stream {
                        0 => &mut self.room,
                        _ => {
                            let side = self.sides.get_mut(&stream).expect("a stream that is not idle");
                            assert!(!side.reset && !side.reset_by_peer);
                            &mut side.room
                        }
                    };
                    *room += i64::from(increment);
                    assert!(*room <= i64::from(CONNECTION_WINDOW), "more than was ever announced");
                }
                H2Frame::GoAway { last, .. } => {
                    assert!(last <= self.goodbye, "GOAWAY takes nothing back");
                    self.goodbye = last;
                }
                H2Frame::Settings(_) | H2Frame::SettingsAck | H2Frame::Ping { .. } => {}
                H2Frame::Priority { .. } | H2Frame::Unknown => panic!("{frame:?}"),
            }
        }
        assert_eq!(at, out.len(), "half a frame");
        self.books = books;
    }

    /// A stream on which something may be sent.
    fn open(&mut self, stream: u32) -> &mut Side {
        let side = self.sides.get_mut(&stream).expect("a stream that is not idle");
        assert!(!side.ended && !side.reset && !side.reset_by_peer, "{stream} is closed");
        side
    }

    fn begin(&mut self, stream: u32) -> &mut Side {
        let room = if self.agreed { WINDOW } else { WINDOW_AT_FIRST };
        let side = Side { window: self.initial, room: room.into(), ..Side::default() };
        self.sides.entry(stream).insert_entry(side).into_mut()
    }

    /// A step of the peer, mostly with sense. Its stream is one of the last few, or was never begun.
    fn peer(&mut self, (kind, which, size): Step) {
        let next = self.sides.keys().next_back().map_or(1, |last| last + 2);
        let stream = next.saturating_sub(2 * which as u32).max(1);
        let (server, end, rude) = (self.server, size.is_multiple_of(3), size.is_multiple_of(16));
        let mut none = Side { done: true, ..Side::default() };
        let side = self.sides.get_mut(&stream).unwrap_or(&mut none);
        if side.done && !rude && (6..18).contains(&kind) {
            return;
        }
        match kind {
            0..6 if server => {
                let stream = if which == 0 { next + 2 } else { next };
                self.begin(stream).done = end;
                self.tell(|out| h2_headers(out, stream, end, |out| request(out, size)));
            }
            0..6 if side.done => {}
            0..6 => {
                side.done = end;
                let status = if size.is_multiple_of(4) { 103 } else { 200 };
                self.tell(|out| h2_headers(out, stream, end, |out| hpack_status(out, status)));
            }
            // With padding now and then.
            6..14 => {
                let most = if rude { 16_000 } else { side.room.min(self.room).clamp(0, 16_000) };
                let padding = if size.is_multiple_of(5) { i64::from(size % 200).min(most) } else { 0 };
                let count = i64::from(size).min(most - padding);
                side.room -= count + padding;
                self.room -= count + padding;
                side.done |= end;
                self.tell(|out| data(out, stream, count as usize, padding as usize, end));
            }
            14 => {
                side.done = true;
                if server && stream == next {
                    self.begin(stream).done = true;
                }
                self.tell(|out| h2_headers(out, stream, !rude, |out| hpack_field(out, b"x-sum", b"1")));
            }
            15 => {
                (side.done, side.reset_by_peer) = (true, true);
                self.tell(|out| h2_reset(out, stream, H2Code::CANCEL));
            }
            16..18 => {
                side.window += i64::from(size);
                self.tell(|out| h2_window_update(out, stream, size));
            }
            18..20 => {
                self.window += i64::from(size);
                self.tell(|out| h2_window_update(out, 0, size));
            }
            20 => {
                let by = i64::from(size) - self.initial;
                self.initial += by;
                self.sides.values_mut().for_each(|side| side.window += by);
                self.tell(|out| h2_settings(out, &[H2Setting::InitialWindowSize(size), H2Setting::HeaderTableSize(size)]));
            }
            21 => {
                if !std::mem::replace(&mut self.agreed, true) {
                    let by = i64::from(WINDOW) - i64::from(WINDOW_AT_FIRST);
                    self.sides.values_mut().for_each(|side| side.room += by);
                }
                self.tell(h2_settings_ack);
            }
            22 => self.tell(|out| h2_ping(out, *b"farewell", end)),
            23 => self.tell(|out| out.extend_from_slice(&[0, 0, 0, 0x42, 0, 0, 0, 0, 0])),
            24 if rude => self.tell(|out| h2_goaway(out, stream, H2Code::NO_ERROR)),
            25 if rude => self.tell(|out| out.extend_from_slice(&size.to_le_bytes().repeat(5))),
            _ => {}
        }
    }

    /// A step of whoever uses a stream, or of the socket.
    fn user(&mut self, (kind, which, size): Step) {
        let end = size.is_multiple_of(4);
        if !self.server && (kind == 26 || size.is_multiple_of(7)) && self.used.len() < 9 && self.connection.is_usable() {
            let channel = self.connection.open(false);
            self.connection.send_head(&channel, end, |out| request(out, size)).unwrap();
            self.used.push(Used::new(channel));
        }
        let connection = &self.connection;
        let at = self.used.len().wrapping_sub(1 + which);
        if kind == 40 && at < self.used.len() {
            connection.abandon(&self.used.remove(at).channel);
        } else if let Some(Used { channel, woken, sends, reads }) = self.used.get_mut(at) {
            let waker = Waker::from(woken.clone());
            let cx = &mut Context::from_waker(&waker);
            let begun = !self.server || self.sides.get(&channel.id).is_some_and(|side| side.head);
            match kind {
                27..30 if !begun => {
                    let _ = connection.send_head(channel, end, |out| hpack_status(out, 200));
                }
                27..34 if begun => {
                    let bytes = vec![b'y'; size as usize];
                    *sends = (0..3).any(|_| connection.poll_send(cx, channel, &bytes, end).is_pending());
                }
                34..38 => match channel.poll_incoming(cx) {
                    Poll::Ready(_) => connection.consume(channel, channel.at_hand().min(size as usize)),
                    Poll::Pending => *reads = true,
                },
                38 if begun => {
                    let _ = connection.end(channel, b"x-sum: 1\r\n");
                    *sends = false;
                }
                39 if end => connection.reset(channel, H2Code::INTERNAL_ERROR),
                _ => {}
            }
        }
        match kind {
            41..45 => {
                self.book();
                self.flush();
            }
            45 if end => connection.announce_goodbye(),
            46 if end => connection.say_goodbye(),
            _ => {}
        }
        self.book();
    }

    /// The socket takes all.
    fn flush(&mut self) {
        let state = &mut *self.connection.state.borrow_mut();
        (state.written, self.booked) = (0, 0);
        state.out.clear();
        tell_all(&mut state.crowded);
    }

    /// Whatever happens.
    fn check(&mut self) {
        let state = self.connection.state.borrow();
        assert!(!self.server || state.streams.len() <= STREAMS as usize);
        let mut held = 0;
        for used in &mut self.used {
            let Used { channel, woken, .. } = used;
            held += channel.at_hand();
            assert!(channel.inbox.borrow().len() <= 2 * WINDOW_AT_FIRST as usize, "what was taken is forgotten");
            if woken.0.swap(false, Ordering::Relaxed) {
                (used.sends, used.reads) = (false, false);
            }
            let windows = channel.send_window.get().min(state.send_window);
            let may_send = channel.broken().is_some() || (windows > 0 && state.unsent() < UNSENT_BYTES_MAX);
            assert!(!(used.sends && may_send), "{} waits for nothing", channel.id);
            let may_read = channel.broken().is_some() || channel.at_hand() > 0 || !channel.receiving.get();
            assert!(!(used.reads && may_read), "{} waits for what is there", channel.id);
        }
        assert!(held <= CONNECTION_WINDOW as usize);
    }

    /// Nobody uses any stream any more: nothing is left of them.
    fn finish(&mut self) {
        self.used.drain(..).for_each(|used| self.connection.abandon(&used.channel));
        self.book();
        let state = self.connection.state.borrow();
        assert!(state.streams.is_empty() && state.waiting.is_empty() && state.crowded.is_empty());
        if self.over.is_none() {
            assert_eq!(state.receive_window + i64::from(state.owed), i64::from(CONNECTION_WINDOW), "the window is whole");
        }
    }
}

impl Used {
    fn new(channel: Rc<Channel>) -> Used {
        Used { channel, woken: Arc::new(Flag(AtomicBool::new(false))), sends: false, reads: false }
    }
}

/// Of every eighth the length is stated.
fn request(out: &mut Vec<u8>, size: u32) {
    for (name, value) in [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")] {
        hpack_field(out, name.as_bytes(), value.as_bytes());
    }
    if size.is_multiple_of(8) {
        hpack_field(out, b"content-length", size.to_string().as_bytes());
    }
}

/// DATA with so much of its payload being padding.
fn data(out: &mut Vec<u8>, stream: u32, count: usize, padding: usize, end: bool) {
    let start = out.len();
    h2_data(out, stream, &[&[padding.saturating_sub(1) as u8][..padding.min(1)], &vec![b'x'; count]].concat(), end);
    out.resize(out.len() + padding.saturating_sub(1), 0);
    let [_, high, middle, low] = ((count + padding) as u32).to_be_bytes();
    out[start..start + 3].copy_from_slice(&[high, middle, low]);
    out[start + 4] |= if padding > 0 { 0x08 } else { 0 };
}

fn steps(kinds: std::ops::Range<u8>) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((kinds, 0usize..6, 1u32..40_000), 1..120)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap()
}

#[test]
fn whatever_peer_and_streams_do_the_rules_are_kept() {
    let runtime = runtime();
    proptest!(ProptestConfig::with_cases(600), |(server in any::<bool>(), steps in steps(0..47))| {
        let mut play = Play::new(server, &runtime);
        for step in steps {
            if play.over.is_none() {
                play.peer(step);
            }
            play.user(step);
            play.check();
        }
        play.finish();
    });
}

#[test]
fn how_bytes_are_cut_makes_no_difference() {
    let runtime = runtime();
    proptest!(ProptestConfig::with_cases(200), |(server in any::<bool>(), steps in steps(0..26), cut in 1usize..5000)| {
        let [mut whole, mut cuts] = [Play::new(server, &runtime), Play::new(server, &runtime)];
        for play in [&mut whole, &mut cuts] {
            (0..4).for_each(|_| play.user((26, 9, 1)));
        }
        for step in steps {
            // What the connection's window has been given back by then is a matter of pieces: it is not needed.
            if whole.over.is_none() && whole.sent.len() < 50_000 {
                whole.peer(step);
            }
        }
        let settings = cuts.sent.len();
        // It keeps no books of what the peer sends.
        cuts.room = i64::MIN / 2;
        for piece in whole.sent[settings..].chunks(cut) {
            cuts.input.extend_from_slice(piece);
            cuts.sides.extend(whole.sides.keys().map(|stream| (*stream, Side { window: 0, ..Side::default() })));
            cuts.read();
        }
        // Which of two rules a frame breaks first may depend on its pieces.
        prop_assert_eq!(whole.over.is_some(), cuts.over.is_some());
        if whole.over.is_none() {
            let shown = |play: &Play| play.used.iter().map(|Used { channel, .. }| {
                let whole = channel.broken().is_none().then(|| channel.data().len());
                (channel.id, channel.broken().map(|broken| broken.by), channel.receiving.get(), whole)
            }).collect::<Vec<_>>();
            prop_assert_eq!(shown(&whole), shown(&cuts));
        }
        whole.finish();
        cuts.finish();
    });
}
