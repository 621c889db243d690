//! The routes that nobody writes: where a provider sends browsers back to, and where a session ends. They stand in every API that lets
//! people in by that login, so that whatever knows routes knows them.

use super::{Api, Authenticate, AuthorizerKind, Document, Integration, LoginStep, Match, Oidc, Policies, Route, When};
use crate::span::{Span, Spanned};
use crate::values::PathTemplate;

/// Adds them to a document that was just decoded.
pub(crate) fn add(mut document: Document) -> Document {
    for (name, authorizer) in &document.authorizers {
        let AuthorizerKind::Oidc(oidc) = &authorizer.kind else { continue };
        for api in document.apis.values_mut() {
            if let Some(span) = named_at(&api.value, name) {
                api.value.routes.extend(routes(name, oidc, span));
            }
        }
    }
    document
}

/// Where an API first names an authorizer.
fn named_at(api: &Api, name: &str) -> Option<Span> {
    let policies = std::iter::once(&api.policies).chain(api.routes.iter().map(|route| &route.policies));
    let lists = policies.filter_map(|policies| match &policies.authenticate.as_ref()?.value {
        Authenticate::Any { authorizers, .. } => Some(authorizers),
        Authenticate::Open => None,
    });
    lists.flatten().find(|listed| listed.value == name).map(|listed| listed.span)
}

fn routes(name: &str, oidc: &Oidc, span: Span) -> impl Iterator<Item = Spanned<Route>> {
    let steps = [(LoginStep::Callback, &oidc.callback, &["GET"][..]), (LoginStep::Logout, &oidc.logout, &["GET", "POST"])];
    // Their paths were parsed as such before.
    let route = move |(step, path, methods): (LoginStep, &String, &[&str])| {
        let path = PathTemplate::parse(path).ok()?;
        let methods = methods.iter().map(|&method| method.to_owned()).collect();
        let route = Route {
            matcher: Spanned::new(Match { methods, path }, span),
            name: None,
            when: When::default(),
            integration: Spanned::new(Integration::Login(name.to_owned(), step), span),
            rewrite: None,
            policies: Policies::default(),
            cors: None,
            ip: None,
            mirror: None,
            priority: None,
            idempotent: None,
            maintenance: None,
        };
        Some(Spanned::new(route, span))
    };
    steps.into_iter().filter_map(route).collect::<Vec<_>>().into_iter()
}
