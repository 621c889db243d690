//! Judges what a try came to: whether the request is sent once more, and when. Only where that is safe: nothing of it was sent, or repeating
//! it is harmless and its body is still at hand; on the conditions that the upstream names; within the request's time; and paid for by the
//! upstream's budget.

use super::attempt::{self, Answer, Miss, Tried};
use super::mirror::read_away;
use super::replay::Replay;
use crate::Reach;
use maitred_core::metrics::RETRY_REASONS;
use maitred_core::retry::backoff;
use maitred_core::{Body, Exchange, Fault, Kind};
use maitred_model::{HedgeAfter, Retry, RetryOn, Share};
use maitred_transport::{Avoid, Due, Failure, Lease, Limit, Places, Timer, Upstream, Wanted};
use maitred_wire::{Framing, ResponseHead};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};
use tokio::task::spawn_local;

/// Of an answer that is not passed on so much is read, for so long, that its connection can be used again; else it is closed.
const UNWANTED_BYTES_MAX: usize = 64 * 1024;
const UNWANTED_TIME_MAX: Duration = Duration::from_secs(1);
/// Bodies kept for a hedge, where no `retry` says more.
const BODY_BYTES: usize = 64 * 1024;
/// UNAVAILABLE (statuscodes.md of gRPC): what 503 is elsewhere.
const GRPC_UNAVAILABLE: &[u8] = b"14";

/// One request's tries.
pub struct Tries<'a> {
    pub upstream: &'a Upstream,
    pub reach: &'a Reach,
    /// At the upstream's circuit breaker, and among those in flight.
    pub places: Places,
    /// Repeating the request is harmless.
    idempotent: bool,
    bodiless: bool,
    replay: Option<Rc<Replay>>,
    retries: u32,
    /// The next try is on a new connection.
    fresh: bool,
    /// The next try is at another endpoint than the last.
    elsewhere: bool,
    pub hedged: bool,
    /// There is `retry` or `hedge`: what comes of a try may be followed by another.
    watches: bool,
}

/// What follows a try.
pub enum Next {
    Answer(Answer),
    Fault(Fault),
    /// Once more, after so long.
    Again(Duration),
}

