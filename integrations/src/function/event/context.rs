//! What the forms of events tell of the moment, the API and the principal: the same facts, in the words of a REST API or of an HTTP API.

use super::json::{Object, list, text, value};
use super::{ACCOUNT, Asked, Vouched};
use maitred_core::Principal;
use maitred_wire::base64;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

/// Years of four digits end with this second; beyond it no date has a text.
const LAST_SECOND: u64 = 253_402_300_799;
/// The characters of AWS's ids.
const ID_DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const ID_LENGTH: usize = 10;
/// PEM has lines of so many characters (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// What a REST API's `authorizer` says of its own; no claim says it instead.
pub(crate) const OWN_NAMES: [&str; 2] = ["principalId", "integrationLatency"];

/// When it was asked.
pub(crate) struct Moment {
    since_1970: Duration,
    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    date: String,
}

impl Moment {
    pub fn of(since_1970: Duration) -> Moment {
        let second = Duration::from_secs(since_1970.as_secs().min(LAST_SECOND));
        Moment { since_1970, date: httpdate::fmt_http_date(UNIX_EPOCH + second) }
    }

    /// `06/Nov/1994:08:49:37 +0000`
    pub fn text(&self) -> String {
        let part = |from: usize, to: usize| self.date.get(from..to).unwrap_or_default();
        format!("{}/{}/{}:{} +0000", part(5, 7), part(8, 11), part(12, 16), part(17, 25))
    }

    /// `Nov  6 08:49:37 1994 GMT`, as certificates' times are told.
    fn certificate_text(&self) -> String {
        let part = |from: usize, to: usize| self.date.get(from..to).unwrap_or_default();
        format!("{} {:>2} {} {} GMT", part(8, 11), part(5, 7).trim_start_matches('0'), part(17, 25), part(12, 16))
    }

    pub fn millis(&self) -> u64 {
        self.since_1970.as_millis().try_into().unwrap_or(u64::MAX)
    }
}

