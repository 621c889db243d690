//! The client's side: from an accepted stream to the protocol that it speaks. What stands before the first request is here: a PROXY
//! header, the TLS handshake, and whether it is HTTP/1.1 or HTTP/2. Knows no routes; `Service` answers.

mod answer;
mod http1;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod patience;
mod sending;
mod streams;
mod under_way;

#[cfg(feature = "http3")]
pub use http3::{DatagramShare, Quic, QuicEndpoint, QuicLimits, bind_datagrams};

use crate::input::{BUFFER_BYTES, Input};
use crate::socket::Socket;
use crate::timers::Timer;
use crate::tls::{ACME_PROTOCOL, ServerTls, TlsStream};
use crate::worker::Worker;
use maitred_core::{AddressText, Exchange, Fault, Response, Scheme, TlsInfo};
use maitred_model::IpNet;
use maitred_wire::{HeadLimits, Preface, ProxyParsed, read_proxy, starts_preface};
use rustls::{HandshakeKind, ProtocolVersion};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Bounds of a connection, from the configuration.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    pub head: HeadLimits,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
    pub idle_timeout: Duration,
    /// For a PROXY header, a TLS handshake, HTTP/2's preface.
    pub handshake_timeout: Duration,
    /// TLS handshakes that this worker has in progress at once.
    pub handshakes: u32,
    pub tunnel_idle_timeout: Duration,
    pub tunnel_lifetime: Duration,
    /// A FIN after a complete request means that nobody waits.
    pub half_close_aborts: bool,
    pub h2: H2Limits,
}

/// Bounds of an HTTP/2 connection.
#[derive(Debug, Clone, Copy)]
pub struct H2Limits {
    /// Streams at once.
    pub streams: u32,
    /// A stream's flow-control window, in bytes; the connection's is that of all its streams.
    pub window: u32,
    /// Streams reset by the client, or for its errors, in `METER_PERIOD`.
    pub resets: u32,
    /// Frames that carry nothing, in `METER_PERIOD`.
    pub control_frames: u32,
}

/// Whoever answers requests.
pub trait Service: 'static {
    /// A connection that is counted as long as this lives.
    type Seat;
    /// `Err`: there is no place for this address; what to say to it.
    fn seat(&self, peer: SocketAddr) -> Result<Self::Seat, &'static [u8]>;
    /// In force for the next request.
    fn limits(&self) -> Rc<ServerLimits>;
    fn call(&self, exchange: &mut Exchange) -> impl Future<Output = Response>;
    /// The answer to a head that could not be read.
    fn refuse(&self, exchange: &mut Exchange, fault: Fault) -> Response;
    /// The exchange is over: count and log it.
    fn finish(&self, exchange: &mut Exchange, now: Instant);
    /// The answer when a response broke off before anything of it went out.
    fn fail(&self, exchange: &mut Exchange, fault: Fault) -> Response;
    /// No further request is wanted on any connection.
    fn is_draining(&self) -> bool;
    /// The text of a Date header for `now`.
    fn date(&self, now: Instant, out: &mut Vec<u8>);
}

/// What a listener asks of those who come in, ready to be used by every worker.
#[derive(Default)]
pub struct Door {
    pub tls: Option<ServerTls>,
    /// Peers whose connections begin with a PROXY header.
    pub proxies: Option<ProxySources>,
    /// Every request is answered with a redirect to https.
    pub to_https: bool,
    /// HTTP/3 at the same port.
    #[cfg(feature = "http3")]
    pub quic: Option<Quic>,
}

/// Whose PROXY headers are believed.
pub enum ProxySources {
    /// Every peer's: the listener is a Unix socket.
    All,
    From(Vec<IpNet>),
}

impl ProxySources {
    fn contains(&self, peer: SocketAddr) -> bool {
        match self {
            ProxySources::All => true,
            ProxySources::From(networks) => networks.iter().any(|network| network.contains(peer.ip().to_canonical())),
        }
    }
}

/// The two ends of a client's connection. Made once, told to every exchange.
pub(crate) struct Ends {
    peer: SocketAddr,
    peer_text: AddressText,
    local: SocketAddr,
    tls: Option<Rc<TlsInfo>>,
    to_https: bool,
}

