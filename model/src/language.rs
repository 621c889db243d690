//! The keys of the configuration, declared once: from here come the decoder, the schema and its descriptions. Whether names exist and
//! routes collide is `check`'s work.

mod apis;
mod authorizers;
mod cedar;
mod counters;
mod endpoints;
mod functions;
mod identity;
mod limits;
mod listeners;
mod protection;
mod root;
mod routes;
mod tls;
mod upstreams;
mod values;
mod websocket;

pub use endpoints::parse_endpoint;
pub(crate) use identity::{ANONYMOUS, NONE};
pub(crate) use root::{RawDocument, into_document};
pub use values::parse_address;
