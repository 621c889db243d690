//! Name and password (RFC 7617), against a file of users. Passwords are hashed slowly on purpose, so no worker does it: what was found out is
//! remembered, refusals too, and an unknown user costs what a wrong password does.

pub mod header;
mod password;

use super::{Authorizer, Decision, Making, PAUSE, Refusal};
use header::Credentials;
use maitred_core::identity::{Finding, Generations, Remembered, Roll};
use maitred_core::wire::Name;
use maitred_core::{Compute, Exchange, Fault, Hook, Kind, Ports, Principal};
use maitred_model::{self as model, Htpasswd};
use std::sync::Arc;
use std::time::Duration;

/// A right password stays right until the file changes, which forgets all. This bounds what a stolen verdict is worth.
const VALID_FOR: Duration = Duration::from_secs(5 * 60);
/// A client that goes on asking with a wrong password costs a hash each time.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// The same for an unknown user and a wrong password.
const WRONG: &str = "no user has this name and password";

pub struct Basic {
    name: Arc<str>,
    /// A reload that changes neither users nor consumers forgets nothing: else all of them would be hashed anew at once.
    number: u64,
    roll: Arc<Roll>,
    compute: Arc<Compute>,
    users: Arc<Htpasswd>,
    challenge: String,
}

impl Basic {
    pub fn compile(name: Arc<str>, configured: &model::Basic, making: &Making<'_>) -> Basic {
        Basic {
            name,
            number: making.lasting,
            roll: making.roll.clone(),
            compute: making.compute.clone(),
            users: configured.htpasswd.users.clone(),
            challenge: format!(r#"Basic realm="{}", charset="UTF-8""#, configured.realm),
        }
    }

    fn generations(&self) -> Generations {
        Generations { keys: 0, consumers: self.roll.generation() }
    }

    async fn find_out(&self, credentials: Credentials, value: &[u8], ports: &dyn Ports) -> Finding {
        let unavailable = |detail| Fault::new(Kind::AuthorizerUnavailable, detail);
        let generations = self.generations();
        let Credentials { user, password } = credentials;
        let known = self.users.user(&user);
        let is_known = known.is_some();
        let hash = known.unwrap_or(self.users.usual()).clone();
        let computing = self.compute.run(move || password::is_right(&hash, password.as_bytes()));
        let Ok(computing) = computing else {
            ports.until(ports.now() + PAUSE).await;
            return Err(unavailable("too many passwords wait to be hashed"));
        };
        let is_right = computing.await.map_err(|_| unavailable("the hash came to no result"))?;
        let (remembered, keep) = match is_right && is_known {
            true => (Remembered::Valid(Arc::new(self.principal(user))), VALID_FOR),
            false => (Remembered::Refused, REFUSED_FOR),
        };
        let now = ports.now();
        ports.verdicts().borrow_mut().put(self.number, value, generations, remembered.clone(), (now, now + keep));
        Ok(remembered)
    }

    fn principal(&self, user: Box<str>) -> Principal {
        let consumer = self.roll.by_identity(&self.name, &user);
        Principal { authorizer: self.name.clone(), subject: Some(user), consumer, ..Principal::default() }
    }
}

/// Authorization, where there is one and no other.
fn only(exchange: &Exchange) -> Option<&[u8]> {
    let headers = &exchange.request.headers;
    headers.known(Name::Authorization).filter(|_| !headers.is_repeated(Name::Authorization))
}

fn decision(remembered: Remembered) -> Decision {
    match remembered {
        Remembered::Valid(principal) => Ok(principal),
        Remembered::Refused => Err(Refusal::invalid(WRONG)),
    }
}

impl Authorizer for Basic {
    fn is_costly(&self) -> bool {
        true
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        exchange.request.headers.all_known(Name::Authorization).any(header::is_basic)
    }

    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let verdicts = ports.verdicts().borrow();
        let known = verdicts.get(self.number, only(exchange)?, self.generations(), ports.now())?;
        Some(decision(known.clone()))
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        let Some(value) = only(exchange) else {
            return Hook::Ready(Err(Refusal::invalid("there are several Authorization headers")));
        };
        let credentials = match header::parse(value) {
            Ok(credentials) => credentials,
            Err(why) => return Hook::Ready(Err(Refusal::invalid(why))),
        };
        let value: Box<[u8]> = value.into();
        Hook::Pending(Box::pin(async move {
            // A browser asks for a page and all its pictures at once: one hash is enough.
            let find = || self.find_out(credentials, &value, ports);
            ports.flights().share(self.number, &value, find).await.map_or_else(|fault| Err(Refusal::Failed(fault)), decision)
        }))
    }

    fn challenge(&self) -> Option<String> {
        Some(self.challenge.clone())
    }

    fn strip(&self, exchange: &mut Exchange) {
        exchange.request.headers.remove_known(Name::Authorization);
    }
}
