//! Reads the messages of one end: takes masks off, puts fragments together, and checks that text is UTF-8 while it comes. Holds no more
//! than one message and one control frame; whatever breaks a rule or a bound ends it, with the code that the other end is to be told.

use super::apply_mask;
use super::header::{CONTROL_BYTES_MAX, HeaderReader, Opcode};

/// Whose frames are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// All are masked (§5.1).
    Client,
    /// None is.
    Server,
}

/// In bytes.
#[derive(Debug, Clone, Copy)]
pub struct MessageLimits {
    pub frame: usize,
    pub message: usize,
}

/// What has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    /// To be answered with the same bytes (§5.5.2).
    Ping(Vec<u8>),
    Pong,
    /// The last thing that comes. `None`: it says no code.
    Close(Option<u16>, String),
}

/// Why nothing more can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Of a rule of RFC 6455: this one.
    Protocol(&'static str),
    /// Text that is no UTF-8.
    NotText,
    /// A frame or a message over its bound.
    TooLarge,
}

impl Violation {
    /// What the other end is told (§7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Violation::Protocol(_) => 1002,
            Violation::NotText => 1007,
            Violation::TooLarge => 1009,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Violation::Protocol(why) => why,
            Violation::NotText => "text that is not UTF-8",
            Violation::TooLarge => "the message is too big",
        }
    }
}

/// The frame whose payload comes.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    is_last: bool,
    left: u64,
    mask: [u8; 4],
}

#[derive(Debug)]
pub struct MessageReader {
    side: Side,
    limits: MessageLimits,
    header: HeaderReader,
    frame: Option<Frame>,
    /// The message that has begun: whether it is text.
    begun: Option<bool>,
    message: Vec<u8>,
    /// So much of it is known to be UTF-8.
    checked: usize,
    control: Vec<u8>,
    over: bool,
}

impl MessageReader {
    pub fn new(side: Side, limits: MessageLimits) -> MessageReader {
        MessageReader {
            side,
            limits,
            header: HeaderReader::default(),
            frame: None,
            begun: None,
            message: Vec::new(),
            checked: 0,
            control: Vec::new(),
            over: false,
        }
    }

    /// A close frame or a violation was seen: what follows is not looked at.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Bytes of memory that the message holds which comes.
    pub fn held(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }

    /// Lets go of what has come of a message: what follows is not looked at.
    pub fn give_up(&mut self) {
        self.over = true;
        (self.message, self.control) = (Vec::new(), Vec::new());
    }

    /// Takes bytes up to the first thing that is whole. Gives how many it took; all of them where nothing is.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, Result<Option<Incoming>, Violation>) {
        let mut rest = bytes;
        while !self.over {
            let step = match self.frame {
                None => self.begin_frame(&mut rest),
                Some(frame) => self.go_on(frame, &mut rest),
            };
            match step {
                Ok(None) if rest.is_empty() && self.frame.is_none_or(|frame| frame.left > 0) => break,
                Ok(None) => {}
                Ok(Some(incoming)) => {
                    self.over = matches!(incoming, Incoming::Close(..));
                    return (bytes.len() - rest.len(), Ok(Some(incoming)));
                }
                Err(violation) => {
                    self.give_up();
                    return (bytes.len() - rest.len(), Err(violation));
                }
            }
        }
        (bytes.len(), Ok(None))
    }

    fn begin_frame(&mut self, rest: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        let (later, header) = self.header.take(rest);
        *rest = later;
        let Some(header) = header else { return Ok(None) };
        let header = header.ok_or(Violation::Protocol("a frame's length is not written as it must be"))?;
        let opcode = header.opcode(self.begun.is_some()).ok_or(Violation::Protocol("a frame that may not stand there"))?;
        if header.is_compressed() {
            return Err(Violation::Protocol("a compressed message, and no extension was agreed on"));
        }
        let mask = match (self.side, header.mask) {
            (Side::Client, Some(mask)) => mask,
            (Side::Server, None) => [0; 4],
            (Side::Client, None) => return Err(Violation::Protocol("a client's frame has no mask")),
            (Side::Server, Some(_)) => return Err(Violation::Protocol("a server's frame has a mask")),
        };
        if !opcode.is_control() {
            if header.length > self.limits.frame.min(self.limits.message - self.message.len()) as u64 {
                return Err(Violation::TooLarge);
            }
            self.begun.get_or_insert(opcode == Opcode::Text);
        }
        self.frame = Some(Frame { opcode, is_last: header.is_last(), left: header.length, mask });
        Ok(None)
    }

    /// Takes what belongs to the frame, and ends it with its last byte.
    fn go_on(&mut self, mut frame: Frame, rest: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        let (now, later) = rest.split_at(frame.left.min(rest.len() as u64) as usize);
        *rest = later;
        let to = if frame.opcode.is_control() { &mut self.control } else { &mut self.message };
        let start = to.len();
        to.extend_from_slice(now);
        frame.mask = apply_mask(&mut to[start..], frame.mask);
        frame.left -= now.len() as u64;
        if !frame.opcode.is_control() && self.begun == Some(true) {
            self.check_text()?;
        }
        self.frame = Some(frame).filter(|frame| frame.left > 0);
        if frame.left > 0 {
            return Ok(None);
        }
        let control = std::mem::take(&mut self.control);
        match frame.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(control))),
            Opcode::Pong => Ok(Some(Incoming::Pong)),
            Opcode::Close => closed(&control).map(Some),
            Opcode::Continuation | Opcode::Text | Opcode::Binary if frame.is_last => self.end_message().map(Some),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => Ok(None),
        }
    }

    /// What has come so far is UTF-8, but for a character whose end has still to come.
    fn check_text(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::NotText),
        }
        Ok(())
    }

    fn end_message(&mut self) -> Result<Incoming, Violation> {
        self.checked = 0;
        let message = std::mem::take(&mut self.message);
        match self.begun.take() {
            Some(true) => String::from_utf8(message).map(Incoming::Text).map_err(|_| Violation::NotText),
            Some(false) | None => Ok(Incoming::Binary(message)),
        }
    }
}

