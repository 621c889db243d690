//! Sockets: dialling, the HTTP/1.1 drivers for both sides, pools, timers. Only this crate knows tokio's sockets, so that a
//! completion-based driver can stand beside them. Chooses no route and decides no policy.

mod client;
mod input;
mod listener;
mod reader;
mod server;
mod socket;
mod timers;
mod tunnel;
mod upstream;
mod worker;

pub use client::{Begin, ClientConnection, Failure};
pub use input::BUFFER_BYTES;
pub use listener::{Acceptor, another, bind};
pub use server::{ServerLimits, Service, serve};
pub use socket::Socket;
pub use timers::{Timer, Timers};
pub use upstream::{Lease, Pools, Target, TargetCell, TargetSet, Upstream, UpstreamSpec, wheel};
pub use worker::Worker;