impl<'a> Tries<'a> {
    pub fn begin(
        exchange: &mut Exchange,
        upstream: &'a Upstream,
        reach: &'a Reach,
        idempotent: Option<bool>,
    ) -> Result<Tries<'a>, Fault> {
        let request = &exchange.request;
        let mut tries = Tries {
            upstream,
            reach,
            places: Places { breaker: upstream.enter()?, queue: None },
            idempotent: idempotent.unwrap_or(request.method.is_idempotent()) && request.upgrade.is_none(),
            bodiless: exchange.body.is_empty(),
            replay: None,
            retries: 0,
            fresh: false,
            elsewhere: false,
            hedged: false,
            watches: upstream.spec.protection.retry.is_some() || upstream.spec.protection.hedge.is_some(),
        };
        if tries.watches {
            tries.provide(exchange);
        }
        Ok(tries)
    }

    /// Pays for its share of retries, and keeps what another try may need.
    fn provide(&mut self, exchange: &mut Exchange) {
        let spec = &self.upstream.spec;
        let retry = spec.protection.retry.as_ref();
        spec.shared.budget.deposit(retry.map_or(Share::FIFTH, |retry| retry.budget));
        if let (true, Body::Stream(stream)) = (self.idempotent, &exchange.body) {
            let most = retry.map_or(BODY_BYTES, |retry| retry.body_bytes.get() as usize);
            let replay = Replay::new(stream.clone(), most);
            exchange.body = replay.again();
            self.replay = Some(replay);
        }
    }

    /// For whom the next connection is.
    pub fn wanted(&self, exchange: &Exchange) -> Wanted {
        let mut wanted = Wanted::by(exchange, &self.upstream.spec, self.fresh);
        if self.elsewhere {
            let at = exchange.record.endpoint_at;
            wanted.avoid = exchange.record.endpoint.clone().map(|address| Avoid { address, at });
        }
        if let Some(patience) = self.retry().and_then(|retry| retry.per_try_timeout) {
            let due = Due { at: self.reach.worker.now() + patience, limit: Limit::PerTry(patience) };
            wanted.deadline = Some(due.or(wanted.deadline));
        }
        wanted
    }

    fn retry(&self) -> Option<&'a Retry> {
        self.upstream.spec.protection.retry.as_ref()
    }

    /// When a second request is sent beside the next, if it may be.
    pub fn hedge_after(&self) -> Option<Duration> {
        let hedge = self.upstream.spec.protection.hedge?;
        if self.hedged || !self.idempotent {
            return None;
        }
        match hedge.after {
            HedgeAfter::Delay(delay) => Some(delay),
            HedgeAfter::Percentile { per_mille } => self.upstream.spec.shared.answers.at(per_mille, self.reach.worker.now()),
        }
    }

    /// The request's body for another try, if it is still at hand.
    pub fn body_again(&self) -> Option<Body> {
        match &self.replay {
            Some(replay) => replay.is_kept().then(|| replay.again()),
            None => self.bodiless.then_some(Body::Empty),
        }
    }

    /// All of the request's body is at hand: two may read it.
    pub fn is_whole(&self) -> bool {
        self.replay.as_ref().map_or(self.bodiless, |replay| replay.is_whole())
    }

    /// Whether a try failed in a way that is worth another.
    pub fn has_failed(&self, exchange: &Exchange, tried: &Tried) -> bool {
        self.condition(exchange, tried).is_some()
    }

    pub fn judge(&mut self, exchange: &mut Exchange, tried: Tried) -> Next {
        let tried = match tried {
            Ok(answer) if !self.watches => return Next::Answer(answer),
            other => other,
        };
        if let Some(answer) = self.observed(&tried) {
            self.upstream.spec.shared.answers.record(answer.took, self.reach.worker.now());
        }
        let tried = match tried {
            Err(miss) if self.is_stale(exchange, &miss) => {
                self.fresh = true;
                exchange.body = miss.body;
                return Next::Again(Duration::ZERO);
            }
            other => other,
        };
        match (self.wait(exchange, &tried), tried) {
            (None, Ok(answer)) => Next::Answer(answer),
            (None, Err(miss)) => Next::Fault(miss.failure.fault),
            (Some(wait), tried) => {
                self.begin_again(exchange, tried);
                Next::Again(wait)
            }
        }
    }

    /// An answer whose time hedges go by.
    fn observed<'t>(&self, tried: &'t Tried) -> Option<&'t Answer> {
        let hedge = self.upstream.spec.protection.hedge?;
        tried.as_ref().ok().filter(|_| matches!(hedge.after, HedgeAfter::Percentile { .. }))
    }

    /// See there. Where there is `retry`, a refused stream is for that.
    fn is_stale(&self, exchange: &Exchange, miss: &Miss) -> bool {
        let harmless = self.idempotent && exchange.request.framing == Framing::None;
        let for_retry = miss.failure.refused && self.retry().is_some();
        !self.fresh && !for_retry && attempt::is_stale(&miss.failure, miss.reused, harmless)
    }

    /// Sends the request and waits for the head of its answer.
    pub async fn send(
        &self,
        exchange: &Exchange,
        body: Body,
        lease: &Lease,
        until: Option<Due>,
        head: &mut ResponseHead,
    ) -> (Result<(), Failure>, Duration) {
        let (sent, took) = attempt::send(exchange, body, lease, (self.upstream, self.reach), until, head).await;
        self.tell(&sent, head.status, took);
        (sent, took)
    }

    /// A limit that finds itself goes by the time of answers. A fault that comes at once tells nothing of it; one that is late does.
    fn tell(&self, sent: &Result<(), Failure>, status: u16, took: Duration) {
        let Some(place) = &self.places.queue else { return };
        match sent {
            Ok(()) if status < 500 => place.answered(took, self.reach.worker.now()),
            Err(failure) if failure.fault.kind == Kind::UpstreamTimeout => place.answered(took, self.reach.worker.now()),
            Ok(()) | Err(_) => {}
        }
    }

    /// What went wrong, if it is what the upstream's retries are for.
    fn condition(&self, exchange: &Exchange, tried: &Tried) -> Option<RetryOn> {
        let retry = self.retry()?;
        let seen = match tried {
            Ok(answer) => seen_in(&answer.head, exchange)?,
            Err(miss) => seen_of(miss.failure.fault.kind)?,
        };
        retry.conditions.contains(&seen).then_some(seen)
    }

    /// How long until the next try, if there is one, which is then paid for.
    fn wait(&mut self, exchange: &Exchange, tried: &Tried) -> Option<Duration> {
        let (retry, seen) = (self.retry()?, self.condition(exchange, tried)?);
        let unsent = tried.as_ref().is_err_and(|miss| miss.failure.unsent);
        let safe = unsent || (self.idempotent && (self.replay.as_ref().map_or(self.bodiless, |replay| replay.is_kept())));
        if !safe || self.retries + 1 >= retry.attempts.get() {
            return None;
        }
        let worker = &self.reach.worker;
        let now = worker.now();
        // Nothing was sent: another endpoint may do, and is asked at once, the first time.
        let pause = || backoff(retry.backoff, retry.backoff_max, self.retries, &worker.chance);
        let pause = if unsent && self.retries == 0 { Duration::ZERO } else { pause() };
        let asked = tried.as_ref().map_or(Some(Duration::ZERO), |answer| wish(&answer.head, worker.unix_time(now)));
        let wait = asked.filter(|asked| *asked <= retry.backoff_max)?.max(pause);
        if exchange.deadline.is_some_and(|deadline| now + wait >= deadline) {
            return None;
        }
        if !self.upstream.spec.shared.budget.withdraw() {
            self.upstream.count(|shard| &shard.retries_unpaid);
            return None;
        }
        self.upstream.count(|shard| &shard.retries[reason(seen)]);
        Some(wait)
    }

    fn begin_again(&mut self, exchange: &mut Exchange, tried: Tried) {
        (self.retries, self.fresh, self.elsewhere) = (self.retries + 1, false, true);
        let kept = self.body_again();
        exchange.body = match tried {
            Ok(answer) => {
                self.let_go(exchange, answer);
                kept.unwrap_or_default()
            }
            Err(miss) => kept.unwrap_or(miss.body),
        };
    }

    /// An answer that nobody gets.
    fn let_go(&self, exchange: &mut Exchange, answer: Answer) {
        let Answer { lease, head, .. } = answer;
        let small = match head.framing {
            Framing::None => true,
            Framing::Length(length) => length <= UNWANTED_BYTES_MAX as u64,
            Framing::Chunked => true,
            Framing::Close => false,
        };
        let empty = head.framing == Framing::None;
        exchange.keep_head(head);
        // One that still sends the request's body would take it from the next try.
        if !small || !self.is_whole() {
            return;
        }
        if empty {
            return lease.connection.finish();
        }
        let timer = Timer::new(&self.reach.worker.timers);
        timer.arm(self.reach.worker.now() + UNWANTED_TIME_MAX);
        let mut reading = Box::pin(read_away(lease.connection.into_body(), UNWANTED_BYTES_MAX));
        spawn_local(poll_fn(move |cx| match reading.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.poll(cx),
        }));
    }

    /// Waits before the next try, as long as the client does.
    pub async fn pause(&self, exchange: &Exchange, wait: Duration) -> Result<(), Fault> {
        if wait.is_zero() {
            return Ok(());
        }
        let timer = Timer::new(&self.reach.worker.timers);
        timer.arm(self.reach.worker.now() + wait);
        let client = exchange.client.as_deref();
        poll_fn(|cx| {
            if client.is_some_and(|client| client.poll_gone(cx).is_ready()) {
                return Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client went away before the next try")));
            }
            timer.poll(cx).map(Ok)
        })
        .await
    }
}