/// An id as AWS's are, the same for the same names (FNV-1a: nobody gains by a collision).
pub(super) fn id(api: &str, what: &str) -> String {
    let bytes = api.bytes().chain([0]).chain(what.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut text = String::with_capacity(ID_LENGTH);
    for _ in 0..ID_LENGTH {
        text.push(char::from(ID_DIGITS[(hash % 36) as usize]));
        hash /= 36;
    }
    text
}

/// The first label of a name; the whole of an address.
pub(super) fn prefix(host: &[u8]) -> &[u8] {
    let is_address = std::str::from_utf8(host).is_ok_and(|host| host.starts_with('[') || host.parse::<IpAddr>().is_ok());
    let end = host.iter().position(|&byte| byte == b'.').filter(|_| !is_address);
    &host[..end.unwrap_or(host.len())]
}

/// Whose key it is that has signed.
pub(super) fn user(principal: &Principal) -> &str {
    principal.consumer_name().or(principal.subject.as_deref()).unwrap_or_default()
}

pub(super) fn user_arn(user: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{user}")
}

/// `authorizer` of a REST API: claims as texts, or what a function said, as texts. Nothing where nobody was asked, and for keys and
/// signatures, of which `identity` tells.
pub(super) fn rest_authorizer(context: &mut Object<'_>, asked: &Asked<'_>) {
    let Some((principal, vouched)) = asked.principal else { return };
    match vouched {
        Vouched::ApiKey | Vouched::Iam => {}
        Vouched::Claims => texts(&mut context.object("authorizer").object("claims"), &principal.claims, &[], in_commas),
        Vouched::Lambda | Vouched::Other => {
            let mut authorizer = context.object("authorizer");
            authorizer.text_or_null("principalId", principal.subject.as_deref());
            // Not known here, and expected to be there.
            authorizer.number("integrationLatency", 0);
            texts(&mut authorizer, &principal.claims, &OWN_NAMES, in_commas);
        }
    }
}

/// `authorizer` of an HTTP API, by the kind of authorizer.
pub(super) fn http_authorizer(context: &mut Object<'_>, asked: &Asked<'_>) {
    let Some((principal, vouched)) = asked.principal else { return };
    let mut authorizer = context.object("authorizer");
    match vouched {
        Vouched::Claims => {
            let mut jwt = authorizer.object("jwt");
            texts(&mut jwt.object("claims"), &principal.claims, &[], in_brackets);
            match principal.scopes.is_empty() {
                true => jwt.null("scopes"),
                false => list(jwt.name("scopes"), principal.scopes.iter().map(|scope| scope.as_bytes())),
            }
        }
        Vouched::Iam => {
            let mut iam = authorizer.object("iam");
            let key_id = principal.subject.as_deref();
            iam.text_or_null("accessKey", key_id);
            iam.text("accountId", ACCOUNT);
            iam.text_or_null("callerId", key_id);
            iam.null("cognitoIdentity");
            iam.null("principalOrgId");
            iam.text("userArn", user_arn(user(principal)));
            iam.text_or_null("userId", key_id);
        }
        Vouched::Lambda => kept(&mut authorizer.object("lambda"), &principal.claims, &[]),
        Vouched::ApiKey | Vouched::Other => {
            let mut lambda = authorizer.object("lambda");
            let own = [
                ("principalId", principal.subject.as_deref()),
                ("consumer", principal.consumer_name()),
                ("authorizer", Some(&*principal.authorizer)),
            ];
            kept(&mut lambda, &principal.claims, &own.map(|(name, _)| name));
            for (name, value) in own {
                if let Some(value) = value {
                    lambda.text(name, value);
                }
            }
        }
    }
}

/// Types as they are; without what is told already.
fn kept(object: &mut Object<'_>, claims: &Map<String, Value>, told: &[&str]) {
    for (name, claim) in claims.iter().filter(|(name, _)| !told.contains(&name.as_str())) {
        value(object.foreign(name.as_bytes()), claim);
    }
}

/// But those that are told already.
fn texts(object: &mut Object<'_>, claims: &Map<String, Value>, told: &[&str], of_list: fn(&[Value]) -> String) {
    for (name, claim) in claims.iter().filter(|(name, _)| !told.contains(&name.as_str())) {
        text(object.foreign(name.as_bytes()), as_text(claim, of_list).as_bytes());
    }
}

fn as_text(claim: &Value, of_list: fn(&[Value]) -> String) -> Cow<'_, str> {
    match claim {
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(items) => Cow::Owned(of_list(items)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Cow::Owned(claim.to_string()),
    }
}

fn in_commas(items: &[Value]) -> String {
    items.iter().map(|item| as_text(item, in_commas)).collect::<Vec<_>>().join(",")
}

fn in_brackets(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(|item| as_text(item, in_brackets)).collect::<Vec<_>>().join(" "))
}

/// What the client's certificate says, as far as it is known here; nothing without one.
pub(super) fn client_certificate(object: &mut Object<'_>, asked: &Asked<'_>) {
    let Some(der) = asked.tls.and_then(|tls| tls.client_chain.first()) else { return };
    // `client_certificate` has read it; whoever else let the client in has not.
    let claim = |name: &str| asked.principal.and_then(|(principal, _)| principal.claims.get(name));
    let text_of = |name: &str| claim(name).and_then(Value::as_str);
    let mut certificate = object.object("clientCert");
    certificate.text("clientCertPem", pem(der));
    if claim("fingerprint").is_some() {
        certificate.text_or_null("subjectDN", text_of("subject"));
        certificate.text_or_null("issuerDN", text_of("issuer"));
        certificate.text_or_null("serialNumber", text_of("serial"));
        if let Some(end) = claim("not_after").and_then(Value::as_u64) {
            certificate.object("validity").text("notAfter", Moment::of(Duration::from_secs(end)).certificate_text());
        }
    }
}

fn pem(der: &[u8]) -> Vec<u8> {
    let mut digits = Vec::new();
    base64::encode(der, &mut digits);
    let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in digits.chunks(PEM_LINE) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END CERTIFICATE-----");
    pem
}
