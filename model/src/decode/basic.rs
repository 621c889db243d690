//! Booleans, whole numbers, words of a fixed list, and free JSON.

use super::{Cx, Defs, Shape, or_reference};
use crate::diagnostics::Diagnostic;
use crate::yaml::{Kind, Node, Scalar};
use serde_json::{Value, json};
use std::num::{NonZeroU16, NonZeroU32};

/// `true` or `false`.
pub(crate) struct Bool;

impl Shape for Bool {
    type Out = bool;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<bool> {
        let scalar = cx.scalar(node, "`true` or `false`")?;
        let bare = !scalar.quoted || scalar.origin.is_some();
        match scalar.text.as_str() {
            "true" if bare => Some(true),
            "false" if bare => Some(false),
            _ => {
                let hint = if scalar.quoted { "type `true` or `false`, without quotes" } else { "type `true` or `false`" };
                cx.error("not-a-boolean", node.span, format!("`{}` is not a boolean", scalar.shown()), hint);
                None
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        or_reference(defs, json!({ "type": "boolean" }))
    }
}

/// A whole number within bounds.
pub(crate) fn whole(node: &Node, cx: &mut Cx<'_>, min: u64, max: u64) -> Option<u64> {
    let scalar = cx.scalar(node, "a number")?;
    let bare = !scalar.quoted || scalar.origin.is_some();
    let digits = !scalar.text.is_empty() && scalar.text.bytes().all(|byte| byte.is_ascii_digit());
    let octal = digits && scalar.text.len() > 1 && scalar.text.starts_with('0');
    let number = scalar.text.parse::<u64>().ok().filter(|_| digits && !octal);
    match number {
        Some(number) if bare && (min..=max).contains(&number) => Some(number),
        Some(number) if bare => {
            cx.error(
                "out-of-range",
                node.span,
                format!("{number} is out of range"),
                format!("write a number from {min} to {max}"),
            );
            None
        }
        Some(number) => {
            cx.error("not-a-number", node.span, "a number in quotes is text", format!("remove the quotes: `{number}`"));
            None
        }
        None if digits && !octal => {
            cx.error(
                "out-of-range",
                node.span,
                format!("`{}` is out of range", scalar.shown()),
                format!("write a number from {min} to {max}"),
            );
            None
        }
        None => {
            let message = format!("`{}` is not a whole number", scalar.shown());
            cx.error("not-a-number", node.span, message, format!("write a number from {min} to {max}"));
            None
        }
    }
}

pub(crate) fn whole_schema(defs: &mut Defs, min: u64, max: u64) -> Value {
    or_reference(defs, json!({ "type": "integer", "minimum": min, "maximum": max }))
}

macro_rules! non_zero {
    ($($type:ty, $plain:ty;)*) => {$(
        impl Shape for $type {
            type Out = $type;

            fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<$type> {
                let number = whole(node, cx, 1, <$plain>::MAX.into())?;
                <$plain>::try_from(number).ok().and_then(<$type>::new)
            }

            fn schema(defs: &mut Defs) -> Value {
                whole_schema(defs, 1, <$plain>::MAX.into())
            }
        }
    )*};
}

non_zero! { NonZeroU16, u16; NonZeroU32, u32; }

/// A whole number from 1 to `MAX`.
pub(crate) struct UpTo<const MAX: u32>;

impl<const MAX: u32> Shape for UpTo<MAX> {
    type Out = NonZeroU32;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<NonZeroU32> {
        whole(node, cx, 1, MAX.into()).and_then(|number| NonZeroU32::new(number as u32))
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 1, MAX.into())
    }
}

/// A whole number from 0 to `MAX`.
pub(crate) struct FromZero<const MAX: u32>;

impl<const MAX: u32> Shape for FromZero<MAX> {
    type Out = u32;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<u32> {
        whole(node, cx, 0, MAX.into()).map(|number| number as u32)
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 0, MAX.into())
    }
}

/// A closed list of words: `words! { /// doc  Underscores { /// doc  Drop = "drop", } }`.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $wdoc:literal])* $variant:ident = $word:literal,)* }) => {
        impl $crate::decode::Shape for $name {
            type Out = $name;

            fn decode(node: &$crate::yaml::Node, cx: &mut $crate::decode::Cx<'_>) -> Option<$name> {
                const WORDS: &[&str] = &[$($word),*];
                match $crate::decode::basic::word(node, cx, WORDS)? {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }

            fn schema(defs: &mut $crate::decode::Defs) -> serde_json::Value {
                $crate::decode::define(defs, stringify!($name), |defs| {
                    let choices = vec![$($crate::decode::basic::choice($word, &[$($wdoc),*])),*];
                    let mut schema = $crate::decode::or_reference(defs, serde_json::json!({ "oneOf": choices }));
                    schema["description"] = $crate::decode::record::text_of(&[$($doc),*]).into();
                    schema
                })
            }
        }
    };
}

pub(crate) use words;

pub(crate) fn word<'n>(node: &'n Node, cx: &mut Cx<'_>, words: &'static [&'static str]) -> Option<&'n str> {
    let list: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    let scalar = cx.scalar(node, &list.join(" or "))?;
    if words.contains(&scalar.text.as_str()) {
        return Some(&scalar.text);
    }
    let message = format!("`{}` is not known here", scalar.shown());
    let hint = match (super::elsewhere::word(scalar.shown(), words), words) {
        (Some(hint), _) => hint.to_owned(),
        (None, [only]) => format!("write `{only}`, the only one in this version"),
        (None, _) => super::suggest(scalar.shown(), words.iter().copied(), "write one of"),
    };
    cx.push(Diagnostic::error("unknown-word", node.span, message).hint(hint));
    None
}

pub(crate) fn choice(word: &str, doc: &[&str]) -> Value {
    let description = super::record::text_of(doc);
    if description.is_empty() { json!({ "const": word }) } else { json!({ "const": word, "description": description }) }
}

/// Anything, as JSON.
pub(crate) struct Json;

impl Shape for Json {
    type Out = Value;

    fn decode(node: &Node, _: &mut Cx<'_>) -> Option<Value> {
        match &node.kind {
            Kind::Poisoned => None,
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Mapping(_) => Some(to_json(node)),
        }
    }

    fn schema(_: &mut Defs) -> Value {
        json!({})
    }
}

/// A node as JSON, scalars read by YAML's core schema. What came by `${}` is text.
pub(crate) fn to_json(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar(scalar) => scalar_to_json(scalar),
        Kind::Sequence(items) => items.iter().map(to_json).collect(),
        Kind::Mapping(entries) => entries.iter().map(|(key, value)| (key.value.clone(), to_json(value))).collect(),
        Kind::Poisoned => Value::Null,
    }
}

fn scalar_to_json(scalar: &Scalar) -> Value {
    let text = scalar.text.as_str();
    if scalar.quoted || scalar.origin.is_some() {
        return Value::String(text.to_owned());
    }
    if scalar.is_null() {
        return Value::Null;
    }
    match text {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    // JSON's own grammar of numbers: `0x10`, `1_000` and `.inf` are text.
    match serde_json::from_str::<Value>(text) {
        Ok(number @ Value::Number(_)) => number,
        Ok(_) | Err(_) => Value::String(text.to_owned()),
    }
}
