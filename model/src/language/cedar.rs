//! `authorize.cedar`. Files are read and are texts; what they say is for who has Cedar.

use super::tls::file_path;
use super::values::Text;
use crate::decode::{Cx, Defs, OneOrMany, Shape, record, text, texts, words};
use crate::document::{Cedar, DecisionLog, TextFile};
use crate::sources::is_pattern;
use crate::span::Spanned;
use crate::values::{ActionName, EntityTemplate, ValueError, parse_entity_type};
use crate::yaml::{Node, Scalar};
use serde_json::Value;
use std::path::PathBuf;

/// Bytes of one file of policies, and of a schema.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a file of entities.
const ENTITIES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Files of policies that one route names.
const FILES_MAX: usize = 1_000;

const RELATIVE: &str = "a relative path is relative to the file that names it";

texts! {
    /// The name of a type, as in `User` or `Kitchen::User`.
    EntityType => String, parse_entity_type, "the name of a type such as `User`", "^[A-Za-z_]";
    /// An action of the schema: `GetOrder`, or `Kitchen::Action::"GetOrder"`.
    Action => ActionName, ActionName::parse, "an action such as `GetOrder`", "";
}

words! {
    /// Which decisions of policies are written to the log.
    DecisionLog {
        /// Those that refuse.
        Denied = "denied",
        /// All.
        All = "all",
        /// None.
        None = "none",
    }
}

/// `Order::"{id}"`
pub(crate) struct Resource;

impl Shape for Resource {
    type Out = EntityTemplate;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<EntityTemplate> {
        // What came by `${}` is text in it, also with braces.
        let parse = |scalar: &Scalar| -> Result<EntityTemplate, ValueError> {
            EntityTemplate::parse(scalar.origin.as_ref().map_or(&scalar.text, |origin| &origin.braced))
        };
        text(node, cx, "a resource such as `Order::\"{id}\"`", parse)
    }

    fn schema(defs: &mut Defs) -> Value {
        Text::schema(defs)
    }
}

/// A file, read as text.
pub(crate) struct File<const BYTES_MAX: usize>;

impl<const BYTES_MAX: usize> Shape for File<BYTES_MAX> {
    type Out = TextFile;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<TextFile> {
        let path = file_path(node, cx, "the path of a file")?;
        read(path, node, cx, BYTES_MAX)
    }

    fn schema(defs: &mut Defs) -> Value {
        Text::schema(defs)
    }
}

/// A file, or a pattern that names some.
pub(crate) struct Files;

impl Shape for Files {
    type Out = Vec<TextFile>;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Vec<TextFile>> {
        let pattern = file_path(node, cx, "the path of a file")?;
        if !is_pattern(&pattern.to_string_lossy()) {
            return read(pattern, node, cx, TEXT_BYTES_MAX).map(|file| vec![file]);
        }
        let shown = pattern.display();
        match cx.outside.find(&pattern) {
            // No policy permits nothing: whoever wrote this meant some.
            Ok(found) if found.is_empty() => {
                cx.error("unreadable", node.span, format!("`{shown}` names no file"), RELATIVE);
                None
            }
            Ok(found) if found.len() > FILES_MAX => {
                let message = format!("`{shown}` names more than {FILES_MAX} files");
                cx.error("unreadable", node.span, message, "put the policies into fewer files");
                None
            }
            // A policy that is not read might have been one that forbids: all of them, or none.
            Ok(found) => {
                let read: Vec<_> = found.into_iter().map(|path| read(path, node, cx, TEXT_BYTES_MAX)).collect();
                read.into_iter().collect()
            }
            Err(error) => {
                cx.error("unreadable", node.span, format!("`{shown}` cannot be searched: {error}"), RELATIVE);
                None
            }
        }
    }

    fn schema(defs: &mut Defs) -> Value {
        Text::schema(defs)
    }
}

fn read(path: PathBuf, node: &Node, cx: &mut Cx<'_>, bytes_max: usize) -> Option<TextFile> {
    match cx.outside.text(&path, bytes_max) {
        Ok((text, file)) => Some(TextFile { path, text, file }),
        Err(reason) => {
            let message = format!("the file `{}` cannot be read: {reason}", path.display());
            cx.error("unreadable", node.span, message, RELATIVE);
            None
        }
    }
}

record! {
    /// Policies in Cedar that must permit.
    "`cedar`" => struct RawCedar {
        /// Files of policies: one, a pattern such as `policies/*.cedar`, or a list of both.
        policies: OneOrMany<Files> = required,
        /// The file of the schema, in Cedar's own syntax. Policies are held against it when they are loaded, requests when they come.
        schema: File<TEXT_BYTES_MAX> = required,
        /// A file of entities that are always there, in Cedar's JSON.
        entities: Option<File<ENTITIES_BYTES_MAX>> = absent,
        /// The type of whoever makes a request; the subject is its id.
        principal: Spanned<EntityType> = "User",
        /// What a request does: `GetOrder`, or `Kitchen::Action::"GetOrder"`. Default: the route's name, or the method.
        action: Option<Spanned<Action>> = absent,
        /// What it does that to, with parameters of the path: `Order::"{id}"`. Default: `Route::"…"` with the route's name.
        resource: Option<Spanned<Resource>> = absent,
        /// Which decisions are written to the log.
        log: DecisionLog = "denied",
    }
}

pub(crate) struct CedarShape;

impl Shape for CedarShape {
    type Out = Cedar;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Cedar> {
        let RawCedar { policies, schema, entities, principal, action, resource, log } = RawCedar::decode(node, cx)?;
        let mut files: Vec<TextFile> = Vec::new();
        for file in policies.into_iter().flatten() {
            if files.iter().all(|known| known.path != file.path) {
                files.push(file);
            }
        }
        if files.is_empty() {
            // Those that cannot be read were complained about.
            if node
                .get("policies")
                .is_some_and(|list| matches!(&list.kind, crate::yaml::Kind::Sequence(items) if items.is_empty()))
            {
                cx.error("missing-value", node.span, "`cedar` names no policies", "name a file: `policies: policies/*.cedar`");
            }
            return None;
        }
        Some(Cedar { policies: files, schema, entities, principal, action, resource, log })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawCedar::schema(defs)
    }
}
