//! What a path means for `lambda serve`: which runtime, which folder, which handler. Reads names and a little of the source, as whoever
//! looks for a function does; runs nothing.

use anyhow::{Context, bail};
use maitred_model::FunctionRuntime;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Of a source, what is looked through. Bundles may be larger, and name what they export at their end: those are read whole.
const SOURCE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What handlers are called: by AWS's console and most pages, and by the templates of AWS's tools.
const HANDLERS: [&str; 3] = ["handler", "lambda_handler", "lambdaHandler"];
/// What their files are called, in the order in which they are looked for.
const STEMS: [&str; 6] = ["app", "lambda_function", "index", "main", "handler", "function"];
const PYTHON_ENDING: &str = "py";
/// Node.js runs TypeScript from version 22 on.
const NODE_ENDINGS: [&str; 6] = ["mjs", "js", "cjs", "mts", "ts", "cts"];
/// How many names a hint lists.
const LISTED_MAX: usize = 8;

/// What is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub runtime: FunctionRuntime,
    /// A folder, or an executable.
    pub path: PathBuf,
    pub handler: Option<String>,
}

/// `handler` and `runtime`, where the user has said so, are believed.
pub fn find(path: &Path, runtime: Option<FunctionRuntime>, handler: Option<&str>) -> anyhow::Result<Code> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let beside = path.parent().map(in_folder).filter(|files| !files.is_empty());
            bail!(
                "there is no {shown}{}",
                beside.map(|files| format!("; beside it there is {}", listed(files))).unwrap_or_default()
            );
        }
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    if metadata.is_dir() {
        return folder(path, runtime, handler);
    }
    let of_name = by_name(path);
    match runtime.or(of_name) {
        Some(FunctionRuntime::Provided) => program(path),
        Some(found @ (FunctionRuntime::Python | FunctionRuntime::Node)) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let handler = match handler {
                Some(handler) => handler.to_owned(),
                None => handler_in(path, found)?,
            };
            Ok(Code { runtime: found, path: folder.to_owned(), handler: Some(handler) })
        }
        None if path.extension().is_some_and(|ending| ending == "zip") => {
            bail!("{shown} is an archive\n\n  unzip -d function {shown} && maitred lambda serve ./function")
        }
        None => program(path),
    }
}

fn by_name(path: &Path) -> Option<FunctionRuntime> {
    let ending = path.extension()?.to_str()?;
    if ending == PYTHON_ENDING {
        return Some(FunctionRuntime::Python);
    }
    NODE_ENDINGS.contains(&ending).then_some(FunctionRuntime::Node)
}

