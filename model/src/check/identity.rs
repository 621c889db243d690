//! Who may come in: names that do not exist, demands on nobody, one caller under two names.

use super::Checker;
use crate::decode::suggest;
use crate::document::{
    Api, Asked, Authenticate, Authority, Authorize, Authorizer, AuthorizerKind, Document, HashBy, Integration, KeyPlace,
    Policies, ProxyTarget, Route, Scheme, Setting, SignatureKey,
};
use crate::language::{ANONYMOUS, NONE};
use crate::span::{Span, Spanned};
use crate::values::{Template, Who};
use std::collections::{HashMap, HashSet};

pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    for (name, authorizer) in &document.authorizers {
        if [ANONYMOUS, NONE].contains(&name.as_str()) {
            let message = format!("`{name}` has a meaning of its own in `authenticate`");
            checker.error("bad-name", authorizer.span, message, "give the authorizer another name");
        }
        if let AuthorizerKind::ClientCertificate(_) = &authorizer.kind {
            never_shown(document, name, authorizer.span, checker);
        }
        if let AuthorizerKind::Jwt(jwt) = &authorizer.kind
            && jwt.audience.is_empty()
        {
            let message = "without `audience` every token that has an `aud` is refused: it is meant for others";
            checker.warning(
                "no-audience",
                authorizer.span,
                message,
                "add `audience: [NAME]`, what the issuer puts into `aud` for this gateway",
            );
        }
        if let AuthorizerKind::Introspection(introspection) = &authorizer.kind {
            in_the_clear(&introspection.endpoint, checker);
        }
        secrets(&authorizer.kind, checker);
    }
    for api in document.apis.values() {
        named(document, &api.policies, checker);
        for route in api.routes.iter().filter(|route| !route.is_login()) {
            named(document, &route.policies, checker);
            demands(api, route, checker);
            resources(api, route, checker);
            said(api, route, checker);
        }
        told_by_api(api, checker);
    }
    taken_from(document, checker);
    hashed(document, checker);
    consumers(document, checker);
}

pub(super) fn is_open(api: &Api, route: &Route) -> bool {
    decides(api, route).is_none_or(|decides| decides.value == Authenticate::Open)
}

/// What a route says of who makes a request: there must be somebody, and no parameter of that name.
fn said(api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    let redirect = match &route.integration.value {
        Integration::Redirect(redirect) => Some((&redirect.to, route.integration.span)),
        Integration::Proxy(_)
        | Integration::Function(_)
        | Integration::WebSocket(_)
        | Integration::Respond(_)
        | Integration::Login(..) => None,
    };
    let rewrite = route.rewrite.as_ref().map(|rewrite| (&rewrite.value, rewrite.span));
    let is_open = is_open(api, route);
    for (template, span) in rewrite.into_iter().chain(redirect) {
        if let Some(who) = template.identity().next().filter(|_| is_open) {
            let message = format!("the address needs `{{{who}}}`, and nothing on this route says who it is");
            checker.error("no-identity", span, message, "add `authenticate: [NAME]` to the route or its API");
        }
        two_meanings(template, span, route, checker);
    }
    for template in super::routes::header_templates(&route.policies) {
        if let Some(who) = template.identity().next().filter(|_| is_open) {
            let message = format!("this header needs `{{{who}}}`, and nothing on this route says who it is: it is never sent");
            let hint = "add `authenticate: [NAME]` to the route or its API, or remove the header";
            checker.warning("no-identity", template.span, message, hint);
        }
    }
    let own = route.policies.transform.is_some();
    let policies = if own { &route.policies } else { &api.policies };
    for template in super::routes::header_templates(policies) {
        two_meanings(template, template.span, route, checker);
    }
}

/// `{consumer}` is who calls, which no path may have a say in.
fn two_meanings(template: &Template, span: Span, route: &Route, checker: &mut Checker<'_>) {
    let names = template.identity().any(|who| *who == Who::Consumer);
    if names && route.matcher.path.params().any(|name| name == crate::values::CONSUMER) {
        let message = "`{consumer}` is the name of who calls, and the path has a parameter of that name".to_owned();
        let hint = "give the path's parameter another name";
        checker.clash("contradiction", (span, route.matcher.span), message, hint, "this path has it");
    }
}

