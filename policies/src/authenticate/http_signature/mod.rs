//! Requests signed by RFC 9421, with keys that are registered here, each for one algorithm. A signature must cover what the configuration
//! lists, be fresh, and, unless that is allowed, not have been seen before. Nothing of the body is read before the signature over its
//! digest is verified. What is verified is what came: the target byte by byte, the scheme of the connection itself.

mod base;
mod digest;
mod keys;
mod seen;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

pub use keys::{Key, read_key};
pub use seen::Seen;

use super::{Authorizer, Decision, Making, Refusal};
use base::Covered;
use maitred_core::identity::Roll;
use maitred_core::wire::structured::{Bare, Dictionary, InnerList, Member};
use maitred_core::{Exchange, Fault, Hook, Kind, Ports, Principal};
use maitred_model::{self as model, Component, Replay};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How far the clock of who signs may be ahead of ours.
pub const AHEAD_MAX: Duration = Duration::from_secs(30);

const INPUT: &[u8] = b"signature-input";
const SIGNATURE: &[u8] = b"signature";

pub struct HttpSignature {
    name: Arc<str>,
    components: Box<[Component]>,
    max_age: Duration,
    label: Option<Box<str>>,
    tag: Option<Box<str>>,
    keys: HashMap<Box<str>, Key>,
    /// Where a signature counts once.
    seen: Option<Arc<Seen>>,
    roll: Arc<Roll>,
}

/// The one signature of a request that counts.
struct Chosen<'a> {
    key_id: String,
    key: &'a Key,
    input: InnerList,
    signature: Vec<u8>,
}

impl HttpSignature {
    /// Keys that cannot be read are left out: whoever compiles a document complains about them, and it does not become live.
    pub fn compile(name: Arc<str>, configured: &model::HttpSignature, making: &Making<'_>) -> HttpSignature {
        let seen = || {
            let seen = making.seen.of(name.to_string(), Arc::default);
            seen.remember_for(configured.max_age + AHEAD_MAX);
            seen
        };
        let keys = configured.keys.iter();
        HttpSignature {
            components: configured.components.as_slice().into(),
            max_age: configured.max_age,
            label: configured.label.as_deref().map(Box::from),
            tag: configured.tag.as_deref().map(Box::from),
            keys: keys.filter_map(|(id, key)| Some((id.as_str().into(), read_key(&key.value).ok()?))).collect(),
            seen: match configured.replay {
                Replay::Refuse => Some(seen()),
                Replay::Allow => None,
            },
            roll: making.roll.clone(),
            name,
        }
    }

