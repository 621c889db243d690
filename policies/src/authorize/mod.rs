//! What whoever comes in must be. Every demand of API and route must be met; who it is was found out by `authenticate` before, and why
//! somebody may not is for the log alone.

#[cfg_attr(not(feature = "cedar"), path = "without_cedar.rs")]
pub mod cedar;
pub mod condition;
pub(crate) mod given;
mod kind;
mod missing;
#[cfg(test)]
mod tests;

use crate::authenticate::{Choice, unauthenticated};
use cedar::Rule;
use condition::Condition;
use given::Given;
use maitred_core::metrics::Decided;
use maitred_core::{Exchange, Fault, Flow, Hook, Kind, Policy, Ports, Principal};
use maitred_model::{self as model, ClaimDemand, Demand};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

pub const NAME: &str = "authorize";

/// What an API or a route demands.
pub struct Demands<'a> {
    pub configured: &'a model::Authorize,
    pub conditions: Vec<Arc<Condition>>,
    /// Its policies in Cedar, as this route asks them.
    pub cedar: Option<Arc<Rule>>,
}

struct Rules {
    configured: model::Authorize,
    conditions: Box<[Arc<Condition>]>,
    cedar: Option<Arc<Rule>>,
}

pub struct Authorize {
    rules: Box<[Rules]>,
    /// Names of the route's path parameters.
    params: Box<[Box<str>]>,
    /// Who could have found out who it is.
    choices: Box<[Choice]>,
}

/// What is missing.
struct Missing<'a> {
    detail: Cow<'static, str>,
    /// Scopes that would do.
    scopes: Option<&'a [String]>,
}

impl Authorize {
    /// `params`: the names of the route's path parameters.
    pub fn compile(demands: &[Demands<'_>], choices: &[Choice], params: &[&str]) -> Option<Authorize> {
        let rules = demands.iter().map(|Demands { configured, conditions, cedar }| Rules {
            configured: (*configured).clone(),
            conditions: conditions.clone().into(),
            cedar: cedar.clone(),
        });
        (!demands.is_empty()).then(|| Authorize {
            rules: rules.collect(),
            params: params.iter().map(|&name| name.into()).collect(),
            choices: choices.into(),
        })
    }

    fn judge(&self, exchange: &Exchange, principal: &Principal, ports: &dyn Ports) -> Result<(), Missing<'_>> {
        for Rules { configured, conditions, cedar } in &self.rules {
            let model::Authorize { scopes, groups, claims, condition: _, cedar: _ } = configured;
            scoped(scopes, principal)?;
            let other = |detail| Missing { detail, scopes: None };
            meets(groups, "group", |group| principal.is_in(group)).map_err(|(detail, _)| other(detail))?;
            for (path, demand) in claims {
                claim(path, demand, principal).map_err(other)?;
            }
            if !conditions.is_empty() || cedar.is_some() {
                let time = ports.unix_time(ports.now()).as_secs();
                let given = Given { exchange, principal, params: &self.params, time };
                conditions.iter().try_for_each(|condition| condition.holds(&given)).map_err(other)?;
                cedar.iter().try_for_each(|rule| rule.judge(&given)).map_err(other)?;
            }
        }
        Ok(())
    }

    fn refusal(&self, principal: &Principal, ports: &dyn Ports, missing: Missing<'_>) -> Fault {
        if principal.is_anonymous() {
            return unauthenticated(missing.detail, self.choices.iter().filter_map(|choice| choice.authorizer.challenge()));
        }
        let decided = self.choices.iter().find(|choice| *choice.authorizer.name() == principal.authorizer);
        if let Some(choice) = decided {
            choice.series.count(ports.worker(), Decided::Forbidden);
        }
        let by_bearer = decided.is_some_and(|choice| choice.authorizer.challenge().is_some_and(|text| is_bearer(&text)));
        let headers = match missing.scopes {
            Some(scopes) if by_bearer => vec![(&b"www-authenticate"[..], insufficient(scopes).into_bytes())],
            Some(_) | None => Vec::new(),
        };
        Fault { headers, ..Fault::new(Kind::Forbidden, missing.detail) }
    }
}

fn is_bearer(challenge: &str) -> bool {
    challenge.split(' ').next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
}

/// RFC 6750 §3.1: a token that names these would do.
fn insufficient(scopes: &[String]) -> String {
    // What a scope may consist of (RFC 6749 §3.3); another one cannot be named.
    let is_token = |scope: &&String| scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    let scopes: Vec<&str> = scopes.iter().filter(is_token).map(String::as_str).collect();
    format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scopes.join(" "))
}

fn scoped<'a>(demand: &'a Demand, principal: &Principal) -> Result<(), Missing<'a>> {
    meets(demand, "scope", |scope| principal.has_scope(scope)).map_err(|(detail, words)| Missing { detail, scopes: Some(words) })
}

/// `Err`: what is missing, in words, and the words that would do.
fn meets<'a>(demand: &'a Demand, what: &str, has: impl Fn(&str) -> bool) -> Result<(), (Cow<'static, str>, &'a [String])> {
    if let Some(missing) = demand.all.iter().find(|word| !has(word)) {
        return Err((format!("the {what} `{missing}` is missing").into(), &demand.all));
    }
    match demand.any.is_empty() || demand.any.iter().any(|word| has(word)) {
        true => Ok(()),
        false => Err((format!("none of the {what}s {} is there", demand.any.join(", ")).into(), &demand.any)),
    }
}

/// A claim that is a list is what is demanded if one of its elements is.
fn claim(path: &str, demand: &ClaimDemand, principal: &Principal) -> Result<(), Cow<'static, str>> {
    let value = principal.claim(path).filter(|value| !value.is_null());
    let Some(value) = value else { return Err(format!("the claim `{path}` is missing").into()) };
    let wanted = match demand {
        ClaimDemand::Present => return Ok(()),
        ClaimDemand::OneOf(wanted) => wanted,
    };
    let fits = |value: &Value| wanted.iter().any(|wanted| equal(value, wanted));
    match value.as_array().map_or_else(|| fits(value), |list| list.iter().any(fits)) {
        true => Ok(()),
        false => Err(format!("the claim `{path}` is another").into()),
    }
}

/// `3` and `3.0` are one number; `3` and `"3"` are not one value.
fn equal(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64()),
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        _ => false,
    }
}

impl Policy for Authorize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, ports: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let Some(principal) = &exchange.principal else {
            return Hook::Ready(Err(Fault::new(Kind::Unauthenticated, "nothing on this route says who it is")));
        };
        Hook::Ready(match self.judge(exchange, principal, ports) {
            Ok(()) => Ok(Flow::Go(())),
            Err(missing) => Err(self.refusal(principal, ports, missing)),
        })
    }
}
