//! Who may come in, in the language's words. Keys are not shown.

use super::{duration, pem, texts, url};
use crate::document::{
    ApiKey, Ask, Asked, Authenticate, Authorize, Authorizer, AuthorizerForm, AuthorizerKind, AwsSignature, Basic, Cedar,
    ClaimDemand, ClientCertificate, Component, Consumer, Demand, Forward, FunctionAuthorizer, HttpSignature, Identity,
    Introspection, Jwt, JwtKeys, KeyPlace, Oidc, OidcSession, ProxyTarget, Replay, SignatureKey, TextFile,
};
use crate::values::format_duration;
use serde_json::{Map, Value, json};

pub(super) fn authorizer(authorizer: &Authorizer) -> Value {
    let Authorizer { kind, strip } = authorizer;
    let shown = match kind {
        AuthorizerKind::ApiKey(key) => api_key(key),
        AuthorizerKind::Oidc(configured) => oidc(configured),
        AuthorizerKind::Basic(Basic { realm, htpasswd }) => {
            json!({ "realm": realm, "htpasswd": htpasswd.path.display().to_string() })
        }
        AuthorizerKind::ClientCertificate(certificate) => client_certificate(certificate),
        AuthorizerKind::Jwt(token) => jwt(token),
        AuthorizerKind::HttpSignature(signature) => http_signature(signature),
        AuthorizerKind::AwsSignature(signature) => aws_signature(signature),
        AuthorizerKind::Introspection(kind) => introspection(kind),
        AuthorizerKind::Forward(kind) => forward(kind),
        AuthorizerKind::Function(kind) => function(kind),
    };
    let mut value = json!({ "strip": strip });
    value[kind.name()] = shown;
    value
}

fn api_key(key: &ApiKey) -> Value {
    let ApiKey { place } = key;
    let (place, name) = placed(place);
    json!({ "in": place, "name": name })
}

fn placed(place: &KeyPlace) -> (&'static str, &str) {
    match place {
        KeyPlace::Header(name) => ("header", name.as_str()),
        KeyPlace::Query(name) => ("query", name.as_str()),
        KeyPlace::Cookie(name) => ("cookie", name.as_str()),
    }
}

