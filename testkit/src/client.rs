//! A client that sends exactly these bytes, and reads responses strictly: what a lenient client would forgive is a failure here.

use crate::message::{BodyReader, Fields, Frame, Head, Step, shown};
use crate::stream::Stream;
use crate::tls::{ClientTls, Handshake};
use crate::wait::PATIENCE;
use socket2::{Domain, Socket, Type};
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// One whole response.
#[derive(Clone)]
pub struct Response {
    pub status: u16,
    pub version: String,
    pub reason: String,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The head as it came.
    pub raw_head: Vec<u8>,
    /// It ended with the connection.
    pub until_close: bool,
}

impl Response {
    /// The value of a field that stands there at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The last response of this connection, by its own words.
    pub fn closes(&self) -> bool {
        self.headers.members("connection").iter().any(|option| option.eq_ignore_ascii_case("close"))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", String::from_utf8_lossy(&self.raw_head), shown(&self.body))?;
        if !self.trailers.0.is_empty() {
            write!(f, " with trailers {:?}", self.trailers)?;
        }
        Ok(())
    }
}

/// Why there is no whole response.
#[derive(Debug, Clone)]
pub enum Broken {
    /// Closed before a byte of it.
    Closed,
    /// RST, with what had come by then.
    Reset(Vec<u8>),
    /// Closed within the head.
    HeadCut(Vec<u8>),
    /// Closed within the body: so much of it came.
    BodyCut(Vec<u8>),
    /// Nothing came for `PATIENCE`.
    Silent(Vec<u8>),
    /// It is no HTTP, or could be read in two ways.
    Malformed(String),
}

pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    /// How the stream ended, for whoever reads again.
    ended: Option<Result<(), ErrorKind>>,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client::over(Stream::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")))
    }

    #[track_caller]
    pub fn connect_tls(address: SocketAddr, tls: &ClientTls) -> Client {
        Client::over(tls.connect(address))
    }

    #[track_caller]
    pub fn connect_unix(path: &Path) -> Client {
        Client::over(Stream::connect_unix(path).unwrap_or_else(|error| panic!("cannot connect to {}: {error}", path.display())))
    }

    /// From an address of its own: all of 127.0.0.0/8 is this machine.
    #[track_caller]
    pub fn connect_from(from: IpAddr, address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("a loopback address");
        socket.connect_timeout(&address.into(), PATIENCE).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Client::over(Stream::plain(socket).expect("a socket that works"))
    }

    /// With a small receive buffer, so that what it does not read soon stops the sender.
    #[track_caller]
    pub fn connect_slow_reader(address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a buffer size");
        socket.connect_timeout(&address.into(), PATIENCE).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Client::over(Stream::plain(socket).expect("a socket that works"))
    }

    pub fn over(stream: Stream) -> Client {
        Client { stream, buffer: Vec::new(), ended: None }
    }

    #[track_caller]
    pub fn local(&self) -> SocketAddr {
        self.stream.local().expect("connected by TCP")
    }

    /// What was agreed upon by TLS.
    #[track_caller]
    pub fn handshake(&self) -> &Handshake {
        self.stream.handshake().expect("a TLS connection")
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.try_send(bytes) {
            panic!("the gateway does not take what is sent: {error}");
        }
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// As much as goes in without waiting; how many bytes did.
    pub fn send_what_fits(&mut self, bytes: &[u8]) -> usize {
        self.stream.write_what_fits(bytes)
    }

    #[track_caller]
    pub fn renew_keys(&mut self) {
        self.stream.renew_keys().unwrap_or_else(|error| panic!("no new keys: {error}"));
    }

    /// A request with Host `gateway.test`. `headers`: lines, each with CRLF. A body gets its Content-Length.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &str) -> Response {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let has_host = headers.lines().any(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("host:")));
        let host = if has_host { "" } else { "Host: gateway.test\r\n" };
        self.send(format!("{method} {target} HTTP/1.1\r\n{host}{headers}{length}\r\n{body}"));
        self.response_to(method)
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, "", "")
    }

    /// The next response; a failure if there is none, or none that is whole.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response(method) {
            Ok(response) => response,
            Err(broken) => panic!("no whole response to {method}: {broken:?}"),
        }
    }

    pub fn try_response(&mut self, method: &str) -> Result<Response, Broken> {
        let head = self.try_head()?;
        let status: u16 = head.start[1].parse().map_err(|_| Broken::Malformed(format!("the status {:?}", head.start[1])))?;
        let malformed = |why: &str| Broken::Malformed(format!("{why}: {}", shown(&head.raw)));
        if !matches!(head.start[0].as_str(), "HTTP/1.1" | "HTTP/1.0") || head.start[1].len() != 3 {
            return Err(malformed("no status line"));
        }
        if status < 200 && status != 101 {
            return Err(malformed("an interim response that the test did not ask for"));
        }
        let announced = head.frame(Frame::Close).map_err(Broken::Malformed)?;
        let frame = match status {
            101 | 204 if announced != Frame::Close => return Err(malformed("a body announced where none can be")),
            101 | 204 | 304 => Frame::None,
            _ if method == "HEAD" => Frame::None,
            _ => announced,
        };
        let mut reader = BodyReader::default();
        loop {
            match reader.step(frame, &self.buffer).map_err(Broken::Malformed)? {
                Step::End(used) => {
                    self.buffer.drain(..used);
                    break;
                }
                Step::More => match self.fill() {
                    Ok(0) if frame == Frame::Close => {
                        self.buffer.clear();
                        break;
                    }
                    Ok(0) => return Err(Broken::BodyCut(reader.data)),
                    Ok(_) => {}
                    Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(Broken::Silent(reader.data)),
                    Err(_) => return Err(Broken::Reset(reader.data)),
                },
            }
        }
        let [version, _, reason] = head.start;
        Ok(Response {
            status,
            version,
            reason,
            headers: head.fields,
            body: reader.data,
            trailers: reader.trailers,
            raw_head: head.raw,
            until_close: frame == Frame::Close,
        })
    }

    /// The next head alone, for 1xx and for those who read the body by hand.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        self.try_head().unwrap_or_else(|broken| panic!("no head: {broken:?}"))
    }

    pub fn try_head(&mut self) -> Result<Head, Broken> {
        loop {
            if let Some(head) = Head::parse(&self.buffer).map_err(Broken::Malformed)? {
                self.buffer.drain(..head.raw.len());
                return Ok(head);
            }
            match self.fill() {
                Ok(0) if self.buffer.is_empty() => return Err(Broken::Closed),
                Ok(0) => return Err(Broken::HeadCut(self.buffer.clone())),
                Ok(_) => {}
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(Broken::Silent(self.buffer.clone())),
                Err(_) => return Err(Broken::Reset(self.buffer.clone())),
            }
        }
    }

    /// Calls `then` again and again until something can be read or the connection ended: for clocks, which a test may turn a
    /// moment before the gateway looks at them.
    #[track_caller]
    pub fn until_readable(&mut self, mut then: impl FnMut()) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            then();
            if !self.quiet_for(Duration::from_millis(30)) {
                return;
            }
            assert!(Instant::now() < deadline, "nothing to read for {PATIENCE:?}, whatever was done about it");
        }
    }

    /// Whether nothing comes, not even an end, for so long.
    fn quiet_for(&mut self, time: Duration) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        self.stream.set_read_timeout(time);
        let filled = self.fill();
        self.stream.set_read_timeout(PATIENCE);
        matches!(filled, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Nothing is there to be read at this moment, and the connection is open.
    pub fn is_quiet(&mut self) -> bool {
        self.quiet_for(Duration::from_millis(1))
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            match self.fill() {
                Ok(more) if more > 0 => {}
                other => panic!("{count} bytes wanted, {other:?} after {}", shown(&self.buffer)),
            }
        }
        self.buffer.drain(..count).collect()
    }

    /// All that comes until the connection ends, and whether it ended in order.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<u8>, bool) {
        loop {
            match self.fill() {
                Ok(0) => return (std::mem::take(&mut self.buffer), true),
                Ok(_) => {}
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the connection stays open for {PATIENCE:?}; received {}", shown(&self.buffer))
                }
                Err(_) => return (std::mem::take(&mut self.buffer), false),
            }
        }
    }

    /// The gateway closes, and says nothing more.
    #[track_caller]
    pub fn closed(&mut self) {
        let (rest, _) = self.read_to_end();
        assert!(rest.is_empty(), "the connection should end here, but more comes: {}", shown(&rest));
    }

    /// FIN: nothing more will be sent.
    pub fn finish(&mut self) {
        self.stream.finish();
    }

    /// RST.
    pub fn reset(self) {
        self.stream.reset();
    }

    fn fill(&mut self) -> Result<usize, ErrorKind> {
        if let Some(ended) = self.ended {
            return ended.map(|()| 0);
        }
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                if count == 0 {
                    self.ended = Some(Ok(()));
                }
                Ok(count)
            }
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                    self.ended = Some(Err(error.kind()));
                }
                Err(error.kind())
            }
        }
    }
}
