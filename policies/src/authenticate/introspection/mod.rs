//! A token that means nothing by itself: whoever issued it is asked (RFC 7662), once for all who show the token at that moment, and the answer
//! is remembered for a while, also where it is no. Without an answer nobody comes in, and nothing is remembered.

pub mod answer;
mod token;

use super::{Authorizer, Decision, Making, Refusal, borrowed, traces};
use super::{bearer, client_secret};
use answer::{Answer, Demands, Meaning};
use maitred_core::identity::{Finding, Generations, Remembered, Roll, Vouched};
use maitred_core::wire::path;
use maitred_core::{Call, Exchange, Fault, Hook, Kind, Ports, Principal};
use maitred_model::{self as model, KeyPlace};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use token::{Found, find};

/// An answer is a small JSON object; this is a large one.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is said in more is not remembered: with as many as a worker remembers, that is 64 MiB.
const REMEMBERED_BYTES_MAX: usize = 16 * 1024;
/// Why a token was refused is in the log once, when its server was asked; of one that is refused by memory no more is known than this.
const REFUSED_BEFORE: &str = "the token was refused before: it is not active, or not for this gateway";

/// Why, where it was found out for this request.
type Why = Cell<Option<&'static str>>;

pub struct Introspection {
    name: Arc<str>,
    number: u64,
    upstream: u32,
    target: Box<[u8]>,
    /// The gateway's own credential there.
    authorization: Box<[u8]>,
    hint: Option<Box<str>>,
    demands: Demands,
    ttl: Duration,
    negative_ttl: Duration,
    timeout: Duration,
    roll: Arc<Roll>,
}

impl Introspection {
    pub fn compile(name: Arc<str>, configured: &model::Introspection, making: &Making<'_>) -> Introspection {
        Introspection {
            name,
            number: making.number,
            // What cannot be asked lets nobody in.
            upstream: making.upstream.unwrap_or(u32::MAX),
            target: configured.endpoint.target.as_bytes().into(),
            authorization: client_secret::basic(&configured.client_id, configured.client_secret.expose()).into(),
            hint: configured.token_type_hint.as_deref().map(Box::from),
            demands: Demands { audience: configured.audience.clone(), issuer: configured.issuer.clone() },
            ttl: configured.ttl,
            negative_ttl: configured.negative_ttl,
            timeout: configured.timeout,
            roll: making.roll.clone(),
        }
    }

    fn generations(&self) -> Generations {
        Generations { keys: 0, consumers: self.roll.generation() }
    }

    /// The client is told no more than that: what the server said is the log's.
    fn refused(&self, detail: &'static str) -> Refusal {
        let challenge = bearer::refused(&self.name, "the token is not active, or not for this gateway");
        Refusal::Invalid { detail: detail.into(), challenge: Some(challenge) }
    }

    fn decision(&self, remembered: Remembered, why: Option<&'static str>) -> Decision {
        match remembered {
            Remembered::Valid(principal) => Ok(principal),
            Remembered::Refused => Err(self.refused(why.unwrap_or(REFUSED_BEFORE))),
        }
    }

