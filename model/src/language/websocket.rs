//! `websocket`: a route whose clients stay, and whose messages functions answer.

use super::values::{Name, Timeout};
use crate::decode::{Bool, Cx, Defs, ScalarOr, Shape, record, texts};
use crate::diagnostics::Diagnostic;
use crate::document::{CONNECT, DEFAULT, DISCONNECT, SocketRoute, WebSocket};
use crate::span::Spanned;
use crate::values::Selection;
use crate::yaml::{Kind, Node};
use serde_json::{Value, json};

/// Of a route's key (reference: Amazon API Gateway, `RouteKey`).
const KEY_BYTES_MAX: usize = 128;

texts! {
    /// A path into a message that is JSON, as AWS writes it: `$request.body.action`.
    SelectionText => Selection, Selection::parse, "a selection such as `$request.body.action`", "^\\$(request\\.body\\.[^{}]+|\\{request\\.body\\.[^{}]+\\})$";
}

record! {
    /// A function that answers messages.
    "a route of `websocket`" => SocketRoute {
        /// The function's name.
        function: Spanned<Name> = required,
        /// The body of its result goes back to the client.
        respond: Bool = "false",
    }
}

record! {
    /// Clients that stay, and functions that answer what they say.
    "`websocket`" => WebSocket {
        /// Where a message says which of the routes is its.
        select: SelectionText = "$request.body.action",
        /// Functions by what messages say; `$connect` before a client is accepted, `$disconnect` after it went, `$default` for messages
        /// that have no route.
        routes: SocketRoutes = required,
        /// Nothing said either way for so long ends a connection.
        idle: Timeout = "10min",
        /// No connection lives longer.
        lifetime: Timeout = "2h",
        /// Messages may be bytes that are no text; functions get them as base64.
        binary: Bool = "false",
    }
}

/// A function's name alone.
pub(crate) struct SocketRouteShort;

impl Shape for SocketRouteShort {
    type Out = SocketRoute;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<SocketRoute> {
        Spanned::<Name>::decode(node, cx).map(|function| SocketRoute { function, respond: false })
    }

    fn schema(defs: &mut Defs) -> Value {
        Name::schema(defs)
    }
}

type SocketRouteForm = ScalarOr<SocketRouteShort, SocketRoute>;

/// Route keys to functions, in the order of the file.
pub(crate) struct SocketRoutes;

impl Shape for SocketRoutes {
    type Out = Vec<(Spanned<String>, SocketRoute)>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let Kind::Mapping(entries) = &node.kind else {
            cx.expected(node, "a mapping of routes such as `$default: NAME`");
            return None;
        };
        if entries.is_empty() {
            cx.error("missing-key", node.span, "a WebSocket needs a function that is told of it", "add `$default: NAME`");
        }
        let mut routes = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let Some(route) = SocketRouteForm::decode(node, cx) else { continue };
            let key = Spanned::new(key.value.clone(), key.span);
            check_key(&key, cx);
            check_respond(&key, &route, node, cx);
            routes.push((key, route));
        }
        Some(routes)
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^([^$].{0,127}|\\$(connect|disconnect|default))$" },
            "additionalProperties": SocketRouteForm::schema(defs),
        })
    }
}

fn check_key(key: &Spanned<String>, cx: &mut Cx<'_>) {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let message = "what a message says to choose a route has 1 to 128 bytes";
        cx.error("bad-name", key.span, message, "write a word such as `join`");
    }
    if key.starts_with('$') && ![CONNECT, DISCONNECT, DEFAULT].contains(&key.as_str()) {
        let message = format!("`{}` is no route of a WebSocket", key.value);
        let hint = crate::decode::suggest(key, [CONNECT, DISCONNECT, DEFAULT], "those with `$` are");
        cx.push(Diagnostic::error("unknown-word", key.span, message).hint(hint));
    }
}

/// Whoever connects is answered by the handshake, and nobody hears what follows the end.
fn check_respond(key: &Spanned<String>, route: &SocketRoute, node: &Node, cx: &mut Cx<'_>) {
    if route.respond && [CONNECT, DISCONNECT].contains(&key.as_str()) {
        let span = node.get("respond").map_or(key.span, |node| node.span);
        let message = format!("`{}` answers no message, so nothing goes back", key.value);
        cx.error("contradiction", span, message, "remove `respond`");
    }
}
