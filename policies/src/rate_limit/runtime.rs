//! The two phases at work: take of all limits, or give everything back; wait for a turn; settle what it cost when the answer comes.

use super::headers::{self, Left};
use super::{Limit, Limits, NAME, PLAN};
use maitred_core::limit_table::{Key, Verdict};
use maitred_core::limits::series::Answered;
use maitred_core::limits::{Ask, SharedCounts, Taken, Unanswered};
use maitred_core::wire::Headers;
use maitred_core::{Exchange, Fault, Flow, Hook, Kind, Policy, Ports, Response, while_wanted};
use maitred_model::CountersFailure;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One of the phases of a route's limits.
pub struct RateLimit {
    pub(super) limits: Arc<Limits>,
    pub(super) is_late: bool,
    /// This one settles, and writes the headers.
    pub(super) tells: bool,
}

/// The route's own limits and the plan's, each with the index of the first.
type Asked<'a> = [(u32, &'a [Limit]); 2];

/// Each with its index.
fn each<'a>(asked: Asked<'a>) -> impl Iterator<Item = (u32, &'a Limit)> {
    asked.into_iter().flat_map(|(first, limits)| (first..).zip(limits))
}

impl RateLimit {
    /// What this phase asks. `Err`: the caller has a plan that there is not.
    #[inline]
    fn asked(&self, exchange: &mut Exchange) -> Result<Asked<'_>, Fault> {
        let (early, late) = self.limits.own.split_at(self.limits.early as usize);
        if !self.is_late {
            return Ok([(0, early), (0, &[])]);
        }
        let late = (self.limits.early, late);
        let consumer = exchange.principal.as_ref().and_then(|principal| principal.consumer.as_ref());
        let (Some(consumer), Some(plans)) = (consumer, &self.limits.plans) else { return Ok([late, (0, &[])]) };
        let Some(plan) = &consumer.plan else { return Ok([late, (0, &[])]) };
        let Some(given) = plans.of(plan) else {
            // Whoever was sold limits does not come in without them.
            let why = format!("consumer `{}` has the plan `{plan}`, which the configuration lacks", consumer.name);
            return Err(Fault::new(Kind::Forbidden, why));
        };
        exchange.priority = given.priority;
        let first = self.limits.own.len() as u32 + given.limits.start;
        Ok([late, (first, plans.given(given))])
    }
}

impl Policy for RateLimit {
    fn name(&self) -> &'static str {
        let has_own = !self.is_late || self.limits.own.len() as u32 > self.limits.early;
        if has_own { NAME } else { PLAN }
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let asked = match self.asked(exchange) {
            Ok(asked) => asked,
            Err(fault) => return Hook::Ready(Err(fault)),
        };
        let limits = &*self.limits;
        if let Some(failure) = limits.elsewhere
            && each(asked).next().is_some()
            && let Some(counts) = ports.shared_counts()
        {
            return Hook::Pending(Box::pin(async move {
                let wait = limits.take_elsewhere(asked, (counts, failure), exchange, ports).await?;
                limits.turn(wait, exchange, ports).await
            }));
        }
        // Nobody has waited for anything before the first phase.
        let now = if self.is_late { ports.now() } else { exchange.record.started };
        match limits.take_here(&asked, now, exchange, ports) {
            Ok(Duration::ZERO) => Hook::Ready(Ok(Flow::Go(()))),
            Ok(wait) => Hook::Pending(Box::pin(limits.turn(wait, exchange, ports))),
            Err(fault) => Hook::Ready(Err(fault)),
        }
    }

    fn leave(&self, exchange: &Exchange, response: &mut Response, ports: &dyn Ports) {
        if self.tells {
            self.limits.tell(exchange, response, ports);
        }
    }
}

impl Limits {
    /// Takes of all of them, or of none. `Ok`: how long to wait for the turn.
    fn take_here(&self, asked: &Asked<'_>, now: Instant, exchange: &mut Exchange, ports: &dyn Ports) -> Result<Duration, Fault> {
        let before = exchange.taken.as_slice().len();
        let mut is_delayed = false;
        for &(first, limits) in asked {
            for (index, limit) in (first..).zip(limits) {
                let key = limit.keys.of(exchange, ports, &limit.table);
                let verdict = limit.table.take(key, limit.units, &limit.pace, now);
                if !verdict.allowed {
                    return Err(self.refuse(index, key, verdict, exchange, ports));
                }
                is_delayed |= verdict.retry_nanos > 0;
                exchange.taken.push(Taken { limit: index, key, units: limit.units, is_shared: false, verdict });
            }
        }
        if is_delayed {
            return self.admitted(before, exchange, ports);
        }
        for (_, limits) in asked {
            limits.iter().for_each(|limit| limit.series.count(ports.worker(), Answered::Allowed));
        }
        Ok(Duration::ZERO)
    }

