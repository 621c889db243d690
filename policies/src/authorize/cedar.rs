//! Policies in Cedar: who may do what to what, written in files of their own. They are parsed and held against their schema at load; what
//! remains for a request is to say who, what and what with, and to ask. What cannot be said in the schema's words is a deny, and so is a
//! `forbid` that cannot be evaluated, where Cedar itself would pass over it.

pub mod decisions;
mod facts;
mod library;
mod load;
mod shape;
mod statements;
mod store;
#[cfg(test)]
mod tests;

pub use decisions::Decisions;
pub use library::{Library, Naming};

use super::given::{Budget, Given};
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as Verdict, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    EvaluationError, Request,
};
use decisions::{Decision, NAMED_MAX, cut};
use facts::Unfit;
use load::{Chosen, Set};
use maitred_core::wire::path;
use maitred_model::DecisionLog;
use shape::Field;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use store::Reached;

/// Bytes that the policies of one request may have to look at, at worst: about 50 ms.
const WORK_MAX: u64 = 64 << 20;
/// Bytes of an id.
const ID_BYTES_MAX: usize = 4 * 1024;

/// What one route asks of one `cedar`.
pub struct Rule {
    set: Arc<Set>,
    principal: Kind,
    actions: Actions,
    resource: Resource,
    log: DecisionLog,
    decisions: Arc<Decisions>,
    api: Arc<str>,
    route: Arc<str>,
}

/// The principal's type, and what the schema wants to know of it.
#[derive(Clone)]
struct Kind {
    name: EntityTypeName,
    fields: Arc<[Field]>,
    /// The type of groups, where a principal may be in some.
    group: Option<EntityTypeName>,
}

/// What a request on the route does.
enum Actions {
    One(Arc<Prepared>),
    /// By method.
    Each(Box<[(Box<str>, Arc<Prepared>)]>),
}

/// An action, and all that is known of it before there is a request.
struct Prepared {
    uid: EntityUid,
    shown: Arc<str>,
    chosen: Chosen,
    context: Vec<Field>,
    /// The action itself, and what policies name.
    always: Reached,
}

struct Resource {
    kind: EntityTypeName,
    parts: Box<[Part]>,
}

enum Part {
    Text(Box<str>),
    /// A parameter of the path; what follows it before the next one, which must not be in it.
    Param(usize, Option<Box<str>>),
}

/// How it was decided.
#[derive(Default)]
struct Outcome {
    action: Option<Arc<str>>,
    resource: Option<String>,
    permitted: bool,
    policies: Vec<Arc<str>>,
    errors: Vec<String>,
    detail: Cow<'static, str>,
}

impl Outcome {
    fn refuse(mut self, detail: impl Into<Cow<'static, str>>) -> Outcome {
        self.detail = detail.into();
        self.errors.push(self.detail.clone().into_owned());
        self
    }
}

