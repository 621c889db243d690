//! Says what helps whoever reads that a module is not there: what to type, with the folders as they are written. Installs nothing.

use maitred_model::Hosted;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// No package has a longer name; what a function writes has no bound that others should bear.
const NAME_BYTES_MAX: usize = 256;

/// Where the code of a function is, as its user wrote it: the copy that runs is nowhere to install anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    code: PathBuf,
    layers: Vec<PathBuf>,
}

impl Places {
    pub fn of(hosted: &Hosted) -> Places {
        let code = &hosted.code.value;
        let code = if code.is_file() { code.parent().unwrap_or(Path::new(".")) } else { code };
        Places { code: code.to_owned(), layers: hosted.layers.iter().map(|layer| layer.value.clone()).collect() }
    }

    /// What to type, where this line says that something is not there.
    pub fn hint(&self, line: &str) -> Option<String> {
        let quoted = |start: &str| {
            let rest = &line[line.find(start)? + start.len()..];
            rest.split('\'').next().filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len()))
        };
        if let Some(module) = quoted("No module named '") {
            return Some(self.of_python(module.split('.').next().unwrap_or(module)));
        }
        let module = quoted("Cannot find module '").or_else(|| quoted("Cannot find package '"))?;
        let is_package = !module.starts_with(['.', '/']);
        is_package.then(|| self.of_node(module))
    }

    fn of_python(&self, package: &str) -> String {
        let install = |folder: &Path| {
            let wanted = shell(&self.code.join("requirements.txt")).into_owned();
            format!("pip install -t {} -r {wanted}", shell(folder))
        };
        let layer = self.layers.first().map(|layer| install(&layer.join("python")));
        let layer = layer.map_or_else(String::new, |install| format!("; or, into its layer: {install}"));
        let here = install(&self.code);
        format!("`{package}` is not there: add it to requirements.txt and install it into the code's folder: {here}{layer}")
    }

    fn of_node(&self, package: &str) -> String {
        let install = |folder: &Path| format!("npm install --prefix {} {}", shell(folder), shell(Path::new(package)));
        let layer = self.layers.first().map(|layer| install(&layer.join("nodejs")));
        let layer = layer.map_or_else(String::new, |install| format!("; or, into its layer: {install}"));
        let here = install(&self.code);
        format!("`{package}` is not there: install it into the code's folder: {here}{layer}")
    }
}

/// As a shell takes it for one word.
fn shell(path: &Path) -> Cow<'_, str> {
    let text = path.to_string_lossy();
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+@:,%=~".contains(character);
    if !text.is_empty() && !text.starts_with(['~', '-']) && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_imports_what_is_not_there_is_told_what_to_type() {
        let places = Places { code: "/srv/desserts".into(), layers: Vec::new() };
        let pip = "install it into the code's folder: pip install -t /srv/desserts -r /srv/desserts/requirements.txt";
        let python = |package: &str| Some(format!("`{package}` is not there: add it to requirements.txt and {pip}"));
        let node = |package: &str| {
            let npm = format!("npm install --prefix /srv/desserts {package}");
            Some(format!("`{package}` is not there: install it into the code's folder: {npm}"))
        };
        for (line, wanted) in [
            ("ModuleNotFoundError: No module named 'requests'", python("requests")),
            ("Unable to import module 'app': No module named 'yaml.nodes'", python("yaml")),
            ("Error: Cannot find module 'express'", node("express")),
            ("Cannot find package '@a/b' imported from", node("@a/b")),
            ("Error: Cannot find module './mine'", None),
            ("No module named ''", None),
            ("all is well", None),
        ] {
            assert_eq!(places.hint(line), wanted, "{line}");
        }
    }

    #[test]
    fn folders_are_words_of_a_shell_and_layers_are_named() {
        let places = Places { code: "/srv/my code".into(), layers: vec!["/srv/it's".into(), "/srv/other".into()] };
        let python = places.hint("No module named 'a'").unwrap();
        assert!(python.contains("pip install -t '/srv/my code' -r '/srv/my code/requirements.txt'"), "{python}");
        assert!(python.contains(r"into its layer: pip install -t '/srv/it'\''s/python' -r "), "{python}");
        let node = places.hint("Cannot find module 'a; b'").unwrap();
        assert!(node.contains(r"--prefix '/srv/it'\''s/nodejs' 'a; b'"), "{node}");
    }
}
