//! From nodes to values. A `Shape` is one form that a node may take: it decodes, and it writes its own JSON Schema, so that the two
//! cannot part. Complaints are gathered, and decoding goes on. Knows no key of the configuration: `language` declares those.

pub(crate) mod basic;
mod collections;
mod elsewhere;
mod outside;
pub(crate) mod record;
pub(crate) mod texts;

pub(crate) use basic::{Bool, FromZero, Json, UpTo, whole, whole_schema, words};
pub(crate) use collections::{HeaderMap, List, NamedMap, Null, OneOrMany, QueryMap, ScalarOr, Setting, check_name};
pub(crate) use outside::Outside;
#[cfg(test)]
pub(crate) use outside::PEM_BYTES_MAX;
pub(crate) use record::{Fields, record};
pub(crate) use texts::{named, text, texts};

use crate::diagnostics::{Diagnostic, Diagnostics, Files};
use crate::sources::Memory;
use crate::span::{Span, Spanned};
use crate::values::ValueError;
use crate::yaml::{Kind, Node, Scalar};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Named parts of the schema, in the order in which they were met.
pub(crate) type Defs = Map<String, Value>;

/// One form that a node may take.
pub(crate) trait Shape {
    type Out;

    /// `None` when it has complained.
    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out>;

    fn schema(defs: &mut Defs) -> Value;
}

/// What decoding gathers.
pub(crate) struct Cx<'a> {
    pub diagnostics: &'a mut Diagnostics,
    /// Secrets written out in the text, to be masked before anything is shown.
    pub plain_secrets: Vec<Span>,
    pub outside: Outside<'a>,
}

impl Cx<'_> {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Diagnostic::error(code, span, message).hint(hint));
    }

    /// "expected a duration such as `15s`, found a list".
    pub fn expected(&mut self, node: &Node, what: &str) {
        let (found, hint) = match &node.kind {
            Kind::Poisoned => return,
            Kind::Scalar(scalar) if scalar.is_null() => {
                ("nothing".to_owned(), Some("give it a value, or remove the key".to_owned()))
            }
            Kind::Scalar(scalar) => (format!("`{}`", scalar.shown()), None),
            Kind::Sequence(_) => ("a list".to_owned(), None),
            Kind::Mapping(entries) if !entries.is_empty() && entries.iter().all(|(_, value)| value.is_null()) => {
                ("a mapping".to_owned(), Some("quote a value that contains `{`, as in \"/orders/{id}\"".to_owned()))
            }
            Kind::Mapping(_) => ("a mapping".to_owned(), None),
        };
        let mut diagnostic = Diagnostic::error("wrong-kind", node.span, format!("expected {what}, found {found}"));
        diagnostic.hint = hint;
        self.push(diagnostic);
    }

    /// Whether a node is a mapping; if not, says which one is meant.
    pub fn is_mapping(&mut self, node: &Node, what: &str, hint: &str) -> bool {
        match &node.kind {
            Kind::Mapping(_) => true,
            Kind::Poisoned => false,
            Kind::Scalar(_) | Kind::Sequence(_) => {
                let found = match &node.kind {
                    Kind::Scalar(scalar) if !scalar.is_null() => format!("`{}`", scalar.shown()),
                    Kind::Scalar(_) => "nothing".to_owned(),
                    Kind::Sequence(_) | Kind::Mapping(_) | Kind::Poisoned => "a list".to_owned(),
                };
                self.error("wrong-kind", node.span, format!("expected {what}, a mapping, found {found}"), hint);
                false
            }
        }
    }

    /// A text that its parser refused. What came by `${}` is not repeated, nor what may be a secret.
    pub fn refused(&mut self, code: &'static str, node: &Node, scalar: &Scalar, what: &str, error: ValueError) {
        let mut diagnostic = match &scalar.origin {
            Some(origin) => Diagnostic::error(code, node.span, format!("the value of `{}` is not {what}", origin.written)),
            None if scalar.is_hidden => Diagnostic::error(code, node.span, format!("this is not {what}")),
            None => Diagnostic::error(code, node.span, error.message),
        };
        if scalar.origin.is_none() && !scalar.is_hidden {
            diagnostic.hint = error.hint;
        }
        self.push(diagnostic);
    }

    /// The scalar of a node that should be text; plain numbers and booleans are text here.
    pub fn scalar<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Scalar> {
        match &node.kind {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(scalar),
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Poisoned => {
                self.expected(node, what);
                None
            }
        }
    }
}

/// A record of defaults alone, for those that have one for each key.
pub(crate) fn default_of<S: Shape>() -> S::Out {
    let mut diagnostics = Diagnostics::new();
    let (sources, mut files, mut dependencies) = (Memory::default(), Files::new(), Vec::new());
    let outside = Outside::new(&sources, &mut files, Path::new(""), &mut dependencies);
    let mut cx = Cx { diagnostics: &mut diagnostics, plain_secrets: Vec::new(), outside };
    S::decode(&Node::empty_mapping(), &mut cx).expect("declared defaults decode: a test goes through them")
}

impl<S: Shape> Shape for Spanned<S> {
    type Out = Spanned<S::Out>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        S::decode(node, cx).map(|value| Spanned::new(value, node.span))
    }

    fn schema(defs: &mut Defs) -> Value {
        S::schema(defs)
    }
}

impl<S: Shape> Shape for Option<S> {
    type Out = Option<S::Out>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Self::Out> {
        S::decode(node, cx).map(Some)
    }

    fn schema(defs: &mut Defs) -> Value {
        S::schema(defs)
    }
}

/// Puts a schema under `$defs` once, and refers to it.
pub(crate) fn define(defs: &mut Defs, name: &str, make: impl FnOnce(&mut Defs) -> Value) -> Value {
    if !defs.contains_key(name) {
        // Taken first, so that its place in the file is where it is first met.
        defs.insert(name.to_owned(), Value::Null);
        let schema = make(defs);
        defs.insert(name.to_owned(), schema);
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// What may stand in for any value that has a form of its own.
pub(crate) fn or_reference(defs: &mut Defs, schema: Value) -> Value {
    let reference = define(defs, "Reference", |_| {
        json!({
            "description": "A value from elsewhere: `${env:NAME}` or `${file:path}`.",
            "type": "string",
            "pattern": r"\$\{(env|file):[^}]+\}",
        })
    });
    json!({ "anyOf": [schema, reference] })
}

/// Longer words are not compared: nobody mistypes them by a letter.
const WORD_BYTES_MAX: usize = 40;

/// The nearest of the known words, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let limit = (word.len() / 3).max(1);
    known
        .into_iter()
        .filter(|other| other.len().abs_diff(word.len()) <= limit)
        .map(|other| (distance(word.as_bytes(), other.as_bytes()), other))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Optimal string alignment: a swap of neighbours is one slip, not two. Case and `-` for `_` weigh nothing.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let fold = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = fold(a[i - 1]) == fold(b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + usize::from(!same));
            if i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// "did you mean `x`?", or the whole list where nothing is near.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone, noun: &str) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let list: Vec<String> = known.into_iter().map(|word| format!("`{word}`")).collect();
            format!("{noun}: {}", list.join(", "))
        }
    }
}