impl Rule {
    /// `Err`: why not, for the log. Nothing of what the request or the credential holds is in it.
    pub fn judge(&self, given: &Given<'_>) -> Result<(), Cow<'static, str>> {
        let outcome = self.decide(given);
        let (permitted, detail) = (outcome.permitted, outcome.detail.clone());
        match self.log {
            DecisionLog::All => self.tell(given, outcome),
            DecisionLog::Denied if !permitted => self.tell(given, outcome),
            DecisionLog::Denied | DecisionLog::None => {}
        }
        if permitted { Ok(()) } else { Err(detail) }
    }

    fn decide(&self, given: &Given<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(prepared) = self.actions.of(given.exchange.request.method_text()) else {
            return outcome.refuse("the schema has no action for the method");
        };
        outcome.action = Some(prepared.shown.clone());
        let resource = match self.resource.name(given) {
            Ok(id) => id,
            Err(why) => return outcome.refuse(why),
        };
        outcome.resource = Some(resource.clone());
        // Whoever is called nothing is not somebody of whom a policy could have thought.
        let subject = given.principal.subject.as_deref().filter(|subject| !subject.is_empty() && subject.len() <= ID_BYTES_MAX);
        let Some(subject) = subject else {
            return outcome.refuse("the credential names nobody of whom policies could speak");
        };
        let principal = uid(&self.principal.name, subject);
        let resource = uid(&self.resource.kind, &resource);
        let mut budget = Budget::default();
        let asked = self.request(&principal, prepared, &resource, given, &mut budget);
        let asked = asked.and_then(|request| Ok((request, self.entities(&principal, prepared, resource, given, &mut budget)?)));
        let (request, entities) = match asked {
            Ok(asked) => asked,
            Err(why) => return outcome.refuse(why),
        };
        let response = Authorizer::new().is_authorized(&request, &prepared.chosen.policies, &entities);
        self.conclude(prepared, &response, outcome)
    }

    fn request(
        &self,
        principal: &EntityUid,
        prepared: &Prepared,
        resource: &EntityUid,
        given: &Given<'_>,
        budget: &mut Budget,
    ) -> Result<Request, Cow<'static, str>> {
        let pairs = facts::context(&prepared.context, given, budget).map_err(unfit)?;
        // What an extension cannot read, such as a claim that is no address.
        let context = Context::from_pairs(pairs).map_err(|_| "the request does not fit the schema: a value in `context`")?;
        let (principal, resource) = (principal.clone(), resource.clone());
        Request::new(principal, prepared.uid.clone(), resource, context, Some(&self.set.schema))
            .map_err(|_| "the request does not fit the schema".into())
    }

    /// Who asks, with groups, and whatever policies can reach from there.
    fn entities(
        &self,
        uid: &EntityUid,
        prepared: &Prepared,
        resource: EntityUid,
        given: &Given<'_>,
        budget: &mut Budget,
    ) -> Result<Entities, Cow<'static, str>> {
        let store = &self.set.store;
        let mut attributes = facts::principal(&self.principal.fields, given, budget).map_err(unfit)?;
        let mut parents = HashSet::new();
        let too_many = |_| "policies can reach more entities than they may look at";
        let mut reached = Reached::default();
        if let Some(own) = store.own(uid, &mut reached).map_err(too_many)? {
            let (_, more, ancestors) = own.into_inner();
            // What the gateway knows it says itself, or not at all.
            attributes.extend(more.into_iter().filter(|(name, _)| !shape::PRINCIPAL.iter().any(|(known, _)| known == name)));
            parents = ancestors;
        }
        for field in self.principal.fields.iter().filter(|field| field.required) {
            if !attributes.iter().any(|(name, _)| **name == *field.name) {
                return Err(format!("the request does not fit the schema: `principal.{}` is not there", field.name).into());
            }
        }
        for group in
            self.principal.group.iter().flat_map(|kind| given.principal.groups().map(move |group| self::uid(kind, group)))
        {
            budget.element().map_err(|_| "the principal is in more groups than policies may look at")?;
            parents.insert(group);
        }
        for from in parents.iter().chain(store.names(uid)).cloned().chain([resource]) {
            store.reach(from, &mut reached).map_err(too_many)?;
        }
        reached.add(&prepared.always);
        let Reached { entities: mut found, bytes, .. } = reached;
        let principal = Entity::new(uid.clone(), attributes.into_iter().collect(), parents);
        found.push(principal.map_err(|_| "the request does not fit the schema: a value in `principal`")?);
        if prepared.chosen.weight.saturating_mul(budget.bytes() + budget.elements() + bytes) > WORK_MAX {
            return Err("policies are given more than they may look at".into());
        }
        Entities::from_entities(found, None).map_err(|_| "the principal and its groups are in one another".into())
    }

    fn conclude(&self, prepared: &Prepared, response: &cedar_policy::Response, mut outcome: Outcome) -> Outcome {
        let diagnostics = response.diagnostics();
        let name = |id: &cedar_policy::PolicyId| prepared.chosen.names.get(AsRef::<str>::as_ref(id)).cloned().unwrap_or_default();
        outcome.policies = diagnostics.reason().take(NAMED_MAX).map(name).collect();
        outcome.permitted = response.decision() == Verdict::Allow;
        outcome.detail = match (response.decision(), outcome.policies.first()) {
            (Verdict::Deny, Some(policy)) => format!("the policy `{policy}` forbids it").into(),
            (Verdict::Deny, None) => "no policy permits it".into(),
            (Verdict::Allow, _) => Cow::Borrowed(""),
        };
        for AuthorizationError::PolicyEvaluationError(error) in diagnostics.errors() {
            let (policy, why) = (name(error.policy_id()), words(error.inner()));
            if outcome.errors.len() < NAMED_MAX {
                outcome.errors.push(format!("{policy} {why}"));
            }
            // Cedar passes over it. Whoever wrote it wanted something forbidden.
            if outcome.permitted && prepared.chosen.forbids.iter().any(|forbids| **forbids == *policy) {
                outcome.permitted = false;
                outcome.detail = format!("the policy `{policy}`, which may forbid it, {why}").into();
                outcome.policies = vec![policy];
            }
        }
        outcome
    }

    fn tell(&self, given: &Given<'_>, outcome: Outcome) {
        let Outcome { action, resource, permitted, policies, errors, detail: _ } = outcome;
        self.decisions.tell(Decision {
            request_id: cut(&String::from_utf8_lossy(given.exchange.request_id())),
            api: self.api.clone(),
            route: self.route.clone(),
            authorizer: given.principal.authorizer.clone(),
            subject: cut(given.principal.subject.as_deref().unwrap_or_default()),
            action: action.unwrap_or_default(),
            resource: resource.map(|id| cut(&format!("{}::{id:?}", self.resource.kind))).unwrap_or_default(),
            permitted,
            policies,
            errors,
        });
    }
}

