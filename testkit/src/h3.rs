//! Clients of HTTP/3. `H3Client` is the crate `h3`, an implementation that the gateway does not use; `H3Raw` sends exactly these bytes, and
//! reads no more of an answer than its status. Both over QUIC by `quinn`, on threads of their own.

mod holding;

pub use holding::Holding;

use crate::h2::hpack::integer;
use crate::tls::ClientTls;
use crate::wait::PATIENCE;
use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3_quinn::{BidiStream, OpenStreams};
use http::{HeaderMap, Method, Request};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Codes of RFC 9114 §8.1.
pub mod code {
    pub const NO_ERROR: u64 = 0x100;
    pub const STREAM_CREATION_ERROR: u64 = 0x103;
    pub const CLOSED_CRITICAL_STREAM: u64 = 0x104;
    pub const FRAME_UNEXPECTED: u64 = 0x105;
    pub const FRAME_ERROR: u64 = 0x106;
    pub const EXCESSIVE_LOAD: u64 = 0x107;
    pub const SETTINGS_ERROR: u64 = 0x109;
    pub const MISSING_SETTINGS: u64 = 0x10a;
    pub const REQUEST_REJECTED: u64 = 0x10b;
    pub const REQUEST_CANCELLED: u64 = 0x10c;
    pub const REQUEST_INCOMPLETE: u64 = 0x10d;
    pub const MESSAGE_ERROR: u64 = 0x10e;
    pub const INTERNAL_ERROR: u64 = 0x102;
    pub const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
    pub const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads"))
}

#[track_caller]
fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = async { tokio::time::timeout(PATIENCE, future).await };
    runtime().block_on(bounded).unwrap_or_else(|_| panic!("{what}: nothing for {PATIENCE:?}"))
}

/// What a client of a test does with windows.
fn endpoint(tls: &ClientTls, window: Option<u32>) -> Endpoint {
    let _inside = runtime().enter();
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a UDP socket");
    let crypto = QuicClientConfig::try_from(tls.config()).expect("TLS 1.3");
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    if let Some(window) = window {
        transport.stream_receive_window(VarInt::from_u32(window));
    }
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    endpoint
}

pub struct H3Client {
    endpoint: Endpoint,
    pub connection: Connection,
    send: SendRequest<OpenStreams, Bytes>,
    /// Ends with the connection.
    driver: JoinHandle<String>,
    authority: String,
    /// Whether what was sent early was taken.
    early: Option<quinn::ZeroRttAccepted>,
}

impl H3Client {
    #[track_caller]
    pub fn connect(address: SocketAddr, tls: &ClientTls) -> H3Client {
        H3Client::try_connect(address, tls).unwrap_or_else(|error| panic!("no HTTP/3 with {address}: {error}"))
    }

    pub fn try_connect(address: SocketAddr, tls: &ClientTls) -> Result<H3Client, ConnectionError> {
        H3Client::try_with_window(address, tls, None)
    }

    /// Takes so many bytes of a stream before they are read.
    #[track_caller]
    pub fn with_window(address: SocketAddr, tls: &ClientTls, window: u32) -> H3Client {
        H3Client::try_with_window(address, tls, Some(window)).unwrap_or_else(|error| panic!("no HTTP/3 with {address}: {error}"))
    }

    fn try_with_window(address: SocketAddr, tls: &ClientTls, window: Option<u32>) -> Result<H3Client, ConnectionError> {
        let endpoint = endpoint(tls, window);
        let connection = within("a handshake", async { endpoint.connect(address, tls.name()).expect("a name").await })?;
        H3Client::over(endpoint, connection, tls, None)
    }

    /// Speaks before the handshake is over. `None`: no server has allowed it.
    #[track_caller]
    pub fn early(address: SocketAddr, tls: &ClientTls) -> Option<H3Client> {
        let endpoint = endpoint(tls, None);
        let made = {
            let _inside = runtime().enter();
            endpoint.connect(address, tls.name()).expect("a name").into_0rtt()
        };
        let (connection, early) = made.ok()?;
        H3Client::over(endpoint, connection, tls, Some(early)).ok()
    }