impl Ends {
    fn introduce(&self, exchange: &mut Exchange) {
        exchange.peer = self.peer;
        exchange.peer_text = self.peer_text;
        exchange.local = self.local;
        exchange.scheme = if self.tls.is_some() { Scheme::Https } else { Scheme::Http };
        exchange.tls = self.tls.clone();
        exchange.to_https = self.to_https;
    }
}

/// For who speaks plain HTTP where TLS is spoken.
const NOT_PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 35\r\nConnection: close\r\n\r\n\
this port speaks TLS: use https://\n";

/// Why a connection ended before its first request; nobody is told.
struct NotGreeted;

/// Serves one connection until it ends.
pub async fn serve<S: Service>(
    socket: Socket,
    (peer, local): (SocketAddr, SocketAddr),
    door: Arc<Door>,
    worker: Rc<Worker>,
    service: Rc<S>,
) {
    let timer = Timer::new(&worker.timers);
    let mut greeting = Greeting { socket, peer, local, input: Input::default(), timer, worker: worker.clone() };
    let limits = service.limits();
    if greeting.read_proxy_header(&door, &limits).await.is_err() {
        return;
    }
    let _seat = match service.seat(greeting.peer) {
        Ok(seat) => seat,
        Err(words) => return greeting.turn_away(&door, words).await,
    };
    let Ok((mut greeting, tls, http2)) = greeting.secure(&door, &limits).await else { return };
    let http2 = match http2 {
        Some(agreed) => agreed,
        None => match greeting.listen_for_preface(&limits).await {
            Ok(preface) => preface,
            Err(NotGreeted) => return,
        },
    };
    let Greeting { socket, peer, local, input, timer, .. } = greeting;
    let peer_text = AddressText::new(peer.ip().to_canonical());
    let ends = Ends { peer, peer_text, local, tls, to_https: door.to_https };
    drop(door);
    if http2 {
        // Boxed: few connections need it, and all would be as large.
        Box::pin(http2::serve(socket, ends, input, timer, worker, service)).await;
    } else {
        http1::serve(socket, ends, input, timer, worker, &*service).await;
    }
}

/// A connection that has not said anything that counts.
struct Greeting {
    socket: Socket,
    peer: SocketAddr,
    local: SocketAddr,
    input: Input,
    timer: Timer,
    worker: Rc<Worker>,
}

