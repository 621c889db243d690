//! `maitred init`: a first file that works at once, or a function with one. Never overwrites anything.

use crate::cli::{DEFAULT_FILE, Init, InitFunction, InitVerb};
use crate::output::{Exit, print};
use anyhow::{Context, bail};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const FIRST: &str = include_str!("init/first.yaml");
const FIRST_WITH_FUNCTION: &str = include_str!("init/function.yaml");
/// What stands in the templates for the name of the function.
const NAME: &str = "NAME";
const FUNCTIONS: &str = "functions";

/// What is written for a language.
struct Language {
    files: &'static [(&'static str, &'static str)],
    /// The lines of the function in a configuration.
    keys: &'static [&'static str],
    /// What else is to be done before it runs.
    build: Option<&'static str>,
}

const PYTHON: Language = Language {
    files: &[("app.py", include_str!("init/app.py"))],
    keys: &[
        "runtime: python",
        "code: ./functions/NAME                # packages go there, too: pip install -t functions/NAME PACKAGE",
        "handler: app.handler                  # `handler` in app.py",
    ],
    build: None,
};
const NODE: Language = Language {
    files: &[("app.mjs", include_str!("init/app.mjs"))],
    keys: &[
        "runtime: node",
        "code: ./functions/NAME                # packages go there, too: npm install --prefix functions/NAME PACKAGE",
        "handler: app.handler                  # `handler` in app.mjs",
    ],
    build: None,
};
const RUST: Language = Language {
    files: &[
        ("Cargo.toml", include_str!("init/Cargo.toml.txt")),
        ("src/main.rs", include_str!("init/main.rs.txt")),
        (".gitignore", "/target\n"),
    ],
    keys: &["runtime: provided", "code: ./functions/NAME/target/release/bootstrap"],
    build: Some("cargo build --release --manifest-path functions/NAME/Cargo.toml"),
};

pub fn main(arguments: &Init) -> anyhow::Result<Exit> {
    match &arguments.verb {
        Some(InitVerb::Function(arguments)) => function(arguments),
        None => first(&arguments.folder),
    }
}

fn first(folder: &Path) -> anyhow::Result<Exit> {
    let path = if folder == Path::new(".") { DEFAULT_FILE.into() } else { folder.join(DEFAULT_FILE) };
    let shown = path.display();
    if !write_new(&path, FIRST)? {
        bail!("{shown} is there already, and is left as it is");
    }
    let named = if shown.to_string() == DEFAULT_FILE { String::new() } else { format!(" {shown}") };
    print(&format!(
        "wrote {shown}\n\nNext:\n  maitred check{named}\n  maitred run{named}\n  curl http://127.0.0.1:8080/\n\nThe file says how to put a back end of your own behind it.\n"
    ))?;
    Ok(Exit::Fine)
}

fn function(arguments: &InitFunction) -> anyhow::Result<Exit> {
    let name = &arguments.name;
    let language = match (arguments.python, arguments.node) {
        (true, _) => PYTHON,
        (false, true) => NODE,
        // One of the three was asked for.
        (false, false) => RUST,
    };
    let named = |text: &str| text.replace(NAME, name);
    let folder = Path::new(FUNCTIONS).join(name);
    let files: Vec<(PathBuf, String)> = language.files.iter().map(|(file, text)| (folder.join(file), named(text))).collect();
    // All or nothing: half of one and half of another would be neither.
    if let Some((there, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        bail!("{} is there already, and is left as it is; give the function another name", there.display());
    }
    let mut said = String::new();
    for (path, text) in &files {
        if !write_new(path, text)? {
            bail!("{} is there already, and is left as it is", path.display());
        }
        said += &format!("wrote {}\n", path.display());
    }
    let keys: Vec<String> = language.keys.iter().map(|key| named(key)).collect();
    let configuration = named(FIRST_WITH_FUNCTION).replace("FUNCTION", &keys.join("\n    "));
    let is_written = write_new(Path::new(DEFAULT_FILE), &configuration)?;
    said += &match is_written {
        true => format!("wrote {DEFAULT_FILE}\n"),
        false => lines_to_add(name, &keys),
    };
    let build = language.build.map(|build| format!("  {}\n", named(build))).unwrap_or_default();
    said += &format!("\nNext:\n{build}  maitred run\n  curl 'http://127.0.0.1:8080/{name}?guest=Ada'\n");
    print(&said)?;
    Ok(Exit::Fine)
}

fn lines_to_add(name: &str, keys: &[String]) -> String {
    format!(
        "\n{DEFAULT_FILE} is there already, and is left as it is. Add to it the function:\n\nfunctions:\n  {name}:\n    {}\n\nand to the `routes` of an API:\n\n      - ANY /{name}: function {name}\n",
        keys.join("\n    ")
    )
}

/// Whether it was written: what is there stays.
fn write_new(path: &Path, text: &str) -> anyhow::Result<bool> {
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {shown}"))?;
    Ok(true)
}