    fn over(
        endpoint: Endpoint,
        connection: Connection,
        tls: &ClientTls,
        early: Option<quinn::ZeroRttAccepted>,
    ) -> Result<H3Client, ConnectionError> {
        let made = within("HTTP/3", async {
            let (mut driver, send) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await.ok()?;
            let driver = tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await.to_string() });
            Some((driver, send))
        });
        let Some((driver, send)) = made else { return Err(within("why it failed", connection.closed())) };
        Ok(H3Client { endpoint, connection, send, driver, authority: tls.name().to_owned(), early })
    }

    /// Whether the server took what came early; waits for the handshake.
    #[track_caller]
    pub fn was_early(&mut self) -> bool {
        let early = self.early.take().expect("a client that was early");
        within("a handshake", early)
    }

    /// Of the names in requests, from here on.
    pub fn authority(&mut self, authority: &str) {
        self.authority = authority.to_owned();
    }

    /// The other side's certificate is this.
    pub fn peer_is(&self, identity: &crate::tls::Identity) -> bool {
        let shown = self.connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        shown.is_some_and(|chain| chain.first() == identity.chain().first())
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> H3Response {
        self.request("GET", path, &[], "")
    }

    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> H3Response {
        let mut stream = self.open(method, path, fields);
        if !body.as_ref().is_empty() {
            stream.send(body);
        }
        stream.finish();
        stream.response()
    }

    /// A request whose body is to come.
    #[track_caller]
    pub fn open(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> H3Stream {
        self.try_open(method, path, fields).unwrap_or_else(|error| panic!("no stream: {error}"))
    }

    pub fn try_open(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> Result<H3Stream, String> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(format!("https://{}{path}", self.authority));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let inner = within("a stream", self.send.send_request(request)).map_err(|error| error.to_string())?;
        Ok(H3Stream { inner })
    }

    /// The code with which the gateway ends the connection.
    #[track_caller]
    pub fn closed(&self) -> u64 {
        closed(&self.connection)
    }

    /// Why the connection ended, in the words of the crate.
    #[track_caller]
    pub fn ended(self) -> String {
        within("the end of the connection", self.driver).expect("a driver")
    }

    /// From another address, as if a network had changed.
    #[track_caller]
    pub fn move_away(&self) {
        let _inside = runtime().enter();
        self.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").expect("a UDP socket")).expect("another socket");
    }
}

#[track_caller]
fn closed(connection: &Connection) -> u64 {
    match within("the end of the connection", connection.closed()) {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("the connection ended by itself: {other}"),
    }
}

pub struct H3Stream {
    inner: RequestStream<BidiStream<Bytes>, Bytes>,
}

#[derive(Debug)]
pub struct H3Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl H3Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl H3Stream {
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("nobody takes it: {error}"));
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), String> {
        let bytes = Bytes::copy_from_slice(bytes.as_ref());
        within("a window", self.inner.send_data(bytes)).map_err(|error| error.to_string())
    }

    #[track_caller]
    pub fn trailers(&mut self, fields: &[(&'static str, &'static str)]) {
        let trailers = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        within("trailers", self.inner.send_trailers(trailers)).expect("trailers");
    }

    #[track_caller]
    pub fn finish(&mut self) {
        within("an end", self.inner.finish()).unwrap_or_else(|error| panic!("no end: {error}"));
    }

    pub fn reset(&mut self) {
        self.inner.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
        self.inner.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    }

    /// Head, body and trailers.
    #[track_caller]
    pub fn response(&mut self) -> H3Response {
        self.try_response().unwrap_or_else(|error| panic!("no response: {error}"))
    }

    pub fn try_response(&mut self) -> Result<H3Response, String> {
        let mut response = self.try_head()?;
        while let Some(piece) = self.read_some()? {
            response.body.extend_from_slice(&piece);
        }
        response.trailers = within("trailers", self.inner.recv_trailers()).map_err(|error| error.to_string())?;
        Ok(response)
    }

    /// What the trailers say, behind the body's end.
    #[track_caller]
    pub fn end_of(&mut self, name: &str) -> Option<String> {
        let trailers = within("trailers", self.inner.recv_trailers()).expect("no reset")?;
        Some(trailers.get(name)?.to_str().ok()?.to_owned())
    }

    /// The head alone.
    pub fn try_head(&mut self) -> Result<H3Response, String> {
        let response = within("a response", self.inner.recv_response()).map_err(|error| error.to_string())?;
        let (parts, ()) = response.into_parts();
        Ok(H3Response { status: parts.status.as_u16(), headers: parts.headers, body: Vec::new(), trailers: None })
    }

    #[track_caller]
    pub fn head(&mut self) -> H3Response {
        self.try_head().unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// A piece of the body; `None`: its end.
    pub fn read_some(&mut self) -> Result<Option<Vec<u8>>, String> {
        let piece = within("a body", self.inner.recv_data()).map_err(|error| error.to_string())?;
        Ok(piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()).to_vec()))
    }
}

