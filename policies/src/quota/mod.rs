//! Takes of what a caller's plan gives in a period, and refuses when it is used up. Exact over all workers, or asked of the counts that gateways
//! share. It is asked last of all limits, so that what is refused elsewhere costs nobody's quota; it knows no rates, and whoever has no plan
//! has no quota.

#[cfg(test)]
mod tests;

use crate::rate_limit::Limits;
use maitred_core::identity::Consumer;
use maitred_core::limit_table::Key;
use maitred_core::limits::{AskQuota, QuotaLeft, Unanswered};
use maitred_core::metrics::QuotaSeries;
use maitred_core::quota::{Grant, Meter, Period};
use maitred_core::{Exchange, Fault, Flow, Hook, Kind, Policy, Ports};
use maitred_model::{CountersFailure, QuotaBy};
use std::sync::Arc;
use std::time::Duration;

pub const NAME: &str = "quota";

/// What each request takes.
const UNITS: u32 = 1;

/// What plans give on a route.
#[derive(Clone, Default)]
pub struct Quotas {
    /// Of plans that give one here.
    pub plans: Vec<Offered>,
    /// Where counts are shared.
    pub shared: Option<Shared>,
}

/// What one plan gives.
#[derive(Clone)]
pub struct Offered {
    pub grant: Arc<Grant>,
    pub series: Arc<QuotaSeries>,
}

/// How counts that are kept elsewhere are asked.
#[derive(Clone)]
pub struct Shared {
    /// The fingerprint of a name, for all gateways the same.
    pub key: Arc<dyn Fn(&str) -> Key + Send + Sync>,
    pub on_failure: CountersFailure,
}

impl Shared {
    /// What is asked of a consumer's part of a quota, and no units yet.
    pub fn ask(&self, grant: &Grant, consumer: &str, period: Period, unix: Duration) -> AskQuota {
        let owner = match grant.slot.key.by {
            QuotaBy::Consumer => consumer,
            QuotaBy::Plan => "",
        };
        AskQuota {
            limit: grant.slot.id,
            key: (self.key)(owner),
            period: period.start,
            ends_in: period.ends_in(unix),
            most: grant.most,
            units: 0,
            owed: 0,
        }
    }
}

pub struct Quota {
    /// By name.
    plans: Box<[Offered]>,
    shared: Option<Shared>,
    /// What they took, who is refused here gets back.
    limits: Option<Arc<Limits>>,
}

impl Quota {
    /// `None`: no plan gives a quota here. `limits`: those of the route.
    pub fn compile(configured: &Quotas, limits: Option<&Arc<Limits>>) -> Option<Quota> {
        let mut plans = configured.plans.clone();
        plans.sort_by(|a, b| a.plan().cmp(b.plan()));
        let quota = || Quota { plans: plans.into(), shared: configured.shared.clone(), limits: limits.cloned() };
        (!configured.plans.is_empty()).then(quota)
    }

    /// What the caller's plan gives. That there is such a plan at all, its limits saw to.
    fn offered<'e>(&self, exchange: &'e Exchange) -> Option<(&Offered, &'e Arc<Consumer>)> {
        let consumer = exchange.principal.as_ref()?.consumer.as_ref()?;
        let plan = consumer.plan.as_deref()?;
        let at = self.plans.binary_search_by(|offered| offered.plan().cmp(plan)).ok()?;
        Some((&self.plans[at], consumer))
    }
}

impl Offered {
    fn plan(&self) -> &str {
        &self.grant.slot.key.plan
    }
}

impl Policy for Quota {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let Some((offered, consumer)) = self.offered(exchange) else { return Hook::Ready(Ok(Flow::Go(()))) };
        let unix = ports.unix_time(ports.now());
        let spending = Spending { offered, period: offered.grant.slot.calendar.period(unix.as_secs()), unix };
        if let (Some(shared), Some(_)) = (&self.shared, ports.shared_counts()) {
            let consumer = consumer.clone();
            return Hook::Pending(Box::pin(async move {
                match spending.ask(shared, &consumer, ports).await {
                    Ok(spent) => self.settle(&spending, spent, exchange, ports),
                    Err(fault) => {
                        self.give_back(exchange, ports);
                        Err(fault)
                    }
                }
            }));
        }
        let spent = spending.spend(consumer);
        Hook::Ready(self.settle(&spending, spent, exchange, ports))
    }
}