    /// The same of counts that all gateways share; all of the phase are asked at once.
    async fn take_elsewhere(
        &self,
        asked: Asked<'_>,
        (counts, failure): (&dyn SharedCounts, CountersFailure),
        exchange: &mut Exchange,
        ports: &dyn Ports,
    ) -> Result<Duration, Fault> {
        let ask = |(_, limit): (u32, &Limit)| {
            let key = limit.keys.of(exchange, ports, &limit.table);
            Ask { limit: limit.id, key, units: limit.units, pace: limit.pace }
        };
        let asks: Vec<Ask> = each(asked).map(ask).collect();
        let verdicts = counts.take(&asks).await.and_then(|verdicts| match verdicts.len() == asks.len() {
            true => Ok(verdicts),
            false => Err(Unanswered),
        });
        let verdicts = match (verdicts, failure) {
            (Ok(verdicts), _) => verdicts,
            (Err(Unanswered), CountersFailure::Local) => return self.take_here(&asked, ports.now(), exchange, ports),
            (Err(Unanswered), CountersFailure::Open) => {
                each(asked).for_each(|(_, limit)| limit.series.count(ports.worker(), Answered::Allowed));
                return Ok(Duration::ZERO);
            }
            (Err(Unanswered), CountersFailure::Closed) => {
                self.give_back(exchange, ports);
                return Err(Fault::new(Kind::CountersUnavailable, "the counts could not be asked in time"));
            }
        };
        let (before, mut refused) = (exchange.taken.as_slice().len(), None);
        for (((index, _), ask), verdict) in each(asked).zip(&asks).zip(verdicts) {
            if verdict.allowed {
                exchange.taken.push(Taken { limit: index, key: ask.key, units: ask.units, is_shared: true, verdict });
            } else {
                refused = refused.or(Some((index, ask.key, verdict)));
            }
        }
        match refused {
            None => self.admitted(before, exchange, ports),
            Some((index, key, verdict)) => Err(self.refuse(index, key, verdict, exchange, ports)),
        }
    }

    /// All of a phase have granted something, those from `before` on. `Ok`: how long to wait for the turn.
    fn admitted(&self, before: usize, exchange: &mut Exchange, ports: &dyn Ports) -> Result<Duration, Fault> {
        let last = exchange.taken.as_slice()[before..].iter().max_by_key(|taken| taken.verdict.retry_nanos).copied();
        let wait = last.map_or(Duration::ZERO, |last| last.verdict.retry_after());
        if let Some(last) = last
            && !wait.is_zero()
            && exchange.deadline.is_some_and(|deadline| deadline <= ports.now() + wait)
        {
            // What it took is given back: it is told as if it had not.
            let back = last.verdict.corrected(last.units, 0, &self.limit(last.limit).pace);
            let verdict = Verdict { remaining: last.verdict.remaining, ..back };
            let fault = self.refuse(last.limit, last.key, verdict, exchange, ports);
            return Err(Fault { detail: "its turn would come after the route's timeout".into(), ..fault });
        }
        for taken in &exchange.taken.as_slice()[before..] {
            let is_delayed = taken.verdict.retry_nanos > 0;
            let answered = if is_delayed { Answered::Delayed } else { Answered::Allowed };
            self.limit(taken.limit).series.count(ports.worker(), answered);
        }
        Ok(wait)
    }

    fn refuse(&self, index: u32, key: Key, verdict: Verdict, exchange: &mut Exchange, ports: &dyn Ports) -> Fault {
        self.give_back(exchange, ports);
        let limit = self.limit(index);
        limit.series.count(ports.worker(), Answered::Limited);
        limit.series.top.count(&limit.keys.text(exchange, ports, key));
        // Nothing is taken; it is what the answer tells of.
        exchange.taken.push(Taken { limit: index, key, units: 0, is_shared: false, verdict });
        let fault = Fault::new(Kind::RateLimited, format!("over the limit `{}`", limit.name));
        Fault { retry_after: Some(verdict.retry_after()), ..fault }
    }

