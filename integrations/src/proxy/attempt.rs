//! One request, at one upstream: pick → connect → send → classify. The second screen to read after `handle`. Where the upstream is
//! guarded, whether it is tried once more is judged in `retry`, and a second one beside it runs in `hedge`.

use super::retry::{Next, Tries};
use super::{forward, hedge};
use crate::Reach;
use maitred_core::fault::Side;
use maitred_core::queue::Place;
use maitred_core::{Body, Exchange, Fault, Kind, Response};
use maitred_transport::{Begin, Due, Failure, Lease, Places, Upstream, Wanted};
use maitred_wire::{Framing, Method, ResponseHead};
use std::future::poll_fn;
use std::time::Duration;

/// Where nothing guards the upstream.
pub async fn plain(exchange: &mut Exchange, upstream: &Upstream, reach: &Reach) -> Result<Response, Fault> {
    let mut fresh = false;
    loop {
        let wanted = Wanted::by(exchange, &upstream.spec, fresh);
        let picked = upstream.pick(&wanted).map_err(|failure| failure.fault)?;
        let lease = upstream.lease(picked, &wanted, &mut exchange.record).await.map_err(|failure| failure.fault)?;
        let (body, mut head) = (std::mem::take(&mut exchange.body), exchange.take_head());
        let (sent, took) = send(exchange, body, &lease, (upstream, reach), wanted.deadline, &mut head).await;
        exchange.record.upstream_time = Some(took);
        let Err(failure) = sent else { return Ok(response(exchange, lease, head, Places::default())) };
        exchange.keep_head(head);
        let harmless = exchange.request.method.is_idempotent() && exchange.request.framing == Framing::None;
        if fresh || !is_stale(&failure, lease.reused, harmless) {
            return Err(failure.fault);
        }
        exchange.body = lease.connection.take_back_body();
        fresh = true;
    }
}

/// A pooled connection may be closed by the back end at the very moment it is used again, and a stream of HTTP/2 may be refused. Then,
/// and only then, the request goes out once more unasked, on a new connection, which counts as no retry: if the back end has acted on
/// nothing of it, or if repeating it is `harmless` and it has no body to lose.
pub fn is_stale(failure: &Failure, reused: bool, harmless: bool) -> bool {
    let reset = failure.unanswered && failure.fault.kind == Kind::UpstreamReset;
    reset && (failure.unsent || (reused && harmless))
}

/// Where something does: circuit breaker, concurrency limit, retries, hedges.
pub async fn guarded(
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
            Next::Answer(Answer { lease, head, .. }) => return Ok(response(exchange, lease, head, tries.places)),
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
    let (sent, took) = tries.send(exchange, body, &lease, wanted.deadline, &mut head).await;
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
    (upstream, reach): (&Upstream, &Reach),
    until: Option<Due>,
    head: &mut ResponseHead,
) -> (Result<(), Failure>, Duration) {
    let (connection, spec, worker) = (&lease.connection, &upstream.spec, &reach.worker);
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
        connection.poll_response(cx, head, client.as_deref(), &reach.head_limits)
    })
    .await;
    let now = worker.now();
    let took = now - started;
    match &answered {
        Ok(()) => lease.answered(took, head.status >= 500, now),
        Err(failure) if failure.fault.kind.side() == Side::Upstream => lease.answered(took, true, now),
        // It is the client that went wrong, or away.
        Err(_) => {}
    }
    (answered, took)
}

fn response(exchange: &Exchange, lease: Lease, mut head: Box<ResponseHead>, places: Places) -> Response {
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