impl Quota {
    fn give_back(&self, exchange: &mut Exchange, ports: &dyn Ports) {
        if let Some(limits) = &self.limits {
            limits.give_back(exchange, ports);
        }
    }

    /// Says what came of it: to the client, to who counts, and to whoever refuses next.
    fn settle(
        &self,
        spending: &Spending<'_>,
        spent: Spent,
        exchange: &mut Exchange,
        ports: &dyn Ports,
    ) -> Result<Flow<()>, Fault> {
        let Spending { offered: Offered { grant, series }, period, unix } = spending;
        let (Ok(used) | Err(used)) = spent;
        let ends_in = period.ends_in(*unix);
        series.count(ports.worker(), spent.is_ok());
        if spent.is_err() {
            self.give_back(exchange, ports);
        }
        exchange.taken.quota = Some(QuotaLeft {
            most: grant.most,
            left: grant.most.saturating_sub(used),
            ends_in,
            window: Duration::from_secs(period.end - period.start),
        });
        match spent {
            Ok(_) => Ok(Flow::Go(())),
            Err(_) => {
                let fault = Fault::new(Kind::QuotaExceeded, format!("the quota of plan `{}` is used up", grant.slot.key.plan));
                Err(Fault { retry_after: Some(ends_in), ..fault })
            }
        }
    }
}

/// One request's part of a quota.
#[derive(Clone, Copy)]
struct Spending<'a> {
    offered: &'a Offered,
    period: Period,
    unix: Duration,
}

/// What is used with this request, or without it where there was not enough.
type Spent = Result<u64, u64>;

impl Spending<'_> {
    fn spend(&self, consumer: &Consumer) -> Spent {
        let grant = &self.offered.grant;
        grant.count(&consumer.account).meter.spend(self.period, u64::from(UNITS), grant.most)
    }

    async fn ask(&self, shared: &Shared, consumer: &Consumer, ports: &dyn Ports) -> Result<Spent, Fault> {
        let grant = &self.offered.grant;
        let ask = shared.ask(grant, &consumer.name, self.period, self.unix);
        let count = grant.count(&consumer.account);
        let mut owing = Owing { meter: &count.meter, period: self.period, units: count.meter.take_owed(self.period) };
        let answer = match ports.shared_counts() {
            Some(counts) => counts.spend(AskQuota { units: UNITS, owed: owing.units, ..ask }).await,
            None => Err(Unanswered),
        };
        if answer.is_ok() {
            owing.units = 0;
        }
        drop(owing);
        match (answer, shared.on_failure) {
            (Ok(spent), _) => {
                // Whoever asks what is used is told here; and if nobody answers any more, it goes on from there.
                let (Ok(used) | Err(used)) = spent;
                count.meter.learn(self.period, used);
                Ok(spent)
            }
            (Err(Unanswered), CountersFailure::Local) => Ok(count.meter.spend_alone(self.period, u64::from(UNITS), grant.most)),
            (Err(Unanswered), CountersFailure::Open) => Ok(Ok(count.meter.used(self.period))),
            (Err(Unanswered), CountersFailure::Closed) => {
                Err(Fault::new(Kind::CountersUnavailable, "the quota could not be asked where it is counted"))
            }
        }
    }
}

/// What others are being told that was used without them. Unless they answer, they are told again.
struct Owing<'a> {
    meter: &'a Meter,
    period: Period,
    units: u64,
}

impl Drop for Owing<'_> {
    fn drop(&mut self) {
        self.meter.owe(self.period, self.units);
    }
}
