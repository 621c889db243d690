//! The one place where a fault becomes HTTP: RFC 9457 problem+json with the request's id, or in AWS's words where the API says so, and
//! nothing about the inside.

use crate::aws::Words;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::fault::{Fault, Kind};
use crate::response::Response;
use maitred_wire::{Headers, percent_encode_message};
use std::time::Duration;

/// What a client is told to wait before it tries again, where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Fault {
    /// Answers with this fault and records it; its detail goes to the log alone.
    pub fn render(self, exchange: &mut Exchange) -> Response {
        let kind = self.kind;
        if exchange.is_grpc() {
            return self.render_grpc(exchange);
        }
        if let Some(words) = Words::of(kind, exchange.gateway_responses) {
            return self.render_aws(words, exchange);
        }
        // Every part is plain: kinds and titles are ours, and an id is checked before it is kept.
        let body = format!(
            r#"{{"type":"urn:maitred:fault:{}","title":"{}","status":{},"request_id":"{}"}}"#,
            kind.name(),
            kind.title(),
            kind.status(),
            String::from_utf8_lossy(exchange.request_id()),
        );
        let mut response = Response::with_body(exchange.take_head(), kind.status(), Body::Bytes(body.into_bytes().into()));
        let headers = &mut response.head.headers;
        headers.add(b"content-type", b"application/problem+json");
        self.add_headers(headers, kind.status());
        exchange.record.fault = Some((kind, self.detail));
        response
    }

    /// As AWS API Gateway words it.
    fn render_aws(self, words: Words, exchange: &mut Exchange) -> Response {
        let body = Body::Bytes(words.body().into_bytes().into());
        let mut response = Response::with_body(exchange.take_head(), words.status, body);
        let headers = &mut response.head.headers;
        headers.add(b"content-type", b"application/json");
        if let Some(error_type) = words.error_type {
            headers.add(b"x-amzn-errortype", error_type.as_bytes());
        }
        self.add_headers(headers, words.status);
        exchange.record.fault = Some((self.kind, self.detail));
        response
    }

    fn add_headers(&self, headers: &mut Headers, status: u16) {
        for (name, value) in &self.headers {
            // Allow goes with 405 alone: where that is told as another status, it would tell on.
            if *name != b"allow" || status == 405 {
                headers.add(name, value);
            }
        }
        let kind = self.kind;
        let usual = matches!(
            kind,
            Kind::AuthorizerUnavailable
                | Kind::CountersUnavailable
                | Kind::Overloaded
                | Kind::NoEndpoint
                | Kind::CircuitOpen
                | Kind::FunctionBusy
        )
        .then_some(RETRY_AFTER);
        if let Some(wait) = self.retry_after.or(usual) {
            // Rounded up: who comes too early is refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            headers.add(b"retry-after", seconds.to_string().as_bytes());
        }
    }

    /// A response of trailers only (gRPC over HTTP/2, "Responses"): the status is in the head, and there is no body.
    fn render_grpc(self, exchange: &mut Exchange) -> Response {
        let mut response = Response::with_body(exchange.take_head(), 200, Body::Empty);
        let headers = &mut response.head.headers;
        headers.add(b"content-type", b"application/grpc");
        for (name, value) in grpc_status(&self) {
            headers.add(name, &value);
        }
        exchange.record.fault = Some((self.kind, self.detail));
        response
    }
}

/// The fields that tell a gRPC client of a fault: at the end of a response, or in its head where there is nothing else.
pub fn grpc_status(fault: &Fault) -> [(&'static [u8], Vec<u8>); 2] {
    let mut message = Vec::new();
    percent_encode_message(fault.kind.title(), &mut message);
    let code = fault.grpc.unwrap_or(fault.kind.grpc());
    [(b"grpc-status", code.number().to_string().into_bytes()), (b"grpc-message", message)]
}
