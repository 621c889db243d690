//! Whether the file that a handler names is there, so that a typing error is told before the first request. What is in it, only its
//! interpreter can tell.

use crate::code::NotReady;
use maitred_model::{FunctionRuntime, Hosted};
use std::fs;
use std::path::{Path, PathBuf};

/// Of files that the hint names.
const NAMED_MAX: usize = 5;

/// Looks for any file or folder of the module's name, whatever its ending: modules have many. Where the code itself is not there, others say so.
pub fn check_handler(hosted: &Hosted) -> Result<(), NotReady> {
    let (Some(handler), true) = (&hosted.handler, hosted.code.is_dir()) else { return Ok(()) };
    let endings: &[&str] = match hosted.runtime {
        FunctionRuntime::Python => &["py"],
        FunctionRuntime::Node => &["js", "mjs", "cjs"],
        FunctionRuntime::Provided => return Ok(()),
    };
    let module = module(hosted.runtime, &handler.value);
    let finds_more = hosted.environment.iter().any(|(name, _)| name == "PYTHONPATH" || name == "NODE_PATH");
    if finds_more || places(hosted).any(|place| has(&place, &module)) {
        return Ok(());
    }
    let code = hosted.code.display();
    let ending = endings.first().copied().unwrap_or_default();
    let message = format!("`{code}` has no `{}.{ending}`, which `{}` is to be in", module.display(), handler.value);
    Err(NotReady { span: handler.span, message, hint: hint(&hosted.code, endings) })
}

/// Its path without an ending: `pkg/app.main.handler` is `pkg/app/main` for Python and `pkg/app` for Node.js, where names may have dots.
fn module(runtime: FunctionRuntime, handler: &str) -> PathBuf {
    let (folders, last) = handler.rsplit_once('/').unwrap_or(("", handler));
    let module = match runtime {
        FunctionRuntime::Python => last.rsplit_once('.').map(|(module, _)| module.replace('.', "/")),
        FunctionRuntime::Node | FunctionRuntime::Provided => last.split_once('.').map(|(module, _)| module.to_owned()),
    };
    Path::new(folders).join(module.unwrap_or_else(|| last.to_owned()))
}

/// Where interpreters look for it.
fn places(hosted: &Hosted) -> impl Iterator<Item = PathBuf> {
    let of_layers = hosted.layers.iter().flat_map(|layer| {
        let deeper = fs::read_dir(layer.join("python/lib")).into_iter().flatten().flatten();
        let packages = deeper.map(|version| version.path().join("site-packages"));
        ["", "python", "nodejs", "nodejs/node_modules"].map(|inside| layer.join(inside)).into_iter().chain(packages)
    });
    std::iter::once(hosted.code.value.clone()).chain(of_layers)
}

fn has(place: &Path, module: &Path) -> bool {
    let (Some(folder), Some(name)) = (place.join(module).parent().map(Path::to_owned), module.file_name()) else { return true };
    let name = name.to_string_lossy();
    let is_it = |file: &str| file.strip_prefix(&*name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| is_it(&entry.file_name().to_string_lossy()))
}

fn hint(code: &Path, endings: &[&str]) -> String {
    let files = fs::read_dir(code).into_iter().flatten().flatten().map(|entry| PathBuf::from(entry.file_name()));
    let is_code = |file: &PathBuf| file.extension().is_some_and(|ending| endings.iter().any(|known| *known == ending));
    let mut stems: Vec<String> = files.filter(is_code).filter_map(|file| Some(file.file_stem()?.display().to_string())).collect();
    stems.sort_unstable();
    stems.dedup();
    stems.truncate(NAMED_MAX);
    let handlers: Vec<String> = stems.iter().map(|stem| format!("`{stem}.handler`")).collect();
    match handlers.is_empty() {
        true => "put the file there, or write `handler: FILE.FUNCTION`".to_owned(),
        false => format!("write {}, if that is what its function is called", handlers.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitred_model::{FunctionPlace, Memory, load_text};

    fn hosted(text: &str) -> Hosted {
        let whole = format!(
            "listen: 127.0.0.1:0\nfunctions: {{ a: {text} }}\napis: {{ all: {{ routes: [{{ match: GET /, function: a }}] }} }}"
        );
        let document = load_text("test.yaml", &whole, &Memory::default()).document.unwrap_or_else(|| panic!("{text}"));
        match &document.functions["a"].place {
            FunctionPlace::Hosted(hosted) => (**hosted).clone(),
            FunctionPlace::Aws(_) => panic!("{text}"),
        }
    }

    #[test]
    fn a_handler_is_looked_for_where_its_interpreter_does() {
        let root = std::env::temp_dir().join(format!("maitred-host-handler-{}", std::process::id()));
        for file in [
            "code/app.py",
            "code/pkg/menu.py",
            "code/package/__init__.py",
            "code/fast.cpython-311-x86_64-linux-gnu.so",
            "code/index.mjs",
            "code/sub/index.js",
            "layer/python/shared.py",
            "old/python/lib/python3.11/site-packages/old.py",
        ] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        let check = |runtime: &str, handler: &str, more: &str| {
            let code = root.join("code").display().to_string();
            let text = format!("{{ runtime: {runtime}, code: \"{code}\", handler: \"{handler}\"{more} }}");
            check_handler(&hosted(&text))
                .err()
                .map(|NotReady { message, hint, .. }| format!("{message}; {hint}").replace(&code, "code"))
        };
        let layers = format!(", layers: [\"{0}/layer\", \"{0}/old\"]", root.display());
        for (runtime, handler, more) in [
            ("python", "app.handler", ""),
            ("python", "pkg.menu.handler", ""),
            ("python", "pkg/menu.handler", ""),
            ("python", "package.handler", ""),
            ("python", "fast.handler", ""),
            ("python", "shared.handler", &*layers),
            ("python", "old.handler", &*layers),
            ("python", "elsewhere.handler", ", environment: { PYTHONPATH: /opt/lib }"),
            ("node", "index.handler", ""),
            ("node", "index.menu.handler", ""),
            ("node", "sub/index.handler", ""),
        ] {
            assert_eq!(check(runtime, handler, more), None, "{runtime} {handler}");
        }
        for (runtime, handler, wanted) in [
            (
                "python",
                "ap.handler",
                "`code` has no `ap.py`, which `ap.handler` is to be in; write `app.handler`, if that is what its function is called",
            ),
            (
                "node",
                "sub/app.handler",
                "`code` has no `sub/app.js`, which `sub/app.handler` is to be in; write `index.handler`, if that is what its function is called",
            ),
            (
                "python",
                "shared.handler",
                "`code` has no `shared.py`, which `shared.handler` is to be in; write `app.handler`, if that is what its function is called",
            ),
        ] {
            assert_eq!(check(runtime, handler, "").as_deref(), Some(wanted), "{runtime} {handler}");
        }
        let _ = fs::remove_dir_all(&root);
    }
}
