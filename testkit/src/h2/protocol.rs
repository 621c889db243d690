//! One side's knowledge of a connection (RFC 9113): windows, streams, settings, and what the other side may not do. Takes frames
//! and gives the frames that they call for; never reads or writes.

use super::frame::{Frame, flag, kind, setting};
use super::hpack::Decoder;
use crate::message::Fields;
use std::collections::{BTreeMap, VecDeque};

const WINDOW: i64 = 65_535;
const FRAME_SIZE: usize = 16_384;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What is known of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub send_window: i64,
    pub receive_window: i64,
    /// Interim responses.
    pub interim: Vec<Fields>,
    pub head: Option<Fields>,
    pub body: Vec<u8>,
    pub trailers: Option<Fields>,
    /// The other side has said all.
    pub ended: bool,
    /// The other side broke it off.
    pub reset: Option<u32>,
    /// This side has said all, or broke it off.
    pub finished: bool,
    pub abandoned: bool,
    /// Its answer has no body, whatever its length says.
    pub to_head: bool,
}

/// Who ends a connection says how far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goaway {
    pub last: u32,
    pub code: u32,
}

pub(crate) struct Protocol {
    role: Role,
    decoder: Decoder,
    /// A field block of which more is to come: its stream, whether it ends it, and so much of it.
    block: Option<(u32, bool, Vec<u8>)>,
    /// What the other side announced.
    pub peer: BTreeMap<u16, u32>,
    pub greeted: bool,
    /// Announced by this side and not yet acknowledged.
    unacknowledged: VecDeque<Vec<(u16, u32)>>,
    own_window: i64,
    own_frame: usize,
    pub send_window: i64,
    pub receive_window: i64,
    pub streams: BTreeMap<u32, Side>,
    pub goaway: Vec<Goaway>,
    pub pongs: Vec<Vec<u8>>,
    /// What was received is granted anew at once.
    pub flowing: bool,
    /// SETTINGS and PING are acknowledged.
    pub polite: bool,
    /// Bytes of DATA received, padding included.
    pub received: u64,
}

impl Protocol {
    pub fn new(role: Role) -> Protocol {
        Protocol {
            role,
            decoder: Decoder::default(),
            block: None,
            peer: BTreeMap::new(),
            greeted: false,
            unacknowledged: VecDeque::new(),
            own_window: WINDOW,
            own_frame: FRAME_SIZE,
            send_window: WINDOW,
            receive_window: WINDOW,
            streams: BTreeMap::new(),
            goaway: Vec::new(),
            pongs: Vec::new(),
            flowing: false,
            polite: true,
            received: 0,
        }
    }

