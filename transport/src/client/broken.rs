//! What goes wrong with a back end over HTTP/1.1, as faults and in words. Whether a request may go out again is not decided here.

use crate::reader::ReadError;
use maitred_core::{Fault, Kind};
use maitred_wire::ResponseRefusal;
use std::io;

const HTTP2_THERE: &str = "the back end does not speak HTTP/1.1 but HTTP/2: set `protocol: h2c`, or `h2` where it is `https`";

/// A back end that speaks HTTP/2 alone begins with its SETTINGS, whatever it was asked (RFC 9113, section 3.4): a frame of type 4, of less
/// than 64 KiB, without flags, of the connection.
fn is_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, _, _, 4, 0, 0, 0, 0, 0, ..])
}

/// A head that is none. `bytes`: what came.
pub(super) fn refused(refusal: ResponseRefusal, bytes: &[u8]) -> Fault {
    Fault::new(Kind::UpstreamProtocol, if is_settings(bytes) { HTTP2_THERE } else { refusal.0 })
}

/// The connection ended before a head was whole.
pub(super) fn without_head(has_begun: bool) -> Fault {
    let detail = match has_begun {
        false => "the back end closed the connection without an answer",
        true => "the back end closed the connection within its head",
    };
    Fault::new(Kind::UpstreamReset, detail)
}

pub(super) fn connection(error: &io::Error) -> Fault {
    Fault::new(Kind::UpstreamReset, format!("the back end's connection broke: {error}"))
}

pub(super) fn unwritten(error: &io::Error) -> Fault {
    Fault::new(Kind::UpstreamReset, format!("the request could not be written: {error}"))
}

pub(super) fn body(error: ReadError) -> Fault {
    match error {
        ReadError::Truncated => Fault::new(Kind::UpstreamReset, "the back end closed the connection in the middle of its body"),
        ReadError::Io(error) => {
            Fault::new(Kind::UpstreamReset, format!("the back end's connection broke in the middle of its body: {error}"))
        }
        ReadError::Coding(why) => Fault::new(Kind::UpstreamProtocol, why),
    }
}
