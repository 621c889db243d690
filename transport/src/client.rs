//! The back end's side: a request on its way and its response, over HTTP/1.1 or over a stream of HTTP/2. Says of each failure what is
//! known about it; whether to try again is for whoever asked.

mod broken;
mod due;
mod http1;
mod http2;

pub use due::{Due, Limit};
pub use http1::ClientConnection;
pub(crate) use http1::end_of_chunks;
pub(crate) use http2::Link;
pub use http2::LinkStream;

use crate::upstream::RequestPlace;
use maitred_core::balance::InFlight;
use maitred_core::queue::Place;
use maitred_core::{Body, Client, Duplex, Fault, Stream};
use maitred_wire::{Framing, HeadLimits, ResponseHead};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Why an attempt failed, and what that means for another.
#[derive(Debug)]
pub struct Failure {
    pub fault: Fault,
    /// The back end has acted on nothing, and the request's body is whole: not one byte was written, or it said so itself.
    pub unsent: bool,
    /// Not one byte of a response was read.
    pub unanswered: bool,
    /// The back end refused the stream, alive as it is: unlike a connection that just closed, it means this request.
    pub refused: bool,
}

impl Failure {
    pub fn unsent(fault: Fault) -> Failure {
        Failure { fault, unsent: true, unanswered: true, refused: false }
    }
}

/// What a request needs beside its head.
pub struct Begin {
    pub body: Body,
    pub framing: Framing,
    /// The request is HEAD.
    pub to_head: bool,
    /// 101 may be answered.
    pub upgrade: bool,
    /// The client waits for 100 before it sends its body.
    pub expect_continue: bool,
    /// The response head must be there by then, whatever else.
    pub deadline: Option<Due>,
    pub started: Instant,
    pub response_timeout: Duration,
    pub idle_timeout: Duration,
}

/// What a request has of its upstream's, until this is dropped.
#[derive(Debug, Default)]
pub struct Places {
    /// At the circuit breaker.
    pub breaker: Option<RequestPlace>,
    /// Among those in flight, where `concurrency` says how many.
    pub queue: Option<Place>,
}

/// What carries one request to a back end.
pub enum Carrier {
    Http1(Rc<ClientConnection>),
    Http2(Rc<LinkStream>),
}

impl Carrier {
    /// Takes up a request. `head` writes its head, as HTTP/1.1 has it.
    pub fn begin(&self, cx: &mut Context<'_>, begin: Begin, head: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        match self {
            Carrier::Http1(connection) => connection.begin(cx, begin, head),
            Carrier::Http2(stream) => stream.begin(begin, head),
        }
    }

    /// The request counts as under way at that endpoint until the response's body is over, or given up.
    pub(crate) fn carry(&self, in_flight: InFlight) {
        match self {
            Carrier::Http1(connection) => connection.carry(in_flight),
            Carrier::Http2(stream) => stream.carry(in_flight),
        }
    }

    /// The same for the request's places at its upstream.
    pub fn hold(&self, places: Places) {
        let Places { breaker, queue } = &places;
        if breaker.is_some() || queue.is_some() {
            match self {
                Carrier::Http1(connection) => connection.hold(places),
                Carrier::Http2(stream) => stream.hold(places),
            }
        }
    }

    /// The response's head was there at that time.
    pub(crate) fn answered(&self, now: Instant) {
        match self {
            Carrier::Http1(connection) => connection.answered(now),
            // It is one of many on its link.
            Carrier::Http2(_) => {}
        }
    }

    /// Sends the request and waits for the response's head. Interim responses go to the client at once.
    pub fn poll_response(
        &self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        client: Option<&dyn Client>,
        limits: &HeadLimits,
    ) -> Poll<Result<(), Failure>> {
        match self {
            Carrier::Http1(connection) => connection.poll_response(cx, head, client, limits),
            Carrier::Http2(stream) => stream.poll_response(cx, head, client),
        }
    }

    /// The request's body again, where an attempt failed before anything was written.
    pub fn take_back_body(&self) -> Body {
        match self {
            Carrier::Http1(connection) => connection.take_back_body(),
            Carrier::Http2(stream) => stream.take_back_body(),
        }
    }

    /// The response has no body: what carried it may be used again.
    pub fn finish(self) {
        match self {
            Carrier::Http1(connection) => connection.finish(),
            Carrier::Http2(stream) => stream.finish(),
        }
    }

    pub fn into_body(self) -> Body {
        match self {
            Carrier::Http1(connection) => Body::Stream(connection),
            Carrier::Http2(stream) => Body::Stream(stream),
        }
    }

    /// After 101.
    pub fn into_tunnel(self) -> Rc<dyn Duplex> {
        match self {
            Carrier::Http1(connection) => connection,
            Carrier::Http2(stream) => stream,
        }
    }
}