/// Sends bytes.
pub struct H3Raw {
    _endpoint: Endpoint,
    pub connection: Connection,
    /// A control stream must stay open.
    _control: Option<SendStream>,
}

/// A stream of bytes.
pub struct RawStream {
    pub send: SendStream,
    pub recv: RecvStream,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawEnd {
    /// With an end, behind these bytes.
    Whole(Vec<u8>),
    Reset(u64),
    /// The connection did.
    Closed(u64),
}

impl H3Raw {
    /// With a control stream, on which SETTINGS were sent.
    #[track_caller]
    pub fn connect(address: SocketAddr, tls: &ClientTls) -> H3Raw {
        let mut client = H3Raw::silent(address, tls);
        client._control = Some(client.uni(&[0x00, 0x04, 0x00]));
        client
    }

    /// Sends nothing by itself.
    #[track_caller]
    pub fn silent(address: SocketAddr, tls: &ClientTls) -> H3Raw {
        H3Raw::over(address, tls, None)
    }

    /// Sends nothing by itself, and takes so many bytes of a stream before they are read.
    #[track_caller]
    pub fn with_window(address: SocketAddr, tls: &ClientTls, window: u32) -> H3Raw {
        H3Raw::over(address, tls, Some(window))
    }

    #[track_caller]
    fn over(address: SocketAddr, tls: &ClientTls, window: Option<u32>) -> H3Raw {
        let endpoint = endpoint(tls, window);
        let connection = within("a handshake", async { endpoint.connect(address, tls.name()).expect("a name").await })
            .unwrap_or_else(|error| panic!("no QUIC with {address}: {error}"));
        H3Raw { _endpoint: endpoint, connection, _control: None }
    }

    /// A stream of one direction that begins with these bytes.
    #[track_caller]
    pub fn uni(&self, bytes: &[u8]) -> SendStream {
        within("a stream", async {
            let mut stream = self.connection.open_uni().await.expect("a stream");
            stream.write_all(bytes).await.expect("a window");
            stream
        })
    }

    /// A request's stream that begins with these bytes.
    #[track_caller]
    pub fn stream(&self, bytes: &[u8]) -> RawStream {
        self.try_stream(bytes).expect("a stream")
    }

    pub fn try_stream(&self, bytes: &[u8]) -> Result<RawStream, String> {
        within("a stream", async {
            let (mut send, recv) = self.connection.open_bi().await.map_err(|error| error.to_string())?;
            send.write_all(bytes).await.map_err(|error| error.to_string())?;
            Ok(RawStream { send, recv })
        })
    }

    /// Sends these bytes, and the end.
    #[track_caller]
    pub fn ask(&self, bytes: &[u8]) -> RawEnd {
        let mut stream = self.stream(bytes);
        stream.finish();
        stream.end()
    }

    /// Whether the gateway's control stream brings these bytes.
    #[track_caller]
    pub fn control_bytes(&self, wanted: &[u8]) -> bool {
        within("a control stream", async {
            let mut control = self.connection.accept_uni().await.expect("a stream");
            let mut bytes = Vec::new();
            loop {
                let Ok(Some(chunk)) = control.read_chunk(usize::MAX, true).await else { return false };
                bytes.extend_from_slice(&chunk.bytes);
                assert_eq!(bytes[..2], [0x00, 0x04], "a control stream begins with SETTINGS");
                if bytes.windows(wanted.len()).any(|part| part == wanted) {
                    return true;
                }
            }
        })
    }

