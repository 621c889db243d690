//! Back ends that do exactly as a closure tells them, byte by byte, and remember everything that they were sent.

use crate::door::{Door, Open};
use crate::message::{BodyReader, Fields, Frame, Head, Step, shown};
use crate::proxy::ProxyHeader;
use crate::stream::Stream;
use crate::tls::Handshake;
use crate::wait::{Latch, eventually};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// One request as the back end received it.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Fields,
    /// The head as it came, byte by byte.
    pub raw: Vec<u8>,
    /// What was read of the body.
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The body was read to its end.
    pub complete: bool,
    /// Counted from 0 in the order of their being accepted.
    pub connection: usize,
}

impl Received {
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Received>>,
    /// Bytes that the kernel took from handlers.
    written: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Received>> {
        self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How much is written before it is counted.
const PIECE: usize = 16 * 1024;

type Handler = dyn Fn(&Received, &mut Conn) + Send + Sync;

/// A back end on a port of its own. Dropped, it closes everything.
pub struct Backend {
    door: Open,
    shared: Arc<Shared>,
}

impl Backend {
    /// The closure answers; what it does not read of the body closes the connection.
    pub fn new(handler: impl Fn(&Received, &mut Conn) + Send + Sync + 'static) -> Backend {
        Backend::behind(Door::plain(), handler)
    }

    /// The same behind TLS, a unix socket, or a PROXY header.
    pub fn behind(door: Door, handler: impl Fn(&Received, &mut Conn) + Send + Sync + 'static) -> Backend {
        let shared = Arc::new(Shared::default());
        let (serving, handler): (_, Box<Handler>) = (shared.clone(), Box::new(handler));
        let door = Open::new(door, move |stream, index| serve(stream, index, &serving, &*handler));
        Backend { door, shared }
    }

    /// Says what it was asked, as JSON: method, target, headers, body length, and the body itself where it is text.
    pub fn echo() -> Backend {
        Backend::echo_behind(Door::plain())
    }

    pub fn echo_behind(door: Door) -> Backend {
        Backend::behind(door, |request, conn| {
            let body = conn.body();
            let headers: Vec<_> = request.headers.0.iter().map(|(name, value)| json!([name, value])).collect();
            let text = json!({
                "method": request.method, "target": request.target, "headers": headers,
                "body_length": body.len(), "body": String::from_utf8_lossy(&body),
            });
            conn.answer(200, "content-type: application/json\r\n", text.to_string());
        })
    }

    /// That status and nothing else.
    pub fn status(code: u16) -> Backend {
        Backend::new(move |_, conn| {
            conn.body();
            conn.answer(code, "", "");
        })
    }

    /// 200 with its name as the body: for who went where.
    pub fn named(name: &'static str) -> Backend {
        Backend::named_behind(Door::plain(), name)
    }

    pub fn named_behind(door: Door, name: &'static str) -> Backend {
        Backend::behind(door, move |_, conn| {
            conn.body();
            conn.answer(200, "", name);
        })
    }

    /// 200 with that text, once the latch is open.
    pub fn after(latch: &Latch, text: &'static str) -> Backend {
        let latch = latch.clone();
        Backend::new(move |_, conn| {
            conn.wait(&latch);
            conn.answer(200, "", text);
        })
    }

    /// 200 with so many bytes.
    pub fn bytes(count: usize) -> Backend {
        Backend::new(move |_, conn| {
            conn.body();
            conn.answer(200, "", vec![b'x'; count]);
        })
    }

    /// Whatever comes is answered with exactly these bytes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Backend {
        let bytes = bytes.into();
        Backend::new(move |_, conn| {
            conn.body();
            conn.send(&bytes);
        })
    }

    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.door.address()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where its unix socket is.
    #[track_caller]
    pub fn path(&self) -> PathBuf {
        self.door.path()
    }

    /// How hands were shaken, in the order in which that ended; with the reason where it failed.
    pub fn handshakes(&self) -> Vec<Result<Handshake, String>> {
        self.door.handshakes()
    }

    /// The one handshake that there was, and it went well.
    #[track_caller]
    pub fn handshake(&self) -> Handshake {
        let handshakes = self.handshakes();
        assert_eq!(handshakes.len(), 1, "handshakes: {handshakes:?}");
        handshakes[0].clone().unwrap_or_else(|why| panic!("the handshake failed: {why}"))
    }

    /// The PROXY headers with which connections began; with the reason where one was none.
    pub fn proxy_headers(&self) -> Vec<Result<ProxyHeader, String>> {
        self.door.proxy_headers()
    }

    /// Everything received so far, in order.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.requests().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.requests().len()
    }

