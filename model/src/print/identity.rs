//! Who may come in, in the language's words. Keys are not shown.

use crate::document::{ApiKey, Authenticate, Authorize, Authorizer, AuthorizerKind, Consumer, Demand, Identity, KeyPlace};
use crate::values::format_duration;
use serde_json::{Value, json};

pub(super) fn authorizer(authorizer: &Authorizer) -> Value {
    let Authorizer { kind, strip } = authorizer;
    let shown = match kind {
        AuthorizerKind::ApiKey(key) => api_key(key),
        AuthorizerKind::Oidc(configured) => oidc(configured),
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

fn oidc(oidc: &Oidc) -> Value {
    let Oidc { issuer, client_id, client_secret, scopes, groups_claim, callback, logout, session, origins, timeout } = oidc;
    let OidcSession { ttl, cookie, same_site } = session;
    let mut value = json!({
        "issuer": issuer,
        "client_id": client_id,
        "scopes": scopes,
        "groups_claim": groups_claim,
        "callback": callback,
        "logout": logout,
        "session": { "ttl": format_duration(*ttl), "cookie": cookie, "same_site": same_site.word().to_ascii_lowercase() },
        "origins": origins,
        "timeout": format_duration(*timeout),
    });
    if let Some(secret) = client_secret {
        value["client_secret"] = secret.to_string().into();
    }
    value
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
    let Authorize { scopes, groups } = authorize;
    json!({ "scopes": demand(scopes), "groups": demand(groups) })
}

fn demand(demand: &Demand) -> Value {
    let Demand { all, any } = demand;
    json!({ "all": all, "any": any })
}
