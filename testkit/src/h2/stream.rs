//! One stream at a back end, in the hands of the closure that answers.

use super::backend::{Wire, lock};
use super::frame::{Frame, code};
use super::hpack;
use super::protocol::{Protocol, Side};
use crate::backend::Answer;
use crate::wait::{Latch, PATIENCE};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub struct H2Stream {
    wire: Arc<Wire>,
    id: u32,
    to_head: bool,
    /// How much of the body the closure has taken.
    taken: usize,
}

impl H2Stream {
    pub(super) fn new(wire: Arc<Wire>, id: u32, to_head: bool) -> H2Stream {
        H2Stream { wire, id, to_head, taken: 0 }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// 1xx.
    pub fn interim(&mut self, status: u16, headers: &[(&str, &str)]) -> bool {
        self.fields(status, headers, false)
    }

    /// The head of a response whose body is to come, or that has none.
    pub fn head(&mut self, status: u16, headers: &[(&str, &str)], end: bool) -> bool {
        self.fields(status, headers, end)
    }

    fn fields(&mut self, status: u16, headers: &[(&str, &str)], end: bool) -> bool {
        let status = status.to_string();
        let all = [&[(":status", status.as_str())], headers].concat();
        self.block(&hpack::block(&all), end)
    }

    /// A field block as it is, cut to the frames that the other side takes.
    pub fn block(&mut self, block: &[u8], end: bool) -> bool {
        let size = lock(&self.wire.protocol).frame_size();
        let mut pieces = block.chunks(size);
        let mut frames = vec![Frame::headers(self.id, pieces.next().unwrap_or_default(), end)];
        let rest: Vec<&[u8]> = pieces.collect();
        if !rest.is_empty() {
            frames[0] = frames[0].clone().unfinished();
        }
        for (at, piece) in rest.iter().enumerate() {
            frames.push(Frame::continuation(self.id, *piece, at + 1 == rest.len()));
        }
        self.wire.send(&frames)
    }

    /// A whole response with its Content-Length.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: impl Answer) -> bool {
        let body = body.bytes();
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        if status != 204 && status != 304 {
            all.push(("content-length", &length));
        }
        if self.to_head || body.is_empty() || status == 204 || status == 304 {
            return self.head(status, &all, true);
        }
        self.head(status, &all, false) && self.data(body, true)
    }

    /// DATA as windows allow, waiting for more of them; false when the other side is gone or has given up.
    pub fn data(&mut self, bytes: impl AsRef<[u8]>, end: bool) -> bool {
        let mut rest = bytes.as_ref();
        loop {
            let mut count = 0;
            let blocked = |protocol: &mut Protocol| {
                count = protocol.allowance(self.id).min(rest.len());
                count == 0 && !rest.is_empty() && !protocol.streams.get(&self.id).is_none_or(Side::is_over)
            };
            if !self.wait_while(blocked) || self.is_over() {
                return false;
            }
            // The window is taken and the frame written in one turn, so that nobody comes between.
            let turn = self.wire.turn();
            let mut protocol = lock(&self.wire.protocol);
            let count = protocol.allowance(self.id).min(rest.len());
            if count == 0 && !rest.is_empty() {
                continue;
            }
            let frame = Frame::data(self.id, &rest[..count], end && count == rest.len());
            protocol.sent(&frame);
            drop(protocol);
            if !self.wire.write(&frame.encode()) {
                return false;
            }
            drop(turn);
            self.wire.shared.written.fetch_add(count as u64, Ordering::SeqCst);
            rest = &rest[count..];
            if rest.is_empty() {
                return true;
            }
        }
    }

    /// The fields with which the response ends.
    pub fn trailers(&mut self, fields: &[(&str, &str)]) -> bool {
        self.wire.send(&[Frame::headers(self.id, hpack::block(fields), true)])
    }

    /// RST_STREAM.
    pub fn reset(&mut self, code: u32) -> bool {
        self.wire.send(&[Frame::reset(self.id, code)])
    }

    /// GOAWAY for the connection; streams up to `last` are still answered.
    pub fn goaway(&mut self, last: u32, code: u32) -> bool {
        self.wire.send(&[Frame::goaway(last, code)])
    }

    /// Any frame, right or wrong.
    pub fn frame(&mut self, frame: Frame) -> bool {
        self.wire.send(&[frame])
    }

    /// The same, in one piece.
    pub fn frames(&mut self, frames: &[Frame]) -> bool {
        self.wire.send(frames)
    }

    /// PING, and whether it is answered.
    pub fn ping(&mut self) -> bool {
        let bytes = u64::from(self.id).to_be_bytes();
        let came = |protocol: &mut Protocol| !protocol.pongs.iter().any(|pong| *pong == bytes);
        self.wire.send(&[Frame::ping(bytes)]) && self.wait_while(came)
    }

