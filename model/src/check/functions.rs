//! Functions: names that do not exist, and functions that nothing calls.

use super::Checker;
use crate::decode::suggest;
use crate::document::{Document, Integration};
use crate::span::{Span, Spanned};
use std::collections::HashSet;

pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    let names = checker.written.names("functions");
    let routes = document.apis.values().flat_map(|api| &api.routes);
    for (name, span) in routes.flat_map(|route| asked(&route.integration)) {
        if !names.contains(&name) {
            let hint = if checker.written.tainted.contains(&span) || names.is_empty() {
                "add it under `functions`".to_owned()
            } else {
                suggest(name, names.iter().copied(), "the functions are")
            };
            let message = format!("no function has the name {}", checker.quote(name, span));
            checker.error("unknown-function", span, message, hint);
        }
    }
}

pub(super) fn unused(document: &Document, checker: &mut Checker<'_>) {
    let used: HashSet<&str> = called(document).collect();
    for (name, function) in document.functions.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        let message = format!("no route calls the function `{name}`");
        checker.warning("unused-function", function.span, message, "remove it, or name it in a route: `function: NAME`");
    }
}

/// By routes.
fn called(document: &Document) -> impl Iterator<Item = &str> {
    let routes = document.apis.values().flat_map(|api| &api.routes);
    routes.flat_map(|route| asked(&route.integration)).map(|(name, _)| name)
}

/// The functions that a route calls, and where they are named.
fn asked(integration: &Spanned<Integration>) -> Vec<(&str, Span)> {
    match &integration.value {
        Integration::Function(name) => vec![(name, integration.span)],
        Integration::WebSocket(socket) => {
            socket.routes.iter().map(|(_, route)| (route.function.as_str(), route.function.span)).collect()
        }
        Integration::Proxy(_) | Integration::Respond(_) | Integration::Redirect(_) | Integration::Login(..) => Vec::new(),
    }
}
