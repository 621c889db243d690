//! How often requests may come. Limits by address, header, API and route are asked before it is known who asks, so that they bound guesses too;
//! those by caller, and those of the caller's plan, after `authorize`. A request that one of them refuses takes nothing of any; one that
//! is refused for another reason keeps what it took.
//!
//! It counts in tables that all workers share, or asks those who count for all gateways. It is exact for keys that have a place of their own in
//! their table; more keys than that share, and are limited sooner and never later.

mod headers;
mod keys;
mod runtime;
#[cfg(test)]
mod tests;

pub use headers::{Ways, read_cost};
pub use keys::{KeyMaking, Keys};
pub use runtime::RateLimit;

use headers::Policies;
use maitred_core::limit_table::{Key, Pace, Table, Verdict};
use maitred_core::limits::LimitId;
use maitred_core::limits::series::{LimitSeries, RateLeft};
use maitred_model::{self as model, Cost, CountersFailure, HeaderName};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

pub const NAME: &str = "rate_limit";
/// Where the caller's plan is all that is asked.
pub const PLAN: &str = "plan";

/// Bursts that a request may owe whose cost is known in the end: a wrong number in one answer locks nobody out for long.
const BURSTS_OWED_MAX: u64 = 10;

/// One limit, on the counts that it has.
pub struct Limit {
    /// `api`, `route-2`, `plan`: what answers call it.
    pub name: Box<str>,
    pace: Pace,
    burst: u32,
    keys: Keys,
    units: u32,
    /// The back end says there what it was in the end.
    cost_header: Option<HeaderName>,
    table: Arc<Table>,
    series: Arc<LimitSeries>,
    id: LimitId,
    /// What it begins with when an answer tells of it.
    beginning: Box<[u8]>,
}

/// What a limit has that outlives its configuration.
pub struct Counted {
    pub table: Arc<Table>,
    pub series: Arc<LimitSeries>,
    pub id: LimitId,
}

impl Limit {
    pub fn compile(name: String, configured: &model::RateLimit, keys: Keys, counted: Counted) -> Limit {
        let model::RateLimit { rate, burst, by: _, cost, wait, keys_max: _ } = configured;
        let mut pace = Pace::new(rate.count.get(), rate.per.duration(), burst.get());
        if let Some(wait) = wait {
            pace = pace.patient(*wait);
        }
        let (units, cost_header) = match cost {
            Cost::Units(units) => (units.get(), None),
            Cost::ResponseHeader(name) => (1, Some(name.clone())),
        };
        if cost_header.is_some() {
            pace = pace.owing(BURSTS_OWED_MAX);
        }
        let Counted { table, series, id } = counted;
        let beginning = headers::beginning(&name);
        Limit { name: name.into(), pace, burst: burst.get(), keys, units, cost_header, table, series, id, beginning }
    }

    /// What is left for a consumer; `None`: it is not consumers that are counted apart.
    pub fn left_for(&self, consumer: &str, now: Instant) -> Option<Verdict> {
        let key = self.key_of(consumer)?;
        Some(self.table.peek(key, &self.pace, now))
    }

    /// The same, for who is to be told of which limit it is.
    pub fn rate_left(&self, consumer: &str, now: Instant) -> Option<RateLeft> {
        let verdict = self.left_for(consumer, now)?;
        Some(RateLeft { name: self.series.name.clone(), burst: self.burst, verdict })
    }

    /// A consumer's key.
    pub fn key_of(&self, consumer: &str) -> Option<Key> {
        self.keys.of_consumer(consumer, &self.table)
    }

    pub fn id(&self) -> LimitId {
        self.id
    }
}

/// What a plan gives its consumers on a route.
pub struct PlanTerms {
    pub plan: Arc<str>,
    pub priority: u8,
    pub limits: Vec<Limit>,
}