    /// Everything that was announced is acknowledged.
    pub fn settled(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// What one frame may hold that is sent to the other side.
    pub fn frame_size(&self) -> usize {
        self.peer.get(&setting::MAX_FRAME_SIZE).map_or(FRAME_SIZE, |size| *size as usize)
    }

    /// So many bytes of DATA may be sent now.
    pub fn allowance(&self, stream: u32) -> usize {
        let stream = self.streams.get(&stream).map_or(0, |side| side.send_window);
        stream.min(self.send_window).clamp(0, self.frame_size() as i64) as usize
    }

    /// Streams on which somebody still has something to say.
    pub fn open(&self) -> usize {
        self.streams.values().filter(|side| side.reset.is_none() && !side.abandoned && !(side.ended && side.finished)).count()
    }

    pub fn stream(&mut self, id: u32) -> &mut Side {
        let send = self.peer.get(&setting::INITIAL_WINDOW_SIZE).map_or(WINDOW, |size| i64::from(*size));
        let receive = self.own_window;
        self.streams.entry(id).or_insert_with(|| Side {
            send_window: send,
            receive_window: receive,
            interim: Vec::new(),
            head: None,
            body: Vec::new(),
            trailers: None,
            ended: false,
            reset: None,
            finished: false,
            abandoned: false,
            to_head: false,
        })
    }

    /// Keeps the books of what this side sends, however wrong it is.
    pub fn sent(&mut self, frame: &Frame) {
        let size = frame.payload.len() as i64;
        match frame.kind {
            kind::HEADERS if frame.stream > 0 => self.stream(frame.stream).finished |= frame.ends_stream(),
            kind::DATA if frame.stream > 0 => {
                self.send_window -= size;
                if let Some(side) = self.streams.get_mut(&frame.stream) {
                    side.send_window -= size;
                    side.finished |= frame.ends_stream();
                }
            }
            kind::RST_STREAM => {
                if let Some(side) = self.streams.get_mut(&frame.stream) {
                    side.abandoned = true;
                }
            }
            kind::SETTINGS if !frame.has(flag::ACK) => {
                let Ok(pairs) = frame.pairs() else { return };
                self.announce(&pairs, false);
                self.unacknowledged.push_back(pairs);
            }
            kind::WINDOW_UPDATE => {
                let Ok(increment) = frame.number(0).map(i64::from) else { return };
                match (frame.stream, self.streams.get_mut(&frame.stream)) {
                    (0, _) => self.receive_window += increment,
                    (_, Some(side)) => side.receive_window += increment,
                    (_, None) => {}
                }
            }
            _ => {}
        }
    }

    /// A larger value counts at once, a smaller one when it is acknowledged.
    fn announce(&mut self, pairs: &[(u16, u32)], acknowledged: bool) {
        let tables = pairs.iter().filter(|(name, _)| *name == setting::HEADER_TABLE_SIZE).map(|(_, size)| *size as usize);
        if acknowledged {
            self.decoder.allow(tables);
        }
        for (name, value) in pairs {
            let size = *value as usize;
            match *name {
                setting::INITIAL_WINDOW_SIZE if (i64::from(*value) < self.own_window) == acknowledged => {
                    let change = i64::from(*value) - self.own_window;
                    self.own_window += change;
                    self.streams.values_mut().for_each(|side| side.receive_window += change);
                }
                setting::MAX_FRAME_SIZE if (size < self.own_frame) == acknowledged => self.own_frame = size,
                _ => {}
            }
        }
    }

    /// What the other side sends. Gives what must be answered; an error is a rule that it broke.
    pub fn take(&mut self, frame: &Frame) -> Result<Vec<Frame>, String> {
        if frame.payload.len() > self.own_frame {
            return Err(format!("a frame larger than the {} bytes that were announced: {frame:?}", self.own_frame));
        }
        if !self.greeted && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return Err(format!("the first frame is no SETTINGS: {frame:?}"));
        }
        if let Some((stream, ..)) = self.block
            && (frame.kind != kind::CONTINUATION || frame.stream != stream)
        {
            return Err(format!("{frame:?} within the field block of stream {stream}"));
        }
        match frame.kind {
            kind::DATA => self.take_data(frame),
            kind::HEADERS => {
                let block = frame.content()?.to_vec();
                self.take_block(frame, frame.ends_stream(), block)
            }
            kind::CONTINUATION => {
                let (_, end, mut block) = self.block.take().ok_or_else(|| format!("no field block is open: {frame:?}"))?;
                block.extend_from_slice(&frame.payload);
                self.take_block(frame, end, block)
            }
            kind::SETTINGS => self.take_settings(frame),
            kind::WINDOW_UPDATE => self.take_window(frame),
            kind::PING if frame.payload.len() != 8 || frame.stream != 0 => Err(format!("a malformed ping: {frame:?}")),
            kind::PING if frame.has(flag::ACK) => {
                self.pongs.push(frame.payload.clone());
                Ok(Vec::new())
            }
            kind::PING => Ok(if self.polite { vec![Frame::ping_ack(frame.payload.clone())] } else { Vec::new() }),
            kind::GOAWAY if frame.stream != 0 => Err(format!("GOAWAY on a stream: {frame:?}")),
            kind::GOAWAY => {
                let goaway = Goaway { last: frame.number(0)? & 0x7fff_ffff, code: frame.number(4)? };
                if self.goaway.last().is_some_and(|earlier| earlier.last < goaway.last) {
                    return Err(format!("GOAWAY that takes back an earlier one: {goaway:?} after {:?}", self.goaway));
                }
                self.goaway.push(goaway);
                Ok(Vec::new())
            }
            kind::RST_STREAM => {
                let code = frame.number(0)?;
                self.known(frame)?.reset.get_or_insert(code);
                Ok(Vec::new())
            }
            kind::PUSH_PROMISE => Err(format!("nobody asked for a push: {frame:?}")),
            // PRIORITY, and types unknown to this document.
            _ => Ok(Vec::new()),
        }
    }

    fn known(&mut self, frame: &Frame) -> Result<&mut Side, String> {
        self.streams.get_mut(&frame.stream).ok_or_else(|| format!("a stream that nobody opened: {frame:?}"))
    }

