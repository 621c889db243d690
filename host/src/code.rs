//! The code of a function, made ready to run: hashed, and copied to where whoever runs it may read it and nobody change it. Says how it is
//! run and with which environment, and runs nothing of it.

mod copies;
mod environment;
mod extensions;
mod interpreter;
mod module;
#[cfg(test)]
mod tests;
mod tree;
mod user;

use aws_lc_rs::digest::{Context, SHA256};
use copies::Holds;
pub use environment::interpreter_of;
pub(crate) use environment::{Surroundings, interpreter_for, launch};
use maitred_model::{FunctionRuntime, Hosted, Span, Spanned};
use std::path::{Path, PathBuf};
use tree::{Refused, Tree};
pub(crate) use user::user_of;

/// What runs handlers, where nothing of AWS's is installed.
const BOOTSTRAPS: &[(&str, &[u8])] =
    &[("bootstrap.py", include_bytes!("bootstraps/bootstrap.py")), ("bootstrap.mjs", include_bytes!("bootstraps/bootstrap.mjs"))];

/// Code that is ready. Its copies stay as long as this or a clone of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Of the names, modes and bytes of all files, layers included: 64 hexadecimal digits.
    pub hash: String,
    /// Where the copy is: LAMBDA_TASK_ROOT.
    pub root: PathBuf,
    /// The copies of its layers, the first of the configuration first.
    pub layers: Vec<PathBuf>,
    /// LAMBDA_RUNTIME_DIR: `bootstrap.py` and `bootstrap.mjs`.
    pub runtime: PathBuf,
    /// Executables of its layers that are started with each process.
    pub extensions: Vec<PathBuf>,
    holds: Holds,
}

/// Why code cannot be made ready; becomes a diagnostic.
#[derive(Debug)]
pub struct NotReady {
    pub span: Span,
    pub message: String,
    pub hint: String,
}

/// Looks whether code could be made ready, and copies nothing: for `maitred check`.
pub fn check(hosted: &Hosted) -> Result<(), NotReady> {
    trees(hosted).map(|_| ())
}

/// Copies code and layers below `folder`, or takes the copies that are there. Blocks, for seconds where there is much.
pub(crate) fn ready(folder: &Path, hosted: &Hosted, user: Option<(u32, u32)>) -> Result<Code, NotReady> {
    let (code, layers) = trees(hosted)?;
    let not_ready = |what: &str, error: &dyn std::fmt::Display, hint: &str| NotReady {
        span: hosted.code.span,
        message: format!("there is no place for {what}: {error}"),
        hint: hint.to_owned(),
    };
    let folder = copies::folder(folder, user).map_err(|error| {
        not_ready(
            "copies of code",
            &error,
            "let the gateway write to that folder alone, and the functions' user go through all above it",
        )
    })?;
    let mut holds = Holds::default();
    let (own, root, hold) = copies::copy(&folder, &code).map_err(|refused| refuse(&hosted.code, refused))?;
    holds.add(hold);
    let mut hash = Context::new(&SHA256);
    hash.update(own.as_bytes());
    let mut places = Vec::with_capacity(layers.len());
    for (written, tree) in hosted.layers.iter().zip(&layers) {
        let (own, place, hold) = copies::copy(&folder, tree).map_err(|refused| refuse(written, refused))?;
        holds.add(hold);
        hash.update(own.as_bytes());
        places.push(place);
    }
    let (runtime, hold) = copies::write(&folder, BOOTSTRAPS).map_err(|refused| refuse(&hosted.code, refused))?;
    holds.add(hold);
    let hash = if layers.is_empty() { own } else { tree::hex(hash.finish().as_ref()) };
    let extensions = extensions::of(&places);
    Ok(Code { hash, root, layers: places, runtime, extensions, holds })
}

/// Removes copies that no code needs any more, here or in another process.
pub(crate) fn sweep(folder: &Path, user: Option<(u32, u32)>) {
    if let Ok(folder) = copies::folder(folder, user) {
        copies::sweep(&folder);
    }
}

/// Code and layers, looked at.
fn trees(hosted: &Hosted) -> Result<(Tree, Vec<Tree>), NotReady> {
    let code = &hosted.code;
    let is_folder = folder_or_file(code)?;
    if !is_folder && hosted.runtime != FunctionRuntime::Provided {
        let folder = code.value.parent().unwrap_or(Path::new(".")).display();
        return Err(NotReady {
            span: code.span,
            message: format!("{} is a file; `runtime: {}` takes a folder", code.value.display(), hosted.runtime.as_str()),
            hint: format!("name the folder that it is in: `code: {folder}`"),
        });
    }
    let mut layers = Vec::with_capacity(hosted.layers.len());
    for layer in &hosted.layers {
        if !folder_or_file(layer)? {
            return Err(NotReady {
                span: layer.span,
                message: format!("the layer {} is a file", layer.value.display()),
                hint: "unpack it, and name the folder that has `bin`, `lib`, `python` or `nodejs` in it".into(),
            });
        }
        layers.push(Tree::of(&layer.value).map_err(|refused| refuse(layer, refused))?);
    }
    extensions::fit(hosted)?;
    let tree = Tree::of(&code.value).map_err(|refused| refuse(code, refused))?;
    match hosted.runtime {
        FunctionRuntime::Provided if is_folder => module::bootstrap(code, &tree, &layers)?,
        FunctionRuntime::Provided => module::executable(code)?,
        FunctionRuntime::Python | FunctionRuntime::Node => {
            if let Some(handler) = &hosted.handler {
                module::find(hosted, handler, &tree, &layers)?;
            }
        }
    }
    Ok((tree, layers))
}

/// Whether it is a folder.
fn folder_or_file(written: &Spanned<PathBuf>) -> Result<bool, NotReady> {
    match std::fs::metadata(&written.value) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(NotReady {
            span: written.span,
            message: format!("there is no {}", written.value.display()),
            hint: "paths are relative to the file that they are written in".into(),
        }),
        Err(error) => Err(NotReady {
            span: written.span,
            message: format!("{} cannot be read: {error}", written.value.display()),
            hint: "let the gateway's user read it".into(),
        }),
    }
}

fn refuse(written: &Spanned<PathBuf>, refused: Refused) -> NotReady {
    let path = written.value.display();
    let (message, hint) = match refused {
        Refused::Io(path, error) => {
            (format!("{}: {error}", path.display()), "let the gateway's user read all of the code".into())
        }
        Refused::TooLarge => (
            format!("{path} has more than {} MB", tree::BYTES_MAX / (1024 * 1024)),
            "leave out what is not needed to run; what a function reads as data may lie elsewhere".to_owned(),
        ),
        Refused::TooMany => (
            format!("{path} has more than {} files and folders", tree::ENTRIES_MAX),
            "leave out what is not needed to run, such as packages for development".into(),
        ),
        Refused::TooDeep(path) => (
            format!("{} is more than {} folders deep", path.display(), tree::DEPTH_MAX),
            "leave out what is not needed to run".into(),
        ),
    };
    NotReady { span: written.span, message, hint }
}

impl Code {
    /// Of which there is no copy: for whoever starts processes otherwise, or plays a host, in a test.
    pub fn nowhere() -> Code {
        let nowhere = PathBuf::new;
        Code {
            hash: String::new(),
            root: nowhere(),
            layers: Vec::new(),
            runtime: nowhere(),
            extensions: Vec::new(),
            holds: Holds::default(),
        }
    }

    /// By which they register.
    pub(crate) fn extension_names(&self) -> Vec<String> {
        let names = self.extensions.iter().filter_map(|path| path.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    }
}