fn program(path: &Path) -> anyhow::Result<Code> {
    if !is_program(path) {
        let shown = path.display();
        bail!(
            "{shown} is neither a handler in Python (.py) or JavaScript (.mjs, .js, .cjs) nor executable; if it is a program that speaks the Lambda Runtime API:\n\n  chmod +x {shown}"
        );
    }
    Ok(Code { runtime: FunctionRuntime::Provided, path: path.to_owned(), handler: None })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn folder(path: &Path, runtime: Option<FunctionRuntime>, handler: Option<&str>) -> anyhow::Result<Code> {
    let shown = path.display();
    if let Some(handler) = handler.filter(|_| runtime != Some(FunctionRuntime::Provided)) {
        let runtime = runtime.or_else(|| of_handler(path, handler));
        let runtime =
            runtime.with_context(|| format!("no file in {shown} fits `{handler}`; there is {}", listed(in_folder(path))))?;
        return Ok(Code { runtime, path: path.to_owned(), handler: Some(handler.to_owned()) });
    }
    let is_wanted = |found: FunctionRuntime| runtime.is_none_or(|runtime| runtime == found);
    if is_wanted(FunctionRuntime::Provided) && is_program(&path.join("bootstrap")) {
        return Ok(Code { runtime: FunctionRuntime::Provided, path: path.to_owned(), handler: None });
    }
    let endings = std::iter::once(PYTHON_ENDING).chain(NODE_ENDINGS);
    let usual = STEMS.iter().flat_map(|stem| endings.clone().map(move |ending| path.join(format!("{stem}.{ending}"))));
    let handler_of = |file: PathBuf| {
        let found = by_name(&file).filter(|found| file.is_file() && is_wanted(*found))?;
        let source = source(&file).ok()?;
        let name = HANDLERS.iter().find(|name| defines(found, &source, name))?;
        Some((found, named(&file, name)))
    };
    let code = |(runtime, handler)| Code { runtime, path: path.to_owned(), handler: Some(handler) };
    if let Some(found) = usual.into_iter().find_map(handler_of) {
        return Ok(code(found));
    }
    let mut others: Vec<_> = in_folder(path).into_iter().filter_map(|name| handler_of(path.join(name))).collect();
    match (others.pop(), others.is_empty()) {
        (Some(only), true) => Ok(code(only)),
        (Some((_, one)), false) => {
            let all = listed(others.into_iter().map(|(_, handler)| handler).chain([one.clone()]).collect());
            bail!("{shown} has several handlers: {all}\n\n  maitred lambda serve {shown} --handler {one}")
        }
        (None, _) => bail!("{}", nothing_found(path)),
    }
}

/// What a folder without a handler most likely is.
fn nothing_found(path: &Path) -> String {
    let shown = path.display();
    for (file, what, command) in [
        ("Cargo.toml", "a crate", "cargo build --release, and serve the program in target/release"),
        ("go.mod", "a Go module", "go build -o bootstrap ., and serve ./bootstrap"),
    ] {
        if path.join(file).is_file() {
            return format!("{shown} is {what}, and no function yet: {command}");
        }
    }
    let files = in_folder(path);
    match files.is_empty() {
        true => format!("{shown} has no file of Python or JavaScript in it, and no executable `bootstrap`"),
        false => format!(
            "no function `handler` is found in {shown}; there is {}\n\n  maitred lambda serve {shown} --handler FILE.FUNCTION",
            listed(files)
        ),
    }
}

/// By the file that a handler names.
fn of_handler(folder: &Path, handler: &str) -> Option<FunctionRuntime> {
    let (module, _) = handler.rsplit_once('.')?;
    let python = folder.join(module.replace('.', "/"));
    if python.with_extension(PYTHON_ENDING).is_file() || python.join("__init__.py").is_file() {
        return Some(FunctionRuntime::Python);
    }
    let name = handler.rfind('/').map_or(0, |slash| slash + 1);
    let file = &handler[..name + handler[name..].find('.')?];
    let is_there = |ending: &&str| folder.join(format!("{file}.{ending}")).is_file();
    NODE_ENDINGS.iter().any(is_there).then_some(FunctionRuntime::Node)
}

fn handler_in(file: &Path, runtime: FunctionRuntime) -> anyhow::Result<String> {
    let source = source(file).with_context(|| format!("cannot read {}", file.display()))?;
    if let Some(name) = HANDLERS.iter().find(|name| defines(runtime, &source, name)) {
        return Ok(named(file, name));
    }
    let own = functions(runtime, &source);
    let (shown, has) = match own.is_empty() {
        true => (file.display(), "and no other was found at its top level; name the one to call".to_owned()),
        false => (file.display(), format!("but {}", listed(own.clone()))),
    };
    let example = named(file, own.first().map_or("FUNCTION", String::as_str));
    bail!("{shown} has no function `handler`, {has}\n\n  maitred lambda serve {shown} --handler {example}")
}

fn named(file: &Path, function: &str) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}.{function}")
}

