//! From a path or a text to a document: reads, includes, puts in values, decodes, checks. Every step goes on past a mistake, so that
//! one load says all that is wrong. Touches the outside through `Sources` only.

use crate::check;
use crate::decode::{Cx, Outside, Shape, suggest};
use crate::diagnostics::{Diagnostic, Diagnostics, Files};
use crate::document::Document;
use crate::interpolate::Interpolation;
use crate::language::{RawDocument, into_document};
use crate::secrets;
use crate::sources::{Sources, is_pattern};
use crate::span::{FileId, Span, Spanned};
use crate::yaml::{self, Entry, Kind, Node};
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

/// Files that include files: deeper is a maze.
const INCLUDE_DEPTH_MAX: usize = 8;

/// Files of one load: one for each API of a large company.
const FILES_MAX: usize = 10_000;

/// Bytes of all files of one load together: four files of the largest kind.
const TOTAL_BYTES_MAX: usize = 4 * yaml::FILE_BYTES_MAX;

/// The keys that an included file may have.
const MERGED: [&str; 6] = ["upstreams", "functions", "authorizers", "consumers", "plans", "apis"];
const INCLUDABLE: [&str; 7] = ["upstreams", "functions", "authorizers", "consumers", "plans", "apis", "include"];

/// What a load came to. The document is there unless there are errors.
#[derive(Debug)]
pub struct Loaded {
    pub document: Option<Document>,
    /// What was understood of one with errors: to look for more of them, and for nothing else.
    pub broken: Option<Document>,
    pub diagnostics: Diagnostics,
    pub files: Files,
    /// Every file that was asked for, also those that were missing: for the watcher.
    pub dependencies: Vec<PathBuf>,
}

/// Loads a file, and all that it names.
pub fn load(path: &Path, sources: &dyn Sources) -> Loaded {
    let mut loader = Loader::new(sources);
    loader.dependencies.push(path.to_owned());
    match sources.read(path) {
        Ok(bytes) => loader.main(path, bytes),
        Err(error) => {
            let message = format!("the file `{}` cannot be read: {error}", path.display());
            loader.diagnostics.push(Diagnostic::error("unreadable", Span::none(), message));
            loader.finish(None)
        }
    }
}

/// Loads a text as if it stood in a file of that name.
pub fn load_text(name: &str, text: &str, sources: &dyn Sources) -> Loaded {
    Loader::new(sources).main(Path::new(name), text.as_bytes().to_vec())
}

/// For the fuzzer: any bytes load, or are complained about, and are rendered.
pub fn fuzz_load(data: &[u8]) {
    let memory = crate::sources::Memory::default();
    let loaded = Loader::new(&memory).main(Path::new("fuzz.yaml"), data.to_vec());
    assert_eq!(loaded.document.is_none(), loaded.diagnostics.has_errors());
    crate::diagnostics::render(&loaded.diagnostics, &loaded.files, false);
    if let Some(document) = &loaded.document {
        crate::print::to_json(document);
    }
}

struct Loader<'s> {
    sources: &'s dyn Sources,
    diagnostics: Diagnostics,
    files: Files,
    dependencies: Vec<PathBuf>,
    tainted: HashSet<Span>,
    read: HashMap<PathBuf, Result<String, String>>,
    /// Files already included, so that two patterns may both name one.
    included: HashSet<PathBuf>,
    merged: [Vec<Entry>; MERGED.len()],
    bytes: usize,
}

