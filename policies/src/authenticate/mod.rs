//! Finds out who it is: of a route's authorizers the first that finds its credential in the request decides, and nobody is asked after
//! it. Without a principal no request passes, but where `anonymous` stands in the list. What a principal may do is `authorize`'s affair.

pub mod api_key;
pub mod aws_signature;
pub mod basic;
mod bearer;
pub mod client_certificate;
mod client_secret;
mod failures;
pub mod forward;
pub mod function;
pub mod http_signature;
pub mod introspection;
pub mod jwt;
pub mod lambda;
mod oidc;
mod place;
#[cfg(test)]
mod tests;

use failures::Look;
pub use failures::{ADDRESSES_MAX, Failures};

use maitred_core::identity::{KeyCell, Roll};
use maitred_core::metrics::{AuthorizerSeries, Decided};
use maitred_core::ports::Fetch;
use maitred_core::wire::Name;
use maitred_core::{
    Body, Compute, Exchange, Fault, Flow, Hook, Kind, Policy, Ports, Principal, Registry, Response, while_wanted,
};
use maitred_model::{self as model, AuthorizerKind, KeyPlace, LoginStep, Span};
use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

pub const NAME: &str = "authenticate";
pub const SESSIONS: &str = "sessions";

/// Whoever is refused unlooked at is told so after this: a flood of guesses is as slow as that, and costs others next to nothing.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// Why somebody does not come in.
pub enum Refusal {
    /// The credential is not valid: 401. `challenge` replaces the authorizer's own, where it can say more.
    Invalid { detail: Cow<'static, str>, challenge: Option<String> },
    /// It could be valid for all that is known here: 401 too, and nobody has guessed.
    Unproven { detail: Cow<'static, str>, challenge: Option<String> },
    /// It is valid, and does not open this door: 403.
    Forbidden(Cow<'static, str>),
    /// It could not be found out, and nobody is let in for that.
    Failed(Fault),
    /// Who is not known is sent where that can be changed.
    Invited(Box<Response>),
    /// Whoever was asked has the answer ready.
    Answered(Box<Answer>),
}

/// Names, in lower case, and values.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// An answer that the client gets as it is.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Fields,
    pub body: Vec<u8>,
    pub detail: Cow<'static, str>,
    /// Something was shown, and it was wrong.
    pub is_wrong_credential: bool,
}

impl Refusal {
    /// Whether it counts against the address that it came from.
    fn is_wrong_credential(&self) -> bool {
        match self {
            Refusal::Invalid { .. } => true,
            Refusal::Answered(answer) => answer.is_wrong_credential,
            Refusal::Unproven { .. } | Refusal::Forbidden(_) | Refusal::Failed(_) | Refusal::Invited(_) => false,
        }
    }

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

    /// Where it looks for a bearer token, if that is what it takes.
    fn bearer_place(&self) -> Option<&KeyPlace> {
        None
    }

    /// The one issuer whose tokens it takes, if there is one.
    fn token_issuer(&self) -> Option<&str> {
        None
    }

    /// Whether what it finds is plainly for somebody else: a token that names another issuer, or that is none of its kind. Believes nothing of it.
    /// Asked only where another of the list looks for tokens in the same place.
    fn is_anothers(&self, _exchange: &Exchange) -> bool {
        false
    }

    /// What is known of its credential without effort: from this worker's memory. Allocates nothing. `None`: nothing, or there is none.
    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision>;

    /// Finds it out. Called only where `finds` says so.
    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision>;

    /// WWW-Authenticate for who shows nothing (RFC 9110 §11.6.1).
    fn challenge(&self) -> Option<String>;

    /// Takes its credential out of the request.
    fn strip(&self, exchange: &mut Exchange);

    /// Its credential is nobody's business but the gateway's, whatever `strip` says.
    fn always_strips(&self) -> bool {
        false
    }

    /// Finding it out takes a noticeable part of a core.
    fn is_costly(&self) -> bool {
        false
    }

    /// An answer for who shows nothing that is of more use than a refusal.
    fn invite(&self, _exchange: &mut Exchange, _ports: &dyn Ports) -> Option<Result<Response, Fault>> {
        None
    }

    /// Serves a route of its own.
    fn serve<'a>(&'a self, _step: LoginStep, _: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        Hook::Ready(Err(Fault::new(Kind::NoRoute, "the authorizer has no such route")))
    }

    /// Writes the headers by which it tells back ends of whom it let in. No client has sent one: they are taken out before a route is chosen.
    fn vouch(&self, exchange: &mut Exchange, principal: &Principal) {
        let _ = (exchange, principal);
    }
}

/// What authorizers are made with.
pub struct Making<'a> {
    /// The gateway's secret, from which each derives a key of its own.
    pub secret: &'a [u8],
    pub roll: &'a Arc<Roll>,
    /// Where costly hashes are made.
    pub compute: &'a Arc<Compute>,
    /// The number of this authorizer: what was remembered under another is not its own.
    pub number: u64,
    /// For what is rare, and where only the network says.
    pub fetch: &'a Arc<dyn Fetch>,
    /// The same through reloads, while name, files and consumers are the same: for what depends on nothing else.
    pub lasting: u64,
    /// The index of the upstream that it asks, if it asks one.
    pub upstream: Option<u32>,
    /// The index of the function that it asks, if it asks one.
    pub function: Option<u32>,
    /// What functions are told that they run in.
    pub region: &'a str,
    /// The keys that its tokens are verified with, where it takes tokens.
    pub keys: Option<Arc<KeyCell>>,
    /// Whose certificates listeners ask clients for, in PEM.
    pub client_ca: &'a [&'a [u8]],
    /// Signatures that were used, by authorizer: they outlive a reload.
    pub seen: &'a Registry<String, http_signature::Seen>,
}

