//! Which domain has which certificate, and what is to be done for it next. Does none of it: the job asks, works, and notes.

use super::account::{Authority, Identity};
use super::held::Held;
use super::order::Ways;
use super::schedule::{ASK_MAX, ASK_MIN, moment_in, retry_in};
use instant_acme::CertificateIdentifier;
use jiff::Timestamp;
use maitred_core::Chance;
use maitred_model::{Acme, AcmeChallenge};
use maitred_transport::IssuedCertificates;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One certificate: whose, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub authority: Identity,
    pub domain: Arc<str>,
}

/// The certificates of one `acme`, in the order in which it lists its domains.
pub(super) struct Set {
    pub issued: Arc<IssuedCertificates>,
    pub keys: Vec<Key>,
}

impl Set {
    pub fn fill(&self, held: impl Fn(&Key) -> Option<Arc<Held>>) {
        let held: Vec<Arc<Held>> = self.keys.iter().filter_map(held).collect();
        let pairs: Vec<(&[u8], &[u8])> = held.iter().map(|held| (held.pem(), held.pem())).collect();
        if let Err((_, problem)) = self.issued.set(&pairs) {
            tracing::error!(problem = problem.what, "certificates that were obtained cannot be used");
        }
    }
}

/// What there is at the beginning.
pub(super) struct Found {
    pub authority: Arc<Authority>,
    pub held: Option<Arc<Held>>,
    pub challenge: Option<AcmeChallenge>,
}

/// What is to be done for a domain.
pub(super) enum Work {
    Order {
        authority: Arc<Authority>,
        held: Option<Arc<Held>>,
        replaces: Option<CertificateIdentifier<'static>>,
        failures: u32,
        ways: Ways,
    },
    /// When the authority would like it to be renewed.
    Ask { authority: Arc<Authority>, id: CertificateIdentifier<'static> },
}

#[derive(Default)]
pub(super) struct Table {
    units: BTreeMap<Key, Unit>,
    sets: Vec<Set>,
    ways: Ways,
    /// Failures of domains that are in no plan now: one that comes back soon waits all the same.
    resting: BTreeMap<Key, Rest>,
    chance: Chance,
}

struct Unit {
    authority: Arc<Authority>,
    held: Option<Arc<Held>>,
    challenge: Option<AcmeChallenge>,
    rest: Rest,
    /// When to renew, by the certificate's life or by the authority's wish.
    renew_at: i64,
    /// The authority's wish itself, where it has one.
    wish: Option<i64>,
    ask_at: i64,
    /// When the certificate came, as far as is known.
    since: i64,
    is_at_work: bool,
}

/// Failures in a row, and until when nothing is tried because of them.
#[derive(Debug, Clone, Copy, Default)]
struct Rest {
    failures: u32,
    until: i64,
}

impl Rest {
    fn fail(&mut self, before: u32, patience: Option<i64>, now: i64, dice: f64) {
        self.failures = before.saturating_add(1);
        self.until = now + retry_in(self.failures, patience, dice);
    }
}

impl Unit {
    fn due(&self) -> i64 {
        self.renew_at.max(self.rest.until)
    }

    fn take(&mut self, held: Arc<Held>, since: i64, now: i64, dice: f64) {
        self.renew_at = held.life.renew_at(dice);
        self.since = since;
        (self.wish, self.ask_at) = (None, now);
        self.rest = Rest::default();
        self.held = Some(held);
    }

    fn may_ask(&self) -> Option<&CertificateIdentifier<'static>> {
        self.held.as_ref()?.id.as_ref()
    }
}

impl Table {
    pub fn authority(&self, acme: &Acme) -> Option<Arc<Authority>> {
        self.units.values().map(|unit| &unit.authority).find(|authority| authority.is(acme)).cloned()
    }

    pub fn held(&self, key: &Key) -> Option<Arc<Held>> {
        self.units.get(key)?.held.clone()
    }

    /// Domains without a certificate.
    pub fn waiting(&self) -> Vec<&str> {
        self.units.iter().filter(|(_, unit)| unit.held.is_none()).map(|(key, _)| &*key.domain).collect()
    }

    pub fn follow(&mut self, sets: Vec<Set>, found: HashMap<Key, Found>, ways: Ways, now: i64) {
        (self.sets, self.ways) = (sets, ways);
        let gone: Vec<Key> = self.units.keys().filter(|key| !found.contains_key(key)).cloned().collect();
        for key in gone {
            if let Some(unit) = self.units.remove(&key) {
                self.resting.insert(key, unit.rest);
            }
        }
        self.resting.retain(|_, rest| rest.until > now);
        for (key, Found { authority, held, challenge }) in found {
            if let Some(unit) = self.units.get_mut(&key) {
                (unit.authority, unit.challenge) = (authority, challenge);
                continue;
            }
            let rest = self.resting.remove(&key).unwrap_or_default();
            let mut unit = Unit {
                authority,
                held: None,
                challenge,
                rest,
                renew_at: now,
                wish: None,
                ask_at: now,
                since: now,
                is_at_work: false,
            };
            if let Some(held) = held {
                let since = held.life.not_before;
                unit.take(held, since, now, dice(&self.chance));
            }
            self.units.insert(key, unit);
        }
        // An order may have ended since the plan was prepared.
        self.fill();
    }

