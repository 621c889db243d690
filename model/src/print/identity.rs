//! Who may come in, in the language's words. Keys are not shown.

use crate::document::{
    ApiKey, Authenticate, Authorize, Authorizer, AuthorizerKind, ClaimDemand, Consumer, Demand, Identity, KeyPlace,
};
use serde_json::{Value, json};

pub(super) fn authorizer(authorizer: &Authorizer) -> Value {
    let Authorizer { kind, strip } = authorizer;
    let shown = match kind {
        AuthorizerKind::ApiKey(key) => api_key(key),
    };
    let mut value = json!({ "strip": strip });
    value[kind.name()] = shown;
    value
}

fn api_key(key: &ApiKey) -> Value {
    let ApiKey { place } = key;
    let (place, name) = match place {
        KeyPlace::Header(name) => ("header", name.as_str()),
        KeyPlace::Query(name) => ("query", name.as_str()),
        KeyPlace::Cookie(name) => ("cookie", name.as_str()),
    };
    json!({ "in": place, "name": name })
}

pub(super) fn consumer(consumer: &Consumer) -> Value {
    let Consumer { groups, api_keys, identities } = consumer;
    let identity = |Identity { authorizer, subject }: &Identity| json!({ "authorizer": authorizer.value, "subject": subject });
    json!({
        "groups": groups,
        "api_keys": api_keys.iter().map(|key| key.value.to_string()).collect::<Vec<_>>(),
        "identities": identities.iter().map(|id| identity(id)).collect::<Vec<_>>(),
    })
}

pub(super) fn authenticate(authenticate: &Authenticate) -> Value {
    match authenticate {
        Authenticate::Open => "none".into(),
        Authenticate::Any { authorizers, anonymous } => {
            let names = authorizers.iter().map(|name| name.value.as_str());
            names.chain(anonymous.then_some("anonymous")).collect()
        }
    }
}

pub(super) fn authorize(authorize: &Authorize) -> Value {
    let Authorize { scopes, groups, claims, condition } = authorize;
    let claims = claims.iter().map(|(path, demand)| (path.clone(), claim(demand)));
    json!({
        "scopes": demand(scopes),
        "groups": demand(groups),
        "claims": claims.collect::<serde_json::Map<_, _>>(),
        "condition": condition.iter().map(|condition| condition.value.as_str()).collect::<Vec<_>>(),
    })
}

fn claim(demand: &ClaimDemand) -> Value {
    match demand {
        ClaimDemand::Present => "*".into(),
        ClaimDemand::OneOf(values) => values.iter().cloned().collect(),
    }
}

fn demand(demand: &Demand) -> Value {
    let Demand { all, any } = demand;
    json!({ "all": all, "any": any })
}