/// What is wrong with the files that an authorizer names.
#[derive(Debug)]
pub struct Problem {
    /// Where the file is named.
    pub span: Span,
    pub message: String,
    pub hint: &'static str,
}

/// An authorizer as it is configured. `None`: it has no keys, and whoever makes it has said why.
pub fn make(name: &str, configured: &model::Authorizer, making: &Making<'_>) -> Result<Option<Arc<dyn Authorizer>>, Problem> {
    let name: Arc<str> = name.into();
    Ok(Some(match &configured.kind {
        AuthorizerKind::ApiKey(key) => Arc::new(api_key::ApiKey::compile(name, key, making)),
        AuthorizerKind::Basic(basic) => Arc::new(basic::Basic::compile(name, basic, making)),
        AuthorizerKind::ClientCertificate(certificate) => {
            Arc::new(client_certificate::ClientCertificate::compile(name, certificate, making)?)
        }
        AuthorizerKind::Jwt(jwt) => {
            let Some(keys) = making.keys.clone() else { return Ok(None) };
            Arc::new(jwt::Jwt::compile(name, jwt, keys, making))
        }
        AuthorizerKind::Oidc(oidc) => {
            let Some(oidc) = oidc::Oidc::compile(name, oidc, making) else { return Ok(None) };
            Arc::new(oidc)
        }
        AuthorizerKind::HttpSignature(signature) => Arc::new(http_signature::HttpSignature::compile(name, signature, making)),
        AuthorizerKind::AwsSignature(signature) => Arc::new(aws_signature::AwsSignature::compile(name, signature, making)),
        AuthorizerKind::Introspection(kind) => Arc::new(introspection::Introspection::compile(name, kind, making)),
        AuthorizerKind::Forward(kind) => Arc::new(forward::Forward::compile(name, kind, making)),
        AuthorizerKind::Function(kind) => Arc::new(function::FunctionAuthorizer::compile(name, kind, making)?),
    }))
}

/// One of a route's authorizers.
#[derive(Clone)]
pub struct Choice {
    pub authorizer: Arc<dyn Authorizer>,
    pub strip: bool,
    /// Where its decisions are counted.
    pub series: Arc<AuthorizerSeries>,
}

/// An authorizer in its place among those of its route.
pub struct Listed {
    choice: Choice,
    /// One behind it takes tokens from the same place: those that are plainly not its own are left to that one.
    yields: bool,
    /// Those behind it to which it leaves whatever they know, and nobody between them would take: their places in the list.
    leaves_to: Box<[usize]>,
}

