//! What the journeys of HTTP/2 share: a gateway that answers by itself, frames of an ordinary request, and the end of a connection
//! on which a rule was broken.

use maitred_testkit::h2::{Frame, hpack};
use maitred_testkit::{Backend, Gateway, gateway, gateway_to};

pub const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "gateway.test")];

/// A gateway that answers by itself.
pub fn plain() -> Gateway {
    with_limits("")
}

pub fn with_limits(limits: &str) -> Gateway {
    let yaml = format!("limits: {{ {limits} }}\napis: {{ all: {{ routes: [ {{ match: ANY /, respond: {{ text: x }} }} ] }} }}");
    gateway(&yaml, &[])
}

/// A gateway whose back end never answers: streams stay open.
pub fn never() -> (Gateway, Backend) {
    let backend = Backend::new(|_, conn| {
        conn.peer_leaves();
    });
    (gateway_to(&backend), backend)
}

pub fn get(stream: u32) -> Frame {
    Frame::headers(stream, hpack::block(&GET), true)
}

/// Its body is to come.
pub fn post(stream: u32) -> Frame {
    Frame::headers(stream, hpack::block(&[&[(":method", "POST")], &GET[1..]].concat()), false)
}

/// Whoever sends this loses its connection, with this code; the others live on.
#[track_caller]
pub fn ends_with(gateway: &Gateway, what: &str, code: u32, frames: &[Frame]) {
    let mut other = gateway.h2();
    let mut client = gateway.h2();
    for frame in frames {
        // It may be closed before all of it is sent.
        let _ = client.try_send(frame.clone());
    }
    match client.try_ending() {
        Ok(goaway) => {
            assert_eq!(goaway.map(|goaway| goaway.code), Some(code), "{what}: the code of GOAWAY");
        }
        Err(broken) => panic!("{what}: the connection goes on: {broken:?}"),
    }
    assert_eq!(other.get("/").text(), "x", "{what}: and nobody else is disturbed");
}
