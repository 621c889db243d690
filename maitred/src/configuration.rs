//! From what the command line names to a document, and from there to a snapshot: the one path that `check`, `run`, `explain`, `routes`
//! and every reload take. Knows no gateway.

use crate::output::{in_color, say};
use maitred_dataplane::{Snapshot, State, also_wrong, compile, warnings};
use maitred_model::{Diagnostics, Disk, Document, Files, FunctionPlace, Loaded, Sources, load, load_text, render};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub enum Source {
    File(PathBuf),
    /// A text of our own, and what it is called in diagnostics.
    Text {
        name: &'static str,
        text: String,
        /// What is watched beside it; empty, and nothing is.
        watched: Vec<PathBuf>,
    },
}

impl Source {
    /// Everything to one back end.
    pub fn upstream(url: &str, listen: SocketAddr, admin: SocketAddr) -> Source {
        // A JSON string is a YAML one.
        let url = serde_json::Value::from(url);
        let text = format!(
            "listen: \"{listen}\"\nadmin: {{ listen: \"{admin}\" }}\nupstreams:\n  upstream: {url}\napis:\n  all:\n    routes:\n      - ANY /: upstream\n      - ANY /{{path+}}: upstream\n"
        );
        Source::Text { name: "--upstream", text, watched: Vec::new() }
    }

    pub fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Text { name, .. } => (*name).to_owned(),
        }
    }

    /// What to watch before anything was read.
    pub fn first_files(&self) -> Vec<PathBuf> {
        match self {
            Source::File(path) => vec![path.clone()],
            Source::Text { watched, .. } => watched.clone(),
        }
    }
}

/// What was read.
pub struct Read {
    /// Absent if there are errors.
    pub document: Option<Document>,
    /// What was understood, if there are.
    broken: Option<Document>,
    pub diagnostics: Diagnostics,
    pub files: Files,
    pub watched: Watching,
}

/// What a configuration is made of, beside the environment.
#[derive(Debug, Default)]
pub struct Watching {
    /// Every file that it depends on, and the folders where another one would be part of it.
    pub files: Vec<PathBuf>,
    /// The code of functions that run here: folders with all that is in them.
    pub code: Vec<PathBuf>,
}

impl Read {
    pub fn render(&self, color: bool) -> String {
        render(&self.diagnostics, &self.files, color)
    }
}

pub fn read(source: &Source) -> Read {
    let disk = Searched { folders: RefCell::default() };
    let loaded = match source {
        Source::File(path) => load(path, &disk),
        Source::Text { name, text, watched: _ } => load_text(name, text, &disk),
    };
    let mut watched = disk.folders.into_inner();
    watched.extend(loaded.dependencies.iter().cloned());
    let Loaded { document, broken, diagnostics, files, dependencies: _ } = loaded;
    let code = document.as_ref().or(broken.as_ref()).map(code).unwrap_or_default();
    Read { document, broken, diagnostics, files, watched: Watching { files: watched, code } }
}

fn code(document: &Document) -> Vec<PathBuf> {
    let hosted = document.functions.values().filter_map(|function| match &function.place {
        FunctionPlace::Hosted(hosted) => Some(hosted),
        FunctionPlace::Aws(_) => None,
    });
    hosted.flat_map(|hosted| std::iter::once(&hosted.code).chain(&hosted.layers)).map(|path| path.value.clone()).collect()
}

/// Compiles what was read. What only the compiler finds joins the diagnostics; errors leave nothing.
pub fn compiled(read: &mut Read, state: &State) -> Option<Snapshot> {
    let Some(document) = read.document.take() else {
        read.diagnostics.extend(read.broken.take().map(|broken| also_wrong(&broken, state)).unwrap_or_default());
        read.diagnostics.sort();
        return None;
    };
    match compile(Arc::new(document), state) {
        Ok(snapshot) => {
            read.diagnostics.extend(snapshot.warnings.clone());
            read.diagnostics.extend(warnings(&snapshot.document, state.clock.wall()));
            read.diagnostics.sort();
            Some(snapshot)
        }
        Err(diagnostics) => {
            read.diagnostics.extend(diagnostics);
            read.diagnostics.sort();
            None
        }
    }
}

/// A snapshot for verbs that serve nothing. What is wrong is told on stderr.
pub fn offline(path: &Path) -> Option<Snapshot> {
    let mut read = read(&Source::File(path.to_owned()));
    let snapshot = compiled(&mut read, &State::new(1));
    if snapshot.is_none() {
        say(&read.render(in_color(&io::stderr())));
    }
    snapshot
}

/// The disk, which notes where patterns are searched: a file that appears there later changes the configuration too.
struct Searched {
    folders: RefCell<Vec<PathBuf>>,
}

impl Sources for Searched {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        Disk.env(name)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let mut folders = self.folders.borrow_mut();
        let folder = fixed(pattern);
        let deeper = pattern.components().count() - folder.components().count();
        note(&folder, deeper, &mut folders);
        Disk.glob(pattern)
    }
}

/// The part of a pattern before its first wildcard.
fn fixed(pattern: &Path) -> PathBuf {
    let is_fixed = |component: &Component<'_>| !component.as_os_str().to_string_lossy().contains(['*', '?']);
    pattern.components().take_while(is_fixed).collect()
}

/// A folder, and those in it as deep as the pattern goes.
fn note(folder: &Path, deep: usize, folders: &mut Vec<PathBuf>) {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folders.push(place.to_owned());
    if deep <= 1 {
        return;
    }
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            note(&folder.join(entry.file_name()), deep - 1, folders);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_searched_from_its_first_wildcard_on() {
        for (pattern, folder) in [("a/*.yaml", "a"), ("a/*/b.yaml", "a"), ("*.yaml", ""), ("/x/?/y", "/x")] {
            assert_eq!(fixed(Path::new(pattern)), Path::new(folder), "{pattern}");
        }
    }

    #[test]
    fn whatever_the_url_says_it_stays_one_value() {
        let address = "127.0.0.1:0".parse().unwrap();
        let read = read(&Source::upstream("http://127.0.0.1:1/\"\napis: 3", address, address));
        assert!(read.document.is_none() && read.diagnostics.has_errors());
    }
}
