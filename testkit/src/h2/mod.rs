//! HTTP/2 for tests, written a second time: frames as right or wrong as wanted, a strict client, a back end that does as told. Shares
//! nothing with the gateway's; keeps no policy of its own beyond acknowledging SETTINGS and PING.

mod backend;
mod client;
mod expect;
mod frame;
pub mod hpack;
mod huffman;
mod protocol;
mod response;
mod stream;

pub use backend::{H2Backend, H2Options, H2Received};
pub use client::H2Client;
pub use frame::{Frame, PREFACE, code, flag, kind, setting};
pub use protocol::Goaway;
pub use response::{H2Broken, H2Response};
pub use stream::H2Stream;
