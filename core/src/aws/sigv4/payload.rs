//! What stands for the body in what is signed. Reads no body.

use super::claim::{Claim, Shown};
use super::request::Request;

pub const UNSIGNED: &[u8] = b"UNSIGNED-PAYLOAD";

/// What stands for the body in the canonical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Said by the request: in hexadecimal, and to be held against the body once the signature is known to be right.
    Stated([u8; 64]),
    Unsigned,
    /// Not said: the hash of the body itself.
    OfBody,
}

impl Payload {
    /// `unsigned`: whether a body may go unsigned.
    pub fn read(request: &impl Request, claim: &Claim, unsigned: bool) -> Result<Payload, &'static str> {
        let mut values = request.values(b"x-amz-content-sha256");
        let stated = match (values.next(), values.next()) {
            (Some(_), Some(_)) => return Err("several x-amz-content-sha256"),
            (Some(stated), None) => stated.trim_ascii(),
            // S3 signs its URLs before anyone knows the body.
            (None, _) if matches!(claim.shown, Shown::Query { .. }) && claim.is_for_s3() => UNSIGNED,
            (None, _) => return Ok(Payload::OfBody),
        };
        match <[u8; 64]>::try_from(stated) {
            _ if stated == UNSIGNED && unsigned => Ok(Payload::Unsigned),
            _ if stated == UNSIGNED => Err("the body is not signed"),
            Ok(hash) if hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => Ok(Payload::Stated(hash)),
            Ok(_) | Err(_) => Err("x-amz-content-sha256 is no hash of the whole body"),
        }
    }
}
