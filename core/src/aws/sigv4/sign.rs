//! Signs a request of the gateway's own. What is signed is made by the same code that verifies.

use super::claim::{ALGORITHM, Claim, Shown};
use super::request::{Parts, Request};
use super::{SecretKey, TERMINATOR, canonical_request, hex, string_to_sign};
use aws_lc_rs::hmac;

/// Who signs, for what and when.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    pub key_id: &'a str,
    pub secret: &'a SecretKey,
    pub region: &'a str,
    pub service: &'a str,
    /// seconds since 1970
    pub time: u64,
}

/// The value of `Authorization` for a request, of which the host and all headers are signed. Among these are `x-amz-date`, which is
/// `stamp::format(time)`, and `x-amz-security-token` of keys that have one. `body`: its hash. `Err`: a header that cannot be signed.
pub fn authorization(request: &Parts<'_>, signing: &Signing<'_>, body: &[u8; 64]) -> Result<String, &'static str> {
    let mut signed: Vec<String> = request.names().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    signed.push("host".to_owned());
    signed.sort();
    signed.dedup();
    let claim = Claim {
        key_id: signing.key_id.to_owned(),
        region: signing.region.to_owned(),
        service: signing.service.to_owned(),
        signed,
        signature: [0; 32],
        time: signing.time,
        shown: Shown::Header,
    };
    let mut text = canonical_request(request, &claim)?;
    text.extend_from_slice(body);
    let key = signing.secret.of_day(claim.day(), &claim.region, &claim.service);
    let signature = hex(hmac::sign(&key, &string_to_sign(&claim, &text)).as_ref());
    let (day, signature) = (claim.day(), String::from_utf8_lossy(&signature));
    let Claim { key_id, region, service, signed, .. } = claim;
    let (day, signed) = (String::from_utf8_lossy(&day), signed.join(";"));
    let credential = format!("{key_id}/{day}/{region}/{service}/{TERMINATOR}");
    Ok(format!("{ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={signature}"))
}
