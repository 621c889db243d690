//! What a token must be, rule by rule. The gate stops at the first that does not hold; `maitred token` asks all of them. Knows no request.

use super::Flaw;
use super::token::{Header, Token};
use maitred_core::Principal;
use maitred_core::identity::{KeySet, Vouched};
use maitred_model::{Jwt, JwtAlgorithm};
use serde_json::{Map, Value};
use std::time::Duration;

/// Keys that are tried for a token that names none: each costs as much as the right one.
const TRIES_MAX: usize = 4;
/// Seconds since 1970: later ones are no times, and cannot be told apart as numbers of JSON.
const TIME_MAX: f64 = (1u64 << 53) as f64;
/// Of what a token says of itself, in a log line.
const SHOWN_CHARS_MAX: usize = 64;

pub struct Rules {
    issuer: Option<String>,
    audience: Vec<String>,
    algorithms: Vec<JwtAlgorithm>,
    leeway: Duration,
    required_claims: Vec<String>,
    typ: Option<String>,
    subject_claim: String,
    scopes_claim: Vec<String>,
    groups_claim: String,
}

pub type Claims = Map<String, Value>;
type Rule<T = ()> = Result<T, Flaw>;

impl Rules {
    pub fn new(configured: &Jwt) -> Rules {
        Rules {
            issuer: configured.issuer.clone(),
            audience: configured.audience.clone(),
            algorithms: configured.algorithms.clone(),
            leeway: configured.leeway,
            required_claims: configured.required_claims.clone(),
            typ: configured.typ.clone(),
            subject_claim: configured.subject_claim.clone(),
            scopes_claim: configured.scopes_claim.clone(),
            groups_claim: configured.groups_claim.clone(),
        }
    }

    pub fn one_issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// RFC 8725 §3.1: of the configured ones, and exactly so written.
    pub fn algorithm(&self, header: &Header) -> Rule<JwtAlgorithm> {
        let known = JwtAlgorithm::of(&header.algorithm).filter(|algorithm| self.algorithms.contains(algorithm));
        known.ok_or_else(|| Flaw::Algorithm(format!("it is signed with {}, which is not accepted", quoted(&header.algorithm))))
    }

    /// RFC 7515 §4.1.9: as media types are compared, which need no `application/`.
    pub fn typ(&self, header: &Header) -> Rule {
        let Some(wanted) = &self.typ else { return Ok(()) };
        match &header.typ {
            Some(typ) if bare(typ).eq_ignore_ascii_case(bare(wanted)) => Ok(()),
            Some(typ) => Err(Flaw::Type(format!("its `typ` is {}, not {wanted:?}", quoted(typ)))),
            None => Err(Flaw::Type(format!("it has no `typ`, and {wanted:?} is asked for"))),
        }
    }

    /// The key is one of the issuer's, and for this algorithm; the signature is made with it.
    pub fn signature(&self, token: &Token<'_>, algorithm: JwtAlgorithm, keys: &KeySet) -> Rule {
        let id = token.header.key.as_deref();
        let mut tried = keys.find(id, algorithm).take(TRIES_MAX).peekable();
        let is_named = id.is_some_and(|id| keys.has(id));
        if tried.peek().is_none() && is_named {
            return Err(Flaw::Algorithm(format!("its key is not for {}", algorithm.as_str())));
        }
        match tried.any(|key| key.verifies(algorithm, token.signed, &token.signature)) {
            true => Ok(()),
            false if is_named => Err(Flaw::Signature("its signature is not of its key".to_owned())),
            false => Err(Flaw::UnknownKey(match id {
                Some(id) => format!("no key has the name {}", quoted(id)),
                None => "it names no key, and none of the issuer's has signed it".to_owned(),
            })),
        }
    }

    /// All that claims must be, the cheapest first.
    pub fn claims(&self, claims: &Claims, now: Duration) -> Rule {
        self.issuer(claims)?;
        self.audience(claims)?;
        self.expiry(claims, now)?;
        self.not_before(claims, now)?;
        self.issued_at(claims, now)?;
        self.required(claims)
    }

    pub fn issuer(&self, claims: &Claims) -> Rule {
        let issuer = text(claims, "iss")?;
        match (&self.issuer, issuer) {
            (None, _) => Ok(()),
            (Some(wanted), Some(issuer)) if wanted == issuer => Ok(()),
            (Some(_), Some(issuer)) => Err(Flaw::Issuer(format!("its issuer is {}", quoted(issuer)))),
            (Some(_), None) => Err(Flaw::Issuer("it has no `iss`".to_owned())),
        }
    }