    fn take_data(&mut self, frame: &Frame) -> Result<Vec<Frame>, String> {
        let size = frame.payload.len();
        let content = frame.content()?;
        self.receive_window -= size as i64;
        self.received += size as u64;
        if self.receive_window < 0 {
            return Err(format!("{} bytes beyond the connection's window: {frame:?}", -self.receive_window));
        }
        let role = self.role;
        let side = self.known(frame)?;
        side.receive_window -= size as i64;
        let over = -side.receive_window;
        if !side.abandoned {
            if side.ended || side.reset.is_some() || side.head.is_none() {
                return Err(format!("DATA where none can be: {frame:?} of {side:?}"));
            }
            if over > 0 {
                return Err(format!("{over} bytes beyond the stream's window: {frame:?}"));
            }
            side.body.extend_from_slice(content);
            if frame.ends_stream() {
                side.end(role).map_err(|why| format!("stream {}: {why}", frame.stream))?;
            }
        }
        if !self.flowing || size == 0 {
            return Ok(Vec::new());
        }
        let mut grants = vec![Frame::window(0, size as u32)];
        if !frame.ends_stream() {
            grants.push(Frame::window(frame.stream, size as u32));
        }
        Ok(grants)
    }

    fn take_block(&mut self, frame: &Frame, end: bool, block: Vec<u8>) -> Result<Vec<Frame>, String> {
        if !frame.has(flag::END_HEADERS) {
            self.block = Some((frame.stream, end, block));
            return Ok(Vec::new());
        }
        // Whatever becomes of the fields, the table must know them.
        let fields = Fields(self.decoder.decode(&block).map_err(|why| format!("HPACK: {why}"))?);
        let role = self.role;
        if role == Role::Server && !self.streams.contains_key(&frame.stream) {
            let last = self.streams.keys().next_back().copied().unwrap_or(0);
            if frame.stream.is_multiple_of(2) || frame.stream <= last {
                return Err(format!("a client cannot open stream {} after {last}", frame.stream));
            }
            self.stream(frame.stream);
        }
        let side = self.known(frame)?;
        if side.abandoned {
            return Ok(Vec::new());
        }
        if side.ended || side.reset.is_some() {
            return Err(format!("fields on a stream that is over: {frame:?}"));
        }
        side.take_fields(fields, end, role).map_err(|why| format!("stream {}: {why}", frame.stream))?;
        Ok(Vec::new())
    }

    fn take_settings(&mut self, frame: &Frame) -> Result<Vec<Frame>, String> {
        if frame.stream != 0 || frame.has(flag::ACK) && !frame.payload.is_empty() {
            return Err(format!("malformed SETTINGS: {frame:?}"));
        }
        if frame.has(flag::ACK) {
            let pairs = self.unacknowledged.pop_front().ok_or("SETTINGS acknowledged that nobody sent")?;
            self.announce(&pairs, true);
            return Ok(Vec::new());
        }
        self.greeted = true;
        for (name, value) in frame.pairs()? {
            let good = match name {
                setting::ENABLE_PUSH => value == 0 || self.role == Role::Server && value == 1,
                setting::ENABLE_CONNECT_PROTOCOL => value <= 1,
                setting::INITIAL_WINDOW_SIZE => value <= 0x7fff_ffff,
                setting::MAX_FRAME_SIZE => (16_384..=16_777_215).contains(&value),
                _ => true,
            };
            if !good {
                return Err(format!("the setting {name} cannot be {value}"));
            }
            let before = self.peer.insert(name, value);
            if name == setting::INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - before.map_or(WINDOW, i64::from);
                self.streams.values_mut().for_each(|side| side.send_window += change);
            }
        }
        Ok(if self.polite { vec![Frame::settings_ack()] } else { Vec::new() })
    }

    fn take_window(&mut self, frame: &Frame) -> Result<Vec<Frame>, String> {
        let increment = i64::from(frame.number(0)? & 0x7fff_ffff);
        let window = match frame.stream {
            0 => &mut self.send_window,
            _ => &mut self.known(frame)?.send_window,
        };
        *window += increment;
        if increment == 0 || *window > 0x7fff_ffff {
            return Err(format!("a window of {window} after {frame:?}"));
        }
        Ok(Vec::new())
    }
}