    /// The one request that it has received.
    #[track_caller]
    pub fn only(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "requests at the back end: {requests:#?}");
        requests.into_iter().next().expect("one")
    }

    #[track_caller]
    pub fn last(&self) -> Received {
        self.requests().pop().expect("the back end was asked")
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests reached the back end"), || self.count() >= count);
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> u64 {
        self.door.connections()
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.door.open()
    }

    /// Bytes that handlers could write so far.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Whatever reached it that was not strict HTTP.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.complaints.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Sends FIN on every open connection, as a server does with idle ones.
    pub fn close_connections(&self) {
        for stream in self.door.streams() {
            stream.finish();
        }
    }
}

/// An address that refuses connections for as long as the socket lives: bound, and not listening.
pub fn nobody() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    (address, socket)
}

/// An address where connecting never ends: its queue is full and nobody accepts.
pub fn reluctant() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound").as_socket().expect("an IP address");
    let mut kept = vec![listener];
    // The queue takes one more than its length; whoever comes then is not answered at all.
    for _ in 0..8 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let connected = socket.connect_timeout(&address.into(), Duration::from_millis(200)).is_ok();
        kept.push(socket);
        if !connected {
            return (address, kept);
        }
    }
    panic!("the queue never filled");
}

/// One connection, in the hands of the closure that answers.
pub struct Conn {
    stream: Arc<Stream>,
    shared: Arc<Shared>,
    /// Received and not consumed.
    buffer: Vec<u8>,
    frame: Frame,
    body_read: bool,
    request: usize,
    closing: bool,
}

/// What a closure may answer with: text or bytes.
pub trait Answer {
    fn bytes(&self) -> &[u8];
}

impl<T: AsRef<[u8]>> Answer for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

impl Conn {
    /// Writes all of it; false when the other side is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let pieces = bytes.as_ref().chunks(PIECE);
        pieces.into_iter().all(|piece| {
            let sent = self.stream.write_all(piece).is_ok();
            self.shared.written.fetch_add(if sent { piece.len() as u64 } else { 0 }, Ordering::SeqCst);
            sent
        })
    }

    /// A whole response with its Content-Length. `headers`: lines, each with CRLF.
    pub fn answer(&mut self, status: u16, headers: &str, body: impl Answer) -> bool {
        let body = body.bytes();
        let to_head = self.shared.requests()[self.request].method == "HEAD";
        let length = if status == 204 || status == 304 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let mut message = format!("HTTP/1.1 {status} Answer\r\n{headers}{length}\r\n").into_bytes();
        if !to_head && status != 204 && status != 304 {
            message.extend_from_slice(body);
        }
        self.send(message)
    }

    /// The head of a chunked response.
    pub fn chunked_head(&mut self, status: u16, headers: &str) -> bool {
        self.send(format!("HTTP/1.1 {status} Answer\r\n{headers}transfer-encoding: chunked\r\n\r\n"))
    }

    pub fn chunk(&mut self, data: impl AsRef<[u8]>) -> bool {
        let data = data.as_ref();
        let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
        self.send(bytes)
    }

    /// Reads the request's body to its end; what there was of it where it broke off.
    pub fn body(&mut self) -> Vec<u8> {
        if self.body_read {
            return self.shared.requests()[self.request].body.clone();
        }
        let mut reader = BodyReader::default();
        loop {
            let step = reader.step(self.frame, &self.buffer);
            self.body_read = matches!(step, Ok(Step::End(_)));
            self.record(&reader);
            match step {
                Ok(Step::End(used)) => {
                    self.buffer.drain(..used);
                    return reader.data;
                }
                Ok(Step::More) if self.fill() > 0 => {}
                Ok(Step::More) => {
                    self.closing = true;
                    return reader.data;
                }
                Err(why) => {
                    self.complain(why);
                    self.closing = true;
                    return reader.data;
                }
            }
        }
    }

    /// Notes what has come, for the test to see at once.
    fn record(&self, reader: &BodyReader) {
        let request = &mut self.shared.requests()[self.request];
        let known = request.body.len();
        request.body.extend_from_slice(&reader.data[known..]);
        request.trailers = reader.trailers.clone();
        request.complete = self.body_read;
    }

    /// Whatever comes next, without meaning; empty at the end of the stream.
    pub fn read_some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.buffer)
    }

    /// Exactly so many bytes, unless the stream ends before.
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill() > 0 {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    /// Waits until the other side closes or breaks the connection; false if it does not in time.
    pub fn peer_leaves(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }

    /// FIN after this answer.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// FIN now; reading goes on.
    pub fn finish(&mut self) {
        self.stream.finish();
    }

    /// RST, at once.
    pub fn reset(&mut self) {
        self.stream.reset();
        self.closing = true;
    }

    /// Waits for a latch of the test's; false if it is never opened.
    pub fn wait(&mut self, latch: &Latch) -> bool {
        latch.opens()
    }

    fn fill(&mut self) -> usize {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                count
            }
            Err(_) => 0,
        }
    }

    fn complain(&self, why: String) {
        self.shared.complaints.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(why);
    }
}

