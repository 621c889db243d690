//! A signed token of an issuer (RFC 7519), verified with keys that the control side fetches. Asks nobody: a token whose key is not known
//! waits a moment for those who do. What a token says of its own keys is not listened to.

mod inspect;
mod rules;
#[cfg(test)]
mod tests;
mod token;

pub use inspect::{Check, Inspection, inspect};
pub use rules::Rules;
pub use token::{TOKEN_BYTES_MAX, Token};

use super::bearer;
use super::place::Found;
use super::{Authorizer, Decision, Making, Refusal};
use maitred_core::identity::keys::COOLDOWN;
use maitred_core::identity::{Generations, KeyCell, Remembered, Roll};
use maitred_core::{Exchange, Fault, Hook, Kind, Ports, Principal};
use maitred_model::{self as model, KeyPlace};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// A token that lives longer is looked at anew after this.
const REMEMBERED_MAX: Duration = Duration::from_secs(3600);

/// Why a token does not open. The words in it are for the log; who shows it is told `description`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    Malformed(Cow<'static, str>),
    Algorithm(String),
    Type(String),
    /// Whoever fetches keys may know it soon.
    UnknownKey(String),
    Signature(String),
    Issuer(String),
    Audience(String),
    Expired(String),
    TooEarly(String),
    Claim(String),
    /// There are no keys at all.
    NoKeys,
}

impl Flaw {
    /// What strangers are told: enough to know whether another token would help.
    pub fn description(&self) -> &'static str {
        match self {
            Flaw::Malformed(_) => "the token is malformed",
            Flaw::Expired(_) => "the token has expired",
            Flaw::TooEarly(_) => "the token is not valid yet",
            Flaw::Algorithm(_) | Flaw::Type(_) | Flaw::UnknownKey(_) | Flaw::Signature(_) | Flaw::NoKeys => {
                "the token is not valid"
            }
            Flaw::Issuer(_) | Flaw::Audience(_) | Flaw::Claim(_) => "the token is not valid here",
        }
    }

    /// Whoever fetches keys may yet bring the one that is wanted: nothing was found to be wrong.
    pub fn is_want_of_keys(&self) -> bool {
        match self {
            Flaw::UnknownKey(_) | Flaw::NoKeys => true,
            Flaw::Malformed(_) | Flaw::Algorithm(_) | Flaw::Type(_) | Flaw::Signature(_) => false,
            Flaw::Issuer(_) | Flaw::Audience(_) | Flaw::Expired(_) | Flaw::TooEarly(_) | Flaw::Claim(_) => false,
        }
    }

    pub fn detail(&self) -> &str {
        match self {
            Flaw::Malformed(why) => why,
            Flaw::Algorithm(why) | Flaw::Type(why) | Flaw::UnknownKey(why) | Flaw::Signature(why) => why,
            Flaw::Issuer(why) | Flaw::Audience(why) | Flaw::Expired(why) | Flaw::TooEarly(why) | Flaw::Claim(why) => why,
            Flaw::NoKeys => "no keys were ever fetched",
        }
    }
}

pub struct Jwt {
    name: Arc<str>,
    number: u64,
    place: KeyPlace,
    rules: Rules,
    keys: Arc<KeyCell>,
    timeout: Duration,
    roll: Arc<Roll>,
}

impl Jwt {
    /// `keys`: those of its issuer.
    pub fn compile(name: Arc<str>, configured: &model::Jwt, keys: Arc<KeyCell>, making: &Making<'_>) -> Jwt {
        Jwt {
            name,
            number: making.number,
            place: configured.place.clone(),
            rules: Rules::new(configured),
            keys,
            timeout: configured.timeout,
            roll: making.roll.clone(),
        }
    }

    fn generations(&self) -> Generations {
        Generations { keys: self.keys.generation(), consumers: self.roll.generation() }
    }

    /// What a token says that is right, for those who make no principal of it. Waits for keys as requests do.
    pub async fn verify(&self, text: &[u8], ports: &dyn Ports) -> Result<Map<String, Value>, Flaw> {
        let before = self.keys.fetched().count();
        match self.claims(text, ports.unix_time(ports.now())) {
            Err(Flaw::UnknownKey(_) | Flaw::NoKeys) if self.keys.ask(ports.now()) && !self.timeout.is_zero() => {
                self.wait(before, ports).await;
                self.claims(text, ports.unix_time(ports.now()))
            }
            other => other,
        }
    }

