//! Who may come in, in the language's words. Keys are not shown.

use crate::document::{
    ApiKey, Authenticate, Authorize, Authorizer, AuthorizerKind, AwsSignature, Component, Consumer, Demand, HttpSignature,
    Identity, KeyPlace, Replay, SignatureKey,
};
use crate::values::format_duration;
use serde_json::{Map, Value, json};

pub(super) fn authorizer(authorizer: &Authorizer) -> Value {
    let Authorizer { kind, strip } = authorizer;
    let shown = match kind {
        AuthorizerKind::ApiKey(key) => api_key(key),
        AuthorizerKind::HttpSignature(signature) => http_signature(signature),
        AuthorizerKind::AwsSignature(signature) => aws_signature(signature),
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

fn http_signature(signature: &HttpSignature) -> Value {
    let HttpSignature { components, max_age, label, tag, replay, keys } = signature;
    let component = |Component { name, param }: &Component| match param {
        Some(param) => format!("{name};name=\"{param}\""),
        None => name.clone(),
    };
    let key = |key: &SignatureKey| {
        let algorithm = key.algorithm();
        match key {
            SignatureKey::Hmac(secret) => json!({ "algorithm": algorithm, "secret": secret.to_string() }),
            SignatureKey::Public(_, file) => {
                json!({ "algorithm": algorithm, "public_key": file.value.path.display().to_string() })
            }
        }
    };
    let mut value = json!({
        "components": components.iter().map(component).collect::<Vec<_>>(),
        "max_age": format_duration(*max_age),
        "replay": match replay {
            Replay::Refuse => "refuse",
            Replay::Allow => "allow",
        },
        "keys": keys.iter().map(|(id, own)| (id.clone(), key(&own.value))).collect::<Map<_, _>>(),
    });
    for (name, text) in [("label", label), ("tag", tag)] {
        if let Some(text) = text {
            value[name] = text.as_str().into();
        }
    }
    value
}

fn aws_signature(signature: &AwsSignature) -> Value {
    let AwsSignature { region, service, max_age, unsigned_payload, keys } = signature;
    json!({
        "region": region,
        "service": service,
        "max_age": format_duration(*max_age),
        "unsigned_payload": unsigned_payload,
        "keys": keys.iter().map(|(id, secret)| (id.clone(), secret.value.to_string().into())).collect::<Map<_, _>>(),
    })
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
