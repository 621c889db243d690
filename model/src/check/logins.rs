//! Logins beside one another: two that keep their sessions in one cookie of one host end each other's. Knows nothing of their paths: those
//! are routes, and compared as such.

use super::Checker;
use crate::diagnostics::Diagnostic;
use crate::document::{Api, AuthorizerKind, Document, Integration};
use crate::span::Span;
use crate::values::HostPattern;
use indexmap::IndexMap;
use std::collections::HashSet;

/// A login, and where people come in by it.
struct Login<'a> {
    span: Span,
    cookie: &'a str,
    hosts: Hosts<'a>,
}

/// Hosts of any number of APIs, which are not compared one by one.
#[derive(Default)]
struct Hosts<'a> {
    any: bool,
    exact: HashSet<&'a str>,
    suffixes: HashSet<&'a str>,
}

pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    let logins = logins(document);
    for (at, (name, login)) in logins.iter().enumerate() {
        let clashes = |other: &Login<'_>| other.cookie == login.cookie && other.hosts.overlap(&login.hosts);
        // One is enough to be told: the other logins are told with it.
        let Some((first, other)) = logins.iter().take(at).find(|(_, other)| clashes(other)) else { continue };
        let message = format!("`{first}` and `{name}` keep their sessions in one cookie: a login at one ends that at the other");
        let hint = format!("write another name in one of them: `session: {{ cookie: {name}_session }}`");
        let warning = Diagnostic::warning("cookie-twice", login.span, message);
        checker.diagnostics.push(warning.hint(hint).also(other.span, "the other login"));
    }
}

/// Those that an API lets people in by, by their names.
fn logins(document: &Document) -> IndexMap<&str, Login<'_>> {
    let mut logins = IndexMap::new();
    for api in document.apis.values() {
        for route in &api.routes {
            let Integration::Login(name, _) = &route.integration.value else { continue };
            let Some(authorizer) = document.authorizers.get(name) else { continue };
            let AuthorizerKind::Oidc(oidc) = &authorizer.kind else { continue };
            let login = || Login { span: authorizer.span, cookie: &oidc.session.cookie, hosts: Hosts::default() };
            logins.entry(name.as_str()).or_insert_with(login).hosts.add(api);
        }
    }
    logins
}

impl<'a> Hosts<'a> {
    fn add(&mut self, api: &'a Api) {
        self.any |= api.hosts.is_empty();
        for host in &api.hosts {
            match &host.value {
                HostPattern::Exact(host) => self.exact.insert(host),
                HostPattern::Wildcard(suffix) => self.suffixes.insert(suffix),
            };
        }
    }

    /// A browser sends the cookies of a host to whatever answers there.
    fn overlap(&self, other: &Hosts<'_>) -> bool {
        let same = self.exact.iter().any(|host| other.exact.contains(host));
        self.any || other.any || same || self.cover(other) || other.cover(self)
    }

    /// Whether one of these wildcards covers a host, or a wildcard, of the other.
    fn cover(&self, other: &Hosts<'_>) -> bool {
        let below = |host: &&str| host.match_indices('.').any(|(dot, _)| self.suffixes.contains(&host[dot + 1..]));
        let mut all = other.exact.iter().chain(&other.suffixes);
        !self.suffixes.is_empty() && (all.any(below) || other.suffixes.iter().any(|suffix| self.suffixes.contains(suffix)))
    }
}
