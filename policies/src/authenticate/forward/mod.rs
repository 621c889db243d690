//! A service is asked about each request, without its body (forward-auth): what it consents to comes in, what it refuses gets the service's own
//! answer, and without either nobody comes in.

use super::{Answer, Authorizer, Decision, Fields, Making, Refusal, borrowed, traces};
use maitred_core::identity::{Generations, Remembered, Roll};
use maitred_core::wire::{Name, ResponseHead};
use maitred_core::{Call, Called, Exchange, Fault, Hook, Kind, Ports, Principal};
use maitred_model::{self as model, Ask, HeaderName};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A refusal is a page of a login at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

pub struct Forward {
    name: Arc<str>,
    number: u64,
    upstream: u32,
    target: Box<[u8]>,
    method: Box<str>,
    headers: Box<[HeaderName]>,
    ask: Ask,
    copy_to_upstream: Box<[HeaderName]>,
    copy_to_client: Box<[HeaderName]>,
    subject: Option<HeaderName>,
    ttl: Option<Duration>,
    timeout: Duration,
    roll: Arc<Roll>,
}

impl Forward {
    pub fn compile(name: Arc<str>, configured: &model::Forward, making: &Making<'_>) -> Forward {
        Forward {
            name,
            number: making.number,
            // What cannot be asked lets nobody in.
            upstream: making.upstream.unwrap_or(u32::MAX),
            target: configured.service.target.as_bytes().into(),
            method: configured.method.as_str().into(),
            headers: configured.headers.clone().into(),
            ask: configured.ask,
            copy_to_upstream: configured.copy_to_upstream.clone().into(),
            copy_to_client: configured.copy_to_client.clone().into(),
            subject: configured.subject.clone(),
            ttl: configured.ttl,
            timeout: configured.timeout,
            roll: making.roll.clone(),
        }
    }

    fn generations(&self) -> Generations {
        Generations { keys: 0, consumers: self.roll.generation() }
    }

    /// The headers that are shown, each with its place in the list: the same values under other names are not the same.
    fn shown<'a>(&'a self, exchange: &'a Exchange) -> impl Iterator<Item = (usize, &'a HeaderName, &'a [u8])> {
        let values = |name: &'a HeaderName| exchange.request.headers.get_all(name.as_str().as_bytes());
        self.headers.iter().enumerate().flat_map(move |(at, name)| values(name).map(move |value| (at, name, value)))
    }

    /// What a consent is remembered by: a hash of all that is shown. `None`: nothing is, or consents are not remembered.
    fn key(&self, exchange: &Exchange) -> Option<[u8; 32]> {
        self.ttl?;
        let mut hasher = blake3::Hasher::new();
        let mut count = 0;
        for (at, _, value) in self.shown(exchange) {
            hasher.update(&(at as u64).to_le_bytes()).update(&(value.len() as u64).to_le_bytes()).update(value);
            count += 1;
        }
        (count > 0).then(|| *hasher.finalize().as_bytes())
    }

    /// What the service is told of a request: what it is shown, and what the gateway has understood of the rest. The path is the one that
    /// routes are chosen by and back ends see, not the one that was written.
    fn question(&self, exchange: &Exchange) -> Fields {
        let request = &exchange.request;
        let kept = |name| request.headers.known(name).filter(|_| exchange.forwarded.trusted);
        let mut uri = request.path().to_vec();
        if let Some(query) = request.query() {
            uri.push(b'?');
            uri.extend_from_slice(query);
        }
        let mut headers: Fields =
            self.shown(exchange).map(|(_, name, value)| (name.as_str().into(), value.trim_ascii().to_vec())).collect();
        let mut add = |name: &str, value: &[u8]| headers.push((name.into(), value.to_vec()));
        add("x-forwarded-method", request.method_text());
        add("x-forwarded-proto", kept(Name::XForwardedProto).unwrap_or(exchange.scheme.text().as_bytes()));
        add("x-forwarded-host", kept(Name::XForwardedHost).unwrap_or(request.authority()));
        add("x-forwarded-uri", &uri);
        add("x-forwarded-for", exchange.client_ip().to_string().as_bytes());
        headers.extend(traces(exchange));
        headers
    }

    async fn ask(&self, (question, shown): (&Fields, bool), deadline: Instant, ports: &dyn Ports) -> Decision {
        let headers = borrowed(question);
        let call = Call {
            upstream: self.upstream,
            method: &self.method,
            target: &self.target,
            headers: &headers,
            body: Vec::new(),
            deadline,
            body_bytes_max: ANSWER_BYTES_MAX,
            idempotent: true,
        };
        let called = ports.call(call).await.map_err(|fault| {
            let detail = format!("{}: {}", fault.kind.name(), fault.detail);
            Refusal::Failed(Fault::new(Kind::AuthorizerUnavailable, detail))
        })?;
        let failed = |kind, detail| Refusal::Failed(Fault::new(kind, detail));
        match called.head.status {
            200..=299 => self.principal(&called.head).map(Arc::new).map_err(|why| failed(Kind::AuthorizerFailed, why.into())),
            401 | 403 | 301 | 302 | 303 | 307 | 308 => Err(Refusal::Answered(Box::new(self.passed(called, shown)))),
            status @ (429 | 500..=599) => {
                Err(failed(Kind::AuthorizerUnavailable, format!("the service answered with status {status}")))
            }
            status => {
                Err(failed(Kind::AuthorizerFailed, format!("the service answered with status {status}, which says nothing")))
            }
        }
    }

    /// Its consent. What back ends are to get of it stands among the claims.
    fn principal(&self, head: &ResponseHead) -> Result<Principal, &'static str> {
        let mut claims = Map::new();
        for name in &self.copy_to_upstream {
            let values = texts(head, name)?.into_iter().map(Value::from).collect::<Vec<_>>();
            match <[Value; 1]>::try_from(values) {
                Ok([only]) => _ = claims.insert(name.as_str().to_owned(), only),
                Err(values) if values.is_empty() => {}
                Err(values) => _ = claims.insert(name.as_str().to_owned(), Value::Array(values)),
            }
        }
        let subject = match &self.subject {
            None => None,
            Some(name) => match texts(head, name)?[..] {
                [] | [""] => None,
                [only] => Some(only.to_owned()),
                [_, ..] => return Err("the service names several subjects"),
            },
        };
        let consumer = subject.as_deref().and_then(|subject| self.roll.by_identity(&self.name, subject));
        Ok(Principal { authorizer: self.name.clone(), subject: subject.map(Box::from), consumer, claims, ..Principal::default() })
    }

    /// Its refusal, as the client gets it. `shown`: it had a credential to judge by.
    fn passed(&self, called: Called, shown: bool) -> Answer {
        let Called { head, body } = called;
        let content = (!body.is_empty()).then(|| head.headers.known(Name::ContentType)).flatten();
        let content = content.map(|value| (b"content-type".to_vec(), value.to_vec()));
        let copied = self.copy_to_client.iter().filter(|name| name.as_str() != "content-type").flat_map(|name| {
            let values = head.headers.get_all(name.as_str().as_bytes());
            values.map(|value| (name.as_str().into(), value.to_vec()))
        });
        let headers = content.into_iter().chain(copied).collect();
        let is_wrong_credential = head.status == 401 && shown;
        Answer { status: head.status, headers, body, detail: Cow::Borrowed("the service refused"), is_wrong_credential }
    }
}

