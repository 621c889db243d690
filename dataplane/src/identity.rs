//! What a document says about identity, compiled: authorizers by name, consumers with their keys hashed, and what each route demands.

use crate::compile::State;
use maitred_core::identity::{Consumer, ConsumerSet, Roll};
use maitred_model::{Api, Asked, Authenticate, Authorize, Document, Route, Setting, Spanned};
use maitred_policies::Authentication;
use maitred_policies::authenticate::api_key::KeyHasher;
use maitred_policies::authenticate::{Choice, Making, make};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct Identity {
    choices: HashMap<String, Choice>,
}

impl Identity {
    /// `upstream` gives the index of the one that an authorizer asks; where there is none, it has complained.
    pub fn compile(
        document: &Document,
        state: &State,
        secret: &[u8],
        mut upstream: impl FnMut(&Spanned<Asked>) -> Option<u32>,
    ) -> Identity {
        let roll = Arc::new(Roll { configured: consumers(document, secret), stored: state.consumers.clone() });
        let choice = |(name, configured): (&String, &maitred_model::Spanned<maitred_model::Authorizer>)| {
            let upstream = configured.kind.asks().and_then(&mut upstream);
            let making = Making { secret, roll: &roll, number: state.number(), upstream };
            let choice = Choice { authorizer: make(name, configured, &making), strip: configured.strip };
            (name.clone(), choice)
        };
        Identity { choices: document.authorizers.iter().map(choice).collect() }
    }

    /// Who decides on a route, where anybody does. `check` saw to it that every name is known.
    pub fn authentication(&self, api: &Api, route: &Route) -> Option<Authentication> {
        let configured = route.policies.authenticate.as_ref().or(api.policies.authenticate.as_ref())?;
        match &configured.value {
            Authenticate::Open => None,
            Authenticate::Any { authorizers, anonymous } => {
                let choices = authorizers.iter().filter_map(|name| self.choices.get(&name.value)).cloned().collect();
                Some(Authentication { choices, anonymous: *anonymous })
            }
        }
    }
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