fn unfit(Unfit { at, why }: Unfit) -> Cow<'static, str> {
    format!("the request does not fit the schema: `{at}` {why}").into()
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// Messages of the crate may hold values, and so credentials: those go nowhere.
fn words(error: &EvaluationError) -> &'static str {
    match error {
        EvaluationError::EntityDoesNotExist(_) => "asks an entity that is not there",
        EvaluationError::EntityAttrDoesNotExist(_) => "asks for an attribute or tag that its entity has not",
        EvaluationError::RecordAttrDoesNotExist(_) => "asks for an attribute that its record has not",
        EvaluationError::IntegerOverflow(_) => "reckons beyond what a number holds",
        EvaluationError::RecursionLimit(_) => "is too deep to be evaluated",
        // The crate's errors, of which it may add some.
        _ => "cannot be evaluated",
    }
}

impl Actions {
    fn of(&self, method: &[u8]) -> Option<&Arc<Prepared>> {
        match self {
            Actions::One(prepared) => Some(prepared),
            Actions::Each(list) => {
                let named = |method: &[u8]| list.iter().find(|(name, _)| name.as_bytes() == method).map(|(_, prepared)| prepared);
                // A route of GET answers HEAD (RFC 9110 §9.3.2), which tells less of the same.
                named(method).or_else(|| if method == b"HEAD" { named(b"GET") } else { None })
            }
        }
    }
}

impl Resource {
    /// Its id. What could be another resource's name too is an error.
    fn name(&self, given: &Given<'_>) -> Result<String, &'static str> {
        let mut id = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => id.push_str(text),
                Part::Param(index, until) => {
                    let mut decoded = Vec::new();
                    path::decode(given.exchange.param(*index), &mut decoded);
                    let value = std::str::from_utf8(&decoded).map_err(|_| "the resource's name is no UTF-8")?;
                    if until.as_ref().is_some_and(|until| !is_ended_by(value, until)) {
                        return Err("a part of the resource's name has in it what ends that part");
                    }
                    id.push_str(value);
                }
            }
        }
        if id.len() > ID_BYTES_MAX { Err("the resource's name is too long") } else { Ok(id) }
    }
}

/// Nowhere sooner: `x:` before `::` could be `x` before `:` too.
fn is_ended_by(value: &str, until: &str) -> bool {
    format!("{value}{until}").find(until) == Some(value.len())
}
