//! What the tests stand on: a gateway in this process, back ends that do exactly as they are told, clients that send exactly
//! these bytes and read strictly. Shares no parser with the gateway: what the gateway gets wrong must not look right here.
//!
//! Threads and blocking sockets throughout. Nothing sleeps to wait for another: latches, channels, and conditions with a deadline.

mod acme;
mod backend;
mod client;
mod door;
mod folder;
mod gateway;
pub mod h2;
#[cfg(feature = "http3")]
pub mod h3;
mod message;
mod proxy;
mod stream;
mod tls;
mod wait;
pub mod websocket;

pub use acme::{AcmeServer, Refusal, Validation};
pub use backend::{Answer, Backend, Conn, Received, nobody, reluctant};
pub use client::{Broken, Client, Response};
pub use door::Door;
pub use folder::Folder;
pub use gateway::{Gateway, gateway, gateway_in, gateway_to, gateway_to_h2c, gateway_with, refused};
pub use h2::{H2Backend, H2Broken, H2Client, H2Options, H2Received, H2Response, H2Stream};
#[cfg(feature = "http3")]
pub use h3::{H3Client, H3Raw, H3Response, H3Stream, Holding};
pub use maitred_control::discovery::testing::Scripted;
pub use maitred_control::{Change, Settings, Store};
pub use maitred_core::{ConnectionView, Unreached};
pub use message::{Fields, Head};
pub use proxy::{ProxyHeader, proxy_v1, proxy_v2, proxy_v2_local};
pub use stream::Stream;
pub use tls::{Authority, ClientTls, Handshake, Identity, ServerTls, TlsVersion};
pub use wait::{Latch, PATIENCE, eventually, stays};
