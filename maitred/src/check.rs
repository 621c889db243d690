//! `maitred check`: all that is wrong with a configuration, by the same reading and compiling that `run` does. Starts nothing.

use crate::cli::{Check, CheckFormat};
use crate::configuration::{Read, Source, compiled, read};
use crate::output::{Exit, count, in_color, json, print, say};
use maitred_dataplane::{Snapshot, State};
use maitred_model::{Diagnostic, Files, Severity};
use serde_json::{Value, json};
use std::io;

pub fn main(arguments: &Check) -> anyhow::Result<Exit> {
    let source = Source::File(arguments.file.path().to_owned());
    let mut read = read(&source);
    let snapshot = compiled(&mut read, &State::new(1));
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
