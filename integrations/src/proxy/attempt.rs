//! One request, at one upstream: pick → connect → send → classify. The second screen to read after `handle`. Whether it is tried once
//! more is judged in `retry`; a second one beside it runs in `hedge`.

use super::retry::{Next, Tries};
use super::{forward, hedge};
use crate::Reach;
use maitred_core::fault::Side;
use maitred_core::queue::Place;
use maitred_core::{Body, Exchange, Fault, Kind, Response};
use maitred_transport::{Begin, Failure, Lease, Places, Upstream};
use maitred_wire::{Framing, Method, ResponseHead};
use std::future::poll_fn;
use std::time::{Duration, Instant};

pub async fn run(
    exchange: &mut Exchange,
    upstream: &Upstream,
    reach: &Reach,
    idempotent: Option<bool>,
    place: Option<Place>,
) -> Result<Response, Fault> {
    let mut tries = Tries::begin(exchange, upstream, reach, idempotent)?; // may be refused: the circuit breaker
    tries.places.queue = place;
    loop {
        let tried = match tries.hedge_after() {
            Some(after) => Box::pin(hedge::race(exchange, &mut tries, after)).await,
            None => once(exchange, &tries).await,
        };
        match tries.judge(exchange, tried) {
            Next::Answer(answer) => return Ok(response(exchange, answer, tries.places)),
            Next::Fault(fault) => return Err(fault),
            Next::Again(wait) => tries.pause(exchange, wait).await?,
        }
    }
}

/// What a try came to.
pub type Tried = Result<Answer, Box<Miss>>;

pub struct Answer {
    pub lease: Lease,
    pub head: Box<ResponseHead>,
    pub took: Duration,
}

pub struct Miss {
    pub failure: Failure,
    /// The request's; whole where the failure says `unsent`.
    pub body: Body,
    /// The connection had served a request before.
    pub reused: bool,
}

async fn once(exchange: &mut Exchange, tries: &Tries<'_>) -> Tried {
    let body = std::mem::take(&mut exchange.body);
    let wanted = tries.wanted(exchange);
    let leased = match tries.upstream.pick(&wanted) {
        Ok(picked) => tries.upstream.lease(picked, &wanted, &mut exchange.record).await,
        Err(failure) => Err(failure),
    };
    let lease = match leased {
        Ok(lease) => lease,
        Err(failure) => return Err(Box::new(Miss { failure, body, reused: false })),
    };
    let mut head = exchange.take_head();
    let (sent, took) = send(exchange, body, &lease, tries, wanted.deadline, &mut head).await;
    exchange.record.upstream_time = Some(took);
    match sent {
        Ok(()) => Ok(Answer { lease, head, took }),
        Err(failure) => {
            exchange.keep_head(head);
            Err(Box::new(Miss { failure, body: lease.connection.take_back_body(), reused: lease.reused }))
        }
    }
}

/// Sends the request and waits for the head of its answer, until then. Also says how long that took.
pub async fn send(
    exchange: &Exchange,
    body: Body,
    lease: &Lease,
    tries: &Tries<'_>,
    until: Option<Instant>,
    head: &mut ResponseHead,
) -> (Result<(), Failure>, Duration) {
    let (connection, spec, worker) = (&lease.connection, &tries.upstream.spec, &tries.reach.worker);
    let started = worker.now();
    let mut begin = Some(Begin {
        body,
        framing: exchange.request.framing,
        to_head: exchange.request.method == Method::Head,
        upgrade: exchange.request.upgrade.is_some(),
        expect_continue: exchange.request.expect_continue,
        deadline: until,
        response_timeout: spec.timeouts.response,
        idle_timeout: spec.timeouts.idle,
        started,
    });
    let client = exchange.client.clone();
    let answered = poll_fn(|cx| {
        if let Some(begin) = begin.take() {
            connection.begin(cx, begin, |out| forward::head(out, exchange, &spec.host, lease.target(), started))?;
        }
        connection.poll_response(cx, head, client.as_deref(), &tries.reach.head_limits)
    })
    .await;
    let now = worker.now();
    let took = now - started;
    tell(tries, &answered, head.status, took, now);
    match &answered {
        Ok(()) => lease.answered(took, head.status >= 500, now),
        Err(failure) if failure.fault.kind.side() == Side::Upstream => lease.answered(took, true, now),
        // It is the client that went wrong, or away.
        Err(_) => {}
    }
    (answered, took)
}

/// A limit that finds itself goes by the time of answers. A fault that comes at once tells nothing of it; one that is late does.
fn tell(tries: &Tries<'_>, answered: &Result<(), Failure>, status: u16, took: Duration, now: Instant) {
    let Some(place) = &tries.places.queue else { return };
    match answered {
        Ok(()) if status < 500 => place.answered(took, now),
        Err(failure) if failure.fault.kind == Kind::UpstreamTimeout => place.answered(took, now),
        Ok(()) | Err(_) => {}
    }
}

fn response(exchange: &Exchange, Answer { lease, mut head, .. }: Answer, places: Places) -> Response {
    // Nobody is bound to an endpoint that fails.
    if head.status < 500
        && let Some(cookie) = lease.cookie(exchange)
    {
        head.headers.add(b"set-cookie", cookie.as_bytes());
    }
    if let Some(place) = &places.queue {
        place.lasts();
    }
    let connection = lease.connection;
    connection.hold(places);
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
