//! Connections of QUIC from their first datagram to their first request. Who may come in is decided here, and what a handshake may cost.

use super::sockets::{DatagramShare, Ids};
use super::{Handshake, Open, Serving, Shared, code};
use crate::server::{Door, Ends, ServerLimits, Service, with_timer};
use crate::timers::Timer;
use crate::tls::{Part, ServerTls, TlsProblem};
use crate::worker::Worker;
use maitred_core::{AddressText, TlsInfo};
use maitred_wire::H3Code;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    ZeroRttAccepted,
};
use rustls::pki_types::CertificateDer;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// Streams beside requests: control, QPACK's two, and some that mean nothing.
const UNI_STREAMS: u32 = 8;
/// What a connection has sent and nobody has acknowledged: so much a client that does not read costs.
const SEND_BYTES: u64 = 1024 * 1024;
/// Datagrams of a connection that is not accepted yet, and of all of them.
const WAITING_BYTES: u64 = 16 * 1024;
const WAITING_BYTES_IN_ALL: u64 = 4 * 1024 * 1024;
/// Connections that wait to be accepted.
const WAITING: usize = 256;
/// Above this share of `limits.handshakes` a client has to show that it gets what is sent to its address (RFC 9000 §8.1.2).
const UNPROVED_SHARE: u32 = 4;

/// Bounds of a connection, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct QuicLimits {
    /// Requests at once.
    pub streams: u32,
    /// A stream's flow-control window, in bytes; the connection's is that of all its streams.
    pub window: u32,
    /// No datagram for so long is the end.
    pub idle: Duration,
}

/// What a listener offers over QUIC, ready to be used by every worker.
pub struct Quic {
    config: Arc<ServerConfig>,
}

impl Quic {
    pub fn new(tls: &ServerTls, limits: &QuicLimits) -> Result<Quic, TlsProblem> {
        let unfit = |what: String| TlsProblem { part: Part::Certificate, what, help: None };
        let crypto = QuicServerConfig::try_from(tls.over_quic()).map_err(|error| unfit(format!("not for QUIC: {error}")))?;
        let window = u64::from(limits.window);
        let all = VarInt::from_u64(window.saturating_mul(limits.streams.into())).unwrap_or(VarInt::MAX);
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
            .stream_receive_window(VarInt::from_u32(limits.window))
            .receive_window(all)
            .send_window(SEND_BYTES)
            .max_idle_timeout(Some(IdleTimeout::try_from(limits.idle).unwrap_or_else(|_| VarInt::MAX.into())))
            // Nothing of ours is in them.
            .datagram_receive_buffer_size(None);
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport))
            .max_incoming(WAITING)
            .incoming_buffer_size(WAITING_BYTES)
            .incoming_buffer_size_total(WAITING_BYTES_IN_ALL);
        Ok(Quic { config: Arc::new(config) })
    }
}

/// A worker's part of a listener.
pub struct QuicEndpoint {
    endpoint: Endpoint,
    /// Nobody new is let in.
    leaving: Cell<bool>,
    /// Told then: connections say goodbye.
    left: Notify,
    /// Connections that are not greeted.
    greeting: Cell<u32>,
}

impl QuicEndpoint {
    /// Within the worker's runtime.
    pub fn start(share: DatagramShare, quic: &Quic) -> io::Result<Rc<QuicEndpoint>> {
        let number = share.number();
        let mut config = EndpointConfig::default();
        config.cid_generator(move || Box::new(Ids(number)));
        let offered = Some((*quic.config).clone());
        let endpoint = Endpoint::new_with_abstract_socket(config, offered, share.into_socket()?, Arc::new(TokioRuntime))?;
        Ok(Rc::new(QuicEndpoint { endpoint, leaving: Cell::new(false), left: Notify::new(), greeting: Cell::new(0) }))
    }

    /// Lets clients in until it is told to leave, and the last of them is gone. `door`: what the listener asks at the moment.
    pub async fn serve<S: Service>(self: Rc<Self>, door: impl Fn() -> Option<Arc<Door>>, worker: Rc<Worker>, service: Rc<S>) {
        while let Some(incoming) = self.endpoint.accept().await {
            let limits = service.limits();
            let door = if self.leaving.get() { None } else { door() };
            let Some(door) = door.filter(|_| self.greeting.get() < limits.handshakes.saturating_mul(2)) else {
                // Clients then try without QUIC.
                incoming.refuse();
                continue;
            };
            let many = self.greeting.get() >= limits.handshakes.div_ceil(UNPROVED_SHARE);
            if many && !incoming.remote_address_validated() {
                let _ = incoming.retry();
                continue;
            }
            worker.shard().connections_accepted.add(1);
            let (endpoint, worker, service) = (self.clone(), worker.clone(), service.clone());
            spawn_local(async move { endpoint.take(incoming, door, limits, worker, service).await });
        }
    }