impl Listed {
    /// In the order of the list.
    pub fn all(choices: &[Choice]) -> Box<[Listed]> {
        let listed = choices.iter().enumerate().map(|(at, choice)| {
            let place = choice.authorizer.bearer_place();
            let behind = |later: &usize| place.is_some() && choices[*later].authorizer.bearer_place() == place;
            let behind: Vec<usize> = (at + 1..choices.len()).filter(behind).collect();
            let issuer = |at: usize| choices[at].authorizer.token_issuer();
            let is_anothers = |before: usize, of: usize| issuer(before).zip(issuer(of)).is_some_and(|(own, other)| own != other);
            let knows_alone = |&later: &usize| {
                let mut before = std::iter::once(at).chain(behind.iter().copied().take_while(|&other| other < later));
                before.all(|before| is_anothers(before, later))
            };
            let leaves_to = behind.iter().copied().filter(knows_alone).collect();
            Listed { choice: choice.clone(), yields: !behind.is_empty(), leaves_to }
        });
        listed.collect()
    }

    /// Whether it is this one that decides, if nobody before it does.
    fn takes(&self, exchange: &Exchange) -> bool {
        let authorizer = &self.choice.authorizer;
        authorizer.finds(exchange) && !(self.yields && authorizer.is_anothers(exchange))
    }

    /// Who decides about a request; `None`: it shows nothing.
    pub fn decider<'a>(all: &'a [Listed], exchange: &Exchange) -> Option<&'a Choice> {
        let taker = all.iter().find(|listed| listed.takes(exchange));
        taker.or_else(|| Listed::left_over(all, exchange)).map(|listed| &listed.choice)
    }

    /// What everybody took for another's is a wrong credential, and not none.
    fn left_over<'a>(all: &'a [Listed], exchange: &Exchange) -> Option<&'a Listed> {
        all.iter().find(|listed| listed.yields && listed.choice.authorizer.finds(exchange))
    }
}

pub struct Authenticate {
    choices: Box<[Listed]>,
    /// Who comes in without a credential, where somebody may.
    anonymous: Option<Arc<Principal>>,
    failures: Option<Failures>,
    /// Whose credentials no back end sees, whoever decided.
    stripped: Box<[Arc<dyn Authorizer>]>,
    /// There are plans that consumers can have. Where there are, the limits ask for theirs.
    has_plans: bool,
}

impl Authenticate {
    /// `sessions`: authorizers whose credentials are the gateway's own, on this route or not.
    pub fn compile(
        choices: &[Choice],
        anonymous: bool,
        failures: Option<Failures>,
        sessions: &[Arc<dyn Authorizer>],
        has_plans: bool,
    ) -> Authenticate {
        let anonymous = anonymous.then(|| Arc::new(Principal::anonymous()));
        let stripped = choices.iter().filter(|choice| choice.strip && !choice.authorizer.always_strips());
        let stripped = stripped.map(|choice| &choice.authorizer).chain(sessions).cloned().collect();
        Authenticate { choices: Listed::all(choices), anonymous, failures, stripped, has_plans }
    }

    /// Whom those know to which it would leave the credential.
    fn recall_behind(&self, listed: &Listed, exchange: &Exchange, ports: &dyn Ports) -> Option<(&Choice, Decision)> {
        let mut behind = listed.leaves_to.iter().filter_map(|&at| Some(&self.choices.get(at)?.choice));
        behind.find_map(|choice| Some((choice, choice.authorizer.recall(exchange, ports)?)))
    }

    fn conclude(
        &self,
        choice: &Choice,
        exchange: &mut Exchange,
        ports: &dyn Ports,
        decision: Decision,
    ) -> Result<Flow<()>, Fault> {
        let count = |decided| choice.series.count(ports.worker(), decided);
        let refusal = match decision {
            Ok(principal) => match &principal.consumer {
                Some(consumer) if consumer.disabled => Refusal::Forbidden(format!("{} is disabled", consumer.name).into()),
                // Whoever was sold limits does not come in without them.
                Some(consumer) if !self.has_plans && consumer.plan.is_some() => {
                    Refusal::Forbidden(format!("{} has a plan, and the configuration has none", consumer.name).into())
                }
                Some(_) | None => {
                    count(Decided::Authenticated);
                    for authorizer in &self.stripped {
                        authorizer.strip(exchange);
                    }
                    choice.authorizer.vouch(exchange, &principal);
                    exchange.principal = Some(principal);
                    return Ok(Flow::Go(()));
                }
            },
            Err(refusal) => refusal,
        };
        let name = choice.authorizer.name();
        Err(match refusal {
            Refusal::Invalid { detail, challenge } | Refusal::Unproven { detail, challenge } => {
                count(Decided::Refused);
                let challenge = challenge.or_else(|| choice.authorizer.challenge());
                unauthenticated(format!("{name}: {detail}"), challenge)
            }
            Refusal::Forbidden(detail) => {
                count(Decided::Forbidden);
                Fault::new(Kind::Forbidden, format!("{name}: {detail}"))
            }
            Refusal::Invited(response) => {
                count(Decided::Refused);
                return Ok(Flow::Reply(*response));
            }
            Refusal::Answered(answer) => {
                count(Decided::Refused);
                return Ok(Flow::Reply(reply(name, *answer, exchange)?));
            }
            Refusal::Failed(fault) => {
                count(Decided::Failed);
                Fault { detail: format!("{name}: {}", fault.detail).into(), ..fault }
            }
        })
    }
}

