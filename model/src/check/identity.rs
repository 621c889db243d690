//! Who may come in: names that do not exist, demands on nobody, one caller under two names.

use super::Checker;
use crate::decode::suggest;
use crate::document::{
    Api, Asked, Authenticate, Authority, AuthorizerKind, Document, Policies, ProxyTarget, Route, Scheme, Setting,
};
use crate::language::{ANONYMOUS, NONE};
use crate::span::{Span, Spanned};
use std::collections::HashMap;

pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    for (name, authorizer) in &document.authorizers {
        if [ANONYMOUS, NONE].contains(&name.as_str()) {
            let message = format!("`{name}` has a meaning of its own in `authenticate`");
            checker.error("bad-name", authorizer.span, message, "give the authorizer another name");
        }
        if let AuthorizerKind::Introspection(introspection) = &authorizer.kind {
            in_the_clear(&introspection.endpoint, checker);
        }
    }
    for api in document.apis.values() {
        named(document, &api.policies, checker);
        for route in &api.routes {
            named(document, &route.policies, checker);
            demands(api, route, checker);
        }
    }
    consumers(document, checker);
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
    let is_open = decides.is_none_or(|decides| decides.value == Authenticate::Open);
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

/// One identity, or one key, on two consumers: neither would know whose request it is.
fn consumers(document: &Document, checker: &mut Checker<'_>) {
    let mut identities: HashMap<(&str, &str), Span> = HashMap::new();
    let mut keys: HashMap<&str, Span> = HashMap::new();
    for (_, consumer) in &document.consumers {
        for identity in &consumer.identities {
            unknown(document, &identity.authorizer, checker);
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
            if let Some(first) = keys.insert(key.value.expose(), key.span) {
                let message = "two keys are the same: a request with it could be either's".to_owned();
                checker.clash("key-twice", (key.span, first), message, "give each its own", "first written here");
            }
        }
    }
}
