//! Texts with a form of their own: a parser, a name for what is expected, and a pattern for editors.

use super::{Cx, Defs, define, or_reference};
use crate::values::ValueError;
use crate::yaml::{Node, Scalar};
use serde_json::{Value, json};

/// `texts! { /// doc  Name => Out, parser, "what is expected", "pattern or empty"; }`.
macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident => $out:ty, $parse:expr, $what:literal, $pattern:literal;)*) => {$(
        pub(crate) struct $name;

        impl $crate::decode::Shape for $name {
            type Out = $out;

            fn decode(node: &$crate::yaml::Node, cx: &mut $crate::decode::Cx<'_>) -> Option<$out> {
                $crate::decode::texts::text(node, cx, $what, |scalar| $parse(&scalar.text))
            }

            fn schema(defs: &mut $crate::decode::Defs) -> serde_json::Value {
                $crate::decode::named(defs, stringify!($name), &[$($doc),*], $pattern)
            }
        }
    )*};
}

pub(crate) use texts;

pub(crate) fn text<T>(
    node: &Node,
    cx: &mut Cx<'_>,
    what: &str,
    parse: impl FnOnce(&Scalar) -> Result<T, ValueError>,
) -> Option<T> {
    let scalar = cx.scalar(node, what)?;
    match parse(scalar) {
        Ok(value) => Some(value),
        Err(error) => {
            cx.refused("bad-value", node, scalar, what, error);
            None
        }
    }
}

/// The schema of a text. Without a pattern it is free text, which YAML's plain numbers and booleans are too.
pub(crate) fn named(defs: &mut Defs, name: &str, doc: &[&str], pattern: &str) -> Value {
    define(defs, name, |defs| {
        let mut schema = if pattern.is_empty() {
            json!({ "type": ["string", "number", "boolean"] })
        } else {
            or_reference(defs, json!({ "type": "string", "pattern": pattern }))
        };
        schema["description"] = super::record::text_of(doc).into();
        schema
    })
}
