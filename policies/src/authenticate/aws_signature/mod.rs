//! Requests signed as AWS's are (Signature Version 4), verified against keys that are registered here and nowhere else: AWS is not asked.
//! Header and presigned query, one piece: bodies signed chunk by chunk (`STREAMING-…`) and session tokens are refused. A body is read whole
//! where its hash is part of what is signed.

mod canonical;
mod claim;
pub(crate) mod stamp;
#[cfg(test)]
mod tests;

pub use claim::{ALGORITHM, Claim, Shown};

use super::{Authorizer, Decision, Making, Refusal, body_hash, place};
use arc_swap::ArcSwapOption;
use aws_lc_rs::{digest, hmac};
use canonical::hex;
use maitred_core::identity::{Roll, Vouched};
use maitred_core::render::query_values;
use maitred_core::{Exchange, Hook, Ports, Principal};
use maitred_model::{self as model, KeyPlace};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

const UNSIGNED: &[u8] = b"UNSIGNED-PAYLOAD";
const TERMINATOR: &str = "aws4_request";

/// Parameters of a presigned request, beside its security token.
const PARAMETERS: [&str; 6] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"];
const TOKEN_PARAMETER: &str = "X-Amz-Security-Token";
const TOKEN_HEADER: &[u8] = b"x-amz-security-token";

pub struct AwsSignature {
    name: Arc<str>,
    region: Box<str>,
    service: Box<str>,
    max_age: Duration,
    unsigned_payload: bool,
    keys: HashMap<Box<str>, Secret>,
    roll: Arc<Roll>,
}

struct Secret {
    /// `AWS4` and the secret.
    seed: Box<[u8]>,
    /// What was derived last: a day's key.
    derived: ArcSwapOption<([u8; 8], hmac::Key)>,
}

impl Secret {
    fn new(secret: &str) -> Secret {
        Secret { seed: [b"AWS4", secret.as_bytes()].concat().into(), derived: ArcSwapOption::empty() }
    }

    fn of_day(&self, day: [u8; 8], region: &str, service: &str) -> hmac::Key {
        if let Some(derived) = &*self.derived.load()
            && derived.0 == day
        {
            return derived.1.clone();
        }
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let parts = [&day[..], region.as_bytes(), service.as_bytes(), TERMINATOR.as_bytes()];
        let derived = parts.iter().fold(key(&self.seed), |own, part| key(hmac::sign(&own, part).as_ref()));
        self.derived.store(Some(Arc::new((day, derived.clone()))));
        derived
    }
}

/// What stands for the body in the canonical request.
enum Payload {
    /// Said by the request: in hexadecimal, and to be held against the body once the signature is known to be right.
    Stated([u8; 64]),
    Unsigned,
    /// Not said: the hash of the body itself.
    OfBody,
}

impl AwsSignature {
    pub fn compile(name: Arc<str>, configured: &model::AwsSignature, making: &Making<'_>) -> AwsSignature {
        let keys = configured.keys.iter();
        AwsSignature {
            name,
            region: configured.region.as_str().into(),
            service: configured.service.as_str().into(),
            max_age: configured.max_age,
            unsigned_payload: configured.unsigned_payload,
            keys: keys.map(|(id, secret)| (id.as_str().into(), Secret::new(secret.value.expose()))).collect(),
            roll: making.roll.clone(),
        }
    }

    /// The key of whom a claim names, if the claim is for this place and this time.
    fn key(&self, claim: &Claim, now: Duration) -> Result<&Secret, Refusal> {
        if claim.region != *self.region || claim.service != *self.service {
            return Err(Refusal::invalid("the signature is for another region or service"));
        }
        let signed = Duration::from_secs(claim.time);
        if signed > now + self.max_age {
            return Err(Refusal::invalid("the signature was made in the future"));
        }
        let lasts = match claim.shown {
            Shown::Header => self.max_age,
            Shown::Query { expires } => expires,
        };
        if now > signed + lasts {
            return Err(Refusal::invalid("the signature is too old"));
        }
        self.keys.get(&*claim.key_id).ok_or_else(|| Refusal::invalid("nobody has this access key"))
    }

