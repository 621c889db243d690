//! URLs that are asked for what decides who comes in: an issuer's keys, an issuer, a provider of logins. Asks nobody.

use crate::decode::{Cx, Defs, Shape, named};
use crate::diagnostics::Diagnostic;
use crate::yaml::Node;
use serde_json::Value;

/// For what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its keys are there.
    Keys,
    /// They are found by what is below it.
    Issuer,
    /// People log in there.
    Provider,
}

/// The URL of an issuer, exactly as its tokens say it.
pub(super) struct IssuerUrl;

impl Shape for IssuerUrl {
    type Out = String;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<String> {
        url(node, Asked::Provider, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        named(defs, "IssuerUrl", &["The URL of an issuer, exactly as its tokens say it."], "^https?://[^/?#]+")
    }
}

/// `None`: it was complained about. What came by `${}` is not repeated.
pub(super) fn url(node: &Node, asked: Asked, cx: &mut Cx<'_>) -> Option<String> {
    let scalar = cx.scalar(node, "a URL such as `https://id.example.com/`")?;
    let (text, shown) = (&scalar.text, scalar.shown());
    match host(text, shown, asked) {
        Ok(host) => {
            if text.starts_with("http://") && !is_here(host) {
                let message = match asked {
                    Asked::Keys | Asked::Issuer => {
                        "keys come over plain http: whoever is on the way can put others in their place"
                    }
                    Asked::Provider => "people log in over plain http: whoever is on the way can log in as any of them",
                };
                cx.push(Diagnostic::warning("plain-http", node.span, message).hint("write `https://`"));
            }
            Some(text.clone())
        }
        Err((message, hint)) => {
            cx.error("bad-value", node.span, message, hint);
            None
        }
    }
}

/// Its host and port. `Err`: what is wrong, and what to write.
fn host<'t>(text: &'t str, shown: &str, asked: Asked) -> Result<&'t str, (String, &'static str)> {
    let Some(("http" | "https", rest)) = text.split_once("://") else {
        return Err(match asked {
            Asked::Keys | Asked::Issuer => (
                format!("`{shown}` is not a URL, and keys are to be found there"),
                "write `https://id.example.com/`, or add `jwks:` with a URL or a file",
            ),
            Asked::Provider => (format!("`{shown}` is not a URL"), "write `https://id.example.com/`"),
        });
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let may_have_query = match asked {
        Asked::Keys => true,
        Asked::Issuer | Asked::Provider => false,
    };
    if host.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let example = if may_have_query { "write `https://id.example.com/keys`" } else { "write `https://id.example.com/`" };
        return Err((format!("`{shown}` is not a URL"), example));
    }
    if host.contains('@') {
        return Err(("the URL has a user in it".to_owned(), "take out what stands before the `@`"));
    }
    if text.contains('#') || (!may_have_query && text.contains('?')) {
        return Err((format!("`{shown}` has a query or a fragment"), "take it out"));
    }
    Ok(host)
}

/// This machine, where nobody is on the way.
fn is_here(host: &str) -> bool {
    host.starts_with("127.") || host.starts_with("[::1]") || host == "localhost" || host.starts_with("localhost:")
}
