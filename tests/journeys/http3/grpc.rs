//! gRPC over HTTP/3: what the gateway itself has to say, it says as gRPC does, at the end of a response that has begun as well.

use super::secured_with;
use maitred_testkit::{Backend, H3Client, Latch, stays};
use std::time::Duration;

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];
const MESSAGE: [u8; 6] = [0, 0, 0, 0, 1, b'x'];

#[test]
fn a_fault_ahead_of_an_answer_is_in_its_head() {
    let secured = secured_with("", "", Backend::new(|_, conn| conn.reset()));
    let response = secured.h3().request("POST", "/kit.Kit/Unary", &GRPC, MESSAGE);
    assert_eq!((response.status, response.header("grpc-status"), response.body.len()), (200, Some("14"), 0), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/grpc"));
}

#[test]
fn a_back_end_that_breaks_off_is_told_of_at_the_end() {
    let latch = Latch::new();
    let seen = latch.clone();
    let backend = Backend::new(move |_, conn| {
        conn.body();
        conn.chunked_head(200, "content-type: application/grpc\r\n");
        conn.chunk(MESSAGE);
        conn.wait(&seen);
        conn.reset();
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut stream = client.open("POST", "/kit.Kit/Half", &GRPC);
    stream.send(MESSAGE);
    stream.finish();
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_some(), Ok(Some(MESSAGE.to_vec())));
    latch.open();
    assert_eq!(stream.read_some(), Ok(None), "an end, and no reset");
    assert_eq!(stream.end_of("grpc-status").as_deref(), Some("14"));
    assert!(stream_breaks(&mut client), "who speaks no gRPC sees a reset");
}

fn stream_breaks(client: &mut H3Client) -> bool {
    let mut plain = client.open("GET", "/", &[]);
    plain.finish();
    plain.try_response().is_err()
}

#[test]
fn a_deadline_cuts_a_stream_that_has_begun() {
    let backend = Backend::new(|_, conn| {
        conn.body();
        conn.chunked_head(200, "content-type: application/grpc\r\n");
        conn.chunk(MESSAGE);
        conn.peer_leaves();
    });
    let secured = secured_with("", "", backend);
    let mut client = secured.h3();
    let mut stream = client.open("POST", "/kit.Kit/Half", &[&GRPC[..], &[("grpc-timeout", "3S")]].concat());
    stream.finish();
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_some(), Ok(Some(MESSAGE.to_vec())));
    secured.gateway.turn(Duration::from_secs(4));
    assert_eq!(stream.read_some(), Ok(None));
    assert_eq!(stream.end_of("grpc-status").as_deref(), Some("4"));
}

#[test]
fn in_the_middle_of_a_frame_there_is_no_word_but_a_reset() {
    let backend = Backend::new(|_, conn| {
        conn.body();
        conn.chunked_head(200, "content-type: application/grpc\r\n");
        conn.chunk(vec![b'x'; 1_000_000]);
        conn.peer_leaves();
    });
    let secured = secured_with("", "", backend);
    let mut client = H3Client::with_window(secured.gateway.address(), &secured.tls().h3(), 10_000);
    let mut stream = client.open("POST", "/kit.Kit/Half", &[&GRPC[..], &[("grpc-timeout", "3S")]].concat());
    stream.finish();
    assert_eq!(stream.head().status, 200);
    stays("the response waits for its client", || secured.backend.written());
    secured.gateway.turn(Duration::from_secs(4));
    let mut read = stream.read_some();
    while let Ok(Some(_)) = read {
        read = stream.read_some();
    }
    assert!(read.is_err(), "trailers would have been taken for the message");
}
