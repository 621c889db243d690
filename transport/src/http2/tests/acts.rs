//! What a peer and the users of streams may do, by chance.

use super::play::{Play, Side, Step, Used, WINDOW};
use maitred_wire::{
    H2Code, H2Setting, WINDOW_AT_FIRST, h2_data, h2_goaway, h2_headers, h2_ping, h2_reset, h2_settings, h2_settings_ack,
    h2_window_update, hpack_field, hpack_status,
};
use std::task::{Context, Poll, Waker};

impl Play {
    /// A step of the peer, mostly with sense. Its stream is one of the last few, or was never begun.
    pub(super) fn peer(&mut self, (kind, which, size): Step) {
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
    pub(super) fn user(&mut self, (kind, which, size): Step) {
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
}

/// Of every eighth the length is stated.
pub(super) fn request(out: &mut Vec<u8>, size: u32) {
    for (name, value) in [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")] {
        hpack_field(out, name.as_bytes(), value.as_bytes());
    }
    if size.is_multiple_of(8) {
        hpack_field(out, b"content-length", size.to_string().as_bytes());
    }
}

/// DATA with so much of its payload being padding.
pub(super) fn data(out: &mut Vec<u8>, stream: u32, count: usize, padding: usize, end: bool) {
    let start = out.len();
    h2_data(out, stream, &[&[padding.saturating_sub(1) as u8][..padding.min(1)], &vec![b'x'; count]].concat(), end);
    out.resize(out.len() + padding.saturating_sub(1), 0);
    let [_, high, middle, low] = ((count + padding) as u32).to_be_bytes();
    out[start..start + 3].copy_from_slice(&[high, middle, low]);
    out[start + 4] |= if padding > 0 { 0x08 } else { 0 };
}