pub(crate) fn unauthenticated(detail: impl Into<Cow<'static, str>>, challenges: impl IntoIterator<Item = String>) -> Fault {
    let headers = challenges.into_iter().map(|text| (&b"www-authenticate"[..], text.into_bytes())).collect();
    Fault { headers, ..Fault::new(Kind::Unauthenticated, detail) }
}

/// What gRPC clients are told stands in its own place, and no page of a login is for them.
fn reply(name: &str, answer: Answer, exchange: &mut Exchange) -> Result<Response, Fault> {
    let kind = if answer.status == 403 { Kind::Forbidden } else { Kind::Unauthenticated };
    let detail = format!("{name}: {}", answer.detail);
    if exchange.is_grpc() {
        return Err(Fault::new(kind, detail));
    }
    let body = if answer.body.is_empty() { Body::Empty } else { Body::Bytes(answer.body.into()) };
    let mut response = Response::with_body(exchange.take_head(), answer.status, body);
    for (name, value) in &answer.headers {
        response.head.headers.add(name, value);
    }
    if matches!(answer.status, 401 | 403) {
        exchange.record.fault = Some((kind, detail.into()));
    }
    Ok(response)
}

/// What a question about a request tells of it: by its id logs are put together, and by Via a circle is found.
fn traces(exchange: &Exchange) -> Fields {
    let via = exchange.request.headers.all_known(Name::Via).map(|value| (b"via".to_vec(), value.to_vec()));
    let id = exchange.request_id();
    via.chain((!id.is_empty()).then(|| (b"x-request-id".to_vec(), id.to_vec()))).collect()
}

/// They are borrowed where a question is asked.
fn borrowed(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    headers.iter().map(|(name, value)| (&name[..], &value[..])).collect()
}

impl Policy for Authenticate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        // Whom memory knows, of him the credential is there: it is not looked for twice.
        let check = |exchange: &Exchange| self.failures.as_ref().map_or(Ok(()), |failures| failures.check(exchange, ports));
        let (mut found, mut checked) = (None, None);
        for listed in &self.choices {
            if let Some(known) = listed.choice.authorizer.recall(exchange, ports) {
                return Hook::Ready(self.conclude(&listed.choice, exchange, ports, known));
            }
            if listed.yields && listed.choice.authorizer.finds(exchange) {
                if let Some((choice, known)) = self.recall_behind(listed, exchange, ports) {
                    return Hook::Ready(self.conclude(choice, exchange, ports, known));
                }
                // Whoever was wrong too often is not looked at, not even for whose it is.
                if checked.get_or_insert_with(|| check(exchange)).is_err() {
                    found = Some(listed);
                    break;
                }
            }
            if listed.takes(exchange) {
                found = Some(listed);
                break;
            }
        }
        let Some(Listed { choice, .. }) = found.or_else(|| Listed::left_over(&self.choices, exchange)) else {
            return Hook::Ready(match &self.anonymous {
                Some(nobody) => {
                    self.stripped.iter().for_each(|authorizer| authorizer.strip(exchange));
                    exchange.principal = Some(nobody.clone());
                    Ok(Flow::Go(()))
                }
                None => {
                    if let Some(invited) = self.choices.iter().find_map(|listed| listed.choice.authorizer.invite(exchange, ports))
                    {
                        return Hook::Ready(invited.map(Flow::Reply));
                    }
                    let challenges = self.choices.iter().filter_map(|listed| listed.choice.authorizer.challenge());
                    Err(unauthenticated("the request has no credential that this route takes", challenges))
                }
            });
        };
        // What is not known costs something to find out: whoever was wrong too often is not looked at, and stands in nobody's way.
        let checked = checked.unwrap_or_else(|| check(exchange));
        Hook::Pending(Box::pin(async move {
            let (client, deadline) = (exchange.client.clone(), exchange.deadline);
            if let Err(over) = checked {
                return Err(after_a_pause(over, client, ports).await);
            }
            // Whom the worker knows goes first, however many others there are.
            let turn = while_wanted(client.clone(), in_time(ports.turn(), deadline, ports)).await?;
            if turn.is_none() || deadline.is_some_and(|deadline| deadline <= ports.now()) {
                return self.conclude(
                    choice,
                    exchange,
                    ports,
                    late("its turn to be looked at did not come within the route's timeout"),
                );
            }
            // Who stood ahead may have shown the same; others from there may have been wrong meanwhile.
            if let Some(known) = choice.authorizer.recall(exchange, ports) {
                return self.conclude(choice, exchange, ports, known);
            }
            let is_costly = choice.authorizer.is_costly();
            let look = match self.failures.as_ref().map(|failures| failures.admit(exchange, ports, is_costly)) {
                Some(Err(over)) => return Err(after_a_pause(over, client, ports).await),
                Some(Ok(look)) => Some(look),
                None => None,
            };
            let decision = match choice.authorizer.decide(exchange, ports) {
                Hook::Ready(decision) => decision,
                Hook::Pending(later) => while_wanted(client, in_time(later, deadline, ports))
                    .await?
                    .unwrap_or_else(|| late("it was not found out within the route's timeout")),
            };
            if let Some(look) = look {
                look.end(decision.as_ref().is_err_and(Refusal::is_wrong_credential));
            }
            self.conclude(choice, exchange, ports, decision)
        }))
    }

    fn leave(&self, exchange: &Exchange, response: &mut Response, _: &dyn Ports) {
        if exchange.set_cookies.is_empty() {
            return;
        }
        // A session that somebody else is given from a cache would be his.
        response.head.headers.remove(b"cache-control");
        response.head.headers.add(b"cache-control", b"no-store");
        for cookie in &exchange.set_cookies {
            response.head.headers.add(b"set-cookie", cookie.as_bytes());
        }
    }
}

