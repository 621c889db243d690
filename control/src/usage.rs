//! What consumers used of their plans' quotas, as an administrator sees it. Counts nothing, and refuses nobody: policies do.

#[cfg(test)]
mod tests;

use crate::consumers::unknown;
use crate::store::{NotChanged, Past, Store};
use crate::times::of_millis;
use maitred_core::limits::series::RateLeft;
use maitred_core::quota::{Accounts, Grant, Period};
use maitred_model::{Counters, Document, QuotaBy};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Periods that have passed, in one answer: a year of days.
const PAST_MAX: usize = 366;
const MILLIS: i64 = 1000;
/// Consumers whose counts are asked for together, where gateways share them: requests ask there too, and wait for what is asked before them.
const ASKED_AT_ONCE: usize = 64;
/// For all that one answer has to ask. What is not asked by then is told as it was heard last.
const ASKING_TIME_MAX: Duration = Duration::from_secs(3);

/// What a consumer used of a quota is asked elsewhere: of each, or of none.
pub type Elsewhere<'a> = dyn Fn(&[(&Grant, &str)]) -> Option<Vec<u64>> + 'a;

/// One consumer's.
#[derive(Debug, Clone)]
pub struct UsageView {
    pub consumer: String,
    pub plan: Option<String>,
    pub quotas: Vec<QuotaView>,
    /// Where one was asked for.
    pub details: Option<Details>,
}

/// What is told of one consumer alone.
#[derive(Debug, Clone)]
pub struct Details {
    pub rates: Vec<RateLeft>,
    pub past: Vec<Past>,
}

/// One quota, and what is left of it.
#[derive(Debug, Clone)]
pub struct QuotaView {
    pub grant: Arc<Grant>,
    pub used: u64,
    pub period: Period,
    /// It is counted elsewhere.
    pub is_shared: bool,
    /// It could not be asked there: what is used is what this gateway heard last.
    pub is_stale: bool,
}

/// What is live, and where it is counted.
pub struct Usage<'a> {
    pub document: &'a Document,
    /// Every quota of every plan.
    pub grants: &'a [Arc<Grant>],
    pub store: &'a Store,
    pub accounts: &'a Accounts,
    pub now: SystemTime,
    /// What a plan's rate limits have left for a consumer: plan, then consumer.
    pub rates: &'a dyn Fn(&str, &str) -> Vec<RateLeft>,
    /// Asked where gateways share counts, with what is live at `now`.
    pub elsewhere: &'a Elsewhere<'a>,
}

