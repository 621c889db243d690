//! Which executables of layers are extensions, and how they are started with a function. Starts nothing.

use super::NotReady;
use crate::api::extensions::{EXTENSIONS_MAX, name};
use maitred_model::Hosted;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The last of them becomes the function, so that all are of its session, group and user, and under its limits.
const SHELL: &str = "/bin/sh";
const SCRIPT: &str = "while [ \"$1\" != -- ]; do \"$1\" & shift; done; shift; exec \"$@\"";

/// Those in `extensions/` of layers, which AWS has in `/opt/extensions`, in the order of their names. Code may have a folder of that name for
/// something else. Of two with one name the first layer's is meant, as it is with `PATH`.
pub(super) fn of(layers: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for layer in layers {
        let Ok(entries) = fs::read_dir(layer.join("extensions")) else { continue };
        let is_executable =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
        let found = entries.flatten().map(|entry| entry.path()).filter(is_executable);
        all.extend(found.filter(|path| path.file_name().is_some_and(|name| seen.insert(name.to_owned()))));
    }
    all.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    all
}

/// Whether there are no more than may be.
pub(super) fn fit(hosted: &Hosted) -> Result<(), NotReady> {
    let layers: Vec<PathBuf> = hosted.layers.iter().map(|layer| layer.value.clone()).collect();
    let extensions = of(&layers);
    let span = hosted.layers.first().map_or(hosted.code.span, |layer| layer.span);
    if extensions.len() > EXTENSIONS_MAX {
        return Err(NotReady {
            span,
            message: format!("its layers have {} extensions; a function may have {EXTENSIONS_MAX}", extensions.len()),
            hint: "leave out those in `extensions/` that it does not need, or make them not executable".into(),
        });
    }
    // It registers by the name of its file, and everything would wait for one that cannot.
    let is_wrong = |path: &&PathBuf| name(path.file_name().map(|name| name.as_encoded_bytes())).is_err();
    match extensions.iter().find(is_wrong) {
        None => Ok(()),
        Some(path) => Err(NotReady {
            span,
            message: format!("the extension `{}` cannot register by that name", path.display()),
            hint: "give it a name of ASCII letters, digits and signs, without spaces, of 128 bytes at most".into(),
        }),
    }
}

/// The command with its extensions before it.
pub(super) fn before(extensions: &[PathBuf], command: Vec<OsString>) -> Vec<OsString> {
    if extensions.is_empty() {
        return command;
    }
    let start = [SHELL, "-c", SCRIPT, "sh"].map(OsString::from);
    let extensions = extensions.iter().map(|path| path.clone().into_os_string());
    start.into_iter().chain(extensions).chain([OsString::from("--")]).chain(command).collect()
}