    /// Lets nobody in any more. Who is in is told, and may finish.
    pub fn leave(self: &Rc<Self>) {
        if self.leaving.replace(true) {
            return;
        }
        self.left.notify_waiters();
        let this = self.clone();
        spawn_local(async move {
            this.endpoint.wait_idle().await;
            this.cut();
        });
    }

    /// Ends every connection.
    pub fn cut(&self) {
        self.endpoint.close(code(H3Code::NoError), b"");
    }

    async fn take<S: Service>(
        self: Rc<Self>,
        incoming: Incoming,
        door: Arc<Door>,
        limits: Rc<ServerLimits>,
        worker: Rc<Worker>,
        service: Rc<S>,
    ) {
        let greeting = Greeting::new(&self);
        let (Some(tls), Some(quic)) = (&door.tls, &door.quic) else { return incoming.refuse() };
        let timer = Timer::new(&worker.timers);
        timer.arm(worker.now() + limits.handshake_timeout);
        let peer = incoming.remote_address();
        let Ok(place) = with_timer(&timer, worker.handshakes.enter(limits.handshakes)).await else {
            worker.shard().tls_failed.add(1);
            return;
        };
        let Ok(_seat) = service.seat(peer) else { return incoming.refuse() };
        let _open = Open::new(worker.clone());
        let Ok(Ok((connection, early))) = with_timer(&timer, begin(incoming, tls, quic)).await else {
            worker.shard().tls_failed.add(1);
            return;
        };
        let mut local = self.endpoint.local_addr().unwrap_or(peer);
        if let Some(ip) = connection.local_ip() {
            local.set_ip(ip);
        }
        let shared = Rc::new(Shared {
            ends: Ends {
                peer,
                peer_text: AddressText::new(peer.ip().to_canonical()),
                local: SocketAddr::new(local.ip(), local.port()),
                tls: Some(Rc::new(info(tls, &connection))),
                to_https: false,
            },
            connection,
            worker: worker.clone(),
            streams: Default::default(),
            seen: Default::default(),
            heads: Default::default(),
            control: Default::default(),
            handshake: Handshake::default(),
            tally: Default::default(),
        });
        drop(door);
        let serving = Serving { shared: shared.clone(), service, timer: Timer::new(&worker.timers), farewell: None, next: 0 };
        let finish = async {
            let in_time = match early {
                // What it says is for clients; whether there is a connection tells that the handshake is done.
                Some(early) => with_timer(&timer, early).await.is_ok() && shared.connection.close_reason().is_none(),
                None => true,
            };
            if !in_time {
                worker.shard().tls_failed.add(1);
                shared.connection.close(code(H3Code::NoError), b"no handshake in time");
            } else {
                worker.shard().tls_full.add(1);
            }
            shared.handshake.finish(in_time);
            timer.disarm();
            drop((place, greeting));
        };
        let (mut run, mut finish) = (std::pin::pin!(serving.run(&self.left)), std::pin::pin!(finish));
        let mut finished = false;
        poll_fn(|cx| {
            if !finished {
                finished = finish.as_mut().poll(cx).is_ready();
            }
            match run.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        // Whoever waits for the handshake waits for nothing.
        shared.handshake.finish(false);
    }
}

/// A connection whose handshake is not over.
struct Greeting(Rc<QuicEndpoint>);

impl Greeting {
    fn new(endpoint: &Rc<QuicEndpoint>) -> Greeting {
        endpoint.greeting.set(endpoint.greeting.get() + 1);
        Greeting(endpoint.clone())
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.0.greeting.set(self.0.greeting.get() - 1);
    }
}

/// As soon as the client may be answered: at once, if what it sends early may be read, with the handshake still to come.
async fn begin(
    incoming: Incoming,
    tls: &ServerTls,
    quic: &Quic,
) -> Result<(Connection, Option<ZeroRttAccepted>), quinn::ConnectionError> {
    let mut connecting = incoming.accept_with(quic.config.clone())?;
    if tls.asks_clients {
        return Ok((connecting.await?, None));
    }
    connecting.handshake_data().await?;
    match connecting.into_0rtt() {
        Ok((connection, early)) => Ok((connection, Some(early))),
        Err(connecting) => Ok((connecting.await?, None)),
    }
}

fn info(tls: &ServerTls, connection: &Connection) -> TlsInfo {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let server_name = data.and_then(|data| data.server_name);
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let names = if tls.asks_clients { tls.names_for(server_name.as_deref()) } else { None };
    TlsInfo {
        version: "TLSv1.3",
        server_name: server_name.map(Into::into),
        client_chain: chain.into_iter().flat_map(|chain| *chain).map(|one| one.as_ref().into()).collect(),
        covers: names.map(|names| Box::new(move |host: &str| names.covers(host)) as maitred_core::exchange::Covers),
        offers_h3: false,
    }
}
