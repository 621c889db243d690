//! Functions: names that do not exist, and functions that nothing calls.

use super::Checker;
use crate::decode::suggest;
use crate::document::{Document, FunctionPlace, Integration};
use std::collections::HashSet;

pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    let names = checker.written.names("functions");
    let routes = document.apis.values().flat_map(|api| &api.routes);
    for integration in routes.map(|route| &route.integration) {
        let Integration::Function(name) = &integration.value else { continue };
        if !names.contains(&name.as_str()) {
            let hint = if checker.written.tainted.contains(&integration.span) || names.is_empty() {
                "add it under `functions`".to_owned()
            } else {
                suggest(name, names.iter().copied(), "the functions are")
            };
            let message = format!("no function has the name {}", checker.quote(name, integration.span));
            checker.error("unknown-function", integration.span, message, hint);
        }
    }
}

/// Whether any of them runs here.
pub(super) fn are_hosted(document: &Document) -> bool {
    document.functions.values().any(|function| match function.place {
        FunctionPlace::Hosted(_) => true,
        FunctionPlace::Aws(_) => false,
    })
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
    document.apis.values().flat_map(|api| &api.routes).filter_map(|route| match &route.integration.value {
        Integration::Function(name) => Some(name.as_str()),
        Integration::Proxy(_) | Integration::Respond(_) | Integration::Redirect(_) | Integration::Login(..) => None,
    })
}
