//! Who may come in, in the language's words. Keys are not shown.

use super::pem;
use crate::document::{
    ApiKey, Authenticate, Authorize, Authorizer, AuthorizerKind, Basic, ClientCertificate, Consumer, Demand, Identity, KeyPlace,
};
use serde_json::{Value, json};

pub(super) fn authorizer(authorizer: &Authorizer) -> Value {
    let Authorizer { kind, strip } = authorizer;
    let shown = match kind {
        AuthorizerKind::ApiKey(key) => api_key(key),
        AuthorizerKind::Basic(Basic { realm, htpasswd }) => {
            json!({ "realm": realm, "htpasswd": htpasswd.path.display().to_string() })
        }
        AuthorizerKind::ClientCertificate(certificate) => client_certificate(certificate),
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

fn client_certificate(certificate: &ClientCertificate) -> Value {
    let ClientCertificate { principal, crl, issuers } = certificate;
    json!({ "principal": principal.name(), "crl": crl.iter().map(|file| pem(file)).collect::<Value>(), "issuers": issuers })
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