    /// The first signature by a key that is known here, among those that count at all.
    fn choose(&self, exchange: &Exchange) -> Result<Chosen<'_>, Refusal> {
        let read = |name: &[u8]| {
            Dictionary::parse(&base::joined(exchange.request.headers.get_all(name)))
                .map_err(|malformed| Refusal::invalid(format!("{} cannot be read: {}", name.escape_ascii(), malformed.0)))
        };
        let (inputs, signatures) = (read(INPUT)?, read(SIGNATURE)?);
        for (label, member) in inputs.0 {
            let Member::List(input) = member else {
                return Err(Refusal::invalid("Signature-Input has something else than lists"));
            };
            if self.label.as_deref().is_some_and(|wanted| wanted != label) {
                continue;
            }
            let text = |name| input.params.get(name).and_then(Bare::as_string);
            if self.tag.as_deref().is_some_and(|wanted| text("tag") != Some(wanted)) {
                continue;
            }
            let Some((key_id, key)) = text("keyid").and_then(|id| Some((id.to_owned(), self.keys.get(id)?))) else { continue };
            let signature = match signatures.get(&label) {
                Some(Member::Item(item)) => item.bare.as_bytes().map(<[u8]>::to_vec),
                Some(Member::List(_)) | None => None,
            };
            let signature = signature.ok_or_else(|| Refusal::invalid("Signature lacks what Signature-Input announces"))?;
            return Ok(Chosen { key_id, key, input, signature });
        }
        Err(Refusal::invalid("no signature by a key that is registered, or none of the label and tag that are asked for"))
    }

    /// `now`: since 1970.
    fn check_params(&self, chosen: &Chosen<'_>, now: Duration) -> Result<(), Refusal> {
        let params = &chosen.input.params;
        let seconds =
            |name: &str| match params.get(name).map(|value| value.as_integer().and_then(|time| u64::try_from(time).ok())) {
                None => Ok(None),
                Some(Some(time)) => Ok(Some(Duration::from_secs(time))),
                Some(None) => Err(Refusal::invalid(format!("`{name}` is not a time"))),
            };
        for name in ["alg", "nonce", "tag"] {
            if params.get(name).is_some_and(|value| value.as_string().is_none()) {
                return Err(Refusal::invalid(format!("`{name}` is not a string")));
            }
        }
        if let Some(claimed) = params.get("alg").and_then(Bare::as_string)
            && claimed != chosen.key.algorithm()
        {
            return Err(Refusal::invalid("the signature claims another algorithm than its key is for"));
        }
        let created = seconds("created")?.ok_or_else(|| Refusal::invalid("the signature does not say when it was created"))?;
        if created > now + AHEAD_MAX {
            return Err(Refusal::invalid("the signature was created in the future"));
        }
        if now.saturating_sub(created) > self.max_age {
            return Err(Refusal::invalid("the signature is too old"));
        }
        if seconds("expires")?.is_some_and(|expires| expires <= now || expires < created) {
            return Err(Refusal::invalid("the signature has expired"));
        }
        Ok(())
    }

    fn check_coverage(&self, covered: &Covered, exchange: &Exchange) -> Result<(), Refusal> {
        let has_body = !exchange.body.is_empty();
        let missing = self.components.iter().find(|component| {
            let is_needed = component.name != "content-digest" || has_body;
            is_needed && !covered.has(component)
        });
        match missing {
            Some(missing) => Err(Refusal::invalid(format!("the signature does not cover {}", missing.name))),
            None => Ok(()),
        }
    }

    async fn verify(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Decision {
        let chosen = self.choose(exchange)?;
        let now = ports.now();
        self.check_params(&chosen, ports.unix_time(now))?;
        let covered = Covered::read(&chosen.input).map_err(Refusal::invalid)?;
        self.check_coverage(&covered, exchange)?;
        let base = covered.base(exchange, &chosen.input).map_err(Refusal::invalid)?;
        if !chosen.key.verifies(&base, &chosen.signature) {
            return Err(Refusal::invalid(format!("the signature by {} does not fit the request", chosen.key_id)));
        }
        if let Some(member) = covered.digest() {
            digest::check(exchange, ports, member).await?;
        }
        // Last: who shows a signature with another body must not use it up.
        if let Some(seen) = &self.seen {
            match seen.is_new(&chosen.key_id, &base, ports.now()) {
                Ok(true) => {}
                Ok(false) => return Err(Refusal::invalid("the signature was used before")),
                Err(seen::Full) => {
                    let detail = "as many signatures are remembered as there is room for";
                    return Err(Refusal::Failed(Fault::new(Kind::AuthorizerUnavailable, detail)));
                }
            }
        }
        Ok(Arc::new(Principal {
            authorizer: self.name.clone(),
            consumer: self.roll.by_identity(&self.name, &chosen.key_id),
            subject: Some(chosen.key_id.into()),
            ..Principal::default()
        }))
    }
}

/// For the fuzz target: what each signature of a Signature-Input would be over, with the number of components that it covers.
pub fn fuzz_base(exchange: &Exchange, field: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let inputs = Dictionary::parse(field).unwrap_or_default().0.into_iter().filter_map(|(_, member)| match member {
        Member::List(input) => Some(input),
        Member::Item(_) => None,
    });
    let base = |input: &InnerList| Covered::read(input)?.base(exchange, input);
    inputs.filter_map(|input| Some((input.items.len(), base(&input).ok()?))).collect()
}

impl Authorizer for HttpSignature {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        let headers = &exchange.request.headers;
        headers.get(INPUT).is_some() || headers.get(SIGNATURE).is_some()
    }

    /// Each request has a signature of its own.
    fn recall(&self, _: &Exchange, _: &dyn Ports) -> Option<Decision> {
        None
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        Hook::Pending(Box::pin(self.verify(exchange, ports)))
    }

    /// No scheme is registered for it.
    fn challenge(&self) -> Option<String> {
        let names: Vec<&str> = self.components.iter().map(|component| component.name.as_str()).collect();
        Some(format!(r#"Signature components="{}""#, names.join(" ")))
    }

    fn strip(&self, exchange: &mut Exchange) {
        exchange.request.headers.remove(INPUT);
        exchange.request.headers.remove(SIGNATURE);
    }
}