    /// One thing that is due.
    pub fn begin(&mut self, now: i64) -> Option<(Key, Work)> {
        let ways = self.ways;
        for (key, unit) in self.units.iter_mut().filter(|(_, unit)| !unit.is_at_work) {
            let authority = unit.authority.clone();
            let work = if unit.due() <= now {
                // Only where the authority has answered to the name; and one that refuses it is not told again.
                let known = unit.wish.is_some() && unit.rest.failures == 0;
                let replaces = unit.may_ask().filter(|_| known).cloned();
                Work::Order {
                    authority,
                    held: unit.held.clone(),
                    replaces,
                    failures: unit.rest.failures,
                    ways: ways.only(unit.challenge),
                }
            } else {
                match unit.may_ask().filter(|_| unit.ask_at <= now) {
                    Some(id) => Work::Ask { authority, id: id.clone() },
                    None => continue,
                }
            };
            unit.is_at_work = true;
            return Some((key.clone(), work));
        }
        None
    }

    /// When something is due that nobody is at.
    pub fn next(&self, now: i64) -> i64 {
        let idle = self.units.values().filter(|unit| !unit.is_at_work);
        let dues = idle.map(|unit| if unit.may_ask().is_some() { unit.due().min(unit.ask_at) } else { unit.due() });
        dues.min().unwrap_or(i64::MAX).max(now)
    }

    pub fn note_held(&mut self, key: &Key, held: Arc<Held>, now: i64) {
        let dice = dice(&self.chance);
        // Dropped by a reload meanwhile: it is in its folder, should anybody want it again.
        let Some(unit) = self.units.get_mut(key) else { return };
        unit.is_at_work = false;
        let (life, failures) = (held.life, unit.rest.failures);
        unit.take(held, now, now, dice);
        if unit.renew_at <= now {
            // Nothing was gained, and an authority whose clock is wrong must not be asked for one after the other.
            unit.rest.fail(failures, None, now, dice);
        }
        let (until, renewal) = (time(life.not_after), time(unit.renew_at));
        self.fill();
        // Said when it is true.
        tracing::info!(domain = &*key.domain, %until, %renewal, "there is a certificate");
    }

    pub fn note_failure(&mut self, key: &Key, what: &str, patience: Option<i64>, now: i64) {
        let dice = dice(&self.chance);
        let Some(unit) = self.units.get_mut(key) else { return };
        unit.is_at_work = false;
        unit.rest.fail(unit.rest.failures, patience, now, dice);
        let (domain, again, failures) = (&*key.domain, time(unit.rest.until), unit.rest.failures);
        match &unit.held {
            Some(held) if held.life.not_after > now => {
                tracing::warn!(domain, failures, %again, until = %time(held.life.not_after), "no new certificate: {what}");
            }
            Some(held) => {
                tracing::error!(domain, failures, %again, ended = %time(held.life.not_after), "no new certificate: {what}");
            }
            None => tracing::error!(domain, failures, %again, "no certificate: {what}"),
        }
    }

    /// `wish`: from when until when, and in how many seconds to ask again.
    pub fn note_wish(&mut self, key: &Key, wish: Option<(i64, i64, i64)>, now: i64) {
        let dice = dice(&self.chance);
        let Some(unit) = self.units.get_mut(key) else { return };
        unit.is_at_work = false;
        unit.ask_at = now + wish.map_or(ASK_MAX, |(_, _, again)| again.clamp(ASK_MIN, ASK_MAX));
        let (Some((start, end, _)), Some(held)) = (wish, &unit.held) else { return };
        let moment = moment_in(start, end, unit.wish, dice);
        let renew_at = held.life.heed(moment, unit.since);
        if unit.wish != Some(moment) {
            tracing::info!(domain = &*key.domain, renewal = %time(renew_at), "the authority says when to renew");
        }
        (unit.wish, unit.renew_at) = (Some(moment), renew_at);
    }

    fn fill(&self) {
        for set in &self.sets {
            set.fill(|key| self.held(key));
        }
    }
}

/// A number in 0..1.
fn dice(chance: &Chance) -> f64 {
    const SIDES: usize = 1 << 20;
    chance.below(SIDES) as f64 / SIDES as f64
}

/// For logs.
pub(super) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
