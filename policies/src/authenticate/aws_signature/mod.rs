//! Requests signed as AWS's are (Signature Version 4), verified against keys that are registered here and nowhere else: AWS is not asked.
//! Header and presigned query, one piece: bodies signed chunk by chunk (`STREAMING-…`) and session tokens are refused. A body is read whole
//! where its hash is part of what is signed.

#[cfg(test)]
mod tests;

use super::{Authorizer, Decision, Making, Refusal, place};
use maitred_core::aws::sigv4::{
    ALGORITHM, Claim, PARAMETERS, Payload, SecretKey, TOKEN_HEADER, TOKEN_PARAMETER, UNSIGNED, canonical_request, hash_in_turns,
    in_header, in_query,
};
use maitred_core::identity::{Roll, Vouched};
use maitred_core::{Exchange, Hook, Ports, Principal};
use maitred_model::{self as model, KeyPlace};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

pub struct AwsSignature {
    name: Arc<str>,
    region: Box<str>,
    service: Box<str>,
    max_age: Duration,
    unsigned_payload: bool,
    keys: HashMap<Box<str>, SecretKey>,
    roll: Arc<Roll>,
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
            keys: keys.map(|(id, secret)| (id.as_str().into(), SecretKey::new(secret.value.expose()))).collect(),
            roll: making.roll.clone(),
        }
    }

    /// The key of whom a claim names, if the claim is for this place and this time.
    fn key(&self, claim: &Claim, now: Duration) -> Result<&SecretKey, Refusal> {
        if claim.region != *self.region || claim.service != *self.service {
            return Err(Refusal::invalid("the signature is for another region or service"));
        }
        claim.check_time(now, self.max_age).map_err(Refusal::invalid)?;
        self.keys.get(&*claim.key_id).ok_or_else(|| Refusal::invalid("nobody has this access key"))
    }

    async fn verify(&self, exchange: &mut Exchange, ports: &dyn Ports) -> Decision {
        let claim = Claim::read(exchange).map_err(Refusal::invalid)?;
        let secret = self.key(&claim, ports.unix_time(ports.now()))?;
        let payload = Payload::read(exchange, &claim, self.unsigned_payload).map_err(Refusal::invalid)?;
        let mut request = canonical_request(exchange, &claim).map_err(Refusal::invalid)?;
        // Only now is a body held that may be nobody's.
        match &payload {
            Payload::Stated(hash) => request.extend_from_slice(hash),
            Payload::Unsigned => request.extend_from_slice(UNSIGNED),
            Payload::OfBody => request.extend_from_slice(&hash_of_body(exchange, ports).await?),
        }
        if !claim.is_by(secret, &request) {
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
    Ok(hash_in_turns(&body).await)
}

impl Authorizer for AwsSignature {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn finds(&self, exchange: &Exchange) -> bool {
        in_header(exchange) || in_query(exchange)
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
        if in_header(exchange) {
            exchange.request.headers.remove(b"authorization");
        }
        exchange.request.headers.remove(TOKEN_HEADER);
        for name in PARAMETERS.into_iter().chain([TOKEN_PARAMETER]) {
            place::strip(&KeyPlace::Query(name.to_owned()), exchange);
        }
    }
}
