//! Paths that a configuration names: made relative to the file that names them, and read where their content is wanted at once.

use crate::diagnostics::Files;
use crate::sources::Sources;
use crate::span::Span;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one PEM file: all authorities that a browser trusts have a quarter of it.
pub(crate) const PEM_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of all files together: ten thousand certificates, each with those between it and its authority.
const PEM_TOTAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What decoding may ask of the world.
pub(crate) struct Outside<'a> {
    sources: &'a dyn Sources,
    files: &'a Files,
    /// For values that no file wrote, such as a path by default.
    main: &'a Path,
    dependencies: &'a mut Vec<PathBuf>,
    /// Each file is read once a load, so that two places never see two contents.
    read: HashMap<PathBuf, Result<Arc<[u8]>, String>>,
    bytes: usize,
}

impl<'a> Outside<'a> {
    pub fn new(sources: &'a dyn Sources, files: &'a Files, main: &'a Path, dependencies: &'a mut Vec<PathBuf>) -> Outside<'a> {
        Outside { sources, files, main, dependencies, read: HashMap::new(), bytes: 0 }
    }

    /// Where inside a scalar its text stands, if it does as it reads; else the scalar.
    pub fn text(&self, scalar: Span, text: &str) -> Span {
        let at = self.files.slice(scalar).filter(|_| !text.is_empty()).and_then(|written| written.find(text));
        at.map_or(scalar, |at| {
            let start = scalar.start + at as u32;
            Span::new(scalar.file, start, start + text.len() as u32)
        })
    }

    /// A relative path is relative to the file that names it.
    pub fn path(&self, span: Span, path: impl AsRef<Path>) -> PathBuf {
        let file = self.files.name(span.file).unwrap_or(self.main);
        file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The bytes of a file, or why there are none.
    pub fn read(&mut self, path: &Path) -> Result<Arc<[u8]>, String> {
        self.read_up_to(path, PEM_BYTES_MAX)
    }

    /// The same of a file that may have so many bytes.
    pub fn read_up_to(&mut self, path: &Path, bytes_max: usize) -> Result<Arc<[u8]>, String> {
        if let Some(read) = self.read.get(path) {
            return read.clone();
        }
        self.dependencies.push(path.to_owned());
        let read = match self.sources.read(path) {
            Ok(bytes) if bytes.len() > bytes_max => Err(format!("it is larger than {} MiB", bytes_max / 1024 / 1024)),
            Ok(bytes) => {
                self.bytes = self.bytes.saturating_add(bytes.len());
                match self.bytes {
                    ..=PEM_TOTAL_BYTES_MAX => Ok(Arc::from(bytes)),
                    _ => {
                        Err(format!("all files that are named together have more than {} MiB", PEM_TOTAL_BYTES_MAX / 1024 / 1024))
                    }
                }
            }
            Err(error) => Err(error.to_string()),
        };
        self.read.insert(path.to_owned(), read.clone());
        read
    }
}
