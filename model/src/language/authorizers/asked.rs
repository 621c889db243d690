//! Whom an authorizer asks: a URL of its own, or an upstream and the path there.

use super::super::endpoints::parse_endpoint;
use super::super::values::Name;
use crate::decode::{Cx, texts};
use crate::diagnostics::Diagnostic;
use crate::document::{Asked, Endpoint, ProxyTarget};
use crate::span::Spanned;
use crate::values::{ValueError, canonical_path};
use crate::yaml::Node;

texts! {
    /// A URL with its path, and a query if any, such as `https://id.example.com/introspect`.
    AskedUrl => (Endpoint, String), parse_url, "a URL such as `https://id.example.com/introspect`", "^https?://[^/?#]+([/?][^#]*)?$";
    /// A path, and a query if any, such as `/introspect`.
    AskedPath => String, parse_target, "a path such as `/introspect`", "^/[^#]*$";
}

fn parse_url(text: &str) -> Result<(Endpoint, String), ValueError> {
    if text.starts_with("unix:") {
        let hint = "give the socket a name under `upstreams`, and write `upstream: NAME` and `path: /check`";
        return Err(ValueError::new("a socket alone says no path").hint(hint));
    }
    let authority = text.find("://").map_or(0, |at| at + 3);
    let end = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
    let endpoint = parse_endpoint(&text[..end]).map_err(|error| {
        // What is proposed has the path too.
        let lacks_scheme = authority == 0 && parse_endpoint(&format!("http://{}", &text[..end])).is_ok();
        if lacks_scheme { error.hint(format!("write `http://{text}`")) } else { error }
    })?;
    let target = match &text[end..] {
        "" => "/".to_owned(),
        query if query.starts_with('?') => parse_target(&format!("/{query}"))?,
        rest => parse_target(rest)?,
    };
    Ok((endpoint, target))
}

fn parse_target(text: &str) -> Result<String, ValueError> {
    if text.contains('#') {
        return Err(ValueError::new("what is asked for has no fragment").hint("remove what follows the `#`"));
    }
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    if let Some(bad) = query.and_then(|query| query.chars().find(|letter| !letter.is_ascii_graphic())) {
        return Err(ValueError::new(format!("the query has {bad:?} in it")).hint("write it percent-encoded"));
    }
    let path = canonical_path(path)?;
    Ok(match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

/// Exactly one of the two. `key`: what the URL is called.
pub(super) fn asked(
    node: &Node,
    key: &str,
    url: Option<Spanned<(Endpoint, String)>>,
    upstream: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    cx: &mut Cx<'_>,
) -> Option<Spanned<Asked>> {
    match (url, upstream) {
        (Some(url), Some(upstream)) => {
            let message = format!("either `{key}` or `upstream` says whom to ask");
            let diagnostic = Diagnostic::error("contradiction", upstream.span, message).hint("remove one of them");
            cx.push(diagnostic.also(url.span, "the other stands here"));
            None
        }
        (Some(url), None) => {
            if let Some(path) = path {
                let message = format!("`path` goes with `upstream`; the URL of `{key}` has its own");
                cx.error("contradiction", path.span, message, "remove `path`");
            }
            let span = url.span;
            let (endpoint, target) = url.value;
            Some(Spanned::new(Asked { upstream: ProxyTarget::Url(endpoint), target }, span))
        }
        (None, Some(upstream)) => {
            let target = path.map_or_else(|| "/".to_owned(), |path| path.value);
            Some(Spanned::new(Asked { upstream: ProxyTarget::Named(upstream.value), target }, upstream.span))
        }
        (None, None) => {
            if node.get(key).is_none() && node.get("upstream").is_none() {
                let hint = format!("add `{key}: https://id.example.com/path`, or `upstream: NAME` and `path: /path`");
                cx.error("missing-key", node.span, format!("nothing says whom to ask: `{key}` is missing"), hint);
            }
            None
        }
    }
}

/// The name of an upstream, as a shape of its own.
pub(super) type UpstreamName = Name;
