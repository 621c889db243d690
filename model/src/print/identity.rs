//! Who may come in, in the language's words. Keys are not shown.

use super::pem;
use crate::document::{
    ApiKey, Authenticate, Authorize, Authorizer, AuthorizerKind, Basic, ClientCertificate, Consumer, Demand, Identity, Jwt,
    JwtKeys, KeyPlace,
};
use crate::values::format_duration;
use serde_json::{Value, json};

pub(super) fn authorizer(authorizer: &Authorizer) -> Value {
    let Authorizer { kind, strip } = authorizer;
    let shown = match kind {
        AuthorizerKind::ApiKey(key) => api_key(key),
        AuthorizerKind::Basic(Basic { realm, htpasswd }) => {
            json!({ "realm": realm, "htpasswd": htpasswd.path.display().to_string() })
        }
        AuthorizerKind::ClientCertificate(certificate) => client_certificate(certificate),
        AuthorizerKind::Jwt(token) => jwt(token),
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
