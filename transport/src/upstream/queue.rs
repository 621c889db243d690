//! A request's way into an upstream with `concurrency`: at once, or through its queue. Who is called, and who is shed, is decided in
//! `maitred_core::queue`; here are the task, its timer and its client.

use super::view::View;
use super::{Upstream, UpstreamSpec};
use crate::timers::Timer;
use maitred_core::queue::{Entered, Gate, Place, Reason, Refusal, Waiting};
use maitred_core::{Exchange, Fault, Kind};
use maitred_model::ConcurrencyScope;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

impl Upstream {
    /// A place among those in flight, where there is a limit of them; waits for it in line. `priority` is asked for only where it counts.
    pub async fn admit(&self, exchange: &mut Exchange, priority: impl FnOnce(&Exchange) -> u8) -> Result<Option<Place>, Fault> {
        let Some(gate) = &self.spec.gate else { return Ok(None) };
        if self.is_per_endpoint() {
            self.refresh();
        }
        if let Some(place) = gate.try_enter() {
            return Ok(Some(place));
        }
        let priority = priority(exchange);
        // Boxed: few wait, and all would be as large.
        Box::pin(self.line_up(gate, exchange, priority)).await.map(Some)
    }

    /// The same for what must not wait: a copy, or a hedge. `None`: no place is free.
    pub fn admit_now(&self) -> Option<Option<Place>> {
        match &self.spec.gate {
            None => Some(None),
            Some(gate) => gate.try_enter().map(Some),
        }
    }

    fn is_per_endpoint(&self) -> bool {
        self.spec.protection.concurrency.is_some_and(|concurrency| concurrency.per == ConcurrencyScope::Endpoint)
    }

    /// What an endpoint may have in flight, where the limit is that of each.
    pub(super) fn share(&self) -> Option<u32> {
        self.spec.gate.as_ref().filter(|_| self.is_per_endpoint()).map(|gate| gate.share())
    }

    /// The limit of all follows from how many endpoints there are.
    pub(super) fn spread(&self, view: &View) {
        if let (true, Some(gate)) = (self.is_per_endpoint(), &self.spec.gate) {
            gate.spread(view.taking_part(), self.worker.now());
        }
    }

    #[cold]
    async fn line_up(&self, gate: &Arc<Gate>, exchange: &mut Exchange, priority: u8) -> Result<Place, Fault> {
        let begun = self.worker.now();
        let waiting = match gate.enter(priority, exchange.deadline, begun) {
            Entered::In(place) => return Ok(place),
            Entered::Line(waiting) => waiting,
            Entered::Refused(refusal) => return Err(self.refused(exchange, refusal, begun)),
        };
        let answer = self.wait(waiting, exchange).await;
        let now = self.worker.now();
        exchange.record.queued = Some(now - begun);
        answer?.map_err(|refusal| self.refused(exchange, refusal, now))
    }

    /// Until it is called or refused; `Err`: its client went away. The worker's timers are coarse: a place is given up 5 ms late, and a
    /// microsecond for each timer that there is.
    async fn wait(&self, mut waiting: Waiting, exchange: &Exchange) -> Result<Result<Place, Refusal>, Fault> {
        let timer = Timer::new(&self.worker.timers);
        timer.arm(waiting.until());
        poll_fn(|cx| {
            let now = self.worker.now();
            if let Poll::Ready(answer) = waiting.poll(cx, now) {
                return Poll::Ready(Ok(answer));
            }
            if exchange.client.as_ref().is_some_and(|client| client.poll_gone_unread(cx).is_ready()) {
                return Poll::Ready(Err(Fault::new(Kind::ClientGone, "the client went away while it waited in line")));
            }
            timer.poll(cx).map(|()| Ok(waiting.expire(now)))
        })
        .await
    }

    fn refused(&self, exchange: &Exchange, refusal: Refusal, now: Instant) -> Fault {
        let name = &self.spec.name;
        let (kind, detail) = match refusal.reason {
            Reason::Full => (Kind::QueueFull, format!("the queue of upstream {name} is full")),
            Reason::Outranked => {
                (Kind::QueueFull, format!("the queue of upstream {name} is full, and a higher priority took the place"))
            }
            Reason::Timeout if exchange.deadline.is_some_and(|deadline| deadline <= now) => {
                (Kind::UpstreamTimeout, format!("the request's time was over in the queue of upstream {name}"))
            }
            Reason::Timeout => (Kind::QueueTimeout, format!("waited in the queue of upstream {name} for queue.timeout")),
            Reason::Shed => (Kind::QueueTimeout, format!("the queue of upstream {name} stands, and others were served")),
        };
        Fault { retry_after: Some(refusal.retry_after), ..Fault::new(kind, detail) }
    }
}

impl UpstreamSpec {
    /// Its limit and its queue count from now on: the configuration it is part of has become the live one.
    pub fn settle_queue(&self, now: Instant) {
        match (&self.gate, &self.protection.concurrency) {
            (Some(gate), Some(concurrency)) => gate.configure(concurrency, now),
            // Whoever waits since there was one is let in.
            (None, _) | (_, None) => self.shared.open_gate(now),
        }
    }
}
