//! What a connection makes of the frames that come (RFC 9113 §5 and §6).

use super::{Arrival, Break, By, FAREWELL_PING, Goodbye, HEADS_MAX, State, TABLE_BYTES, tell_all};
use crate::http2::channel::{Channel, News};
use maitred_wire::{
    Framing, H2Code, H2Frame, H2Setting, H2Settings, HpackError, Refusal, Version, WINDOW_MAX, forward_trailers, h2_ping,
    h2_settings_ack, h2_trailer,
};
use std::rc::Rc;
use std::time::Instant;

impl State {
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
                // Who has its answer and wants to send no more of its request takes nothing back.
                let is_answered = self.streams.get(&stream).is_some_and(|channel| channel.rest.get().is_some());
                self.flood.tally.resets += u64::from(!is_answered);
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
                *if ack { &mut tally.idle } else { &mut tally.pings } += 1;
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
        match self.resets.iter_mut().rev().find(|(id, _)| *id == stream) {
            Some((_, by @ By::Peer)) => {
                // Said once, however many frames come, or pieces of one.
                *by = By::Us;
                self.send_reset(stream, H2Code::STREAM_CLOSED);
                Ok(())
            }
            Some(_) => Ok(()),
            // Never used, and closed by the use of a higher number (§5.1.1).
            None if (self.left_out.0..=self.left_out.1).contains(&stream) => Err(H2Code::PROTOCOL_ERROR),
            // It may have been reset: a connection does not end for a doubt.
            None if stream <= self.forgotten => Ok(()),
            None => Err(H2Code::STREAM_CLOSED),
        }
    }

    fn data(&mut self, stream: u32, bytes: &[u8], padding: u32, end: bool) -> Result<(), H2Code> {
        let charge = bytes.len() as u32 + padding;
        self.receive_window -= i64::from(charge);
        if self.receive_window < 0 {
            return Err(H2Code::FLOW_CONTROL_ERROR);
        }
        // Nothing may be taken any more that would announce it.
        self.announce_window();
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
        if let Some(room) = channel.rest.get() {
            self.release(charge);
            self.rest_came(&channel, room.saturating_sub(charge), end);
            return Ok(());
        }
        if !bytes.is_empty() {
            let mut inbox = channel.inbox.borrow_mut();
            if inbox.capacity() == 0 {
                *inbox = self.worker.take_output();
            }
            // Whoever is always a little behind would otherwise keep a whole body. Each byte moves once at most.
            let taken = channel.taken.get();
            if taken > 0 && taken >= inbox.len() - taken {
                inbox.drain(..taken);
                channel.taken.set(0);
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

    /// Something came that nobody wants; so much more of it is taken.
    fn rest_came(&mut self, channel: &Rc<Channel>, room: u32, end: bool) {
        channel.rest.set(Some(room));
        if end {
            self.received(channel);
        } else if room == 0 {
            self.reset(channel, H2Code::NO_ERROR);
        }
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
            // Nobody is refused for what nobody wants.
            self.end_rests(None);
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
        self.decoder.decode(block, &mut self.scratch, |_, _| {}).map_err(undecoded)
    }

    fn is_above_goodbye(&self, stream: u32) -> bool {
        matches!(self.goodbye, Goodbye::Said(last) if stream > last)
    }

    fn request_came(&mut self, stream: u32, block: &[u8], end: bool, now: Instant) -> Result<(), H2Code> {
        let mut exchange = self.worker.take_exchange(now);
        let head = &mut exchange.request;
        let State { fields, decoder, scratch, terms, .. } = self;
        fields.begin(head, Version::Http2);
        decoder.decode(block, scratch, |name, value| fields.field(head, name, value, &terms.head)).map_err(undecoded)?;
        let read = fields.finish(head, end, &terms.head);
        let channel = self.begin(stream);
        self.joined();
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
            .map_err(undecoded)?;
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
            .map_err(undecoded)?;
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

    fn reset_by_peer(&mut self, stream: u32, code: H2Code) -> Result<(), H2Code> {
        match self.streams.remove(&stream) {
            Some(channel) => {
                self.remember(stream, By::Peer);
                self.close(&channel, Break { by: By::Peer, code });
                self.part();
                Ok(())
            }
            None if self.is_idle(stream) => Err(H2Code::PROTOCOL_ERROR),
            None => Ok(()),
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
}

/// Why a header block ends the connection.
fn undecoded(error: HpackError) -> H2Code {
    if error == HpackError::TOO_MUCH { H2Code::ENHANCE_YOUR_CALM } else { H2Code::COMPRESSION_ERROR }
}
