//! WebSocket APIs: a route whose clients stay, and whose messages functions answer.

use crate::span::Spanned;
use crate::values::Selection;
use std::time::Duration;

/// Invoked before a connection is accepted, and may refuse it.
pub const CONNECT: &str = "$connect";
/// Invoked when a connection has ended.
pub const DISCONNECT: &str = "$disconnect";
/// Invoked for messages that have no route.
pub const DEFAULT: &str = "$default";

#[derive(Debug, Clone)]
pub struct WebSocket {
    /// Where a message says which of the routes is its.
    pub select: Selection,
    /// In the order of the file: `$connect`, `$disconnect`, `$default`, and what messages may say.
    pub routes: Vec<(Spanned<String>, SocketRoute)>,
    /// Nothing said either way for so long ends a connection.
    pub idle: Duration,
    pub lifetime: Duration,
    /// Whether messages may be bytes that are no text.
    pub binary: bool,
}

#[derive(Debug, Clone)]
pub struct SocketRoute {
    pub function: Spanned<String>,
    /// The body of its result goes back to the client.
    pub respond: bool,
}
