//! What the tests stand on: a gateway in this process, back ends that do exactly as they are told, clients that send exactly
//! these bytes and read strictly. Shares no parser with the gateway: what the gateway gets wrong must not look right here.
//!
//! Threads and blocking sockets throughout. Nothing sleeps to wait for another: latches, channels, and conditions with a deadline.

mod backend;
mod client;
mod gateway;
mod message;
mod wait;

pub use backend::{Answer, Backend, Conn, Received, nobody, reluctant};
pub use client::{Broken, Client, Response};
pub use gateway::{Gateway, gateway, gateway_to, refused};
pub use message::{Fields, Head};
pub use wait::{Latch, PATIENCE, eventually, stays};