fn jwt(jwt: &Jwt) -> Value {
    let Jwt { issuer, audience, algorithms, keys, leeway, required_claims, typ, place, .. } = jwt;
    let Jwt { subject_claim, scopes_claim, groups_claim, refresh, timeout, .. } = jwt;
    let (part, name) = placed(place);
    let mut value = json!({
        "audience": audience,
        "algorithms": algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>(),
        "leeway": format_duration(*leeway),
        "required_claims": required_claims,
        "in": part,
        "name": name,
        "subject_claim": subject_claim,
        "scopes_claim": scopes_claim,
        "groups_claim": groups_claim,
        "refresh": format_duration(*refresh),
        "timeout": format_duration(*timeout),
    });
    if let Some(issuer) = issuer {
        value["issuer"] = issuer.as_str().into();
    }
    if let Some(typ) = typ {
        value["typ"] = typ.as_str().into();
    }
    match keys {
        JwtKeys::Discovery(_) => {}
        JwtKeys::Url(url) => value["jwks"] = url.as_str().into(),
        JwtKeys::File { path, bytes: _ } => value["jwks"] = path.display().to_string().into(),
        JwtKeys::Secret(secret) => value["secret"] = secret.to_string().into(),
    }
    value
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

fn introspection(kind: &Introspection) -> Value {
    let Introspection { endpoint, client_id, client_secret, token_type_hint, audience, issuer, ttl, negative_ttl, timeout } =
        kind;
    let mut value = json!({
        "client_id": client_id,
        "client_secret": client_secret.to_string(),
        "audience": audience,
        "ttl": duration(*ttl),
        "negative_ttl": duration(*negative_ttl),
        "timeout": duration(*timeout),
    });
    asked("endpoint", endpoint, &mut value);
    if let Some(hint) = token_type_hint {
        value["token_type_hint"] = hint.as_str().into();
    }
    if let Some(issuer) = issuer {
        value["issuer"] = issuer.as_str().into();
    }
    value
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

fn forward(kind: &Forward) -> Value {
    let Forward { service, method, headers, ask, copy_to_upstream, copy_to_client, subject, ttl, timeout } = kind;
    let mut value = json!({
        "method": method,
        "headers": texts(headers),
        "ask": match ask {
            Ask::Always => "always",
            Ask::WithCredential => "with_credential",
        },
        "copy_to_upstream": texts(copy_to_upstream),
        "copy_to_client": texts(copy_to_client),
        "timeout": duration(*timeout),
    });
    asked("url", service, &mut value);
    if let Some(subject) = subject {
        value["subject"] = subject.as_str().into();
    }
    if let Some(ttl) = ttl {
        value["ttl"] = duration(*ttl);
    }
    value
}

fn function(kind: &FunctionAuthorizer) -> Value {
    let FunctionAuthorizer { function, form, identity, validation, ttl } = kind;
    let (kind, event) = match form {
        AuthorizerForm::Token => ("token", "rest"),
        AuthorizerForm::Rest => ("request", "rest"),
        AuthorizerForm::HttpV1 => ("request", "v1"),
        AuthorizerForm::HttpV2 { .. } => ("request", "v2"),
    };
    let mut value = json!({
        "name": function.value,
        "kind": kind,
        "event": event,
        "identity": identity.iter().map(|source| source.text()).collect::<Vec<_>>(),
        "ttl": duration(*ttl),
    });
    if let AuthorizerForm::HttpV2 { simple } = form {
        value["simple"] = (*simple).into();
    }
    if let Some(validation) = validation {
        value["validation"] = validation.as_str().into();
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

fn client_certificate(certificate: &ClientCertificate) -> Value {
    let ClientCertificate { principal, crl, issuers } = certificate;
    json!({ "principal": principal.name(), "crl": crl.iter().map(|file| pem(file)).collect::<Value>(), "issuers": issuers })
}

fn asked(key: &str, asked: &Asked, value: &mut Value) {
    let Asked { upstream, target } = asked;
    match upstream {
        ProxyTarget::Named(name) => {
            value["upstream"] = name.as_str().into();
            value["path"] = target.as_str().into();
        }
        ProxyTarget::Url(endpoint) => value[key] = format!("{}{target}", url(endpoint)).into(),
    }
}

pub(super) fn consumer(consumer: &Consumer) -> Value {
    let Consumer { plan, groups, api_keys, identities } = consumer;
    let identity = |Identity { authorizer, subject }: &Identity| json!({ "authorizer": authorizer.value, "subject": subject });
    let mut value = json!({
        "groups": groups,
        "api_keys": api_keys.iter().map(|key| key.value.to_string()).collect::<Vec<_>>(),
        "identities": identities.iter().map(|id| identity(id)).collect::<Vec<_>>(),
    });
    if let Some(plan) = plan {
        value["plan"] = plan.value.as_str().into();
    }
    value
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
    let Authorize { scopes, groups, claims, condition, cedar } = authorize;
    let claims: Map<String, Value> = claims.iter().map(|(path, demand)| (path.clone(), claim(demand))).collect();
    let conditions: Vec<&str> = condition.iter().map(|condition| condition.value.as_str()).collect();
    // What demands nothing would be a mistake where this is read again.
    let mut value = json!({});
    for (key, words) in [("scopes", scopes), ("groups", groups)] {
        if !words.all.is_empty() || !words.any.is_empty() {
            value[key] = demand(words);
        }
    }
    if !claims.is_empty() {
        value["claims"] = claims.into();
    }
    if !conditions.is_empty() {
        value["condition"] = conditions.into();
    }
    if let Some(policies) = cedar {
        value["cedar"] = self::cedar(&policies.value);
    }
    value
}

fn cedar(cedar: &Cedar) -> Value {
    let Cedar { policies, schema, entities, principal, action, resource, log } = cedar;
    let path = |file: &TextFile| file.path.display().to_string();
    let mut value = json!({
        "policies": policies.iter().map(path).collect::<Vec<_>>(),
        "schema": path(schema),
        "principal": principal.value,
        "log": log.as_str(),
    });
    if let Some(entities) = entities {
        value["entities"] = path(entities).into();
    }
    if let Some(action) = action {
        value["action"] = action.to_string().into();
    }
    if let Some(resource) = resource {
        value["resource"] = resource.to_string().into();
    }
    value
}

fn claim(demand: &ClaimDemand) -> Value {
    match demand {
        ClaimDemand::Present => "*".into(),
        ClaimDemand::OneOf(values) => values.iter().cloned().collect(),
    }
}

fn demand(demand: &Demand) -> Value {
    let Demand { all, any } = demand;
    let lists = [("all", all), ("any", any)].into_iter().filter(|(_, words)| !words.is_empty());
    lists.map(|(key, words)| (key.to_owned(), Value::from(words.clone()))).collect::<Map<_, _>>().into()
}