fn source(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(SOURCE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a file has such a function, as far as that is seen without running it.
fn defines(runtime: FunctionRuntime, source: &str, name: &str) -> bool {
    match runtime {
        FunctionRuntime::Python => {
            let is_imported = |line: &str| line.starts_with("from ") && has_word(line, name);
            source.lines().any(|line| python_name(line) == Some(name) || is_imported(line))
        }
        FunctionRuntime::Node => {
            let lists = ["module.exports", "export {", "export{", "export default"];
            let is_listed = lists.iter().any(|list| source.contains(list)) && has_word(source, name);
            is_listed || source.lines().any(|line| line.contains("export") && has_word(line, name))
        }
        FunctionRuntime::Provided => false,
    }
}

/// What a line at the top level of Python gives a name: `def name(`, `name = `, `name: T = `.
fn python_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line);
    let (name, after) = word(rest.strip_prefix("def ").unwrap_or(rest))?;
    let is_value = after.trim_start().starts_with('=') && !after.trim_start().starts_with("==")
        || after.starts_with(':') && after.contains('=');
    (rest.starts_with("def ") || is_value).then_some(name)
}

/// The word at the start, and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|letter: char| !is_of_a_word(letter)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

fn has_word(text: &str, wanted: &str) -> bool {
    text.split(|letter: char| !is_of_a_word(letter)).any(|word| word == wanted)
}

/// For a hint: what else could be meant.
fn functions(runtime: FunctionRuntime, source: &str) -> Vec<String> {
    let in_line = |line: &str| match runtime {
        FunctionRuntime::Python => {
            line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ").and_then(word).map(|(name, _)| name.to_owned())
        }
        FunctionRuntime::Node => {
            let rest = line
                .strip_prefix("export ")
                .or_else(|| line.strip_prefix("exports."))
                .or_else(|| line.strip_prefix("module.exports."))?;
            let skip = ["async", "function", "const", "let", "var"];
            rest.split(|letter: char| !is_of_a_word(letter))
                .find(|word| !word.is_empty() && !skip.contains(word))
                .map(str::to_owned)
        }
        FunctionRuntime::Provided => None,
    };
    source.lines().filter_map(in_line).filter(|name| name != "default").collect()
}