impl Greeting {
    /// One more read; fails at the end, at an error, and when time is up.
    async fn read_more(&mut self) -> Result<(), NotGreeted> {
        let Greeting { socket, input, timer, worker, .. } = self;
        poll_fn(|cx| match input.poll_fill(cx, socket, worker, BUFFER_BYTES) {
            Poll::Ready(Ok(1..)) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(NotGreeted)),
            Poll::Pending => timer.poll(cx).map(|()| Err(NotGreeted)),
        })
        .await
    }

    /// A peer that is to send a PROXY header and does not is closed: its address would be taken for the client's.
    async fn read_proxy_header(&mut self, door: &Door, limits: &ServerLimits) -> Result<(), NotGreeted> {
        if !door.proxies.as_ref().is_some_and(|sources| sources.contains(self.peer)) {
            return Ok(());
        }
        self.timer.arm(self.worker.now() + limits.handshake_timeout);
        // Who it is, and so whether there is a place, is known behind the header: till then this bounds them.
        let worker = self.worker.clone();
        let _place = with_timer(&self.timer, worker.handshakes.enter(limits.handshakes)).await?;
        loop {
            self.read_more().await?;
            match read_proxy(self.input.data()) {
                Ok(ProxyParsed::Partial) => {}
                Ok(ProxyParsed::Complete { length, source }) => {
                    if let Some((source, destination)) = source {
                        (self.peer, self.local) = (source, destination);
                    }
                    self.input.consume(length, &self.worker);
                    return Ok(());
                }
                Err(error) => {
                    tracing::debug!(peer = %self.peer, ?error, "a connection without a valid PROXY header was closed");
                    return Err(NotGreeted);
                }
            }
        }
    }

    /// Best effort: it fits the socket's buffer, or nobody reads it. Under TLS there is no common language yet.
    async fn turn_away(self, door: &Door, words: &'static [u8]) {
        if door.tls.is_none() {
            poll_fn(|cx| {
                let _ = self.socket.poll_write(cx, words);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// The handshake, where the listener has one. Gives what was proved, and whether HTTP/2 was agreed upon; `None`: it was not
    /// spoken of.
    async fn secure(
        self,
        door: &Door,
        limits: &ServerLimits,
    ) -> Result<(Greeting, Option<Rc<TlsInfo>>, Option<bool>), NotGreeted> {
        let Some(tls) = &door.tls else { return Ok((self, None, None)) };
        let Greeting { socket, peer, local, mut input, timer, worker } = self;
        timer.arm(worker.now() + limits.handshake_timeout);
        let Ok(place) = with_timer(&timer, worker.handshakes.enter(limits.handshakes)).await else {
            worker.shard().tls_failed.add(1);
            return Err(NotGreeted);
        };
        let Ok(connection) = rustls::ServerConnection::new(tls.config.clone()) else { return Err(NotGreeted) };
        let Some(raw) = socket.into_raw() else { return Err(NotGreeted) };
        let mut stream = TlsStream::new(raw, connection, worker.clone());
        stream.preload(input.data());
        input.release(&worker);
        let shaken = with_timer(&timer, shake(&mut stream)).await;
        drop(place);
        let shard = worker.shard();
        if let Err(error) = shaken.unwrap_or_else(|NotGreeted| Err(io::ErrorKind::TimedOut.into())) {
            shard.tls_failed.add(1);
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            return Err(NotGreeted);
        }
        let connection = stream.connection();
        match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => shard.tls_resumed.add(1),
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => shard.tls_full.add(1),
        }
        // The authority has seen the certificate that it asked for, and says no more (RFC 8737 §3).
        if connection.alpn_protocol() == Some(ACME_PROTOCOL) {
            return Err(NotGreeted);
        }
        // Without a word on it the first bytes tell, as on a plain listener.
        let agreed = connection.alpn_protocol().map(|protocol| protocol == b"h2");
        let info = Rc::new(info(tls, connection));
        timer.disarm();
        let greeting = Greeting { socket: stream.into(), peer, local, input, timer, worker };
        Ok((greeting, Some(info), agreed))
    }

    /// HTTP/2 by prior knowledge begins with words that no HTTP/1.1 request begins with (RFC 9113 §3.3).
    async fn listen_for_preface(&mut self, limits: &ServerLimits) -> Result<bool, NotGreeted> {
        self.timer.arm(self.worker.now() + limits.header_timeout);
        loop {
            if !self.input.is_empty() {
                match starts_preface(self.input.data()) {
                    Preface::Yes => return Ok(true),
                    Preface::No => return Ok(false),
                    Preface::Maybe => {}
                }
            }
            self.read_more().await?;
        }
    }
}

/// Who speaks plain HTTP is told so. Best effort: what follows its first bytes is not read.
async fn shake(stream: &mut TlsStream) -> io::Result<()> {
    if poll_fn(|cx| stream.poll_is_plain(cx)).await? {
        let _ = poll_fn(|cx| Poll::Ready(stream.poll_say_plainly(cx, NOT_PLAIN))).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is a request without TLS"));
    }
    poll_fn(|cx| stream.poll_handshake(cx)).await
}

async fn with_timer<T>(timer: &Timer, future: impl Future<Output = T>) -> Result<T, NotGreeted> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => timer.poll(cx).map(|()| Err(NotGreeted)),
    })
    .await
}

fn info(tls: &ServerTls, connection: &rustls::Connection) -> TlsInfo {
    let server_name = match connection {
        rustls::Connection::Server(server) => server.server_name(),
        rustls::Connection::Client(_) => None,
    };
    let names = if tls.asks_clients { tls.names_for(server_name) } else { None };
    TlsInfo {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        server_name: server_name.map(Into::into),
        client_chain: connection.peer_certificates().unwrap_or_default().iter().map(|one| one.as_ref().into()).collect(),
        covers: names.map(|names| Box::new(move |host: &str| names.covers(host)) as maitred_core::exchange::Covers),
        offers_h3: tls.offers_h3,
    }
}
