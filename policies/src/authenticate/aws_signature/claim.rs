//! What a request says about its signature: in `Authorization`, or in its query where the URL was signed for somebody else to use. Nothing
//! is believed yet.

use super::{PARAMETERS, TERMINATOR, TOKEN_HEADER, TOKEN_PARAMETER, parameter, stamp};
use maitred_core::Exchange;
use maitred_core::render::query_values;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Seven days: AWS signs no URL for longer.
const EXPIRES_MAX: u64 = 7 * 24 * 3600;
/// More than a request may have headers.
const SIGNED_HEADERS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Header,
    /// For so long after it was signed.
    Query {
        expires: Duration,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub key_id: String,
    pub region: String,
    pub service: String,
    /// Names in lower case, in order, each once; `host` is among them.
    pub signed: Vec<String>,
    pub signature: [u8; 32],
    /// When it was signed, since 1970.
    pub time: u64,
    pub shown: Shown,
}

/// Any version of AWS's scheme: one that is not verified here must not be taken for no credential.
pub fn in_header(exchange: &Exchange) -> bool {
    let values = exchange.request.headers.get_all(b"authorization");
    values.map(<[u8]>::trim_ascii).any(|value| value.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AWS4-")))
}

pub fn in_query(exchange: &Exchange) -> bool {
    let query = exchange.request.query().unwrap_or_default();
    let has = |name: &str| query_values(query, name.as_bytes()).next().is_some();
    has("X-Amz-Algorithm") || has("X-Amz-Signature")
}

impl Claim {
    pub fn read(exchange: &Exchange) -> Result<Claim, &'static str> {
        let query = exchange.request.query().unwrap_or_default();
        if exchange.request.headers.get(TOKEN_HEADER).is_some()
            || query_values(query, TOKEN_PARAMETER.as_bytes()).next().is_some()
        {
            return Err("keys with a session token are not registered here");
        }
        let claim = match (in_header(exchange), in_query(exchange)) {
            (true, true) => return Err("the request is signed in its header and in its query"),
            (true, false) => {
                let mut values = exchange.request.headers.get_all(b"authorization");
                match (values.next(), values.next()) {
                    (Some(value), None) => Claim::from_header(value, signed_at(exchange)?)?,
                    _ => return Err("more than one Authorization"),
                }
            }
            (false, _) => Claim::from_query(query)?,
        };
        let unsigned = exchange.request.headers.iter().map(|entry| exchange.request.headers.name(entry)).any(|name| {
            let name = name.to_ascii_lowercase();
            name.starts_with(b"x-amz-") && !claim.signed.iter().any(|signed| signed.as_bytes() == name)
        });
        if unsigned {
            return Err("a header of the request begins with x-amz- and is not signed");
        }
        if claim.shown == Shown::Header && exchange.request.headers.get(b"x-amz-date").is_none() && !claim.has_signed("date") {
            return Err("the date is not signed");
        }
        Ok(claim)
    }

    /// The value of `Authorization`. `time`: of the request's date.
    pub fn from_header(value: &[u8], time: u64) -> Result<Claim, &'static str> {
        let text = std::str::from_utf8(value.trim_ascii()).map_err(|_| "Authorization is not ASCII")?;
        let rest =
            text.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' ')).ok_or("an algorithm that is not verified")?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim_matches(' ').split_once('=').ok_or("Authorization has a part without a value")?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err("Authorization has a part that is not known"),
            };
            if place.replace(value).is_some() {
                return Err("a part of Authorization stands twice");
            }
        }
        match (credential, signed, signature) {
            (Some(credential), Some(signed), Some(signature)) => Claim::new(credential, signed, signature, time, Shown::Header),
            _ => Err("Authorization lacks a part"),
        }
    }

    pub fn from_query(query: &[u8]) -> Result<Claim, &'static str> {
        let mut values = [const { String::new() }; PARAMETERS.len()];
        for (value, name) in values.iter_mut().zip(PARAMETERS) {
            let decoded = parameter(query, name)?.ok_or("a parameter of the signature is missing")?;
            *value = String::from_utf8(decoded.into_owned()).map_err(|_| "a parameter of the signature is not ASCII")?;
        }
        let [algorithm, credential, date, expires, signed, signature] = values;
        if algorithm != ALGORITHM {
            return Err("an algorithm that is not verified");
        }
        let time = stamp::parse(date.as_bytes()).ok_or("X-Amz-Date is not a date")?;
        let is_number = expires.len() <= 6 && expires.bytes().all(|byte| byte.is_ascii_digit());
        let expires = expires.parse().ok().filter(|seconds| is_number && (1..=EXPIRES_MAX).contains(seconds));
        let expires = Duration::from_secs(expires.ok_or("X-Amz-Expires is not 1 to 604800")?);
        Claim::new(&credential, &signed, &signature, time, Shown::Query { expires })
    }

    fn new(credential: &str, signed: &str, signature: &str, time: u64, shown: Shown) -> Result<Claim, &'static str> {
        let parts: Vec<&str> = credential.splitn(6, '/').collect();
        let [key_id, day, region, service, terminator] = parts[..] else { return Err("a credential that is not one") };
        if terminator != TERMINATOR || [key_id, region, service].contains(&"") {
            return Err("a credential that is not one");
        }
        let signed: Vec<String> = signed.split(';').take(SIGNED_HEADERS_MAX + 1).map(str::to_owned).collect();
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_name = |name: &String| !name.is_empty() && name.bytes().all(lower);
        if signed.len() > SIGNED_HEADERS_MAX || !signed.iter().all(is_name) || !signed.is_sorted_by(|a, b| a < b) {
            return Err("signed headers that are not names in lower case, in order, each once");
        }
        let signature = unhex(signature).ok_or("a signature that is not 64 hexadecimal digits")?;
        let claim = Claim {
            key_id: key_id.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed,
            signature,
            time,
            shown,
        };
        if day.as_bytes() != claim.day() {
            return Err("the credential is for another day than the request");
        }
        if !claim.has_signed("host") {
            return Err("the host is not signed");
        }
        Ok(claim)
    }

    pub fn has_signed(&self, name: &str) -> bool {
        self.signed.iter().any(|signed| signed == name)
    }

    pub fn stamp(&self) -> [u8; 16] {
        stamp::format(self.time)
    }

    pub fn day(&self) -> [u8; 8] {
        let [day @ .., _, _, _, _, _, _, _, _] = self.stamp();
        day
    }
}

/// X-Amz-Date, or Date where that is missing.
fn signed_at(exchange: &Exchange) -> Result<u64, &'static str> {
    let only = |name: &'static [u8]| {
        let mut values = exchange.request.headers.get_all(name);
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err("a date that stands twice"),
            (value, _) => Ok(value.map(<[u8]>::trim_ascii)),
        }
    };
    if let Some(date) = only(b"x-amz-date")? {
        return stamp::parse(date).ok_or("X-Amz-Date is not a date");
    }
    let date = only(b"date")?.ok_or("the request has no date")?;
    if let Some(time) = stamp::parse(date) {
        return Ok(time);
    }
    let date = std::str::from_utf8(date).ok().and_then(|text| httpdate::parse_http_date(text).ok());
    let since = date.and_then(|date: SystemTime| date.duration_since(UNIX_EPOCH).ok());
    since.map(|since| since.as_secs()).ok_or("Date is not a date")
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}