/// Names of the files that a handler could be in.
fn in_folder(folder: &Path) -> Vec<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name()).filter(|name| by_name(Path::new(name)).is_some());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn listed(mut names: Vec<String>) -> String {
    names.sort_unstable();
    let more = if names.len() > LISTED_MAX { ", …" } else { "" };
    names.truncate(LISTED_MAX);
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use FunctionRuntime::{Node, Provided, Python};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Folder {
            let root = std::env::temp_dir().join(format!("maitred-lambda-{}-{name}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, text).unwrap();
                if path.ends_with("bootstrap") {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
                }
            }
            Folder(root)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_handler_is_seen_in_its_source() {
        let rows = [
            (Python, "def handler(event, context):\n    pass\n", true),
            (Python, "async def handler(event, context):\n    pass\n", true),
            (Python, "handler = Mangum(app)\n", true),
            (Python, "handler: Callable = make()\n", true),
            (Python, "from shop import orders, handler\n", true),
            (Python, "from shop import run as handler\n", true),
            (Python, "class A:\n    def handler(self):\n        pass\n", false),
            (Python, "handler == 3\n", false),
            (Python, "def handlers():\n    pass\n", false),
            (Node, "export const handler = async () => {};", true),
            (Node, "export async function handler(event) {}", true),
            (Node, "exports.handler = async () => {};", true),
            (Node, "module.exports = {\n  handler,\n};", true),
            (Node, "export {\n  run as handler\n};", true),
            (Node, "0 && (module.exports = { handler });", true),
            (Node, "const handler = async () => {};", false),
            (Node, "exports.handlers = [];", false),
            (Provided, "handler", false),
        ];
        for (runtime, source, expected) in rows {
            assert_eq!(defines(runtime, source, "handler"), expected, "{source}");
        }
    }

    #[test]
    fn a_path_says_what_is_to_run() {
        let handler = "def handler(event, context): pass\n";
        let folder = Folder::new(
            "found",
            &[
                ("app.py", handler),
                ("old/lambda_function.py", "def lambda_handler(event, context): pass\n"),
                ("node/index.js", "exports.handler = 1"),
                ("node/app.py", "x = 1\n"),
                ("sam/app.mjs", "export const lambdaHandler = 1"),
                ("one/orders.py", handler),
                ("one/other.py", "x = 1\n"),
                ("program/bootstrap", "#!/bin/sh\n"),
                ("program/app.py", handler),
            ],
        );
        let found = |path: &str, runtime, handler| {
            let Code { runtime, path, handler } = find(&folder.0.join(path), runtime, handler).unwrap();
            let path = path.strip_prefix(&folder.0).unwrap().display().to_string();
            (runtime, path, handler)
        };
        let rows = [
            ("app.py", None, None, (Python, "", Some("app.handler"))),
            ("app.py", None, Some("app.other"), (Python, "", Some("app.other"))),
            ("", None, None, (Python, "", Some("app.handler"))),
            ("old", None, None, (Python, "old", Some("lambda_function.lambda_handler"))),
            ("one", None, None, (Python, "one", Some("orders.handler"))),
            ("node", None, None, (Node, "node", Some("index.handler"))),
            ("node", None, Some("index.handler"), (Node, "node", Some("index.handler"))),
            ("sam/app.mjs", None, None, (Node, "sam", Some("app.lambdaHandler"))),
            ("program", None, None, (Provided, "program", None)),
            ("program", Some(Python), None, (Python, "program", Some("app.handler"))),
            ("program/bootstrap", None, None, (Provided, "program/bootstrap", None)),
            ("", None, Some("old/lambda_function.x"), (Python, "", Some("old/lambda_function.x"))),
        ];
        for (path, runtime, handler, (expected, place, name)) in rows {
            assert_eq!(
                found(path, runtime, handler),
                (expected, place.to_owned(), name.map(str::to_owned)),
                "{path} {handler:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_run_says_what_could() {
        let folder = Folder::new(
            "not-found",
            &[
                ("main.py", "def greet(event, context): pass\ndef other(): pass\n"),
                ("page.mjs", "export const page = 1;\n"),
                ("void/none.py", "print('here')\n"),
                ("notes.txt", ""),
                ("code.zip", ""),
                ("two/a.py", "handler = 1\n"),
                ("two/b.mjs", "export const handler = 1\n"),
                ("crate/Cargo.toml", ""),
                ("empty/notes.txt", ""),
            ],
        );
        let said = |path: &str, handler| {
            let error = find(&folder.0.join(path), None, handler).unwrap_err();
            format!("{error:#}").replace(&format!("{}/", folder.0.display()), "").replace(&folder.0.display().to_string(), ".")
        };
        let rows = [
            ("app.py", None, "there is no app.py; beside it there is main.py, page.mjs"),
            (
                "main.py",
                None,
                "main.py has no function `handler`, but greet, other\n\n  maitred lambda serve main.py --handler main.greet",
            ),
            (
                "void/none.py",
                None,
                "void/none.py has no function `handler`, and no other was found at its top level; name the one to call\n\n  \
                 maitred lambda serve void/none.py --handler none.FUNCTION",
            ),
            ("page.mjs", None, "--handler page.page"),
            ("notes.txt", None, "notes.txt is neither a handler"),
            ("code.zip", None, "unzip -d function code.zip"),
            ("crate", None, "crate is a crate, and no function yet: cargo build"),
            ("empty", None, "no executable `bootstrap`"),
            ("", None, "there is main.py, page.mjs\n\n  maitred lambda serve"),
            ("two", None, "two has several handlers: a.handler, b.handler\n\n  maitred lambda serve two --handler "),
            ("", Some("ap.handler"), "fits `ap.handler`; there is main.py, page.mjs"),
        ];
        for (path, handler, expected) in rows {
            assert!(said(path, handler).contains(expected), "{path}: {}", said(path, handler));
        }
    }
}
