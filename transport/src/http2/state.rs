//! What a connection knows: its streams, its windows, what the peer said of itself. Takes frames in, and writes what must be answered
//! behind what waits to be sent. No I/O.

mod incoming;

use super::channel::{Break, By, Channel, News};
use super::flood::Flood;
use crate::worker::Worker;
use maitred_core::Exchange;
use maitred_wire::{
    H2Code, H2Setting, HeadLimits, HpackDecoder, Refusal, RequestFields, ResponseHead, WINDOW_AT_FIRST, WINDOW_MAX, h2_goaway,
    h2_ping, h2_reset, h2_settings, h2_window_update,
};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Streams that were reset, remembered so that what was on its way to them is no error.
const RESETS_KEPT: usize = 256;
/// Interim responses kept for one who does not take them; hints are optional, memory is not.
const HEADS_MAX: usize = 16;
/// The table that the peer's encoder may fill; the protocol's own default.
const TABLE_BYTES: usize = 4096;
/// A header section that is so many times as large as is taken is no mistake: it is not even decoded to its end.
const BOMB: usize = 4;
/// Streams opened before the peer says how many it takes (RFC 9113 §6.5.2 recommends no fewer).
const STREAMS_AT_FIRST: u32 = 100;
/// A window below this is no room for an answer.
const ROOM_MIN: i64 = 1024;
/// Heads of responses kept for the next.
const SPARE_HEADS: usize = 4;
/// Memory for decoding that is kept from one header block to the next.
const SPARE_BYTES_MAX: usize = 4096;
/// The rest of a request that is answered is waited for so long, and so much of it, before its client is told to stop. Of a client that was
/// nearly through nothing is reset, and one that breaks a rule in the rest is told so.
const REST_TIME: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: u32 = 64 * 1024;
/// Answered by the client, it has seen that a goodbye is coming.
const FAREWELL_PING: [u8; 8] = *b"farewell";

/// What we announce, and hold the peer to.
pub(crate) struct Terms {
    /// We are the server.
    pub server: bool,
    /// Streams at once.
    pub streams: u32,
    pub window: u32,
    pub connection_window: u32,
    /// Of a head.
    pub head: HeadLimits,
}

/// A request that came.
pub(crate) struct Arrival {
    pub channel: Rc<Channel>,
    pub exchange: Box<Exchange>,
    /// Whether its head can be believed.
    pub read: Result<(), Refusal>,
}

/// What the peer said of itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub settled: bool,
    pub streams: u32,
    initial_window: i64,
    pub extended_connect: bool,
    /// Its GOAWAY; nothing new goes there.
    pub going: bool,
}

pub(super) struct State {
    terms: Terms,
    worker: Rc<Worker>,
    /// To be sent, of which so much is.
    pub out: Vec<u8>,
    pub written: usize,
    pub streams: HashMap<u32, Rc<Channel>, BuildHasherDefault<IdHasher>>,
    /// The highest stream that the peer began, and the numbers that it left out last, from and to.
    begun_by_peer: u32,
    left_out: (u32, u32),
    /// The next that we begin.
    next: u32,
    resets: VecDeque<(u32, By)>,
    /// The highest of those that are remembered no more.
    forgotten: u32,
    pub send_window: i64,
    pub receive_window: i64,
    /// What was taken and not yet announced.
    pub owed: u32,
    /// A new stream's, as far as the peer has agreed.
    initial_receive_window: i64,
    pub peer: Peer,
    decoder: HpackDecoder,
    pub scratch: Vec<u8>,
    lines: Vec<u8>,
    fields: RequestFields,
    /// The peer made its table smaller: to be said ahead of the next fields.
    table_update: bool,
    pub flood: Flood,
    pub arrivals: VecDeque<Arrival>,
    #[allow(clippy::vec_box, reason = "a head moves between here and its stream; boxed it is a pointer")]
    spare_heads: Vec<Box<ResponseHead>>,
    /// Streams that are answered and still sent to, oldest first, since when. Those that have ended are not taken out at once.
    rests: VecDeque<(u32, Instant)>,
    /// Streams that wait for the connection's window.
    pub waiting: VecDeque<Rc<Channel>>,
    /// Streams that wait for what there is to be sent.
    pub crowded: VecDeque<Rc<Channel>>,
    goodbye: Goodbye,
    /// The peer had several streams open at once.
    is_shared: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    No,
    /// To be announced behind the one answer that is under way.
    Planned,
    /// Announced; what the client sent before it heard of it is answered.
    Announced,
    /// Said; nothing above this stream is.
    Said(u32),
}