fn serve(stream: Arc<Stream>, index: usize, shared: &Arc<Shared>, handler: &Handler) {
    let mut conn = Conn {
        stream,
        shared: shared.clone(),
        buffer: Vec::new(),
        frame: Frame::None,
        body_read: true,
        request: 0,
        closing: false,
    };
    while !conn.closing && conn.body_read && next_request(&mut conn, index) {
        let request = shared.requests()[conn.request].clone();
        handler(&request, &mut conn);
    }
}

/// Reads a head and notes it; false at the end.
fn next_request(conn: &mut Conn, connection: usize) -> bool {
    let head = loop {
        match Head::parse(&conn.buffer) {
            Ok(Some(head)) => break head,
            Ok(None) if conn.fill() > 0 => {}
            Ok(None) => {
                if !conn.buffer.is_empty() {
                    conn.complain(format!("a head that broke off: {}", shown(&conn.buffer)));
                }
                return false;
            }
            Err(why) => {
                conn.complain(why);
                return false;
            }
        }
    };
    conn.buffer.drain(..head.raw.len());
    conn.frame = match head.frame(Frame::None) {
        Ok(frame) => frame,
        Err(why) => {
            conn.complain(why);
            return false;
        }
    };
    conn.body_read = matches!(conn.frame, Frame::None | Frame::Length(0));
    let [method, target, version] = head.start;
    let mut requests = conn.shared.requests();
    conn.request = requests.len();
    requests.push(Received {
        method,
        target,
        version,
        headers: head.fields,
        raw: head.raw,
        body: Vec::new(),
        trailers: Fields::default(),
        complete: conn.body_read,
        connection,
    });
    drop(requests);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    #[test]
    fn a_back_end_remembers_what_it_was_sent() {
        let backend = Backend::echo();
        let mut client = Client::connect(backend.address());
        client.send("POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        let response = client.response();
        assert_eq!(response.json()["body_length"], 3);
        let second = client.get("/again");
        assert_eq!(second.json()["target"], "/again");
        assert_eq!((backend.count(), backend.connections()), (2, 1));
        assert_eq!(backend.requests()[0].body, b"abc");
        assert!(backend.complaints().is_empty());
    }

    #[test]
    fn a_reset_is_seen_as_one() {
        let backend = Backend::new(|_, conn| conn.reset());
        let mut client = Client::connect(backend.address());
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(matches!(client.try_response("GET"), Err(crate::Broken::Reset(_))));
    }

    #[test]
    fn an_address_of_nobody_refuses_and_a_reluctant_one_keeps_waiting() {
        let (address, _held) = nobody();
        assert_eq!(std::net::TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let (address, _held) = reluctant();
        let error = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