/// Headers that an API sets, of which no route will ever send one.
fn told_by_api(api: &Api, checker: &mut Checker<'_>) {
    let inherits = |route: &&Spanned<Route>| route.policies.transform.is_none();
    if api.routes.iter().filter(inherits).any(|route| !is_open(api, route)) {
        return;
    }
    for template in super::routes::header_templates(&api.policies) {
        if let Some(who) = template.identity().next() {
            let message = format!("this header needs `{{{who}}}`, and no route says who it is: it is never sent");
            let hint = "add `authenticate: [NAME]` to the API's `policies`, or remove the header";
            checker.warning("no-identity", template.span, message, hint);
        }
    }
}

/// A header that says who it is comes from no client: no credential can come in it.
fn taken_from(document: &Document, checker: &mut Checker<'_>) {
    let told = document
        .authorizers
        .values()
        .flat_map(|authorizer| authorizer.kind.tells().iter().map(|name| Spanned::new(name.clone(), authorizer.span)));
    for header in policies(document).flat_map(Policies::identity_headers).chain(told) {
        let reads = |authorizer: &&Spanned<Authorizer>| {
            authorizer.kind.places().iter().any(|place| match place {
                KeyPlace::Header(name) => name.as_str().replace('_', "-") == header.as_str().replace('_', "-"),
                KeyPlace::Query(_) | KeyPlace::Cookie(_) => false,
            })
        };
        if let Some(authorizer) = document.authorizers.values().find(reads) {
            let message = format!(
                "the header `{}` is set from who makes the request, so no client may send it; and a credential is looked for in it",
                header.value
            );
            let spans = (header.span, authorizer.span);
            checker.clash("contradiction", spans, message, "tell back ends by another header", "this authorizer reads it");
        }
    }
}

/// Requests are kept together by who calls, and nobody is asked.
fn hashed(document: &Document, checker: &mut Checker<'_>) {
    for (name, upstream) in document.upstreams.iter().filter(|(_, upstream)| upstream.hash_by == Some(HashBy::Consumer)) {
        let leads = |route: &Route| match &route.integration.value {
            Integration::Proxy(ProxyTarget::Named(target)) => target == name,
            Integration::Proxy(ProxyTarget::Url(_))
            | Integration::Function(_)
            | Integration::WebSocket(_)
            | Integration::Respond(_)
            | Integration::Redirect(_) => false,
            Integration::Login(..) => false,
        };
        let routes = || document.apis.values().flat_map(|api| api.routes.iter().map(move |route| (api, route)));
        let mut there = routes().filter(|(_, route)| leads(route)).peekable();
        if there.peek().is_some() && there.all(|(api, route)| is_open(api, route)) {
            let message =
                format!("`{name}` keeps the requests of a consumer together, and no route that leads there says who calls");
            let hint = "add `authenticate: [NAME]` to the routes, or write another `hash_by`";
            checker.warning("no-identity", upstream.span, message, hint);
        }
    }
}

/// A certificate is only shown where a listener asks for one.
fn never_shown(document: &Document, name: &str, span: Span, checker: &mut Checker<'_>) {
    let mut listeners = document.listen.iter().filter_map(|listener| listener.tls.as_ref());
    if !listeners.any(|tls| tls.client_ca.is_some()) {
        let message = format!("`{name}` finds nobody: no listener asks for a certificate");
        checker.warning("no-effect", span, message, "add `client_ca: ca.pem` to a listener's `tls`");
    }
}

/// A secret and tokens for everybody on the way, where the way leads through a network.
fn in_the_clear(endpoint: &Spanned<Asked>, checker: &mut Checker<'_>) {
    let ProxyTarget::Url(url) = &endpoint.upstream else { return };
    let is_here = match &url.authority {
        Authority::Address(address) => address.ip().to_canonical().is_loopback(),
        Authority::Name { host, .. } => host == "localhost",
        Authority::Unix(_) => true,
        Authority::Service(_) => false,
    };
    if url.scheme == Scheme::Http && !is_here {
        let warning = crate::diagnostics::Diagnostic::warning(
            "plain-secret",
            endpoint.span,
            "`client_secret` and every token would cross the network in the clear",
        );
        checker.diagnostics.push(warning.hint("write `https://…`"));
    }
}

/// What decides on a route: its own `authenticate`, or its API's.
fn decides<'a>(api: &'a Api, route: &'a Route) -> Option<&'a Spanned<Authenticate>> {
    route.policies.authenticate.as_ref().or(api.policies.authenticate.as_ref())
}

