//! A token under the lamp: every rule with its answer, for who asks why one fails. Uses the gate's own rules, and opens nothing. What the
//! token says is written with its quotes: it goes to a terminal.

use super::rules::{Claims, Rules};
use super::token::{Token, shown};
use super::{Flaw, TOKEN_BYTES_MAX};
use maitred_core::identity::KeySet;
use serde_json::{Map, Value};
use std::time::Duration;

/// One rule, and how it went: in words, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub result: Result<String, String>,
}

#[derive(Debug)]
pub struct Inspection {
    /// As they stand there, believed or not.
    pub header: Option<Map<String, Value>>,
    pub claims: Option<Map<String, Value>>,
    pub checks: Vec<Check>,
}

impl Inspection {
    pub fn is_valid(&self) -> bool {
        self.checks.iter().all(|check| check.result.is_ok())
    }
}

/// `keys`: why there are none, where there are none. `now`: since 1970.
pub fn inspect(rules: &Rules, keys: Result<&KeySet, &str>, text: &[u8], now: Duration) -> Inspection {
    let (header, claims) = shown(text).map_or((None, None), |(header, claims)| (Some(header), Some(claims)));
    let mut checks = Vec::new();
    let mut note = |name, result: Result<String, Flaw>| {
        checks.push(Check { name, result: result.map_err(|flaw| flaw.detail().to_owned()) });
    };
    let token = Token::parse(text);
    note("form", token.as_ref().map(|_| format!("{} bytes of {TOKEN_BYTES_MAX}", text.len())).map_err(Flaw::clone));
    if let Ok(token) = &token {
        note(
            "typ",
            rules
                .typ(&token.header)
                .map(|()| token.header.typ.as_ref().map_or_else(|| "none".to_owned(), |typ| format!("{typ:?}"))),
        );
        let algorithm = rules.algorithm(&token.header);
        note("alg", algorithm.as_ref().map(|algorithm| algorithm.as_str().to_owned()).map_err(Flaw::clone));
        note("key", key(token, keys));
        let verified = match (algorithm, keys) {
            (Ok(algorithm), Ok(keys)) => rules.signature(token, algorithm, keys).map(|()| "made with that key".to_owned()),
            (Ok(_), Err(why)) => Err(Flaw::UnknownKey(format!("not verified: {why}"))),
            (Err(_), _) => Err(Flaw::Algorithm("not verified: its algorithm is not accepted".to_owned())),
        };
        note("signature", verified);
        match token.claims() {
            Ok(claims) => said(rules, &claims, now, &mut note),
            Err(flaw) => note("claims", Err(flaw)),
        }
    }
    Inspection { header, claims, checks }
}

fn key(token: &Token<'_>, keys: Result<&KeySet, &str>) -> Result<String, Flaw> {
    let keys = keys.map_err(|why| Flaw::UnknownKey(why.to_owned()))?;
    match &token.header.key {
        None => Ok(format!("it names none; the issuer has {}", keys.keys().len())),
        Some(id) if keys.has(id) => Ok(format!("{id:?}")),
        Some(id) if keys.keys().iter().any(|key| key.id().is_none()) => {
            Ok(format!("{id:?} is not known; one without a name may be it"))
        }
        Some(id) => {
            let names: Vec<String> = keys.keys().iter().filter_map(|key| key.id()).map(|id| format!("{id:?}")).collect();
            Err(Flaw::UnknownKey(format!("no key has the name {id:?}; there are {}", names.join(", "))))
        }
    }
}

fn said(rules: &Rules, claims: &Claims, now: Duration, note: &mut impl FnMut(&'static str, Result<String, Flaw>)) {
    let seen = |name: &str| claims.get(name).map_or_else(|| "none".to_owned(), Value::to_string);
    let time = |name: &str| match claims.get(name).and_then(Value::as_f64) {
        Some(seconds) => {
            let far = seconds - now.as_secs_f64();
            let when = if far < 0.0 { format!("{} s ago", -far as u64) } else { format!("in {} s", far as u64) };
            format!("{} ({when})", seen(name))
        }
        None => seen(name),
    };
    note("iss", rules.issuer(claims).map(|()| seen("iss")));
    note("aud", rules.audience(claims).map(|()| seen("aud")));
    note("exp", rules.expiry(claims, now).map(|()| time("exp")));
    note("nbf", rules.not_before(claims, now).map(|()| time("nbf")));
    note("iat", rules.issued_at(claims, now).map(|()| time("iat")));
    note("required", rules.required(claims).map(|()| "all there".to_owned()));
    let principal = rules.principal(claims.clone());
    note(
        "subject",
        principal
            .as_ref()
            .map(|who| who.subject.as_ref().map_or_else(|| "nobody".to_owned(), |subject| format!("{subject:?}")))
            .map_err(Flaw::clone),
    );
    if let Ok(who) = principal {
        let list = |words: &[Box<str>]| if words.is_empty() { "none".to_owned() } else { format!("{words:?}") };
        note("scopes", Ok(list(&who.scopes)));
        note("groups", Ok(list(&who.groups)));
    }
}
