//! What a request says about its signature: in `Authorization`, or in its query where the URL was signed for somebody else to use. Nothing
//! is believed yet.

use super::request::Request;
use super::{PARAMETERS, SecretKey, TERMINATOR, TOKEN_HEADER, TOKEN_PARAMETER, stamp, string_to_sign};
use crate::render::query_values;
use aws_lc_rs::hmac;
use maitred_wire::path;
use std::borrow::Cow;
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
pub fn in_header(request: &impl Request) -> bool {
    let mut values = request.values(b"authorization");
    values.any(|value| value.trim_ascii().get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AWS4-")))
}

pub fn in_query(request: &impl Request) -> bool {
    let has = |name: &str| query_values(request.query(), name.as_bytes()).next().is_some();
    has("X-Amz-Algorithm") || has("X-Amz-Signature")
}

impl Claim {
    pub fn read(request: &impl Request) -> Result<Claim, &'static str> {
        let query = request.query();
        if request.values(TOKEN_HEADER).next().is_some() || query_values(query, TOKEN_PARAMETER.as_bytes()).next().is_some() {
            return Err("keys with a session token are not registered here");
        }
        let claim = match (in_header(request), in_query(request)) {
            (true, true) => return Err("the request is signed in its header and in its query"),
            (true, false) => {
                let mut values = request.values(b"authorization");
                match (values.next(), values.next()) {
                    (Some(value), None) => Claim::from_header(value, signed_at(request)?)?,
                    _ => return Err("more than one Authorization"),
                }
            }
            (false, _) => Claim::from_query(query)?,
        };
        let unsigned = request.names().any(|name| {
            let name = name.to_ascii_lowercase();
            name.starts_with(b"x-amz-") && !claim.signed.iter().any(|signed| signed.as_bytes() == name)
        });
        if unsigned {
            return Err("a header of the request begins with x-amz- and is not signed");
        }
        if claim.shown == Shown::Header && request.values(b"x-amz-date").next().is_none() && !claim.has_signed("date") {
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

    pub fn is_for_s3(&self) -> bool {
        self.service == "s3"
    }

    /// Whether the time of it has come and is not over. `now`: since 1970.
    pub fn check_time(&self, now: Duration, max_age: Duration) -> Result<(), &'static str> {
        let signed = Duration::from_secs(self.time);
        if signed > now + max_age {
            return Err("the signature was made in the future");
        }
        let lasts = match self.shown {
            Shown::Header => max_age,
            Shown::Query { expires } => expires,
        };
        if now > signed + lasts { Err("the signature is too old") } else { Ok(()) }
    }

    /// Whether its signature is one with this key, of this canonical request. Takes as long for a wrong one.
    pub fn is_by(&self, key: &SecretKey, request: &[u8]) -> bool {
        let key = key.of_day(self.day(), &self.region, &self.service);
        hmac::verify(&key, &string_to_sign(self, request), &self.signature).is_ok()
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
fn signed_at(request: &impl Request) -> Result<u64, &'static str> {
    let only = |name: &'static [u8]| {
        let mut values = request.values(name);
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

/// The one value of a query parameter, decoded; `Err` if it stands there twice.
fn parameter<'a>(query: &'a [u8], name: &str) -> Result<Option<Cow<'a, [u8]>>, &'static str> {
    let mut values = query_values(query, name.as_bytes());
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err("a parameter of the signature stands twice"),
        (Some(value), None) => Ok(Some(match value.contains(&b'%') {
            false => Cow::Borrowed(value),
            true => {
                let mut decoded = Vec::with_capacity(value.len());
                path::decode(value, &mut decoded);
                Cow::Owned(decoded)
            }
        })),
        (None, _) => Ok(None),
    }
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
