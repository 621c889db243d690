//! What a document says about identity, compiled: authorizers by name, consumers with their keys hashed, and what each route demands.

use crate::compile::State;
use maitred_core::identity::{Consumer, ConsumerSet, Roll};
use maitred_model::{Api, Authenticate, Authorize, Diagnostic, Diagnostics, Document, Route, Setting};
use maitred_policies::Authentication;
use maitred_policies::authenticate::api_key::KeyHasher;
use maitred_policies::authenticate::{Choice, Making, make};
use maitred_policies::authorize::condition::{Condition, Problem};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct Identity {
    choices: HashMap<String, Choice>,
}

impl Identity {
    pub fn compile(document: &Document, state: &State, secret: &[u8]) -> Identity {
        let roll = Arc::new(Roll { configured: consumers(document, secret), stored: state.consumers.clone() });
        let choice = |(name, configured): (&String, &maitred_model::Spanned<maitred_model::Authorizer>)| {
            let making = Making { secret, roll: &roll, number: state.number() };
            let series = state.metrics.authorizer(&name.as_str().into());
            let choice = Choice { authorizer: make(name, configured, &making), strip: configured.strip, series };
            (name.clone(), choice)
        };
        Identity { choices: document.authorizers.iter().map(choice).collect() }
    }

    pub fn choice(&self, name: &str) -> Option<&Choice> {
        self.choices.get(name)
    }

    /// Who decides on a route, where anybody does. `check` saw to it that every name is known.
    pub fn authentication(&self, api: &Api, route: &Route) -> Option<Authentication> {
        match decides(api, route)? {
            Authenticate::Open => None,
            Authenticate::Any { authorizers, anonymous } => {
                let choices = authorizers.iter().filter_map(|name| self.choices.get(&name.value)).cloned().collect();
                Some(Authentication { choices, anonymous: *anonymous })
            }
        }
    }
}

/// A route's own `authenticate` replaces that of its API.
pub(crate) fn decides<'a>(api: &'a Api, route: &'a Route) -> Option<&'a Authenticate> {
    route.policies.authenticate.as_ref().or(api.policies.authenticate.as_ref()).map(|configured| &configured.value)
}

/// What API and route demand of whoever comes in: it adds up. A route that is open makes no demands on anybody.
pub(crate) fn demands<'a>(api: &'a Api, route: &'a Route) -> Vec<&'a Authorize> {
    if route.policies.authenticate.as_ref().is_some_and(|own| own.value == Authenticate::Open) {
        return Vec::new();
    }
    let inherited = match (&api.policies.authorize, &route.policies.authorize) {
        (Some(Setting::Some(inherited)), None | Some(Setting::Some(_))) => Some(&inherited.value),
        (_, Some(Setting::None)) | (None | Some(Setting::None), _) => None,
    };
    let own = match &route.policies.authorize {
        Some(Setting::Some(own)) => Some(&own.value),
        Some(Setting::None) | None => None,
    };
    inherited.into_iter().chain(own).collect()
}

/// Every condition of a document, by what is written. Those that cannot be read are complained about, each where it stands.
pub(crate) fn conditions(document: &Document, diagnostics: &mut Diagnostics) -> HashMap<String, Arc<Condition>> {
    let mut compiled = HashMap::new();
    let policies = document
        .apis
        .values()
        .flat_map(|api| std::iter::once(&api.value.policies).chain(api.routes.iter().map(|route| &route.value.policies)));
    for authorize in policies.filter_map(|policies| policies.authorize.as_ref()) {
        let Setting::Some(rules) = authorize else { continue };
        for source in &rules.condition {
            if compiled.contains_key(&source.value) {
                continue;
            }
            match Condition::compile(&source.value) {
                Ok(condition) => {
                    compiled.insert(source.value.clone(), Arc::new(condition));
                }
                Err(Problem { message, hint }) => {
                    diagnostics.push(Diagnostic::error("bad-condition", source.span, message).hint(hint));
                }
            }
        }
    }
    compiled
}

/// The consumers of a document. That no key and no identity is anybody else's, `check` saw to.
fn consumers(document: &Document, secret: &[u8]) -> ConsumerSet {
    let hasher = KeyHasher::new(secret);
    let mut set = ConsumerSet::default();
    for (name, configured) in &document.consumers {
        let consumer = Arc::new(Consumer {
            name: name.as_str().into(),
            groups: configured.groups.iter().map(|group| group.as_str().into()).collect(),
            disabled: false,
        });
        let _ = set.add(&consumer);
        for key in &configured.api_keys {
            let _ = set.add_key(hasher.hash(key.value.expose().as_bytes()), &consumer);
        }
        for identity in &configured.identities {
            let _ = set.add_identity(&identity.authorizer.value, &identity.subject, &consumer);
        }
    }
    set
}