    /// With the keys of this moment.
    fn claims(&self, text: &[u8], unix: Duration) -> Result<Map<String, Value>, Flaw> {
        let token = Token::parse(text)?;
        self.rules.typ(&token.header)?;
        let algorithm = self.rules.algorithm(&token.header)?;
        let verified = match self.keys.load() {
            Some(keys) => self.rules.signature(&token, algorithm, &keys),
            None => Err(Flaw::NoKeys),
        };
        if let Err(flaw @ (Flaw::UnknownKey(_) | Flaw::NoKeys)) = &verified {
            // Nobody fetches keys for a token that would be refused with them too.
            self.rules.claims(&token.claims()?, unix)?;
            return Err(flaw.clone());
        }
        verified?;
        let claims = token.claims()?;
        self.rules.claims(&claims, unix)?;
        Ok(claims)
    }

    fn judge(&self, text: &[u8], ports: &dyn Ports) -> Result<Arc<Principal>, Flaw> {
        // Read before the keys are: a set that comes meanwhile makes what is remembered old, and not new.
        let generations = self.generations();
        let now = ports.now();
        let unix = ports.unix_time(now);
        let claims = self.claims(text, unix)?;
        let end = self.rules.end(&claims)?;
        let mut principal = self.rules.principal(claims)?;
        principal.authorizer = self.name.clone();
        principal.consumer = principal.subject.as_deref().and_then(|subject| self.roll.by_identity(&self.name, subject));
        let principal = Arc::new(principal);
        let left = Duration::try_from_secs_f64(end - unix.as_secs_f64()).unwrap_or_default().min(REMEMBERED_MAX);
        let remembered = Remembered::Valid(principal.clone());
        ports.verdicts().borrow_mut().put(self.number, text, generations, remembered, (now, now + left));
        Ok(principal)
    }

    fn conclude(&self, judged: Result<Arc<Principal>, Flaw>) -> Decision {
        judged.map_err(|flaw| match flaw.is_want_of_keys() && !self.keys.is_current() {
            true => {
                let fault = Fault::new(
                    Kind::AuthorizerUnavailable,
                    format!("{}, and its issuer's keys cannot be fetched", flaw.detail()),
                );
                Refusal::Failed(Fault { retry_after: Some(COOLDOWN), ..fault })
            }
            false => self.refusal(&flaw),
        })
    }

    fn refusal(&self, flaw: &Flaw) -> Refusal {
        let detail = flaw.detail().to_owned().into();
        let challenge = Some(bearer::refused(&self.name, flaw.description()));
        match flaw.is_want_of_keys() {
            true => Refusal::Unproven { detail, challenge },
            false => Refusal::Invalid { detail, challenge },
        }
    }

    /// Until a fetch is over, for as long as a request waits.
    async fn wait(&self, before: u64, ports: &dyn Ports) {
        let mut late = ports.until(ports.now() + self.timeout);
        poll_fn(|cx| match self.keys.fetched().poll(before, cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => late.as_mut().poll(cx),
        })
        .await;
    }
}

impl Authorizer for Jwt {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        bearer::find(&self.place, exchange) != Found::Nothing
    }

    fn bearer_place(&self) -> Option<&KeyPlace> {
        Some(&self.place)
    }

    fn token_issuer(&self) -> Option<&str> {
        self.rules.one_issuer()
    }

    fn is_anothers(&self, exchange: &Exchange) -> bool {
        match bearer::find(&self.place, exchange) {
            Found::One(token) => !token::claims_unverified(&token).is_ok_and(|claims| self.rules.issuer(&claims).is_ok()),
            Found::Several | Found::Nothing => false,
        }
    }

    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let Found::One(token) = bearer::find(&self.place, exchange) else { return None };
        match ports.verdicts().borrow().get(self.number, &token, self.generations(), exchange.record.started)? {
            Remembered::Valid(principal) => Some(Ok(principal.clone())),
            Remembered::Refused => None,
        }
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        let before = self.keys.fetched().count();
        let judged = match bearer::find(&self.place, exchange) {
            Found::One(token) => self.judge(&token, ports),
            Found::Several => Err(Flaw::Malformed("the request has several tokens".into())),
            Found::Nothing => Err(Flaw::Malformed("the request has no token".into())),
        };
        let is_worth_waiting =
            matches!(judged, Err(Flaw::UnknownKey(_) | Flaw::NoKeys)) && self.keys.ask(ports.now()) && !self.timeout.is_zero();
        if !is_worth_waiting {
            return Hook::Ready(self.conclude(judged));
        }
        Hook::Pending(Box::pin(async move {
            self.wait(before, ports).await;
            match bearer::find(&self.place, exchange) {
                Found::One(token) => self.conclude(self.judge(&token, ports)),
                Found::Several | Found::Nothing => self.conclude(judged),
            }
        }))
    }

    fn challenge(&self) -> Option<String> {
        Some(bearer::challenge(&self.name))
    }

    fn strip(&self, exchange: &mut Exchange) {
        bearer::strip(&self.place, exchange);
    }
}
