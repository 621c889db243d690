//! What is wrong with a configuration, and how it is shown: file, line, the line itself, and what to type instead. Always a list;
//! never a reason to stop at the first.

use crate::span::{FileId, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};
use std::path::{Path, PathBuf};

/// More are counted and not shown: nobody reads them, and one slip in a generated file makes a hundred thousand.
const SHOWN_MAX: usize = 200;

/// A longer line is shown in part: bytes on each side of what it is about.
const LINE_CONTEXT_MAX: usize = 240;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One problem. Never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable, lower case with dashes: tests and editors may rely on it.
    pub code: &'static str,
    pub severity: Severity,
    pub span: Span,
    /// What is wrong: lower case, no trailing dot.
    pub message: String,
    /// What to type instead.
    pub hint: Option<String>,
    /// Other places that matter, each with its label.
    pub also: Vec<(Span, String)>,
}

impl Diagnostic {
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, severity: Severity::Error, span, message: message.into(), hint: None, also: Vec::new() }
    }

    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, span, message) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    fn quote(&mut self) {
        self.message = "this cannot stand without quotes".to_owned();
        self.hint = Some("quote it, or write `${env:NAME}` or `${file:path}`".to_owned());
    }

    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.also.push((span, label.into()));
        self
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    pub fn extend(&mut self, others: Diagnostics) {
        self.list.extend(others.list);
    }

    /// What was said, since there were `from` of them, about the place of a secret: the words may not repeat it.
    pub(crate) fn hush(&mut self, from: usize, secrets: &[Span]) {
        let touches = |span: Span, secret: &Span| secret.file == span.file && secret.start < span.end && span.start < secret.end;
        for diagnostic in self.list.iter_mut().skip(from) {
            if !secrets.iter().any(|secret| touches(diagnostic.span, secret)) {
                continue;
            }
            let repeats = diagnostic.hint.as_ref().is_some_and(|hint| hint.starts_with("quote it: "));
            match diagnostic.code {
                "duplicate-key" => diagnostic.message = "a key stands twice".to_owned(),
                "yaml-alias" | "yaml-boolean" | "yaml-key" => diagnostic.quote(),
                // Of others the words are fixed, but for a character.
                _ if repeats => diagnostic.quote(),
                _ => {}
            }
        }
    }

    /// In the order of the text, so that a reader fixes a file from top to bottom.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|diagnostic| diagnostic.span);
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The files of one load: names and texts, for showing.
#[derive(Debug, Clone, Default)]
pub struct Files {
    list: Vec<File>,
}

#[derive(Debug, Clone)]
struct File {
    name: PathBuf,
    text: String,
    /// The offset at which each line starts.
    lines: Vec<u32>,
}

/// Both from 1; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineColumn {
    pub line: u32,
    pub column: u32,
}

impl Files {
    pub fn new() -> Files {
        Files::default()
    }

    pub fn add(&mut self, name: impl Into<PathBuf>, text: impl Into<String>) -> FileId {
        let text = text.into();
        let mut lines = vec![0];
        lines.extend(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at as u32 + 1));
        self.list.push(File { name: name.into(), text, lines });
        FileId(self.list.len() as u32 - 1)
    }

    pub fn name(&self, file: FileId) -> Option<&Path> {
        self.get(file).map(|file| file.name.as_path())
    }

    pub fn text(&self, file: FileId) -> Option<&str> {
        self.get(file).map(|file| file.text.as_str())
    }

    /// The text that a span covers.
    pub fn slice(&self, span: Span) -> Option<&str> {
        self.text(span.file)?.get(span.start as usize..span.end as usize)
    }

    /// Where a span starts; `None` for built-in values.
    pub fn line_column(&self, span: Span) -> Option<LineColumn> {
        let file = self.get(span.file)?;
        let at = file.floor(span.start);
        let line = file.line_of(at);
        let start = file.lines[line] as usize;
        let column = file.text.get(start..at).map_or(0, |before| before.chars().count());
        Some(LineColumn { line: line as u32 + 1, column: column as u32 + 1 })
    }

    /// `gateway.yaml:3:9`, or nothing for built-in values.
    pub fn place(&self, span: Span) -> Option<String> {
        let LineColumn { line, column } = self.line_column(span)?;
        Some(format!("{}:{line}:{column}", self.name(span.file)?.display()))
    }

    /// Writes stars over a secret, so that no rendering can show it.
    pub(crate) fn mask(&mut self, span: Span) {
        let Some(file) = self.list.get_mut(span.file.0 as usize) else { return };
        let (start, end) = (span.start as usize, span.end as usize);
        let Some(secret) = file.text.get(start..end) else { return };
        // A block of text ends where the next key begins, whose indentation tells nothing.
        let secret = secret.trim_end_matches(' ');
        let end = start + secret.len();
        let stars: String = secret.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
        file.text.replace_range(start..end, &stars);
    }

    fn get(&self, file: FileId) -> Option<&File> {
        self.list.get(file.0 as usize)
    }
}

