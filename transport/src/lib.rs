//! Sockets: dialling, TLS, the HTTP/1.1 and HTTP/2 drivers for both sides, pools, timers. Only this crate knows tokio's sockets, so that a
//! completion-based driver can stand beside them. Chooses no route and decides no policy.

mod challenges;
mod client;
mod counters;
mod http2;
mod input;
mod listener;
mod probe;
mod raw;
mod reader;
mod server;
mod socket;
mod timers;
mod tls;
mod tunnel;
mod upstream;
mod worker;

pub use challenges::HttpChallenges;
pub use client::{Begin, Carrier, Due, Failure, Limit, Places};
pub use counters::{Counters, CountersSpec};
pub use input::BUFFER_BYTES;
pub use listener::{Accepted, Acceptor, Listening, Parcel, bind, bind_unix, is_free};
pub use probe::{Probed, Prober, Question};
#[cfg(feature = "http3")]
pub use server::{DatagramShare, Quic, QuicEndpoint, QuicLimits, bind_datagrams};
pub use server::{Door, H2Limits, ProxySources, ServerLimits, Service, serve};
pub use socket::Socket;
pub use timers::{Timer, Timers};
pub use tls::{
    CertificateNames, ClientTls, ClientTlsSpec, Expiry, IssuedCertificates, Part, ServerTls, ServerTlsSpec, TicketKeys,
    TlsProblem, expiries, is_nameless, tls_words,
};
pub use tunnel::Open as OpenTunnel;
pub use upstream::{
    AffinityCookie, Avoid, Breaker, BreakerView, Dial, Lease, Order, Picked, Pools, ProxyVersion, RequestPlace, Target,
    TargetCell, TargetSet, Upstream, UpstreamShared, UpstreamSpec, Wanted,
};
pub use worker::Worker;