fn seen_in(head: &ResponseHead, exchange: &Exchange) -> Option<RetryOn> {
    if head.status >= 400 {
        return Some(RetryOn::Status(head.status));
    }
    // A gRPC answer of trailers only has its status in the head; nothing of it was passed on.
    let trailers_only = head.framing == Framing::None && exchange.is_grpc();
    let unavailable = trailers_only && head.headers.get(b"grpc-status") == Some(GRPC_UNAVAILABLE);
    unavailable.then_some(RetryOn::Status(503))
}

fn seen_of(kind: Kind) -> Option<RetryOn> {
    let conditions = [
        (Kind::UpstreamUnreachable, RetryOn::Connect),
        (Kind::ConnectTimeout, RetryOn::Connect),
        (Kind::UpstreamReset, RetryOn::Reset),
        (Kind::UpstreamTimeout, RetryOn::Timeout),
    ];
    conditions.into_iter().find(|(known, _)| *known == kind).map(|(_, condition)| condition)
}

/// Where a retry is counted.
fn reason(seen: RetryOn) -> usize {
    let reason = match seen {
        RetryOn::Connect => "connect",
        RetryOn::Reset => "reset",
        RetryOn::Timeout => "timeout",
        RetryOn::Status(_) => "status",
    };
    RETRY_REASONS.iter().position(|known| *known == reason).unwrap_or_default()
}

/// How long the back end wishes to be left alone: Retry-After (RFC 9110 §10.2.3), seconds or a date, or gRPC's `grpc-retry-pushback-ms`
/// (gRFC A6). `None`: it wants no other try. `unix`: the time since 1970.
fn wish(head: &ResponseHead, unix: Duration) -> Option<Duration> {
    if let Some(pushback) = head.headers.get(b"grpc-retry-pushback-ms") {
        return number(pushback).map(Duration::from_millis);
    }
    let Some(value) = head.headers.get(b"retry-after") else { return Some(Duration::ZERO) };
    if let Some(seconds) = number(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = std::str::from_utf8(value).ok().and_then(|text| httpdate::parse_http_date(text).ok());
    let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    Some(since.unwrap_or_default().saturating_sub(unix))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_back_end_wishes() {
        let unix = Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let table: [(&[u8], &[u8], Option<u64>); 10] = [
            (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            (b"retry-after", b"0", Some(0)),
            (b"Retry-After", b"120", Some(120_000)),
            (b"retry-after", b"Sun, 06 Nov 1994 08:49:40 GMT", Some(3000)),
            (b"retry-after", b"Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            (b"retry-after", b"Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            (b"retry-after", b"soon", Some(0)),
            (b"retry-after", b"-1", Some(0)),
            (b"grpc-retry-pushback-ms", b"250", Some(250)),
            (b"grpc-retry-pushback-ms", b"-1", None),
        ];
        for (name, value, wanted) in table {
            let mut head = ResponseHead::default();
            head.headers.add(name, value);
            let said = String::from_utf8_lossy(value);
            assert_eq!(wish(&head, unix), wanted.map(Duration::from_millis), "{said}");
        }
    }
}