    /// RFC 7519 §4.1.3: whoever is not in `aud`, where there is one, must refuse.
    pub fn audience(&self, claims: &Claims) -> Rule {
        let audience = match claims.get("aud") {
            None => None,
            Some(value) => Some(words(value).ok_or_else(|| wrong_kind("aud"))?),
        };
        match audience {
            None if self.audience.is_empty() => Ok(()),
            None => Err(Flaw::Audience("it has no `aud`".to_owned())),
            Some(audience) if audience.iter().any(|word| self.audience.iter().any(|own| own == word)) => Ok(()),
            Some(audience) => {
                let nobody = if self.audience.is_empty() { ", and no `audience` is configured" } else { "" };
                Err(Flaw::Audience(format!("it is for {}{nobody}", quoted(&audience.join(", ")))))
            }
        }
    }

    /// When it ends, leeway and all, in seconds since 1970.
    pub fn end(&self, claims: &Claims) -> Rule<f64> {
        let end = time(claims, "exp")?.ok_or_else(|| Flaw::Claim("it has no `exp`".to_owned()))?;
        Ok(end + self.leeway.as_secs_f64())
    }

    pub fn expiry(&self, claims: &Claims, now: Duration) -> Rule {
        let over = now.as_secs_f64() - self.end(claims)?;
        if over < 0.0 {
            Ok(())
        } else {
            Err(Flaw::Expired(format!("it ended {} s ago", (over + self.leeway.as_secs_f64()) as u64)))
        }
    }

    pub fn not_before(&self, claims: &Claims, now: Duration) -> Rule {
        self.begun(claims, "nbf", now)
    }

    pub fn issued_at(&self, claims: &Claims, now: Duration) -> Rule {
        self.begun(claims, "iat", now)
    }

    fn begun(&self, claims: &Claims, name: &str, now: Duration) -> Rule {
        let Some(begins) = time(claims, name)? else { return Ok(()) };
        let wait = begins - now.as_secs_f64();
        if wait <= self.leeway.as_secs_f64() {
            Ok(())
        } else {
            Err(Flaw::TooEarly(format!("its `{name}` is in {} s", wait as u64)))
        }
    }

    pub fn required(&self, claims: &Claims) -> Rule {
        let missing = self.required_claims.iter().find(|name| claims.get(*name).is_none_or(Value::is_null));
        missing.map_or(Ok(()), |name| Err(Flaw::Claim(format!("it has no `{name}`"))))
    }

    /// What verified claims say of somebody.
    pub fn principal(&self, claims: Claims) -> Rule<Principal> {
        let issuer = text(&claims, "iss")?.map(Box::from);
        let mut principal = Principal { issuer, claims, vouched: Vouched::Claims, ..Principal::default() };
        principal.subject = match principal.claim(&self.subject_claim) {
            None => None,
            // Nobody, and not the one somebody who is called nothing.
            Some(Value::String(subject)) if subject.is_empty() => None,
            Some(Value::String(subject)) => Some(subject.as_str().into()),
            Some(_) => return Err(wrong_kind(&self.subject_claim)),
        };
        let scopes = self.scopes_claim.iter().find_map(|name| Some((name, principal.claim(name)?)));
        principal.scopes = match scopes {
            None => Box::default(),
            Some((_, Value::String(scopes))) => scopes.split(' ').filter(|scope| !scope.is_empty()).map(Box::from).collect(),
            Some((name, value)) => boxed(&words(value).ok_or_else(|| wrong_kind(name))?),
        };
        principal.groups = match principal.claim(&self.groups_claim) {
            None => Box::default(),
            Some(value) => boxed(&words(value).ok_or_else(|| wrong_kind(&self.groups_claim))?),
        };
        Ok(principal)
    }
}

fn bare(typ: &str) -> &str {
    const PREFIX: &str = "application/";
    match typ.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) && !typ[PREFIX.len()..].contains('/') => &typ[PREFIX.len()..],
        Some(_) | None => typ,
    }
}

fn text<'a>(claims: &'a Claims, name: &str) -> Rule<Option<&'a str>> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_kind(name)),
    }
}

/// RFC 7519 §2, NumericDate: a number, also with a fraction.
fn time(claims: &Claims, name: &str) -> Rule<Option<f64>> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let seconds = value.as_f64().filter(|seconds| (0.0..=TIME_MAX).contains(seconds));
            seconds.map(Some).ok_or_else(|| wrong_kind(name))
        }
    }
}

/// One text, or a list of texts.
fn words(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(word) => Some(vec![word]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn boxed(words: &[&str]) -> Box<[Box<str>]> {
    words.iter().map(|word| Box::from(*word)).collect()
}

fn wrong_kind(name: &str) -> Flaw {
    Flaw::Claim(format!("`{name}` is of the wrong kind"))
}

/// As it may stand in a log, which strangers write to in this way.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
