//! Finds out who it is: of a route's authorizers the first that finds its credential in the request decides, and nobody is asked after
//! it. Without a principal no request passes, but where `anonymous` stands in the list. What a principal may do is `authorize`'s affair.

pub mod api_key;
mod place;

use maitred_core::identity::Roll;
use maitred_core::{Exchange, Fault, Flow, Hook, Kind, Policy, Ports, Principal};
use maitred_model::{self as model, AuthorizerKind};
use std::borrow::Cow;
use std::sync::Arc;

pub const NAME: &str = "authenticate";

/// Why somebody does not come in.
#[derive(Debug)]
pub enum Refusal {
    /// The credential is not valid: 401. `challenge` replaces the authorizer's own, where it can say more.
    Invalid { detail: Cow<'static, str>, challenge: Option<String> },
    /// It is valid, and does not open this door: 403.
    Forbidden(Cow<'static, str>),
    /// It could not be found out, and nobody is let in for that.
    Failed(Fault),
}

impl Refusal {
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::Invalid { detail: detail.into(), challenge: None }
    }
}

pub type Decision = Result<Arc<Principal>, Refusal>;

/// One way to find out who it is.
pub trait Authorizer: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &Arc<str>;

    /// Whether the request carries its kind of credential, right or wrong.
    fn finds(&self, exchange: &Exchange) -> bool;

    /// What is known without effort: from this worker's memory. Allocates nothing.
    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision>;

    /// Finds it out. Called only where `finds` says so.
    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision>;

    /// WWW-Authenticate for who shows nothing (RFC 9110 §11.6.1).
    fn challenge(&self) -> Option<String>;

    /// Takes its credential out of the request.
    fn strip(&self, exchange: &mut Exchange);
}

/// What authorizers are made with.
pub struct Making<'a> {
    /// The gateway's secret, from which each derives a key of its own.
    pub secret: &'a [u8],
    pub roll: &'a Arc<Roll>,
    /// The number of this authorizer: what was remembered under another is not its own.
    pub number: u64,
    /// The index of the upstream that it asks, if it asks one.
    pub upstream: Option<u32>,
}

/// An authorizer as it is configured.
pub fn make(name: &str, configured: &model::Authorizer, making: &Making<'_>) -> Arc<dyn Authorizer> {
    let name: Arc<str> = name.into();
    match &configured.kind {
        AuthorizerKind::ApiKey(key) => Arc::new(api_key::ApiKey::compile(name, key, making)),
    }
}

/// One of a route's authorizers.
#[derive(Clone)]
pub struct Choice {
    pub authorizer: Arc<dyn Authorizer>,
    pub strip: bool,
}

pub struct Authenticate {
    choices: Box<[Choice]>,
    /// Who comes in without a credential, where somebody may.
    anonymous: Option<Arc<Principal>>,
}

impl Authenticate {
    pub fn compile(choices: &[Choice], anonymous: bool) -> Authenticate {
        Authenticate { choices: choices.into(), anonymous: anonymous.then(|| Arc::new(Principal::anonymous())) }
    }

    fn conclude(choice: &Choice, exchange: &mut Exchange, decision: Decision) -> Result<Flow<()>, Fault> {
        let refusal = match decision {
            Ok(principal) => match &principal.consumer {
                Some(consumer) if consumer.disabled => Refusal::Forbidden(format!("{} is disabled", consumer.name).into()),
                Some(_) | None => {
                    if choice.strip {
                        choice.authorizer.strip(exchange);
                    }
                    exchange.principal = Some(principal);
                    return Ok(Flow::Go(()));
                }
            },
            Err(refusal) => refusal,
        };
        let name = choice.authorizer.name();
        Err(match refusal {
            Refusal::Invalid { detail, challenge } => {
                let challenge = challenge.or_else(|| choice.authorizer.challenge());
                unauthenticated(format!("{name}: {detail}"), challenge)
            }
            Refusal::Forbidden(detail) => Fault::new(Kind::Forbidden, format!("{name}: {detail}")),
            Refusal::Failed(fault) => Fault { detail: format!("{name}: {}", fault.detail).into(), ..fault },
        })
    }
}

fn unauthenticated(detail: impl Into<Cow<'static, str>>, challenges: impl IntoIterator<Item = String>) -> Fault {
    let headers = challenges.into_iter().map(|text| (&b"www-authenticate"[..], text.into_bytes())).collect();
    Fault { headers, ..Fault::new(Kind::Unauthenticated, detail) }
}

impl Policy for Authenticate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let Some(choice) = self.choices.iter().find(|choice| choice.authorizer.finds(exchange)) else {
            return Hook::Ready(match &self.anonymous {
                Some(nobody) => {
                    exchange.principal = Some(nobody.clone());
                    Ok(Flow::Go(()))
                }
                None => {
                    let challenges = self.choices.iter().filter_map(|choice| choice.authorizer.challenge());
                    Err(unauthenticated("the request has no credential that this route takes", challenges))
                }
            });
        };
        if let Some(known) = choice.authorizer.recall(exchange, ports) {
            return Hook::Ready(Self::conclude(choice, exchange, known));
        }
        Hook::Pending(Box::pin(async move {
            let decision = match choice.authorizer.decide(exchange, ports) {
                Hook::Ready(decision) => decision,
                Hook::Pending(later) => later.await,
            };
            Self::conclude(choice, exchange, decision)
        }))
    }
}