    #[track_caller]
    pub fn closed(&self) -> u64 {
        closed(&self.connection)
    }
}

impl RawStream {
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        within("a window", self.send.write_all(bytes)).expect("somebody who takes it");
    }

    /// How much of these bytes is taken until nothing more is for a moment.
    pub fn accepts(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let send = &mut self.send;
            let writing = async { tokio::time::timeout(Duration::from_millis(300), send.write(&bytes[sent..])).await };
            match runtime().block_on(writing) {
                Ok(Ok(count)) => sent += count,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sent
    }

    /// So many bytes of what comes.
    #[track_caller]
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within("bytes", self.recv.read_exact(&mut bytes)).expect("so many bytes");
        bytes
    }

    pub fn finish(&mut self) {
        let _ = self.send.finish();
    }

    pub fn reset(&mut self, code: u64) {
        let code = VarInt::from_u64(code).expect("a code");
        let _ = self.send.reset(code);
        let _ = self.recv.stop(code);
    }

    /// The code with which the other side wants no more of this stream.
    #[track_caller]
    pub fn stopped(&mut self) -> Option<u64> {
        within("the end of the stream", self.send.stopped()).ok().flatten().map(VarInt::into_inner)
    }

    #[track_caller]
    pub fn end(&mut self) -> RawEnd {
        let mut bytes = Vec::new();
        within("the end of the stream", async {
            loop {
                match self.recv.read_chunk(usize::MAX, true).await {
                    Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
                    Ok(None) => return RawEnd::Whole(std::mem::take(&mut bytes)),
                    Err(ReadError::Reset(code)) => return RawEnd::Reset(code.into_inner()),
                    Err(ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close))) => {
                        return RawEnd::Closed(close.error_code.into_inner());
                    }
                    Err(error) => panic!("the stream ended in another way: {error}"),
                }
            }
        })
    }
}

impl RawEnd {
    /// What follows the first HEADERS frame.
    #[track_caller]
    pub fn after_first(&self) -> RawEnd {
        let RawEnd::Whole(bytes) = self else { panic!("no response: {self:?}") };
        let (length, at) = varint(&bytes[1..]);
        RawEnd::Whole(bytes[1 + at + length..].to_vec())
    }

    /// Of a response, its status.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let RawEnd::Whole(bytes) = self else { panic!("no response: {self:?}") };
        let (length, at) = varint(&bytes[1..]);
        assert_eq!(bytes[0], 0x01, "a response begins with HEADERS");
        let section = &bytes[1 + at..1 + at + length];
        assert_eq!(section[..2], [0, 0], "no dynamic table");
        // RFC 9204 Appendix A.
        match section[2] {
            0xd8 => 103,
            0xd9 => 200,
            0xda => 304,
            0xdb => 404,
            0xdc => 503,
            0xff => [100, 204, 206, 302, 400, 403, 421, 425, 500][usize::from(section[3])],
            0x5f => std::str::from_utf8(&section[5..8]).expect("digits").parse().expect("a status"),
            other => panic!("a status that is not understood: {other:x}"),
        }
    }
}

fn varint(bytes: &[u8]) -> (usize, usize) {
    let length = 1 << (bytes[0] >> 6);
    let value = bytes[1..length].iter().fold(usize::from(bytes[0] & 0x3f), |value, byte| value << 8 | usize::from(*byte));
    (value, length)
}

/// A field section of literals, as it stands: what is wrong in it is wrong on the wire.
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        integer(name.len(), 3, 0x20, &mut out);
        out.extend_from_slice(name.as_bytes());
        integer(value.len(), 7, 0x00, &mut out);
        out.extend_from_slice(value.as_bytes());
    }
    out
}

/// A frame of any type, its length in four bytes.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&(0x8000_0000 | payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// HEADERS with these fields.
pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(0x01, &section(fields))
}
