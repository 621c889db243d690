//! Functions: names that do not exist, functions that nothing calls, and authorizers that are asked for what they do not do.

use super::Checker;
use crate::decode::suggest;
use crate::document::{Authorizer, Document, FunctionAuthorizer, FunctionPlace, Integration, InvocationType, ResponseMode};
use crate::span::{Span, Spanned};
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

pub(super) fn check(document: &Document, checker: &mut Checker<'_>) {
    let routes = document.apis.values().flat_map(|api| &api.routes);
    for (name, span) in routes.flat_map(|route| asked(&route.integration)) {
        known(name, span, checker);
    }
    for authorizer in authorizers(document) {
        let FunctionAuthorizer { function, .. } = authorizer;
        known(function, function.span, checker);
        unused_ways(document, function, checker);
    }
    apart(document, checker);
}

/// Functions could read what is in their code, and a store that changes all the time would be code that does.
fn apart(document: &Document, checker: &mut Checker<'_>) {
    // `./a` and `a` are one place; what leads up or begins elsewhere is compared as it is written.
    let plain = |path: &Path| -> PathBuf { path.components().filter(|part| *part != Component::CurDir).collect() };
    let store = plain(&document.store);
    for (name, function) in &document.functions {
        let FunctionPlace::Hosted(hosted) = &function.place else { continue };
        let holds = |code: &&Spanned<PathBuf>| {
            let code = plain(code);
            let is_here = code.as_os_str().is_empty() && store.is_relative() && !store.starts_with("..");
            is_here || (!code.as_os_str().is_empty() && store.starts_with(&code))
        };
        if let Some(code) = std::iter::once(&hosted.code).chain(&hosted.layers).find(holds) {
            let message = format!("the store `{}` lies in the code of `{name}`, which could read it", document.store.display());
            let hint =
                "put the code into a folder of its own, such as `code: ./functions/NAME`, or the store elsewhere: `store: …`";
            checker.error("contradiction", code.span, message, hint);
        }
    }
}

fn known(name: &str, span: Span, checker: &mut Checker<'_>) {
    let names = checker.written.names("functions");
    if names.contains(&name) {
        return;
    }
    let hint = if checker.written.tainted.contains(&span) || names.is_empty() {
        "add it under `functions`".to_owned()
    } else {
        suggest(name, names.iter().copied(), "the functions are")
    };
    let message = format!("no function has the name {}", checker.quote(name, span));
    checker.error("unknown-function", span, message, hint);
}

/// An authorizer waits for the whole of an answer, whatever its function does on routes.
fn unused_ways(document: &Document, name: &Spanned<String>, checker: &mut Checker<'_>) {
    let Some(function) = document.functions.get(&name.value) else { return };
    let way = match (function.response, function.invocation) {
        (_, InvocationType::Event) => "`invocation: event`",
        (ResponseMode::Streamed, InvocationType::RequestResponse) => "`response: streamed`",
        (ResponseMode::Buffered, InvocationType::RequestResponse) => return,
    };
    let message = format!("an authorizer waits for the whole answer: {way} of `{}` has no effect here", name.value);
    checker.warning("no-effect", name.span, message, "give the authorizer a function of its own");
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
        let message = format!("no route and no authorizer calls the function `{name}`");
        checker.warning("unused-function", function.span, message, "remove it, or name it in a route: `function: NAME`");
    }
}

fn called(document: &Document) -> impl Iterator<Item = &str> {
    let routes = document.apis.values().flat_map(|api| &api.routes);
    let by_routes = routes.flat_map(|route| asked(&route.integration)).map(|(name, _)| name);
    by_routes.chain(authorizers(document).map(|authorizer| authorizer.function.as_str()))
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

fn authorizers(document: &Document) -> impl Iterator<Item = &FunctionAuthorizer> {
    document.authorizers.values().filter_map(|authorizer: &Spanned<Authorizer>| authorizer.kind.runs())
}
