//! Records: mappings with known keys. The macro `record!` is the one declaration from which decoder and schema come; a field's doc
//! comment is its description, and its default is written as a user would write it.

use super::{Cx, Defs, Shape, elsewhere, nearest, suggest};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::secrets;
use crate::span::{FileId, Span};
use crate::yaml::{self, Entry, Kind, Node};
use serde_json::{Value, json};

/// The mapping of a record while its fields are taken out of it.
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    span: Span,
    known: &'n [&'static str],
    what: &'static str,
}

impl<'n> Fields<'n> {
    /// Complains about keys that are not known, and goes on with those that are.
    pub fn open(node: &'n Node, known: &'n [&'static str], what: &'static str, cx: &mut Cx<'_>) -> Option<Fields<'n>> {
        let Kind::Mapping(entries) = &node.kind else {
            cx.expected(node, &format!("{what}, a mapping"));
            return None;
        };
        for (key, value) in entries {
            if !known.contains(&key.value.as_str()) {
                let message = format!("unknown key `{}` in {what}", key.value);
                let hint = match elsewhere::key(&key.value, known) {
                    Some(hint) => hint.to_owned(),
                    None => suggest(&key.value, known.iter().copied(), "the keys here are"),
                };
                cx.error("unknown-key", key.span, message, hint);
                // It may be a misspelled one.
                if secrets::are_beside_secrets(known) {
                    secrets::below(value, &mut cx.plain_secrets);
                }
            }
        }
        Some(Fields { entries, span: node.span, known, what })
    }

    fn find(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node)
    }

    /// A key that is not known here, where `key` is meant.
    fn stands_for(&self, other: &str, key: &str) -> bool {
        !self.known.contains(&other) && (nearest(other, [key]).is_some() || elsewhere::stands_for(other, key))
    }

    pub fn required<S: Shape>(&self, key: &str, cx: &mut Cx<'_>) -> Option<S::Out> {
        self.demanded::<S>(key, &format!("add `{key}: …`"), cx)
    }

    /// `hint`: what to type where it is missing.
    fn demanded<S: Shape>(&self, key: &str, hint: &str, cx: &mut Cx<'_>) -> Option<S::Out> {
        match self.find(key) {
            Some(node) => S::decode(node, cx),
            // Its misspelling has been complained about, with the right spelling.
            None if self.entries.iter().any(|(name, _)| self.stands_for(&name.value, key)) => None,
            None => {
                let message = format!("{} needs the key `{key}`", self.what);
                cx.push(Diagnostic::error("missing-key", self.span, message).hint(hint));
                None
            }
        }
    }

    /// A field that may be left out. A wrong one counts as left out, so that the rest is still checked.
    pub fn optional<S: Shape>(&self, key: &str, cx: &mut Cx<'_>) -> S::Out
    where
        S::Out: Default,
    {
        self.find(key).and_then(|node| S::decode(node, cx)).unwrap_or_default()
    }

    /// A field that must be there, but whose wrong parts may be left out.
    pub fn needed<S: Shape>(&self, key: &str, cx: &mut Cx<'_>) -> S::Out
    where
        S::Out: Default,
    {
        self.required::<S>(key, cx).unwrap_or_default()
    }

    /// The same, with words of its own for who forgot it.
    pub fn needed_or<S: Shape>(&self, key: &str, hint: &str, cx: &mut Cx<'_>) -> S::Out
    where
        S::Out: Default,
    {
        self.demanded::<S>(key, hint, cx).unwrap_or_default()
    }

    pub fn defaulted<S: Shape>(&self, key: &str, default: &str, cx: &mut Cx<'_>) -> Option<S::Out> {
        let written = self.find(key).and_then(|node| S::decode(node, cx));
        written.or_else(|| S::decode(&default_node(default), cx))
    }
}

/// A default as a node. Scalars, which nearly all are, skip the parser.
pub(crate) fn default_node(default: &str) -> Node {
    if !default.starts_with(['[', '{']) {
        return Node::scalar(default);
    }
    let mut none = Diagnostics::new();
    let mut node = yaml::parse(default, FileId::NONE, &mut none).unwrap_or_else(Node::empty_mapping);
    node.span = Span::none();
    node
}

/// The schema of one field: its shape's, with its own description and default.
pub(crate) fn field_schema(shape: Value, doc: &[&str], default: Option<&str>) -> Value {
    let mut schema = match shape {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => serde_json::Map::new(),
    };
    let description = text_of(doc);
    if !description.is_empty() {
        schema.insert("description".to_owned(), Value::String(description));
    }
    if let Some(default) = default {
        schema.insert("default".to_owned(), super::basic::to_json(&default_node(default)));
    }
    Value::Object(schema)
}

/// Doc lines as one text.
pub(crate) fn text_of(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// The schema of a record from those of its fields.
pub(crate) fn record_schema(doc: &[&str], properties: Vec<(&str, Value)>, required: &[bool]) -> Value {
    let required: Vec<&str> =
        properties.iter().zip(required).filter(|(_, required)| **required).map(|((key, _), _)| *key).collect();
    let properties: Defs = properties.into_iter().map(|(key, schema)| (key.to_owned(), schema)).collect();
    let mut schema =
        json!({ "description": text_of(doc), "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// ```text
/// record! {
///     /// Description.
///     "the limits" => Limits {              // fills a type of the document; `struct Raw` also declares it
///         /// Description.
///         field as "key": Shape = mode,     // required | needed (if wrong, Default) | (needed "hint if missing") | absent (Default) | empty (as if `{}`) | "a default as written"
///     }
/// }
/// ```
macro_rules! record {
    ($(#[doc = $doc:literal])* $what:literal => struct $name:ident {
        $($(#[doc = $fdoc:literal])* $field:ident $(as $key:literal)? : $shape:ty = $mode:tt,)*
    }) => {
        pub(crate) struct $name {
            $(pub(crate) $field: <$shape as $crate::decode::Shape>::Out,)*
        }
        $crate::decode::record! {
            $(#[doc = $doc])* $what => $name { $($(#[doc = $fdoc])* $field $(as $key)? : $shape = $mode,)* }
        }
    };
    ($(#[doc = $doc:literal])* $what:literal => $name:ident {
        $($(#[doc = $fdoc:literal])* $field:ident $(as $key:literal)? : $shape:ty = $mode:tt,)*
    }) => {
        impl $name {
            pub(crate) const KEYS: &[&str] = &[$($crate::decode::record!(@key $field $($key)?)),*];
        }

        impl $crate::decode::Shape for $name {
            type Out = $name;

            fn decode(node: &$crate::yaml::Node, cx: &mut $crate::decode::Cx<'_>) -> Option<$name> {
                let fields = $crate::decode::Fields::open(node, $name::KEYS, $what, cx)?;
                $(let $field = $crate::decode::record!(@take fields, $crate::decode::record!(@key $field $($key)?), $shape, cx, $mode);)*
                Some($name { $($field: $field?,)* })
            }

            fn schema(defs: &mut $crate::decode::Defs) -> serde_json::Value {
                $crate::decode::define(defs, stringify!($name).trim_start_matches("Raw"), |defs| {
                    let properties = vec![$((
                        $crate::decode::record!(@key $field $($key)?),
                        $crate::decode::record::field_schema(
                            <$shape as $crate::decode::Shape>::schema(defs),
                            &[$($fdoc),*],
                            $crate::decode::record!(@default $mode),
                        ),
                    )),*];
                    let required = [$($crate::decode::record!(@required $mode)),*];
                    $crate::decode::record::record_schema(&[$($doc),*], properties, &required)
                })
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@take $fields:ident, $key:expr, $shape:ty, $cx:ident, required) => { $fields.required::<$shape>($key, $cx) };
    (@take $fields:ident, $key:expr, $shape:ty, $cx:ident, needed) => { Some($fields.needed::<$shape>($key, $cx)) };
    (@take $fields:ident, $key:expr, $shape:ty, $cx:ident, (needed $hint:literal)) => {
        Some($fields.needed_or::<$shape>($key, $hint, $cx))
    };
    (@take $fields:ident, $key:expr, $shape:ty, $cx:ident, absent) => { Some($fields.optional::<$shape>($key, $cx)) };
    (@take $fields:ident, $key:expr, $shape:ty, $cx:ident, empty) => { $fields.defaulted::<$shape>($key, "{}", $cx) };
    (@take $fields:ident, $key:expr, $shape:ty, $cx:ident, $default:literal) => { $fields.defaulted::<$shape>($key, $default, $cx) };
    (@default required) => { None };
    (@default needed) => { None };
    (@default (needed $hint:literal)) => { None };
    (@default absent) => { None };
    (@default empty) => { None };
    (@default $default:literal) => { Some($default) };
    (@required required) => { true };
    (@required needed) => { true };
    (@required (needed $hint:literal)) => { true };
    (@required $mode:tt) => { false };
}

pub(crate) use record;
