//! HTTP/2 (RFC 9113) for both sides: one connection, its streams, their windows. `wire` reads and writes frames and HPACK; what a
//! stream means is for `server/http2.rs` and `client/http2.rs`.

mod channel;
mod connection;
mod flood;
mod heads;
mod receiving;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use channel::{Break, By, Channel, News};
pub(crate) use connection::{Connection, Turn};
pub(crate) use heads::{Answer, Hpack, accept_of, request};
#[cfg(feature = "http3")]
pub(crate) use heads::{Qpack, interim, trailers};
pub(crate) use state::{Arrival, Terms};