impl File {
    /// The nearest character boundary at or before an offset.
    fn floor(&self, offset: u32) -> usize {
        floor_boundary(&self.text, offset as usize)
    }

    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start as usize <= at).saturating_sub(1)
    }

    /// The line around an offset, without its line break: (offset of its start, text).
    fn line_text(&self, line: usize) -> (usize, &str) {
        let start = self.lines[line] as usize;
        let end = self.lines.get(line + 1).map_or(self.text.len(), |next| *next as usize);
        (start, self.text[start..end].trim_end_matches(['\n', '\r']))
    }
}

/// All of them, as a terminal shows them. Ends with a line that counts them, unless there are none.
pub fn render(diagnostics: &Diagnostics, files: &Files, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        out.push_str(&render_one(&renderer, diagnostic, files));
        out.push_str("\n\n");
    }
    if diagnostics.len() > SHOWN_MAX {
        out.push_str(&format!("… and {} more\n\n", diagnostics.len() - SHOWN_MAX));
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let warnings = diagnostics.len() - errors;
    match (errors, warnings) {
        (0, 0) => {}
        (_, 0) => out.push_str(&format!("{}\n", count(errors, "error"))),
        (0, _) => out.push_str(&format!("{}\n", count(warnings, "warning"))),
        (_, _) => out.push_str(&format!("{}, {}\n", count(errors, "error"), count(warnings, "warning"))),
    }
    out
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn render_one(renderer: &Renderer, diagnostic: &Diagnostic, files: &Files) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message).id(diagnostic.code));
    let places = std::iter::once((diagnostic.span, "", AnnotationKind::Primary))
        .chain(diagnostic.also.iter().map(|(span, label)| (*span, label.as_str(), AnnotationKind::Context)));
    for (span, label, kind) in places {
        group = add_place(group, files, span, label, kind);
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(normalize_untrusted_str(hint)));
    }
    renderer.render(&[group])
}

fn add_place<'a>(group: Group<'a>, files: &'a Files, span: Span, label: &'a str, kind: AnnotationKind) -> Group<'a> {
    let Some(file) = files.get(span.file) else { return group };
    let at = file.floor(span.start);
    let line = file.line_of(at);
    let (line_start, text) = file.line_text(line);
    let from = (at - line_start).min(text.len());
    // A span over several lines is shown by its first: the rest is what the user knows anyway.
    let to = (file.floor(span.end).max(at) - line_start).min(text.len()).max(from);
    let (window, shift) = window(text, from);
    let to = floor_boundary(text, to.min(shift + window.len()));
    let path = if shift == 0 {
        file.name.display().to_string()
    } else {
        format!("{} (column {})", file.name.display(), text[..from].chars().count() + 1)
    };
    let mut annotation = kind.span(from - shift..to.max(from) - shift);
    if !label.is_empty() {
        annotation = annotation.label(label);
    }
    group.element(Snippet::source(window).path(path).line_start(line + 1).annotation(annotation))
}

/// The nearest character boundary at or before an offset.
pub(crate) fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The part of a line that is shown, and where it starts. Lines are shown whole unless they are very long.
fn window(text: &str, from: usize) -> (&str, usize) {
    if text.len() <= 2 * LINE_CONTEXT_MAX {
        return (text, 0);
    }
    let start = floor_boundary(text, from.saturating_sub(LINE_CONTEXT_MAX));
    let end = floor_boundary(text, from + LINE_CONTEXT_MAX);
    (&text[start..end], start)
}
