//! A client of HTTP/2 that sends exactly these frames, in order or not, and reads strictly. It reads only while it waits for
//! something, and gives window only when told to.

use super::frame::{Frame, PREFACE, setting};
use super::hpack;
use super::protocol::{Goaway, Protocol, Role, Side};
use super::response::{H2Broken, H2Response, response, status_of};
use crate::message::Fields;
use crate::stream::Stream;
use crate::tls::Handshake;
use crate::wait::PATIENCE;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

pub struct H2Client {
    stream: Stream,
    buffer: Vec<u8>,
    pub(super) protocol: Protocol,
    next: u32,
    ended: Option<H2Broken>,
    scheme: &'static str,
    pinged: u64,
}

impl H2Client {
    /// HTTP/2 by prior knowledge, hands shaken.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> H2Client {
        H2Client::over(Stream::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")))
    }

    /// Over a connection that exists, hands shaken.
    #[track_caller]
    pub fn over(stream: Stream) -> H2Client {
        let mut client = H2Client::silent(stream);
        client.handshake(&[]);
        client
    }

    /// Not a word is said yet.
    pub fn silent(stream: Stream) -> H2Client {
        let scheme = if stream.handshake().is_some() { "https" } else { "http" };
        H2Client { stream, buffer: Vec::new(), protocol: Protocol::new(Role::Client), next: 1, ended: None, scheme, pinged: 0 }
    }

    /// Preface and SETTINGS, and waits until both sides have acknowledged the other's.
    #[track_caller]
    pub fn handshake(&mut self, settings: &[(u16, u32)]) {
        self.send_bytes(PREFACE);
        let all = [&[(setting::ENABLE_PUSH, 0)], settings].concat();
        self.send(Frame::settings(&all));
        self.settle();
    }

    /// Waits until the other side has said its settings and acknowledged all of this side's.
    #[track_caller]
    pub fn settle(&mut self) {
        self.until("the settings are acknowledged", |protocol| protocol.greeted && protocol.settled());
    }

    pub fn tls(&self) -> Option<&Handshake> {
        self.stream.handshake()
    }

    pub fn local(&self) -> SocketAddr {
        self.stream.local().expect("connected by TCP")
    }

    /// What the other side announced.
    pub fn setting(&self, name: u16) -> Option<u32> {
        self.protocol.peer.get(&name).copied()
    }

    /// From now on whatever is received is granted anew.
    pub fn flowing(&mut self) {
        self.protocol.flowing = true;
        let mut grants = vec![Frame::window(0, 1 << 20)];
        let open = self.protocol.streams.iter().filter(|(_, side)| !side.ended && side.reset.is_none());
        grants.extend(open.map(|(id, _)| Frame::window(*id, 1 << 20)));
        for grant in grants {
            let _ = self.try_send(grant);
        }
    }

    /// SETTINGS and PING are acknowledged, as they are from the beginning, or not.
    pub fn polite(&mut self, polite: bool) {
        self.protocol.polite = polite;
    }

    #[track_caller]
    pub fn send(&mut self, frame: Frame) {
        if let Err(error) = self.try_send(frame.clone()) {
            panic!("the gateway does not take {frame:?}: {error}");
        }
    }

    pub fn try_send(&mut self, frame: Frame) -> std::io::Result<()> {
        self.protocol.sent(&frame);
        self.stream.write_all(&frame.encode())
    }

    /// In one piece, behind these bytes.
    #[track_caller]
    pub fn send_all(&mut self, before: &[u8], frames: &[Frame]) {
        frames.iter().for_each(|frame| self.protocol.sent(frame));
        let frames = frames.iter().flat_map(Frame::encode);
        self.send_bytes(before.iter().copied().chain(frames).collect::<Vec<u8>>());
    }

    /// These went out already, by another way.
    pub fn said(&mut self, frames: &[Frame]) {
        frames.iter().for_each(|frame| self.protocol.sent(frame));
    }

    /// Byte by byte.
    #[track_caller]
    pub fn send_slowly(&mut self, frame: Frame) {
        self.protocol.sent(&frame);
        for byte in frame.encode() {
            self.send_bytes([byte]);
        }
    }

