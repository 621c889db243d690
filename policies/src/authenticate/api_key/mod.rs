//! A key that a consumer was given, shown as it is. It proves that somebody has the key, and nothing about the request around it. The
//! roll of consumers has a keyed hash of each and no key.

use super::place::{Found, find, strip};
use super::{Authorizer, Decision, Making, Refusal};
use maitred_core::identity::{Generations, Remembered, Roll, Vouched};
use maitred_core::{Exchange, Hook, Ports, Principal};
use maitred_model::{self as model, KeyPlace};
use std::sync::Arc;
use std::time::Duration;

/// A key has no end of its own; what was found out about it is looked at anew after this.
const REMEMBERED: Duration = Duration::from_secs(3600);

pub struct ApiKey {
    name: Arc<str>,
    number: u64,
    place: KeyPlace,
    roll: Arc<Roll>,
}

impl ApiKey {
    pub fn compile(name: Arc<str>, configured: &model::ApiKey, making: &Making<'_>) -> ApiKey {
        ApiKey { name, number: making.number, place: configured.place.clone(), roll: making.roll.clone() }
    }

    fn generations(&self) -> Generations {
        Generations { keys: 0, consumers: self.roll.generation() }
    }

    fn look_up(&self, key: &[u8], ports: &dyn Ports) -> Decision {
        let generations = self.generations();
        let consumer = self.roll.by_key(key).ok_or_else(|| Refusal::invalid("nobody has this key"))?;
        let principal = Arc::new(Principal {
            authorizer: self.name.clone(),
            subject: Some((&*consumer.name).into()),
            consumer: Some(consumer),
            vouched: Vouched::ApiKey,
            ..Principal::default()
        });
        let (now, remembered) = (ports.now(), Remembered::Valid(principal.clone()));
        ports.verdicts().borrow_mut().put(self.number, key, generations, remembered, (now, now + REMEMBERED));
        Ok(principal)
    }
}

impl Authorizer for ApiKey {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        find(&self.place, exchange) != Found::Nothing
    }

    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let Found::One(key) = find(&self.place, exchange) else { return None };
        match ports.verdicts().borrow().get(self.number, &key, self.generations(), exchange.record.started)? {
            Remembered::Valid(principal) => Some(Ok(principal.clone())),
            Remembered::Refused => None,
        }
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        Hook::Ready(match find(&self.place, exchange) {
            Found::One(key) => self.look_up(&key, ports),
            Found::Several => Err(Refusal::invalid("the request has several keys")),
            Found::Nothing => Err(Refusal::invalid("the request has no key")),
        })
    }

    /// No scheme is registered for it.
    fn challenge(&self) -> Option<String> {
        let (place, name) = match &self.place {
            KeyPlace::Header(name) => ("header", name.as_str()),
            KeyPlace::Query(name) => ("query", name.as_str()),
            KeyPlace::Cookie(name) => ("cookie", name.as_str()),
        };
        let quoted = name.replace(['"', '\\'], "");
        Some(format!(r#"ApiKey in="{place}", name="{quoted}""#))
    }

    fn strip(&self, exchange: &mut Exchange) {
        strip(&self.place, exchange);
    }
}
