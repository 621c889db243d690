//! The file that a handler stands in: looked for where the runtime would, so that a wrong name is told when the configuration is loaded, and
//! not to the first client.

use super::NotReady;
use super::environment::variable;
use super::tree::Tree;
use maitred_model::{FunctionRuntime, Hosted, Spanned};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

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

pub(super) fn find(hosted: &Hosted, handler: &Spanned<String>, tree: &Tree, layers: &[Tree]) -> Result<(), NotReady> {
    let (end, list) = match hosted.runtime {
        FunctionRuntime::Python => (".py", "PYTHONPATH"),
        FunctionRuntime::Node => ("js", "NODE_PATH"),
        FunctionRuntime::Provided => return Ok(()),
    };
    let own = variable(hosted, list);
    let places = Places { tree, layers, own: own.unwrap_or_default() };
    let (module, found) =
        if hosted.runtime == FunctionRuntime::Python { python(&handler.value, &places) } else { node(&handler.value, &places) };
    if found {
        return Ok(());
    }
    let mut files: Vec<_> =
        tree.files(Path::new("")).filter_map(|name| name.to_str()).filter(|name| name.ends_with(end)).collect();
    files.truncate(LISTED_MAX);
    let hint = match files.first().and_then(|first| first.rsplit_once('.')) {
        Some((first, _)) => format!("there is {}; for `handler` in the first write `handler: {first}.handler`", files.join(", ")),
        None => "name the file without its end, a dot, and the function in it: `app.handler`".to_owned(),
    };
    let also = if own.is_some() { format!(", nor where `{list}` leads") } else { String::new() };
    let message = format!("there is no module `{module}` in {}{also}", hosted.code.value.display());
    Err(NotReady { span: handler.span, message, hint })
}

/// Where a module may lie.
struct Places<'a> {
    tree: &'a Tree,
    layers: &'a [Tree],
    /// Folders that the user added, in the form of `PATH`.
    own: &'a str,
}

impl Places<'_> {
    /// Whether one of the user's own folders has it; relative ones lie in the code, where processes start. What cannot be looked into may
    /// have it: then the process says what is missing.
    fn has_own(&self, in_code: impl Fn(&Path) -> bool, outside: impl Fn(&Path) -> bool) -> bool {
        std::env::split_paths(self.own).any(|place| {
            if place.is_relative() {
                let below: PathBuf = place.components().filter(|part| *part != Component::CurDir).collect();
                return self.tree.has_file(&below) || in_code(&below);
            }
            match fs::read_dir(&place) {
                Ok(_) => outside(&place),
                Err(error) => error.kind() != ErrorKind::NotFound,
            }
        })
    }
}

/// The name of the module, and whether it is there.
fn python<'a>(handler: &'a str, places: &Places<'_>) -> (&'a str, bool) {
    let module = handler.rsplit_once('.').map_or(handler, |(module, _)| module);
    let path = PathBuf::from(module.replace('.', "/"));
    let parent = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // `name.cpython-312-x86_64-linux-gnu.so` is a module `name`.
    let is_module = |name: &str| {
        let end = name.strip_prefix(stem).filter(|end| end.starts_with('.'));
        end.is_some_and(|end| PYTHON_ENDS.contains(&end) || end.ends_with(".so"))
    };
    let package = path.join("__init__.py");
    let is_in = |tree: &Tree, folder: &Path| {
        let is_file = tree.files(&folder.join(parent)).filter_map(|name| name.to_str()).any(is_module);
        is_file || tree.has_file(&folder.join(&package))
    };
    let is_outside = |folder: &Path| {
        let files = fs::read_dir(folder.join(parent)).into_iter().flatten().flatten();
        files.filter_map(|file| file.file_name().into_string().ok()).any(|name| is_module(&name))
            || folder.join(&package).is_file()
    };
    let found = is_in(places.tree, Path::new(""))
        || places.layers.iter().any(|layer| {
            let mut folders =
                layer.folders().filter(|folder| folder.ends_with("site-packages") || *folder == Path::new("python"));
            folders.any(|folder| is_in(layer, folder))
        })
        || places.has_own(|folder| is_in(places.tree, folder), is_outside);
    (module, found)
}

/// AWS's runtime splits at the first dot after the last slash, so that `app.api.get` is `exports.api.get` of `app`.
fn node<'a>(handler: &'a str, places: &Places<'_>) -> (&'a str, bool) {
    let name = handler.rfind('/').map_or(0, |slash| slash + 1);
    let end = handler[name..].find('.').map_or(handler.len(), |dot| name + dot);
    let module = &handler[..end];
    let file = module.trim_start_matches("./");
    let is_in = |tree: &Tree, folder: &Path| NODE_ENDS.iter().any(|end| tree.has_file(&folder.join(format!("{file}{end}"))));
    let packages =
        |tree: &Tree, folder: &str| tree.folders().any(|path| path == Path::new(folder).join("node_modules").join(module));
    let found = is_in(places.tree, Path::new(""))
        || packages(places.tree, "")
        || places.layers.iter().any(|layer| packages(layer, "nodejs") || is_in(layer, Path::new("nodejs/node_modules")))
        || places.has_own(
            |folder| is_in(places.tree, folder) || places.tree.folders().any(|path| path == folder.join(module)),
            |folder| folder.join(module).is_dir() || NODE_ENDS.iter().any(|end| folder.join(format!("{file}{end}")).is_file()),
        );
    (module, found)
}
