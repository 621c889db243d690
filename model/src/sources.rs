//! Where texts come from: the only door to the outside, so that everything behind it is pure.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

pub trait Sources {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn env(&self, name: &str) -> Option<String>;
    /// The files that a pattern names, sorted. `*` and `?` stand for characters within one name, and not for a leading dot.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The real file system and environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// Files and variables held in memory, for tests.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub env: BTreeMap<String, String>,
}

impl Memory {
    pub fn file(mut self, path: impl Into<PathBuf>, text: impl Into<Vec<u8>>) -> Memory {
        self.files.insert(path.into(), text.into());
        self
    }

    pub fn var(mut self, name: impl Into<String>, value: impl Into<String>) -> Memory {
        self.env.insert(name.into(), value.into());
        self
    }
}

impl Sources for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::new()];
        let mut components = pattern.components().peekable();
        while let Some(component) = components.next() {
            let last = components.peek().is_none();
            found = step(found, component, last)?;
        }
        found.sort();
        Ok(found)
    }
}

/// One component further from each folder found so far.
fn step(found: Vec<PathBuf>, component: Component<'_>, last: bool) -> io::Result<Vec<PathBuf>> {
    let name = component.as_os_str();
    let pattern = name.to_string_lossy();
    if !is_pattern(&pattern) {
        let next = found.into_iter().map(|folder| folder.join(name));
        return Ok(if last { next.filter(|path| path.is_file()).collect() } else { next.collect() });
    }
    let mut next = Vec::new();
    for folder in found {
        let place = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let entries = match std::fs::read_dir(place) {
            Ok(entries) => entries,
            // A folder that is not there has no files: the caller says that nothing was found.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let fits = matches(&pattern, &entry.file_name().to_string_lossy());
            if fits && if last { path.is_file() } else { path.is_dir() } {
                next.push(path);
            }
        }
    }
    Ok(next)
}

impl Sources for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let fits = |path: &Path| {
            path.components().count() == pattern.components().count()
                && path
                    .components()
                    .zip(pattern.components())
                    .all(|(name, pattern)| matches(&pattern.as_os_str().to_string_lossy(), &name.as_os_str().to_string_lossy()))
        };
        Ok(self.files.keys().filter(|path| fits(path)).cloned().collect())
    }
}

pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name fits a pattern, by going back to the last `*` only: linear in practice, quadratic at worst.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_one_name_and_passes_over_hidden_files() {
        for (pattern, name, fits) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", ".a.yaml", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xxaxxb", true),
            ("*a*b", "xxaxx", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn the_disk_is_searched_folder_by_folder_and_sorted() {
        let root = std::env::temp_dir().join(format!("maitred-model-glob-{}", std::process::id()));
        for file in ["x/b.yaml", "x/a.yaml", "y/c.yaml", "y/c.txt"] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("a writable folder");
            std::fs::write(path, "").expect("a writable file");
        }
        let found = Disk.glob(&root.join("*/*.yaml")).expect("readable");
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(&root).expect("below").display().to_string()).collect();
        assert_eq!(names, ["x/a.yaml", "x/b.yaml", "y/c.yaml"]);
        assert!(Disk.glob(&root.join("z/*.yaml")).expect("nothing").is_empty());
        std::fs::remove_dir_all(&root).expect("removable");
    }
}