    /// Everything that the limits of either phase took of this request. For whoever refuses it because something else is used up.
    pub fn give_back(&self, exchange: &mut Exchange, ports: &dyn Ports) {
        let mut shared = Vec::new();
        for taken in exchange.taken.as_slice().iter().filter(|taken| taken.units > 0) {
            let limit = self.limit(taken.limit);
            match taken.is_shared {
                true => shared.push(limit.ask(taken, taken.units)),
                false => limit.table.give_back(taken.key, taken.units, &limit.pace, ports.now()),
            }
        }
        if !shared.is_empty()
            && let Some(counts) = ports.shared_counts()
        {
            counts.give_back(&shared);
        }
        exchange.taken.clear();
    }

    /// Waits until what was taken is there. Whoever does not wait for it gives it back.
    async fn turn(&self, wait: Duration, exchange: &mut Exchange, ports: &dyn Ports) -> Result<Flow<()>, Fault> {
        if wait.is_zero() {
            return Ok(Flow::Go(()));
        }
        let moment = ports.now() + wait;
        let client = exchange.client.clone();
        let mut place = Place { limits: self, exchange, ports, is_kept: false };
        while_wanted(client, ports.until(moment)).await?;
        place.is_kept = true;
        Ok(Flow::Go(()))
    }

    fn tell(&self, exchange: &Exchange, response: &mut Response, ports: &dyn Ports) {
        let headers = &mut response.head.headers;
        let tightest = match exchange.taken.as_slice() {
            [only] if self.cost_headers.is_empty() && exchange.taken.quota.is_none() => {
                Some(Left::of(self.limit(only.limit), &only.verdict))
            }
            _ => self.settle(exchange, headers, ports),
        };
        if self.ways.draft {
            self.tell_policies(exchange, headers);
        }
        if let Some(left) = &tightest {
            headers::tell(self.ways, left, headers);
        }
    }

    /// Settles what it cost. What is left of the tightest.
    #[inline(never)]
    fn settle<'a>(&'a self, exchange: &Exchange, headers: &mut Headers, ports: &dyn Ports) -> Option<Left<'a>> {
        let mut tightest: Option<Left<'_>> = exchange.taken.quota.as_ref().map(Left::of_quota);
        for taken in exchange.taken.as_slice().iter() {
            let limit = self.limit(taken.limit);
            let verdict = match &limit.cost_header {
                Some(name) if taken.units > 0 => limit.settle(taken, headers.get(name.as_str().as_bytes()), ports),
                Some(_) | None => taken.verdict,
            };
            let left = Left::of(limit, &verdict);
            if tightest.is_none_or(|other| left.is_tighter(&other)) {
                tightest = Some(left);
            }
        }
        for name in &self.cost_headers {
            headers.remove(name.as_str().as_bytes());
        }
        tightest
    }

    fn tell_policies(&self, exchange: &Exchange, headers: &mut Headers) {
        self.policies.tell(headers);
        let Some(plans) = &self.plans else { return };
        let consumer = exchange.principal.as_ref().and_then(|principal| principal.consumer.as_ref());
        let given = consumer.and_then(|consumer| consumer.plan.as_ref()).and_then(|plan| plans.of(plan));
        if let Some(given) = given {
            given.policies.tell(headers);
        }
        if let Some(quota) = &exchange.taken.quota {
            headers::tell_quota(quota, headers);
        }
    }
}

impl Limit {
    fn ask(&self, taken: &Taken, units: u32) -> Ask {
        Ask { limit: self.id, key: taken.key, units, pace: self.pace }
    }

    /// The answer says what it cost; the rest is owed, or given back.
    fn settle(&self, taken: &Taken, said: Option<&[u8]>, ports: &dyn Ports) -> Verdict {
        let cost = said.and_then(headers::read_cost).unwrap_or(taken.units);
        let (more, less) = (cost.saturating_sub(taken.units), taken.units.saturating_sub(cost));
        match (taken.is_shared, ports.shared_counts()) {
            (true, Some(counts)) if more > 0 => counts.owe(self.ask(taken, more)),
            (true, Some(counts)) if less > 0 => counts.give_back(&[self.ask(taken, less)]),
            (true, _) => {}
            (false, _) if more > 0 => self.table.owe(taken.key, more, &self.pace, ports.now()),
            (false, _) if less > 0 => self.table.give_back(taken.key, less, &self.pace, ports.now()),
            (false, _) => {}
        }
        taken.verdict.corrected(taken.units, cost, &self.pace)
    }
}

/// A place in the time to come.
struct Place<'a> {
    limits: &'a Limits,
    exchange: &'a mut Exchange,
    ports: &'a dyn Ports,
    is_kept: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.limits.give_back(self.exchange, self.ports);
        }
    }
}
