//! What whoever comes in must be. Every demand of API and route must be met; who it is was found out by `authenticate` before.

use maitred_core::{Exchange, Fault, Flow, Hook, Kind, Policy, Ports, Principal};
use maitred_model::{self as model, Demand};
use std::borrow::Cow;

pub const NAME: &str = "authorize";

pub struct Authorize {
    rules: Box<[model::Authorize]>,
}

impl Authorize {
    pub fn compile(rules: &[&model::Authorize]) -> Option<Authorize> {
        (!rules.is_empty()).then(|| Authorize { rules: rules.iter().map(|&rules| rules.clone()).collect() })
    }

    /// What is missing.
    fn judge(&self, principal: &Principal) -> Result<(), Cow<'static, str>> {
        for rules in &self.rules {
            meets(&rules.scopes, "scope", |scope| principal.has_scope(scope))?;
            meets(&rules.groups, "group", |group| principal.is_in(group))?;
        }
        Ok(())
    }
}

fn meets(demand: &Demand, what: &str, has: impl Fn(&str) -> bool) -> Result<(), Cow<'static, str>> {
    if let Some(missing) = demand.all.iter().find(|word| !has(word)) {
        return Err(format!("the {what} `{missing}` is missing").into());
    }
    match demand.any.is_empty() || demand.any.iter().any(|word| has(word)) {
        true => Ok(()),
        false => Err(format!("none of the {what}s {} is there", demand.any.join(", ")).into()),
    }
}

impl Policy for Authorize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enter<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn Ports) -> Hook<'a, Result<Flow<()>, Fault>> {
        let Some(principal) = &exchange.principal else {
            return Hook::Ready(Err(Fault::new(Kind::Unauthenticated, "nothing on this route says who it is")));
        };
        Hook::Ready(match self.judge(principal) {
            Ok(()) => Ok(Flow::Go(())),
            Err(missing) => Err(Fault::new(Kind::Forbidden, missing)),
        })
    }
}
