//! One connection and what is around it: a peer, the tasks that use its streams, a socket that takes all, and the books that the peer
//! keeps by RFC 9113 alone.

use crate::http2::channel::Channel;
use crate::http2::connection::Connection;
use crate::http2::state::{Terms, tell_all};
use crate::input::Input;
use crate::worker::Worker;
use maitred_core::Clock;
use maitred_core::metrics::Metrics;
use maitred_wire::{H2Code, H2Frame, H2Reader, HeadLimits, PREFACE, WINDOW_AT_FIRST, WINDOW_MAX, h2_settings};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

pub(super) const STREAMS: u32 = 5;
pub(super) const WINDOW: u32 = 20_000;
pub(super) const CONNECTION_WINDOW: u32 = 70_000;
pub(super) const HEAD: HeadLimits = HeadLimits { head_bytes: 8000, fields: 50, target_bytes: 500, drop_underscores: false };
/// Above it streams wait for the socket.
pub(super) const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// What is done, with which stream, how much of it.
pub(super) type Step = (u8, usize, u32);

/// A stream as the peer's books have it.
#[derive(Default)]
pub(super) struct Side {
    /// What we may send, and what the peer may.
    pub(super) window: i64,
    pub(super) room: i64,
    pub(super) head: bool,
    pub(super) ended: bool,
    pub(super) reset: bool,
    /// The peer has ended its half, or all of it.
    pub(super) done: bool,
    pub(super) reset_by_peer: bool,
}

/// A stream as its task has it.
pub(super) struct Used {
    pub(super) channel: Rc<Channel>,
    pub(super) woken: Arc<Flag>,
    pub(super) sends: bool,
    pub(super) reads: bool,
}

pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) struct Play {
    pub(super) connection: Rc<Connection>,
    pub(super) worker: Rc<Worker>,
    pub(super) server: bool,
    pub(super) used: Vec<Used>,
    /// What the peer sent that is not read yet, and all that it ever sent.
    pub(super) input: Vec<u8>,
    pub(super) sent: Vec<u8>,
    pub(super) reader: H2Reader,
    /// How the connection ended.
    pub(super) over: Option<H2Code>,
    /// The peer's books; how much of what waits to be sent is in them.
    pub(super) books: H2Reader,
    pub(super) booked: usize,
    pub(super) sides: BTreeMap<u32, Side>,
    pub(super) window: i64,
    pub(super) room: i64,
    pub(super) initial: i64,
    pub(super) agreed: bool,
    pub(super) goodbye: u32,
}

impl Play {
    pub(super) fn new(server: bool, runtime: &Runtime) -> Play {
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
    pub(super) fn tell(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.input.len();
        write(&mut self.input);
        self.sent.extend_from_slice(&self.input[before..]);
        self.read();
    }

    pub(super) fn read(&mut self) {
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
        while let Some((arrival, _)) = self.connection.take_arrival(true) {
            self.worker.give_exchange(arrival.exchange);
            self.used.push(Used::new(arrival.channel));
        }
        self.book();
    }

    /// Enters what is to be sent, and finds what may not be.
    pub(super) fn book(&mut self) {
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

    pub(super) fn begin(&mut self, stream: u32) -> &mut Side {
        let room = if self.agreed { WINDOW } else { WINDOW_AT_FIRST };
        let side = Side { window: self.initial, room: room.into(), ..Side::default() };
        self.sides.entry(stream).insert_entry(side).into_mut()
    }

    /// The socket takes all.
    pub(super) fn flush(&mut self) {
        let state = &mut *self.connection.state.borrow_mut();
        (state.written, self.booked) = (0, 0);
        state.out.clear();
        tell_all(&mut state.crowded);
    }

    /// Whatever happens.
    pub(super) fn check(&mut self) {
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
        assert!(
            state.receive_window < 0 || i64::from(state.owed) <= state.receive_window,
            "what is kept back is never more than what is open"
        );
    }

    /// Nobody uses any stream any more: nothing is left of them.
    pub(super) fn finish(&mut self) {
        self.used.drain(..).for_each(|used| self.connection.abandon(&used.channel));
        self.connection.state.borrow_mut().end_rests(None);
        self.book();
        let state = self.connection.state.borrow();
        assert!(state.streams.is_empty() && state.waiting.is_empty() && state.crowded.is_empty());
        if self.over.is_none() {
            assert_eq!(state.receive_window + i64::from(state.owed), i64::from(CONNECTION_WINDOW), "the window is whole");
        }
    }
}

impl Used {
    pub(super) fn new(channel: Rc<Channel>) -> Used {
        Used { channel, woken: Arc::new(Flag(AtomicBool::new(false))), sends: false, reads: false }
    }
}
