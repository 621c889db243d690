//! Listeners, router, `handle()`, reload and drain: the floor where a request's journey is. Start reading in `handle.rs`.
//! Reads no files and answers no admin calls; the binary wires those.

mod access_log;
mod aws;
mod cedar;
mod compile;
mod connections;
#[cfg(feature = "http3")]
mod datagrams;
mod door;
mod explain;
mod functions;
mod gateway;
mod handle;
mod handover;
mod hosts;
mod identity;
mod last_words;
mod limits;
mod offered;
mod plans;
mod pulse;
mod router;
mod secure;
mod service;
mod snapshot;
mod told;
mod warnings;
mod worker;
mod world;

pub use access_log::LogTarget;
pub use compile::{State, also_wrong, compile};
pub use explain::{Asked, Explanation, Preflight, explain};
pub use gateway::{Gateway, Options};
pub use handover::Handover;
pub use maitred_integrations::function::errands::Errands;
pub use offered::Offered;
pub use pulse::Pulse;
pub use snapshot::{RouteView, Snapshot, authority, endpoint_url};
pub use warnings::warnings;
