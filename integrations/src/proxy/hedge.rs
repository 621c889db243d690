//! A second request beside one that takes long, at another endpoint: whichever is answered first counts, and the other is given up. Only for
//! requests that may be repeated, whose body is all at hand; paid for like a retry.

use super::attempt::{Answer, Miss, Tried};
use super::retry::Tries;
use maitred_core::fault::Side;
use maitred_core::queue::Place;
use maitred_core::{Body, Exchange, Record};
use maitred_transport::{Lease, Picked, Timer, Wanted, Worker};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub async fn race(exchange: &mut Exchange, tries: &mut Tries<'_>, after: Duration) -> Tried {
    let worker = &tries.reach.worker;
    let started = worker.now();
    let (mut one, mut two) = (Record::new(started), Record::new(started));
    let body = std::mem::take(&mut exchange.body);
    let wanted = tries.wanted(exchange);
    let (mut tried, hedged) = {
        let (exchange, tries) = (&*exchange, &*tries);
        let picked = match tries.upstream.pick(&wanted) {
            Ok(picked) => picked,
            Err(failure) => return Err(Box::new(Miss { failure, body, reused: false })),
        };
        let elsewhere = Wanted { avoid: Some(picked.endpoint()), ..tries.wanted(exchange) };
        let mut first = pin!(run(exchange, tries, picked, &wanted, body, &mut one));
        let timer = Timer::new(&worker.timers);
        timer.arm(started + after);
        let early = poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Ready(tried) => Poll::Ready(Some(tried)),
            Poll::Pending => timer.poll(cx).map(|()| None),
        });
        match early.await {
            Some(tried) => (tried, None),
            None => match beside(tries, &elsewhere) {
                None => (first.await, None),
                Some((picked, body, _place)) => {
                    // Its own patience runs from now.
                    let wanted = Wanted { avoid: None, ..tries.wanted(exchange) };
                    let second = pin!(run(exchange, tries, picked, &wanted, body, &mut two));
                    let (tried, won) = first_of(first, second, |tried| counts(tries, exchange, tried)).await;
                    (tried, Some(won))
                }
            },
        }
    };
    let now = worker.now();
    if let Ok(answer) = &mut tried {
        answer.took = now - started;
    }
    tries.hedged = hedged.is_some();
    let record = &mut exchange.record;
    record.hedge_won = hedged.or(record.hedge_won);
    record.attempts += one.attempts + two.attempts;
    record.upstream_time = Some(now - started);
    (record.endpoint, record.endpoint_at) =
        if hedged == Some(true) { (two.endpoint, two.endpoint_at) } else { (one.endpoint, one.endpoint_at) };
    if hedged == Some(true) {
        tries.upstream.count(|shard| &shard.hedges_won);
    }
    tried
}

/// Whether another request may be sent now, and where to. Where the upstream has a limit of those in flight it takes a place if one is free;
/// whichever wins, one place is given back when the race is over.
fn beside(tries: &Tries<'_>, elsewhere: &Wanted) -> Option<(Picked, Body, Option<Place>)> {
    if !tries.is_whole() {
        return None;
    }
    let picked = tries.upstream.pick(elsewhere).ok()?;
    let is_other = elsewhere.avoid.as_ref() != Some(&picked.endpoint());
    let place = tries.upstream.admit_now()?;
    if !is_other || !tries.upstream.spec.shared.budget.withdraw() {
        return None;
    }
    tries.upstream.count(|shard| &shard.hedges);
    Some((picked, tries.body_again()?, place))
}

/// Whether it ends the race: an answer that is no failure, or a client that is not there any more.
fn counts(tries: &Tries<'_>, exchange: &Exchange, tried: &Tried) -> bool {
    match tried {
        Ok(_) => !tries.has_failed(exchange, tried),
        Err(miss) => miss.failure.fault.kind.side() == Side::Client,
    }
}

/// The first that counts; where neither does, an answer rather than none. Also whether it was the second.
async fn first_of(
    mut first: Pin<&mut impl Future<Output = Tried>>,
    mut second: Pin<&mut impl Future<Output = Tried>>,
    counts: impl Fn(&Tried) -> bool,
) -> (Tried, bool) {
    let (mut one, mut two) = (None, None);
    poll_fn(|cx| {
        if poll_into(&mut one, first.as_mut(), cx, &counts) {
            return Poll::Ready(());
        }
        if poll_into(&mut two, second.as_mut(), cx, &counts) {
            return Poll::Ready(());
        }
        if one.is_some() && two.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match (one, two) {
        (Some(one), None) => (one, false),
        (None, Some(two)) => (two, true),
        (Some(one), Some(two)) => {
            let is_second = (counts(&two) && !counts(&one)) || (one.is_err() && two.is_ok());
            if is_second { (two, true) } else { (one, false) }
        }
        (None, None) => unreachable!("the race ended with somebody"),
    }
}

/// True: it is over, and counts.
fn poll_into(
    done: &mut Option<Tried>,
    running: Pin<&mut impl Future<Output = Tried>>,
    cx: &mut Context<'_>,
    counts: impl Fn(&Tried) -> bool,
) -> bool {
    if done.is_none()
        && let Poll::Ready(tried) = running.poll(cx)
    {
        return counts(done.insert(tried));
    }
    false
}

/// One of the two.
async fn run(exchange: &Exchange, tries: &Tries<'_>, picked: Picked, wanted: &Wanted, body: Body, record: &mut Record) -> Tried {
    let lease = match tries.upstream.lease(picked, wanted, record).await {
        Ok(lease) => lease,
        Err(failure) => return Err(Box::new(Miss { failure, body, reused: false })),
    };
    let mut head = Box::default();
    let worker = &tries.reach.worker;
    let mut running = Running { lease: &lease, worker, started: worker.now(), done: false };
    let (sent, took) = tries.send(exchange, body, &lease, wanted.deadline, &mut head).await;
    running.done = true;
    drop(running);
    match sent {
        Ok(()) => Ok(Answer { lease, head, took }),
        Err(failure) => Err(Box::new(Miss { failure, body: lease.connection.take_back_body(), reused: lease.reused })),
    }
}

/// A try under way; dropped before its end, its endpoint is known to take that long at least.
struct Running<'a> {
    lease: &'a Lease,
    worker: &'a Worker,
    started: Instant,
    done: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.done {
            let now = self.worker.now();
            self.lease.overtaken(now - self.started, now);
        }
    }
}
