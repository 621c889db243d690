//! `maitred check`: all that is wrong with a configuration, by the same reading and compiling that `run` does. Starts nothing.

use crate::cli::{Check, CheckFormat};
use crate::configuration::{Read, Source, compiled, read};
use crate::output::{Exit, count, in_color, json, print, say};
use maitred_control::functions::token::{self, Unusable, hosts_functions};
use maitred_dataplane::{Snapshot, State};
use maitred_model::{Diagnostic, Document, Files, Severity};
use serde_json::{Value, json};
use std::io;

pub fn main(arguments: &Check) -> anyhow::Result<Exit> {
    let source = Source::File(arguments.file.path().to_owned());
    let mut read = read(&source);
    let mut snapshot = compiled(&mut read, &State::new(1));
    if let Some(wrong) = snapshot.as_ref().and_then(|snapshot| unusable_token(&snapshot.document)) {
        read.diagnostics.push(wrong);
        snapshot = None;
    }
    match arguments.format {
        CheckFormat::Json => drop(json(&as_json(&read))?),
        CheckFormat::Text => {
            say(&read.render(in_color(&io::stderr())));
            if let Some(snapshot) = &snapshot {
                print(&format!("{}: ok, {}\n", source.name(), summary(snapshot)))?;
            }
        }
    }
    Ok(if snapshot.is_some() { Exit::Fine } else { Exit::Refused })
}

/// `12 routes in 2 APIs, 3 upstreams`, and functions where there are some.
pub fn summary(snapshot: &Snapshot) -> String {
    let document = &snapshot.document;
    let (routes, apis, upstreams) = (snapshot.routes().count(), document.apis.len(), document.upstreams.len());
    let functions = match document.functions.len() {
        0 => String::new(),
        functions => format!(", {}", count(functions, "function")),
    };
    format!("{} in {}, {}{functions}", count(routes, "route"), count(apis, "API"), count(upstreams, "upstream"))
}

/// The token that a start would use, where functions are hosted and the configuration has none. None is well: one is made.
fn unusable_token(document: &Document) -> Option<Diagnostic> {
    if document.admin.token.is_some() || !hosts_functions(document) {
        return None;
    }
    let Unusable { message, hint, .. } = token::read(&document.store).err().filter(|unusable| !unusable.is_denied)?;
    Some(Diagnostic::error("unusable-token", document.admin.listen.span, message).hint(hint))
}

fn as_json(read: &Read) -> Value {
    read.diagnostics.iter().map(|diagnostic| one(diagnostic, &read.files)).collect()
}

fn one(diagnostic: &Diagnostic, files: &Files) -> Value {
    let Diagnostic { code, severity, span, message, hint, also: _ } = diagnostic;
    let place = files.line_column(*span);
    json!({
        "code": code,
        "severity": match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "file": files.name(span.file).map(|name| name.display().to_string()),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "message": message,
        "hint": hint,
    })
}