    /// Asks, and remembers what it was told. `why`: is set where the token is refused.
    async fn ask(
        &self,
        (token, why): (&[u8], &Why),
        traces: &[(Vec<u8>, Vec<u8>)],
        deadline: Instant,
        ports: &dyn Ports,
    ) -> Finding {
        let generations = self.generations();
        let mut headers: Vec<(&[u8], &[u8])> = vec![
            (b"accept", b"application/json"),
            (b"authorization", &self.authorization),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"user-agent", b"maitred"),
        ];
        headers.extend(borrowed(traces));
        let call = Call {
            upstream: self.upstream,
            method: "POST",
            target: &self.target,
            headers: &headers,
            body: self.form(token),
            deadline,
            body_bytes_max: ANSWER_BYTES_MAX,
            idempotent: true,
        };
        let called = ports.call(call).await.map_err(|fault| unavailable(format!("{}: {}", fault.kind.name(), fault.detail)))?;
        match called.head.status {
            200 => {}
            401 => return Err(Fault::new(Kind::AuthorizerFailed, "the server does not know client_id and client_secret")),
            other => return Err(unavailable(format!("the server answered with status {other}"))),
        }
        let answer = answer::read(&called.body).map_err(unavailable)?;
        let now = ports.now();
        let (remembered, lasts) = self.judge(answer, why, ports.unix_time(now));
        if called.body.len() <= REMEMBERED_BYTES_MAX {
            let until = now.checked_add(lasts).unwrap_or(now);
            ports.verdicts().borrow_mut().put(self.number, token, generations, remembered.clone(), (now, until));
        }
        Ok(remembered)
    }

    /// What a request for introspection says (RFC 7662 §2.1).
    fn form(&self, token: &[u8]) -> Vec<u8> {
        let mut form = b"token=".to_vec();
        path::encode(token, &mut form);
        if let Some(hint) = &self.hint {
            form.extend_from_slice(b"&token_type_hint=");
            path::encode(hint.as_bytes(), &mut form);
        }
        form
    }

    /// What an answer means, and for how long. `unix`: the time since 1970.
    fn judge(&self, answer: Answer, why: &Why, unix: Duration) -> (Remembered, Duration) {
        let meaning = match answer {
            Answer::Inactive => {
                why.set(Some("the token is not active"));
                return (Remembered::Refused, self.negative_ttl);
            }
            Answer::Active(meaning) => *meaning,
        };
        if let Some(refused) = meaning.refused(&self.demands, unix) {
            why.set(Some(refused));
            let begins = meaning.not_before.unwrap_or_default().saturating_sub(unix);
            let lasts = if begins.is_zero() { self.negative_ttl } else { self.negative_ttl.min(begins) };
            return (Remembered::Refused, lasts);
        }
        let lasts = meaning.expires.map_or(self.ttl, |expires| self.ttl.min(expires.saturating_sub(unix)));
        (Remembered::Valid(Arc::new(self.principal(meaning))), lasts)
    }

    fn principal(&self, meaning: Meaning) -> Principal {
        let consumer = meaning.subject.as_deref().and_then(|subject| self.roll.by_identity(&self.name, subject));
        Principal {
            authorizer: self.name.clone(),
            issuer: meaning.issuer.map(Box::from),
            subject: meaning.subject.map(Box::from),
            consumer,
            claims: meaning.claims,
            scopes: meaning.scopes.into_iter().map(Box::from).collect(),
            groups: Box::default(),
            vouched: Vouched::Claims,
            ..Principal::default()
        }
    }
}

fn unavailable(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Kind::AuthorizerUnavailable, detail)
}

impl Authorizer for Introspection {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        find(&exchange.request.headers) != Found::Nothing
    }

    /// It takes every token: who knows which are not for its server is the server.
    fn bearer_place(&self) -> Option<&KeyPlace> {
        Some(&bearer::IN_AUTHORIZATION)
    }

    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let Found::One(token) = find(&exchange.request.headers) else { return None };
        let verdicts = ports.verdicts().borrow();
        verdicts
            .get(self.number, token, self.generations(), exchange.record.started)
            .cloned()
            .map(|known| self.decision(known, None))
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        let token = match find(&exchange.request.headers) {
            Found::One(token) => token.to_vec(),
            Found::Wrong(why) => return Hook::Ready(Err(self.refused(why))),
            Found::Nothing => return Hook::Ready(Err(self.refused("the request has no token"))),
        };
        let traces = traces(exchange);
        // From here on, also where it takes over from somebody who went away: nobody waits longer than this.
        let deadline = ports.now() + self.timeout;
        Hook::Pending(Box::pin(async move {
            let why = Why::default();
            let ask = || self.ask((&token, &why), &traces, deadline, ports);
            let found = ports.flights().share(self.number, &token, ask).await.map_err(Refusal::Failed)?;
            self.decision(found, why.get())
        }))
    }

    fn challenge(&self) -> Option<String> {
        Some(bearer::challenge(&self.name))
    }

    fn strip(&self, exchange: &mut Exchange) {
        exchange.request.headers.remove(b"authorization");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_and_secret_are_encoded_so_that_a_colon_stays_where_it_is() {
        assert_eq!(client_secret::basic("gateway", "secret"), b"Basic Z2F0ZXdheTpzZWNyZXQ=");
        // `a%3Ab:c%20%25`
        assert_eq!(client_secret::basic("a:b", "c %"), b"Basic YSUzQWI6YyUyMCUyNQ==");
    }
}