    pub fn send_bytes(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let _turn = self.wire.turn();
        self.wire.write(bytes.as_ref())
    }

    /// Lets so many bytes more come on this stream and on the connection.
    pub fn grant(&mut self, bytes: u32) -> bool {
        self.wire.send(&[Frame::window(self.id, bytes), Frame::window(0, bytes)])
    }

    /// The whole body, once it is there; what there was of it where it broke off.
    pub fn body(&mut self) -> Vec<u8> {
        self.wait_while(|protocol| protocol.streams.get(&self.id).is_some_and(|side| !side.ended && side.reset.is_none()));
        self.side(|side| side.body.clone()).unwrap_or_default()
    }

    /// Waits until so many bytes may be sent in one frame; false where they never may.
    pub fn wait_for_window(&mut self, count: usize) -> bool {
        self.wait_while(|protocol| {
            protocol.allowance(self.id) < count && !protocol.streams.get(&self.id).is_none_or(Side::is_over)
        }) && !self.is_over()
    }

    /// What has come since the last time, once there is anything; `None` at the end.
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        let taken = self.taken;
        self.wait_while(|protocol| {
            protocol.streams.get(&self.id).is_some_and(|side| side.body.len() == taken && !side.ended && side.reset.is_none())
        });
        let piece = self.side(|side| side.body[taken..].to_vec()).unwrap_or_default();
        self.taken += piece.len();
        (!piece.is_empty()).then_some(piece)
    }

    /// Exactly so many bytes more of the body, unless it ends before.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let wanted = self.taken + count;
        self.wait_while(|protocol| {
            protocol.streams.get(&self.id).is_some_and(|side| side.body.len() < wanted && !side.ended && side.reset.is_none())
        });
        let piece = self.side(|side| side.body[self.taken..wanted.min(side.body.len())].to_vec()).unwrap_or_default();
        self.taken += piece.len();
        piece
    }

    /// Waits until whoever asked gives up; the code of that, or `None` where the connection ended or nothing happened in time.
    pub fn cancelled(&mut self) -> Option<u32> {
        self.wait_while(|protocol| protocol.streams.get(&self.id).is_some_and(|side| side.reset.is_none()));
        self.side(|side| side.reset).flatten()
    }

    /// Waits for a latch of the test's; false if it is never opened.
    pub fn wait(&mut self, latch: &Latch) -> bool {
        latch.opens()
    }

    /// FIN on the whole connection.
    pub fn close(&mut self) {
        self.wire.finish();
    }

    /// RST on the whole connection.
    pub fn abort(&mut self) {
        self.wire.reset();
    }

    /// A closure that returns has no more to say.
    pub(super) fn leave(&mut self) {
        if !self.is_over() && self.side(|side| !side.finished).unwrap_or(false) {
            self.reset(code::INTERNAL_ERROR);
        }
    }

    /// The other side has reset it, this side has, or the connection ended.
    pub fn is_over(&self) -> bool {
        self.wire.over.load(Ordering::SeqCst) || self.side(Side::is_over).unwrap_or(true)
    }

    fn side<T>(&self, look: impl FnOnce(&Side) -> T) -> Option<T> {
        lock(&self.wire.protocol).streams.get(&self.id).map(look)
    }

    /// Waits until the condition no longer holds; false where the connection ended, or patience did.
    fn wait_while(&self, mut condition: impl FnMut(&mut Protocol) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE * 3;
        let mut protocol = lock(&self.wire.protocol);
        while condition(&mut protocol) {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.wire.over.load(Ordering::SeqCst) || left.is_zero() {
                return false;
            }
            protocol = match self.wire.changed.wait_timeout(protocol, left) {
                Ok((protocol, _)) => protocol,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }
}

impl Side {
    fn is_over(&self) -> bool {
        self.reset.is_some() || self.abandoned
    }
}

#[cfg(test)]
mod tests {
    use crate::h2::{Frame, H2Backend, H2Broken, H2Client, H2Options, code, setting};
    use crate::tls::{Authority, ClientTls, ServerTls};
    use crate::wait::{eventually, stays};

    #[test]
    fn a_client_and_a_back_end_of_the_kit_understand_each_other() {
        let backend = H2Backend::new(|request, stream| {
            stream.interim(103, &[("link", "</a>")]);
            let body = stream.body();
            stream.head(200, &[("x-path", &request.path)], false);
            stream.data(&body, false);
            stream.trailers(&[("x-sum", "3")]);
        });
        let mut client = H2Client::connect(backend.address());
        let stream = client.open("POST", "/a?b", &[("x-odd", "1")]);
        client.data(stream, "abc", false);
        client.trailers(stream, &[("x-end", "yes")]);
        let response = client.response(stream);
        assert_eq!((response.status, response.text().as_str(), response.header("x-path")), (200, "abc", Some("/a?b")));
        assert_eq!((response.trailers.get("x-sum"), response.interim[0].0), (Some("3"), 103));
        let received = backend.only();
        assert_eq!((received.authority.as_deref(), received.header("x-odd")), (Some("gateway.test"), Some("1")));
        assert_eq!((received.trailers.get("x-end"), received.complete), (Some("yes"), true));
        assert!(backend.complaints().is_empty(), "{:?}", backend.complaints());
    }

    #[test]
    fn streams_overlap_and_windows_hold() {
        let backend = H2Backend::new(|_, stream| {
            stream.answer(200, &[], vec![b'x'; 200_000]);
        });
        let mut client = H2Client::connect(backend.address());
        let (first, second) = (client.ask("GET", "/", &[]), client.ask("GET", "/", &[]));
        stays("no window is left", || {
            client.pump();
            backend.written()
        });
        assert_eq!(backend.written(), 65_535);
        client.flowing();
        assert_eq!((client.response(first).body.len(), client.response(second).body.len()), (200_000, 200_000));
        assert_eq!((backend.connections(), backend.most_at_once()), (1, 2));
    }

    #[test]
    fn a_back_end_holds_its_windows_back_and_counts() {
        let options = H2Options { flowing: false, settings: vec![(setting::INITIAL_WINDOW_SIZE, 10)], ..H2Options::default() };
        let backend = H2Backend::with(options, |_, stream| {
            let first = stream.exactly(10);
            stream.grant(5);
            let rest = stream.body();
            stream.answer(200, &[], format!("{} {}", first.len(), rest.len()));
        });
        let mut client = H2Client::connect(backend.address());
        assert_eq!(client.request("POST", "/", &[], "0123456789abcde").text(), "10 15");
        assert_eq!(backend.received(), 15);
    }

    #[test]
    fn resets_and_the_end_are_seen_as_what_they_are() {
        let backend = H2Backend::new(|request, stream| match request.path.as_str() {
            "/reset" => drop(stream.reset(code::ENHANCE_YOUR_CALM)),
            "/goaway" => {
                stream.goaway(stream.id(), code::NO_ERROR);
                stream.answer(200, &[], "last");
                stream.close();
            }
            _ => assert_eq!(stream.cancelled(), Some(code::CANCEL)),
        });
        let mut client = H2Client::connect(backend.address());
        let reset = client.ask("GET", "/reset", &[]);
        client.expect_reset(reset, code::ENHANCE_YOUR_CALM);
        let waiting = client.ask("GET", "/wait", &[]);
        client.reset(waiting, code::CANCEL);
        eventually("the back end knows", || backend.requests().iter().any(|request| request.reset == Some(code::CANCEL)));
        let last = client.ask("GET", "/goaway", &[]);
        assert_eq!(client.response(last).text(), "last");
        assert_eq!(client.expect_goaway(code::NO_ERROR), last);
    }

    #[test]
    fn what_breaks_the_rules_is_complained_of() {
        let backend = H2Backend::named("x");
        let mut client = H2Client::connect(backend.address());
        client.send(Frame::data(1, "on a stream that nobody opened", true));
        client.expect_goaway(code::PROTOCOL_ERROR);
        assert_eq!(backend.complaints().len(), 1);
    }

    #[test]
    fn it_goes_over_tls_too() {
        let authority = Authority::new("the test's");
        let backend = H2Backend::tls(ServerTls::new(&authority.server(&["a.test"])), |_, stream| {
            stream.answer(200, &[], vec![b'x'; 500_000]);
        });
        let tls = ClientTls::new(&authority, "a.test").h2();
        for resumed in [false, true] {
            let mut client = H2Client::over(tls.connect(backend.address()));
            client.flowing();
            assert_eq!(client.get("/").body.len(), 500_000);
            assert_eq!(client.tls().map(|handshake| handshake.resumed), Some(resumed));
        }
        let stranger = ClientTls::new(&Authority::new("a stranger's"), "a.test").h2();
        assert!(stranger.try_connect(backend.address()).is_err());
        assert_eq!(backend.handshakes()[0].as_ref().unwrap().sni.as_deref(), Some("a.test"));
    }

    #[test]
    fn the_last_goaway_is_told_with_the_end() {
        let backend = H2Backend::new(|_, stream| {
            stream.goaway(0, code::INTERNAL_ERROR);
            stream.close();
        });
        let mut client = H2Client::connect(backend.address());
        let stream = client.ask("GET", "/", &[]);
        let outcome = client.try_response(stream);
        assert!(matches!(outcome, Err(H2Broken::Closed(Some(goaway))) if goaway.code == code::INTERNAL_ERROR), "{outcome:?}");
    }
}
