//! What the journeys of HTTP/2 share: a gateway that answers by itself, frames of an ordinary request, and the end of a connection
//! on which a rule was broken.

use maitred_testkit::h2::{Frame, code, hpack};
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

/// The code that RFC 9113 names, or the general one: the library says PROTOCOL_ERROR in some places where a more telling code is
/// due. The connection ends in either case, and what a client does about it is the same.
pub fn or_general(code: u32) -> [u32; 2] {
    [code, code::PROTOCOL_ERROR]
}

/// Whoever sends this loses its connection, with one of these codes; the others live on.
#[track_caller]
pub fn ends_with(gateway: &Gateway, what: &str, codes: &[u32], frames: &[Frame]) {
    let mut other = gateway.h2();
    let mut client = gateway.h2();
    for frame in frames {
        // It may be closed before all of it is sent.
        let _ = client.try_send(frame.clone());
    }
    match client.try_ending() {
        Ok(goaway) => {
            let code = goaway.map(|goaway| goaway.code);
            assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: the code {code:?}, and not one of {codes:?}");
        }
        Err(broken) => panic!("{what}: the connection goes on: {broken:?}"),
    }
    assert_eq!(other.get("/").text(), "x", "{what}: and nobody else is disturbed");
}