impl<'s> Loader<'s> {
    fn new(sources: &'s dyn Sources) -> Loader<'s> {
        Loader {
            sources,
            diagnostics: Diagnostics::new(),
            files: Files::new(),
            dependencies: Vec::new(),
            tainted: HashSet::new(),
            read: HashMap::new(),
            included: HashSet::new(),
            merged: Default::default(),
            bytes: 0,
        }
    }

    fn main(mut self, path: &Path, bytes: Vec<u8>) -> Loaded {
        let Some(mut root) = self.parse(path, bytes) else {
            return self.finish(None);
        };
        self.include_from(&root, path, &mut vec![tidy(path)]);
        self.merge(&mut root);
        let outside = Outside::new(self.sources, &mut self.files, path, &mut self.dependencies);
        let mut cx = Cx { diagnostics: &mut self.diagnostics, plain_secrets: Vec::new(), outside };
        let raw = RawDocument::decode(&root, &mut cx);
        for secret in std::mem::take(&mut cx.plain_secrets) {
            self.files.mask(secret);
        }
        let document = raw.map(into_document).map(crate::document::logins::add);
        if let Some(document) = &document {
            let written = check::Written { root: &root, tainted: &self.tainted };
            check::check(document, &written, &mut self.diagnostics);
        }
        self.finish(document)
    }

    fn finish(mut self, document: Option<Document>) -> Loaded {
        self.diagnostics.sort();
        let mut seen = HashSet::new();
        self.dependencies.retain(|path| seen.insert(path.clone()));
        let (document, broken) = if self.diagnostics.has_errors() { (None, document) } else { (document, None) };
        Loaded { document, broken, diagnostics: self.diagnostics, files: self.files, dependencies: self.dependencies }
    }

    /// The tree of one file, with the values from elsewhere put in.
    fn parse(&mut self, path: &Path, bytes: Vec<u8>) -> Option<Node> {
        self.bytes += bytes.len();
        let (text, broken) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let at = error.utf8_error().valid_up_to() as u32;
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(at))
            }
        };
        let file = self.files.add(path, text);
        if let Some(at) = broken {
            self.mask_text(file);
            let diagnostic = Diagnostic::error("not-utf8", Span::new(file, at, at), "the file is not UTF-8 from here on");
            self.diagnostics.push(diagnostic.hint("save it as UTF-8"));
            return None;
        }
        let text = self.files.text(file).unwrap_or_default();
        let said = self.diagnostics.len();
        let Some(mut root) = yaml::parse(text, file, &mut self.diagnostics) else {
            let secrets = self.mask_text(file);
            self.diagnostics.hush(said, &secrets);
            return None;
        };
        let hidden = secrets::hide(&mut root);
        self.diagnostics.hush(said, &hidden);
        let mut interpolation = Interpolation {
            sources: self.sources,
            diagnostics: &mut self.diagnostics,
            dependencies: &mut self.dependencies,
            tainted: &mut self.tainted,
            read: &mut self.read,
            text,
            folder: path.parent().unwrap_or(Path::new("")),
        };
        interpolation.walk(&mut root);
        hidden.iter().for_each(|secret| self.files.mask(*secret));
        Some(root)
    }

    /// Where the secrets of a text are that is no YAML.
    fn mask_text(&mut self, file: FileId) -> Vec<Span> {
        let found = secrets::in_text(self.files.text(file).unwrap_or_default(), file);
        found.iter().for_each(|secret| self.files.mask(*secret));
        found
    }

    /// Reads what a file includes. `stack` holds the files under way, outermost first.
    fn include_from(&mut self, root: &Node, path: &Path, stack: &mut Vec<PathBuf>) {
        let Some(include) = root.get("include") else { return };
        let patterns: Vec<&Node> = match &include.kind {
            Kind::Sequence(items) => items.iter().collect(),
            Kind::Scalar(_) | Kind::Mapping(_) | Kind::Poisoned => vec![include],
        };
        for node in patterns {
            // What is no text is complained about when the document is decoded.
            let Kind::Scalar(scalar) = &node.kind else { continue };
            if scalar.is_null() || scalar.text.is_empty() {
                continue;
            }
            let pattern = path.parent().unwrap_or(Path::new("")).join(&scalar.text);
            for found in self.expand(&pattern, scalar.shown(), node.span) {
                self.include(&found, node.span, stack);
            }
        }
    }

    fn expand(&mut self, pattern: &Path, shown: &str, span: Span) -> Vec<PathBuf> {
        if !is_pattern(&pattern.to_string_lossy()) {
            return vec![pattern.to_owned()];
        }
        match self.sources.glob(pattern) {
            Ok(found) => {
                if found.is_empty() {
                    let message = format!("`{shown}` names no file");
                    let hint = "a relative path is relative to the file that names it";
                    self.diagnostics.push(Diagnostic::warning("empty-include", span, message).hint(hint));
                }
                found
            }
            Err(error) => {
                let message = format!("`{shown}` cannot be searched: {error}");
                self.diagnostics.push(Diagnostic::error("unreadable", span, message));
                Vec::new()
            }
        }
    }

    fn include(&mut self, path: &Path, span: Span, stack: &mut Vec<PathBuf>) {
        let key = tidy(path);
        if stack.contains(&key) {
            let message = format!("`{}` includes itself", path.display());
            self.diagnostics
                .push(Diagnostic::error("include-cycle", span, message).hint("remove one of the `include`s on the way round"));
            return;
        }
        if stack.len() > INCLUDE_DEPTH_MAX {
            let message = format!("more than {INCLUDE_DEPTH_MAX} files that include one another");
            self.diagnostics.push(Diagnostic::error("include-depth", span, message).hint("name the files in the main file"));
            return;
        }
        if !self.included.insert(key.clone()) {
            return;
        }
        if self.included.len() > FILES_MAX || self.bytes > TOTAL_BYTES_MAX {
            let message = format!("more than {FILES_MAX} files or {} MiB in one configuration", TOTAL_BYTES_MAX / 1024 / 1024);
            self.diagnostics.push(Diagnostic::error("include-size", span, message).hint("include less"));
            return;
        }
        self.dependencies.push(path.to_owned());
        let bytes = match self.sources.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("the file `{}` cannot be read: {error}", path.display());
                let hint = "a relative path is relative to the file that names it";
                self.diagnostics.push(Diagnostic::error("unreadable", span, message).hint(hint));
                return;
            }
        };
        let Some(root) = self.parse(path, bytes) else { return };
        stack.push(key);
        self.include_from(&root, path, stack);
        stack.pop();
        self.take(root);
    }

    /// Keeps what an included file may say, and complains about the rest.
    fn take(&mut self, root: Node) {
        let entries = match root.kind {
            Kind::Mapping(entries) => entries,
            Kind::Scalar(_) | Kind::Sequence(_) => {
                let diagnostic = Diagnostic::error("wrong-kind", root.span, "an included file is a mapping");
                self.diagnostics.push(diagnostic.hint("start it with `apis:` or `upstreams:`"));
                return;
            }
            Kind::Poisoned => return,
        };
        for (key, node) in entries {
            match MERGED.iter().position(|merged| *merged == key.value) {
                Some(at) => match node.kind {
                    Kind::Mapping(entries) => self.merged[at].extend(entries),
                    Kind::Scalar(_) if node.is_null() => {}
                    Kind::Poisoned => {}
                    Kind::Scalar(_) | Kind::Sequence(_) => {
                        let message = format!("expected a mapping of names under `{}`", key.value);
                        self.diagnostics.push(Diagnostic::error("wrong-kind", node.span, message));
                    }
                },
                None => self.refuse_key(&key),
            }
        }
    }

    fn refuse_key(&mut self, key: &Spanned<String>) {
        if key.value == "include" {
            return;
        }
        let diagnostic = if RawDocument::KEYS.contains(&key.value.as_str()) {
            Diagnostic::error("main-file-key", key.span, format!("`{}` belongs in the main file", key.value)).hint(
                "move it there: an included file has `upstreams`, `functions`, `authorizers`, `consumers`, `plans`, `apis` and `include`",
            )
        } else {
            let message = format!("unknown key `{}` in an included file", key.value);
            Diagnostic::error("unknown-key", key.span, message).hint(suggest(&key.value, INCLUDABLE, "the keys here are"))
        };
        self.diagnostics.push(diagnostic);
    }

    /// Puts what was included behind what the main file says itself.
    fn merge(&mut self, root: &mut Node) {
        let Kind::Mapping(entries) = &mut root.kind else { return };
        for (key, merged) in MERGED.iter().zip(&mut self.merged) {
            if merged.is_empty() {
                continue;
            }
            let at = match entries.iter().position(|(name, _)| name.value == *key) {
                Some(at) => at,
                None => {
                    let name = Spanned::builtin((*key).to_owned());
                    entries.push((name, Node::empty_mapping()));
                    entries.len() - 1
                }
            };
            let section = &mut entries[at].1;
            if section.is_null() {
                section.kind = Kind::Mapping(Vec::new());
            }
            if let Kind::Mapping(names) = &mut section.kind {
                append(names, std::mem::take(merged), key, &mut self.diagnostics);
            }
        }
    }
}

/// The same name in two files is an error: neither file's reader would expect the other to win.
fn append(names: &mut Vec<Entry>, merged: Vec<Entry>, section: &str, diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<String, Span> = names.iter().map(|(key, _)| (key.value.clone(), key.span)).collect();
    for (key, node) in merged {
        if let Some(first) = seen.get(&key.value) {
            let message = format!("the name `{}` stands twice under `{section}`", key.value);
            diagnostics.push(
                Diagnostic::error("duplicate-key", key.span, message)
                    .hint("rename one of them")
                    .also(*first, "first written here"),
            );
            continue;
        }
        seen.insert(key.value.clone(), key.span);
        names.push((key, node));
    }
}

/// A path without `.` and `a/..`, to tell whether two are one. Follows no links: a cycle through those ends at the depth.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            Component::ParentDir | Component::Normal(_) | Component::RootDir | Component::Prefix(_) => tidy.push(component),
        }
    }
    tidy
}