impl Usage<'_> {
    /// Of every consumer that has a plan: the configuration's in their order, and the store's by name.
    pub fn all(&self) -> Vec<UsageView> {
        let configured = self.document.consumers.iter();
        let configured = configured.filter_map(|(name, consumer)| Some((name.clone(), consumer.plan.as_ref()?.value.clone())));
        let stored = self.store.consumers().into_iter().filter(|stored| !self.document.consumers.contains_key(&stored.name));
        let stored = stored.filter_map(|stored| Some((stored.name, stored.plan?)));
        self.of(configured.chain(stored).map(|(name, plan)| (name, Some(plan))).collect())
    }

    pub fn one(&self, name: &str) -> Result<UsageView, NotChanged> {
        let view = self.found(name)?;
        let rates = match (&view.plan, self.is_shared()) {
            (Some(plan), false) => (self.rates)(plan, name),
            // What is counted elsewhere is not known here.
            (Some(_), true) | (None, _) => Vec::new(),
        };
        let past = self.store.past_usage(name, PAST_MAX)?;
        Ok(UsageView { details: Some(Details { rates, past }), ..view })
    }

    /// As if it had used nothing of what is its own.
    pub fn reset(&self, name: &str) -> Result<UsageView, NotChanged> {
        let view = self.found(name)?;
        let refused = |words: String| Err(NotChanged::Conflict(words));
        if self.is_shared() {
            return refused(
                "quotas are counted where `counters` says, for all gateways together: they cannot be reset here".to_owned(),
            );
        }
        let Some(plan) = &view.plan else { return refused(format!("consumer `{name}` has no plan, and so no quota")) };
        let is_own = |quota: &QuotaView| quota.grant.slot.key.by == QuotaBy::Consumer;
        if !view.quotas.iter().any(is_own) {
            let words = match view.quotas.is_empty() {
                true => format!("plan `{plan}` has no quota"),
                false => format!(
                    "the quotas of plan `{plan}` belong to all its consumers together: they begin anew with their periods"
                ),
            };
            return refused(words);
        }
        self.store.reset_usage(name)?;
        tracing::info!(consumer = name, "what a consumer used of its quotas was reset");
        self.one(name)
    }

    fn is_shared(&self) -> bool {
        matches!(self.document.counters, Counters::Redis(_))
    }

    fn found(&self, name: &str) -> Result<UsageView, NotChanged> {
        if let Some(consumer) = self.document.consumers.get(name) {
            return Ok(self.of_one(name.to_owned(), consumer.plan.as_ref().map(|plan| plan.value.clone())));
        }
        let stored = self.store.consumer(name).ok_or_else(|| unknown(self.document, self.store, name))?;
        Ok(self.of_one(stored.name, stored.plan))
    }

    fn of_one(&self, consumer: String, plan: Option<String>) -> UsageView {
        let mut told = self.ask(&[(consumer.clone(), plan.clone())]).map(Vec::into_iter);
        self.view(consumer, plan, &mut told)
    }

    fn of(&self, consumers: Vec<(String, Option<String>)>) -> Vec<UsageView> {
        let (mut views, until) = (Vec::with_capacity(consumers.len()), Instant::now() + ASKING_TIME_MAX);
        let mut can_ask = true;
        for some in consumers.chunks(ASKED_AT_ONCE) {
            let told = if can_ask && Instant::now() < until { self.ask(some) } else { None };
            // Who does not answer once is not waited for again.
            can_ask = told.is_some();
            let mut told = told.map(Vec::into_iter);
            views.extend(some.iter().map(|(name, plan)| self.view(name.clone(), plan.clone(), &mut told)));
        }
        views
    }

    /// What they used of their quotas, in the order of both, where that is counted elsewhere.
    fn ask(&self, consumers: &[(String, Option<String>)]) -> Option<Vec<u64>> {
        if !self.is_shared() {
            return None;
        }
        let quotas = |(name, plan)| self.grants_of(plan).map(move |grant: &Arc<Grant>| (&**grant, name));
        let asked: Vec<(&Grant, &str)> =
            consumers.iter().map(|(name, plan)| (name.as_str(), plan.as_deref())).flat_map(quotas).collect();
        if asked.is_empty() { Some(Vec::new()) } else { (self.elsewhere)(&asked) }
    }

    fn grants_of<'p>(&'p self, plan: Option<&'p str>) -> impl Iterator<Item = &'p Arc<Grant>> {
        self.grants.iter().filter(move |grant| plan == Some(&*grant.slot.key.plan))
    }

    /// `told`: what was said elsewhere, of which this takes its part.
    fn view(&self, consumer: String, plan: Option<String>, told: &mut Option<impl Iterator<Item = u64>>) -> UsageView {
        let moment = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let account = self.accounts.known(&consumer).unwrap_or_default();
        let is_shared = self.is_shared();
        let view = |grant: &Arc<Grant>| {
            let total = told.as_mut().and_then(Iterator::next);
            if let Some(total) = total {
                // What is not told there yet comes to it.
                grant.count(&account).meter.learn(grant.slot.calendar.period(moment), total);
            }
            let (period, used) = grant.used(&account, moment);
            QuotaView { grant: grant.clone(), used, period, is_shared, is_stale: is_shared && total.is_none() }
        };
        let quotas = self.grants_of(plan.as_deref()).map(view).collect();
        UsageView { consumer, plan, quotas, details: None }
    }
}

impl UsageView {
    pub fn to_json(&self) -> Value {
        let UsageView { consumer, plan, quotas, details } = self;
        let mut told = json!({
            "consumer": consumer,
            "plan": plan,
            "quotas": quotas.iter().map(QuotaView::to_json).collect::<Value>(),
        });
        if let Some(Details { rates, past }) = details {
            told["rate_limits"] = rates.iter().map(of_rate).collect();
            told["past"] = past.iter().map(of_past).collect();
        }
        told
    }
}

impl QuotaView {
    fn to_json(&self) -> Value {
        let QuotaView { grant, used, period, is_shared, is_stale } = self;
        let key = &grant.slot.key;
        let by = match key.by {
            QuotaBy::Consumer => "consumer",
            QuotaBy::Plan => "plan",
        };
        json!({
            "api": key.api.as_deref(),
            "route": key.route.as_deref(),
            "by": by,
            "limit": grant.most,
            "used": used,
            "left": grant.most.saturating_sub(*used),
            "per": key.per.name(),
            "time_zone": key.time_zone,
            "began": moment(period.start),
            "resets_at": moment(period.end),
            "shared": is_shared,
            "stale": is_stale,
        })
    }
}

fn moment(seconds: u64) -> Option<String> {
    of_millis(i64::try_from(seconds).ok()?.checked_mul(MILLIS)?)
}

fn of_rate(rate: &RateLeft) -> Value {
    let RateLeft { name, burst, verdict } = rate;
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "limit": *name.limit,
        "api": named(&name.api),
        "route": named(&name.route),
        "burst": burst,
        "left": verdict.remaining,
        "full_in_seconds": verdict.full_nanos.div_ceil(1_000_000_000),
    })
}

fn of_past(past: &Past) -> Value {
    let Past { plan, api, route, start, end, used } = past;
    json!({ "plan": plan, "api": api, "route": route, "began": of_millis(*start), "ended": of_millis(*end), "used": used })
}
