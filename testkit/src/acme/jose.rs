//! Signed requests (RFC 7515, as RFC 8555 §6.2 narrows it): ES256 alone. Knows nothing of what they ask for.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// base64url without padding (RFC 4648 §5).
pub fn encode(bytes: &[u8]) -> String {
    let sextets = |chunk: &[u8]| {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(|at| char::from(ALPHABET[(word >> (18 - 6 * at)) as usize & 63])).collect::<String>()
    };
    bytes.chunks(3).map(sextets).collect()
}

pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut word, mut bits) = (0u32, 0);
    for letter in text.bytes() {
        let sextet = ALPHABET.iter().position(|other| *other == letter)?;
        word = word << 6 | sextet as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Some(bytes)
}

/// RFC 7638.
pub fn thumbprint(key: &Value) -> String {
    let canonical = format!(r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#, key["crv"], key["kty"], key["x"], key["y"]);
    encode(&sha256(canonical.as_bytes()))
}

/// A signed request.
pub struct Jws {
    pub header: Value,
    /// Null where it is empty, which is how something is read.
    pub payload: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Jws {
    pub fn read(body: &[u8]) -> Result<Jws, String> {
        let outer: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
        let part = |name: &str| outer[name].as_str().ok_or_else(|| format!("no `{name}`"));
        let (protected, payload, signature) = (part("protected")?, part("payload")?, part("signature")?);
        let json = |text: &str| {
            let bytes = decode(text).ok_or("not base64url")?;
            serde_json::from_slice::<Value>(&bytes).map_err(|error| format!("not JSON: {error}"))
        };
        let header = json(protected)?;
        if header["alg"] != "ES256" || header["jwk"].is_null() == header["kid"].is_null() {
            return Err(format!("the header {header}"));
        }
        Ok(Jws {
            payload: if payload.is_empty() { Value::Null } else { json(payload)? },
            header,
            signed: format!("{protected}.{payload}"),
            signature: decode(signature).ok_or("not base64url")?,
        })
    }

    pub fn verify(&self, key: &Value) -> Result<(), String> {
        let coordinate = |name: &str| key[name].as_str().and_then(decode).ok_or_else(|| format!("the key {key}"));
        let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(self.signed.as_bytes(), &self.signature).map_err(|_| "the signature does not fit".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_goes_both_ways() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{3fb}", "z7s")] {
            assert_eq!((encode(bytes.as_bytes()).as_str(), decode(text).unwrap()), (text, bytes.as_bytes().to_vec()));
        }
        assert_eq!(encode(&[0xfb, 0xff]), "-_8");
        assert!(decode("a+b").is_none());
    }
}