fn texts<'a>(head: &'a ResponseHead, name: &'a HeaderName) -> Result<Vec<&'a str>, &'static str> {
    let values = head.headers.get_all(name.as_str().as_bytes());
    values.map(|value| std::str::from_utf8(value).map_err(|_| "a header of the service's answer is no text")).collect()
}

impl Authorizer for Forward {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        match self.ask {
            Ask::Always => true,
            Ask::WithCredential => self.shown(exchange).next().is_some(),
        }
    }

    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let key = self.key(exchange)?;
        match ports.verdicts().borrow().get(self.number, &key, self.generations(), exchange.record.started)? {
            Remembered::Valid(principal) => Some(Ok(principal.clone())),
            Remembered::Refused => None,
        }
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        let (key, generations) = (self.key(exchange), self.generations());
        let (question, shown) = (self.question(exchange), self.shown(exchange).next().is_some());
        let due = ports.now() + self.timeout;
        let deadline = exchange.deadline.map_or(due, |deadline| deadline.min(due));
        Hook::Pending(Box::pin(async move {
            let decision = self.ask((&question, shown), deadline, ports).await;
            if let (Ok(principal), Some(key), Some(ttl)) = (&decision, key, self.ttl) {
                let (now, remembered) = (ports.now(), Remembered::Valid(principal.clone()));
                let until = now.checked_add(ttl).unwrap_or(now);
                ports.verdicts().borrow_mut().put(self.number, &key, generations, remembered, (now, until));
            }
            decision
        }))
    }

    /// What it asks for, it says itself.
    fn challenge(&self) -> Option<String> {
        None
    }

    fn strip(&self, exchange: &mut Exchange) {
        for name in &self.headers {
            exchange.request.headers.remove(name.as_str().as_bytes());
        }
    }

    fn vouch(&self, exchange: &mut Exchange, principal: &Principal) {
        for name in &self.copy_to_upstream {
            let (one, many) = match principal.claims.get(name.as_str()) {
                Some(Value::Array(values)) => (None, values.as_slice()),
                other => (other, &[][..]),
            };
            for value in one.into_iter().chain(many).filter_map(Value::as_str) {
                exchange.request.headers.add(name.as_str().as_bytes(), value.as_bytes());
            }
        }
    }
}
