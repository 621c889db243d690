//! Lists, maps, and short forms, which are told apart by the kind of node alone.

use super::{Cx, Defs, Shape};
use crate::diagnostics::Diagnostic;
use crate::document;
use crate::span::{Span, Spanned};
use crate::values::HeaderName;
use crate::yaml::{Entry, Kind, Node};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::marker::PhantomData;

/// A list. What is wrong in it is dropped from it, having been complained about.
pub(crate) struct List<S>(PhantomData<S>);

impl<S: Shape> Shape for List<S> {
    type Out = Vec<S::Out>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        match &node.kind {
            Kind::Sequence(items) => {
                // Room for all at once: a list of routes is large, and growing would copy it again and again.
                let mut list = Vec::with_capacity(items.len());
                list.extend(items.iter().filter_map(|item| S::decode(item, cx)));
                Some(list)
            }
            Kind::Scalar(scalar) if !scalar.is_null() => {
                let message = format!("expected a list, found `{}`", scalar.shown());
                let one = if scalar.is_hidden { "\"${env:NAME}\"" } else { scalar.shown() };
                cx.error("wrong-kind", node.span, message, format!("write `[{one}]`"));
                None
            }
            Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned => {
                cx.expected(node, "a list");
                None
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "type": "array", "items": S::schema(defs) })
    }
}

/// One, or a list.
pub(crate) struct OneOrMany<S>(PhantomData<S>);

impl<S: Shape> Shape for OneOrMany<S> {
    type Out = Vec<S::Out>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        match &node.kind {
            Kind::Sequence(_) => List::<S>::decode(node, cx),
            Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned => S::decode(node, cx).map(|one| vec![one]),
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        let one = S::schema(defs);
        json!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A short form as text, or the long one as a mapping. Both come to the same.
pub(crate) struct ScalarOr<S, L>(PhantomData<(S, L)>);

impl<S: Shape, L: Shape<Out = S::Out>> Shape for ScalarOr<S, L> {
    type Out = S::Out;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        match &node.kind {
            // An unquoted `{id}` is a mapping to YAML, and text to whoever wrote it.
            Kind::Mapping(entries) if !entries.is_empty() && entries.iter().all(|(_, value)| value.is_null()) => {
                S::decode(node, cx)
            }
            Kind::Mapping(_) => L::decode(node, cx),
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned => S::decode(node, cx),
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "anyOf": [S::schema(defs), L::schema(defs)] })
    }
}

/// `none`, which drops what the API has, or a value.
pub(crate) struct Setting<S>(PhantomData<S>);

impl<S: Shape> Shape for Setting<S> {
    type Out = document::Setting<S::Out>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        match &node.kind {
            Kind::Scalar(scalar) if scalar.text == "none" => Some(document::Setting::None),
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Poisoned => {
                S::decode(node, cx).map(document::Setting::Some)
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "anyOf": [{ "const": "none" }, S::schema(defs)] })
    }
}

/// A map whose section may stand there empty, as one does while a file is being written.
pub(crate) struct Null<S>(PhantomData<S>);

impl<S: Shape> Shape for Null<S>
where
    S::Out: Default,
{
    type Out = S::Out;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        if node.is_null() { Some(S::Out::default()) } else { S::decode(node, cx) }
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "anyOf": [S::schema(defs), { "type": "null" }] })
    }
}

/// Bytes of a name.
const NAME_MAX: usize = 64;

/// Names of APIs, upstreams and routes: `[A-Za-z0-9_-]{1,64}`, so that they fit into paths, metric labels and commands.
pub(crate) fn check_name(name: &str) -> Result<(), (String, String)> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    if name.len() > NAME_MAX {
        return Err(("a name is longer than 64 characters".to_owned(), "shorten it".to_owned()));
    }
    if name.is_empty() {
        return Err(("a name is empty".to_owned(), "write a name such as `kitchen`".to_owned()));
    }
    let fixed: String = name.chars().map(|c| if c.is_ascii() && good(c as u8) { c } else { '-' }).collect();
    Err((format!("`{name}` is not a name"), format!("names have letters, digits, `-` and `_`: write `{fixed}`")))
}

/// Names to values, in the order of the file. A value's span is its name's.
pub(crate) struct NamedMap<S>(PhantomData<S>);

impl<S: Shape> Shape for NamedMap<S> {
    type Out = IndexMap<String, Spanned<S::Out>>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let entries = mapping(node, cx, "a mapping of names")?;
        let mut map = IndexMap::with_capacity(entries.len());
        for (key, node) in entries {
            if let Err((message, hint)) = check_name(&key.value) {
                cx.error("bad-name", key.span, message, hint);
            }
            if let Some(value) = S::decode(node, cx) {
                map.insert(key.value.clone(), Spanned::new(value, key.span));
            }
        }
        Some(map)
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,64}$" },
            "additionalProperties": S::schema(defs),
        })
    }
}

/// Header names to values. Names are compared without case, as HTTP does.
pub(crate) struct HeaderMap<S>(PhantomData<S>);

impl<S: Shape> Shape for HeaderMap<S> {
    type Out = Vec<(HeaderName, S::Out)>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let entries = mapping(node, cx, "a mapping of header names")?;
        let mut list: Vec<(HeaderName, S::Out)> = Vec::with_capacity(entries.len());
        let mut spans: IndexMap<HeaderName, Span> = IndexMap::new();
        for (key, node) in entries {
            let value = S::decode(node, cx);
            let name = match HeaderName::parse(&key.value) {
                Ok(name) => name,
                Err(error) => {
                    cx.push(Diagnostic { hint: error.hint, ..Diagnostic::error("bad-value", key.span, error.message) });
                    continue;
                }
            };
            if let Some(first) = spans.insert(name.clone(), key.span) {
                let message = format!("the header `{name}` stands twice; case makes no difference");
                cx.push(
                    Diagnostic::error("duplicate-key", key.span, message)
                        .hint("remove one of them")
                        .also(first, "first written here"),
                );
                continue;
            }
            list.extend(value.map(|value| (name, value)));
        }
        Some(list)
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$" },
            "additionalProperties": S::schema(defs),
        })
    }
}

/// Names of query parameters, any text, to values.
pub(crate) struct QueryMap<S>(PhantomData<S>);

impl<S: Shape> Shape for QueryMap<S> {
    type Out = Vec<(String, S::Out)>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        let entries = mapping(node, cx, "a mapping of query parameters")?;
        Some(entries.iter().filter_map(|(key, node)| Some((key.value.clone(), S::decode(node, cx)?))).collect())
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "type": "object", "additionalProperties": S::schema(defs) })
    }
}

fn mapping<'n>(node: &'n Node, cx: &mut Cx<'_>, what: &str) -> Option<&'n [Entry]> {
    match &node.kind {
        Kind::Mapping(entries) => Some(entries),
        Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned => {
            cx.expected(node, what);
            None
        }
    }
}