    fn payload(&self, exchange: &Exchange, claim: &Claim) -> Result<Payload, Refusal> {
        let mut values = exchange.request.headers.get_all(b"x-amz-content-sha256");
        let stated = match (values.next(), values.next()) {
            (Some(_), Some(_)) => return Err(Refusal::invalid("several x-amz-content-sha256")),
            (Some(stated), None) => stated.trim_ascii(),
            // S3 signs its URLs before anyone knows the body.
            (None, _) if matches!(claim.shown, Shown::Query { .. }) && *self.service == *"s3" => UNSIGNED,
            (None, _) => return Ok(Payload::OfBody),
        };
        match <[u8; 64]>::try_from(stated) {
            _ if stated == UNSIGNED && self.unsigned_payload => Ok(Payload::Unsigned),
            _ if stated == UNSIGNED => Err(Refusal::invalid("the body is not signed")),
            Ok(hash) if hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => Ok(Payload::Stated(hash)),
            Ok(_) | Err(_) => Err(Refusal::invalid("x-amz-content-sha256 is no hash of the whole body")),
        }
    }

    async fn verify(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Decision {
        let claim = Claim::read(exchange).map_err(Refusal::invalid)?;
        let secret = self.key(&claim, ports.unix_time(ports.now()))?;
        let payload = self.payload(exchange, &claim)?;
        let mut request = canonical::request(exchange, &claim, *self.service == *"s3").map_err(Refusal::invalid)?;
        // Only now is a body held that may be nobody's.
        match &payload {
            Payload::Stated(hash) => request.extend_from_slice(hash),
            Payload::Unsigned => request.extend_from_slice(UNSIGNED),
            Payload::OfBody => request.extend_from_slice(&hash_of_body(exchange, ports).await?),
        }
        let text = canonical::string_to_sign(&claim, &request);
        let key = secret.of_day(claim.day(), &self.region, &self.service);
        if hmac::verify(&key, &text, &claim.signature).is_err() {
            return Err(Refusal::invalid(format!("the signature by {} does not fit the request", claim.key_id)));
        }
        if let Payload::Stated(hash) = payload
            && !bool::from(hash.ct_eq(&hash_of_body(exchange, ports).await?))
        {
            return Err(Refusal::invalid("the body is not the one that was signed"));
        }
        Ok(Arc::new(Principal {
            authorizer: self.name.clone(),
            consumer: self.roll.by_identity(&self.name, &claim.key_id),
            subject: Some(claim.key_id.into()),
            vouched: Vouched::Iam,
            ..Principal::default()
        }))
    }
}

async fn hash_of_body(exchange: &mut Exchange, ports: &dyn Ports) -> Result<[u8; 64], Refusal> {
    let body = exchange.whole_body(ports, usize::MAX).await.map_err(Refusal::Failed)?;
    Ok(hex(body_hash::hash(&digest::SHA256, &body).await.as_ref()))
}

impl Authorizer for AwsSignature {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        claim::in_header(exchange) || claim::in_query(exchange)
    }

    /// Each request has a signature of its own.
    fn recall(&self, _: &Exchange, _: &dyn Ports) -> Option<Decision> {
        None
    }

    fn decide<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Decision> {
        Hook::Pending(Box::pin(self.verify(exchange, ports)))
    }

    fn challenge(&self) -> Option<String> {
        Some(format!(r#"{ALGORITHM} region="{}", service="{}""#, self.region, self.service))
    }

    fn strip(&self, exchange: &mut Exchange) {
        if claim::in_header(exchange) {
            exchange.request.headers.remove(b"authorization");
        }
        exchange.request.headers.remove(TOKEN_HEADER);
        for name in PARAMETERS.into_iter().chain([TOKEN_PARAMETER]) {
            place::strip(&KeyPlace::Query(name.to_owned()), exchange);
        }
    }
}

/// The one value of a query parameter, decoded; `Err` if it stands there twice.
fn parameter<'a>(query: &'a [u8], name: &str) -> Result<Option<Cow<'a, [u8]>>, &'static str> {
    let mut values = query_values(query, name.as_bytes());
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err("a parameter of the signature stands twice"),
        (Some(value), None) => Ok(Some(match value.contains(&b'%') {
            false => Cow::Borrowed(value),
            true => {
                let mut decoded = Vec::with_capacity(value.len());
                maitred_core::wire::path::decode(value, &mut decoded);
                Cow::Owned(decoded)
            }
        })),
        (None, _) => Ok(None),
    }
}
