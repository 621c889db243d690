//! Authorizers of one list that look for the same: the first of them takes it, right or wrong, and who stands behind it is never asked.

use super::Checker;
use super::identity::policies;
use crate::document::{Ask, Authenticate, AuthorizerKind, Document, KeyPlace};
use std::collections::HashSet;

const CODE: &str = "shadowed-authorizer";

pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    let mut told = HashSet::new();
    for list in policies(document).filter_map(|policies| policies.authenticate.as_ref()) {
        let Authenticate::Any { authorizers, .. } = &list.value else { continue };
        let named = authorizers.iter().filter_map(|name| Some((name, &document.authorizers.get(&name.value)?.kind)));
        let named: Vec<_> = named.collect();
        for (at, (later, kind)) in named.iter().enumerate() {
            let first = named[..at].iter().find_map(|(first, before)| Some((first, takes_all(before, kind)?)));
            if let Some((first, hint)) = first
                && told.insert((&first.value, &later.value))
            {
                let message = format!("`{later}` is never asked: `{first}`, before it, takes whatever it would look at");
                checker.warning(CODE, later.span, message, hint);
            }
        }
    }
}

/// What to do where nothing is left for `later`.
fn takes_all(first: &AuthorizerKind, later: &AuthorizerKind) -> Option<&'static str> {
    let has_all = match first {
        AuthorizerKind::Forward(forward) => {
            return (forward.ask == Ask::Always).then_some("put it before, or write `ask: with_credential`");
        }
        AuthorizerKind::Function(function) => return function.identity.is_empty().then_some("put it before"),
        AuthorizerKind::Jwt(jwt) => {
            // Tokens are told apart by who issued them.
            let same =
                |other: &crate::document::Jwt| other.place == jwt.place && (jwt.issuer.is_none() || jwt.issuer == other.issuer);
            let has_all = matches!(later, AuthorizerKind::Jwt(other) if same(other));
            return has_all.then_some("give each the `issuer` whose tokens it takes");
        }
        AuthorizerKind::Introspection(_) => match later {
            AuthorizerKind::Jwt(jwt) if is_authorization(&jwt.place) => {
                return Some("put it before: what is no token of its issuer is left to others");
            }
            other => matches!(other, AuthorizerKind::Introspection(_)),
        },
        AuthorizerKind::ApiKey(key) => matches!(later, AuthorizerKind::ApiKey(other) if other.place == key.place),
        AuthorizerKind::Basic(_) => matches!(later, AuthorizerKind::Basic(_)),
        AuthorizerKind::ClientCertificate(_) => matches!(later, AuthorizerKind::ClientCertificate(_)),
        AuthorizerKind::HttpSignature(_) => matches!(later, AuthorizerKind::HttpSignature(_)),
        AuthorizerKind::AwsSignature(_) => matches!(later, AuthorizerKind::AwsSignature(_)),
        // Each has a cookie of its own.
        AuthorizerKind::Oidc(_) => false,
    };
    has_all.then_some("make one authorizer of the two, or list them on different routes")
}

fn is_authorization(place: &KeyPlace) -> bool {
    match place {
        KeyPlace::Header(name) => name.as_str() == "authorization",
        KeyPlace::Query(_) | KeyPlace::Cookie(_) => false,
    }
}