/// The refusal of who is not looked at; or that he did not wait for it.
async fn after_a_pause(over: Fault, client: Option<Rc<dyn maitred_core::Client>>, ports: &dyn Ports) -> Fault {
    while_wanted(client, ports.until(ports.now() + PAUSE)).await.err().unwrap_or(over)
}

/// `None`: the time of the request was over first.
async fn in_time<T>(work: impl Future<Output = T>, deadline: Option<Instant>, ports: &dyn Ports) -> Option<T> {
    let Some(deadline) = deadline else { return Some(work.await) };
    let (mut work, mut late) = (pin!(work), None);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.get_or_insert_with(|| ports.until(deadline)).as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// What is not found out within the time of the request is not found out.
fn late(why: &'static str) -> Decision {
    Err(Refusal::Failed(Fault::new(Kind::AuthorizerUnavailable, why)))
}

/// A route on which nobody is asked: what is the gateway's own does not reach its back end either.
pub struct Sessions(pub Box<[Arc<dyn Authorizer>]>);

impl Policy for Sessions {
    fn name(&self) -> &'static str {
        SESSIONS
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        self.0.iter().for_each(|authorizer| authorizer.strip(exchange));
        Hook::Ready(Ok(Flow::Go(())))
    }
}

/// A route that belongs to a login.
#[derive(Clone)]
pub struct Login {
    pub authorizer: Arc<dyn Authorizer>,
    pub step: LoginStep,
    /// Each callback has the provider asked.
    pub failures: Option<Failures>,
}

impl Policy for Login {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let limit = self.failures.as_ref().filter(|_| self.step == LoginStep::Callback);
        let look = match limit.map(|failures| failures.admit(exchange, ports, true)).transpose() {
            Ok(look) => look,
            Err(fault) => return Hook::Ready(Err(fault)),
        };
        let client = exchange.client.clone();
        let end = |look: Option<Look<'_>>, served: &Result<Flow<()>, Fault>| {
            if let Some(look) = look {
                look.end(served.as_ref().is_err_and(|fault| fault.kind == Kind::Unauthenticated));
            }
        };
        match self.authorizer.serve(self.step, exchange, ports) {
            Hook::Ready(served) => {
                end(look, &served);
                Hook::Ready(served)
            }
            Hook::Pending(later) => Hook::Pending(Box::pin(async move {
                let served = while_wanted(client, later).await?;
                end(look, &served);
                served
            })),
        }
    }
}
