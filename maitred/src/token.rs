//! `maitred token`: holds a JWT against an authorizer of the configuration and says of each rule whether it holds. Asks a network only where
//! `--fetch` says so, and writes the token itself nowhere.

use crate::cli::Token;
use crate::configuration::offline;
use crate::output::{Exit, json, print};
use anyhow::{Context, bail};
use maitred_control::keys::fetch_once;
use maitred_core::Clock;
use maitred_core::identity::{KeySet, KeySource};
use maitred_model::{AuthorizerKind, Document, Jwt, JwtKeys, suggest};
use maitred_policies::authenticate::jwt::{Inspection, Rules, TOKEN_BYTES_MAX, inspect};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::io::Read;
use std::time::UNIX_EPOCH;

pub fn main(arguments: &Token) -> anyhow::Result<Exit> {
    let Some(snapshot) = offline(&arguments.file) else { return Ok(Exit::Refused) };
    let (name, jwt) = authorizer(&snapshot.document, arguments.authorizer.as_deref())?;
    let text = match arguments.token.as_str() {
        "-" => from_stdin()?,
        token => token.to_owned(),
    };
    let keys = keys(jwt, arguments.fetch);
    let now = Clock::default().wall().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let inspection = inspect(&Rules::new(jwt), keys.as_ref().map_err(String::as_str), bare(&text).as_bytes(), now);
    if arguments.json {
        json(&as_json(name, &inspection))?;
    } else {
        print(&in_words(name, &inspection))?;
    }
    Ok(if inspection.is_valid() { Exit::Fine } else { Exit::Refused })
}

fn authorizer<'a>(document: &'a Document, name: Option<&str>) -> anyhow::Result<(&'a str, &'a Jwt)> {
    let takes_tokens = document.authorizers.iter().filter_map(|(name, authorizer)| match &authorizer.kind {
        AuthorizerKind::Jwt(jwt) => Some((name.as_str(), &**jwt)),
        AuthorizerKind::ApiKey(_)
        | AuthorizerKind::Basic(_)
        | AuthorizerKind::ClientCertificate(_)
        | AuthorizerKind::Oidc(_)
        | AuthorizerKind::HttpSignature(_)
        | AuthorizerKind::AwsSignature(_)
        | AuthorizerKind::Introspection(_)
        | AuthorizerKind::Forward(_)
        | AuthorizerKind::Function(_) => None,
    });
    let all: Vec<(&str, &Jwt)> = takes_tokens.collect();
    let names = all.iter().map(|(name, _)| *name);
    match (name, all.as_slice()) {
        (_, []) => bail!("no authorizer of the configuration takes tokens"),
        (None, [only]) => Ok(*only),
        (None, _) => {
            bail!("several authorizers take tokens: add --authorizer with one of {}", names.collect::<Vec<_>>().join(", "))
        }
        (Some(name), _) => {
            let found = all.iter().find(|(own, _)| *own == name).copied();
            found.with_context(|| format!("no authorizer `{name}` takes tokens: {}", suggest(name, names, "there are")))
        }
    }
}

fn from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    // More than a token may have, so that one that is too long is told so.
    let limit = 2 * TOKEN_BYTES_MAX as u64;
    std::io::stdin().lock().take(limit).read_to_string(&mut text).context("cannot read the token from stdin")?;
    Ok(text)
}

/// As it is copied: with the end of a line, or with its scheme.
fn bare(text: &str) -> &str {
    let text = text.trim();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        Some(_) | None => text,
    }
}

/// Why there are none, where there are none.
fn keys(jwt: &Jwt, may_fetch: bool) -> Result<KeySet, String> {
    let source = match &jwt.keys {
        JwtKeys::Secret(secret) => return Ok(KeySet::shared(secret.expose().as_bytes(), &jwt.algorithms)),
        JwtKeys::File { path: _, bytes } => return KeySet::parse(bytes),
        JwtKeys::Url(url) => KeySource::Url(url.as_str().into()),
        JwtKeys::Discovery(issuer) => KeySource::Discovery(issuer.as_str().into()),
    };
    if !may_fetch {
        return Err("its keys are the issuer's, who is asked with --fetch".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(fetch_once(&source)).map_err(|why| format!("the keys cannot be fetched: {why}"))
}

fn as_json(name: &str, inspection: &Inspection) -> Value {
    let check = |check: &maitred_policies::authenticate::jwt::Check| {
        let (holds, words) = match &check.result {
            Ok(words) => (true, words),
            Err(words) => (false, words),
        };
        json!({ "check": check.name, "ok": holds, "detail": words })
    };
    json!({
        "authorizer": name,
        "valid": inspection.is_valid(),
        "header": inspection.header,
        "claims": inspection.claims,
        "checks": inspection.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn in_words(name: &str, inspection: &Inspection) -> String {
    let mut out = format!("{} for the authorizer `{name}`\n\n", if inspection.is_valid() { "valid" } else { "not valid" });
    for check in &inspection.checks {
        let (sign, words) = match &check.result {
            Ok(words) => ("ok", words),
            Err(words) => ("FAILS", words),
        };
        // A String takes whatever it is given.
        let _ = writeln!(out, "  {sign:<5}  {:<9}  {words}", check.name);
    }
    for (label, part) in [("header", &inspection.header), ("claims", &inspection.claims)] {
        if let Some(part) = part {
            let _ = write!(out, "\n{label}\n{}", members(part));
        }
    }
    out
}

fn members(map: &Map<String, Value>) -> String {
    map.iter().map(|(name, value)| format!("  {}: {value}\n", Value::from(name.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_as_it_is_copied() {
        for text in ["a.b.c", " a.b.c\n", "Bearer a.b.c", "bearer  a.b.c\r\n"] {
            assert_eq!(bare(text), "a.b.c");
        }
        assert_eq!(bare("Basic a.b.c"), "Basic a.b.c");
    }
}
