//! A token's parts (RFC 7515 §7.1), read as strictly as they can be. Trusts nothing in them: keys that a header brings along or points to
//! are not looked at, and neither are claims before the signature was.

use super::Flaw;
use maitred_core::identity::{base64url, json};
use serde_json::{Map, Value};

/// Bytes of a token. A hundred groups and an RSA signature take three quarters of it.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

type Object = Map<String, Value>;

#[derive(Debug)]
pub struct Token<'a> {
    pub header: Header,
    /// What the signature is of.
    pub signed: &'a [u8],
    pub signature: Vec<u8>,
    payload: &'a [u8],
}

/// What of a header counts.
#[derive(Debug)]
pub struct Header {
    pub algorithm: String,
    pub key: Option<String>,
    pub typ: Option<String>,
}

impl<'a> Token<'a> {
    pub fn parse(text: &'a [u8]) -> Result<Token<'a>, Flaw> {
        let [header, payload, signature] = parts(text)?;
        let signed = &text[..header.len() + 1 + payload.len()];
        let header = Header::parse(&object(header, "header")?)?;
        let signature = base64url::decode(signature).ok_or(Flaw::Malformed("the signature is no base64url".into()))?;
        Ok(Token { header, signed, signature, payload })
    }

    /// To be believed once the signature was verified.
    pub fn claims(&self) -> Result<Object, Flaw> {
        object(self.payload, "payload")
    }
}

impl Header {
    fn parse(header: &Object) -> Result<Header, Flaw> {
        // RFC 7515 §4.1.11: no extension is understood here. RFC 7797 §6: `b64` would have to be among them.
        if let Some(extension) = ["crit", "b64"].into_iter().find(|name| header.contains_key(*name)) {
            return Err(Flaw::Malformed(format!("its header has `{extension}`, which is not understood").into()));
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Flaw::Malformed(format!("`{name}` of its header is no text").into())),
        };
        let algorithm = text("alg")?.ok_or(Flaw::Malformed("its header has no `alg`".into()))?;
        Ok(Header { algorithm, key: text("kid")?, typ: text("typ")? })
    }
}

/// Three parts, and none of them empty: a token without a signature is none.
fn parts(text: &[u8]) -> Result<[&[u8]; 3], Flaw> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err(Flaw::Malformed(format!("it is longer than {} KiB", TOKEN_BYTES_MAX / 1024).into()));
    }
    let mut parts = text.split(|byte| *byte == b'.');
    let three = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    const OTHERWISE: &str = "it is not three parts with dots between them";
    let why = match three {
        _ if parts.next().is_some() => OTHERWISE,
        [[_, ..], [_, ..], [_, ..]] => return Ok(three),
        // So tokens end whose `alg` is `none`.
        [[_, ..], [_, ..], []] if text.ends_with(b".") => "it has no signature",
        _ => OTHERWISE,
    };
    Err(Flaw::Malformed(why.into()))
}

fn object(part: &[u8], what: &str) -> Result<Object, Flaw> {
    let bytes = base64url::decode(part).ok_or_else(|| Flaw::Malformed(format!("the {what} is no base64url").into()))?;
    json::object(&bytes).map_err(|why| Flaw::Malformed(format!("the {what}: {why}").into()))
}

/// What a token says of itself, for whoever wants to know whose it would be. Nothing of it is to be believed.
pub fn claims_unverified(text: &[u8]) -> Result<Object, Flaw> {
    let [_, payload, _] = parts(text)?;
    object(payload, "payload")
}

/// Header and claims as they stand there, for whoever inspects a token.
pub fn shown(text: &[u8]) -> Result<(Object, Object), Flaw> {
    let [header, payload, _] = parts(text)?;
    Ok((object(header, "header")?, object(payload, "payload")?))
}