fn named(document: &Document, policies: &Policies, checker: &mut Checker<'_>) {
    let Some(Authenticate::Any { authorizers, .. }) = policies.authenticate.as_ref().map(|list| &list.value) else { return };
    for (at, name) in authorizers.iter().enumerate() {
        unknown(document, name, checker);
        if let Some(first) = authorizers[..at].iter().find(|first| first.value == name.value) {
            let message = format!("the authorizer {} stands twice", checker.quote(&name.value, name.span));
            checker.clash("duplicate-name", (name.span, first.span), message, "remove one of them", "first written here");
        }
    }
}

fn unknown(document: &Document, name: &Spanned<String>, checker: &mut Checker<'_>) {
    // One that could not be decoded has been complained about.
    let written = checker.written.root.get("authorizers");
    if document.authorizers.contains_key(&name.value) || written.is_some_and(|node| node.get(&name.value).is_some()) {
        return;
    }
    let hint = match document.authorizers.is_empty() {
        true => format!("add it: `authorizers: {{ {}: {{ api_key: {{ name: x-api-key }} }} }}`", name.value),
        false => suggest(&name.value, document.authorizers.keys().map(String::as_str), "the authorizers are"),
    };
    let message = format!("there is no authorizer {}", checker.quote(&name.value, name.span));
    checker.error("unknown-authorizer", name.span, message, hint);
}

/// Whoever shows a key is known by the key alone.
fn by_key(document: &Document, name: &Spanned<String>, checker: &mut Checker<'_>) {
    let kind = document.authorizers.get(&name.value).map(|authorizer| &authorizer.kind);
    if matches!(kind, Some(AuthorizerKind::ApiKey(_))) {
        let message = format!("{} looks for API keys, and calls nobody by a subject", checker.quote(&name.value, name.span));
        checker.warning("no-effect", name.span, message, "write the consumer's key in `api_keys`, and remove this identity");
    }
}

/// A demand needs somebody of whom it is made.
fn demands(api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    let own = match &route.policies.authorize {
        Some(Setting::Some(own)) => Some(own.span),
        Some(Setting::None) | None => None,
    };
    let inherited = match &api.policies.authorize {
        Some(Setting::Some(inherited)) => Some(inherited.span),
        Some(Setting::None) | None => None,
    };
    let decides = decides(api, route);
    let is_open = is_open(api, route);
    if let Some(span) = own.filter(|_| is_open) {
        let hint = "add `authenticate: [NAME]` to the route or its API";
        checker.error("contradiction", span, "`authorize` makes demands, and nothing says who it is", hint);
    } else if let Some(span) = inherited.filter(|_| decides.is_none()) {
        let hint = "add `authenticate: [NAME]` to the API's `policies`";
        let diagnostic =
            crate::diagnostics::Diagnostic::error("contradiction", span, "`authorize` makes demands, and nothing says who it is");
        checker.diagnostics.push(diagnostic.hint(hint).also(route.matcher.span, "on this route, for one"));
    }
    dropped(api, route, inherited, checker);
}

/// What policies call a resource is made of parameters that the path has.
fn resources(api: &Api, route: &Spanned<Route>, checker: &mut Checker<'_>) {
    if is_open(api, route) {
        return;
    }
    let (own, inherited) = match (&route.policies.authorize, &api.policies.authorize) {
        (Some(Setting::None), _) => return,
        (own, inherited) => (own.as_ref(), inherited.as_ref()),
    };
    let named = |setting: &'_ Setting<Spanned<Authorize>>| match setting {
        Setting::Some(authorize) => authorize.cedar.as_ref().and_then(|cedar| cedar.resource.clone()),
        Setting::None => None,
    };
    for resource in own.into_iter().chain(inherited).filter_map(named) {
        for name in resource.id.params().filter(|name| !route.matcher.path.params().any(|known| known == *name)) {
            let message = format!("the resource is named by `{{{name}}}`, and the path has no such parameter");
            let hint = "put `cedar` where the path has it, or name another resource";
            checker.clash("unknown-parameter", (resource.span, route.matcher.span), message, hint, "on this route");
        }
    }
}

/// An inherited protection is dropped in writing, and shown.
fn dropped(api: &Api, route: &Spanned<Route>, inherited: Option<Span>, checker: &mut Checker<'_>) {
    let warning = |message| crate::diagnostics::Diagnostic::warning("dropped-protection", route.matcher.span, message);
    let opened = route.policies.authenticate.as_ref().is_some_and(|own| own.value == Authenticate::Open);
    if let (Some(dropped), true) = (&api.policies.authenticate, opened)
        && dropped.value != Authenticate::Open
    {
        let warning = warning("this route is open: it drops the API's `authenticate`");
        checker.diagnostics.push(warning.also(dropped.span, "what it drops"));
    }
    if let (Some(span), Some(Setting::None)) = (inherited, &route.policies.authorize) {
        checker.diagnostics.push(warning("this route drops the API's `authorize`").also(span, "what it drops"));
    }
}