/// Ids are small numbers, chosen by the peer and only ever growing; there are no more in the map than streams are allowed.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl State {
    pub fn new(terms: Terms, worker: &Rc<Worker>, now: Instant) -> State {
        let mut state = State {
            worker: worker.clone(),
            out: worker.take_output(),
            written: 0,
            streams: HashMap::default(),
            begun_by_peer: 0,
            left_out: (0, 0),
            next: 1,
            resets: VecDeque::new(),
            forgotten: 0,
            send_window: WINDOW_AT_FIRST.into(),
            receive_window: terms.connection_window.max(WINDOW_AT_FIRST).into(),
            owed: 0,
            initial_receive_window: WINDOW_AT_FIRST.into(),
            peer: Peer {
                settled: false,
                streams: STREAMS_AT_FIRST,
                initial_window: WINDOW_AT_FIRST.into(),
                extended_connect: false,
                going: false,
            },
            decoder: HpackDecoder::new(TABLE_BYTES).bounded(terms.head.head_bytes.saturating_mul(BOMB)),
            scratch: Vec::new(),
            lines: Vec::new(),
            fields: RequestFields::default(),
            table_update: false,
            flood: Flood::new(now),
            arrivals: VecDeque::new(),
            spare_heads: Vec::new(),
            rests: VecDeque::new(),
            waiting: VecDeque::new(),
            crowded: VecDeque::new(),
            goodbye: Goodbye::No,
            is_shared: false,
            terms,
        };
        state.introduce();
        state
    }

    /// Our SETTINGS, and a connection's window as large as we want it.
    fn introduce(&mut self) {
        let terms = &self.terms;
        let window = H2Setting::InitialWindowSize(terms.window);
        let list = H2Setting::MaxHeaderListSize(u32::try_from(terms.head.head_bytes).unwrap_or(u32::MAX));
        match terms.server {
            true => {
                let streams = H2Setting::MaxConcurrentStreams(terms.streams);
                h2_settings(&mut self.out, &[streams, window, list, H2Setting::EnableConnectProtocol(true)]);
            }
            false => h2_settings(&mut self.out, &[H2Setting::EnablePush(false), window, list]),
        }
        let more = terms.connection_window.saturating_sub(WINDOW_AT_FIRST);
        if more > 0 {
            h2_window_update(&mut self.out, 0, more);
        }
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// Something of a request is still to come that somebody wants.
    pub fn is_receiving(&self) -> bool {
        self.streams.values().any(|channel| channel.receiving.get() && channel.rest.get().is_none())
    }

    /// Gives back what unusually large blocks needed; connections that wait for the next are many.
    pub fn shrink(&mut self) {
        for spare in [&mut self.scratch, &mut self.lines] {
            if spare.capacity() > SPARE_BYTES_MAX {
                *spare = Vec::new();
            }
        }
        self.fields.shrink(SPARE_BYTES_MAX);
    }

    /// A stream whose halves are both over is closed.
    fn settle(&mut self, channel: &Channel) {
        if !channel.receiving.get() && !channel.sending.get() {
            self.streams.remove(&channel.id);
            self.part();
        }
    }

    /// Gives back to the connection's window.
    fn release(&mut self, bytes: u32) {
        self.owed += bytes;
        self.announce_window();
    }

    /// Tells the peer what was given back: when it is much, and sooner where stalled streams hold nearly all of the window, so that
    /// those which move never wait.
    fn announce_window(&mut self) {
        let much = self.owed > self.terms.connection_window / 2 || i64::from(self.owed) > self.receive_window;
        if much && self.owed > 0 {
            h2_window_update(&mut self.out, 0, self.owed);
            self.receive_window += i64::from(self.owed);
            self.owed = 0;
        }
    }

    /// So much of what came on a stream is done with. True: something is to be sent for it.
    pub fn taken(&mut self, channel: &Channel, bytes: u32) -> bool {
        let before = self.out.len();
        self.release(bytes);
        let owed = channel.owed.get() + bytes;
        channel.owed.set(owed);
        if owed > self.terms.window / 2 && channel.receiving.get() && channel.broken.get().is_none() {
            h2_window_update(&mut self.out, channel.id, owed);
            channel.receive_window.set(channel.receive_window.get() + i64::from(owed));
            channel.owed.set(0);
        }
        self.out.len() > before
    }

    fn begin(&mut self, stream: u32) -> Rc<Channel> {
        let channel = Rc::new(Channel::new(stream, self.initial_receive_window, self.peer.initial_window));
        self.streams.insert(stream, channel.clone());
        channel
    }

    /// A stream for a request of ours.
    pub fn open(&mut self, to_head: bool) -> Rc<Channel> {
        let channel = self.begin(self.next);
        channel.to_head.set(to_head);
        self.next += 2;
        channel
    }

    /// The connection's numbers are not used up.
    pub fn has_numbers(&self) -> bool {
        self.next < WINDOW_MAX - 2
    }

    /// Gives a head's memory back.
    pub fn keep_head(&mut self, head: Box<ResponseHead>) {
        if self.spare_heads.len() < SPARE_HEADS {
            self.spare_heads.push(head);
        }
    }

    /// Ends a stream with an error, where it has not ended.
    pub fn reset(&mut self, channel: &Channel, code: H2Code) {
        if self.streams.remove(&channel.id).is_some() {
            self.send_reset(channel.id, code);
            self.remember(channel.id, By::Us);
            self.close(channel, Break { by: By::Us, code });
            self.part();
        }
    }

    pub fn wake_all(&self) {
        for channel in self.streams.values() {
            channel.wake();
        }
    }

    fn close(&mut self, channel: &Channel, broken: Break) {
        channel.broken.set(Some(broken));
        channel.sending.set(false);
        channel.wake();
    }

    fn send_reset(&mut self, stream: u32, code: H2Code) {
        self.flood.tally.resets += u64::from(code.blames());
        h2_reset(&mut self.out, stream, code);
    }

    fn remember(&mut self, stream: u32, by: By) {
        if self.resets.len() >= RESETS_KEPT
            && let Some((oldest, _)) = self.resets.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.resets.push_back((stream, by));
    }

    /// Whoever used a stream is done with it, however far it came.
    pub fn abandon(&mut self, channel: &Channel) {
        let inbox = std::mem::take(&mut *channel.inbox.borrow_mut());
        let unread = (inbox.len() - channel.taken.replace(0)) as u32;
        self.worker.give_output(inbox);
        if unread > 0 {
            self.release(unread);
        }
        if !self.waits_for_rest(channel) {
            // Who has answered wants no more of the request, and says that this is no error (§8.1).
            let code = if channel.sending.get() || !self.terms.server { H2Code::CANCEL } else { H2Code::NO_ERROR };
            self.reset(channel, code);
        }
        for head in channel.heads.borrow_mut().drain(..) {
            self.keep_head(head);
        }
        // A window may stay shut for as long as the connection lasts.
        if channel.queued.replace(false) {
            self.waiting.retain(|other| other.id != channel.id);
            self.crowded.retain(|other| other.id != channel.id);
        }
    }

    /// Whether what is missing of a request that is answered may well be on its way: then it is taken, and forgotten.
    fn waits_for_rest(&mut self, channel: &Channel) -> bool {
        let is_answered =
            self.terms.server && !channel.sending.get() && channel.receiving.get() && channel.broken.get().is_none();
        let room = u32::try_from(channel.receive_window.get()).unwrap_or(0).min(REST_BYTES_MAX);
        // One that is to end waits for nothing, and what does not fit is not on its way.
        let is_near = room > 0 && channel.left.get().is_none_or(|left| left <= room.into());
        if !is_answered || !is_near || self.goodbye != Goodbye::No {
            return false;
        }
        // No more of them than streams are there at once, but for some that have ended.
        if self.rests.len() >= 2 * self.terms.streams as usize {
            let streams = &self.streams;
            self.rests.retain(|(id, _)| streams.contains_key(id));
        }
        channel.rest.set(Some(room));
        self.rests.push_back((channel.id, self.worker.now()));
        true
    }

    /// When the first rest has been waited for long enough.
    pub fn rest_due(&self) -> Option<Instant> {
        self.rests.front().map(|(_, since)| *since + REST_TIME)
    }

    /// Tells clients to stop whose rest has had its time; all of them, if `now` is not said.
    pub fn end_rests(&mut self, now: Option<Instant>) {
        while self.rest_due().is_some_and(|due| now.is_none_or(|now| due <= now)) {
            let ended = self.rests.pop_front().and_then(|(id, _)| self.streams.get(&id).cloned());
            if let Some(channel) = ended {
                self.reset(&channel, H2Code::NO_ERROR);
            }
        }
    }

    /// A head or trailers are about to be sent: what must stand ahead of their fields.
    pub fn take_table_update(&mut self) -> bool {
        std::mem::take(&mut self.table_update)
    }

    /// We have sent all of a stream.
    pub fn sent(&mut self, channel: &Channel) {
        channel.sending.set(false);
        self.settle(channel);
    }

    /// A client that has one request after another is told behind the answer to the one that is under way, or comes within a moment: there are
    /// clients that take nothing more from whoever said GOAWAY. False: it has several at once, and is told now.
    pub fn plan_goodbye(&mut self) -> bool {
        if self.goodbye == Goodbye::No && !self.is_shared {
            self.goodbye = Goodbye::Planned;
        }
        self.goodbye == Goodbye::Planned
    }

    /// Nothing came for a while from who has one request after another: nothing is on its way.
    pub fn take_leave(&mut self) {
        match self.waits_for_nothing() {
            true => self.say_goodbye(),
            false => self.announce_goodbye(),
        }
    }

    /// Tells the client that a goodbye is coming: what it sends until it has heard of it is answered (§6.8).
    pub fn announce_goodbye(&mut self) {
        if matches!(self.goodbye, Goodbye::No | Goodbye::Planned) {
            self.goodbye = Goodbye::Announced;
            h2_goaway(&mut self.out, WINDOW_MAX, H2Code::NO_ERROR);
            if self.is_shared {
                h2_ping(&mut self.out, FAREWELL_PING, false);
            }
        }
    }

    /// Streams whose answers are not whole yet.
    fn under_way(&self) -> usize {
        self.streams.values().filter(|channel| channel.rest.get().is_none()).count()
    }

    /// A client that has one request after another, and has none under way.
    fn waits_for_nothing(&self) -> bool {
        !self.is_shared && self.under_way() == 0 && self.arrivals.is_empty()
    }

    /// A stream is over. Whoever has one request after another and was told between two of them has heard of it by the next.
    fn part(&mut self) {
        if !self.waits_for_nothing() {
            return;
        }
        match self.goodbye {
            Goodbye::Planned => self.announce_goodbye(),
            Goodbye::Announced => self.say_goodbye(),
            Goodbye::No | Goodbye::Said(_) => {}
        }
    }

    /// A stream more was begun by the client.
    fn joined(&mut self) {
        if self.is_shared || self.streams.len() < 2 || self.under_way() < 2 {
            return;
        }
        self.is_shared = true;
        match self.goodbye {
            Goodbye::Planned => self.announce_goodbye(),
            Goodbye::Announced => h2_ping(&mut self.out, FAREWELL_PING, false),
            Goodbye::No | Goodbye::Said(_) => {}
        }
    }

    /// What the client begins from here on is not answered.
    pub fn say_goodbye(&mut self) {
        if !matches!(self.goodbye, Goodbye::Said(_)) {
            self.goodbye = Goodbye::Said(self.begun_by_peer);
            self.end_rests(None);
            h2_goaway(&mut self.out, self.begun_by_peer, H2Code::NO_ERROR);
        }
    }

    /// Goodbye was said and everything is answered.
    pub fn is_over(&self) -> bool {
        matches!(self.goodbye, Goodbye::Said(_)) && self.streams.is_empty() && self.arrivals.is_empty() && self.unsent() == 0
    }

    /// The peer has room for hardly a byte of an answer.
    pub fn is_cramped(&self, channel: &Channel) -> bool {
        channel.send_window.get().min(self.send_window) < ROOM_MIN && channel.broken().is_none()
    }

    /// The place of the request that is answered next. `cramped`: also one whose client has no room for an answer.
    pub fn next_arrival(&self, cramped: bool) -> Option<usize> {
        self.arrivals.iter().position(|arrival| cramped || !self.is_cramped(&arrival.channel))
    }

    /// Ends the connection for an error: its streams end with it, and nothing more is taken in.
    pub fn condemn(&mut self, code: H2Code) {
        // What was said not to be acted upon was not (§6.8).
        let last = if let Goodbye::Said(last) = self.goodbye { last } else { self.begun_by_peer };
        self.goodbye = Goodbye::Said(last);
        h2_goaway(&mut self.out, last, code);
        self.lose(code);
    }

    /// The connection is over, or as good as.
    pub fn lose(&mut self, code: H2Code) {
        let lost = std::mem::take(&mut self.streams);
        for channel in lost.values() {
            self.close(channel, Break { by: By::Lost, code });
        }
        for arrival in self.arrivals.drain(..) {
            self.worker.give_exchange(arrival.exchange);
        }
        self.rests.clear();
        self.waiting.clear();
        self.crowded.clear();
    }
}

/// Wakes those who wait in a queue; whoever finds too little waits behind the others.
pub(super) fn tell_all(queue: &mut VecDeque<Rc<Channel>>) {
    for channel in queue.drain(..) {
        channel.queued.set(false);
        channel.tell(News::Outgoing);
    }
}
