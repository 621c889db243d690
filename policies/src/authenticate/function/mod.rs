//! A function is asked who may come in, as AWS's Lambda authorizers: once for all who show the same at that moment, and its answer is believed
//! for a while. A policy is held against each request anew. Whom it does not allow does not come in, and neither does anybody while it fails.

mod request;
#[cfg(test)]
mod tests;

use super::lambda::policy::{Circumstances, Verdict};
use super::lambda::result::{Judgement, Said};
use super::lambda::{ARN_BYTES_MAX, Answer, EXPLICITLY_DENIED, is_rest, judge, read, timeout};
use super::place::{Found, find_as_form, strip};
use super::{Answer as Ready, Authorizer, Decision, Making, Problem, Refusal};
use maitred_core::identity::{Finding, Generations, Remembered, Roll, Vouched};
use maitred_core::wire::Name;
use maitred_core::{Exchange, Fault, Hook, Invoked, Kind, Ports, Principal, Scheme};
use maitred_model::{self as model, AuthorizerForm, ContextValue, GatewayResponses, IdentitySource};
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Whose account it is is nobody's: functions that look find twelve digits.
const ACCOUNT: &str = "000000000000";
/// The one stage that an API has, named as AWS names it.
const STAGE: &str = "$default";
/// What is said in more is not remembered: with as many as a worker remembers, that is 64 MiB.
const REMEMBERED_BYTES_MAX: usize = 16 * 1024;
/// What an expression may take when it is compiled.
const EXPRESSION_BYTES_MAX: usize = 256 * 1024;

pub struct FunctionAuthorizer {
    name: Arc<str>,
    number: u64,
    /// Its index. What cannot be asked lets nobody in.
    function: Option<u32>,
    form: AuthorizerForm,
    identity: Box<[IdentitySource]>,
    validation: Option<Regex>,
    ttl: Duration,
    region: Box<str>,
    roll: Arc<Roll>,
}

