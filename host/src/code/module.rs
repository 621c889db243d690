//! The file that a handler stands in: looked for where the runtime would, so that a wrong name is told when the configuration is loaded, and
//! not to the first client.

use super::NotReady;
use super::tree::Tree;
use maitred_model::{FunctionRuntime, Spanned};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How many files a hint lists.
const LISTED_MAX: usize = 5;
/// What Python imports: source, compiled, and extension modules by the end of their names.
const PYTHON_ENDS: &[&str] = &[".py", ".pyc", ".so"];
const NODE_ENDS: &[&str] = &["", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts"];

/// An executable in a folder, which may be a layer's.
pub(super) fn bootstrap(code: &Spanned<PathBuf>, tree: &Tree, layers: &[Tree]) -> Result<(), NotReady> {
    let name = Path::new("bootstrap");
    if tree.is_program(name) || (!tree.has_file(name) && layers.iter().any(|layer| layer.is_program(name))) {
        return Ok(());
    }
    let folder = code.value.display();
    let (message, hint) = if tree.has_file(name) {
        (format!("{folder}/bootstrap is not executable"), format!("`chmod +x {folder}/bootstrap`"))
    } else {
        let hint =
            "build the function, call the executable `bootstrap`, and put it there; or name the executable itself as `code`";
        (format!("there is no `bootstrap` in {folder}"), hint.to_owned())
    };
    Err(NotReady { span: code.span, message, hint })
}

pub(super) fn executable(code: &Spanned<PathBuf>) -> Result<(), NotReady> {
    let file = code.value.display();
    if fs::metadata(&code.value).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0) {
        return Ok(());
    }
    Err(NotReady {
        span: code.span,
        message: format!("{file} is not executable"),
        hint: format!("`chmod +x {file}`, or name a folder with an executable `bootstrap` in it"),
    })
}

pub(super) fn find(
    runtime: FunctionRuntime,
    handler: &Spanned<String>,
    code: &Spanned<PathBuf>,
    tree: &Tree,
    layers: &[Tree],
) -> Result<(), NotReady> {
    let (module, found) = match runtime {
        FunctionRuntime::Python => python(&handler.value, tree, layers),
        FunctionRuntime::Node => node(&handler.value, tree, layers),
        FunctionRuntime::Provided => return Ok(()),
    };
    if found {
        return Ok(());
    }
    let end = if runtime == FunctionRuntime::Python { ".py" } else { "js" };
    let mut files: Vec<_> =
        tree.files(Path::new("")).filter_map(|name| name.to_str()).filter(|name| name.ends_with(end)).collect();
    files.truncate(LISTED_MAX);
    let hint = match files.first().and_then(|first| first.rsplit_once('.')) {
        Some((first, _)) => format!("there is {}; for `handler` in the first write `handler: {first}.handler`", files.join(", ")),
        None => "name the file without its end, a dot, and the function in it: `app.handler`".to_owned(),
    };
    Err(NotReady { span: handler.span, message: format!("there is no module `{module}` in {}", code.value.display()), hint })
}

/// The name of the module, and whether it is there.
fn python<'a>(handler: &'a str, tree: &Tree, layers: &[Tree]) -> (&'a str, bool) {
    let module = handler.rsplit_once('.').map_or(handler, |(module, _)| module);
    let path = PathBuf::from(module.replace('.', "/"));
    let is_in = |tree: &Tree, folder: &Path| {
        let place = folder.join(&path);
        let parent = place.parent().unwrap_or(Path::new(""));
        let stem = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // `name.cpython-312-x86_64-linux-gnu.so` is a module `name`.
        let is_file = tree.files(parent).filter_map(|name| name.to_str()).any(|name| {
            let end = name.strip_prefix(stem).filter(|end| end.starts_with('.'));
            end.is_some_and(|end| PYTHON_ENDS.contains(&end) || end.ends_with(".so"))
        });
        is_file || tree.has_file(&place.join("__init__.py"))
    };
    let found = is_in(tree, Path::new(""))
        || layers.iter().any(|layer| {
            let mut folders =
                layer.folders().filter(|folder| folder.ends_with("site-packages") || *folder == Path::new("python"));
            folders.any(|folder| is_in(layer, folder))
        });
    (module, found)
}

/// AWS's runtime splits at the first dot after the last slash, so that `app.api.get` is `exports.api.get` of `app`.
fn node<'a>(handler: &'a str, tree: &Tree, layers: &[Tree]) -> (&'a str, bool) {
    let name = handler.rfind('/').map_or(0, |slash| slash + 1);
    let end = handler[name..].find('.').map_or(handler.len(), |dot| name + dot);
    let module = &handler[..end];
    let is_in = |tree: &Tree, folder: &str| {
        let place = |end: &str| Path::new(folder).join(format!("{}{end}", module.trim_start_matches("./")));
        NODE_ENDS.iter().any(|end| tree.has_file(&place(end)))
    };
    let packages =
        |tree: &Tree, folder: &str| tree.folders().any(|path| path == Path::new(folder).join("node_modules").join(module));
    let found = is_in(tree, "")
        || packages(tree, "")
        || layers.iter().any(|layer| packages(layer, "nodejs") || is_in(layer, "nodejs/node_modules"));
    (module, found)
}