/// What plans give on a route, or on all routes of an API.
#[derive(Default)]
pub struct PlanLimits {
    /// By name.
    plans: Box<[(Arc<str>, Given)]>,
    limits: Box<[Limit]>,
}

/// What a plan gives.
struct Given {
    priority: u8,
    /// Of `PlanLimits::limits`.
    limits: Range<u32>,
    policies: Policies,
}

impl PlanLimits {
    pub fn new(mut terms: Vec<PlanTerms>) -> PlanLimits {
        terms.sort_by(|a, b| a.plan.cmp(&b.plan));
        let (mut plans, mut all) = (Vec::with_capacity(terms.len()), Vec::new());
        for PlanTerms { plan, priority, limits } in terms {
            let first = all.len() as u32;
            let policies = Policies::of(&limits);
            all.extend(limits);
            plans.push((plan, Given { priority, limits: first..all.len() as u32, policies }));
        }
        PlanLimits { plans: plans.into(), limits: all.into() }
    }

    fn of(&self, plan: &str) -> Option<&Given> {
        let at = self.plans.binary_search_by(|(name, _)| (**name).cmp(plan)).ok()?;
        Some(&self.plans[at].1)
    }

    fn given(&self, given: &Given) -> &[Limit] {
        &self.limits[given.limits.start as usize..given.limits.end as usize]
    }

    /// Those of a plan; `None`: there is no such plan.
    pub fn limits_of(&self, plan: &str) -> Option<&[Limit]> {
        Some(self.given(self.of(plan)?))
    }
}

/// All limits of a route, for its policies of both phases.
pub struct Limits {
    /// Those that need nobody's name first.
    own: Box<[Limit]>,
    /// How many those are.
    early: u32,
    /// `None`: nobody is asked on this route who it is.
    plans: Option<Arc<PlanLimits>>,
    ways: Ways,
    policies: Policies,
    /// Headers of answers that are the gateway's to read, and nobody's after it.
    cost_headers: Box<[HeaderName]>,
    /// Whether counts are kept elsewhere, and what becomes of requests while they cannot be asked.
    elsewhere: Option<CountersFailure>,
}

impl Limits {
    /// `plans`: on a route where it is asked who comes in. `elsewhere`: where counts are not this gateway's.
    pub fn new(limits: Vec<Limit>, plans: Option<Arc<PlanLimits>>, ways: Ways, elsewhere: Option<CountersFailure>) -> Limits {
        let (mut own, late): (Vec<Limit>, Vec<Limit>) = limits.into_iter().partition(|limit| !limit.keys.names_identity());
        let early = own.len() as u32;
        own.extend(late);
        let of_plans = plans.iter().flat_map(|plans| &plans.limits);
        let mut cost_headers: Vec<HeaderName> =
            own.iter().chain(of_plans).filter_map(|limit| limit.cost_header.clone()).collect();
        cost_headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        cost_headers.dedup();
        let policies = Policies::of(&own);
        Limits { own: own.into(), early, plans, ways, policies, cost_headers: cost_headers.into(), elsewhere }
    }

    /// The phase before it is known who asks, where there is anything to ask.
    pub fn early(self: &Arc<Limits>) -> Option<RateLimit> {
        (self.early > 0).then(|| RateLimit { limits: self.clone(), is_late: false, tells: true })
    }

    /// The phase after it: also where it is only to be seen that the caller's plan exists.
    pub fn late(self: &Arc<Limits>) -> Option<RateLimit> {
        let is_asked = self.plans.is_some() || self.own.len() as u32 > self.early;
        is_asked.then(|| RateLimit { limits: self.clone(), is_late: true, tells: self.early == 0 })
    }

    fn limit(&self, index: u32) -> &Limit {
        let index = index as usize;
        match index.checked_sub(self.own.len()) {
            None => &self.own[index],
            Some(index) => &self.plans.as_ref().map_or(&[][..], |plans| &plans.limits)[index],
        }
    }
}