impl Side {
    fn take_fields(&mut self, fields: Fields, end: bool, role: Role) -> Result<(), String> {
        if self.head.is_some() {
            if !end {
                return Err(format!("trailers that do not end their stream: {fields:?}"));
            }
            well_formed(&fields, &[])?;
            self.trailers = Some(fields);
            return self.end(role);
        }
        match role {
            Role::Server => well_formed(&fields, &[":method", ":scheme", ":path", ":authority", ":protocol"])?,
            Role::Client => well_formed(&fields, &[":status"])?,
        }
        if role == Role::Client {
            let status = single(&fields, ":status")?.ok_or("a response without status")?;
            if status.len() != 3 || !status.bytes().all(|b| b.is_ascii_digit()) || status == "101" {
                return Err(format!("the status {status:?}"));
            }
            if status.starts_with('1') {
                if end {
                    return Err(format!("an interim response that ends its stream: {fields:?}"));
                }
                self.interim.push(fields);
                return Ok(());
            }
            if status == "204" && fields.has("content-length") {
                return Err(format!("204 with a length: {fields:?}"));
            }
            self.to_head |= status == "304";
        } else {
            let method = single(&fields, ":method")?.ok_or("a request without method")?;
            let plain_connect = method == "CONNECT" && !fields.has(":protocol");
            for name in [":scheme", ":path"] {
                if single(&fields, name)?.is_none_or(str::is_empty) != plain_connect {
                    return Err(format!("{method} and its {name}: {fields:?}"));
                }
            }
            single(&fields, ":authority")?;
        }
        self.head = Some(fields);
        if end { self.end(role) } else { Ok(()) }
    }

    fn end(&mut self, role: Role) -> Result<(), String> {
        self.ended = true;
        let head = self.head.as_ref().ok_or("a stream that ends before its head")?;
        match single(head, "content-length")? {
            Some(_) if self.to_head && role == Role::Client && self.body.is_empty() => Ok(()),
            Some(length) if length != self.body.len().to_string() => {
                Err(format!("a length of {length} and {} bytes", self.body.len()))
            }
            _ => Ok(()),
        }
    }
}

fn single<'a>(fields: &'a Fields, name: &str) -> Result<Option<&'a str>, String> {
    let all = fields.all(name);
    if all.len() > 1 { Err(format!("{name} stands there {} times", all.len())) } else { Ok(all.first().copied()) }
}

/// Section 8.2, and the order of section 8.3.
fn well_formed(fields: &Fields, pseudo: &[&str]) -> Result<(), String> {
    let mut regular = false;
    for (name, value) in &fields.0 {
        let wrong = |why: &str| Err(format!("{why}: {name:?}: {value:?}"));
        if name.starts_with(':') {
            if regular || !pseudo.contains(&name.as_str()) {
                return wrong("a pseudo-header out of place");
            }
            continue;
        }
        regular = true;
        let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return wrong("a field name that is none");
        }
        if value.contains(['\r', '\n', '\0']) || value.trim_matches([' ', '\t']) != value {
            return wrong("a field value that is none");
        }
        let hop = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
        if hop.contains(&name.as_str()) || name == "te" && value != "trailers" {
            return wrong("a field of the connection's");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::hpack::block;
    use super::*;

    fn server() -> Protocol {
        let mut protocol = Protocol::new(Role::Server);
        protocol.take(&Frame::settings(&[])).unwrap();
        protocol
    }

    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

    #[test]
    fn what_a_peer_may_not_do_is_told() {
        let more = |extra: &[(&str, &str)]| block(&[&GET[..], extra].concat());
        let wrong: [(Vec<Frame>, &str); 9] = [
            (vec![Frame::headers(2, block(&GET), true)], "cannot open"),
            (vec![Frame::headers(3, block(&GET), true), Frame::headers(1, block(&GET), true)], "cannot open"),
            (vec![Frame::headers(1, block(&GET), true), Frame::data(1, "x", true)], "DATA where none can be"),
            (vec![Frame::headers(1, more(&[("X-Up", "1")]), true)], "no name"),
            (vec![Frame::headers(1, more(&[("connection", "close")]), true)], "connection's"),
            (vec![Frame::headers(1, more(&[("content-length", "5")]), true)], "a length of 5 and 0"),
            (vec![Frame::headers(1, block(&GET[..2]), true)], ":path"),
            (vec![Frame::headers(1, block(&GET), false).unfinished(), Frame::ping([0; 8])], "within the field block"),
            (vec![Frame::data(0, vec![0; 16_385], false)], "larger than"),
        ];
        for (frames, why) in wrong {
            let mut protocol = server();
            let outcome: Result<Vec<_>, String> = frames.iter().map(|frame| protocol.take(frame)).collect();
            assert!(outcome.is_err(), "{frames:?} should be wrong: {why}");
        }
    }

    #[test]
    fn windows_are_held_to_the_byte() {
        let mut protocol = server();
        protocol.take(&Frame::headers(1, block(&GET), false)).unwrap();
        for _ in 0..3 {
            protocol.take(&Frame::data(1, [0; 16_384], false)).unwrap();
        }
        assert!(protocol.take(&Frame::data(1, [0; 16_384], false)).unwrap_err().contains("1 bytes beyond the connection's"));
    }
}
