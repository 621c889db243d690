//! One request, at one upstream: pick → connect → send → classify. The second screen to read after `handle`.

use super::forward;
use crate::Reach;
use maitred_core::fault::Side;
use maitred_core::{Body, Exchange, Fault, Kind, Response};
use maitred_transport::{Begin, Failure, Lease, Upstream, Wanted};
use maitred_wire::{Framing, Method, ResponseHead};
use std::future::poll_fn;

pub async fn run(exchange: &mut Exchange, upstream: &Upstream, reach: &Reach) -> Result<Response, Fault> {
    let mut fresh = false;
    loop {
        let leased = upstream.lease(Wanted::by(exchange, &upstream.spec, fresh), &mut exchange.record).await;
        let lease = leased.map_err(|failure| failure.fault)?;
        let mut head = exchange.take_head();
        let failure = match send(exchange, &lease, upstream, reach, &mut head).await {
            Ok(()) => return Ok(response(lease, head)),
            Err(failure) => failure,
        };
        exchange.keep_head(head);
        if fresh || !may_repeat(exchange, &lease, &failure) {
            return Err(failure.fault);
        }
        exchange.body = lease.connection.take_back_body();
        fresh = true;
    }
}

/// A pooled connection may be closed by the back end at the very moment it is used again, and a stream of HTTP/2 may be refused. Then,
/// and only then, the request goes out once more, on a new connection: if the back end has acted on nothing of it, or if repeating it
/// is harmless and it has no body to lose.
fn may_repeat(exchange: &Exchange, lease: &Lease, failure: &Failure) -> bool {
    let reset = failure.unanswered && failure.fault.kind == Kind::UpstreamReset;
    let harmless = exchange.request.method.is_idempotent() && exchange.request.framing == Framing::None;
    reset && (failure.unsent || (lease.reused && harmless))
}

async fn send(
    exchange: &mut Exchange,
    lease: &Lease,
    upstream: &Upstream,
    reach: &Reach,
    head: &mut ResponseHead,
) -> Result<(), Failure> {
    let connection = &lease.connection;
    let timeouts = upstream.spec.timeouts;
    let mut begin = Some(Begin {
        body: std::mem::take(&mut exchange.body),
        framing: exchange.request.framing,
        to_head: exchange.request.method == Method::Head,
        upgrade: exchange.request.upgrade.is_some(),
        expect_continue: exchange.request.expect_continue,
        deadline: exchange.deadline,
        response_timeout: timeouts.response,
        idle_timeout: timeouts.idle,
    });
    let started = reach.worker.now();
    let client = exchange.client.clone();
    let answered = poll_fn(|cx| {
        if let Some(begin) = begin.take() {
            connection.begin(cx, begin, |out| forward::head(out, exchange, &upstream.spec.host, lease.target()))?;
        }
        connection.poll_response(cx, head, client.as_deref(), &reach.head_limits)
    })
    .await;
    let now = reach.worker.now();
    exchange.record.upstream_time = Some(now - started);
    match &answered {
        Ok(()) => lease.answered(now - started, head.status >= 500, now),
        Err(failure) if failure.fault.kind.side() == Side::Upstream => lease.answered(now - started, true, now),
        // It is the client that went wrong, or away.
        Err(_) => {}
    }
    answered
}

fn response(lease: Lease, head: Box<ResponseHead>) -> Response {
    let connection = lease.connection;
    let body = match (head.status, head.framing) {
        (101, _) => Body::Tunnel(connection.into_tunnel()),
        (_, Framing::None) => {
            connection.finish();
            Body::Empty
        }
        (_, Framing::Length(_) | Framing::Chunked | Framing::Close) => connection.into_body(),
    };
    Response { head, body }
}