/// Bytes of a key: fewer can be guessed, even where they were drawn by lot. 16 of hex digits have 64 bits. RFC 9421 names no least length for
/// the secrets of signatures; NIST SP 800-131A wants 112 bits for HMAC, which is 14 bytes of chance.
const KEY_BYTES_MIN: usize = 16;

/// Those that sign: who sees one signature can try secrets at leisure.
fn secrets(kind: &AuthorizerKind, checker: &mut Checker<'_>) {
    let hmac = |key: &Spanned<SignatureKey>| match &key.value {
        SignatureKey::Hmac(secret) => Some((secret.expose().len(), key.span)),
        SignatureKey::Public(..) => None,
    };
    let secrets: Vec<(usize, Span)> = match kind {
        AuthorizerKind::HttpSignature(signature) => signature.keys.values().filter_map(hmac).collect(),
        AuthorizerKind::AwsSignature(signature) => {
            signature.keys.values().map(|secret| (secret.value.expose().len(), secret.span)).collect()
        }
        AuthorizerKind::ApiKey(_)
        | AuthorizerKind::Basic(_)
        | AuthorizerKind::ClientCertificate(_)
        | AuthorizerKind::Jwt(_)
        | AuthorizerKind::Oidc(_)
        | AuthorizerKind::Introspection(_)
        | AuthorizerKind::Forward(_)
        | AuthorizerKind::Function(_) => Vec::new(),
    };
    for (_, span) in secrets.into_iter().filter(|(bytes, _)| *bytes < KEY_BYTES_MIN) {
        let message = format!("the secret of this key has fewer than {KEY_BYTES_MIN} bytes, and can be guessed from a signature");
        checker.warning("short-key", span, message, "make one with `openssl rand -base64 32`, for who signs too");
    }
}

/// Of every API, and of each of its routes.
pub(super) fn policies(document: &Document) -> impl Iterator<Item = &Policies> {
    document
        .apis
        .values()
        .flat_map(|api| std::iter::once(&api.value.policies).chain(api.routes.iter().map(|route| &route.value.policies)))
}

/// Authorizers that nobody asks. Called where nothing else is wrong.
pub(super) fn unused(document: &Document, checker: &mut Checker<'_>) {
    let lists = policies(document).filter_map(|policies| match policies.authenticate.as_ref().map(|list| &list.value) {
        Some(Authenticate::Any { authorizers, .. }) => Some(authorizers),
        Some(Authenticate::Open) | None => None,
    });
    let used: HashSet<&str> = lists.flatten().map(|name| name.value.as_str()).collect();
    for (name, authorizer) in document.authorizers.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        let message = format!("no route asks the authorizer `{name}`");
        checker.warning("unused-authorizer", authorizer.span, message, format!("remove it, or write `authenticate: [{name}]`"));
    }
}

/// One identity, or one key, on two consumers: neither would know whose request it is.
fn consumers(document: &Document, checker: &mut Checker<'_>) {
    let mut identities: HashMap<(&str, &str), Span> = HashMap::new();
    let mut keys: HashMap<&str, Span> = HashMap::new();
    for (_, consumer) in &document.consumers {
        for identity in &consumer.identities {
            unknown(document, &identity.authorizer, checker);
            by_key(document, &identity.authorizer, checker);
            let who = (identity.authorizer.value.as_str(), identity.subject.as_str());
            if let Some(first) = identities.insert(who, identity.span) {
                let message = "one identity belongs to two consumers";
                checker.clash(
                    "identity-twice",
                    (identity.span, first),
                    message.to_owned(),
                    "remove one of them",
                    "first written here",
                );
            }
        }
        for key in &consumer.api_keys {
            if key.value.expose().len() < KEY_BYTES_MIN {
                let message = format!("a key of fewer than {KEY_BYTES_MIN} bytes can be guessed");
                let hint = "make one with `openssl rand -hex 32`, and write `${env:NAME}` or `${file:path}`";
                checker.warning("short-key", key.span, message, hint);
            }
            if let Some(first) = keys.insert(key.value.expose(), key.span) {
                let message = "two keys are the same: a request with it could be either's".to_owned();
                checker.clash("key-twice", (key.span, first), message, "give each its own", "first written here");
            }
        }
    }
}
