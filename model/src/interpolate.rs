//! Puts in the values that `${env:NAME}` and `${file:path}` name, before anything is decoded. Remembers what the user wrote, so that a
//! value from elsewhere is never printed. Reads through `Sources` only.

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::sources::Sources;
use crate::span::Span;
use crate::yaml::{Kind, Node, Origin, Scalar};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Bytes of a file named by `${file:}`. A value in a configuration is a key or a certificate, not a data set.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

pub(crate) struct Interpolation<'a> {
    pub sources: &'a dyn Sources,
    pub diagnostics: &'a mut Diagnostics,
    pub dependencies: &'a mut Vec<PathBuf>,
    /// Scalars that hold a value from elsewhere.
    pub tainted: &'a mut HashSet<Span>,
    /// Each file is read once a load, so that two places never see two contents.
    pub read: &'a mut HashMap<PathBuf, Result<String, String>>,
    /// The text and the folder of the file being walked.
    pub text: &'a str,
    pub folder: &'a Path,
}

/// What stands between `${` and `}`.
enum Piece<'t> {
    Literal(&'t str),
    Dollar,
    Reference { whole: &'t str, inner: &'t str },
    Unclosed,
}

impl Interpolation<'_> {
    pub fn walk(&mut self, node: &mut Node) {
        match &mut node.kind {
            Kind::Scalar(scalar) => {
                if scalar.text.contains("${") && !self.scalar(scalar, node.span) {
                    node.kind = Kind::Poisoned;
                }
            }
            Kind::Sequence(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Kind::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| self.walk(value)),
            Kind::Poisoned => {}
        }
    }

    /// Whether every reference was found.
    fn scalar(&mut self, scalar: &mut Scalar, span: Span) -> bool {
        let mut text = String::new();
        let mut braced = String::new();
        let (mut good, mut referred, mut cursor) = (true, false, span.start);
        for piece in pieces(&scalar.text) {
            match piece {
                Piece::Literal(literal) => {
                    text.push_str(literal);
                    braced.push_str(literal);
                }
                Piece::Dollar => {
                    text.push_str("${");
                    braced.push_str("${");
                }
                Piece::Reference { whole, inner } => {
                    let place = self.locate(whole, span, &mut cursor);
                    match self.resolve(inner, place) {
                        Some(value) => {
                            braced.push_str(&value.replace('{', "{{").replace('}', "}}"));
                            text.push_str(&value);
                            referred = true;
                        }
                        None => good = false,
                    }
                }
                Piece::Unclosed => {
                    let diagnostic = Diagnostic::error("bad-reference", span, "a `${` is never closed");
                    self.diagnostics.push(diagnostic.hint("write `${env:NAME}`, or `$${` for the text itself"));
                    good = false;
                }
            }
        }
        let written = std::mem::replace(&mut scalar.text, text);
        if referred {
            self.tainted.insert(span);
            scalar.origin = Some(Box::new(Origin { written, braced }));
        }
        good
    }

    /// Where in the file a reference stands: the scalar's text is not its source where there are escapes.
    fn locate(&self, whole: &str, span: Span, cursor: &mut u32) -> Span {
        let found = self.text.get(*cursor as usize..span.end as usize).and_then(|rest| rest.find(whole));
        match found {
            Some(at) => {
                let start = *cursor + at as u32;
                *cursor = start + whole.len() as u32;
                Span::new(span.file, start, *cursor)
            }
            None => span,
        }
    }

    fn resolve(&mut self, inner: &str, span: Span) -> Option<String> {
        let found = match inner.split_once(':') {
            Some(("env", name)) if !name.is_empty() => self.env(name),
            Some(("file", path)) if !path.is_empty() => self.file(path),
            Some(("stage", _)) => {
                Err(("stage variables need `stages`, which this version does not have".to_owned(), "remove it".to_owned()))
            }
            Some((kind, _)) if kind != "env" && kind != "file" => {
                Err((format!("`${{{kind}:…}}` is not known"), "known are `${env:NAME}` and `${file:path}`".to_owned()))
            }
            Some((kind, _)) => Err((format!("`${{{kind}:}}` names nothing"), "write `${env:NAME}` or `${file:path}`".to_owned())),
            None => Err((format!("`${{{inner}}}` says not where its value is"), format!("write `${{env:{inner}}}`"))),
        };
        match found {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.diagnostics.push(Diagnostic::error("bad-reference", span, message).hint(hint));
                None
            }
        }
    }

    fn env(&self, name: &str) -> Result<String, (String, String)> {
        self.sources.env(name).ok_or_else(|| {
            let message = format!("the environment variable `{name}` is not set");
            (message, format!("set it where the gateway is started: `{name}=… maitred run`"))
        })
    }

    fn file(&mut self, path: &str) -> Result<String, (String, String)> {
        let path = self.folder.join(path);
        if !self.read.contains_key(&path) {
            self.dependencies.push(path.clone());
            let value = read_value(self.sources, &path);
            self.read.insert(path.clone(), value);
        }
        match self.read.get(&path) {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(reason)) => {
                let message = format!("the file `{}` cannot be read: {reason}", path.display());
                Err((message, "a relative path is relative to the file that names it".to_owned()))
            }
            None => Err((format!("the file `{}` was not read", path.display()), "try again".to_owned())),
        }
    }
}

fn read_value(sources: &dyn Sources, path: &Path) -> Result<String, String> {
    let bytes = sources.read(path).map_err(|error| error.to_string())?;
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(format!("it is larger than {} MiB", VALUE_BYTES_MAX / 1024 / 1024));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    // Editors and `echo` end a file with a line break, which no secret holds.
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |rest| rest.strip_suffix('\r').unwrap_or(rest));
    Ok(trimmed.to_owned())
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix("$${") {
            rest = after;
            return Some(Piece::Dollar);
        }
        if let Some(after) = rest.strip_prefix("${") {
            let Some(end) = after.find('}') else {
                rest = "";
                return Some(Piece::Unclosed);
            };
            let whole = &rest[..end + 3];
            rest = &rest[end + 3..];
            return Some(Piece::Reference { whole, inner: &after[..end] });
        }
        let end = rest.find("${").map_or(rest.len(), |at| if rest[..at].ends_with('$') { at - 1 } else { at });
        let (literal, after) = rest.split_at(end);
        rest = after;
        Some(Piece::Literal(literal))
    })
}