/// What a close frame says (§5.5.1).
fn closed(payload: &[u8]) -> Result<Incoming, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else { return Ok(Incoming::Close(None, String::new())) };
    let code = u16::from_be_bytes(*code);
    if !may_be_said(code) {
        return Err(Violation::Protocol("a close code that nobody may send"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotText)?;
    Ok(Incoming::Close(Some(code), reason.to_owned()))
}

/// Codes that stand in close frames: those that are registered, and those of libraries and applications (§7.4; IANA's registry).
fn may_be_said(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

const _: () = assert!(CONTROL_BYTES_MAX < 126, "a control frame's length is told by its second byte alone");

#[cfg(test)]
mod tests {
    use super::super::{close_frame, websocket_frame};
    use super::*;
    use proptest::prelude::*;

    const LIMITS: MessageLimits = MessageLimits { frame: 32, message: 64 };
    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

    /// A frame whose first byte is this, masked.
    fn raw(start: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        websocket_frame(Opcode::Binary, payload, Some(MASK), &mut out);
        out[0] = start;
        out
    }

    /// Everything that comes of these bytes in pieces of so many, and how it ended.
    fn read(bytes: &[u8], piece: usize, limits: MessageLimits) -> (Vec<Incoming>, Option<Violation>) {
        let mut reader = MessageReader::new(Side::Client, limits);
        let mut all = Vec::new();
        for mut bytes in bytes.chunks(piece) {
            while !bytes.is_empty() {
                let (taken, result) = reader.feed(bytes);
                bytes = &bytes[taken..];
                match result {
                    Ok(Some(incoming)) => all.push(incoming),
                    Ok(None) => assert!(bytes.is_empty(), "what is not taken is another thing's"),
                    Err(violation) => return (all, Some(violation)),
                }
            }
        }
        (all, None)
    }

    fn text(text: &str) -> Incoming {
        Incoming::Text(text.to_owned())
    }

    #[test]
    fn what_comes_whole() {
        let mut close = Vec::new();
        close_frame(1000, "bye", Some(MASK), &mut close);
        for (why, bytes, wanted) in [
            // RFC 6455 §5.7.
            ("a text", b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec(), vec![text("Hello")]),
            ("nothing", raw(0x81, b""), vec![text("")]),
            ("bytes", raw(0x82, b"\xff\x00"), vec![Incoming::Binary(b"\xff\x00".to_vec())]),
            ("in pieces", [raw(0x01, b"Hel"), raw(0x00, b""), raw(0x80, b"lo")].concat(), vec![text("Hello")]),
            (
                "a ping between pieces",
                [raw(0x01, b"Hel"), raw(0x89, b"?"), raw(0x80, b"lo"), raw(0x8a, b"!")].concat(),
                vec![Incoming::Ping(b"?".to_vec()), text("Hello"), Incoming::Pong],
            ),
            (
                "a character in three pieces",
                [raw(0x01, b"\xe2"), raw(0x00, b"\x82"), raw(0x80, b"\xac")].concat(),
                vec![text("€")],
            ),
            ("as long as may be", [raw(0x02, &[7; 32]), raw(0x80, &[7; 32])].concat(), vec![Incoming::Binary(vec![7; 64])]),
            ("goodbye", close.clone(), vec![Incoming::Close(Some(1000), "bye".into())]),
            ("goodbye, and no word", raw(0x88, b""), vec![Incoming::Close(None, String::new())]),
            ("after goodbye", [close, raw(0x81, b"x")].concat(), vec![Incoming::Close(Some(1000), "bye".into())]),
        ] {
            for piece in [1, 2, 3, 1000] {
                assert_eq!(read(&bytes, piece, LIMITS), (wanted.clone(), None), "{why}, by {piece}");
            }
        }
    }

    #[test]
    fn what_is_refused() {
        let unmasked = {
            let mut out = Vec::new();
            websocket_frame(Opcode::Text, b"x", None, &mut out);
            out
        };
        for (why, code, bytes) in [
            ("no mask", 1002, unmasked),
            ("compressed", 1002, raw(0xc1, b"x")),
            ("RSV2", 1002, raw(0xa1, b"x")),
            ("an unknown opcode", 1002, raw(0x83, b"x")),
            ("a continuation of nothing", 1002, raw(0x80, b"x")),
            ("a message within a message", 1002, [raw(0x01, b"x"), raw(0x81, b"y")].concat()),
            ("a ping in pieces", 1002, raw(0x09, b"x")),
            ("half a code", 1002, raw(0x88, b"\x03")),
            ("16 bits for 5", 1002, b"\x81\xfe\x00\x05\0\0\0\0".to_vec()),
            ("1004", 1002, raw(0x88, &1004u16.to_be_bytes())),
            ("1005, which stands for none", 1002, raw(0x88, &1005u16.to_be_bytes())),
            ("1006, which nobody sends", 1002, raw(0x88, &1006u16.to_be_bytes())),
            ("1015", 1002, raw(0x88, &1015u16.to_be_bytes())),
            ("2999", 1002, raw(0x88, &2999u16.to_be_bytes())),
            ("5000", 1002, raw(0x88, &5000u16.to_be_bytes())),
            ("a reason that is no text", 1007, raw(0x88, b"\x03\xe8\xff")),
            ("no UTF-8", 1007, raw(0x81, b"a\xff")),
            ("a surrogate", 1007, raw(0x81, b"\xed\xa0\x80")),
            ("too many bytes for it", 1007, raw(0x81, b"\xc0\xaf")),
            ("a character that ends with the message", 1007, raw(0x81, b"\xe2\x82")),
            ("a frame over its bound", 1009, raw(0x82, &[0; 33])),
            ("a message over its bound", 1009, [raw(0x02, &[0; 32]), raw(0x00, &[0; 32]), raw(0x80, &[0])].concat()),
            ("as much as can be said", 1009, b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()),
        ] {
            for piece in [1, 3, 1000] {
                let (before, violation) = read(&bytes, piece, LIMITS);
                assert_eq!((before, violation.map(Violation::code)), (vec![], Some(code)), "{why}, by {piece}");
            }
        }
    }

    #[test]
    fn text_that_is_wrong_is_refused_before_it_is_whole() {
        // `f4 90` begins no character at all.
        let mut reader = MessageReader::new(Side::Client, LIMITS);
        let frame = raw(0x01, b"ok \xf4\x90");
        assert_eq!(reader.feed(&frame).1, Err(Violation::NotText));
        assert!(reader.is_over());
        assert_eq!(reader.feed(&raw(0x80, b"x")), (7, Ok(None)));
    }

    #[test]
    fn a_server_masks_nothing() {
        let mut reader = MessageReader::new(Side::Server, LIMITS);
        let mut frame = Vec::new();
        websocket_frame(Opcode::Text, b"Hello", None, &mut frame);
        assert_eq!(&frame, b"\x81\x05Hello", "the example of RFC 6455, section 5.7");
        assert_eq!(reader.feed(&frame), (7, Ok(Some(text("Hello")))));
        assert_eq!(reader.feed(&raw(0x81, b"x")).1.map_err(Violation::code), Err(1002));
    }

    #[test]
    fn every_length_is_read_back() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x10000, 0x10001] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let mut frame = Vec::new();
            websocket_frame(Opcode::Binary, &payload, Some(MASK), &mut frame);
            let limits = MessageLimits { frame: length, message: length };
            assert_eq!(read(&frame, 1000, limits), (vec![Incoming::Binary(payload)], None), "{length}");
        }
    }

    /// One frame as the reference sees it, all of its bytes at hand.
    fn reference(bytes: &[u8]) -> (Vec<Incoming>, Option<u16>) {
        let (mut all, mut at, mut message) = (Vec::new(), 0, None::<(bool, Vec<u8>)>);
        let stop = |all, code| (all, Some(code));
        loop {
            let Some(&[start, second]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()) else { return (all, None) };
            let length = match second & 0x7f {
                126 => bytes.get(at + 2..at + 4).map(|two| (4, u64::from(two[0]) << 8 | u64::from(two[1]), 126)),
                127 => bytes
                    .get(at + 2..at + 10)
                    .map(|eight| (10, eight.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)), 65536)),
                short => Some((2, u64::from(short), 0)),
            };
            let Some((header, length, least)) = length else { return (all, None) };
            let mask_at = at + header;
            // A header is judged when it is whole, mask and all.
            if second & 0x80 != 0 && bytes.len() < mask_at + 4 {
                return (all, None);
            }
            let (opcode, fin) = (start & 0xf, start & 0x80 != 0);
            let control = opcode & 8 != 0;
            let known = [0, 1, 2, 8, 9, 10].contains(&opcode);
            let placed = control || (opcode == 0) == message.is_some();
            let sound = !control || fin && length < 126 && !(opcode == 8 && length == 1);
            if length < least || length >> 63 != 0 || !known || !placed || !sound || start & 0x70 != 0 || second & 0x80 == 0 {
                return stop(all, 1002);
            }
            let held = message.as_ref().map_or(0, |(_, held)| held.len());
            if !control && (length > 32 || held as u64 + length > 64) {
                return stop(all, 1009);
            }
            let from = mask_at + 4;
            let there = bytes.len().min(from + length as usize);
            let payload: Vec<u8> = (from..there).map(|i| bytes[i] ^ bytes[mask_at + (i - from) % 4]).collect();
            let whole = there == from + length as usize;
            at = there;
            if control {
                if !whole {
                    return (all, None);
                }
                match opcode {
                    9 => all.push(Incoming::Ping(payload)),
                    10 => all.push(Incoming::Pong),
                    _ if payload.is_empty() => {
                        all.push(Incoming::Close(None, String::new()));
                        return (all, None);
                    }
                    _ => {
                        let code = u16::from(payload[0]) << 8 | u16::from(payload[1]);
                        let is_sayable = [1000, 1001, 1002, 1003].contains(&code)
                            || (1007..1015).contains(&code)
                            || (3000..5000).contains(&code);
                        if !is_sayable {
                            return stop(all, 1002);
                        }
                        let Ok(reason) = String::from_utf8(payload[2..].to_vec()) else { return stop(all, 1007) };
                        all.push(Incoming::Close(Some(code), reason));
                        return (all, None);
                    }
                }
                continue;
            }
            let (is_text, held) = message.get_or_insert_with(|| (opcode == 1, Vec::new()));
            held.extend(payload);
            if *is_text
                && (String::from_utf8_lossy(held).len() < held.len()
                    || std::str::from_utf8(held).is_err_and(|error| error.error_len().is_some()))
            {
                return stop(all, 1007);
            }
            if !whole {
                return (all, None);
            }
            if fin && let Some((is_text, held)) = message.take() {
                match (is_text, String::from_utf8(held)) {
                    (true, Ok(text)) => all.push(Incoming::Text(text)),
                    (true, Err(_)) => return stop(all, 1007),
                    (false, Ok(text)) => all.push(Incoming::Binary(text.into_bytes())),
                    (false, Err(error)) => all.push(Incoming::Binary(error.into_bytes())),
                }
            }
        }
    }

    fn start() -> impl Strategy<Value = u8> {
        prop_oneof![
            8 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
            1 => Just(0x88u8),
            1 => any::<u8>(),
        ]
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[a-zäöü€𝄞]{0,8}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (990u16..1020).prop_map(|code| code.to_be_bytes().to_vec()),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_reader_that_has_everything_at_hand(
            frames in prop::collection::vec((start(), payload()), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..6),
            piece in 1usize..20,
        ) {
            let mut bytes: Vec<u8> = frames.iter().flat_map(|(start, payload)| raw(*start, payload)).collect();
            bytes.extend(noise);
            let (wanted, code) = reference(&bytes);
            let (found, violation) = read(&bytes, piece, LIMITS);
            prop_assert_eq!(found, wanted);
            prop_assert_eq!(violation.map(Violation::code), code);
        }

        #[test]
        fn a_message_in_any_frames_is_the_same_message(message in "\\PC{0,40}", cuts in prop::collection::vec(0usize..160, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &message.as_bytes()[cut[0]..cut[1]]).collect();
            let frames: Vec<u8> = pieces.iter().enumerate().flat_map(|(at, piece)| {
                let fin = if at + 1 == pieces.len() { 0x80 } else { 0 };
                raw(fin | if at == 0 { 1 } else { 0 }, piece)
            }).collect();
            let limits = MessageLimits { frame: 1000, message: 1000 };
            prop_assert_eq!(read(&frames, 7, limits), (vec![Incoming::Text(message.clone())], None));
        }
    }
}
