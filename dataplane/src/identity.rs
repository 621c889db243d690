//! What a document says about identity, compiled: authorizers by name, consumers with their keys hashed, and what each route demands.

use crate::compile::State;
use maitred_core::identity::{Consumer, ConsumerSet, KeyCell, KeyHasher, KeySet, KeySource, Roll};
use maitred_model::{
    Api, Authenticate, Authorize, Authorizer, AuthorizerKind, Diagnostic, Diagnostics, Document, Jwt, JwtKeys, Route, Setting,
    Spanned,
};
use maitred_policies::Authentication;
use maitred_policies::authenticate::{Choice, Making, make};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Identity {
    choices: HashMap<String, Choice>,
    /// What is to be fetched, and how often.
    pub keys: Vec<(Arc<KeyCell>, Duration)>,
}

impl Identity {
    /// `asked`: by authorizer, the index of the upstream that it asks.
    pub fn compile(
        document: &Document,
        state: &State,
        secret: &[u8],
        asked: &HashMap<&str, u32>,
        diagnostics: &mut Diagnostics,
    ) -> Identity {
        let roll = Arc::new(Roll { configured: consumers(document, secret), stored: state.consumers.clone() });
        let mut identity = Identity::default();
        for (name, configured) in &document.authorizers {
            let keys = match &configured.kind {
                AuthorizerKind::ApiKey(_) | AuthorizerKind::Introspection(_) | AuthorizerKind::Forward(_) => None,
                AuthorizerKind::Jwt(jwt) => identity.keys(jwt, configured, state, diagnostics),
            };
            let upstream = asked.get(name.as_str()).copied();
            let making = Making { secret, roll: &roll, number: state.number(), upstream, keys };
            if let Some(authorizer) = make(name, configured, &making) {
                identity.choices.insert(name.clone(), Choice { authorizer, strip: configured.strip });
            }
        }
        identity
    }

    /// The cell of an issuer's keys. `None`: it was complained about.
    fn keys(
        &mut self,
        jwt: &Jwt,
        configured: &Spanned<Authorizer>,
        state: &State,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<KeyCell>> {
        let source = match &jwt.keys {
            JwtKeys::Url(url) => KeySource::Url(url.as_str().into()),
            JwtKeys::Discovery(issuer) => KeySource::Discovery(issuer.as_str().into()),
            JwtKeys::Secret(secret) => {
                let set = KeySet::shared(secret.expose().as_bytes(), &jwt.algorithms);
                return Some(Arc::new(KeyCell::fixed(set, state.clock.now())));
            }
            JwtKeys::File { path, bytes } => {
                let set = KeySet::parse(bytes).map_err(|why| {
                    let message = format!("`{}` has no keys: {why}", path.display());
                    let hint = "it is to be a JWK set, such as `{ \"keys\": [{ \"kty\": \"EC\", … }] }`";
                    diagnostics.push(Diagnostic::error("bad-keys", configured.span, message).hint(hint));
                });
                return set.ok().map(|set| Arc::new(KeyCell::fixed(set, state.clock.now())));
            }
        };
        let cell = state.keys(source);
        self.keys.push((cell.clone(), jwt.refresh));
        Some(cell)
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
    let mut set = ConsumerSet::new(vec![hasher.clone()]);
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
