//! WebSocket: however the bytes are cut, frames end where a plain reading ends them; at a boundary a control frame changes nothing; a
//! close frame is understood, and a key's answer is text.

use crate::cuts;
use maitred_wire::{
    Incoming, MessageLimits, MessageReader, Opcode, Side, Tracker, Violation, accept_key, close_frame, is_websocket_key,
    websocket_frame,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    boundary: bool,
    closed: bool,
    broken: bool,
}

fn state(tracker: &Tracker) -> State {
    State { boundary: tracker.at_boundary(), closed: tracker.closed(), broken: tracker.broken() }
}

/// An unmasked ping without payload.
const PING: &[u8] = b"\x89\x00";

pub fn websocket(data: &[u8]) {
    let mut bytewise = Tracker::default();
    for (at, &byte) in data.iter().enumerate() {
        bytewise.feed(&[byte]);
        let state = state(&bytewise);
        assert!(!state.boundary || !state.closed && !state.broken, "a boundary where none can be, behind byte {at}");
    }
    let wanted = read_plainly(data);
    assert_eq!(state(&bytewise), wanted, "byte by byte");
    for cut in cuts(data.len()).chain([data.len()]) {
        let mut tracker = Tracker::default();
        tracker.feed(&data[..cut]);
        if tracker.at_boundary() {
            tracker.feed(PING);
            assert!(tracker.at_boundary(), "a ping at {cut} is not understood");
            let mut closed = tracker.clone();
            let mut close = Vec::new();
            let mask = data.first_chunk::<4>().copied().filter(|_| cut % 2 == 1);
            close_frame(1001, &String::from_utf8_lossy(data), mask, &mut close);
            closed.feed(&close);
            assert_eq!(state(&closed), State { boundary: false, closed: true, broken: false }, "a close frame at {cut}");
        }
        tracker.feed(&data[cut..]);
        assert_eq!(state(&tracker), wanted, "cut at {cut}");
    }
    key(data);
}

/// RFC 6455 §5.2 to §5.5, frame by frame over all the bytes: no code in common with the tracker.
fn read_plainly(data: &[u8]) -> State {
    let broken = |closed| State { boundary: false, closed, broken: true };
    let unfinished = State { boundary: false, closed: false, broken: false };
    let number = |bytes: &[u8]| bytes.iter().fold(0u128, |sum, &byte| sum * 256 + u128::from(byte));
    let (mut rest, mut in_message) = (data, false);
    while !rest.is_empty() {
        if rest.len() < 2 {
            return unfinished;
        }
        let (last, reserved, opcode) = (rest[0] >= 128, rest[0] / 16 % 8, rest[0] % 16);
        let (masked, short) = (rest[1] >= 128, rest[1] % 128);
        let extended = if short == 126 { 2 } else { 8 * usize::from(short == 127) };
        let header = 2 + extended + 4 * usize::from(masked);
        if rest.len() < header {
            return unfinished;
        }
        let length = if extended == 0 { u128::from(short) } else { number(&rest[2..2 + extended]) };
        let least = [0, 0, 126, 0, 0, 0, 0, 0, 65536][extended];
        let sound = length >= least
            && length < 1 << 63
            && match opcode {
                0 => reserved == 0 && in_message,
                1 | 2 => (reserved == 0 || reserved == 4) && !in_message,
                8 => reserved == 0 && last && length <= 125 && length != 1,
                9 | 10 => reserved == 0 && last && length <= 125,
                _ => false,
            };
        if !sound {
            return broken(false);
        }
        if opcode < 8 {
            in_message = !last;
        }
        let behind = &rest[header..];
        if (behind.len() as u128) < length {
            return unfinished;
        }
        rest = &behind[length as usize..];
        if opcode == 8 {
            return if rest.is_empty() { State { boundary: false, closed: true, broken: false } } else { broken(true) };
        }
    }
    State { boundary: true, closed: false, broken: false }
}

fn key(data: &[u8]) {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let text = &data[..data.len().min(24)];
    assert_eq!(is_websocket_key(text), text.len() == 24 && text.ends_with(b"==") && text[..22].iter().all(digit));
    let accept = accept_key(data);
    assert!(accept[..27].iter().all(digit) && accept[27] == b'=');
}

/// Small, so that inputs of a few bytes pass them.
const LIMITS: MessageLimits = MessageLimits { frame: 200, message: 300 };

/// However the bytes are cut, the messages are the same; none is over its bound; and written anew each is read to the same.
pub fn websocket_messages(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let side = if first & 1 == 0 { Side::Client } else { Side::Server };
    let (whole, violation) = messages(side, &[data]);
    for cut in cuts(data.len()) {
        let (before, behind) = data.split_at(cut);
        assert_eq!(messages(side, &[before, behind]), (whole.clone(), violation), "cut at {cut}");
    }
    let mut tracker = Tracker::default();
    tracker.feed(data);
    assert!(violation.is_some() || whole.iter().any(|incoming| matches!(incoming, Incoming::Close(..))) || !tracker.broken());
    for incoming in whole {
        said_again(&incoming, first);
    }
}

fn messages(side: Side, pieces: &[&[u8]]) -> (Vec<Incoming>, Option<Violation>) {
    let mut reader = MessageReader::new(side, LIMITS);
    let mut all = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (taken, result) = reader.feed(rest);
            rest = &rest[taken..];
            match result {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => assert!(rest.is_empty(), "bytes are left, and nothing came of those before"),
                Err(violation) => return (all, Some(violation)),
            }
        }
    }
    (all, None)
}

fn said_again(incoming: &Incoming, chance: u8) {
    let mut frame = Vec::new();
    let (side, mask) = if chance & 2 == 0 { (Side::Client, Some([chance, 1, 2, 3])) } else { (Side::Server, None) };
    match incoming {
        Incoming::Text(text) => {
            assert!(text.len() <= LIMITS.message);
            websocket_frame(Opcode::Text, text.as_bytes(), mask, &mut frame);
        }
        Incoming::Binary(bytes) => {
            assert!(bytes.len() <= LIMITS.message);
            websocket_frame(Opcode::Binary, bytes, mask, &mut frame);
        }
        Incoming::Ping(payload) => websocket_frame(Opcode::Ping, payload, mask, &mut frame),
        Incoming::Pong => websocket_frame(Opcode::Pong, b"", mask, &mut frame),
        Incoming::Close(None, _) => websocket_frame(Opcode::Close, b"", mask, &mut frame),
        Incoming::Close(Some(code), reason) => close_frame(*code, reason, mask, &mut frame),
    }
    let mut reader = MessageReader::new(side, MessageLimits { frame: LIMITS.message, message: LIMITS.message });
    assert_eq!(reader.feed(&frame), (frame.len(), Ok(Some(incoming.clone()))));
}
