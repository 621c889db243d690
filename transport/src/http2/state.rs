//! What a connection knows: its streams, its windows, what the peer said of itself. Takes frames in, and writes what must be answered
//! behind what waits to be sent. No I/O.

use super::channel::{Break, By, Channel, News};
use super::flood::Flood;
use crate::worker::Worker;
use maitred_core::Exchange;
use maitred_wire::{
    Framing, H2Code, H2Frame, H2Setting, H2Settings, HeadLimits, HpackDecoder, Refusal, RequestFields, ResponseHead, Version,
    WINDOW_AT_FIRST, WINDOW_MAX, forward_trailers, h2_goaway, h2_ping, h2_reset, h2_settings, h2_settings_ack, h2_trailer,
    h2_window_update,
};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::Instant;

/// Streams that were reset, remembered so that what was on its way to them is no error.
const RESETS_KEPT: usize = 256;
/// Interim responses kept for one who does not take them; hints are optional, memory is not.
const HEADS_MAX: usize = 16;
/// The table that the peer's encoder may fill; the protocol's own default.
const TABLE_BYTES: usize = 4096;
/// Streams opened before the peer says how many it takes (RFC 9113 §6.5.2 recommends no fewer).
const STREAMS_AT_FIRST: u32 = 100;
/// Heads of responses kept for the next.
const SPARE_HEADS: usize = 4;
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
    pub send_window: i64,
    receive_window: i64,
    /// What was taken and not yet announced.
    owed: u32,
    /// A new stream's, as far as the peer has agreed.
    initial_receive_window: i64,
    pub peer: Peer,
    decoder: HpackDecoder,
    scratch: Vec<u8>,
    lines: Vec<u8>,
    fields: RequestFields,
    /// The peer made its table smaller: to be said ahead of the next fields.
    table_update: bool,
    pub flood: Flood,
    pub arrivals: VecDeque<Arrival>,
    #[allow(clippy::vec_box, reason = "a head moves between here and its stream; boxed it is a pointer")]
    spare_heads: Vec<Box<ResponseHead>>,
    /// Streams that wait for the connection's window.
    pub waiting: VecDeque<Rc<Channel>>,
    /// Streams that wait for what there is to be sent.
    pub crowded: VecDeque<Rc<Channel>>,
    goodbye: Goodbye,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    No,
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
            decoder: HpackDecoder::new(TABLE_BYTES),
            scratch: Vec::new(),
            lines: Vec::new(),
            fields: RequestFields::default(),
            table_update: false,
            flood: Flood::new(now),
            arrivals: VecDeque::new(),
            spare_heads: Vec::new(),
            waiting: VecDeque::new(),
            crowded: VecDeque::new(),
            goodbye: Goodbye::No,
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

    /// Something of a request is still to come.
    pub fn is_receiving(&self) -> bool {
        self.streams.values().any(|channel| channel.receiving.get())
    }

    /// Takes a frame in. `Err` ends the connection.
    pub fn take(&mut self, frame: H2Frame<'_>, now: Instant) -> Result<(), H2Code> {
        let tally = &mut self.flood.tally;
        match frame {
            H2Frame::Data { stream, bytes, padding, end } => {
                tally.empties += u64::from(bytes.is_empty() && !end);
                self.data(stream, bytes, padding, end)
            }
            H2Frame::Headers { stream, block, end, of_itself, empties } => {
                tally.sections += 1;
                tally.empties += u64::from(empties);
                if of_itself {
                    return Err(H2Code::PROTOCOL_ERROR);
                }
                self.headers(stream, block, end, now)
            }
            H2Frame::Priority { of_itself, .. } => {
                tally.priorities += 1;
                if of_itself { Err(H2Code::PROTOCOL_ERROR) } else { Ok(()) }
            }
            H2Frame::Reset { stream, code } => {
                tally.resets += 1;
                self.reset_by_peer(stream, code)
            }
            H2Frame::Settings(settings) => {
                tally.idle += 1;
                self.settings(settings)?;
                h2_settings_ack(&mut self.out);
                Ok(())
            }
            H2Frame::SettingsAck => {
                tally.idle += 1;
                self.agreed();
                Ok(())
            }
            H2Frame::Ping { payload, ack } => {
                tally.idle += 1;
                match ack {
                    true if payload == FAREWELL_PING && self.goodbye == Goodbye::Announced => self.say_goodbye(),
                    true => {}
                    false => h2_ping(&mut self.out, payload, true),
                }
                Ok(())
            }
            H2Frame::GoAway { last, code } => {
                tally.idle += 1;
                self.peer_goes(last, code);
                Ok(())
            }
            H2Frame::WindowUpdate { stream, increment } => {
                tally.window_updates += 1;
                self.window(stream, increment)
            }
            H2Frame::Unknown => {
                tally.idle += 1;
                Ok(())
            }
        }
    }

    /// It never was: nobody has begun it (RFC 9113 §5.1, "idle").
    fn is_idle(&self, stream: u32) -> bool {
        match self.terms.server {
            true => stream > self.begun_by_peer || stream.is_multiple_of(2),
            false => stream >= self.next || stream.is_multiple_of(2),
        }
    }

    /// A frame of a stream that is closed. What was sent before our reset was heard is no error; anything else is.
    fn of_closed(&mut self, stream: u32) -> Result<(), H2Code> {
        match self.resets.iter().rev().find(|(id, _)| *id == stream) {
            Some((_, By::Peer)) => {
                self.send_reset(stream, H2Code::STREAM_CLOSED);
                Ok(())
            }
            Some(_) => Ok(()),
            // Never used, and closed by the use of a higher number (§5.1.1).
            None if (self.left_out.0..=self.left_out.1).contains(&stream) => Err(H2Code::PROTOCOL_ERROR),
            None => Err(H2Code::STREAM_CLOSED),
        }
    }

    fn data(&mut self, stream: u32, bytes: &[u8], padding: u32, end: bool) -> Result<(), H2Code> {
        let charge = bytes.len() as u32 + padding;
        self.receive_window -= i64::from(charge);
        if self.receive_window < 0 {
            return Err(H2Code::FLOW_CONTROL_ERROR);
        }
        let Some(channel) = self.streams.get(&stream).cloned() else {
            if self.is_idle(stream) {
                return Err(H2Code::PROTOCOL_ERROR);
            }
            self.release(charge);
            return if self.is_above_goodbye(stream) { Ok(()) } else { self.of_closed(stream) };
        };
        let window = channel.receive_window.get() - i64::from(charge);
        channel.receive_window.set(window);
        let left = channel.left.get().map(|left| left.checked_sub(bytes.len() as u64));
        let wrong = if !channel.receiving.get() {
            Some(H2Code::STREAM_CLOSED)
        } else if window < 0 {
            Some(H2Code::FLOW_CONTROL_ERROR)
        } else if left == Some(None) || (!self.terms.server && !channel.answered.get()) {
            // More than was stated (§8.1.1), or ahead of any head.
            Some(H2Code::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(code) = wrong {
            self.release(charge);
            self.reset(&channel, code);
            return Ok(());
        }
        channel.left.set(left.flatten());
        if !bytes.is_empty() {
            let mut inbox = channel.inbox.borrow_mut();
            if inbox.capacity() == 0 {
                *inbox = self.worker.take_output();
            }
            inbox.extend_from_slice(bytes);
        }
        if end {
            self.received(&channel);
        } else if padding > 0 {
            self.taken(&channel, padding);
        }
        if end && padding > 0 {
            self.release(padding);
        }
        channel.tell(News::Incoming);
        Ok(())
    }

    /// The peer has sent all of a stream.
    fn received(&mut self, channel: &Rc<Channel>) {
        if channel.left.get().is_some_and(|left| left > 0) {
            self.reset(channel, H2Code::PROTOCOL_ERROR);
            return;
        }
        channel.receiving.set(false);
        self.settle(channel);
        channel.tell(News::Incoming);
    }

    /// A stream whose halves are both over is closed.
    fn settle(&mut self, channel: &Channel) {
        if !channel.receiving.get() && !channel.sending.get() {
            self.streams.remove(&channel.id);
        }
    }

    /// Gives back to the connection's window: when it is much, and sooner where stalled streams hold nearly all of it, so that those
    /// which move never wait.
    fn release(&mut self, bytes: u32) {
        self.owed += bytes;
        if self.owed > self.terms.connection_window / 2 || i64::from(self.owed) > self.receive_window {
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

    fn headers(&mut self, stream: u32, block: &[u8], end: bool, now: Instant) -> Result<(), H2Code> {
        if let Some(channel) = self.streams.get(&stream).cloned() {
            return match self.terms.server || channel.answered.get() {
                true => self.trailers_came(&channel, block, end),
                false => self.response_came(&channel, block, end),
            };
        }
        if !self.terms.server || !self.is_idle(stream) {
            self.decode_away(block)?;
            return match self.is_idle(stream) {
                true => Err(H2Code::PROTOCOL_ERROR),
                false if self.is_above_goodbye(stream) => Ok(()),
                false => self.of_closed(stream),
            };
        }
        // Even numbers are ours, and we begin none (§5.1.1).
        if stream.is_multiple_of(2) {
            return Err(H2Code::PROTOCOL_ERROR);
        }
        if stream > self.begun_by_peer + 2 {
            self.left_out = (self.begun_by_peer + 1, stream - 1);
        }
        self.begun_by_peer = stream;
        if self.is_above_goodbye(stream) {
            return self.decode_away(block);
        }
        if self.streams.len() >= self.terms.streams as usize {
            self.decode_away(block)?;
            self.send_reset(stream, H2Code::REFUSED_STREAM);
            self.remember(stream, By::Us);
            return Ok(());
        }
        self.request_came(stream, block, end, now)
    }

    /// Decoded all the same: the table is the connection's (§4.3).
    fn decode_away(&mut self, block: &[u8]) -> Result<(), H2Code> {
        self.decoder.decode(block, &mut self.scratch, |_, _| {}).map_err(|_| H2Code::COMPRESSION_ERROR)
    }

    fn is_above_goodbye(&self, stream: u32) -> bool {
        matches!(self.goodbye, Goodbye::Said(last) if stream > last)
    }

    fn request_came(&mut self, stream: u32, block: &[u8], end: bool, now: Instant) -> Result<(), H2Code> {
        let mut exchange = self.worker.take_exchange(now);
        let head = &mut exchange.request;
        let State { fields, decoder, scratch, terms, .. } = self;
        fields.begin(head, Version::Http2);
        decoder
            .decode(block, scratch, |name, value| fields.field(head, name, value, &terms.head))
            .map_err(|_| H2Code::COMPRESSION_ERROR)?;
        let read = fields.finish(head, end, &terms.head);
        let channel = self.begin(stream);
        channel.receiving.set(!end);
        channel.left.set(match head.framing {
            Framing::Length(length) => Some(length),
            Framing::None if head.explicit_zero => Some(0),
            Framing::None | Framing::Chunked | Framing::Close => None,
        });
        // Each costs as much as it may; a client in good faith sends few of them.
        self.flood.tally.resets += u64::from(read == Err(Refusal::HeadTooLarge));
        self.arrivals.push_back(Arrival { channel, exchange, read });
        Ok(())
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

    fn trailers_came(&mut self, channel: &Rc<Channel>, block: &[u8], end: bool) -> Result<(), H2Code> {
        let State { decoder, scratch, lines, terms, .. } = self;
        lines.clear();
        let mut wrong = None;
        decoder
            .decode(block, scratch, |name, value| {
                if wrong.is_none() {
                    wrong = h2_trailer(lines, name, value, terms.head.head_bytes).err();
                }
            })
            .map_err(|_| H2Code::COMPRESSION_ERROR)?;
        if !channel.receiving.get() {
            self.reset(channel, H2Code::STREAM_CLOSED);
            return Ok(());
        }
        // Trailers end the stream (§8.1).
        if wrong.is_some() || !end {
            self.reset(channel, H2Code::PROTOCOL_ERROR);
            return Ok(());
        }
        forward_trailers(&self.lines, &mut channel.trailers.borrow_mut());
        self.received(channel);
        Ok(())
    }

    fn response_came(&mut self, channel: &Rc<Channel>, block: &[u8], end: bool) -> Result<(), H2Code> {
        let mut head = self.spare_heads.pop().unwrap_or_default();
        head.begin_h2(0);
        let State { decoder, scratch, terms, .. } = self;
        let (mut wrong, mut size) = (None, 0);
        decoder
            .decode(block, scratch, |name, value| {
                size += name.len() + value.len();
                if wrong.is_none() && size <= terms.head.head_bytes {
                    let is_pseudo = name.first() == Some(&b':');
                    wrong = if is_pseudo { head.h2_status(name, value) } else { head.h2_field(name, value) }.err();
                }
            })
            .map_err(|_| H2Code::COMPRESSION_ERROR)?;
        let read = wrong.map_or_else(|| head.finish_h2(channel.to_head.get(), end), Err);
        if read.is_err() || size > self.terms.head.head_bytes {
            self.reset(channel, H2Code::PROTOCOL_ERROR);
            return Ok(());
        }
        if head.is_interim() {
            if channel.heads.borrow().len() < HEADS_MAX {
                channel.heads.borrow_mut().push_back(head);
            }
        } else {
            channel.answered.set(true);
            // Where no body can be, one that comes is too long.
            channel.left.set(match head.framing {
                Framing::Length(length) => Some(length),
                Framing::None => Some(0),
                Framing::Chunked | Framing::Close => None,
            });
            channel.heads.borrow_mut().push_back(head);
            if end {
                channel.left.set(None);
                self.received(channel);
            }
        }
        channel.tell(News::Incoming);
        Ok(())
    }

    /// Gives a head's memory back.
    pub fn keep_head(&mut self, head: Box<ResponseHead>) {
        if self.spare_heads.len() < SPARE_HEADS {
            self.spare_heads.push(head);
        }
    }

    fn reset_by_peer(&mut self, stream: u32, code: H2Code) -> Result<(), H2Code> {
        match self.streams.remove(&stream) {
            Some(channel) => {
                self.remember(stream, By::Peer);
                self.close(&channel, Break { by: By::Peer, code });
                Ok(())
            }
            None if self.is_idle(stream) => Err(H2Code::PROTOCOL_ERROR),
            None => Ok(()),
        }
    }

    /// Ends a stream with an error, where it has not ended.
    pub fn reset(&mut self, channel: &Channel, code: H2Code) {
        if self.streams.remove(&channel.id).is_some() {
            self.send_reset(channel.id, code);
            self.remember(channel.id, By::Us);
            self.close(channel, Break { by: By::Us, code });
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
        if self.resets.len() >= RESETS_KEPT {
            self.resets.pop_front();
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
        // Who has answered wants no more of the request, and says that this is no error (§8.1).
        let code = if channel.sending.get() || !self.terms.server { H2Code::CANCEL } else { H2Code::NO_ERROR };
        self.reset(channel, code);
        for head in channel.heads.borrow_mut().drain(..) {
            self.keep_head(head);
        }
    }

    fn settings(&mut self, settings: H2Settings<'_>) -> Result<(), H2Code> {
        // One that says nothing of it sets no bound.
        let mut streams = if self.peer.settled { self.peer.streams } else { u32::MAX };
        for setting in settings.iter() {
            match setting? {
                H2Setting::HeaderTableSize(bytes) => self.table_update |= (bytes as usize) < TABLE_BYTES,
                // Nobody but a client may (§6.5.2).
                H2Setting::EnablePush(true) if !self.terms.server => return Err(H2Code::PROTOCOL_ERROR),
                H2Setting::EnablePush(_) | H2Setting::MaxFrameSize(_) | H2Setting::MaxHeaderListSize(_) => {}
                H2Setting::MaxConcurrentStreams(count) => streams = count,
                H2Setting::InitialWindowSize(bytes) => self.resize(bytes.into())?,
                // Not to be taken back (RFC 8441 §3).
                H2Setting::EnableConnectProtocol(false) if self.peer.extended_connect => return Err(H2Code::PROTOCOL_ERROR),
                H2Setting::EnableConnectProtocol(on) => self.peer.extended_connect = on,
            }
        }
        self.peer.streams = streams;
        self.peer.settled = true;
        Ok(())
    }

    /// All streams' windows move with the initial one, below zero even (§6.9.2).
    fn resize(&mut self, bytes: i64) -> Result<(), H2Code> {
        let by = bytes - self.peer.initial_window;
        self.peer.initial_window = bytes;
        for channel in self.streams.values() {
            let window = channel.send_window.get() + by;
            if window > i64::from(WINDOW_MAX) {
                return Err(H2Code::FLOW_CONTROL_ERROR);
            }
            channel.send_window.set(window);
            if window > 0 {
                channel.tell(News::Outgoing);
            }
        }
        Ok(())
    }

    /// The peer goes by our SETTINGS from here on.
    fn agreed(&mut self) {
        let by = i64::from(self.terms.window) - self.initial_receive_window;
        self.initial_receive_window += by;
        if by != 0 {
            for channel in self.streams.values() {
                channel.receive_window.set(channel.receive_window.get() + by);
            }
        }
    }

    fn window(&mut self, stream: u32, increment: u32) -> Result<(), H2Code> {
        if stream == 0 {
            self.send_window += i64::from(increment);
            if increment == 0 {
                return Err(H2Code::PROTOCOL_ERROR);
            }
            if self.send_window > i64::from(WINDOW_MAX) {
                return Err(H2Code::FLOW_CONTROL_ERROR);
            }
            tell_all(&mut self.waiting);
            return Ok(());
        }
        let Some(channel) = self.streams.get(&stream).cloned() else {
            return if self.is_idle(stream) { Err(H2Code::PROTOCOL_ERROR) } else { Ok(()) };
        };
        let window = channel.send_window.get() + i64::from(increment);
        if increment == 0 {
            self.reset(&channel, H2Code::PROTOCOL_ERROR);
        } else if window > i64::from(WINDOW_MAX) {
            self.reset(&channel, H2Code::FLOW_CONTROL_ERROR);
        } else {
            channel.send_window.set(window);
            channel.tell(News::Outgoing);
        }
        Ok(())
    }

    /// The peer says goodbye. Of a back end it says also which requests it has not acted upon (§6.8).
    fn peer_goes(&mut self, last: u32, code: H2Code) {
        self.peer.going = true;
        if self.terms.server {
            return self.say_goodbye();
        }
        let refused: Vec<_> = self.streams.keys().copied().filter(|id| *id > last).collect();
        for id in refused {
            if let Some(channel) = self.streams.remove(&id) {
                self.remember(id, By::Us);
                self.close(&channel, Break { by: By::Goodbye, code });
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

    /// Tells the client that a goodbye is coming: what it sends until it has heard of it is answered (§6.8).
    pub fn announce_goodbye(&mut self) {
        if self.goodbye == Goodbye::No {
            self.goodbye = Goodbye::Announced;
            h2_goaway(&mut self.out, WINDOW_MAX, H2Code::NO_ERROR);
            h2_ping(&mut self.out, FAREWELL_PING, false);
        }
    }

    /// What the client begins from here on is not answered.
    pub fn say_goodbye(&mut self) {
        if !matches!(self.goodbye, Goodbye::Said(_)) {
            self.goodbye = Goodbye::Said(self.begun_by_peer);
            h2_goaway(&mut self.out, self.begun_by_peer, H2Code::NO_ERROR);
        }
    }

    /// Goodbye was said and everything is answered.
    pub fn is_over(&self) -> bool {
        matches!(self.goodbye, Goodbye::Said(_)) && self.streams.is_empty() && self.arrivals.is_empty() && self.unsent() == 0
    }

    /// Ends the connection for an error: its streams end with it, and nothing more is taken in.
    pub fn condemn(&mut self, code: H2Code) {
        h2_goaway(&mut self.out, self.begun_by_peer, code);
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