/// An expression that a whole token must match. `Err`: why it is none.
pub fn expression(text: &str) -> Result<Regex, String> {
    let whole = format!("^(?:{text})$");
    let compiled = RegexBuilder::new(&whole).size_limit(EXPRESSION_BYTES_MAX).build();
    // On its own first: `)(` is no expression, whatever stands around it.
    Regex::new(text).and(compiled).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it takes too much memory".to_owned(),
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

impl FunctionAuthorizer {
    pub fn compile(
        name: Arc<str>,
        configured: &model::FunctionAuthorizer,
        making: &Making<'_>,
    ) -> Result<FunctionAuthorizer, Problem> {
        let validation = configured.validation.as_ref().map(|text| {
            expression(text).map_err(|why| Problem {
                span: text.span,
                message: format!("`validation` is no expression: {why}"),
                hint: "write one such as `^Bearer [A-Za-z0-9._-]+$`",
            })
        });
        Ok(FunctionAuthorizer {
            name,
            number: making.number,
            function: making.function,
            form: configured.form,
            identity: configured.identity.clone().into(),
            validation: validation.transpose()?,
            ttl: configured.ttl,
            region: making.region.into(),
            roll: making.roll.clone(),
        })
    }

    fn generations(&self) -> Generations {
        Generations { keys: 0, consumers: self.roll.generation() }
    }

    /// What an answer is remembered by: a hash of the API and of all that the function goes by. `None`: something of it is missing, or nothing
    /// is remembered.
    fn key(&self, exchange: &Exchange) -> Option<[u8; 32]> {
        if self.ttl.is_zero() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| _ = hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        add(exchange.matched().map_or("", |matched| matched.api).as_bytes());
        for source in &self.identity {
            add(&value(source, exchange)?);
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// What the function goes by; without each of them it is not asked.
    fn values(&self, exchange: &Exchange) -> Result<Vec<String>, Refusal> {
        let text = |source| String::from_utf8(value(source, exchange)?.into_owned()).ok();
        let values: Option<Vec<String>> = self.identity.iter().map(text).collect();
        let Some(values) = values else {
            return Err(Refusal::Unproven { detail: "what the function goes by is not there".into(), challenge: None });
        };
        match (&self.validation, &values[..]) {
            (Some(expression), [token]) if !expression.is_match(token) => {
                Err(Refusal::invalid("the token does not match `validation`"))
            }
            (Some(_) | None, _) => Ok(values),
        }
    }

    /// Of the actual method and the actual path, as they are understood here.
    fn arn<'b>(&self, exchange: &Exchange, room: &'b mut [u8; ARN_BYTES_MAX]) -> Result<Cow<'b, str>, Refusal> {
        let api = exchange.matched().map_or("", |matched| matched.api).as_bytes();
        let path = exchange.local_path();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let parts: [&[u8]; 10] = [
            b"arn:aws:execute-api:",
            self.region.as_bytes(),
            b":",
            ACCOUNT.as_bytes(),
            b":",
            api,
            b"/$default/",
            exchange.request.method_text(),
            b"/",
            path,
        ];
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let no_text = |_| Refusal::Forbidden("its path is no text, and no policy speaks of it".into());
        if length > ARN_BYTES_MAX {
            if is_rest(self.form) {
                return Err(Refusal::Failed(Fault::new(Kind::UriTooLong, "the ARN of its method has more than 1600 bytes")));
            }
            return String::from_utf8(parts.concat()).map(Cow::Owned).map_err(|error| no_text(error.utf8_error()));
        }
        let mut left = &mut room[..];
        for part in parts {
            // It fits, as was counted.
            let _ = left.write_all(part);
        }
        std::str::from_utf8(&room[..length]).map(Cow::Borrowed).map_err(no_text)
    }

    /// Asks, and remembers what it was told. `Refused`: the function said `Unauthorized`, which is not remembered.
    async fn ask(&self, (event, key): (Vec<u8>, Option<&[u8; 32]>), ports: &dyn Ports) -> Finding {
        let generations = self.generations();
        let Some(function) = self.function else {
            return Err(Fault::new(Kind::AuthorizerFailed, "there is no such function"));
        };
        let invoked = ports.invoke(function, event, ports.now() + timeout(self.form)).await.map_err(|fault| {
            let unavailable = Fault::new(Kind::AuthorizerUnavailable, format!("{}: {}", fault.kind.name(), fault.detail));
            Fault { retry_after: fault.retry_after, ..unavailable }
        })?;
        let length = match &invoked {
            Invoked::Returned(bytes) | Invoked::Raised(bytes) => bytes.len(),
        };
        let said = match read(self.form, invoked)? {
            Answer::Unauthorized => return Ok(Remembered::Refused),
            Answer::Said(said) => *said,
        };
        let may_allow = match &said.judgement {
            Judgement::Plain(allows) => *allows,
            Judgement::Policy(policy) => policy.may_allow(),
        };
        let principal = Arc::new(self.principal(said));
        if let Some(key) = key.filter(|_| length <= REMEMBERED_BYTES_MAX) {
            // Whoever guesses takes no place from those who were let in.
            let remembered = if may_allow { Remembered::Valid(principal.clone()) } else { Remembered::Refused };
            let now = ports.now();
            let until = now.checked_add(self.ttl).unwrap_or(now);
            ports.verdicts().borrow_mut().put(self.number, key, generations, remembered, (now, until));
        }
        Ok(Remembered::Valid(principal))
    }

    fn principal(&self, said: Said) -> Principal {
        let subject = said.principal_id.as_deref().filter(|subject| !subject.is_empty());
        let by_key = said.usage_key.as_deref().and_then(|key| self.roll.by_key(key.as_bytes()));
        Principal {
            authorizer: self.name.clone(),
            subject: subject.map(Box::from),
            consumer: by_key.or_else(|| self.roll.by_identity(&self.name, subject?)),
            claims: said.context.clone(),
            vouched: Vouched::Lambda,
            usage_key: said.usage_key.as_deref().map(Box::from),
            said: Some(Arc::new(said)),
            ..Principal::default()
        }
    }

    /// What was said, for this request.
    fn judged(&self, principal: &Arc<Principal>, exchange: &Exchange) -> Decision {
        let said = principal.said.as_ref().and_then(|said| said.downcast_ref::<Said>());
        let Some(said) = said else {
            return Err(Refusal::Failed(Fault::new(Kind::Internal, "what the function said is lost")));
        };
        let mut room = [0; ARN_BYTES_MAX];
        let arn = self.arn(exchange, &mut room)?;
        let header = |name| exchange.request.headers.known(name).and_then(|value| std::str::from_utf8(value).ok());
        let circumstances = Circumstances {
            source_ip: exchange.client_ip(),
            is_secure: exchange.scheme == Scheme::Https,
            user_agent: header(Name::UserAgent),
            referer: exchange.request.headers.get(b"referer").and_then(|value| std::str::from_utf8(value).ok()),
        };
        match judge(said, &arn, &circumstances) {
            Verdict::Allow => Ok(principal.clone()),
            Verdict::ImplicitDeny => Err(Refusal::Forbidden("what the function said does not allow this".into())),
            Verdict::ExplicitDeny => Err(denied(exchange)),
        }
    }
}

/// REST APIs of AWS tell who is denied by a statement from who is allowed by none.
fn denied(exchange: &Exchange) -> Refusal {
    let detail = Cow::Borrowed("a statement of the function's policy denies this");
    match exchange.gateway_responses {
        GatewayResponses::AwsRest => Refusal::Answered(Box::new(Ready {
            status: 403,
            headers: vec![
                (b"content-type".to_vec(), b"application/json".to_vec()),
                (b"x-amzn-errortype".to_vec(), b"AccessDeniedException".to_vec()),
            ],
            body: EXPLICITLY_DENIED.into(),
            detail,
            is_wrong_credential: false,
        })),
        GatewayResponses::Problem | GatewayResponses::AwsHttp => Refusal::Forbidden(detail),
    }
}

/// What stands there. `None`: nothing, nothing in it, or several, of which the function might read another than is remembered.
fn value<'a>(source: &'a IdentitySource, exchange: &'a Exchange) -> Option<Cow<'a, [u8]>> {
    let request = &exchange.request;
    let found = match source {
        IdentitySource::Place(place) => match find_as_form(place, exchange) {
            Found::One(value) => value,
            Found::Nothing | Found::Several => return None,
        },
        IdentitySource::Context(ContextValue::SourceIp) => Cow::Owned(exchange.client_ip().to_string().into_bytes()),
        IdentitySource::Context(ContextValue::UserAgent) => Cow::Borrowed(request.headers.known(Name::UserAgent)?),
        IdentitySource::Context(ContextValue::Method) => Cow::Borrowed(request.method_text()),
        IdentitySource::Context(ContextValue::Path) => Cow::Borrowed(request.path()),
        IdentitySource::Context(ContextValue::RouteKey) => Cow::Owned(request::route_key(exchange).into_bytes()),
        IdentitySource::Context(ContextValue::Domain) => Cow::Borrowed(request.host()),
    };
    (!found.is_empty()).then_some(found)
}

impl Authorizer for FunctionAuthorizer {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Without a place to look in, it is about every request.
    fn finds(&self, exchange: &Exchange) -> bool {
        let mut places = self.identity.iter().filter_map(place).peekable();
        places.peek().is_none() || places.any(|place| find_as_form(place, exchange) != Found::Nothing)
    }

    fn recall(&self, exchange: &Exchange, ports: &dyn Ports) -> Option<Decision> {
        let key = self.key(exchange)?;
        let verdicts = ports.verdicts().borrow();
        Some(match verdicts.get(self.number, &key, self.generations(), exchange.record.started)? {
            Remembered::Valid(principal) => self.judged(principal, exchange),
            Remembered::Refused => Err(match self.form {
                AuthorizerForm::HttpV2 { simple: true } => Refusal::Forbidden("the function said no before".into()),
                AuthorizerForm::Token
                | AuthorizerForm::Rest
                | AuthorizerForm::HttpV1
                | AuthorizerForm::HttpV2 { simple: false } => denied(exchange),
            }),
        })
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        let exchange = &*exchange;
        let mut room = [0; ARN_BYTES_MAX];
        let asked = self.arn(exchange, &mut room).and_then(|arn| {
            let values = self.values(exchange)?;
            Ok(request::event(self.form, (&arn, &values), exchange, ports))
        });
        let event = match asked {
            Ok(event) => event,
            Err(refusal) => return Hook::Ready(Err(refusal)),
        };
        let key = self.key(exchange);
        Hook::Pending(Box::pin(async move {
            let found = match &key {
                Some(key) => ports.flights().share(self.number, key, || self.ask((event, Some(key)), ports)).await,
                // Each request is asked about: what else stands in it may matter.
                None => self.ask((event, None), ports).await,
            };
            match found.map_err(Refusal::Failed)? {
                Remembered::Valid(principal) => self.judged(&principal, exchange),
                Remembered::Refused => Err(Refusal::invalid("the function says that the credential is not valid")),
            }
        }))
    }

    /// Which credential it takes, the function alone knows.
    fn challenge(&self) -> Option<String> {
        None
    }

    fn strip(&self, exchange: &mut Exchange) {
        for place in self.identity.iter().filter_map(place) {
            strip(place, exchange);
        }
    }
}

fn place(source: &IdentitySource) -> Option<&model::KeyPlace> {
    match source {
        IdentitySource::Place(place) => Some(place),
        IdentitySource::Context(_) => None,
    }
}
