//! AWS's Signature Version 4 ("Create a signed AWS API request", AWS IAM User Guide), once for who signs and for who verifies. Knows neither
//! whose keys they are nor who may use them: that is for the caller to judge.

mod canonical;
mod claim;
mod key;
mod payload;
mod request;
mod sign;
pub mod stamp;
#[cfg(test)]
mod tests;

pub use canonical::{canonical_request, hex, string_to_sign};
pub use claim::{ALGORITHM, Claim, Shown, in_header, in_query};
pub use key::SecretKey;
pub use payload::{Payload, UNSIGNED};
pub use request::{Parts, Request};
pub use sign::{Signing, authorization};

use crate::body_hash;
use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// How every scope ends.
pub const TERMINATOR: &str = "aws4_request";

/// Parameters of a presigned request, beside its security token.
pub const PARAMETERS: [&str; 6] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"];
pub const TOKEN_PARAMETER: &str = "X-Amz-Security-Token";
pub const TOKEN_HEADER: &[u8] = b"x-amz-security-token";

/// The hash of a whole body, as it stands in what is signed.
pub fn hash(body: &[u8]) -> [u8; 64] {
    hex(digest(&SHA256, body).as_ref())
}

/// The same, of a body that may be long: others on its worker have their turn in the middle.
pub async fn hash_in_turns(body: &[u8]) -> [u8; 64] {
    hex(body_hash::hash(&SHA256, body).await.as_ref())
}

/// Whether a request whose body is at hand was signed with this key. Who may be asked for it, where and when, the caller has looked at:
/// `Claim::read`, its region and service, `Claim::check_time`.
pub fn verify(request: &impl Request, claim: &Claim, key: &SecretKey, body: &[u8]) -> Result<(), &'static str> {
    let payload = Payload::read(request, claim, false)?;
    let hash = hash(body);
    if let Payload::Stated(stated) = &payload
        && !bool::from(stated.ct_eq(&hash))
    {
        return Err("the body is not the one that was signed");
    }
    let mut text = canonical_request(request, claim)?;
    text.extend_from_slice(&hash);
    if claim.is_by(key, &text) { Ok(()) } else { Err("the signature does not fit the request") }
}