    /// Whatever it is.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.try_send_bytes(bytes) {
            panic!("the gateway does not take what is sent: {error}");
        }
    }

    pub fn try_send_bytes(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The number of the next stream, which is then taken.
    pub fn next_stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Exactly these fields, pseudo-headers included, on the next stream.
    #[track_caller]
    pub fn open_with<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, fields: &[(N, V)], end: bool) -> u32 {
        let id = self.next_stream();
        let to_head = fields.iter().any(|(name, value)| name.as_ref() == b":method" && value.as_ref() == b"HEAD");
        self.protocol.stream(id).to_head = to_head;
        let block = hpack::block(fields);
        let size = self.protocol.frame_size();
        let mut pieces = block.chunks(size).collect::<Vec<_>>();
        let first = pieces.remove(0);
        let frame = Frame::headers(id, first, end);
        self.send(if pieces.is_empty() { frame } else { frame.unfinished() });
        let count = pieces.len();
        for (at, piece) in pieces.into_iter().enumerate() {
            self.send(Frame::continuation(id, piece, at + 1 == count));
        }
        id
    }

    /// The fields of an ordinary request with the authority `gateway.test`, unless `headers` has another.
    pub fn fields(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let (pseudo, regular): (Vec<_>, Vec<_>) = headers.iter().partition(|(name, _)| name.starts_with(':'));
        let mut fields = vec![(":method", method), (":scheme", self.scheme), (":path", path)];
        if !pseudo.iter().any(|(name, _)| *name == ":authority") {
            fields.push((":authority", "gateway.test"));
        }
        fields.into_iter().chain(pseudo).chain(regular).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// A request whose body is to come.
    #[track_caller]
    pub fn open(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> u32 {
        let fields = self.fields(method, path, headers);
        self.open_with(&fields, false)
    }

    /// A request without a body.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> u32 {
        let fields = self.fields(method, path, headers);
        self.open_with(&fields, true)
    }

    /// A whole request, and its response.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> H2Response {
        let body = body.as_ref();
        let id = if body.is_empty() { self.ask(method, path, headers) } else { self.open(method, path, headers) };
        if !body.is_empty() {
            self.data(id, body, true);
        }
        self.response(id)
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> H2Response {
        self.request("GET", path, &[], "")
    }

    /// DATA as windows allow, waiting for more of them. False where the stream or the connection ended before all was sent.
    #[track_caller]
    pub fn data(&mut self, id: u32, bytes: impl AsRef<[u8]>, end: bool) -> bool {
        let mut rest = bytes.as_ref();
        loop {
            let count = self.protocol.allowance(id).min(rest.len());
            if count == rest.len() {
                return self.try_send(Frame::data(id, rest, end)).is_ok();
            }
            if count > 0 {
                if self.try_send(Frame::data(id, &rest[..count], false)).is_err() {
                    return false;
                }
                rest = &rest[count..];
                continue;
            }
            match self.step(PATIENCE) {
                Ok(()) if self.protocol.streams[&id].reset.is_some() => return false,
                Ok(()) => {}
                Err(H2Broken::Closed(_)) => return false,
                Err(broken) => panic!("no window for the rest of {} bytes: {broken:?}", rest.len()),
            }
        }
    }

    /// Only what windows allow at this moment; how many bytes that was.
    #[track_caller]
    pub fn data_that_fits(&mut self, id: u32, bytes: &[u8]) -> usize {
        self.pump();
        let mut sent = 0;
        loop {
            let count = self.protocol.allowance(id).min(bytes.len() - sent);
            if count == 0 {
                return sent;
            }
            self.send(Frame::data(id, &bytes[sent..sent + count], false));
            sent += count;
        }
    }

    /// The fields with which a stream ends.
    #[track_caller]
    pub fn trailers(&mut self, id: u32, fields: &[(&str, &str)]) {
        self.send(Frame::headers(id, hpack::block(fields), true));
    }

    #[track_caller]
    pub fn reset(&mut self, id: u32, code: u32) {
        self.send(Frame::reset(id, code));
    }

    /// Lets so many bytes more come on a stream; on all together for stream 0.
    #[track_caller]
    pub fn grant(&mut self, id: u32, bytes: u32) {
        self.send(Frame::window(id, bytes));
    }

    /// The whole response; a failure if there is none.
    #[track_caller]
    pub fn response(&mut self, id: u32) -> H2Response {
        self.try_response(id).unwrap_or_else(|broken| panic!("no whole response on stream {id}: {broken:?}"))
    }

    pub fn try_response(&mut self, id: u32) -> Result<H2Response, H2Broken> {
        self.wait(id, |side| side.ended)?;
        Ok(response(&self.protocol.streams[&id]))
    }

    /// The head of the final response: status and fields.
    #[track_caller]
    pub fn head(&mut self, id: u32) -> H2Response {
        if let Err(broken) = self.wait(id, |side| side.head.is_some()) {
            panic!("no head on stream {id}: {broken:?}");
        }
        response(&self.protocol.streams[&id])
    }

    /// Waits for so many interim responses, or the head that follows them.
    #[track_caller]
    pub fn interim(&mut self, id: u32, count: usize) -> Vec<(u16, Fields)> {
        if let Err(broken) = self.wait(id, |side| side.interim.len() >= count || side.head.is_some()) {
            panic!("no {count} interim responses on stream {id}: {broken:?}");
        }
        self.protocol.streams[&id].interim.iter().map(status_of).collect()
    }

    /// An interim response has come by now.
    pub fn has_interim(&mut self, id: u32) -> bool {
        self.pump();
        self.protocol.streams.get(&id).is_some_and(|side| !side.interim.is_empty())
    }

    /// Waits until the body has so many bytes, and gives them all.
    #[track_caller]
    pub fn body(&mut self, id: u32, count: usize) -> Vec<u8> {
        if let Err(broken) = self.wait(id, |side| side.body.len() >= count) {
            let got = self.protocol.streams[&id].body.len();
            panic!("{got} of {count} bytes on stream {id}: {broken:?}");
        }
        self.protocol.streams[&id].body.clone()
    }

    /// Takes whatever is there, without waiting, and tells how long the body is by now.
    pub fn received(&mut self, id: u32) -> u64 {
        self.pump();
        self.protocol.streams.get(&id).map_or(0, |side| side.body.len() as u64)
    }

    /// The stream has ended in order.
    pub fn is_ended(&mut self, id: u32) -> bool {
        self.pump();
        self.protocol.streams.get(&id).is_some_and(|side| side.ended)
    }

    /// The code with which a stream was reset, as far as is known by now.
    pub fn was_reset(&mut self, id: u32) -> Option<u32> {
        self.pump();
        self.protocol.streams.get(&id).and_then(|side| side.reset)
    }

    /// The GOAWAYs that came so far.
    pub fn goaways(&mut self) -> Vec<Goaway> {
        self.pump();
        self.protocol.goaway.clone()
    }

    /// So many bytes of DATA may be sent on a stream, as far as is known from what was read.
    pub fn allowance(&self, id: u32) -> usize {
        self.protocol.allowance(id)
    }

    /// Takes what is there, without waiting for more.
    pub fn pump(&mut self) {
        while self.step(Duration::from_millis(1)).is_ok() {}
    }

    /// PING, and its answer: whatever was sent before has been looked at.
    #[track_caller]
    pub fn ping(&mut self) {
        if let Err(broken) = self.try_ping() {
            panic!("no answer to a ping: {broken:?}");
        }
    }

    pub fn try_ping(&mut self) -> Result<(), H2Broken> {
        self.pinged += 1;
        // Unlike any that a test sends by hand.
        let bytes = (self.pinged | 0x6b69_7400_0000_0000).to_be_bytes();
        if self.try_send(Frame::ping(bytes)).is_err() {
            // What the other side said before it closed is still to be read.
            while self.step(PATIENCE).is_ok() {}
            return Err(self.ended.clone().unwrap_or(H2Broken::Silent));
        }
        while self.protocol.pongs.last().is_none_or(|pong| *pong != bytes) {
            self.step(PATIENCE)?;
        }
        Ok(())
    }

    /// Waits for the answer to a ping that was sent as a frame, and gives what it carries.
    #[track_caller]
    pub fn pong(&mut self) -> Vec<u8> {
        let before = self.protocol.pongs.len();
        self.until("a ping comes back", |protocol| protocol.pongs.len() > before);
        self.protocol.pongs[before].clone()
    }

    /// FIN: nothing more will be sent.
    pub fn finish(&mut self) {
        self.stream.finish();
    }

    /// RST of the connection.
    pub fn abort(self) {
        self.stream.reset();
    }

    fn wait(&mut self, id: u32, done: impl Fn(&Side) -> bool) -> Result<(), H2Broken> {
        loop {
            let side = self.protocol.streams.get(&id).ok_or_else(|| H2Broken::Malformed(format!("nobody opened stream {id}")))?;
            if done(side) {
                return Ok(());
            }
            if let Some(code) = side.reset {
                return Err(H2Broken::Reset(code));
            }
            self.step(PATIENCE)?;
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Protocol) -> bool) {
        while !done(&self.protocol) {
            if let Err(broken) = self.step(PATIENCE) {
                panic!("waited in vain until {what}: {broken:?}");
            }
        }
    }

    /// The next frame, whatever it is, after its effects.
    #[track_caller]
    pub fn next_frame(&mut self) -> Frame {
        self.frame(PATIENCE).unwrap_or_else(|broken| panic!("no frame: {broken:?}"))
    }

    pub(super) fn step(&mut self, patience: Duration) -> Result<(), H2Broken> {
        self.frame(patience).map(drop)
    }

    fn frame(&mut self, patience: Duration) -> Result<Frame, H2Broken> {
        loop {
            if let Some((frame, length)) = Frame::decode(&self.buffer) {
                self.buffer.drain(..length);
                return self.take(frame);
            }
            self.fill(patience)?;
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Frame, H2Broken> {
        match self.protocol.take(&frame) {
            Ok(answers) => {
                for answer in answers {
                    // Where nobody reads any more, the end is about to be seen.
                    let _ = self.try_send(answer);
                }
                Ok(frame)
            }
            Err(why) => {
                self.ended = Some(H2Broken::Malformed(why.clone()));
                Err(H2Broken::Malformed(why))
            }
        }
    }

    fn fill(&mut self, patience: Duration) -> Result<(), H2Broken> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        self.stream.set_read_timeout(patience.max(Duration::from_millis(1)));
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count) if count > 0 => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(H2Broken::Silent),
            // An orderly end, or not: what counts is the GOAWAY before it.
            Ok(_) | Err(_) => {
                let ended = H2Broken::Closed(self.protocol.goaway.last().copied());
                self.ended = Some(ended.clone());
                Err(ended)
            }
        }
    }
}
